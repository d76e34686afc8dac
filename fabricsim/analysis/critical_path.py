"""The critical path: from the last operation back through what each one waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim.analysis.columns import COLLECTIVES

__all__ = ["Segment", "critical_path", "path_summary"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the critical path: an operation as one rank saw it, or the time before its start.

    ``kind`` is the kind of the operation, or ``delay`` for its own local delay, or ``wait`` for time that no
    operation explains. Times are picoseconds.
    """

    id: int
    kind: str
    rank: int
    start_ps: int
    end_ps: int

    @property
    def time_ps(self) -> int:
        """Its length in picoseconds."""
        return self.end_ps - self.start_ps


def critical_path(
    lowered: pa.Table, rank: np.ndarray, start_ps: np.ndarray, end_ps: np.ndarray, kinds: tuple[str, ...]
) -> list[Segment]:
    """Walk back from the operation that ended last; the segments fill the time from 0 to its end.

    Parameters
    ----------
    lowered
        The canonical table of the program: what was released by what.
    rank, start_ps, end_ps
        The instances of the run, in row then rank-position order; negative where they did not happen.
    kinds
        The names that the table's ``kind`` column indexes.

    Returns
    -------
    list of Segment
        In order of time. A collective is left to the rank that joined last, a receive to its send where that
        began later, and any other step to the predecessor (in the stream, or in ``after``) that ended last.
    """
    if not len(end_ps) or end_ps.max() < 0:
        return []
    walk = _Walk(lowered, rank, start_ps, end_ps, kinds)
    return walk.back(int(np.argmax(end_ps)))


def path_summary(path: list[Segment], names: dict[int, str], limit: int = 10) -> dict[str, Any]:
    """Return the time on the path by kind, and its longest segments, with the names of the operations."""
    by_kind: dict[str, int] = {}
    for segment in path:
        by_kind[segment.kind] = by_kind.get(segment.kind, 0) + segment.time_ps
    longest = sorted(path, key=lambda segment: (-segment.time_ps, segment.start_ps))[:limit]
    return {
        "segments": len(path),
        "by_kind": dict(sorted(by_kind.items(), key=lambda item: (-item[1], item[0]))),
        "longest": [
            {
                "id": segment.id,
                "kind": segment.kind,
                "name": names.get(segment.id),
                "rank": segment.rank,
                "start_ps": segment.start_ps,
                "time_ps": segment.time_ps,
            }
            for segment in longest
        ],
    }


class _Walk:
    def __init__(
        self, lowered: pa.Table, rank: np.ndarray, start: np.ndarray, end: np.ndarray, kinds: tuple[str, ...]
    ) -> None:
        self.kinds = kinds
        self.rank, self.start, self.end = rank, start, end
        self.id = lowered["id"].to_numpy()
        self.kind = lowered["kind"].to_numpy()
        self.delay = lowered["delay_ps"].to_numpy()
        self.first, _ = _lists(lowered["ranks"])
        self.group_size = np.diff(self.first)
        if "group_size" in lowered.column_names:
            size = lowered["group_size"].to_numpy()
            self.group_size = np.where(size > 0, size, self.group_size)
        self.after_first, self.after = _lists(lowered["after"])
        self.row = np.repeat(np.arange(len(self.id)), np.diff(self.first))
        self.by_id = np.argsort(self.id, kind="stable")
        self.sorted_id = self.id[self.by_id]
        self.previous = _previous(lowered["stream"].to_numpy()[self.row], rank)
        self.sender = self._match(lowered)

    def back(self, at: int) -> list[Segment]:
        path: list[Segment] = []
        now = int(self.end[at])
        for _ in range(2 * len(self.rank) + 1):
            at = self._cause(at)
            row = int(self.row[at])
            who, began = int(self.rank[at]), min(int(self.start[at]), now)
            operation = int(self.id[row])
            path.append(Segment(operation, self.kinds[self.kind[row]], who, began, now))
            now = began
            before = self._released_by(at)
            delay = min(int(self.delay[row]), now)
            if delay:
                path.append(Segment(operation, "delay", who, now - delay, now))
                now -= delay
            ended = int(self.end[before]) if before >= 0 else 0
            if ended < now:
                path.append(Segment(operation, "wait", who, ended, now))
            if before < 0:
                break
            now = min(now, ended)
            at = before
        return path[::-1]

    def _cause(self, at: int) -> int:
        """Return the instance that decided when this one could end: itself, or one that began later."""
        row = self.row[at]
        kind = self.kinds[self.kind[row]]
        if kind in COLLECTIVES:
            size = int(self.group_size[row])
            low = self.first[row] + (at - self.first[row]) // size * size
            latest = int(low + np.argmax(self.start[low : low + size]))
            return latest if self.start[latest] > self.start[at] else at
        if kind == "recv":
            sender = int(self.sender[at])
            if sender >= 0 and self.start[sender] > self.start[at]:
                return sender
        return at

    def _released_by(self, at: int) -> int:
        """Return the predecessor on this rank that ended last, or -1."""
        best = int(self.previous[at])
        row = self.row[at]
        for operation in self.after[self.after_first[row] : self.after_first[row + 1]]:
            other = self._row_of(operation)
            low, high = self.first[other], self.first[other + 1]
            for index in np.flatnonzero(self.rank[low:high] == self.rank[at])[:1]:
                candidate = int(low + index)
                if best < 0 or self.end[candidate] > self.end[best]:
                    best = candidate
        return best

    def _row_of(self, operation: int) -> int:
        return int(self.by_id[np.searchsorted(self.sorted_id, operation)])

    def _match(self, lowered: pa.Table) -> np.ndarray:
        """Return for each receive its send: k-th with k-th of (source, destination, tag); -1 for others."""
        found = np.full(len(self.rank), -1, np.int64)
        codes = {name: code for code, name in enumerate(self.kinds)}
        sends = np.flatnonzero(self.kind[self.row] == codes.get("send", -1))
        recvs = np.flatnonzero(self.kind[self.row] == codes.get("recv", -1))
        if not len(sends) or not len(recvs):
            return found
        peer_first, peers = _lists(lowered["peer"])
        tag = lowered["tag"].to_numpy()

        def keyed(index: np.ndarray, sending: bool) -> tuple[np.ndarray, np.ndarray]:
            row = self.row[index]
            mine, other = self.rank[index], peers[peer_first[row] + index - self.first[row]]
            source, target = (mine, other) if sending else (other, mine)
            key = np.stack([source, target, tag[row]])
            order = np.lexsort((index, *key))
            return index[order], key[:, order]

        sent, sent_key = keyed(sends, True)
        received, received_key = keyed(recvs, False)
        if sent_key.shape == received_key.shape and (sent_key == received_key).all():
            found[received] = sent
        return found


def _lists(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each list begins (one more than there are lists) and all values in one array."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    lengths = array.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(lengths)])
    return first, array.flatten().to_numpy(zero_copy_only=False)


def _previous(stream: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return for each instance the one before it in its stream on its rank, or -1."""
    previous = np.full(len(rank), -1, np.int64)
    ordered = np.flatnonzero(stream >= 0)
    ordered = ordered[np.lexsort((ordered, stream[ordered], rank[ordered]))]
    if len(ordered) > 1:
        same = (stream[ordered[1:]] == stream[ordered[:-1]]) & (rank[ordered[1:]] == rank[ordered[:-1]])
        previous[ordered[1:][same]] = ordered[:-1][same]
    return previous
