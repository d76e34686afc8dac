"""Export a trace to MLCommons Chakra execution traces, `<prefix>.<rank>.et`, which ASTRA-sim runs too.

Each rank's part of a row becomes a node (schema 0.0.4 of https://github.com/mlcommons/chakra, et_def.proto):

compute     COMP_NODE: duration_micros; flops and mem_bytes are num_ops and tensor_size.
collectives COMM_COLL_NODE with comm_type, comm_size (the bytes that a rank puts in: of an all_gather of n an
            n-th), root, and pg_name unless all ranks take part.  Groups of a row are groups of their own.
send, recv  COMM_SEND_NODE, COMM_RECV_NODE with comm_src, comm_dst, comm_tag.
count       as many nodes, one after another.
delay_ps    a COMP_NODE before it.
stream      data_deps on the node before it in the stream, and the attribute `stream`.
after       data_deps.

Process groups stand in a METADATA_NODE "## process_group:init ##" of each file, in PyTorch's form, and all
of them in `<prefix>.groups.json`, ASTRA-sim's communicator file.

Times are whole microseconds there: what is rounded off is carried to the next time of the stream, so that
sums stay right (a warning counts them).  Also with a count: unequal parts of an all_to_all are written as
equal ones, steps are left out, tags above 31 bits get other numbers.  Storage operations are an error.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fabricsim.convert import ExportReport
from fabricsim.convert._captures import Notes
from fabricsim.convert._protobuf import put_bytes, put_number, put_varint
from fabricsim.errors import InputError, Problem
from fabricsim.trace import COLLECTIVES, STORAGE, Trace
from fabricsim.trace.write import replacing

VERSION = "0.0.4"
_METADATA, _COMP, _SEND, _RECV, _COLL = 1, 4, 5, 6, 7
#: CollectiveCommType of et_def.proto.
_COMM_TYPES = {
    "all_reduce": 0,
    "reduce": 1,
    "all_gather": 2,
    "broadcast": 5,
    "all_to_all": 6,
    "reduce_scatter": 7,
    "barrier": 9,
}
_PS = 1_000_000
_MOST_TAG = (1 << 31) - 1
#: Streams of host threads are numbered from here by the importer, so their number is not written.
_MOST_STREAM = 1_000_000


def export(trace: Trace, prefix: str | os.PathLike[str]) -> ExportReport:
    """Write the files of a trace.

    Parameters
    ----------
    trace
        The trace.
    prefix
        Where: the files are ``<prefix>.<rank>.et`` and, if it has groups of ranks, ``<prefix>.groups.json``.

    Raises
    ------
    InputError
        When it has operations that an execution trace cannot hold; names the rows.
    ConfigError
        When a file cannot be written.
    """
    rows = _Rows(trace)
    files = []
    nodes = 0
    for rank in range(trace.n_ranks):
        path = Path(f"{os.fspath(prefix)}.{rank}.et")
        with replacing(path) as sink:
            for message in rows.file(rank):
                nodes += 1
                sink.write(put_varint(len(message)) + message)
        nodes -= 1  # the metadata is none
        files.append(path)
    if rows.groups:
        path = Path(f"{os.fspath(prefix)}.groups.json")
        named = {name: list(ranks) for ranks, name in rows.groups.items()}
        with replacing(path) as sink:
            sink.write(json.dumps(named).encode())
        files.append(path)
    counts = {"ranks": trace.n_ranks, "rows": trace.n_rows, "nodes": nodes, "groups": len(rows.groups)}
    return ExportReport(files, rows.notes.warnings(), counts)


@dataclass(slots=True)
class _Row:
    """What a row's nodes say on every rank of a group: `tails` by group, without id, deps and times."""

    id: int
    kind: str
    size: int
    count: int
    delay_ps: int
    duration_ps: int
    stream: int | None
    after: list[int]
    peer: list[int]
    tag: int
    name: bytes
    attrs: bytes
    start_us: int | None = None
    took_us: int = 0
    tails: list[bytes] = field(default_factory=list)


class _Rows:
    """The rows of a trace, taken apart once for all ranks."""

    def __init__(self, trace: Trace) -> None:
        self.notes = Notes()
        self.groups: dict[tuple[int, ...], str] = {}
        self._everyone = tuple(range(trace.n_ranks))
        self._tags: dict[int, int] = {}
        table = trace.table
        _refuse(table, trace.where)
        ranks = trace.view.ranks
        self._offsets = ranks.offsets
        order = np.argsort(ranks.values, kind="stable")
        self._entries = np.split(order, np.cumsum(np.bincount(ranks.values, minlength=trace.n_ranks))[:-1])
        self._row_of = np.repeat(np.arange(table.num_rows), np.diff(ranks.offsets))
        columns = {name: table[name].to_pylist() for name in table.column_names if name != "ranks"}
        self.rows: list[_Row] = []
        listed: dict[tuple[bytes, int], list[tuple[int, ...]]] = {}
        for index in range(table.num_rows):
            own = ranks.values[self._offsets[index] : self._offsets[index + 1]]
            values = {name: column[index] for name, column in columns.items()}
            self.rows.append(self._row(values, own, listed))
        made_by = _text("fabricsim", json.dumps(trace.provenance))
        self._metadata = put_bytes(1, VERSION) + put_bytes(2, made_by)
        self._groups_of: dict[int, list[tuple[str, tuple[int, ...]]]] = defaultdict(list)
        for members, name in self.groups.items():
            for rank in members:
                self._groups_of[rank].append((name, members))

    def _row(
        self, values: dict[str, Any], ranks: np.ndarray[Any, Any], listed: dict[Any, list[tuple[int, ...]]]
    ) -> _Row:
        kind, stream = values["kind"], values.get("stream")
        size = values.get("group_size") or len(ranks)
        attrs = put_bytes(10, _flag("is_cpu_op", False))
        if stream is not None and 0 <= stream < _MOST_STREAM:
            attrs += put_bytes(10, _long("stream", stream))
        row = _Row(
            id=values["id"],
            kind=kind,
            size=size,
            count=values.get("count") or 1,
            delay_ps=values.get("delay_ps") or 0,
            duration_ps=values.get("duration_ps") or 0,
            stream=stream,
            after=values.get("after") or [],
            peer=values.get("peer") or [],
            tag=values.get("tag") or 0,
            name=put_bytes(2, values.get("name") or kind),
            attrs=attrs,
        )
        if values.get("step") is not None:
            self.notes.count("numbers of training steps left out")
        start, end = values.get("start_ps"), values.get("end_ps")
        if start is not None and end is not None:
            # Zero would be no time at all.
            row.start_us, row.took_us = start // _PS + 1, round((end - start) / _PS)
            if start % _PS or (end - start) % _PS:
                self.notes.count("measured times rounded to whole microseconds")
        if kind == "compute":
            row.attrs += self._work(values)
        elif kind in ("send", "recv"):
            row.attrs += put_bytes(10, _long("comm_size", values["bytes"])) + self._priority(values)
            row.attrs += put_bytes(10, _int("comm_tag", self._tag(row.tag)))
        else:
            row.attrs += self._collective(values, size) + self._priority(values)
            key = (ranks.tobytes(), size)
            if key not in listed:
                members = [tuple(ranks[i : i + size].tolist()) for i in range(0, len(ranks), size)]
                listed[key] = members
                for group in members:
                    if group != self._everyone:
                        self.groups.setdefault(group, str(len(self.groups) + 1))
            for number, group in enumerate(listed[key]):
                tail = put_bytes(10, _text("pg_name", self.groups[group])) if group in self.groups else b""
                if kind in ("broadcast", "reduce"):
                    tail += put_bytes(10, _int("root", row.peer[number]))
                row.tails.append(tail)
        return row

    def _work(self, values: dict[str, Any]) -> bytes:
        flops, touched = values.get("flops"), values.get("mem_bytes")
        out = b"" if flops is None else put_bytes(10, _long("num_ops", round(flops)))
        return out if touched is None else out + put_bytes(10, _long("tensor_size", touched))

    def _collective(self, values: dict[str, Any], n: int) -> bytes:
        kind, size = values["kind"], values.get("bytes") or 0
        splits = values.get("splits")
        if splits:
            self.notes.count("all_to_all with unequal parts written with equal ones")
            size = -(-sum(splits) // n) if len(splits) == n * n else sum(splits)
        if kind == "all_gather":
            if size % n:
                self.notes.count("all_gather whose bytes are no multiple of its ranks, rounded up")
            size = -(-size // n)
        return put_bytes(10, _long("comm_type", _COMM_TYPES[kind])) + put_bytes(10, _long("comm_size", size))

    def _priority(self, values: dict[str, Any]) -> bytes:
        priority = values.get("priority")
        return put_bytes(10, _int("comm_priority", priority)) if priority else b""

    def _tag(self, tag: int) -> int:
        if 0 <= tag <= _MOST_TAG and not self._tags:
            return tag
        if tag not in self._tags:
            if not 0 <= tag <= _MOST_TAG:
                self.notes.count("tags above 31 bits numbered anew")
            # Small ones keep their number; the others are numbered from the top down.
            self._tags[tag] = tag if 0 <= tag <= _MOST_TAG else _MOST_TAG - len(self._tags)
        return self._tags[tag]

    def file(self, rank: int) -> Iterator[bytes]:
        """The messages of a rank's file: the metadata, then its nodes in the order of the rows."""
        yield self._metadata
        number = 0
        if self._groups_of[rank]:
            listed = [
                {"pg_name": name, "ranks": list(ranks), "group_size": len(ranks)}
                for name, ranks in self._groups_of[rank]
            ]
            text = put_bytes(1, f"['{json.dumps(listed)}']")
            name = put_bytes(2, "## process_group:init ##")
            yield put_number(1, 0) + name + put_number(3, _METADATA) + put_bytes(8, text)
            number = 1
        rows = [int(row) for row in self._row_of[self._entries[rank]]]
        places = (self._entries[rank] - self._offsets[rows]).tolist()
        entries = [(self.rows[row], place) for row, place in zip(rows, places, strict=True)]
        clocks: dict[int | None, _Clock] = defaultdict(_Clock)
        plans = []
        ends: dict[int, int] = {}
        for row, position in entries:
            clock = clocks[row.stream]
            times = [(clock.take(row.delay_ps), clock.take(row.duration_ps)) for _ in range(row.count)]
            if clock.rounded:
                self.notes.count("times of computing rounded to whole microseconds", clock.rounded)
                clock.rounded = 0
            number += sum(1 + (delay > 0) for delay, _ in times)
            ends[row.id] = number - 1
            plans.append((row, position, times))
        number = 1 if self._groups_of[rank] else 0
        last: dict[int, int] = {}
        for row, position, times in plans:
            deps = {ends[other] for other in row.after if other in ends}
            if row.stream is not None and row.stream in last:
                deps.add(last[row.stream])
            for delay, took in times:
                if delay:
                    yield _delay(number, deps, delay)
                    deps, number = {number}, number + 1
                yield self._node(row, rank, position, number, deps, took)
                deps, number = {number}, number + 1
            if row.stream is not None:
                last[row.stream] = number - 1

    def _node(self, row: _Row, rank: int, position: int, number: int, deps: set[int], took: int) -> bytes:
        out = put_number(1, number) + row.name
        if row.kind == "compute":
            out += put_number(3, _COMP)
            tail = b""
        elif row.kind in ("send", "recv"):
            sent, peer = row.kind == "send", row.peer[position]
            out += put_number(3, _SEND if sent else _RECV)
            src, dst = (rank, peer) if sent else (peer, rank)
            tail = put_bytes(10, _int("comm_src", src)) + put_bytes(10, _int("comm_dst", dst))
        else:
            out += put_number(3, _COLL)
            tail = row.tails[position // row.size]
        out += _deps(deps)
        if row.start_us is not None and row.count == 1:
            out += put_number(6, row.start_us)
            took = took if row.kind == "compute" else row.took_us
        if took:
            out += put_number(7, took)
        return out + row.attrs + tail


class _Clock:
    """Picoseconds as whole microseconds, what is rounded off being carried to the next."""

    def __init__(self) -> None:
        self.rest = 0
        self.rounded = 0

    def take(self, time_ps: int) -> int:
        """The microseconds of a time."""
        if not time_ps:
            return 0
        self.rounded += time_ps % _PS != 0
        whole, self.rest = divmod(time_ps + self.rest + _PS // 2, _PS)
        self.rest -= _PS // 2
        return max(whole, 0)


def _refuse(table: Any, where: str) -> None:
    kinds = table["kind"].to_pylist()
    wrong = [(index, kind) for index, kind in enumerate(kinds) if kind in STORAGE]
    if wrong:
        allowed = f"allowed: compute, send, recv, {', '.join(sorted(COLLECTIVES))}"
        raise InputError(
            [
                Problem(f"{where}:row {index}:kind", f"found {kind}, which no Chakra ET holds, {allowed}")
                for index, kind in wrong
            ]
        )


def _delay(number: int, deps: set[int], delay_us: int) -> bytes:
    head = put_number(1, number) + put_bytes(2, "delay") + put_number(3, _COMP) + _deps(deps)
    return head + put_number(7, delay_us) + put_bytes(10, _flag("is_cpu_op", False))


def _deps(deps: set[int]) -> bytes:
    return put_bytes(5, b"".join(map(put_varint, sorted(deps)))) if deps else b""


def _long(name: str, value: int) -> bytes:
    return put_bytes(1, name) + put_number(9, value)


def _int(name: str, value: int) -> bytes:
    return put_bytes(1, name) + put_number(7, value)


def _flag(name: str, value: bool) -> bytes:
    return put_bytes(1, name) + put_number(27, int(value))


def _text(name: str, value: str) -> bytes:
    return put_bytes(1, name) + put_bytes(29, value)
