"""The rows of one pipeline stage: its passes, on streams, with what they wait for."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from fabricsim.compute import Kernel
from fabricsim.workload.rows import Rows
from fabricsim.workload.training.layout import Ranks
from fabricsim.workload.training.options import Training
from fabricsim.workload.training.parts import Beside, Item, Message, Parts, Work

__all__ = ["Lane", "Stream", "merged"]


class Stream(IntEnum):
    """Streams of a rank: operations of one run one after another."""

    COMPUTE = 0
    GRADIENT = 1
    PARAMETER = 2
    SEND_FORWARD = 3
    RECV_FORWARD = 4
    SEND_BACKWARD = 5
    RECV_BACKWARD = 6
    TENSOR = 7
    CONTEXT_SEND = 8
    CONTEXT_RECV = 9
    EXPERT = 10
    DATA = 11
    CHECKPOINT = 12


#: The stream of a message that runs beside compute, by its kind of group.
_BESIDE = {"tp": Stream.TENSOR, "cp": Stream.TENSOR, "ep": Stream.EXPERT, "etp": Stream.EXPERT}

#: How group kinds are called in labels.
_LABELS = {
    "tp": "TP", "cp": "CP", "ep": "EP", "etp": "ETP", "dp_cp": "DP", "edp": "EDP", "shard": "shard",
    "replica": "replicas",
}  # fmt: skip


def merged(items: Sequence[Item]) -> list[Item]:
    """Return a pass in few items: exposed work, then each kind of exposed message, then the rest.

    What it takes is the same, as nothing of it overlaps but inside ``Beside``.
    """
    kernels: list[Kernel] = []
    messages: dict[tuple[str, str, int], int] = {}
    besides: dict[Beside, None] = {}
    rest: list[Item] = []
    for item in items:
        if isinstance(item, Work):
            kernels += item.kernels
        elif isinstance(item, Message):
            key = (item.kind, item.group, item.bytes)
            messages[key] = messages.get(key, 0) + item.count
        else:
            besides[item] = None
            rest.append(item)
    first: list[Item] = [Work("", tuple(kernels))] if kernels else []
    first += [Message("", kind, group, size, count) for (kind, group, size), count in messages.items()]
    return first + rest


class Lane:
    """Adds rows of one stage, one after another on its compute stream, and others beside them.

    Parameters
    ----------
    training, parts, rows
        Options, what a pass does, and what the rows are added to.
    stage
        Which pipeline stage, from 0.
    """

    def __init__(self, training: Training, parts: Parts, rows: Rows, stage: int) -> None:
        self.training, self.parts, self.rows, self.stage = training, parts, rows, stage
        self.everyone: Ranks = training.layout.ranks(stage)
        #: Rows that the next one on the compute stream waits for besides the one before it.
        self.waits: list[int] = []
        #: The last rows of the compute stream: one, or one for each class of ranks.
        self.last: tuple[int, ...] = ()
        self.common: dict[str, Any] = {}
        self._classes: list[tuple[Ranks, float]] = [(self.everyone, 1.0)]

    def begin(self, step: int) -> None:
        """Begin a training step: what is added from here on belongs to it."""
        self.common = {"step": step}
        if self.training.jitter is not None:
            self._classes = self._slowness(step)

    def _slowness(self, step: int) -> list[tuple[Ranks, float]]:
        """The ranks by how much slower they are in a step, to a hundredth; those of a TP group are alike."""
        jitter = self.training.jitter
        assert jitter is not None
        factors: dict[float, list[Ranks]] = {}
        for group in self.everyone.reshape(-1, self.training.tensor):
            factor = round(100 * jitter.factor(group, step)) / 100
            factors.setdefault(factor, []).append(group)
        return [(np.concatenate(found), factor) for factor, found in sorted(factors.items())]

    # ---- items

    def items(self, items: Sequence[Item], label: str, count: int = 1) -> None:
        """Add a pass, ``count`` times."""
        works = tuple(work for item in items for work in _works(item))
        durations = iter(self.parts.durations(works))
        for item in items:
            if isinstance(item, Message):
                self.message(item, label, count)
                continue
            begin = self.now()
            for work in _works(item):
                self.work(work, next(durations), label, count)
            if isinstance(item, Beside):
                for message in item.messages:
                    self.waits += self._beside(message, label, count, begin)

    def work(self, work: Work, duration_ps: int, label: str, count: int = 1) -> None:
        """Add compute; each class of ranks takes its own time."""
        ids, after = [], self._taken()
        for ranks, factor in self._classes:
            ids.append(
                self.rows.add(
                    "compute",
                    ranks,
                    duration_ps=duration_ps if factor == 1.0 else round(duration_ps * factor),
                    flops=float(work.flops) or None,
                    stream=int(Stream.COMPUTE),
                    after=after,
                    count=_many(count),
                    name=f"{label} {work.name}".strip(),
                    **self.common,
                )
            )
        self.waits, self.last = [], tuple(ids)

    def message(self, message: Message, label: str, count: int = 1) -> None:
        """Add an exposed message."""
        row = self._collective(message, label, count, Stream.COMPUTE, self._taken())
        if row is not None:
            self.waits, self.last = [], (row,)

    def _beside(self, message: Message, label: str, count: int, begin: list[int] | None) -> list[int]:
        """Add a message that begins after some rows; return its own."""
        if message.kind == "ring":
            return self._ring(message, label, count, begin)
        row = self._collective(message, label, count, _BESIDE[message.group], begin)
        return [] if row is None else [row]

    def apart(self, message: Message, label: str, stream: Stream, after: Sequence[int]) -> list[int]:
        """Add a message on another stream, which nothing waits for by itself; return its row, if any."""
        row = self._collective(message, label, 1, stream, list(after) or None)
        return [] if row is None else [row]

    def now(self) -> list[int] | None:
        """What a row beside the compute stream waits for, if it begins where that stream has come to."""
        return sorted({*self.last, *self.waits}) or None

    def _taken(self) -> list[int] | None:
        return sorted(set(self.waits)) or None

    def _collective(
        self, message: Message, label: str, count: int, stream: Stream, after: list[int] | None
    ) -> int | None:
        layout = self.training.layout
        size = layout.size(message.group)
        if size == 1:
            return None
        return self.rows.add(
            message.kind,
            layout.ranks(self.stage, message.group),
            bytes=message.bytes,
            group_size=size if size < layout.stage_ranks else None,
            count=_many(count * message.count),
            stream=int(stream),
            after=after,
            name=f"{label} {message.name} {_LABELS[message.group]}".replace("  ", " ").strip(),
            **self.common,
        )

    def _ring(self, message: Message, label: str, count: int, begin: list[int] | None) -> list[int]:
        """Exchanges round each group; where many are one row, gathers, which send the same."""
        layout = self.training.layout
        if count > 1 or self.training.detail == "stage":
            size = message.bytes * layout.size(message.group)
            gather = Message(message.name, "all_gather", message.group, size)
            row = self._collective(gather, label, count, Stream.TENSOR, begin)
            return [] if row is None else [row]
        ranks, following = layout.ranks(self.stage, "cp"), layout.following(self.stage)
        before = layout.following(self.stage, -1)
        ids: list[int] = []
        name = f"{label} {message.name} CP".strip()
        for hop in range(message.count):
            sent = {"bytes": message.bytes, "tag": 1, "name": f"{name} {hop}"} | self.common
            after = begin if hop == 0 else ids[-1:]  # what came in the last turn goes on in this one
            self.rows.add("send", ranks, peer=following, stream=int(Stream.CONTEXT_SEND), after=after, **sent)
            ids.append(
                self.rows.add(
                    "recv", ranks, peer=before, stream=int(Stream.CONTEXT_RECV), after=begin, **sent
                )
            )
        return ids

    def broadcast(self, name: str, size: int) -> None:
        """Add a broadcast from the first rank of each tensor-parallel group."""
        ranks, parts = self.everyone, self.training.tensor
        row = self.rows.add(
            "broadcast",
            ranks,
            peer=ranks[::parts],
            bytes=size,
            group_size=parts if parts < len(ranks) else None,
            stream=int(Stream.COMPUTE),
            after=self._taken(),
            name=f"{name} TP",
            **self.common,
        )
        self.waits, self.last = [], (row,)

    # ---- between stages

    def receive(self, other: int, size: int, tag: int, *, forward: bool, label: str) -> None:
        """Add a receive from a stage, which the next row on the compute stream waits for."""
        stream = Stream.RECV_FORWARD if forward else Stream.RECV_BACKWARD
        self.waits.append(self._message("recv", other, size, tag, stream, label))

    def send(self, other: int, size: int, tag: int, *, forward: bool, label: str) -> None:
        """Add a send to a stage; the compute stream waits for it unless sends overlap."""
        stream = Stream.SEND_FORWARD if forward else Stream.SEND_BACKWARD
        row = self._message("send", other, size, tag, stream, label)
        if not self.training.overlap_pipeline:
            self.waits.append(row)

    def _message(self, kind: str, other: int, size: int, tag: int, stream: Stream, label: str) -> int:
        return self.rows.add(
            kind,
            self.everyone,
            peer=self.training.layout.ranks(other),
            bytes=size,
            tag=tag,
            stream=int(stream),
            after=self.now(),
            name=f"{label} {kind}",
            **self.common,
        )


def _many(count: int) -> int | None:
    return count if count > 1 else None


def _works(item: Item) -> tuple[Work, ...]:
    if isinstance(item, Work):
        return (item,)
    return item.works if isinstance(item, Beside) else ()
