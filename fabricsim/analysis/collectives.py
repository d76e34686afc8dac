"""Bandwidths of collectives, counted as nccl-tests counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim.analysis.columns import COLLECTIVES, OpColumns, groups, op_columns

__all__ = ["Operations", "bus_factor", "collectives", "per_operation"]


def bus_factor(kind: str, n_ranks: int) -> float:
    """Return bus bandwidth over algorithm bandwidth.

    Parameters
    ----------
    kind
        A kind of the trace, such as ``all_reduce``.
    n_ranks
        Ranks that take part, at least 1.

    Source: nccl-tests, doc/PERFORMANCE.md.

    >>> bus_factor("all_reduce", 8), bus_factor("all_gather", 8), bus_factor("broadcast", 8)
    (1.75, 0.875, 1.0)
    """
    if kind == "all_reduce":
        return 2 * (n_ranks - 1) / n_ranks
    if kind in ("reduce_scatter", "all_gather", "all_to_all"):
        return (n_ranks - 1) / n_ranks
    return 1.0


@dataclass(frozen=True, eq=False)
class Operations:
    """Operations, one element for each group of ranks that did one together, in ascending order of id.

    ``kind`` indexes ``kinds``, ``size`` is bytes, ``ranks`` counts, it happened ``count`` times. Over the
    ranks: the first and last start, the last end, and the shortest, longest and total time on a rank;
    picoseconds.
    """

    kinds: tuple[str, ...]
    id: np.ndarray
    kind: np.ndarray
    size: np.ndarray
    ranks: np.ndarray
    count: np.ndarray
    first_start: np.ndarray
    last_start: np.ndarray
    last_end: np.ndarray
    shortest: np.ndarray
    longest: np.ndarray
    time_sum: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    @property
    def length_ps(self) -> int:
        """From the first start of all to the last end; 0 without operations."""
        return int(self.last_end.max() - self.first_start.min()) if len(self) else 0


def per_operation(ops: pa.Table) -> Operations:
    """Reduce the rows of ``Result.ops`` to one element an operation."""
    data = op_columns(ops)
    order, first = groups(_key(data))
    start, end = data.start[order], data.end[order]

    def reduce(function: np.ufunc, values: np.ndarray) -> np.ndarray:
        return function.reduceat(values, first) if len(first) else values[:0]

    return Operations(
        kinds=data.kinds,
        id=data.id[order][first],
        kind=data.kind[order][first],
        size=data.size[order][first],
        ranks=np.diff(first, append=len(order)),
        count=data.count[order][first],
        first_start=reduce(np.minimum, start),
        last_start=reduce(np.maximum, start),
        last_end=reduce(np.maximum, end),
        shortest=reduce(np.minimum, end - start),
        longest=reduce(np.maximum, end - start),
        time_sum=reduce(np.add, end - start),
    )


def _key(data: OpColumns) -> np.ndarray:
    """Return a number for each operation and group of it, ascending with the id."""
    most = int(data.group.max(initial=0)) + 1
    if most == 1:
        return data.id
    _, dense = np.unique(data.id, return_inverse=True)
    return dense.reshape(-1) * most + data.group


def collectives(ops: pa.Table) -> list[dict[str, Any]]:
    """Return count, time and bandwidths of each collective by kind, size and number of ranks.

    Parameters
    ----------
    ops
        The table ``Result.ops``.

    Returns
    -------
    list of dict
        ``kind``, ``bytes``, ``ranks`` (of a group), ``count``, ``time_ps`` (of one time; median from the
        start of the last rank to the end of the last rank), ``wait_ps`` (mean time that a rank waited for
        the last one to start),
        ``algbw_gbs`` and ``busbw_gbs`` (10^9 bytes a second; None for barriers).
    """
    each = per_operation(ops)
    wanted = np.isin(each.kind, [code for code, name in enumerate(each.kinds) if name in COLLECTIVES])
    columns = np.stack([each.kind, each.size, each.ranks])[:, wanted]
    time, times = (each.last_end - each.last_start)[wanted], each.count[wanted]
    # A rank's own time less the shortest possible (from the last start on) is what it waited.
    wait = np.maximum((each.time_sum // np.maximum(each.ranks, 1))[wanted] - time, 0)
    rows = []
    keys, which = np.unique(columns, axis=1, return_inverse=True)
    which = which.reshape(-1)
    for index in range(keys.shape[1]):
        code, size, ranks = (int(value) for value in keys[:, index])
        mine = which == index
        took = int(np.median(time[mine] // times[mine]))
        algbw = size / took * 1000 if took > 0 and size > 0 else None
        rows.append(
            {
                "kind": each.kinds[code],
                "bytes": size,
                "ranks": ranks,
                "count": int(times[mine].sum()),
                "time_ps": took,
                "wait_ps": int(wait[mine].mean()),
                "algbw_gbs": algbw,
                "busbw_gbs": None if algbw is None else algbw * bus_factor(each.kinds[code], ranks),
            }
        )
    return sorted(rows, key=lambda row: (-row["count"] * row["time_ps"], row["kind"], row["bytes"]))
