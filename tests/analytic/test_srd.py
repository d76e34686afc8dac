"""SRD: exact times of a packet and a message, many paths for a flow, even loads, slow paths, incast, loss."""

import random

import numpy as np
import pytest
from engine_worlds import GBPS, US, World, fat_tree, finish, leaf_spine, line, star, start, wire_ps
from trace_table import recv, send, table

from fabricsim._core import engine
from fabricsim.errors import ConfigError, EngineError

MTU, HEADER, LEAST, ACK = 8192, 90, 84, 90
SRD_CC = ("cc", "srd_cc", {})


def srd(**values):
    return ("transport", "srd", values)


def flows(*triples):
    rows = []
    for tag, (src, dst, size) in enumerate(triples):
        rows += [send(src, dst, size, tag=tag), recv(dst, src, size, tag=tag)]
    return table(*rows)


def frames(size: int) -> list[int]:
    """Bytes on the wire of each packet of a message."""
    payloads = [MTU] * ((size - 1) // MTU) + [size - (size - 1) // MTU * MTU] if size else [0]
    return [max(LEAST, payload + HEADER) for payload in payloads]


def last_ms(run) -> float:
    return run.sends()["delivered_ps"].max() / 1e9


def uplink_bytes(world: World, run) -> np.ndarray:
    """Return what went up each cable between switches."""
    sent = run.links()["bytes"]
    return np.array([sent[2 * i] for i, cable in enumerate(world.cables) if cable[0] >= world.hosts])


# ---- exact times


@pytest.mark.parametrize("hops", [2, 4])
@pytest.mark.parametrize("rate", [25 * GBPS, 100 * GBPS])
@pytest.mark.parametrize("size", [0, 1, 1000, 8192])
def test_one_packet(hops, rate, size):
    (frame,) = frames(size)
    sends = finish(line([rate] * hops, [US] * hops), flows((0, 1, size)), srd()).sends()
    delivered = hops * (wire_ps(frame, rate) + US)
    assert sends["delivered_ps"].tolist() == [delivered]
    assert sends["end_ps"].tolist() == [delivered + hops * (wire_ps(ACK, rate) + US)]


@pytest.mark.parametrize("hops", [2, 4])
@pytest.mark.parametrize("size", [8193, 50_000, 1 << 20])
def test_one_message(hops, size):
    """With equal wires: the sum of the wire times, h-1 times the greatest, and the delays."""
    rate = 100 * GBPS
    wires = [wire_ps(frame, rate) for frame in frames(size)]
    run = finish(line([rate] * hops, [US] * hops), flows((0, 1, size)), srd(window_bytes=0))
    assert int(run.sends()["delivered_ps"][0]) == sum(wires) + (hops - 1) * max(wires) + hops * US


def test_the_window_is_a_limit():
    """One packet under way at a time: a round trip each."""
    rate, n = 100 * GBPS, 5
    run = finish(line([rate] * 2, [US] * 2), flows((0, 1, n * MTU)), srd(window_bytes=1))
    there, back = 2 * (wire_ps(MTU + HEADER, rate) + US), 2 * (wire_ps(ACK, rate) + US)
    assert int(run.sends()["delivered_ps"][0]) == n * there + (n - 1) * back


def test_putting_in_order_costs_time():
    """Two ways, the first longer: packets of the second come early, and each adds its part to the message."""
    world = World(2, 4)
    world.cable(0, 2)
    for middle, delay in ((3, 20 * US), (4, US)):
        world.cable(2, middle, delay_ps=delay)
        world.cable(middle, 5)
    world.cable(5, 1)
    free = finish(world, flows((0, 1, 20 * MTU)), srd())
    paid = finish(world, flows((0, 1, 20 * MTU)), srd(reorder_ps=1000))
    late = int(paid.sends()["delivered_ps"][0] - free.sends()["delivered_ps"][0])
    assert late % 1000 == 0 and 1000 <= late <= 19_000


# ---- many paths


def test_a_flow_is_not_bound_to_one_path():
    """Four 25 Gb/s cables between the switches of two 100 Gb/s hosts: one for RoCE, all for SRD."""
    world = World(2, 2)
    world.cable(0, 2)
    world.cable(1, 3)
    for _ in range(4):
        world.cable(2, 3, 25 * GBPS)
    size = 10_000_000
    roce, spread = (finish(world, flows((0, 1, size)), *chosen) for chosen in ([], [srd(), SRD_CC]))
    assert size * 8 / last_ms(roce) / 1e6 < 25
    assert size * 8 / last_ms(spread) / 1e6 > 70
    assert uplink_bytes(world, spread).min() > 0.15 * size


def test_links_are_loaded_evenly():
    """A permutation on a fat-tree: most bytes on a link, against the mean."""
    world = fat_tree(8)
    order = list(range(world.hosts))
    random.Random(3).shuffle(order)
    work = flows(*[(a, b, 2_000_000) for a, b in zip(order, order[1:] + order[:1], strict=True)])
    even, hashed = finish(world, work, srd(), SRD_CC), finish(world, work, ("link", "pause", {}))
    most = [loads.max() / loads.mean() for loads in (uplink_bytes(world, run) for run in (even, hashed))]
    assert most[0] < 1.5 and most[1] > 3
    assert even.sends()["delivered_ps"].max() < 0.5 * hashed.sends()["delivered_ps"].max()


def test_a_slow_path_is_left():
    """One of four spines at a tenth of its rate carries little, and the others all the more."""
    world, slow = leaf_spine(4, 4, 4), 16 + 4
    world.cables = [(a, b, 10 * GBPS if b == slow else rate, d) for a, b, rate, d in world.cables]
    run = finish(world, flows(*[(h, (h + 4) % 16, 50_000_000) for h in range(16)]), srd())
    loads = uplink_bytes(world, run).reshape(4, 4)
    assert loads[:, 0].max() < 0.15 * loads[:, 1:].min()
    bound = 4 * 50_000_000 * 8 / 310  # a leaf's hosts over its spines, in ns
    assert last_ms(run) < 1.7 * bound / 1e6


DOWN, ERRORS = 0, 3  # changes of a fabric: (when, link, what, value)


def test_a_dead_path_is_left():
    """A cable to one of four spines is cut and nobody tells: RoCE gives up, SRD goes around it."""
    world = leaf_spine(2, 4, 4)
    cut = next(i for i, cable in enumerate(world.cables) if cable[0] == 8)  # first leaf, first spine
    work = flows(*[(h, 4 + h, 20_000_000) for h in range(4)])
    before, after = (finish(world, work, srd(), changes=[(100 * US, 2 * cut, DOWN, 0)] * n) for n in (0, 1))
    counters = after.counters()
    assert counters["lost"] > 0 and counters["retransmits"] >= counters["lost"] / 2
    assert last_ms(after) < 4 / 3 * last_ms(before) + 1
    assert uplink_bytes(world, after)[0] < 0.2 * uplink_bytes(world, after)[1]
    with pytest.raises(EngineError, match="gave up"):
        finish(world, work, ("link", "pause", {}), changes=[(100 * US, 2 * cut, DOWN, 0)])


def test_a_path_with_bit_errors_is_used_less():
    """One in about fifteen frames is lost on one of four spines."""
    world = leaf_spine(2, 4, 4)
    bad = next(i for i, cable in enumerate(world.cables) if cable[0] == 8)
    work = flows(*[(h, 4 + h, 20_000_000) for h in range(4)])
    run = finish(world, work, srd(), changes=[(0, 2 * bad, ERRORS, 10**12)])
    counters, loads = run.counters(), uplink_bytes(world, run)[:4]
    assert counters["lost"] > 0 and counters["timeouts"] < 10
    assert loads[0] < 0.75 * loads[1:].min()
    assert last_ms(run) < 3


def test_one_path_is_one_path():
    world = leaf_spine(2, 4, 2)
    run = finish(world, flows((0, 2, 1_000_000)), srd(path_count=1))
    assert (uplink_bytes(world, run) > 1_000_000).sum() == 1  # acknowledgements take another


# ---- many to one, and loss


@pytest.mark.parametrize("controller", ["none", "srd_cc"])
def test_incast_ends_close_to_the_ideal(controller):
    """48 flows of 2 MB to one host: 7.68 ms of payload at 100 Gb/s."""
    world = leaf_spine(7, 8, 8)
    run = finish(world, flows(*[(8 + h, 0, 2_000_000) for h in range(48)]), srd(), ("cc", controller, {}))
    assert 7.68 < last_ms(run) < 1.15 * 7.68
    assert run.counters()["drops"] == 0


@pytest.mark.parametrize("buffer", [1_000_000, 4_000_000])
def test_what_is_dropped_is_sent_again_and_nothing_else(buffer):
    world, switch = star(17), ("switch", "ethernet", {"buffer_bytes": buffer})
    run = finish(world, flows(*[(1 + h, 0, 2_000_000) for h in range(16)]), srd(window_bytes=1 << 20), switch)
    counters = run.counters()
    assert counters["drops"] > 100
    assert counters["drops"] <= counters["retransmits"] <= 1.02 * counters["drops"]
    assert counters["retransmits"] - counters["duplicates"] <= counters["drops"]
    assert last_ms(run) < 1.5 * 16 * 2_000_000 * 8 / 1e8


def test_loss_is_found_without_a_time_out():
    """On four paths the packets behind a lost one tell of it; the time-out is far away."""
    switch = ("switch", "ethernet", {"buffer_bytes": 200_000})
    patient = srd(path_count=4, first_rto_ps=100_000 * US, min_rto_ps=100_000 * US, window_bytes=600_000)
    world = line([100 * GBPS, 25 * GBPS], [US, US])
    run = start(world, flows((0, 1, 8_000_000)), switch, patient)
    run.step(2000 * US)
    counters = run.counters()
    assert counters["timeouts"] == counters["duplicates"] == 0
    assert counters["retransmits"] > 0.9 * counters["drops"] > 10  # all but the last ones of their paths
    run.step()
    assert run.counters()["retransmits"] == run.counters()["drops"]


def test_a_connection_gives_up():
    """Pauses that never end are not made here: a window of time-outs shorter than the way does it."""
    hasty = srd(first_rto_ps=US, min_rto_ps=US, max_rto_ps=US, retry_limit_count=3)
    run = start(line([100 * GBPS] * 2, [50 * US] * 2), flows((0, 1, 1000)), hasty)
    with pytest.raises(EngineError, match="from rank 0 to rank 1 gave up"):
        run.step()


def test_it_knows_no_credits():
    with pytest.raises(ConfigError, match=r"transport\.srd cannot send over credits"):
        star(2).model(srd(), ("switch", "voq", {}), ("link", "credit", {}))


# ---- beside another network


def test_two_networks_and_threads_give_one_digest():
    """SRD between nodes, a switch of its own in each: whatever the threads, the same."""
    world = leaf_spine(2, 2, 4)
    arrays = world.arrays()
    cables = len(world.cables)
    for node in range(2):
        arrays["cable_a"] = np.append(arrays["cable_a"], np.arange(4 * node, 4 * node + 4)).astype(np.int32)
        arrays["cable_b"] = np.append(arrays["cable_b"], np.full(4, 12 + node)).astype(np.int32)
    more = len(arrays["cable_a"]) - cables
    arrays["cable_rate_mbps"] = np.append(arrays["cable_rate_mbps"], np.full(more, 900 * GBPS))
    arrays["cable_delay_ps"] = np.append(arrays["cable_delay_ps"], np.full(more, 500_000))
    arrays["n_switches"] += 2
    arrays["node_latency_ps"] = np.zeros(8 + arrays["n_switches"], np.int64)
    network = np.repeat(np.array([0, 1], np.int8), [cables, more])
    settings = [("transport", "srd", {}, 0), ("cc", "srd_cc", {}, 0), ("transport", "scale_up", {}, 1)]
    model = engine.Model(**arrays, cable_network=network, settings=settings)
    work = flows(*[(h, (h + s) % 8, 300_000) for h in range(8) for s in range(1, 8)])
    runs = [start(model, work, **options) for options in ({}, {"threads": 2}, {"plain": True, "threads": 3})]
    for run in runs:
        run.step()
    assert len({run.digest for run in runs}) == 1
    assert runs[0].counters()["messages"] == 56
