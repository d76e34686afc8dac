"""A trace's columns as flat numpy arrays, for checks and lowering without a loop over rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fabricsim.trace.schema import BY_NAME, KIND_CODE

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NUMPY = {pa.int64(): np.int64, pa.int32(): np.int32, pa.float64(): np.float64}


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; raise ArrowInvalid when it is too large for one."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


@dataclass(frozen=True)
class Flat:
    """A column of numbers: ``values`` (0 where null) and ``given`` (True where not null), one entry a row."""

    values: npt.NDArray
    given: Bools


@dataclass(frozen=True)
class Words:
    """A column of strings: the different ``words``, and by row ``code``, an index into them (-1: null)."""

    words: list[str]
    code: Ints

    @property
    def given(self) -> Bools:
        """True where not null."""
        mask: Bools = self.code >= 0
        return mask

    def at(self, row: int) -> str | None:
        """Return the string of one row."""
        return self.words[self.code[row]] if self.code[row] >= 0 else None

    def where(self, chosen: Mapping[int, object]) -> Ints:
        """Return the rows whose word is one of those numbered."""
        wanted = np.zeros(len(self.words) + 1, bool)
        wanted[list(chosen)] = True
        return np.flatnonzero(wanted[self.code])


@dataclass(frozen=True)
class Lists:
    """A column of lists: ``offsets`` (rows + 1), flat ``values`` and ``given`` (True where not null)."""

    offsets: Ints
    values: npt.NDArray
    given: Bools
    null_entries: int

    @cached_property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    @cached_property
    def row(self) -> Ints:
        """The row of each flat value."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def of(self, rows: Ints) -> tuple[Ints, npt.NDArray]:
        """Return (index into ``rows``, value) for every value of the given rows, in order."""
        at, which = spread(self.offsets, rows)
        return which, self.values[at]

    def at(self, row: int) -> list[int]:
        """Return the list of one row."""
        return [int(v) for v in self.values[self.offsets[row] : self.offsets[row + 1]]]


def spread(offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Return the flat positions of the lists of ``rows``, in order, and the index into ``rows`` of each."""
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    if (lengths == 1).all():  # a capture: rows of one rank
        return starts, np.arange(len(rows))
    which = np.repeat(np.arange(len(rows)), lengths)
    first = np.cumsum(lengths) - lengths
    return np.arange(len(which)) - first[which] + starts[which], which


class View:
    """Lazily made numpy views of the columns of a normalised trace table.

    Parameters
    ----------
    table
        A table as ``schema.normalise`` returns it.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.n = table.num_rows
        self._flat: dict[str, Flat] = {}
        self._lists: dict[str, Lists] = {}
        self._words: dict[str, Words] = {}

    def array(self, name: str) -> pa.Array | None:
        """Return a column as one Arrow array, or None when the trace lacks it."""
        return one_array(self.table.column(name)) if name in self.table.column_names else None

    def flat(self, name: str) -> Flat:
        """Return a column of numbers; a missing column is all null."""
        if name not in self._flat:
            array = self.array(name)
            kind = _NUMPY[BY_NAME[name].type]
            if array is None:
                made = Flat(np.zeros(self.n, kind), np.zeros(self.n, bool))
            elif array.null_count:
                given = array.is_valid().to_numpy(zero_copy_only=False)
                made = Flat(array.fill_null(0).to_numpy(zero_copy_only=False), given)
            else:
                made = Flat(array.to_numpy(zero_copy_only=False), np.ones(self.n, bool))
            self._flat[name] = made
        return self._flat[name]

    def lists(self, name: str) -> Lists:
        """Return a column of lists; a missing column is all null, a null list is empty."""
        if name not in self._lists:
            array = self.array(name)
            kind = _NUMPY[BY_NAME[name].type.value_type]
            if array is None:
                made = Lists(np.zeros(self.n + 1, np.int64), np.zeros(0, kind), np.zeros(self.n, bool), 0)
            else:
                lengths = pc.list_value_length(array)
                given = np.ones(self.n, bool)
                if array.null_count:
                    given = array.is_valid().to_numpy(zero_copy_only=False)
                    lengths = lengths.fill_null(0)
                offsets = np.zeros(self.n + 1, np.int64)
                np.cumsum(lengths.to_numpy(zero_copy_only=False), out=offsets[1:])
                values = array.flatten()
                nulls = values.null_count
                values = values.fill_null(-1) if nulls else values
                made = Lists(offsets, values.to_numpy(zero_copy_only=False), given, nulls)
            self._lists[name] = made
        return self._lists[name]

    def words(self, name: str) -> Words:
        """Return a column of strings; a missing column is all null."""
        if name not in self._words:
            array = self.array(name)
            if array is None:
                made = Words([], np.full(self.n, -1, np.int64))
            else:
                array = array.dictionary_encode()
                code = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
                made = Words(array.dictionary.to_pylist(), code)
            self._words[name] = made
        return self._words[name]

    @cached_property
    def kind(self) -> npt.NDArray[np.int8]:
        """The code of each row's kind (its index in KINDS); -1 where null or unknown."""
        array = one_array(self.table.column("kind"))
        words = array.dictionary.to_pylist()
        codes = np.array([KIND_CODE.get(word, -1) for word in words] + [-1], np.int8)
        indices = array.indices
        if indices.null_count:
            indices = indices.fill_null(-1)
        found: npt.NDArray[np.int8] = codes[indices.to_numpy(zero_copy_only=False)]
        return found

    @cached_property
    def known(self) -> Bools:
        """True for rows whose kind is known."""
        mask: Bools = self.kind >= 0
        return mask

    def is_kind(self, *kinds: str) -> Bools:
        """Return True for rows of these kinds."""
        chosen = np.zeros(129, bool)
        for kind in kinds:
            chosen[KIND_CODE[kind]] = True
        mask: Bools = chosen[self.kind]
        return mask

    @cached_property
    def ranks(self) -> Lists:
        return self.lists("ranks")

    @cached_property
    def peer(self) -> Lists:
        return self.lists("peer")

    @cached_property
    def counts(self) -> Ints:
        """How many times each row happens."""
        count = self.flat("count")
        return np.where(count.given, count.values, 1)

    @cached_property
    def group_sizes(self) -> Ints:
        """The ranks of a group of each row: all of its ranks where it has no groups."""
        size = self.flat("group_size").values.astype(np.int64)
        return np.where(size > 0, size, np.maximum(self.ranks.lengths, 1))

    @cached_property
    def rows_by_id(self) -> tuple[Ints, Ints | None]:
        """The ids in ascending order, and the row of each (None when rows are in that order)."""
        ids = self.flat("id").values
        if self.n < 2 or bool(np.all(ids[1:] > ids[:-1])):
            return ids, None
        order = np.argsort(ids, kind="stable")
        return ids[order], order

    def row_of(self, ids: Ints) -> Ints:
        """Return the row of each id, -1 where there is none."""
        known, order = self.rows_by_id
        if self.n == 0 or len(ids) == 0:
            return np.full(len(ids), -1, np.int64)
        first, last = int(known[0]), int(known[-1])
        if order is None and last - first == self.n - 1:
            # Ids without gaps in row order: the usual case, and only a subtraction.
            return np.where((ids >= first) & (ids <= last), ids - first, -1)
        at = np.minimum(np.searchsorted(known, ids), self.n - 1)
        found = at if order is None else order[at]
        return np.where(known[at] == ids, found, -1)

    @cached_property
    def edges(self) -> tuple[Ints, Ints, Ints]:
        """The dependencies of ``after``: row, the row it waits for (-1: unknown), and the id named."""
        after = self.lists("after")
        return after.row, self.row_of(after.values), after.values

    @cached_property
    def ascending(self) -> Bools:
        """True for rows whose ranks ascend, as they usually do."""
        ranks, found = self.ranks, np.ones(self.n, bool)
        drops = ranks.values[1:] <= ranks.values[:-1]
        # The step from one row to the next says nothing.
        ends = ranks.offsets[1:-1]
        drops[ends[(ends > 0) & (ends < len(ranks.values))] - 1] = False
        at = np.flatnonzero(drops)
        if len(at):
            found[np.searchsorted(ranks.offsets, at, side="right") - 1] = False
        return found

    def rank_sets(self, rows: Ints) -> tuple[Ints, Ints]:
        """Number the rank lists of some rows: return the number of each, and one row of each number.

        Equal lists share a number. Exact: lists that a hash puts together are compared with the first of
        them, and set apart if they differ.
        """
        at, ranks = self.ranks.of(rows)
        lengths = self.ranks.lengths[rows]
        ends = np.cumsum(lengths)
        starts = ends - lengths
        # Multiplication by odd numbers that depend on value and position, summed a row.
        mixed = (ranks.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        place = (np.arange(len(mixed)) - starts[at]).astype(np.uint64)
        mixed *= place * np.uint64(0xD1342543DE82EF96) + np.uint64(0x2545F4914F6CDD1D)
        total = np.zeros(len(mixed) + 1, np.uint64)
        np.cumsum(mixed, out=total[1:])
        encoded = pa.array(total[ends] - total[starts]).dictionary_encode()
        number = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        first = np.zeros(len(encoded.dictionary), np.int64)
        first[number[::-1]] = np.arange(len(rows))[::-1]
        like = first[number]
        differs = lengths != lengths[like]
        here = np.flatnonzero(~differs[at])
        there = starts[like[at[here]]] + here - starts[at[here]]
        differs[at[here][ranks[here] != ranks[there]]] = True
        alone = np.flatnonzero(differs)
        number[alone] = len(first) + np.arange(len(alone))
        return number, rows[np.concatenate([first, alone])]
