"""Import Kineto traces of PyTorch (``*.pt.trace.json``, one a rank), with or without the PyTorch ETs.

What becomes what
-----------------
Communication. A kernel whose name has "nccl" (or "rccl") is communication; the k-th one of a process group on
each rank becomes one row.  Kind, size, splits and group come from the kernel's own arguments ("Collective
name", "In msg nelems", "dtype", ...), else from the rank's ET (``et=``, or beside the trace): kernels in the
order of their launch are the ET's ``record_param_comms`` in order (waits left out); counts and kinds must
agree.  The row's start and end are those of the rank with the shortest kernel, since the others also waited:
``end_ps - start_ps`` is the minimum over ranks of the kernel's duration.

Compute.  All other kernels, copies and memsets, in order on their CUDA stream.  Neighbours become one row
("piece") whose duration is their busy time and the gaps between them of at most `gap_us` (the GPU's own time
between kernels).  A larger gap ends the piece, and so does an operation that waits for something, one that
something waits for, and a host synchronisation between two launches.

Host.  Idle gaps are not compute of the GPU: they are the host's, so the launching threads of a rank become
one stream of compute rows named "host" (number 1,000,000) of the time from one launch that matters to the
next.  Every piece and every collective waits for the host row that launched it.  What is then left between
the last thing an operation waited for and its start is its delay_ps (launch latency; of a collective the
minimum over its ranks).

Who waits for whom
------------------
1. A collective waits for its launch, and for the last other operation that its thread launched before it,
   or, if that one ended after the collective began, the last one on that stream that ended before.
2. cudaStreamWaitEvent outside the launch of a collective (the record_param_comms, else nccl: annotation,
   around the launch) makes a stream wait: the one of the operation that this thread launches next, else of
   its last one.  The first operation launched on that stream after the call, by any thread, waits, for every
   other stream, for the last operation launched before the call that had ended when it began; events do not
   say more.  After a collective, compute thus waits only when a wait is seen and it began after the end.
3. cudaStreamSynchronize, cudaEventSynchronize and copies that ended within their call: the host waits for the
   last operation that its thread launched before, or, when that ended after the call, for the last one that
   ended by then.  cudaDeviceSynchronize: for the last one of every stream.
4. Operations of a stream run in order.
Ends are compared with 1 us of tolerance, because old traces have whole microseconds.

Left out: which event a wait names (a wait for too much is possible: the last that had ended is taken);
concurrency of launching threads (they are one timeline; a synchronisation during which another thread
launched is not a wait, and is counted); CPU work that launches nothing; sends and receives that share one
kernel (a batch): with ``et=`` the counts then differ, which is an error.  The clocks of the ranks are taken
to be one; times are measured from the earliest event of all ranks.

A file alone, or some ranks of a job, import too: world_size and the groups come from distributedInfo and the
kernels; the other ranks take part in collectives as if always ready.  Where the file cuts a group's list of
ranks short ("..."), give `groups` (name -> ranks).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabricsim.convert import ConvertReport, _collectives, pytorch_et
from fabricsim.convert._captures import (
    LIMIT,
    MAX_RANKS,
    Notes,
    bare,
    each,
    everyone,
    fail,
    files_of,
    members,
    option_count,
    parse_json,
    rank_in,
    samples,
    shown,
    whole,
)
from fabricsim.convert._collectives import Call
from fabricsim.convert._kineto_graph import build
from fabricsim.convert.chakra import read_groups
from fabricsim.errors import ConfigError, InputError, Problem

GPU_CATEGORIES = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
RUNTIME_CATEGORIES = frozenset({"cuda_runtime", "cuda_driver", "hip_runtime", "runtime"})
_COMM = re.compile(r"nccl|rccl", re.IGNORECASE)
_KERNEL_KINDS = {
    "allreduce": {"all_reduce", "barrier"},
    "allgather": {"all_gather"},
    "reducescatter": {"reduce_scatter"},
    "broadcast": {"broadcast", "all_gather"},
    "sendrecv": {"all_to_all", "send", "recv", "gather", "scatter"},
    "reduce": {"reduce", "reduce_scatter"},
}
_KERNEL_NAME = re.compile(r"kernel_?(" + "|".join(_KERNEL_KINDS) + ")", re.IGNORECASE)


@dataclass(slots=True)
class Op:
    """An operation of the GPU; times in nanoseconds of the file's clock."""

    index: int
    name: str
    stream: int
    start: int
    end: int
    correlation: Any
    args: dict[str, Any]
    comm: bool = False
    thread: Any = None
    launch: int | None = None
    launch_end: int | None = None
    copy: bool = False
    lane: int = 0
    slot: int = 0


@dataclass(slots=True)
class HostCall:
    """A wait or a synchronisation on a host thread; times in nanoseconds."""

    thread: Any
    start: int
    end: int
    name: str


@dataclass(slots=True)
class Capture:
    """One rank's file: GPU operations by launch, waits, synchronisations, and the spans of collectives."""

    name: str
    rank: int | None
    world: int | None
    ops: list[Op] = field(default_factory=list)
    waits: list[HostCall] = field(default_factory=list)
    syncs: list[HostCall] = field(default_factory=list)
    spans: list[HostCall] = field(default_factory=list)
    groups: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)


def sniff(path: Path) -> bool:
    """Whether the path is a Kineto trace, or a folder or archive with one."""
    try:
        if Path(path).is_file() and Path(path).suffix.lower() not in (".json", ".gz", ".tgz", ".tar"):
            return False
        return any(b'"traceEvents"' in data for _, data in samples(path, _is_candidate))
    except Exception:
        return False


def convert(
    path: str | os.PathLike[str],
    *,
    et: str | os.PathLike[str] | None = None,
    world_size: int | None = None,
    gap_us: float = 10.0,
    groups: Mapping[str, list[int]] | str | os.PathLike[str] | None = None,
) -> ConvertReport:
    """Import Kineto traces: a folder, an archive or one file.

    Parameters
    ----------
    et
        The PyTorch ETs of the same ranks: a folder, an archive or a file; by itself those beside the traces.
    world_size
        Ranks of the job, when the capture holds only some of them.
    gap_us
        Idle time of a CUDA stream that ends a piece of compute, in microseconds; 0 keeps every gap apart.
    groups
        Process groups, name -> list of ranks, or a JSON file of that.

    Raises
    ------
    ConfigError
        A bad option.
    InputError
        A damaged file, or ranks that do not fit together; names the file and the event.
    """
    world = None if world_size is None else option_count(world_size, "world_size")
    try:
        gap = float(gap_us)
    except (TypeError, ValueError):
        gap = math.nan
    if not 0 <= gap <= 1e9:
        raise ConfigError([Problem("gap_us", f"found {shown(gap_us)}, allowed: 0 to 1e9 microseconds")])
    known = read_groups(groups)
    notes = Notes()
    captures, beside = _read(path, world, notes)
    job = _world(captures, world, notes)
    records = _records(path, et, captures, beside, notes)

    def of_rank(entry: tuple[int, Capture]) -> tuple[int, list[tuple[Op, Call | None]]]:
        rank, capture = entry
        return rank, _calls(capture, rank, job, known, records.get(rank), notes)

    calls = dict(each(captures.items(), of_rank))
    sources = files_of(path, _is_candidate)
    if et is not None:
        sources += pytorch_et.sources(et)
    return build(captures, calls, str(path), job, round(gap * 1000), sources, notes)


def _is_candidate(name: str) -> bool:
    return bare(name).lower().endswith(".json")


def _records(
    path: str | os.PathLike[str],
    et: str | os.PathLike[str] | None,
    captures: dict[int, Capture],
    beside: int,
    notes: Notes,
) -> dict[int, pytorch_et.RankRecords]:
    """The ETs by rank: of `et`, else those beside the Kineto traces where a kernel does not tell its size."""
    if et is not None:
        records = pytorch_et.read(et, notes)
    elif not beside:
        return {}
    elif all("Collective name" in op.args for c in captures.values() for op in c.ops if op.comm):
        notes.warn("PyTorch ETs beside the traces, not needed, as the kernels tell their sizes: skipped")
        return {}
    else:
        records = pytorch_et.read(path, notes, mixed=True)
        notes.warn("sizes are taken from the PyTorch ETs beside the traces")
    for rank, capture in captures.items():
        if rank not in records:
            raise fail(str(path if et is None else et), f"no ET of rank {rank}, which is in {capture.name}")
    return records


def _read(path: str | os.PathLike[str], world: int | None, notes: Notes) -> tuple[dict[int, Capture], int]:
    """The Kineto traces by rank, and how many PyTorch ETs lie beside them."""
    beside = 0

    def one(member: tuple[str, bytes]) -> Capture | None:
        nonlocal beside
        name, data = member
        if b'"traceEvents"' in data:
            return read_file(name, data)
        if pytorch_et.looks_like(data):
            beside += 1
        else:
            notes.warn(f"{name} is JSON, but not a Kineto trace: skipped")
        return None

    found = [capture for capture in each(members(path, _is_candidate), one) if capture is not None]
    if not found:
        raise fail(str(path), 'no Kineto trace in it, allowed: JSON with "traceEvents"')
    by_rank: dict[int, Capture] = {}
    for capture in found:
        rank = capture.rank if capture.rank is not None else rank_in(capture.name)
        if rank is None:
            if len(found) > 1:
                raise fail(capture.name, "no distributedInfo.rank, and no rank in its name (worker3)")
            rank = 0
            notes.warn("no rank in the file or its name, taken as rank 0")
        if rank in by_rank:
            raise fail(capture.name, f"a second trace of rank {rank}, after {by_rank[rank].name}")
        by_rank[rank] = capture
    if world is not None and max(by_rank) >= world:
        raise fail(by_rank[max(by_rank)].name, f"rank {max(by_rank)} in a job of world_size {world}")
    return dict(sorted(by_rank.items())), beside


def _world(captures: dict[int, Capture], world: int | None, notes: Notes) -> int:
    if world is None:
        world = max([max(captures) + 1, *(c.world for c in captures.values() if c.world)])
        missing = [r for r in range(world) if r not in captures]
        if len(captures) > 1 and missing:
            some = ", ".join(map(str, missing[:8]))
            raise fail(
                captures[max(captures)].name,
                f"a job of {world} ranks, but no trace of rank {some}; to import some ranks give world_size",
            )
    if len(captures) < world:
        notes.warn(f"{len(captures)} of {world} ranks are in the capture; the others only answer")
    return world


def read_file(name: str, data: bytes) -> Capture:
    """The events of one file that matter, checked; raises InputError with the event that is wrong."""
    document = parse_json(name, data)
    if not isinstance(document, dict) or not isinstance(document.get("traceEvents"), list):
        raise fail(f"{name}: traceEvents", "allowed: a list of events")
    info = document.get("distributedInfo")
    info = info if isinstance(info, dict) else {}
    where = f"{name}: distributedInfo"
    said, size = info.get("rank"), info.get("world_size")
    rank = None if said is None else whole(said, where, "rank", 0, MAX_RANKS)
    world = None if size is None else whole(size, where, "world_size", 1, MAX_RANKS)
    if rank is not None and world is not None and rank >= world:
        raise fail(where, f"rank {rank} of world_size {world}")
    capture = Capture(name, rank, world)
    if isinstance(info.get("pg_config"), list):
        for entry in info["pg_config"]:
            _group_entry(capture, entry)
    base = whole(document.get("baseTimeNanoseconds", 0), name, "baseTimeNanoseconds", 0, LIMIT)
    launches: dict[Any, HostCall] = {}
    problems: list[Problem] = []
    for index, event in enumerate(document["traceEvents"]):
        try:
            if not isinstance(event, dict):
                raise fail(f"{name}: traceEvents[{index}]", f"found {shown(event)}, allowed: an event")
            if event.get("ph") == "X":
                _event(capture, launches, index, event, base)
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    for op in capture.ops:
        call = launches.get(op.correlation)
        if call is not None and op.correlation is not None:
            op.thread, op.launch, op.launch_end = call.thread, call.start, call.end
            op.copy = "memcpy" in call.name.lower()
    capture.ops.sort(key=lambda op: (op.launch if op.launch is not None else op.start, op.start, op.index))
    for calls in (capture.waits, capture.syncs, capture.spans):
        calls.sort(key=lambda c: (c.start, c.end))
    return capture


def _group_entry(capture: Capture, entry: Any) -> None:
    """A group of distributedInfo.pg_config; a list of ranks that is cut short or absent is left out."""
    if not isinstance(entry, dict) or not isinstance(entry.get("ranks"), (list, str)):
        return
    ranks = _rank_list(entry["ranks"])
    if ranks:
        capture.groups[str(entry.get("pg_name"))] = (ranks, len(ranks))


def _rank_list(value: Any) -> tuple[int, ...] | None:
    """Ranks in a list, or in a text such as "[0, 1]"; None when it is cut short or something else."""
    items = re.findall(r"[^\s,\[\]]+", value) if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        return None
    texts = [str(item) for item in items]
    if not texts or len(set(texts)) < len(texts):
        return None
    if not all(re.fullmatch(r"\d{1,7}", text, re.ASCII) for text in texts):
        return None
    return tuple(int(t) for t in texts)


def _event(
    capture: Capture, launches: dict[Any, HostCall], index: int, event: dict[str, Any], base: int
) -> None:
    category, title = str(event.get("cat", "")).lower(), str(event.get("name", ""))
    capture.events[category] += 1
    gpu, runtime = category in GPU_CATEGORIES, category in RUNTIME_CATEGORIES
    span = title == "record_param_comms" or title.startswith("nccl:")
    if not (gpu or runtime or (span and not category.startswith("gpu"))):
        return
    where = f"{capture.name}: traceEvents[{index}]"
    start = base + _nanoseconds(event.get("ts"), where, "ts")
    end = start + _nanoseconds(event.get("dur", 0), where, "dur")
    args = event.get("args")
    args = args if isinstance(args, dict) else {}
    if gpu:
        stream = whole(args.get("stream", event.get("tid")), where, "stream", 0, (1 << 19) - 1)
        comm = category == "kernel" and _COMM.search(title) is not None
        correlation = args.get("correlation")
        correlation = correlation if isinstance(correlation, (int, str)) else None
        capture.ops.append(Op(index, title, stream, start, end, correlation, args, comm))
        return
    thread = f"{event.get('pid')}/{event.get('tid')}"
    call = HostCall(thread, start, end, title)
    if span:
        capture.spans.append(call)
    elif "StreamWaitEvent" in title:
        capture.waits.append(call)
    elif title.endswith(("StreamSynchronize", "EventSynchronize", "DeviceSynchronize", "CtxSynchronize")):
        capture.syncs.append(call)
    else:
        correlation = args.get("correlation")
        if isinstance(correlation, (int, str)):
            launches[correlation] = call


def _nanoseconds(value: Any, where: str, what: str) -> int:
    """Microseconds of an event as whole nanoseconds."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not 0 <= value <= LIMIT / 1e3:
        raise fail(where, f"{what}: found {shown(value)}, allowed: microseconds, 0 to {LIMIT // 1000}")
    return value * 1000 if isinstance(value, int) else round(value * 1000)


def _calls(
    capture: Capture,
    rank: int,
    world: int,
    known: Mapping[str, tuple[int, ...]],
    et: pytorch_et.RankRecords | None,
    notes: Notes,
) -> list[tuple[Op, Call | None]]:
    """Every communication kernel of a rank in order of launch, and what it is; None: taken as compute."""
    kernels = [op for op in capture.ops if op.comm]
    bare_kernels = [op for op in kernels if "Collective name" not in op.args]
    if et is not None:
        if len(kernels) != len(et.records):
            raise fail(
                capture.name,
                f"{len(kernels)} communication kernels, but {len(et.records)} collectives in {et.name}",
            )
        pairs = zip(kernels, et.records, strict=True)
        return each(pairs, lambda p: (p[0], _call_from_record(*p, et, capture, rank, world)))
    if len(bare_kernels) == len(kernels) and kernels:
        op = bare_kernels[0]
        raise fail(
            f"{capture.name}: traceEvents[{op.index}]",
            f"{len(bare_kernels)} communication kernels without sizes, such as {op.name[:60]!r}; "
            "give the PyTorch ETs of the same run with et=",
        )
    if bare_kernels:
        text = "communication kernels without sizes, such as batches of sends and receives"
        notes.count(f"{text}, taken as compute of their measured time", len(bare_kernels))
    bare_ids = {id(op) for op in bare_kernels}

    def one(op: Op) -> tuple[Op, Call | None]:
        bare = id(op) in bare_ids
        return op, None if bare else _call_from_args(op, capture, rank, world, known, notes)

    return each(kernels, one)


def _call_from_record(
    op: Op, record: pytorch_et.Record, et: pytorch_et.RankRecords, capture: Capture, rank: int, world: int
) -> Call:
    where = f"{capture.name}: traceEvents[{op.index}]"
    family = _KERNEL_NAME.search(op.name)
    if family and record.kind not in _KERNEL_KINDS[family.group(1).lower()]:
        raise fail(where, f"the kernel {op.name[:60]!r} is in the place of a {record.kind} ({record.where})")
    if record.kind in ("send", "recv"):
        peer = pytorch_et.peer_of(record, et, rank, world)
        return Call(rank, record.kind, record.in_bytes or record.out_bytes, (rank, peer), where, key=op)
    return pytorch_et.call(record, et, rank, world, op)


def _call_from_args(
    op: Op, capture: Capture, rank: int, world: int, known: Mapping[str, tuple[int, ...]], notes: Notes
) -> Call | None:
    where = f"{capture.name}: traceEvents[{op.index}]"
    args = op.args
    kind = _collectives.kind_of(str(args["Collective name"]))
    if kind is None:
        raise fail(where, f"Collective name: found {shown(args['Collective name'])}, which is not known")
    width = _collectives.DTYPE_BYTES.get(str(args.get("dtype", "")).lower())
    if width is None:
        raise fail(where, f"dtype: found {shown(args.get('dtype'))}, allowed: a type of PyTorch")
    sent = whole(args.get("In msg nelems"), where, "In msg nelems", 0, LIMIT // 16)
    got = args.get("Out msg nelems")
    received = None if got is None else whole(got, where, "Out msg nelems", 0, LIMIT // 16)
    if kind in ("send", "recv"):
        peer = args.get("Dst Rank" if kind == "send" else "Src Rank")
        if peer is None:
            notes.count(f"{kind} kernels without a peer in the file, taken as compute of their measured time")
            return None
        other = whole(peer, where, "peer", 0, world - 1)
        if other == rank:
            raise fail(where, f"a {kind} of rank {rank} with itself")
        return Call(rank, kind, (sent or received or 0) * width, (rank, other), where, key=op)
    group = _group(args, capture, where, world, known)
    if rank not in group:
        raise fail(where, f"rank {rank} is not in its process group {shown(group)}")
    out_bytes = None if received is None else received * width
    size = _collectives.sized(kind, sent * width, out_bytes, len(group))
    root = _root(args, kind, group, where)
    splits: list[tuple[int, ...] | None] = [None, None]
    if kind == "all_to_all":
        for at, (key, count) in enumerate((("In split size", sent), ("Out split size", received or sent))):
            value = args.get(key)
            if value not in (None, "", "[]", []):
                listed = _split_list(value, where, key)
                if listed is None:
                    notes.count(f"{key} cut short in the file, taken as equal parts")
                else:
                    splits[at] = _collectives.scaled_splits(listed, count, width, where)
    name = str(args.get("Process Group Name", ""))
    return Call(
        rank=rank,
        kind=kind,
        bytes=size,
        group=group,
        where=where,
        group_name=name,
        root=root,
        sends=splits[0],
        receives=splits[1],
        key=op,
    )


def _root(args: dict[str, Any], kind: str, group: tuple[int, ...], where: str) -> int | None:
    """The root of a broadcast and the like: their "Rank" is its place in the group, not the rank's own."""
    if kind not in ("broadcast", "reduce", "gather", "scatter") or args.get("Rank") is None:
        return None
    return group[whole(args["Rank"], where, "Rank", 0, len(group) - 1)]


def _split_list(value: Any, where: str, key: str) -> list[int] | None:
    items = re.findall(r"[^\s,\[\]]+", value) if isinstance(value, str) else value
    if not isinstance(items, list):
        raise fail(where, f"{key}: found {shown(value)}, allowed: a list of integers")
    if "..." in items:
        return None
    return [whole(item, where, key, 0, LIMIT // 16) for item in items]


def _regular(args: dict[str, Any], where: str, size: int | None) -> tuple[int, ...] | None:
    """A group whose ranks are evenly spaced, which PyTorch says by start and stride; None: not said."""
    start, stride = args.get("Global rank start"), args.get("Global rank stride")
    if start is None or stride is None or size is None:
        return None
    first = whole(start, where, "Global rank start", 0, MAX_RANKS)
    each = whole(stride, where, "Global rank stride", 1, MAX_RANKS)
    return tuple(range(first, first + each * size, each))


def _group(
    args: dict[str, Any], capture: Capture, where: str, world: int, known: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    name = str(args.get("Process Group Name", ""))
    size = args.get("Group size")
    size = None if size is None else whole(size, where, "Group size", 1, MAX_RANKS)
    group = known.get(name) or _rank_list(args.get("Process Group Ranks"))
    if group is None and name in capture.groups:
        group = capture.groups[name][0]
    if group is None:
        group = _regular(args, where, size)
    if group is None and size in (None, world):
        group = everyone(world)
    if group is None:
        raise fail(
            where, f"the ranks of process group {name!r} of {size} are not in the file; give them with groups"
        )
    if size not in (None, len(group)):
        raise fail(where, f"process group {name!r} lists {len(group)} ranks, but its size is {size}")
    if max(group) >= world:
        raise fail(where, f"process group {name!r} has rank {max(group)} in a job of {world} ranks")
    return group
