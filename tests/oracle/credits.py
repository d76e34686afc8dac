"""Links with credits, input-buffered switches with virtual output queues, and the NIC in front of them.

A sender starts a packet when the link is free and it has credits for the whole packet in its lane. A switch
gives the credits of a packet back when its last bit has left, a host when its last bit is in; they count at
the sender the reverse delay (and the credit delay) later. Switches always cut through.

Order at one time and node: credits that come, heads of inputs that have left, turns of outputs by port, then
arrivals by port.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .controllers import Hop
from .fabric import ARRIVAL, DATA, DEPARTURE, NIC, Link, Packet
from .host import Connection, Host
from .rules import KEY_MARK, draw

if TYPE_CHECKING:
    from .plane import Plane

CREDIT, RELEASE = -2, -1  # before everything else at one time
LANES_MOST = 4


class Lanes:
    """Whose turn it is among lanes: a high and a low list, each in weighted round robin."""

    def __init__(self, sim: Plane) -> None:
        switch = sim.param["switch"]
        self.high_mask = switch["vl_high_mask"]
        self.weight = [switch[f"vl{lane}_weight"] for lane in range(LANES_MOST)]
        limit = switch["vl_high_limit"]
        self.limit = None if limit == 255 else max(limit * 4096, 1)
        self.high_bytes = 0  # since the low list had a chance
        self.at = {True: 0, False: 0}
        self.left = {True: 0, False: 0}

    def take(self, heads: dict[int, int]) -> int:
        """Return the lane that sends, of those that can: the bytes of each one's first packet."""
        lists = {
            high: {lane for lane in heads if bool(self.high_mask >> lane & 1) == high}
            for high in (True, False)
        }
        exhausted = self.limit is not None and self.high_bytes >= self.limit
        high = bool(lists[True]) and not (exhausted and lists[False])
        if exhausted or not high:
            self.high_bytes = 0
        lane = self.at[high]
        if lane not in lists[high] or self.left[high] <= 0:
            lane = next(c % LANES_MOST for c in range(lane + 1, lane + 5) if c % LANES_MOST in lists[high])
            self.left[high] = self.weight[lane]
        self.at[high] = lane
        self.left[high] -= -(-heads[lane] // 64)
        if high:
            self.high_bytes += heads[lane]
        return lane


class CreditLink(Link):
    """A link that its sender uses only with credits; the queues are the sender's, not the link's."""

    def __init__(self, sim: Plane, name: int, cable: Any, tx: int, rx: int, delay_ps: int) -> None:
        super().__init__(sim, name, cable, tx, rx, delay_ps)
        self.block = sim.param["link"]["credit_block_bytes"]
        self.cut_through = rx >= len(sim.hosts)
        self.starving = False

    def ready(self, reverse: Link) -> None:
        """Fix what depends on the other direction."""
        p = self.sim.param["link"]
        self.back_ps = reverse.delay_ps + p["credit_delay_ps"]
        if p["vl_buffer_bytes"]:
            blocks = p["vl_buffer_bytes"] // self.block
        else:
            loop = ((self.delay_ps + self.back_ps) << 16) // self.q16
            blocks = -(-loop // self.block) + 2 * -(-self.sim.wire_max // self.block)
        self.room = blocks
        self.credits = [blocks] * LANES_MOST

    def blocks(self, size: int) -> int:
        return -(-size // self.block)

    @property
    def free(self) -> bool:
        return self.sending is None and self.lit_ps(self.sim.now) <= self.sim.now

    def lit_ps(self, now: int) -> int:
        """Return from when on a packet may begin: now, or when the link's circuit is lit again.

        None begins that might not be over when the circuit goes dark.
        """
        if not self.circuits:
            return now
        guard = self.wire_ps(self.sim.wire_max)
        found = []
        for first, up, period in self.circuits:
            start = first + max(0, now - first) // period * period
            if up >= period or now < start + up - guard:
                found.append(max(now, start))
            else:
                found.append(start + period)
        return min(found)

    def can_send(self, packet_size: int, lane: int) -> bool:
        return self.credits[lane] >= self.blocks(packet_size)

    def send(self, packet: Packet, now: int) -> int:
        """Start a packet on the free link; return when its last bit leaves."""
        assert self.free
        self.packets += 1
        self.bytes += packet.size
        self.credits[packet.data_class] -= self.blocks(packet.size)
        assert self.credits[packet.data_class] >= 0
        self.sending, self.sent_ps = packet, now + self.wire_ps(packet.size)
        self.sim.at(self.sent_ps, DEPARTURE, self.tx_port, self.depart, self.sent_ps)
        seen_ps = (now if self.cut_through else self.sent_ps) + self.delay_ps
        self.sim.at(seen_ps, ARRIVAL, self.rx_port, self.arrive, replace(packet), seen_ps)
        return self.sent_ps

    def depart(self, now: int) -> None:
        self.sending = None
        self.sim.nodes[self.tx].turn_of(self.tx_port, now)

    def give_back(self, size: int, lane: int, release_ps: int) -> None:
        """Return credits to the sender, from when the buffer is free."""
        when = release_ps + self.back_ps
        self.sim.at(when, CREDIT, self.name, self.credited, self.blocks(size), lane, when)

    def credited(self, blocks: int, lane: int, now: int) -> None:
        self.credits[lane] += blocks
        assert self.credits[lane] <= self.room
        self.sim.at(now, DEPARTURE, self.tx_port, self.sim.nodes[self.tx].turn_of, self.tx_port, now)

    def starve(self, starving: bool, now: int) -> None:
        """The link is free and packets wait, but there are no credits for them; or no longer."""
        if starving and not self.starving:
            self.pauses += 1
            self.paused_since_ps = now
        elif self.starving and not starving:
            self.paused_ps += now - self.paused_since_ps
        self.starving = self.paused = starving


class VoqSwitch:
    """Queues by input, lane and output; an output takes turns among lanes, a lane among inputs."""

    def __init__(self, sim: Plane, node: int) -> None:
        self.sim, self.node = sim, node
        self.param = sim.param["switch"]
        self.ins: list[Any] = []
        self.outs: list[Any] = []

    def ready(self) -> None:
        self.lanes = self.param["vl_count"]
        for port, link in enumerate(self.ins):
            link.ready(self.outs[port])
        ports = range(len(self.outs))
        self.queues: list[list[list[deque[Packet]]]] = [
            [[deque() for _ in ports] for _ in range(self.lanes)] for _ in ports
        ]  # output, lane, input
        self.next_input = [[0] * self.lanes for _ in ports]
        self.turns = [Lanes(self.sim) for _ in ports]
        self.markable = [0 for _ in ports]
        self.fifo = bool(self.param["input_queue"])
        inputs = [(port, lane) for port in ports for lane in range(self.lanes)]
        self.line: dict[tuple[int, int], deque[tuple[Packet, int]]] = {
            key: deque() for key in inputs
        }  # behind the head of an input
        self.head_there = dict.fromkeys(self.line, False)

    def arrived(self, packet: Packet, port: int, now: int) -> None:
        def load(port: int) -> tuple[bool, int]:
            out = self.outs[port]
            queued = sum(p.size for lane in self.queues[port] for queue in lane for p in queue)
            under_way_ps = 0 if out.free else out.sent_ps - now
            return not out.can_send(packet.size, packet.data_class), under_way_ps + out.wire_ps(queued)

        network = self.sim.network
        output = network.output(self.node, packet.dst, packet.entropy, load)
        packet.in_class = packet.data_class
        packet.data_class = network.next_class(self.node, port, output, packet.data_class, packet.entropy)
        early = self.ins[port].wire_ps(packet.size) - self.outs[output].wire_ps(packet.size)
        if early > 0:
            self.sim.at(now + early, ARRIVAL, port, self.is_ready, packet, port, output, now + early)
        else:
            self.is_ready(packet, port, output, now)

    def is_ready(self, packet: Packet, port: int, output: int, now: int) -> None:
        """The packet could be sent on without running out of bits."""
        if self.fifo:
            if self.head_there[port, packet.in_class]:
                self.line[port, packet.in_class].append((packet, output))
                return
            self.head_there[port, packet.in_class] = True
        self.join(packet, port, output, now)
        self.turn_of(output, now)

    def join(self, packet: Packet, port: int, output: int, now: int) -> None:
        out = self.outs[output]
        queues = self.queues[output][packet.data_class]
        queued = sum(p.size for queue in queues for p in queue)
        starts_now = out.free and not queued and out.can_send(packet.size, packet.data_class)
        if not (starts_now and not any(q for lane in self.queues[output] for q in lane)):
            self.mark(packet, output, queued)
            out.longest_ps = max(out.longest_ps, out.wire_ps(queued))
        queues[port].append(packet)

    def mark(self, packet: Packet, output: int, queued: int) -> None:
        """Forward explicit congestion notification."""
        p, out = self.param, self.outs[output]
        if not p["fecn_threshold"] or packet.kind != DATA or packet.marked:
            return
        share = 16 - p["fecn_threshold"]
        if queued <= out.room * out.block * share // 16 or out.blocks(packet.size) < p["fecn_packet_size"]:
            return
        if not p["fecn_victim_mask"] and not out.can_send(packet.size, packet.data_class):
            return
        number, self.markable[output] = self.markable[output], self.markable[output] + 1
        chance = draw(self.sim.seed, KEY_MARK, out.name, number) >> 32
        if chance * (p["fecn_marking_rate"] + 1) >> 32 == 0:
            packet.marked = True
            out.marks += 1

    def turn_of(self, output: int, now: int) -> None:
        """Send the packet whose turn it is, if the link is free."""
        out = self.outs[output]
        if not out.free:
            lit_ps = out.lit_ps(now)
            if out.sending is None and any(queue for lane in self.queues[output] for queue in lane):
                self.sim.at(lit_ps, DEPARTURE, output, self.turn_of, output, lit_ps)
            return
        first: dict[int, int] = {}  # input whose turn it is, by lane
        for lane, queues in enumerate(self.queues[output]):
            order = sorted(range(len(queues)), key=lambda i: (i < self.next_input[output][lane], i))
            waiting = [i for i in order if queues[i]]
            if waiting:
                first[lane] = waiting[0]
        sizes = {lane: self.queues[output][lane][i][0].size for lane, i in first.items()}
        able = {lane: size for lane, size in sizes.items() if out.can_send(size, lane)}
        out.starve(bool(sizes) and not able, now)
        if not able:
            return
        lane = self.turns[output].take(able)
        port = first[lane]
        packet = self.queues[output][lane][port].popleft()
        self.next_input[output][lane] = (port + 1) % len(self.ins)
        left_ps = out.send(packet, now)
        self.ins[port].give_back(packet.size, packet.in_class, left_ps)
        if self.fifo:
            self.sim.at(left_ps, RELEASE, port, self.release, port, packet.in_class, left_ps)

    def release(self, port: int, lane: int, now: int) -> None:
        """The head of an input has left: the one behind it is offered to its output."""
        line = self.line[port, lane]
        self.head_there[port, lane] = bool(line)
        if line:
            packet, output = line.popleft()
            self.join(packet, port, output, now)
            self.sim.at(now, DEPARTURE, output, self.turn_of, output, now)


class CreditHost(Host):
    """A NIC with a line of connections and a queue of answers for each lane; answers go before data."""

    def __init__(self, sim: Plane, node: int) -> None:
        super().__init__(sim, node)
        self.lanes = sim.param["switch"]["vl_count"]
        self.lines: list[deque[Connection]] = [deque() for _ in range(self.lanes)]
        self.answers: list[deque[Packet]] = [deque() for _ in range(self.lanes)]
        self.turns = Lanes(sim)

    def ready(self) -> None:
        link: Any = self.ins[0]
        link.ready(self.outs[0])

    def join(self, c: Connection) -> None:
        self.lines[c.data_class].append(c)

    def ask_turn(self, now: int) -> None:
        self.sim.at(now, NIC, 0, self.turn, now)

    def turn_of(self, _: int, now: int) -> None:
        self.ask_turn(now)

    def arrived(self, packet: Packet, port: int, now: int) -> None:
        link: Any = self.ins[port]
        link.give_back(packet.size, packet.data_class, now)
        super().arrived(packet, port, now)

    def acknowledge(self, c: Connection, una: int, hops: tuple[Hop, ...], now: int) -> None:
        """What is next may weigh less now: a NIC that waits for credits looks again."""
        super().acknowledge(c, una, hops, now)
        self.ask_turn(now)

    def go_back(self, c: Connection, timeout: bool, now: int) -> None:
        super().go_back(c, timeout, now)
        self.ask_turn(now)

    def named(self, c: Connection, packet: Packet, now: int) -> None:
        super().named(c, packet, now)
        self.ask_turn(now)

    def answer(self, c: Connection, kind: int, psn: int, now: int, hops: tuple[Hop, ...] = ()) -> None:
        self.lane_of_answer = c.data_class
        super().answer(c, kind, psn, now, hops)

    def emit(self, packet: Packet, now: int) -> None:
        """An answer: it waits for its turn."""
        packet.data_class = self.lane_of_answer
        self.answers[packet.data_class].append(packet)
        self.ask_turn(now)

    def turn(self, now: int) -> None:
        out: Any = self.outs[0]
        if not out.free:
            return
        sizes: dict[int, int] = {}
        for lane, line in enumerate(self.lines):
            if self.answers[lane]:
                sizes[lane] = self.answers[lane][0].size
                continue
            while line and not self.may_send(line[0]):
                line.popleft().in_line = False
            if line:
                sizes[lane] = self.size_of_next(line[0])
        able = {lane: size for lane, size in sizes.items() if out.can_send(size, lane)}
        out.starve(bool(sizes) and not able, now)
        if not able:
            return
        lane = self.turns.take(able)
        self.sim.count["packets"] += 1
        if self.answers[lane]:
            out.send(self.answers[lane].popleft(), now)
            return
        c = self.lines[lane].popleft()
        c.in_line = False
        packet = self.take_packet(c)
        out.send(packet, now)
        self.sent(c, packet, now)

    def size_of_next(self, c: Connection) -> int:
        after = c.next
        size = self.take_packet(c).size
        c.next = after
        return size
