"""The command line on the compiled core: what comes out of the whole way from a file to an answer."""

import json
import re
import time

import pytest

from fabricsim.cli import main
from fabricsim.cluster import Cluster
from fabricsim.errors import ConfigError
from fabricsim.result import Result
from fabricsim.trace import write_trace
from fabricsim.workload import collective
from fabricsim.workload.rows import Rows

SMALL = ["-c", "fat-tree-k8-100g-roce", "--set", "topology.k=4"]


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_of_many_flows_is_one_document_with_a_line_a_flow(inside, capsys):
    lines = [f"{i % 16},{(i + 1 + i // 16) % 16},{1000 + i}" for i in range(40)]
    (inside / "f.csv").write_text("src,dst,bytes\n" + "\n".join(lines))
    assert main(["flows", "f.csv", *SMALL, "--json", "-o", "out"]) == 0
    text = capsys.readouterr().out
    found = json.loads(text)
    keys = ("end_ps", "packets", "packet_hops", "drops", "ecn_marks", "pfc_pauses", "digest")
    assert all(key in found for key in keys)
    assert [flow["bytes"] for flow in found["flows"]] == [1000 + i for i in range(40)]
    assert all(flow["fct_ps"] == flow["end_ps"] - flow["start_ps"] > 0 for flow in found["flows"])
    assert sum('"fct_ps"' in line for line in text.splitlines()) == 40
    assert Result.load("out").flows["fct_ps"].to_pylist() == [flow["fct_ps"] for flow in found["flows"]]


def test_progress_ends_with_the_time_of_the_last_operation(inside, capsys):
    write_trace(collective("all_reduce", size_bytes=1 << 16, n_ranks=16), "t.arrow")
    assert main(["replay", "t.arrow", *SMALL, "--progress", "--json"]) == 0
    captured = capsys.readouterr()
    told = [line for line in captured.err.splitlines() if line.startswith("16 of 16 operations")]
    assert len(told) == 1 and re.search(r", \d+(\.\d+)? us emulated", told[0])


def test_silence_takes_no_time_and_its_end_is_told(inside, capsys):
    """26 days of computes, as long as the core can count, with an all-reduce now and then."""
    rows = Rows(generator="test")
    for _ in range(500):
        rows.add("compute", range(4), duration_ps=4480 * 10**12, stream=0)
        rows.add("all_reduce", range(4), bytes=1000, stream=0)
    write_trace(rows.trace(), "t.arrow")
    began = time.perf_counter()
    assert main(["replay", "t.arrow", *SMALL, "--progress", "--json", "-o", "out", "--series", "10us"]) == 0
    assert time.perf_counter() - began < 20  # half a second; slice by slice it would be months
    captured = capsys.readouterr()
    assert 500 * 4480 * 10**12 < json.loads(captured.out)["end_ps"] < 2**61
    assert ", 2240000 s emulated" in captured.err.splitlines()[-3]
    samples = Result.load("out").series
    assert len(set(samples["time_ps"].to_pylist())) >= 500 and samples["bytes"].to_numpy().min() > 0


def test_the_number_of_threads_is_the_cores(inside, capsys):
    from fabricsim._core import engine
    from fabricsim.program import build_program, compile
    from fabricsim.run import MAX_THREADS

    topology = {"kind": "star", "hosts": 2, "rate": "1Gbps", "latency": "1us"}
    model = compile(Cluster.from_dict({"name": "two", "topology": topology}))
    program = build_program(model, collective("barrier", size_bytes=0, n_ranks=2))
    engine.Run(model.engine, program.engine, threads=MAX_THREADS)
    with pytest.raises(ConfigError, match=f"allowed 1 to {MAX_THREADS}"):
        engine.Run(model.engine, program.engine, threads=MAX_THREADS + 1)
    for threads in ("0", "65", "99999999999"):
        assert main(["demo", "--threads", threads]) == 2
        assert f"threads: found {threads}, allowed: 1 to 64" in capsys.readouterr().err


def test_a_deadlock_tells_who_waits_and_leaves_what_there_is(inside, capsys):
    rows = Rows(generator="test")
    for rank, other in ((0, 1), (1, 0)):
        rows.add("recv", [rank], peer=[other], bytes=10, tag=other, stream=0)
        rows.add("send", [rank], peer=[other], bytes=10, tag=rank, stream=0)
    write_trace(rows.trace(), "t.arrow")
    assert main(["replay", "t.arrow", *SMALL, "-o", "out"]) == 3
    told = capsys.readouterr().err
    assert "operation 0 (recv) on rank 0: waits for rank 1" in told
    assert "what was found until then is in out" in told
    assert Result.load("out").summary["status"] == "deadlock"


def test_repair_of_nothing_exits_1(inside, capsys):
    write_trace(collective("barrier", size_bytes=0, n_ranks=2), "t.arrow")
    whole = (inside / "t.arrow").read_bytes()
    for size in range(len(whole) - 1, 0, -64):
        (inside / "cut.arrow").write_bytes(whole[:size])
        code = main(["repair", "cut.arrow", "--json"])
        found = capsys.readouterr()
        if code:
            break
        assert json.loads(found.out)["rows_saved"] == 1
    assert code == 1 and json.loads(found.out)["rows_saved"] == 0
