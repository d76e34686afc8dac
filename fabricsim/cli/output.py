"""Tables and lines on standard output: coloured on a terminal, plain aligned text elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["emit_json", "heading", "line", "log", "pairs", "table"]


def emit_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=1, allow_nan=False))


def line(text: str = "") -> None:
    """Print a line of data."""
    print(text)


def log(text: str) -> None:
    """Tell something on stderr."""
    print(text, file=sys.stderr, flush=True)


def heading(text: str) -> None:
    """Print a heading, after an empty line."""
    print()
    if sys.stdout.isatty():
        _rich([("bold", text)])
    else:
        print(text)


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Print names and values in two columns."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}".rstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> None:
    """Print a table.

    Parameters
    ----------
    columns
        The headings.
    rows
        Cells; None is shown as ``-``.
    left
        How many of the first columns are text, aligned to the left; the others are aligned to the right.
    """
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
        for index, name in enumerate(columns):
            grid.add_column(name, justify="left" if index < left else "right", overflow="fold")
        for row in cells:
            grid.add_row(*map(Text, row))
        Console().print(grid)
        return
    widths = [max([len(name), *(len(row[index]) for row in cells)]) for index, name in enumerate(columns)]
    for row in [list(columns), *cells]:
        padded = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(padded).rstrip())


def _rich(parts: Iterable[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    Console().print(Text.assemble(*((text, style) for style, text in parts)), soft_wrap=True)
