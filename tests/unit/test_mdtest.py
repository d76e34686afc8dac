"""``fabricsim mdtest``: which rows a run makes, what it measures, and mdtest's own format."""

import types

import pytest
from storage_fakes import fake_ops, files_of

from fabricsim.cli import main
from fabricsim.errors import ConfigError
from fabricsim.storage_bench import Mdtest, MdtestResult, mdtest_trace
from fabricsim.storage_bench.mdtest import OPERATIONS, Measured, measure
from fabricsim.storage_bench.mdtest_output import document, summary, text
from fabricsim.storage_bench.rows import Times

US = 1_000_000


def replayed(trace):
    """Run the rows on a name space, rank by rank: each must find what it needs. Return what is left."""
    there = {"/", "/out"}
    for row in trace.table.to_pylist():
        kind = row["kind"]
        if kind == "barrier":
            continue
        for rank, path in files_of(row).items():
            assert path.rsplit("/", 1)[0] in there, (kind, rank, path)
            if kind == "mkdir" or (kind == "open" and row["flags"] == "create"):
                assert path not in there or kind == "open", path
                there.add(path)
            else:
                assert path in there, (kind, rank, path)
            if kind in ("unlink", "rmdir"):
                assert not any(other.startswith(path + "/") for other in there), path
                there.remove(path)
            if kind == "rename":
                new = files_of({"ranks": row["ranks"], "file": row["new_file"]})[rank]
                there.remove(path)
                assert new not in there
                there.add(new)
    return there


@pytest.mark.parametrize("stride", [0, 1])
@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize(
    "tree", [{"items": 5}, {"items": 16, "depth": 2, "branches": 3}, {"items_per_directory": 2, "depth": 2}]
)
@pytest.mark.parametrize("leaf_only", [False, True])
def test_every_phase_finds_what_was_made(stride, unique, tree, leaf_only):
    config = Mdtest(stride=stride, unique=unique, leaf_only=leaf_only, **tree)
    trace, phases = mdtest_trace(config, tasks=4, tasks_per_node=2)
    assert replayed(trace) == {"/", "/out"}
    assert [phase.operation for phase in phases] == ["Tree creation", *OPERATIONS[:8], "Tree removal"]


def test_shared_files_and_bytes():
    config = Mdtest(items=2, shared_file=True, write_bytes=3901, read_bytes=3901, sync=True)
    trace, phases = mdtest_trace(config, tasks=3)
    assert replayed(trace) == {"/", "/out"}
    rows = trace.table.to_pylist()
    assert {row["bytes"] for row in rows if row["kind"] in ("read", "write")} == {3901}
    assert sum(row["kind"] == "fsync" for row in rows) == 2
    assert [row["ranks"] for row in rows if row["kind"] == "unlink"] == [[0], [0]]
    assert not any(phase.operation.startswith("Directory") for phase in phases)


def test_names_are_those_of_mdtest():
    config = Mdtest(items=6, depth=1, branches=2, files=True, create=True, stat=True, stride=1, path="/s/out")
    trace, _ = mdtest_trace(config, tasks=4, tasks_per_node=2)
    rows = trace.table.to_pylist()
    opened = [files_of(row)[3] for row in rows if row["kind"] == "open"]
    tree = "/s/out/test-dir.0-0/mdtest_tree.0"
    assert opened == [
        *(f"{tree}/file.mdtest.3.{n}" for n in (0, 1)),
        *(f"{tree}/mdtest_tree.1/file.mdtest.3.{n}" for n in (2, 3)),
        *(f"{tree}/mdtest_tree.2/file.mdtest.3.{n}" for n in (4, 5)),
    ]
    # -N counts nodes: what the tasks of the next node have made.
    stated = [files_of(row)[3] for row in rows if row["kind"] == "stat"]
    assert stated[0] == f"{tree}/file.mdtest.1.0"


def test_a_rate_is_from_barrier_to_barrier():
    config = Mdtest(items=10, files=True, create=True, stat=True)
    trace, phases = mdtest_trace(config, tasks=2)
    took = {"open": 3, "close": 1, "stat": 2, "mkdir": 5, "barrier": 1}
    ops = fake_ops(trace, lambda kind, rank, row: took[kind] * (1 + rank if kind != "barrier" else 1) * US)
    tree, create, stat = measure(phases, Times(ops, 2))
    assert (tree.items, tree.time_ps) == (1, 6 * US)
    assert (create.items, create.time_ps) == (20, 81 * US)
    assert (stat.items, stat.time_ps) == (20, 41 * US)
    assert stat.rate == pytest.approx(20 / 41e-6)


def result_of(config, phases, tasks=10, per_node=10):
    result = types.SimpleNamespace(summary={"end_ps": 61 * 10**12}, digest="0123456789abcdef")
    return MdtestResult(
        config=config,
        tasks=tasks,
        tasks_per_node=per_node,
        phases=phases,
        cluster="star",
        cluster_digest="feedfeedfeedfeed",
        seed=1,
        result=result,
    )


def test_the_summary_is_that_of_mdtest():
    config = Mdtest(items=3334, files=True, create=True, write_bytes=4096, path="/tmp/x")
    phases = [
        Measured(operation="Tree creation", iteration=0, items=1, time_ps=round(1e12 / 1808.669)),
        Measured(operation="File creation", iteration=0, items=33340, time_ps=round(33340e12 / 1200.016)),
    ]
    # As mdtest has printed it.
    expected = """
SUMMARY rate (in ops/sec): (of 1 iterations)
   Operation                     Max            Min           Mean        Std Dev
   ---------                     ---            ---           ----        -------
   File creation                1200.016       1200.016       1200.016          0.000
   File stat                       0.000          0.000          0.000          0.000
   File read                       0.000          0.000          0.000          0.000
   File removal                    0.000          0.000          0.000          0.000
   Tree creation                1808.669       1808.669       1808.669          0.000
   Tree removal                    0.000          0.000          0.000          0.000"""
    run = result_of(config, phases)
    assert summary(run) == expected.splitlines()
    lines = text(run, ["mdtest", "-n", "3334"])
    assert lines[0] == "-- started at 01/01/1970 00:00:00 --"
    assert lines[2].endswith("was launched with 10 total task(s) on 1 node(s)")
    assert "Command line used: mdtest '-n' '3334'" in lines and "Nodemap: 1111111111" in lines
    assert "10 tasks, 33340 files" in lines
    assert lines[-1] == "-- finished at 01/01/1970 00:01:01 --"


def test_times_and_deviations():
    config = Mdtest(items=1, directories=True, stat=True, iterations=2)
    phases = [
        Measured(operation="Directory stat", iteration=n, items=4, time_ps=(n + 1) * 10**12) for n in range(2)
    ]
    run = result_of(config, phases, tasks=4, per_node=1)
    entry = document(run, ["mdtest"])["summary"][1]
    assert entry["rate_ops_per_s"] == {"max": 4.0, "min": 2.0, "mean": 3.0, "stddev": pytest.approx(2**0.5)}
    assert entry["time_ms_per_op"]["max"] == 500.0
    assert summary(run, times=True)[1] == "SUMMARY time (in ms/op): (of 2 iterations)"


@pytest.mark.parametrize(
    "wrong, flag",
    [
        ({}, "-n, -I"),
        ({"items": 3, "items_per_directory": 3}, "-n, -I"),
        ({"items": 2, "depth": 2, "branches": 2}, "-n"),
        ({"items": 1, "unique": True, "shared_file": True}, "-S"),
        ({"items": 1, "read_bytes": 5}, "-e"),
        ({"items": 1, "depth": -1}, "-z"),
        ({"items": 1, "depth": 30, "branches": 10}, "-z, -b"),
    ],
)
def test_what_does_not_fit_together_is_told(wrong, flag):
    with pytest.raises(ConfigError) as caught:
        Mdtest(**wrong)
    assert [problem.where for problem in caught.value.problems] == [flag]


@pytest.mark.parametrize("flag", ["-B 1", "-c", "-R", "-W 3", "-x f", "-Y", "-v", "-d a@b", "-X"])
def test_flags_without_a_meaning_are_refused_by_name(flag, capsys):
    assert main(["mdtest", "--cluster", "leaf-spine-64-400g-roce", "-n", "1", *flag.split()]) == 2
    assert f"{flag.split()[0]}: " in capsys.readouterr().err
