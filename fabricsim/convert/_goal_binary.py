"""Read the binary GOAL schedules of LogGOPSim: little-endian, packed, offsets counted from byte 8.

u64 4223; u32 ranks, u8 cpu, u8 nic, then u64 start and end of each rank.  A rank: u32 nodes, u32 roots, the
roots; nodes of 39 bytes; behind them u32 numbers of the nodes that wait for the end, and for the start, of
each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fabricsim.convert._captures import LIMIT, MAX_RANKS
from fabricsim.convert.goal import ANY, CALC, KINDS, MOST_NS, SEND, Schedule
from fabricsim.errors import Problem

_BASE = 8
_Bad = Callable[[int, str], None]
_Array = npt.NDArray[Any]
NODE = np.dtype(
    [
        ("depends", "<u4"),
        ("type", "u1"),
        ("peer", "<u4"),
        ("size", "<u8"),
        ("tag", "<u4"),
        ("cpu", "u1"),
        ("nic", "u1"),
        ("n_after", "<u4"),
        ("after", "<u4"),
        ("n_starts", "<u4"),
        ("starts", "<u4"),
    ]
)


def parse(data: bytes, where: str) -> Schedule:
    """Read a binary schedule; what is wrong with it is in the result's `problems`."""
    schedule = Schedule(where, binary=True)

    def bad(byte: int, message: str) -> None:
        schedule.problems.append(Problem(f"{where}: byte {byte}", message))

    if len(data) < _BASE + 6:
        bad(len(data), "the file ends within its head")
        return schedule
    n = int.from_bytes(data[8:12], "little")
    table = _BASE + 6
    if not 1 <= n <= MAX_RANKS:
        bad(8, f"ranks: found {n}, allowed: 1 to {MAX_RANKS}")
        return schedule
    if len(data) < table + 16 * n:
        bad(len(data), f"the file ends within the table of its {n} ranks")
        return schedule
    schedule.n_ranks = n
    spans = np.frombuffer(data, "<u8", 2 * n, table).reshape(n, 2)
    for rank, (start, end) in enumerate(spans.tolist()):
        first, last = start + _BASE, end + _BASE
        if not table + 16 * n <= first <= last <= len(data):
            allowed = f"{table - _BASE + 16 * n} to {len(data) - _BASE}"
            bad(table + 16 * rank, f"rank {rank}: found {start} to {end}, allowed: {allowed}")
        elif last - first < 8:
            bad(first, f"rank {rank}: {last - first} bytes, allowed: at least 8")
        else:
            _rank(schedule, data, rank, first, last)
    return schedule


def _rank(schedule: Schedule, data: bytes, rank: int, first: int, last: int) -> None:
    def bad(byte: int, message: str) -> None:
        schedule.problems.append(Problem(f"{schedule.where}: byte {byte}", f"rank {rank}: {message}"))

    n_nodes, n_roots = (int(v) for v in np.frombuffer(data, "<u4", 2, first))
    at = first + 8 + 4 * n_roots
    behind = at + NODE.itemsize * n_nodes
    if behind > last:
        bad(first, f"found {n_nodes} nodes and {n_roots} roots, but only {last - first} bytes")
        return
    roots = np.frombuffer(data, "<u4", n_roots, first + 8)
    nodes = np.frombuffer(data, NODE, n_nodes, at)
    if (last - behind) % 4:
        bad(behind, f"found {last - behind} bytes behind the nodes, allowed: a multiple of 4")
        return
    listed = np.frombuffer(data, "<u4", (last - behind) // 4, behind)
    before = len(schedule.problems)
    _check_nodes(schedule, nodes, rank, at, bad)
    _check_lists(nodes, listed, at, behind, bad)
    if len(schedule.problems) > before:
        return
    _check_counts(nodes, listed, roots, first, at, bad)
    base = len(schedule)
    columns = (nodes[name].tolist() for name in ("type", "peer", "size", "tag", "cpu", "nic"))
    for number, (kind, peer, size, tag, cpu, nic) in enumerate(zip(*columns, strict=True)):
        place = at + NODE.itemsize * number
        if kind == CALC:
            schedule.add(kind, rank, size, place, cpu=cpu)
            continue
        schedule.add(kind, rank, size, place, peer=peer, tag=tag, cpu=cpu)
        if nic:
            schedule.notes.count("messages of a nic above 0, which is not told from the others")
    for number, (n_after, after, n_starts, starts) in enumerate(
        zip(*(nodes[name].tolist() for name in ("n_after", "after", "n_starts", "starts")), strict=True)
    ):
        for child in listed[after : after + n_after].tolist():
            schedule.after[base + child].append(base + number)
        for child in listed[starts : starts + n_starts].tolist():
            schedule.starts.setdefault(base + child, []).append(base + number)


def _check_nodes(schedule: Schedule, nodes: _Array, rank: int, at: int, bad: _Bad) -> None:
    kind, peer, size = nodes["type"], nodes["peer"].astype(np.int64), nodes["size"]
    message = kind != CALC
    anyone = (peer == ANY) & (kind != SEND)
    most = np.where(message, np.uint64(LIMIT), np.uint64(MOST_NS))
    checks = (
        ("type", ~np.isin(kind, list(KINDS)), f"1, 2 or 3 ({', '.join(KINDS.values())})"),
        ("peer", message & (peer >= schedule.n_ranks) & ~anyone, f"0 to {schedule.n_ranks - 1}"),
        ("peer", message & (peer == rank), "another rank"),
        ("size", size > most, f"up to {LIMIT} bytes or {MOST_NS} ns"),
        ("tag", (kind == SEND) & (nodes["tag"] == ANY), f"0 to {ANY - 1}"),
    )
    for key, wrong, allowed in checks:
        for number in np.flatnonzero(wrong)[:4].tolist():
            found = int(nodes[key][number])
            bad(at + NODE.itemsize * number, f"node {number}: {key}: found {found}, allowed: {allowed}")


def _check_lists(nodes: _Array, listed: _Array, at: int, behind: int, bad: _Bad) -> None:
    for count, start in (("n_after", "after"), ("n_starts", "starts")):
        n, first = nodes[count].astype(np.int64), nodes[start].astype(np.int64)
        for number in np.flatnonzero((n > 0) & (first + n > len(listed)))[:4].tolist():
            text = f"{start}: found {n[number]} from {first[number]}, allowed: up to {len(listed)}"
            bad(at + NODE.itemsize * number, f"node {number}: {text}")
    for entry in np.flatnonzero(listed >= len(nodes))[:4].tolist():
        text = f"found node {int(listed[entry])} among those that wait, allowed: 0 to {len(nodes) - 1}"
        bad(behind + 4 * entry, text)


def _check_counts(
    nodes: _Array,
    listed: _Array,
    roots: _Array,
    first: int,
    at: int,
    bad: _Bad,
) -> None:
    """Each node says for how many it waits, and the roots are those that wait for none."""
    waits = np.zeros(len(nodes), np.int64)
    for count, start in (("n_after", "after"), ("n_starts", "starts")):
        n, begin = nodes[count].astype(np.int64), nodes[start].astype(np.int64)
        starts = np.repeat(begin - np.concatenate(([0], np.cumsum(n)[:-1])) if len(n) else begin, n)
        np.add.at(waits, listed[starts + np.arange(int(n.sum()))], 1)
    for number in np.flatnonzero(waits != nodes["depends"])[:4].tolist():
        said = int(nodes["depends"][number])
        bad(
            at + NODE.itemsize * number,
            f"node {number} says that it waits for {said}, but is listed by {waits[number]}",
        )
    if sorted(roots.tolist()) != np.flatnonzero(nodes["depends"] == 0).tolist():
        bad(first + 8, "the roots are not the nodes that wait for none")
