"""Gather the rows of a trace column by column: fast for many rows, small for rows of many ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fabricsim.errors import InputError, Problem
from fabricsim.trace import KIND_CODE, KINDS, Trace
from fabricsim.trace.schema import KIND_TYPE, TRACE_SCHEMA, metadata

__all__ = ["TableRows"]


class TableRows:
    """Rows of a trace in order; ids count from 0.

    Sets of ranks are kept once each: ``ranks`` and ``peer`` of a row are numbers that ``rank_set`` gave.
    """

    def __init__(self) -> None:
        self.kind: list[int] = []
        self.ranks: list[int] = []
        self.columns: dict[str, list[Any]] = {}
        self._sets: list[Sequence[int]] = []
        self._number: dict[tuple[int, ...], int] = {}

    def __len__(self) -> int:
        return len(self.kind)

    def rank_set(self, ranks: Sequence[int]) -> int:
        """The number of a set of ranks, in that order."""
        key = tuple(ranks)
        number = self._number.get(key)
        if number is None:
            number = self._number[key] = len(self._sets)
            self._sets.append(key)
        return number

    def add(self, kind: str, ranks: int, **columns: Any) -> int:
        """Append a row and return its id; what is not given is null."""
        row = len(self.kind)
        self.kind.append(KIND_CODE[kind])
        self.ranks.append(ranks)
        known = self.columns
        for name, value in columns.items():
            if name not in known:
                known[name] = []
            values = known[name]
            if len(values) < row:
                values.extend([None] * (row - len(values)))
            values.append(value)
        return row

    def put(self, name: str, row: int, value: Any) -> None:
        """Set a column of a row that is there already."""
        values = self.columns.setdefault(name, [])
        values.extend([None] * (len(self.kind) - len(values)))
        values[row] = value

    def trace(self, where: str, provenance: Mapping[str, Any]) -> Trace:
        """Return the trace, checked; raises InputError with all that is wrong."""
        n = len(self.kind)
        sets = pa.array(self._sets, pa.list_(pa.int32()))
        columns: dict[str, Any] = {}
        try:
            for field in TRACE_SCHEMA:
                if field.name == "id":
                    columns["id"] = pa.array(range(n), pa.int64())
                elif field.name == "kind":
                    codes = pa.array(self.kind, pa.int8())
                    columns["kind"] = pa.DictionaryArray.from_arrays(codes, pa.array(KINDS)).cast(KIND_TYPE)
                elif field.name == "ranks":
                    columns["ranks"] = sets.take(pa.array(self.ranks, pa.int32()))
                elif field.name in self.columns:
                    values = self.columns[field.name]
                    values.extend([None] * (n - len(values)))
                    if field.name == "peer":
                        columns["peer"] = sets.take(pa.array(values, pa.int32()))
                    else:
                        columns[field.name] = pa.array(values, field.type)
        except (pa.ArrowException, OverflowError, TypeError) as error:
            text = f"a value does not fit a trace: {str(error).splitlines()[0]}"
            raise InputError(Problem(where, text)) from None
        return Trace(pa.table(columns, metadata=metadata(provenance)), where)
