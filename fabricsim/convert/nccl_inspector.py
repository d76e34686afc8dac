"""Import the JSON lines of the NCCL Inspector, NCCL's profiler plugin: one file a process, or all in one.

Format.  A line is an object with ``header`` (id of the communicator, rank in it, n_ranks), ``metadata``
(hostname, pid, dump_timestamp_us) and ``coll_perf`` or ``p2p_perf`` (`ext-profiler/inspector` of
https://github.com/NVIDIA/nccl).  The bytes of AllGather and ReduceScatter are of one rank's part, so that the
operation has n_ranks times as many.

What becomes what
-----------------
coll_perf   A collective: the records with one communicator and one coll_sn are one row, whichever ranks have
            one.  Its measured start and end are those of the rank with the shortest time, as others also
            waited.
p2p_perf    A send or recv: the k-th from one rank to another, by p2p_sn, belong together.  Where one side has
            more records than the other, those of the two ranks are left out (a warning).
gaps        What a rank did between two operations is a compute row on it, from the end of the operation that
            had ended last to the start of this one.  Operations that overlap stay beside each other.  The
            time of an operation is known where the plugin ran with NCCL_INSPECTOR_DUMP_VERBOSE=1; without,
            or with ``gaps="none"``, the operations of a communicator follow each other.

Ranks.  The communicator with the most ranks is taken as that of the job, so that its ranks are those of the
trace, and what a process is in it, it is in all.  Where there is no such, processes are numbered by host and
process id (a warning).  `groups` says it: id of a communicator -> ranks.

Left out: the root of Broadcast and Reduce, which is not recorded (rank 0 of the communicator is taken);
operations that the plugin did not write (it samples); other kinds of operation, with a count; computing times
before the first operation.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabricsim.convert import ConvertReport, _collectives
from fabricsim.convert._captures import (
    LIMIT,
    MAX_RANKS,
    Notes,
    bare,
    everyone,
    files_of,
    head,
    members,
    shown,
    whole,
)
from fabricsim.convert._collectives import Call
from fabricsim.convert._rows import Rows, message_row
from fabricsim.convert.chakra import read_groups
from fabricsim.errors import ConfigError, InputError, Problem
from fabricsim.trace import make_provenance

_KINDS = {
    "AllReduce": "all_reduce",
    "AllGather": "all_gather",
    "ReduceScatter": "reduce_scatter",
    "Broadcast": "broadcast",
    "Reduce": "reduce",
}
_PER_RANK = ("all_gather", "reduce_scatter")
#: 2**50 us is 35 years; times of day are 2**51.
_MOST_US = 1 << 53


@dataclass(slots=True)
class Record:
    """One operation of one rank; times in ps, `start` None where only the time of writing is known."""

    where: str
    comm: str
    rank: int
    n_ranks: int
    process: tuple[str, int]
    kind: str
    number: int
    size: int
    took: int
    start: int | None
    written: int
    peer: int = -1


@dataclass
class _Comm:
    """A communicator: its size, and which process has which of its ranks."""

    where: str
    n_ranks: int
    processes: dict[int, tuple[str, int]] = field(default_factory=dict)
    ranks: tuple[int, ...] = ()


def sniff(path: Path) -> bool:
    """Whether the path is such a file, or a folder with one."""
    try:
        found = files_of(path, _is_candidate)
        return any(_looks_like(head(file, 1 << 16)) for file in found[:4])
    except InputError:
        return False


def _looks_like(data: bytes) -> bool:
    first = data.split(b"\n", 1)[0]
    return b'"header"' in first and (b'"coll_perf"' in first or b'"p2p_perf"' in first)


def _is_candidate(name: str) -> bool:
    return bare(name).lower().endswith((".log", ".jsonl", ".json", ".ndjson"))


def convert(
    path: str | os.PathLike[str],
    *,
    groups: Mapping[str, list[int]] | str | os.PathLike[str] | None = None,
    gaps: str = "compute",
) -> ConvertReport:
    """Import the records of a job: a folder, an archive or one file.

    Parameters
    ----------
    groups
        Communicators, id -> list of ranks, or a JSON file of that.
    gaps
        ``compute`` or ``none``: whether what a rank did between operations becomes compute.

    Raises
    ------
    ConfigError
        A bad option.
    InputError
        With every bad record and its line, and ranks that do not agree about a collective.
    """
    if gaps not in ("compute", "none"):
        raise ConfigError([Problem("gaps", f"found {shown(gaps)}, allowed: compute, none")])
    known = read_groups(groups)
    notes = Notes()
    records = _read(path, notes)
    if not records:
        raise InputError([Problem(str(path), "found no record with a coll_perf or p2p_perf, allowed: some")])
    comms = _comms(records)
    world = _settle(comms, known, str(path), notes)
    calls, messages = _sort(records, comms, notes)
    rows, priority = Rows(), []
    done: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    streams = {comm: number for number, comm in enumerate(comms)}
    for same in calls:
        columns = _collectives.row(same, notes)
        columns |= {"name": f"{same[0].kind} {same[0].key.number}", "stream": streams[same[0].key.comm]}
        row = rows.add(same[0].where, columns)
        priority.append(_first(same))
        for call in same:
            _note(done, call.rank, row, call.key)
    for pair in messages:
        made = []
        for record, rank, peer in pair:
            columns = message_row(record.kind, rank, peer, record.size or 1)
            if not record.size:
                notes.count("messages of 0 bytes taken as 1 byte")
            made.append(rows.add(record.where, columns | _times(record)))
            priority.append((_start(record), record.number))
            _note(done, rank, made[-1], record)
        rows.before[made[1]].add(made[0])
    timed = all(record.start is not None for record in records)
    if not timed:
        notes.warn(
            "times of writing stand for times of ending, and gaps are not known: "
            "the plugin ran without NCCL_INSPECTOR_DUMP_VERBOSE=1"
        )
    _in_order(rows, priority)
    if timed and gaps == "compute":
        _add_gaps(rows, priority, done)
    _from_zero(rows)
    counts = {"ranks": world, "communicators": len(comms), "records": len(records)}
    sources = files_of(path, _is_candidate)
    provenance = make_provenance("convert nccl-inspector", source=sources, **counts)
    return rows.finish(rows.order(priority), notes, str(path), provenance, counts)


def _read(path: str | os.PathLike[str], notes: Notes) -> list[Record]:
    """All records, in the order of the files; raises InputError with every bad line."""
    records, problems = [], []
    for name, data in members(path, _is_candidate):
        if not _looks_like(data[: 1 << 16]):
            notes.warn(f"{name} holds no NCCL Inspector records: skipped")
            continue
        lines = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{name}:{number}"
            try:
                document = json.loads(line)
            except (ValueError, RecursionError) as error:
                if number == len(lines):
                    notes.count("last lines that were cut short left out")
                else:
                    problems.append(Problem(where, f"not JSON: {str(error).splitlines()[0]}"))
                continue
            try:
                record = _record(document, where, notes)
            except InputError as error:
                problems += error.problems
                continue
            if record is not None:
                records.append(record)
    if problems:
        raise InputError(problems)
    return records


def _record(document: Any, where: str, notes: Notes) -> Record | None:
    """One line as a record; None for a kind of operation that is left out."""
    problems: list[Problem] = []

    def part(key: str) -> dict[str, Any]:
        value = document.get(key) if isinstance(document, dict) else None
        if not isinstance(value, dict):
            problems.append(Problem(f"{where}:{key}", f"found {shown(value)}, allowed: an object"))
            return {}
        return value

    def number(section: str, of: Mapping[str, Any], key: str, low: int = 0, high: int = LIMIT) -> int:
        try:
            return whole(of.get(key), f"{where}:{section}", key, low, high)
        except InputError as error:
            problems.extend(error.problems)
            return low

    section = "p2p_perf" if isinstance(document, dict) and "p2p_perf" in document else "coll_perf"
    prefix = section.partition("_")[0]
    header, metadata, perf = part("header"), part("metadata"), part(section)
    if problems:
        raise InputError(problems)
    name = perf.get(prefix)
    comm = header.get("id")
    if not isinstance(comm, (str, int)) or isinstance(comm, bool):
        problems.append(Problem(f"{where}:header", f"id: found {shown(comm)}, allowed: a text or a number"))
    n_ranks = number("header", header, "n_ranks", 1, MAX_RANKS)
    rank = number("header", header, "rank", 0, max(n_ranks - 1, 0))
    process = (str(metadata.get("hostname", "")), number("metadata", metadata, "pid", 0, 1 << 32))
    written = number("metadata", metadata, "dump_timestamp_us", 0, _MOST_US)
    serial = number(section, perf, f"{prefix}_sn")
    size = number(section, perf, f"{prefix}_msg_size_bytes", 0, LIMIT // MAX_RANKS)
    took = number(section, perf, f"{prefix}_exec_time_us", 0, LIMIT // 1_000_000)
    peer = number(section, perf, "p2p_peer", 0, max(n_ranks - 1, 0)) if prefix == "p2p" else -1
    start = _kernel_start(perf, prefix, where, problems)
    if problems:
        raise InputError(problems)
    kind = _KINDS.get(str(name)) if prefix == "coll" else {"Send": "send", "Recv": "recv"}.get(str(name))
    if kind is None:
        notes.count(f"operations {shown(name)} left out")
        return None
    if prefix == "p2p" and peer == rank:
        notes.count("messages of a rank to itself left out")
        return None
    return Record(
        where=where,
        comm=str(comm),
        rank=rank,
        n_ranks=n_ranks,
        process=process,
        kind=kind,
        number=serial,
        size=size * n_ranks if kind in _PER_RANK else size,
        took=took * 1_000_000,
        start=start,
        written=written,
        peer=peer,
    )


def _kernel_start(perf: Mapping[str, Any], prefix: str, where: str, problems: list[Problem]) -> int | None:
    """When the first kernel of an operation began, in us; else when the operation did; None: not known."""
    trace = perf.get("event_trace_ts")
    if trace is None:
        return None
    events = trace.get("kernel_events") if isinstance(trace, dict) else None
    found: list[Any] = []
    if isinstance(events, list):
        found = [event.get("kernel_start_ts") for event in events if isinstance(event, dict)]
        found = found or [trace.get(f"{prefix}_start_ts")]
    starts = [value for value in found if type(value) is int and 0 < value <= _MOST_US]
    if not starts or len(starts) < len(found):
        text = f"found {shown(trace)}, allowed: kernel_events with kernel_start_ts in microseconds"
        problems.append(Problem(f"{where}:event_trace_ts", text))
        return None
    return min(starts)


def _comms(records: list[Record]) -> dict[str, _Comm]:
    """The communicators, with the processes of their ranks; raises InputError where records disagree."""
    comms: dict[str, _Comm] = {}
    problems = []
    for record in records:
        comm = comms.setdefault(record.comm, _Comm(record.where, record.n_ranks))
        if comm.n_ranks != record.n_ranks:
            also = f"{comm.n_ranks} at {comm.where}"
            text = f"communicator {record.comm}: found {record.n_ranks} ranks, but {also}"
            problems.append(Problem(f"{record.where}:header", text))
        elif comm.processes.setdefault(record.rank, record.process) != record.process:
            host, pid = comm.processes[record.rank]
            text = f"communicator {record.comm}: rank {record.rank} is also process {pid} of {host}"
            problems.append(Problem(f"{record.where}:header", text))
    if problems:
        raise InputError(problems)
    return comms


def _settle(comms: dict[str, _Comm], known: Mapping[str, tuple[int, ...]], where: str, notes: Notes) -> int:
    """Give every communicator its ranks of the job, and return how many the job has."""
    problems = []
    world = max(comm.n_ranks for comm in comms.values())
    of_job = [c for name, c in comms.items() if c.n_ranks == world and name not in known]
    rank_of: dict[tuple[str, int], set[int]] = defaultdict(set)
    for comm in of_job:
        for rank, process in comm.processes.items():
            rank_of[process].add(rank)
    several = len(of_job) > 1 and any(c.processes != of_job[0].processes for c in of_job)
    processes = {p for comm in comms.values() for p in comm.processes.values()}
    if several or any(p not in rank_of for p in processes):
        alone = all(len(set(c.processes.values())) == len(c.processes) for c in comms.values())
        if alone and not known:
            order = sorted(processes, key=lambda p: (_natural(p[0]), p[1]))
            rank_of = {process: {rank} for rank, process in enumerate(order)}
            world, of_job = max(world, len(order)), []
            notes.warn(
                f"no communicator has all {len(order)} processes: they are numbered by host and process id"
            )
    for name, comm in comms.items():
        if name in known:
            comm.ranks = known[name]
            world = max(world, max(comm.ranks) + 1)
            if len(comm.ranks) != comm.n_ranks:
                text = f"communicator {name} has {comm.n_ranks} ranks, groups lists {len(comm.ranks)}"
                problems.append(Problem(comm.where, text))
        elif comm.n_ranks == world and not several and (of_job or not rank_of):
            comm.ranks = everyone(world)
        else:
            found = [rank_of.get(comm.processes.get(r, ("", -1)), set()) for r in range(comm.n_ranks)]
            if any(len(ranks) != 1 for ranks in found):
                text = f"communicator {name}: which ranks of the job its {comm.n_ranks} are is not known"
                problems.append(Problem(comm.where, f"{text}; give them with groups"))
            comm.ranks = tuple(min(ranks, default=0) for ranks in found)
    if problems:
        raise InputError(problems)
    return world


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _sort(
    records: list[Record], comms: dict[str, _Comm], notes: Notes
) -> tuple[list[list[Call]], list[list[tuple[Record, int, int]]]]:
    """Records as collectives of matched calls, and as messages of a send and a recv."""
    problems = []
    calls: dict[tuple[str, int], dict[int, Call]] = {}
    ends: dict[tuple[str, int, int], tuple[list[Record], list[Record]]] = defaultdict(lambda: ([], []))
    for record in records:
        comm = comms[record.comm]
        if record.peer >= 0:
            sent = record.kind == "send"
            src, dst = (record.rank, record.peer) if sent else (record.peer, record.rank)
            ends[record.comm, src, dst][0 if sent else 1].append(record)
            continue
        begin = _start(record)
        call = Call(
            rank=comm.ranks[record.rank],
            kind=record.kind,
            bytes=record.size,
            group=comm.ranks,
            where=record.where,
            group_name=record.comm,
            start_ps=begin,
            end_ps=begin + record.took,
            key=record,
        )
        same = calls.setdefault((record.comm, record.number), {})
        other = same.setdefault(call.rank, call)
        first = next(iter(same.values()))
        if other is not call:
            text = f"rank {record.rank} tells of coll_sn {record.number} again (first at {other.where})"
            problems.append(Problem(record.where, text))
        elif (first.kind, first.bytes) != (call.kind, call.bytes):
            text = f"coll_sn {record.number} is {call.kind} of {call.bytes} bytes on rank {record.rank}"
            also = f"{first.kind} of {first.bytes} on rank {first.key.rank} ({first.where})"
            problems.append(Problem(record.where, f"{text}, but {also}"))
    if problems:
        raise InputError(problems)
    found = []
    for _, same in sorted(calls.items()):
        one = next(iter(same.values()))
        if one.kind != "barrier" and not one.bytes:
            notes.count("collectives of 0 bytes left out")
        elif len(one.group) == 1:
            notes.count("collectives of one rank left out")
        else:
            found.append([same[rank] for rank in sorted(same)])
            missing = len(one.group) - len(same)
            if missing:
                notes.count("records of collectives that some rank did not write", missing)
    pairs = []
    for (name, src, dst), (sends, recvs) in ends.items():
        ranks = comms[name].ranks
        sends, recvs = (sorted(side, key=lambda r: r.number) for side in (sends, recvs))
        sizes = [r.size for r in sends] == [r.size for r in recvs]
        if not sizes:
            notes.count("messages left out, because sends and receives do not agree", len(sends) + len(recvs))
            continue
        for send, recv in zip(sends, recvs, strict=True):
            pairs.append([(send, ranks[src], ranks[dst]), (recv, ranks[dst], ranks[src])])
    return found, pairs


def _start(record: Record) -> int:
    if record.start is not None:
        return record.start * 1_000_000
    return max(record.written * 1_000_000 - record.took, 0)


def _times(record: Record) -> dict[str, int]:
    return {"start_ps": _start(record), "end_ps": _start(record) + record.took}


def _first(same: list[Call]) -> tuple[int, int]:
    return min(_start(call.key) for call in same), same[0].key.number


def _note(done: dict[int, list[tuple[int, int, int]]], rank: int, row: int, record: Record) -> None:
    begin = _start(record)
    done[rank].append((begin, begin + record.took, row))


def _in_order(rows: Rows, priority: list[tuple[int, int]]) -> None:
    """Let the operations of a communicator stand in the order of their numbers."""
    last: dict[int, int] = {}
    latest: dict[int, tuple[int, int]] = {}
    for row, columns in enumerate(rows.rows):
        stream = columns.get("stream")
        if stream is None:
            continue
        if stream in last:
            rows.before[row].add(last[stream])
            priority[row] = max(priority[row], latest[stream])
        last[stream], latest[stream] = row, priority[row]


def _add_gaps(
    rows: Rows, priority: list[tuple[int, int]], done: dict[int, list[tuple[int, int, int]]]
) -> None:
    """What a rank did from the end of the operation that had ended last to the start of the next."""
    for rank in sorted(done):
        ended: list[tuple[int, int]] = []
        # By place in the trace too: the clocks of ranks are not one, and a circle must not come of it.
        for begin, end, row in sorted(done[rank]):
            before = [e for e in ended if e[0] <= begin and priority[e[1]] < priority[row]]
            if before:
                until, last = max(before)
                if begin > until:
                    gap = {"kind": "compute", "ranks": [rank], "duration_ps": begin - until, "name": "gap"}
                    made = rows.add(rows.where[row], gap, [last])
                    priority.append(priority[row])
                    rows.after[row].add(made)
                else:
                    rows.after[row].add(last)
            ended = [e for e in ended if not before or e >= max(before)]
            ended.append((end, row))


def _from_zero(rows: Rows) -> None:
    """Count times from the first start."""
    first = min((r["start_ps"] for r in rows.rows if "start_ps" in r), default=0)
    for columns in rows.rows:
        if "start_ps" in columns:
            columns["start_ps"] -= first
            columns["end_ps"] -= first
