"""Flows that share links: incast and oversubscription to their bounds, pause frames, mixed rates, paths."""

import numpy as np
import pytest
from engine_worlds import GBPS, US, World, fat_tree, finish, leaf_spine, star, start, wire_ps
from trace_table import recv, send, table

PAUSE = ("link", "pause", {})
FRAME = 4096 + 82


def flows(*triples):
    rows = []
    for tag, (src, dst, size) in enumerate(triples):
        rows += [send(src, dst, size, tag=tag), recv(dst, src, size, tag=tag)]
    return table(*rows)


def wire_bytes(size: int) -> int:
    return size + -(-size // 4096) * 82 + 16


def chi_square(counts) -> float:
    counts = np.asarray(counts, float)
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


# ---- incast


@pytest.mark.parametrize("senders", [2, 8, 32])
def test_incast_takes_the_time_of_the_last_wire(senders):
    """N x wire bytes / rate + the way there, within 0.2 %, without a drop."""
    size = 1 << 20
    world = star(senders + 1)
    settings = ("link", "pause", {"xoff_bytes": 60_000})
    run = finish(world, flows(*[(src, 0, size) for src in range(1, senders + 1)]), settings)
    bound = wire_ps(senders * wire_bytes(size), 100 * GBPS) + wire_ps(FRAME + 16, 100 * GBPS) + 2 * US
    last = int(run.sends()["delivered_ps"].max())
    assert bound <= last <= 1.002 * bound
    counters, links = run.counters(), run.links()
    assert counters["drops"] == counters["retransmits"] == counters["timeouts"] == 0
    assert links["bytes"][1] == senders * wire_bytes(size)
    assert counters["pfc_pauses"] == counters["pfc_resumes"] > 0


def test_incast_is_shared_evenly():
    run = finish(star(9), flows(*[(src, 0, 1 << 20) for src in range(1, 9)]), PAUSE)
    delivered = run.sends()["delivered_ps"]
    assert delivered.min() > 0.9 * delivered.max()


def test_lossy_incast_drops_and_still_delivers_all():
    lossy = ("switch", "ethernet", {"buffer_bytes": 200_000})
    quick = ("transport", "roce", {"rto_ps": 200 * US, "nak_interval_ps": 10 * US})
    run = finish(star(9), flows(*[(src, 0, 200_000) for src in range(1, 9)]), lossy, quick)
    counters = run.counters()
    assert counters["drops"] > 0 and counters["retransmits"] > 0 and counters["pfc_pauses"] == 0
    bound = wire_ps(8 * wire_bytes(200_000), 100 * GBPS)
    assert run.sends()["delivered_ps"].max() >= bound
    # every frame that was sent was dropped at the switch or went down the last wire
    links = run.links()
    sent = sum(links["packets"][2 * host] for host in range(1, 9))
    assert sent == links["packets"][1] + links["drops"][1]


# ---- pause frames


def test_pauses_propagate_upstream_and_nothing_is_lost():
    """An incast behind a spine pauses the spine's link, then the leaves' uplinks, then the hosts."""
    world = leaf_spine(3, 1, 4)
    size = 4 << 20
    senders = [1, *range(4, 12)]
    run = finish(
        world, flows(*[(src, 0, size) for src in senders]), ("link", "pause", {"xoff_bytes": 60_000})
    )
    links, counters = run.links(), run.counters()
    assert counters["drops"] == 0 and counters["retransmits"] == 0
    spine_to_leaf0 = 2 * 12 + 1  # the cable of leaf 0 and the spine, from the spine
    leaf1_to_spine, leaf2_to_spine = 2 * 13, 2 * 14
    for link in (spine_to_leaf0, leaf1_to_spine, leaf2_to_spine, *(2 * src for src in senders)):
        assert links["pauses"][link] > 0, link
        assert links["paused_ps"][link] > 0, link
    bound = wire_ps(len(senders) * wire_bytes(size), 100 * GBPS)
    assert bound < run.sends()["delivered_ps"].max() < 1.005 * bound
    assert links["bytes"][1] == len(senders) * wire_bytes(size)


def test_a_victim_of_pauses_gets_through():
    """A flow that shares only the paused uplink is held up, but ends; alone it takes its wire time."""
    world = leaf_spine(2, 1, 4)
    size = 1 << 20
    incast = [(src, 0, size) for src in (4, 5, 6)]
    settings = ("link", "pause", {"xoff_bytes": 30_000})
    alone = int(finish(world, flows((7, 1, size)), settings).sends()["delivered_ps"][0])
    together = finish(world, flows((7, 1, size), *incast), settings)
    assert together.counters()["drops"] == 0
    held_up = int(together.sends()["delivered_ps"][0])
    assert 2 * alone < held_up < 5 * alone


@pytest.mark.parametrize("xoff", [5_000, 20_000, 100_000, 0])
@pytest.mark.parametrize("cut_through", [0, 1])
@pytest.mark.parametrize("delay", [100_000, 2 * US])
def test_headroom_is_enough(xoff, cut_through, delay):
    """Whatever the threshold and the length of the cable, lossless is lossless."""
    settings = [
        ("link", "pause", {"xoff_bytes": xoff, "xon_gap_bytes": 4000}),
        ("switch", "ethernet", {"cut_through": cut_through, "buffer_bytes": 2_000_000}),
    ]
    run = finish(star(9, delay_ps=delay), flows(*[(src, 0, 300_000) for src in range(1, 9)]), *settings)
    counters = run.counters()
    assert counters["drops"] == counters["retransmits"] == 0
    assert counters["pfc_pauses"] == counters["pfc_resumes"]


# ---- rates and oversubscription


def test_mixed_rates_bound_each_flow():
    """Each flow by its own wire, all by the receiver's."""
    rates = [10, 25, 40, 100]
    world = World(5, 1)
    world.cable(0, 5, 100 * GBPS)
    for host, rate in enumerate(rates, 1):
        world.cable(host, 5, rate * GBPS)
    size = 2 << 20
    delivered = finish(world, flows(*[(host, 0, size) for host in range(1, 5)]), PAUSE).sends()[
        "delivered_ps"
    ]
    for rate, at in zip(rates, delivered, strict=True):
        assert at >= wire_ps(wire_bytes(size), rate * GBPS)
    assert delivered.max() >= wire_ps(4 * wire_bytes(size), 100 * GBPS)
    # the slowest has its wire for itself once the others are done; it loses little to them before
    assert delivered[0] < 1.1 * wire_ps(wire_bytes(size), 10 * GBPS)


@pytest.mark.parametrize("spines", [1, 2, 4, 8])
def test_oversubscription_bounds_what_crosses(spines):
    """8 hosts a leaf and so many uplinks: sprayed, all of them carry their share, to 12 % of the bound."""
    size = 1 << 20
    run = finish(
        leaf_spine(2, spines, 8), flows(*[(h, 8 + h, size) for h in range(8)]), PAUSE, ("route", "spray", {})
    )
    bound = wire_ps(8 * wire_bytes(size), spines * 100 * GBPS)
    last = int(run.sends()["delivered_ps"].max())
    assert bound < last < 1.12 * bound + 10 * US
    assert run.counters()["drops"] == 0


# ---- paths


def test_ecmp_spreads_flows_over_every_core():
    """One-packet flows from a pod to another: the counts on the core's links pass a chi-square test."""
    k = 8
    world = fat_tree(k)
    pairs = [(src, dst) for src in range(16) for dst in range(16, 32)]
    run = finish(world, flows(*[(src, dst, 64) for src, dst in pairs for _ in range(16)]))
    packets = run.links()["packets"]
    first_core_cable = 128 + k * 16
    up = packets[2 * first_core_cable : 2 * (first_core_cable + 16) : 2]  # pod 0's aggregation to the core
    assert up.sum() == len(pairs) * 16
    assert (up > 0).all()
    assert chi_square(up) < 15 + 5 * np.sqrt(2 * 15)
    edge_up = packets[2 * 128 : 2 * (128 + 16) : 2]  # pod 0's edge switches to aggregation: 4 each
    for edge in range(4):
        assert chi_square(edge_up[4 * edge : 4 * edge + 4]) < 3 + 5 * np.sqrt(6)


def test_a_flow_keeps_its_path_and_spraying_does_not():
    world = leaf_spine(2, 8, 1)
    size = 4096 * 4096
    uplinks = slice(4, 4 + 16, 2)
    one = finish(world, flows((0, 1, size)), PAUSE).links()["packets"][uplinks]
    assert sorted(one) == [0] * 7 + [4096]
    many = finish(world, flows((0, 1, size)), PAUSE, ("route", "spray", {})).links()["packets"][uplinks]
    assert many.sum() == 4096
    assert chi_square(many) < 7 + 5 * np.sqrt(14)


def test_another_seed_is_another_choice_of_paths():
    world = leaf_spine(2, 8, 4)
    trace = flows(*[(h, 4 + h, 64) for h in range(4)])
    used = {tuple(finish(world, trace, seed=seed).links()["packets"][16:80:2]) for seed in range(6)}
    assert len(used) > 1
    salted = {
        tuple(finish(world, trace, ("route", "ecmp", {"hash_seed": seed})).links()["packets"][16:80:2])
        for seed in range(6)
    }
    assert len(salted) > 1


def test_one_more_flow_does_not_move_the_others():
    """Draws are keyed: flows keep their paths, so on idle links they keep their times."""
    world = fat_tree(4)
    few = [(src, src + 8, 1000) for src in range(6)]
    a = finish(world, flows(*few)).sends()["delivered_ps"]
    b = finish(world, flows(*few, (7, 15, 1000))).sends()["delivered_ps"]
    assert (a == b[: len(a)]).all()


def test_round_robin_between_queue_pairs():
    """Two long messages of a host to two others share its wire packet by packet."""
    run = start(star(3), flows((0, 1, 1 << 20), (0, 2, 1 << 20)))
    run.step(40 * US)
    packets = run.links()["packets"]
    assert abs(int(packets[3]) - int(packets[5])) <= 1
