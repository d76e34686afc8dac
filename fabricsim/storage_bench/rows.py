"""Rows of storage operations of many ranks, column by column: a benchmark has one for each transfer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim.trace import Trace
from fabricsim.trace import schema as trace_schema

__all__ = ["PhaseRows", "Times", "path_in", "tell_refusals"]

Ints = npt.NDArray[np.int64]

# Columns beside id, kind, ranks and stream.
_COLUMNS = ("bytes", "delay_ps", "file", "offset", "stride", "flags", "new_file")


class PhaseRows:
    """Rows in order, ids count from 0; each rank runs its own one after another.

    Parameters
    ----------
    n_ranks
        Ranks 0 to n_ranks-1 take part.
    provenance
        Who makes them: generator and its parameters, JSON types.

    >>> rows = PhaseRows(2)
    >>> rows.add("open", None, file="/f", flags="create")
    0
    >>> rows.transfers("write", None, "/f", range(0, 4096, 1024), 1024)
    range(1, 5)
    >>> rows.trace().table.num_rows
    5
    """

    def __init__(self, n_ranks: int, **provenance: Any) -> None:
        self.n_ranks = n_ranks
        self._provenance = provenance
        self._kind: list[int] = []
        self._set: list[int] = []
        self._sets: dict[tuple[int, ...], int] = {tuple(range(n_ranks)): 0}
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}

    def __len__(self) -> int:
        return len(self._kind)

    def add(self, kind: str, ranks: Sequence[int] | None, **columns: Any) -> int:
        """Add a row and return its id.

        Parameters
        ----------
        kind
            Of the trace schema.
        ranks
            None: all of them.
        columns
            bytes, delay_ps, file, offset, stride, flags, new_file of the trace schema.
        """
        self._kind.append(trace_schema.KIND_CODE[kind])
        self._set.append(self._number(ranks))
        for name, values in self._columns.items():
            values.append(columns.get(name))
        return len(self._kind) - 1

    def barrier(self, delay_ps: int | None = None) -> int:
        """Add a barrier of all ranks, and return its id; ``delay_ps`` passes before it."""
        return self.add("barrier", None, delay_ps=delay_ps)

    def transfers(
        self,
        kind: str,
        ranks: Sequence[int] | None,
        file: str,
        offsets: Iterable[int],
        size_bytes: int,
        *,
        stride: int = 0,
        flags: str | None = None,
    ) -> range:
        """Add a row for each offset, and return their ids."""
        places = list(offsets)
        count, begin = len(places), len(self._kind)
        self._kind += [trace_schema.KIND_CODE[kind]] * count
        self._set += [self._number(ranks)] * count
        for name, value in (
            ("bytes", size_bytes),
            ("delay_ps", None),
            ("file", file),
            ("stride", stride),
            ("flags", flags),
            ("new_file", None),
        ):
            self._columns[name] += [value] * count
        self._columns["offset"] += places
        return range(begin, begin + count)

    def trace(self) -> Trace:
        """Return the trace."""
        sets = [np.array(ranks, np.int32) for ranks in self._sets]
        which = np.array(self._set, np.int64)
        offsets = np.concatenate([[0], np.cumsum(np.array([len(s) for s in sets], np.int64)[which])])
        values = (
            np.concatenate([sets[number] for number in self._set]) if self._set else np.zeros(0, np.int32)
        )
        count = len(self._kind)
        columns: dict[str, pa.Array] = {
            "id": pa.array(np.arange(count)),
            "kind": pa.DictionaryArray.from_arrays(
                pa.array(self._kind, pa.int8()), trace_schema.KIND_DICTIONARY
            ),
            "ranks": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values)),
            "stream": pa.array(np.zeros(count, np.int32)),
        }
        for name, entries in self._columns.items():
            columns[name] = pa.array(entries, trace_schema.TRACE_SCHEMA.field(name).type)
        fields = [field for field in trace_schema.TRACE_SCHEMA if field.name in columns]
        schema = pa.schema(fields, trace_schema.metadata(self._provenance))
        return Trace(pa.table([columns[field.name] for field in fields], schema=schema))

    def _number(self, ranks: Sequence[int] | None) -> int:
        if ranks is None:
            return 0
        return self._sets.setdefault(tuple(ranks), len(self._sets))


class Times:
    """When each rank began and ended its rows, picoseconds.

    Parameters
    ----------
    ops
        The table ``ops`` of a result.
    n_ranks
        Ranks of the trace.
    """

    def __init__(self, ops: pa.Table, n_ranks: int) -> None:
        self.n_ranks = n_ranks
        number = ops["id"].to_numpy()
        order = np.argsort(number, kind="stable")
        self._id = number[order]
        self._rank = ops["rank"].to_numpy()[order]
        self._start = ops["start_ps"].to_numpy()[order]
        self._end = ops["end_ps"].to_numpy()[order]

    def of(self, rows: range | int) -> tuple[Ints, Ints]:
        """Return the first start and the last end of rows on each rank, int64[n_ranks]; -1: it has none."""
        if isinstance(rows, int):
            rows = range(rows, rows + 1)
        begin, end = np.searchsorted(self._id, [rows.start, rows.stop])
        rank = self._rank[begin:end]
        started = np.full(self.n_ranks, np.iinfo(np.int64).max)
        ended = np.full(self.n_ranks, -1, np.int64)
        np.minimum.at(started, rank, self._start[begin:end])
        np.maximum.at(ended, rank, self._end[begin:end])
        started[ended < 0] = -1
        return started, ended

    def count(self, rows: range) -> Ints:
        """Return how many of the rows each rank has, int64[n_ranks]."""
        begin, end = np.searchsorted(self._id, [rows.start, rows.stop])
        return np.bincount(self._rank[begin:end], minlength=self.n_ranks)


def tell_refusals(summary: Mapping[str, Any], read_bytes: int) -> None:
    """Warn where operations found no file, or no data: their times are those of an error, and no rates.

    Parameters
    ----------
    summary
        Of a result.
    read_bytes
        What all reads together asked for, bytes.
    """
    found = summary.get("storage") or {}
    for count, what in (
        (found.get("refused", 0), "operations were refused, of files that are not there, or there already"),
        (read_bytes - found.get("bytes_read", read_bytes), "bytes that were to be read are not there"),
    ):
        if count > 0:
            warnings.warn(f"{count} {what}: rates of their phases mean nothing", stacklevel=3)


def path_in(mount: str, path: str) -> str:
    """Return a path; one that does not begin with ``/`` lies in ``mount``.

    >>> path_in("/scratch", "testFile"), path_in("/", "./out"), path_in("/scratch", "/home/x")
    ('/scratch/testFile', '/out', '/home/x')
    """
    if path.startswith("/"):
        return path
    while path.startswith("./"):
        path = path[2:]
    return f"{mount.rstrip('/')}/{path}"
