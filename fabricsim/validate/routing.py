"""Routing: D-mod-K on full fat-trees, and all-to-all on a twisted torus.

On a full fat-tree D-mod-K keeps the flows of every cyclic shift apart (Zahavi, JPDC 2012). A twisted torus of
4 x 4 x 8 has shorter ways than a regular one, and uniform all-to-all loads its links evenly: 73.3 messages a
link instead of 128, a gain of 1.745 at best.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fabricsim.cluster import Cluster
from fabricsim.program import Model, compile
from fabricsim.validate import check

_ZAHAVI = "Zahavi, JPDC 2012; OpenSM, doc/current-routing.txt"
_TORUS = "links of 4 x 4 x 8 tori under uniform all-to-all, minimal ways; Jouppi et al., ISCA 2023, figure 6"


def worst_shift_load(topology: dict[str, Any]) -> float:
    """Return the most flows over one link in any cyclic shift of all hosts with D-mod-K."""
    model = compile(Cluster.from_dict({"name": "shift", "topology": topology, "routing": {"model": "dmodk"}}))
    hosts = model.topology.n_hosts
    load = np.zeros((hosts, model.engine.n_links), np.int64)
    for src in range(hosts):
        for dst in range(hosts):
            if src != dst:
                load[(dst - src) % hosts, model.engine.path(src, dst)] += 1
    return float(load.max())


@check(
    "D-mod-K shift, two tiers",
    configuration="full fat-tree of 8 leaves and 8 spines, 64 hosts, all 63 cyclic shifts",
    published=1,
    unit="flows a link",
    tolerance=0,
    source=_ZAHAVI,
    kind="first-principles",
)
def shift_two_tiers() -> float:
    """No link carries two flows of a shift."""
    cables = {"rate": "100Gbps", "latency": "500ns"}
    return worst_shift_load({"kind": "leaf_spine", "leaves": 8, "spines": 8, "hosts_per_leaf": 8, **cables})


@check(
    "D-mod-K shift, three tiers",
    configuration="full fat-tree of 8-port switches, 128 hosts, all 127 cyclic shifts",
    published=1,
    unit="flows a link",
    tolerance=0,
    source=_ZAHAVI,
    kind="first-principles",
)
def shift_three_tiers() -> float:
    """The same over three tiers."""
    return worst_shift_load({"kind": "fat_tree", "k": 8, "rate": "100Gbps", "latency": "500ns"})


def torus(twisted: bool) -> Model:
    """Compile a slice of 4 x 4 x 8 chips."""
    topology = {"kind": "torus", "x": 4, "y": 4, "z": 8, "twisted": twisted}
    cables = {"rate": "45GB/s", "latency": "1us"}
    routing = {"model": "torus"}
    return compile(
        Cluster.from_dict({"name": "slice", "topology": {**topology, **cables}, "routing": routing})
    )


def _entropies() -> list[int]:
    """Return an entropy for each of the 96 equally likely choices among ways (docs/models/routing.md)."""
    mask = (1 << 64) - 1

    def mix(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    salt = np.uint32(mix(mix(mix(3 << 56))) & 0xFFFFFFFF)
    x = (np.arange(1 << 16, dtype=np.uint32) * np.uint32(2654435761)) ^ salt
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x85EBCA6B)
    choices = (x >> np.uint32(16)) * np.uint32(96) >> np.uint32(16)
    return [int(entropy) for entropy in np.unique(choices, return_index=True)[1]]


def all_to_all_load(twisted: bool) -> float:
    """Return the load of the most loaded link, in messages, when every chip sends one to every other.

    A torus looks the same from every chip, so links of one direction carry the same, and one chip's
    messages tell how much: summed over the links of the direction.
    """
    model = torus(twisted)
    topology = model.topology
    n, entropies = topology.n_hosts, _entropies()
    steps = np.zeros(model.engine.n_links, np.int64)
    for dst in range(1, n):
        for entropy in entropies:
            np.add.at(steps, model.engine.path(0, dst, entropy), 1)
    between = np.minimum(topology.cable_a, topology.cable_b) >= n
    # Cables of a dimension lie side by side, and the even link of each goes up.
    per_link = steps.reshape(-1, 2)[between].reshape(3, n, 2).sum(axis=1) / len(entropies)
    return float(per_link.max())


@check(
    "Regular torus 4x4x8, link load",
    configuration="uniform all-to-all over minimal ways",
    published=128,
    unit="messages a link",
    tolerance=0.01,
    source=_TORUS,
    kind="first-principles",
)
def regular_load() -> float:
    """The bound is set by the long dimension."""
    return all_to_all_load(twisted=False)


@check(
    "Twisted torus 4x4x8, bound",
    configuration="uniform all-to-all over minimal ways, regular over twisted link load",
    published=1.745,
    tolerance=0.01,
    source=_TORUS,
    kind="first-principles",
)
def twisted_bound() -> float:
    """All links carry the same."""
    return all_to_all_load(twisted=False) / all_to_all_load(twisted=True)
