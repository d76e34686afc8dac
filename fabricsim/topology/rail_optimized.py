"""Rail-optimised fabric: GPU r of every node sits on rail switch r, spines join the rails."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from fabricsim.topology.model import Topology
from fabricsim.topology.spec import RegularSpec, assemble, joints

__all__ = ["RailOptimized"]

Count = Annotated[int, Field(ge=1, le=65_536)]


class RailOptimized(RegularSpec):
    """Nodes of several GPUs with a NIC each; a group of nodes has one rail switch for each GPU position.

    A host is a GPU with its NIC: host ``node * gpus_per_node + rail``. Ports: a rail switch has its nodes in
    order, then the spines in order (parallel cables side by side); a spine the rail switches by group, then
    by rail.

    Parameters
    ----------
    nodes, gpus_per_node
        Numbers, >= 1; ``gpus_per_node`` is the number of rails.
    nodes_per_group
        Nodes that share one set of rail switches, >= 1; default all.
    spines, links_per_spine
        Spines that join all rail switches, and parallel cables to each; >= 1, links default to 1.

    >>> t = RailOptimized(nodes=8, gpus_per_node=8, spines=4, rate_mbps=400_000, latency_ps=500_000).build()
    >>> t.link_name(2 * 11)
    'node1.gpu3->group0.rail3'
    """

    summary: ClassVar[str] = "GPU r of every node on rail switch r, spines over the rails"

    kind: Literal["rail_optimized"] = "rail_optimized"
    nodes: Count
    gpus_per_node: Count
    nodes_per_group: Count | None = None
    spines: Count
    links_per_spine: Count = 1

    @property
    def n_hosts(self) -> int:
        """Number of hosts, which are GPUs."""
        return self.nodes * self.gpus_per_node

    def build(self) -> Topology:
        """Make the flat arrays; see ``Topology``."""
        hosts, rails = self.n_hosts, self.gpus_per_node
        per_group = min(self.nodes_per_group or self.nodes, self.nodes)
        groups = -(-self.nodes // per_group)
        leaves = groups * rails
        node, rail = np.divmod(np.arange(hosts, dtype=np.int32), np.int32(rails))
        host_switch = (hosts + (node // per_group) * rails + rail).astype(np.int32)
        fabric = [joints(hosts, leaves, hosts + leaves, self.spines, self.links_per_spine)]
        names = [f"node{n}.gpu{r}" for n in range(self.nodes) for r in range(rails)]
        names += [f"group{g}.rail{r}" for g in range(groups) for r in range(rails)]
        names += [f"spine{i}" for i in range(self.spines)]
        tiers = [(1, leaves), (2, self.spines)]
        return assemble(self, leaves + self.spines, host_switch, fabric, names, tiers)
