"""Published training steps, replayed: every row with its error, and the table of docs/compute.md.

    python benches/training_steps.py [--write] [--only PATTERN] [-o results.json]

``--write`` puts the table into docs/compute.md. About a second a row.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fabricsim.errors import FabricsimError
from fabricsim.validate._training_rows import SOURCES, published
from fabricsim.validate._training_steps import fitted, spread_of, step_s, superseded

PAGE = Path(__file__).resolve().parent.parent / "docs" / "compute.md"
BEGIN, END = "<!-- measured: python benches/training_steps.py --write -->\n", "<!-- end of measured -->"


def measure(pattern: str) -> list[dict[str, Any]]:
    """Replay the rows whose label or source holds the pattern."""
    rows = []
    for row in published():
        if pattern not in f"{row.label} {row.source}":
            continue
        began = time.perf_counter()
        try:
            found: float | None = step_s(row)
        except FabricsimError as problem:
            print(f"{row.number} {row.label}: {problem}", file=sys.stderr)
            found = None
        rows.append(
            {
                "number": row.number,
                "label": row.label,
                "source": row.source,
                "published_s": row.step_s,
                "emulated_s": found,
                "error": None if found is None else found / row.step_s - 1,
                "fitted": fitted(row),
                "superseded": row.number in superseded(),
                "took_s": time.perf_counter() - began,
            }
        )
        one = rows[-1]
        if one["error"] is not None:
            print(
                f"{row.number:4} {row.label:90} {row.step_s:9.4f} {found:9.4f} {one['error']:+7.1%}",
                flush=True,
            )
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int, float, float]]:
    """Return for groups of rows how many they are, the median and the 90th percentile of the error."""
    groups = {
        "fitted": [row for row in rows if row["fitted"]],
        "not fitted": [row for row in rows if not row["fitted"]],
        "even, never looked at": [row for row in rows if row["number"] % 2 == 0],
        "even, of the latest releases": [
            row for row in rows if row["number"] % 2 == 0 and not row["superseded"]
        ],
    }
    for source in dict.fromkeys(row["source"].partition("-")[0] for row in rows):
        of_source = [row for row in rows if row["source"].startswith(source)]
        groups[f"{source}, fitted"] = [row for row in of_source if row["fitted"]]
        groups[f"{source}, not fitted"] = [row for row in of_source if not row["fitted"]]
    return [
        (name, len(members), *spread_of([row["error"] for row in members]))
        for name, members in groups.items()
        if members
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return both tables as Markdown."""
    lines = ["| rows | how many | median error | 90th percentile |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {n} | {median:.1%} | {high:.1%} |" for name, n, median, high in summary(rows)]
    lines += [
        "",
        "| row | run | source | published s | emulated s | error |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        mark = ", fitted" if row["fitted"] else ", superseded" if row["superseded"] else ""
        lines.append(
            f"| {row['number']} | {row['label']} | {row['source']}{mark} | {row['published_s']:g} |"
            f" {row['emulated_s']:.4g} | {row['error']:+.1%} |"
        )
    lines += ["", "Sources:", "", *(f"* {name}: {text}" for name, text in SOURCES.items())]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/compute.md")
    parser.add_argument("--only", default="", metavar="PATTERN", help="rows whose label or source holds it")
    parser.add_argument("-o", metavar="FILE", help="write the rows as JSON")
    given = parser.parse_args(arguments)
    rows = measure(given.only)
    done = [row for row in rows if row["error"] is not None]
    for name, n, median, high in summary(done):
        print(f"{name:30} {n:4} rows, median {median:.1%}, 90th percentile {high:.1%}")
    print(f"{sum(row['took_s'] for row in rows):.1f} s")
    if given.o:
        Path(given.o).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if given.write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{table(done)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
