"""One network of a model: its switches, links, ports of hosts and parameters. Its parts call it ``sim``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .classes import ClassHost, ClassLink, ClassSwitch
from .controllers import CONTROLLERS
from .credits import CreditHost, CreditLink, VoqSwitch
from .dcqcn import Dcqcn
from .fabric import PAUSE, Link, Packet, Switch
from .host import PSN_MASK, Connection, Host
from .network import KINDS, Adaptive, Network
from .srd import ClassSrd, Srd

if TYPE_CHECKING:
    from .simulator import Simulator
    from .world import World

ROOMS = ("switch", "link", "route", "transport", "cc")


class Plane:
    """A network and all that is in it. ``world`` has its cables and its settings alone."""

    def __init__(self, whole: Simulator, world: World, number: int) -> None:
        self.whole, self.number = whole, number
        self.seed, self.count, self.trail = world.seed, whole.count, whole.trail
        self.param = {room: world.params(room) for room in ROOMS}
        self.lossless = world.chosen("link") == "pause"
        self.spray = self.reorders(world)
        transport = self.param["transport"]
        self.controller = {**CONTROLLERS, "dcqcn": Dcqcn}[world.chosen("cc")]
        self.telemetry = self.controller.wants_hops
        if self.telemetry:
            transport["header_bytes"] += transport["telemetry_bytes"]
            transport["ack_bytes"] += transport["telemetry_bytes"]
        self.control_priority = bool(transport["control_priority"])
        largest = transport["mtu_bytes"] + transport["header_bytes"] + transport.get("first_header_bytes", 0)
        self.wire_max = max(largest, transport["ack_bytes"], transport.get("cnp_bytes", 0))
        self.network = KINDS[world.chosen("route")](world)
        self.classes = self.param["switch"].get("vl_count") or self.param["switch"]["data_class_count"]
        make_host, make_switch, make_link = self._kinds(world)
        self.hosts: list[Host] = [make_host(self, n) for n in range(world.n_hosts)]
        switches = [make_switch(self, n) if self.network.peers[n] else None for n in self.network.switches]
        self.nodes: list[Any] = [*self.hosts, *switches]
        self.links: list[Link] = []
        for cable in world.cables:
            for tx, rx in ((cable.a, cable.b), (cable.b, cable.a)):
                name = 2 * cable.number + (tx == cable.b)
                link = make_link(self, name, cable, tx, rx, cable.delay_ps + world.latency_ps[rx])
                link.tx_port, link.rx_port = len(self.nodes[tx].outs), len(self.nodes[rx].ins)
                self.nodes[tx].outs.append(link)
                self.nodes[rx].ins.append(link)
                link.circuits = [c[1:] for c in world.circuits if c[0] == cable.number]
                self.links.append(link)
        for node in self.nodes:
            if node and node.ins:
                node.ready()

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

    @property
    def now(self) -> int:
        return self.whole.now

    def connect(self, src: int, dst: int, lane: int, priority: int, channel: int) -> Connection:
        """Make a connection, of one queue pair or more; the last class carries what is above it."""
        tx, rx = self.hosts[src].tx, self.hosts[dst].rx
        data_class = min(priority, self.classes - 1)
        group = []
        for qp in range(self.param["transport"].get("qp_count", 1)):
            c = Connection(self, src, dst, lane, data_class, channel, len(tx), len(rx), qp)
            c.cc = self.controller(self, self.hosts[src].out.rate_mbps * 1000)
            c.switches = self.switches_between(c)
            tx.append(c)
            rx.append(c)
            group.append(c)
        group[0].group = group
        for c in group:
            c.pending = group[0].pending
        return group[0]

    def switches_between(self, c: Connection) -> int:
        """Return how many switches a connection's packets pass, however they choose."""
        count, node = 0, self.hosts[c.src].out.rx
        while node >= len(self.hosts):
            count += 1
            output = Network.output if isinstance(self.network, Adaptive) else type(self.network).output
            node = self.nodes[node].outs[output(self.network, node, c.dst, c.entropy, lambda port: 0)].rx
        return count

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
        self.whole.at(when, self.number, what, key, action, *args, background=background)

    def record(self, link: Link, packet: Packet, now: int) -> None:
        self.count["packet_hops"] += 1
        flags = packet.marked + 2 * packet.last
        connection = 0 if packet.kind >= PAUSE else packet.connection
        psn = packet.psn & PSN_MASK
        self.trail.append((now, link.name, packet.dst, connection, psn, packet.size, packet.kind, flags))
