"""Scale-up domains: which hosts share one, and which domains are wired alike."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fabricsim.topology.cabling import SCALE_UP

if TYPE_CHECKING:
    from fabricsim.topology.model import Topology

__all__ = ["alike_domains", "scale_up_domains"]


def scale_up_domains(topology: Topology) -> npt.NDArray[np.int32]:
    """Number the scale-up domains of the hosts with ranks; a host without scale-up is one of its own.

    >>> from fabricsim import Cluster
    >>> scale_up_domains(Cluster.from_toml("dgx-h100", ["topology.nodes=2"]).topology()).tolist()
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    label = _labels(topology)
    return np.unique(label[: topology.n_rank_hosts], return_inverse=True)[1].astype(np.int32)


def alike_domains(topology: Topology) -> npt.NDArray[np.int32]:
    """Return a number for each domain of ``scale_up_domains``, equal for domains that are wired alike.

    Alike: the same nodes and cables, with the same rates, delays and latencies, when the nodes of each domain
    are numbered in order.

    >>> from fabricsim import Cluster
    >>> alike_domains(Cluster.from_toml("dgx-h100", ["topology.nodes=3"]).topology()).tolist()
    [0, 0, 0]
    """
    label, n = _labels(topology), topology.n_nodes
    order = np.argsort(label, kind="stable")
    ordered = label[order]
    first = np.searchsorted(ordered, ordered)
    place = np.empty(n, np.int64)
    place[order] = np.arange(n) - first
    up = topology.cable_network == SCALE_UP
    a, b = topology.cable_a[up], topology.cable_b[up]
    cables = np.stack(
        [label[a], place[a], place[b], topology.cable_rate_mbps[up], topology.cable_delay_ps[up]], axis=1
    ).astype(np.int64)
    cables = cables[np.lexsort(cables.T[::-1])]
    is_host = (np.arange(n) < topology.n_rank_hosts).astype(np.int64)
    nodes = np.stack([is_host, np.asarray(topology.node_latency_ps, np.int64)], axis=1)[order]
    known: dict[bytes, int] = {}
    found = []
    for domain in np.unique(label[: topology.n_rank_hosts]):
        begin, end = np.searchsorted(ordered, [domain, domain + 1])
        low, high = np.searchsorted(cables[:, 0], [domain, domain + 1])
        digest = hashlib.sha256(nodes[begin:end].tobytes() + b"/" + cables[low:high, 1:].tobytes()).digest()
        found.append(known.setdefault(digest, len(known)))
    return np.array(found, np.int32)


def _labels(topology: Topology) -> npt.NDArray[np.int64]:
    """Return by node the least node that scale-up cables join it with."""
    assert topology.cable_network is not None
    up = topology.cable_network == SCALE_UP
    a, b = topology.cable_a[up], topology.cable_b[up]
    label: npt.NDArray[np.int64] = np.arange(topology.n_nodes)
    while len(a):
        before = label.copy()
        least = np.minimum(label[a], label[b])
        np.minimum.at(label, a, least)
        np.minimum.at(label, b, least)
        label = label[label]
        if np.array_equal(label, before):
            break
    return label
