"""Topologies of two networks, and nodes of GPUs: who is joined with whom, how fast, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fabricsim.cluster import Cluster
from fabricsim.errors import ConfigError
from fabricsim.topology import Nodes, Topology
from fabricsim.topology.cabling import SCALE_OUT, SCALE_UP, Cabling

# ---- arrays of two networks


def two_gpus(**more):
    """Two GPUs on a scale-up switch (node 2) and on a scale-out switch (node 3)."""
    values = dict(
        kind="arrays",
        n_hosts=2,
        n_switches=2,
        cable_a=[0, 1, 0, 1],
        cable_b=[2, 2, 3, 3],
        cable_rate_mbps=[8, 8, 1, 1],
        cable_delay_ps=[1] * 4,
        node_latency_ps=[0] * 4,
        cable_network=[1, 1, 0, 0],
    )
    return Topology(**(values | more))


def test_a_host_has_a_cable_in_each_network():
    t = two_gpus()
    assert t.networks == (0, 1)
    assert t.cable_network.dtype == np.int8 and not t.cable_network.flags.writeable
    assert t.n_rank_hosts == t.n_hosts == 2
    assert t.switch_tier.tolist() == [1, 1]
    rows = dict(t.describe())
    assert (rows["scale-up switches"], rows["switches"]) == ("1", "1")
    assert rows["scale-up host cables"] == "8 Mb/s, 1 ps" and rows["host cables"] == "1 Mb/s, 1 ps"


def test_reducers_are_no_places_for_ranks():
    reducer = dict(
        n_hosts=3,
        cable_a=[0, 1, 0, 1, 2],
        cable_b=[3, 3, 4, 4, 3],
        cable_rate_mbps=[8, 8, 1, 1, 16],
        cable_delay_ps=[1] * 5,
        node_latency_ps=[0] * 5,
        cable_network=[1, 1, 0, 0, 1],
        reducer_first=2,
    )
    t = two_gpus(**reducer)
    assert repr(t) == "Topology(arrays: 2 hosts, 1 reducers, 2 switches, 5 cables)"
    assert t.n_rank_hosts == 2
    assert dict(t.describe())["reducers"] == "1"
    assert t.oversubscription() == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cable_network": [1, 1, 1, 0]}, "switch switch1 has cables of both networks, allowed: of one"),
        (
            {"cable_network": [1, 1, 1, 1]},
            "host host0 has 2 scale-up cables: cables 0, 2; allowed: exactly one",
        ),
        (
            {"cable_network": [0, 0, 0, 0]},
            "host host0 has 2 cables: cables 0, 2; allowed: exactly one in each",
        ),
        ({"cable_network": [2, 1, 0, 0]}, "cable 0: found network 2, allowed: 0 (scale-out) or 1 (scale-up)"),
        ({"cable_network": [1, 1]}, "topology.cable_network: found shape (2,), allowed: (4,)"),
        ({"reducer_first": 3}, "topology.reducer_first: found 3, allowed: 1 to 2"),
        ({"reducer_first": 0}, "topology.reducer_first: found 0, allowed: 1 to 2"),
    ],
)
def test_faulty_networks(more, message):
    with pytest.raises(ConfigError) as caught:
        two_gpus(**more)
    assert message in str(caught.value)


def test_one_network_must_join_all():
    # Two pairs, each with its scale-up switch, and nothing between them.
    apart = dict(
        n_hosts=4,
        cable_a=[0, 1, 2, 3],
        cable_b=[4, 4, 5, 5],
        cable_rate_mbps=[1] * 4,
        node_latency_ps=[0] * 6,
    )
    with pytest.raises(ConfigError, match="2 nodes cannot be reached from host0: host2, host3"):
        two_gpus(**apart, cable_network=[1] * 4, n_switches=2)
    joined = dict(
        cable_a=[0, 1, 2, 3, 0, 1, 2, 3],
        cable_b=[4, 4, 5, 5, 6, 6, 6, 6],
        cable_rate_mbps=[1] * 8,
        cable_delay_ps=[1] * 8,
        node_latency_ps=[0] * 7,
        cable_network=[1] * 4 + [0] * 4,
        n_hosts=4,
        n_switches=3,
    )
    assert two_gpus(**joined).networks == (0, 1)


def test_a_reducer_alone_is_cut_off():
    with pytest.raises(ConfigError, match="2 nodes cannot be reached from host0: host2, switch2"):
        two_gpus(
            n_hosts=3,
            n_switches=3,
            cable_a=[0, 1, 0, 1, 2],
            cable_b=[3, 3, 4, 4, 5],
            cable_rate_mbps=[1] * 5,
            cable_delay_ps=[1] * 5,
            node_latency_ps=[0] * 6,
            cable_network=[1, 1, 0, 0, 0],
            reducer_first=2,
        )


def test_a_reducer_is_as_fast_as_the_ports_of_its_switch():
    cables = Cabling()
    cables.add([0, 1], 3, [100, 300], 5)
    assert cables.add_reducers(2, [3], 5) == 3
    t = cables.topology("x", 3, 1, 2, np.zeros(4, np.int64), ["a", "b", "r", "s"])
    assert t.cable_rate_mbps.tolist() == [100, 300, 400]


# ---- nodes

DGX = {
    "nodes": 4,
    "gpus_per_node": 8,
    "scale_up_rate_mbps": 3_600_000,
    "scale_up_latency_ps": 100_000,
    "spines": 4,
    "rate_mbps": 400_000,
    "latency_ps": 200_000,
}


def nodes(**more):
    return Nodes(**(DGX | more))


def neighbours(t: Topology, name: str) -> list[str]:
    at = list(t.node_names).index(name)
    pairs = zip(t.cable_a.tolist(), t.cable_b.tolist(), strict=True)
    return [t.node_names[b if a == at else a] for a, b in pairs if at in (a, b)]


def rate_between(t: Topology, a: str, b: str) -> list[int]:
    ends = {list(t.node_names).index(a), list(t.node_names).index(b)}
    pairs = zip(t.cable_a.tolist(), t.cable_b.tolist(), strict=True)
    return [int(t.cable_rate_mbps[i]) for i, pair in enumerate(pairs) if set(pair) == ends]


def test_rails():
    t = nodes(nodes_per_leaf=2).build()
    assert t.n_rank_hosts == t.n_hosts == 32
    assert neighbours(t, "node1.gpu3") == ["domain1.switch", "group0.leaf3"]
    spines = [f"spine{i}" for i in range(4)]
    assert neighbours(t, "group1.leaf3") == ["node2.gpu3", "node3.gpu3", *spines]
    assert neighbours(t, "spine1") == [f"group{g}.leaf{r}" for g in (0, 1) for r in range(8)]
    assert rate_between(t, "node0.gpu0", "domain0.switch") == [3_600_000]
    assert t.oversubscription() == [(1, 0.5)]


def test_racks_pods_and_an_oversubscribed_core():
    more = dict(
        fabric="racks", nodes=8, nodes_per_leaf=2, spines=4, nodes_per_pod=4, cores=2, links_per_core=1
    )
    t = nodes(**more).build()
    gpus = [f"node{n}.gpu{g}" for n in (2, 3) for g in range(8)]
    assert neighbours(t, "rack1.leaf") == [*gpus, *(f"pod0.spine{i}" for i in range(4))]
    assert neighbours(t, "pod1.spine2") == ["rack2.leaf", "rack3.leaf", "core0", "core1"]
    assert neighbours(t, "core1") == [f"pod{p}.spine{i}" for p in (0, 1) for i in range(4)]
    assert t.oversubscription() == [(1, 4.0), (2, 1.0)]
    assert nodes(**more, core_rate_mbps=100_000).build().oversubscription() == [(1, 4.0), (2, 4.0)]


def test_a_part_of_a_cluster_has_no_tier_that_it_does_not_need():
    racks = dict(fabric="racks", nodes_per_leaf=2, spines=4, nodes_per_pod=4, cores=2)
    assert nodes(**racks, nodes=2).build().n_switches == 2 + 1
    assert nodes(**racks, nodes=4).build().n_switches == 4 + 2 + 4
    assert nodes(**racks, nodes=5).build().n_switches == 5 + 3 + 8 + 2


def test_domains_of_several_nodes():
    t = nodes(nodes=18, gpus_per_node=4, nodes_per_domain=18, fabric="none", nvls=True).build()
    assert (t.n_rank_hosts, t.n_hosts, t.n_switches, t.networks) == (72, 73, 1, (1,))
    assert neighbours(t, "domain0.switch")[-1] == "domain0.nvls"
    assert rate_between(t, "domain0.nvls", "domain0.switch") == [72 * 3_600_000]
    assert nodes(nodes=5, nodes_per_domain=2).build().node_names[5 * 8 + 2] == "domain2.switch"


def test_a_mesh_has_a_cable_a_pair():
    t = nodes(
        nodes=1, scale_up="mesh", scale_up_rate_mbps=7 * 512_000, fabric="none", internal_latency_ps=7
    ).build()
    assert (t.n_hosts, t.n_switches, t.n_cables) == (8, 8, 8 + 28)
    routers = [f"node0.gpu{i}.router" for i in range(8)]
    assert neighbours(t, routers[3]) == ["node0.gpu3", *routers[:3], *routers[4:]]
    assert set(t.cable_rate_mbps[8:].tolist()) == {512_000}
    assert t.cable_rate_mbps[0] == 7 * 512_000
    assert (t.cable_delay_ps[0], t.cable_delay_ps[8]) == (7, 100_000)


def test_gpus_that_share_an_interface():
    pcie = dict(pcie_rate_mbps=252_000, pcie_latency_ps=150_000, nic_latency_ps=600_000)
    t = nodes(nics_per_node=4, rate_mbps=200_000, **pcie).build()
    assert neighbours(t, "node1.nic2") == ["node1.gpu4", "node1.gpu5", "group0.leaf2"]
    # What a GPU gives to its interface is no more than the interface sends.
    assert rate_between(t, "node1.gpu4", "node1.nic2") == [200_000]
    assert t.node_latency_ps[list(t.node_names).index("node1.nic2")] == 600_000
    assert t.oversubscription()[0] == (1, 2.0)
    assert t.switch_tier[list(t.node_names).index("spine0") - t.n_hosts] == 3


def test_gpus_of_several_interfaces():
    t = nodes(nics_per_node=32, rate_mbps=100_000, pcie_rate_mbps=504_000, pcie_latency_ps=1).build()
    assert neighbours(t, "node2.nic1") == ["node2.gpu1", *(f"group0.leaf{r}" for r in (4, 5, 6, 7))]
    assert rate_between(t, "node2.gpu1", "node2.nic1") == [400_000]
    racks = nodes(nics_per_node=16, fabric="racks", nodes=1, spines=0).build()
    assert neighbours(racks, "node0.nic0") == ["node0.gpu0", "rack0.leaf", "rack0.leaf"]


def test_an_interface_that_is_no_node_adds_its_latency_to_the_cable():
    t = nodes(nic_latency_ps=600_000).build()
    network0 = t.cable_network == SCALE_OUT
    assert set(t.cable_delay_ps[network0][:32].tolist()) == {800_000}
    assert set(t.cable_delay_ps[network0][32:].tolist()) == {200_000}
    assert set(t.cable_delay_ps[t.cable_network == SCALE_UP].tolist()) == {100_000}


def test_reducers_of_both_networks():
    t = nodes(nvls=True, sharp=True).build()
    reducers = t.node_names[t.n_rank_hosts : t.n_hosts]
    assert reducers[:4] == tuple(f"domain{d}.nvls" for d in range(4))
    assert reducers[4:6] == ("group0.leaf0.sharp", "group0.leaf1.sharp")
    assert reducers[-1] == "spine3.sharp" and len(reducers) == 4 + 8 + 4
    assert rate_between(t, "group0.leaf0.sharp", "group0.leaf0") == [(4 + 4) * 400_000]
    assert rate_between(t, "spine3.sharp", "spine3") == [8 * 400_000]
    assert neighbours(t, "spine3")[-1] == "spine3.sharp"


@pytest.mark.parametrize(
    ("more", "place", "message"),
    [
        ({"spines": 0}, "spines", "found 0, allowed: >= 1 to join the 8 leaves of a pod"),
        ({"nodes_per_pod": 2}, "cores", "found 0, allowed: >= 1 to join 2 pods"),
        ({"scale_up_rate_mbps": None}, "scale_up_rate", "missing, allowed: scale_up_rate = "),
        ({"scale_up_latency_ps": None}, "scale_up_latency", "missing, allowed: scale_up_latency = "),
        ({"rate_mbps": None}, "rate", "missing, allowed: rate = "),
        ({"latency_ps": None}, "latency", "missing, allowed: latency = "),
        (
            {"nics_per_node": 3},
            "nics_per_node",
            "found 3, allowed: a multiple or a divisor of gpus_per_node, 8",
        ),
        ({"nics_per_node": 4}, "pcie_rate", "missing, allowed: pcie_rate = "),
        ({"pcie_rate_mbps": 1}, "pcie_latency", "missing, allowed: pcie_latency = "),
        ({"fabric": "none"}, "nodes", "found 4, allowed: 1 to 1 (nodes_per_domain)"),
        ({"fabric": "none", "nodes": 1, "sharp": True}, "sharp", "found true, allowed: false"),
        ({"scale_up": "none", "nvls": True}, "nvls", "found true, allowed: false"),
        ({"scale_up": "mesh", "nvls": True}, "nvls", "found true, allowed: false"),
        ({"scale_up": "none", "fabric": "none"}, "fabric", "the GPUs need a network"),
        ({"nodes": 2000}, "nodes_per_leaf", "makes leaves of 2,004 ports, allowed: at most 1,023"),
        (
            {"nodes": 200, "nodes_per_domain": 128},
            "nodes_per_domain",
            "makes scale-up switches of 1,024 ports",
        ),
        ({"spines": 300, "links_per_spine": 4}, "nodes_per_leaf", "makes leaves of 1,204 ports"),
        ({"nodes": 1024, "nodes_per_leaf": 4}, "spines", "makes spines of 2,048 ports"),
        ({"nodes_per_pod": 1, "cores": 1, "links_per_core": 100}, "cores", "makes cores of 1,600 ports"),
        ({"nics_per_node": 8192, "pcie_rate_mbps": 1, "pcie_latency_ps": 1}, "nics_per_node", "<= 1024"),
        ({"scale_up": "ring"}, "scale_up", "found 'ring', allowed: 'switch', 'mesh' or 'none'"),
        ({"nodes": 0}, "nodes", "found 0, allowed: >= 1"),
    ],
)
def test_faulty_nodes(more, place, message):
    with pytest.raises(ValidationError) as caught:
        nodes(**more)
    found = [(e["loc"], e["msg"]) for e in caught.value.errors()]
    assert any(loc == (place,) and message in text for loc, text in found), found


def test_all_faults_of_nodes_are_told_together_with_their_places():
    text = {"kind": "nodes", "nodes": 2, "gpus_per_node": 8, "nics_per_node": 3}
    with pytest.raises(ConfigError) as caught:
        Cluster.from_dict({"name": "x", "topology": text}, where="c.toml")
    keys = ["scale_up_rate", "scale_up_latency", "nics_per_node", "rate", "latency", "spines"]
    assert [problem.where for problem in caught.value.problems] == [f"c.toml:topology.{key}" for key in keys]


@st.composite
def any_nodes(draw):
    few = st.integers(1, 4)
    gpus = draw(st.sampled_from([1, 2, 4]))
    return Nodes(
        nodes=draw(st.integers(1, 7)),
        gpus_per_node=gpus,
        scale_up=draw(st.sampled_from(["switch", "mesh", "none"])),
        nodes_per_domain=draw(few),
        scale_up_rate_mbps=1_000_000,
        scale_up_latency_ps=10,
        nics_per_node=draw(st.sampled_from([1, 2, 4, 8])),
        pcie_rate_mbps=draw(st.sampled_from([100_000, 1_000_000])),
        pcie_latency_ps=20,
        fabric=draw(st.sampled_from(["rails", "racks"])),
        nodes_per_leaf=draw(few),
        nodes_per_pod=draw(st.none() | few),
        spines=draw(few),
        links_per_spine=draw(few),
        cores=draw(few),
        links_per_core=draw(few),
        rate_mbps=100_000,
        latency_ps=30,
        sharp=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=40)
@given(any_nodes())
def test_any_nodes_are_whole(spec):
    t = spec.build()
    gpus = spec.nodes * spec.gpus_per_node
    assert t.n_rank_hosts == gpus
    assert len(set(t.node_names)) == t.n_nodes
    ends = np.concatenate([t.cable_a, t.cable_b])
    networks = np.concatenate([t.cable_network, t.cable_network])
    out = np.bincount(ends[networks == SCALE_OUT], minlength=t.n_nodes)
    up = np.bincount(ends[networks == SCALE_UP], minlength=t.n_nodes)
    assert set(out[:gpus].tolist()) == {1}
    assert set(up[:gpus].tolist()) == {int(spec.scale_up != "none")}
    # Every interface is wired up, and every leaf of a pod has all its spines.
    nics = [i for i, name in enumerate(t.node_names) if ".nic" in name]
    per_nic = max(spec.n_nics // spec.gpus_per_node, 1), max(spec.gpus_per_node // spec.n_nics, 1)
    assert {int(out[i]) for i in nics} <= {sum(per_nic)}
    leaves = [i for i, name in enumerate(t.node_names) if "leaf" in name and not name.endswith("sharp")]
    spines = [("spine" in name) and not name.endswith("sharp") for name in t.node_names]
    above = np.bincount(t.cable_a[np.array(spines)[t.cable_b]], minlength=t.n_nodes)
    assert {int(above[i]) for i in leaves} <= {0, spec.spines * spec.links_per_spine}
    assert Nodes.model_validate(spec.toml_table()) == spec
