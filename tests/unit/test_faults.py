"""Faults and circuits in the core: what must hold whatever fails, and closed forms of simple cases."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracle.generate import class_world, controller_world, credit_world, random_world, srd_world
from oracle.world import Cable, World
from scenes import NS, SCENES, US, fat_tree, flows, scene, star

from fabricsim._core import engine
from fabricsim.errors import ConfigError, DeadlockError, EngineError

DOWN, UP, RATE, ERRORS, DARK = range(5)
DATA, PAUSE = 0, 4
NOTHING = [(1, 0, RATE, 0)]
many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def start(world: World, **options: Any) -> engine.Run:
    made = world.run()
    return engine.Run(made.model, made.program, seed=world.seed, **options)


def finish(world: World, **options: Any) -> engine.Run:
    run = start(world, **options)
    assert run.step()
    run.check()
    return run


def outcome(world: World, slices: list[int] | None = None, **options: Any) -> tuple[str, str]:
    run = start(world, **options)
    try:
        for until in slices or []:
            run.step(until)
        run.step()
    except DeadlockError:
        return "deadlock", ""
    except EngineError:
        return "gave up", ""
    run.check()
    return "done", run.digest


def between_switches(world: World) -> list[int]:
    return [2 * i for i, c in enumerate(world.cables) if min(c.a, c.b) >= world.n_hosts]


def random_changes(rng: random.Random, world: World, horizon: int) -> list[tuple[int, int, int, int]]:
    inner = between_switches(world)
    changes = []
    for _ in range(rng.randint(1, 8)):
        at, last = rng.randrange(horizon), rng.randint(1, horizon // 3)
        link = rng.randrange(2 * len(world.cables))
        kind = rng.randrange(4 + bool(inner))
        if kind <= 1:
            changes += [(at, link, DOWN, 0), (at + last, link, UP, 0)]
        elif kind == 2:
            rate = world.cables[link // 2].rate_mbps
            changes += [(at, link, RATE, max(250, rate // rng.randint(1, 9))), (at + last, link, RATE, 0)]
        elif kind == 3:
            changes.append((at, link, ERRORS, rng.choice([0, 10**9, 10**12])))
        else:
            changes.append((at, rng.choice(inner), DARK, last))
    return changes


@st.composite
def failing(draw: st.DrawFn) -> tuple[World, dict[str, Any], int]:
    """A world, its changes, and about how long it takes."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    kind = rng.choice([random_world, random_world, class_world, credit_world, controller_world, srd_world])
    world = kind(draw(st.integers(0, 2**40)))
    whole = start(world)
    try:
        whole.step()
    except (DeadlockError, EngineError):
        assume(False)
    horizon = max(30, int(whole.counters()["end_ps"]))
    options: dict[str, Any] = {"changes": random_changes(rng, world, horizon)}
    options["heal_ps"] = rng.choice([-1, 0, horizon // 10])
    inner = between_switches(world)
    if inner and rng.randrange(3) == 0:
        period = rng.randint(20 * US, 200 * US)
        options["circuits"] = [
            (link // 2, rng.randrange(period), rng.randint(period // 2, period), period)
            for link in rng.sample(inner, rng.randint(1, len(inner)))
        ]
    return world, options, horizon


# ---- whatever fails


@settings(many, max_examples=40)
@given(failing(), st.integers(0, 2**32))
def test_one_digest(case: tuple[World, dict[str, Any], int], seed: int) -> None:
    """Threads, plain windows, recording and slices never change a result; nothing is left in any buffer."""
    world, options, horizon = case
    try:
        reference = outcome(world, **options)
    except ConfigError:
        assume(False)
    rng = random.Random(seed)
    slices = sorted(rng.randrange(2 * horizon) for _ in range(8))
    assert outcome(world, **options, threads=2) == reference
    assert outcome(world, slices, **options) == reference
    assert outcome(world, slices, **options, plain=True, record_packets=True) == reference


@many
@given(failing())
def test_packets_are_conserved(case: tuple[World, dict[str, Any], int]) -> None:
    """What a link took has arrived or was lost; what enters a switch leaves it or was dropped.

    And every message is delivered whole and once.
    """
    world, options, _ = case
    try:
        run = start(world, **options, record_packets=True)
        run.step()
    except (ConfigError, DeadlockError, EngineError):
        assume(False)
    run.check()
    packets, links, counters = run.packets(), run.links(), run.counters()
    arrived = np.bincount(packets["link"], minlength=len(links["packets"]))
    assert (arrived + links["lost"] == links["packets"]).all()
    assert counters["lost"] == links["lost"].sum()
    marked = np.bincount(packets["link"], weights=packets["kind"] >= PAUSE, minlength=len(arrived))
    sent_frames = 0
    for switch in range(world.n_hosts, world.n_hosts + world.n_switches):
        ins = [2 * i + (c.a == switch) for i, c in enumerate(world.cables) if switch in (c.a, c.b)]
        outs = [link ^ 1 for link in ins]
        entered = (arrived[ins] - marked[ins]).sum()
        left = links["packets"][outs].sum() + links["drops"][outs].sum()
        sent_frames += left - entered
    assert sent_frames == counters["pfc_pauses"] + counters["pfc_resumes"]
    ends: dict[tuple[int, int], set[int]] = {}
    numbers: dict[tuple[int, int], set[int]] = {}
    last_link = {
        2 * i + (c.b == e): e for i, c in enumerate(world.cables) for e in (c.a, c.b) if e < world.n_hosts
    }
    for p in packets[packets["kind"] == DATA]:
        if last_link.get(int(p["link"]) ^ 1) == p["dst"]:
            key = int(p["dst"]), int(p["connection"])
            numbers.setdefault(key, set()).add(int(p["psn"]))
            if p["flags"] & 2:
                ends.setdefault(key, set()).add(int(p["psn"]))
    assert all(len(seen) == max(seen) + 1 for seen in numbers.values())
    assert sum(map(len, ends.values())) == counters["messages"]
    assert run.done_ops == run.total_ops


@pytest.mark.parametrize("name", SCENES)
def test_a_change_to_the_same_changes_nothing(name: str) -> None:
    """The code for fabrics that change gives what the code for those that do not gives."""
    world = SCENES[name]()
    assert finish(world, changes=NOTHING).digest == finish(world).digest


# ---- down


def test_a_link_that_came_back_has_its_full_rate() -> None:
    world = scene(star(2), flows([(0, 1)], 1_000_000, delay_ps=100 * US))
    changes = [(10 * US, 0, DOWN, 0), (90 * US, 0, UP, 0)]
    failed, whole = finish(world, changes=changes, heal_ps=0), finish(world)
    assert failed.counters()["heals"] == 2 and failed.counters()["changes"] == 2
    assert failed.counters()["end_ps"] == whole.counters()["end_ps"]
    assert failed.links()["down_ps"].tolist() == [80 * US, 80 * US, 0, 0]


def test_what_is_under_way_is_lost_and_sent_again() -> None:
    """Down for 10 us in the middle: the packets of that time are lost, and the NAK brings them back."""
    transport = {"transport": ("roce", {"rto_ps": 1_000 * US})}
    world = scene(star(2), flows([(0, 1)], 1_000_000), settings=transport)
    run = finish(world, changes=[(20 * US, 0, DOWN, 0), (30 * US, 0, UP, 0)])
    assert run.links()["lost"][0] > 20
    assert run.counters()["naks"] >= 1 and run.counters()["timeouts"] == 0
    assert run.counters()["end_ps"] < finish(world).counters()["end_ps"] + 20 * US


@pytest.mark.parametrize("mid_flow", [False, True])
def test_a_fat_tree_heals(mid_flow: bool) -> None:
    """A link between tiers goes down: the flow takes another path of the same length."""
    world = scene(fat_tree(4), flows([(0, 15)], 1_000_000, delay_ps=0 if mid_flow else 50 * US))
    world.settings = {"transport": ("roce", {"rto_ps": 300 * US})}
    whole = finish(world)
    used = [link for link in between_switches(world) if whole.links()["bytes"][link] > 500_000]
    used += [link for link in between_switches(world) if whole.links()["bytes"][link + 1] > 500_000]
    for link in used:
        run = finish(world, changes=[(30 * US, link, DOWN, 0)], heal_ps=10 * US)
        assert run.counters()["heals"] == 1
        lost, more_ps = run.counters()["lost"], run.counters()["end_ps"] - whole.counters()["end_ps"]
        if mid_flow:
            assert lost > 0 and 0 < more_ps < 700 * US
        else:
            assert lost == 0 and more_ps == 0


def test_ranks_that_are_cut_off_are_named() -> None:
    world = scene(star(4), flows([(0, 1), (2, 3), (3, 1)], 1_000_000))
    run = start(world, changes=[(20 * US, 2, DOWN, 0)])
    with pytest.raises(EngineError) as caught:
        run.step()
    text = str(caught.value)
    assert "rank 0 and rank 1 are cut off" in text and "rank 1 and rank 3" in text
    assert "rank 2" not in text and "link 2 is down" in text
    with pytest.raises(EngineError, match="cut off"):
        run.step()
    assert outcome(world, changes=[(20 * US, 2, DOWN, 0), (500 * US, 2, UP, 0)])[0] == "done"
    assert outcome(world, changes=[(5_000 * US, 2, DOWN, 0)])[0] == "done", "all has been said by then"


def test_cut_off_later_in_the_program() -> None:
    """Nothing is under way when the link fails, but there is something to come."""
    world = scene(star(3), flows([(0, 1)], 1_000, delay_ps=100 * US))
    assert outcome(world, changes=[(10 * US, 4, DOWN, 0)])[0] == "done"
    with pytest.raises(EngineError, match="rank 0 and rank 1"):
        start(world, changes=[(10 * US, 2, DOWN, 0)]).step()


# ---- slower, dark, wrong bits


def one_way(rate_mbps: int = 100_000, delay_ps: int = US) -> dict[str, Any]:
    """Two hosts and two switches in a line; cable 1 is between the switches."""
    cables = [
        Cable(0, 2, 400_000, delay_ps),
        Cable(2, 3, rate_mbps, delay_ps),
        Cable(3, 1, 400_000, delay_ps),
    ]
    return {"n_hosts": 2, "n_switches": 2, "cables": cables, "latency_ps": [0] * 4}


def arrivals(run: engine.Run, link: int) -> list[int]:
    packets = run.packets()
    return [int(t) for t in packets["when_ps"][(packets["link"] == link) & (packets["kind"] == DATA)]]


@pytest.mark.parametrize("kind", [RATE, DARK])
@pytest.mark.parametrize("fabric", ["plain", "control", "pause", "classes"])
def test_slower_and_dark_in_closed_form(kind: int, fabric: str) -> None:
    """Packets that have begun keep their times; the others go at the new rate, or once it is lit."""
    chosen: dict[str, Any] = {"transport": ("roce", {"control_priority": int(fabric != "plain")})}
    chosen["switch"] = ("ethernet", {"ecn": 0, "data_class_count": 2 if fabric == "classes" else 1})
    if fabric == "pause":
        chosen["link"] = ("pause", {})
    world = scene(one_way(), flows([(0, 1)], 400_000), settings=chosen)
    before = arrivals(finish(world, record_packets=True), 2)
    wire = [int((size * 80_000 + 999) // 1000) for size in [4096 + 98] + [4096 + 82] * (len(before) - 2)]
    wire.append(before[-1] - before[-2])
    at, length = 12 * US + 7, 5 * US
    guard = (4096 + 98) * 80
    stop = at - guard if kind == DARK else at
    begins = [t - US - w for t, w in zip(before, wire, strict=True)]
    expected, free = [], 0
    for begin, w in zip(begins, wire, strict=True):
        if begin < stop:
            free = begin + w
        elif kind == RATE:
            free = max(free, stop) + 2 * w
        else:
            free = max(free, at + length) + w
        expected.append(free + US)
    change = (at, 2, RATE, 50_000) if kind == RATE else (at, 2, DARK, length)
    assert arrivals(finish(world, record_packets=True, changes=[change]), 2) == expected


def test_circuits_light_again_and_again() -> None:
    """A packet is on the circuit only while it is lit."""
    world = scene(
        one_way(), flows([(0, 1), (1, 0)], 2_000_000), settings={"switch": ("ethernet", {"ecn": 0})}
    )
    first, up, period = 7 * US, 11 * US, 20 * US
    run = finish(world, record_packets=True, circuits=[(1, first, up, period)])
    packets = run.packets()
    inner = packets[(packets["link"] == 2) | (packets["link"] == 3)]
    wire = (inner["bytes"].astype(np.int64) * 80_000 + 999) // 1000
    for moment in (inner["when_ps"] - US - wire, inner["when_ps"] - US):
        assert (((moment - first) % period) <= up).all()
        assert (moment >= first).all()
    share = up / period
    assert run.counters()["end_ps"] * share == pytest.approx(2_040_000 * 80, rel=0.15)


def test_a_circuit_that_is_dark_too_long_is_no_deadlock() -> None:
    rto = {"transport": ("roce", {"rto_ps": 10**13})}
    world = scene(one_way(), flows([(0, 1)], 10_000), settings=rto)
    run = finish(world, circuits=[(1, 10**12, 10**12, 3 * 10**12)])
    assert run.counters()["end_ps"] > 10**12


def test_bit_errors_lose_packets_at_their_rate() -> None:
    transport = {"transport": ("roce", {"rto_ps": 200 * US, "retry_limit_count": 100, "nak_interval_ps": US})}
    world = scene(one_way(), flows([(0, 1)], 4_000_000), settings=transport)
    run = finish(world, changes=[(0, 2, ERRORS, 10**12)])
    sent, lost = run.links()["packets"][2], run.links()["lost"][2]
    chance = 1 - (1 - 1e-6) ** (8 * 4178)
    assert lost == pytest.approx(sent * chance, rel=0.4)
    assert run.links()["lost"].sum() == lost
    again = finish(world, changes=[(0, 2, ERRORS, 10**12), (0, 5, ERRORS, 1)])
    assert again.digest == run.digest, "another link's errors shift no draw"


# ---- what is not allowed


def test_wrong_changes_are_told_together() -> None:
    world = scene(one_way(), flows([(0, 1)], 10))
    changes = [
        (0, 99, DOWN, 0),
        (0, 0, 9, 0),
        (0, 0, RATE, 10**9),
        (0, 0, DARK, 10),
        (-1, 0, DOWN, 0),
        (0, 2, ERRORS, -1),
    ]
    with pytest.raises(ConfigError) as caught:
        start(world, changes=changes)
    assert len(caught.value.problems) == len(changes)
    with pytest.raises(ConfigError, match="not down"):
        start(world, changes=[(5, 0, UP, 0), (6, 0, DOWN, 0)])
    with pytest.raises(ConfigError, match="largest packet"):
        start(world, circuits=[(1, 0, 100 * NS, US)])
    with pytest.raises(ConfigError, match="two switches"):
        start(world, circuits=[(0, 0, US, 2 * US)])
    with pytest.raises(ConfigError, match="heal_ps"):
        start(world, changes=NOTHING, heal_ps=-2)
    with pytest.raises(ConfigError, match="shape"):
        start(world, changes=[(0, 1, 2)])
