"""Several data classes: how a run is done does not tell, lossless ones lose nothing, each has its share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle.generate import class_world
from oracle.rules import ps_per_byte_q16, wire_ps
from oracle.world import FIELDS, World, row
from scenes import US, leaf_spine, scene, star
from test_invariants import few, finish, many, outcome

FRAME = 4096 + 82 + 16
FRAME_PS = wire_ps(FRAME, ps_per_byte_q16(100_000))
WHEN, KIND, LINK, CONNECTION, PSN, BYTES, DST = map(
    FIELDS.index, ("when_ps", "kind", "link", "connection", "psn", "bytes", "dst")
)


def classed(flows: list[tuple[int, int, int, int]]) -> list[dict[str, Any]]:
    """Return a send and a recv row for every (source, target, bytes, class), each with its own connection."""
    rows = []
    for i, (src, dst, size, data_class) in enumerate(flows):
        rows.append(row(2 * i, "send", [src], peers=[dst], size=size, tag=i, priority=data_class))
        rows.append(row(2 * i + 1, "recv", [dst], peers=[src], size=size, tag=i, priority=data_class))
    return rows


def fabric(classes: int, *, round_robin: int = 0, buffer: int = 32 << 20, **rooms: Any) -> dict[str, Any]:
    """Return settings without marks."""
    switch = {"data_class_count": classes, "class_round_robin": round_robin, "buffer_bytes": buffer, "ecn": 0}
    return {"switch": ("ethernet", switch), **rooms}


def arrivals(world: World, link: int) -> list[tuple[int, ...]]:
    """Return the data packets that came over a directed link."""
    run = finish(world, record_packets=True)
    packets = [tuple(int(v) for v in p) for p in run.packets()]
    return [p for p in packets if p[LINK] == link and p[KIND] == 0]


@few
@given(st.integers(0, 2**40).map(class_world), st.integers(1, 5_000_000_000))
def test_one_digest(world: World, until: int) -> None:
    """Threads, plain windows, recording and slices never change a result."""
    reference = outcome(world)
    assert outcome(world, threads=2) == reference
    assert outcome(world, threads=3, plain=True) == reference
    assert outcome(world, plain=True, record_packets=True) == reference
    assert outcome(world, [until // 1000, until // 3, until], threads=2) == reference


@many
@given(st.integers(0, 2**40))
def test_lossless_classes_lose_nothing(seed: int) -> None:
    """With the computed headroom; every resume belongs to a pause."""
    counters = finish(class_world(seed, lossless=True)).counters()
    assert counters["drops"] == 0
    assert counters["pfc_pauses"] == counters["pfc_resumes"]


@pytest.mark.parametrize("lossless", [0, 1])
def test_a_lossless_class_beside_a_lossy_one_loses_nothing(lossless: int) -> None:
    """Six hosts send both classes over one uplink, each class to a host of its own behind it."""
    size, lossy = 500_000, 1 - lossless
    flows = [(h, 6 + c, size, c) for h in range(6) for c in range(2)]
    retries = {"rto_ps": 500 * US, "retry_limit_count": 10_000}
    rooms = {"link": ("pause", {"lossless_classes": 1 << lossless}), "transport": ("roce", retries)}
    world = scene(leaf_spine(2, 1, 6), classed(flows), settings=fabric(2, buffer=700_000, **rooms))
    run = finish(world, record_packets=True)
    assert run.counters()["drops"] > 0 and run.counters()["pfc_pauses"] > 0
    packets = -(-size // 4096)
    for data_class in range(2):
        numbers: dict[int, list[int]] = {}
        for p in run.packets():
            if p[KIND] == 0 and p[LINK] == 2 * (6 + data_class) + 1:
                numbers.setdefault(int(p[CONNECTION]), []).append(int(p[PSN]))
        in_order = all(came == list(range(packets)) for came in numbers.values())
        assert len(numbers) == 6 and in_order == (data_class != lossy)


@pytest.mark.parametrize("link", ["lossy", "pause"])
@pytest.mark.parametrize("size", [1, 4096, 1_000_000])
def test_strict_priority_waits_for_one_packet_a_hop(link: str, size: int) -> None:
    """A message of the high class over three switches, against low ones on every wire that it takes."""
    high = [(0, 7, size, 2)]
    low = [(h, 7, 1_500_000, c) for h in range(4) for c in range(2)]
    settings = fabric(3, link=(link, {}))
    alone = finish(scene(leaf_spine(2, 1, 4), classed(high), settings=settings)).sends()["delivered_ps"][0]
    run = finish(scene(leaf_spine(2, 1, 4), classed(high + low), settings=settings))
    delivered = run.sends()["delivered_ps"]
    assert alone <= delivered[0] <= alone + 4 * FRAME_PS
    assert run.counters()["drops"] == 0 and delivered[1:].min() > delivered[0]


def test_strict_priority_goes_by_class() -> None:
    """Three classes that start together end one after the other, and the wire never rests."""
    size = 1_000_000
    flows = [(h, 3, size, c) for c, h in enumerate((1, 0, 2))]
    ends = finish(scene(star(4), classed(flows), settings=fabric(3))).sends()["delivered_ps"]
    wire = -(-size // 4096) * wire_ps(4178, ps_per_byte_q16(100_000))
    assert ends[2] < ends[1] < ends[0]
    for k, end in enumerate(ends[::-1], 1):
        assert abs(end - 2 * US - k * wire) < 4 * FRAME_PS


@pytest.mark.parametrize("parts", [(4096, 4096), (4096, 700), (256, 4096, 1500), (4096, 4096, 64, 2000)])
def test_round_robin_shares_bytes(parts: tuple[int, ...]) -> None:
    """Classes of unlike packets, each from its own host, get the same bytes of the wire to two frames."""
    sink = len(parts)
    counts = [200_000 // (part + 98) for part in parts]
    flows = [(c, sink, part, c) for c, part in enumerate(parts) for _ in range(counts[c])]
    world = scene(star(sink + 1), classed(flows), settings=fabric(len(parts), round_robin=1))
    sent, start = [0] * len(parts), None
    for p in arrivals(world, 2 * sink + 1):  # connections are numbered by source
        c = next(c for c in range(len(parts)) if p[CONNECTION] < sum(counts[: c + 1]))
        sent[c] += p[BYTES]
        if start is None and all(sent):
            start = list(sent)
        if start and max(sent) < 190_000:  # all have something to send
            gained = [now - then for now, then in zip(sent, start, strict=True)]
            assert max(gained) - min(gained) <= 2 * FRAME
    assert start and sent == [n * (part + 98) for n, part in zip(counts, parts, strict=True)]


@pytest.mark.parametrize("round_robin", [0, 1])
def test_a_nic_takes_classes_in_turn(round_robin: int) -> None:
    """Of one host's classes the high one goes first, or each sends a packet in turn."""
    flows = [(0, 1 + c, 50 * 4096, c) for c in range(3)]
    world = scene(star(4), classed(flows), settings=fabric(3, round_robin=round_robin))
    targets = [p[DST] for p in arrivals(world, 0)]
    if round_robin:
        assert all({*targets[i : i + 3]} == {1, 2, 3} for i in range(0, 150, 3))
    else:
        # the first is asked for before the others have been handed over
        assert sorted(targets[1:], reverse=True) == targets[1:]


@pytest.mark.parametrize("round_robin", [0, 1])
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_paused_class_lets_the_others_by(stopped: int, round_robin: int) -> None:
    """A slow host on the far leaf pauses a class up to the senders; the other has the rest of the wires."""
    passing, size = 1 - stopped, 2_000_000
    jam = [(h, 8, 400_000, stopped) for h in range(7)]
    flow = [(0, 9, size, passing)]
    settings = fabric(2, round_robin=round_robin, buffer=800_000, link=("pause", {}))
    world = leaf_spine(2, 1, 8)
    world["cables"][8] = replace(world["cables"][8], rate_mbps=10_000)
    alone = finish(scene(world, classed(flow), settings=settings)).sends()["delivered_ps"][0]
    run = finish(scene(world, classed(flow + jam), settings=settings))
    ends = run.sends()["delivered_ps"]
    assert run.counters()["drops"] == 0 and run.links()["paused_ps"][0] > ends[0] / 2
    # the jam has a tenth of the uplink, and what the buffers take in before they are full
    first = passing and not round_robin
    assert alone <= ends[0] <= (alone + 4 * FRAME_PS if first else alone / 0.9 + 2 * 800_000 * 80)
    one = {**settings, "switch": ("ethernet", {**settings["switch"][1], "data_class_count": 1})}
    flat = [{**r, "priority": 0} for r in classed(flow + jam)]
    held = finish(scene(world, flat, settings=one)).sends()["delivered_ps"][0]
    assert held > 3 * ends[0]


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize(
    "xoff",
    [
        0,
        20_000,
        200_000,
    ],
)
def test_a_switch_never_holds_more_than_its_buffer(xoff: int, classes: int) -> None:
    """Eight to two without loss: what has arrived and has not begun to leave fits, whatever the levels."""
    buffer = (600_000, 1_010_000)[classes - 1]
    flows = [(h, 8 + k % 2, 300_000, k % classes) for h in range(8) for k in range(4)]
    rooms = {"link": ("pause", {"xoff_bytes": xoff})}
    world = scene(star(10), classed(flows), settings=fabric(classes, buffer=buffer, **rooms))
    run = finish(world, record_packets=True)
    assert run.counters()["drops"] == 0 and run.counters()["pfc_pauses"] > 0
    q16 = ps_per_byte_q16(100_000)
    changes = []
    for p in (tuple(int(v) for v in packet) for packet in run.packets()):
        if p[KIND] == 0 and p[LINK] % 2:  # from the switch: when it began
            changes.append((p[WHEN] - US - wire_ps(p[BYTES], q16), -p[BYTES]))
        elif p[KIND] == 0:
            changes.append((p[WHEN], p[BYTES]))
    held = most = 0
    for _, change in sorted(changes):
        held += change
        most = max(most, held)
    assert held == 0 and most <= buffer
