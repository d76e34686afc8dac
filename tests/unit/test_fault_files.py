"""The table ``[faults]`` of a cluster file: names, hints, random draws, and replays that use it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fabricsim
from fabricsim.cli.options import fault_events
from fabricsim.cluster import Cluster
from fabricsim.convert import convert
from fabricsim.errors import ConfigError, EngineError
from fabricsim.fabrics.faults import DARK, DOWN, RATE, UP
from fabricsim.workload import collective

LEAF_SPINE = {
    "kind": "leaf_spine",
    "leaves": 2,
    "spines": 2,
    "hosts_per_leaf": 2,
    "rate": "100Gbps",
    "latency": "500ns",
}
MS, US = 10**9, 10**6


def cluster(faults: dict[str, Any] | None = None, **more: Any) -> Cluster:
    given = {"name": "small", "topology": LEAF_SPINE, "transport": {"rto": "200us"}, **more}
    return Cluster.from_dict(given | ({"faults": faults} if faults is not None else {}))


def event(**more: Any) -> dict[str, Any]:
    return {"at": "1ms", "link": "leaf0->spine1", "kind": "down"} | more


def changes(made: Cluster, seed: int = 1) -> list[tuple[int, ...]]:
    assert made.faults is not None
    table = made.faults.changes(made.topology(), made.topology_spec, seed)
    return [tuple(row) for row in table.tolist()]


def test_events_become_changes() -> None:
    made = cluster({"event": [event(**{"for": "5ms"})]})
    link = [made.topology().link_name(i) for i in range(made.topology().n_links)].index("leaf0->spine1")
    assert changes(made) == [(MS, link, DOWN, 0), (6 * MS, link, UP, 0)]
    flapping = cluster({"event": [event(**{"for": "1us", "every": "10us", "times": 3})]})
    assert [row[0] for row in changes(flapping)] == [MS + 10 * US * i + d for i in range(3) for d in (0, US)]
    slow = cluster({"event": [event(kind="degrade", rate="25Gbps", both=False)]})
    assert changes(slow) == [(MS, link, RATE, 25_000)]
    assert len(changes(cluster({"event": [event(kind="degrade", rate="25Gbps")]}))) == 2
    node = cluster({"event": [{"at": "5ps", "node": "spine0", "kind": "down"}]})
    assert len(changes(node)) == 2 and all(row[2] == DOWN for row in changes(node))


def test_a_cube_that_is_swapped_is_dark() -> None:
    torus = {"kind": "torus", "x": 8, "y": 4, "z": 4, "rate": "400Gbps", "latency": "200ns"}
    swap = {"at": "1ms", "cube": 1, "kind": "swap", "for": "30ms"}
    models = {"switch": "voq", "link": "credit", "routing": "torus", "transport": "ici"}
    models["congestion_control"] = "none"
    rooms = {room: {"model": name} for room, name in models.items()}
    made = cluster({"event": [swap]}, topology=torus, **rooms)
    rows = changes(made)
    # the links inside a cube, 3 * 4^2 * 3, its wraparounds in y and z, and both faces in x
    assert len(rows) == 144 + 32 + 32 and {row[2:] for row in rows} == {(DARK, 30 * MS)}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (event(link="leaf0->spime1"), "did you mean 'spine1'"),
        (event(link="leaf0->leaf1"), "no cable joins leaf0 and leaf1"),
        (event(link="leaf0"), "allowed: a link such as"),
        (event(kind="degrade", rate="200Gbps"), "at most the cable's"),
        (event(kind="degrade"), "which needs it"),
        (event(kind="dark"), "missing, allowed: how long"),
        (event(link="host0->leaf0", kind="dark", **{"for": "1us"}), "cables between switches"),
        (event(node="spine0"), "one of link, node and cube"),
        (event(times=2), "every"),
        (event(kind="swap", link=None, cube=0, **{"for": "1us"}), "topology.kind = 'torus'"),
        (event(knd="down"), "did you mean 'kind'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cluster({"event": [event(), {k: v for k, v in wrong.items() if v is not None}]})
    assert text in str(caught.value)
    assert "faults.event[1]" in str(caught.value)


def test_rates_need_a_horizon() -> None:
    with pytest.raises(ConfigError, match="horizon"):
        cluster({"links": {"fit": 500, "repair": "1ms"}})
    with pytest.raises(ConfigError, match="one of fit and mtbf_hours"):
        cluster({"links": {"repair": "1ms"}, "horizon": "1s"})


def test_random_failures_depend_on_seed_and_name_alone() -> None:
    rates = {"links": {"mtbf_hours": 1e-6, "repair": "100us"}, "horizon": "20ms"}
    made = cluster(rates)
    assert changes(made) == changes(made) != changes(made, seed=2)
    ups, downs = ([r for r in changes(made) if r[2] == kind] for kind in (UP, DOWN))
    assert len(ups) == len(downs) > 8
    mean = 4 * 20 * MS / len(downs)
    assert mean == pytest.approx(3_600_000_000 * 1e3 * 1e-3 + 100 * US, rel=0.6)
    wider = cluster(rates, topology=LEAF_SPINE | {"spines": 3})

    def named(c: Cluster) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for at, link, *_ in changes(c):
            found.setdefault(c.topology().link_name(link), []).append(at)
        return found

    before, after = named(made), named(wider)
    assert len(after) > len(before)
    assert all(after[name] == times for name, times in before.items())


def test_a_cluster_with_faults_reads_back() -> None:
    made = cluster({"heal": "50us", "event": [event(**{"for": "5ms"}), event(at="9ms")]})
    assert Cluster.from_dict(tomllib.loads(made.to_toml())) == made
    assert made.digest() != cluster().digest() != cluster({"heal": "50us"}).digest()
    assert any("leaf0->spine1" in value for _, value in made.describe())


def test_a_replay_heals() -> None:
    trace = collective("all_reduce", size_bytes=1 << 22, n_ranks=4)
    whole = fabricsim.replay(trace, cluster())
    assert "faults" not in whole.summary
    down = event(at="50us")
    result = fabricsim.replay(trace, cluster({"heal": "20us", "event": [down]}), threads=2)
    assert result.summary["faults"]["changes"] == result.summary["faults"]["heals"] == 1
    links = result.links
    lost = np.asarray(links["lost_packets"])
    assert result.summary["faults"]["lost_packets"] == lost.sum()
    assert (np.asarray(links["down_ps"]) > 0).sum() == 2
    assert result.summary["end_ps"] > whole.summary["end_ps"]
    assert fabricsim.replay(trace, cluster({"heal": "20us", "event": [down]})).digest == result.digest


def test_a_replay_that_is_cut_off_names_ranks_and_links() -> None:
    trace = collective("all_reduce", size_bytes=1 << 22, n_ranks=4)
    with pytest.raises(EngineError) as caught:
        fabricsim.replay(trace, cluster({"event": [{"at": "50us", "node": "host2", "kind": "down"}]}))
    assert "rank 2" in str(caught.value) and "link host2->leaf1 is down" in str(caught.value)


def test_a_replay_over_circuits() -> None:
    topology = {"kind": "circuits", "racks": 4, "hosts_per_rack": 1, "slot": "100us", "dark": "10us",
                "rate": "100Gbps", "latency": "500ns"}  # fmt: skip
    trace = collective("all_to_all", size_bytes=1 << 20, n_ranks=4)
    result = fabricsim.replay(trace, cluster(topology=topology, transport={"rto": "100ms"}))
    assert result.summary["faults"] == {"changes": 0, "lost_packets": 0, "heals": 0}
    assert result.summary["end_ps"] > 200 * US, "the last circuit lights in the third slot"


def test_failures_of_a_connection_matrix(tmp_path: Path) -> None:
    """A link of htsim that is not there is one that is down from the start."""
    lines = ["Nodes 16", "Connections 1", "Failures 2", "0->15 start 0 size 100000"]
    lines += [f"failure switch_type AGG switch_id {i} link_id {j}" for i, j in ((0, 0), (1, 1))]
    path = tmp_path / "failed.cm"
    path.write_text("\n".join(lines) + "\n")
    report = convert(path)
    assert report.counts["failures"] == 2
    tree = {"kind": "fat_tree", "k": 4, "rate": "100Gbps", "latency": "500ns"}
    failed = cluster(topology=tree).with_faults(report.faults)
    assert [row[0] for row in changes(failed)] == [0, 0]
    result = fabricsim.replay(report.trace, failed)
    rows = zip(result.links["link"].to_pylist(), result.links["packets"].to_pylist(), strict=True)
    assert {name: sent for name, sent in rows if name in ("agg0->core0", "agg1->core3")} == {
        "agg0->core0": 0,
        "agg1->core3": 0,
    }
    assert result.summary["faults"]["lost_packets"] == 0
    with pytest.raises(ConfigError, match="unknown node 'agg0'"):
        cluster().with_faults(report.faults)


def test_the_option_fault() -> None:
    events = fault_events(
        [
            "at=1ms,link=leaf0->spine1,kind=degrade,rate=25Gbps,both=false",
            "at=2ms,node=spine0,port=1,kind=down",
        ]
    )
    assert [row[2] for row in changes(cluster().with_faults(events))] == [RATE, DOWN]
