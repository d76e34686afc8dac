"""The trace of training steps: the passes of every stage, what reduces gradients, and the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from fabricsim.analysis.training import BETWEEN_STAGES, TRAINING_GENERATOR
from fabricsim.checkpoint.save import Saver
from fabricsim.compute import elementwise
from fabricsim.compute.transformer import optimizer
from fabricsim.trace import Trace
from fabricsim.workload.rows import Rows
from fabricsim.workload.training.flops import done_flops, model_flops, passes_of
from fabricsim.workload.training.footprint import memory
from fabricsim.workload.training.options import DTYPES, Training
from fabricsim.workload.training.parameters import Bucket, Unit, buckets, gather, reduce, units_of
from fabricsim.workload.training.parts import Item, Message, Parts, Work
from fabricsim.workload.training.schedule import Pass, passes
from fabricsim.workload.training.stage import Lane, Stream, merged

__all__ = ["llm"]

#: Up to so many rows, and rows of ranks, ``detail="auto"`` has a row for each part of a layer.
_LAYER_ROWS, _LAYER_INSTANCES = 20_000, 2_000_000

_KINDS = ("dense", "expert")
#: Bytes a token that a tensor-parallel rank tells the others: tokens, labels and positions (int64), loss
#: mask.
_BATCH_BYTES_PER_TOKEN = 28


def llm(training: Training) -> Trace:
    """Return the trace of training steps.

    Rows are operations of all ranks of a pipeline stage; ``docs/training.md`` says which there are, and on
    which streams. The provenance has all options, ``tokens_per_step``, ``model_flops_per_step``,
    ``done_flops_per_step``, ``peak_flops_per_s``, and ``memory``: the bytes of a rank of the stage
    that needs the most.

    Parameters
    ----------
    training
        What is trained, and how.

    >>> options = {"model": "gpt2", "n_ranks": 4, "tensor": 2, "global_batch_seqs": 4}
    >>> sorted(llm(Training(**options, sequence_tokens=1024)).kinds)
    ['all_gather', 'all_reduce', 'compute', 'reduce_scatter']
    """
    parts = Parts(training)
    units = units_of(training)
    detail = training.detail
    if detail == "auto":
        many = _layer_rows(training, parts, units)
        few = many <= _LAYER_ROWS and many * training.layout.stage_ranks <= _LAYER_INSTANCES
        detail = "layer" if few else "stage"
    training = replace(training, detail=detail)
    rows = Rows(**_provenance(training, parts, units))
    plan = training.plan()
    saver = None if plan is None else Saver(plan, rows, int(Stream.CHECKPOINT))
    stages = [_Stage(training, parts, rows, stage, units[stage]) for stage in range(training.pipeline)]
    for step in range(training.steps):
        for stage in stages:
            stage.passes(step)
        _finish(training, rows, stages, step)
        if saver is not None and (step + 1) % training.checkpoint_every == 0:
            saver.save(step // training.checkpoint_every)
    return rows.trace()


def _provenance(
    training: Training, parts: Parts, units: Sequence[Sequence[Sequence[Unit]]]
) -> dict[str, Any]:
    worst = max(memory(training), key=lambda one: one.total)
    done = sum(done_flops(training, parts, chunk) for stage in units for chunk in stage)
    return {
        "generator": TRAINING_GENERATOR,
        "options": training.options(),
        "model": training.shape.name,
        "parameters": training.shape.parameters,
        "ranks": training.n_ranks,
        "steps": training.steps,
        "micro_batches": training.micro_batches,
        "data": training.data,
        "tokens_per_step": training.tokens_per_step,
        "model_flops_per_step": model_flops(training),
        "model_flops_causal_per_step": model_flops(training, causal=True),
        "done_flops_per_step": done,
        "memory": worst.to_json() | {"device": training.device.mem_bytes},
        "peak_flops_per_s": training.device.peak(training.precision),
    }


def _layer_rows(training: Training, parts: Parts, units: Sequence[Sequence[Sequence[Unit]]]) -> int:
    """About how many rows there are with one for each part of a layer."""
    memo: dict[tuple[str, bool], int] = {}
    total = 0
    for unit in (unit for stage in units for chunk in stage for unit in chunk):
        key = (unit.kind, unit.moe)
        if key not in memo:
            memo[key] = sum(len(items) for items in passes_of(parts, unit)) + 2
        total += memo[key]
    return total * training.micro_batches * training.steps


@dataclass(frozen=True, slots=True)
class _Segment:
    """Units alike that run one after another: the first, how many, and their positions in the chunk."""

    unit: Unit
    count: int
    first: int
    last: int

    @property
    def label(self) -> str:
        if self.unit.kind != "layer":
            return ""
        here = self.unit.layer
        other = here + (self.last - self.first)
        low, high = min(here, other), max(here, other)
        return f"layer {here}" if low == high else f"layers {low}-{high}"


class _Stage:
    """One pipeline stage: its rows of a step."""

    def __init__(
        self, training: Training, parts: Parts, rows: Rows, stage: int, units: list[list[Unit]]
    ) -> None:
        self.training, self.parts, self.stage, self.units = training, parts, stage, units
        self.lane = Lane(training, parts, rows, stage)
        self.order = passes(stage, training.pipeline, training.micro_batches, training.virtual)
        self.buckets = [
            [
                (kind, bucket, count)
                for kind in _KINDS
                for bucket, count in _counted(buckets(own, kind, training.bucket_elements(stage, chunk)))
            ]
            for chunk, own in enumerate(units)
        ]
        #: Rows that the first forward pass of a step waits for, by chunk and position of the unit.
        self.gathered: list[dict[int, list[int]]] = []
        #: Rows that reduce gradients, which the optimizer waits for.
        self.reducing: list[int] = []
        self.read: list[int] = []
        self._merged: dict[int, list[Item]] = {}

    @property
    def own_parameters(self) -> int:
        """Elements of the parameters that a rank's optimizer updates."""
        training, found = self.training, 0
        shards = {"dense": "shard" if training.fsdp == "hybrid" else "dp_cp", "expert": "edp"}
        for kind, group in shards.items():
            elements = sum(unit.elements(kind) for own in self.units for unit in own)
            cut = training.zero or training.fully_sharded
            found += -(-elements // training.layout.size(group)) if cut else elements
        return found

    # ---- a step

    def passes(self, step: int) -> None:
        """Add the forward and backward passes of a step, and what reduces gradients behind them."""
        self.lane.begin(step)
        self._load(step)
        self._gather_ahead()
        for one in self.order:
            if one.forward:
                self._forward(one)
            else:
                self._backward(one)
        if not self.training.overlap_grad_reduce and not self.training.fully_sharded:
            for chunk in range(len(self.units)):
                for kind, bucket, count in self.buckets[chunk]:
                    for message in reduce(self.training, bucket.elements, kind, count):
                        self.lane.message(message, "")
        self.lane.waits += self.reducing
        self.reducing = []
        self._whole_gradients()

    def _whole_gradients(self) -> None:
        """Sum what every tensor-parallel rank has whole: each has seen a part of the sequence.

        Norms, biases behind a reduction, positions, routers, and what compresses keys and queries.
        """
        if self.training.sequence_parallel:
            whole = sum(
                tensor.elements
                for own in self.units
                for unit in own
                for tensor in self._tensors(unit)
                if tensor.cut is None and not tensor.experts and tensor.name != "router.bias"
            )
            size = whole * DTYPES[self.training.grad_dtype]
            self.lane.message(Message("gradients of whole parameters", "all_reduce", "tp", size), "")

    def _tensors(self, unit: Unit) -> tuple[Any, ...]:
        shape = self.training.padded
        if unit.kind == "layer":
            return shape.layer(unit.layer)
        return shape.embedding() if unit.kind == "embedding" else shape.output()

    def _load(self, step: int) -> None:
        """Read the tokens of the next step, and tell those of this one to the tensor-parallel ranks."""
        training, lane = self.training, self.lane
        if not training.data_loading or self.stage not in (0, training.pipeline - 1):
            return
        sequences = training.micro_batches * training.micro_batch_seqs
        token = 2 if training.shape.vocab < 65500 else 4  # as Megatron-LM's indexed data sets
        size = sequences * (training.sequence_tokens + 1) * token
        readers = lane.everyone[:: training.tensor]
        for ahead in (0, 1) if step == 0 else (1,):
            if step + ahead >= training.steps:
                continue
            name = f"tokens of step {step + ahead}"
            offset = (step + ahead) * size * len(readers)
            row = lane.rows.read(
                readers, training.data_path, size, offset=offset, stride=size, stream=int(Stream.DATA),
                name=name, **lane.common,
            )  # fmt: skip
            self.read.append(row)
        mine = self.read.pop(0)
        lane.waits.append(mine)
        if training.tensor > 1:
            lane.broadcast("tokens", sequences * training.sequence_tokens * _BATCH_BYTES_PER_TOKEN)

    # ---- parameters of the distributed optimizer

    def _gather_ahead(self) -> None:
        """Gather the parameters of all chunks in the order of their forward pass, beside it."""
        training = self.training
        self.gathered = [{} for _ in self.units]
        if training.zero not in (1, 2) or not training.overlap_param_gather:
            return
        for chunk, found in enumerate(self.gathered):
            begin = list(self.lane.last)
            for kind, bucket, count in reversed(self.buckets[chunk]):
                for message in gather(training, bucket.elements, kind, count):
                    for row in self.lane.apart(message, "", Stream.PARAMETER, begin):
                        for position in range(bucket.last, bucket.first + 1):
                            found.setdefault(position, []).append(row)

    def gather_after(self) -> None:
        """Gather the parameters, exposed, when the optimizer is through."""
        if self.training.zero in (1, 2) and not self.training.overlap_param_gather:
            for own in self.buckets:
                for kind, bucket, count in reversed(own):
                    for message in gather(self.training, bucket.elements, kind, count):
                        self.lane.message(message, "")

    # ---- passes of a micro-batch

    def _label(self, one: Pass) -> str:
        chunk = f" chunk {one.chunk}" if len(self.units) > 1 else ""
        return f"mb {one.micro_batch}{chunk}"

    def _neighbour(self, chunk: int, ahead: bool) -> tuple[int, int] | None:
        """Stage and chunk that come after (or before) a chunk of this stage."""
        last = self.training.pipeline - 1
        if ahead:
            if self.stage < last:
                return self.stage + 1, chunk
            return (0, chunk + 1) if chunk + 1 < len(self.units) else None
        if self.stage > 0:
            return self.stage - 1, chunk
        return (last, chunk - 1) if chunk > 0 else None

    def _forward(self, one: Pass) -> None:
        lane, label, size = self.lane, self._label(one), self.parts.stage_bytes
        before, after = self._neighbour(one.chunk, False), self._neighbour(one.chunk, True)
        if before is not None:
            lane.receive(before[0], size, _tag(before[1], True), forward=True, label=f"{label} forward")
        training = self.training
        if training.fully_sharded:
            keep = training.keeps_gathered and not training.reduce_every and one.micro_batch > 0
            self._sharded(one, gathers=not keep, reduces=False)
        else:
            waits = self.gathered[one.chunk] if one.micro_batch == 0 else {}
            breaks = {position for position in waits if waits[position] != waits.get(position - 1)}
            for segment in self._segments(one, breaks):
                lane.waits += waits.get(segment.first, [])
                self._run(segment, one)
        if after is not None:
            lane.send(after[0], size, _tag(one.chunk, True), forward=True, label=f"{label} forward")

    def _backward(self, one: Pass) -> None:
        lane, label, size = self.lane, self._label(one), self.parts.stage_bytes
        before, after = self._neighbour(one.chunk, False), self._neighbour(one.chunk, True)
        if after is not None:
            lane.receive(after[0], size, _tag(after[1], False), forward=False, label=f"{label} backward")
        training = self.training
        reduces = training.reduce_every or one.micro_batch == training.micro_batches - 1
        if training.fully_sharded:
            self._sharded(one, gathers=not training.keeps_gathered, reduces=reduces)
        else:
            self._bucketed(one, reduces=reduces and training.overlap_grad_reduce)
        if before is not None:
            lane.send(before[0], size, _tag(one.chunk, False), forward=False, label=f"{label} backward")

    def _bucketed(self, one: Pass, *, reduces: bool) -> None:
        """A backward pass, and the messages of each bucket as it fills."""
        ready: dict[int, list[tuple[str, Bucket, int]]] = {}
        if reduces:
            for entry in self.buckets[one.chunk]:
                ready.setdefault(entry[1].last, []).append(entry)
        for segment in self._segments(one, {position - 1 for position in ready}):
            self._run(segment, one)
            for kind, bucket, count in ready.get(segment.last, []):
                for message in reduce(self.training, bucket.elements, kind, count):
                    self.reducing += self.lane.apart(message, "", Stream.GRADIENT, self.lane.last)

    def _segments(self, one: Pass, breaks: set[int]) -> Iterator[_Segment]:
        """The units of a pass in its order; alike ones are together, unless a break comes before one."""
        units = self.units[one.chunk]
        order = range(len(units)) if one.forward else range(len(units) - 1, -1, -1)
        begin: int | None = None
        before = -1
        for position in order:
            together = (
                begin is not None
                and self.training.detail == "stage"
                and units[begin].alike(units[position])
                and position not in breaks
            )
            if not together:
                if begin is not None:
                    yield _Segment(units[begin], abs(before - begin) + 1, begin, before)
                begin = position
            before = position
        if begin is not None:
            yield _Segment(units[begin], abs(before - begin) + 1, begin, before)

    def _run(self, segment: _Segment, one: Pass) -> None:
        """Add the passes of a segment."""
        items: Sequence[Item] = passes_of(self.parts, segment.unit)[0 if one.forward else 1]
        label = f"{self._label(one)} {segment.label}".strip()
        if self.training.detail == "stage":
            key = id(items)
            if segment.unit.kind != "layer":
                self.lane.items(items, f"{label} {'forward' if one.forward else 'backward'}")
                return
            if key not in self._merged:
                self._merged[key] = merged(items)
            items = self._merged[key]
            label = f"{label} {'forward' if one.forward else 'backward'}"
        self.lane.items(items, label, segment.count)

    # ---- FSDP and ZeRO 3

    def _sharded(self, one: Pass, *, gathers: bool, reduces: bool) -> None:
        """A pass whose parameters are gathered ahead, layer by layer, and whose gradients are cut behind it.

        Embedding and output are one unit, that is gathered first in forward and stays until the end of
        backward.
        """
        lane = self.lane
        root = [unit for unit in self.units[one.chunk] if unit.kind != "layer"]
        if gathers and one.forward and root:
            lane.waits += self._apart(gather, root, 1, Stream.PARAMETER, one)
        ahead = self.training.prefetch if one.forward else self.training.prefetched_backward
        plan = list(_ahead(list(self._segments(one, set())), ahead))
        gathered: dict[int, list[int]] = {}
        for index, step in enumerate(plan):
            for due, later in enumerate(plan[index:], index) if gathers else ():
                if later.issued == index and later.gathers:
                    rows = self._apart(gather, [later.segment.unit], later.gathers, Stream.PARAMETER, one)
                    gathered[due] = rows
            lane.waits += gathered.get(index, [])
            self._run(step.segment, one)
            if reduces and step.reduces:
                rows = self._apart(reduce, [step.segment.unit], step.reduces, Stream.GRADIENT, one)
                self._reduced(rows)
        if reduces and root:
            self._reduced(self._apart(reduce, root, 1, Stream.GRADIENT, one))

    def _reduced(self, rows: list[int]) -> None:
        self.reducing += rows
        if not self.training.overlap_grad_reduce:
            self.lane.waits += rows

    def _apart(
        self,
        messages: Callable[[Training, int, str, int], list[Message]],
        units: Sequence[Unit],
        count: int,
        stream: Stream,
        one: Pass,
    ) -> list[int]:
        """Add the messages of some units' parameters or gradients; return their rows."""
        layers = f"layer {units[0].layer}" if units[0].kind == "layer" and count == 1 else ""
        label = f"{self._label(one)} {layers}".strip()
        return [
            row
            for kind in _KINDS
            for message in messages(self.training, sum(unit.elements(kind) for unit in units), kind, count)
            for row in self.lane.apart(message, label, stream, self.lane.last)
        ]


@dataclass(frozen=True, slots=True)
class _Step:
    """A segment of a sharded pass.

    ``gathers`` so many layers before it, begun at the start of segment ``issued``; ``reduces`` so many behind
    it.
    """

    segment: _Segment
    gathers: int
    issued: int
    reduces: int


def _ahead(segments: Sequence[_Segment], ahead: int) -> Iterator[_Step]:
    """Say when parameters are gathered and gradients reduced.

    A run of layers that is one row is cut in first, inner and last layer: all but the first are gathered from
    the first one's pass on, and all but the last are reduced from its end on. That takes as long as layer by
    layer.
    """
    index = 0
    for segment in segments:
        if segment.unit.kind != "layer":
            yield _Step(segment, 0, index, 0)
            index += 1
            continue
        count, sign = segment.count, 1 if segment.last >= segment.first else -1
        if count < 3:
            yield _Step(segment, count, max(0, index - ahead), count)
            index += 1
            continue
        first, last = segment.first, segment.last
        one = replace(segment, count=1, last=first)
        inner = replace(
            segment,
            unit=replace(segment.unit, layer=segment.unit.layer + sign),
            count=count - 2,
            first=first + sign,
            last=last - sign,
        )
        end = replace(
            segment, unit=replace(segment.unit, layer=segment.unit.layer + last - first), count=1, first=last
        )
        yield _Step(one, 1, max(0, index - ahead), count - 1)
        if ahead == 0:
            rest = replace(inner, count=count - 1, last=last)
            yield _Step(rest, count - 1, index + 1, 1)
            index += 2
            continue
        yield _Step(inner, 0, index, 0)
        yield _Step(end, count - 1, index, 1)
        index += 3


def _tag(chunk: int, forward: bool) -> int:
    """The tag of what a chunk sends to the next one, or back; 1 is ring attention's."""
    return 2 * chunk + (2 if forward else 3)


def _counted(found: Sequence[Bucket]) -> Iterator[tuple[Bucket, int]]:
    """Equal buckets one after another, with how many there are."""
    for bucket, same in groupby(found):
        yield bucket, len(list(same))


def _finish(training: Training, rows: Rows, stages: Sequence[_Stage], step: int) -> None:
    """Add what follows the passes: tied gradients, the gradients' norm, the optimizer."""
    layout, common = training.layout, {"step": step, "stream": int(Stream.COMPUTE)}
    if training.shape.tied and training.pipeline > 1:
        # Embedding and output have the same weights on two stages.
        ends = np.stack([layout.ranks(0), layout.ranks(training.pipeline - 1)], axis=1).ravel()
        table = training.padded.embedding()[0].local(training.tensor, 0)
        rows.add(
            "all_reduce",
            ends,
            bytes=math.prod(table) * DTYPES[training.grad_dtype],
            group_size=2,
            after=sorted({*stages[0].lane.waits, *stages[-1].lane.waits}) or None,
            name=BETWEEN_STAGES[1],
            **common,
        )
        stages[0].lane.waits, stages[-1].lane.waits = [], []
    for stage in stages:
        norm = elementwise(DTYPES[training.grad_dtype] * stage.own_parameters)
        stage.lane.items([Work("gradient norm", (norm,))], "")
    if training.n_ranks > 1:
        row = rows.add(
            "all_reduce",
            np.arange(training.n_ranks, dtype=np.int32),
            bytes=4,
            name=BETWEEN_STAGES[0],
            **common,
        )
        for stage in stages:
            stage.lane.last = (row,)
    for stage in stages:
        stage.lane.items([Work("optimizer", tuple(optimizer(stage.own_parameters)))], "")
        stage.gather_after()
