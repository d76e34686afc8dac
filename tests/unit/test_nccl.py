"""NCCL's tuner: channels, times and choices that its published source and logs tell."""

import time

import numpy as np
import pytest

from fabricsim.collectives import nccl_facts as facts
from fabricsim.collectives.nccl import (
    KINDS,
    Forced,
    Graph,
    System,
    channels_of,
    choose,
    graphs,
    model,
    predict,
)
from fabricsim.collectives.nccl_facts import ALGORITHMS, PROTOCOLS, Algorithm, Architecture, Protocol
from fabricsim.errors import ConfigError

MIB = 1 << 20
HOPPER = System(architecture=Architecture.HOPPER, n_ranks=8, nvlink_gbs=370.8, nvls=True)
AMPERE = System(architecture=Architecture.AMPERE, n_ranks=8, nvlink_gbs=240.0)
BLACKWELL = System(architecture=Architecture.BLACKWELL, n_ranks=8, nvlink_gbs=721.8, nvls=True)
HDR = System(
    architecture=Architecture.AMPERE,
    n_ranks=24,
    n_nodes=3,
    nvlink_gbs=240.0,
    nics=4,
    nic_gbs=25.0,
    pcie_gbs=24.0,
)
NDR = System(
    architecture=Architecture.HOPPER,
    n_ranks=16,
    n_nodes=2,
    nvlink_gbs=370.8,
    nics=8,
    nic_gbs=50.0,
    pcie_gbs=48.0,
    nvls=True,
)


def names(system, kind, sizes, **forced):
    found = choose(system, kind, sizes, Forced(**forced))
    return [
        (str(ALGORITHMS[a]), str(PROTOCOLS[p])) for a, p in zip(found.algorithm, found.protocol, strict=True)
    ]


@pytest.mark.parametrize(
    "system, ring, channels",
    [
        (AMPERE, Graph(12, 20.0, 20.0), 24),  # logs of a DGX A100: 24 channels
        (HOPPER, Graph(12, 30.0, 30.0), 24),  # logs of a DGX H100: 24 coll channels, 16 nvls channels
        (BLACKWELL, Graph(16, 45.0, 45.0), 32),
        (HDR, Graph(4, 24.0, 24.0), 8),
        (NDR, Graph(8, 45.0, 45.0), 16),
    ],
)
def test_channels_fill_the_slower_of_nvlink_and_interfaces(system, ring, channels):
    assert graphs(system)[0] == ring
    assert channels_of(system) == channels
    assert ring.channels * ring.between_gbs <= (
        system.nvlink_gbs if system.n_nodes == 1 else system.nics * system.nic_gbs
    )


def test_ring_latency_is_the_sum_of_its_steps():
    table = model(HDR, "all_reduce").latency_us
    ring, ll = ALGORITHMS.index(Algorithm.RING), PROTOCOLS.index(Protocol.LL)
    # 46 steps, 4 of them between nodes; the others at least the time to post to the network (1 us).
    assert table[ring, ll] == pytest.approx(6.6 + 42 * 1.0 + 4 * 2.7)
    one_node = model(AMPERE, "all_reduce").latency_us
    assert one_node[ring, ll] == pytest.approx(6.6 + 14 * 0.6)
    tree, simple = ALGORITHMS.index(Algorithm.TREE), PROTOCOLS.index(Protocol.SIMPLE)
    assert table[tree, simple] == pytest.approx(8.4 + 2 * (7 * 4.0 + 1 * 14.0))


def test_the_switch_points_of_eight_h200_are_those_measured():
    """Ring with LL up to 1 MiB, NVLS from 2 MiB on (stas00/ml-engineering, network/README.md)."""
    sizes = [1 << k for k in range(15, 35)]
    found = names(HOPPER, "all_reduce", sizes)
    assert found == [("ring", "ll") if size <= MIB else ("nvls", "simple") for size in sizes]


def test_three_nodes_take_the_ring_for_large_messages():
    assert names(HDR, "all_reduce", [8, 128 * MIB]) == [("tree", "ll"), ("ring", "simple")]
    assert names(NDR, "all_reduce", [1 << 30]) == [("nvls_tree", "simple")]


def test_kinds_have_only_their_algorithms():
    for kind, able in KINDS.items():
        gbs = model(NDR, kind).gbs
        assert {ALGORITHMS[a] for a in np.flatnonzero(gbs.any(axis=1))} <= set(able)


def test_tree_is_corrected_by_size():
    size = 64 << 12  # a factor of 0.4 with LL
    tree, ll = ALGORITHMS.index(Algorithm.TREE), PROTOCOLS.index(Protocol.LL)
    found = model(HDR, "all_reduce")
    expected = found.latency_us[tree, ll] + size / (1000 * found.gbs[tree, ll] * 0.4)
    assert predict(HDR, "all_reduce", [size])[0, tree, ll] == pytest.approx(expected)
    assert all(len(row) == 24 for row in facts.TREE_CORRECTION)


def test_ring_has_a_plateau_over_nodes():
    ring, simple = ALGORITHMS.index(Algorithm.RING), PROTOCOLS.index(Protocol.SIMPLE)
    found = model(HDR, "all_reduce")
    times = predict(HDR, "all_reduce", [64 * 8 * 24 - 1, 64 * 8 * 24])[:, ring, simple]
    assert times[1] - times[0] == pytest.approx(0.4 * found.latency_us[ring, simple], rel=1e-3)


def test_small_messages_use_fewer_channels():
    found = choose(HOPPER, "all_reduce", [8, 256 << 10, MIB, 64 * MIB])
    assert found.channels.tolist() == [1, 8, 24, 16]
    assert choose(HOPPER, "all_reduce", [64 * MIB], Forced(algorithm=Algorithm.RING)).channels.tolist() == [
        24
    ]
    few = choose(HOPPER, "all_reduce", [64 * MIB], Forced(algorithm=Algorithm.RING, most_channels=4))
    assert few.channels.tolist() == [4]
    many = choose(HOPPER, "all_reduce", [8], Forced(least_channels=6))
    assert many.channels.tolist() == [6]


def test_what_is_forced_is_taken_where_it_exists():
    assert names(HOPPER, "all_reduce", [1 << 30], algorithm=Algorithm.RING) == [("ring", "simple")]
    assert names(HOPPER, "all_reduce", [8], algorithm=Algorithm.RING, protocol=Protocol.SIMPLE) == [
        ("ring", "simple")
    ]
    assert names(HOPPER, "all_reduce", [8], protocol=Protocol.LL128)[0][1] in ("ll128", "simple")
    # A tree does no broadcast, so the broadcast chooses freely.
    assert names(HOPPER, "broadcast", [8], algorithm=Algorithm.TREE) == [("ring", "ll")]


def test_what_is_impossible_is_refused_with_what_is_possible():
    with pytest.raises(
        ConfigError, match=r"found nvls for all_reduce of 8 ranks on 1 node, allowed there: tree"
    ):
        choose(AMPERE, "all_reduce", [8], Forced(algorithm=Algorithm.NVLS))
    with pytest.raises(ConfigError, match="nvls_tree"):
        choose(HOPPER, "all_reduce", [8], Forced(algorithm=Algorithm.NVLS_TREE))


def test_pat_needs_one_rank_a_node():
    system = System(architecture=Architecture.HOPPER, n_ranks=16, n_nodes=16, nic_gbs=50.0, pcie_gbs=48.0)
    pat = ALGORITHMS.index(Algorithm.PAT)
    assert model(system, "all_gather").gbs[pat].any()
    assert not model(NDR, "all_gather").gbs[pat].any()
    assert not model(system, "all_reduce").gbs[pat].any()


def test_sharp_makes_collnet_possible():
    assert not model(NDR, "all_reduce").gbs[ALGORITHMS.index(Algorithm.COLLNET_CHAIN)].any()
    with_sharp = System(**{**{f: getattr(NDR, f) for f in NDR.__dataclass_fields__}, "sharp": True})
    for algorithm in (Algorithm.COLLNET_DIRECT, Algorithm.COLLNET_CHAIN, Algorithm.NVLS):
        assert model(with_sharp, "all_reduce").gbs[ALGORITHMS.index(algorithm)].any()


def test_nvls_is_there_in_a_large_domain():
    rack = System(architecture=Architecture.BLACKWELL, n_ranks=72, nvlink_gbs=721.8, nvls=True)
    nvls = graphs(rack)[2]
    assert nvls.channels > 1 and nvls.channels * nvls.inside_gbs <= 721.8 * 72 / 71
    assert names(rack, "all_reduce", [1 << 30]) == [("nvls", "simple")]
    assert names(rack, "all_gather", [1 << 30]) == [("ring", "simple")]


def test_one_rank_needs_no_algorithm():
    system = System(architecture=Architecture.HOPPER, n_ranks=1)
    assert choose(system, "all_reduce", [0, MIB]).time_us.tolist() == [0.0, 0.0]
    assert len(choose(system, "all_reduce", []).time_us) == 0


def test_a_hundred_thousand_sizes_take_a_moment():
    began = time.process_time()
    choose(HDR, "all_reduce", np.arange(100_000) * 4096)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_more_bytes_never_take_less_time_within_a_choice(kind):
    sizes = [1 << k for k in range(30)]
    ring = ALGORITHMS.index(Algorithm.RING)
    times = predict(HDR, kind, sizes)[:, ring]
    assert (np.diff(times, axis=0) >= 0).all()
