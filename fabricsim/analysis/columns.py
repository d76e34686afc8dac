"""The columns of an operations table as numpy arrays: what every analysis starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

__all__ = ["COLLECTIVES", "STORAGE", "OpColumns", "column", "op_columns"]

#: The kinds in which all ranks of a row take part in one exchange.
COLLECTIVES = frozenset(
    {"all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "reduce", "barrier"}
)

#: The kinds of storage.
STORAGE = frozenset(
    {"open", "read", "write", "fsync", "close", "stat", "unlink", "mkdir", "rmdir", "rename", "readdir"}
)


@dataclass(frozen=True)
class OpColumns:
    """Finished operations, one element for each rank of each operation.

    ``kind`` indexes ``kinds``; times are picoseconds; ``size`` is the bytes of the operation (0 for none), of
    each of the ``count`` times that it happened; ``group`` is the part of its ranks that did it together.
    """

    id: np.ndarray
    kind: np.ndarray
    kinds: tuple[str, ...]
    rank: np.ndarray
    start: np.ndarray
    end: np.ndarray
    size: np.ndarray
    group: np.ndarray
    count: np.ndarray

    def of_kind(self, *names: str) -> np.ndarray:
        """Return a mask of the operations of these kinds."""
        return np.isin(self.kind, [code for code, name in enumerate(self.kinds) if name in names])


def column(table: pa.Table, name: str, null: int = 0) -> np.ndarray:
    """Return an integer column as int64, with ``null`` where it has none, or is not there."""
    if name not in table.column_names:
        return np.full(table.num_rows, null, np.int64)
    values = table[name]
    if values.null_count:
        values = values.fill_null(null)
    return np.asarray(values.to_numpy(), dtype=np.int64)


def op_columns(ops: pa.Table) -> OpColumns:
    """Read the operations of a result that started and ended.

    Parameters
    ----------
    ops
        The table ``Result.ops``.
    """
    done = np.asarray(ops["end_ps"].is_valid().to_numpy()) & np.asarray(ops["start_ps"].is_valid().to_numpy())
    if not done.all():
        ops = ops.filter(pa.array(done))
    kind = ops["kind"].combine_chunks()
    if isinstance(kind, pa.ChunkedArray):
        kind = kind.chunk(0) if kind.num_chunks else pa.array([], kind.type)
    if not pa.types.is_dictionary(kind.type):
        kind = kind.dictionary_encode()
    return OpColumns(
        id=column(ops, "id"),
        kind=np.asarray(kind.indices.to_numpy(zero_copy_only=False)).astype(np.int64),
        kinds=tuple(kind.dictionary.to_pylist()),
        rank=column(ops, "rank"),
        start=column(ops, "start_ps"),
        end=column(ops, "end_ps"),
        size=column(ops, "bytes"),
        group=column(ops, "group"),
        count=column(ops, "count", 1),
    )


def groups(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a stable order that puts equal keys together, and where each group begins in it."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1 if len(ordered) else 0))
    return order, first
