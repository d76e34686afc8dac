"""Where the time went: against hand-made cases and a slow count."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fabricsim
from fabricsim.analysis import (
    breakdown,
    bus_factor,
    busiest_links,
    collectives,
    compare,
    critical_path,
    read_nccl_tests,
)
from fabricsim.analysis.critical_path import path_summary
from fabricsim.trace import KINDS, Trace, lower
from fabricsim.workload.rows import Rows


def ops(rows):
    names = ["id", "kind", "rank", "bytes", "start_ps", "end_ps"]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    types = {"start_ps": pa.int64(), "end_ps": pa.int64()}
    table = {name: pa.array(list(values), types.get(name)) for name, values in columns.items()}
    return pa.table(table | {"name": pa.nulls(len(rows), pa.string())})


def result(table):
    return SimpleNamespace(ops=table)


def test_compute_communication_and_idle_fill_the_time():
    table = ops(
        [
            (0, "compute", 0, 0, 0, 50),
            (1, "all_reduce", 0, 8, 30, 70),
            (2, "all_gather", 0, 8, 60, 80),
            (0, "compute", 1, 0, 0, 90),
            (1, "all_reduce", 1, 8, 20, 40),
        ]
    )
    found = breakdown(table, 100)
    assert found.compute_ps.tolist() == [50, 90]
    assert found.exposed_ps.tolist() == [30, 0]
    assert found.overlapped_ps.tolist() == [20, 20]
    assert found.idle_ps.tolist() == [20, 10]
    assert found.slowest()["rank"] == 1
    assert found.mean()["compute_ps"] == 70
    by_kind = {row["kind"]: row for row in found.kinds}
    assert by_kind["all_reduce"]["in_flight_ps"] == (40 + 20) // 2
    assert by_kind["all_reduce"]["exposed_ps"] == 20 // 2
    assert by_kind["all_gather"]["ranks"] == 1
    assert found.table().num_rows == 2
    json.dumps(found.summary())


def test_operations_that_did_not_end_are_left_out():
    table = ops([(0, "compute", 0, 0, 0, 50), (1, "all_reduce", 0, 8, 50, None)])
    assert breakdown(table).exposed_ps.tolist() == [0]
    assert breakdown(table.slice(1)).mean() == breakdown(table.slice(0, 0)).mean()
    assert breakdown(table.slice(0, 0)).slowest() == {}


spans = st.tuples(st.sampled_from(["compute", "send", "all_reduce"]), st.integers(0, 3), st.integers(0, 40))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(spans, st.integers(0, 20)), min_size=1, max_size=12))
def test_the_breakdown_equals_a_slow_count(rows):
    table = ops(
        [(i, kind, rank, 1, start, start + length) for i, ((kind, rank, start), length) in enumerate(rows)]
    )
    found = breakdown(table, 70)
    for at, rank in enumerate(found.rank):
        slots = [set() for _ in range(70)]
        for (kind, who, start), length in rows:
            for slot in range(start, start + length):
                if who == rank:
                    slots[slot].add(kind == "compute")
        assert found.compute_ps[at] == sum(True in slot for slot in slots)
        assert found.exposed_ps[at] == sum(slot == {False} for slot in slots)
        assert found.overlapped_ps[at] == sum(len(slot) == 2 for slot in slots)


def test_bus_factors_are_those_of_nccl_tests():
    assert bus_factor("all_reduce", 4) == 1.5
    assert bus_factor("reduce_scatter", 4) == bus_factor("all_to_all", 4) == 0.75
    assert bus_factor("reduce", 4) == 1


def test_collectives_are_counted_by_kind_size_and_ranks():
    table = ops(
        [
            (0, "all_reduce", 0, 1000, 0, 200),
            (0, "all_reduce", 1, 1000, 100, 200),
            (1, "all_reduce", 0, 1000, 300, 500),
            (1, "all_reduce", 1, 1000, 300, 500),
            (2, "barrier", 0, 0, 600, 700),
            (2, "barrier", 1, 0, 600, 700),
            (3, "send", 0, 10, 0, 9),
        ]
    )
    first, second = collectives(table)
    assert (first["kind"], first["count"], first["time_ps"]) == ("all_reduce", 2, 150)
    assert first["wait_ps"] == 25
    assert first["algbw_gbs"] == pytest.approx(1000 / 150 * 1000)
    assert first["busbw_gbs"] == first["algbw_gbs"]
    assert second["kind"] == "barrier" and second["busbw_gbs"] is None
    assert collectives(table.slice(6)) == []


def test_the_busiest_links_come_first_and_idle_ones_never():
    n = 4
    columns = {
        name: [0] * n for name in ("packets", "bytes", "ecn_marks", "drops", "pauses", "max_queue_bytes")
    }
    columns |= {"link": list("abcd"), "rate_mbps": [1] * n, "utilisation": [0.0] * n}
    table = pa.table(columns | {"busy_ps": [5, 9, 0, 9], "paused_ps": [0, 0, 7, 1]})
    assert [row["link"] for row in busiest_links(table)] == ["d", "b", "a"]
    assert len(busiest_links(table, 1)) == 1


def run_path(rows, times):
    lowered = lower(rows.trace())
    rank = np.array([r for ranks in lowered["ranks"].to_pylist() for r in ranks])
    start, end = (np.array(column) for column in zip(*times, strict=True))
    return critical_path(lowered, rank, start, end, tuple(KINDS))


def test_the_path_goes_through_the_slow_rank():
    rows = Rows()
    rows.add("compute", [0, 1], duration_ps=10, stream=0)
    rows.add("compute", [1], duration_ps=30, stream=0, delay_ps=5)
    rows.add("all_reduce", [0, 1], bytes=8, stream=0)
    path = run_path(rows, [(0, 10), (0, 10), (15, 45), (10, 60), (45, 60)])
    assert [(s.kind, s.rank, s.start_ps, s.end_ps) for s in path] == [
        ("compute", 1, 0, 10),
        ("delay", 1, 10, 15),
        ("compute", 1, 15, 45),
        ("all_reduce", 1, 45, 60),
    ]
    short = path_summary(path, {1: "slow"})
    assert short["by_kind"] == {"compute": 40, "all_reduce": 15, "delay": 5}
    assert short["longest"][0] == {
        "id": 1,
        "kind": "compute",
        "name": "slow",
        "rank": 1,
        "start_ps": 15,
        "time_ps": 30,
    }


def test_the_path_follows_a_message_to_its_sender():
    rows = Rows()
    work = rows.add("compute", [0], duration_ps=20)
    rows.add("send", [0, 1], peer=[1, 0], bytes=8, after=[work])
    rows.add("recv", [1, 0], peer=[0, 1], bytes=8)
    path = run_path(rows, [(0, 20), (20, 25), (0, 9), (0, 30), (0, 9)])
    assert [(s.kind, s.rank, s.time_ps) for s in path] == [("compute", 0, 20), ("recv", 0, 10)] or [
        (s.kind, s.rank, s.time_ps) for s in path
    ] == [("compute", 0, 20), ("send", 0, 10)]
    assert sum(s.time_ps for s in path) == 30


def test_time_that_nothing_explains_is_a_wait():
    rows = Rows()
    rows.add("compute", [0], duration_ps=5, stream=0)
    rows.add("compute", [0], duration_ps=5, stream=0)
    path = run_path(rows, [(3, 8), (10, 15)])
    assert [(s.kind, s.time_ps) for s in path] == [("wait", 3), ("compute", 5), ("wait", 2), ("compute", 5)]
    assert run_path(rows, [(-1, -1), (-1, -1)]) == []


def measured_trace():
    columns = {
        "id": [0, 1, 2],
        "kind": ["compute", "all_reduce", "all_reduce"],
        "ranks": [[0, 1]] * 3,
        "bytes": [None, 8, 16],
        "duration_ps": [5, None, None],
        "start_ps": [100, 110, None],
        "end_ps": [105, 150, None],
    }
    return Trace(pa.table(columns))


EMULATED = ops(
    [
        (0, "compute", 0, 0, 0, 5),
        (0, "compute", 1, 0, 0, 5),
        (1, "all_reduce", 0, 8, 5, 25),
        (1, "all_reduce", 1, 8, 0, 26),
    ]
)


def test_a_measured_trace_is_compared_by_id_and_the_fastest_rank():
    found = compare(measured_trace(), result(EMULATED))
    (row,) = found.rows
    assert (row["id"], row["measured_ps"], row["emulated_ps"], row["spread_ps"]) == (1, 40, 20, 6)
    assert row["ratio"] == 0.5
    assert (found.step_measured_ps, found.step_emulated_ps) == (50, 26)
    assert found.summary["ratio_median"] == 0.5
    assert found.table().num_rows == 1
    assert "1 operations" in repr(found) and "<table>" in found._repr_html_()


def test_storage_is_compared_by_its_slowest_rank_and_named_by_its_file():
    columns = {
        "id": [0, 1, 2], "kind": ["open", "write", "read"], "ranks": [[0, 1], [0, 1], [1]],
        "bytes": [None, 8, 5], "file": ["/f", "/f", "/g"],
        "start_ps": [None, 10, 40], "end_ps": [None, 30, 44],
    }  # fmt: skip
    done = [
        (0, "open", 0, 0, 0, 1),
        (0, "open", 1, 0, 0, 1),
        (1, "write", 0, 8, 1, 6),
        (1, "write", 1, 8, 1, 41),
    ]
    found = compare(Trace(pa.table(columns)), result(ops([*done, (2, "read", 1, 5, 50, 52)])))
    rows = [(r["id"], r["name"], r["measured_ps"], r["emulated_ps"], r["spread_ps"]) for r in found.rows]
    assert rows == [(1, "/f", 20, 40, 35), (2, "/g", 4, 2, 0)]
    assert found.by_kind == [
        {"kind": "write", "operations": 1, "bytes": 16, "measured_ps": 20, "emulated_ps": 40, "ratio": 2.0},
        {"kind": "read", "operations": 1, "bytes": 5, "measured_ps": 4, "emulated_ps": 2, "ratio": 0.5},
    ]


def test_two_results_are_compared():
    found = compare(result(EMULATED), result(EMULATED))
    assert found.summary["ratio_max"] == 1.0 and found.summary["step_ratio"] == 1.0


def test_what_cannot_be_compared_is_said():
    bare = Trace(pa.table({"id": [0], "kind": ["all_reduce"], "ranks": [[0, 1]], "bytes": [8]}))
    with pytest.raises(fabricsim.InputError, match="no columns start_ps"):
        compare(bare, result(EMULATED))
    with pytest.raises(fabricsim.InputError, match="no measured operation has the id"):
        compare(measured_trace(), result(EMULATED.slice(0, 2)))


def nccl_file(tmp_path, **changes):
    half = {"time": 0.00004, "alg_bw": 0.2, "bus_bw": 0.2, "nwrong": 0}
    data = {
        "version": "2.17",
        "args": ["./all_reduce_perf", "-b", "8"],
        "config": {"devices": [{"rank": 0}, {"rank": 1}]},
        "results": [
            {"size": 8, "count": 2, "out_of_place": half, "in_place": half},
            {"size": 64, "out_of_place": half},
        ],
    }
    path = tmp_path / "nccl.json"
    path.write_text(json.dumps(data | changes))
    return path


def test_an_nccl_tests_file_is_compared_by_size(tmp_path):
    table = read_nccl_tests(nccl_file(tmp_path))
    assert (table.kind, table.ranks, len(table.rows)) == ("all_reduce", 2, 2)
    found = compare(table, result(EMULATED))
    (row,) = found.rows
    assert (row["bytes"], row["measured_ps"], row["emulated_ps"]) == (8, 40, 21)
    assert row["measured_busbw_gbs"] == 0.2
    assert found.unmatched == 1
    with pytest.raises(fabricsim.InputError, match="no size"):
        compare(read_nccl_tests(nccl_file(tmp_path, args=["./broadcast_perf"])), result(EMULATED))


@pytest.mark.parametrize(
    "changes",
    [
        {"results": None},
        {"results": [3]},
        {"results": [{"size": "8"}]},
        {"results": [{"size": 8, "out_of_place": {"time": "x"}}]},
        {"results": [{"size": 8, "out_of_place": {"time": float("nan")}}]},
        {"results": [{"size": -8, "out_of_place": {"time": 1}}]},
    ],
)
def test_a_bad_nccl_tests_file_is_an_input_error(tmp_path, changes):
    with pytest.raises(fabricsim.InputError, match=r"nccl\.json"):
        read_nccl_tests(nccl_file(tmp_path, **changes))


def test_other_bytes_are_no_nccl_tests_file(tmp_path):
    for data in (b"", b"\xff\xfe", b"{" * 100_000, b"[" * 100_000, b"3"):
        path = tmp_path / "x.json"
        path.write_bytes(data)
        with pytest.raises(fabricsim.InputError):
            read_nccl_tests(path)
    with pytest.raises(fabricsim.InputError):
        read_nccl_tests(tmp_path / "missing.json")
