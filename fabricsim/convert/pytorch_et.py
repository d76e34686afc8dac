"""Import PyTorch execution traces (ET, JSON): which collectives each rank made, and their sizes.

Schemas 1.0.1 (inputs are a list, everything at the node's top level), 1.0.2-chakra.0.0.4 and
1.1.x-chakra.0.0.4 ({"values", "shapes", "types"} and a list of attrs).  The nodes named
``record_param_comms`` hold, in their inputs, [tensors], sequence number, process group, rank, name of the
collective, send splits, receive splits and, since 1.0.2, the group's size (1.1: first global rank, stride,
size).  The rank field is the root of a broadcast or reduce and the peer of a send or recv.

An ET has no times.  Imported alone it becomes the sequence of the communication, one operation after another
on each rank, with no computing between; give it to the importer ``kineto`` as ``et=`` for a trace with times.
``wait`` records are not operations; they are counted.

Process groups: from the "## process_group:init ##" node where there is one.  Schema 1.0.1 names a group by an
address that differs on each rank, so only one group, that of all ranks, can be told: two are an error.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from fabricsim.convert import ConvertReport, _collectives
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
    shown,
    whole,
)
from fabricsim.convert._collectives import Call
from fabricsim.convert._rows import Rows, match_messages, message_row
from fabricsim.convert.chakra import parse_process_groups

_SILENT = frozenset({"wait", "init", "end", "pg_config", "coalesced", "start_coalescing", "end_coalescing"})
_ITEM_LIMIT = 1 << 16


@dataclass(slots=True)
class Record:
    """One ``record_param_comms``: elements and bytes are those of a rank's input and output tensors."""

    where: str
    name: str
    kind: str
    group: str
    field_rank: int
    in_elements: int
    in_bytes: int
    out_bytes: int
    sends: tuple[int, ...] | None
    receives: tuple[int, ...] | None
    size: int | None
    thread: int = 0


@dataclass(slots=True)
class RankRecords:
    """The records of a rank in the order they were made, and the process groups of its file."""

    name: str
    rank: int | None
    records: list[Record]
    groups: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    waits: int = 0


def sniff(path: Path) -> bool:
    """Whether the path is a PyTorch ET, or a folder or archive with one."""
    try:
        if Path(path).is_file() and Path(path).suffix.lower() not in (".json", ".gz", ".tgz", ".tar"):
            return False
        return any(looks_like(data) for _, data in islice(members(path, _is_candidate), 4))
    except Exception:
        return False


def convert(path: str | os.PathLike[str], *, world_size: int | None = None) -> ConvertReport:
    """Import the communication of PyTorch ETs: a folder, an archive or a file; one file a rank.

    Parameters
    ----------
    world_size
        Ranks of the job; else taken from the process groups, else the number of files.

    Raises
    ------
    ConfigError
        A bad option.
    InputError
        A damaged file, or ranks that do not fit together; names the file and the node.
    """
    world = None if world_size is None else option_count(world_size, "world_size")
    notes = Notes()
    notes.warn(
        "a PyTorch ET has no times: the trace is communication alone; for times import Kineto with et="
    )
    captures = read(path, notes)
    found = job_size(captures, world, notes)
    rows = Rows()
    asked, messages = [], {}
    for rank, capture in captures.items():
        for k, record in enumerate(capture.records):
            if record.kind in ("send", "recv"):
                messages[rank, k] = record
            else:
                asked.append((record, capture, rank, found, k))
    calls = each(asked, lambda one: call(*one))
    order: list[tuple[int, int]] = []
    matched = _collectives.match(calls)
    _collectives.check_members(matched, set(captures))
    row_of: dict[tuple[int, int], int] = {}
    for same in matched:
        row = rows.add(same[0].where, _collectives.row(same, notes) | {"name": same[0].kind, "stream": 0})
        order.append((min(c.key for c in same), same[0].rank))
        row_of |= {(c.rank, c.key): row for c in same}
    _add_messages(messages, captures, found, rows, order, row_of, notes)
    for rank, capture in captures.items():  # each rank's order, so that streams never wait in a circle
        own = [row_of[rank, k] for k in range(len(capture.records))]
        for a, b in pairwise(own):
            if a != b:
                rows.before[b].add(a)
    counts = {
        "ranks": found,
        "files": len(captures),
        "waits": sum(c.waits for c in captures.values()),
    }
    from fabricsim.trace import make_provenance

    provenance = make_provenance("convert pytorch-et", source=sources(path), **counts)
    return rows.finish(rows.order(order), notes, str(path), provenance, counts)


def _add_messages(
    messages: dict[tuple[int, int], Record],
    captures: dict[int, RankRecords],
    world: int,
    rows: Rows,
    order: list[tuple[int, int]],
    row_of: dict[tuple[int, int], int],
    notes: Notes,
) -> None:
    """Rows of sends and receives; the k-th from a rank to another matches the k-th there."""
    posted: dict[tuple[str, int, int, int], list[int]] = {}
    for (rank, k), record in messages.items():
        peer = peer_of(record, captures[rank], rank, world)
        size = record.in_bytes or record.out_bytes
        row = rows.add(record.where, message_row(record.kind, rank, peer, size) | {"stream": 0})
        row_of[rank, k] = row
        order.append((k, rank))
        ends = (rank, peer) if record.kind == "send" else (peer, rank)
        posted.setdefault((record.kind, *ends, 0), []).append(row)
    match_messages(posted, rows, order, set(captures), notes)


def peer_of(record: Record, capture: RankRecords, rank: int, world: int) -> int:
    """The other rank of a send or recv; raises InputError."""
    group = group_ranks(record, capture, world)
    if not 0 <= record.field_rank < len(group):
        raise fail(record.where, f"{record.kind} with rank {record.field_rank} of a group of {len(group)}")
    peer = group[record.field_rank]
    if peer == rank:
        raise fail(record.where, f"a {record.kind} of rank {rank} with itself")
    return peer


def read(path: str | os.PathLike[str], notes: Notes, *, mixed: bool = False) -> dict[int, RankRecords]:
    """The records of every rank's ET in a folder, archive or file, by rank; raises InputError.

    What is no ET is told in `notes`, unless other files are expected there (`mixed`).
    """
    by_rank: dict[int, RankRecords] = {}

    def one(member: tuple[str, bytes]) -> RankRecords | None:
        name, data = member
        if looks_like(data):
            return read_file(name, data)
        if not mixed:
            notes.warn(f"{name} is JSON, but not a PyTorch ET: skipped")
        return None

    captures = [capture for capture in each(members(path, _is_candidate), one) if capture is not None]
    if not captures:
        raise fail(str(path), 'no PyTorch ET in it, allowed: JSON with "schema" and "nodes"')
    for capture in captures:
        rank = capture.rank
        if rank is None and len(captures) > 1:
            rank = rank_in(capture.name)
        if rank is None:
            if len(captures) > 1:
                raise fail(capture.name, "no rank in its records, nor in its name")
            rank = 0
        if rank in by_rank:
            raise fail(capture.name, f"a second ET of rank {rank}, after {by_rank[rank].name}")
        by_rank[rank] = capture
    return dict(sorted(by_rank.items()))


def sources(path: str | os.PathLike[str]) -> list[Path]:
    """The files that `read` reads."""
    return files_of(path, _is_candidate)


def _is_candidate(name: str) -> bool:
    return bare(name).lower().endswith(".json")


def looks_like(data: bytes) -> bool:
    """Whether the contents of a file are those of an ET."""
    return b'"nodes"' in data and b'"schema"' in data and b'"traceEvents"' not in data[: 1 << 16]


def read_file(name: str, data: bytes) -> RankRecords:
    """The records of one file; raises InputError with the node that is wrong."""
    document = parse_json(name, data)
    nodes = document.get("nodes") if isinstance(document, dict) else None
    if not isinstance(nodes, list):
        raise fail(f"{name}: nodes", "allowed: a list of nodes")
    schema = str(document.get("schema", ""))
    if not schema.startswith(("1.0.", "1.1.")):
        raise fail(f"{name}: schema", f"found {shown(schema)}, allowed: 1.0.x and 1.1.x")
    capture = RankRecords(name, None, [])
    found = []

    def one(entry: tuple[int, Any]) -> None:
        index, node = entry
        if not isinstance(node, dict):
            raise fail(f"{name}: nodes[{index}]", f"found {shown(node)}, allowed: a node")
        title = node.get("name")
        if title == "record_param_comms":
            where = f"{name}: node {node.get('id')}"
            record = _record(node, where)
            if record is None:
                capture.waits += 1
                return
            order = whole(node.get("id", index), where, "id", 0, LIMIT)
            found.append((order, index, record))
        elif isinstance(title, str) and "process_group:init" in title:
            values = _values(node.get("inputs"))
            if values:
                capture.groups.update(parse_process_groups(values[0], f"{name}: node {node.get('id')}"))

    each(enumerate(nodes), one)
    capture.records = [record for _, _, record in sorted(found, key=lambda item: item[:2])]
    capture.rank = _own_rank(capture)
    return capture


def _own_rank(capture: RankRecords) -> int | None:
    """The rank that a file's records agree on: their rank field counts within the process group."""
    votes = set()
    for record in capture.records:
        if record.kind in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"):
            ranks = capture.groups.get(record.group, ((), 0))[0]
            if not ranks:
                votes.add(record.field_rank)
            elif 0 <= record.field_rank < len(ranks):
                votes.add(ranks[record.field_rank])
    return votes.pop() if len(votes) == 1 and min(votes) >= 0 else None


def _values(inputs: Any) -> list[Any]:
    if isinstance(inputs, dict):
        inputs = inputs.get("values")
    return inputs if isinstance(inputs, list) else []


def _record(node: dict[str, Any], where: str) -> Record | None:
    """A node's record; None for a wait and the like."""
    values = _values(node.get("inputs"))
    at = next((i for i, v in enumerate(values) if isinstance(v, str) and _is_name(v)), None)
    if at is None:
        raise fail(where, f"record_param_comms without a known collective: {shown(values)}")
    name = values[at].lower().strip("_")
    if name in _SILENT:
        return None
    if at < 3:
        raise fail(where, f"record_param_comms with {at} fields before {name!r}, allowed: at least 3")
    kind = _collectives.NAMES[name]
    group = values[at - 2]
    if isinstance(group, (list, tuple)) and group:
        group = group[0]
    sends, receives = (values[i] if len(values) > i else [] for i in (at + 1, at + 2))
    tail = [v for v in values[at + 3 :] if isinstance(v, int) and not isinstance(v, bool)]
    in_elements, in_bytes, width = _tensors(values[: at - 3], where)
    out_elements, out_bytes, out_width = _tensors(_values(node.get("outputs")), where)
    return Record(
        where=where,
        name=name,
        kind=kind,
        group=str(group),
        field_rank=whole(values[at - 1], where, "rank", -1, MAX_RANKS),
        in_elements=in_elements,
        in_bytes=in_bytes,
        out_bytes=out_bytes,
        sends=_collectives.scaled_splits(_splits(sends, where), in_elements, width, where),
        receives=_collectives.scaled_splits(_splits(receives, where), out_elements, out_width, where),
        size=whole(tail[-1], where, "group size", 1, MAX_RANKS) if tail and tail[-1] > 0 else None,
    )


def _is_name(value: str) -> bool:
    name = value.lower().strip("_")
    return name in _SILENT or name in _collectives.NAMES


def _splits(value: Any, where: str) -> list[int]:
    if not isinstance(value, list):
        raise fail(where, f"splits: found {shown(value)}, allowed: a list of integers")
    return [whole(v, where, "a split") for v in value]


def _tensors(value: Any, where: str) -> tuple[int, int, int]:
    """Elements, bytes and element width of nested lists of [id, storage, offset, n, width, device]."""
    elements = total = width = seen = 0
    queue = [value]
    while queue:
        item = queue.pop()
        seen += 1
        if seen > _ITEM_LIMIT:
            raise fail(where, f"more than {_ITEM_LIMIT} tensors")
        if not isinstance(item, list):
            continue
        if len(item) in (6, 7) and isinstance(item[5], str) and all(isinstance(v, int) for v in item[:5]):
            count = whole(item[3], where, "elements", 0, LIMIT)
            size = whole(item[4], where, "element bytes", 0, 64)
            elements, total, width = elements + count, total + count * size, size
        else:
            queue.extend(item)
    if total > LIMIT:
        raise fail(where, f"tensors of {total} bytes, allowed: up to {LIMIT}")
    return elements, total, width


def job_size(captures: dict[int, RankRecords], world: int | None, notes: Notes) -> int:
    """How many ranks the job has; raises InputError where ranks are missing and nothing says so."""
    top = max(captures)
    if world is not None:
        if top >= world:
            raise fail(captures[top].name, f"rank {top} in a job of world_size {world}")
        return world
    stated = [top + 1]
    for capture in captures.values():
        for ranks, size in capture.groups.values():
            stated.append(max(ranks) + 1 if ranks else size)
        for record in capture.records:
            if record.size:
                stated.append(record.size)
            stated += [len(s) for s in (record.sends, record.receives) if s]
    found = max(stated)
    if len(captures) < found:
        missing = [r for r in range(found) if r not in captures]
        some = ", ".join(map(str, missing[:8]))
        if len(captures) > 1:
            raise fail(captures[top].name, f"no ET of rank {some}; give world_size to import some ranks only")
        notes.warn(f"one rank of {found} is in the capture; the others only answer")
    return found


def group_ranks(record: Record, capture: RankRecords, world: int) -> tuple[int, ...]:
    """The ranks of a record's process group; raises InputError when the file does not tell."""
    listed = capture.groups.get(record.group)
    if listed is not None:
        return listed[0] or everyone(world)
    others = {r.group for r in capture.records}
    if len(others) > 1 and record.size != world:
        text = f"process group {record.group} is one of {len(others)}, and nothing lists its ranks"
        raise fail(record.where, text)
    return everyone(world)


def call(record: Record, capture: RankRecords, rank: int, world: int, key: Any) -> Call:
    """A collective's record as one rank's part of it."""
    group = group_ranks(record, capture, world)
    if rank not in group:
        raise fail(record.where, f"rank {rank} is not in its process group {record.group}")
    root = None
    if record.kind in ("broadcast", "reduce", "gather", "scatter"):
        if not 0 <= record.field_rank < len(group):
            raise fail(record.where, f"root {record.field_rank} of a process group of {len(group)} ranks")
        root = group[record.field_rank]
    size = _collectives.sized(record.kind, record.in_bytes, record.out_bytes or None, len(group))
    if size > LIMIT:
        raise fail(record.where, f"a message of {size} bytes, allowed: up to {LIMIT}")
    equal = record.kind != "all_to_all"
    return Call(
        rank=rank,
        kind=record.kind,
        bytes=size,
        group=group,
        where=record.where,
        group_name=record.group if capture.groups.get(record.group, ((), 0))[0] else "",
        root=root,
        sends=None if equal else record.sends,
        receives=None if equal else record.receives,
        key=key,
    )
