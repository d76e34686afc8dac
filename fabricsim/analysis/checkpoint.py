"""What checkpoints cost: how long each save held the training up, and how long it took to be written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim.analysis.columns import column

__all__ = ["CHECKPOINT_GENERATOR", "Checkpoints", "checkpoints"]

#: The ``generator`` in the provenance of traces with such labels.
CHECKPOINT_GENERATOR = "fabricsim.workload.checkpoint"

_LABEL = re.compile(r"(train|checkpoint) (\d+) (.+)|(restore) (.+)")
#: Parts of a save that are its way to the nearest tier, and that carry its bytes.
_WRITE = frozenset({"open", "write", "fsync", "close", "send"})
_CARRY = frozenset({"write", "send"})
_FAR = 2**62

_COLUMNS = ("stall_ps", "wait_ps", "gather_ps", "snapshot_ps", "write_ps", "drain_ps", "bytes")


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """The saves of a run.

    Parameters
    ----------
    table
        One row for each rank that took part in each save: ``save``, ``step`` (the training step before it,
        null without), ``rank``, and in picoseconds: ``stall_ps``, from the end of the training before it to
        the start of the training behind it (without any behind it, to the end of the save's part in it); of
        that ``wait_ps``, until it could go on, as the save before it was still under way, ``gather_ps``
        and ``snapshot_ps``; ``write_ps``, from the first open to the last close (or of the message to a
        peer); ``drain_ps``, likewise from the near tier to the file system. ``bytes`` is what it wrote.
    spans
        For each save: start and end of the writes on all ranks, and of the drain.
    restore
        The parts of a restore: the longest that a rank spent in each, and ``total_ps``; empty without one.
    """

    table: pa.Table
    spans: dict[int, tuple[int, int, int]]
    restore: dict[str, int]

    def summary(self) -> list[dict[str, Any]]:
        """Return a dict for each save: its greatest and mean stall over the ranks, and its bandwidth.

        ``write_ps`` and ``drain_ps`` are from the first start to the last end on any rank; ``write_gbs`` is
        in 10^9 bytes a second.
        """
        found = []
        save = self.table["save"].to_numpy()
        for number, (begin, end, drain) in self.spans.items():
            mine = self.table.filter(pa.array(save == number))
            stall = mine["stall_ps"].to_numpy()
            size = int(mine["bytes"].to_numpy().sum())
            found.append(
                {
                    "save": number,
                    "step": mine["step"][0].as_py(),
                    "ranks": mine.num_rows,
                    "bytes": size,
                    "stall_max_ps": int(stall.max()),
                    "stall_mean_ps": int(stall.mean()),
                    "wait_max_ps": int(mine["wait_ps"].to_numpy().max()),
                    "snapshot_max_ps": int(mine["snapshot_ps"].to_numpy().max()),
                    "write_ps": end - begin,
                    "write_gbs": size / (end - begin) * 1000 if end > begin else None,
                    "drain_ps": drain,
                }
            )
        return found

    def __repr__(self) -> str:
        worst = max((row["stall_max_ps"] for row in self.summary()), default=0)
        return f"<Checkpoints: {len(self.spans)} saves, longest stall {worst / 1e12:.3f} s>"


def checkpoints(ops: pa.Table) -> Checkpoints:
    """Find the saves and the restore in a run of a generated trace, by its labels.

    Parameters
    ----------
    ops
        The table ``Result.ops``; operations that did not end are left out.

    >>> names = ["train 0 compute", "checkpoint 0 snapshot", "train 1 compute"]
    >>> ops = pa.table({"name": names, "rank": [0, 0, 0], "start_ps": [0, 100, 130], "step": [0, 0, 1],
    ...                 "end_ps": [100, 130, 230], "stream": [0, 0, 0], "bytes": [0, 0, 0]})
    >>> checkpoints(ops).table.select(["save", "rank", "stall_ps", "snapshot_ps"]).to_pylist()
    [{'save': 0, 'rank': 0, 'stall_ps': 30, 'snapshot_ps': 30}]
    """
    done = np.asarray(ops["end_ps"].is_valid().to_numpy()) & np.asarray(ops["start_ps"].is_valid().to_numpy())
    events = _Events(ops if done.all() else ops.filter(pa.array(done)))
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("save", "step", "rank", *_COLUMNS)}
    spans = {}
    for save in np.unique(events.number[events.is_kind("checkpoint")]).tolist():
        ranks, columns = events.save(save)
        for name, values in columns.items():
            rows[name].append(values)
        rows["rank"].append(ranks)
        rows["save"].append(np.full(len(ranks), save))
        rows["step"].append(np.full(len(ranks), events.step_of(save)))
        spans[save] = events.span(save)
    arrays = {name: np.concatenate(parts) if parts else np.zeros(0, np.int64) for name, parts in rows.items()}
    table = pa.table(arrays)
    step = pa.array(arrays["step"], mask=arrays["step"] < 0)
    return Checkpoints(table.set_column(1, "step", step), spans, events.restore())


def _label(name: str | None) -> tuple[str, int, str]:
    """Return what a label says: kind, number of the step or save, and part; empty for other labels."""
    match = _LABEL.fullmatch(name or "")
    if match is None:
        return "", 0, ""
    return match[1] or match[4], int(match[2] or 0), match[3] or match[5]


class _Events:
    """The labelled operations of a run, by rank."""

    def __init__(self, ops: pa.Table) -> None:
        names = ops["name"].combine_chunks()
        if isinstance(names, pa.ChunkedArray):
            names = names.chunk(0) if names.num_chunks else pa.array([], pa.string())
        if not pa.types.is_dictionary(names.type):
            names = names.dictionary_encode()
        code = names.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        found = [_label(name) for name in [*names.dictionary.to_pylist(), None]]
        kinds, numbers, parts = zip(*found, strict=True)
        self.kind = np.array(kinds)[code]
        self.number = np.array(numbers, np.int64)[code]
        self.part = np.array([part.removeprefix("drain ") for part in parts])[code]
        self.drain = np.array([part.startswith("drain ") for part in parts])[code]
        self.rank, self.start, self.end = (column(ops, name) for name in ("rank", "start_ps", "end_ps"))
        self.size, self.stream = column(ops, "bytes"), column(ops, "stream", -1)
        self.step = column(ops, "step", -1)
        # In the trace of a whole training every operation of a step's stream is the training's.
        other = (self.kind == "") & (self.step >= 0) & (self.stream == 0)
        self.kind, self.number = np.where(other, "train", self.kind), np.where(other, self.step, self.number)
        self.ranks = int(self.rank.max()) + 1 if len(self.rank) else 0

    def is_kind(self, kind: str) -> np.ndarray:
        mask: np.ndarray = self.kind == kind
        return mask

    def step_of(self, save: int) -> int:
        """Return the training step before a save, -1 without training."""
        return int(self.step[self.is_kind("checkpoint") & (self.number == save)].max())

    def last(self, mask: np.ndarray, default: int) -> np.ndarray:
        """Return by rank the last end of some operations."""
        found = np.full(self.ranks, default, np.int64)
        np.maximum.at(found, self.rank[mask], self.end[mask])
        return found

    def first(self, mask: np.ndarray, default: int) -> np.ndarray:
        """Return by rank the first start of some operations."""
        found = np.full(self.ranks, default, np.int64)
        np.minimum.at(found, self.rank[mask], self.start[mask])
        return found

    def total(self, mask: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return by rank the sum of values of some operations."""
        found = np.zeros(self.ranks, np.int64)
        np.add.at(found, self.rank[mask], values[mask])
        return found

    def _mine(self, save: int) -> np.ndarray:
        return self.is_kind("checkpoint") & (self.number == save)

    def _writes(self, save: int) -> np.ndarray:
        return self._mine(save) & ~self.drain & np.isin(self.part, list(_WRITE))

    def _drains(self, save: int) -> np.ndarray:
        return (
            self._mine(save) & self.drain & np.isin(self.part, [*_WRITE, "read", "read open", "read close"])
        )

    def save(self, save: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the ranks of a save, and the columns of each."""
        mine, train = self._mine(save), self.is_kind("train")
        ranks = np.unique(self.rank[mine])
        within, step = mine & (self.stream == 0), self.step_of(save)
        began, ended = self.first(within, _FAR), self.last(within, -1)
        before = self.last(train & (self.number <= step), -1)
        behind = self.first(train & (self.number > step), _FAR)
        before = np.where(before >= 0, before, began)
        behind = np.where(behind < _FAR, behind, ended)
        length = self.end - self.start
        # Behind a gather the copy waits for the save before.
        gaps = np.maximum(ended - began - self.total(within, length), 0)
        writes, drains = self._writes(save), self._drains(save)
        found = {
            "stall_ps": np.maximum(behind - before, 0),
            "wait_ps": np.where(began < _FAR, np.maximum(began - before, 0) + gaps, 0),
            "gather_ps": self.total(within & (self.part == "gather"), length),
            "snapshot_ps": self.total(within & (self.part == "snapshot"), length),
            "write_ps": np.maximum(self.last(writes, -1) - self.first(writes, _FAR), 0),
            "drain_ps": np.maximum(self.last(drains, -1) - self.first(drains, _FAR), 0),
            "bytes": self.total(writes & np.isin(self.part, list(_CARRY)), self.size),
        }
        return ranks, {name: values[ranks] for name, values in found.items()}

    def span(self, save: int) -> tuple[int, int, int]:
        """Return start and end of a save's writes over all ranks, and the time of its drain."""
        writes, drains = self._writes(save), self._drains(save)
        drain = int(self.end[drains].max() - self.start[drains].min()) if drains.any() else 0
        if not writes.any():
            return 0, 0, drain
        return int(self.start[writes].min()), int(self.end[writes].max()), drain

    def restore(self) -> dict[str, int]:
        """Return the longest time of a rank in each part of a restore, and the whole."""
        mine = self.is_kind("restore")
        if not mine.any():
            return {}
        length = self.end - self.start
        found = {
            f"{part}_ps": int(self.total(mine & (self.part == part), length).max())
            for part in np.unique(self.part[mine]).tolist()
        }
        return found | {"total_ps": int(self.end[mine].max() - self.start[mine].min())}
