"""A host: its NIC, and the two halves of RoCEv2 connections.

Order at one time: controllers' timers, the NIC's turn, timers by key, then the arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .controllers import Ack, Hop
from .fabric import ACK, CNP, DATA, NAK, NIC, PAUSE, RESUME, TIMER, Link, Packet
from .rules import KEY_ENTROPY, KEY_SPRAY, draw

if TYPE_CHECKING:
    from .plane import Plane

PACE_KEY, RTO_KEY = 1 << 56, 2 << 56
PSN_MASK = (1 << 24) - 1


class GaveUpError(Exception):
    """A connection had too many time-outs in a row."""

    def __init__(self, when_ps: int) -> None:
        super().__init__(f"a connection gave up at {when_ps} ps")
        self.when_ps = when_ps


@dataclass
class Message:
    """Bytes to carry, and whom to tell; packets are numbered first … end-1."""

    first: int
    end: int
    size: int
    delivered: Callable[[int], None]
    acknowledged: Callable[[int], None]
    complete: bool = False


class Connection:
    """Both halves of one direction between hosts; ``at_src`` and ``at_dst`` are the hosts' indices of it."""

    def __init__(
        self,
        sim: Plane,
        src: int,
        dst: int,
        lane: int,
        data_class: int,
        channel: int,
        at_src: int,
        at_dst: int,
        qp: int = 0,
    ) -> None:
        self.sim, self.data_class = sim, data_class
        self.src, self.dst, self.at_src, self.at_dst = src, dst, at_src, at_dst
        flow = src << 48 | dst << 32 | (lane & 0xFFFFFFFF)
        self.flow, self.channel = flow, channel
        self.entropy = draw(sim.seed, KEY_ENTROPY, flow, 2 * qp | channel << 8) & 0xFFFF
        self.answer_entropy = draw(sim.seed, KEY_ENTROPY, flow, 2 * qp + 1 | channel << 8) & 0xFFFF
        # of the first of several queue pairs: all of them, the next one first
        self.group: list[Connection] = []
        self.pending: deque[Message] = deque()  # of all of them: posted, not delivered
        # the sender's half
        self.next = self.una = self.end = 0  # to send, oldest not acknowledged, one past what was posted
        self.unacknowledged: deque[Message] = deque()
        self.in_line = self.rto_armed = False
        self.next_send_ps = self.progress_ps = 0
        self.retries = 0
        self.cc: Any = None
        self.switches = 0  # on the way
        self.sent: dict[int, tuple[int | None, int]] = {}  # by psn: when (None: more than once), end in bytes
        self.named: deque[int] = deque()  # with selective repeat: to send again
        self.una_bytes = self.next_bytes = 0  # on the wire, before una and next
        # the receiver's half
        self.expected = self.unanswered = 0
        self.undelivered: deque[Message] = deque()
        self.cnp_at: int | None = None
        self.nak_at: int | None = None
        self.high = self.looked = 0  # with selective repeat: one past the newest kept, and what was looked at
        self.early: dict[
            int, bool
        ] = {}  # with spraying: packets that came before their turn, and if they end a message


class Host:
    """A network port with connections."""

    def __init__(self, sim: Plane, node: int) -> None:
        self.sim, self.node = sim, node
        self.param = sim.param["transport"]
        self.ins: list[Link] = []
        self.outs: list[Link] = []
        self.tx: list[Connection] = []
        self.rx: list[Connection] = []
        self.line: deque[Connection] = deque()  # whose turn it is to send
        window = self.param["window_bytes"]
        self.window = min(max(1, window // self.param["mtu_bytes"]), 1 << 23) if window else 1 << 23

    @property
    def out(self) -> Link:
        return self.outs[0]

    def ready(self) -> None:
        pass

    def timer(self, when: int, key: int, action: Callable[..., None], *args: Any) -> None:
        self.sim.at(when, TIMER, key, action, *args)

    # ---- sending

    def post(self, c: Connection, size: int, delivered: Any, acknowledged: Any, now: int) -> None:
        """Queue a message."""
        self.sim.count["messages"] += 1
        first, c = c, c.group[0]
        first.group.append(first.group.pop(0))
        packets = max(1, -(-size // self.param["mtu_bytes"]))
        message = Message(c.end, c.end + packets, size, delivered, acknowledged)
        c.end = message.end
        c.unacknowledged.append(message)
        c.undelivered.append(message)
        c.pending.append(message)
        self.schedule(c, now)

    def may_send(self, c: Connection) -> bool:
        if c.named:
            return True
        open_ = c.next_bytes - c.una_bytes < c.cc.window()
        return c.next < c.end and c.next - c.una < self.window and open_

    def schedule(self, c: Connection, now: int) -> None:
        """Put a connection that may send in line, now or when its pacing allows.

        One whose pacing ends before the link is free gets in line at once.
        """
        if c.in_line or not self.may_send(c):
            return
        c.in_line = True
        if c.next_send_ps > self.out.free_at_ps(now):
            self.timer(c.next_send_ps, PACE_KEY | c.at_src, self.paced, c, c.next_send_ps)
        else:
            self.join(c)
            self.ask_turn(now)

    def paced(self, c: Connection, now: int) -> None:
        c.in_line = False
        self.schedule(c, now)

    def join(self, c: Connection) -> None:
        """Get in line."""
        self.line.append(c)

    def leave(self) -> Connection:
        """Take the connection whose turn it is out of the line."""
        return self.line.popleft()

    @property
    def waits(self) -> bool:
        """Whether a connection stands in line that no pause stops."""
        return bool(self.line) and not self.out.paused

    def ask_turn(self, now: int) -> None:
        if self.waits and self.out.idle:
            self.sim.at(now, NIC, 0, self.turn, now)

    def departed(self, packet: Packet, now: int) -> None:
        self.ask_turn(now)

    def turn(self, now: int) -> None:
        """The link is free: send one packet of the first connection in line."""
        if not self.waits or not self.out.idle:
            return
        c = self.leave()
        c.in_line = False
        if self.may_send(c):
            packet = self.take_packet(c)
            self.emit(packet, now)
            self.sent(c, packet, now)
        self.ask_turn(now)

    def sent(self, c: Connection, packet: Packet, now: int) -> None:
        """Note what a packet's departure means to its connection, and put that in line again."""
        pace = c.cc.sent(packet.size, now)
        c.next_send_ps = now + ((packet.size * pace + 0xFFFF) >> 16)
        if c.named and packet.psn == c.named[0]:
            c.named.popleft()
            c.sent[packet.psn] = None, c.sent[packet.psn][1]
        else:
            c.next_bytes += packet.size
            c.sent[packet.psn] = None if packet.psn in c.sent else now, c.next_bytes
        if not c.rto_armed:
            c.rto_armed, c.progress_ps = True, now
            self.arm_rto(c, now + self.rto_ps(c))
        self.schedule(c, now)

    def take_packet(self, c: Connection) -> Packet:
        """Return the packet that leaves now: one named missing, or the next new one."""
        if not c.named:
            return self.next_packet(c)
        after, c.next = c.next, c.named[0]
        packet = self.next_packet(c)
        c.next = after
        return packet

    def next_packet(self, c: Connection) -> Packet:
        p = self.param
        message = next(m for m in c.unacknowledged if c.next < m.end)
        index, last = c.next - message.first, c.next + 1 == message.end
        payload = message.size - index * p["mtu_bytes"] if last else p["mtu_bytes"]
        size = (payload + 3) // 4 * 4 + p["header_bytes"] + (0 if index else p["first_header_bytes"])
        entropy = c.entropy
        if self.sim.spray:
            entropy = draw(self.sim.seed, KEY_SPRAY, c.entropy, c.next) & 0xFFFF
        packet = Packet(DATA, c.dst, c.at_dst, c.next, max(size, p["min_wire_bytes"]), last, entropy)
        packet.data_class = c.data_class
        c.next += 1
        return packet

    def emit(self, packet: Packet, now: int) -> None:
        self.sim.count["packets"] += 1
        self.out.hand_over(packet, now, control=self.sim.control_priority and packet.kind != DATA)

    def rto_ps(self, c: Connection) -> int:
        return self.param["rto_ps"]

    def arm_rto(self, c: Connection, when: int) -> None:
        self.timer(when, RTO_KEY | c.at_src, self.timed_out, c, when)

    def timed_out(self, c: Connection, now: int) -> None:
        rto = self.rto_ps(c)
        if c.una == c.next:  # nothing under way: the next packet arms it again
            c.rto_armed = False
        elif c.progress_ps + rto > now:
            self.arm_rto(c, c.progress_ps + rto)
        else:
            self.sim.count["timeouts"] += 1
            c.retries += 1
            if c.retries > self.param["retry_limit_count"]:
                raise GaveUpError(now)
            c.progress_ps = now
            self.arm_rto(c, now + rto)
            self.go_back(c, True, now)

    def go_back(self, c: Connection, timeout: bool, now: int) -> None:
        self.sim.count["retransmits"] += c.next - c.una
        c.next, c.next_bytes = c.una, c.una_bytes
        c.named.clear()
        c.cc.lost(timeout, now)
        self.schedule(c, now)

    def acknowledge(self, c: Connection, una: int, hops: tuple[Hop, ...], now: int) -> None:
        """Everything before ``una`` has arrived."""
        ack = Ack(
            now, None, 0, max(una, c.una), max(una, c.next), c.switches, hops
        )  # it may have gone back in vain
        if una > c.una:
            sent_at, end_bytes = c.sent[una - 1]
            if sent_at is not None:
                ack.rtt = now - sent_at
            ack.acked, c.una_bytes = end_bytes - c.una_bytes, end_bytes
            c.next_bytes = max(c.next_bytes, c.una_bytes)
            while c.named and c.named[0] < una:
                c.named.popleft()
        advances, c.una, c.next = una > c.una, ack.acked_psn, ack.next_psn
        c.cc.acked(ack)
        if not advances:
            self.schedule(c, now)
            return
        c.progress_ps, c.retries = now, 0
        while c.unacknowledged and c.unacknowledged[0].end <= una:
            c.unacknowledged.popleft().acknowledged(now)
        self.schedule(c, now)

    def named(self, c: Connection, packet: Packet, now: int) -> None:
        """A NAK names one packet, and says nothing of those before."""
        c.cc.acked(Ack(now, None, 0, c.una, c.next, c.switches, packet.hops))
        if c.una <= packet.psn < c.next:
            self.sim.count["retransmits"] += 1
            c.named.append(packet.psn)
            c.cc.lost(False, now)
        self.schedule(c, now)

    # ---- receiving

    def arrived(self, packet: Packet, _: int, now: int) -> None:
        if packet.kind == DATA:
            self.receive_data(self.rx[packet.connection], packet, now)
        elif packet.kind in (ACK, NAK):
            c = self.tx[packet.connection]
            if packet.kind == NAK and self.param["selective_repeat"]:
                self.named(c, packet, now)
                return
            self.acknowledge(c, packet.psn, packet.hops, now)
            if packet.kind == NAK and packet.psn == c.una and c.next > c.una:
                self.go_back(c, False, now)
        elif packet.kind == CNP:
            self.tx[packet.connection].cc.notified(now)
        elif packet.kind == PAUSE:
            self.out.pause(now, packet.psn)
        elif packet.kind == RESUME:
            self.out.resume(now, packet.psn)
            self.ask_turn(now)

    def answer(self, c: Connection, kind: int, psn: int, now: int, hops: tuple[Hop, ...] = ()) -> None:
        self.sim.count[{ACK: "acks", NAK: "naks", CNP: "cnps"}[kind]] += 1
        size = self.param["cnp_bytes" if kind == CNP else "ack_bytes"]
        self.emit(Packet(kind, c.src, c.at_src, psn, size, entropy=c.answer_entropy, hops=hops), now)

    def receive_data(self, c: Connection, packet: Packet, now: int) -> None:
        p = self.param
        cnp_due = c.cnp_at is None or now - c.cnp_at >= p["cnp_interval_ps"]
        if packet.marked and c.cc.wants_cnp and cnp_due:
            c.cnp_at = now
            self.answer(c, CNP, 0, now)
        if packet.psn < c.expected:
            self.sim.count["duplicates"] += 1
            self.answer(c, ACK, c.expected, now, packet.hops)
        elif packet.psn > c.expected:
            self.came_early(c, packet, now)
        else:
            c.nak_at = None
            ended = self.take(c, packet.last, now)
            while c.expected in c.early:
                ended |= self.take(c, c.early.pop(c.expected), now)
            if ended or c.unanswered >= p["ack_every_count"]:
                c.unanswered = 0
                self.answer(c, ACK, c.expected, now, packet.hops)

    def take(self, c: Connection, last: bool, now: int) -> bool:
        """Take the expected packet; True if it ended a message."""
        c.expected += 1
        c.unanswered += 1
        if last:
            c.undelivered.popleft().complete = True
            while c.pending and c.pending[0].complete:
                c.pending.popleft().delivered(now)
        return last

    def came_early(self, c: Connection, packet: Packet, now: int) -> None:
        """Keep it (spraying), or ask for the missing one, at most once in the NAK interval."""
        room = -(-self.param["reorder_count"] // 64) * 64
        selective = bool(self.param["selective_repeat"])
        if (selective or self.sim.spray) and packet.psn - c.expected < room:
            if packet.psn in c.early:
                self.sim.count["duplicates"] += 1
            c.early[packet.psn] = packet.last
            if selective:
                self.name_gaps(c, packet, now)
        elif selective:
            pass
        elif c.nak_at is None or now - c.nak_at >= self.param["nak_interval_ps"]:
            c.nak_at = now
            self.answer(c, NAK, c.expected, now, packet.hops)

    def name_gaps(self, c: Connection, packet: Packet, now: int) -> None:
        """Name each missing packet once, when one that is far enough ahead has come."""
        distance = self.param["reorder_distance_count"] if self.sim.spray else 1
        c.high = max(c.high, packet.psn + 1)
        first, end = max(c.looked, c.expected), c.high - distance
        for psn in range(first, end):
            if psn not in c.early:
                self.answer(c, NAK, psn, now, packet.hops)
                packet.hops = ()
        c.looked = max(c.looked, end)
