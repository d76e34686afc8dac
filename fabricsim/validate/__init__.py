"""Validation against published figures: what was published, what is emulated, is that near enough.

A module of this package holds checks, each one function with the ``check`` decorator; ``all_checks`` finds
them.

>>> from fabricsim.validate import Check
>>> goodput = Check("goodput", "MTU 4096 on 400 GbE", published=392.15, unit="Gb/s", tolerance=0.01,
...                 source="formula", kind="first-principles", function=lambda: 392.0)
>>> goodput.run().passed
True
"""

from __future__ import annotations

import fnmatch
import importlib
import math
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fabricsim.errors import ConfigError, FabricsimError, nearest

__all__ = ["Check", "Outcome", "Unavailable", "all_checks", "check", "run_checks", "select"]

#: How an emulated value may lie to the published one.
SENSES = ("equal", "at least", "at most")

_registered: dict[str, Check] = {}


class Unavailable(FabricsimError):
    """Raised by a check that cannot be made here, such as for data that is not shipped: it is skipped."""


@dataclass(frozen=True)
class Check:
    """One published figure, and the function that emulates it.

    Parameters
    ----------
    name
        What is checked, unique.
    configuration
        On what: fabric, sizes, parameters.
    published
        The figure, in ``unit``.
    unit
        Of the figure and of what the function returns; empty for a bare ratio or count.
    tolerance
        Allowed relative error, such as 0.02; 0 for exactly.
    source
        Where the figure was published.
    kind
        ``first-principles``, ``analytic``, ``simulator``, ``end-to-end`` and so on.
    function
        Returns the emulated value.
    status
        ``physics``, or ``calibrated on …`` with what was fitted to reach the figure.
    sense
        ``equal``, or ``at least`` / ``at most`` where the figure is a bound.
    """

    name: str
    configuration: str
    published: float
    unit: str
    tolerance: float
    source: str
    kind: str
    function: Callable[[], float]
    status: str = "physics"
    sense: str = "equal"

    def run(self) -> Outcome:
        """Emulate, and judge."""
        try:
            value = float(self.function())
        except Unavailable as reason:
            return Outcome(self, None, None, None, str(reason))
        except FabricsimError as reason:
            return Outcome(self, None, None, False, str(reason))
        if self.published:
            error = value / self.published - 1
        else:
            error = 0.0 if value == 0 else math.copysign(math.inf, value)
        slack = self.tolerance + 1e-12
        passed = {"equal": abs(error) <= slack, "at least": error >= -slack, "at most": error <= slack}
        return Outcome(self, value, error, math.isfinite(value) and passed[self.sense], "")


@dataclass(frozen=True)
class Outcome:
    """The result of a check: ``passed`` is None when skipped; ``error`` is relative to the published."""

    check: Check
    value: float | None
    error: float | None
    passed: bool | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        error = self.error if self.error is None or math.isfinite(self.error) else None
        return {
            "name": self.check.name,
            "configuration": self.check.configuration,
            "published": self.check.published,
            "emulated": self.value,
            "unit": self.check.unit,
            "error": error,
            "tolerance": self.check.tolerance,
            "sense": self.check.sense,
            "passed": self.passed,
            "kind": self.check.kind,
            "status": self.check.status,
            "source": self.check.source,
            "note": self.note,
        }


def check(
    name: str,
    *,
    configuration: str,
    published: float,
    tolerance: float,
    source: str,
    kind: str,
    unit: str = "",
    status: str = "physics",
    sense: str = "equal",
) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Register the decorated function as a check; the parameters are those of ``Check``."""
    if sense not in SENSES:
        raise ValueError(f"sense {sense!r}, allowed: {', '.join(SENSES)}")

    def register(function: Callable[[], float]) -> Callable[[], float]:
        known = _registered.get(name)
        if known is not None and known.function.__module__ != function.__module__:
            raise ValueError(f"two checks are named {name!r}")
        _registered[name] = Check(
            name, configuration, published, unit, tolerance, source, kind, function, status, sense
        )
        return function

    return register


def all_checks() -> list[Check]:
    """Return every check of this package's modules, in the order of the modules and in them."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return list(_registered.values())


def select(checks: Iterable[Check], pattern: str | None) -> list[Check]:
    """Return the checks whose name holds the pattern, or matches it as a shell pattern; case does not matter.

    Raises
    ------
    ConfigError
        When none does; names the nearest.
    """
    checks = list(checks)
    if pattern is None:
        return checks
    wanted = pattern.casefold()
    found = [c for c in checks if wanted in c.name.casefold() or fnmatch.fnmatch(c.name.casefold(), wanted)]
    if not found:
        guess = nearest(pattern, [c.name for c in checks])
        hint = f"; did you mean {guess!r}?" if guess else ""
        raise ConfigError([f"--only: no check matches {pattern!r}{hint} (--list tells all {len(checks)})"])
    return found


def run_checks(checks: Iterable[Check]) -> Iterator[Outcome]:
    """Run checks one after another, giving each outcome as it is known."""
    for one in checks:
        yield one.run()
