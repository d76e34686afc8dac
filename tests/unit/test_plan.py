"""A library's choices become variants of the core's algorithms, row by row."""

import time

import numpy as np
import pyarrow as pa
import pytest

import fabricsim
from fabricsim.collectives import nccl_facts as facts
from fabricsim.collectives.bench import bench
from fabricsim.collectives.nccl_facts import Architecture
from fabricsim.collectives.plan import make_plan
from fabricsim.collectives.system import site_of
from fabricsim.errors import ConfigError
from fabricsim.trace import lower
from fabricsim.workload.rows import Rows

NODE = {
    "kind": "nodes",
    "nodes": 2,
    "gpus_per_node": 4,
    "scale_up_rate": "450GB/s",
    "scale_up_latency": "100ns",
    "scale_up_switch_latency": "200ns",
    "host_latency": "50ns",
    "rate": "400Gbps",
    "latency": "300ns",
    "spines": 2,
    "switch_latency": "500ns",
}
CLUSTER = {
    "name": "two",
    "topology": NODE,
    "scale_up": {"switch": {"model": "ethernet", "ecn": False}, "link": {"model": "pause"}},
    "switch": {"ecn": False},
    "congestion_control": {"model": "none"},
    "accelerator": {"name": "H100", "peak": "989TFLOPS", "memory_bandwidth": "3350GB/s"},
    "collectives": {"library": "nccl"},
}


def cluster(*overrides, **changes):
    return fabricsim.Cluster.from_dict(CLUSTER | changes, overrides)


def plan_of(made, *rows):
    trace = Rows()
    for kind, ranks, more in rows:
        trace.add(kind, ranks, **more)
    table = lower(trace.trace()).combine_chunks()
    return make_plan(made, table, np.arange(8, dtype=np.int32))


def variants(plan):
    return [plan.variants[v] if v >= 0 else None for v in plan.table["variant"].to_pylist()]


def test_a_site_is_read_from_the_topology():
    site = site_of(cluster())
    assert site.domain.tolist() == [0] * 4 + [1] * 4
    assert (site.whole.architecture, site.whole.nics, site.whole.nic_gbs) == (Architecture.HOPPER, 4, 50.0)
    assert site.whole.nvlink_gbs == pytest.approx(370.8)  # 18 links of 25 GB/s, 20.6 as NCCL counts
    assert site.hop_ps == 100_000 + 200_000 + 100_000 + 50_000
    assert site.net_hop_ps == 300_000 + 500_000 + 300_000 + 50_000  # the same rail: one leaf
    assert site.link_gbs == pytest.approx(450 * 4096 / (4096 + 256))
    counted = site_of(cluster("topology.scale_up_rate=370.8GB/s", "scale_up.transport.header=0"))
    assert counted.whole.nvlink_gbs == counted.link_gbs == pytest.approx(370.8)


def test_what_nccl_is_told_goes_before_the_topology():
    told = [
        "architecture=ampere",
        "nvlink_rate=240GB/s",
        "pcie_rate=24GB/s",
        "nic_rate=200Gbps",
        "nic_count=2",
    ]
    system = site_of(cluster(*(f"collectives.nccl.{text}" for text in told))).whole
    assert (system.architecture, system.nvlink_gbs, system.pcie_gbs) == (Architecture.AMPERE, 240.0, 24.0)
    assert (system.nic_gbs, system.nics) == (25.0, 2)


def test_the_architecture_must_be_known():
    with pytest.raises(ConfigError, match=r"nccl\.architecture: missing.*'MI300X'.*hopper"):
        site_of(cluster("accelerator.name=MI300X"))
    plain = {key: value for key, value in CLUSTER.items() if key != "accelerator"}
    with pytest.raises(ConfigError, match="no accelerator"):
        site_of(fabricsim.Cluster.from_dict(plain))


def test_the_fixed_library_chooses_nothing():
    plan = plan_of(cluster("collectives.library=fixed"), ("all_reduce", range(8), {"bytes": 8}))
    assert variants(plan) == [None] and plan.choice(0) is None and not plan.variants


def test_latencies_are_nccls_less_the_hop():
    plan = plan_of(cluster("collectives.nccl.algorithm=ring"), ("all_reduce", range(4), {"bytes": 8}))
    ((name, values),) = variants(plan)
    assert (name, values["launch_ps"], values["overhead_ppm"]) == ("ring", 6_600_000, 1_000_000)
    assert values["step_ps"] == 600_000 - 450_000 and values["channel_count"] == 1
    assert plan.choice(0) | {"predicted_us": 0} == {
        "algorithm": "ring",
        "protocol": "ll",
        "channels": 1,
        "predicted_us": 0,
    }
    plan = plan_of(cluster("collectives.nccl.algorithm=ring"), ("all_reduce", range(8), {"bytes": 8}))
    ((_, values),) = variants(plan)
    # At least the time to post to the network inside; 2.7 us between nodes.
    assert values["step_ps"] == 1_000_000 - 450_000
    assert values["step_ps"] + values["net_step_ps"] == 2_700_000 - 1_150_000


def test_a_large_ring_has_channels_and_slices():
    made = cluster("collectives.nccl.algorithm=ring", "collectives.nccl.protocol=simple")
    plan = plan_of(made, *(("all_reduce", range(4), {"bytes": n}) for n in (1 << 20, 64 << 20, 4 << 30)))
    small, middle, large = (values for _, values in variants(plan))
    assert small["chunk_bytes"] == facts.SIMPLE_BUFFER_BYTES // facts.STEPS * 2 // facts.SLICE_LEAST
    assert middle["chunk_bytes"] == 512 << 10 and middle["channel_count"] == 24
    assert large["chunk_bytes"] == 1 << 20
    # A kernel attains 370.8 GB/s of what the link carries.
    assert large["up_overhead_ppm"] == pytest.approx(1e6 * (423.529 / 370.8 - 1), abs=10)


def test_kinds_have_their_algorithms():
    plan = plan_of(
        cluster(),
        ("broadcast", range(4), {"bytes": 8, "peer": [0]}),
        ("all_to_all", range(8), {"bytes": 8}),
        ("all_to_all", range(8), {"bytes": 1 << 30}),
        ("barrier", range(8), {}),
        ("compute", [0], {"duration_ps": 1}),
        ("all_reduce", range(8), {"bytes": 8}),
    )
    found = variants(plan)
    assert [v and v[0] for v in found] == [
        "chain",
        "pairwise",
        "pairwise",
        "dissemination",
        None,
        "double_tree",
    ]
    assert found[1][1]["overhead_ppm"] == 1_000_000 and found[2][1]["overhead_ppm"] == 0
    assert plan.choice(1) is None and plan.choice(4) is None


def test_an_algorithm_that_the_user_chose_stays():
    plan = plan_of(
        cluster(collectives={"library": "nccl", "all_reduce": "tree"}),
        ("all_reduce", range(8), {"bytes": 8}),
        ("all_gather", range(8), {"bytes": 8}),
    )
    assert [v and v[0] for v in variants(plan)] == [None, "ring"]


def test_ranks_come_node_by_node():
    plan = plan_of(
        cluster(),
        ("all_reduce", [5, 0, 4, 1], {"bytes": 8}),
        ("all_reduce", [3, 2, 7, 6], {"bytes": 8}),
        ("all_to_all", [5, 0, 4, 1], {"splits": [1] * 16}),
    )
    assert plan.table["ranks"].to_pylist() == [[5, 4, 0, 1], [3, 2, 7, 6], [5, 0, 4, 1]]


def test_forced_choices_that_cannot_be_are_told():
    with pytest.raises(ConfigError, match="found nvls for all_reduce of 8 ranks on 2 nodes"):
        plan_of(cluster("collectives.nccl.algorithm=nvls"), ("all_reduce", range(8), {"bytes": 8}))


def test_sharp_is_for_one_rank_a_node():
    made = cluster("topology.sharp=true", "collectives.nccl.collnet=true", "collectives.nccl.protocol=simple")
    site = site_of(made)
    assert site.whole.sharp and site.system(2, 2, True).sharp and not site.system(8, 2, True).sharp
    assert not site_of(cluster("topology.sharp=true")).whole.sharp
    forced = cluster(
        "topology.sharp=true", "collectives.nccl.collnet=true", "collectives.nccl.algorithm=collnet_chain"
    )
    plan = plan_of(forced, ("all_reduce", [0, 4], {"bytes": 1 << 20}))
    assert [name for name, _ in variants(plan)] == ["in_network"]
    (row,) = bench(fabricsim.compile(forced), "all_reduce", [1 << 20], ranks=[0, 4])
    assert 1.0 < row.time_us / row.choice["predicted_us"] < 1.6


def test_sizes_share_variants_and_a_hundred_thousand_rows_take_a_moment():
    made = cluster()
    trace = Rows()
    for index in range(1000):
        trace.add("all_reduce", range(8), bytes=4096 * (1 + index % 100), stream=0)
    one = lower(trace.trace())
    table = pa.concat_tables([one] * 100).combine_chunks()
    began = time.process_time()
    plan = make_plan(made, table, np.arange(8, dtype=np.int32))
    took = time.process_time() - began
    assert took < 1.0 and len(plan.variants) <= 40 and plan.table.num_rows == 100_000


def test_the_emulated_time_is_near_the_prediction_where_latency_rules():
    model = fabricsim.compile(cluster("collectives.nccl.algorithm=ring"))
    # A ring over two nodes has four steps between them on its longest way; the tuner counts two.
    for ranks, tolerance in ((range(4), 0.1), (range(8), 0.15)):
        (row,) = bench(model, "all_reduce", [64], ranks=ranks)
        assert row.time_us == pytest.approx(row.choice["predicted_us"], rel=tolerance)


def test_a_ring_of_a_node_attains_what_nccl_counts_of_nvlink():
    model = fabricsim.compile(cluster("collectives.nccl.algorithm=ring"))
    (row,) = bench(model, "all_reduce", [256 << 20], ranks=range(4))
    assert row.busbw_gbs == pytest.approx(370.8, rel=0.02)


def test_the_choice_belongs_to_the_digest():
    assert cluster().digest() != cluster("collectives.library=fixed").digest()
    assert cluster().digest() != cluster("collectives.nccl.algorithm=ring").digest()
    fixed = cluster("collectives.library=fixed")
    assert fixed.digest() == cluster("collectives.library=fixed", "collectives.nccl.cpu=amd").digest()
    assert ("collectives.library", "nccl") in cluster().describe()
    assert ("collectives.nccl.cpu", "amd") in cluster("collectives.nccl.cpu=amd").describe()
