"""Traces that save and restore checkpoints, and what the analysis tells of a run of them."""

import itertools
import json
import runpy
from pathlib import Path

import pyarrow as pa
import pytest

import fabricsim
from fabricsim.analysis import checkpoints
from fabricsim.checkpoint import (
    LAYOUTS,
    MODES,
    SHARDINGS,
    TIERS,
    Checkpoint,
    Parallel,
    Plan,
    mlperf_checkpoint,
    restore_trace,
    save_trace,
)
from fabricsim.cli import main
from fabricsim.errors import ConfigError
from fabricsim.trace import make_files, read_trace, write_trace
from fabricsim.units import ms
from fabricsim.workload import checkpoint
from fabricsim.workload.shapes import ModelShape, named_shape

SMALL = ModelShape(
    name="small", layers=5, hidden=64, heads=4, kv_heads=2, ffn=96, vocab=999, source="here",
    experts=4, experts_used=2, expert_ffn=96, dense_layers=1,
)  # fmt: skip
PARALLELS = (Parallel(dp=8), Parallel(tp=2, dp=4, ep=2), Parallel(tp=2, pp=2, dp=2, order="tp-pp-dp"))


def saved(sharding="zero1", parallel=PARALLELS[1]):
    return Checkpoint(shape=SMALL, sharding=sharding, parallel=parallel)


def rows_of(trace, *kinds):
    return [row for row in trace.table.to_pylist() if row["kind"] in kinds]


def extents(trace, kind, prefix):
    """Return (rank, begin, end) of each transfer, by file."""
    found = {}
    for row in rows_of(trace, kind):
        if row["file"].startswith(prefix):
            for place, rank in enumerate(row["ranks"]):
                file = row["file"].replace("{rank:05d}", f"{rank:05d}")
                begin = (row["offset"] or 0) + place * (row["stride"] or 0)
                found.setdefault(file, []).append((rank, begin, begin + row["bytes"]))
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("sharding", "parallel"), [*itertools.product(SHARDINGS, PARALLELS)])
def test_every_byte_is_written_once_and_read_back(mode, layout, sharding, parallel):
    if sharding == "fsdp-full" and parallel is not PARALLELS[0]:
        pytest.skip("data parallelism alone")
    plan = Plan(
        saved=saved(sharding, parallel), mode=mode, layout=layout, ranks_per_node=4, transfer_bytes=100_000
    )
    trace = save_trace(plan)
    written = extents(trace, "write", "/ckpt/step0/")
    by_rank = dict.fromkeys(plan.state_bytes, 0)
    for places in written.values():
        places.sort(key=lambda place: place[1])
        assert places[0][1] == 0
        assert all(end == begin for (*_, end), (_, begin, _) in itertools.pairwise(places))
        for rank, begin, end in places:
            by_rank[rank] += end - begin
    assert by_rank == plan.state_bytes and sum(by_rank.values()) == plan.saved.total_bytes
    if layout != "rank":
        nodes = {plan.node(rank) for rank in plan.writers}
        assert len(written) == (len(nodes) if layout == "node" else 1)
    files = make_files(trace, ["/ckpt", "/local"])
    assert all(size == -1 for size in files.size_bytes), "a save finds nothing there"
    # What is read is what was written, and every rank that needs a file gets it.
    ends = {file: max(end for *_, end in places) for file, places in written.items()}
    for broadcast in (False, True):
        restored = restore_trace(plan, broadcast=broadcast)
        read = extents(restored, "read", "/ckpt/step0/")
        assert {file: max(end for *_, end in places) for file, places in read.items()} == ends
        sizes = sum(end - begin for places in read.values() for _, begin, end in places)
        assert sizes == plan.saved.total_bytes if broadcast else sizes >= plan.saved.total_bytes


@pytest.mark.parametrize("tier", TIERS)
def test_a_failed_node_gets_its_state_from_the_tier(tier):
    plan = Plan(saved=saved("zero3"), ranks_per_node=4, restart_ps=5 * ms)
    trace = restore_trace(plan, tier=tier, failed=[1])
    store = sorted(r for places in extents(trace, "read", "/ckpt/step0").values() for r, *_ in places)
    local = sorted(r for places in extents(trace, "read", "/local").values() for r, *_ in places)
    sent = {(row["ranks"][0], row["peer"][0]) for row in rows_of(trace, "send")}
    lost, kept = [4, 4, 5, 5, 6, 6, 7, 7], [0, 1, 2, 3]
    assert store == {"store": sorted([0, 0, 1, 1, 2, 2, 3, 3, *lost]), "local": lost, "peer": []}[tier]
    assert local == (kept if tier == "local" else [])
    assert bool(sent) == (tier == "peer")
    first = trace.table.slice(0, 1).to_pylist()[0]
    assert (first["name"], first["duration_ps"], len(first["ranks"])) == ("restore restart", 5 * ms, 8)
    assert trace.kinds["barrier"] == 1


def test_shared_state_is_broadcast_within_its_group():
    plan = Plan(saved=saved("ddp", Parallel(tp=2, dp=4, ep=2)))
    rows = rows_of(restore_trace(plan, broadcast=True), "broadcast")
    groups = sorted((row["peer"][0], tuple(row["ranks"])) for row in rows)
    assert groups == [
        (0, (0, 2, 4, 6)), (0, (0, 4)), (1, (1, 3, 5, 7)), (1, (1, 5)), (2, (2, 6)), (3, (3, 7)),
    ]  # fmt: skip


def test_an_asynchronous_save_waits_for_the_one_before():
    trace = save_trace(Plan(saved=saved(), mode="async", steps=4, interval=2))
    rows = trace.table.to_pylist()
    snapshots = [row for row in rows if row["name"].endswith("snapshot")]
    ends = {row["name"]: row["id"] for row in rows if row["name"].endswith(" end")}
    first, second = ([row for row in snapshots if row["name"].startswith(f"checkpoint {n}")] for n in (0, 1))
    assert all(row["after"] is None and row["stream"] == 0 for row in first)
    assert all(row["after"] == [ends["checkpoint 0 end"]] for row in second)
    assert {row["stream"] for row in rows if row["kind"] == "write"} == {1}
    assert {row["step"] for row in rows if row["name"].startswith("checkpoint 1")} == {3}
    assert sorted({row["new_file"] for row in rows if row["kind"] == "rename"}) == ["/ckpt/latest"]


def test_local_storage_keeps_two_saves_and_drains_some():
    trace = save_trace(Plan(saved=saved("fsdp"), mode="local", steps=4, drain_every=2))
    rows = trace.table.to_pylist()
    drains = sorted({row["name"].split()[1] for row in rows if " drain " in row["name"]})
    assert drains == ["1", "3"]
    local = [row["file"] for row in rows if row["kind"] == "open" and row["flags"] and "local" in row["file"]]
    assert {file.split("/")[-1].split("-")[0] for file in local} == {"save0", "save1"}
    ends = {row["name"]: row["id"] for row in rows if row["name"].endswith("drain end")}
    opened = [row for row in rows if row["name"] == "checkpoint 3 open" and row["stream"] == 1]
    assert opened and all(ends["checkpoint 1 drain end"] in row["after"] for row in opened)


def test_peers_send_a_copy_each():
    plan = Plan(saved=saved("fsdp"), mode="peer", ranks_per_node=2, drain_every=0)
    trace = save_trace(plan)
    sends = [pair for row in rows_of(trace, "send") for pair in zip(row["ranks"], row["peer"], strict=True)]
    assert sorted(sends) == [(rank, (rank + 2) % 8) for rank in range(8)]
    assert "write" not in trace.kinds and "open" not in trace.kinds


def test_training_reduces_its_gradients():
    trace = save_trace(Plan(saved=saved("zero1"), steps=1, interval=2))
    found = sorted((tuple(row["ranks"]), row["bytes"]) for row in rows_of(trace, "all_reduce"))
    # Two tensor-parallel groups: dense weights over 4 ranks, each half of the experts over 2.
    assert [ranks for ranks, _ in found] == [
        (0, 2, 4, 6), (0, 4), (1, 3, 5, 7), (1, 5), (2, 6), (3, 7),
    ]  # fmt: skip
    experts = 4 * 4 * 3 * 96 * 64
    assert {size for ranks, size in found if len(ranks) == 2} == {2 * experts // 4}
    given = save_trace(Plan(saved=saved("zero1"), steps=1, interval=2, gradient_bytes=10))
    assert {row["bytes"] for row in rows_of(given, "all_reduce")} == {10}
    first = save_trace(Plan(saved=saved("zero1"), steps=1, interval=2, priority=1))
    assert {row["priority"] for row in rows_of(first, "all_reduce")} == {1}
    assert "all_reduce" not in save_trace(Plan(saved=saved(), steps=1, interval=2, gradient_bytes=0)).kinds


def test_a_full_state_is_gathered_first():
    trace = save_trace(Plan(saved=saved("fsdp-full", Parallel(dp=4))))
    gathered = rows_of(trace, "all_gather")
    assert len(gathered) == SMALL.layers + 2
    assert sum(row["bytes"] for row in gathered) == 14 * SMALL.parameters


def test_a_checkpoint_of_512_ranks_is_a_few_rows():
    saved_405b = mlperf_checkpoint("llama3-405b")
    trace = save_trace(Plan(saved=saved_405b, mode="async"))
    assert trace.n_ranks == 512 and trace.n_rows < 150
    bytes_written = sum(len(row["ranks"]) * row["bytes"] for row in rows_of(trace, "write"))
    assert bytes_written == saved_405b.total_bytes + 16


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "lazy"}, "sync, async, local, peer"),
        ({"layout": "one"}, "rank, node, shared"),
        ({"interval": 0}, "interval: found 0"),
        ({"steps": -1}, "steps: found -1"),
        ({"mode": "peer", "ranks_per_node": 3}, "a divisor"),
        ({"mode": "peer", "ranks_per_node": 8}, "two or more"),
        ({"action": "keep"}, "save, restore"),
        ({"action": "restore", "tier": "tape"}, "store, local, peer"),
        ({"action": "restore", "failed": [7], "ranks_per_node": 4}, "node 7, allowed: 0 to 1"),
        ({"action": "restore", "tier": "peer", "failed": [0, 1], "ranks_per_node": 2}, "both copies"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        checkpoint(saved(), **given)


def ops_of(rows):
    """A table of operations: (name, rank, start, end, step, stream, bytes)."""
    names = ("name", "rank", "start_ps", "end_ps", "step", "stream", "bytes")
    return pa.table({name: [row[index] for row in rows] for index, name in enumerate(names)})


def test_a_copy_behind_a_gather_waits_for_the_save_before():
    ops = ops_of(
        [
            ("train 0 compute", 0, 0, 100, 0, 0, 0),
            ("checkpoint 0 gather", 0, 100, 110, 0, 0, 0),
            ("checkpoint 0 snapshot", 0, 150, 160, 0, 0, 0),
            ("train 1 compute", 0, 160, 260, 1, 0, 0),
        ]
    )
    (row,) = checkpoints(ops).table.to_pylist()
    assert row | {"stall_ps": 60, "wait_ps": 40, "gather_ps": 10, "snapshot_ps": 10} == row


def test_stalls_of_asynchronous_saves_and_their_back_pressure():
    ops = ops_of(
        [
            ("train 0 compute", 0, 0, 100, 0, 0, 0),
            ("checkpoint 0 snapshot", 0, 100, 120, 0, 0, 0),
            ("train 1 compute", 0, 120, 220, 1, 0, 0),
            ("checkpoint 0 open", 0, 121, 122, 0, 1, 0),
            ("checkpoint 0 write", 0, 122, 250, 0, 1, 1000),
            ("checkpoint 0 close", 0, 250, 251, 0, 1, 0),
            # The second snapshot is 40 late, as the first write was still under way.
            ("checkpoint 1 snapshot", 0, 260, 280, 1, 0, 0),
            ("checkpoint 1 drain open", 0, 300, 310, 1, 3, 0),
            ("checkpoint 1 drain close", 0, 350, 360, 1, 3, 0),
            ("restore read", 0, 400, 430, None, 0, 8),
            ("restore copy", 0, 430, 440, None, 0, 0),
            ("something else", 0, 0, 999, None, 0, 0),
            (None, 0, 0, 999, None, 0, 0),
        ]
    )
    found = checkpoints(ops)
    first, second = found.table.to_pylist()
    assert first | {"stall_ps": 20, "wait_ps": 0, "snapshot_ps": 20, "write_ps": 130, "bytes": 1000} == first
    assert second | {"stall_ps": 60, "wait_ps": 40, "snapshot_ps": 20, "drain_ps": 60, "step": 1} == second
    summary = found.summary()
    assert [row["stall_max_ps"] for row in summary] == [20, 60]
    assert summary[0]["write_gbs"] == pytest.approx(1000 / 130 * 1000) and summary[1]["write_gbs"] is None
    assert found.restore == {"copy_ps": 10, "read_ps": 30, "total_ps": 40}
    assert repr(found) == "<Checkpoints: 2 saves, longest stall 0.000 s>"


def test_stalls_of_synchronous_saves_are_of_the_whole_save():
    ops = ops_of(
        [
            ("train 0 compute", 0, 0, 100, 0, 0, 0),
            ("train 0 compute", 1, 0, 90, 0, 0, 0),
            ("checkpoint 0 open", 0, 100, 110, 0, 0, 0),
            ("checkpoint 0 write", 0, 110, 200, 0, 0, 90),
            ("checkpoint 0 end", 0, 200, 210, 0, 0, 0),
            ("checkpoint 0 end", 1, 90, 210, 0, 0, 0),
            ("train 1 compute", 0, 210, 300, 1, 0, 0),
            ("train 1 compute", 1, 210, 300, 1, 0, 0),
        ]
    )
    found = checkpoints(ops)
    assert found.table["stall_ps"].to_pylist() == [110, 120]
    assert found.restore == {} and checkpoints(ops.slice(0, 2)).summary() == []


def test_a_run_tells_what_its_saves_cost(tmp_path, capsys):
    """Saves to a peer's memory: the copy stalls, the message only where it holds up the next snapshot."""
    model = Checkpoint(shape=SMALL, sharding="zero3", parallel=Parallel(dp=16))
    plan = {"mode": "peer", "drain_every": 0, "steps": 4, "step_ps": ms // 10, "gradient_bytes": 1 << 12}
    quick = checkpoint(model, **plan)
    cluster = fabricsim.Cluster.from_toml("demo-64-400g-roce", ["transport.mtu=1024"])
    result = fabricsim.replay(quick, cluster)
    saves = result.summary["checkpoints"]["saves"]
    assert [row["step"] for row in saves] == [0, 1, 2, 3] and result.summary["checkpoints"]["restore"] == {}
    copy = Plan(saved=model).copy_ps(max(Plan(saved=model).state_bytes.values()))
    assert all(row["wait_max_ps"] == 0 and row["snapshot_max_ps"] == copy for row in saves)
    assert all(row["stall_max_ps"] == copy for row in saves)
    # Steps of no time: each snapshot waits for the message of the one before.
    hurried = fabricsim.replay(checkpoint(model, **plan | {"step_ps": 0, "gradient_bytes": 0}), cluster)
    saves = hurried.summary["checkpoints"]["saves"]
    assert saves[0]["wait_max_ps"] == 0
    for before, row in itertools.pairwise(saves):
        assert 0 < row["wait_max_ps"] <= before["write_ps"]
        assert row["stall_max_ps"] == row["wait_max_ps"] + copy
    path = tmp_path / "restore.arrow"
    arguments = ["--model", "gpt2", "--dp", "8", "--ranks-per-node", "4", "-o", str(path)]
    arguments += ["--action", "restore", "--tier", "peer", "--failed", "1"]
    assert main(["gen", "checkpoint", *arguments]) == 0
    assert read_trace(path).kinds["send"] == 1
    out = tmp_path / "quick.arrow"
    write_trace(quick, out)
    capsys.readouterr()
    assert main(["replay", str(out), "-c", "demo-64-400g-roce", "--no-progress"]) == 0
    assert "checkpoints (stall of the training" in capsys.readouterr().out


@pytest.fixture(scope="module")
def stored():
    """Sixteen ranks, a Lustre file system and storage of each node."""
    return fabricsim.Cluster.from_dict(
        {
            "name": "stored",
            "topology": {"kind": "star", "hosts": 16, "rate": "100Gbps", "latency": "500ns"},
            "storage": [
                {"name": "shared", "mount": "/ckpt", "model": "lustre", "servers": 4, "attach": "*",
                 "rate": "100Gbps", "latency": "500ns", "stripe_count": -1, "stripe_size": "64KiB"},
                {"name": "near", "mount": "/local", "model": "local"},
            ],
        }
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_saves_run_on_a_file_system(stored, mode, layout):
    model = Checkpoint(shape=SMALL, sharding="zero1", parallel=Parallel(tp=2, dp=8, ep=2))
    plan = {"mode": mode, "layout": layout, "ranks_per_node": 4, "transfer_bytes": 1 << 18}
    result = fabricsim.replay(checkpoint(model, **plan, steps=3, step_ps=ms, gradient_bytes=1 << 12), stored)
    # Three saves, each with its marker; node-local storage has them all once more.
    wanted = 3 * (model.total_bytes * (2 if mode == "local" else 1) + 16)
    assert result.summary["storage"]["bytes_written"] == wanted
    saves = result.summary["checkpoints"]["saves"]
    assert [row["bytes"] for row in saves] == [model.total_bytes] * 3
    for row in saves:
        behind = row["stall_max_ps"] - row["wait_max_ps"] - row["snapshot_max_ps"]
        assert behind >= row["write_ps"] if mode == "sync" else behind <= 0
        assert (row["drain_ps"] > 0) == (mode in ("local", "peer"))
    if mode != "sync":
        assert saves[0]["wait_max_ps"] == 0


@pytest.mark.parametrize("tier", TIERS)
def test_restores_run_on_a_file_system(stored, tier):
    model = Checkpoint(shape=SMALL, sharding="zero3", parallel=Parallel(dp=16))
    failed = [] if tier == "store" else [2]
    restored = checkpoint(model, action="restore", tier=tier, failed=failed, ranks_per_node=4, restart_ps=ms)
    result = fabricsim.replay(restored, stored)
    read = 0 if tier == "peer" else model.total_bytes
    assert result.summary["storage"]["bytes_read"] == read + 16 * 16
    parts = result.summary["checkpoints"]["restore"]
    assert parts["restart_ps"] == ms and parts["copy_ps"] > 0
    assert ("recv_ps" in parts) == (tier == "peer") and ("read_ps" in parts) == (tier != "peer")
    assert parts["total_ps"] == result.summary["end_ps"]


def test_the_parts_of_the_example_add_up(capsys):
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "async_checkpoint.py"))
    found = example["found"]
    assert len(capsys.readouterr().out.splitlines()) == 10
    for step_ps, label in found:
        quiet, costs = found[step_ps, "no save"], found[step_ps, label]
        slower = costs["all-reduce"] - quiet["all-reduce"]
        parts = quiet["training"] + costs["snapshot"] + costs["wait"] + costs["write"] + slower
        assert costs["training"] == pytest.approx(parts, rel=1e-3)
        assert (costs["write"] > 0) == (label == "in line")
        # With quick steps, a save waits for the one before, and shares links with the all-reduces.
        crowded = label == "behind" and step_ps == 20 * ms
        assert (costs["wait"] > 0) == crowded and (slower > 0.5 * quiet["all-reduce"]) == crowded


def test_the_command_makes_traces_and_tells_sizes(tmp_path, capsys):
    out = str(tmp_path / "save.arrow")
    given = ["gen", "checkpoint", "--model", "gpt2", "--sharding", "zero3", "--dp", "4", "-o", out]
    assert main([*given, "--mode", "async", "--steps", "2", "--copy-rate", "10GB/s", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    trace = read_trace(out)
    assert told["saves"] == 2 and told["rows"] == trace.n_rows and told["kinds"] == trace.kinds
    assert trace.provenance["sharding"] == "zero3" and trace.provenance["model"] == "gpt2"
    copy = max(row["duration_ps"] for row in rows_of(trace, "compute") if "snapshot" in row["name"])
    assert copy == -(-14 * named_shape("gpt2").parameters // 4) * 100
    assert main(["gen", "checkpoint", "--mlperf", "llama3-8b", "--sizes"]) == 0
    assert "112,425,623,552 bytes (104.70 GiB)" in capsys.readouterr().out
    assert main(["gen", "--json", "checkpoint", "--mlperf", "llama3-8b", "--sizes"]) == 0
    assert len(json.loads(capsys.readouterr().out)["files"]) == 16
    assert main(["gen", "checkpoint", "--list"]) == 0
    assert "deepseek-v3" in capsys.readouterr().out
    assert main(["gen", "checkpoint", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["name"] == "gpt2"
    assert main(["gen", "checkpoint", "--model", "gpt2", "--action", "restore", "-o", out]) == 0
    assert "read" in read_trace(out).kinds


@pytest.mark.parametrize(
    "arguments",
    [[], ["--model", "gpt2"], ["--model", "gpt2", "--mlperf", "llama3-8b", "--sizes"],
     ["--model", "gpt2", "-o", "-", "--json"], ["--model", "gpt2", "-o", "x", "--transfer", "3"]],
)  # fmt: skip
def test_wrong_usage_is_told(arguments, capsys, monkeypatch):
    if arguments[-1:] == ["3"]:
        arguments = [*arguments[:-1], "three"]
    assert main(["gen", "checkpoint", *arguments]) == 2
    assert "error:" in capsys.readouterr().err
