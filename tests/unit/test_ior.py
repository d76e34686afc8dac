"""``fabricsim ior``: which rows a run makes, what it measures, and IOR's own formats."""

# ruff: noqa: E501 (the lines of IOR are as long)

import json
import types

import pyarrow as pa
import pyarrow.ipc
import pytest
from storage_fakes import extents_of, fake_ops, files_of

from fabricsim.cli import main
from fabricsim.errors import ConfigError
from fabricsim.storage_bench import Ior, IorResult, Transfer, ior_trace
from fabricsim.storage_bench.ior import measure
from fabricsim.storage_bench.ior_output import csv, document, human, text
from fabricsim.storage_bench.rows import Times

MIB = 1 << 20
US = 1_000_000


def rows_of(trace, *kinds):
    return [row for row in trace.table.to_pylist() if row["kind"] in kinds]


def whole(size, step):
    return [(begin, begin + step) for begin in range(0, size, step)]


def test_segments_of_a_shared_file_lie_one_behind_the_other():
    config = Ior(write=True, block_bytes=4 * MIB, transfer_bytes=MIB, segments=2)
    trace, _ = ior_trace(config, tasks=3)
    writes = rows_of(trace, "write")
    assert [row["offset"] for row in writes] == [n * MIB for n in (0, 1, 2, 3, 12, 13, 14, 15)]
    assert {row["stride"] for row in writes} == {4 * MIB}
    assert extents_of(trace, "write") == {"/testFile": whole(24 * MIB, MIB)}


@pytest.mark.parametrize("more", [{}, {"reorder": True}, {"reorder_random": True}, {"random_offset": True}])
@pytest.mark.parametrize("own", [False, True])
def test_what_is_written_is_read(more, own):
    config = Ior(block_bytes=MIB, transfer_bytes=MIB // 4, segments=2, file_per_task=own, **more)
    trace, _ = ior_trace(config, tasks=4)
    written, read = extents_of(trace, "write"), extents_of(trace, "read")
    if own:
        assert written == {f"/testFile.{rank:08d}": whole(2 * MIB, MIB // 4) for rank in range(4)}
    else:
        assert written == {"/testFile": whole(8 * MIB, MIB // 4)}
    if more.get("reorder_random"):
        # Several may read what one has written.
        assert set(read) <= set(written)
        assert all(set(extents) <= set(written[path]) for path, extents in read.items())
    else:
        assert read == written


def test_a_task_reads_what_one_of_the_next_node_has_written():
    config = Ior(block_bytes=MIB, transfer_bytes=MIB, file_per_task=True, reorder=True, keep=True)
    trace, _ = ior_trace(config, tasks=8, tasks_per_node=4)
    (read,) = rows_of(trace, "read")
    assert files_of(read) == {rank: f"/testFile.{(rank + 4) % 8:08d}" for rank in range(8)}
    trace, _ = ior_trace(Ior(block_bytes=MIB, transfer_bytes=MIB, reorder=True, node_offset=3), tasks=4)
    places = {
        rank: row["offset"] + place * row["stride"]
        for row in rows_of(trace, "read")
        for place, rank in enumerate(row["ranks"])
    }
    assert places == {rank: (rank + 3) % 4 * MIB for rank in range(4)}
    config = Ior(file_per_task=True, reorder_random=True, node_offset=2)
    trace, _ = ior_trace(config, tasks=16, tasks_per_node=2)
    for row in rows_of(trace, "read"):
        for rank, path in files_of(row).items():
            assert (int(path[-8:]) - rank) % 16 >= 4


def test_rows_of_a_phase():
    config = Ior(
        write=True,
        transfer_bytes=MIB,
        fsync=True,
        fsync_per_write=True,
        barriers=True,
        direct=True,
        delay_s=2,
        repetitions=2,
        keep=True,
    )
    trace, _ = ior_trace(config, tasks=2, mount="/scratch")
    kinds = [row["kind"] for row in trace.table.to_pylist()]
    phase = ["barrier", "open", "barrier", "write", "fsync", "fsync", "barrier", "close", "barrier", "stat"]
    assert kinds == [*phase, "barrier", "unlink", *phase, "barrier"]
    rows = trace.table.to_pylist()
    assert rows[0]["delay_ps"] == 2 * 10**12
    assert (rows[1]["file"], rows[1]["flags"]) == ("/scratch/testFile", "create")
    assert rows[3]["flags"] == "direct"
    assert rows[len(phase) + 1]["ranks"] == [0]
    config = Ior(file_per_task=True, unique_dir=True, multi_file=True, repetitions=2, test_file="/d/f{}")
    trace, _ = ior_trace(config, tasks=2)
    (made,) = rows_of(trace, "mkdir")
    assert files_of(made) == {0: "/d/0", 1: "/d/1"}
    opened = [files_of(row)[1] for row in rows_of(trace, "open")]
    assert opened == [f"/d/1/f{{}}.00000001.{n}" for n in (0, 0, 1, 1)]


def test_checks_read_back_two_nodes_further():
    config = Ior(write=True, check_write=True, file_per_task=True, reorder=True)
    trace, phases = ior_trace(config, tasks=8, tasks_per_node=2)
    assert [phase.access for phase in phases] == ["write", "check", "remove"]
    assert files_of(rows_of(trace, "read")[0])[0] == "/testFile.00000004"


def test_times_are_from_the_first_start_to_the_last_end():
    config = Ior(block_bytes=4 * MIB, transfer_bytes=MIB, fsync=True)
    trace, phases = ior_trace(config, tasks=2)
    took = {
        "open": 10,
        "write": 100,
        "fsync": 50,
        "read": 20,
        "close": 5,
        "barrier": 0,
        "stat": 1,
        "unlink": 7,
    }
    # The second rank takes twice as long.
    ops = fake_ops(trace, lambda kind, rank, row: took[kind] * (1 + rank) * US)
    (write, read), removals = measure(config, phases, Times(ops, 2))
    assert (write.open_ps, write.access_ps, write.close_ps) == (20 * US, 910 * US, 470 * US)
    assert (write.total_ps, write.latency_ps, write.operations) == (930 * US, 112.5 * US, 8)
    assert write.bytes_per_s == pytest.approx(8 * MIB / 930e-6)
    assert write.iops == pytest.approx(8 / 910e-6)
    assert (read.open_ps, read.access_ps, read.total_ps) == (20 * US, 170 * US, 190 * US)
    # Rank 0 removes the shared file; what it waits for the other at the barrier counts, as it does in IOR.
    ((repetition, removal),) = removals
    assert repetition == 0 and removal >= 7 * US
    random = Ior(
        block_bytes=4 * MIB, transfer_bytes=MIB, random_offset=True, fsync=True, fsync_per_write=True
    )
    trace, phases = ior_trace(random, tasks=2)
    ops = fake_ops(trace, lambda kind, rank, row: took[kind] * US)
    (write, _), _ = measure(random, phases, Times(ops, 2))
    assert write.operations == 8 and 150 * US < write.latency_ps < 200 * US


def result_of(config, transfers, removals=(), tasks=12, per_node=12):
    result = types.SimpleNamespace(summary={"end_ps": 61 * 10**12}, digest="0123456789abcdef")
    return IorResult(
        config=config,
        tasks=tasks,
        tasks_per_node=per_node,
        transfers=transfers,
        removals=list(removals),
        cluster="star",
        cluster_digest="feedfeedfeedfeed",
        seed=1,
        result=result,
    )


def s(seconds):
    return round(seconds * 1e12)


@pytest.fixture
def run():
    config = Ior(block_bytes=16 * MIB, transfer_bytes=MIB, segments=16)
    common = {"repetition": 0, "begin_ps": 0, "size_bytes": 3 << 30, "operations": 3072}
    write = Transfer(
        access="write",
        open_ps=s(0.002544),
        access_ps=s(0.101533),
        close_ps=s(0.031020),
        total_ps=s(0.103681),
        latency_ps=s(0.004382),
        **common,
    )
    read = Transfer(
        access="read",
        open_ps=s(0.000193),
        access_ps=s(0.962876),
        close_ps=s(0.558622),
        total_ps=s(0.962904),
        latency_ps=s(0.056129),
        **common,
    )
    return result_of(config, [write, read], [(0, s(0.863602))])


def test_the_table_is_that_of_ior(run):
    lines = text(run, ["ior", "-b", "16m"])
    # Lines that IOR printed for these times (but for the digits that its own rounding of the times has lost).
    expected = """\
access    bw(MiB/s)  IOPS       Latency(s)  block(KiB) xfer(KiB)  open(s)    wr/rd(s)   close(s)   total(s)   iter
------    ---------  ----       ----------  ---------- ---------  --------   --------   --------   --------   ----
write     29629      30256      0.004382    16384      1024.00    0.002544   0.101533   0.031020   0.103681   0
read      3190.35    3190.44    0.056129    16384      1024.00    0.000193   0.962876   0.558622   0.962904   0
remove    -          -          -           -          -          -          -          -          0.863602   0
Max Write: 29629.34 MiB/sec (31068.62 MB/sec)
Max Read:  3190.35 MiB/sec (3345.32 MB/sec)

Summary of all tests:
Operation   Max(MiB)   Min(MiB)  Mean(MiB)     StdDev   Max(OPs)   Min(OPs)  Mean(OPs)     StdDev    Mean(s) \
Stonewall(s) Stonewall(MiB) Test# #Tasks tPN reps fPP reord reordoff reordrand seed segcnt   blksiz    xsize \
aggs(MiB)   API RefNum
write       29629.34   29629.34   29629.34       0.00   29629.34   29629.34   29629.34       0.00    0.10368 \
        NA            NA     0     12  12    1   0     0        1         0    0     16 16777216  1048576    3072.0 \
POSIX      0
read         3190.35    3190.35    3190.35       0.00    3190.35    3190.35    3190.35       0.00    0.96290 \
        NA            NA     0     12  12    1   0     0        1         0    0     16 16777216  1048576    3072.0 \
POSIX      0
Finished            : Thu Jan  1 00:01:01 1970"""
    begin = lines.index("Results: ") + 2
    assert [line.rstrip() for line in lines[begin:]] == expected.splitlines()
    assert lines[0].startswith("IOR-") and lines[0].endswith(": MPI Coordinated Test of Parallel I/O")
    options = lines[lines.index("Options: ") + 1 : begin - 3]
    assert options[0] == "api                 : POSIX" and options[1] == "apiVersion          : "
    assert "aggregate filesize  : 3 GiB" in options and "xfersize            : 1 MiB" in options
    assert "nodes               : 1" in options and "clients per node    : 12" in options


def test_json_and_csv(run):
    found = json.loads(json.dumps(document(run, ["ior"])))
    (test,) = found["tests"]
    assert list(test) == ["TestID", "StartTime", "Path", "Parameters", "Options", "Results", "max"]
    write, read, remove = test["Results"]
    assert write == {
        "access": "write",
        "bwMiB": 29629.3439,
        "blockKiB": 16384.0,
        "xferKiB": 1024.0,
        "iops": 30256.1729,
        "latency": 0.0044,
        "openTime": 0.0025,
        "wrRdTime": 0.1015,
        "closeTime": 0.031,
        "totalTime": 0.1037,
    }
    assert remove == {"access": "remove", "totalTime": 0.8636}
    assert set(test["max"]) == {"writeMiB", "writeMB", "readMiB", "readMB"}
    assert [entry["operation"] for entry in found["summary"]] == ["write", "read"]
    summary = found["summary"][1]
    assert summary["bwMaxMIB"] == read["bwMiB"] and summary["bwStdMIB"] == 0 and summary["xsizeMiB"] == 3072
    assert found["fabricsim"]["phases"][0]["access_ps"] == s(0.101533)
    lines = csv(run)
    assert lines[0].startswith("access,bw(MiB/s),IOPS,Latency,block(KiB)")
    assert lines[1] == (
        "write,29629.3439,30256.1729,0.0044,16384.0000,1024.0000,0.0025,0.1015,0.0310,0.1037,12,0"
    )


def test_deviations_are_of_all_repetitions():
    config = Ior(write=True, repetitions=2, transfer_bytes=MIB)
    transfers = [
        Transfer(
            access="write",
            repetition=n,
            begin_ps=0,
            size_bytes=MIB,
            operations=1,
            open_ps=0,
            access_ps=s(1),
            close_ps=0,
            total_ps=s(n + 1),
            latency_ps=s(1),
        )
        for n in range(2)
    ]
    entry = document(result_of(config, transfers, tasks=1, per_node=1), ["ior"])["summary"][0]
    assert (entry["bwMaxMIB"], entry["bwMinMIB"], entry["bwMeanMIB"], entry["bwStdMIB"]) == (
        1.0,
        0.5,
        0.75,
        0.25,
    )
    assert entry["MeanTime"] == 1.5


@pytest.mark.parametrize(
    "size, words", [(262144, "262144 bytes"), (1 << 20, "1 MiB"), (25 << 30, "25 GiB"), (3 << 29, "1.50 GiB")]
)
def test_sizes_read_as_in_ior(size, words):
    assert human(size) == words


@pytest.mark.parametrize(
    "wrong, flag",
    [
        ({"block_bytes": 3 * MIB, "transfer_bytes": 2 * MIB}, "-b"),
        ({"transfer_bytes": 0}, "-t"),
        ({"reorder": True, "reorder_random": True}, "-Z"),
        ({"random_offset": True, "reorder": True}, "-z"),
        ({"unique_dir": True}, "-u"),
        ({"test_file": "a/"}, "-o"),
        ({"segments": 0}, "-s"),
    ],
)
def test_what_does_not_fit_together_is_told(wrong, flag):
    with pytest.raises(ConfigError) as caught:
        Ior(**wrong)
    assert [problem.where for problem in caught.value.problems] == [flag]


@pytest.mark.parametrize(
    "flag", ["-c", "-D 3", "-G 1", "-K", "-T 5", "-x", "-a MPIIO", "--lustre.stripe_count 4"]
)
def test_flags_without_a_meaning_are_refused_by_name(flag, capsys):
    assert main(["ior", "--cluster", "leaf-spine-64-400g-roce", *flag.split()]) == 2
    assert flag.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "directive, told",
    [
        ("summaryFormat=XML", "known: CSV, JSON, default"),
        ("blokSize=1m", "did you mean 'blockSize'"),
        ("filePerProc=2", "allowed: 0 or 1"),
        ("segmentCount", "allowed: NAME=VALUE"),
        ("blockSize=12x", "allowed: a size"),
    ],
)
def test_directives_are_checked(directive, told, capsys):
    assert main(["ior", "--cluster", "leaf-spine-64-400g-roce", "-O", directive]) == 2
    assert told in capsys.readouterr().err


def test_a_cluster_without_a_file_system_is_refused(capsys):
    assert main(["ior", "--cluster", "leaf-spine-64-400g-roce"]) == 2
    assert "has no file system" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, told",
    [
        ("-o /elsewhere/x", "-o: found '/elsewhere/x', allowed: a path in one of: /data"),
        ("-o /elsewhere/x --trace t.arrow", "-o: found '/elsewhere/x'"),
        ("-b 1000000t -t 1000000t", "-b, -s, -N: found "),
        ("-b 9000000000000t", "below 2^62"),
        ("-N 65 --trace t.arrow", "-N: found 65, allowed: 1 to 64"),
        ("--rpcs", "name it with --out DIR"),
    ],
)
def test_what_the_cluster_does_not_have_is_told_of_the_flag(flags, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cluster = ["--cluster", "demo-64-400g-lustre", "--set", "storage.mount=/data"]
    assert main(["ior", *cluster, *flags.split()]) == 2
    assert told in capsys.readouterr().err


def test_the_way_of_rpcs_is_kept(tmp_path):
    flags = ["-N", "2", "-w", "-b", "1m", "--rpcs", "--out", str(tmp_path / "out")]
    assert main(["ior", "--cluster", "demo-64-400g-lustre", *flags]) == 0
    assert pa.ipc.open_file(tmp_path / "out" / "rpcs.arrow").read_all().num_rows > 0
