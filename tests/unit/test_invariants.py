"""What must hold in every world: nothing is lost, everything ends once, and how a run is done does not tell.

Worlds come from the oracle's generator, scenes from ``tests/scenes.py``.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracle.generate import random_world
from oracle.rules import pieces
from oracle.world import Cable, World, row
from scenes import NS, SCENES, US, flows, leaf_spine, permutation, scene, star

from fabricsim.errors import DeadlockError, EngineError, InputError

DATA, PAUSE = 0, 4
worlds = st.integers(0, 2**40).map(random_world)
many = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
few = settings(many, max_examples=80)


def finish(world: World, **options: Any) -> Any:
    """Run a world to its end; worlds that deadlock (PFC in a circle) or give up are not looked at."""
    run = world.run(**options)
    try:
        run.step()
    except (DeadlockError, EngineError):
        assume(False)
    return run


def outcome(world: World, slices: list[int] | None = None, **options: Any) -> tuple[str, str]:
    """Return how a world ends and its digest, stepping to each time in ``slices`` first."""
    run = world.run(**options)
    try:
        for until in slices or []:
            run.step(until)
        run.step()
    except DeadlockError:
        return "deadlock", run.digest
    except EngineError:
        return "gave up", ""  # where it stops within a window is not told
    return "done", run.digest


# ---- how a run is done does not tell


@many
@given(worlds, st.data())
def test_one_digest(world: World, data: st.DataObject) -> None:
    """Threads, plain windows, recording and slices never change a result."""
    reference = outcome(world)
    assert outcome(world, threads=2) == reference
    assert outcome(world, threads=3, plain=True) == reference
    assert outcome(world, plain=True) == reference
    assert outcome(world, record_packets=True) == reference
    slices = sorted(data.draw(st.lists(st.integers(1, 30_000_000_000), max_size=20)))
    slices += [slices[-1]] if slices else []
    assert outcome(world, slices) == reference
    assert outcome(world, slices, threads=2) == reference


@pytest.mark.parametrize("name", SCENES)
def test_one_digest_of_scenes(name: str) -> None:
    world = SCENES[name]()
    reference = outcome(world)
    assert reference[0] == "done"
    rng = random.Random(name)
    slices = sorted(rng.randrange(200 * US) for _ in range(300))
    for options in (
        {"threads": 2},
        {"threads": 3},
        {"plain": True},
        {"plain": True, "threads": 2, "slices": slices},
    ):
        assert outcome(world, **options) == reference, options
    assert outcome(world, slices, record_packets=True) == reference


@few
@given(worlds)
def test_slices_do_all_before_their_end(world: World) -> None:
    """After step(t) exactly the operations that end before t have ended."""
    run = finish(world)
    ends = run.ops()["end_ps"]
    until = int(np.median(ends)) + 1
    sliced = world.run()
    sliced.step(until)
    seen = sliced.ops()["end_ps"]
    assert (seen[ends < until] == ends[ends < until]).all()
    assert (seen[ends >= until] == -1).all()
    assert sliced.done_ops == int((ends < until).sum())


def test_a_model_and_a_program_serve_many_runs() -> None:
    world = SCENES["incast_lossy_dcqcn"]()
    first = world.run()
    again = [type(first)(first.model, first.program, seed=world.seed) for _ in range(2)]
    for run in (again[0], first, again[1]):
        run.step()
    assert first.digest == again[0].digest == again[1].digest


# ---- nothing is lost or made


@many
@given(worlds)
def test_packets_are_conserved(world: World) -> None:
    """What enters a switch leaves it or is counted as dropped; what a link took has arrived."""
    run = finish(world, record_packets=True)
    packets, links = run.packets(), run.links()
    arrived = np.bincount(packets["link"], minlength=len(links["packets"]))
    assert (arrived == links["packets"]).all()
    carried = np.bincount(packets["link"], weights=packets["bytes"], minlength=len(arrived))
    assert (carried == links["bytes"]).all()
    marked = np.bincount(packets["link"], weights=packets["kind"] >= PAUSE, minlength=len(arrived))
    for switch in range(world.n_hosts, world.n_hosts + world.n_switches):
        ins = [2 * i + (c.a == switch) for i, c in enumerate(world.cables) if switch in (c.a, c.b)]
        outs = [link ^ 1 for link in ins]
        entered = (arrived[ins] - marked[ins]).sum()
        left = (arrived[outs] - marked[outs]).sum()
        assert entered == left + links["drops"][outs].sum()
    counters = run.counters()
    assert counters["packet_hops"] == len(packets)
    assert counters["drops"] == links["drops"].sum()
    assert counters["pfc_pauses"] == links["pauses"].sum()
    assert counters["pfc_pauses"] == counters["pfc_resumes"], "an XOFF without its XON"


@many
@given(worlds)
def test_every_message_is_delivered_whole(world: World) -> None:
    """At the receivers the numbers of each connection's packets have no gap, and each message ends once."""
    run = finish(world, record_packets=True)
    packets = run.packets()
    ends_of = [(2 * i + (c.b == end), c, end) for i, c in enumerate(world.cables) for end in (c.a, c.b)]
    host_link = {
        link ^ 1: end for link, _, end in ends_of if end < world.n_hosts
    }  # the link that arrives there
    numbers: dict[tuple[int, int], set[int]] = {}
    ends: dict[tuple[int, int], set[int]] = {}
    for p in packets[packets["kind"] == DATA]:
        if host_link.get(int(p["link"])) == p["dst"]:
            key = int(p["dst"]), int(p["connection"])
            numbers.setdefault(key, set()).add(int(p["psn"]))
            if p["flags"] & 2:
                ends.setdefault(key, set()).add(int(p["psn"]))
    assert all(len(seen) == max(seen) + 1 for seen in numbers.values())
    assert sum(map(len, ends.values())) == run.counters()["messages"]
    sends = run.sends()
    assert (sends["delivered_ps"] >= sends["start_ps"]).all()
    assert (sends["end_ps"] >= sends["delivered_ps"]).all()


@many
@given(worlds)
def test_everything_ends_once_and_in_order(world: World) -> None:
    run = finish(world)
    ops = run.ops()
    assert run.done_ops == run.total_ops == len(ops["row"])
    assert (ops["start_ps"] >= 0).all() and (ops["end_ps"] >= ops["start_ps"]).all()
    assert run.counters()["end_ps"] == ops["end_ps"].max()
    assert not run.blocked()
    end = {(int(r), int(k)): int(t) for r, k, t in zip(ops["row"], ops["rank"], ops["end_ps"], strict=True)}
    by_id = {r["id"]: i for i, r in enumerate(world.rows)}
    newest: dict[tuple[int, int], int] = {}
    for at, (index, rank, start) in enumerate(zip(ops["row"], ops["rank"], ops["start_ps"], strict=True)):
        index, rank = int(index), int(rank)
        op = world.rows[index]
        released = max([0, *(end.get((by_id[a], rank), 0) for a in op["after"])])
        if op["stream"] >= 0:
            released = max(released, newest.get((rank, op["stream"]), 0))
            newest[rank, op["stream"]] = end[index, rank]
        assert start == released + op["delay_ps"], "an operation starts when it is released, its delay later"
        if op["kind"] == "compute":
            assert ops["end_ps"][at] == start + op["duration_ps"]


# ---- lossless means lossless


@st.composite
def crowded(draw: st.DrawFn) -> World:
    """Incasts and collisions on a lossless fabric with a scant buffer and computed headroom."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    mtu = rng.choice([256, 1024, 4096])
    topology = rng.choice([star(rng.randint(3, 9)), leaf_spine(3, rng.randint(1, 2), rng.randint(1, 4))])
    rate, delay = rng.choice([10_000, 100_000, 400_000]), rng.choice([20 * NS, US, 4 * US])
    slow = rng.choice([1, 1, 4])
    topology["cables"] = [Cable(c.a, c.b, rate // rng.choice([1, slow]), delay) for c in topology["cables"]]
    hosts = topology["n_hosts"]
    pairs = [(h, 0) for h in range(1, hosts)] + permutation(hosts)
    pairs += [(rng.randrange(1, hosts), rng.randrange(1, hosts)) for _ in range(3 * hosts)]
    frame = mtu + 98
    nodes = Counter(node for c in topology["cables"] for node in (c.a, c.b))
    ports = max(nodes.values())
    wire = rate * 2 * (delay + max(topology["latency_ps"])) // 8_000_000
    least = ports * (wire + 6 * frame + 400)
    link = {
        "xoff_bytes": rng.choice([0, 2 * frame, 5 * frame]),
        "xoff_alpha_ppm": rng.choice([125_000, 1_000_000]),
        "xon_gap_bytes": rng.choice([0, 2 * frame]),
    }
    chosen = {
        "link": ("pause", link),
        "switch": ("ethernet", {"buffer_bytes": max(least, 1 << 14), "cut_through": rng.randrange(2)}),
        "transport": (
            "roce",
            {"mtu_bytes": mtu, "control_priority": rng.randrange(2), "rto_ps": 10_000_000 * US},
        ),
        "cc": (rng.choice(["none", "dcqcn"]), {}),
        "route": (rng.choice(["ecmp", "spray"]), {}),
    }
    return scene(topology, flows([p for p in pairs if p[0] != p[1]], 100 * mtu), settings=chosen)


@settings(many, max_examples=400)
@given(crowded())
def test_no_drop_on_a_lossless_fabric(world: World) -> None:
    run = world.run()
    assert run.step()
    counters = run.counters()
    assert counters["drops"] == counters["naks"] == counters["timeouts"] == 0
    if world.params("link")["xoff_bytes"]:
        assert counters["pfc_pauses"] > 0, "the world does not try anything"


def test_drops_without_headroom() -> None:
    """The same fabric drops when the headroom is one byte: so it is the headroom that keeps it lossless."""
    for headroom, drops in ((0, False), (1, True)):
        chosen = {
            "link": ("pause", {"xoff_bytes": 10_000, "headroom_bytes": headroom}),
            "switch": ("ethernet", {"buffer_bytes": 2_000_000}),
            "transport": ("roce", {"rto_ps": 500 * US, "retry_limit_count": 10_000}),
        }
        run = scene(
            star(5, delay_ps=3 * US), flows([(h, 4) for h in range(4)], 500_000), settings=chosen
        ).run()
        assert run.step()
        assert (run.counters()["drops"] > 0) == drops


# ---- random draws


def test_seeds_differ_where_randomness_matters() -> None:
    for name in ("permutation_fat_tree_pfc", "all_to_all_spray", "incast_lossy_dcqcn"):
        digests = {outcome(replace(SCENES[name](), seed=seed)) for seed in range(6)}
        assert len(digests) > 3, name


def test_seeds_agree_where_nothing_is_random() -> None:
    """One path and no marking: no draw decides anything."""
    world = SCENES["go_back_n"]()
    assert len({outcome(replace(world, seed=seed)) for seed in range(6)}) == 1


@few
@given(st.integers(0, 2**32), st.integers(1, 300_000))
def test_a_stranger_changes_nothing(seed: int, size: int) -> None:
    """A flow in another part of the network leaves every packet of the first part as it was."""
    left, hosts = leaf_spine(2, 3, 3), 6
    shift = hosts + 2  # two hosts of the second part come after the first part's hosts
    move = {**{h: h for h in range(hosts)}, **{hosts + s: shift + s for s in range(5)}}
    cables = [Cable(move[c.a], move[c.b], c.rate_mbps, c.delay_ps) for c in left["cables"]]
    cables += [Cable(hosts, shift + 5, 100_000, US), Cable(hosts + 1, shift + 5, 100_000, US)]
    topology = {"n_hosts": shift, "n_switches": 6, "cables": cables, "latency_ps": [0] * (shift + 6)}
    ecn = {"ecn_kmin_bytes": 10_000, "ecn_kmax_bytes": 100_000}
    chosen = {"switch": ("ethernet", ecn), "cc": ("dcqcn", {})}
    mine = flows([*permutation(6), (0, 5), (1, 5), (2, 5)], 100_000)
    stranger = [row(900, "send", [6], peers=[7], size=size), row(901, "recv", [7], peers=[6], size=size)]
    runs = [finish(scene(topology, rows, settings=chosen, seed=seed), record_packets=True)
            for rows in (mine, mine + stranger)]  # fmt: skip
    alone, both = (run.packets() for run in runs)
    assert (both[both["link"] < 2 * len(left["cables"])] == alone).all()


# ---- small facts of the core, through Python


@few
@given(st.integers(250, 1_000_000), st.integers(1, 4096), st.integers(1, 1_000_000))
def test_one_packet_over_a_star(rate: int, size: int, delay: int) -> None:
    """One packet: two wires and two delays there, two of an acknowledgement back, to the picosecond."""
    run = scene(star(2, rate, delay), flows([(0, 1)], size)).run()
    run.step()
    q16 = round(8_000_000 * 65536 / rate) if rate % 2 else (2 * 8_000_000 * 65536 + rate) // (2 * rate)
    wire = [-(-(bytes_ * q16) // 65536) for bytes_ in (max(84, (size + 3) // 4 * 4 + 98), 86)]
    there = 2 * (wire[0] + delay)
    sends = run.sends()
    assert sends["delivered_ps"].tolist() == [there]
    assert sends["end_ps"].tolist() == [there + 2 * (wire[1] + delay)]


@few
@given(st.integers(1, 40), st.integers(0, 50_000), st.integers(0, 9_000))
def test_a_ring_sends_every_byte(ranks: int, size: int, chunk: int) -> None:
    """A ring all-reduce of n ranks sends 2 (n-1) parts a rank, in chunks; no byte is counted twice."""
    world = scene(star(ranks), [row(0, "all_reduce", list(range(ranks)), size=size)])
    world.coll = {"ring": {"chunk_bytes": chunk}}
    run = finish(world, record_packets=True)
    messages = 2 * (ranks - 1) * ranks * pieces(size // ranks, chunk, 1 << 22)
    assert run.counters()["messages"] == messages
    if ranks > 1 and size:
        packets = run.packets()
        data = packets[(packets["kind"] == DATA) & (packets["link"] % 2 == 0)]
        payload = int(data["bytes"].astype(np.int64).sum()) - 82 * len(data) - 16 * messages
        assert 0 <= payload - 2 * (ranks - 1) * size <= 3 * messages  # padded to words


@few
@given(st.permutations(list(range(6))), st.integers(0, 5))
def test_ranks_need_not_be_in_order(order: list[int], root: int) -> None:
    """On a star it does not matter which hosts the ranks are on."""
    rows = [
        row(0, "broadcast", list(range(6)), peers=[root], size=100_000, stream=0),
        row(1, "all_to_all", list(range(6)), size=60_000, stream=0),
        row(2, "barrier", list(range(6)), stream=0),
    ]
    one, other = (World(**star(6), rows=rows, rank_host=hosts) for hosts in (list(range(6)), order))
    # ties between hosts are decided by port, so only the first operation is free of them
    first, second = (finish(world).ops()["end_ps"][:6] for world in (one, other))
    assert (first == second).all()


def test_unconnected_hosts_are_refused() -> None:
    topology = star(2)
    topology.update(n_switches=2, latency_ps=[0] * 4)
    topology["cables"][1] = Cable(1, 3, 100_000, US)
    with pytest.raises(InputError, match="not connected") as caught:
        scene(topology, flows([(0, 1)], 10)).run()
    assert "hosts 0 and 1" in str(caught.value)
