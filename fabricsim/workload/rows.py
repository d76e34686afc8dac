"""Collects the rows of a trace that is made by a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from fabricsim.trace import Trace
from fabricsim.trace import schema as trace_schema

__all__ = ["Rows"]


class Rows:
    """Rows of a trace in order; ids count from 0.

    Parameters
    ----------
    provenance
        Who makes it: generator and its parameters, JSON types.
    """

    def __init__(self, **provenance: Any) -> None:
        self._provenance = provenance
        self._rows: list[dict[str, Any]] = []

    def add(self, kind: str, ranks: Sequence[int], **columns: Any) -> int:
        """Add a row and return its id; ``columns`` are those of the trace schema."""
        operation = len(self._rows)
        self._rows.append({"id": operation, "kind": kind, "ranks": list(ranks)} | columns)
        return operation

    def trace(self) -> Trace:
        """Return the trace, with the columns that some row has."""
        used = {name for row in self._rows for name in row}
        fields = [field for field in trace_schema.TRACE_SCHEMA if field.name in used]
        arrays = []
        for field in fields:
            values = [row.get(field.name) for row in self._rows]
            if field.name == "kind":
                codes = pa.array([trace_schema.KINDS.index(kind) for kind in values], pa.int8())
                arrays.append(pa.DictionaryArray.from_arrays(codes, trace_schema.KIND_DICTIONARY))
            else:
                arrays.append(pa.array(values, field.type))
        metadata = trace_schema.metadata(self._provenance)
        return Trace(pa.table(arrays, schema=pa.schema(fields, metadata)))
