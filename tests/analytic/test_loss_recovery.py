"""Selective repeat sends again what is missing and no more; queue pairs spread a connection over paths."""

import numpy as np
import pytest
from engine_worlds import GBPS, US, World, finish, star
from trace_table import recv, send, table

SIZE = 2 << 20
WINDOW = 100_000
TIGHT = ("switch", "ethernet", {"buffer_bytes": 200_000, "ecn": 0})


def flows(*triples):
    rows = []
    for tag, (src, dst, size) in enumerate(triples):
        rows += [send(src, dst, size, tag=tag), recv(dst, src, size, tag=tag)]
    return table(*rows)


def incast(**transport):
    transport = {"rto_ps": 1000 * US, "nak_interval_ps": 20 * US, "window_bytes": WINDOW, **transport}
    settings = [TIGHT, ("transport", "roce", transport), ("cc", "dcqcn", {})]
    run = finish(star(4), flows(*[(src, 0, 8 * SIZE) for src in (1, 2, 3)]), *settings)
    return run.counters()


def test_selective_repeat_sends_again_what_was_lost():
    """A NAK costs one packet; go-back-N sends again all that was under way, and drops more by that."""
    back, selective = incast(selective_repeat=0), incast(selective_repeat=1)
    assert back["drops"] > 3 * selective["drops"] > 300
    assert back["retransmits"] > 10 * back["naks"]
    again = selective["retransmits"] - selective["naks"]  # by time-outs
    assert 0 <= again <= selective["timeouts"] * WINDOW / 4096
    assert selective["packets"] < back["packets"]


def test_the_bandwidth_delay_product_under_way_loses_less():
    """IRN's window: what is under way fits in the fabric."""
    free, capped = incast(selective_repeat=1), incast(selective_repeat=1, window_bytes=WINDOW * 6 // 10)
    assert capped["drops"] < free["drops"] / 5


@pytest.mark.parametrize("distance, named", [(1, True), (64, False)])
def test_with_spraying_a_gap_is_a_loss_only_far_enough(distance, named):
    world = World(2, 6)
    world.cable(0, 2, 100 * GBPS, US)
    world.cable(1, 3, 100 * GBPS, US)
    for spine, delay in ((4, US), (5, 2 * US), (6, 3 * US), (7, US)):
        world.cable(2, spine, 100 * GBPS, delay)
        world.cable(spine, 3, 100 * GBPS, delay)
    transport = {"selective_repeat": 1, "reorder_distance_count": distance}
    run = finish(world, flows((0, 1, SIZE)), ("route", "spray", {}), ("transport", "roce", transport))
    counters = run.counters()
    assert counters["drops"] == 0
    assert (counters["naks"] > 0) == (counters["retransmits"] > 0) == named


def paths_used(qp_count, messages):
    """How many of 16 paths a connection takes, and when its messages arrive."""
    world = World(2, 18)
    world.cable(0, 2, 400 * GBPS, US)
    world.cable(1, 3, 400 * GBPS, US)
    for spine in range(4, 20):
        world.cable(2, spine, 100 * GBPS, US)
        world.cable(spine, 3, 100 * GBPS, US)
    rows = []
    for tag in range(messages):
        rows += [send(0, 1, 40_000, tag=tag, stream=0), recv(1, 0, 40_000, tag=tag, stream=0)]
    run = finish(world, table(*rows), ("transport", "roce", {"qp_count": qp_count}))
    links = run.links()
    up = links["bytes"][4::4]
    return int((up > 10_000).sum()), run


def test_queue_pairs_take_paths_of_their_own():
    one, _ = paths_used(1, 32)
    four, run = paths_used(4, 32)
    assert one == 1 and 2 <= four <= 4
    assert run.counters()["messages"] == 32


def test_messages_of_several_queue_pairs_arrive_in_posted_order():
    _, run = paths_used(4, 32)
    delivered = run.sends()["delivered_ps"]
    assert (np.diff(delivered) >= 0).all()
