"""Links, switches and NICs with several data classes: a queue for each, and a turn for every departure.

A turn comes when the link is free and something waits that no pause stops: pause frames, then control
packets, then a data class by strict priority or by deficit round robin. A packet counts in the buffer from
its arrival until it begins to leave; then the XONs that are due go out at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .controllers import Hop
from .fabric import DATA, PAUSE, RESUME, Link, Packet, Switch
from .host import Connection, Host
from .rules import ppm_q16, times_q16, wire_bytes

if TYPE_CHECKING:
    from .plane import Plane


MOST_HOPS = 8


class Turns:
    """Whose turn it is among classes. A round adds ``quantum`` to each deficit, which pays for packets."""

    def __init__(self, sim: Plane, quantum: int) -> None:
        self.strict = not sim.param["switch"]["class_round_robin"]
        self.quantum = quantum
        self.deficit = [0] * sim.param["switch"]["data_class_count"]
        self.turn = 0

    def take(self, heads: dict[int, int]) -> int:
        """Return the class that sends, of those that wait: the cost of each one's first packet."""
        if self.strict:
            return max(heads)
        while True:
            c = self.turn
            if c not in heads:
                self.deficit[c] = 0
            elif self.deficit[c] >= heads[c]:
                self.deficit[c] -= heads[c]
                return c
            self.turn = (c + 1) % len(self.deficit)
            self.deficit[self.turn] += self.quantum


class ClassLink(Link):
    """A link whose port has a queue for each data class; pauses stop some of them."""

    def __init__(self, sim: Plane, name: int, cable: Any, tx: int, rx: int, delay_ps: int) -> None:
        super().__init__(sim, name, cable, tx, rx, delay_ps)
        self.queues: list[deque[Packet]] = [deque() for _ in range(sim.param["switch"]["data_class_count"])]
        self.paused_classes = 0  # bit set
        self.turns = Turns(sim, sim.wire_max)
        self.offered = 0  # packets handed to the port, whatever became of them

    @property
    def may_go(self) -> list[deque[Packet]]:
        return [self.frames, self.control] + [q for c, q in enumerate(self.queues) if self.goes(c)]

    @property
    def idle(self) -> bool:
        return not (self.sending or self.frames or self.control or any(self.queues))

    def goes(self, data_class: int) -> bool:
        """Whether no pause stops a class."""
        return not self.paused_classes >> data_class & 1

    def queue_ps(self, queue: deque[Packet]) -> int:
        """Return a queue's length in wire time; the packet under way is in none."""
        return sum(self.wire_ps(packet.size) for packet in queue)

    def load_ps(self, now: int) -> int:
        stopped = sum(self.queue_ps(q) for c, q in enumerate(self.queues) if not self.goes(c))
        return self.free_at_ps(now) - now + stopped

    def hand_over(self, packet: Packet, now: int, *, control: bool) -> None:
        if packet.kind >= PAUSE:
            self.frames.append(packet)
        else:
            (self.control if control else self.queues[packet.data_class]).append(packet)
        self.start(now)

    def choose(self) -> Packet | None:
        packet = self.choose_any()
        if packet and packet.kind == DATA and self.sim.telemetry and self.tx >= len(self.sim.hosts):
            waiting = sum(p.size for queue in (self.control, *self.queues) for p in queue)
            note = Hop(self.name, self.sim.now, self.bytes, waiting, self.rate_mbps)
            packet.hops = (*packet.hops, note)[:MOST_HOPS]
        return packet

    def choose_any(self) -> Packet | None:
        for queue in (self.frames, self.control):
            if queue:
                return queue.popleft()
        heads = {c: q[0].size for c, q in enumerate(self.queues) if q and self.goes(c)}
        return self.queues[self.turns.take(heads)].popleft() if heads else None

    def start(self, now: int) -> None:
        before = self.sending
        super().start(now)
        if self.sending and self.sending is not before:
            self.packets += 1
            self.bytes += self.sending.size
            self.sim.nodes[self.tx].began(self.sending, now)

    def pause(self, now: int, classes: int) -> None:
        super().pause(now, classes)
        self.paused_classes |= classes

    def resume(self, now: int, classes: int) -> None:
        self.paused_classes &= ~classes
        if self.paused_classes:
            self.start(now)
        else:
            super().resume(now, classes)


class ClassSwitch(Switch):
    """Shared buffer with counts by input and class; a class is lossless (PFC) or has a dynamic threshold."""

    def ready(self) -> None:
        ports, self.classes = len(self.outs), self.param["data_class_count"]
        mask = self.pfc["lossless_classes"] if self.pfc else 0
        self.lossless = [bool(mask >> c & 1) for c in range(self.classes)]
        self.held = {(p, c): 0 for p in range(ports) for c in range(self.classes)}  # by input and class
        self.used = 0
        self.xoff_at: dict[tuple[int, int], int] = {}  # of those that are paused: what they held then
        self.headroom = [self.headroom_of(p) for p in range(ports)] if self.pfc else []
        self.shared = self.param["buffer_bytes"] - sum(self.lossless) * sum(self.headroom)
        self.guaranteed = self.guarantee(ports * self.classes) if self.pfc else 0
        self.choose_cut_through()

    def arrived(self, packet: Packet, port: int, now: int) -> None:
        if packet.kind == PAUSE:
            self.outs[port].pause(now, packet.psn)
            return
        if packet.kind == RESUME:
            self.outs[port].resume(now, packet.psn)
            return
        out: Any = self.outs[self.route(packet, now)]
        control = self.sim.control_priority and packet.kind != DATA
        queue_ps = out.queue_ps(out.control if control else out.queues[packet.data_class])
        entry, out.offered = out.offered, out.offered + 1
        if not control and not self.takes(packet, port, wire_bytes(queue_ps, out.q16), now):
            out.drops += 1
            return
        out.longest_ps = max(out.longest_ps, queue_ps)
        if packet.kind == DATA and not packet.marked and self.marks(out, queue_ps, entry):
            packet.marked = True
            out.marks += 1
        out.hand_over(packet, now, control=control)

    def takes(self, packet: Packet, port: int, queue: int, now: int) -> bool:
        """Count a data packet in, if there is room."""
        key = port, packet.data_class
        if not self.lossless[packet.data_class]:
            alpha = ppm_q16(self.param["dynamic_alpha_ppm"])
            free = self.shared - self.used
            if packet.size > free or queue + packet.size > times_q16(free, alpha):
                return False
        elif key in self.xoff_at:
            most = max(self.xoff_at[key] + self.headroom[port], self.guaranteed)
            if self.held[key] + packet.size > most:
                return False
        packet.counted_at = port
        self.held[key] += packet.size
        self.used += packet.size
        watched = self.lossless[packet.data_class] and key not in self.xoff_at
        if watched and self.held[key] > self.guaranteed and self.too_much(key):
            self.xoff_at[key] = self.held[key]
            self.send_pause(port, PAUSE, now, 1 << packet.data_class)
        return True

    def too_much(self, key: tuple[int, int]) -> bool:
        """Whether an input holds too much of a class, or the inputs all together."""
        return self.held[key] > self.xoff_level()

    def began(self, packet: Packet, now: int) -> None:
        """Count a packet out that begins to leave, and send the XONs due: by input, then by class."""
        if packet.counted_at is None:
            return
        assert self.pfc or not self.xoff_at
        self.held[packet.counted_at, packet.data_class] -= packet.size
        self.used -= packet.size
        if self.xoff_at and self.pfc:
            level = max(self.xoff_level() - self.pfc["xon_gap_bytes"], 0)
            for port, c in sorted(key for key in self.xoff_at if self.held[key] <= level):
                del self.xoff_at[port, c]
                self.send_pause(port, RESUME, now, 1 << c)

    def departed(self, packet: Packet, now: int) -> None:
        """It was counted out when it began."""


class ClassHost(Host):
    """A NIC with a line for each class; it chooses among them as a switch does, with a packet counting 1."""

    def __init__(self, sim: Plane, node: int) -> None:
        super().__init__(sim, node)
        self.lines: list[deque[Connection]] = [
            deque() for _ in range(sim.param["switch"]["data_class_count"])
        ]
        self.turns = Turns(sim, 1)

    def join(self, c: Connection) -> None:
        self.lines[c.data_class].append(c)

    def leave(self) -> Connection:
        return self.lines[self.turns.take(dict.fromkeys(self.standing, 1))].popleft()

    @property
    def standing(self) -> list[int]:
        """The classes that have a connection in line and are not paused."""
        out: Any = self.out
        return [c for c, line in enumerate(self.lines) if line and out.goes(c)]

    @property
    def waits(self) -> bool:
        return bool(self.standing)

    def began(self, packet: Packet, now: int) -> None:
        """Nothing is counted in a host."""
