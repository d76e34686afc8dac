"""One global heap of events, ordered by (time, what it is, key), and the trail of arrivals."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .classes import ClassHost, ClassLink, ClassSwitch
from .controllers import CONTROLLERS
from .credits import CreditHost, CreditLink, VoqSwitch
from .dcqcn import Dcqcn
from .fabric import PAUSE, Link, Packet, Switch
from .host import PSN_MASK, Connection, GaveUpError, Host
from .network import KINDS, Adaptive, Network
from .program import Op, Program
from .srd import ClassSrd, Srd

if TYPE_CHECKING:
    from .world import World


class TooLongError(Exception):
    """The world needs more events than the caller allows."""


class Simulator:
    """A world running; everything that changes is in here."""

    def __init__(self, world: World) -> None:
        self.seed = world.seed
        self.param = {room: world.params(room) for room in ("switch", "link", "route", "transport", "cc")}
        self.coll_param = {name: world.params("coll", name) for name in set(world.algorithms.values())}
        self.lossless = world.chosen("link") == "pause"
        self.spray = self.reorders(world)
        transport = self.param["transport"]
        controller = {**CONTROLLERS, "dcqcn": Dcqcn}[world.chosen("cc")]
        self.telemetry = controller.wants_hops
        if self.telemetry:
            transport["header_bytes"] += transport["telemetry_bytes"]
            transport["ack_bytes"] += transport["telemetry_bytes"]
        self.control_priority = bool(transport["control_priority"])
        largest = transport["mtu_bytes"] + transport["header_bytes"] + transport.get("first_header_bytes", 0)
        self.wire_max = max(largest, transport["ack_bytes"], transport.get("cnp_bytes", 0))
        self.network = KINDS[world.chosen("route")](world)
        self.now = 0
        self.count: Counter[str] = Counter()
        self.trail: list[tuple[int, ...]] = []
        self.gave_up_ps: int | None = None
        self._heap: list[tuple[Any, ...]] = []
        self._pushed = self._foreground = 0
        make_host, make_switch, make_link = self._kinds(world)
        self.hosts = [make_host(self, n) for n in range(world.n_hosts)]
        self.nodes: list[Any] = [*self.hosts, *(make_switch(self, n) for n in self.network.switches)]
        self.links: list[Link] = []
        for i, cable in enumerate(world.cables):
            for tx, rx in ((cable.a, cable.b), (cable.b, cable.a)):
                link = make_link(
                    self, 2 * i + (tx == cable.b), cable, tx, rx, cable.delay_ps + world.latency_ps[rx]
                )
                link.tx_port, link.rx_port = len(self.nodes[tx].outs), len(self.nodes[rx].ins)
                self.nodes[tx].outs.append(link)
                self.nodes[rx].ins.append(link)
                self.links.append(link)
        for node in self.nodes:
            node.ready()
        ops = [Op(row=i, **row) for i, row in enumerate(world.rows)]
        self.program = Program(self, ops, world.rank_host, world.algorithms)
        for first in self.program.connections.values():
            for c in first.group:
                c.switches = self.switches_between(c)
                c.cc = controller(self, self.hosts[c.src].out.rate_mbps * 1000)

    def switches_between(self, c: Connection) -> int:
        """Return how many switches a connection's packets pass, however they choose."""
        count, node = 0, self.hosts[c.src].out.rx
        while node >= len(self.hosts):
            count += 1
            output = Network.output if isinstance(self.network, Adaptive) else type(self.network).output
            node = self.nodes[node].outs[output(self.network, node, c.dst, c.entropy, lambda port: 0)].rx
        return count

    def _kinds(self, world: World) -> tuple[Any, Any, Any]:
        """Return what hosts, switches and links are made of."""
        if world.chosen("switch") == "voq":
            return CreditHost, VoqSwitch, CreditLink
        srd = world.chosen("transport") == "srd"
        if self.param["switch"]["data_class_count"] > 1 or self.telemetry:
            return ClassSrd if srd else ClassHost, ClassSwitch, ClassLink
        return Srd if srd else Host, Switch, Link

    def reorders(self, world: World) -> bool:
        """Whether packets of a connection may take several ways; then each has an entropy of its own."""
        if world.chosen("route") == "torus":
            return bool(self.param["route"]["multipath"])
        return world.chosen("route") in ("spray", "adaptive")

    def at(
        self,
        when: int,
        what: int,
        key: int,
        action: Callable[..., None],
        *args: Any,
        background: bool = False,
    ) -> None:
        """Call ``action(*args)`` at a time; the run ends when only background events are left."""
        self._pushed += 1
        self._foreground += not background
        heapq.heappush(self._heap, (when, what, key, self._pushed, background, action, args))

    def record(self, link: Link, packet: Packet, now: int) -> None:
        self.count["packet_hops"] += 1
        flags = packet.marked + 2 * packet.last
        connection = 0 if packet.kind >= PAUSE else packet.connection
        psn = packet.psn & PSN_MASK
        self.trail.append((now, link.name, packet.dst, connection, psn, packet.size, packet.kind, flags))

    def run(self, most_events: int) -> None:
        """Run to the end, or until a connection gives up.

        Raises
        ------
        TooLongError
            After ``most_events``.
        """
        self.program.begin()
        events = 0
        try:
            while self._foreground:
                self.now, _, _, _, background, action, args = heapq.heappop(self._heap)
                self._foreground -= not background
                action(*args)
                events += 1
                if events > most_events:
                    raise TooLongError
        except GaveUpError as error:
            self.gave_up_ps = error.when_ps
        self.count["drops"] = sum(link.drops for link in self.links)
        self.count["ecn_marks"] = sum(link.marks for link in self.links)
        self.trail.sort()
