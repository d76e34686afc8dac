"""ECN and DCQCN: marks against the RED formula packet by packet, and the paper's fairness."""

import numpy as np
import pytest
from engine_worlds import GBPS, US, World, finish, star, start, wire_ps
from trace_table import recv, send, table

DATA, CNP = 0, 3
PAPER = ("cc", "dcqcn", {})  # the defaults are the paper's
PAPER_MARKS = {"ecn_kmin_bytes": 5_000, "ecn_kmax_bytes": 200_000, "ecn_pmax_ppm": 10_000}


def flows(*triples, **more):
    rows = []
    for tag, (src, dst, size) in enumerate(triples):
        rows += [send(src, dst, size, tag=tag, **more), recv(dst, src, size, tag=tag)]
    return table(*rows)


def marked_queue(run, delay_ps, rate_mbps, receiver=0):
    """For each data packet down the receiver's wire: bytes of queue that it met, and its mark."""
    packets = run.packets()
    down = packets[(packets["link"] == 2 * receiver + 1) & (packets["kind"] == DATA)]
    # what came to the switch for this receiver, in order of (time, port) as the switch takes it
    came = packets[(packets["link"] % 2 == 0) & (packets["kind"] == DATA) & (packets["dst"] == receiver)]
    assert len(came) == len(down)
    leaves_ps = down["when_ps"] - delay_ps
    free_ps = np.concatenate([[0], leaves_ps[:-1]])
    queue_ps = np.maximum(free_ps - came["when_ps"], 0)
    assert (leaves_ps >= came["when_ps"]).all()
    return queue_ps * (rate_mbps / 8e6), (down["flags"] & 1).astype(bool)


@pytest.mark.parametrize("window, seed", [(20, 1), (40, 2), (60, 3)])
def test_marks_follow_the_red_formula(window, seed):
    """With windows the queue stays where it is; each packet's chance is pmax (q - kmin) / (kmax - kmin)."""
    rate = 40 * GBPS
    kmin, kmax, pmax = 20_000, 300_000, 0.5
    marks = {"ecn_kmin_bytes": kmin, "ecn_kmax_bytes": kmax, "ecn_pmax_ppm": int(pmax * 1e6)}
    run = finish(
        star(4, rate, 500_000),
        flows(*[(src, 0, 12 << 20) for src in (1, 2, 3)]),
        ("switch", "ethernet", marks),
        ("transport", "roce", {"window_bytes": window * 4096}),
        record_packets=True,
        seed=seed,
    )
    queue, marked = marked_queue(run, 500_000, rate)
    chance = np.clip((queue - kmin) / (kmax - kmin), 0, 1) * pmax
    chance[queue > kmax] = 1
    assert not marked[queue < kmin - 1].any()
    expected, deviation = chance.sum(), np.sqrt((chance * (1 - chance)).sum())
    assert expected > 100
    assert abs(marked.sum() - expected) < 4 * deviation
    assert run.counters()["ecn_marks"] == marked.sum()
    # and not only in all: in each band of the queue
    for low in range(kmin, kmax, 40_000):
        band = (queue >= low) & (queue < low + 40_000)
        if chance[band].sum() > 50:
            spread = np.sqrt((chance[band] * (1 - chance[band])).sum())
            assert abs(marked[band].sum() - chance[band].sum()) < 4 * spread, low


def test_everything_above_kmax_is_marked():
    run = finish(
        star(5, 40 * GBPS),
        flows(*[(src, 0, 2 << 20) for src in (1, 2, 3, 4)]),
        ("switch", "ethernet", {"ecn_kmin_bytes": 10_000, "ecn_kmax_bytes": 20_000, "ecn_pmax_ppm": 1000}),
        record_packets=True,
    )
    queue, marked = marked_queue(run, US, 40 * GBPS)
    assert marked[queue > 20_001].all() and (queue > 20_001).sum() > 1000
    assert marked[queue < 19_999].sum() <= 5


def test_without_ecn_nothing_is_marked():
    run = finish(
        star(5),
        flows(*[(src, 0, 1 << 20) for src in (1, 2, 3, 4)]),
        ("switch", "ethernet", {"ecn": 0}),
        PAPER,
    )
    assert run.counters()["ecn_marks"] == run.counters()["cnps"] == 0


@pytest.mark.parametrize("interval", [4 * US, 50 * US])
def test_notifications_keep_their_distance(interval):
    """A connection notifies at most once in the interval, and in every interval with a mark in it."""
    settings = [
        ("switch", "ethernet", {"ecn_kmin_bytes": 0, "ecn_kmax_bytes": 1}),
        ("transport", "roce", {"cnp_interval_ps": interval}),
        ("cc", "dcqcn", {"min_rate_mbps": 1_000_000}),  # stays at line rate
    ]
    run = finish(star(3), flows((1, 0, 4 << 20), (2, 0, 4 << 20)), *settings, record_packets=True)
    packets = run.packets()
    for host in (1, 2):
        times = packets["when_ps"][(packets["kind"] == CNP) & (packets["link"] == 2 * host + 1)]
        assert len(times) > 3
        assert np.diff(times).min() > interval - 2 * wire_ps(4194, 100 * GBPS)
        assert np.diff(times).max() < interval + 4 * wire_ps(4194, 100 * GBPS)
    assert (packets["kind"] == CNP).sum() == 2 * run.counters()["cnps"]


def test_dcqcn_shares_fairly():
    """Four senders into one 40G port, the paper's parameters: 10 Gb/s each, Jain's index 0.99 (Fig. 8)."""
    model = star(5, 40 * GBPS).model(
        ("switch", "ethernet", PAPER_MARKS),
        ("transport", "roce", {"mtu_bytes": 1024}),
        PAPER,
        ("link", "pause", {}),
    )
    run = start(model, flows(*[(src, 0, 1 << 30) for src in (1, 2, 3, 4)]))
    before, after = 10_000 * US, 50_000 * US
    run.step(before)
    first = run.links()["bytes"][2:10:2].astype(float)
    run.step(after)
    rates = (run.links()["bytes"][2:10:2] - first) * 8e3 / (after - before)  # Gb/s on the wire
    assert rates == pytest.approx([10] * 4, rel=0.1)
    assert rates.sum() ** 2 / (4 * (rates**2).sum()) >= 0.99
    assert rates.sum() == pytest.approx(40, rel=0.03)
    assert run.counters()["drops"] == 0
    assert run.links()["max_queue_bytes"][1] < 1_000_000


def test_dcqcn_keeps_the_queue_short_and_pauses_rare():
    """Without it an incast stands in the buffer and pauses; with it the queue falls to the marking range."""
    paused = {}
    for name in ("none", "dcqcn"):
        model = star(9, 40 * GBPS).model(
            ("switch", "ethernet", PAPER_MARKS),
            ("link", "pause", {"xoff_bytes": 200_000}),
            ("cc", name, {"min_rate_mbps": 100} if name == "dcqcn" else {}),
        )
        run = start(model, flows(*[(src, 0, 1 << 30) for src in range(1, 9)]))
        run.step(10_000 * US)
        pauses = run.links()["paused_ps"].sum()
        run.step(20_000 * US)
        paused[name] = int(run.links()["paused_ps"].sum() - pauses)
    assert paused["none"] > 8 * 10_000 * US * 0.5
    assert paused["dcqcn"] < 0.01 * paused["none"]


def test_a_lone_flow_is_not_slowed():
    size = 8 << 20
    plain = finish(star(2), flows((1, 0, size))).sends()["delivered_ps"][0]
    controlled = finish(star(2), flows((1, 0, size)), PAPER).sends()["delivered_ps"][0]
    assert plain == controlled


def test_rates_recover_when_a_flow_ends():
    """The rest of a long flow after a short one is at line rate again, but for the recovery."""
    world = World(3, 1)
    for host in range(3):
        world.cable(host, 3, 40 * GBPS, US)
    model = world.model(("switch", "ethernet", PAPER_MARKS), PAPER, ("link", "pause", {}))
    run = start(model, flows((1, 0, 1 << 30), (2, 0, 2 << 20)))
    run.step(80_000 * US)
    first = int(run.links()["bytes"][2])
    run.step(90_000 * US)
    assert (int(run.links()["bytes"][2]) - first) * 8e3 / (10_000 * US) == pytest.approx(40, rel=0.01)
