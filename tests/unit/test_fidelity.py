"""Levels of detail: patterns, what packets measure of them, and replays that use it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fabricsim
from fabricsim.errors import ConfigError
from fabricsim.fidelity import costs as costs_module
from fabricsim.fidelity.costs import hybrid_costs
from fabricsim.fidelity.patterns import PathShapes, find_patterns
from fabricsim.fidelity.sends import measure_curve
from fabricsim.program import build_program
from fabricsim.topology.domains import alike_domains
from fabricsim.workload import collective
from fabricsim.workload.rows import Rows

DGX = ["topology.nodes=4"]


@pytest.fixture(scope="module")
def dgx():
    return fabricsim.compile(fabricsim.Cluster.from_toml("dgx-h100", DGX))


@pytest.fixture(scope="module")
def demo():
    return fabricsim.compile(fabricsim.Cluster.from_toml("demo-64-400g-roce"))


def taken(result):
    """Return picoseconds by operation: last start to last end."""
    ops = result.ops.group_by("id").aggregate([("start_ps", "max"), ("end_ps", "max")]).sort_by("id")
    return ops["end_ps_max"].to_numpy() - ops["start_ps_max"].to_numpy()


def test_groups_of_alike_domains_are_one_pattern(dgx):
    rows = Rows(generator="test")
    rows.add("all_reduce", range(32), bytes=1 << 20, stream=0, group_size=8)
    for first in range(0, 32, 8):
        rows.add("all_reduce", range(first, first + 8), bytes=1 << 20, stream=0)
    rows.add("all_reduce", range(32), bytes=1 << 20, stream=0, group_size=4)
    rows.add("reduce_scatter", [r % 4 * 8 + r // 4 for r in range(32)], bytes=1 << 20, stream=1, group_size=4)
    found = find_patterns(build_program(dgx, rows.trace(), packets=False))
    assert [len(pattern.row["ranks"]) for pattern in found] == [8, 8, 32]
    assert [pattern.n_groups for pattern in found] == [1, 2, 8]
    assert [sum(len(rows) for rows, _, _ in pattern.uses) for pattern in found] == [8, 8, 8]
    halves = np.concatenate([places for _, _, places in found[1].uses])
    assert halves.tolist() == [0, 1] * 4


def test_domains_wired_otherwise_are_not_alike(dgx):
    topology = dgx.topology
    assert alike_domains(topology).tolist() == [0, 0, 0, 0]
    rate = np.array(topology.cable_rate_mbps)
    up = np.flatnonzero(topology.cable_network == 1)
    rate[up[-1]] //= 2
    assert alike_domains(replace(topology, cable_rate_mbps=rate)).tolist() == [0, 0, 0, 1]


def test_paths_have_few_shapes(demo):
    shapes = PathShapes(demo)
    near, far = shapes.of(0, 1), shapes.of(0, 63)
    assert near != far
    assert {shapes.of(a, b) for a in range(64) for b in range(64) if a != b} == {near, far}


@pytest.mark.parametrize("size", [1, 5000, 123_457, 3 << 20, (40 << 20) + 17])
def test_curve_of_a_message(demo, size):
    rows = Rows(generator="test")
    rows.add("send", [0], peer=[63], bytes=size, stream=0)
    rows.add("recv", [63], peer=[0], bytes=size, stream=0)
    program = build_program(demo, rows.trace())
    curve = measure_curve(program, (0, 63), 0, 4096, size, 1)
    flow = fabricsim.replay(rows.trace(), demo).flows
    truth = flow["delivered_ps"][0].as_py() - flow["start_ps"][0].as_py()
    packet_ps = 100_000
    assert abs(int(curve.time_of(np.array([size]))[0]) - truth) <= max(packet_ps, truth // 500)


@pytest.mark.parametrize(
    ("kind", "size", "ranks", "group"),
    [
        ("all_reduce", 64 << 20, 32, 8),  # through the switch of each node
        ("all_gather", 256 << 20, 32, 32),  # a ring
        ("reduce_scatter", 64 << 20, 32, 4),  # rings between nodes, one a rail
        ("all_to_all", 64 << 20, 32, 32),
    ],
)
def test_collectives_alone(dgx, kind, size, ranks, group):
    rows = Rows(generator="test")
    order = [r % 4 * 8 + r // 4 for r in range(ranks)] if group == 4 else list(range(ranks))
    rows.add(kind, order, bytes=size, stream=0, group_size=group)
    packet = fabricsim.replay(rows.trace(), dgx)
    hybrid = fabricsim.replay(rows.trace(), dgx, fidelity="hybrid")
    assert hybrid.summary["end_ps"] == pytest.approx(packet.summary["end_ps"], rel=0.01)
    told = hybrid.summary["fidelity"]
    assert told["mode"] == "hybrid"
    assert told["patterns"] == 1
    assert told["packet_hops"] < packet.summary["packet_hops"] / 2
    assert told["extrapolated"] > 0.5
    assert told["error"] <= 0.005


def test_repetitions_and_overlap(dgx):
    rows = Rows(generator="test")
    rows.add("compute", range(32), duration_ps=10**9, stream=0)
    rows.add("all_reduce", range(32), bytes=8 << 20, stream=0, group_size=8, count=5)
    order = [r % 4 * 8 + r // 4 for r in range(32)]
    rows.add("reduce_scatter", order, bytes=64 << 20, stream=1, group_size=4)
    packet = fabricsim.replay(rows.trace(), dgx)
    hybrid = fabricsim.replay(rows.trace(), dgx, fidelity="hybrid")
    assert taken(hybrid) == pytest.approx(taken(packet), rel=0.01)


def test_messages_beside_groups(dgx):
    rows = Rows(generator="test")
    rows.add("all_reduce", range(32), bytes=8 << 20, stream=0, group_size=8)
    rows.add("send", [0], peer=[9], bytes=32 << 20, tag=1, stream=1)
    rows.add("recv", [9], peer=[0], bytes=32 << 20, tag=1, stream=1)
    packet = fabricsim.replay(rows.trace(), dgx)
    hybrid = fabricsim.replay(rows.trace(), dgx, fidelity="hybrid")
    assert hybrid.summary["end_ps"] == pytest.approx(packet.summary["end_ps"], rel=0.01)


def test_hybrid_is_repeatable_and_threads_do_not_matter(demo):
    trace = collective("all_gather", size_bytes=8 << 20, n_ranks=64)
    one = fabricsim.replay(trace, demo, fidelity="hybrid", seed=3)
    two = fabricsim.replay(trace, demo, fidelity="hybrid", seed=3, threads=2)
    assert one.digest == two.digest
    assert one.summary == two.summary


def test_small_operations_are_emulated_whole(demo):
    trace = collective("all_reduce", size_bytes=4096, n_ranks=8)
    packet = fabricsim.replay(trace, demo)
    hybrid = fabricsim.replay(trace, demo, fidelity="hybrid")
    assert hybrid.summary["end_ps"] == packet.summary["end_ps"]
    assert hybrid.summary["fidelity"]["extrapolated"] == 0.0


def test_costs_cover_every_activity(demo):
    rows = Rows(generator="test")
    rows.add("all_reduce", range(8), bytes=1 << 16, stream=0)
    rows.add("send", [0, 1], peer=[8, 9], bytes=1000, stream=0)
    rows.add("recv", [8, 9], peer=[0, 1], bytes=1000, stream=0)
    found = hybrid_costs(build_program(demo, rows.trace()))
    assert len(found.latency_ps) == 3
    assert (found.latency_ps + found.work_ps > 0).all()


def test_results_of_flows(demo, tmp_path):
    trace = collective("all_gather", size_bytes=8 << 20, n_ranks=64)
    packet = fabricsim.replay(trace, demo)
    flow = fabricsim.replay(trace, demo, fidelity="flow", out=tmp_path)
    assert flow.summary["fidelity"] == {"mode": "flow", "activities": 1}
    assert "packets" not in flow.summary
    assert flow.provenance["fidelity"] == "flow"
    assert "fidelity" not in packet.provenance
    assert ("fidelity", "flow") in flow.rows()
    carried = flow.links["bytes"].to_numpy().sum() / packet.links["bytes"].to_numpy().sum()
    assert carried == pytest.approx(1, abs=0.02)
    assert fabricsim.Result.load(tmp_path).digest == flow.digest


@pytest.mark.parametrize("fidelity", ["flow", "hybrid"])
def test_refusals_say_what_and_what_is_allowed(fidelity):
    from fabricsim.workload import file_io

    trace = file_io("write", n_ranks=2, size_bytes=1 << 20, transfer_bytes=1 << 20)
    cluster = fabricsim.Cluster.from_toml("demo-64-400g-lustre")
    faulty = cluster.with_faults([{"at": "1ms", "node": cluster.topology().node_names[64], "kind": "down"}])
    with pytest.raises(ConfigError) as caught:
        fabricsim.replay(trace, faulty, fidelity=fidelity)
    text = str(caught.value)
    assert "[faults]" in text
    assert "storage operations: open, write, fsync, close" in text
    assert "allowed with that: 'packet'" in text
    with pytest.raises(ConfigError, match=f"allowed with fidelity '{fidelity}': nothing"):
        fabricsim.replay(trace, cluster, fidelity=fidelity, record=("series",))


def test_unknown_fidelity():
    with pytest.raises(ConfigError, match="did you mean 'hybrid'"):
        fabricsim.replay(
            collective("barrier", size_bytes=0, n_ranks=2), "demo-64-400g-roce", fidelity="hybird"
        )


def test_units_of_chunked_algorithms(dgx):
    rows = Rows(generator="test")
    rows.add("all_to_all", range(32), bytes=64 << 20, stream=0)
    program = build_program(dgx, rows.trace())
    (pattern,) = find_patterns(program)
    name, values = costs_module._algorithm(program, pattern)
    assert name == "pairwise"
    assert costs_module._unit_bytes(name, values, pattern, 4096) == 32 * 4096
