"""The rows of an imported I/O trace as arrays, and how ranks that do the same are put into one row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim.trace.schema import TRACE_SCHEMA, metadata

Ints = npt.NDArray[np.int64]


class Rows:
    """Storage rows of single ranks or, merged, of sets of them; numbers are ids and places in the order.

    Parameters
    ----------
    count
        How many rows.
    names
        The paths of the files, patterns escaped.
    timed
        Whether delays and measured times are kept.
    """

    def __init__(self, count: int, names: list[str], timed: bool) -> None:
        self.names, self.timed = names, timed
        self.kind = np.full(count, "", "<U5")
        self.file, self.offset, self.length = (np.zeros(count, np.int64) for _ in range(3))
        self.start_ps, self.end_ps = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
        self.delay = np.zeros(count, np.int64)
        self.create = np.zeros(count, bool)
        self.stride = np.zeros(count, np.int64)
        self.rank_offsets = np.arange(count + 1)
        self.ranks = np.zeros(count, np.int64)
        self._waits: list[tuple[Ints, Ints]] = []

    def put(
        self,
        at: Ints,
        kind: str,
        rank: Ints,
        file: Ints,
        *,
        delay: Ints | int = 0,
        create: npt.NDArray[np.bool_] | bool = False,
    ) -> None:
        """Set rows of one kind."""
        self.kind[at], self.ranks[at], self.file[at], self.create[at] = kind, rank, file, create
        if self.timed:
            self.delay[at] = delay

    def wait(self, rows: Ints, targets: Ints) -> None:
        """Let rows wait for others; -1 is none."""
        known = targets >= 0
        self._waits.append((rows[known], targets[known]))

    def waits(self) -> tuple[Ints, Ints]:
        """Return the offsets and values of the lists of what rows wait for, ascending, each once."""
        rows, targets = (np.concatenate(parts) for parts in zip(*self._waits, strict=True))
        n = len(self.kind)
        pairs = np.sort(rows * n + targets)
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        return np.searchsorted(pairs // n, np.arange(n + 1)), pairs % n

    def table(self, provenance: Mapping[str, Any]) -> pa.Table:
        """Return the trace's table."""
        n = len(self.kind)
        offsets, targets = self.waits()
        moves = np.isin(self.kind, ("read", "write"))
        columns: dict[str, pa.Array] = {
            "id": pa.array(np.arange(n)),
            "kind": pa.array(self.kind.tolist(), pa.string()).cast(TRACE_SCHEMA.field("kind").type),
            "ranks": pa.ListArray.from_arrays(
                pa.array(self.rank_offsets.astype(np.int32)), pa.array(self.ranks.astype(np.int32))
            ),
            "bytes": pa.array(self.length, mask=~moves),
            "after": pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(targets)),
            "file": pa.array(self.names, pa.string()).take(pa.array(self.file)),
            "offset": pa.array(self.offset, mask=~moves),
            "flags": pa.array(np.where(self.create, "create", ""), mask=~self.create),
        }
        if self.timed:
            measured = self.start_ps >= 0
            columns |= {
                "delay_ps": pa.array(self.delay),
                "start_ps": pa.array(self.start_ps, mask=~measured),
                "end_ps": pa.array(self.end_ps, mask=~measured),
            }
        if self.stride.any():
            columns["stride"] = pa.array(self.stride, mask=~moves)
        fields = [field for field in TRACE_SCHEMA if field.name in columns]
        return pa.table(
            [columns[field.name] for field in fields], schema=pa.schema(fields, metadata(provenance))
        )


def merge(rows: Rows) -> Rows:
    """Put rows of different ranks into one where that is exact: all alike but for rank and place in the file.

    The places of such a row go on by one stride; what each rank waits for is in the same rows. Delays and
    measured times must not be kept.
    """
    offsets, targets = rows.waits()
    group_of: list[int] = []
    numbers: dict[tuple[int, ...], int] = {}
    members: list[list[int]] = []
    joined: list[set[int]] = []
    begins, waits = offsets.tolist(), targets.tolist()
    like = _alike(rows)
    for row, rank in enumerate(rows.ranks.tolist()):
        key = (like[row], *sorted({group_of[t] for t in waits[begins[row] : begins[row + 1]]}))
        group = numbers.get(key, -1)
        # A rank that does the same twice at once begins another group.
        if group < 0 or rank in joined[group]:
            group = numbers[key] = len(members)
            members.append([])
            joined.append(set())
        members[group].append(row)
        joined[group].add(rank)
        group_of.append(group)
    return _merged(rows, members, offsets, targets)


def _alike(rows: Rows) -> list[int]:
    """Number what rows do: kind, file, bytes and whether the file is made."""
    number = np.zeros(len(rows.kind), np.int64)
    for values in (rows.kind, rows.file, rows.length, rows.create):
        different, code = np.unique(values, return_inverse=True)
        _, number = np.unique(number * len(different) + code, return_inverse=True)
    return [int(n) for n in number]


def _merged(rows: Rows, members: list[list[int]], offsets: Ints, targets: Ints) -> Rows:
    made: list[tuple[list[int], int]] = []
    for group in members:
        made += _runs(rows, group)
    made.sort(key=lambda run: min(run[0]))
    into = np.zeros(len(rows.kind), np.int64)
    for number, (group, _) in enumerate(made):
        into[group] = number
    first = np.array([group[0] for group, _ in made], np.int64)
    merged = Rows(len(made), rows.names, False)
    for name in ("kind", "file", "offset", "length", "create"):
        getattr(merged, name)[:] = getattr(rows, name)[first]
    merged.stride[:] = [stride for _, stride in made]
    lengths = np.array([len(group) for group, _ in made])
    merged.rank_offsets = np.concatenate([[0], np.cumsum(lengths)])
    merged.ranks = rows.ranks[np.concatenate([np.array(group, np.int64) for group, _ in made])]
    owner = np.repeat(np.arange(len(rows.kind)), np.diff(offsets))
    merged.wait(into[owner], into[targets])
    return merged


def _runs(rows: Rows, group: list[int]) -> list[tuple[list[int], int]]:
    """Cut a group, in the order of its places, where the distance of one place to the next changes."""
    found = np.array(group, np.int64)
    found = found[np.lexsort((rows.ranks[found], rows.offset[found]))]
    runs: list[tuple[list[int], int]] = []
    end = 0  # the place in the file of the last row of the last run
    for row, offset in zip(found.tolist(), rows.offset[found].tolist(), strict=True):
        run, stride = runs[-1] if runs else ([], 0)
        if len(run) == 1 or (run and offset - end == stride):
            run.append(row)
            runs[-1] = (run, offset - end)
        else:
            runs.append(([row], 0))
        end = offset
    return runs
