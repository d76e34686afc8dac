"""Parameters of a rank, unit by unit, and in which pieces they are gathered and their gradients reduced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fabricsim.workload.shapes import Tensor
from fabricsim.workload.training.options import DTYPES, Training
from fabricsim.workload.training.parts import Message
from fabricsim.workload.training.schedule import layers_of

__all__ = ["Bucket", "Unit", "buckets", "gather", "reduce", "units_of"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A layer, the embedding or the output as a rank has it.

    Parameters
    ----------
    kind
        ``embedding``, ``layer`` or ``output``.
    layer
        Number of the layer; -1: none.
    moe
        Whether the layer has experts.
    dense, expert
        Elements of its parameters on the rank, one a tensor: what all data-parallel ranks have, and of
        experts.
    """

    kind: str
    layer: int
    moe: bool
    dense: tuple[int, ...]
    expert: tuple[int, ...]

    def alike(self, other: Unit) -> bool:
        """Tell whether both run the same kernels."""
        return self.kind == other.kind == "layer" and self.moe == other.moe

    def elements(self, kind: str) -> int:
        """Elements of the dense or expert parameters."""
        return sum(self.dense if kind == "dense" else self.expert)


def units_of(training: Training) -> list[list[list[Unit]]]:
    """Return what each chunk of each stage has, found[stage][chunk], in the order of the forward pass.

    A tied output that is not on the embedding's stage has a copy of it.
    """
    shape, stages, chunks = training.padded, training.pipeline, training.virtual

    def unit(kind: str, tensors: Sequence[Tensor], layer: int = -1) -> Unit:
        dense = tuple(math.prod(t.local(training.tensor, 0)) for t in tensors if not t.experts)
        each = ((t.experts // training.expert, t) for t in tensors if t.experts)
        expert = tuple(count * math.prod(t.local(training.expert_tensor, 0)) for count, t in each)
        return Unit(kind, layer, kind == "layer" and shape.is_moe(layer), dense, expert)

    kinds = {moe: shape.layer(shape.layers - 1 if moe else 0) for moe in (True, False)}
    found = []
    for stage, own in enumerate(layers_of(shape.layers, stages, chunks)):
        found.append([[unit("layer", kinds[shape.is_moe(i)], i) for i in layers] for layers in own])
        if stage == 0:
            found[0][0].insert(0, unit("embedding", shape.embedding()))
    output = list(shape.output())
    if shape.tied and stages > 1:
        output.append(shape.embedding()[0])
    found[-1][-1].append(unit("output", output))
    return found


@dataclass(frozen=True, slots=True)
class Bucket:
    """Gradients that are reduced together: ``first`` to ``last`` are positions of units, backward order."""

    elements: int
    first: int
    last: int


def buckets(units: Sequence[Unit], kind: str, limit: int) -> list[Bucket]:
    """Return the buckets of some units' gradients, as they become ready in the backward pass.

    Tensors are taken from the last unit's last one on, until they have ``limit`` elements or more.

    >>> layers = [Unit("layer", 0, False, (4, 4), ())] * 2
    >>> [(b.elements, b.first, b.last) for b in buckets(layers, "dense", 6)]
    [(8, 1, 1), (8, 0, 0)]
    """
    found, size, first = [], 0, len(units) - 1
    for position in reversed(range(len(units))):
        tensors = units[position].dense if kind == "dense" else units[position].expert
        for elements in reversed(tensors):
            if size == 0:
                first = position
            size += elements
            if size >= limit:
                found.append(Bucket(size, first, position))
                size = 0
    if size:
        found.append(Bucket(size, first, 0))
    return found


def reduce(training: Training, elements: int, kind: str, count: int = 1) -> list[Message]:
    """Return the messages that sum gradients over the ranks that have the same parameters."""
    size = DTYPES[training.grad_dtype]
    group = "dp_cp" if kind == "dense" else "edp"
    name = "gradients" if kind == "dense" else "expert gradients"
    ranks = training.layout.size(group)
    if ranks == 1 or not elements:
        return []
    if training.fsdp == "hybrid":
        cut = training.padded_elements(elements, training.layout.size("shard")) * size
        own = cut // training.layout.size("shard")
        return [
            Message(name, "reduce_scatter", "shard", cut, count),
            Message(name, "all_reduce", "replica", own, count),
        ]
    if training.zero or training.fully_sharded:
        return [
            Message(name, "reduce_scatter", group, training.padded_elements(elements, ranks) * size, count)
        ]
    return [Message(name, "all_reduce", group, elements * size, count)]


def gather(training: Training, elements: int, kind: str, count: int = 1) -> list[Message]:
    """Return the messages that gather parameters from the ranks that have parts of them."""
    size = DTYPES[training.param_dtype]
    group = "edp" if kind == "expert" else "shard" if training.fsdp == "hybrid" else "dp_cp"
    name = "parameters" if kind == "dense" else "expert parameters"
    ranks = training.layout.size(group)
    if ranks == 1 or not elements:
        return []
    return [Message(name, "all_gather", group, training.padded_elements(elements, ranks) * size, count)]
