"""Which rank saves which file of how many bytes: DDP, ZeRO 1 to 3, FSDP, and model parallelism of all kinds.

Bytes are those of the tensors. What a file format adds (2.5 KB or so a file with ``torch.save``), random
number states, schedules and counters are left out; so is padding of shards to a multiple.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from fabricsim.checkpoint.parallel import Parallel, Place, local_tensors
from fabricsim.errors import ConfigError, unknown_name
from fabricsim.workload.shapes import ModelShape, part

__all__ = ["OPTIMISERS", "PRECISIONS", "SHARDINGS", "Checkpoint", "Optimiser", "ShardFile"]

#: Bytes of a weight as it is saved.
PRECISIONS: dict[str, int] = {"bf16": 2, "fp16": 2, "fp32": 4}


@dataclass(frozen=True, slots=True)
class Optimiser:
    """What an optimiser keeps of each parameter, in fp32 unless said otherwise.

    ``copies`` are whole copies of the weights, ``item_bytes`` the bytes of an element (0: as the weights);
    ``factored`` states keep a row and a column of each matrix instead.
    """

    name: str
    copies: int
    meaning: str
    item_bytes: int = 4
    factored: bool = False

    def bytes_per_parameter(self, weight_bytes: int) -> int:
        """Return the bytes that a parameter takes beside its weight; factored states come on top."""
        return self.copies * (self.item_bytes or weight_bytes)


#: Optimisers by name. The mixed ones keep a master copy of the weights in fp32.
OPTIMISERS: dict[str, Optimiser] = {
    one.name: one
    for one in (
        Optimiser("adam-mixed", 3, "master weights and two moments: 12 bytes a parameter"),
        Optimiser("adam", 2, "two moments: 8 bytes a parameter"),
        Optimiser("adam-low", 2, "two moments in the weights' own precision", 0),
        Optimiser("sgd-momentum-mixed", 2, "master weights and momentum: 8 bytes a parameter"),
        Optimiser("sgd-momentum", 1, "momentum: 4 bytes a parameter"),
        Optimiser(
            "adafactor", 0, "a row and a column of second moments of a matrix, all of a vector", factored=True
        ),
        Optimiser("none", 0, "the weights alone"),
    )
}

#: How state is cut over the data-parallel ranks.
SHARDINGS: dict[str, str] = {
    "ddp": "the first data-parallel rank saves weights and optimiser",
    "zero1": "the first saves the weights, every rank its part of the optimiser",
    "zero2": "as zero1; gradients, which are cut too, are not saved",
    "zero3": "every rank saves its part of the weights, and of the optimiser in a second file",
    "fsdp": "every rank saves one file with its part of both",
    "fsdp-full": "all is gathered on rank 0, which saves one file",
}


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file of a checkpoint: the rank that saves it, its name, its bytes, what it holds, who needs it.

    ``holds`` is ``weights``, ``optimiser`` or ``state`` (both). ``scope`` says which ranks need it in a
    restore: ``rank`` the one that saved it, ``data`` its data-parallel group, ``expert`` those of the group
    that have the same experts, ``world`` all.
    """

    rank: int
    name: str
    bytes: int
    holds: str
    scope: str = "rank"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What is saved of a model.

    Parameters
    ----------
    shape
        The model.
    sharding
        A key of ``SHARDINGS``.
    parallel
        Degrees of parallelism.
    weights
        Precision of the weights, a key of ``PRECISIONS``.
    optimiser
        A key of ``OPTIMISERS``.
    vocab_multiple
        The embedding's rows are rounded up to a multiple of this times tp; Megatron-LM's default is 128.

    Raises
    ------
    ConfigError
        With all that does not fit.

    >>> from fabricsim.workload.shapes import named_shape
    >>> checkpoint = Checkpoint(shape=named_shape("llama3-8b"), sharding="zero3", parallel=Parallel(dp=8))
    >>> checkpoint.total_bytes == 14 * 8_030_261_248, len(checkpoint.files)
    (True, 16)
    """

    shape: ModelShape
    sharding: str = "fsdp"
    parallel: Parallel = field(default_factory=Parallel)
    weights: str = "bf16"
    optimiser: str = "adam-mixed"
    vocab_multiple: int = 1

    def __post_init__(self) -> None:
        problems = [
            unknown_name(what, name, known)
            for what, name, known in (
                ("sharding", self.sharding, SHARDINGS),
                ("precision", self.weights, PRECISIONS),
                ("optimiser", self.optimiser, OPTIMISERS),
            )
            if name not in known
        ]
        parallel, shape = self.parallel, self.shape
        for name, degree, most, what in (
            ("pp", parallel.pp, shape.layers, "layers"),
            ("tp", parallel.tp, shape.heads, "heads"),
            ("ep", parallel.ep, shape.experts or 1, "experts"),
        ):
            if degree > most:
                problems.append(
                    f"{name}: found {degree}, allowed: at most {most}, the {what} of {shape.name}"
                )
        if self.vocab_multiple < 1:
            problems.append(f"vocab_multiple: found {self.vocab_multiple}, allowed: at least 1")
        if self.sharding == "fsdp-full" and parallel.world != parallel.dp:
            problems.append("sharding: found fsdp-full with tp or pp, allowed: data parallelism alone")
        if self.sharding == "fsdp-full" and parallel.ep > 1:
            problems.append("sharding: found fsdp-full with ep, allowed: data parallelism alone")
        factored = self.optimiser in OPTIMISERS and OPTIMISERS[self.optimiser].factored
        if factored and self.sharding not in ("ddp", "fsdp-full"):
            problems.append(
                f"optimiser: found {self.optimiser} with {self.sharding}, allowed: ddp and fsdp-full, as its"
                " states are of whole matrices"
            )
        if problems:
            raise ConfigError(problems)

    @cached_property
    def _padded(self) -> ModelShape:
        if self.vocab_multiple == 1:
            return self.shape
        return self.shape.padded(self.vocab_multiple * self.parallel.tp)

    @cached_property
    def files(self) -> tuple[ShardFile, ...]:
        """Every file, by rank; empty ones are left out."""
        found = [file for rank, place in self.parallel.places() for file in self._files_of(rank, place)]
        return tuple(file for file in found if file.bytes)

    @cached_property
    def total_bytes(self) -> int:
        """The bytes of all files."""
        return sum(file.bytes for file in self.files)

    def gradients(self) -> list[tuple[list[int], int]]:
        """Return (ranks, bytes) of the all-reduces of a step's gradients, in the precision of the weights."""
        parallel, size, found = self.parallel, PRECISIONS[self.weights], []
        for tp, pp, ranks in parallel.data_groups():
            groups = [(ranks, self._held(tp, pp, 0)[0][0])]
            for ep in range(parallel.ep):
                groups.append((ranks[ep :: parallel.ep], self._held(tp, pp, ep)[1][0]))
            found += [(some, elements * size) for some, elements in groups if len(some) > 1 and elements]
        return found

    def _held(self, tp: int, pp: int, ep: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return elements, and bytes of factored states, of the dense tensors and of the experts there."""
        key = (tp, pp, ep)
        if key not in self._cache:
            optimiser = OPTIMISERS[self.optimiser]
            found = []
            for tensors in local_tensors(self._padded, self.parallel, tp, pp, ep):
                elements = sum(math.prod(shape) * count for shape, count in tensors)
                factors = sum(_factored(shape) * count for shape, count in tensors)
                found.append((elements, 4 * factors if optimiser.factored else 0))
            self._cache[key] = (found[0], found[1])
        return self._cache[key]

    @cached_property
    def _cache(self) -> dict[tuple[int, int, int], tuple[tuple[int, int], tuple[int, int]]]:
        return {}

    def _files_of(self, rank: int, place: Place) -> list[ShardFile]:
        parallel = self.parallel
        weight_bytes = PRECISIONS[self.weights]
        state_bytes = OPTIMISERS[self.optimiser].bytes_per_parameter(weight_bytes)
        model = parallel.model_rank(place)
        (dense, _), (expert, _) = self._held(place.tp, place.pp, place.dp % parallel.ep)
        # What it saves when all data-parallel ranks take a part.
        cut = part(dense, parallel.dp, place.dp)
        cut += part(expert, parallel.dp // parallel.ep, place.dp // parallel.ep)
        if self.sharding in ("ddp", "fsdp-full"):
            item_bytes = weight_bytes + state_bytes
            name = "full_state" if self.sharding == "fsdp-full" else f"mp_rank_{model}_state"
            return self._whole(rank, place, name, "state", item_bytes)
        if self.sharding == "fsdp":
            return [ShardFile(rank, f"__{rank}_0", cut * (weight_bytes + state_bytes), "state")]
        name = f"zero_pp_rank_{place.dp}_mp_rank_{model}"
        optimiser = ShardFile(rank, f"{name}_optim_states", cut * state_bytes, "optimiser")
        if self.sharding == "zero3":
            return [ShardFile(rank, f"{name}_model_states", cut * weight_bytes, "weights"), optimiser]
        name = f"mp_rank_{model}_model_states"
        return [*self._whole(rank, place, name, "weights", weight_bytes), optimiser]

    def _whole(self, rank: int, place: Place, name: str, holds: str, item_bytes: int) -> list[ShardFile]:
        """Return what is saved uncut, by the first data-parallel rank that has it.

        Experts have a file of their own when other ranks have others.
        """
        parallel = self.parallel
        (dense, factors), (expert, expert_factors) = self._held(place.tp, place.pp, place.dp % parallel.ep)
        scope = "world" if self.sharding == "fsdp-full" else "data"
        first, own = dense * item_bytes + factors, expert * item_bytes + expert_factors
        if parallel.ep == 1:
            first, own = first + own, 0
        found = [ShardFile(rank, name, first, holds, scope)] if place.dp == 0 else []
        if place.dp < parallel.ep:
            found.append(ShardFile(rank, f"{name}_experts_{place.dp}", own, holds, "expert"))
        return found


def _factored(shape: tuple[int, ...]) -> int:
    """Return the elements of a tensor's factored second moment: Adafactor, arXiv 1804.04235, section 3."""
    return sum(shape) if len(shape) > 1 else math.prod(shape)
