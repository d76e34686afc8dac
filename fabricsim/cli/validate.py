"""``fabricsim validate``: published figures beside emulated ones."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from fabricsim.cli.output import emit_json, line, log, table
from fabricsim.errors import CheckError

if TYPE_CHECKING:
    from fabricsim.validate import Outcome

NAME = "validate"
SUMMARY = "recompute published figures: published, emulated, error, tolerance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--only", metavar="PATTERN", help="checks whose name holds or matches this")
    parser.add_argument("--list", action="store_true", help="list the checks, do not run them")


def run(arguments: argparse.Namespace) -> int:
    """Run the checks; exit 1 if any fails."""
    import statistics

    from fabricsim.validate import all_checks, run_checks, select

    checks = select(all_checks(), arguments.only)
    if not checks:
        raise CheckError("there are no checks to run")
    if arguments.list:
        if arguments.json:
            emit_json(
                [{"name": c.name, "configuration": c.configuration, "source": c.source} for c in checks]
            )
        else:
            table(
                ["check", "configuration", "source"],
                [[c.name, c.configuration, c.source] for c in checks],
                left=3,
            )
        return 0
    outcomes = []
    for outcome in run_checks(checks):
        outcomes.append(outcome)
        log(f"{outcome.check.name}: {_verdict(outcome.passed)}")
    failed = [outcome for outcome in outcomes if outcome.passed is False]
    if arguments.json:
        emit_json({"passed": not failed, "checks": [outcome.to_dict() for outcome in outcomes]})
        return 1 if failed else 0
    table(
        ["check", "status", "published", "emulated", "error", "tolerance", "result"],
        [
            [
                o.check.name,
                o.check.status,
                f"{_SIGNS[o.check.sense]}{o.check.published:.6g} {o.check.unit}".rstrip(),
                None if o.value is None else f"{o.value:.6g}",
                None if o.error is None or not math.isfinite(o.error) else f"{100 * o.error:+.2f} %",
                f"{100 * o.check.tolerance:.3g} %" if o.check.tolerance else "exact",
                _verdict(o.passed),
            ]
            for o in outcomes
        ],
        left=2,
    )
    for outcome in outcomes:
        if outcome.note:
            line(f"{outcome.check.name}: {outcome.note}")
    for kind, errors in _errors_by_kind(outcomes).items():
        worst, name = max(errors)
        middle = statistics.median(error for error, _ in errors)
        line(f"errors, {kind}: median {100 * middle:.2g} %, worst {100 * worst:.2g} % ({name})")
    skipped = sum(outcome.passed is None for outcome in outcomes)
    line(f"{len(outcomes) - len(failed) - skipped} passed, {len(failed)} failed, {skipped} skipped")
    return 1 if failed else 0


def _errors_by_kind(outcomes: list[Outcome]) -> dict[str, list[tuple[float, str]]]:
    """Return size and name of the relative errors of each kind of check that has several."""
    found: dict[str, list[tuple[float, str]]] = {}
    for one in outcomes:
        if one.check.sense == "equal" and one.check.published and one.error is not None:
            found.setdefault(one.check.kind, []).append((abs(one.error), one.check.name))
    return {kind: errors for kind, errors in found.items() if len(errors) > 2}


_SIGNS = {"equal": "", "at least": ">= ", "at most": "<= "}


def _verdict(passed: bool | None) -> str:
    return "skipped" if passed is None else "pass" if passed else "FAIL"
