"""What each rank did with its time: compute, communication and storage, exposed or overlapped, idle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim.analysis.columns import STORAGE, OpColumns, op_columns

__all__ = ["Breakdown", "breakdown"]


@dataclass(frozen=True, eq=False)
class Breakdown:
    """The time of each rank of a run, in picoseconds; one element a rank.

    ``compute_ps`` + ``exposed_ps`` + ``storage_ps`` + ``idle_ps`` is ``total_ps`` on every rank.
    ``overlapped_ps`` is the part of ``compute_ps`` during which a communication was in flight too. A
    communication is in flight on a rank from its start on that rank to its end there: waiting for a slower
    peer is inside it. ``storage_ps`` is the time with a storage operation and neither compute nor
    communication, ``hidden_storage_ps`` that with a storage operation behind one of them.
    """

    total_ps: int
    rank: np.ndarray
    compute_ps: np.ndarray
    exposed_ps: np.ndarray
    overlapped_ps: np.ndarray
    storage_ps: np.ndarray
    hidden_storage_ps: np.ndarray
    idle_ps: np.ndarray
    last_end_ps: np.ndarray
    kinds: tuple[dict[str, Any], ...]

    def mean(self) -> dict[str, int]:
        """Return the mean over the ranks, in picoseconds rounded down."""
        n = max(1, len(self.rank))
        return {name: int(values.sum()) // n for name, values in self.columns()}

    def slowest(self) -> dict[str, int]:
        """Return the rank that ends last (the busier, then the lower one on a tie) and its times."""
        if not len(self.rank):
            return {}
        at = int(np.lexsort((self.rank, self.idle_ps, -self.last_end_ps))[0])
        return {"rank": int(self.rank[at])} | {name: int(values[at]) for name, values in self.columns()}

    def summary(self) -> dict[str, Any]:
        """Return what ``summary.json`` holds: the mean, the slowest rank, and each kind."""
        return {
            "total_ps": self.total_ps,
            "mean": self.mean(),
            "slowest": self.slowest(),
            "by_kind": list(self.kinds),
        }

    def table(self) -> pa.Table:
        """Return one row a rank."""
        return pa.table({"rank": self.rank} | dict(self.columns()))

    def columns(self) -> list[tuple[str, np.ndarray]]:
        """Return the parts by name, picoseconds, one element a rank."""
        return [
            ("compute_ps", self.compute_ps),
            ("exposed_communication_ps", self.exposed_ps),
            ("overlapped_communication_ps", self.overlapped_ps),
            ("exposed_storage_ps", self.storage_ps),
            ("overlapped_storage_ps", self.hidden_storage_ps),
            ("idle_ps", self.idle_ps),
        ]


def breakdown(ops: pa.Table, total_ps: int | None = None) -> Breakdown:
    """Split the time of each rank.

    Parameters
    ----------
    ops
        The table ``Result.ops``; operations that did not end are left out.
    total_ps
        The length of the run; the end of the last operation if not given.

    >>> ops = pa.table({"id": [0, 1], "kind": ["compute", "all_reduce"], "rank": [0, 0], "bytes": [0, 8],
    ...                 "start_ps": [0, 60], "end_ps": [80, 100]})
    >>> breakdown(ops).mean() == {"compute_ps": 80, "exposed_communication_ps": 20,
    ...                           "overlapped_communication_ps": 20, "exposed_storage_ps": 0,
    ...                           "overlapped_storage_ps": 0, "idle_ps": 0}
    True
    """
    data = op_columns(ops)
    if total_ps is None:
        total_ps = int(data.end.max(initial=0))
    ranks = np.unique(data.rank)
    busy = data.of_kind("compute")
    storage = data.of_kind(*STORAGE)
    compute, exposed, overlapped = _sweep(data, busy, ~busy & ~storage, ranks)
    alone = hidden = np.zeros(len(ranks), np.int64)
    if storage.any():
        _, alone, hidden = _sweep(data, ~storage, storage, ranks)
    last = np.zeros(len(ranks), np.int64)
    np.maximum.at(last, np.searchsorted(ranks, data.rank), data.end)
    return Breakdown(
        total_ps=total_ps,
        rank=ranks,
        compute_ps=compute,
        exposed_ps=exposed,
        overlapped_ps=overlapped,
        storage_ps=alone,
        hidden_storage_ps=hidden,
        idle_ps=total_ps - compute - exposed - alone,
        last_end_ps=last,
        kinds=tuple(_by_kind(data, busy, ranks)),
    )


def _by_kind(data: OpColumns, busy: np.ndarray, ranks: np.ndarray) -> list[dict[str, Any]]:
    """Return for each kind how often, how long, and how much of that was exposed (means of ranks).

    Communication is exposed without compute, storage without compute and communication.
    """
    found = []
    work = ~data.of_kind(*STORAGE)
    for code in np.unique(data.kind):
        mine = data.kind == code
        name = data.kinds[code]
        before = work if name in STORAGE else busy
        compute, exposed, overlapped = _sweep(data, before, mine & ~before, ranks)
        flight = compute if name == "compute" else exposed + overlapped
        found.append(
            {
                "kind": name,
                "operations": len(np.unique(data.id[mine])),
                "ranks": len(np.unique(data.rank[mine])),
                "in_flight_ps": int(flight.sum()) // len(ranks),
                "exposed_ps": 0 if name == "compute" else int(exposed.sum()) // len(ranks),
            }
        )
    return sorted(found, key=lambda row: (-row["in_flight_ps"], row["kind"]))


def _sweep(
    data: OpColumns, first: np.ndarray, second: np.ndarray, ranks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per rank the time with any of ``first``, with any of ``second`` alone, and with both."""
    time = np.concatenate([data.start[first], data.end[first], data.start[second], data.end[second]])
    rank = np.concatenate([data.rank[first], data.rank[first], data.rank[second], data.rank[second]])
    a, b = int(first.sum()), int(second.sum())
    step = np.zeros((2, len(time)), np.int64)
    step[0, :a], step[0, a : 2 * a] = 1, -1
    step[1, 2 * a : 2 * a + b], step[1, 2 * a + b :] = 1, -1
    order = np.lexsort((time, rank))
    time, rank = time[order], rank[order]
    # Every count is back at zero at the end of a rank, so one running sum serves all ranks.
    in_first, in_second = np.cumsum(step[:, order], axis=1) > 0
    length = np.diff(time, append=0)
    length[rank != np.append(rank[1:], -1)] = 0
    at = np.searchsorted(ranks, rank)
    sums = []
    for state in (in_first, in_second & ~in_first, in_first & in_second):
        total = np.zeros(len(ranks), np.int64)
        np.add.at(total, at[state], length[state])
        sums.append(total)
    return sums[0], sums[1], sums[2]
