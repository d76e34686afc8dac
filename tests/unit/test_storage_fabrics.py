"""File systems on the kinds of topologies: everything arrives, and results do not depend on threads."""

from __future__ import annotations

import numpy as np
import pytest

import fabricsim
from fabricsim._core import engine
from fabricsim.cluster import Cluster
from fabricsim.program import build_program, compile
from fabricsim.workload.rows import Rows

MIB = 1 << 20
LUSTRE = {"servers": 2, "targets_per_server": 2, "rate": "100Gbps", "latency": "500ns", "stripe_count": 2}
REGULAR = {"rate": "100Gbps", "latency": "500ns"}

FABRICS = {
    "star": ({"kind": "star", "hosts": 8, **REGULAR}, "*"),
    "leaf_spine": ({"kind": "leaf_spine", "leaves": 2, "spines": 2, "hosts_per_leaf": 4, **REGULAR}, "leaf*"),
    "spines": ({"kind": "leaf_spine", "leaves": 2, "spines": 2, "hosts_per_leaf": 4, **REGULAR}, "spine*"),
    "fat_tree": ({"kind": "fat_tree", "k": 4, **REGULAR}, ["edge0", "core3"]),
    "rails": (
        {"kind": "rail_optimized", "nodes": 2, "gpus_per_node": 4, "spines": 2, **REGULAR},
        "group0.rail[12]",
    ),
    "circuits": (
        {"kind": "circuits", "racks": 4, "hosts_per_rack": 2, "uplinks": 3, "slot": "100us", "dark": "10us"}
        | REGULAR,
        "rack*",
    ),
}


def trace(ranks: int, mount: str = "") -> fabricsim.Trace:
    """Every rank writes a file of its own and all write one, beside an all-reduce; then they read."""
    rows = Rows()
    everyone = range(ranks)
    rows.add("all_reduce", everyone, bytes=4 * MIB, stream=1)
    for file, stride in ((f"{mount}/own/{{rank}}", 0), (f"{mount}/shared", 2 * MIB)):
        rows.open(everyone, file, create=True, stream=0)
        rows.write(everyone, file, 2 * MIB, stride=stride, stream=0)
        rows.add("fsync", everyone, file=file, stream=0)
    rows.add("barrier", everyone, stream=0)
    rows.read(everyone, f"{mount}/shared", 2 * MIB, stride=2 * MIB, stream=0)
    return rows.trace()


def check(cluster: Cluster, ranks: int = 8, mount: str = "", copies: float = 1.0) -> None:
    """Run twice; targets keep ``copies`` times what is written, in whole blocks."""
    program = build_program(compile(cluster), trace(ranks, mount))
    digests = set()
    for threads in (1, 3):
        run = engine.Run(program.model.engine, program.engine, threads=threads)
        run.step()
        run.check()
        digests.add(run.digest)
        targets, clients = run.targets(), run.clients()
        assert clients["bytes_written"].sum() == clients["bytes_read"].sum() * 2 == 4 * MIB * ranks
        kept = clients["rpc_written_bytes"].sum() * copies
        assert kept <= targets["bytes_written"].sum() < kept + 64 * 4096
        assert targets["bytes_read"].sum() == clients["rpc_read_bytes"].sum()
    assert len(digests) == 1


@pytest.mark.parametrize("name", FABRICS)
def test_storage_on_every_fabric(name):
    topology, attach = FABRICS[name]
    cluster = Cluster.from_dict({"name": name, "topology": topology, "storage": {**LUSTRE, "attach": attach}})
    check(cluster)


def test_storage_beside_scale_up_and_reducers():
    cluster = Cluster.load("dgx-h100", ["topology.nodes=2", "collectives.library=fixed"])
    data = cluster.model_dump() | {"storage": [{**LUSTRE, "attach": "group0.leaf*"}]}
    check(Cluster.from_dict(data), ranks=16)


def test_storage_on_a_torus():
    cluster = Cluster.load("tpu-v4-pod", ["topology.x=2", "topology.y=2", "topology.z=2"])
    storage = [{**LUSTRE, "attach": ["router0.0.0", "router1.1.1"]}]
    check(Cluster.from_dict(cluster.model_dump() | {"storage": storage}))


def test_beegfs_on_hosts_of_the_topology():
    topology = {"kind": "star", "hosts": 16, **REGULAR}
    storage = {"model": "beegfs", "servers": 2, "hosts": "last"}
    check(Cluster.from_dict({"name": "x", "topology": topology, "storage": storage}))


def test_weka_keeps_parity():
    topology = {"kind": "star", "hosts": 16, **REGULAR}
    storage = {"model": "weka", "servers": 7, "data": 5, "hosts": "last", "mount": "/x"}
    cluster = Cluster.from_dict({"name": "x", "topology": topology, "storage": storage})
    check(cluster, mount="/x", copies=7 / 5)


def test_recording_and_slices_change_nothing(tmp_path):
    topology, attach = FABRICS["leaf_spine"]
    cluster = Cluster.from_dict({"name": "x", "topology": topology, "storage": {**LUSTRE, "attach": attach}})
    plain = fabricsim.replay(trace(8), cluster)
    recorded = fabricsim.replay(trace(8), cluster, record=("series", "rpcs"), out=tmp_path, threads=2)
    assert plain.digest == recorded.digest and plain.summary == recorded.summary
    program = build_program(compile(cluster), trace(8))
    run = engine.Run(program.model.engine, program.engine)
    run.step()
    assert run.digest == plain.digest
    rpcs = recorded.table("rpcs")
    assert rpcs.num_rows == sum(recorded.table("clients")["rpcs"].to_pylist())
    ways = [rpcs[name].to_numpy() for name in ("sent_ps", "queued_ps", "began_ps", "served_ps", "done_ps")]
    assert all((np.diff(times) >= 0).all() for times in np.stack(ways, axis=1))
    written = [row for row in rpcs.to_pylist() if row["kind"] == "write"]
    assert sum(row["bytes"] for row in written) == plain.summary["storage"]["rpc_written_bytes"]
    again = fabricsim.Result.load(tmp_path)
    assert again.table("storage").equals(
        plain.table("storage").replace_schema_metadata(again.storage.schema.metadata)
    )


def test_ranks_keep_their_routes():
    topology, _ = FABRICS["fat_tree"]
    plain = compile(Cluster.from_dict({"name": "x", "topology": topology}))
    model = compile(
        Cluster.from_dict(
            {"name": "x", "topology": topology, "storage": {**LUSTRE, "attach": ["core*", "edge*"]}}
        )
    )
    arithmetic = [m.engine.info()["arithmetic_switch_count"] for m in (plain, model)]
    assert arithmetic == [20, 20]
    for src, dst in ((0, 1), (0, 5), (3, 15), (12, 2)):
        for entropy in (0, 777, 40_000):
            ways = [m.engine.path(src, dst, entropy) for m in (plain, model)]
            assert np.array_equal(*ways)
    t = model.topology
    for server in range(t.storage_first, t.reducer_first):
        way = [t.link_name(int(link)) for link in model.engine.path(0, server, 5)]
        assert way[0].startswith("host0->") and way[-1].endswith(t.node_names[server])


@pytest.mark.parametrize(("tier", "disk"), [("125", 1.2), ("250", 2.4), ("500", 4.8), ("1000", 9.6)])
def test_tiers_of_fsx_have_their_disks(tier, disk):
    rows = Rows()
    ranks = range(4)
    rows.open(ranks, "/fsx/{rank}", create=True, stream=0)
    rows.write(ranks, "/fsx/{rank}", 256 * MIB, direct=True, stream=0)
    cluster = Cluster.load(f"fsx-lustre-{tier}", ["transport.train_count=15"])
    write = fabricsim.replay(rows.trace(), cluster).summary["storage"]["by_kind"][0]
    # 9.6 TiB of so many MB/s each; the first and the last RPC of a target are not alone in their time
    assert write["gbs"] == pytest.approx(disk, rel=0.03)
