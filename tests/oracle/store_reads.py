"""Reads through the cache, and reading ahead of them."""

from __future__ import annotations

from typing import Any

from .ranges import Ranges
from .store_calls import Calls
from .store_locks import Lock
from .store_state import ClientObject, Operation, Segment
from .store_targets import rate_ps


class Reads(Calls):
    """What a client does for reads; the rest is the client's own."""

    end: Any
    piece: Any
    object: Any
    find_lock: Any
    use_lock: Any
    release: Any
    use: Any
    evict: Any

    def choose_window(self, op: Operation) -> None:
        file, most = op.file, self.param["readahead_bytes"]
        if op.offset and op.offset == file.read_next:
            file.window = min(most, 2 * file.window if file.window else self.param["rpc_bytes"])
        else:
            file.window = file.ahead_end = 0
        if most and file.size <= self.param["readahead_whole_bytes"]:
            file.window = file.size
        file.read_next = op.end

    def ask(self, op: Operation) -> None:
        """Ask for pieces far ahead of the copy."""
        p, file = self.param, op.file
        window = p["rpcs_in_flight_count"]
        ahead = max(p["readahead_bytes"], window * p["rpc_bytes"])
        ahead = min(ahead, max(p["cache_bytes"] // 2, p["rpc_bytes"]))
        if not op.filling and op.asked - op.cursor > ahead // 2:
            return
        op.filling = True
        while op.asked < op.end and not op.locking and not op.refused:
            beyond = op.asked >= file.size
            if beyond and (op.at_end or len(op.segments) >= window):
                break
            most = p["rpc_bytes"] if beyond else file.size - op.asked
            most = min(most, op.cursor + ahead - op.asked)
            if most <= 0:
                op.filling = False
                break
            _, begin, size, number, target = self.piece(file, False, op.asked, min(most, op.end - op.asked))
            here = self.object(file, number, target)
            lock = None
            if p["locks"]:
                lock = self.use_lock(here, op.mode, begin, begin + size)
                if not lock:
                    op.wanted = here, begin, size
                    self.ask_lock(op, here, begin, begin + size)
                    return
            self.add_segment(op, here, begin, size, lock)
        if op.asked >= op.end and not op.ahead_done:
            op.ahead_done = True
            self.read_ahead(op)

    def add_segment(
        self, op: Operation, here: ClientObject, begin: int, size: int, lock: Lock | None
    ) -> None:
        op.segments.append(Segment(here, lock, begin, begin + size, begin - op.asked))
        known = max(0, min(op.asked + size, op.file.size) - op.asked)
        missing = self.ask_gaps(here, begin, begin + size)
        self.count["cache_hit_bytes"] += max(0, known - missing)
        op.asked += size
        self.use(here)

    def ask_gaps(self, here: ClientObject, begin: int, end: int) -> int:
        """Ask for what of a range is neither there nor on its way; return how many bytes that was."""
        missing = Ranges()
        missing.add(begin, end)
        for known in (here.dirty, here.cached, here.reading):
            for first, last in known:
                missing.remove(first, last)
        for first, last in missing:
            tail = here.tail
            if tail and tail.kind == "read" and not tail.op and tail.end == first:
                tail.end = last
                tail.left += last - first
            else:
                self.queue(self.make_part("read", None, here, first, last), here.channel)
            here.reading.add(first, last)
            here.newest_end = last
        return missing.size

    def read_ahead(self, op: Operation) -> None:
        file, whole = op.file, self.param["rpc_bytes"]
        target = min(op.end + min(file.window, self.param["cache_bytes"] // 2), file.size)
        if target < file.size:
            target -= target % whole
        at = max(op.end, file.ahead_end)
        while at < target:
            _, begin, size, number, where = self.piece(file, False, at, target - at)
            here = self.object(file, number, where)
            if self.param["locks"] and not self.find_lock(here, op.mode, begin, begin + size):
                break
            self.count["readahead_bytes"] += self.ask_gaps(here, begin, begin + size)
            at += size
            file.ahead_end = at

    def read_locked(self, op: Operation, lock: Lock | None) -> None:
        if lock:
            assert op.wanted
            here, begin, size = op.wanted
            self.add_segment(op, here, begin, size, lock)
        if op.copying or op.waits:
            self.ask(op)
        else:
            self.read_on(op)

    def read_on(self, op: Operation) -> None:
        """Go on with a read that neither copies nor waits for data."""
        self.ask(op)
        while op.segments:
            if not self.next_unit(op):
                return
            self.ask(op)
        if not op.locking and (op.asked >= op.end or op.at_end or op.refused):
            self.end(op)

    def next_unit(self, op: Operation) -> bool:
        """See to the first segment; return whether there is more to see to now."""
        segment, whole = op.segments[0], self.param["rpc_bytes"]
        here = segment.object
        if segment.at == segment.end:
            self.drop_segment(op)
            return True
        end = min(segment.end, (segment.at // whole + 1) * whole)
        here_now = Ranges()
        for known in (here.dirty, here.cached):
            for first, last in known:
                here_now.add(first, last)
        there = min(end, here_now.end_at(segment.at))
        coming = here.reading.end_at(there) > there
        gone = there == segment.at and there < here.end  # what is there is copied before it goes, too
        if there < end and (coming or gone):
            if not coming:  # it had to go before it was copied
                self.ask_gaps(here, there, end)
            op.waits = True
            here.readers.append(op)
            return False
        if there == segment.at:
            hole = min(end, op.file.size + segment.shift) - segment.at
            if hole > 0:
                self.count["bytes_read"] += hole
                segment.at += hole
                op.cursor += hole
            else:
                op.at_end = True
                while op.segments:
                    self.drop_segment(op)
            return True
        op.unit = there - segment.at
        op.copying = True
        self.timer(rate_ps(op.unit, self.param["copy_mbps"]), self.read_copied, op)
        return False

    def drop_segment(self, op: Operation) -> None:
        segment = op.segments.pop(0)
        if segment.lock:
            self.release(segment.object, segment.lock)

    def read_copied(self, op: Operation) -> None:
        op.copying = False
        op.segments[0].at += op.unit
        op.cursor += op.unit
        self.count["bytes_read"] += op.unit
        self.read_on(op)

    def arrived(self, here: ClientObject, begin: int, size: int, there: int) -> None:
        """The data of a call for the cache."""
        for first, last in here.reading.inside(begin, begin + size):
            here.reading.remove(first, last)
            if first < begin + there:
                here.cached.add(first, min(last, begin + there))
                self.use(here)
        readers, here.readers = here.readers, []
        for op in readers:
            op.waits = False
            self.read_on(op)
        self.evict()
