"""Where ranks are: the network that joins two hosts, scale-up domains, and the trees of reducing units."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from .network import Network
from .rules import mix

if TYPE_CHECKING:
    from .world import World


class RefusedError(Exception):
    """The program cannot run on the model."""


@dataclass
class Tree:
    """Reducers over ranks: position n + i is reducer i. ``parent`` is by position, None at the root."""

    hosts: list[int]
    parent: list[int | None]

    def children(self, position: int) -> list[int]:
        return [p for p, parent in enumerate(self.parent) if parent == position]

    def is_below(self, rank: int, position: int) -> bool:
        """Whether a rank is at a position or below it."""
        at: int | None = rank
        while at is not None and at != position:
            at = self.parent[at]
        return at is not None


class Places:
    """Places of a world's hosts. Units that reduce are its last ``reducer_count`` hosts."""

    def __init__(self, world: World) -> None:
        self.networks = [Network(world.part(network)) for network in world.networks]
        self.rank_host = world.rank_host
        first = world.n_hosts - world.reducer_count
        self.reducers = range(first, world.n_hosts)
        self.served = {self.nearest(host) for host in range(first)}

    def between(self, a: int, b: int) -> int:
        """Return the network over which two hosts talk: the highest that joins them."""
        for number in reversed(range(len(self.networks))):
            network = self.networks[number]
            if network.peers[a] and network.component(a) == network.component(b):
                return number
        raise RefusedError(f"nothing joins hosts {a} and {b}")

    def domain(self, host: int) -> int | None:
        """Return a name of the host's scale-up domain."""
        if len(self.networks) == 1 or not self.networks[1].peers[host]:
            return None
        return self.networks[1].component(host)

    def local_count(self, ranks: list[int]) -> int:
        """Return how many ranks of a domain follow each other, if all do so; else 1."""
        domains = [self.domain(self.rank_host[rank]) for rank in ranks]
        local = next((i for i, domain in enumerate(domains) if domain != domains[0]), len(ranks))
        blocks = [domains[i : i + local] for i in range(0, len(ranks), local)]
        even = all(len(block) == local and len(set(block)) == 1 for block in blocks)
        apart = all(a[0] != b[0] for a, b in pairwise(blocks))
        return local if even and apart and None not in domains else 1

    # ---- reducers

    def way(self, a: int, b: int) -> int | None:
        """Return how many cables of the scale-out network are between two hosts."""
        network = self.networks[0]
        if not network.peers[a] or not network.peers[b]:
            return None
        if b in network.peers[a]:
            return 1
        distance = network.distances(network.peers[a][0]).get(network.peers[b][0])
        return None if distance is None else distance + 2

    def nearest(self, host: int) -> int | None:
        """Return the nearest reducer in the scale-out network, of equals the first."""
        ways = [(way, unit) for unit in self.reducers if (way := self.way(host, unit)) is not None]
        return min(ways)[1] if ways else None

    def of_domain(self, host: int) -> int | None:
        """Return the first reducer of a host's domain."""
        domain = self.domain(host)
        units = [unit for unit in self.reducers if self.domain(unit) == domain]
        return units[0] if units and domain is not None else None

    def tree(self, ranks: list[int], number: int, *, fabric: bool) -> Tree:
        """Return the tree over a set of ranks, the program's ``number``-th: the fabric's, or the domains'."""
        n, one_domain = len(ranks), len(ranks) > 1 and self.local_count(ranks) == len(ranks)
        inside = len(self.networks) > 1 and (one_domain or not fabric)
        find = self.of_domain if inside else self.nearest
        leaves = [find(self.rank_host[rank]) for rank in ranks]
        hosts = [leaf for leaf in dict.fromkeys(leaves) if leaf is not None]
        if None in leaves:
            raise RefusedError("no reducer serves a rank")
        parent: list[int | None] = [n + hosts.index(leaf) for leaf in leaves if leaf is not None]
        root = None
        if not inside and len(hosts) > 1:
            top = self.root_of(hosts[0], number)
            hosts = list(dict.fromkeys([*hosts, top]))
            root = n + hosts.index(top)
        return Tree(hosts, parent + [None if n + i == root else root for i in range(len(hosts))])

    def root_of(self, leaf: int, number: int) -> int:
        """Return the root above leaves: of the units that serve no host, one of the nearest to a leaf."""
        ways = {unit: self.way(leaf, unit) for unit in self.reducers if unit not in self.served}
        found = [way for way in ways.values() if way is not None]
        if not found:
            return leaf
        equals = [unit for unit, way in ways.items() if way == min(found)]
        return equals[mix(number) % len(equals)]
