"""The trace of training that saves checkpoints: in line, behind the training, or by way of a nearer tier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fabricsim.analysis.checkpoint import CHECKPOINT_GENERATOR
from fabricsim.checkpoint.plan import Piece, Plan
from fabricsim.checkpoint.sizes import OPTIMISERS, PRECISIONS, Checkpoint
from fabricsim.trace import Trace
from fabricsim.workload.rows import Rows

__all__ = ["Saver", "provenance", "save_trace", "train"]

#: Streams of a rank: training; from here on the write behind it, and reads and writes of the drain.
TRAIN, WRITE = range(2)
#: Bytes of the file that names the last whole checkpoint.
MARKER_BYTES = 16


def save_trace(plan: Plan) -> Trace:
    """Return the trace of a training that saves checkpoints.

    Each save makes a directory, writes its files, and then, when all ranks are done, rank 0 writes a file
    that names the checkpoint and moves it to ``latest``. Labels begin with ``train`` and the step, or with
    ``checkpoint`` and the number of the save.

    >>> from fabricsim.checkpoint import Checkpoint, Parallel
    >>> from fabricsim.workload.shapes import named_shape
    >>> saved = Checkpoint(shape=named_shape("gpt2"), sharding="zero3", parallel=Parallel(dp=8))
    >>> save_trace(Plan(saved=saved)).kinds["write"]
    3
    """
    rows = Rows(**provenance(plan, "save"))
    saver = Saver(plan, rows)
    if not plan.steps:
        saver.save(0)
    for step in range(plan.steps):
        train(plan, rows, step)
        if (step + 1) % plan.interval == 0:
            saver.save(step // plan.interval)
    return rows.trace()


def provenance(plan: Plan, action: str) -> dict[str, object]:
    """Say what a trace is made from."""
    saved, parallel = plan.saved, plan.saved.parallel
    model = saved.shape.name if isinstance(saved, Checkpoint) else f"mlperf:{saved.name}"
    found: dict[str, object] = {
        "generator": CHECKPOINT_GENERATOR,
        "action": action,
        "model": model,
    }
    if isinstance(saved, Checkpoint):
        found |= {"sharding": saved.sharding, "weights": saved.weights, "optimiser": saved.optimiser}
    found |= {"tp": parallel.tp, "pp": parallel.pp, "dp": parallel.dp, "ep": parallel.ep}
    return found | {"mode": plan.mode, "layout": plan.layout, "bytes": saved.total_bytes}


def train(plan: Plan, rows: Rows, step: int) -> None:
    """Add a training step: each rank computes, then gradients are reduced."""
    common = {"stream": TRAIN, "step": step}
    rows.add("compute", range(plan.world), duration_ps=plan.step_ps, name=f"train {step} compute", **common)
    groups = plan.saved.gradients()
    if plan.gradient_bytes is not None:
        groups = [(ranks, plan.gradient_bytes) for _, _, ranks in plan.saved.parallel.data_groups()]
    for ranks, size in groups:
        if size and len(ranks) > 1:
            rows.add(
                "all_reduce",
                ranks,
                bytes=size,
                priority=plan.priority or None,
                name=f"train {step} gradients",
                **common,
            )


class Saver:
    """Adds the rows of one save after another.

    Parameters
    ----------
    plan, rows
        How it is saved, and what the rows are added to.
    behind
        The first of three streams for what runs behind the training.
    """

    def __init__(self, plan: Plan, rows: Rows, behind: int = WRITE) -> None:
        self.plan, self.rows = plan, rows
        self._write_stream, self._drain_read, self._drain_write = range(behind, behind + 3)
        self.writers = plan.writers
        #: What the next snapshot waits for, by bytes of a rank: that the buffer of the last one is free.
        self.free: dict[int, list[int]] = {size: [] for size in plan.by_size}
        #: The end of each drain, by save.
        self.drained: dict[int, int] = {}

    def save(self, save: int) -> None:
        """Add a save."""
        self.name = f"checkpoint {save}"
        self.common = {"step": (save + 1) * self.plan.interval - 1} if self.plan.steps else {}
        self._gather()
        if self.plan.mode == "sync":
            self._copies()
            self._write(save, TRAIN, range(self.plan.world), {})
            return
        copies = self._copies()
        if self.plan.mode == "async":
            end = self._write(save, self._write_stream, self.writers, copies)
            self.free = {size: [end] for size in copies}
            return
        near = self._to_local(save, copies) if self.plan.mode == "local" else self._to_peer(save, copies)
        self.free = {size: [end] for size, end in near.items()}
        if self.plan.drain_every and (save + 1) % self.plan.drain_every == 0:
            end = self._write(save, self._drain_write, self.writers, near)
            self.drained[save] = end
            if self.plan.mode == "peer":
                # The drain reads the snapshot itself.
                self.free = {size: [*ends, end] for size, ends in self.free.items()}

    def _gather(self) -> None:
        """Gather the whole state on rank 0, unit by unit."""
        saved = self.plan.saved
        if not isinstance(saved, Checkpoint) or saved.sharding != "fsdp-full" or self.plan.world == 1:
            return
        weight_bytes = PRECISIONS[saved.weights]
        item_bytes = weight_bytes + OPTIMISERS[saved.optimiser].bytes_per_parameter(weight_bytes)
        shape = saved.shape
        units = [shape.embedding(), *(shape.layer(index) for index in range(shape.layers)), shape.output()]
        for unit in units:
            self.rows.add(
                "all_gather",
                range(self.plan.world),
                bytes=item_bytes * sum(t.elements for t in unit),
                stream=TRAIN,
                priority=self.plan.priority or None,
                name=f"{self.name} gather",
                **self.common,
            )

    def _copies(self) -> dict[int, int]:
        """Add the copies to host memory; return their rows by bytes of a rank."""
        return {
            size: self.rows.add(
                "compute",
                ranks,
                duration_ps=self.plan.copy_ps(size),
                stream=TRAIN,
                after=self.free[size] or None,
                name=f"{self.name} snapshot",
                **self.common,
            )
            for size, ranks in self.plan.by_size.items()
        }

    def _write(self, save: int, stream: int, together: Sequence[int], after: dict[int, int]) -> int:
        """Add the write of a save to the file system; return its last row that all who write share.

        ``after`` are the rows that it waits for, by bytes of a rank.
        """
        plan, rows = self.plan, self.rows
        label = f"{self.name} drain" if stream == self._drain_write else self.name
        common: dict[str, Any] = {"stream": stream} | self.common
        first = self.writers[0]
        mine = [row for size, row in after.items() if size == plan.state_bytes[first]]
        rows.add(
            "mkdir", [first], file=plan.folder(save), name=f"{label} mkdir", after=mine or None, **common
        )
        if len(together) > 1:
            waits = list(after.values()) or None
            rows.add("barrier", together, name=f"{label} begin", after=waits, **common)
        for piece in plan.written:
            if stream == self._drain_write and plan.mode == "local":
                last = self._drain_piece(save, piece, after[plan.state_bytes[piece.ranks[0]]])
            else:
                last = plan.write_piece(rows, piece, plan.folder(save), label, **common)
        if len(together) > 1:
            last = rows.add("barrier", together, name=f"{label} end", **common)
        marker = f"{plan.base}/latest"
        rows.open([first], f"{marker}.tmp", create=True, trunc=True, name=f"{label} commit", **common)
        rows.write([first], f"{marker}.tmp", MARKER_BYTES, name=f"{label} commit", **common)
        if plan.fsync:
            rows.add("fsync", [first], file=f"{marker}.tmp", name=f"{label} commit", **common)
        rows.add("close", [first], file=f"{marker}.tmp", name=f"{label} commit", **common)
        rows.add("rename", [first], file=f"{marker}.tmp", new_file=marker, name=f"{label} commit", **common)
        return last

    def _drain_piece(self, save: int, piece: Piece, after: int) -> int:
        """Add the rows that read a piece from node-local storage and write it, part by part."""
        plan, rows = self.plan, self.rows
        ranks, local, file = piece.ranks, plan.local_file(save), f"{plan.folder(save)}/{piece.file}"
        label = f"{self.name} drain"
        reads: dict[str, Any] = {"stream": self._drain_read} | self.common
        writes: dict[str, Any] = {"stream": self._drain_write} | self.common
        rows.open(ranks, local, name=f"{label} read open", after=[after], **reads)
        rows.open(ranks, file, create=True, name=f"{label} open", **writes)
        for begin, size in plan.parts(piece.bytes):
            got = rows.read(
                ranks,
                local,
                size,
                offset=piece.begin + begin,
                direct=plan.direct,
                name=f"{label} read",
                **reads,
            )
            rows.write(
                ranks,
                file,
                size,
                offset=piece.offset + begin,
                stride=piece.stride or None,
                direct=plan.direct,
                after=[got],
                name=f"{label} write",
                **writes,
            )
        rows.add("close", ranks, file=local, name=f"{label} read close", **reads)
        if plan.fsync:
            rows.add("fsync", ranks, file=file, name=f"{label} fsync", **writes)
        return rows.add("close", ranks, file=file, name=f"{label} close", **writes)

    def _to_local(self, save: int, copies: dict[int, int]) -> dict[int, int]:
        """Add the writes to node-local storage; return the last row by bytes of a rank."""
        plan, rows, found = self.plan, self.rows, {}
        common: dict[str, Any] = {"stream": self._write_stream} | self.common
        # The file of the save before the last is written over, so its drain must be through.
        older = [self.drained[save - 2]] if save - 2 in self.drained else []
        for size, ranks in plan.by_size.items():
            file = plan.local_file(save)
            rows.open(
                ranks,
                file,
                create=True,
                trunc=True,
                name=f"{self.name} open",
                after=[copies[size], *older],
                **common,
            )
            for begin, some in plan.parts(size):
                rows.write(
                    ranks, file, some, offset=begin, direct=plan.direct, name=f"{self.name} write", **common
                )
            if plan.fsync:
                rows.add("fsync", ranks, file=file, name=f"{self.name} fsync", **common)
            found[size] = rows.add("close", ranks, file=file, name=f"{self.name} close", **common)
        return found

    def _to_peer(self, save: int, copies: dict[int, int]) -> dict[int, int]:
        """Add the messages to the next node; return the last row by bytes of a rank."""
        plan, rows, found = self.plan, self.rows, {}
        for size, ranks in plan.by_size.items():
            peers = [plan.peer(rank) for rank in ranks]
            after = [copies[size]]
            for _, some in plan.parts(size):
                common = {"bytes": some, "tag": save} | self.common
                found[size] = rows.add(
                    "send",
                    ranks,
                    peer=peers,
                    stream=self._write_stream,
                    after=after,
                    name=f"{self.name} send",
                    **common,
                )
                rows.add(
                    "recv", peers, peer=ranks, stream=self._drain_read, name=f"{self.name} recv", **common
                )
        return found
