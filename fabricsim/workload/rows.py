"""Collects the rows of a trace that is made by a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim.trace import Trace
from fabricsim.trace import schema as trace_schema

__all__ = ["Ranks", "Rows"]

#: Ranks of a row.
Ranks = Sequence[int] | npt.NDArray[np.int32]


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

    def add(self, kind: str, ranks: Ranks, **columns: Any) -> int:
        """Add a row and return its id; ``columns`` are those of the trace schema.

        Ranks and peers may be arrays, int32[n]: many rows may share one.
        """
        operation = len(self._rows)
        ranks = ranks if isinstance(ranks, np.ndarray | range) else list(ranks)
        self._rows.append({"id": operation, "kind": kind, "ranks": ranks} | columns)
        return operation

    def open(
        self,
        ranks: Ranks,
        file: str,
        *,
        create: bool = False,
        excl: bool = False,
        trunc: bool = False,
        **columns: Any,
    ) -> int:
        """Add an open of a file and return its id.

        Parameters
        ----------
        file
            The path; with ``{rank}`` or ``{rank:05d}`` in it, each rank's own.
        create, excl, trunc
            Whether it is made if it is not there, must not be there, and loses what is in it.
        """
        words = [word for word, on in (("create", create), ("excl", excl), ("trunc", trunc)) if on]
        return self.add("open", ranks, file=file, flags=",".join(words) or None, **columns)

    def read(self, ranks: Ranks, file: str, size_bytes: int, **columns: Any) -> int:
        """Add a read and return its id; see ``write``."""
        return self._transfer("read", ranks, file, size_bytes, **columns)

    def write(self, ranks: Ranks, file: str, size_bytes: int, **columns: Any) -> int:
        """Add a write and return its id.

        Parameters
        ----------
        file
            The path; with ``{rank}`` or ``{rank:05d}`` in it, each rank's own.
        size_bytes
            Bytes of each rank.
        columns
            ``offset`` and ``stride`` in bytes: the rank at position p is at offset + p * stride; ``direct``
            and ``group`` true for I/O around the cache and under a group lock; others of the trace schema.
        """
        return self._transfer("write", ranks, file, size_bytes, **columns)

    def _transfer(
        self,
        kind: str,
        ranks: Ranks,
        file: str,
        size_bytes: int,
        *,
        direct: bool = False,
        group: bool = False,
        **columns: Any,
    ) -> int:
        words = [word for word, on in (("direct", direct), ("group", group)) if on]
        columns = {"file": file, "bytes": size_bytes, "flags": ",".join(words) or None} | columns
        return self.add(kind, ranks, **columns)

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
            elif field.name in ("ranks", "peer"):
                arrays.append(_lists(values, field.type))
            else:
                arrays.append(pa.array(values, field.type))
        metadata = trace_schema.metadata(self._provenance)
        return Trace(pa.table(arrays, schema=pa.schema(fields, metadata)))


def _lists(values: Sequence[Ranks | None], kind: pa.DataType) -> pa.Array:
    """Return lists of integers as a column."""
    missing = np.array([value is None for value in values])
    parts = [np.asarray([] if value is None else value, np.int32) for value in values]
    offsets = np.zeros(len(parts) + 1, np.int32)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    flat = np.concatenate(parts) if parts else np.empty(0, np.int32)
    mask = pa.array(missing) if missing.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=mask).cast(kind)
