"""``fabricsim compare``: measured beside emulated."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fabricsim.cli.output import emit_json, heading, pairs, shortened, shortened_path, table

NAME = "compare"
SUMMARY = "compare measured times (a trace, a result, or nccl-tests JSON) with emulated ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "measured",
        metavar="MEASURED",
        help="a trace with start_ps and end_ps, a result folder, or nccl-tests -J",
    )
    parser.add_argument(
        "emulated", metavar="SIM", help="a result folder, or its ops.arrow, or the file of fabricsim bench -J"
    )
    parser.add_argument(
        "--limit", type=int, default=40, metavar="N", help="rows to print (default 40; 0 for all)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison."""
    from fabricsim.analysis import compare
    from fabricsim.units import format_bytes, format_time

    found = compare(measured_side(arguments.measured), emulated_side(arguments.emulated))
    summary = found.summary
    if arguments.json:
        emit_json(summary | {"by_kind": found.by_kind, "rows": list(found.rows)})
        return 0
    limit = arguments.limit if arguments.limit > 0 else len(found.rows)
    table(
        ["kind", "name", "id", "bytes", "ranks", "measured", "emulated", "spread", "emulated/measured"],
        [
            [
                row["kind"],
                _named(row),
                row["id"],
                format_bytes(row["bytes"]),
                row["ranks"],
                format_time(row["measured_ps"]),
                format_time(row["emulated_ps"]),
                None if row["spread_ps"] is None else format_time(row["spread_ps"]),
                _ratio(row["ratio"]),
            ]
            for row in found.rows[:limit]
        ],
        left=2,
    )
    _print_kinds(found.by_kind)
    heading("in all")
    rows = [("operations", f"{summary['operations']} (shown {min(limit, len(found.rows))})")]
    if summary["unmatched"]:
        rows.append(("measured, not emulated", str(summary["unmatched"])))
    rows.append(
        (
            "emulated/measured",
            f"median {_ratio(summary['ratio_median'])}, from {_ratio(summary['ratio_min'])}"
            f" to {_ratio(summary['ratio_max'])}",
        )
    )
    if summary["step_measured_ps"] is not None and summary["step_emulated_ps"] is not None:
        rows.append(
            (
                "whole step",
                f"measured {format_time(summary['step_measured_ps'])},"
                f" emulated {format_time(summary['step_emulated_ps'])} ({_ratio(summary['step_ratio'])})",
            )
        )
    pairs(rows)
    return 0


def _named(row: dict[str, Any]) -> str | None:
    name: str | None = row["name"]
    if name is not None and name.startswith("/"):
        return shortened_path(name, 40)
    return shortened(name)


def _print_kinds(kinds: list[dict[str, Any]]) -> None:
    """Print the sums by kind; times of ranks that work side by side add up."""
    from fabricsim.units import format_bytes, format_time

    heading("by kind")
    table(
        ["kind", "operations", "bytes", "measured", "emulated", "emulated/measured"],
        [
            [
                kind["kind"],
                f"{kind['operations']:,}",
                format_bytes(kind["bytes"]),
                format_time(kind["measured_ps"]),
                format_time(kind["emulated_ps"]),
                _ratio(kind["ratio"]),
            ]
            for kind in kinds
        ],
    )


def measured_side(name: str) -> Any:
    """Read the measured side: a result folder, an nccl-tests JSON file, or a trace."""
    from fabricsim.analysis import read_nccl_tests
    from fabricsim.trace import read_trace

    path = Path(name)
    if name != "-" and path.is_dir():
        return result_at(name)
    if path.suffix == ".json":
        return read_nccl_tests(path)
    return read_trace(name)


def emulated_side(name: str) -> Any:
    """Read the emulated side: a result, or what fabricsim bench wrote with ``-J``."""
    from fabricsim.analysis import read_nccl_tests

    path = Path(name)
    if path.suffix == ".json" and path.name != "summary.json":
        return read_nccl_tests(path)
    return result_at(name)


def result_at(name: str) -> Any:
    """Read a result by its folder or by one of the files in it."""
    from fabricsim.result import TABLES, Result

    path = Path(name)
    inside = path.name in ("summary.json", *(f"{table}.arrow" for table in TABLES))
    return Result.load(path.parent if inside and not path.is_dir() else path)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
