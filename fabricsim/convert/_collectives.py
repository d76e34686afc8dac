"""Make one row of the k-th collective of a process group on each rank, and collect rows into a trace.

Captures are written by each rank alone, so every importer ends here: calls are matched by their order within
the group, must agree in kind and size, and become one operation of the whole group.

Measured times.  A collective's kernel also waits for ranks that come late, so the time that the network took
is the shortest over the ranks: the merged row carries the start and the end of the rank with the shortest
kernel (ties: the one that ended first).  ``end_ps - start_ps`` is thus the least duration over the ranks.

Gather and scatter have no kind of their own: they become an all_to_all whose splits are zero but to, or from,
the root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fabricsim.convert._captures import LIMIT, Notes, fail

#: Names of collectives in PyTorch and NCCL, without underscores at the ends, to what they are here.
NAMES = {
    "allreduce": "all_reduce",
    "all_reduce": "all_reduce",
    "allreduce_coalesced": "all_reduce",
    "allreduce_sparse": "all_reduce",
    "allgather": "all_gather",
    "all_gather": "all_gather",
    "allgather_base": "all_gather",
    "all_gather_base": "all_gather",
    "allgather_coalesced": "all_gather",
    "allgather_into_tensor_coalesced": "all_gather",
    "all_gather_into_tensor_coalesced": "all_gather",
    "reducescatter": "reduce_scatter",
    "reduce_scatter": "reduce_scatter",
    "reduce_scatter_base": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "alltoall": "all_to_all",
    "all_to_all": "all_to_all",
    "all_to_allv": "all_to_all",
    "alltoall_base": "all_to_all",
    "alltoallv": "all_to_all",
    "broadcast": "broadcast",
    "broadcast_oop": "broadcast",
    "reduce": "reduce",
    "reduce_oop": "reduce",
    "barrier": "barrier",
    "gather": "gather",
    "scatter": "scatter",
    "send": "send",
    "recv": "recv",
}
#: Entries of one operation's splits, at most.
MAX_SPLITS = 1 << 26
#: Bytes of an element by PyTorch's name of its type, in lower case.
DTYPE_BYTES = {
    **dict.fromkeys(("byte", "char", "bool", "int8", "uint8", "float8_e4m3fn", "float8_e5m2"), 1),
    **dict.fromkeys(("float8_e4m3fnuz", "float8_e5m2fnuz", "quint8", "qint8"), 1),
    **dict.fromkeys(("half", "bfloat16", "short", "float16", "int16", "uint16"), 2),
    **dict.fromkeys(("float", "int", "float32", "int32", "uint32", "complexhalf"), 4),
    **dict.fromkeys(("double", "long", "float64", "int64", "uint64", "complexfloat"), 8),
    **dict.fromkeys(("complexdouble",), 16),
}


def kind_of(name: str) -> str | None:
    """What the collective of that name is, or None."""
    return NAMES.get(name.lower().strip("_"))


@dataclass(slots=True)
class Call:
    """One rank's part of a collective; sizes in bytes as the trace counts them, `root` is a rank."""

    rank: int
    kind: str
    bytes: int
    group: tuple[int, ...]
    where: str
    group_name: str = ""
    root: int | None = None
    sends: tuple[int, ...] | None = None
    receives: tuple[int, ...] | None = None
    start_ps: int | None = None
    end_ps: int | None = None
    key: Any = None


def match(calls: Iterable[Call]) -> list[list[Call]]:
    """The calls of every rank, in the order they were made, as one list a collective.

    Raises InputError, naming both ranks, when two ranks of a group made another number of calls, or calls of
    another kind or size.
    """
    by_group: dict[tuple[str, tuple[int, ...]], dict[int, list[Call]]] = {}
    for call in calls:
        by_group.setdefault((call.group_name, call.group), {}).setdefault(call.rank, []).append(call)
    matched: list[list[Call]] = []
    for (name, _group), by_rank in by_group.items():
        title = f"process group {name!r}" if name else "the process group of all"
        first_rank, first = next(iter(by_rank.items()))
        for rank, own in by_rank.items():
            for a, b in zip(first, own, strict=False):
                _agree(a, b)
            if len(own) != len(first):
                longer = own if len(own) > len(first) else first
                extra = longer[min(len(own), len(first))]
                raise fail(
                    extra.where,
                    f"rank {rank} made {len(own)} collectives in {title}, rank {first_rank} {len(first)}; "
                    f"this {extra.kind} of rank {extra.rank} has no partner",
                )
        matched.extend([own[k] for own in by_rank.values()] for k in range(len(first)))
    return matched


def check_members(matched: Sequence[Sequence[Call]], captured: set[int]) -> None:
    """Raise InputError when a rank of the capture is in a collective's group, but never called it."""
    for calls in matched:
        missing = (captured & set(calls[0].group)) - {c.rank for c in calls}
        if missing:
            raise fail(
                calls[0].where,
                f"{calls[0].kind} of rank {calls[0].rank}: rank {min(missing)} is in its process group "
                "and in the capture, but made no such call",
            )


def _agree(a: Call, b: Call) -> None:
    def said(call: Call) -> str:
        return f"{call.kind} of {call.bytes} bytes on rank {call.rank} ({call.where})"

    unequal = a.sends is not None or b.sends is not None
    if a.kind != b.kind or (a.bytes != b.bytes and not unequal):
        raise fail(b.where, f"the same collective is {said(a)}, but {said(b)}")
    if a.root is not None and b.root is not None and a.root != b.root:
        raise fail(b.where, f"{said(a)} has root {a.root}, but {said(b)} has root {b.root}")


def row(calls: Sequence[Call], notes: Notes) -> dict[str, Any]:
    """The columns of the one row of matched `calls`: kind, ranks, peer, bytes, splits, start_ps, end_ps."""
    first = calls[0]
    group = first.group
    columns: dict[str, Any] = {"kind": first.kind, "ranks": list(group), "bytes": first.bytes}
    if first.kind in ("broadcast", "reduce", "gather", "scatter"):
        root = next((c.root for c in calls if c.root is not None), None)
        if root is None:
            root = group[0]
            notes.count(f"{first.kind} without a root in the file, taken as from the group's first rank")
        elif root not in group:
            raise fail(first.where, f"{first.kind}: root {root} is not in its process group")
        if first.kind in ("gather", "scatter"):
            columns.update(_one_sided(first, root))
        else:
            columns["peer"] = [root]
    elif first.kind == "barrier":
        columns["bytes"] = None
    elif any(c.sends is not None for c in calls):
        columns.update(_unequal(calls, notes))
    timed = [c for c in calls if c.start_ps is not None and c.end_ps is not None]
    if timed:
        best = min(timed, key=lambda c: (c.end_ps - c.start_ps, c.end_ps, c.rank))  # type: ignore[operator]
        columns["start_ps"], columns["end_ps"] = best.start_ps, best.end_ps
    return columns


def _check_matrix(call: Call, n: int) -> None:
    if n * n > MAX_SPLITS:
        raise fail(call.where, f"unequal parts in a group of {n} ranks, allowed: up to {MAX_SPLITS} parts")


def _one_sided(call: Call, root: int) -> dict[str, Any]:
    n, at = len(call.group), call.group.index(root)
    _check_matrix(call, n)
    splits = [0] * (n * n)
    for i in range(n):
        splits[i * n + at if call.kind == "gather" else at * n + i] = call.bytes
    splits[at * n + at] = 0
    return {"kind": "all_to_all", "bytes": None, "splits": splits}


def _unequal(calls: Sequence[Call], notes: Notes) -> dict[str, Any]:
    """bytes and splits of an all_to_all; a rank outside the capture is taken to send as the captured do."""
    group = calls[0].group
    n = len(group)
    place = {rank: i for i, rank in enumerate(group)}
    rows: dict[int, tuple[int, ...]] = {}
    for c in calls:
        rows[place[c.rank]] = c.sends if c.sends is not None else (c.bytes // n,) * n
        if len(rows[place[c.rank]]) != n:
            raise fail(c.where, f"{len(rows[place[c.rank]])} send splits in a group of {n} ranks")
        if c.receives is not None and len(c.receives) != n:
            raise fail(c.where, f"{len(c.receives)} receive splits in a group of {n} ranks")
    received = {place[c.rank]: c.receives for c in calls if c.receives is not None}
    for i, sent in rows.items():
        for j, column in received.items():
            if sent[j] != column[i]:
                raise fail(
                    calls[0].where,
                    f"all_to_all: rank {group[i]} sends {sent[j]} bytes to rank {group[j]}, "
                    f"which receives {column[i]}",
                )
    if len(rows) < n:
        notes.count("all_to_all with splits where ranks outside the capture were taken to send the mean")
        mean = sum(map(sum, rows.values())) // (len(rows) * n)
        for i in range(n):
            if i not in rows:
                rows[i] = tuple(received[j][i] if j in received else mean for j in range(n))
    if len({size for sent in rows.values() for size in sent}) == 1:
        return {"bytes": rows[0][0] * n, "splits": None}
    if len(set(rows.values())) == 1:
        return {"bytes": None, "splits": list(rows[0])}
    _check_matrix(calls[0], n)
    return {"bytes": None, "splits": [size for i in range(n) for size in rows[i]]}


def scaled_splits(
    splits: Sequence[int], elements: int, element_bytes: int, where: str
) -> tuple[int, ...] | None:
    """Splits of a tensor's first dimension as bytes; None when there are none, which means equal parts."""
    if not splits:
        return None
    total = sum(splits)
    if total == 0:
        if elements:
            raise fail(where, f"splits that sum to 0 for a message of {elements} elements")
        return (0,) * len(splits)
    if elements % total:
        raise fail(where, f"splits sum to {total}, which does not divide the message of {elements} elements")
    scale = elements // total * element_bytes
    if max(splits) * scale > LIMIT:
        raise fail(where, f"a split of more than {LIMIT} bytes")
    return tuple(size * scale for size in splits)


def sized(kind: str, in_bytes: int, out_bytes: int | None, n: int) -> int:
    """A message's size as the trace counts it, from a rank's input and output bytes in a group of `n`."""
    if kind == "all_gather":
        return out_bytes if out_bytes else in_bytes * n
    if kind == "gather":
        return in_bytes
    if kind == "scatter":
        return out_bytes if out_bytes is not None else in_bytes // n
    if kind == "reduce_scatter":
        return in_bytes if in_bytes else (out_bytes or 0) * n
    return in_bytes
