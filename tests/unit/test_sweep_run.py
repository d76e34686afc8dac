"""Sweeps that run: in this process, in threads, in processes and on Dask; resumed, shared, interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv, ipc

import fabricsim
from fabricsim.cli import main
from fabricsim.errors import ConfigError, EngineError, InputError
from fabricsim.result import Result
from fabricsim.sweep import Study, Sweep, run_sweep
from fabricsim.sweep import point as points_module
from fabricsim.sweep.files import Folder
from fabricsim.trace import write_trace
from fabricsim.workload import collective

#: Where the package is, for other processes.
PACKAGE = [str(Path(fabricsim.__file__).parents[1])]

STAR = """
name = "star"
[topology]
kind = "star"
hosts = 8
rate = "100Gbps"
latency = "500ns"
"""

# A workload that does what each point says, for a module of its own that worker processes import.
MODULE = """
import os, time
from fabricsim.workload import collective, flows
from fabricsim.workload.rows import Rows

def make(ranks: int, what: str = "ok"):
    with open(os.path.join(os.path.dirname(__file__), "calls"), "a") as calls:
        print(ranks, what, file=calls)
    if what == "crash":
        os._exit(9)
    if what == "raise":
        raise RuntimeError("boom")
    if what == "value":
        raise ValueError("3 x 2 ranks do not divide 8")
    if what == "deadlock":
        rows = Rows(generator="x")
        rows.add("barrier", [0, 1], stream=0)
        rows.add("recv", [0], peer=[1], bytes=1, tag=1, stream=0)
        rows.add("recv", [1], peer=[0], bytes=1, tag=2, stream=0)
        rows.add("send", [1], peer=[0], bytes=1, tag=1, stream=0)
        rows.add("send", [0], peer=[1], bytes=1, tag=2, stream=0)
        return rows.trace()
    if what == "slow":
        time.sleep(0.3)
    return collective("all_reduce", size_bytes=4096, n_ranks=ranks)
"""


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A folder with a cluster and a module, whose name no other test has; the working directory is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "star.toml").write_text(STAR)
    name = f"made_{abs(hash(str(tmp_path))) % 10**8}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return tmp_path, f"{name}:make"


def calls(folder):
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def sweep_of(workload, **changes):
    vary = {"cluster.transport.mtu": [1024, 4096], "workload.ranks": [2, 4, 8]}
    return Sweep(**{"fixed": {"cluster": "star.toml", "workload": workload}, "vary": vary} | changes)


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def table(path):
    return ipc.open_file(pa.OSFile(str(path))).read_all()


# ---- what comes out


def test_a_point_is_a_file_and_all_are_a_table(at):
    folder, workload = at
    study = run_sweep(sweep_of(workload, objectives=["end_ps", "links.0.packets"]), "out")
    assert study.counts() == {"complete": 6} and study.failed == 0
    names = [row[0] for row in study.plan["points"]]
    assert sorted(p.stem for p in (folder / "out/points").glob("*.arrow")) == sorted(names)
    row = table(folder / "out/points" / f"{names[0]}.arrow")
    assert row.num_rows == 1 and row.schema.metadata[b"fabricsim.schema"] == b"sweep_point"
    found = row.to_pylist()[0]
    given = {"cluster": "star.toml", "workload": workload, "cluster.transport.mtu": 1024, "workload.ranks": 2}
    assert {key: found[key] for key in given} == given
    assert found["end_ps"] == json.loads(found["summary"])["end_ps"] > 0
    assert row.schema.field("end_ps").metadata == {b"unit": b"ps"}
    whole = table(folder / "out/sweep.arrow")
    assert whole.equals(study.table) and whole["point"].to_pylist() == names
    assert whole["workload.ranks"].to_pylist() == [2, 4, 8] * 2 and whole["links.0.packets"].null_count == 0
    assert csv.read_csv(folder / "out/sweep.csv").num_rows == 6
    assert Study.load("out").table.equals(whole)
    assert "6 complete" in repr(study) and "6 complete" in study._repr_html_()


def test_the_best_is_over_seeds_and_the_front_has_what_nothing_beats(at):
    _, workload = at
    vary = {"workload.ranks": [2, 4, 8], "seed": [1, 2]}
    study = run_sweep(sweep_of(workload, vary=vary, objectives=["max:packets", "end_ps"]), "out")
    assert study.best().values == {"workload.ranks": 8} and len(study.best().points) == 2
    assert [one.values["workload.ranks"] for one in study.pareto()] == [8, 4, 2]
    other = Study.load("out", objectives=["end_ps", "packets"])
    assert [one.values["workload.ranks"] for one in other.pareto()] == [2]
    told = study.to_json()
    assert told["best"]["objectives"]["packets"] == study.best().figures[0] and len(told["points"]) == 6
    assert {e["keys"][0] for e in told["sensitivity"][0]["effects"]} == {"workload.ranks", "seed"}
    with pytest.raises(ConfigError, match="unknown figure 'end'"):
        Study.load("out", objectives=["end"])


def test_what_goes_wrong_is_recorded_and_the_others_go_on(at):
    folder, workload = at
    vary = {"workload.what": ["ok", "value", "raise", "deadlock"], "workload.ranks": [4, 9]}
    study = run_sweep(sweep_of(workload, vary=vary), "out")
    assert study.counts() == {"complete": 1, "invalid": 3, "failed": 2, "deadlock": 2} and study.failed == 4
    errors = {(v["workload.what"], v["workload.ranks"]): error for _, _, v, error in study.troubles()}
    assert "do not divide" in errors["value", 4] and "boom" in errors["raise", 4]
    assert "never finish" in errors["deadlock", 4] and "found 9 ranks" in errors["ok", 9]
    # What failed is tried again, what cannot be otherwise is not.
    before = len(calls(folder))
    run_sweep(sweep_of(workload, vary=vary), "out")
    assert calls(folder)[before:] == ["4 raise", "9 raise"]


def test_none_that_can_be_built_is_an_error(at):
    with pytest.raises(ConfigError, match="none of 2 points can be built") as told:
        run_sweep(sweep_of(at[1], vary={"workload.ranks": [9, 10]}), "out")
    assert "found 10 ranks" in str(told.value)


def test_a_trace_is_a_workload_wherever_the_process_is(at, monkeypatch):
    folder, _ = at
    write_trace(collective("all_reduce", size_bytes=4096, n_ranks=4), "t.arrow")
    points = sweep_of("t.arrow", vary={"seed": [1, 2]}).all_points
    monkeypatch.chdir(folder.parent)
    assert points_module.run_point(points[0]).status == "complete"
    assert points[0].given["workload"] == "t.arrow" and points[0].sources["workload"]


# ---- where it runs


class Backwards(Executor):
    """Runs what it was given when it is asked for the last result, the last first."""

    def __init__(self, most):
        self.most, self.waiting = most, []

    def submit(self, function, *arguments):
        self.waiting.append((Future(), function, arguments))
        future = self.waiting[-1][0]
        if len(self.waiting) == self.most:
            for one, work, given in reversed(self.waiting):
                one.set_result(work(*given))
            self.waiting = []
        return future


def test_any_executor_gives_the_same_bytes(at):
    folder, workload = at
    sweep = sweep_of(workload)
    run_sweep(sweep, "here", keep=True)
    run_sweep(sweep, "backwards", executor=Backwards(6), keep=True)
    with ThreadPoolExecutor(3) as threads:
        run_sweep(sweep, "threads", executor=threads, in_flight=2, threads=2, keep=True)
    run_sweep(sweep, "shards", shard=(2, 2), keep=True)
    run_sweep(sweep, "shards", shard=(1, 2), keep=True)
    here = bytes_of(folder / "here")
    assert len([name for name in here if name.startswith("results/") and name.endswith("ops.arrow")]) == 6
    for other in ("backwards", "threads", "shards"):
        assert bytes_of(folder / other) == here


def test_processes_give_the_same_bytes_and_one_that_dies_is_told(at):
    folder, workload = at
    pairs = [{"workload.ranks": [2, 2, 4], "workload.what": ["ok", "crash", "ok"]}]
    study = run_sweep(sweep_of(workload, vary={}, paired=pairs), "jobs", jobs=2)
    assert study.counts() == {"complete": 2, "failed": 1}
    assert [error for *_, error in study.troubles()] == ["the process that ran it ended abruptly"]
    ok = run_sweep(sweep_of(workload, vary={"workload.ranks": [2, 4], "workload.what": ["ok"]}), "here")
    for name, *_ in ok.plan["points"]:
        file = f"points/{name}.arrow"
        assert (folder / "jobs" / file).read_bytes() == (folder / "here" / file).read_bytes()


def test_dask_gives_the_same_bytes(at, capsys):
    distributed = pytest.importorskip("distributed")
    folder, workload = at
    sweep = ["sweep", "-c", "star.toml", "--workload", workload, "--vary", "workload.ranks=2,4,8"]
    assert main([*sweep, "-o", "here"]) == 0
    paths = os.pathsep.join([str(folder), *PACKAGE])
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None, env={"PYTHONPATH": paths}
    ) as cluster:
        assert main([*sweep, "-o", "dask", "--dask", cluster.scheduler_address]) == 0
    assert bytes_of(folder / "dask") == bytes_of(folder / "here")
    assert "3 points: 3 complete" in capsys.readouterr().out


def test_an_executor_that_breaks_is_told(at):
    class Broken(Executor):
        left = 1

        def submit(self, *_):
            if not self.left:
                raise BrokenProcessPool("gone")
            self.left -= 1
            future = Future()
            future.set_exception(OSError("worker lost"))
            return future

    with pytest.raises(EngineError, match="takes no more points: gone"):
        run_sweep(sweep_of(at[1]), "out", executor=Broken(), in_flight=1)
    assert Study.load("out").counts() == {"failed": 1, "missing": 5}
    assert Study.load("out").troubles()[0][3] == "OSError: worker lost"


def test_a_cluster_is_compiled_once(at, monkeypatch):
    import fabricsim.program

    compiled = []
    original = fabricsim.program.compile
    monkeypatch.setattr(fabricsim.program, "compile", lambda c: compiled.append(c) or original(c))
    monkeypatch.setattr(points_module, "_models", points_module._Kept())
    vary = {"workload.ranks": [2, 4, 8], "cluster.transport.mtu": [1024, 2048, 4096]}
    run_sweep(sweep_of(at[1], vary=vary), "out")
    assert len(compiled) == 3


# ---- again, together, interrupted


def test_what_is_there_is_not_run_again(at):
    folder, workload = at
    run_sweep(sweep_of(workload, vary={"workload.ranks": [2, 4]}), "out")
    told = []
    study = run_sweep(sweep_of(workload, vary={"workload.ranks": [2, 4, 8]}), "out", progress=told.append)
    assert calls(folder) == ["2 ok", "4 ok", "8 ok"] and study.counts() == {"complete": 3}
    assert [(p.done, p.before, p.total) for p in told] == [(2, 2, 3), (3, 2, 3)]
    assert told[0].left_s is None and told[1].left_s == 0
    # A point whose whole result is wanted now, and one whose file is damaged.
    damaged = folder / "out/points" / f"{study.plan['points'][0][0]}.arrow"
    damaged.write_bytes(damaged.read_bytes()[:100])
    before = bytes_of(folder / "out/points")
    run_sweep(sweep_of(workload, vary={"workload.ranks": [2]}), "out", keep=True)
    assert {p.name for p in (folder / "out/results").iterdir()} == {damaged.stem}
    assert Result.load(folder / "out/results" / damaged.stem).summary["ranks"] == 2
    assert set(bytes_of(folder / "out/points")) == set(before) and damaged.stat().st_size > 100


COMMAND = [sys.executable, "-m", "fabricsim", "sweep", "-c", "star.toml", "--progress", "-o", "out"]


def start(folder, workload, *more):
    vary = ["--vary", "workload.ranks=2:8:1", "--set", "workload.what=slow"]
    where = os.pathsep.join([str(folder), *PACKAGE])
    return subprocess.Popen(
        [*COMMAND, "--workload", workload, *vary, *more],
        env=os.environ | {"PYTHONPATH": where},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.02)


def test_two_processes_share_a_folder_and_one_may_be_killed(at):
    folder, workload = at
    first, second = start(folder, workload), start(folder, workload)
    until(lambda: len(calls(folder)) >= 3)
    first.kill()
    out, _ = second.communicate(timeout=120)
    first.communicate()
    assert second.returncode == 0 and "7 points: 7 complete" in out
    # None ran twice but the one that was killed.
    assert len(set(calls(folder))) == 7 and len(calls(folder)) <= 8
    assert table(folder / "out/sweep.arrow")["status"].to_pylist() == ["complete"] * 7


def test_ctrl_c_leaves_whole_files_and_no_processes(at):
    folder, workload = at
    process = start(folder, workload, "--jobs", "2")
    until(lambda: len([*(folder / "out/points").glob("*.arrow")]) >= 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "goes on from there" in err and "Traceback" not in err
    # Pipes are closed: nothing that held them still runs.
    statuses = table(folder / "out/sweep.arrow")["status"].to_pylist()
    assert 1 <= statuses.count("complete") < 7 and set(statuses) == {"complete", "missing"}
    assert not [path for path in (folder / "out").rglob(".*") if path.name != ".lock"]
    ran = statuses.count("complete")
    sweep = sweep_of(workload, vary={"workload.ranks": "2:8:1"}, fixed=_slow(workload))
    before = len(calls(folder))
    assert run_sweep(sweep, "out").counts() == {"complete": 7} and len(calls(folder)) - before == 7 - ran


def _slow(workload):
    return {"workload.what": "slow", "cluster": "star.toml", "workload": workload}


def test_interrupting_this_process_keeps_what_is_done(at, monkeypatch):
    original = points_module.run_point

    def run_point(point, *others):
        if point.options["ranks"] == 8:
            raise KeyboardInterrupt
        return original(point, *others)

    monkeypatch.setattr("fabricsim.sweep.run.run_point", run_point)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep_of(at[1], vary={"workload.ranks": [2, 8, 4]}), "out")
    assert table("out/sweep.arrow")["status"].to_pylist() == ["complete", "missing", "missing"]


@pytest.mark.parametrize(
    "options, told",
    [
        ({"jobs": 0}, "jobs: found 0"),
        ({"threads": 65}, "threads: found 65"),
        ({"shard": (0, 2)}, "shard: found 0/2"),
        ({"shard": (3, 2)}, "shard: found 3/2"),
        ({"in_flight": 0}, "in_flight: found 0"),
    ],
)
def test_bad_options_are_told(at, options, told):
    with pytest.raises(ConfigError, match=told):
        run_sweep(sweep_of(at[1]), "out", **options)


def test_folders_that_are_none_are_told(at):
    folder, workload = at
    (folder / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        run_sweep(sweep_of(workload), "file")
    with pytest.raises(InputError, match="No such file"):
        Study.load("nothing")
    good = sweep_of(workload).plan()
    bad = ["[]", "{", json.dumps(good | {"points": [["a"]]}), json.dumps(good | {"factors": 3})]
    for text, told in zip(bad, ["needs fixed", "not JSON", "points need 3", "needs fixed"], strict=True):
        (folder / "sweep.json").write_text(text)
        with pytest.raises(InputError, match=told):
            Study.load(folder)
    assert Folder(folder).load("none") is None


# ---- the command


def command(*arguments):
    return main(["sweep", *map(str, arguments)])


def test_the_command_lists_runs_and_shows(at, capsys):
    folder, workload = at
    (folder / "s.toml").write_text(
        f'cluster = "star.toml"\nworkload = "{workload}"\n[vary]\nworkload.ranks = [2, 4, 8]\n'
        '[[zip]]\nseed = [1, 2]\nworkload.what = ["ok", "value"]\n'
    )
    assert command("s.toml", "--dry-run", "--shard", "2/2", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["points"]
    assert [one["values"]["workload.ranks"] for one in listed] == [2, 4, 8] and calls(folder) == []
    assert command("s.toml", "-o", "out", "--progress") == 0
    captured = capsys.readouterr()
    for text in ("6 points: 3 complete, 3 invalid", "best first by min:end_ps", "what matters for end_ps"):
        assert text in captured.out
    assert "3 invalid, the first" in captured.out and "6 of 6 points, 3 invalid" in captured.err
    assert command("show", "out", "--objective", "max:packets", "--rows", 1) == 0
    assert "and 2 more" in capsys.readouterr().out
    assert command("s.toml", "--dry-run", "-o", "out") == 0
    assert "6 points, 6 are there" in capsys.readouterr().out
    assert main(["inspect", "out"]) == main(["inspect", "out/sweep.arrow"]) == 0
    captured = capsys.readouterr().out
    assert "out: sweep" in captured and "table of a sweep" in captured
    assert command("show", "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"complete": 3, "invalid": 3}


def test_shards_of_two_folders_are_shown_together(at, capsys):
    base = ["-c", "star.toml", "--workload", at[1], "--vary", "workload.ranks=2,4,8", "--objective", "end_ps"]
    for index in (1, 2):
        assert command(*base, "--objective", "packets", "--shard", f"{index}/2", "-o", f"out{index}") == 0
    capsys.readouterr()
    assert command("show", "out1", "out2") == 0
    out = capsys.readouterr().out
    assert "3 points: 3 complete" in out and "Pareto front: 1 of 3 settings" in out


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (["show"], 2, "one folder of a sweep"),
        (["show", "nothing"], 3, "nothing/sweep.json"),
        (["a.toml", "b.toml"], 2, "found 2 files"),
        (["none.toml", "-o", "out"], 2, "none.toml: cannot be read"),
        (["-c", "star.toml", "--workload", "demo"], 2, "needs -o DIR"),
        (["-c", "star.toml", "--workload", "demo", "--shard", "5", "-o", "x"], 2, "--shard: found '5'"),
        (["--vary", "seed", "--set", "=3", "--vary", "a=1", "--vary", "a=2"], 2, "--vary: found 'seed'"),
        (["-c", "nope", "--workload", "demo", "-o", "out"], 2, "no preset"),
        (["-c", "star.toml", "--workload", "demo", "-o", "out"], 2, "found 64 ranks"),
    ],
)
def test_bad_commands_end_with_their_code(at, capsys, arguments, code, told):
    assert command(*arguments) == code
    assert told in capsys.readouterr().err


def test_a_failure_ends_with_1_and_a_missing_figure_with_2(at, capsys):
    base = ["-c", "star.toml", "--workload", at[1], "-o", "out"]
    assert command(*base, "--vary", "workload.ranks=2,4", "--set", "workload.what=raise") == 1
    assert "2 failed" in capsys.readouterr().out
    assert command(*base, "--vary", "workload.ranks=2,4", "--objective", "training.mfu") == 2
    assert "unknown figure 'training.mfu'" in capsys.readouterr().err
