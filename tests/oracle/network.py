"""Ports of a topology, and the output port of a packet: routes computed plainly, when they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from .rules import KEY_SALT, draw

if TYPE_CHECKING:
    from .world import World

Load = Callable[[int], Any]  # of a port: what is less, is less loaded


def ecmp_hash(entropy: int, salt: int) -> int:
    """Return the 16-bit hash that chooses among equal paths."""
    x = (entropy * 2654435761 & 0xFFFFFFFF) ^ salt
    x ^= x >> 15
    return (x * 0x85EBCA6B & 0xFFFFFFFF) >> 16


class Network:
    """Who is behind each port, and all shortest paths by the hash: ``ecmp`` and ``spray``.

    The k-th cable of a node, in the order of the cables, is its port k.
    """

    def __init__(self, world: World) -> None:
        self.param = world.params("route")
        self.n_hosts = world.n_hosts
        self.n_ranks = world.n_hosts - world.reducer_count  # hosts; behind them, units that reduce
        self.n_nodes = world.n_hosts + world.n_switches
        self.peers: list[list[int]] = [[] for _ in range(self.n_nodes)]
        for cable in world.cables:
            self.peers[cable.a].append(cable.b)
            self.peers[cable.b].append(cable.a)
        seed = self.param.get("hash_seed", 0)
        self.salt = {n: draw(seed, KEY_SALT, n - self.n_hosts, 0) & 0xFFFFFFFF for n in self.switches}
        self.distances = cache(self._distances)
        self.choices = cache(self._choices)
        self.prepare()

    def prepare(self) -> None:
        """Compute what the kind of routing needs."""

    @property
    def switches(self) -> range:
        return range(self.n_hosts, self.n_nodes)

    @property
    def leaves(self) -> list[int]:
        """Switches with hosts (not with units that reduce alone)."""
        return sorted({self.leaf_of(host) for host in range(self.n_ranks)} & set(self.switches))

    def leaf_of(self, host: int) -> int:
        """Return what a host is joined to; -1 if it has no port here."""
        return self.peers[host][0] if self.peers[host] else -1

    def component(self, node: int) -> int:
        """Return the first of all nodes that a node is joined with."""
        joined, queue = {node}, [node]
        while queue:
            more = set(self.peers[queue.pop()]) - joined
            joined |= more
            queue += more
        return min(joined)

    @property
    def all_leaves(self) -> list[int]:
        """Switches with hosts or units that reduce."""
        return sorted({self.leaf_of(host) for host in range(self.n_hosts)} & set(self.switches))

    def next_switches(self, node: int) -> list[int]:
        """Return the switches that a switch is joined to, in port order, once a cable."""
        return [peer for peer in self.peers[node] if peer >= self.n_hosts]

    def _distances(self, *roots: int) -> dict[int, int]:
        """Return how many cables each switch is from the nearest of some, over switches only."""
        distance, queue = dict.fromkeys(roots, 0), deque(roots)
        while queue:
            node = queue.popleft()
            for peer in self.next_switches(node):
                if peer not in distance:
                    distance[peer] = distance[node] + 1
                    queue.append(peer)
        return distance

    def tier(self, node: int) -> int:
        """Return the distance from the nearest switch with hosts."""
        return self.distances(*self.leaves)[node]

    def _choices(self, node: int, dst: int) -> list[int]:
        """Return the ports of a switch that a packet to a host may take."""
        leaf = self.peers[dst][0]
        if node == leaf:
            return [self.peers[node].index(dst)]
        return [
            p
            for p, peer in enumerate(self.peers[node])
            if peer >= self.n_hosts and self.nearer(node, peer, leaf)
        ]

    def nearer(self, node: int, peer: int, leaf: int) -> bool:
        """Whether the way to a leaf may go on from a switch to its neighbour."""
        distance = self.distances(leaf)
        return distance[peer] == distance[node] - 1

    def output(self, node: int, dst: int, entropy: int, load: Load) -> int:
        """Return the output port; ``load`` tells how long the queue of a port is, in time."""
        ports = self.choices(node, dst)
        return ports[ecmp_hash(entropy, self.salt[node]) * len(ports) >> 16]

    def next_class(self, node: int, in_port: int, out_port: int, data_class: int, entropy: int) -> int:
        """Return the class that a packet goes on in."""
        return data_class


class Adaptive(Network):
    """The least loaded of all shortest paths."""

    def output(self, node: int, dst: int, entropy: int, load: Load) -> int:
        ports = self.choices(node, dst)
        first = ecmp_hash(entropy, self.salt[node]) * len(ports) >> 16
        return min(ports[first:] + ports[:first], key=load)


class DModK(Network):
    """Shortest paths; the place of the destination chooses."""

    def prepare(self) -> None:
        self.place = {host: host - self.n_ranks for host in range(self.n_ranks, self.n_hosts)}
        self.divisor = {
            node: self._divisor(node) for node in self.switches if self.tier_or_none(node) is not None
        }
        for tops in sorted(self.divisor, key=lambda node: (-self.tier(node), node)):
            for leaf in self.leaves_below(tops):
                for host in range(self.n_ranks):
                    if self.leaf_of(host) == leaf:
                        self.place.setdefault(host, len(self.place) - (self.n_hosts - self.n_ranks))

    def tier_or_none(self, node: int) -> int | None:
        return self.distances(*self.leaves).get(node)

    def below(self, node: int) -> list[int]:
        return [peer for peer in self.next_switches(node) if self.tier(peer) < self.tier(node)]

    def leaves_below(self, node: int) -> list[int]:
        """Return the leaves that a walk down comes by, ports in their order."""
        own = [node] if node in self.leaves else []
        found = own + [leaf for peer in self.below(node) for leaf in self.leaves_below(peer)]
        return list(dict.fromkeys(found))

    def _divisor(self, node: int) -> int:
        """Return the most hosts below one of the switch's down ports."""
        hosts = [[self.leaf_of(h) for h in range(self.n_ranks)].count(leaf) for leaf in range(self.n_nodes)]
        return max(
            (sum(hosts[leaf] for leaf in self.leaves_below(peer)) for peer in self.below(node)), default=1
        )

    def output(self, node: int, dst: int, entropy: int, load: Load) -> int:
        ports = self.choices(node, dst)
        return ports[self.place[dst] // self.divisor[node] % len(ports)]


class UpDown(DModK):
    """Never up after down, on any graph."""

    def prepare(self) -> None:
        super().prepare()
        self.labels = cache(self._labels)
        self.above: dict[int, tuple[int, int]] = {}
        islands = {min(self.distances(node)) for node in self.leaves}
        for island in islands:
            nodes = list(self.distances(island))
            leaves = [leaf for leaf in self.all_leaves if leaf in nodes]
            highest = max(self.tier(node) for node in nodes)
            roots = sorted(node for node in nodes if self.tier(node) == highest)
            self._rank(nodes, roots)
            joined = all(other in self.labels(leaf) for leaf in leaves for other in leaves)
            if len(roots) > 1 and (highest == 0 or not joined):
                self.labels.cache_clear()
                self._rank(nodes, [min(roots, key=lambda node: self._remoteness(node, leaves))])

    def _rank(self, nodes: list[int], roots: list[int]) -> None:
        self.above |= {node: (self.distances(*roots)[node], node) for node in nodes}

    def _remoteness(self, node: int, leaves: list[int]) -> tuple[int, int, int]:
        far = [self.distances(node)[leaf] for leaf in leaves]
        return max(far), sum(far), node

    def _labels(self, leaf: int) -> dict[int, tuple[int, bool]]:
        """Return how far every switch is from a leaf over allowed ways, and whether it first goes up."""
        labels = {leaf: (0, False)}
        for distance in range(1, self.n_nodes):
            for upwards in (False, True):
                for node in self.switches:
                    if node in labels or node not in self.above:
                        continue
                    for peer in self.next_switches(node):
                        goes_up = self.above[peer] < self.above[node]
                        if goes_up != upwards or labels.get(peer, (None,))[0] != distance - 1:
                            continue
                        if goes_up or not labels[peer][1]:
                            labels[node] = distance, upwards
        return labels

    def nearer(self, node: int, peer: int, leaf: int) -> bool:
        labels = self.labels(leaf)
        distance, upwards = labels[node]
        if peer not in labels or labels[peer][0] != distance - 1:
            return False
        return (self.above[peer] < self.above[node]) == upwards and (upwards or not labels[peer][1])

    def output(self, node: int, dst: int, entropy: int, load: Load) -> int:
        if self.param["single_path"]:
            return super().output(node, dst, entropy, load)
        return Network.output(self, node, dst, entropy, load)


class Torus(Network):
    """Dimension order over minimal displacements."""

    def prepare(self) -> None:
        self.sizes = [self.param[f"{d}_count"] for d in "xyz"]
        self.hash_salt = draw(self.param["hash_seed"], KEY_SALT, 0, 0) & 0xFFFFFFFF
        self.displacements = cache(self._displacements)
        wraps = [
            d
            for d in range(3)
            if self.sizes[d] > 3
            and any(self.place(n)[d] == 0 and self.step(n, d, -1) is not None for n in self.switches)
        ]
        self.changes_class = bool(self.param["two_orders"] or wraps)

    def place(self, node: int) -> list[int]:
        x, y, _ = self.sizes
        i = node - self.n_hosts
        return [i % x, i // x % y, i // (x * y)]

    def step(self, node: int, dimension: int, sign: int) -> int | None:
        """Return the switch one step on, None if no cable leads there."""
        at = self.place(node)
        if self.sizes[dimension] == 1:
            return None
        at[dimension] += sign
        if not 0 <= at[dimension] < self.sizes[dimension]:
            at[dimension] %= self.sizes[dimension]
            for other in range(3):
                if self.param["twisted"] and self.sizes[other] == 2 * self.sizes[dimension]:
                    at[other] = (at[other] + self.sizes[dimension]) % self.sizes[other]
        x, y, _ = self.sizes
        to = self.n_hosts + at[0] + x * (at[1] + y * at[2])
        return to if to in self.peers[node] else None

    def _displacements(self, node: int, leaf: int) -> list[tuple[int, ...]]:
        """Return all (x, y, z) steps that lead from a switch to another, as few as can be."""
        distance = self.distances(leaf)[node]
        found = []
        for steps in product(range(-distance, distance + 1), repeat=3):
            at: int | None = node
            if sum(map(abs, steps)) != distance:
                continue
            for dimension, count in enumerate(steps):
                for _ in range(abs(count)):
                    at = at if at is None else self.step(at, dimension, 1 if count > 0 else -1)
            if at == leaf:
                found.append(steps)
        return found

    def output(self, node: int, dst: int, entropy: int, load: Load) -> int:
        leaf = self.peers[dst][0]
        if node == leaf:
            return self.peers[node].index(dst)
        choice = ecmp_hash(entropy, self.hash_salt) * 96 >> 16
        order = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2))[choice // 16]
        signs = [-1 if choice >> 1 + d & 1 else 1 for d in range(3)]
        steps = max(self.displacements(node, leaf), key=lambda steps: [signs[d] * steps[d] for d in order])
        dimensions = (2, 1, 0) if self.param["two_orders"] and choice & 1 else (0, 1, 2)
        d = next(d for d in dimensions if steps[d])
        to = self.step(node, d, 1 if steps[d] > 0 else -1)
        assert to is not None
        return self.peers[node].index(to)

    def direction(self, node: int, peer: int) -> tuple[int, int]:
        """Return the dimension and the sign of the step from a switch to its neighbour."""
        at = self.place(node)
        ways = [(d, s) for d in range(3) for s in (1, -1) if self.step(node, d, s) == peer]
        return min(ways, key=lambda way: not 0 <= at[way[0]] + way[1] < self.sizes[way[0]])  # not round

    def next_class(self, node: int, in_port: int, out_port: int, data_class: int, entropy: int) -> int:
        before, after = self.peers[node][in_port], self.peers[node][out_port]
        if after < self.n_hosts or not self.changes_class:
            return data_class
        d, sign = self.direction(node, after)
        crosses = self.place(node)[d] == (self.sizes[d] - 1 if sign > 0 else 0)
        if before < self.n_hosts:
            choice = ecmp_hash(entropy, self.hash_salt) * 96 >> 16
            data_class = 2 * (choice & 1) if self.param["two_orders"] else 0
        elif self.direction(node, before)[0] != d:
            data_class &= 2
        return data_class | crosses


KINDS = {
    "ecmp": Network,
    "spray": Network,
    "adaptive": Adaptive,
    "dmodk": DModK,
    "updown": UpDown,
    "torus": Torus,
}
