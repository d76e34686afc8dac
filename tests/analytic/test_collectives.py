"""Collectives on a star without other traffic: exact times from their steps, and the bounds of bandwidth.

One step is a message over two hops, 2 (w + d). A rank ends when it has all that it needs and all that it sent
has been acknowledged: the acknowledgement of a message is back 2 (a + d) after its delivery, which is longer
than `step_ps` here, so it is the last that happens to whoever sends in the last step. `step_ps` is set above
the wire time of an acknowledgement, so that what a message triggers never waits for its acknowledgement, and
every time is exact; where messages are of many packets their acknowledgements share the wires, and the bound
is met to a stated error.
"""

import math

import numpy as np
import pytest
from engine_worlds import GBPS, US, finish, leaf_spine, star, wire_ps
from trace_table import compute, table

RATE, DELAY = 100 * GBPS, US
STEP, LAUNCH = 50_000, 3_000_000
OVERHEAD = 82 + 16
PAUSE = ("link", "pause", {})
ACK = 2 * (wire_ps(86, RATE) + DELAY)  # from the delivery of a message to its end at the sender
LAST = ACK - STEP  # a message takes effect after STEP, but its sender hears of it after ACK


def coll(kind, ranks, size=None, **more):
    given = {} if size is None else {"bytes": size}
    return {"kind": kind, "ranks": list(range(ranks)), **given, **more}


def timed(ranks, rows, algorithm, *settings, kind=None, **own):
    """End of each rank's first operation, with step and launch times that are easy to tell apart."""
    values = {"step_ps": STEP, "launch_ps": LAUNCH, **own}
    run = finish(
        star(ranks, RATE, DELAY),
        table(*rows),
        ("coll", algorithm, values),
        PAUSE,
        *settings,
        algorithms={kind or rows[0]["kind"]: algorithm},
    )
    assert run.counters()["drops"] == 0
    return run.ops()["end_ps"][:ranks]


def message_ps(payload: int) -> int:
    """A one-packet message over two hops."""
    return 2 * (wire_ps(max(84, -(-payload // 4) * 4 + OVERHEAD), RATE) + DELAY)


@pytest.mark.parametrize("ranks", [2, 3, 8, 16])
@pytest.mark.parametrize("part", [4, 1000, 4096])
@pytest.mark.parametrize("kind, turns", [("all_reduce", 2), ("reduce_scatter", 1), ("all_gather", 1)])
def test_ring_of_one_packet_parts_is_exact(kind, turns, ranks, part):
    ends = timed(ranks, [coll(kind, ranks, ranks * part)], "ring")
    steps = turns * (ranks - 1)
    assert set(ends) == {LAUNCH + steps * (message_ps(part) + STEP) + LAST}


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("kind, turns", [("all_reduce", 2), ("reduce_scatter", 1), ("all_gather", 1)])
def test_ring_of_long_parts_meets_its_bound(kind, turns, ranks):
    """Each step takes its part's wire time and the way; acknowledgements cost 86 of 4178 bytes, 2.1 %."""
    size = 16 << 20
    part = size // ranks
    ends = timed(ranks, [coll(kind, ranks, size)], "ring")
    wires = wire_ps(part + part // 4096 * 82 + 16, RATE)
    step = wires + wire_ps(4096 + OVERHEAD, RATE) + 2 * DELAY + STEP
    bound = LAUNCH + turns * (ranks - 1) * step + LAST
    assert bound <= ends.max() <= 1.022 * bound
    # nccl-tests' bus bandwidth cannot pass what the headers leave of the wire
    bus_gbps = 8e3 * turns * (ranks - 1) / ranks * size / (ends.max() - LAUNCH)
    assert 90 < bus_gbps < 100 * 4096 / 4178


def test_ring_chunks_overlap_the_way():
    """With long cables a step in chunks hides the delay of all but one chunk."""
    ranks, size = 4, 1 << 20
    whole = timed(ranks, [coll("all_reduce", ranks, size)], "ring").max()
    chunks = timed(ranks, [coll("all_reduce", ranks, size)], "ring", chunk_bytes=16384).max()
    wires = 2 * (ranks - 1) * wire_ps(size // ranks // 4096 * 4178, RATE)
    assert wires < chunks < whole


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("payload", [0, 100, 4096])
def test_tree_broadcast_is_exact(depth, payload):
    """A full binary tree: the last leaf waits at each level for its sibling's packet to leave first.

    Who sends ends with the acknowledgement of its right child, a leaf with its only message.
    """
    ranks = 2 ** (depth + 1) - 1
    ends = timed(ranks, [coll("broadcast", ranks, payload, peer=[0])], "tree")
    wire = wire_ps(max(84, payload + OVERHEAD), RATE)
    level = message_ps(payload) + wire + STEP
    assert ends[0] == LAUNCH + level + LAST
    assert ends[-1] == LAUNCH + depth * level
    assert ends.max() == ends[(ranks - 2) // 2] == ends[-1] + LAST
    assert ends[1] == LAUNCH + message_ps(payload) + STEP + (level + LAST if depth > 1 else 0)


@pytest.mark.parametrize("ranks", [2, 3, 5, 8, 13])
@pytest.mark.parametrize("kind", ["all_reduce", "reduce"])
def test_tree_is_between_its_bounds(kind, ranks):
    """Up (and down) a tree of depth floor(log2 n): each level a message, and at most two more on the wire."""
    payload = 4096
    more = {"peer": [0]} if kind == "reduce" else {}
    end = timed(ranks, [coll(kind, ranks, payload, **more)], "tree").max()
    levels = math.floor(math.log2(ranks)) * (2 if kind == "all_reduce" else 1)
    wire = wire_ps(payload + OVERHEAD, RATE)
    least = LAUNCH + levels * (message_ps(payload) + STEP) + LAST
    assert least <= end <= least + levels * 2 * wire


@pytest.mark.parametrize("ranks", [2, 5, 9])
@pytest.mark.parametrize("chunks", [1, 4, 64])
@pytest.mark.parametrize("kind", ["broadcast", "reduce"])
def test_chain_fills_its_pipe_once(kind, ranks, chunks):
    """n-1 messages in a row for the first chunk, a wire time for each more, and acknowledgements."""
    size = chunks * 4096
    root = 1
    ends = timed(ranks, [coll(kind, ranks, size, peer=[root])], "chain", chunk_bytes=4096)
    wire, ack = wire_ps(4096 + OVERHEAD, RATE), wire_ps(86, RATE)
    least = LAUNCH + (ranks - 1) * (message_ps(4096) + STEP) + (chunks - 1) * wire + LAST
    assert least <= ends.max() <= least + (ranks + chunks) * ack
    # whoever only sends ends with the acknowledgement of its last chunk; on a chain of three or more this
    # waits for the packet under way at the second, and for the third's acknowledgements
    first = root if kind == "broadcast" else (root + 1) % ranks
    sent = LAUNCH + message_ps(4096) + (chunks - 1) * wire + ACK
    assert sent <= ends[first] <= sent + (wire + chunks * ack if ranks > 2 else 0)
    # whoever only receives ends with the last chunk, and is not later than who sent it
    last = (root - 1) % ranks if kind == "broadcast" else root
    assert least - LAST <= ends[last] < ends.max()
    if chunks == 1:
        assert (ends[first], ends[last], ends.max()) == (sent, least - LAST, least)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7, 8, 9, 16, 33])
def test_dissemination_takes_log_rounds(ranks):
    ends = timed(ranks, [coll("barrier", ranks)], "dissemination")
    rounds = math.ceil(math.log2(ranks))
    assert set(ends) == {LAUNCH + rounds * (message_ps(8) + STEP) + (LAST if rounds else 0)}


@pytest.mark.parametrize("ranks", [3, 8])
def test_nobody_leaves_a_barrier_before_the_last_has_come(ranks):
    late = 200 * US
    rows = [compute(ranks - 1, duration_ps=late, stream=0), coll("barrier", ranks, stream=0)]
    run = finish(star(ranks), table(*rows))
    ops = run.ops()
    barrier = ops["row"] == 1
    assert ops["start_ps"][barrier].max() == late
    assert ops["end_ps"][barrier].min() >= late  # the last may find all there
    assert ops["end_ps"][barrier].max() < late + math.ceil(math.log2(ranks)) * (message_ps(8) + STEP) + ACK


@pytest.mark.parametrize("ranks", [2, 4, 8, 16])
def test_all_to_all_is_bound_by_the_wire(ranks):
    """Every wire carries n-1 parts; receivers take turns well enough for 8 %."""
    part = 1 << 18
    end = timed(ranks, [coll("all_to_all", ranks, ranks * part)], "pairwise").max()
    bound = LAUNCH + wire_ps((ranks - 1) * (part + part // 4096 * 82 + 16), RATE) + 2 * DELAY + ACK
    assert bound < end < 1.08 * bound


def test_all_to_all_with_splits_is_bound_by_the_fullest_wire():
    ranks = 4
    rng = np.random.default_rng(5)
    splits = rng.integers(0, 400_000, (ranks, ranks))
    splits[2, 1] = 0
    end = timed(ranks, [coll("all_to_all", ranks, splits=splits.reshape(-1).tolist())], "pairwise").max()
    away = splits - np.diag(np.diag(splits))
    fullest = int(max(away.sum(0).max(), away.sum(1).max()))
    bound = LAUNCH + wire_ps(fullest + fullest // 4096 * 82, RATE) + 2 * DELAY + ACK
    assert bound <= end < 1.6 * bound


@pytest.mark.parametrize("algorithm", ["ring", "pairwise"])
def test_algorithms_of_one_kind_move_the_same_bytes(algorithm):
    ranks, size = 4, 1 << 20
    for kind in ("all_gather", "reduce_scatter"):
        run = finish(star(ranks), table(coll(kind, ranks, size)), PAUSE, algorithms={kind: algorithm})
        data = run.links()["bytes"][1::2].sum() - 86 * run.counters()["acks"]
        messages = run.counters()["messages"]
        packets = ranks * (ranks - 1) * (size // ranks // 4096)
        assert data == (ranks - 1) * size + 82 * packets + 16 * messages


def test_a_collective_of_one_rank_takes_its_launch():
    for kind, algorithm in (("all_reduce", "ring"), ("all_to_all", "pairwise"), ("barrier", "dissemination")):
        size = None if kind == "barrier" else 1000
        run = finish(star(2), table(coll(kind, 1, size)), ("coll", algorithm, {"launch_ps": LAUNCH}))
        assert run.ops()["end_ps"].tolist() == [LAUNCH]
        assert run.counters()["packets"] == 0


def test_streams_overlap_and_rows_of_one_stream_do_not():
    ranks, size = 4, 4 << 20
    one = finish(star(ranks), table(*[coll("all_reduce", ranks, size, stream=0)] * 1), PAUSE)
    alone = one.counters()["end_ps"]
    rows = [{**coll("all_reduce", ranks, size, stream=stream), "id": i} for i, stream in enumerate((0, 0))]
    serial = finish(star(ranks), table(*rows), PAUSE).counters()["end_ps"]
    rows[1]["stream"] = 1
    shared = finish(star(ranks), table(*rows), PAUSE).counters()["end_ps"]
    assert 1.99 * alone < serial < 2.02 * alone
    assert 1.8 * alone < shared < serial  # the wires are full either way; the ways overlap


def test_a_slow_uplink_bounds_the_ring():
    """A ring over two leaves crosses the one uplink both ways: its rate is the bound."""
    world = leaf_spine(2, 1, 4)
    world.cables[8:] = [(a, b, 25 * GBPS, delay) for a, b, _, delay in world.cables[8:]]
    size, ranks = 8 << 20, 8
    run = finish(world, table(coll("all_reduce", ranks, size)), PAUSE)
    part = size // ranks
    bound = 2 * (ranks - 1) * wire_ps(part + part // 4096 * 82 + 16, 25 * GBPS)
    assert bound < run.counters()["end_ps"] < 1.1 * bound
