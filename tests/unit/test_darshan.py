"""Darshan logs: made-up segments against a plain loop, and the logs that the package darshan ships."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fabricsim
from fabricsim.analysis import compare
from fabricsim.convert import convert, darshan, detect
from fabricsim.convert._darshan_log import META, SCHEMA
from fabricsim.errors import ConfigError, InputError
from fabricsim.trace import Trace, make_files

#: A segment: file, rank, whether written, offset, length, start and end in uss.
Segment = tuple[str, int, bool, int, int, float, float]


def log(segments: list[Segment], **more: Any) -> tuple[pa.Table, dict[str, Any]]:
    """What the reader makes of a log with these segments."""
    columns = list(zip(*segments, strict=True)) or [()] * 7
    times = [pa.array([t / 1e6 for t in column], pa.float64()) for column in columns[5:]]
    arrays = [pa.array(columns[0], pa.string()).dictionary_encode()]
    arrays += [pa.array(column, SCHEMA.field(i + 1).type) for i, column in enumerate(columns[1:5])]
    meta = {"modules": ["POSIX", "DXT_POSIX"], "job": {"nprocs": 8}, "syncs": [], "hosts": 2} | more
    return pa.table([*arrays, *times], schema=SCHEMA.with_metadata({META: json.dumps(meta)})), meta


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def run(segments: list[Segment], *, more: dict[str, Any] | None = None, **options: str) -> Any:
        path = tmp_path / "x.darshan"
        path.write_bytes(b"3.41\0\0\0\0" + (6567223).to_bytes(8, "little"))
        monkeypatch.setattr(darshan, "_read", lambda _: log(segments, **(more or {})))
        return convert(path, **options)

    return run


def rows_of(trace: Trace) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if v not in (None, [])} for row in trace.table.to_pylist()]


def test_segments_become_rows_with_their_think_time(imported: Any) -> None:
    report = imported(
        [("/f", 3, True, 0, 100, 10, 20), ("/f", 3, False, 50, 25, 26, 30), ("/{g}", 3, False, 0, 9, 31, 32)]
    )
    rows, us = rows_of(report.trace), 1_000_000
    assert rows == [
        {"id": 0, "kind": "open", "ranks": [3], "delay_ps": 10 * us, "file": "/f", "flags": "create"},
        {"id": 1, "kind": "write", "ranks": [3], "bytes": 100, "delay_ps": 0, "after": [0], "file": "/f",
         "offset": 0, "start_ps": 10 * us, "end_ps": 20 * us},
        {"id": 2, "kind": "read", "ranks": [3], "bytes": 25, "delay_ps": 6 * us, "after": [1],
         "file": "/f", "offset": 50, "start_ps": 26 * us, "end_ps": 30 * us},
        {"id": 3, "kind": "close", "ranks": [3], "delay_ps": 0, "after": [2], "file": "/f"},
        {"id": 4, "kind": "open", "ranks": [3], "delay_ps": us, "after": [2], "file": "/{{g}}"},
        {"id": 5, "kind": "read", "ranks": [3], "bytes": 9, "delay_ps": 0, "after": [4], "file": "/{{g}}",
         "offset": 0, "start_ps": 31 * us, "end_ps": 32 * us},
        {"id": 6, "kind": "close", "ranks": [3], "delay_ps": 0, "after": [5], "file": "/{{g}}"},
    ]  # fmt: skip
    assert report.counts == {"segments": 3, "rows": 7, "files": 2, "ranks": 1, "processes": 8, "hosts": 2}
    files = make_files(report.trace, ["/"])
    assert files is not None
    sizes = dict(zip(files.paths.to_pylist(), files.size_bytes.tolist(), strict=True))
    assert sizes == {"/f": -1, "/{g}": 9}


def test_a_file_read_beyond_what_is_written_was_there(imported: Any) -> None:
    report = imported([("/f", 0, True, 0, 100, 0, 1), ("/f", 1, False, 0, 101, 5, 6)])
    assert report.trace.table["flags"].null_count == report.trace.n_rows


def test_fsyncs_of_the_counters_stand_before_the_close(imported: Any) -> None:
    segments = [("/f", 0, True, 0, 1, 0, 1), ("/f", 1, False, 0, 1, 5, 6), ("/g", 1, True, 0, 1, 7, 8)]
    more = {"syncs": [["/f", -1, 5], ["/g", 0, 2], ["/h", 0, 9]]}
    report = imported(segments, more=more)
    kinds = [row["kind"] for row in rows_of(report.trace)]
    assert kinds == ["open", "write", "fsync", "close", "open", "read", "close", "open", "write", "close"]
    assert "7 fsyncs are counted in the log without their times: 1 made" in report.warnings[0]


@st.composite
def any_segments(draw: st.DrawFn, apart: bool = False) -> list[Segment]:
    found: list[Segment] = []
    free: dict[int, float] = defaultdict(float)
    for _ in range(draw(st.integers(1, 14))):
        rank = draw(st.integers(0, 2))
        start = free[rank] + draw(st.integers(0, 3)) if apart else draw(st.integers(0, 12))
        free[rank] = end = start + draw(st.integers(0, 4))
        file = draw(st.sampled_from(["/a", "/b"]))
        place = draw(st.integers(0, 3)) * 8
        found.append((file, rank, draw(st.booleans()), place, 8, float(start), float(end)))
    return found


def times_of(trace: Trace) -> dict[int, int]:
    """When each row begins if a segment takes as long as measured, and nothing else any time."""
    begin: dict[int, int] = {}
    end: dict[int, int] = {}
    for row in rows_of(trace):  # each stands behind what it waits for
        begin[row["id"]] = max((end[i] for i in row.get("after", [])), default=0) + row.get("delay_ps", 0)
        end[row["id"]] = begin[row["id"]] + row.get("end_ps", 0) - row.get("start_ps", 0)
    return begin


@given(segments=any_segments())
def test_a_replay_as_measured_begins_each_segment_as_measured(segments: list[Segment]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(darshan, "_read", lambda _: log(segments))
        patch.setattr(darshan, "make_provenance", lambda *_, **__: {})
        trace = darshan.convert(Path("x")).trace
    begin, rows = times_of(trace), rows_of(trace)
    moves = [row for row in rows if row["kind"] in ("read", "write")]
    assert all(begin[row["id"]] == row["start_ps"] for row in moves)
    found = sorted(
        (r["file"], r["ranks"][0], r["kind"] == "write", r["offset"], r["start_ps"]) for r in moves
    )
    assert found == sorted((s[0], s[1], s[2], s[3], int(s[5] * 1e6)) for s in segments)
    # Around every use of a file by a rank stand one open and one close.
    opened = {(r["file"], r["ranks"][0]): begin[r["id"]] for r in rows if r["kind"] == "open"}
    closed = {(r["file"], r["ranks"][0]): begin[r["id"]] for r in rows if r["kind"] == "close"}
    assert opened.keys() == closed.keys() == {(s[0], s[1]) for s in segments}
    for key, when in opened.items():
        mine = [s for s in segments if (s[0], s[1]) == key]
        assert when == min(s[5] for s in mine) * 1e6 and closed[key] == max(s[6] for s in mine) * 1e6


@given(segments=any_segments(apart=True))
def test_merged_rows_are_what_each_rank_did(segments: list[Segment]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(darshan, "_read", lambda _: log(segments))
        patch.setattr(darshan, "make_provenance", lambda *_, **__: {})
        trace = darshan.convert(Path("x"), times="none").trace
    rows = rows_of(trace)
    did: dict[int, list[Any]] = defaultdict(list)
    depth: dict[tuple[int, int], int] = {}
    for row in rows:
        assert not {"delay_ps", "start_ps", "end_ps"} & row.keys()
        for place, rank in enumerate(row["ranks"]):
            mine = [depth[i, rank] for i in row.get("after", []) if (i, rank) in depth]
            depth[row["id"], rank] = max(mine, default=0) + (row["kind"] in ("read", "write"))
            if row["kind"] in ("read", "write"):
                offset = row["offset"] + place * row.get("stride", 0)
                did[rank].append((depth[row["id"], rank], row["file"], row["kind"] == "write", offset))
    for rank, found in did.items():
        ordered = sorted((s for s in segments if s[1] == rank), key=lambda s: s[5:])
        # Segments of one instant have no order but that of the log.
        if len({s[5:] for s in ordered}) == len(ordered):
            assert [f[1:] for f in sorted(found)] == [(s[0], s[2], s[3]) for s in ordered]
        assert len(found) == len(ordered)


def test_ranks_that_do_alike_are_one_row(imported: Any) -> None:
    segments = [
        ("/f", rank, True, (4 * i + rank) * 1000, 1000, 100 * i + rank, 100 * i + rank + 50)
        for rank in range(4)
        for i in range(10)
    ]
    trace = imported(segments, times="none").trace
    assert trace.kinds == {"write": 10, "open": 1, "close": 1}
    assert {tuple(row["ranks"]) for row in rows_of(trace)} == {(0, 1, 2, 3)}
    assert trace.table["stride"].to_pylist()[1:-1] == [1000] * 10


def test_what_is_left_out_is_counted(imported: Any) -> None:
    good = ("/scratch/f", 0, True, 0, 10, 1.0, 2.0)
    report = imported(
        [
            good,
            ("<STDOUT>", 0, True, 0, 10, 0, 1),
            ("/usr/lib/x", 0, False, 0, 10, 0, 1),
            ("/scratchy", 0, False, 0, 10, 0, 1),
            ("/scratch/f", 0, True, -1, 10, 0, 1),
            ("/scratch/f", 0, True, 0, 10, -3, 1),
            ("/scratch/f", 0, True, 0, 10, 5, 4),
        ],
        more={"partial": True},
        under="/scratch/",
    )
    assert report.counts["segments"] == 3
    assert report.warnings[0].startswith("the log is incomplete")
    assert report.warnings[1:6] == [
        "segments of files without a path left out: 1",
        "segments of files outside /scratch left out: 2",
        "segments of a negative or impossible place left out: 1",
        "segments that begin before the job taken to begin with it: 1",
        "segments that end before they begin taken to need no time: 1",
    ]


@pytest.mark.parametrize(
    ("segments", "options", "says"),
    [
        ([], {}, "found no reads and writes of files in /, allowed: at least one"),
        ([("/f", 0, True, 0, 1, 0, 1)], {"under": "/g"}, "in /g"),
        ([("/f", -1, True, 0, 1, 0, 1)], {}, "found a segment of rank -1"),
        ([("/f", 0, True, 0, 1, 0, float("nan"))], {}, "to nan s, allowed: times below"),
        ([("/f", 0, True, 0, 1, 0, 1e30)], {}, "allowed: times below"),
    ],
)
def test_what_no_log_can_have_is_refused(
    imported: Any, segments: list[Segment], options: dict[str, str], says: str
) -> None:
    with pytest.raises(InputError) as error:
        imported(segments, **options)
    assert says in str(error.value)


def test_logs_without_dxt_say_how_to_have_it(imported: Any) -> None:
    with pytest.raises(InputError, match=r"no DXT \(modules: POSIX, STDIO\).*DARSHAN_MOD_ENABLE=DXT_POSIX"):
        imported([], more={"modules": ["POSIX", "STDIO"]})


def test_options_are_checked(imported: Any) -> None:
    with pytest.raises(ConfigError, match="times: unknown choice 'kep'; did you mean 'keep'"):
        imported([("/f", 0, True, 0, 1, 0, 1)], times="kep")
    with pytest.raises(ConfigError, match="unknown option 'undr'"):
        imported([], undr="/")


def test_the_package_is_asked_for_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(darshan.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'fabricsim\[darshan\]'"):
        darshan.convert(tmp_path / "x.darshan")


STORAGE = {"model": "weka", "servers": 4, "attach": "*", "rate": "100Gbps", "latency": "500ns"}
TOPOLOGY = {"kind": "star", "hosts": 8, "rate": "100Gbps", "latency": "500ns"}


def cluster(**changes: Any) -> fabricsim.Cluster:
    storage = STORAGE | {"name": "scratch"} | changes
    return fabricsim.Cluster.from_dict({"name": "io", "topology": TOPOLOGY, "storage": [storage]})


def test_a_converted_log_is_replayed_and_compared(imported: Any) -> None:
    segments = [
        ("/f", rank, i < 4, (4 * (i % 4) + rank) << 20, 1 << 20, 500 * i + rank, 500 * i + rank + 300)
        for rank in range(4)
        for i in range(8)
    ]
    trace = imported(segments, more={"syncs": [["/f", -1, 4]]}).trace
    result = fabricsim.replay(trace, cluster())
    kinds = Counter(result.ops["kind"].to_pylist())
    assert kinds == {"open": 4, "write": 16, "read": 16, "fsync": 4, "close": 4}
    found = compare(trace, result)
    assert len(found.rows) == 32 and found.unmatched == 0
    assert [(k["kind"], k["bytes"]) for k in found.by_kind] == [("write", 16 << 20), ("read", 16 << 20)]
    # As fast as it goes: without the think time, in one row for all ranks.
    merged = imported(segments, times="none").trace
    assert merged.n_rows == 10
    assert fabricsim.replay(merged, cluster()).summary["end_ps"] < result.summary["end_ps"]
    with pytest.raises(InputError, match="but the cluster has no"):
        fabricsim.replay(trace, fabricsim.Cluster.from_dict({"name": "no", "topology": TOPOLOGY}))
    with pytest.raises(InputError, match="found '/f', allowed: a path in one of: /scratch"):
        fabricsim.replay(trace, cluster(mount="/scratch"))


@pytest.fixture(scope="module")
def examples() -> Path:
    """The folder of the logs that come with the package."""
    package = pytest.importorskip("darshan", reason="the package darshan is not installed")
    return Path(package.__file__).parent / "examples" / "example_logs"


@pytest.mark.parametrize("name", ["ior_hdf5_example.darshan", "dxt.darshan"])
def test_example_logs_keep_every_segment(examples: Path, name: str) -> None:
    import darshan as package

    path = examples / name
    assert detect(path).name == "darshan"
    report = convert(path)
    log = package.DarshanReport(str(path), read_all=False)
    log.mod_read_all_dxt_records("DXT_POSIX")
    expected = sorted(
        (log.name_records[r["id"]], r["rank"], kind, s["offset"], s["length"], round(s["start_time"] * 1e12))
        for r in log.records["DXT_POSIX"]
        for kind in ("read", "write")
        for s in r[f"{kind}_segments"]
    )
    rows = [row for row in rows_of(report.trace) if row["kind"] in ("read", "write")]
    found = sorted(
        (r["file"], r["ranks"][0], r["kind"], r["offset"], r["bytes"], r["start_ps"]) for r in rows
    )
    assert found == expected
    begin = times_of(report.trace)
    assert all(begin[row["id"]] == row["start_ps"] for row in rows)


def test_an_example_log_is_replayed(examples: Path) -> None:
    trace = convert(examples / "ior_hdf5_example.darshan").trace
    result = fabricsim.replay(trace, cluster(mount="/global/cscratch1"))
    found = compare(trace, result)
    # Every byte of the log, in time that is nearly all think time.
    assert sum(k["bytes"] for k in found.by_kind) == trace.total_bytes
    assert 0.7 < found.summary["step_ratio"] < 1.3


def test_an_example_log_without_dxt_is_refused(examples: Path) -> None:
    with pytest.raises(InputError, match=r"noposix.darshan: found no DXT \(modules: LUSTRE, STDIO\)"):
        convert(examples / "noposix.darshan")


@pytest.mark.parametrize("keep", [16, 200, 2000, 3000])
def test_a_damaged_log_is_an_error(examples: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.darshan"
    path.write_bytes((examples / "ior_hdf5_example.darshan").read_bytes()[:keep])
    assert detect(path).name == "darshan"
    with pytest.raises(InputError, match=r"cut.darshan: is damaged"):
        convert(path)


@pytest.mark.parametrize("seed", range(4))
def test_wrong_bytes_in_a_log_never_end_the_program(examples: Path, tmp_path: Path, seed: int) -> None:
    path, draw = tmp_path / "bad.darshan", random.Random(seed)
    data = bytearray((examples / "ior_hdf5_example.darshan").read_bytes())
    for _ in range(5):
        data[draw.randrange(16, len(data))] = draw.randrange(256)
    path.write_bytes(data)
    try:
        assert convert(path).trace.n_rows
    except InputError as error:
        assert "bad.darshan" in str(error)
