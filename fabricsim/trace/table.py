"""The trace: an Arrow table that has passed every check."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim.errors import InputError
from fabricsim.trace.schema import BY_NAME, KINDS, normalise, provenance_of, unknown_columns
from fabricsim.trace.validate import check
from fabricsim.trace.view import View
from fabricsim.units import format_bytes

__all__ = ["Trace", "TraceWarning"]

#: Of the kinds in the bar of a notebook, in turn.
_COLOURS = ("#3b6fb6", "#cf5f00", "#0f7f76", "#b3305a", "#7046bd", "#8b7500", "#3f7f22", "#8f98a3")


class TraceWarning(UserWarning):
    """Something in a trace is ignored, such as a column that the schema does not know."""


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """Operations of sets of ranks, checked when made: a Trace is always valid.

    Parameters
    ----------
    table
        The operations, one a row, columns as in ``fabricsim.trace.schema.COLUMNS``. Types that hold the same
        values are brought to the schema's own.
    where
        What errors name as the place, usually the path.

    Raises
    ------
    InputError
        With every problem found, each with row, column, how many rows, and what is allowed.

    >>> import pyarrow as pa
    >>> Trace(pa.table({"id": [0], "kind": ["all_reduce"], "ranks": [[0, 1]], "bytes": [1 << 20]}))
    <Trace: 1 operation of 2 ranks (1 all_reduce), 1 MiB>
    """

    table: pa.Table
    where: str = "trace"
    view: View = field(init=False)

    def __post_init__(self) -> None:
        table, problems = normalise(self.table, self.where)
        view = View(table)
        problems = problems or check(view, self.where)
        if problems:
            raise InputError(problems)
        fields = [f.with_nullable(not (f.name in BY_NAME and BY_NAME[f.name].required)) for f in table.schema]
        table = pa.table(table.columns, schema=pa.schema(fields, table.schema.metadata))
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "view", view)

    @property
    def n_rows(self) -> int:
        """How many operations."""
        return int(self.table.num_rows)

    @cached_property
    def n_ranks(self) -> int:
        """How many ranks: the greatest rank named, plus one."""
        return int(self.view.ranks.values.max()) + 1

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the trace came from: versions, generator, seed, source file and its digest."""
        return provenance_of(self.table.schema.metadata)

    @property
    def warnings(self) -> list[str]:
        """What is ignored, one sentence each."""
        return unknown_columns(self.table.schema)

    @cached_property
    def kinds(self) -> dict[str, int]:
        """How many rows of each kind, most first."""
        counts = np.bincount(self.view.kind, minlength=len(KINDS))
        return dict(Counter({KINDS[i]: int(c) for i, c in enumerate(counts) if c}).most_common())

    @cached_property
    def total_bytes(self) -> int:
        """The sum of the column ``bytes`` over rows, each group and each time counted, in bytes."""
        view = self.view
        values, times = view.flat("bytes").values, view.counts
        if "group_size" in self.table.column_names:
            times = times * (view.ranks.lengths // view.group_sizes)
        # Two sums of halves, because one may pass 2^63-1; more of those that count several times.
        many = np.flatnonzero(times != 1)
        total = (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())
        more = zip(values[many].tolist(), times[many].tolist(), strict=True)
        return total + sum(size * (count - 1) for size, count in more)

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds.items())
        operations = f"{self.n_rows:,} operation{'s' if self.n_rows != 1 else ''}"
        ranks = f"{self.n_ranks:,} rank{'s' if self.n_ranks != 1 else ''}"
        return f"<Trace: {operations} of {ranks} ({kinds}), {format_bytes(self.total_bytes)}>"

    def _repr_html_(self) -> str:
        from fabricsim.result import html_bar, html_table

        rows = [
            ("operations", f"{self.n_rows:,}"),
            ("ranks", f"{self.n_ranks:,}"),
            *((kind, f"{count:,}") for kind, count in self.kinds.items()),
            ("bytes", format_bytes(self.total_bytes)),
            *((f"from {key}", str(value)) for key, value in sorted(self.provenance.items())),
        ]
        colours = itertools.cycle(_COLOURS)
        parts = [(kind, count, next(colours)) for kind, count in self.kinds.items()]
        return html_bar(parts, "operations by kind") + html_table(rows, "Trace")
