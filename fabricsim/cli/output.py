"""Tables and lines on standard output: aligned text, with bold headings on a terminal."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabricsim.errors import ConfigError

if TYPE_CHECKING:
    from fabricsim.trace import Trace

__all__ = [
    "check_output",
    "emit_json",
    "heading",
    "line",
    "log",
    "pairs",
    "shortened",
    "shortened_path",
    "table",
    "write_to",
]


def emit_json(value: Any) -> None:
    """Print one JSON document; long lists, such as flows, take one line an entry."""
    if not isinstance(value, dict) or not any(_is_long(entry) for entry in value.values()):
        print(json.dumps(value, indent=1, allow_nan=False))
        return
    encoder = json.JSONEncoder(allow_nan=False)
    parts = []
    for key, entry in value.items():
        if _is_long(entry):
            text = "[\n  " + ",\n  ".join(map(encoder.encode, entry)) + "\n ]"
        else:
            text = json.dumps(entry, indent=1, allow_nan=False).replace("\n", "\n ")
        parts.append(f" {encoder.encode(key)}: {text}")
    print("{\n" + ",\n".join(parts) + "\n}")


def _is_long(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 20


def line(text: str = "") -> None:
    """Print a line of data."""
    print(text)


def log(text: str) -> None:
    """Tell something on stderr."""
    print(text, file=sys.stderr, flush=True)


def heading(text: str) -> None:
    """Print a heading, after an empty line."""
    print()
    _bold(text)


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Print names and values in two columns."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}".rstrip())


def shortened(name: str | None, width: int = 40) -> str | None:
    """Cut a name that is too long for a table.

    >>> shortened("ncclKernel_AllReduce_RING_LL_Sum_float", 12)
    'ncclKerne...'
    """
    if name is None or len(name) <= width:
        return name
    return name[: width - 3] + "..."


def shortened_path(path: str, width: int = 60) -> str:
    """Cut a path that is too long for a table; its end tells most.

    >>> shortened_path("/scratch/project/run-12/checkpoint/rank-0003.pt", 20)
    '...oint/rank-0003.pt'
    """
    return path if len(path) <= width else "..." + path[3 - width :]


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
    widths = [max([len(name), *(len(row[index]) for row in cells)]) for index, name in enumerate(columns)]

    def aligned(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    _bold(aligned(columns))
    for row in cells:
        print(aligned(row))


def check_output(out: str, *, json: bool) -> None:
    """Refuse a trace on standard output where something else is to be there, or where it is a terminal."""
    if out == "-" and json:
        raise ConfigError(["-o - and --json both want standard output"])
    if out == "-" and sys.stdout.isatty():
        raise ConfigError(["-o - would write a binary file to the terminal; redirect it, or name a file"])


def write_to(trace: Trace, out: str, *, json: bool) -> None:
    """Write a trace to a file, or for ``-`` to standard output; ``json`` says that a document goes there."""
    from fabricsim.trace import write_trace

    check_output(out, json=json)
    if out != "-":
        write_trace(trace, out)
        return
    # By way of a file: nothing at all comes out when the trace cannot be written.
    with tempfile.TemporaryDirectory(prefix="fabricsim-") as folder:
        path = Path(folder) / "trace.arrow"
        write_trace(trace, path)
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)


def _bold(text: str) -> None:
    """Print a line in bold on a terminal, plainly elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        Console().print(Text(text, style="bold"), soft_wrap=True)
    else:
        print(text)
