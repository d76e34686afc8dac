"""Hosts that speak SRD: packets over many paths, selective acknowledgements, loss found path by path.

The rules are told in ``docs/models/transport-srd.md``. What ``host.py`` says of posting, of the line and of
pacing holds here too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .classes import ClassHost
from .controllers import Ack
from .fabric import ACK, DATA, NEVER, PAUSE, RESUME, Packet
from .host import Connection, GaveUpError, Host
from .rules import KEY_ENTROPY, draw, mix, ppm_q16

if TYPE_CHECKING:
    from .plane import Plane

DELIVER_KEY = 3 << 56
DRAW_PATHS = 2
MOST_DOUBLINGS = 20
MOST_STRIKES = 6
BEHIND_STEP, BEHIND_NOTHING = 16, -32


@dataclass
class Flight:
    """A packet of the window: sent, and not known to have arrived with all before it."""

    size: int
    last: bool
    sent_ps: int = 0
    path: int = -1
    turn: int = 0  # its number among the packets of its path
    resent: bool = False
    state: str = "new"  # flying, lost, arrived


@dataclass
class Path:
    """What a connection knows of a path."""

    excess_ps: int = 0
    rest_until_ps: int = 0
    in_service: bool = True
    strikes: int = 0  # how often in a row it was set aside
    turns: int = 0
    arrived: int = 0  # the newest turn that is known to have arrived


@dataclass
class Sender:
    """What a connection's sender keeps beside ``Connection``."""

    key: int
    paths: list[Path]
    window: dict[int, Flight] = field(default_factory=dict)  # by number
    lost: list[int] = field(default_factory=list)  # numbers, in the order they were taken for lost
    path_at: int = 0
    srtt_ps: int = 0
    rttvar_ps: int = 0
    progress_ps: int = -NEVER
    cnp_at: int | None = None

    @property
    def in_flight(self) -> int:
        return sum(flight.size for flight in self.window.values() if flight.state == "flying")


@dataclass
class Receiver:
    put_in_order: int = 0  # packets of the message that is arriving that came early
    ready_ps: int = 0


def answer(named: int, missing: int) -> int:
    """Return an acknowledgement's number: what it names, and how far behind the missing one is (6 bits)."""
    behind = min(max((missing - named) // BEHIND_STEP, BEHIND_NOTHING), -BEHIND_NOTHING - 1)
    return (named & 0x3FFFF) << 6 | (behind & 0x3F)


def told(said: int, near: int) -> tuple[int, int]:
    """Return what an acknowledgement names, and before which number everything has arrived."""
    off = ((said >> 6) - near) & 0x3FFFF
    named = near + (off - (1 << 18) if off >> 17 else off)
    behind = (said & 0x3F) - (64 if said & 0x20 else 0)
    return named, 0 if behind == BEHIND_NOTHING else named + behind * BEHIND_STEP


class Srd(Host):
    """The transport, over whatever line the host has."""

    def __init__(self, sim: Plane, node: int) -> None:
        super().__init__(sim, node)
        self.senders: dict[int, Sender] = {}
        self.receivers: dict[int, Receiver] = {}
        self.slow_q16 = ppm_q16(self.param["path_slow_ppm"])

    def sender(self, c: Connection) -> Sender:
        if c.at_src not in self.senders:
            count = self.param["path_count"]
            key = draw(self.sim.seed, KEY_ENTROPY, c.flow, DRAW_PATHS | c.channel << 8)
            self.senders[c.at_src] = Sender(key, [Path() for _ in range(count)], path_at=count - 1)
        return self.senders[c.at_src]

    # ---- sending

    def may_send(self, c: Connection) -> bool:
        s = self.sender(c)
        more = c.next < c.end and c.next - c.una < self.param["reorder_count"]
        window = min(self.param["window_bytes"] or NEVER, c.cc.window())
        return s.in_flight < window and (bool(s.lost) or more)

    def next_packet(self, c: Connection) -> Packet:
        s, now = self.sender(c), self.sim.now
        before = -1
        if s.lost:
            psn = s.lost.pop(0)
            flight = s.window[psn]
            flight.resent, before = True, flight.path
            self.sim.count["retransmits"] += 1
        else:
            psn, flight = c.next, self.new_flight(c)
            s.window[psn] = flight
            c.next += 1
        flight.path = self.choose_path(s, before, now)
        path = s.paths[flight.path]
        path.turns += 1
        flight.turn, flight.sent_ps, flight.state = path.turns, now, "flying"
        entropy = mix(s.key ^ flight.path) & 0xFFFF
        packet = Packet(DATA, c.dst, c.at_dst, psn, flight.size, flight.last, entropy)
        packet.data_class = c.data_class
        return packet

    def new_flight(self, c: Connection) -> Flight:
        p = self.param
        message = next(m for m in c.unacknowledged if c.next < m.end)
        last = c.next + 1 == message.end
        payload = message.size - (c.next - message.first) * p["mtu_bytes"] if last else p["mtu_bytes"]
        return Flight(max(payload + p["header_bytes"], p["min_wire_bytes"]), last)

    def choose_path(self, s: Sender, before: int, now: int) -> int:
        """Take the next path in service that is not late; a path that has been late is set aside."""
        busy = {flight.path for flight in s.window.values() if flight.state == "flying"}
        for p, path in enumerate(s.paths):
            if path.in_service or path.rest_until_ps > now:
                continue
            if p in busy:
                path.rest_until_ps = now + self.param["path_rest_ps"]
            else:
                path.in_service, path.excess_ps = True, 0
        p = self.path_after(s, s.path_at)
        while self.late(s, p, now) and self.set_aside(s, p, self.half(s), now):
            p = self.path_after(s, p)
        s.path_at = self.path_after(s, p) if p == before else p
        return s.path_at

    def path_after(self, s: Sender, p: int) -> int:
        """Return the next path in service, round robin."""
        return next(q for q in [*range(p + 1, len(s.paths)), *range(p + 1)] if s.paths[q].in_service)

    def late(self, s: Sender, p: int, now: int) -> bool:
        """Whether a packet is under way on a path for longer than makes a path slow."""
        sent = [f.sent_ps for f in s.window.values() if f.path == p and f.state == "flying"]
        return bool(sent and s.srtt_ps) and now - min(sent) > s.srtt_ps + self.slow(s)

    def slow(self, s: Sender) -> int:
        return s.srtt_ps * self.slow_q16 >> 16

    def half(self, s: Sender) -> int:
        return -(-len(s.paths) // 2)

    def set_aside(self, s: Sender, p: int, least: int, now: int) -> bool:
        """Take a path out of service, unless fewer than ``least`` would be left."""
        path = s.paths[p]
        if path.in_service and sum(other.in_service for other in s.paths) <= least:
            return False
        path.rest_until_ps = now + (self.param["path_rest_ps"] << path.strikes)
        path.strikes = min(path.strikes + path.in_service, MOST_STRIKES)
        path.in_service = False
        return True

    # ---- loss

    def rto_ps(self, c: Connection) -> int:
        s, p = self.sender(c), self.param
        rto = int(p["first_rto_ps"])
        if s.srtt_ps:
            rto = max(p["min_rto_ps"], s.srtt_ps + max(4 * s.rttvar_ps, s.srtt_ps // 2))
        return min(rto << min(c.retries, MOST_DOUBLINGS), max(p["max_rto_ps"], rto))

    def lose(self, s: Sender, psn: int, now: int) -> None:
        s.window[psn].state = "lost"
        s.lost.append(psn)
        self.set_aside(s, s.window[psn].path, -(-len(s.paths) // 4), now)

    def find_lost(self, s: Sender, p: int, now: int) -> bool:
        """Take for lost what is too far behind the newest arrival of its path."""
        found = False
        on_path = [(f.turn, psn) for psn, f in s.window.items() if f.path == p and f.state == "flying"]
        for turn, psn in sorted(on_path):
            if s.paths[p].arrived - turn >= self.param["loss_threshold_count"]:
                self.lose(s, psn, now)
                found = True
        return found

    def timed_out(self, c: Connection, now: int) -> None:
        if c.una == c.next:
            c.rto_armed = False
            return
        s, rto = self.sender(c), self.rto_ps(c)
        flying = {psn: f for psn, f in s.window.items() if f.state == "flying"}
        late = [psn for psn in sorted(flying) if flying[psn].sent_ps <= now - rto]
        for psn in late:
            self.lose(s, psn, now)
        if late:
            stalled = s.progress_ps <= now - rto
            if stalled:
                self.sim.count["timeouts"] += 1
                s.progress_ps = now
                c.retries += 1
                if c.retries > self.param["retry_limit_count"]:
                    raise GaveUpError(now)
            c.cc.lost(stalled, now)
            self.schedule(c, now)
        left = [f.sent_ps for psn, f in flying.items() if psn not in late]
        self.arm_rto(c, min(left, default=now) + rto)

    # ---- acknowledgements

    def measure(self, s: Sender, p: int, rtt: int, now: int) -> None:
        if not s.srtt_ps:
            s.srtt_ps, s.rttvar_ps = rtt, rtt // 2
            return
        off, path = rtt - s.srtt_ps, s.paths[p]
        s.rttvar_ps += (abs(off) - s.rttvar_ps) >> 2
        s.srtt_ps += off >> 3
        path.excess_ps += (off - path.excess_ps) >> 2
        if path.excess_ps > self.slow(s):
            self.set_aside(s, p, self.half(s), now)
        else:
            path.strikes = 0

    def settle(self, s: Sender, psn: int) -> int:
        """Note that a packet has arrived; return its bytes."""
        flight = s.window[psn]
        if flight.state == "lost":
            s.lost.remove(psn)
        elif not flight.resent:
            s.paths[flight.path].arrived = max(s.paths[flight.path].arrived, flight.turn)
        flight.state = "arrived"
        return flight.size

    def acknowledged(self, c: Connection, packet: Packet, now: int) -> None:
        s = self.sender(c)
        named, missing = told(packet.psn, c.una)
        ack, lost = Ack(now, None, 0, 0, c.next), False
        if named in s.window and s.window[named].state != "arrived":
            flight = s.window[named]
            ack.acked = self.settle(s, named)
            if not flight.resent:
                ack.rtt = now - flight.sent_ps
                self.measure(s, flight.path, ack.rtt, now)
            lost = self.find_lost(s, flight.path, now)
        while c.una < c.next and (s.window[c.una].state == "arrived" or c.una < missing):
            if s.window[c.una].state != "arrived":
                ack.acked += self.settle(s, c.una)
                lost |= self.find_lost(s, s.window[c.una].path, now)
            del s.window[c.una]
            c.una += 1
        if not ack.acked:
            return
        s.progress_ps, c.retries = now, 0
        ack.acked_psn = c.una
        due = s.cnp_at is None or now - s.cnp_at >= self.param["cnp_interval_ps"]
        if packet.marked and c.cc.wants_cnp and due:
            s.cnp_at = now
            self.sim.count["cnps"] += 1
            c.cc.notified(now)
        c.cc.acked(ack)
        if lost:
            c.cc.lost(False, now)
        if c.una == c.end and all(path.in_service for path in s.paths):
            s.paths = [Path() for _ in s.paths]
        while c.unacknowledged and c.unacknowledged[0].end <= c.una:
            c.unacknowledged.popleft().acknowledged(now)
        self.schedule(c, now)

    # ---- receiving

    def arrived(self, packet: Packet, _: int, now: int) -> None:
        if packet.kind == DATA:
            self.receive_data(self.rx[packet.connection], packet, now)
        elif packet.kind == ACK:
            self.acknowledged(self.tx[packet.connection], packet, now)
        elif packet.kind == PAUSE:
            self.out.pause(now, packet.psn)
        elif packet.kind == RESUME:
            self.out.resume(now, packet.psn)
            self.ask_turn(now)

    def receive_data(self, c: Connection, packet: Packet, now: int) -> None:
        psn = packet.psn
        r = self.receivers.setdefault(c.at_dst, Receiver())
        if psn == c.expected:
            ended = packet.last
            self.take_next(c, r, packet.last, now)
            while c.expected in c.early:
                r.put_in_order += 1
                last = c.early.pop(c.expected)
                ended |= last
                self.take_next(c, r, last, now)
            if not ended and not packet.marked:
                c.unanswered += 1
                if c.unanswered < self.param["ack_every_count"]:
                    return
        elif psn < c.expected or psn in c.early:
            self.sim.count["duplicates"] += 1
            psn = psn if psn > c.expected else c.expected - 1
        else:
            c.early[psn] = packet.last
        c.unanswered = 0
        self.sim.count["acks"] += 1
        said = answer(psn, c.expected)
        reply = Packet(ACK, c.src, c.at_src, said, self.param["ack_bytes"], entropy=packet.entropy)
        reply.marked = packet.marked
        self.emit(reply, now)

    def take_next(self, c: Connection, r: Receiver, last: bool, now: int) -> None:
        """Take the expected packet; a message is delivered when its packets have been put in order."""
        c.expected += 1
        if not last:
            return
        work, r.put_in_order = r.put_in_order * self.param["reorder_ps"], 0
        if not work and r.ready_ps <= now:
            c.undelivered.popleft().delivered(now)
            return
        r.ready_ps = max(r.ready_ps, now) + work
        self.timer(r.ready_ps, DELIVER_KEY | c.at_dst, self.ready_to_deliver, c, r.ready_ps)

    def ready_to_deliver(self, c: Connection, now: int) -> None:
        c.undelivered.popleft().delivered(now)


class ClassSrd(Srd, ClassHost):
    """A host with a line for each data class."""
