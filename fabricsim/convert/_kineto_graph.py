"""From the events of all ranks' Kineto traces to the rows of one trace; kineto.py states the rules."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabricsim.convert import ConvertReport, _collectives
from fabricsim.convert._captures import LIMIT, Notes, fail
from fabricsim.convert._collectives import Call
from fabricsim.convert._rows import HOST_STREAM, Rows, match_messages, message_row

if TYPE_CHECKING:
    from fabricsim.convert.kineto import Capture, HostCall, Op

#: Old traces have whole microseconds: an end may look up to this much too late.
TOLERANCE_NS = 1_000
#: Streams of communication are numbered from here, in order of first use on each rank.
COMM_STREAM = 900_000


class Timeline:
    """A rank's operations by stream and thread, and what each of them waits for."""

    def __init__(self, capture: Capture, notes: Notes) -> None:
        self.ops = capture.ops
        self.by_stream: dict[int, list[Op]] = defaultdict(list)
        self.by_thread: dict[Any, list[Op]] = defaultdict(list)
        for op in sorted(capture.ops, key=lambda op: (op.start, op.end, op.index)):
            op.slot = len(self.by_stream[op.stream])
            self.by_stream[op.stream].append(op)
        for op in capture.ops:  # in order of launch
            if op.launch is not None:
                self.by_thread[op.thread].append(op)
        self.launches = {s: _launch_times(ops) for s, ops in self.by_stream.items()}
        self.ends = {s: _running_max([op.end for op in ops]) for s, ops in self.by_stream.items()}
        self.thread_launches = {
            t: [op.launch for op in ops if op.launch is not None] for t, ops in self.by_thread.items()
        }
        self._name_lanes()
        self.waits_for: dict[int, list[Op]] = defaultdict(list)  # by the operation's index in the file
        self.host_waits: list[tuple[int, list[Op]]] = []
        entry = self._entry_waits(capture)
        self._exit_waits(capture, entry, notes)
        self._host_syncs(capture, notes)

    def _name_lanes(self) -> None:
        comm: dict[int, int] = {}
        for op in self.ops:
            if op.comm:
                comm.setdefault(op.stream, COMM_STREAM + len(comm))
        for op in self.ops:
            op.lane = comm.get(op.stream, op.stream)

    def _before(self, stream: int, launched: int, ended: int) -> Op | None:
        """The last operation of a stream launched before a time that had ended by another."""
        by_launch = bisect_left(self.launches[stream], launched)
        count = min(by_launch, bisect_right(self.ends[stream], ended + TOLERANCE_NS))
        return self.by_stream[stream][count - 1] if count else None

    def _entry_waits(self, capture: Capture) -> list[HostCall]:
        """Rule 1; gives the spans in which collectives were launched."""
        spans: dict[Any, list[HostCall]] = defaultdict(list)
        for span in capture.spans:
            spans[span.thread].append(span)
        starts = {thread: [s.start for s in own] for thread, own in spans.items()}
        entry = []
        last: Op | None = None
        last_of: dict[Any, Op] = {}
        for op in self.ops:
            if not op.comm:
                last = op
                last_of[op.thread] = op
                continue
            if op.launch is not None:
                own = spans.get(op.thread, [])
                at = bisect_right(starts.get(op.thread, []), op.launch)
                entry += [s for s in own[max(0, at - 8) : at] if s.end >= op.launch]
            before = last_of.get(op.thread, last) if op.launch is not None else last
            if before is not None and before.end > op.start + TOLERANCE_NS:
                before = self._before(before.stream, before.launch or before.start, op.start)
            if before is not None and before.stream != op.stream and before.end <= op.start + TOLERANCE_NS:
                self.waits_for[op.index].append(before)
        return entry

    def _exit_waits(self, capture: Capture, entry: list[HostCall], notes: Notes) -> None:
        """Rule 2."""
        inside: dict[Any, list[tuple[int, int]]] = defaultdict(list)
        for span in entry:
            inside[span.thread].append((span.start, span.end))
        for spans in inside.values():
            spans.sort()
        seen: dict[tuple[int, int], int] = {}
        for call in capture.waits:
            spans = inside.get(call.thread, [])
            at = bisect_right(spans, (call.start, 1 << 80))
            if any(end >= call.start for _, end in spans[max(0, at - 8) : at]):
                continue
            waiter = self._waiter(call)
            if waiter is None:
                notes.count("stream waits after which nothing was launched")
                continue
            for stream in self.by_stream:
                if stream == waiter.stream:
                    continue
                other = self._before(stream, call.start, waiter.start)
                if other is not None and other.slot > seen.get((waiter.stream, stream), -1):
                    seen[waiter.stream, stream] = other.slot
                    self.waits_for[waiter.index].append(other)

    def _waiter(self, call: HostCall) -> Op | None:
        """The first operation after a stream wait on the stream that its thread then uses (or used last)."""
        at = bisect_left(self.thread_launches.get(call.thread, []), call.start)
        own = self.by_thread.get(call.thread, [])
        following = (op.stream for op in islice(own, at, None) if not op.comm)
        preceding = (op.stream for op in map(own.__getitem__, range(at - 1, -1, -1)) if not op.comm)
        stream = next(following, None)
        if stream is None:
            stream = next(preceding, None)
        if stream is None:
            return None
        first = bisect_left(self.launches[stream], call.start)
        return next((op for op in islice(self.by_stream[stream], first, None) if not op.comm), None)

    def _host_syncs(self, capture: Capture, notes: Notes) -> None:
        """Rule 3: the times at which the host began to wait, and for which operations."""
        all_launches = sorted((op.launch, str(op.thread)) for op in self.ops if op.launch is not None)
        for call in capture.syncs:
            targets = self._sync_targets(call)
            if not targets:
                continue
            until = min(call.end, max(op.end for op in targets))
            low, high = bisect_right(all_launches, (call.start, "~")), bisect_left(all_launches, (until, ""))
            if any(thread != str(call.thread) for _, thread in all_launches[low:high]):
                notes.count("host synchronisations during which another thread launched, not taken as waits")
                continue
            self.host_waits.append((call.start, targets))
        for op in self.ops:
            if op.copy and op.launch_end is not None and op.end <= op.launch_end:
                self.host_waits.append((released(op), [op]))

    def _sync_targets(self, call: HostCall) -> list[Op]:
        if call.name.endswith(("DeviceSynchronize", "CtxSynchronize")):
            found = [self._before(s, call.start, call.end) for s in self.by_stream]
            return [op for op in found if op is not None]
        times = self.thread_launches.get(call.thread, [])
        at = bisect_left(times, call.start)
        if not at:
            return []
        last = self.by_thread[call.thread][at - 1]
        if last.end <= call.end + TOLERANCE_NS:
            return [last]
        ended = [self._before(s, call.start, call.end) for s in self.by_stream]
        return [max((op for op in ended if op), key=lambda op: op.end)] if any(ended) else []


def _launch_times(ops: list[Op]) -> list[int]:
    return _running_max([op.launch if op.launch is not None else op.start for op in ops])


def _running_max(values: list[int]) -> list[int]:
    result, top = [], -1
    for value in values:
        top = max(top, value)
        result.append(top)
    return result


def released(op: Op) -> int:
    """When the host had launched an operation: the end of the call, or the start where that was earlier."""
    assert op.launch is not None and op.launch_end is not None
    return max(op.launch, min(op.launch_end, op.start))


def build(
    captures: dict[int, Capture],
    calls: dict[int, list[tuple[Op, Call | None]]],
    where: str,
    world: int,
    gap_ns: int,
    sources: Sequence[Path],
    notes: Notes,
) -> ConvertReport:
    """The trace of all ranks; `calls` says of every communication kernel what it is (None: compute)."""
    for pairs in calls.values():
        for op, call in pairs:
            op.comm = call is not None
    lines = {rank: Timeline(capture, notes) for rank, capture in captures.items()}
    times = [t for c in captures.values() for op in c.ops for t in (op.start, op.launch) if t is not None]
    zero = min(times, default=0)
    for capture in captures.values():
        last = max((op.end for op in capture.ops), default=zero)
        if last - zero > LIMIT // 1000:
            text = f"ends {last - zero} ns after the earliest event, allowed: {LIMIT // 1000}"
            raise fail(capture.name, text)
    rows = Rows()
    priority: list[Any] = []
    row_of: dict[int, dict[int, int]] = {rank: {} for rank in captures}
    _communication(calls, rows, priority, row_of, captures, zero, notes)
    pieces = {rank: _pieces(line, gap_ns) for rank, line in lines.items()}
    for rank, own in pieces.items():
        for piece in own:
            columns = _piece_columns(piece, rank, zero)
            row = rows.add(f"{captures[rank].name}: traceEvents[{piece[0].index}]", columns)
            priority.append((piece[0].start - zero, rank, row))
            row_of[rank].update((op.index, row) for op in piece)
    delays: dict[int, list[int]] = defaultdict(list)
    for rank, line in lines.items():
        heads = [piece[0] for piece in pieces[rank]] + [op for op in line.ops if op.comm]
        host_rows = _host(rank, line, heads, rows, priority, row_of[rank], zero, captures[rank].name)
        _link(line, heads, host_rows, rows, row_of[rank], delays, zero)
    for row, measured in delays.items():
        if min(measured) > 0:
            rows.rows[row]["delay_ps"] = min(measured) * 1000
    events: Counter[str] = Counter()
    for capture in captures.values():
        events.update(capture.events)
    counts = {
        "ranks": world,
        "files": len(captures),
        "events": sum(events.values()),
        "gpu_operations": sum(len(c.ops) for c in captures.values()),
        "communication_kernels": sum(op.comm for c in captures.values() for op in c.ops),
    }
    if not counts["communication_kernels"]:
        notes.warn("no communication kernels in the capture")
    from fabricsim.trace import make_provenance

    provenance = make_provenance("convert kineto", source=sources, gap_ns=gap_ns, **counts)
    return rows.finish(rows.order(priority), notes, where, provenance, counts)


def _communication(
    calls: dict[int, list[tuple[Op, Call | None]]],
    rows: Rows,
    priority: list[Any],
    row_of: dict[int, dict[int, int]],
    captures: dict[int, Capture],
    zero: int,
    notes: Notes,
) -> None:
    collectives: list[Call] = []
    messages: dict[tuple[str, int, int, int], list[int]] = defaultdict(list)
    for rank, pairs in calls.items():
        for op, call in pairs:
            if call is None:
                continue
            call.start_ps, call.end_ps = (op.start - zero) * 1000, (op.end - zero) * 1000
            if call.kind not in ("send", "recv"):
                collectives.append(call)
                continue
            columns = message_row(call.kind, rank, call.group[1], max(call.bytes, 1))
            columns |= {"start_ps": call.start_ps, "end_ps": call.end_ps}
            columns |= {"name": op.name[:80], "stream": op.lane}
            row = rows.add(call.where, columns)
            priority.append((op.start - zero, rank, row))
            row_of[rank][op.index] = row
            ends = (rank, call.group[1]) if call.kind == "send" else (call.group[1], rank)
            messages[call.kind, *ends, 0].append(row)
    matched = _collectives.match(collectives)
    _collectives.check_members(matched, set(captures))
    for same in matched:
        columns = _collectives.row(same, notes)
        lanes = {c.key.lane for c in same}
        if len(lanes) > 1:
            notes.count("collectives on another communication stream on each rank, ordered by dependencies")
        columns |= {"name": same[0].key.name[:80], "stream": lanes.pop() if len(lanes) == 1 else None}
        row = rows.add(same[0].where, columns)
        priority.append((max(c.key.start for c in same) - zero, same[0].rank, row))
        for call in same:
            row_of[call.rank][call.key.index] = row
    match_messages(messages, rows, priority, set(captures), notes)


def _pieces(line: Timeline, gap_ns: int) -> list[list[Op]]:
    """Neighbouring operations of a stream that become one row of compute."""
    awaited = {op.index for ops in line.waits_for.values() for op in ops}
    awaited |= {op.index for _, ops in line.host_waits for op in ops}
    syncs = sorted(at for at, _ in line.host_waits)
    pieces = []
    for ops in line.by_stream.values():
        piece: list[Op] = []
        for op in ops:
            if op.comm:
                if piece:
                    pieces.append(piece)
                piece = []
                continue
            if piece and _cut(piece[-1], op, gap_ns, awaited, line.waits_for, syncs):
                pieces.append(piece)
                piece = []
            piece.append(op)
        if piece:
            pieces.append(piece)
    return pieces


def _cut(
    last: Op, op: Op, gap_ns: int, awaited: set[int], waits_for: dict[int, list[Op]], syncs: list[int]
) -> bool:
    if last.index in awaited or op.index in waits_for or op.start - last.end > gap_ns:
        return True
    if last.launch is None or op.launch is None:
        return last.launch is not op.launch
    return bisect_left(syncs, last.launch) < bisect_left(syncs, op.launch)


def _piece_columns(piece: list[Op], rank: int, zero: int) -> dict[str, Any]:
    start, end = piece[0].start, max(op.end for op in piece)
    name = piece[0].name[:80]
    return {
        "kind": "compute",
        "ranks": [rank],
        "duration_ps": (end - start) * 1000,
        "stream": piece[0].lane,
        "start_ps": (start - zero) * 1000,
        "end_ps": (end - zero) * 1000,
        "name": f"{name} and {len(piece) - 1} more" if len(piece) > 1 else name,
    }


def _host(
    rank: int,
    line: Timeline,
    heads: list[Op],
    rows: Rows,
    priority: list[Any],
    row_of: dict[int, int],
    zero: int,
    name: str,
) -> dict[int, int]:
    """The host's rows, from launch or synchronisation to launch; gives operation index -> host row."""
    points: list[tuple[int, int, int, Op | list[Op]]] = []
    for op in heads:
        if op.launch is not None:
            points.append((released(op), 0, op.index, op))
    points += [(at, 1, i, targets) for i, (at, targets) in enumerate(line.host_waits)]
    points.sort(key=lambda p: p[:3])
    now, last = zero, -1
    pending: set[int] = set()
    launched: dict[int, int] = {}

    def advance(to: int) -> None:
        nonlocal now, last, pending
        if to > now or pending or last < 0:
            columns = {"kind": "compute", "ranks": [rank], "duration_ps": max(0, to - now) * 1000}
            columns |= {"stream": HOST_STREAM, "start_ps": (now - zero) * 1000, "name": "host"}
            columns["end_ps"] = (max(to, now) - zero) * 1000
            row = rows.add(f"{name}: host", columns, pending)
            if last >= 0:
                rows.before[row].add(last)
            priority.append((now - zero, rank, row))
            last, pending = row, set()
        now = max(now, to)

    for at, _, _, what in points:
        advance(at)
        if isinstance(what, list):
            pending |= {row_of[op.index] for op in what}
            now = max(now, *(op.end for op in what))
        else:
            launched[what.index] = last
    return launched


def _link(
    line: Timeline,
    heads: list[Op],
    host_rows: dict[int, int],
    rows: Rows,
    row_of: dict[int, int],
    delays: dict[int, list[int]],
    zero: int,
) -> None:
    """Give every piece and collective its dependencies, and the time that they do not explain."""
    for op in heads:
        row = row_of[op.index]
        if op.index in host_rows:
            rows.after[row].add(host_rows[op.index])
        for other in line.waits_for.get(op.index, ()):
            if row_of[other.index] != row:
                rows.after[row].add(row_of[other.index])
        delays[row].append(_unexplained(op, line, host_rows, zero))
        if op.slot:
            before = line.by_stream[op.stream][op.slot - 1]
            earlier = row_of[before.index]
            if earlier != row:
                rows.before[row].add(earlier)
                if rows.rows[row].get("stream") is None or rows.rows[earlier].get("stream") is None:
                    rows.after[row].add(earlier)


def _unexplained(op: Op, line: Timeline, host_rows: dict[int, int], zero: int) -> int:
    """Nanoseconds between the last thing that an operation is known to have waited for and its start."""
    known = [zero, *(other.end for other in line.waits_for.get(op.index, ()))]
    if op.index in host_rows:
        known.append(released(op))
    if op.slot:
        known.append(line.by_stream[op.stream][op.slot - 1].end)
    return max(0, op.start - max(known))
