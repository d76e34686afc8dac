"""Collect rows of a trace, put them in an order that streams can follow, and make the trace of them."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from fabricsim.convert import ConvertReport
from fabricsim.convert._captures import LIMIT, Notes, fail
from fabricsim.errors import InputError

#: Streams of host threads are numbered from here, so that CUDA streams keep their own numbers.
HOST_STREAM = 1_000_000


def topological(parents: Sequence[Collection[int]], priority: Sequence[Any]) -> list[int]:
    """Positions so that parents come first, least priority first; without those on a circle or after one."""
    waiting = [len(p) for p in parents]
    followers: dict[int, list[int]] = defaultdict(list)
    for i, own in enumerate(parents):
        for parent in own:
            followers[parent].append(i)
    ready = [(priority[i], i) for i, n in enumerate(waiting) if n == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        _, i = heapq.heappop(ready)
        order.append(i)
        for child in followers[i]:
            waiting[child] -= 1
            if waiting[child] == 0:
                heapq.heappush(ready, (priority[child], child))
    return order


class Rows:
    """Rows by index, with dependencies between them; `finish` gives each its id in the order of the trace."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.after: list[set[int]] = []
        self.before: list[set[int]] = []  # order only, such as a send before its receive: not in the trace
        self.where: list[str] = []

    def add(self, where: str, columns: Mapping[str, Any], after: Iterable[int] = ()) -> int:
        """Add a row and give its index; `where` names its place in the input."""
        self.rows.append(dict(columns))
        self.after.append(set(after))
        self.before.append(set())
        self.where.append(where)
        return len(self.rows) - 1

    def order(self, priority: Sequence[Any]) -> list[int]:
        """Row indices so that every row comes after its dependencies, the least `priority` first.

        Raises InputError naming the rows of a cycle.
        """
        order = topological([a | b for a, b in zip(self.after, self.before, strict=True)], priority)
        if len(order) < len(self.rows):
            raise self._cycle(set(range(len(self.rows))) - set(order))
        return order

    def _cycle(self, stuck: set[int]) -> InputError:
        at = min(stuck)
        seen: dict[int, int] = {}
        path: list[int] = []
        while at not in seen:
            seen[at] = len(path)
            path.append(at)
            at = min(p for p in self.after[at] | self.before[at] if p in stuck)
        loop = path[seen[at] :]
        names = [f"{self.rows[i].get('name') or self.rows[i]['kind']} ({self.where[i]})" for i in loop[:6]]
        more = f" and {len(loop) - 6} more" if len(loop) > 6 else ""
        return fail(self.where[loop[0]], f"these wait for each other: {' for '.join(names)}{more}")

    def finish(
        self,
        order: Sequence[int],
        notes: Notes,
        where: str,
        provenance: Mapping[str, Any],
        counts: Mapping[str, int],
    ) -> ConvertReport:
        """The trace of the rows in that order, checked; raises InputError with all that is wrong with it."""
        from fabricsim.trace import Trace, validate
        from fabricsim.trace.schema import TRACE_SCHEMA, metadata

        if not self.rows:
            raise fail(where, "nothing in it becomes an operation of a trace" + _tail(notes))
        new_id = {old: new for new, old in enumerate(order)}
        columns: dict[str, list[Any]] = {name: [] for name in TRACE_SCHEMA.names}
        for new, old in enumerate(order):
            row = self.rows[old]
            deps = sorted(new_id[p] for p in self.after[old])
            for name, values in columns.items():
                values.append(row.get(name))
            columns["id"][-1] = new
            columns["after"][-1] = deps or None
        arrays = []
        try:
            for field in TRACE_SCHEMA:
                if pa.types.is_dictionary(field.type):
                    arrays.append(pa.array(columns[field.name], pa.string()).cast(field.type))
                else:
                    arrays.append(pa.array(columns[field.name], field.type))
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise fail(where, f"a value does not fit a trace: {str(error).splitlines()[0]}") from None
        table = pa.table(arrays, schema=TRACE_SCHEMA.with_metadata(metadata(provenance)))
        problems = validate(table, where)
        if problems:
            raise InputError(problems)
        kinds: dict[str, int] = defaultdict(int)
        for kind in columns["kind"]:
            kinds[kind] += 1
        total = {"rows": table.num_rows, **counts, **dict(sorted(kinds.items()))}
        return ConvertReport(trace=Trace(table), warnings=notes.warnings(), counts=total)


def _tail(notes: Notes) -> str:
    said = notes.warnings()
    return f" ({'; '.join(said[:5])})" if said else ""


def micros_to_ps(value: int, where: str, what: str) -> int:
    """Whole microseconds as picoseconds; raises InputError past the limit of a trace."""
    if not 0 <= value <= LIMIT // 1_000_000:
        raise fail(where, f"{what}: found {value} us, allowed: 0 to {LIMIT // 1_000_000} us")
    return value * 1_000_000


def message_row(kind: str, rank: int, peer: int, size: int, tag: int = 0) -> dict[str, Any]:
    """The columns of a send or recv of `rank` with `peer`, `size` in bytes."""
    return {"kind": kind, "ranks": [rank], "peer": [peer], "bytes": size, "tag": tag}


def match_messages(
    messages: Mapping[tuple[str, int, int, int], list[int]],
    rows: Rows,
    priority: list[Any],
    captured: set[int],
    notes: Notes,
) -> None:
    """Match the k-th send with the k-th receive of (source, destination, tag), and keep both in that order.

    `messages` holds row indices by (kind, source, destination, tag).  The half of a rank outside the capture
    is added.  Raises InputError for a message without partner, or of two sizes.
    """
    for src, dst, tag in sorted({key[1:] for key in messages}):
        sends = messages.get(("send", src, dst, tag), [])
        recvs = messages.get(("recv", src, dst, tag), [])
        if src in captured and dst in captured and len(sends) != len(recvs):
            extra = sends[len(recvs) :] or recvs[len(sends) :]
            raise fail(
                rows.where[extra[0]],
                f"{rows.rows[extra[0]]['kind']} from rank {src} to rank {dst}, tag {tag}, has no partner: "
                f"{len(sends)} sends, {len(recvs)} receives",
            )
        if src not in captured or dst not in captured:
            given, kind = (recvs, "send") if src not in captured else (sends, "recv")
            mine, peer = (src, dst) if kind == "send" else (dst, src)
            made = []
            for row in given:
                columns = message_row(kind, mine, peer, rows.rows[row]["bytes"], tag)
                made.append(rows.add(rows.where[row], columns | {"name": rows.rows[row].get("name")}))
                priority.append(priority[row])
                notes.count(f"{kind} rows added for ranks outside the capture")
            sends, recvs = (made, recvs) if kind == "send" else (sends, made)
        for k, (a, b) in enumerate(zip(sends, recvs, strict=True)):
            if rows.rows[a]["bytes"] != rows.rows[b]["bytes"]:
                raise fail(
                    rows.where[b],
                    f"a receive of {rows.rows[b]['bytes']} bytes from rank {src}, tag {tag}, matches "
                    f"a send of {rows.rows[a]['bytes']} bytes ({rows.where[a]})",
                )
            rows.before[b].add(a)
            if k:
                rows.before[a].add(sends[k - 1])
                rows.before[b].add(recvs[k - 1])
