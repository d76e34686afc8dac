"""The presets of real systems: their published sizes, and the demo's trace on the four platforms."""

from __future__ import annotations

import pytest

import fabricsim
from fabricsim.cluster import Cluster
from fabricsim.cluster_file import layers_of_file, with_overrides
from fabricsim.errors import ConfigError
from fabricsim.platforms import preset_names
from fabricsim.topology import KINDS, Topology
from fabricsim.workload.demo import demo_trace

#: How the smallest part of each platform that has the demo's 64 places is made.
PARTS = {
    "aws-p4d": ["topology.nodes=8"],
    "aws-p5": ["topology.nodes=8"],
    "aws-p5en": ["topology.nodes=8"],
    "aws-trn2-ultracluster": ["topology.nodes=4"],
    "azure-nd-h100-v5": ["topology.nodes=8"],
    "dgx-b200": ["topology.nodes=8"],
    "dgx-b300": ["topology.nodes=8"],
    "dgx-h100": ["topology.nodes=8"],
    "dgx-h200": ["topology.nodes=8"],
    "dgx-superpod-a100-hdr": ["topology.nodes=8"],
    "gb200-nvl72": [],
    "hgx-a100-4hdr": ["topology.nodes=8"],
    "meta-24k-roce": ["topology.nodes=8"],
    "meta-24k-roce-128": [],
    "mi300x-8": ["topology.nodes=8"],
    "oci-b300-roce": ["topology.nodes=8"],
    "tpu-v4-pod": ["topology.x=4", "topology.y=4", "topology.z=4"],
    "tpu-v5p-pod": ["topology.x=4", "topology.y=4", "topology.z=4"],
    "tpu-v6e-pod": ["topology.x=8", "topology.y=8"],
}
#: The presets of file systems: servers, targets of each.
STORES = {
    "demo-64-400g-lustre": (4, 4),
    "edison-lustre": (24, 1),
    "fsx-lustre-125": (4, 1),
    "fsx-lustre-250": (4, 1),
    "fsx-lustre-500": (4, 1),
    "fsx-lustre-1000": (4, 1),
    "google-managed-lustre-1000": (4, 1),
    "weka-8": (8, 6),
}
PLATFORMS = ["azure-nd-h100-v5", "meta-24k-roce", "tpu-v4-pod", "aws-p5"]


def topology(name: str, *overrides: str) -> Topology:
    """The topology of a preset, whether the core has its models or not."""
    table = with_overrides(layers_of_file(name), overrides).merged()["topology"]
    return KINDS[table["kind"]].model_validate(table).build()


@pytest.mark.parametrize(
    ("name", "hosts", "switches"),
    [
        ("azure-nd-h100-v5", 2048, 256 + 64 + 32),
        ("meta-24k-roce", 24_576, 3072 + 1536 + 8 * 16 + 27),
        ("tpu-v4-pod", 4096, 4096),
        ("tpu-v5p-pod", 8960, 8960),
        ("tpu-v6e-pod", 256, 256),
        ("aws-p5", 512, 64 + 512 + 64 + 32),
        ("aws-p4d", 512, 64 + 256 + 8 + 32),
        ("dgx-superpod-a100-hdr", 640, 80 + 32 + 20),
        ("gb200-nvl72", 72, 1 + 4 + 9),
        ("mi300x-8", 8, 8 + 1),
        ("hgx-a100-4hdr", 24, 3 + 12 + 1),
    ],
)
def test_published_sizes(name, hosts, switches):
    t = topology(name)
    assert (t.n_rank_hosts, t.n_switches) == (hosts, switches)


def test_pods_of_meta_are_joined_one_to_seven():
    t = topology("meta-24k-roce")
    assert t.oversubscription() == [(1, 1.0), (2, pytest.approx(7, rel=0.02))]
    assert topology("meta-24k-roce-128").oversubscription() == [(1, 1.0)]


@pytest.mark.parametrize(
    "name", ["azure-nd-h100-v5", "aws-p5", "aws-p5en", "dgx-superpod-a100-hdr", "dgx-h100"]
)
def test_full_bisection(name):
    assert all(ratio == 1 for _, ratio in topology(name).oversubscription())


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_part_of_a_platform(name):
    assert topology(name, *PARTS[name]).n_rank_hosts in (64, 72, 128)


@pytest.mark.parametrize(
    ("name", "per_gpu_gbps"),
    [("aws-p5", 400), ("aws-p5en", 400), ("aws-p4d", 100), ("aws-trn2-ultracluster", 200), ("dgx-h100", 400)],
)
def test_a_gpu_sends_no_more_than_its_interfaces(name, per_gpu_gbps):
    t = topology(name, *PARTS[name])
    out = t.cable_network == 0
    mine = out & (t.cable_a < t.n_rank_hosts)
    assert set((t.cable_rate_mbps[mine] // 1000).tolist()) == {per_gpu_gbps}


def test_every_platform_has_its_part():
    regular = {"demo-64-400g-roce", "leaf-spine-64-400g-roce", "rail-optimized-64-400g-roce", "v100-8"}
    others = {name for name in preset_names() if not name.startswith("fat-tree")}
    assert others == set(PARTS) | regular | set(STORES)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_compiles(name):
    small = PARTS.get(name, ["topology.k=4"] if name.startswith("fat-tree") else [])
    cluster = Cluster.load(name, small)
    assert fabricsim.compile(cluster).engine.n_links == cluster.topology().n_links
    assert all(" " in source for source in cluster.sources)


@pytest.mark.parametrize("name", sorted(STORES))
def test_presets_of_file_systems(name):
    cluster = Cluster.load(name)
    (storage,) = cluster.storage
    assert (storage.servers, storage.targets_per_server) == STORES[name]
    if name.startswith(
        "fsx"
    ):  # 9.6 TiB in all; AWS counts MB, and the network of a tier is faster than its disks
        tier = int(name.rpartition("-")[2])
        network = {125: 320, 250: 640, 500: 1300, 1000: 2600}[tier]
        per_tib = {"write": storage.target.params["write_mbps"], "network": storage.params["server_mbps"]}
        found = {what: mbps / 8 * storage.servers / 9.6 for what, mbps in per_tib.items()}
        assert found == pytest.approx({"write": tier, "network": network}, rel=1e-3)


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_platforms_replay_the_demo(name):
    result = fabricsim.replay(demo_trace(), Cluster.load(name, PARTS[name]))
    assert result.summary["status"] == "complete"
    assert result.summary["operations_done"] == result.summary["operations_total"]
    # Links without loss lose nothing.
    assert result.summary["drops"] == 0 or name == "aws-p5"


def test_a_torus_without_lanes_is_refused():
    part = PARTS["tpu-v4-pod"]
    with pytest.raises(ConfigError, match=r"4 data classes .*without credit loops"):
        fabricsim.compile(Cluster.load("tpu-v4-pod", [*part, "switch.vl_count=1"]))
