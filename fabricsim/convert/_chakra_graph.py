"""From the Chakra graphs of all ranks to the rows of one trace: dependencies, process groups and matching."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabricsim.convert import ConvertReport, _collectives
from fabricsim.convert._captures import LIMIT, MAX_RANKS, Notes, everyone, fail, whole
from fabricsim.convert._collectives import Call
from fabricsim.convert._rows import HOST_STREAM, Rows, match_messages, message_row, micros_to_ps, topological
from fabricsim.errors import InputError, Problem

if TYPE_CHECKING:
    from fabricsim.convert.chakra import Node, RankFile

_INVALID, _METADATA, _MEM_LOAD, _MEM_STORE, _COMP, _SEND, _RECV, _COLL = range(8)
#: CollectiveCommType of et_def.proto, by number.
_COMM_TYPES = (
    "all_reduce",
    "reduce",
    "all_gather",
    "gather",
    "scatter",
    "broadcast",
    "all_to_all",
    "reduce_scatter",
    "reduce_scatter",
    "barrier",
)
_OF_ALL = ("", "0", "default_pg")
#: A node that is passed through must not multiply dependencies: with more than this it stays, as 0 ps.
_MOST_PASSED = 64


def build(
    files: list[RankFile],
    where: str,
    known: Mapping[str, tuple[int, ...]],
    world: int | None,
    deps: str,
    sources: Sequence[Path],
    notes: Notes,
) -> ConvertReport:
    """The trace of one Chakra graph a rank; see chakra.py for the rules and the errors."""
    parents = _dependencies(files, deps, notes)
    orders = [_local_order(f, parents[f.rank]) for f in files]
    world = _world(files, world, notes)
    rows = Rows()
    priority: list[Any] = []
    row_of: dict[int, dict[int, int]] = {f.rank: {} for f in files}
    calls: list[Call] = []
    messages: dict[tuple[str, int, int, int], list[int]] = defaultdict(list)
    group_of = _Groups(files, known, world, notes)
    starts = [n.start for f in files for n in f.nodes if n.start]
    first = min(starts, default=0)
    problems: list[Problem] = []
    for f, order in zip(files, orders, strict=True):
        lanes = _Lanes()
        for index in order:
            node = f.nodes[index]
            try:
                made = _columns(node, f.rank, notes)
            except InputError as error:
                problems.extend(error.problems)
                continue
            if made is None or problems:
                continue
            if node.start:
                made["start_ps"] = micros_to_ps(node.start - first, node.place, "start_time_micros")
                made["end_ps"] = made["start_ps"] + micros_to_ps(node.duration, node.place, "duration_micros")
            made |= {"name": node.name or None, "stream": lanes.of(node)}
            if node.type == _COLL:
                calls.append(_call(node, index, f.rank, made, group_of.ranks(f, node)))
                continue
            row = row_of[f.rank][index] = rows.add(node.place, made)
            priority.append((node.start, index, f.rank))
            if node.type in (_SEND, _RECV):
                ends = (f.rank, made["peer"][0]) if node.type == _SEND else (made["peer"][0], f.rank)
                if max(ends) >= world:
                    raise fail(node.place, f"rank {max(ends)} is not in the job of {world} ranks")
                messages[made["kind"], *ends, made["tag"]].append(row)
    if problems:
        raise InputError(problems)
    _add_collectives(calls, rows, priority, row_of, {f.rank for f in files}, notes)
    _add_dependencies(files, orders, parents, rows, priority, row_of)
    match_messages(messages, rows, priority, {f.rank for f in files}, notes)
    if not calls and not messages:
        notes.warn("no communication is left: no node has both a comm_type and a comm_size")
    counts = {"ranks": world, "files": len(files), "nodes": sum(len(f.nodes) for f in files)}
    from fabricsim.trace import make_provenance

    provenance = make_provenance("convert chakra", source=sources, **counts)
    return rows.finish(rows.order(priority), notes, where, provenance, counts)


def _dependencies(files: list[RankFile], deps: str, notes: Notes) -> dict[int, list[list[int]]]:
    """For every rank and node the positions of the nodes that it waits for."""
    control = deps == "both"
    if deps == "auto":
        followed = all(_indexed(f, True, strict=False) is not None for f in files)
        control = followed and all(_is_acyclic(_indexed(f, True, strict=True) or []) for f in files)
        if not control:
            lost = sum(len(n.ctrl_deps) for f in files for n in f.nodes)
            notes.count("ctrl_deps left out, because some name no node or go in a circle", lost)
    result = {}
    for f in files:
        result[f.rank] = _indexed(f, control, strict=True) or []
    return result


def _indexed(f: RankFile, control: bool, *, strict: bool) -> list[list[int]] | None:
    position = {node.id: i for i, node in enumerate(f.nodes)}
    result = []
    for node in f.nodes:
        ids = node.data_deps + node.ctrl_deps if control else node.data_deps
        try:
            result.append(list(dict.fromkeys(position[i] for i in ids)))
        except KeyError as error:
            if not strict:
                return None
            raise fail(node.place, f"waits for node {error.args[0]}, which is not in the file") from None
    return result


def _is_acyclic(parents: list[list[int]]) -> bool:
    return len(topological(parents, [(0, 0)] * len(parents))) == len(parents)


def _local_order(f: RankFile, parents: list[list[int]]) -> list[int]:
    order = topological(parents, [(node.start, i) for i, node in enumerate(f.nodes)])
    if len(order) < len(f.nodes):
        done = set(order)
        at = next(i for i in range(len(f.nodes)) if i not in done)
        path: list[int] = []
        while at not in path:
            path.append(at)
            at = next(p for p in parents[at] if p not in done)
        loop = path[path.index(at) :]
        chain = ", ".join(str(f.nodes[i].id) for i in loop[:8])
        raise fail(f.nodes[loop[0]].place, f"nodes wait for each other in a circle of {len(loop)}: {chain}")
    return order


def _world(files: list[RankFile], world: int | None, notes: Notes) -> int:
    least = files[-1].rank + 1
    if world is not None:
        if world > len(files):
            notes.warn(f"{len(files)} of {world} ranks are in the capture; the others only answer")
        return world
    stated = [f.world for f in files if f.world]
    for f in files:
        for name, (ranks, size) in f.groups.items():
            if not ranks and name in _OF_ALL:
                stated.append(size)
            elif ranks:
                least = max(least, max(ranks) + 1)
    found = max([least, *stated])
    if found > len(files):
        notes.warn(f"{len(files)} of {found} ranks are in the capture, as its process groups say")
    elif len(files) == 1:
        peers = [
            whole(value, n.place, key, 0, MAX_RANKS)
            for n in files[0].nodes
            for key in ("comm_src", "comm_dst")
            if (value := n.attrs.get(key)) is not None
        ]
        found = max([found, *(p + 1 for p in peers)])
        if found == 1:
            notes.warn("one rank, and nothing tells of others: its groups have one rank; give world_size")
        else:
            notes.warn(f"one rank only, taken to be of a job of {found} ranks; else give world_size")
    return found


class _Groups:
    """Which ranks a node's process group has."""

    def __init__(
        self, files: list[RankFile], known: Mapping[str, tuple[int, ...]], world: int, notes: Notes
    ) -> None:
        self.known, self.world, self.notes = known, world, notes
        self.users: dict[str, set[int]] = defaultdict(set)
        for f in files:
            for node in f.nodes:
                if node.type == _COLL and node.attrs.get("pg_name") not in (None, ""):
                    self.users[str(node.attrs["pg_name"])].add(f.rank)

    def ranks(self, f: RankFile, node: Node) -> tuple[int, ...]:
        name = node.attrs.get("pg_name")
        name = "" if name is None else str(name)
        if name in self.known:
            group = self.known[name]
        elif name in f.groups:
            group = f.groups[name][0] or everyone(self.world)
        elif name in _OF_ALL:
            group = everyone(self.world)
        else:
            group = tuple(sorted(self.users[name]))
            text = f"process group {name!r} lists no ranks, taken as the {len(group)} ranks that use it"
            self.notes.warn(text)
        if f.rank not in group:
            raise fail(node.place, f"rank {f.rank} is not in its process group {name!r}")
        if max(group) >= self.world:
            text = f"process group {name!r} has rank {max(group)} in a job of {self.world} ranks"
            raise fail(node.place, text)
        return group


class _Lanes:
    """The stream of a node: its CUDA stream, or its host thread from HOST_STREAM on; None when unknown."""

    def __init__(self) -> None:
        self.threads: dict[int, int] = {}

    def of(self, node: Node) -> int | None:
        raw = node.attrs.get("stream", node.attrs.get("tid"))
        if raw is None:
            return None
        lane = whole(raw, node.place, "stream or tid", -LIMIT)
        if not node.attrs.get("is_cpu_op", True) and 0 <= lane < HOST_STREAM:
            return lane
        return HOST_STREAM + self.threads.setdefault(lane, len(self.threads))


def _columns(node: Node, rank: int, notes: Notes) -> dict[str, Any] | None:
    """The columns of a node's row; None for a node that is passed through."""
    if node.type in (_INVALID, _METADATA):
        if node.type == _INVALID:
            notes.count("nodes of type INVALID passed through")
        return None
    number = _reader(node)
    if node.type == _COLL:
        comm_type, size = number("comm_type"), number("comm_size")
        if comm_type is None or (size is None and comm_type != 9):
            notes.count("collective nodes without comm_type or comm_size passed through (wrappers)")
            notes.count(f"  of these, named {node.name.partition('(')[0][:40]!r}")
            return None
        if not 0 <= comm_type < len(_COMM_TYPES):
            raise fail(node.place, f"comm_type {comm_type}, allowed: 0 to {len(_COMM_TYPES) - 1}")
        if not size and comm_type != 9:
            notes.count("collective nodes of 0 bytes passed through")
            return None
        return {"kind": _COMM_TYPES[comm_type], "bytes": size}
    if node.type in (_SEND, _RECV):
        return _message(node, rank, notes)
    columns: dict[str, Any] = {"kind": "compute", "ranks": [rank]}
    if node.type > _COLL:
        notes.count("storage, batch or checkpoint nodes, taken as compute of their measured time")
    if node.duration:
        columns["duration_ps"] = micros_to_ps(node.duration, node.place, "duration_micros")
        return columns
    flops, touched = number("num_ops") or 0, number("tensor_size") or 0
    if node.type in (_MEM_LOAD, _MEM_STORE):
        notes.count("MEM_LOAD and MEM_STORE nodes taken as local memory traffic")
    if not flops and not touched:
        return None
    return columns | {"flops": float(flops), "mem_bytes": touched}


def _reader(node: Node) -> Any:
    def number(name: str, low: int = 0, high: int = LIMIT) -> int | None:
        value = node.attrs.get(name)
        return None if value is None else whole(value, node.place, name, low, high)

    return number


def _message(node: Node, rank: int, notes: Notes) -> dict[str, Any] | None:
    number = _reader(node)
    kind = "send" if node.type == _SEND else "recv"
    mine, theirs = ("comm_src", "comm_dst") if kind == "send" else ("comm_dst", "comm_src")
    size, peer, own = number("comm_size"), number(theirs, 0, MAX_RANKS), number(mine, 0, MAX_RANKS)
    if size is None or peer is None:
        notes.count(f"{kind} nodes without comm_size or {theirs} passed through")
        return None
    if own not in (None, rank):
        raise fail(node.place, f"a {kind} with {mine} {own} in the file of rank {rank}")
    if peer == rank:
        raise fail(node.place, f"a {kind} of rank {rank} with itself")
    if size == 0:
        notes.count("messages of 0 bytes taken as 1 byte")
    return message_row(kind, rank, peer, size or 1, number("comm_tag", -LIMIT) or 0)


def _call(node: Node, index: int, rank: int, made: dict[str, Any], group: tuple[int, ...]) -> Call:
    size, n = made["bytes"] or 0, len(group)
    if size > LIMIT // max(n, 1):
        raise fail(node.place, f"comm_size: found {size}, too large for a group of {n} ranks")
    root = _reader(node)("root", 0, MAX_RANKS)
    return Call(
        rank=rank,
        kind=made["kind"],
        bytes=_collectives.sized(made["kind"], size, None, n),
        group=group,
        where=node.place,
        group_name=str(node.attrs.get("pg_name") or ""),
        root=root,
        start_ps=made.get("start_ps"),
        end_ps=made.get("end_ps"),
        key=(index, node, made["stream"]),
    )


def _add_collectives(
    calls: list[Call],
    rows: Rows,
    priority: list[Any],
    row_of: dict[int, dict[int, int]],
    captured: set[int],
    notes: Notes,
) -> None:
    matched = _collectives.match(calls)
    _collectives.check_members(matched, captured)
    for same in matched:
        nodes = [c.key[1] for c in same]
        lanes = {c.key[2] for c in same}
        if len(lanes) > 1:
            notes.count("collectives on another stream on each rank, left without a stream")
        columns = _collectives.row(same, notes)
        columns |= {"name": nodes[0].name or None, "stream": lanes.pop() if len(lanes) == 1 else None}
        row = rows.add(nodes[0].place, columns)
        first = min(same, key=lambda c: (c.key[1].start, c.key[0], c.rank))
        priority.append((first.key[1].start, first.key[0], first.rank))
        for call in same:
            row_of[call.rank][call.key[0]] = row


def _add_dependencies(
    files: list[RankFile],
    orders: list[list[int]],
    parents: dict[int, list[list[int]]],
    rows: Rows,
    priority: list[Any],
    row_of: dict[int, dict[int, int]],
) -> None:
    """Give every row the rows it waits for, through the nodes that are passed through."""
    for f, order in zip(files, orders, strict=True):
        own = row_of[f.rank]
        ends: dict[int, frozenset[int]] = {}
        for index in order:
            node = f.nodes[index]
            needed = _union(ends[p] for p in parents[f.rank][index])
            row = own.get(index)
            if row is None and len(needed) > _MOST_PASSED:
                row = rows.add(
                    node.place,
                    {"kind": "compute", "ranks": [f.rank], "duration_ps": 0, "name": node.name or None},
                )
                priority.append((node.start, index, f.rank))
            if row is None:
                ends[index] = needed
                continue
            rows.after[row] |= needed
            ends[index] = frozenset((row,))


def _union(parts: Iterable[frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*parts)
