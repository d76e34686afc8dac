"""Data servers: a queue, threads, data pulled and pushed, memory, targets, journal, shards, locks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .store_destroy import Emptier, Order
from .store_locks import EOF, Lock, Locks
from .store_targets import Target, rate_ps

if TYPE_CHECKING:
    from .storage import Store
    from .store_calls import Rpc
    from .store_meta import Meta


class Service:
    """Threads that serve a queue, first come, first served."""

    def __init__(self, threads: int, begin: Callable[[Rpc], None]) -> None:
        self.free, self.begin = threads, begin
        self.queue: deque[Rpc] = deque()
        self.most = 0

    def arrive(self, rpc: Rpc) -> None:
        if self.free:
            self.free -= 1
            self.begin(rpc)
        else:
            self.queue.append(rpc)
            self.most = max(self.most, len(self.queue))

    def release(self) -> None:
        if self.queue:
            self.begin(self.queue.popleft())
        else:
            self.free += 1


class Object:
    def __init__(self, size: int, locks: Locks) -> None:
        self.size, self.locks = size, locks
        self.generation = 0  # how often it was made empty


class Server:
    """A server of a file system, data or metadata, on its host."""

    def __init__(self, store: Store, number: int, host: int) -> None:
        self.store, self.number, self.host = store, number, host
        self.param = store.param
        self.io = Service(self.param["threads_count"], self.begin)
        self.objects: dict[tuple[int, int, int], Object] = {}
        self.targets: dict[int, Target] = {}
        self.emptier = Emptier(self)
        self.meta: Meta  # what it does with names
        self.bus_free_ps = 0
        self.transno = self.stable = 0
        self.commit_due_ps: int | None = None
        self.syncing: int | None = None  # what the commit that somebody waits for brings to stable storage
        self.sync_waits: list[Rpc] = []

    @property
    def now(self) -> int:
        return self.store.now

    def timer(self, delay: int, action: Callable[..., None], *args: Any) -> None:
        self.store.timer(self.host, self.now + delay, action, *args)

    def reply(self, rpc: Rpc, extra: int = 0) -> None:
        rpc.served_ps = self.now
        rpc.stable = self.stable
        size = self.param["reply_bytes"] + extra
        self.store.post(self.host, rpc.client.host, size, rpc.client.reply, rpc)

    def object(self, rpc: Rpc) -> Object:
        return self.object_at(rpc.target, rpc.file, rpc.object)

    def object_at(self, target: int, file: int, number: int) -> Object:
        """Return an object, made by the first request that names it, with what it had before the run."""
        key = target, file, number
        if key not in self.objects:
            size = self.store.object_size(file, number)
            self.objects[key] = Object(size, Locks(self.call_back, self.grant))
        return self.objects[key]

    # ---- reads, writes and SYNCs

    def request(self, rpc: Rpc) -> None:
        if not rpc.stage:
            rpc.queued_ps = self.now
        if rpc.kind in ("lock", "glimpse"):
            rpc.began_ps = self.now
            self.timer(self.param["lock_cpu_ps"], self.lock_served, rpc)
        elif rpc.kind in ("read", "write", "sync"):
            self.io.arrive(rpc)
        else:
            self.meta.arrive(rpc)

    def begin(self, rpc: Rpc) -> None:
        rpc.began_ps = self.now
        self.timer(self.param["rpc_cpu_ps"], self.looked_at, rpc)

    def looked_at(self, rpc: Rpc) -> None:
        if rpc.kind == "sync":
            self.sync(rpc)
        elif rpc.kind == "write":
            if rpc.size > self.param["short_io_bytes"]:
                rpc.fragments = -(-rpc.size // self.param["fragment_bytes"])
                self.store.post(self.host, rpc.client.host, self.param["request_bytes"], rpc.client.pull, rpc)
            else:
                self.through_memory(rpc, rpc.size, self.write_target)
        else:
            rpc.end, rpc.generation = self.object(rpc).size, self.object(rpc).generation
            rpc.there = max(0, min(rpc.size, rpc.end - rpc.offset))
            if not rpc.there:
                self.done(rpc)
                return
            rpc.target_ps = self.now
            target = self.targets[rpc.target]
            end = target.submit(False, (rpc.file, rpc.object), rpc.offset, rpc.there, self.now)
            self.timer(end - self.now, self.read_from_target, rpc)

    def through_memory(self, rpc: Rpc, size: int, then: Callable[[Rpc], None]) -> None:
        self.bus_free_ps = max(self.bus_free_ps, self.now) + rate_ps(size, self.param["server_mbps"])
        end = self.bus_free_ps + rate_ps(size, self.param["checksum_mbps"])
        if end == self.now:
            then(rpc)
        else:
            self.timer(end - self.now, then, rpc)

    def fragment(self, rpc: Rpc) -> None:
        rpc.fragments -= 1
        if not rpc.fragments:
            self.through_memory(rpc, rpc.size, self.write_target)

    def write_target(self, rpc: Rpc) -> None:
        rpc.target_ps = self.now
        shards = self.store.layouts.spread(rpc.file, rpc.offset, rpc.size)
        if not shards:
            stream = rpc.file, rpc.object
            end = self.targets[rpc.target].submit(True, stream, rpc.offset, rpc.size, self.now)
            self.timer(end - self.now, self.written, rpc)
            return
        rpc.shards = len(shards)
        for target, offset, size in shards:
            shard = (rpc, self, target, offset, size)
            owner = self.store.owner(target)
            if owner is self:
                self.shard_at_target(shard)
            else:
                message = self.param["request_bytes"] + size
                self.store.post(self.host, owner.host, message, owner.shard_came, shard)

    def written(self, rpc: Rpc) -> None:
        here = self.object(rpc)
        here.size = max(here.size, rpc.offset + rpc.size)
        self.changed(rpc)
        self.done(rpc)

    def read_from_target(self, rpc: Rpc) -> None:
        self.through_memory(rpc, rpc.there, self.push)

    def push(self, rpc: Rpc) -> None:
        if rpc.there <= self.param["short_io_bytes"]:
            self.done(rpc, rpc.there)
            return
        left, most = rpc.there, self.param["fragment_bytes"]
        rpc.fragments = -(-left // most)
        while left:
            size = min(left, most)
            left -= size
            self.store.post(
                self.host, rpc.client.host, size, rpc.client.piece_came, rpc, acknowledged=self.pushed
            )

    def pushed(self, rpc: Rpc) -> None:
        rpc.fragments -= 1
        if not rpc.fragments:
            self.done(rpc)

    def done(self, rpc: Rpc, extra: int = 0) -> None:
        self.reply(rpc, extra)
        if rpc.target in self.targets and rpc.kind != "sync":
            count = self.targets[rpc.target].count
            count["wait_ps"] += rpc.began_ps - rpc.queued_ps
            count["service_ps"] += self.now - rpc.began_ps
        self.io.release()

    # ---- shards

    def shard_came(self, shard: Any) -> None:
        size = shard[4]
        self.bus_free_ps = max(self.bus_free_ps, self.now) + rate_ps(size, self.param["server_mbps"])
        self.timer(self.bus_free_ps - self.now, self.shard_at_target, shard)

    def shard_at_target(self, shard: Any) -> None:
        rpc, _, target, offset, size = shard
        end = self.targets[target].submit(True, (rpc.file, target), max(offset, 0), size, self.now)
        self.timer(end - self.now, self.shard_stored, shard)

    def shard_stored(self, shard: Any) -> None:
        rpc, by, target, offset, size = shard
        if offset >= 0:
            self.store.fill(self, target, rpc, offset + size)
        if by is self:
            self.shard_done(shard)
        else:
            self.store.post(self.host, by.host, self.param["reply_bytes"], by.shard_done, shard)

    def shard_done(self, shard: Any) -> None:
        rpc = shard[0]
        rpc.shards -= 1
        if not rpc.shards:
            self.changed(rpc)
            self.done(rpc)

    # ---- the journal

    def changed(self, rpc: Rpc) -> None:
        self.transno += 1
        rpc.transno = self.transno
        if not self.param["commit_ps"]:
            self.stable = self.transno
        elif self.commit_due_ps is None:
            self.commit_due_ps = self.now + self.param["commit_ps"]
            self.timer(self.param["commit_ps"], self.commit_if_due)

    def commit_if_due(self) -> None:
        if self.syncing is None and self.commit_due_ps is not None and self.commit_due_ps <= self.now:
            self.commit_due_ps = None
            self.stable = self.transno

    def sync(self, rpc: Rpc) -> None:
        rpc.needs = self.transno
        if self.stable >= rpc.needs:
            self.done(rpc)
            return
        self.sync_waits.append(rpc)
        if self.syncing is None:
            self.begin_commit()

    def begin_commit(self) -> None:
        self.syncing, self.commit_due_ps = self.transno, None  # changes from now on are for the next one
        self.timer(self.param["commit_cost_ps"], self.commit_ends)

    def commit_ends(self) -> None:
        assert self.syncing is not None
        self.stable, self.syncing = self.syncing, None
        while self.sync_waits and self.sync_waits[0].needs <= self.stable:
            self.done(self.sync_waits.pop(0))
        if self.sync_waits:
            self.begin_commit()
        self.commit_if_due()

    # ---- locks

    def lock_served(self, rpc: Rpc) -> None:
        here = self.object(rpc)
        if rpc.kind == "glimpse":
            rpc.end, rpc.generation = here.size, here.generation
            self.reply(rpc)
            return
        last = rpc.offset + rpc.size - 1 if rpc.size else EOF
        key = rpc.target, rpc.file, rpc.object
        here.locks.ask(Lock(rpc.mode, rpc.client.host, (rpc.offset, last), rpc, key))

    def grant(self, lock: Lock) -> None:
        rpc = lock.rpc
        if isinstance(rpc, Order):
            self.emptier.granted(lock)
            return
        rpc.lock, rpc.end = lock, lock.end
        rpc.generation = self.objects[lock.key].generation
        self.reply(rpc)

    def call_back(self, lock: Lock) -> None:
        if isinstance(lock.rpc, Order):  # it goes at once
            return
        lock.discard = self.emptier.now_asking
        client = self.store.clients[lock.client]
        self.store.post(self.host, lock.client, self.param["request_bytes"], client.called_back, lock)

    def cancelled(self, lock: Lock) -> None:
        self.objects[lock.key].locks.give_back(lock)
