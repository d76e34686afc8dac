"""How a model is spread over ranks: tensor, pipeline, data and expert parallelism."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from fabricsim.errors import ConfigError
from fabricsim.workload.shapes import ModelShape, Tensor, part

__all__ = ["ORDERS", "Parallel", "Place", "local_tensors"]

#: Which degree counts fastest over the ranks: Megatron-LM's order, and that of MLPerf Storage (DLIO).
ORDERS = ("tp-dp-pp", "tp-pp-dp")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank stands: its number in each dimension, from 0."""

    tp: int
    pp: int
    dp: int


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """Degrees of parallelism, each at least 1; the world has tp x pp x dp ranks.

    Parameters
    ----------
    tp, pp, dp
        Tensor, pipeline and data parallelism.
    ep
        Expert parallelism, a divisor of ``dp``: data-parallel rank d holds part d mod ep of the experts.
    order
        ``tp-dp-pp`` or ``tp-pp-dp``: which dimension counts fastest over the ranks, first to last.

    >>> Parallel(tp=2, dp=4).place(5)
    Place(tp=1, pp=0, dp=2)
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    order: str = ORDERS[0]

    def __post_init__(self) -> None:
        problems = [
            f"{name}: found {getattr(self, name)}, allowed: at least 1"
            for name in ("tp", "pp", "dp", "ep")
            if getattr(self, name) < 1
        ]
        if not problems and self.dp % self.ep:
            problems.append(f"ep: found {self.ep}, allowed: a divisor of dp, {self.dp}")
        if self.order not in ORDERS:
            problems.append(f"order: found {self.order!r}, allowed: {', '.join(ORDERS)}")
        if problems:
            raise ConfigError(problems)

    @property
    def world(self) -> int:
        """How many ranks."""
        return self.tp * self.pp * self.dp

    @property
    def model_parallel(self) -> int:
        """Ranks that together hold the model once: tp x pp."""
        return self.tp * self.pp

    @cached_property
    def _strides(self) -> dict[str, int]:
        strides, step = {}, 1
        for name in self.order.split("-"):
            strides[name] = step
            step *= getattr(self, name)
        return strides

    def place(self, rank: int) -> Place:
        """Return where a rank stands."""
        return Place(*(rank // self._strides[name] % getattr(self, name) for name in ("tp", "pp", "dp")))

    def rank(self, tp: int, pp: int, dp: int) -> int:
        """Return the rank that stands there."""
        return tp * self._strides["tp"] + pp * self._strides["pp"] + dp * self._strides["dp"]

    def places(self) -> Iterator[tuple[int, Place]]:
        """Give every rank with its place, in ascending order."""
        for rank in range(self.world):
            yield rank, self.place(rank)

    def model_rank(self, place: Place) -> int:
        """Return the number of a rank among those that hold the model once, tp fastest."""
        return place.pp * self.tp + place.tp

    def data_groups(self) -> Iterator[tuple[int, int, list[int]]]:
        """Give (tp, pp, ranks) of each data-parallel group."""
        for pp in range(self.pp):
            for tp in range(self.tp):
                yield tp, pp, [self.rank(tp, pp, dp) for dp in range(self.dp)]


def local_tensors(
    shape: ModelShape, parallel: Parallel, tp: int, pp: int, ep: int
) -> tuple[list[tuple[tuple[int, ...], int]], list[tuple[tuple[int, ...], int]]]:
    """Return what a rank holds of the model: its dense tensors and those of its experts.

    Layers are spread evenly, the first stages one more; the embedding is on the first stage, last norm and
    output on the last. A tied output is there a second time when the last stage is not the first.

    Returns
    -------
    tuple
        Two lists of (local shape, how many of it).
    """
    first = sum(part(shape.layers, parallel.pp, stage) for stage in range(pp))
    groups = [shape.layer(index) for index in range(first, first + part(shape.layers, parallel.pp, pp))]
    if pp == 0:
        groups.insert(0, shape.embedding())
    if pp == parallel.pp - 1:
        groups.append(shape.output())
        if shape.tied and parallel.pp > 1:
            groups.append(tuple(t for t in shape.embedding() if t.name == "embedding"))
    dense: dict[tuple[int, ...], int] = {}
    experts: dict[tuple[int, ...], int] = {}
    for group in groups:
        for tensor in group:
            local = tensor.local(parallel.tp, tp)
            into, count = _counted(tensor, parallel.ep, ep, dense, experts)
            if count:
                into[local] = into.get(local, 0) + count
    return list(dense.items()), list(experts.items())


def _counted(
    tensor: Tensor,
    parts: int,
    index: int,
    dense: dict[tuple[int, ...], int],
    experts: dict[tuple[int, ...], int],
) -> tuple[dict[tuple[int, ...], int], int]:
    if not tensor.experts:
        return dense, 1
    return experts, part(tensor.experts, parts, index)
