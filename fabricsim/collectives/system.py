"""What NCCL sees of a cluster: its GPUs, links and interfaces, read from the topology."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fabricsim.collectives import nccl_facts as facts
from fabricsim.collectives.nccl import System
from fabricsim.collectives.nccl_facts import Architecture
from fabricsim.errors import ConfigError, Problem
from fabricsim.fabrics.scale_up import ScaleUp
from fabricsim.topology import Nodes
from fabricsim.topology.domains import scale_up_domains

if TYPE_CHECKING:
    from fabricsim.cluster import Cluster
    from fabricsim.topology import Topology

__all__ = ["Site", "site_of"]

# What accelerators' names hold, by architecture.
_NAMES = {
    Architecture.VOLTA: ("V100",),
    Architecture.AMPERE: ("A100", "A800"),
    Architecture.HOPPER: ("H100", "H200", "H800", "H20"),
    Architecture.BLACKWELL: ("B100", "B200", "B300"),
}
# PCIe 3.0 x16: on paper, and as NCCL counts it; each generation doubles both.
_PCIE3_ON_PAPER, _PCIE3_GBS = 15.75, 12.0

_SCALE_UP = 1


@dataclass(frozen=True)
class Site:
    """A cluster as NCCL sees it.

    Parameters
    ----------
    whole
        The system of a communicator of all ranks of one node.
    domain
        int32[hosts], the node (scale-up domain) of each host.
    gpus
        GPUs of a node.
    link_gbs
        What a GPU's scale-up link carries of data, GB/s one way, without its headers; 0 without one.
    hop_ps, net_hop_ps
        What a message of no bytes takes from a GPU to another of its node, and to one of the next node, ps.
    """

    whole: System
    domain: npt.NDArray[np.int32]
    gpus: int
    link_gbs: float
    hop_ps: int
    net_hop_ps: int

    def system(self, n_ranks: int, n_nodes: int, even: bool) -> System:
        """Return the system of a communicator; ``even``: with as many ranks on each node."""
        per_node = n_ranks / n_nodes
        share = min(1.0, per_node / self.gpus)
        return replace(
            self.whole,
            n_ranks=n_ranks,
            n_nodes=n_nodes,
            nics=max(1, math.ceil(self.whole.nics * share)),
            nvls=self.whole.nvls and even and per_node >= 2,
            # What goes on from a node's own reduction into switches that reduce is not emulated.
            sharp=self.whole.sharp and per_node == 1,
        )


def site_of(cluster: Cluster) -> Site:
    """Return what NCCL sees of a cluster.

    Raises
    ------
    ConfigError
        When nothing tells the architecture of the GPUs.
    """
    topology, told = cluster.topology(), cluster.collectives.nccl
    architecture = Architecture(told.architecture) if told.architecture else _architecture(cluster)
    domain = scale_up_domains(topology)
    gpus = int(np.bincount(domain).max())
    up_mbps, out_mbps = (_port_mbps(topology, network) for network in (_SCALE_UP, 0))
    spec = cluster.topology_spec
    nics, nic_mbps = gpus, out_mbps
    pcie_gbs, nvswitch = 0.0, True
    if isinstance(spec, Nodes):
        nics = spec.n_nics * max(1, gpus // spec.gpus_per_node)
        nic_mbps = spec.host_rate_mbps or spec.rate_mbps or 0
        pcie_gbs, nvswitch = _pcie_gbs(spec.pcie_rate_mbps or 0), spec.scale_up == "switch"
    nvlink_gbs = _nvlink_gbs(up_mbps / 8000, architecture)
    networks = _reducer_networks(topology) if topology.n_reducers else set()
    whole = System(
        architecture=architecture,
        n_ranks=gpus,
        nvlink_gbs=(told.nvlink_rate_mbps or 0) / 8000 or nvlink_gbs,
        pcie_gbs=(told.pcie_rate_mbps or 0) / 8000 or pcie_gbs or max(nic_mbps / 8000, 12.0),
        nics=told.nic_count or nics,
        nic_gbs=(told.nic_rate_mbps or nic_mbps or 100_000) / 8000,
        net_latency_us=told.net_latency_ps / 1e6,
        nvls=_SCALE_UP in networks,
        sharp=told.collnet and 0 in networks,
        nvswitch=nvswitch,
        cpu=told.cpu,
    )
    link_gbs = up_mbps / 8000 * _payload(cluster) if up_mbps else 0.0
    return Site(whole, domain, gpus, link_gbs, *_hops(topology, domain))


def _payload(cluster: Cluster) -> float:
    """Return the share of data in the packets of the scale-up transport."""
    values = (cluster.scale_up or ScaleUp.model_validate({})).transport.resolved()
    mtu = values.get("mtu_bytes", 1)
    return mtu / (mtu + values.get("header_bytes", 0))


def _architecture(cluster: Cluster) -> Architecture:
    name = cluster.accelerator.name if cluster.accelerator else ""
    for architecture, parts in reversed(_NAMES.items()):
        if any(part in name.upper() for part in parts):
            return architecture
    found = f"an accelerator named {name!r}" if name else "no accelerator"
    names = ", ".join(facts.ARCHITECTURES)
    text = f"missing, and the cluster has {found}; allowed: architecture = one of {names}"
    raise ConfigError([Problem(f"cluster {cluster.name}:collectives.nccl.architecture", text)])


def _port_mbps(topology: Topology, network: int) -> int:
    """Return the greatest rate of a host's port in a network, 0 without one."""
    assert topology.cable_network is not None
    n = topology.n_rank_hosts
    mine = ((topology.cable_a < n) | (topology.cable_b < n)) & (topology.cable_network == network)
    return int(topology.cable_rate_mbps[mine].max(initial=0))


def _nvlink_gbs(rate_gbs: float, architecture: Architecture) -> float:
    """Return NVLink bandwidth as NCCL counts it, link by link; a rate may be given so already."""
    counted, paper = facts.NVLINK_OF_ONE[architecture], facts.NVLINK_ON_PAPER[architecture]
    if rate_gbs % paper and abs(rate_gbs / counted - round(rate_gbs / counted)) < 1e-3:
        return rate_gbs
    return rate_gbs * counted / paper


def _pcie_gbs(rate_mbps: int) -> float:
    """Return PCIe bandwidth as NCCL counts it: by generation, of what is on paper."""
    if not rate_mbps:
        return 0.0
    generation = round(math.log2(max(rate_mbps / 8000, 1.0) / _PCIE3_ON_PAPER))
    return float(_PCIE3_GBS * 2.0**generation)


def _reducer_networks(topology: Topology) -> set[int]:
    assert topology.cable_network is not None
    ends = np.stack([topology.cable_a, topology.cable_b])
    mine = ((ends >= topology.reducer_first) & (ends < topology.n_hosts)).any(axis=0)
    return set(topology.cable_network[mine].tolist())


def _hops(topology: Topology, domain: npt.NDArray[np.int32]) -> tuple[int, int]:
    """Return the latencies from host 0 to another of its domain, and to one of the same place in the next."""
    mates = np.flatnonzero(domain == domain[0])
    inside = _latency_ps(topology, _SCALE_UP, int(mates[0]), int(mates[1])) if len(mates) > 1 else 0
    others = np.flatnonzero(domain == domain[0] + 1)
    between = _latency_ps(topology, 0, int(mates[0]), int(others[0])) if len(others) else 0
    return inside, between


def _latency_ps(topology: Topology, network: int, source: int, target: int) -> int:
    """Return the latency of a shortest path, cables and nodes; 0 when there is none."""
    assert topology.cable_network is not None
    mine = topology.cable_network == network
    tail = np.concatenate([topology.cable_a[mine], topology.cable_b[mine]])
    head = np.concatenate([topology.cable_b[mine], topology.cable_a[mine]])
    delay = np.tile(topology.cable_delay_ps[mine], 2) + topology.node_latency_ps[head]
    far = np.iinfo(np.int64).max
    best = np.full(topology.n_nodes, far, np.int64)
    best[source] = 0
    frontier = np.array([source])
    while frontier.size and best[target] == far:
        inside = np.isin(tail, frontier)
        reached, cost = head[inside], best[tail[inside]] + delay[inside]
        new = best[reached] == far
        reached, cost = reached[new], cost[new]
        np.minimum.at(best, reached, cost)
        frontier = np.unique(reached)
    return 0 if best[target] == far else int(best[target])
