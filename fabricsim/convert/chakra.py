"""Import MLCommons Chakra execution traces: one protobuf (.et) or JSON file a rank become one trace.

Formats.  `<prefix>.<rank>.et`: GlobalMetadata, then Nodes, each preceded by its length (et_def.proto of
https://github.com/mlcommons/chakra).  JSON: an object with "workload_graph", a list of nodes with Id, Name,
NodeType, data_deps, ctrlDeps, runtime and is_cpu_op (Chakra's JSON feeder).

What becomes what
-----------------
COMP            compute: duration_micros; without it num_ops and tensor_size become flops and mem_bytes.
MEM_LOAD/STORE  compute: as COMP.
COMM_COLL       a collective by comm_type and comm_size.  comm_size is what a rank puts in, so an all_gather
                of a group of n is n * comm_size here.  The k-th collective of a process group on each rank
                is one row.
COMM_SEND/RECV  send, recv with comm_tag, matched in the order of the files.
passed through  METADATA, INVALID, and computation without time or work: nodes after them wait for what they
                waited for.  Collective nodes without comm_type or comm_size (PyTorch's wrappers around the
                real kernel) too; they are counted in a warning.
other types     storage, batch and checkpoint nodes: their measured time as compute, with a warning.

Process groups come from `groups`, else from the file's process-group nodes ("## process_group:init ##").
A node without pg_name belongs to the group of all ranks; so do the names "", "0" and "default_pg" when
nothing else is known of them.  A pg_name that nothing lists is taken as the ranks that use it (a warning).

Order.  Nodes run by their dependencies.  Where nodes carry a thread or CUDA stream (attributes stream, or
tid), nodes of the same one also run in order, by start time where there is one, else by place in the file;
CUDA streams keep their number, host threads are numbered from 1,000,000.  ctrl_deps of files made from
PyTorch traces are the call tree, name nodes that are not there and go in circles: with ``deps="auto"`` they
count only when every one of them can be followed; ``"both"`` insists, ``"data"`` leaves them out.

Captures of some ranks only: give `world_size`; else it is taken from the process groups.  The other ranks
of a group take part in its collectives as if they were always ready, and a message to or from them gets its
other half.  Left out: comm_priority, involved_dim, tensor contents and memory.
"""

from __future__ import annotations

import ast
import json
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from fabricsim.convert import ConvertReport, _protobuf
from fabricsim.convert._captures import (
    MAX_RANKS,
    Notes,
    bare,
    each,
    fail,
    files_of,
    members,
    option_count,
    parse_json,
    rank_in,
    shown,
    whole,
)
from fabricsim.convert._chakra_graph import build
from fabricsim.errors import ConfigError, InputError, Problem

INVALID, METADATA, MEM_LOAD, MEM_STORE, COMP, SEND, RECV, COLL = range(8)
LAST_TYPE = 10

_WANTED = {"is_cpu_op", "num_ops", "tensor_size", "comm_type", "comm_size", "comm_src", "comm_dst"}
_WANTED |= {"comm_tag", "pg_name", "stream", "tid", "root"}
# AttributeProto: field number -> how its value is kept (et_def.proto).
_SIGNED, _UNSIGNED, _ZIGZAG, _TEXT = (7, 9), (11, 13, 27), (15, 17), (29, 31)
_FIXED = {3: "<d", 5: "<f", 19: "<I", 21: "<Q", 23: "<i", 25: "<q"}
_JSON_KEYS = {
    "id": "id",
    "name": "name",
    "nodetype": "type",
    "type": "type",
    "ctrldeps": "ctrl_deps",
    "datadeps": "data_deps",
    "runtime": "duration",
    "durationmicros": "duration",
    "starttimemicros": "start",
}


@dataclass(slots=True)
class Node:
    """A node of one rank's graph; times in microseconds; `place` says where it stands in the file."""

    id: int
    place: str
    name: str = ""
    type: int = COMP
    ctrl_deps: list[int] = field(default_factory=list)
    data_deps: list[int] = field(default_factory=list)
    start: int = 0
    duration: int = 0
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class RankFile:
    """All nodes of a rank, in file order, and the process groups (name -> ranks, size) its file lists."""

    name: str
    rank: int
    nodes: list[Node]
    groups: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    world: int | None = None


def sniff(path: Path) -> bool:
    """Whether the path is a Chakra file, or a folder or archive with one."""
    try:
        if Path(path).is_file() and Path(path).suffix.lower() not in (".et", ".json", ".gz", ".tgz", ".tar"):
            return False
        for name, data in islice(members(path, _is_candidate), 4):
            if bare(name).lower().endswith(".et"):
                spans = list(zip(_protobuf.messages(data[: 1 << 16]), range(1), strict=False))
                return bool(spans)
            if b'"workload_graph"' in data[: 1 << 16]:
                return True
    except Exception:
        return False
    return False


def convert(
    path: str | os.PathLike[str],
    *,
    world_size: int | None = None,
    groups: Mapping[str, list[int]] | str | os.PathLike[str] | None = None,
    deps: str = "auto",
    prefix: str | None = None,
) -> ConvertReport:
    """Import a Chakra capture: a folder, an archive, a file, or the prefix of one file a rank.

    Parameters
    ----------
    world_size
        Ranks of the job, when the capture holds only some of them.
    groups
        Process groups: name -> list of ranks, or a JSON file of that (ASTRA-sim's communicator file).
    deps
        ``auto``, ``both`` or ``data``: whether ctrl_deps count (see the top of this file).
    prefix
        Which capture to take where there are several: the names before ``.<rank>.et`` or ``.<rank>.json``.

    Raises
    ------
    ConfigError
        A bad option.
    InputError
        A damaged file or a capture that does not fit together; names the file and the byte or node.
    """
    if deps not in ("auto", "both", "data"):
        raise ConfigError([Problem("deps", f"found {shown(deps)}, allowed: auto, both, data")])
    world = None if world_size is None else option_count(world_size, "world_size")
    known = read_groups(groups)
    notes = Notes()
    found = [(name, data) for name, data in members(path, _is_candidate) if _is_chakra(name, data, notes)]
    captures = each(_of_prefix(found, prefix, str(path)), lambda member: _rank_file(*member))
    captures = _assign_ranks(captures, str(path), world, notes)
    return build(captures, str(path), known, world, deps, files_of(path, _is_candidate), notes)


def _of_prefix(found: list[tuple[str, bytes]], prefix: str | None, where: str) -> list[tuple[str, bytes]]:
    """The files of one capture; raises InputError when there is none, or several and no `prefix` chooses."""
    if not found:
        raise fail(where, "no Chakra trace in it, allowed: .et files or JSON with a workload_graph")
    ending = re.compile(r"\.\d+\.(et|json)$", re.IGNORECASE)
    prefixes = [ending.sub("", bare(name).rsplit("/", 1)[-1]) for name, _ in found]
    known = ", ".join(sorted(set(prefixes))[:20])
    if prefix is None and len(set(prefixes)) > 1:
        raise fail(where, f"several captures in one place, choose one with prefix: {known}")
    chosen = [pair for pair, own in zip(found, prefixes, strict=True) if prefix in (None, own)]
    if not chosen:
        raise fail(where, f"no capture with prefix {shown(prefix)}; there are: {known}")
    return chosen


def _is_candidate(name: str) -> bool:
    return name.lower().endswith((".et", ".json"))


def _is_chakra(name: str, data: bytes, notes: Notes) -> bool:
    if bare(name).lower().endswith(".et") or b'"workload_graph"' in data:
        return True
    if not name.lower().endswith(".groups.json"):  # what an export writes for ASTRA-sim
        notes.warn(f"{name} is JSON, but not a Chakra trace: skipped")
    return False


def read_groups(groups: Any) -> dict[str, tuple[int, ...]]:
    """The option `groups` as name -> ranks; raises ConfigError or InputError."""
    if groups is None:
        return {}
    if isinstance(groups, (str, os.PathLike)):
        where = str(groups)
        try:
            groups = parse_json(where, Path(groups).read_bytes())
        except OSError as error:
            raise ConfigError([Problem("groups", f"{where}: {error.strerror or error}")]) from None
    if not isinstance(groups, Mapping):
        raise ConfigError([Problem("groups", "allowed: a mapping of group names to lists of ranks")])
    found = {}
    for name, ranks in groups.items():
        ok = isinstance(ranks, (list, tuple)) and ranks and len(set(map(str, ranks))) == len(ranks)
        if not ok or not all(type(r) is int and 0 <= r < MAX_RANKS for r in ranks):
            raise ConfigError([Problem(f"groups.{name}", f"found {shown(ranks)}, allowed: a list of ranks")])
        found[str(name)] = tuple(ranks)
    return found


def _rank_file(name: str, data: bytes) -> RankFile:
    rank = rank_in(name)
    capture = RankFile(name, -1 if rank is None else rank, [])
    if bare(name).lower().endswith(".et"):
        try:
            _read_protobuf(capture, data)
        except _protobuf.WireError as error:
            raise fail(f"{name}: byte {error.offset}", error.message) from None
    else:
        _read_json(capture, data)
    seen: set[int] = set()
    twice = []
    for node in capture.nodes:
        if node.id in seen:
            twice.append(node)
        seen.add(node.id)
    if twice:
        raise InputError([Problem(node.place, f"a second node with id {node.id}") for node in twice])
    return capture


def _assign_ranks(files: list[RankFile], where: str, world: int | None, notes: Notes) -> list[RankFile]:
    if len(files) == 1 and files[0].rank < 0:
        files[0].rank = 0
    by_rank: dict[int, RankFile] = {}
    for file in files:
        if file.rank < 0:
            raise fail(file.name, "no rank in the file's name, allowed: a name such as prefix.3.et")
        if file.rank in by_rank:
            raise fail(file.name, f"a second file of rank {file.rank}, after {by_rank[file.rank].name}")
        by_rank[file.rank] = file
    ranks = sorted(by_rank)
    if world is not None and ranks[-1] >= world:
        raise fail(by_rank[ranks[-1]].name, f"rank {ranks[-1]} in a job of world_size {world}")
    if len(files) > 1 and world is None and ranks[-1] >= len(ranks):
        missing = [r for r in range(min(ranks[-1], len(ranks) + 8)) if r not in by_rank]
        raise fail(
            where,
            f"{len(ranks)} files to rank {ranks[-1]}, but none of rank {', '.join(map(str, missing[:8]))}; "
            "give world_size to import a capture of some ranks only",
        )
    if any(not f.nodes for f in files):
        notes.count("files without nodes", sum(not f.nodes for f in files))
    return [by_rank[r] for r in ranks]


def _read_protobuf(capture: RankFile, data: bytes) -> None:
    spans = _protobuf.messages(data)
    first = next(spans, None)
    if first is None:
        raise _protobuf.WireError(0, "an empty file; it should begin with its metadata")
    _check_metadata(data, *first)
    capture.nodes += each(spans, lambda span: _node(capture, data, *span))


def _check_metadata(data: bytes, start: int, end: int) -> None:
    for number, wire, _, _ in _protobuf.fields(data, start, end):
        if number in (1, 2) and wire != _protobuf.BYTES:
            raise _protobuf.WireError(start, "the first message is not a Chakra GlobalMetadata")


def _node(capture: RankFile, data: bytes, start: int, end: int) -> Node:
    node = Node(0, "", type=INVALID)
    inputs = (0, 0)
    for number, wire, value, stop in _protobuf.fields(data, start, end):
        want = _protobuf.VARINT if number in (1, 3, 6, 7) else _protobuf.BYTES
        if number in (4, 5) and wire == _protobuf.VARINT:  # a repeated number may come unpacked
            (node.ctrl_deps if number == 4 else node.data_deps).append(value)
            continue
        if number <= 10 and wire != want:
            raise _protobuf.WireError(start, f"field {number} of a node: wire type {wire}, allowed: {want}")
        if number == 1:
            node.id = value
        elif number == 2:
            node.name = _protobuf.text(data, value, stop)
        elif number == 3:
            node.type = value
        elif number == 4:
            node.ctrl_deps += _protobuf.packed(data, value, stop)
        elif number == 5:
            node.data_deps += _protobuf.packed(data, value, stop)
        elif number == 6:
            node.start = value
        elif number == 7:
            node.duration = value
        elif number == 8:
            inputs = (value, stop)
        elif number == 10:
            name, held = _attribute(data, value, stop)
            if name in _WANTED:
                node.attrs[name] = held
    node.place = f"{capture.name}: node {node.id} at byte {start}"
    _check_type(node)
    if inputs[1] and "process_group" in node.name:
        for number, wire, value, stop in _protobuf.fields(data, *inputs):
            if number == 1 and wire == _protobuf.BYTES:
                capture.groups.update(parse_process_groups(_protobuf.text(data, value, stop), node.place))
    return node


def _check_type(node: Node) -> None:
    if not 0 <= node.type <= LAST_TYPE:
        raise fail(node.place, f"node type {node.type}, allowed: 0 to {LAST_TYPE}")


def _attribute(data: bytes, start: int, end: int) -> tuple[str, Any]:
    """An attribute's name and value; None for lists, which no attribute that is read has."""
    name = ""
    value: Any = None
    for number, wire, at, stop in _protobuf.fields(data, start, end):
        if number == 1 and wire == _protobuf.BYTES:
            name = _protobuf.text(data, at, stop)
        elif wire == _protobuf.VARINT and number in _SIGNED:
            value = _protobuf.signed(at)
        elif wire == _protobuf.VARINT and number in _UNSIGNED:
            value = at
        elif wire == _protobuf.VARINT and number in _ZIGZAG:
            value = _protobuf.zigzag(at)
        elif wire == _protobuf.BYTES and number in _TEXT:
            value = _protobuf.text(data, at, stop)
        elif number in _FIXED and stop - at == struct.calcsize(_FIXED[number]) and wire != _protobuf.VARINT:
            value = struct.unpack_from(_FIXED[number], data, at)[0]
    return name, value


def parse_process_groups(text: Any, where: str) -> dict[str, tuple[tuple[int, ...], int]]:
    """The groups in a "## process_group:init ##" node: name -> (ranks, size); ranks () are all ranks.

    The text is a JSON list of {"pg_name", "ranks", "group_size"}, or a Python list that holds such a text.
    """
    for _ in range(3):
        if isinstance(text, str):
            try:
                text = json.loads(text)
            except ValueError:
                try:
                    text = ast.literal_eval(text)
                except (ValueError, SyntaxError, MemoryError, RecursionError):
                    raise fail(where, f"process groups that cannot be read: {shown(text)}") from None
        if isinstance(text, list) and len(text) == 1 and isinstance(text[0], str):
            text = text[0]
    if not isinstance(text, list):
        raise fail(where, f"process groups that cannot be read: {shown(text)}")
    found = {}
    for entry in text:
        if not isinstance(entry, dict) or "pg_name" not in entry:
            raise fail(where, f"a process group without pg_name: {shown(entry)}")
        ranks = entry.get("ranks") or []
        if isinstance(ranks, dict):  # rank -> rank within the group
            ranks = list(ranks)
        if not isinstance(ranks, list):
            raise fail(where, f"process group {entry['pg_name']}: ranks {shown(ranks)}, allowed: a list")
        listed = tuple(whole(r, where, "rank", 0, MAX_RANKS) for r in ranks)
        if len(set(listed)) != len(listed):
            raise fail(where, f"process group {entry['pg_name']}: a rank twice in {shown(ranks)}")
        said = entry.get("group_size", entry.get("pg_size", len(listed)))
        size = whole(said, where, "group_size", 0, MAX_RANKS)
        found[str(entry["pg_name"])] = (listed, size or len(listed))
        if "backend_id" in entry:
            found[str(entry["backend_id"])] = (listed, size or len(listed))
    return found


def _read_json(capture: RankFile, data: bytes) -> None:
    document = parse_json(capture.name, data)
    graph = document.get("workload_graph") if isinstance(document, dict) else None
    if not isinstance(graph, list):
        raise fail(capture.name, "workload_graph: allowed: a list of nodes")
    if document.get("ngpus") is not None:
        capture.world = whole(document["ngpus"], capture.name, "ngpus", 1, MAX_RANKS)

    def one(item: tuple[int, Any]) -> None:
        index, entry = item
        where = f"{capture.name}: workload_graph[{index}]"
        if not isinstance(entry, dict):
            raise fail(where, f"found {shown(entry)}, allowed: a node")
        node = Node(-1, where, type=-1)
        for key, value in entry.items():
            known = _JSON_KEYS.get(key.lower().replace("_", ""))
            if known in ("ctrl_deps", "data_deps"):
                if not isinstance(value, list):
                    raise fail(where, f"{key}: found {shown(value)}, allowed: a list of ids")
                setattr(node, known, [whole(v, where, key, 0, (1 << 64) - 1) for v in value])
            elif known == "name":
                node.name = str(value)
            elif known:
                setattr(node, known, whole(value, where, key, 0, (1 << 64) - 1))
            elif key in _WANTED:
                node.attrs[key] = value
        for title, number in (("Id", node.id), ("NodeType", node.type)):
            if number < 0:
                raise fail(where, f"a node without {title}")
        node.place = f"{capture.name}: node {node.id} (workload_graph[{index}])"
        _check_type(node)
        capture.nodes.append(node)

    each(enumerate(graph), one)
