"""What every implementation owes, whoever wrote it: each that the core lists is run, none is chosen by hand.

A new switch, link, route, transport, controller or collective is tested by these from its first day. What an
implementation needs beside it (credits and input buffers, a torus and its routes) is in ``COMPANIONS``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from oracle.world import row

import fabricsim
from fabricsim._core import engine
from fabricsim.errors import InputError
from fabricsim.trace.schema import KINDS, LOWERED_SCHEMA

MIB = 1 << 20
IMPLEMENTATIONS = engine.implementations()
SECTIONS = {
    "switch": "switch",
    "link": "link",
    "route": "routing",
    "transport": "transport",
    "cc": "congestion_control",
}
FABRICS = [(room, name) for room in SECTIONS for name in IMPLEMENTATIONS[room]]
FAT_TREE = {"kind": "fat_tree", "k": 4, "rate": "100Gbps", "latency": "1us"}
TORUS = {"kind": "torus", "x": 4, "y": 4, "z": 1, "rate": "45GB/s", "latency": "1us"}
INFINIBAND = {"switch": "voq", "link": "credit", "transport": "rc", "cc": "none"}
ETHERNET = {"switch": "ethernet", "link": "pause", "transport": "roce", "cc": "none"}

# What goes with an implementation; all others stand in a RoCE fabric with pause.
COMPANIONS: dict[tuple[str, str], dict[str, str]] = {
    ("switch", "voq"): INFINIBAND,
    ("link", "credit"): INFINIBAND,
    ("transport", "rc"): INFINIBAND,
    ("transport", "ici"): INFINIBAND,
    ("transport", "scale_up"): INFINIBAND,
    ("route", "torus"): {**INFINIBAND, "transport": "ici"},
    ("cc", "ib_cc"): INFINIBAND,
    ("cc", "srd_cc"): {**ETHERNET, "link": "lossy", "transport": "srd"},
    ("transport", "srd"): {**ETHERNET, "link": "lossy"},
}
# Parameters without which an implementation has nothing to do.
VALUES: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("cc", "ib_cc"): {"switch": {"fecn_threshold": 15}},
    ("route", "torus"): {"switch": {"vl_count": 4}},
}


def cluster_for(room: str, name: str) -> fabricsim.Cluster:
    """Return a small cluster with an implementation in it, and what that one needs beside it."""
    chosen = {**COMPANIONS.get((room, name), ETHERNET), "route": "ecmp", room: name}
    more = VALUES.get((room, name), {})
    tables = {SECTIONS[r]: {"model": impl, **more.get(r, {})} for r, impl in chosen.items()}
    topology = TORUS if (room, name) == ("route", "torus") else FAT_TREE
    return fabricsim.Cluster.from_dict({"name": f"{room} {name}", "topology": topology, **tables})


def lowered(rows: list[dict[str, Any]]) -> pa.Table:
    """Return rows of ``oracle.world.row`` as the core reads them."""
    names = set(LOWERED_SCHEMA.names)
    defaults = {"priority": 0, "variant": -1}
    listed = [
        {
            **{name: made[name] for name in names & made.keys()},
            **{name: value for name, value in defaults.items() if name in names},
            "kind": KINDS.index(made["kind"]),
            "peer": made["peers"],
            "bytes": made["size"],
        }
        for made in rows
    ]
    return pa.Table.from_pylist(listed, schema=LOWERED_SCHEMA)


def traffic(ranks: int) -> list[dict[str, Any]]:
    """A permutation, an incast, an all-to-all and an all-reduce, one after the other."""
    everyone = list(range(ranks))
    across = [(rank + ranks // 2) % ranks for rank in everyone]
    into = everyone[1:5]
    rows = [
        row(0, "send", everyone, peers=across, size=300_000, stream=0),
        row(1, "recv", across, peers=everyone, size=300_000, stream=1),
        row(2, "send", into, peers=[0] * len(into), size=200_000, stream=0),
    ]
    rows += [row(3 + i, "recv", [0], peers=[rank], size=200_000) for i, rank in enumerate(into)]
    rows.append(row(10, "all_to_all", everyone, size=16 * 20_000, stream=2, after=[0]))
    rows.append(row(11, "all_reduce", everyone, size=1 << 18, stream=2))
    return rows


def run_of(model: Any, table: pa.Table, ranks: int, **options: Any) -> Any:
    chosen = model.cluster.algorithms()
    program = engine.Program(model.engine, table, rank_host=np.arange(ranks), algorithms=chosen)
    return engine.Run(model.engine, program, seed=7, **options)


# ---- fabrics


@pytest.fixture(scope="module", params=FABRICS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def fabric(request: pytest.FixtureRequest) -> tuple[Any, pa.Table, Any]:
    """A compiled cluster, its traffic, and a run of it that has ended."""
    model = fabricsim.compile(cluster_for(*request.param))
    table = lowered(traffic(model.topology.n_hosts))
    run = run_of(model, table, model.topology.n_hosts)
    assert run.step()
    return model, table, run


def test_everything_ends_once_and_in_order(fabric: tuple[Any, pa.Table, Any]) -> None:
    _, _, run = fabric
    ops = run.ops()
    assert (ops["start_ps"] >= 0).all() and (ops["end_ps"] > ops["start_ps"]).all()
    sends = run.sends()
    assert (sends["delivered_ps"] > sends["start_ps"]).all()
    assert (sends["delivered_ps"] < sends["end_ps"]).all(), "acknowledged after it was delivered"


def test_bytes_are_conserved(fabric: tuple[Any, pa.Table, Any]) -> None:
    """What a switch takes in it sends on, drops (where it may), or is a frame of its own."""
    model, _, run = fabric
    links, counters = run.links(), run.counters()
    topology = model.topology
    ends = np.array([topology.link_ends(link) for link in range(topology.n_links)])
    switch = ends >= topology.n_hosts
    into, out = int(links["packets"][switch[:, 1]].sum()), int(links["packets"][switch[:, 0]].sum())
    frames = counters["pfc_pauses"] + counters["pfc_resumes"]
    to_hosts = int(links["packets"][~switch[:, 1]].sum())
    assert out + counters["drops"] >= into
    assert out + counters["drops"] - into <= 2 * frames
    assert to_hosts >= counters["packets"] - counters["drops"]


def test_only_what_may_drop_drops(fabric: tuple[Any, pa.Table, Any]) -> None:
    model, _, run = fabric
    if model.cluster.link.model != "lossy":
        assert run.counters()["drops"] == run.counters()["naks"] == 0


@pytest.mark.parametrize(
    "options",
    [{"threads": 2}, {"plain": True}, {"record_packets": True}, {"threads": 3, "plain": True}],
    ids=str,
)
def test_how_a_run_is_done_does_not_tell(fabric: tuple[Any, pa.Table, Any], options: dict[str, Any]) -> None:
    model, table, run = fabric
    again = run_of(model, table, model.topology.n_hosts, **options)
    for until in (3_000_000, 10_000_000, 10_000_000, 50_000_001):
        again.step(until)
    again.step()
    assert again.digest == run.digest


def test_no_bandwidth_from_nothing(fabric: tuple[Any, pa.Table, Any]) -> None:
    """No link is busy for longer than the run, and no transfer beats the slowest of its wires."""
    model, _, run = fabric
    assert (run.links()["busy_ps"] <= run.now_ps).all() if run.now_ps < 1 << 60 else True
    sends = run.sends()
    slowest_mbps = int(model.topology.cable_rate_mbps.min())
    least_ps = sends["bytes"] * 8_000_000 // slowest_mbps
    assert (sends["delivered_ps"] - sends["start_ps"] >= least_ps).all()


# ---- collectives

KINDS_OF = {name: kinds for room, name, _, kinds in engine.summaries() if room == "coll"}


@pytest.fixture(scope="module")
def servers() -> Any:
    """Four servers of four GPUs, with reducers in both networks."""
    topology = {
        "kind": "nodes", "nodes": 4, "gpus_per_node": 4, "scale_up": "switch", "scale_up_rate": "450GB/s",
        "scale_up_latency": "200ns", "nvls": True, "fabric": "rails", "spines": 2, "rate": "400Gbps",
        "latency": "500ns", "sharp": True,
    }  # fmt: skip
    tables = {SECTIONS[room]: {"model": name} for room, name in INFINIBAND.items()}
    return fabricsim.compile(fabricsim.Cluster.from_dict({"name": "servers", "topology": topology, **tables}))


@pytest.mark.parametrize("name", IMPLEMENTATIONS["coll"])
@pytest.mark.parametrize("ranks", [1, 2, 4, 8, 16, 13], ids=lambda n: f"{n}ranks")
def test_collectives_end_on_every_rank(servers: Any, name: str, ranks: int) -> None:
    rows = []
    for kind in KINDS_OF[name]:
        root = [ranks - 1] if kind in ("broadcast", "reduce") else []
        for size in (0, 1, 100_000):
            size = 0 if kind == "barrier" else size
            rows.append(row(len(rows), kind, list(range(ranks)), peers=root, size=size, stream=0))
    table = lowered(rows)
    digests = set()
    chosen = dict.fromkeys(KINDS_OF[name], name)
    try:
        program = engine.Program(servers.engine, table, rank_host=np.arange(ranks), algorithms=chosen)
    except InputError as error:
        assert ranks % 4, "whole servers are never refused"
        assert f"row 0: the algorithm {name} cannot do this" in str(error)
        return
    for options in ({}, {"threads": 2, "plain": True}):
        run = engine.Run(servers.engine, program, **options)
        assert run.step()
        digests.add(run.digest)
        assert (run.ops()["end_ps"] >= run.ops()["start_ps"]).all()
    assert len(digests) == 1
