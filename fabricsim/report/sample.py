"""What a report shows of many ranks and operations: the ranks it picks, and their operations as arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fabricsim.result import Result

__all__ = ["Sample", "one_array", "pattern", "sample", "sample_of", "spread"]

#: Operations of ranks that are looked at one by one, about; ranks that are looked at.
MOST_ROWS, MOST_RANKS = 1_000_000, 64

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, eq=False)
class Sample:
    """The finished operations of some ranks, by rank, then stream, then start; picoseconds.

    ``ranks`` are evenly spread; those of ``extremes`` (rank -> what it is extreme in) are there besides.
    ``kind`` and ``name`` index ``kinds`` and ``names``; ``stream`` and ``step`` are -1 where there is none.
    """

    n_ranks: int
    ranks: np.ndarray
    extremes: dict[int, str]
    rank: np.ndarray
    stream: np.ndarray
    step: np.ndarray
    kind: np.ndarray
    kinds: tuple[str, ...]
    name: np.ndarray
    names: tuple[str, ...]
    start: np.ndarray
    end: np.ndarray
    id: np.ndarray
    size: np.ndarray
    group: np.ndarray
    count: np.ndarray

    def even(self) -> Sample:
        """Return the operations of the evenly spread ranks alone, for means over them."""
        return self.of_ranks(self.ranks)

    def representative(self, most: int) -> list[int]:
        """Return at most so many ranks: the extremes, and others with operations, evenly spread."""
        busy = np.intersect1d(self.ranks, self.rank)
        if len(busy) <= most and len(self.ranks) == self.n_ranks:
            return busy.tolist()
        others = np.setdiff1d(busy, list(self.extremes))
        some = others[spread(len(others), most - len(self.extremes))]
        return sorted({*self.extremes, *some.tolist()})

    def of_ranks(self, ranks: np.ndarray) -> Sample:
        """Return the operations of some of the ranks."""
        mine = np.isin(self.rank, ranks)
        columns = ("rank", "stream", "step", "kind", "name", "start", "end", "id", "size", "group", "count")
        picked = {name: getattr(self, name)[mine] for name in columns}
        extremes = {rank: why for rank, why in self.extremes.items() if rank in ranks}
        return replace(self, ranks=ranks, extremes=extremes, **picked)

    def rows_of(self, operation: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Return where an operation (by id) of a rank is in the arrays, -1 where it is not."""
        if not len(self.id) or not len(operation):
            return np.full(len(operation), -1, np.int64)
        stride = int(max(self.id.max(), operation.max())) + 1
        keys = self.rank * stride + self.id
        order = np.argsort(keys, kind="stable")
        wanted = rank.astype(np.int64) * stride + operation
        at = np.minimum(np.searchsorted(keys[order], wanted), len(order) - 1)
        return np.where((keys[order][at] == wanted) & (operation >= 0), order[at], -1)

    def told(self) -> str:
        """Say which ranks these are, for the words under a figure."""
        if len(self.ranks) == self.n_ranks:
            return f"all {self.n_ranks:,} ranks" if self.n_ranks > 1 else "the one rank"
        return f"{len(self.ranks):,} of {self.n_ranks:,} ranks, evenly spread"


def sample(result: Result, most_ranks: int = MOST_RANKS, most_rows: int = MOST_ROWS) -> Sample:
    """Read the operations of ranks that are evenly spread over all: so many that their rows stay few.

    Parameters
    ----------
    result
        Of a replay.
    most_ranks, most_rows
        How many at most; one rank is always read.
    """
    n_ranks = max(1, result.ranks.num_rows)
    each = max(1, result.ops.num_rows // n_ranks)
    ranks = spread(n_ranks, max(1, min(most_ranks, most_rows // each)))
    return sample_of(result, ranks, _extremes(result.ranks))


def sample_of(result: Result, ranks: np.ndarray, extremes: dict[int, str] | None = None) -> Sample:
    """Read the operations of some ranks, and of those of ``extremes`` besides."""
    ops, extremes = result.ops, extremes or {}
    n_ranks = max(1, result.ranks.num_rows)
    if len(ranks) < n_ranks:
        wanted = sorted({*ranks.tolist(), *extremes})
        ops = ops.filter(pc.is_in(ops["rank"], pa.array(wanted, pa.int32())))
    ops = ops.filter(pc.and_(ops["start_ps"].is_valid(), ops["end_ps"].is_valid()))
    rank, stream = (ops[name].fill_null(-1).to_numpy().astype(np.int64) for name in ("rank", "stream"))
    start, end = ops["start_ps"].to_numpy(), ops["end_ps"].to_numpy()
    order = np.lexsort((start, stream, rank))
    kind, kinds = _coded(ops["kind"])
    name, names = _coded(ops["name"])
    return Sample(
        n_ranks=n_ranks,
        ranks=ranks,
        extremes=extremes,
        rank=rank[order],
        stream=stream[order],
        step=ops["step"].fill_null(-1).to_numpy()[order],
        kind=kind[order],
        kinds=kinds,
        name=name[order],
        names=names,
        start=start[order],
        end=end[order],
        id=ops["id"].to_numpy()[order],
        size=ops["bytes"].to_numpy()[order],
        group=_numbers(ops, "group", 0)[order],
        count=_numbers(ops, "count", 1)[order],
    )


def spread(count: int, most: int) -> np.ndarray:
    """Return at most so many of the numbers below ``count``, evenly spread, the first and last among them.

    >>> spread(10, 4).tolist(), spread(3, 4).tolist()
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if count <= most:
        return np.arange(count)
    return np.arange(most) * (count - 1) // max(1, most - 1)


def _extremes(ranks: pa.Table) -> dict[int, str]:
    """Return the ranks that have most of something, and of what."""
    found: dict[int, str] = {}
    for name, why in (
        ("idle_ps", "idle for longest"),
        ("exposed_communication_ps", "most exposed communication"),
        ("compute_ps", "most compute"),
    ):
        values = ranks[name].to_numpy()
        if len(values) and values.max() > values.min():
            found.setdefault(int(ranks["rank"][int(np.argmax(values))].as_py()), why)
    return found


def pattern(name: str) -> str:
    """Return a name with its numbers as ``#``: the layers of a model are alike.

    >>> pattern("layer 12 gradients DP")
    'layer # gradients DP'
    """
    return _DIGITS.sub("#", name)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        return array.chunk(0) if array.num_chunks else pa.array([], array.type)
    return array


def _numbers(ops: pa.Table, name: str, else_: int) -> np.ndarray:
    """Return a column that results of older versions have not."""
    if name not in ops.column_names:
        return np.full(ops.num_rows, else_, np.int64)
    return ops[name].to_numpy().astype(np.int64)


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return codes (-1 for null) and what they mean of a column of text."""
    array = one_array(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, tuple(array.dictionary.to_pylist())
