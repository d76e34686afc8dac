"""The errors that fabricsim raises, each with the exit code that the command line ends with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "CheckError",
    "ConfigError",
    "DeadlockError",
    "EngineError",
    "FabricsimError",
    "InputError",
    "Problem",
    "nearest",
    "unknown_name",
]

#: How many problems are spelled out before the rest is only counted.
MAX_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where.

    Parameters
    ----------
    where
        The place: ``file:line``, ``file:key.sub_key`` or ``file:row 7:column``; empty when there is none.
    message
        What was found and what would be allowed.

    >>> print(Problem("fabric.toml:topology.k", "found 7, allowed: an even number >= 2"))
    fabric.toml:topology.k: found 7, allowed: an even number >= 2
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class FabricsimError(Exception):
    """The base of every error of this package.

    ``exit_code`` is what the command line ends with when the error reaches it.
    """

    exit_code: int = 4


class _ProblemsError(FabricsimError):
    """An error that tells every problem found, one a line."""

    problems: tuple[Problem, ...]

    def __init__(self, problems: Sequence[Problem | str] | Problem | str) -> None:
        if isinstance(problems, (str, Problem)):
            problems = [problems]
        self.problems = tuple(p if isinstance(p, Problem) else Problem("", p) for p in problems)
        # The arguments are kept as plain data, so the error survives pickling between processes.
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(p) for p in self.problems[:MAX_SHOWN]]
        if len(self.problems) > MAX_SHOWN:
            lines.append(f"and {len(self.problems) - MAX_SHOWN} more")
        return "\n".join(lines)


class ConfigError(_ProblemsError):
    """A bad option, cluster file or preset; ``problems`` holds all that was found.

    >>> str(ConfigError(["rate: found 0", "k: found 7"])).splitlines()
    ['rate: found 0', 'k: found 7']
    """

    exit_code = 2


class InputError(_ProblemsError):
    """A bad input file or trace; ``problems`` holds all that was found."""

    exit_code = 3


class DeadlockError(InputError):
    """A program that can never finish; its problems name who waits for whom."""


class CheckError(FabricsimError):
    """A check or a validation that did not hold."""

    exit_code = 1


class EngineError(FabricsimError):
    """A limit, a lack of memory or an internal fault of the core."""

    exit_code = 4


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``name``, or None when none is near.

    >>> nearest("dqcn", ["none", "dcqcn"])
    'dcqcn'
    >>> nearest("zzz", ["none", "dcqcn"]) is None
    True
    """
    by_folded = {k.casefold(): k for k in known}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Say that ``name`` is unknown, what is known, and which is nearest.

    >>> unknown_name("preset", "dqcn", ["none", "dcqcn"])
    "unknown preset 'dqcn'; did you mean 'dcqcn'? (known: dcqcn, none)"
    """
    names = sorted(known)
    guess = nearest(name, names)
    hint = f"; did you mean {guess!r}?" if guess else ""
    return f"unknown {what} {name!r}{hint} (known: {', '.join(names) or 'none'})"
