"""Optical circuits between racks: rounds of matchings, when each is lit, what is refused."""

from __future__ import annotations

import itertools
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fabricsim.cluster import Cluster
from fabricsim.topology import Circuits, Topology
from fabricsim.topology.circuits import round_robin

SPEC = {
    "racks": 4,
    "hosts_per_rack": 2,
    "slot_ps": 100_000_000,
    "dark_ps": 10_000_000,
    "rate_mbps": 100_000,
    "latency_ps": 500_000,
}


def circuits(**more) -> Circuits:
    return Circuits(**(SPEC | more))


def lit(t: Topology, at_ps: int) -> list[tuple[int, int]]:
    """Pairs of racks whose circuit is lit at a time."""
    found = []
    c = t.circuits
    for cable, first, up, period in zip(c.cable, c.first_ps, c.up_ps, c.period_ps, strict=True):
        if (at_ps - first) % period < up:
            found.append((int(t.cable_a[cable]) - t.n_hosts, int(t.cable_b[cable]) - t.n_hosts))
    return sorted(found)


@pytest.mark.parametrize("n", [2, 3, 4, 7, 8])
def test_in_a_round_robin_each_meets_each_once(n):
    rounds = round_robin(n)
    assert len(rounds) == n - 1 + n % 2
    for pairs in rounds:
        assert len({rack for pair in pairs for rack in pair}) == 2 * len(pairs) == n - n % 2
    met = [pair for pairs in rounds for pair in pairs]
    assert sorted(met) == list(itertools.combinations(range(n), 2))


def test_circuits_follow_the_slots():
    spec = circuits()
    t = spec.build()
    assert (t.n_hosts, t.n_switches, t.n_cables) == (8, 4, 8 + 6)
    for number, pairs in enumerate(spec.slots()):
        begin = number * spec.slot_ps
        assert lit(t, begin) == lit(t, begin + spec.dark_ps - 1) == []
        assert lit(t, begin + spec.dark_ps) == lit(t, begin + spec.slot_ps - 1) == sorted(pairs)
        assert lit(t, begin + spec.dark_ps + 7 * 3 * spec.slot_ps) == sorted(pairs)
    assert dict(t.describe())["circuits"] == "6, lit 90 us every 300 us"
    assert t.circuits.cable.dtype == np.int32 and not t.circuits.first_ps.flags.writeable


def test_several_uplinks_light_several_matchings():
    spec = circuits(racks=8, uplinks=2)
    assert len(spec.slots()) == 4
    t = spec.build()
    assert len(lit(t, spec.dark_ps)) == 8
    assert len(lit(t, 3 * spec.slot_ps + spec.dark_ps)) == 4
    static = circuits(uplinks=3).build()
    assert lit(static, 0) == list(itertools.combinations(range(4), 2))
    assert (static.circuits.up_ps == static.circuits.period_ps).all()


def test_a_circuit_that_stays_is_dark_once():
    rounds = [[[0, 1], [2, 3]], [[0, 1]], [[1, 0], [3, 2]], [[0, 2], [1, 3]]]
    t = circuits(rounds=rounds).build()
    c = t.circuits
    rows = sorted(zip(c.cable.tolist(), c.first_ps.tolist(), c.up_ps.tolist(), strict=True))
    assert rows == [
        (8, 10_000_000, 290_000_000),
        (9, 310_000_000, 90_000_000),
        (10, 310_000_000, 90_000_000),
        (11, 10_000_000, 90_000_000),
        (11, 210_000_000, 90_000_000),
    ]
    # A run of slots may go on over the end of the schedule.
    t = circuits(racks=2, rounds=[[[0, 1]], [], [[0, 1]]]).build()
    assert (t.circuits.first_ps.tolist(), t.circuits.up_ps.tolist()) == ([210_000_000], [190_000_000])


def test_electrical_spines():
    t = circuits(spines=2, spine_rate_mbps=40_000, fabric_rate_mbps=400_000).build()
    assert t.cable_rate_mbps.tolist() == [100_000] * 8 + [400_000] * 6 + [40_000] * 8
    assert set(t.circuits.cable.tolist()) == set(range(8, 14))
    assert t.switch_tier.tolist() == [1] * 4 + [2] * 2


@pytest.mark.parametrize(
    ("more", "place", "message"),
    [
        ({"dark_ps": 100_000_000}, ("dark",), "found 100000000, allowed: less than a slot, 100000000 ps"),
        ({"racks": 1}, ("racks",), "found 1, allowed: >= 2"),
        ({"rounds": []}, ("rounds",), "allowed: a list of rounds"),
        ({"rounds": "all"}, ("rounds",), "found 'all', allowed: a list of rounds"),
        ({"rounds": [[[0, 1, 2]]]}, ("rounds",), "round 0: found [[0, 1, 2]]"),
        ({"rounds": [[[0, True]]]}, ("rounds",), "round 0"),
        ({"rounds": [[[0, 1]], [[2, 2]]]}, ("rounds", 1), "found [2, 2], allowed: two racks of 0 to 3"),
        ({"rounds": [[[0, 9]]]}, ("rounds", 0), "found [0, 9], allowed: two racks of 0 to 3"),
        ({"rounds": [[[0, 1], [1, 0]]], "uplinks": 2}, ("rounds", 0), "found [0, 1] twice"),
        ({"rounds": [[[0, 1], [2, 1]]]}, ("rounds", 0), "found 2 circuits of rack 1, allowed: at most 1"),
        ({"rounds": [[[0, 1], [2, 3]]]}, ("rounds",), "4 nodes cannot be reached from host0"),
        ({"slot": "1ms"}, ("slot",), "given twice, also as 'slot_ps'"),
    ],
)
def test_faulty_circuits(more, place, message):
    with pytest.raises(ValidationError) as caught:
        circuits(**more)
    found = [(e["loc"], e["msg"]) for e in caught.value.errors()]
    assert any(loc == place and message in text for loc, text in found), found


@st.composite
def any_circuits(draw):
    return circuits(
        racks=draw(st.integers(2, 9)),
        hosts_per_rack=draw(st.integers(1, 3)),
        uplinks=draw(st.integers(1, 4)),
        spines=draw(st.integers(0, 2)),
    )


@settings(deadline=None, max_examples=40)
@given(any_circuits(), st.integers(0, 10**9))
def test_a_rack_has_no_more_circuits_than_uplinks(spec, at_ps):
    t = spec.build()
    used = np.bincount([rack for pair in lit(t, at_ps) for rack in pair], minlength=spec.racks)
    assert used.max() <= spec.uplinks
    # Over a period every pair is joined for as long as every other.
    c = t.circuits
    assert len(set(c.cable.tolist())) == spec.racks * (spec.racks - 1) // 2
    assert len(set(zip(c.up_ps.tolist(), c.period_ps.tolist(), strict=True))) == 1
    assert Circuits.model_validate(spec.toml_table()) == spec


def test_the_schedule_counts_in_the_digest_and_reads_back():
    table = {
        "kind": "circuits",
        "racks": 4,
        "hosts_per_rack": 2,
        "slot": "100us",
        "dark": "10us",
        "rate": "100Gbps",
        "latency": "500ns",
        "rounds": [[[0, 1], [2, 3]], [[0, 2], [1, 3]]],
    }
    cluster = Cluster.from_dict({"name": "x", "topology": table})
    for data in (cluster.model_dump(mode="json"), tomllib.loads(cluster.to_toml())):
        assert Cluster.from_dict(data).digest() == cluster.digest()
    other = Cluster.from_dict({"name": "x", "topology": table | {"dark": "20us"}})
    assert other.digest() != cluster.digest()
