"""What a replay tells of storage, on the stand-in core."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_tables import store_table

import fabricsim
import fabricsim.fabrics
from fabricsim.analysis import breakdown
from fabricsim.cli.compare import result_at
from fabricsim.cli.inspect import describe as inspect
from fabricsim.cli.summary import print_summary
from fabricsim.errors import InputError
from fabricsim.result import Result
from fabricsim.workload.rows import Rows

pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.fixture(autouse=True)
def tables(fake_engine, monkeypatch):
    table = store_table()
    monkeypatch.setattr(fabricsim.fabrics, "parameter_table", lambda: table)


@pytest.fixture
def star():
    topology = {"kind": "star", "hosts": 8, "rate": "100Gbps", "latency": "500ns"}
    servers = {"attach": "*", "rate": "100Gbps", "latency": "500ns", "servers": 2, "targets_per_server": 2}
    storage = [servers | {"mount": "/s"}, {"name": "fast", "mount": "/n", "model": "weka"} | servers]
    return fabricsim.Cluster.from_dict({"name": "star", "topology": topology, "storage": storage})


def trace():
    rows = Rows()
    rows.add("compute", [0, 1], duration_ps=1000, stream=0)
    rows.add("all_reduce", [0, 1], bytes=500, stream=0)
    rows.write([0, 1], "/s/ckpt/{rank}", 3000, stream=1)
    rows.read([0], "/n/data", 100, stream=1)
    return rows.trace()


def test_tables_have_the_names_of_things(star, tmp_path):
    result = fabricsim.replay(trace(), star, record=("rpcs",), out=tmp_path)
    storage = result.storage.to_pylist()
    assert [row["storage"] for row in storage] == ["lustre"] * 4 + ["fast"] * 4
    assert [row["server"] for row in storage] == ["oss0", "oss0", "oss1", "oss1"] + 2 * ["backend0"] + 2 * [
        "backend1"
    ]
    servers = result.table("servers").to_pylist()
    assert [(row["server"], row["host"], row["keeps"]) for row in servers[:4]] == [
        ("oss0", "lustre.oss0", "data"),
        ("oss1", "lustre.oss1", "data"),
        ("mds0", "lustre.mds0", "metadata"),
        ("backend0", "fast.backend0", "data"),
    ]
    assert result.table("clients")["rank"].to_pylist() == [0, 1]
    rpcs = result.table("rpcs").to_pylist()
    assert [(row["kind"], row["file"], row["rank"]) for row in rpcs] == [
        ("write", "/s/ckpt/0", 0),
        ("write", "/s/ckpt/0", 1),
        ("read", "/n/data", 0),
    ]
    assert rpcs[0]["done_ps"] is None
    again = Result.load(tmp_path)
    for name in ("storage", "servers", "clients", "rpcs"):
        assert again.table(name).equals(result.table(name))
    assert again.summary == result.summary


def test_inspect_knows_the_tables_of_storage(star, tmp_path):
    fabricsim.replay(trace(), star).save(tmp_path / "out")
    for name in ("storage", "servers", "clients"):
        found = inspect(tmp_path / "out" / f"{name}.arrow")
        assert found["what"] == f"table '{name}' of a result" and found["rows"]
        assert result_at(str(tmp_path / "out" / f"{name}.arrow")).ops.num_rows


def test_the_summary_has_rates_and_the_slowest_targets(star):
    summary = fabricsim.replay(trace(), star).summary["storage"]
    write, read = summary["by_kind"]
    assert (write["kind"], write["operations"], write["bytes"], write["time_ps"]) == ("write", 2, 6000, 3000)
    assert write["gbs"] == pytest.approx(2000)
    assert (read["kind"], read["bytes"], read["mean_ps"]) == ("read", 100, 100)
    assert [one["name"] for one in summary["file_systems"]] == ["lustre", "fast"]
    assert summary["file_systems"][0]["mount"] == "/s"
    slowest = summary["slowest_targets"]
    assert [(row["server"], row["rpcs"], row["wait_ps"], row["service_ps"]) for row in slowest] == [
        ("oss0", 3, 10, 20)
    ]
    assert (summary["blocked_ps"], summary["bytes_read"], summary["bytes_written"]) == (5, 100, 6000)


def test_storage_is_a_part_of_the_time(star, capsys):
    result = fabricsim.replay(trace(), star)
    parts = breakdown(result.ops)
    assert parts.compute_ps.tolist() == [1000, 1000]
    assert parts.exposed_ps.tolist() == [500, 500]
    assert parts.storage_ps.tolist() == [1600, 1500]
    assert parts.hidden_storage_ps.tolist() == [1500, 1500]
    assert parts.idle_ps.tolist() == [0, 100]
    by_kind = {row["kind"]: row["exposed_ps"] for row in result.summary["breakdown"]["by_kind"]}
    assert by_kind["write"] == 1500
    assert result.summary["critical_path"]["by_kind"] == {"write": 3000, "read": 100}
    print_summary(result.summary)
    text = capsys.readouterr().out
    for part in (
        "exposed storage",
        "(storage behind both)",
        "writers waited for room",
        "lustre 0",
        "2000.00",
    ):
        assert part in text
    assert "read, written" in dict(result.rows())


def test_a_program_knows_its_files(star):
    program = fabricsim.run.build_program(fabricsim.compile(star), trace())
    assert program.files is not None
    paths, files = program.files.paths.to_pylist(), program.engine.files
    rows = zip(files["store"].tolist(), files["bytes"].tolist(), strict=True)
    found = dict(zip(paths, rows, strict=True))
    assert found == {"/s/ckpt/0": (0, 0), "/s/ckpt/1": (0, 0), "/n/data": (1, 100)}
    rows = Rows()
    rows.read([0], "/elsewhere/x", 1)
    with pytest.raises(InputError, match="a path in one of: /s, /n"):
        fabricsim.replay(rows.trace(), star)


def test_without_storage_operations_nothing_is_told(star):
    rows = Rows()
    rows.add("all_reduce", [0, 1], bytes=500)
    result = fabricsim.replay(rows.trace(), star)
    assert "storage" not in result.summary
    assert result.storage is None
    assert result.summary["hosts"] == 8


def test_keys_of_the_summary_are_documented(star):
    text = (Path(__file__).resolve().parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    summary = fabricsim.replay(trace(), star).summary
    storage = summary["storage"]
    wanted = {*storage, *storage["by_kind"][0], *storage["file_systems"][0], *storage["slowest_targets"][0]}
    wanted |= set(summary["breakdown"]["mean"])
    assert sorted(name for name in wanted if f"`{name}`" not in text) == []
