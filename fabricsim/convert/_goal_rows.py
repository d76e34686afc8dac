"""From a matched GOAL schedule to rows, in an order that every stream can follow."""

from __future__ import annotations

import heapq

from fabricsim.convert._goal_match import circle
from fabricsim.convert._table import TableRows
from fabricsim.convert.goal import CALC, RECV, SEND, Schedule
from fabricsim.errors import InputError
from fabricsim.trace.order import find_cycle

_NAMES = {SEND: "send", RECV: "recv", CALC: "compute"}


def build(schedule: Schedule) -> TableRows:
    """The rows in the order of a run on a network without latency, each cpu computing one thing at a time.

    Streams follow that order, and what waits for a start waits for what the stream has before it, so no rank
    can wait for itself through the streams.  Raises InputError naming operations that wait for each other.
    """
    n = len(schedule)
    kind, rank, size, cpu, after = schedule.kind, schedule.rank, schedule.size, schedule.cpu, schedule.after
    waiting = [len(own) for own in after]
    followers: list[list[int]] = [[] for _ in range(n)]
    for op, own in enumerate(after):
        for b in own:
            followers[b].append(op)
    begun: dict[int, list[int]] = {}
    for op, starts in schedule.starts.items():
        waiting[op] += len(starts)
        for b in starts:
            begun.setdefault(b, []).append(op)
    for recv, send in schedule.partner.items():
        waiting[recv] += 1
        followers[send].append(recv)
    ready = [0] * n
    free: dict[tuple[int, int], tuple[int, int]] = {}
    # By cpu, the last thing it computes before what the operation waits to see started.
    before: dict[int, dict[int, int]] = {}
    row_of = [-1] * n
    rows = TableRows()
    # Who is anyone's peer has an operation too.
    sets = {r: rows.rank_set((r,)) for r in sorted(set(rank))}
    heap = [(0, op) for op in range(n) if not waiting[op]]
    zeros = 0
    while heap:
        at, op = heapq.heappop(heap)
        waits = [row_of[b] for b in after[op]]
        passed = before.pop(op, {})
        waits += passed.values()
        columns: dict[str, object] = {"after": sorted(set(waits)), "name": schedule.label[op]}
        end = at
        if kind[op] == CALC:
            core = (rank[op], cpu[op])
            if cpu[op] >= 0:
                until, last = free.get(core, (0, -1))
                end = max(at, until) + size[op]
                free[core] = end, op
                columns["stream"] = cpu[op]
                if last >= 0:
                    passed = {**passed, cpu[op]: row_of[last]}
            columns["duration_ps"] = size[op] * 1000
        else:
            zeros += not size[op]
            columns |= {"peer": sets[schedule.peer[op]], "bytes": size[op] or 1, "tag": schedule.tag[op]}
        row_of[op] = rows.add(_NAMES[kind[op]], sets[rank[op]], **columns)
        for child in begun.get(op, ()):
            for unit, row in passed.items():
                known = before.setdefault(child, {})
                known[unit] = max(row, known.get(unit, row))
            _release(child, at, ready, waiting, heap)
        for child in followers[op]:
            _release(child, end, ready, waiting, heap)
    if len(rows) < n:
        stuck = {op: [b for b in after[op] if row_of[b] < 0] for op in range(n) if row_of[op] < 0}
        for op, others in stuck.items():
            others += [b for b in schedule.starts.get(op, ()) if row_of[b] < 0]
            if op in schedule.partner and row_of[schedule.partner[op]] < 0:
                others.append(schedule.partner[op])
        circle(schedule, find_cycle(stuck))
        raise InputError(schedule.problems)
    if zeros:
        schedule.notes.count("messages of 0 bytes taken as 1 byte", zeros // 2)
    return rows


def _release(child: int, at: int, ready: list[int], waiting: list[int], heap: list[tuple[int, int]]) -> None:
    waiting[child] -= 1
    if at > ready[child]:
        ready[child] = at
    if not waiting[child]:
        heapq.heappush(heap, (ready[child], child))
