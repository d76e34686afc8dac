"""Fat-tree of k-port switches, two or three tiers.

Source: Al-Fares, Loukissas, Vahdat, "A scalable, commodity data center network architecture", SIGCOMM 2008.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from fabricsim.topology.model import Topology
from fabricsim.topology.spec import RegularSpec, assemble, joints

__all__ = ["FatTree"]


def _even(k: int) -> int:
    if k < 2 or k % 2 or k > 128:
        raise ValueError(f"found {k}, allowed: an even number from 2 to 128")
    return k


class FatTree(RegularSpec):
    """A fat-tree: three tiers have k pods of k/2 edge and k/2 aggregation switches, and (k/2)^2 core
    switches.

    Two tiers have k edge switches and k/2 core switches. Hosts of an edge switch are consecutive. Ports: an
    edge switch has its hosts, then its aggregation switches in order; an aggregation switch its edge
    switches, then its cores; core j the pods in order.

    Parameters
    ----------
    k
        Ports of a switch, even, 2 to 128.
    tiers
        3 (default) or 2.
    hosts_per_edge
        Hosts of an edge switch, >= 1; default k/2. More than that oversubscribes the edge.

    >>> FatTree(k=4, rate_mbps=100_000, latency_ps=1_000_000).build()
    Topology(fat_tree: 16 hosts, 20 switches, 48 cables)
    """

    summary: ClassVar[str] = "k-port fat-tree of two or three tiers"

    kind: Literal["fat_tree"] = "fat_tree"
    k: Annotated[int, AfterValidator(_even)]
    tiers: Literal[2, 3] = 3
    hosts_per_edge: Annotated[int, Field(ge=1, le=4096)] | None = None

    @property
    def n_edges(self) -> int:
        """Number of edge switches."""
        return self.k * self.k // 2 if self.tiers == 3 else self.k

    @property
    def n_hosts(self) -> int:
        """Number of hosts."""
        return self.n_edges * (self.hosts_per_edge or self.k // 2)

    def build(self) -> Topology:
        """Make the flat arrays; see ``Topology``."""
        half, hosts, edges = self.k // 2, self.n_hosts, self.n_edges
        edge0 = hosts
        host_switch = np.repeat(np.arange(edge0, edge0 + edges, dtype=np.int32), hosts // edges)
        names = [f"host{i}" for i in range(hosts)] + [f"edge{i}" for i in range(edges)]
        if self.tiers == 2:
            fabric = [joints(edge0, edges, edge0 + edges, half)]
            names += [f"core{i}" for i in range(half)]
            return assemble(self, edges + half, host_switch, fabric, names, [(1, edges), (2, half)])

        agg0, core0, cores = edge0 + edges, edge0 + 2 * edges, half * half
        a, b = joints(0, half, 0, half)
        pod = np.repeat(np.arange(self.k, dtype=np.int32) * half, half * half)
        edge_agg = (edge0 + pod + np.tile(a, self.k), agg0 + pod + np.tile(b, self.k))
        # Aggregation switch i of each pod is joined with cores i*k/2 .. i*k/2 + k/2 - 1.
        agg_core = (
            np.repeat(np.arange(agg0, agg0 + edges, dtype=np.int32), half),
            core0 + np.tile(np.arange(cores, dtype=np.int32), self.k),
        )
        names += [f"agg{i}" for i in range(edges)] + [f"core{i}" for i in range(cores)]
        tiers = [(1, edges), (2, edges), (3, cores)]
        return assemble(self, 2 * edges + cores, host_switch, [edge_agg, agg_core], names, tiers)
