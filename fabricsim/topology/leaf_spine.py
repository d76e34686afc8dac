"""Leaf-spine (two-tier folded Clos): every leaf is joined with every spine."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from fabricsim.topology.model import Topology
from fabricsim.topology.spec import RegularSpec, assemble, joints

__all__ = ["LeafSpine"]

Count = Annotated[int, Field(ge=1, le=65_536)]


class LeafSpine(RegularSpec):
    """Leaves with hosts, spines that join all leaves.

    Oversubscription follows from the numbers: hosts_per_leaf x host rate / (spines x links_per_spine x fabric
    rate). Ports: a leaf has its hosts, then the spines in order (parallel cables side by side); a spine the
    leaves in order.

    Parameters
    ----------
    leaves, spines, hosts_per_leaf
        Numbers, >= 1. Host ``i`` sits on leaf ``i // hosts_per_leaf``.
    links_per_spine
        Parallel cables between a leaf and a spine, >= 1; default 1.

    >>> spec = LeafSpine(leaves=2, spines=1, hosts_per_leaf=4, rate_mbps=400_000, latency_ps=1000)
    >>> spec.build().oversubscription()
    [(1, 4.0)]
    """

    summary: ClassVar[str] = "leaves joined with every spine"

    kind: Literal["leaf_spine"] = "leaf_spine"
    leaves: Count
    spines: Count
    hosts_per_leaf: Count
    links_per_spine: Count = 1

    @property
    def n_hosts(self) -> int:
        """Number of hosts."""
        return self.leaves * self.hosts_per_leaf

    def build(self) -> Topology:
        """Make the flat arrays; see ``Topology``."""
        hosts, leaf0 = self.n_hosts, self.n_hosts
        host_switch = np.repeat(np.arange(leaf0, leaf0 + self.leaves, dtype=np.int32), self.hosts_per_leaf)
        fabric = [joints(leaf0, self.leaves, leaf0 + self.leaves, self.spines, self.links_per_spine)]
        names = [f"host{i}" for i in range(hosts)]
        names += [f"leaf{i}" for i in range(self.leaves)] + [f"spine{i}" for i in range(self.spines)]
        tiers = [(1, self.leaves), (2, self.spines)]
        return assemble(self, self.leaves + self.spines, host_switch, fabric, names, tiers)
