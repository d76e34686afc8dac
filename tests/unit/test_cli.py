"""The commands, in process, on the stand-in core."""

import io
import json
import re
import sys
from types import SimpleNamespace

import pyarrow as pa
import pytest

import fabricsim
import fabricsim.run
from fabricsim import validate
from fabricsim.cli import COMMANDS, build_parser, main
from fabricsim.cli.options import key_values
from fabricsim.errors import ConfigError
from fabricsim.result import Result
from fabricsim.trace import read_trace, write_trace
from fabricsim.workload import collective, file_io, flows

pytestmark = pytest.mark.usefixtures("fake_engine")

STAR = """
name = "star"
[topology]
kind = "star"
hosts = 8
rate = "100Gbps"
latency = "500ns"
"""


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A folder with a cluster, a trace and a matrix, and the working directory there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "star.toml").write_text(STAR)
    write_trace(collective("all_reduce", size_bytes=4096, n_ranks=8, iterations=2), "t.arrow")
    (tmp_path / "m.cm").write_text(
        "Nodes 8\nConnections 3\n0->1 id 11 start 0 size 1000\n1->2 id 12 start 5000 size 3000\n"
        "2->3 id 13 start 0 size 500\n"
    )
    return tmp_path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def as_json(capsys):
    return json.loads(capsys.readouterr().out)


def test_every_command_has_help_and_json(capsys):
    parser = build_parser()
    for command in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([command.NAME, "--help"])
        assert ended.value.code == 0
        assert "--json" in capsys.readouterr().out


def test_replay_prints_a_summary(at, capsys):
    assert run("replay", "t.arrow", "--cluster", "star.toml") == 0
    captured = capsys.readouterr()
    for text in (
        "star: 8 hosts, 8 ranks, 2 operations",
        "where the time went",
        "busiest links",
        "busbw",
    ):
        assert text in captured.out
    assert "packet-hops in" in captured.err and "packet-hops in" not in captured.out
    assert not re.search(r"\x1b\[", captured.out)


def test_replay_json_holds_the_promised_keys(at, capsys):
    assert run("replay", "t.arrow", "-c", "star.toml", "--json", "-o", "out", "--series", "1us") == 0
    document = as_json(capsys)
    for key in ("end_ps", "packets", "packet_hops", "drops", "ecn_marks", "pfc_pauses", "digest", "flows"):
        assert key in document
    saved = Result.load(at / "out")
    assert saved.summary["digest"] == document["digest"]
    assert saved.series is not None
    assert {"rank", "id", "kind", "start_ps", "end_ps"} <= set(saved.ops.column_names)


def test_replay_reads_standard_input(at, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((at / "t.arrow").read_bytes())))
    assert run("replay", "-", "-c", "star.toml", "--json") == 0
    assert as_json(capsys)["operations"] == 2


def test_an_override_changes_the_cluster(at, capsys):
    assert run("replay", "t.arrow", "-c", "star.toml", "--set", "topology.hosts=16", "--json") == 0
    assert as_json(capsys)["hosts"] == 16


def test_flows_tells_completion_times_under_the_ids_of_the_file(at, capsys):
    assert run("flows", "m.cm", "-c", "star.toml", "--json") == 0
    document = as_json(capsys)
    assert [(flow["id"], flow["fct_ps"]) for flow in document["flows"]] == [(11, 1000), (12, 3000), (13, 500)]
    assert document["flows"][1]["start_ps"] == 5000
    assert document["flows_summary"]["fct_max_ps"] == 3000
    assert run("flows", "m.cm", "-c", "star.toml") == 0
    out = capsys.readouterr().out
    assert "slowest flows" in out and "p99" in out
    assert out.index("\n  12") < out.index("\n  11")


def test_flows_takes_csv_arrow_and_traces(at, capsys):
    (at / "f.csv").write_text("src,dst,bytes\n0,1,100\n1,0,200\n")
    table = pa.table({"src": [0, 1], "dst": [1, 0], "bytes": [100, 200]})
    with pa.OSFile("f.arrow", "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    write_trace(flows([(0, 1, 100, 0), (1, 0, 200, 0)]), "trace.arrow")
    for name in ("f.csv", "f.arrow", "trace.arrow"):
        assert run("flows", name, "-c", "star.toml", "--json") == 0
        assert [flow["fct_ps"] for flow in as_json(capsys)["flows"]] == [100, 200], name


def test_convert_writes_a_trace(at, capsys):
    assert run("convert", "m.cm", "-o", "new.arrow") == 0
    assert "6 rows, 4 ranks" in capsys.readouterr().out
    assert read_trace("new.arrow").kinds == {"send": 3, "recv": 3}
    assert run("convert", "m.cm", "-o", "new.arrow", "--from", "htsim", "--json") == 0
    assert as_json(capsys)["rows"] == 6
    assert run("convert", "--list") == 0
    assert "htsim" in capsys.readouterr().out
    assert run("convert", "--list", "--json") == 0
    assert as_json(capsys)[0]["name"]


def test_inspect_tells_what_a_file_is(at, capsys):
    run("replay", "t.arrow", "-c", "star.toml", "-o", "out")
    (at / "n.json").write_text(json.dumps({"results": [{"size": 8, "out_of_place": {"time": 2.0}}]}))
    (at / "topology.txt").write_text("3 1 2\n2\n0 2 100Gbps 1us 0\n1 2 100Gbps 1us 0\n")
    capsys.readouterr()
    for name, what in (
        ("t.arrow", "trace"),
        ("out", "result of a replay"),
        ("out/summary.json", "result of a replay"),
        ("out/links.arrow", "table 'links' of a result"),
        ("star.toml", "cluster"),
        ("demo-64-400g-roce", "cluster"),
        ("n.json", "nccl-tests results"),
        ("topology.txt", "topology file"),
        ("m.cm", "htsim connection matrix"),
    ):
        assert run("inspect", name, "--json") == 0, name
        assert as_json(capsys)["what"].startswith(what), name
        assert run("inspect", name) == 0
        assert what in capsys.readouterr().out


def test_inspect_tells_what_a_trace_does_with_files(at, capsys):
    trace = file_io(
        "write", n_ranks=4, size_bytes=5 << 20, transfer_bytes=1 << 20, file="/scratch/{rank:03d}"
    )
    write_trace(trace, "io.arrow")
    assert run("inspect", "io.arrow", "--json") == 0
    found = as_json(capsys)["storage"]
    assert (found["bytes_written"], found["files"], found["files_made"]) == (20 << 20, 4, 4)
    assert run("inspect", "io.arrow") == 0
    text = capsys.readouterr().out
    assert "20 MiB by 20 writes" in text and "open 4, fsync 4, close 4" in text
    assert re.search(r"/scratch/000 +0 B +5 MiB", text) and re.search(r"1 MiB +0 +20", text)


def test_compare_prints_ratios(at, capsys):
    run("replay", "t.arrow", "-c", "star.toml", "-o", "out")
    trace = read_trace("t.arrow").table
    columns = {"start_ps": pa.array([0, 4096]), "end_ps": pa.array([2048, 8192])}
    for name, values in columns.items():
        trace = trace.append_column(name, values)
    write_trace(trace, "measured.arrow")
    capsys.readouterr()
    assert run("compare", "measured.arrow", "out") == 0
    out = capsys.readouterr().out
    assert "2.000" in out and "1.000" in out and "median 1.500" in out
    assert run("compare", "out", "out/ops.arrow", "--json") == 0
    assert as_json(capsys)["ratio_median"] == 1.0
    (at / "n.json").write_text(json.dumps({"results": [{"size": 4096, "out_of_place": {"time": 0.004096}}]}))
    assert run("compare", "n.json", "out", "--json") == 0
    assert as_json(capsys)["rows"][0]["ratio"] == 1.0


def test_platforms_lists_and_shows(capsys):
    assert run("platforms") == 0
    assert "demo-64-400g-roce" in capsys.readouterr().out
    assert run("platforms", "--json") == 0
    assert {"name", "description"} <= set(as_json(capsys)[0])
    assert run("platforms", "demo-64-400g-roce") == 0
    assert "source" in capsys.readouterr().out
    assert run("platforms", "demo-64-400g-roce", "--json") == 0
    assert as_json(capsys)["name"] == "demo-64-400g-roce"
    assert run("platforms", "demo-64-400g-roce", "--toml") == 0
    assert "[topology]" in capsys.readouterr().out


def test_repair_saves_whole_batches(at, capsys):
    data = (at / "t.arrow").read_bytes()
    (at / "cut.arrow").write_bytes(data[: len(data) - 40])
    assert run("repair", "cut.arrow") == 0
    assert "saved 2 rows" in capsys.readouterr().out
    assert read_trace("cut.repaired.arrow").n_rows == 2
    assert run("repair", "cut.arrow", "-o", "r.arrow", "--json") == 0
    assert as_json(capsys)["rows_saved"] == 2


def test_validate_fails_with_1(capsys, monkeypatch):
    def one(name, value):
        given = {"published": 1.0, "unit": "s", "tolerance": 0.1, "source": "a paper", "kind": "analytic"}
        return validate.Check(name=name, configuration="one", function=lambda: value, **given)

    checks = [one("good", 1.05), one("bad", 2.0)]
    monkeypatch.setattr(validate, "all_checks", lambda: checks)
    assert run("validate") == 1
    out = capsys.readouterr().out
    assert "+100.00 %" in out and "FAIL" in out and "1 passed, 1 failed, 0 skipped" in out
    assert run("validate", "--only", "good", "--json") == 0
    assert as_json(capsys)["checks"][0]["emulated"] == 1.05
    assert run("validate", "--list") == 0
    assert "a paper" in capsys.readouterr().out
    assert run("validate", "--only", "nothing") == 2


def test_doctor_judges_the_self_test(capsys, monkeypatch, fake_engine):
    from fabricsim.workload import selftest

    assert run("doctor", "--json") == 1
    monkeypatch.setattr(selftest, "SELF_TEST_DIGEST", set(selftest.self_test().values()).pop())
    capsys.readouterr()
    assert run("doctor", "--json") == 0
    assert as_json(capsys)["ok"]
    assert run("doctor") == 0


def test_the_demo_ends_with_the_next_command(capsys, tmp_path):
    assert run("demo", "-o", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "demo-64-400g-roce: 64 hosts, 64 ranks" in out
    command = out.strip().splitlines()[-1].split()
    assert command[:2] == ["fabricsim", "replay"]
    assert run(*command[1:]) == 0


def test_key_values_are_toml_or_text():
    assert key_values(["a.b=3", "c=400KB", 'd="x y"'], "--set") == {"a.b": 3, "c": "400KB", "d": "x y"}
    with pytest.raises(ConfigError):
        key_values(["novalue"], "--option")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["replay", "missing.arrow", "-c", "star.toml"], 3, "missing.arrow"),
        (["replay", "star.toml", "-c", "star.toml"], 3, "star.toml"),
        (["replay", "t.arrow", "-c", "nowhere"], 2, "nowhere"),
        (["replay", "t.arrow", "-c", "star.toml", "--set", "topology.hots=2"], 2, "hosts"),
        (["replay", "t.arrow", "-c", "star.toml", "--set", "topology.hosts=4"], 2, "8 ranks"),
        (["replay", "t.arrow", "-c", "star.toml", "--seed", "-1"], 2, "seed"),
        (["replay", "t.arrow", "-c", "star.toml", "--max-time", "5"], 2, "--max-time"),
        (["replay", "t.arrow", "-c", "star.toml", "--max-time", "5ns"], 4, "limit"),
        (["replay", "t.arrow", "-c", "star.toml", "--series", "1us"], 2, "-o DIR"),
        (["replay", "t.arrow", "-c", "star.toml", "-o", "t.arrow/x"], 2, "t.arrow/x"),
        (["flows", "nothing.cm", "-c", "star.toml"], 3, "nothing.cm"),
        (["flows", "star.toml", "-c", "star.toml"], 3, "star.toml"),
        (["flows", "m.cm", "-c", "star.toml", "--from", "htsin"], 2, "htsim"),
        (["convert", "m.cm"], 2, "-o"),
        (["convert", "m.cm", "-o", "x/y.arrow"], 2, "x/y.arrow"),
        (["convert", "m.cm", "-o", "-", "--json"], 2, "standard output"),
        (["convert", "m.cm", "-o", "n.arrow", "--option", "x=1"], 2, "x"),
        (["inspect", "nothing"], 3, "nothing"),
        (["compare", "t.arrow", "."], 3, "summary.json"),
        (["platforms", "demo"], 2, "demo"),
        (["platforms", "--toml"], 2, "NAME"),
        (["repair", "nothing"], 3, "nothing"),
        (["repair", "star.toml", "-o", "x.arrow"], 3, "star.toml"),
        (["repair", "t.arrow", "-o", "t.arrow"], 2, "itself"),
    ],
)
def test_what_a_user_does_wrong_has_its_exit_code(at, capsys, arguments, code, text):
    assert run(*arguments) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") or "\nerror: " in captured.err
    assert text in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_fault_of_ours_is_4_and_no_traceback(capsys, monkeypatch):
    from fabricsim.cli import platforms

    def broken(arguments):
        raise RuntimeError("oops [red]")

    monkeypatch.setattr(platforms, "run", broken)
    assert run("platforms") == 4
    assert "internal: RuntimeError: oops [red]" in capsys.readouterr().err
    monkeypatch.setenv("FABRICSIM_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        run("platforms")


def test_the_exports_are_there():
    for name in fabricsim.__all__:
        assert getattr(fabricsim, name) is not None
    assert set(fabricsim.__all__) <= set(dir(fabricsim))

    assert callable(fabricsim.replay) and callable(fabricsim.compile)
    with pytest.raises(AttributeError):
        _ = fabricsim.nothing
