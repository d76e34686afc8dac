"""Servers of storage in a topology: hosts between those of the ranks and the reducers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from fabricsim.topology.cabling import SCALE_OUT, SCALE_UP
from fabricsim.topology.model import Int32, Topology

__all__ = ["matching_switches", "with_server_hosts"]


def matching_switches(t: Topology, globs: Sequence[str]) -> Int32:
    """Return int32[n], the node numbers of the scale-out switches whose names match, glob by glob.

    Raises
    ------
    ValueError
        When a glob matches none of them.

    >>> from fabricsim.topology import LeafSpine
    >>> t = LeafSpine(leaves=3, spines=1, hosts_per_leaf=2, rate_mbps=100_000, latency_ps=1000).build()
    >>> [t.node_names[node] for node in matching_switches(t, ["leaf[12]", "spine*"])]
    ['leaf1', 'leaf2', 'spine0']
    """
    assert t.cable_network is not None
    above = t.cable_network == SCALE_UP
    inside = {*t.cable_a[above].tolist(), *t.cable_b[above].tolist()}
    switches = [node for node in range(t.n_hosts, t.n_nodes) if node not in inside]
    found: dict[int, None] = {}
    for glob in globs:
        mine = [node for node in switches if fnmatchcase(t.node_names[node], glob)]
        if not mine:
            names = [t.node_names[node] for node in switches]
            shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            allowed = f"a switch of the scale-out network ({shown})" if names else "with a scale-out network"
            raise ValueError(f"found {glob!r}, which no switch matches, allowed: {allowed}")
        found |= dict.fromkeys(mine)
    return np.array(list(found), np.int32)


def with_server_hosts(
    t: Topology,
    names: Sequence[str],
    switches: npt.ArrayLike,
    *,
    rate_mbps: npt.ArrayLike,
    delay_ps: npt.ArrayLike,
    latency_ps: int = 0,
) -> Topology:
    """Return a topology with servers of storage, behind the hosts that are there and before the reducers.

    Parameters
    ----------
    t
        The topology; its cables keep their numbers and its nodes their names.
    names
        Of the new hosts.
    switches
        int[n], the node of ``t`` that each of them is cabled to; it becomes the last port of that switch.
    rate_mbps, delay_ps
        Of these cables: one value, or int[n].
    latency_ps
        Pipeline latency of the new hosts.

    >>> from fabricsim.topology import Star
    >>> t = Star(hosts=2, rate_mbps=100_000, latency_ps=1000).build()
    >>> with_server_hosts(t, ["oss0"], [2], rate_mbps=200_000, delay_ps=1000)
    Topology(star: 2 hosts, 1 storage servers, 1 switches, 3 cables)
    """
    first, count = t.reducer_first, len(names)
    to = np.asarray(switches, np.int32)

    def moved(nodes: Int32) -> Int32:
        return np.where(nodes >= first, nodes + count, nodes).astype(np.int32)

    assert t.cable_network is not None
    return replace(
        t,
        n_hosts=t.n_hosts + count,
        cable_a=np.concatenate([moved(t.cable_a), np.arange(first, first + count, dtype=np.int32)]),
        cable_b=np.concatenate([moved(t.cable_b), moved(to)]),
        cable_rate_mbps=np.concatenate([t.cable_rate_mbps, np.broadcast_to(rate_mbps, count)]),
        cable_delay_ps=np.concatenate([t.cable_delay_ps, np.broadcast_to(delay_ps, count)]),
        cable_network=np.concatenate([t.cable_network, np.full(count, SCALE_OUT, np.int8)]),
        node_latency_ps=np.insert(t.node_latency_ps, first, np.full(count, latency_ps, np.int64)),
        node_names=(*t.node_names[:first], *names, *t.node_names[first:]),
        reducer_first=first + count,
    )
