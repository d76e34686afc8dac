"""A client's calls: windows, parts that are cut into RPCs, data through the client's bus, replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .store_locks import GROUP, PAGE
from .store_targets import rate_ps

if TYPE_CHECKING:
    from .storage import Store

CHANGES = ("create", "mkdir", "unlink", "rmdir", "rename")


@dataclass(eq=False)
class Rpc:
    kind: str
    client: Any
    server: int
    target: int
    file: int
    object: int
    offset: int
    size: int
    flags: int
    mode: int
    call: Call
    sent_ps: int
    queued_ps: int = -1
    began_ps: int = -1
    target_ps: int = -1
    served_ps: int = -1
    done_ps: int = -1
    refused: bool = False
    stage: str = ""
    transno: int = 0
    stable: int = 0
    end: int = 0
    generation: int = 0
    there: int = 0
    fragments: int = 0
    shards: int = 0
    needs: int = 0
    content: int = -1
    lock: Any = None


@dataclass(eq=False)
class Call:
    op: Any
    object: Any
    part: Part | None
    channel: Channel | None
    moved: int = 0
    data_ps: int = -1
    begin_ps: int = 0


@dataclass(eq=False)
class Part:
    """A range of an object, or a request to a metadata server, that waits for its turn."""

    kind: str
    op: Any
    object: Any
    begin: int
    end: int
    sent: int
    left: int
    lock: Any = None
    urgent: bool = False


@dataclass(eq=False)
class Channel:
    """The window of a target, or of a metadata server."""

    server: int
    limit: int
    room: int
    in_flight: int = 0
    waiting: list[Part] = field(default_factory=list)
    dirty_bytes: int = 0
    writing: int = 0
    writers: list[Any] = field(default_factory=list)  # without room
    dirty_objects: list[Any] = field(default_factory=list)  # in the order of getting dirty
    expiring: bool = False

    def has_room(self, size: int) -> bool:
        return self.dirty_bytes == 0 or self.dirty_bytes + size <= self.room


class Calls:
    """What a client has of servers."""

    def __init__(self, store: Store, host: int) -> None:
        self.store, self.host, self.param = store, host, store.param
        self.count: Counter[str] = Counter()
        self.files: dict[int, Any] = {}
        self.used: list[Any] = []  # objects, last used first
        self.channels: dict[Any, Channel] = {}
        self.plugged: list[Channel] = []
        self.stable: dict[int, int] = {}  # by server, as heard
        self.bus_free_ps = 0
        self.records: list[Rpc] = []

    @property
    def now(self) -> int:
        return self.store.now

    def timer(self, delay: int, action: Callable[..., None], *args: Any) -> None:
        self.store.timer(self.host, self.now + delay, self.event, action, *args)

    def event(self, action: Callable[..., None], *args: Any) -> None:
        action(*args)
        self.unplug()

    # ---- windows

    def channel(self, target: int) -> Channel:
        if target not in self.channels:
            room = min(self.param["max_dirty_bytes"], self.param["grant_bytes"])
            server = self.store.owner(target, self.host).number
            self.channels[target] = Channel(server, self.param["rpcs_in_flight_count"], room)
        return self.channels[target]

    def ask_meta(self, op: Any, kind: str) -> None:
        server = self.store.meta_of(op.name.number)
        channel = self.channels.setdefault(
            ("meta", server), Channel(server, self.param["meta_rpcs_count"], 0)
        )
        op.left += 1
        self.queue(Part(kind, op, None, 0, 0, 0, 0), channel)

    def make_part(self, kind: str, op: Any, here: Any, begin: int, end: int) -> Part:
        part = Part(kind, op, here, begin, end, begin, end - begin)
        if kind == "write":
            here.writes.append(part)
        return part

    def queue(self, part: Part, channel: Channel, *, urgent: bool = False) -> None:
        part.urgent = urgent
        channel.waiting.append(part)
        if part.object:
            part.object.tail = part
        self.plug(channel)

    def hurry(self, part: Part) -> None:
        """Let a part go before those that are not urgent, behind those that are."""
        channel = part.object.channel
        if part in channel.waiting and not part.urgent:
            self.unqueue(part, channel)
            part.urgent = True
            channel.waiting.append(part)

    def unqueue(self, part: Part, channel: Channel) -> None:
        channel.waiting.remove(part)
        if part.object and part.object.tail is part:
            part.object.tail = None

    def drop_part(self, part: Part) -> None:
        if part.kind == "write":
            part.object.writes.remove(part)

    def plug(self, channel: Channel) -> None:
        if channel not in self.plugged:
            self.plugged.append(channel)

    def unplug(self) -> None:
        """Send what has been queued in this event."""
        while self.plugged:
            channel = self.plugged.pop(0)
            while channel.in_flight < channel.limit and channel.waiting:
                urgent = [part for part in channel.waiting if part.urgent]
                self.send_part((urgent or channel.waiting)[0], channel)

    def send_part(self, part: Part, channel: Channel) -> None:
        channel.in_flight += 1
        if not part.object:
            self.unqueue(part, channel)
            new = part.op.new_name if part.kind == "rename" else -1
            self.call(channel.server, part.kind, part.op, channel=channel, number=new)
            return
        whole = self.param["rpc_bytes"]
        begin = part.sent
        part.sent = min(part.end, (begin // whole + 1) * whole)
        if part.sent == part.end:
            self.unqueue(part, channel)
        size = part.sent - begin
        self.count["rpc_written_bytes" if part.kind == "write" else "rpc_read_bytes"] += size
        self.call(channel.server, part.kind, part.op, part.object, begin, size, part=part, channel=channel)

    # ---- calls

    def call(
        self,
        server: int,
        kind: str,
        op: Any,
        here: Any = None,
        offset: int = 0,
        size: int = 0,
        *,
        part: Part | None = None,
        channel: Channel | None = None,
        mode: int = 0,
        number: int = -1,
        file: int = -1,
    ) -> None:
        if here:
            target, file, number = here.target, here.file.number, here.number
        else:
            target, file = -1, file if file >= 0 else op.name.number
        self.count["rpcs"] += 1
        call = Call(op, here, part, channel)
        flags = op.flags if op else 0
        rpc = Rpc(kind, self, server, target, file, number, offset, size, flags, mode, call, self.now)
        if kind == "write" and size <= self.param["short_io_bytes"]:
            when = self.pass_bus(size)
            if when > self.now:
                self.timer(when - self.now, self.post_request, rpc)
                return
        self.post_request(rpc)

    def post_request(self, rpc: Rpc) -> None:
        short = rpc.kind == "write" and rpc.size <= self.param["short_io_bytes"]
        size = self.param["request_bytes"] + (rpc.size if short else 0)
        server = self.store.server(rpc.server, self.host)
        self.store.post(self.host, server.host, size, server.request, rpc)

    def pass_bus(self, size: int) -> int:
        """Pass bytes through the client's bus; return when they are through."""
        if size:
            self.bus_free_ps = max(self.bus_free_ps, self.now) + rate_ps(size, self.param["client_mbps"])
            return self.bus_free_ps
        return self.now

    def pull(self, rpc: Rpc) -> None:
        rpc.call.begin_ps = max(self.bus_free_ps, self.now)
        self.pass_bus(rpc.size)
        self.send_fragments(rpc)

    def send_fragments(self, rpc: Rpc) -> None:
        call, server = rpc.call, self.store.server(rpc.server, self.host)
        while call.moved < rpc.size:
            size = min(rpc.size - call.moved, self.param["fragment_bytes"])
            when = call.begin_ps + rate_ps(call.moved + size, self.param["client_mbps"])
            if when > self.now:
                self.timer(when - self.now, self.send_fragments, rpc)
                return
            call.moved += size
            self.store.post(self.host, server.host, size, server.fragment, rpc)

    def piece_came(self, rpc: Rpc) -> None:
        size = min(rpc.there - rpc.call.moved, self.param["fragment_bytes"])
        rpc.call.moved += size
        rpc.call.data_ps = self.pass_bus(size)

    def reply(self, rpc: Rpc) -> None:
        if rpc.kind == "read" and not rpc.call.moved and rpc.there:
            rpc.call.data_ps = self.pass_bus(rpc.there)
        if rpc.call.data_ps > self.now:
            self.timer(rpc.call.data_ps - self.now, self.finish, rpc)
            return
        self.event(self.finish, rpc)

    def finish(self, rpc: Rpc) -> None:
        rpc.done_ps = self.now
        call, me = rpc.call, self
        if call.channel:
            call.channel.in_flight -= 1
            self.plug(call.channel)
        self.stable[rpc.server] = max(self.stable.get(rpc.server, 0), rpc.stable)
        self.count["refused"] += rpc.refused
        self.records.append(rpc)
        if rpc.kind == "read":
            self.read_answered(rpc)
        elif rpc.kind == "write":
            call.object.last_transno = max(call.object.last_transno, rpc.transno)
            assert call.part
            call.part.left -= rpc.size
            if not call.part.left:
                me.wrote(call.part)  # type: ignore[attr-defined]
        elif rpc.kind == "lock":
            me.lock_answered(call, rpc)  # type: ignore[attr-defined]
        else:
            me.answered(call, rpc)  # type: ignore[attr-defined]

    def read_answered(self, rpc: Rpc) -> None:
        me: Any = self
        call, part = rpc.call, rpc.call.part
        assert part
        me.heard_generation(call.object.file, rpc.generation)
        me.heard_end(call.object, rpc.end)
        part.left -= rpc.size
        if part.op:
            part.op.at_end |= rpc.there < rpc.size
            if not part.left:
                me.around_done(part)
        else:
            me.arrived(call.object, rpc.offset, rpc.size, rpc.there)

    # ---- locks

    def ask_lock(self, op: Any, here: Any, begin: int, end: int) -> None:
        op.locking, op.since = True, self.now
        offset = size = 0
        if op.mode != GROUP:
            offset = begin // PAGE * PAGE
            size = -(-end // PAGE) * PAGE - offset
        self.call(here.channel.server, "lock", op, here, offset, size, mode=op.mode)

    def cancel(self, here: Any, lock: Any) -> None:
        server = self.store.server(here.channel.server, self.host)
        self.store.post(self.host, server.host, self.param["request_bytes"], server.cancelled, lock)
