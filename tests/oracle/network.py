"""Ports and shortest paths of a topology."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import TYPE_CHECKING

from .rules import KEY_SALT, draw

if TYPE_CHECKING:
    from .world import World


def ecmp_hash(entropy: int, salt: int) -> int:
    """Return the 16-bit hash that chooses among equal paths."""
    x = (entropy * 2654435761 & 0xFFFFFFFF) ^ salt
    x ^= x >> 15
    return (x * 0x85EBCA6B & 0xFFFFFFFF) >> 16


class Network:
    """Who is behind each port, and the output port of a packet.

    The k-th cable of a node, in the order of the cables, is its port k.
    """

    def __init__(self, world: World, hash_seed: int) -> None:
        self.n_hosts = world.n_hosts
        self.n_nodes = world.n_hosts + world.n_switches
        self.peers: list[list[int]] = [[] for _ in range(self.n_nodes)]
        for cable in world.cables:
            self.peers[cable.a].append(cable.b)
            self.peers[cable.b].append(cable.a)
        self.salt = {n: draw(hash_seed, KEY_SALT, n - self.n_hosts, 0) & 0xFFFFFFFF for n in self.switches}
        self.distances = cache(self._distances)
        self.choices = cache(self._choices)

    @property
    def switches(self) -> range:
        return range(self.n_hosts, self.n_nodes)

    def _distances(self, root: int) -> dict[int, int]:
        """Return how many cables each switch is from a switch, over switches only."""
        distance, queue = {root: 0}, deque([root])
        while queue:
            node = queue.popleft()
            for peer in self.peers[node]:
                if peer >= self.n_hosts and peer not in distance:
                    distance[peer] = distance[node] + 1
                    queue.append(peer)
        return distance

    def _choices(self, node: int, dst: int) -> list[int]:
        """Return the ports of a switch on shortest paths to a host."""
        leaf = self.peers[dst][0]
        if node == leaf:
            return [self.peers[node].index(dst)]
        distance = self.distances(leaf)
        here = distance[node]
        return [p for p, peer in enumerate(self.peers[node]) if distance.get(peer, here) == here - 1]

    def output(self, node: int, dst: int, entropy: int) -> int:
        ports = self.choices(node, dst)
        return ports[ecmp_hash(entropy, self.salt[node]) * len(ports) >> 16]
