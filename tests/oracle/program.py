"""What the ranks do: release by streams and ``after``, delays, compute, matching, collectives.

An instance is an operation on one of its ranks; instances are numbered in row order, then in the order of
the row's ranks. It is released when the one before it in its stream and those that ``after`` names have ended
on the same rank. Timers of a host at one time go by kind (start, end, step of a collective, launch), then by
step and instance.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from .collectives import Collective
from .domain_collectives import ALGORITHMS
from .host import Connection
from .places import Places, Tree
from .reducing import InNetwork, NvlsTree
from .rules import MASK, mix

if TYPE_CHECKING:
    from .simulator import Simulator
    from .world import World

REDUCING: dict[str, type[Collective]] = {"in_network": InNetwork, "nvls_tree": NvlsTree}
START, END, STEP, LAUNCH = 8, 9, 10, 11


@dataclass
class Op:
    """A row of the trace."""

    row: int
    id: int
    kind: str
    ranks: list[int]
    peers: list[int]
    size: int
    splits: list[int]
    duration_ps: int
    delay_ps: int
    stream: int
    after: list[int]
    tag: int
    priority: int = 0
    variant: int = -1
    io: dict[str, Any] | None = None  # of storage: files, new_files, offset, stride, flags
    first: int = 0
    root: int = 0
    algorithm: str = ""  # of a collective
    param: dict[str, int] = field(default_factory=dict)
    local_count: int = 1
    tree: Tree | None = None
    reducers: list[Instance] = field(default_factory=list)


@dataclass
class Instance:
    """An operation on one of its ranks."""

    number: int
    op: Op
    position: int
    host: int
    hidden: bool = False  # at a reducer
    wait: int = 0
    start_ps: int = -1
    end_ps: int = -1
    delivered_ps: int = -1  # of a recv
    match: Instance | None = None
    connection: Connection | None = None  # of a send; None: to itself
    early: list[int] = field(default_factory=list)  # steps of a collective that came before its start
    running: Collective | None = None
    done: bool = False  # by its collective: nothing more to send or to wait for but acknowledgements
    open: int = 0  # messages of its collective sent and not acknowledged

    @property
    def rank(self) -> int:
        return self.op.ranks[self.position]


class Program:
    """All operations, and how they go on."""

    def __init__(self, sim: Simulator, ops: list[Op], world: World) -> None:
        self.sim, self.ops, self.rank_host = sim, ops, world.rank_host
        self.places = Places(world)
        self.instances: list[Instance] = []
        for op in ops:
            op.first = len(self.instances)
            if op.kind in ("broadcast", "reduce"):
                op.root = op.ranks.index(op.peers[0])
            for position, rank in enumerate(op.ranks):
                self.instances.append(Instance(op.first + position, op, position, self.rank_host[rank]))
        self.prepare_collectives(world)
        self.followers: dict[int, list[Instance]] = defaultdict(
            list
        )  # by instance: those of `after`, then the stream
        self.order()
        self.connect()

    # ---- before the run

    def prepare_collectives(self, world: World) -> None:
        """Give each its algorithm, and the reducers that it needs: their instances come behind all others."""
        number = len(self.instances)
        sets: list[list[int]] = []
        for op in self.ops:
            if op.ranks not in sets:
                sets.append(op.ranks)
            if op.io or op.kind in ("compute", "send", "recv"):
                continue
            op.algorithm, op.param = world.algorithm(op.kind, op.variant)
            op.local_count = self.places.local_count(op.ranks)
            if op.algorithm not in REDUCING:
                continue
            op.tree = self.places.tree(op.ranks, sets.index(op.ranks), fabric=op.algorithm == "in_network")
            for i, host in enumerate(op.tree.hosts):
                op.reducers.append(Instance(number, op, len(op.ranks) + i, host, hidden=True))
                number += 1

    def on_rank(self, op: Op, rank: int) -> Instance | None:
        return self.instances[op.first + op.ranks.index(rank)] if rank in op.ranks else None

    def follow(self, before: Instance, after: Instance) -> None:
        self.followers[before.number].append(after)
        after.wait += 1

    def order(self) -> None:
        by_id = {op.id: op for op in self.ops}
        for op in self.ops:
            for before in op.after:
                for rank in op.ranks:
                    earlier = self.on_rank(by_id[before], rank)
                    if earlier:
                        self.follow(earlier, self.instances[op.first + op.ranks.index(rank)])
        newest: dict[tuple[int, int], Instance] = {}
        for instance in self.instances:
            if instance.op.stream >= 0:
                key = instance.rank, instance.op.stream
                if key in newest:
                    self.follow(newest[key], instance)
                newest[key] = instance

    def collective(self, instance: Instance, send: Any = None) -> Collective:
        op = instance.op
        return {**ALGORITHMS, **REDUCING}[op.algorithm](op, instance.position, op.param, send)

    def at(self, op: Op, position: int) -> Instance:
        """Return the instance at a position of a collective, a rank's or a reducer's."""
        n = len(op.ranks)
        return self.instances[op.first + position] if position < n else op.reducers[position - n]

    def connect(self) -> None:
        """Match sends with recvs, and make a connection for all (host, lane, class, channel, host) that send.

        A stream is a lane; collectives outside streams share lane -1; a send outside has a lane of its own.
        """
        flows: dict[tuple[int, int, int], list[Instance]] = defaultdict(list)
        recvs: dict[tuple[int, int, int], list[Instance]] = defaultdict(list)
        edges: set[tuple[int, int, int, int, int]] = set()
        lanes: dict[int, int] = {}
        for instance in self.instances:
            op = instance.op
            if op.kind == "send":
                flows[instance.rank, op.peers[instance.position], op.tag].append(instance)
            elif op.kind == "recv":
                recvs[op.peers[instance.position], instance.rank, op.tag].append(instance)
            elif op.kind != "compute" and not op.io:
                for one in [instance] if instance.position else [instance, *op.reducers]:
                    for to, channel in self.collective(one).peers():
                        edges.add((one.host, op.stream, op.priority, channel, self.at(op, to).host))
        for (src, dst, tag), sends in flows.items():
            for ordinal, (send, recv) in enumerate(zip(sends, recvs[src, dst, tag], strict=True)):
                send.match, recv.match = recv, send
                own = -2 - (mix((tag & MASK) ^ ordinal << 40) & 0x3FFFFFFF)
                lanes[send.number] = send.op.stream if send.op.stream >= 0 else own
                if src != dst:
                    host, lane = self.rank_host[src], lanes[send.number]
                    edges.add((host, lane, send.op.priority, 0, self.rank_host[dst]))
        self.connections: dict[tuple[int, int, int, int, int], Connection] = {}
        for src, lane, data_class, channel, dst in sorted(edges):
            plane = self.sim.planes[self.places.between(src, dst)]
            c = plane.connect(src, dst, lane, data_class, channel)
            self.connections[src, lane, data_class, channel, dst] = c
        for number, lane in lanes.items():
            send = self.instances[number]
            dst = send.op.peers[send.position]
            if send.rank != dst:
                key = self.rank_host[send.rank], lane, send.op.priority, 0, self.rank_host[dst]
                send.connection = self.connections[key]

    # ---- the run

    def timer(self, instance: Instance, when: int, kind: int, action: Any, *args: Any, step: int = 0) -> None:
        """Set a timer of the instance's host: it is an event of its network 0."""
        host = self.sim.planes[0].hosts[instance.host]
        host.timer(when, kind << 56 | step << 32 | instance.number, action, instance, *args, when)

    def post(self, c: Connection, size: int, delivered: Any, acknowledged: Any, now: int) -> None:
        c.sim.hosts[c.src].post(c, size, delivered, acknowledged, now)

    def begin(self) -> None:
        for instance in self.instances:
            if instance.wait == 0:
                self.release(instance, 0)

    def release(self, instance: Instance, now: int) -> None:
        if instance.op.delay_ps:
            self.timer(instance, now + instance.op.delay_ps, START, self.start)
        else:
            self.start(instance, now)

    def start(self, instance: Instance, now: int) -> None:
        op = instance.op
        instance.start_ps = now
        if op.kind == "compute":
            self.timer(instance, now + op.duration_ps, END, self.end)
        elif op.kind == "send":
            self.start_send(instance, now)
        elif op.kind == "recv":
            if instance.delivered_ps >= 0:
                self.timer(instance, now, END, self.end)
        else:
            self.timer(instance, now + op.param["launch_ps"], LAUNCH, self.launch)

    def end(self, instance: Instance, now: int) -> None:
        assert instance.end_ps < 0, "an operation ended twice"
        instance.end_ps = now
        for follower in self.followers[instance.number]:
            follower.wait -= 1
            if follower.wait == 0:
                self.release(follower, now)

    def start_send(self, send: Instance, now: int) -> None:
        recv = send.match
        assert recv
        if send.connection:
            delivered, acknowledged = partial(self.delivered, recv), partial(self.end, send)
            self.post(send.connection, send.op.size, delivered, acknowledged, now)
            return
        recv.delivered_ps = now  # to itself: no network, no time
        if recv.start_ps >= 0:
            self.timer(recv, now, END, self.end)
        self.timer(send, now, END, self.end)

    def delivered(self, recv: Instance, now: int) -> None:
        recv.delivered_ps = now
        if recv.start_ps >= 0:
            self.end(recv, now)

    # ---- collectives

    def launch(self, instance: Instance, now: int) -> None:
        collective = self.collective(instance, partial(self.coll_send, instance))
        instance.running = collective
        instance.done = collective.start()
        for step in instance.early:
            instance.done = instance.done or collective.received(step)
        if instance.done and not instance.open:
            instance.running = None
            self.timer(instance, now, END, self.end)

    def coll_send(self, instance: Instance, to: int, size: int, step: int, channel: int) -> None:
        op = instance.op
        receiver = self.at(op, to)
        c = self.connections[instance.host, op.stream, op.priority, channel, receiver.host]
        size += size * op.param["overhead_ppm"] // 1_000_000
        if c.sim.number == 1:
            size += size * op.param["up_overhead_ppm"] // 1_000_000
        delivered = partial(self.coll_delivered, receiver, step, c.sim.number)
        acknowledged = partial(self.coll_acknowledged, instance, step)
        instance.open += 1
        self.post(c, size, delivered, acknowledged, self.sim.now)

    def coll_delivered(self, instance: Instance, step: int, network: int, now: int) -> None:
        step_ps = instance.op.param["step_ps"] + (0 if network else instance.op.param["net_step_ps"])
        if instance.hidden:
            if not instance.running:  # a reducer begins with its first message
                instance.running = self.collective(instance, partial(self.coll_send, instance))
                instance.running.start()
            instance.running.received(step)
        elif step_ps:
            self.timer(instance, now + step_ps, STEP, self.coll_received, step, step=step)
        else:
            self.coll_received(instance, step, now)

    def coll_received(self, instance: Instance, step: int, now: int) -> None:
        if not instance.running:
            instance.early.append(step)
        else:
            self.settle(instance, instance.running.received(step), now)

    def coll_acknowledged(self, instance: Instance, step: int, now: int) -> None:
        running = instance.running
        assert running, "it ended before all that it sent was acknowledged"
        instance.open -= 1
        if instance.hidden:
            return
        minds = running.minds_acknowledgements and not instance.done
        self.settle(instance, minds and running.acknowledged(step), now)

    def settle(self, instance: Instance, done: bool, now: int) -> None:
        """A rank that is done ends when all that it sent has been acknowledged."""
        instance.done = instance.done or done
        if instance.done and not instance.open:
            instance.running = None
            self.end(instance, now)
