"""Numbers as IOR and mdtest take them, and flags that an emulator refuses by name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from fabricsim.errors import Problem

__all__ = ["Refused", "add_refused", "refused", "size_of"]

#: A flag that is refused: its names, how many arguments it takes (0 or 1), and why.
Refused = tuple[Sequence[str], int, str]

_SIZE = re.compile(r"(\d+)([kmgt]?)", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size_of(text: str, flag: str, problems: list[Problem]) -> int:
    """Read a size such as 8, 4k, 2m, 1g or 1t, of 1024; a problem is noted, and 0 returned.

    >>> size_of("2m", "-b", [])
    2097152
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (number := int(match[1]) << 10 * _POWER[match[2].lower()]) >= 1 << 62:
        most = "" if match is None else ", below 2^62"
        problems.append(Problem(flag, f"found {text!r}, allowed: a size such as 8, 4k, 2m, 1g{most}"))
        return 0
    return number


def add_refused(parser: argparse.ArgumentParser, table: Sequence[Refused]) -> None:
    """Add the flags of a table, so that they can be refused by name."""
    for number, (names, count, _) in enumerate(table):
        more: dict[str, Any] = {"nargs": count} if count else {"action": "store_true"}
        parser.add_argument(*names, dest=f"refused_{number}", help=argparse.SUPPRESS, **more)


def refused(arguments: argparse.Namespace, table: Sequence[Refused]) -> list[Problem]:
    """Return a problem for each flag of the table that was given."""
    return [
        Problem(", ".join(names), f"not supported: {reason}")
        for number, (names, _, reason) in enumerate(table)
        if getattr(arguments, f"refused_{number}")
    ]
