"""``fabricsim bench``: nccl-tests' table, flags and JSON."""

import json

import pytest

import fabricsim
from fabricsim.analysis import read_nccl_tests
from fabricsim.cli import main
from fabricsim.collectives import nccl_table
from fabricsim.collectives.bench import TESTS, Measured, bench, sizes_between
from fabricsim.errors import ConfigError

STAR = """
name = "star"
[topology]
kind = "star"
hosts = 8
rate = "100Gbps"
latency = "500ns"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "star.toml"
    path.write_text(STAR)
    return fabricsim.compile(fabricsim.Cluster.from_toml(path))


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "star.toml").write_text(STAR)
    return tmp_path


def run(*arguments):
    return main(["bench", *[str(argument) for argument in arguments], "--cluster", "star.toml"])


def rows_of(text):
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_the_table_is_that_of_nccl_tests(at, capsys):
    assert run("all_reduce", "-b", 8, "-e", "64K", "-f", 64, "--ranks", 4) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    title = next(i for i, line in enumerate(lines) if "out-of-place" in line)
    # The lines as nccl-tests prints them.
    half, units = ["time", "algbw", "busbw", "#wrong"], ["(us)", "(GB/s)", "(GB/s)"]
    assert lines[title] == "#" + " " * 62 + "out-of-place" + " " * 23 + "in-place" + " " * 10
    assert lines[title + 1].split() == ["#", *["size", "count", "type", "redop", "root"], *half, *half]
    assert lines[title + 2].split() == ["#", "(B)", "(elements)", *units, *units]
    assert [len(line) for line in lines[title : title + 4]] == [116, 118, 118, 118]
    rows = rows_of(captured.out)
    assert [row[:5] for row in rows] == [
        ["8", "2", "float", "sum", "-1"],
        ["512", "128", "float", "sum", "-1"],
        ["32768", "8192", "float", "sum", "-1"],
    ]
    for row in rows:
        assert row[5:9] == row[9:13] and row[8] == "N/A"
    assert lines[-3].startswith("# Out of bounds values : N/A")
    assert lines[-2].startswith("# Avg bus bandwidth    : ")
    assert "packet-hops" in captured.err


@pytest.mark.parametrize(
    "value, width, text",
    [
        (0.0, 7, "0.00"),
        (9999.994, 7, "9999.99"),
        (12345.678, 7, "12345.7"),
        (999999.9, 7, "1000000"),
        (1e12, 7, "1.0e+12"),
        (123456.0, 6, "123456"),
        (1e9, 6, "1e+09"),
    ],
)
def test_numbers_fit_their_columns(value, width, text):
    assert nccl_table.fitted(value, width) == text


@pytest.mark.parametrize("test", TESTS)
def test_every_test_has_its_size_and_bandwidths(at, capsys, test):
    assert run(test, "-b", "1M", "-e", "1M") == 0
    (row,) = rows_of(capsys.readouterr().out)
    size, count, datatype, redop, root = row[:5]
    split = test in ("all_gather", "reduce_scatter", "alltoall")
    assert (size, count, datatype) == ("1048576", str((1 << 18) // (8 if split else 1)), "float")
    assert redop == ("none" if test in ("all_gather", "alltoall", "broadcast") else "sum")
    assert root == ("0" if test in ("broadcast", "reduce") else "-1")
    algbw, busbw = float(row[6]), float(row[7])
    factor = {"all_reduce": 1.75} | dict.fromkeys(("all_gather", "reduce_scatter", "alltoall"), 0.875)
    assert busbw == pytest.approx(algbw * factor.get(test, 1.0), abs=0.02)
    assert algbw == pytest.approx((1 << 20) / float(row[5]) / 1000, abs=0.01)


def test_parts_are_whole_pieces_of_16_bytes(model):
    (row,) = bench(model, "all_gather", [1000], ranks=range(3))
    assert (row.size_bytes, row.count) == (960, 80)  # 1000 / 4 / 3 = 83 elements, of which 80 are 16 B pieces
    (row,) = bench(model, "all_gather", [8])
    assert (row.size_bytes, row.algbw_gbs) == (0, 0.0) and row.time_us > 0


def test_sizes_go_by_factor_or_by_step():
    assert sizes_between(8, 8) == [8]
    assert sizes_between(0, 4, step=2) == [0, 2, 4]
    assert sizes_between(0, 4, factor=2, step=1) == [0, 1, 2, 4]


def test_iterations_are_averaged_after_the_warm_up(model):
    (one,) = bench(model, "all_reduce", [1 << 16])
    (many,) = bench(model, "all_reduce", [1 << 16], iterations=5, warmup=2)
    assert many.time_us == pytest.approx(one.time_us, rel=0.2)
    (again,) = bench(model, "all_reduce", [1 << 16], iterations=5, warmup=2)
    assert many == again


def test_time_is_over_the_ranks(model):
    mean, least, greatest = (
        next(bench(model, "broadcast", [1 << 20], average=average)).time_us for average in (1, 2, 3)
    )
    assert least <= mean <= greatest and least < greatest


def test_a_result_does_not_depend_on_the_sizes_before_it(model):
    alone = next(bench(model, "alltoall", [1 << 18]))
    assert list(bench(model, "alltoall", [1 << 12, 1 << 18]))[1] == alone


def test_json_is_what_compare_reads(at, capsys):
    assert run("all_reduce", "-b", "64K", "-e", "128K", "-f", 2, "-J", "out.json") == 0
    document = json.loads((at / "out.json").read_text())
    assert {"version", "start_time", "args", "env", "config", "results", "end_time"} <= set(document)
    assert document["config"]["minimum_bytes"] == 65536 and len(document["config"]["devices"]) == 8
    entry = document["results"][0]
    assert entry["out_of_place"]["nwrong"] is None and entry["in_place"] == entry["out_of_place"]
    assert document["out_of_bounds"] == {"count": None, "okay": None}
    read = read_nccl_tests(at / "out.json")
    assert (read.kind, read.ranks, [row["bytes"] for row in read.rows]) == ("all_reduce", 8, [65536, 131072])
    capsys.readouterr()
    assert run("all_reduce", "-b", "64K", "-e", "128K", "-f", 2, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["results"] == document["results"] and printed["fabricsim"]["digests"]
    assert run("reduce", "-b", "64K", "-e", "64K", "-J", "out.json") == 0
    assert read_nccl_tests(at / "out.json").kind == "reduce"


def test_all_roots_types_and_operations_are_gone_through(at, capsys):
    assert run("broadcast", "-b", 64, "-e", 64, "-r", "all", "--ranks", 3) == 0
    assert [row[4] for row in rows_of(capsys.readouterr().out)] == ["0", "1", "2"]
    assert run("all_reduce", "-b", 64, "-e", 64, "-d", "all", "-o", "all", "--ranks", 2) == 0
    rows = rows_of(capsys.readouterr().out)
    assert len(rows) == 12 * 6 and {row[1] for row in rows} == {"64", "32", "16", "8"}
    assert len({tuple(row[5:8]) for row in rows}) == 1


def test_ranks_come_from_threads_gpus_and_nodes(at, capsys):
    for options, ranks in ((["-g", 4], 4), (["-t", 2, "-g", 3], 6), (["--ranks", 5], 5), ([], 8)):
        assert run("all_gather", "-b", 512, "-e", 512, "--json", *options) == 0
        devices = json.loads(capsys.readouterr().out)["config"]["devices"]
        assert [device["rank"] for device in devices] == list(range(ranks))


@pytest.mark.parametrize(
    "options, message",
    [
        (["-c", 1], "-c (--check): found 1, allowed: 0; no data is moved"),
        (["-z", 1], "no host waits"),
        (["-G", 5], "no CUDA graphs"),
        (["-m", 3], "not aggregated"),
        (["-p", 1], "nothing to initialise"),
        (["-N", 2], "same table again"),
        (["-T", 60], "--max-time"),
        (["-d", "flaot"], "did you mean 'float'"),
        (["-o", "som"], "did you mean 'sum'"),
        (["-b", "8Q"], "-b: found '8Q'"),
        (["-b", "-8"], "-b: found '-8'"),
        (["-b", "8M", "-e", "1M"], "-e: found 1048576, allowed: at least -b, 8388608"),
        (["-i", 0], "-i: found 0"),
        (["-f", 0], "-f: found 0"),
        (["-n", 0], "iterations: found 0, allowed: 1 to"),
        (["-w", -1], "warmup: found -1"),
        (["-a", 4], "average: found 4"),
        (["-g", 9], "found 1 nodes with 9 ranks"),
        (["-g", 0], "-g: found 0"),
        (["--ranks", 9], "--ranks: found 9, allowed: 1 to 8"),
        (["--ranks", 4, "-g", 2], "without -t, -g and --nodes"),
        (["-J", "no/such/out.json"], "-J no/such/out.json: No such file"),
        (["--set", "topology.kind=ring"], "unknown kind"),
    ],
)
def test_what_makes_no_sense_is_refused(at, capsys, options, message):
    try:
        code = run("all_reduce", *options)
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and not captured.out


def test_bad_tests_and_roots_are_named(at, capsys):
    assert run("all_redcue") == 2
    assert "did you mean 'all_reduce'" in capsys.readouterr().err
    assert run("broadcast", "-r", 8) == 2
    assert "found '8', allowed: 0 to 7, or all" in capsys.readouterr().err
    assert run("sendrecv", "--ranks", 1) == 2
    assert "at least 2" in capsys.readouterr().err


def test_ranks_are_checked(model):
    for ranks in ([], [0, 0], [-1], [8]):
        with pytest.raises(ConfigError, match="ranks"):
            next(bench(model, "all_reduce", [8], ranks=ranks))


def test_a_time_limit_ends_with_4(at, capsys):
    assert run("all_reduce", "-b", "16M", "-e", "16M", "--max-time", "10us") == 4
    assert "limit of 10 us" in capsys.readouterr().err


def test_an_average_without_rows_is_zero():
    assert nccl_table.average_busbw([]) == 0.0
    row = Measured(8, 2, "float", "sum", -1, 1.0, 2.0, 3.0, 4, "x")
    assert nccl_table.average_busbw([row, row]) == 3.0
