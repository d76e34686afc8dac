"""The blocks of a report: figures with the words and the table behind them, and how they become HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fabricsim.units import ms, ns, s, us

__all__ = ["LEGEND", "Figure", "axis", "colour_of", "rounded", "share", "table", "time_unit"]

#: A legend above its figure.
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}

#: Rows of a table, at most; the others are counted.
TABLE_ROWS = 40

#: Kind -> name of its colour; the page has a value for light and one for dark.
_COLOURS = {
    "compute": "compute",
    "all_reduce": "all-reduce",
    "reduce_scatter": "reduce-scatter",
    "all_gather": "all-gather",
    "all_to_all": "all-to-all",
    "send": "send",
    "recv": "send",
    "broadcast": "other",
    "reduce": "other",
    "barrier": "other",
    "read": "read",
    "write": "storage",
    "delay": "idle",
    "wait": "idle",
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the report.

    Parameters
    ----------
    name
        The id of its section.
    title
        A heading.
    text
        What it says, in words: read without the figure.
    data, layout
        Of plotly; colours are names such as ``@compute``. No data: only words and table.
    columns, rows
        The table behind it; None is shown as a dash.
    left
        How many of the first columns are text.
    height
        Pixels.
    note
        What is left out or summed up.
    """

    name: str
    title: str
    text: str
    data: Sequence[dict[str, Any]] = ()
    layout: dict[str, Any] = field(default_factory=dict)
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    left: int = 1
    height: int = 320
    note: str = ""

    def html(self) -> str:
        """Return the section."""
        parts = [f'<section id="{self.name}"><h2>{html.escape(self.title)}</h2>']
        text = html.escape(self.text.replace(" %", "\u00a0%"))
        parts.append(f"<p>{text}</p>")
        if self.data:
            parts.append(
                f'<div class="chart" data-figure="{self.name}" style="height:{self.height}px" role="img"'
                f' aria-label="{html.escape(self.title)}. {text}"></div>'
            )
        if self.note:
            parts.append(f'<p class="note">{html.escape(self.note)}</p>')
        if self.rows:
            body = table(self.columns, self.rows, left=self.left)
            if self.data:
                body = f"<details><summary>The figures as a table</summary>{body}</details>"
            parts.append(body)
        return "".join(parts) + "</section>\n"

    def plotly(self) -> dict[str, Any]:
        """Return data and layout for the page's script."""
        return {"data": list(self.data), "layout": self.layout}


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> str:
    """Return a table as HTML; the first ``left`` columns are text, the others numbers."""

    def cells(row: Iterable[object], tag: str, scope: str) -> str:
        return "".join(
            f"<{tag}{scope}{'' if at < left else ' class=n'}>{_cell(cell)}</{tag}>"
            for at, cell in enumerate(row)
        )

    shown = rows[:TABLE_ROWS]
    body = "".join(f"<tr>{cells(row, 'td', '')}</tr>" for row in shown)
    head = cells(columns, "th", " scope=col")
    more = ""
    if len(rows) > len(shown):
        more = f'<p class="note">and {len(rows) - len(shown):,} more rows</p>'
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}'
    )


def _cell(value: object) -> str:
    return "–" if value is None else html.escape(str(value))


def colour_of(kind: str) -> str:
    """Return the name of the colour of a kind of operation; what is not listed are calls of storage."""
    return f"@{_COLOURS.get(kind, 'call')}"


def time_unit(total_ps: int) -> tuple[float, str]:
    """Return picoseconds a unit and its name: the one in which a length is a handy number.

    >>> time_unit(12_520_000_000)
    (1000000000.0, 'ms')
    """
    for unit, name in ((s, "s"), (ms, "ms"), (us, "us")):
        if total_ps >= 2 * unit:
            return float(unit), name
    return float(ns), "ns"


def rounded(values: Any, digits: int = 5) -> list[float]:
    """Return numbers with so many significant digits: what a screen can show, and no more bytes.

    >>> rounded([1.23456789, 0.0])
    [1.2346, 0.0]
    """
    return [float(f"{value:.{digits}g}") for value in np.asarray(values, float).tolist()]


def share(part: float, whole: float) -> str:
    """Write a share in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def axis(title: str, **others: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title}, "automargin": True, **others}
