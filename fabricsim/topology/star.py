"""Star: all hosts on one switch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from fabricsim.topology.model import Topology
from fabricsim.topology.spec import MAX_HOSTS, RegularSpec, assemble

__all__ = ["Star"]


class Star(RegularSpec):
    """Hosts on one switch, in the order of its ports.

    Parameters
    ----------
    hosts
        Number of hosts, >= 1.

    >>> Star(hosts=8, rate_mbps=100_000, latency_ps=1_000_000).build()
    Topology(star: 8 hosts, 1 switches, 8 cables)
    """

    summary: ClassVar[str] = "all hosts on one switch"

    kind: Literal["star"] = "star"
    hosts: Annotated[int, Field(ge=1, le=MAX_HOSTS)]

    @property
    def n_hosts(self) -> int:
        """Number of hosts."""
        return self.hosts

    def build(self) -> Topology:
        """Make the flat arrays; see ``Topology``."""
        names = [*(f"host{i}" for i in range(self.hosts)), "switch0"]
        host_switch = np.full(self.hosts, self.hosts, np.int32)
        return assemble(self, 1, host_switch, [], names, [(1, 1)])
