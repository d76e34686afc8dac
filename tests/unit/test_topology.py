"""Topologies: numbers of nodes, port orders, faults."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fabricsim.errors import ConfigError
from fabricsim.topology import KINDS, FatTree, LeafSpine, Links, RailOptimized, Star, Topology, TopologyFile

RATE = {"rate_mbps": 100_000, "latency_ps": 1_000_000}


def ports(t: Topology, node: str) -> list[str]:
    """The neighbours of a node in port order."""
    at = list(t.node_names).index(node)
    found = []
    for a, b in zip(t.cable_a.tolist(), t.cable_b.tolist(), strict=True):
        if at in (a, b):
            found.append(t.node_names[b if a == at else a])
    return found


@pytest.mark.parametrize("k", [2, 4, 8, 16])
def test_fat_tree_has_the_published_numbers(k):
    t = FatTree(k=k, **RATE).build()
    assert t.n_hosts == k**3 // 4
    assert t.n_switches == 5 * k * k // 4
    assert t.n_cables == 3 * k**3 // 4
    assert np.bincount(np.concatenate([t.cable_a, t.cable_b]))[t.n_hosts :].tolist() == [k] * t.n_switches


def test_fat_tree_port_order():
    t = FatTree(k=4, **RATE).build()
    assert ports(t, "edge3") == ["host6", "host7", "agg2", "agg3"]
    assert ports(t, "agg2") == ["edge2", "edge3", "core0", "core1"]
    assert ports(t, "agg3") == ["edge2", "edge3", "core2", "core3"]
    assert ports(t, "core2") == ["agg1", "agg3", "agg5", "agg7"]
    assert t.switch_tier.tolist() == [1] * 8 + [2] * 8 + [3] * 4


def test_two_tier_fat_tree():
    t = FatTree(k=4, tiers=2, **RATE).build()
    assert (t.n_hosts, t.n_switches, t.n_cables) == (8, 6, 16)
    assert ports(t, "edge1") == ["host2", "host3", "core0", "core1"]
    assert ports(t, "core1") == ["edge0", "edge1", "edge2", "edge3"]


def test_fat_tree_oversubscription_at_the_edge():
    t = FatTree(k=4, hosts_per_edge=6, **RATE).build()
    assert t.n_hosts == 48
    assert t.oversubscription() == [(1, 3.0), (2, 1.0)]
    assert ports(t, "edge1")[:6] == [f"host{i}" for i in range(6, 12)]


def test_leaf_spine_port_order_and_parallel_cables():
    t = LeafSpine(leaves=3, spines=2, hosts_per_leaf=2, links_per_spine=2, **RATE).build()
    assert ports(t, "leaf1") == ["host2", "host3", "spine0", "spine0", "spine1", "spine1"]
    assert ports(t, "spine1") == ["leaf0", "leaf0", "leaf1", "leaf1", "leaf2", "leaf2"]
    assert t.oversubscription() == [(1, 0.5)]
    first = t.n_hosts
    names = [t.link_name(2 * i) for i in range(first, first + 3)]
    assert names == ["leaf0->spine0#0", "leaf0->spine0#1", "leaf0->spine1#0"]


def test_leaf_spine_with_two_rates():
    t = LeafSpine(
        leaves=2,
        spines=2,
        hosts_per_leaf=4,
        host_rate_mbps=100_000,
        fabric_rate_mbps=400_000,
        latency_ps=1_000,
        host_latency_ps=7,
        switch_latency_ps=9,
    ).build()
    assert t.cable_rate_mbps.tolist() == [100_000] * 8 + [400_000] * 4
    assert t.node_latency_ps.tolist() == [7] * 8 + [9] * 4
    assert t.oversubscription() == [(1, 0.5)]


def test_rail_optimized_hosts_are_strided_over_the_rails():
    t = RailOptimized(nodes=4, gpus_per_node=2, nodes_per_group=2, spines=2, **RATE).build()
    assert t.n_hosts == 8
    assert ports(t, "group0.rail1") == ["node0.gpu1", "node1.gpu1", "spine0", "spine1"]
    assert ports(t, "group1.rail0") == ["node2.gpu0", "node3.gpu0", "spine0", "spine1"]
    assert ports(t, "spine0") == ["group0.rail0", "group0.rail1", "group1.rail0", "group1.rail1"]
    assert t.node_names[3] == "node1.gpu1"


def test_rail_optimized_last_group_may_be_smaller():
    t = RailOptimized(nodes=3, gpus_per_node=2, nodes_per_group=2, spines=1, **RATE).build()
    assert ports(t, "group1.rail1") == ["node2.gpu1", "spine0"]


def test_link_names_and_ends():
    t = Star(hosts=3, **RATE).build()
    assert [t.link_name(i) for i in range(4)] == [
        "host0->switch0",
        "switch0->host0",
        "host1->switch0",
        "switch0->host1",
    ]
    assert t.link_ends(5) == (3, 2)
    with pytest.raises(IndexError):
        t.link_name(6)


def test_arrays_are_as_the_core_wants_them_and_cannot_be_changed():
    t = FatTree(k=4, **RATE).build()
    for name, dtype in {
        "cable_a": np.int32,
        "cable_b": np.int32,
        "cable_rate_mbps": np.int64,
        "cable_delay_ps": np.int64,
        "node_latency_ps": np.int64,
    }.items():
        array = getattr(t, name)
        assert array.dtype == dtype and array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_describe_tells_rates_and_oversubscription():
    rows = dict(LeafSpine(leaves=2, spines=1, hosts_per_leaf=4, **RATE).build().describe())
    assert rows["hosts"] == "8"
    assert rows["host cables"] == "100 Gb/s, 1 us"
    assert rows["oversubscription, tier 1"] == "4:1"


def test_names_and_sizes_are_quick_at_65536_hosts():
    began = time.process_time()
    t = FatTree(k=64, **RATE).build()
    assert (t.n_hosts, t.n_links) == (65_536, 393_216)
    assert time.process_time() - began < 5


# ---- explicit lists


def links(cables, hosts=2, switches=1, **more):
    return Links(hosts=hosts, switches=switches, cables=cables, **more)


GOOD = [["h0", "s0", "100Gbps", "1us"], ["h1", "s0", 40_000, 500_000]]


def test_links_take_units_or_integers():
    t = links(GOOD).build()
    assert t.cable_rate_mbps.tolist() == [100_000, 40_000]
    assert t.cable_delay_ps.tolist() == [1_000_000, 500_000]
    assert t.link_name(2) == "h1->s0"


def test_links_take_names_and_common_values():
    t = Links.model_validate(
        {
            "hosts": ["a", "b"],
            "switches": ["x", "y"],
            "cables": [["a", "x"], ["x", "y", "400Gbps"], ["y", "b"]],
            "rate": "100Gbps",
            "latency": "2us",
        }
    ).build()
    assert t.cable_rate_mbps.tolist() == [100_000, 400_000, 100_000]
    assert t.switch_tier.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("cables", "more", "message"),
    [
        (
            [*GOOD, ["h1", "s0", "1Gbps", "1us"]],
            {},
            "host h1 has 2 cables: cables 1, 2; allowed: exactly one",
        ),
        (GOOD[:1], {}, "host h1 has 0 cables; allowed: exactly one"),
        ([["h0", "h1", "1Gbps", "1us"]], {}, "cable 0 (h0 - h1): joins two hosts"),
        ([*GOOD, ["s0", "s0", "1Gbps", "1us"]], {}, "cable 2 (s0 - s0): joins a node with itself"),
        ([["h0", "s0", 0, "1us"], GOOD[1]], {}, "found rate 0, allowed: a rate > 0"),
        ([["h0", "s0", "0Gbps", "1us"], GOOD[1]], {}, "found '0Gbps', a rate of zero"),
        ([["h0", "s0", "1Gbps", "0us"], GOOD[1]], {}, "found delay '0us', allowed: a delay > 0"),
        ([["h0", "s0", "1Gbps", "-1us"], GOOD[1]], {}, "negative"),
        ([["h0", "s0"], GOOD[1]], {}, "cable 0 (h0 - s0) has no rate"),
        ([["h0", "s9", "1Gbps", "1us"], GOOD[1]], {}, "unknown node 's9'"),
        ([["h0"], GOOD[1]], {}, "allowed: [node, node, rate, delay]"),
        (["h0", GOOD[1]], {}, "allowed: [node, node, rate, delay]"),
        (GOOD, {"switches": 3}, "2 nodes cannot be reached from h0: s1, s2"),
        (GOOD, {"hosts": ["h0", "h0"]}, "a list of different names"),
        (GOOD, {"switches": ["h1", "s0"]}, "names a host too"),
        (GOOD, {"hosts": 0}, ">= 1"),
        ("h0-s0", {}, "allowed: a list of cables"),
    ],
)
def test_links_faults_name_the_cable(cables, more, message):
    with pytest.raises(ValidationError) as caught:
        links(cables, **more)
    assert message in str(caught.value)


def test_links_of_two_networks():
    up = [["h0", "s1", "450GB/s", "100ns"], ["h1", "s1", "450GB/s", "100ns"]]
    t = links(GOOD, switches=2, scale_up_cables=up).build()
    assert t.cable_network.tolist() == [0, 0, 1, 1]
    with pytest.raises(ValidationError) as caught:
        links(GOOD, switches=2, scale_up_cables=[*up, ["h1", "s9", "1Gbps", "1us"]])
    (error,) = caught.value.errors()
    assert error["loc"] == ("scale_up_cables", 2) and "unknown node 's9'" in error["msg"]
    with pytest.raises(ValidationError, match="switch s0 has cables of both networks"):
        links(GOOD[:1], scale_up_cables=[["h1", "s0", "1Gbps", "1us"]])


def test_two_faulty_cables_are_told_together():
    with pytest.raises(ValidationError) as caught:
        links([["h0", "s0", "1Gbps", "0us"], ["h1", "s0", "fast", "1us"]])
    assert [e["loc"] for e in caught.value.errors()] == [("cables", 0), ("cables", 1)]


def arrays(**more):
    values = dict(
        kind="arrays",
        n_hosts=2,
        n_switches=1,
        cable_a=[0, 1],
        cable_b=[2, 2],
        cable_rate_mbps=[1, 1],
        cable_delay_ps=[1, 1],
        node_latency_ps=[0, 0, 0],
    )
    return Topology(**(values | more))


def test_arrays_make_a_topology():
    assert arrays().link_name(0) == "host0->switch0"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cable_b": [2, 3]}, "cable 1 (host1 - node 3): unknown node, allowed: 0 to 2"),
        ({"cable_rate_mbps": [1, 0]}, "cable 1 (host1 - switch0): found 0, allowed: a rate > 0"),
        ({"cable_delay_ps": [-5, 1]}, "cable 0 (host0 - switch0): found -5, allowed: a delay > 0"),
        ({"cable_delay_ps": [1]}, "topology.cable_delay_ps: found shape (1,), allowed: (2,)"),
        ({"node_latency_ps": [0, 0, -1]}, "node switch0: latency_ps is -1"),
        ({"n_hosts": 0, "n_switches": 3}, "found 0 hosts"),
    ],
)
def test_faulty_arrays(more, message):
    with pytest.raises(ConfigError) as caught:
        arrays(**more)
    assert message in str(caught.value)


# ---- fields


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("fat_tree", {"k": 7}, "found 7, allowed: an even number from 2 to 128"),
        ("fat_tree", {"k": "8"}, "found '8', allowed: a whole number"),
        ("fat_tree", {"k": True}, "allowed: a whole number"),
        ("fat_tree", {}, "missing"),
        ("fat_tree", {"k": 4, "tiers": 4}, "found 4, allowed: 2 or 3"),
        ("fat_tree", {"k": 4, "hosts_per_edge": 0}, "found 0, allowed: >= 1"),
        ("fat_tree", {"k": 128, "hosts_per_edge": 4096}, "hosts, allowed: at most 1,048,576"),
        ("leaf_spine", {"leaves": 1, "spines": 0, "hosts_per_leaf": 1}, "found 0, allowed: >= 1"),
        ("star", {"hosts": -1}, "found -1, allowed: >= 1"),
        ("star", {"hosts": 2, "rate": "0Gbps"}, "a rate of zero"),
        ("star", {"hosts": 2, "rate_mbps": "1Gbps"}, "found '1Gbps', allowed: a whole number"),
        ("star", {"hosts": 2, "latency": "0us"}, "found 0, allowed: more than 0"),
        ("star", {"hosts": 2, "latency": 5}, "a time without a unit"),
        ("star", {"hosts": 2, "latency_ps": 1, "latency": "1ps"}, "given twice"),
        ("star", {"hosts": 2, "host": 3}, "did you mean"),
    ],
)
def test_wrong_fields(kind, fields, message):
    values = {"rate": "1Gbps", "latency": "1us"} | fields
    if "rate_mbps" in fields:
        del values["rate"]
    with pytest.raises(ValidationError) as caught:
        KINDS[kind].model_validate(values)
    assert message in str(caught.value)


def test_a_rate_is_needed():
    with pytest.raises(ValidationError, match="missing, allowed: rate = "):
        Star(hosts=2, latency_ps=1)
    Star(hosts=2, latency_ps=1, host_rate_mbps=1, fabric_rate_mbps=2)


# ---- any regular topology


@st.composite
def regular(draw):
    small = st.integers(1, 4)
    kind = draw(st.sampled_from(["fat_tree", "leaf_spine", "rail_optimized", "star"]))
    if kind == "fat_tree":
        more = {"k": 2 * draw(small), "tiers": draw(st.sampled_from([2, 3])), "hosts_per_edge": draw(small)}
    elif kind == "leaf_spine":
        more = {key: draw(small) for key in ("leaves", "spines", "hosts_per_leaf", "links_per_spine")}
    elif kind == "rail_optimized":
        more = {key: draw(small) for key in ("nodes", "gpus_per_node", "nodes_per_group", "spines")}
    else:
        more = {"hosts": draw(small)}
    return KINDS[kind](**more, **RATE)


@given(regular())
def test_every_regular_topology_is_whole(spec):
    t = spec.build()
    assert t.n_hosts == spec.n_hosts
    assert t.cable_a[: t.n_hosts].tolist() == list(range(t.n_hosts))
    assert len(set(t.node_names)) == t.n_nodes
    assert len({t.link_name(i) for i in range(t.n_links)}) == t.n_links
    assert t.switch_tier.tolist() == t._distance_from_hosts().tolist()
    dump = spec.toml_table()
    assert KINDS[dump["kind"]].model_validate(dump) == spec


# ---- files

FILE = """4 2 4
2 3
0 2 100Gbps 1000ns 0
2 3 400Gbps 0.002ms 0
1 3 100Gbps 1us
3 2 400Gbps 2us 0
"""


def test_topology_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(FILE)
    t = TopologyFile(path=str(path), switch_latency_ps=5).build()
    assert (t.n_hosts, t.n_switches) == (2, 2)
    assert t.node_names == ("host0", "host1", "switch2", "switch3")
    assert t.cable_delay_ps.tolist() == [1_000_000, 2_000_000, 1_000_000, 2_000_000]
    assert t.node_latency_ps.tolist() == [0, 0, 5, 5]


def test_topology_file_with_switches_first(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("3 1 2\n0\n1 0 1Gbps 1us 0\n0 2 1Gbps 1us 0\n")
    t = TopologyFile(path=str(path)).build()
    assert t.node_names == ("host1", "host2", "switch0")
    assert [t.link_name(0), t.link_name(3)] == ["host1->switch0", "host2->switch0"]
