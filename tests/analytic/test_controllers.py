"""What congestion controllers are for: fair shares, short queues, delay at its target, victims that go on."""

import numpy as np
import pytest
from engine_worlds import GBPS, US, World, star, start
from trace_table import recv, send, table

DATA = 0
ENDLESS = 1 << 33
CONTROLLERS = {
    "hpcc": {},
    "timely": {"rate_ai_mbps": 100},
    "swift": {"hop_ps": 0, "fs_range_ps": 0},
    "srd_cc": {},
}


def flows(*triples):
    rows = []
    for tag, (src, dst, size) in enumerate(triples):
        rows += [send(src, dst, size, tag=tag), recv(dst, src, size, tag=tag)]
    return table(*rows)


def rates(run, hosts, begin, end):
    """What hosts send between two times, in Gb/s on the wire."""
    run.step(begin)
    first = run.links()["bytes"].astype(float)
    run.step(end)
    return ((run.links()["bytes"] - first) * 8e3 / (end - begin))[[2 * host for host in hosts]]


def jain(shares):
    return shares.sum() ** 2 / (len(shares) * (shares**2).sum())


@pytest.mark.parametrize("name", ["hpcc", "swift", "srd_cc"])
def test_four_senders_share_a_port(name):
    """Without loss or pause; HPCC aims at 95 % of the port."""
    model = star(5).model(("link", "pause", {}), ("cc", name, CONTROLLERS[name]))
    run = start(model, flows(*[(src, 0, ENDLESS) for src in (1, 2, 3, 4)]))
    shares = rates(run, (1, 2, 3, 4), 10_000 * US, 20_000 * US)
    assert jain(shares) > 0.95
    assert 90 < shares.sum() <= 100
    assert run.counters()["drops"] == run.counters()["pfc_pauses"] == 0


def test_timely_uses_the_port_but_does_not_promise_shares():
    """Any split of the port is at rest under its gradient (Zhu et al., ECN or Delay, CoNEXT 2016)."""
    model = star(5).model(("link", "pause", {}), ("cc", "timely", CONTROLLERS["timely"]))
    run = start(model, flows(*[(src, 0, ENDLESS) for src in (1, 2, 3, 4)]))
    shares = rates(run, (1, 2, 3, 4), 10_000 * US, 20_000 * US)
    assert 90 < shares.sum() <= 100
    assert shares.min() > 0.1


def delays_us(name, settings, end=4_000):
    """How long data packets are in the switch before the hot port, in us, in the second half of a time."""
    model = star(5).model(("link", "pause", {}), ("cc", name, settings))
    run = start(model, flows(*[(src, 0, ENDLESS) for src in (1, 2, 3, 4)]), record_packets=True)
    run.step(end * US)
    packets = run.packets()
    packets = packets[packets["kind"] == DATA]
    down = packets[packets["link"] == 1]
    came = packets[packets["link"] != 1]
    order = np.lexsort((down["psn"], down["connection"]))
    other = np.lexsort((came["psn"], came["connection"]))
    n_of = {c: (down["connection"] == c).sum() for c in set(down["connection"].tolist())}
    keep = np.concatenate(
        [np.flatnonzero(came["connection"][other] == c)[:n] for c, n in sorted(n_of.items())]
    )
    waited = down["when_ps"][order] - came["when_ps"][other][keep]
    return waited[down["when_ps"][order] > end * US / 2] / US


def test_hpcc_keeps_the_queue_near_zero():
    """A packet passes in its own 0.34 us and 1 us of wire; what it waits for are a few packets of others."""
    waits = delays_us("hpcc", {}) - 1.34
    assert np.median(waits) < 1
    assert np.percentile(waits, 99) < 3


@pytest.mark.parametrize("target", [15, 30])
def test_swift_keeps_the_delay_at_its_target(target):
    """Round trips without a queue take 4.7 us; the rest is the queue."""
    settings = {"base_target_ps": target * US, **CONTROLLERS["swift"]}
    waits = delays_us("swift", settings) - 1.34
    assert np.mean(waits) + 4.7 == pytest.approx(target, rel=0.15)


def test_timely_keeps_the_delay_between_its_thresholds():
    settings = {
        "t_low_ps": 15 * US,
        "t_high_ps": 60 * US,
        "min_rtt_ps": 5 * US,
        "rate_ai_mbps": 200,
        "min_rate_mbps": 5000,
    }
    waits = delays_us("timely", settings) - 1.34
    assert 5 < np.mean(waits) + 4.7 < 90


def past_the_hot_spot(cc, trunk):
    """Rates of a flow that shares a trunk with four of six that go to a hot port, and of the six."""
    world = World(9, 2)
    for host, switch in [(0, 10), *((host, 9) for host in (1, 2, 3, 4, 5)), (6, 10), (7, 10), (8, 10)]:
        world.cable(host, switch, 100 * GBPS, 100_000)
    world.cable(9, 10, trunk, 100_000)
    fabric = [
        ("switch", "voq", {"fecn_threshold": 15, "fecn_marking_rate": 10}),
        ("link", "credit", {}),
        ("transport", "rc", {"cnp_interval_ps": 0}),  # a BECN for each FECN
        ("cc", cc, {}),
    ]
    hot = [(src, 0, ENDLESS) for src in (1, 2, 3, 4, 7, 8)]
    run = start(world.model(*fabric), flows(*hot, (5, 6, ENDLESS)))
    shares = rates(run, (5, 1, 2, 3, 4, 7, 8), 10_000 * US, 20_000 * US)
    return shares[0], shares[1:].sum()


@pytest.mark.parametrize("trunk, most", [(100 * GBPS, 100 / 3), (400 * GBPS, 100)])
def test_ib_cc_frees_a_victim(trunk, most):
    """Gran et al., IPDPS 2010: a victim is as slow as those behind the congestion, unless they are slowed."""
    slow, hot = past_the_hot_spot("none", trunk)
    assert hot == pytest.approx(100, rel=0.01)
    assert slow == pytest.approx(100 / 12, rel=0.01)  # a third of the hot port comes over the trunk, for four
    free, hot = past_the_hot_spot("ib_cc", trunk)
    assert free > 0.75 * most
    assert hot > 75
