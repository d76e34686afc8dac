"""Links with real queues, and Ethernet switches that count every byte of their buffer.

A link sends one packet at a time. Pause frames go before control packets, these before data, each first come
first served. A pause stops the data only, and never the packet under way.

Order at one time and node: departures, then the XONs they cause, then arrivals by port. So a packet whose
last bit leaves now has left, and the next one has begun, before an arrival of that picosecond is looked at.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .controllers import Hop
from .rules import KEY_MARK, draw, ppm_q16, ps_per_byte_q16, times_q16, wire_bytes, wire_ps

if TYPE_CHECKING:
    from .plane import Plane

DATA, ACK, NAK, CNP, PAUSE, RESUME = range(6)
PAUSE_FRAME_BYTES = 84
NEVER = (1 << 62) - 1

# what comes first at one time and node
DEPARTURE, XON, CONTROLLER, NIC, TIMER, ARRIVAL = range(6)


@dataclass
class Packet:
    """A packet, with what the switch that holds it notes beside it."""

    kind: int
    dst: int = 0
    connection: int = 0
    psn: int = 0
    size: int = 0
    last: bool = False
    entropy: int = 0
    marked: bool = False
    data_class: int = 0
    hops: tuple[Hop, ...] = ()  # what the outputs on the way wrote on it
    in_class: int = 0  # whose buffer it takes, with credits
    counted_at: int | None = None  # the input whose buffer share it takes


class Link:
    """One direction of a cable, with the queues of the port that sends into it."""

    def __init__(self, sim: Plane, name: int, cable: Any, tx: int, rx: int, delay_ps: int) -> None:
        self.sim, self.name, self.tx, self.rx, self.delay_ps = sim, name, tx, rx, delay_ps
        self.rate_mbps = cable.rate_mbps
        self.q16 = ps_per_byte_q16(cable.rate_mbps)
        self.tx_port = self.rx_port = 0
        self.circuits: list[tuple[int, ...]] = []  # first, up, period: when it is lit; none: always
        self.cut_through = False  # the receiver takes a packet at its first bit
        self.frames: deque[Packet] = deque()
        self.control: deque[Packet] = deque()
        self.data: deque[Packet] = deque()
        self.sending: Packet | None = None
        self.sent_ps = 0  # when the last bit of `sending` leaves
        self.paused = False
        self.paused_since_ps = 0
        self.packets = self.bytes = self.marks = self.drops = self.pauses = self.paused_ps = 0
        self.longest_ps = 0  # the greatest queue that a packet found, but for those a threshold refused

    def wire_ps(self, size: int) -> int:
        return wire_ps(size, self.q16)

    @property
    def may_go(self) -> list[deque[Packet]]:
        """The queues that no pause stops, in their order."""
        return [self.frames, self.control] + ([] if self.paused else [self.data])

    @property
    def idle(self) -> bool:
        return not (self.sending or self.frames or self.control or self.data)

    def free_at_ps(self, now: int) -> int:
        """Return when all that may go has gone, if nothing else comes."""
        at = self.sent_ps if self.sending else now
        return at + sum(self.wire_ps(packet.size) for queue in self.may_go for packet in queue)

    def backlog_ps(self, now: int) -> int:
        """Return the queue's length in wire time, with the rest of the packet under way."""
        held = sum(self.wire_ps(p.size) for p in self.data) if self.paused else 0
        return self.free_at_ps(now) - now + held

    def load_ps(self, now: int) -> int:
        """Return all that waits for the wire, whatever its class, paused or not."""
        return self.backlog_ps(now)

    def hand_over(self, packet: Packet, now: int, *, control: bool) -> None:
        """Put a packet in line; it begins at once if it can."""
        self.packets += 1
        self.bytes += packet.size
        (self.frames if packet.kind >= PAUSE else self.control if control else self.data).append(packet)
        self.start(now)

    def start(self, now: int) -> None:
        """Begin the first packet, unless one is under way or none may go."""
        packet = None if self.sending else self.choose()
        if not packet:
            return
        self.sending, self.sent_ps = packet, now + self.wire_ps(packet.size)
        self.sim.at(self.sent_ps, DEPARTURE, self.tx_port, self.depart, self.sent_ps)
        seen_ps = (now if self.cut_through else self.sent_ps) + self.delay_ps
        self.sim.at(seen_ps, ARRIVAL, self.rx_port, self.arrive, replace(packet, counted_at=None), seen_ps)

    def choose(self) -> Packet | None:
        """Take the packet whose turn it is out of its queue."""
        queue = next((queue for queue in self.may_go if queue), None)
        return queue.popleft() if queue else None

    def depart(self, now: int) -> None:
        """The last bit leaves."""
        packet, self.sending = self.sending, None
        self.start(now)
        self.sim.nodes[self.tx].departed(packet, now)

    def arrive(self, packet: Packet, now: int) -> None:
        self.sim.record(self, packet, now)
        self.sim.nodes[self.rx].arrived(packet, self.rx_port, now)

    def pause(self, now: int, classes: int) -> None:
        self.pauses += 1
        if not self.paused:
            self.paused, self.paused_since_ps = True, now

    def resume(self, now: int, classes: int) -> None:
        if self.paused:
            self.paused = False
            self.paused_ps += now - self.paused_since_ps
            self.start(now)


class Switch:
    """Output queues in a shared buffer; ECN as RED; dynamic thresholds (lossy) or PFC by input (lossless)."""

    def __init__(self, sim: Plane, node: int) -> None:
        self.sim, self.node = sim, node
        self.param = sim.param["switch"]
        self.pfc = sim.param["link"] if sim.lossless else None
        self.ins: list[Link] = []  # by port
        self.outs: list[Link] = []

    def ready(self) -> None:
        """Fix what depends on the ports."""
        ports = len(self.outs)
        self.in_bytes = [0] * ports  # data in the buffer, by the input it came from
        self.used = 0
        self.xoff_sent = [False] * ports
        self.xon_check = False  # something departs now
        self.level = [0] * ports  # in_bytes when XOFF was sent
        self.headroom = [self.headroom_of(p) for p in range(ports)] if self.pfc else []
        self.shared = self.param["buffer_bytes"] - sum(self.headroom)
        self.guaranteed = self.guarantee(ports) if self.pfc else 0
        self.choose_cut_through()

    def choose_cut_through(self) -> None:
        if self.param["cut_through"]:  # only where no output could run out of bits in the middle of a packet
            fastest = max((out.rate_mbps for out in self.outs), default=0)
            for link in self.ins:
                link.cut_through = link.rate_mbps >= fastest

    def guarantee(self, inputs: int) -> int:
        """Return what any input may hold, whatever the others do: all at once, or beside some above it."""
        assert self.pfc
        if static := self.pfc["xoff_bytes"]:
            return static if static <= self.shared // inputs else 0
        alpha = ppm_q16(self.pfc["xoff_alpha_ppm"])
        level = (times_q16(self.shared, alpha) << 16) // ((1 << 16) + alpha * inputs)
        return min(level, (self.shared << 16) // (inputs * ((1 << 16) + alpha * inputs)))

    def headroom_of(self, port: int) -> int:
        """Return what may come in after XOFF: the wire both ways, two frames each way, the pause frame."""
        assert self.pfc
        if self.pfc["headroom_bytes"]:
            return self.pfc["headroom_bytes"]
        wires = wire_bytes(self.ins[port].delay_ps + self.outs[port].delay_ps, self.ins[port].q16)
        return wires + 4 * self.sim.wire_max + 2 * PAUSE_FRAME_BYTES

    # ---- arrivals

    def arrived(self, packet: Packet, port: int, now: int) -> None:
        if packet.kind == PAUSE:
            self.outs[port].pause(now, packet.psn)
            return
        if packet.kind == RESUME:
            self.outs[port].resume(now, packet.psn)
            return
        out = self.outs[self.route(packet, now)]
        backlog_ps = out.backlog_ps(now)
        if not self.pfc and not self.admits(out, packet, backlog_ps, now):
            out.drops += 1
            return
        if packet.kind == DATA and not packet.marked and self.marks(out, backlog_ps, out.packets):
            packet.marked = True
            out.marks += 1
        out.longest_ps = max(out.longest_ps, backlog_ps)
        control = self.sim.control_priority and packet.kind != DATA
        if self.pfc and not control and not self.count_in(packet, port, now):
            out.drops += 1
            return
        out.hand_over(packet, now, control=control)

    def route(self, packet: Packet, now: int) -> int:
        """Return the output port."""
        load = lambda port: self.outs[port].load_ps(now)  # noqa: E731
        return self.sim.network.output(self.node, packet.dst, packet.entropy, load)

    def admits(self, out: Link, packet: Packet, backlog_ps: int, now: int) -> bool:
        """Dynamic threshold: an output may hold alpha x free buffer. An idle output always takes a packet."""
        if backlog_ps == 0:
            return True
        used = sum(wire_bytes(link.backlog_ps(now), link.q16) for link in self.outs)
        free = self.param["buffer_bytes"] - used
        queue = wire_bytes(backlog_ps, out.q16)
        alpha = ppm_q16(self.param["dynamic_alpha_ppm"])
        return packet.size <= free and queue + packet.size <= times_q16(free, alpha)

    def marks(self, out: Link, backlog_ps: int, entry: int) -> bool:
        """RED: nothing up to kmin, linear to pmax at kmax, everything above."""
        if not self.param["ecn"]:
            return False
        kmin_ps, kmax_ps = (
            out.wire_ps(self.param["ecn_kmin_bytes"]),
            out.wire_ps(self.param["ecn_kmax_bytes"]),
        )
        if backlog_ps <= kmin_ps:
            return False
        if backlog_ps > kmax_ps:
            return True
        slope = (self.param["ecn_pmax_ppm"] << 48) // 1_000_000 // (kmax_ps - kmin_ps)
        chance = ((backlog_ps - kmin_ps) * slope) >> 16  # in 2^-32
        return draw(self.sim.seed, KEY_MARK, out.name, entry) >> 32 < chance

    # ---- priority flow control

    def xoff_level(self) -> int:
        """Return the level above which an input sends XOFF: the guarantee at most, in an overfull buffer."""
        assert self.pfc
        free = self.shared - self.used
        level = self.pfc["xoff_bytes"] or times_q16(max(free, 0), ppm_q16(self.pfc["xoff_alpha_ppm"]))
        return level if free >= 0 else min(level, self.guaranteed)

    def count_in(self, packet: Packet, port: int, now: int) -> bool:
        """Count a packet at its input; XOFF when it holds too much; False: even the headroom is full."""
        held = self.in_bytes[port] + packet.size
        if held > self.guaranteed and self.xoff_sent[port] and held > self.level[port] + self.headroom[port]:
            return False
        packet.counted_at = port
        self.in_bytes[port] = held
        self.used += packet.size
        if held <= self.guaranteed or self.xoff_sent[port]:
            return True
        if held > self.xoff_level():
            self.xoff_sent[port], self.level[port] = True, held
            self.send_pause(port, PAUSE, now)
        return True

    def send_pause(self, port: int, kind: int, now: int, classes: int = 1) -> None:
        self.sim.count["pfc_pauses" if kind == PAUSE else "pfc_resumes"] += 1
        self.outs[port].hand_over(Packet(kind, size=PAUSE_FRAME_BYTES, psn=classes), now, control=True)

    def departed(self, packet: Packet, now: int) -> None:
        """Count a packet out; after all that departs now, XONs may be due."""
        if packet.counted_at is not None:
            self.in_bytes[packet.counted_at] -= packet.size
            self.used -= packet.size
        if any(self.xoff_sent) and not self.xon_check:
            self.xon_check = True
            self.sim.at(now, XON, 0, self.send_xons, now)

    def send_xons(self, now: int) -> None:
        """Send XON to the inputs that have sunk far enough."""
        assert self.pfc
        self.xon_check = False
        level = max(self.xoff_level() - self.pfc["xon_gap_bytes"], 0)
        for port, sent in enumerate(self.xoff_sent):
            if sent and self.in_bytes[port] <= level:
                self.xoff_sent[port] = False
                self.send_pause(port, RESUME, now)
