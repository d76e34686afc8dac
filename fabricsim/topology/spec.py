"""What the kinds of topology share: the fields, and the way flat arrays are put together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from fabricsim.fabrics.section import Section, raise_issues
from fabricsim.topology.model import Int32, Topology

__all__ = [
    "MAX_HOSTS",
    "MAX_PORTS",
    "Delay",
    "Latency",
    "Rate",
    "RegularSpec",
    "TopologySpec",
    "assemble",
    "joints",
]

#: The most hosts of a topology: node numbers, ports and link numbers stay well inside 32 bits.
MAX_HOSTS = 2**20

#: The most ports of a switch that the core takes.
MAX_PORTS = 1023

# 100 Tb/s and 1 s: wider than any cable, so that sums of times cannot leave 64 bits.
Rate = Annotated[int, Field(gt=0, le=100_000_000)]
Delay = Annotated[int, Field(gt=0, le=1_000_000_000_000)]
Latency = Annotated[int, Field(ge=0, le=1_000_000_000_000)]


class TopologySpec(Section):
    """A topology as a configuration states it; ``build`` makes the arrays.

    Parameters
    ----------
    host_latency_ps, switch_latency_ps
        Fixed pipeline latency of a packet that enters a host or a switch, ps; default 0.
    """

    kind: str
    host_latency_ps: Latency = 0
    switch_latency_ps: Latency = 0

    #: One sentence for lists and schemas.
    summary: ClassVar[str] = ""

    @abstractmethod
    def build(self) -> Topology:
        """Make the flat arrays."""

    def route_parameters(self) -> dict[str, int]:
        """Return what a route that follows the shape of the topology must know of it, by parameter."""
        return {}

    def node_latency_ps(self, n_hosts: int, n_switches: int) -> np.ndarray:
        """Return int64[n_nodes] of the pipeline latencies."""
        return np.repeat(
            np.array([self.host_latency_ps, self.switch_latency_ps], np.int64), [n_hosts, n_switches]
        )


class RegularSpec(TopologySpec):
    """A topology whose cables come in two kinds: to the hosts, and between the switches.

    Parameters
    ----------
    rate_mbps
        Rate of every cable, Mb/s; ``host_rate_mbps`` and ``fabric_rate_mbps`` differ from it where given.
    latency_ps
        Propagation delay of every cable, ps, > 0.
    """

    rate_mbps: Rate | None = None
    host_rate_mbps: Rate | None = None
    fabric_rate_mbps: Rate | None = None
    latency_ps: Delay

    @model_validator(mode="after")
    def _has_rates(self) -> Self:
        if self.rate_mbps is None and (self.host_rate_mbps is None or self.fabric_rate_mbps is None):
            text = 'missing, allowed: rate = "400Gbps" (or both host_rate and fabric_rate)'
            raise_issues(type(self).__name__, [(("rate",), text, None)])
        self._check_size()
        return self

    def _check_size(self) -> None:
        """Say where the numbers do not fit together; a kind adds its own checks."""
        if self.n_hosts > MAX_HOSTS:
            text = f"makes {self.n_hosts:,} hosts, allowed: at most {MAX_HOSTS:,}"
            raise_issues(type(self).__name__, [((), text, None)])

    @property
    @abstractmethod
    def n_hosts(self) -> int:
        """Number of hosts."""

    def rates_mbps(self) -> tuple[int, int]:
        """Return the rates of host cables and of fabric cables, Mb/s."""
        host = self.host_rate_mbps if self.host_rate_mbps is not None else self.rate_mbps
        fabric = self.fabric_rate_mbps if self.fabric_rate_mbps is not None else self.rate_mbps
        assert host is not None and fabric is not None
        return host, fabric


def joints(low: int, n_low: int, high: int, n_high: int, parallel: int = 1) -> tuple[Int32, Int32]:
    """Join each of ``n_low`` nodes from ``low`` on with each of ``n_high`` nodes from ``high`` on.

    Returns the ends of the cables, int32[n_low * n_high * parallel] each, in the order of the low nodes, so
    that both sides have their ports in the order of the other side's nodes.

    >>> [end.tolist() for end in joints(0, 2, 5, 2)]
    [[0, 0, 1, 1], [5, 6, 5, 6]]
    """
    a = np.repeat(np.arange(low, low + n_low, dtype=np.int32), n_high * parallel)
    b = np.tile(np.repeat(np.arange(high, high + n_high, dtype=np.int32), parallel), n_low)
    return a, b


def assemble(
    spec: RegularSpec,
    n_switches: int,
    host_switch: Int32,
    fabric: Sequence[tuple[Int32, Int32]],
    names: Sequence[str],
    tiers: Sequence[tuple[int, int]],
) -> Topology:
    """Put a regular topology together: host cables first, so that hosts take the first ports of their switch.

    Parameters
    ----------
    host_switch
        int32[n_hosts], node number of the switch of each host.
    fabric
        Ends of the cables between switches, lower switch first.
    names
        Names of all nodes.
    tiers
        (tier, number of switches) in the order of the switches.
    """
    n_hosts = len(host_switch)
    host_rate, fabric_rate = spec.rates_mbps()
    a = np.concatenate([np.arange(n_hosts, dtype=np.int32), *(pair[0] for pair in fabric)])
    b = np.concatenate([host_switch, *(pair[1] for pair in fabric)])
    rates = np.full(a.size, fabric_rate, np.int64)
    rates[:n_hosts] = host_rate
    return Topology(
        kind=spec.kind,
        n_hosts=n_hosts,
        n_switches=n_switches,
        cable_a=a,
        cable_b=b,
        cable_rate_mbps=rates,
        cable_delay_ps=np.full(a.size, spec.latency_ps, np.int64),
        node_latency_ps=spec.node_latency_ps(n_hosts, n_switches),
        node_names=tuple(names),
        switch_tier=np.repeat(np.array([tier for tier, _ in tiers], np.int8), [count for _, count in tiers]),
    )
