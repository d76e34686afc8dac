"""Small fabrics for the compiled core, as arrays, and one call that runs a table of operations on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim._core import engine
from fabricsim.trace import Trace, lower

US = 1_000_000
GBPS = 1000


@dataclass
class World:
    """Hosts first, then switches; cables in the order they were added."""

    hosts: int
    switches: int = 0
    cables: list[tuple[int, int, int, int]] = field(default_factory=list)
    latency_ps: dict[int, int] = field(default_factory=dict)

    def cable(self, a: int, b: int, rate_mbps: int = 100 * GBPS, delay_ps: int = US) -> int:
        """Add a cable; returns its number. Its directed links are twice the number (a to b), and one more."""
        self.cables.append((a, b, rate_mbps, delay_ps))
        return len(self.cables) - 1

    def arrays(self) -> dict[str, Any]:
        table = np.array(self.cables, np.int64).reshape(-1, 4)
        latency = np.zeros(self.hosts + self.switches, np.int64)
        for node, value in self.latency_ps.items():
            latency[node] = value
        return {
            "n_hosts": self.hosts,
            "n_switches": self.switches,
            "cable_a": table[:, 0].astype(np.int32),
            "cable_b": table[:, 1].astype(np.int32),
            "cable_rate_mbps": np.ascontiguousarray(table[:, 2]),
            "cable_delay_ps": np.ascontiguousarray(table[:, 3]),
            "node_latency_ps": latency,
        }

    def model(self, *settings: tuple[str, str, dict[str, int]]) -> engine.Model:
        return engine.Model(**self.arrays(), settings=list(settings))


def star(hosts: int, rate_mbps: int = 100 * GBPS, delay_ps: int = US) -> World:
    world = World(hosts, 1)
    for host in range(hosts):
        world.cable(host, hosts, rate_mbps, delay_ps)
    return world


def line(rates_mbps: list[int], delays_ps: list[int]) -> World:
    """Two hosts with switches between them; one rate and delay a cable, from host 0 to host 1."""
    nodes = [0, *range(2, 1 + len(rates_mbps)), 1]
    world = World(2, len(rates_mbps) - 1)
    for a, b, rate, delay in zip(nodes[:-1], nodes[1:], rates_mbps, delays_ps, strict=True):
        world.cable(a, b, rate, delay)
    return world


def leaf_spine(leaves: int, spines: int, hosts_per_leaf: int, rate_mbps: int = 100 * GBPS) -> World:
    hosts = leaves * hosts_per_leaf
    world = World(hosts, leaves + spines)
    for host in range(hosts):
        world.cable(host, hosts + host // hosts_per_leaf, rate_mbps)
    for leaf in range(leaves):
        for spine in range(spines):
            world.cable(hosts + leaf, hosts + leaves + spine, rate_mbps)
    return world


def fat_tree(k: int) -> World:
    half = k // 2
    hosts, edges = k * half * half, k * half
    edge, agg, core = hosts, hosts + edges, hosts + 2 * edges
    world = World(hosts, 2 * edges + half * half)
    for host in range(hosts):
        world.cable(host, edge + host // half)
    for pod in range(k):
        for e in range(half):
            for a in range(half):
                world.cable(edge + pod * half + e, agg + pod * half + a)
    for pod in range(k):
        for a in range(half):
            for c in range(half):
                world.cable(agg + pod * half + a, core + a * half + c)
    return world


def program(model: engine.Model, table: pa.Table, ranks: int, algorithms: Any = None) -> engine.Program:
    """Compile a trace table with rank i on host i."""
    rank_host = np.arange(ranks, dtype=np.int32)
    return engine.Program(model, lower(Trace(table)), rank_host=rank_host, algorithms=algorithms)


def start(
    world: World | engine.Model,
    table: pa.Table,
    *settings: Any,
    ranks: int = 0,
    algorithms: Any = None,
    **options: Any,
) -> engine.Run:
    """Compile and make a run that has not begun."""
    model = world.model(*settings) if isinstance(world, World) else world
    made = program(model, table, ranks or model.info()["host_count"], algorithms)
    return engine.Run(model, made, **options)


def finish(*arguments: Any, **options: Any) -> engine.Run:
    """The same, run to its end."""
    run = start(*arguments, **options)
    assert run.step() is True
    return run


def wire_ps(size: int, rate_mbps: int) -> int:
    """Time on the wire, rounded up; exact for the rates that the tests use."""
    return -(-size * 8_000_000 // rate_mbps)
