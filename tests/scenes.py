"""Small scenes that golden digests and invariants share: each shows one thing, in well under a second."""

from __future__ import annotations

import random
from typing import Any

from oracle.world import ALGORITHMS, Cable, World, row

NS, US, MS = 1_000, 1_000_000, 1_000_000_000


def star(hosts: int, rate_mbps: int = 100_000, delay_ps: int = US) -> dict[str, Any]:
    """Return the topology of hosts around one switch."""
    cables = [Cable(h, hosts, rate_mbps, delay_ps) for h in range(hosts)]
    return {"n_hosts": hosts, "n_switches": 1, "cables": cables, "latency_ps": [0] * (hosts + 1)}


def leaf_spine(leaves: int, spines: int, below: int, up_mbps: int = 100_000) -> dict[str, Any]:
    """Return leaves with so many hosts each, every leaf joined to every spine."""
    hosts = leaves * below
    cables = [Cable(h, hosts + h // below, 100_000, 500 * NS) for h in range(hosts)]
    for leaf in range(leaves):
        cables += [Cable(hosts + leaf, hosts + leaves + spine, up_mbps, US) for spine in range(spines)]
    nodes = hosts + leaves + spines
    return {
        "n_hosts": hosts,
        "n_switches": leaves + spines,
        "cables": cables,
        "latency_ps": [0 if node < hosts else 300 * NS for node in range(nodes)],
    }


def fat_tree(k: int, rate_mbps: int = 100_000) -> dict[str, Any]:
    """Return a three-tier fat-tree of k-port switches."""
    half = k // 2
    hosts, pods = k * half * half, k
    edge, core = hosts, hosts + 2 * pods * half
    cables = [Cable(h, edge + h // half, rate_mbps, US) for h in range(hosts)]
    for pod in range(pods):
        for e in range(half):
            for a in range(half):
                aggregation = edge + pods * half + pod * half + a
                cables.append(Cable(edge + pod * half + e, aggregation, rate_mbps, US))
                if e == 0:
                    cables += [Cable(aggregation, core + a * half + c, rate_mbps, US) for c in range(half)]
    switches = 2 * pods * half + half * half
    return {
        "n_hosts": hosts,
        "n_switches": switches,
        "cables": cables,
        "latency_ps": [0] * (hosts + switches),
    }


def switch_ring(switches: int, below: int) -> dict[str, Any]:
    """Return a ring of switches with hosts: with an odd ring more than two colours."""
    hosts = switches * below
    cables = [Cable(h, hosts + h // below, 100_000, 300 * NS) for h in range(hosts)]
    cables += [Cable(hosts + s, hosts + (s + 1) % switches, 100_000, 700 * NS) for s in range(switches)]
    nodes = hosts + switches
    return {"n_hosts": hosts, "n_switches": switches, "cables": cables, "latency_ps": [0] * nodes}


def flows(pairs: list[tuple[int, int]], size: int, delay_ps: int = 0) -> list[dict[str, Any]]:
    """Return a send and a recv row for every (source, target)."""
    rows: list[dict[str, Any]] = []
    for i, (src, dst) in enumerate(pairs):
        rows.append(row(2 * i, "send", [src], peers=[dst], size=size, tag=i, delay_ps=delay_ps))
        rows.append(row(2 * i + 1, "recv", [dst], peers=[src], size=size, tag=i))
    return rows


def permutation(hosts: int) -> list[tuple[int, int]]:
    """Return a fixed random permutation without fixed points."""
    order = list(range(hosts))
    random.Random(7).shuffle(order)
    return [(order[i], order[(i + 1) % hosts]) for i in range(hosts)]


def scene(topology: dict[str, Any], rows: list[dict[str, Any]], **more: Any) -> World:
    """Return a world whose rank r is on host r."""
    return World(**topology, rows=rows, rank_host=list(range(topology["n_hosts"])), **more)


def incast_lossy_dcqcn() -> World:
    """Eight to one: marks, drops, cuts and recovery."""
    settings = {
        "switch": (
            "ethernet",
            {"buffer_bytes": 400_000, "ecn_kmin_bytes": 50_000, "ecn_kmax_bytes": 200_000},
        ),
        "cc": ("dcqcn", {}),
    }
    return scene(star(9), flows([(h, 8) for h in range(8)], 1_000_000), settings=settings)


def permutation_fat_tree_pfc() -> World:
    """Collisions of ECMP on a lossless fat-tree: pauses spread."""
    buffer = {"buffer_bytes": 300_000, "ecn_kmin_bytes": 60_000, "ecn_kmax_bytes": 150_000}
    settings = {"switch": ("ethernet", buffer), "link": ("pause", {}), "cc": ("dcqcn", {})}
    return scene(fat_tree(4), flows(permutation(16), 1_000_000), settings=settings)


def all_to_all_spray() -> World:
    """Packets over all spines of an oversubscribed fabric, put in order at the receiver."""
    settings = {"route": ("spray", {}), "transport": ("roce", {"window_bytes": 200_000})}
    rows = [row(0, "all_to_all", list(range(16)), size=1_600_000)]
    return scene(leaf_spine(4, 2, 4), rows, settings=settings)


def odd_ring_no_priority() -> World:
    """Five switches in a ring, three colours, acknowledgements among the data."""
    settings = {"transport": ("roce", {"control_priority": 0, "ack_every_count": 4}), "link": ("pause", {})}
    settings["switch"] = ("ethernet", {"buffer_bytes": 400_000})
    return scene(switch_ring(5, 2), flows([*permutation(10), (0, 9), (1, 9)], 400_000), settings=settings)


def training_step() -> World:
    """Streams, compute, silence of milliseconds, and every kind of collective."""
    ranks = list(range(16))
    rows = [row(0, "compute", ranks, duration_ps=50 * US, stream=0)]
    rows.append(row(1, "all_reduce", ranks, size=2_000_000, stream=1, after=[0]))
    rows.append(row(2, "compute", ranks, duration_ps=12 * MS, stream=0))
    rows.append(row(3, "all_gather", ranks[:8], size=500_000, stream=0))
    rows.append(row(4, "reduce_scatter", ranks[8:], size=500_001, stream=0))
    rows.append(row(5, "broadcast", ranks, size=700_000, peers=[3], after=[1]))
    rows.append(row(6, "reduce", ranks[::-1], size=700_000, peers=[5], stream=1))
    rows.append(row(7, "all_to_all", ranks[::2], splits=[0, 5000, 1, 70_000, 9, 4096, 3, 8], stream=0))
    rows.append(row(8, "barrier", ranks, stream=0, after=[5, 6]))
    algorithms = {**ALGORITHMS, "all_reduce": "tree", "all_gather": "pairwise"}
    coll = {"tree": {"launch_ps": 3 * US, "step_ps": 200 * NS}, "ring": {"chunk_bytes": 20_000}}
    settings = {
        "cc": ("dcqcn", {}),
        "link": ("pause", {}),
        "switch": ("ethernet", {"buffer_bytes": 4_000_000}),
    }
    return scene(leaf_spine(4, 2, 4), rows, algorithms=algorithms, coll=coll, settings=settings)


def cut_through_mixed_rates() -> World:
    """Cut-through where the rates allow it, store-and-forward where they do not."""
    settings = {"switch": ("ethernet", {"cut_through": 1}), "transport": ("roce", {"mtu_bytes": 1024})}
    return scene(leaf_spine(3, 2, 3, up_mbps=400_000), flows(permutation(9) * 3, 200_000), settings=settings)


def go_back_n() -> World:
    """A buffer of a few frames: drops, NAKs, time-outs, duplicates."""
    transport = {
        "rto_ps": 200 * US,
        "nak_interval_ps": 20 * US,
        "retry_limit_count": 10_000,
        "window_bytes": 64_000,
    }
    settings = {"switch": ("ethernet", {"buffer_bytes": 40_000, "ecn": 0}), "transport": ("roce", transport)}
    return scene(star(5, 25_000), flows([(h, 4) for h in range(4)] * 2, 300_000), settings=settings)


def ring_all_reduce() -> World:
    """The plain case: one ring over 32 hosts of a two-tier fabric, 1 MiB, three times."""
    ranks = list(range(32))
    rows = [row(i, "all_reduce", ranks, size=1 << 20, stream=0) for i in range(3)]
    return scene(leaf_spine(4, 4, 8), rows)


def three_classes() -> World:
    """Strict priority over a slow spine: storage below, an all-reduce in between, a barrier and probes above.

    Storage is lossy, the others are lossless; a burst in the middle class pauses it.
    """
    ranks = list(range(12))
    rows = [row(0, "all_reduce", ranks, size=600_000, stream=0, priority=1)]
    rows.append(row(1, "barrier", ranks, stream=0, priority=2))
    rows.append(row(2, "all_reduce", ranks[::-1], size=600_001, stream=0, priority=1))
    for first, pairs, size, priority, delay_ps in (
        (3, [(h, (h + 4) % 12) for h in range(12)] + [(h, 11) for h in range(8)], 200_000, 0, 0),
        (43, [(h, 10) for h in range(6)], 100_000, 1, 10 * US),
        (55, [(0, 11), (5, 2), (9, 6)], 1000, 2, 30 * US),
    ):
        for made in flows(pairs, size, delay_ps):
            rows.append({**made, "id": made["id"] + first, "tag": made["tag"] + first, "priority": priority})
    switch = {
        "data_class_count": 3,
        "buffer_bytes": 1_000_000,
        "ecn_kmin_bytes": 40_000,
        "ecn_kmax_bytes": 160_000,
        "dynamic_alpha_ppm": 500_000,
    }
    settings = {
        "switch": ("ethernet", switch),
        "link": ("pause", {"lossless_classes": 6, "xoff_bytes": 15_000}),
        "cc": ("dcqcn", {}),
        "transport": ("roce", {"rto_ps": 300 * US, "retry_limit_count": 10_000}),
    }
    return scene(leaf_spine(3, 1, 4), rows, settings=settings)


def classes_take_turns() -> World:
    """Two classes by deficit round robin, one of them with packets of all sizes, on an odd ring."""
    switch = {"data_class_count": 2, "class_round_robin": 1, "buffer_bytes": 700_000}
    settings = {"switch": ("ethernet", switch), "link": ("pause", {}), "route": ("spray", {})}
    rows = flows([*permutation(10), *[(h, 4) for h in range(4)]], 200_000)
    for made in rows:
        made["priority"] = made["id"] // 2 % 2
    rows.append(
        row(len(rows), "all_to_all", list(range(10)), splits=[7, 9000, 64, 0, 30_000] * 2, priority=1)
    )
    return scene(switch_ring(5, 2), rows, settings=settings)


def srd_incast() -> World:
    """SRD, many to one with a small buffer: loss found on its path and by time, messages in line."""
    settings = {
        "switch": ("ethernet", {"buffer_bytes": 600_000, "ecn": 0}),
        "transport": ("srd", {"window_bytes": 100_000, "reorder_ps": 100 * NS}),
    }
    return scene(leaf_spine(3, 4, 4), flows([(h, 11) for h in range(10)] * 2, 500_000), settings=settings)


def srd_slow_spine() -> World:
    """SRD over spines of which one is slow: its paths are set aside, and come back."""
    topology = leaf_spine(3, 4, 4)
    for cable in topology["cables"]:
        if cable.b == topology["n_hosts"] + 3:  # the first spine
            cable.rate_mbps = 10_000
    settings = {"transport": ("srd", {"path_rest_ps": 100 * US})}
    return scene(topology, flows([(h, (h + 4) % 12) for h in range(12)], 6_000_000), settings=settings)


def infiniband_lanes() -> World:
    """Three virtual lanes of different weights on adaptive routes, little buffers, marks."""
    switch = {"vl_count": 3, "vl0_weight": 16, "vl2_weight": 128, "vl_high_mask": 4, "vl_high_limit": 2}
    settings = {
        "switch": ("voq", {**switch, "fecn_threshold": 12, "fecn_marking_rate": 2}),
        "link": ("credit", {"vl_buffer_bytes": 20_000}),
        "route": ("adaptive", {}),
        "transport": ("rc", {}),
        "cc": ("ib_cc", {}),
    }
    rows = flows(permutation(12) + [(h, 11) for h in range(6)], 400_000)
    for made in rows:
        made["priority"] = made["id"] // 2 % 3
    return scene(leaf_spine(3, 2, 4, 40_000), rows, settings=settings)


def torus_all_to_all() -> World:
    """A torus of 4 x 5 chips: minimal ways in both orders, lanes that change at the wraps."""
    sizes = {"x_count": 4, "y_count": 5}
    chips, stride = 20, 1
    cables = [Cable(chip, chips + chip, 800_000, 100 * NS) for chip in range(chips)]
    for size in sizes.values():
        for chip in range(chips):
            at = chip // stride % size
            cables.append(Cable(chips + chip, chips + chip + ((at + 1) % size - at) * stride, 100_000, US))
        stride *= size
    topology = {"n_hosts": chips, "n_switches": chips, "cables": cables, "latency_ps": [0] * 2 * chips}
    settings = {
        "switch": ("voq", {"vl_count": 4}),
        "link": ("credit", {}),
        "route": ("torus", sizes),
        "transport": ("ici", {}),
    }
    everyone = list(range(chips))
    rows = [
        row(0, "all_to_all", everyone, size=chips * 20_000),
        row(1, "all_reduce", everyone, size=500_000, after=[0]),
    ]
    return scene(topology, rows, settings=settings)


def hpcc_incast() -> World:
    """Telemetry of every hop, windows that follow it."""
    settings = {"cc": ("hpcc", {}), "link": ("pause", {})}
    return scene(leaf_spine(3, 2, 4), flows([(h, 11) for h in range(8)], 600_000), settings=settings)


def selective_repeat() -> World:
    """Drops of a small buffer, of which each lost packet alone is sent again."""
    settings = {
        "switch": ("ethernet", {"buffer_bytes": 120_000, "ecn": 0}),
        "transport": ("roce", {"selective_repeat": 1, "rto_ps": 500 * US, "retry_limit_count": 1000}),
        "cc": ("timely", {}),
    }
    return scene(star(7), flows([(h, 6) for h in range(6)], 500_000), settings=settings)


SCENES = {
    make.__name__: make
    for make in (
        incast_lossy_dcqcn,
        permutation_fat_tree_pfc,
        all_to_all_spray,
        odd_ring_no_priority,
        training_step,
        cut_through_mixed_rates,
        go_back_n,
        ring_all_reduce,
        three_classes,
        classes_take_turns,
        srd_incast,
        srd_slow_spine,
        infiniband_lanes,
        torus_all_to_all,
        hpcc_incast,
        selective_repeat,
    )
}
