"""Collects what checks find: one problem for each check, with the first row, the column and how many rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fabricsim.errors import Problem
from fabricsim.trace.view import Bools, Ints

MAX_ROWS_NAMED = 5


class Findings:
    """Collects problems: one for each check, naming the first rows and how many there are."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[Problem] = []
        self.columns: set[str] = set()

    def add(self, column: str, rows: Ints, found: Callable[[int], str] | str, allowed: str) -> None:
        """Add a problem of the given rows (ascending), if any; ``found`` describes the first of them."""
        if len(rows) == 0:
            return
        first = int(rows[0])
        text = f"found {found if isinstance(found, str) else found(first)}, allowed: {allowed}"
        if len(rows) > 1:
            shown = ", ".join(str(int(r)) for r in rows[:MAX_ROWS_NAMED])
            more = ", …" if len(rows) > MAX_ROWS_NAMED else ""
            text += f" ({len(rows)} rows: {shown}{more})"
        self.problems.append(Problem(f"{self.where}:row {first}:{column}", text))
        self.columns.add(column)

    def mask(self, column: str, bad: Bools, found: Callable[[int], str] | str, allowed: str) -> None:
        """Add a problem of the rows where ``bad`` is True."""
        if bad.any():
            self.add(column, np.flatnonzero(bad), found, allowed)


def value_of(values: npt.NDArray) -> Callable[[int], str]:
    """Return what writes the value of a row."""
    return lambda row: str(values[row])
