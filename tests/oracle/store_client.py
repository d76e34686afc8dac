"""A client: what operations ask of files and objects, the page cache, reading ahead.

Operations are generators that stop at each wait; whoever ends it calls ``resume``. Reads through the cache,
of which a part asks and a part copies, are not: ``store_reads.py``. What is wanted of servers goes through
``store_calls.py``.
"""

from __future__ import annotations

from typing import Any

from .ranges import Ranges
from .store_calls import Channel, Part
from .store_locks import EOF, GROUP, PR, PW, Lock
from .store_reads import Reads
from .store_state import ClientFile, ClientObject, Operation, Steps
from .store_targets import rate_ps

DIRECT_FLAG, TRUNC = 8, 4
FOR_EVER = 1 << 62


class Client(Reads):
    """The client of a host."""

    def file(self, number: int) -> ClientFile:
        if number not in self.files:
            before = max(0, self.store.files[number].size_before)  # known to all from the beginning
            self.files[number] = ClientFile(number, number, size=before)
        return self.files[number]

    def object(self, file: ClientFile, number: int, target: int) -> ClientObject:
        if number not in file.objects:
            file.objects[number] = ClientObject(file, number, target, self.channel(target))
        return file.objects[number]

    def piece(self, file: ClientFile, write: bool, offset: int, size: int) -> Any:
        pieces = self.store.layouts.map(self.store.files[file.number], self.host, write, offset, size)
        return pieces[0]

    # ---- operations

    def start(self, op: Operation) -> None:
        self.count["calls"] += 1
        moves = op.kind in ("read", "write")
        self.timer(self.param["call_ps"] if moves else 0, self.begin, op)

    def begin(self, op: Operation) -> None:
        name = op.name
        if op.kind in ("read", "write", "fsync"):
            if name.opened:
                self.begin_io(op)
                return
            name.waiting.append(op)
            if not name.opening:
                name.opening = True
                self.ask_meta(op, "open")
        elif op.kind == "close":
            if not name.opened:
                self.end(op)
                return
            name.opens = max(0, name.opens - 1)
            name.opened = name.opens > 0
            if not name.opened:
                self.give_back_groups(self.file(name.content))
            self.ask_meta(op, "close")
        else:
            self.ask_meta(op, op.kind)
            if op.kind == "stat" and name.known:
                self.ask_sizes(op)

    def begin_io(self, op: Operation) -> None:
        op.file = self.file(op.name.content)
        op.direct = op.kind != "fsync" and bool(op.flags & DIRECT_FLAG or not self.param["cache"])
        op.cursor = op.asked = op.offset
        if not op.file.has_objects:
            self.count["refused"] += 1
            self.end(op)
            return
        if op.kind == "fsync":
            op.steps = self.fsync(op)
        elif op.direct:
            op.steps = self.around(op)
        elif op.kind == "write":
            op.steps = self.write(op)
        else:
            self.choose_window(op)
            self.read_on(op)
            return
        self.resume(op)

    def resume(self, op: Operation) -> None:
        assert op.steps
        if next(op.steps, "done") == "done":
            self.end(op)

    def end(self, op: Operation) -> None:
        op.ended(self.now)

    def ask_sizes(self, op: Operation) -> None:
        file = self.file(op.name.content)
        if not self.param["locks"] or not file.has_objects:
            return
        for number, target in enumerate(self.store.files[file.number].targets):
            here = self.object(file, number, target)
            op.left += 1
            self.call(here.channel.server, "glimpse", op, here)

    def answered(self, call: Any, rpc: Any) -> None:
        """A request that is no read or write of data, nor for a lock, has its reply."""
        op = call.op
        op.left -= 1
        if rpc.kind == "open":
            self.opened(op, rpc)
            return
        if rpc.kind == "sync":
            if not op.left:
                self.resume(op)
            return
        if not rpc.refused:
            if rpc.kind == "stat" and not op.name.known:
                op.name.known, op.name.content = True, rpc.object
                self.file(rpc.object).has_objects = rpc.end
                self.ask_sizes(op)
            elif rpc.kind == "glimpse":
                self.heard_generation(call.object.file, rpc.generation)
                own = call.object.end if call.object.dirty else 0
                self.heard_end(call.object, max(rpc.end, own))
            elif rpc.kind == "unlink":
                op.name.opened = op.name.known = False
                op.name.opens = 0
                self.empty(self.file(op.name.content))
            elif rpc.kind == "rename":
                self.renamed(op)
        if not op.left:
            self.end(op)

    def opened(self, op: Operation, rpc: Any) -> None:
        name = op.name
        if not rpc.refused:
            name.opened = name.known = True
            name.content = rpc.object
            self.file(name.content).has_objects = rpc.end
            if op.kind == "open" and op.flags & TRUNC:
                gone = self.forget_size if self.param["locks"] else self.empty
                gone(self.file(name.content))
        if op.kind == "open":
            name.opens += not rpc.refused
            self.end(op)
            return
        name.opening = False
        waiting, name.waiting = name.waiting, []
        for one in waiting:
            if rpc.refused:
                self.end(one)
            else:
                self.begin_io(one)

    def renamed(self, op: Operation) -> None:
        old, new = op.name, self.file(op.new_name)
        gone = self.file(new.content)
        new.content, new.known = old.content, old.known
        old.content = gone.number
        old.opened = old.known = new.opened = False
        old.opens = new.opens = 0
        if gone.number != new.content:
            self.empty(gone)

    def empty(self, file: ClientFile) -> None:
        """What is known of a file is worth nothing any more."""
        for here in file.used_objects:
            here.channel.dirty_bytes -= here.dirty.remove(0, FOR_EVER)
            here.dirty_since = None if not here.dirty else here.dirty_since
            self.unlist(here)
            self.serve_writers(here.channel)
            self.uncache(here, 0, FOR_EVER)
            here.end = 0
        file.size = 0

    def forget_size(self, file: ClientFile) -> None:
        """Only what the client has locks, or unwritten data, of is known to have a size."""
        file.size = 0
        for here in file.used_objects:
            if not here.dirty and not here.writes and all(lock.giving for lock in here.locks):
                here.end = 0
            self.heard_end(here, here.end)

    def heard_generation(self, file: ClientFile, generation: int) -> None:
        if generation > file.generation:
            file.generation = generation
            self.forget_size(file)

    def heard_end(self, here: ClientObject, end: int) -> None:
        here.end = end
        size = (
            self.store.layouts.file_end(self.store.files[here.file.number], here.number, end)
            if end > 0
            else 0
        )
        here.file.size = max(here.file.size, size)

    # ---- fsync

    def fsync(self, op: Operation) -> Steps:
        for here in op.file.used_objects:
            if here.dirty:
                self.flush(here, 0, FOR_EVER)
        parts = {part for here in op.file.used_objects for part in here.writes}
        if parts:
            op.file.drains.insert(0, (parts, op))
            yield
        asked = []
        for here in op.file.used_objects:
            server = here.channel.server
            if here.last_transno > self.stable.get(server, 0) and server not in asked:
                asked.append(server)
                op.left += 1
                self.call(server, "sync", op, file=op.file.number)
        if op.left:
            yield

    # ---- around the cache

    def around(self, op: Operation) -> Steps:
        write, file, p = op.kind == "write", op.file, self.param
        while op.cursor < op.end and not op.refused:
            beyond = not write and op.cursor >= file.size
            if beyond and op.at_end and not op.left:
                break
            if beyond and (op.at_end or op.left >= p["rpcs_in_flight_count"]):
                yield  # a reply may tell of more
                continue
            most = op.end - op.cursor
            if not write:
                most = min(most, p["rpc_bytes"] if beyond else file.size - op.cursor)
            _, begin, size, number, target = self.piece(file, write, op.cursor, most)
            here = self.object(file, number, target)
            lock = None
            if p["locks"]:
                lock = self.use_lock(here, op.mode, begin, begin + size)
                if not lock:
                    self.ask_lock(op, here, begin, begin + size)
                    while op.locking:  # parts may be answered meanwhile
                        yield
                    lock, op.lock = op.lock, None
                    if not lock:
                        continue
            op.cursor += size
            self.flush(here, begin, begin + size)
            if write:
                self.uncache(here, begin, begin + size)
                here.end = max(here.end, begin + size)
                file.size = max(file.size, op.cursor)
                self.count["bytes_written"] += size
            tail = here.tail
            if tail and tail.op is op and tail.lock is lock and tail.end == begin:
                tail.end += size
                tail.left += size
                if lock:
                    self.release(here, lock)
                continue
            part = self.make_part(op.kind, op, here, begin, begin + size)
            part.lock = lock
            op.left += 1
            self.queue(part, here.channel)
        while op.left:
            yield
        if not write and not op.refused:  # with the holes
            self.count["bytes_read"] += max(0, min(op.end, file.size) - op.offset)

    def around_done(self, part: Part) -> None:
        op, here = part.op, part.object
        self.drop_part(part)
        if part.lock:
            self.release(here, part.lock)
        op.left -= 1
        self.resume(op)

    # ---- the cache: writes

    def write(self, op: Operation) -> Steps:
        p, file = self.param, op.file
        while op.cursor < op.end:
            _, at, size, number, target = self.piece(file, True, op.cursor, op.end - op.cursor)
            here, end = self.object(file, number, target), at + size
            lock = None
            if p["locks"]:
                lock = self.use_lock(here, op.mode, at, end)
                if not lock:
                    self.ask_lock(op, here, at, end)
                    yield
                    lock, op.lock = op.lock, None
                    if not lock:
                        return
            channel = here.channel
            while at < end:
                op.unit = min(end, (at // p["rpc_bytes"] + 1) * p["rpc_bytes"]) - at
                if channel.writers or not channel.has_room(op.unit):
                    op.since = self.now
                    channel.writers.append(op)
                    self.make_room(channel)
                    yield
                    self.count["blocked_ps"] += self.now - op.since
                channel.dirty_bytes += op.unit
                self.count["max_dirty_bytes"] = max(self.count["max_dirty_bytes"], channel.dirty_bytes)
                self.timer(rate_ps(op.unit, p["copy_mbps"]), self.resume, op)
                yield
                self.copied(op, here, at)
                at += op.unit
                if at == end and lock:
                    self.release(here, lock)

    def copied(self, op: Operation, here: ClientObject, at: int) -> None:
        """A unit is in the cache: it is dirty now."""
        end, whole = at + op.unit, self.param["rpc_bytes"]
        added = here.dirty.add(at, end)
        here.cached.remove(at, end)
        here.channel.dirty_bytes -= op.unit - added
        here.end = max(here.end, end)
        here.newest_end = end
        op.cursor += op.unit
        here.file.size = max(here.file.size, op.cursor)
        self.count["bytes_written"] += op.unit
        self.use(here)
        if here not in here.channel.dirty_objects:
            self.list_dirty(here)
        first = at // whole * whole
        if here.dirty.covers(first, first + whole):
            self.flush(here, first, first + whole)
        self.serve_writers(here.channel)
        self.evict()

    def list_dirty(self, here: ClientObject) -> None:
        channel = here.channel
        here.dirty_since = self.now
        channel.dirty_objects.append(here)
        if self.param["dirty_expire_ps"] and not channel.expiring:
            channel.expiring = True
            self.timer(self.param["dirty_expire_ps"], self.expire, channel)

    def unlist(self, here: ClientObject) -> None:
        if here in here.channel.dirty_objects:
            here.channel.dirty_objects.remove(here)

    def expire(self, channel: Channel) -> None:
        age = self.param["dirty_expire_ps"]
        channel.expiring = False
        while channel.dirty_objects and channel.dirty_objects[0].dirty_since + age <= self.now:
            self.flush(channel.dirty_objects[0], 0, FOR_EVER)
        if channel.dirty_objects:
            channel.expiring = True
            self.timer(channel.dirty_objects[0].dirty_since + age - self.now, self.expire, channel)

    def flush(self, here: ClientObject, begin: int, end: int, *, urgent: bool = False) -> None:
        """Make parts of what is dirty in a range."""
        whole = self.param["rpc_bytes"]
        for first, last in here.dirty.inside(begin, end):
            at = first
            while at < last:
                step = min(last, (at // whole + 1) * whole)
                part = self.make_part("write", None, here, at, step)
                here.channel.writing += 1
                self.queue(part, here.channel, urgent=urgent)
                here.cached.add(at, step)
                at = step
        here.dirty.remove(begin, end)
        if here in here.channel.dirty_objects:
            self.unlist(here)
            if here.dirty:
                self.list_dirty(here)

    def make_room(self, channel: Channel) -> None:
        """Send what is dirty as it is, if nothing is under way that would make room."""
        if channel.writers and not channel.writing:
            for here in list(channel.dirty_objects):
                self.flush(here, 0, FOR_EVER)

    def serve_writers(self, channel: Channel) -> None:
        while channel.writers and channel.has_room(channel.writers[0].unit):
            self.resume(channel.writers.pop(0))
        self.make_room(channel)

    # ---- the cache: what is there

    def use(self, here: ClientObject) -> None:
        if here in self.used:
            self.used.remove(here)
        self.used.insert(0, here)

    def uncache(self, here: ClientObject, begin: int, end: int) -> None:
        here.cached.remove(begin, end)
        here.reading.remove(begin, end)
        here.file.ahead_end = 0

    def evict(self) -> None:
        """Drop what is clean of the objects that were used longest ago; what has no reply yet is not."""
        most = self.param["cache_bytes"]
        for here in reversed(list(self.used)):
            while (over := self.cached_bytes - most) > 0:
                clean = Ranges()
                clean.items = list(here.cached)
                for part in here.writes:
                    if not part.op:
                        clean.remove(part.begin, part.end)
                if not clean:
                    break
                begin, end = (clean.inside(here.newest_end, FOR_EVER) or clean.items)[0]
                here.cached.remove(begin, min(end, begin + over))

    @property
    def cached_bytes(self) -> int:
        return sum(
            here.cached.size + here.dirty.size for f in self.files.values() for here in f.objects.values()
        )

    def wrote(self, part: Part) -> None:
        """A part that is a write has all its replies."""
        here = part.object
        if part.op:
            self.around_done(part)
        else:
            here.channel.writing -= 1
            here.channel.dirty_bytes -= part.end - part.begin
            self.drop_part(part)
            self.serve_writers(here.channel)
            self.evict()
        for drains in (here.drains, here.file.drains):
            for drain in list(drains):
                waits_for, who = drain
                if part not in waits_for:
                    continue
                waits_for.remove(part)
                if waits_for:
                    continue
                drains.remove(drain)
                if isinstance(who, Lock):
                    self.flushed(here, who)
                else:
                    self.resume(who)

    # ---- locks

    def find_lock(self, here: ClientObject, mode: int, begin: int, end: int) -> Lock | None:
        for lock in here.locks:
            serves = lock.mode == mode or (mode, lock.mode) == (PR, PW)
            if serves and not lock.giving and lock.start <= begin and end - 1 <= lock.end:
                return lock
        return None

    def use_lock(self, here: ClientObject, mode: int, begin: int, end: int) -> Lock | None:
        lock = self.find_lock(here, mode, begin, end)
        if lock:
            lock.users += 1
        return lock

    def lock_answered(self, call: Any, rpc: Any) -> None:
        op, lock = call.op, rpc.lock
        self.count["lock_wait_ps"] += self.now - op.since
        self.heard_generation(call.object.file, rpc.generation)
        op.locking = False
        op.lock = lock
        if lock:
            lock.users = 1
            call.object.locks.insert(0, lock)
        else:
            op.refused = True
        if op.kind == "read" and not op.direct:
            self.read_locked(op, lock)
        else:
            self.resume(op)

    def release(self, here: ClientObject, lock: Lock) -> None:
        lock.users -= 1
        if not lock.users and lock.giving:
            self.give_back(here, lock)

    def called_back(self, lock: Lock) -> None:
        _, file, number = lock.key
        if lock.giving:
            return
        lock.drops = lock.discard
        self.want_back(self.files[file].objects[number], lock)
        self.unplug()

    def want_back(self, here: ClientObject, lock: Lock) -> None:
        lock.giving = True
        if not lock.users:
            self.give_back(here, lock)

    def give_back_groups(self, file: ClientFile) -> None:
        for here in file.used_objects:
            for lock in list(here.locks):
                if lock.mode == GROUP and not lock.giving:
                    self.want_back(here, lock)

    def give_back(self, here: ClientObject, lock: Lock) -> None:
        """Send what is dirty under a lock before all else, and wait for it."""
        begin, end = lock.start, lock.end + 1
        if lock.drops:
            self.discard(here, begin, end)
        elif lock.mode != PR:
            self.flush(here, begin, end, urgent=True)
        parts = {part for part in here.writes if not part.op and part.begin < end and part.end > begin}
        for part in here.writes:
            if part in parts:
                self.hurry(part)
        if not parts:
            self.flushed(here, lock)
        else:
            self.plug(here.channel)
            here.drains.insert(0, (parts, lock))

    def discard(self, here: ClientObject, begin: int, end: int) -> None:
        """Drop what is dirty in a range, and writes of it that no part has been sent of."""
        here.channel.dirty_bytes -= here.dirty.remove(begin, end)
        if not here.dirty:
            self.unlist(here)
        self.serve_writers(here.channel)
        for part in list(here.writes):
            unsent = part in here.channel.waiting and part.sent == part.begin
            if not part.op and unsent and begin <= part.begin and part.end <= end:
                self.unqueue(part, here.channel)
                self.wrote(part)
        if not here.dirty:
            here.end = 0
        self.forget_size(here.file)

    def flushed(self, here: ClientObject, lock: Lock) -> None:
        """Drop what no other lock covers, and cancel."""
        alone = Ranges()
        alone.add(lock.start, min(lock.end, EOF - 1) + 1)
        here.locks.remove(lock)
        for other in here.locks:
            if not other.giving:
                alone.remove(other.start, min(other.end, EOF - 1) + 1)
        for begin, end in alone:
            self.uncache(here, begin, end)
        self.cancel(here, lock)
