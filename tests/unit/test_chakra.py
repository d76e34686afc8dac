"""Chakra graphs of several ranks become one trace: sizes, groups, dependencies, messages."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import capture_makers as make
import pytest

from fabricsim.convert import FORMATS, detect
from fabricsim.convert.chakra import convert
from fabricsim.errors import ConfigError, InputError

COMP, SEND, RECV, COLL = 4, 5, 6, 7
ALL_REDUCE, ALL_GATHER, GATHER, BROADCAST, ALL_TO_ALL, REDUCE_SCATTER, BARRIER = 0, 2, 3, 5, 6, 7, 9


def rows(report) -> list[dict]:
    return report.trace.table.to_pylist()


@pytest.mark.parametrize(
    ("comm_type", "kind", "size"),
    [
        (ALL_REDUCE, "all_reduce", 1000),
        (ALL_GATHER, "all_gather", 4000),
        (REDUCE_SCATTER, "reduce_scatter", 1000),
        (ALL_TO_ALL, "all_to_all", 1000),
        (BARRIER, "barrier", None),
    ],
)
def test_comm_size_is_the_input_of_a_rank(
    tmp_path: Path, comm_type: int, kind: str, size: int | None
) -> None:
    one = [make.node(0, COLL, comm_type=comm_type, comm_size=1000)]
    report = convert(make.write_et(tmp_path, dict.fromkeys(range(4), one)))
    (row,) = rows(report)
    assert (row["kind"], row["bytes"], row["ranks"]) == (kind, size, [0, 1, 2, 3])
    assert report.warnings == []


def test_compute_by_time_or_by_work(tmp_path: Path) -> None:
    nodes = [make.node(0, COMP, us=7), make.node(1, COMP, num_ops=500, tensor_size=64, data=[0])]
    first, second = rows(convert(make.write_et(tmp_path, {0: nodes}), world_size=1))
    assert first["duration_ps"] == 7_000_000 and first["flops"] is None
    assert (second["flops"], second["mem_bytes"], second["duration_ps"]) == (500.0, 64, None)
    assert second["after"] == [first["id"]]


def test_dependencies_go_through_nodes_that_are_passed_through(tmp_path: Path) -> None:
    nodes = [
        make.node(1, COMP, us=1),
        make.node(2, COLL, name="c10d::allreduce_(0)", data=[1]),  # a wrapper: no type, no size
        make.node(3, 1, data=[2]),  # metadata
        make.node(4, COMP, data=[3]),  # no time, no work
        make.node(5, COLL, data=[4], comm_type=ALL_REDUCE, comm_size=8),
    ]
    report = convert(make.write_et(tmp_path, {0: nodes, 1: nodes}))
    table = rows(report)
    assert [r["kind"] for r in table] == ["compute", "compute", "all_reduce"]
    assert table[2]["after"] == [table[0]["id"], table[1]["id"]]
    assert "collective nodes without comm_type or comm_size passed through (wrappers): 2" in report.warnings
    assert any("'c10d::allreduce_': 2" in w for w in report.warnings)


def test_measured_time_of_a_collective_is_the_shortest_over_ranks(tmp_path: Path) -> None:
    def rank(start: int, us: int) -> list[bytes]:
        return [make.node(0, COLL, comm_type=ALL_REDUCE, comm_size=8, start=start, us=us)]

    (row,) = rows(convert(make.write_et(tmp_path, {0: rank(100, 50), 1: rank(140, 12), 2: rank(120, 31)})))
    assert (row["start_ps"], row["end_ps"]) == (40_000_000, 52_000_000)


def test_groups_by_option_by_file_and_by_use(tmp_path: Path) -> None:
    def call(name: str) -> list[bytes]:
        return [make.node(0, COLL, comm_type=ALL_REDUCE, comm_size=8, pg_name=name)]

    capture = make.write_et(tmp_path / "a", {0: call("x"), 1: call("y"), 2: call("x"), 3: call("y")})
    report = convert(capture)
    assert sorted(r["ranks"] for r in rows(report)) == [[0, 2], [1, 3]]
    assert len(report.warnings) == 2 and "lists no ranks" in report.warnings[0]
    report = convert(capture, groups={"x": [0, 2], "y": [1, 3]})
    assert report.warnings == []

    listed = [
        {"pg_name": "x", "ranks": [2, 0], "group_size": 2},
        {"pg_name": "0", "ranks": [], "group_size": 4},
    ]
    init = make.node(9, 1, name="## process_group:init ##", inputs=str([json.dumps(listed)]))
    report = convert(
        make.write_et(tmp_path / "b", {0: [init, *call("x")], 2: [init, *call("x")]}), world_size=4
    )
    assert rows(report)[0]["ranks"] == [2, 0]


def test_one_rank_of_a_larger_job(tmp_path: Path) -> None:
    call = make.node(1, COLL, comm_type=ALL_REDUCE, comm_size=8)
    init = make.node(
        0, 1, name="## process_group:init ##", inputs='[{"pg_name": "0", "ranks": [], "group_size": 3}]'
    )
    alone = convert(make.write_et(tmp_path / "a", {0: [call]}))
    assert rows(alone)[0]["ranks"] == [0] and "give world_size" in alone.warnings[0]
    assert rows(convert(tmp_path / "a", world_size=4))[0]["ranks"] == [0, 1, 2, 3]
    told = convert(make.write_et(tmp_path / "b", {0: [init, call]}))
    assert rows(told)[0]["ranks"] == [0, 1, 2] and "1 of 3 ranks" in told.warnings[0]


def test_messages_match_and_peers_outside_the_capture_answer(tmp_path: Path) -> None:
    send = make.node(0, SEND, comm_size=64, comm_src=0, comm_dst=1, comm_tag=5)
    recv = make.node(0, RECV, comm_size=64, comm_src=0, comm_dst=1, comm_tag=5)
    a, b = rows(convert(make.write_et(tmp_path / "a", {0: [send], 1: [recv]})))
    assert (a["kind"], a["ranks"], a["peer"], a["tag"]) == ("send", [0], [1], 5)
    assert (b["kind"], b["ranks"], b["peer"], b["bytes"]) == ("recv", [1], [0], 64)
    report = convert(make.write_et(tmp_path / "b", {0: [send]}))
    assert [r["kind"] for r in rows(report)] == ["send", "recv"]
    assert "recv rows added for ranks outside the capture: 1" in report.warnings


def test_streams_keep_their_order(tmp_path: Path) -> None:
    nodes = [
        make.node(0, COMP, us=1, is_cpu_op=True, tid=9),
        make.node(1, COMP, us=1, is_cpu_op=False, tid=7, data=[0]),
        make.node(2, COMP, us=1, is_cpu_op=False, tid=7),
    ]
    assert [r["stream"] for r in rows(convert(make.write_et(tmp_path, {0: nodes})))] == [1_000_000, 7, 7]


def test_ctrl_deps_that_cannot_be_followed_are_left_out(tmp_path: Path) -> None:
    nodes = [make.node(0, COMP, us=1, ctrl=[99]), make.node(1, COMP, us=1, data=[0])]
    capture = make.write_et(tmp_path, {0: nodes})
    report = convert(capture)
    assert any("ctrl_deps left out" in w for w in report.warnings)
    with pytest.raises(InputError, match=r"node 0 at byte .*waits for node 99"):
        convert(capture, deps="both")


def test_gather_is_an_uneven_all_to_all(tmp_path: Path) -> None:
    call = [make.node(0, COLL, comm_type=GATHER, comm_size=10, root=1)]
    (row,) = rows(convert(make.write_et(tmp_path, dict.fromkeys(range(3), call))))
    assert (row["kind"], row["splits"]) == ("all_to_all", [0, 10, 0, 0, 0, 0, 0, 10, 0])


def test_json_form_and_prefix(tmp_path: Path) -> None:
    entry = {
        "Id": 1,
        "Name": "x",
        "NodeType": 4,
        "ctrlDeps": [],
        "data_deps": [],
        "runtime": 3,
        "is_cpu_op": True,
    }
    (tmp_path / "a.0.json").write_text(json.dumps({"workload_graph": [entry]}))
    assert rows(convert(tmp_path))[0]["duration_ps"] == 3_000_000
    (tmp_path / "b.0.json").write_text(json.dumps({"workload_graph": [entry, entry | {"Id": 2}]}))
    with pytest.raises(InputError, match="prefix: a, b"):
        convert(tmp_path)
    assert convert(tmp_path, prefix="b").counts["rows"] == 2
    assert convert(tmp_path / "b").counts["rows"] == 2
    assert detect(tmp_path / "b.0.json") is FORMATS["chakra"]


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ({0: [(ALL_REDUCE, 8)], 1: [(ALL_REDUCE, 16)]}, "8 bytes on rank 0 .*16 bytes on rank 1"),
        ({0: [(ALL_REDUCE, 8)], 1: [(ALL_TO_ALL, 8)]}, "all_reduce of 8 .* but all_to_all"),
        ({0: [(ALL_REDUCE, 8)] * 2, 1: [(ALL_REDUCE, 8)]}, "has no partner"),
        ({0: [(ALL_REDUCE, 8)], 1: []}, "rank 1 is in its process group"),
        ({0: [(42, 8)]}, "comm_type 42"),
        ({0: [(ALL_REDUCE, 8)], 2: [(ALL_REDUCE, 8)]}, "none of rank 1"),
    ],
)
def test_ranks_that_do_not_fit_together(tmp_path: Path, ranks: dict, said: str) -> None:
    made = {
        rank: [make.node(i, COLL, comm_type=t, comm_size=s) for i, (t, s) in enumerate(calls)]
        for rank, calls in ranks.items()
    }
    with pytest.raises(InputError, match=said):
        convert(make.write_et(tmp_path, made))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([make.node(0, COMP, us=1, data=[1]), make.node(1, COMP, us=1, data=[0])], "circle of 2"),
        ([make.node(0, COMP, us=1, data=[5])], "waits for node 5"),
        ([make.node(0, COMP, us=1), make.node(0, COMP, us=1)], "second node with id 0"),
        ([make.node(0, 11)], "node type 11"),
        ([make.node(0, COMP, us=1 << 62)], "duration_micros"),
        ([make.node(0, SEND, comm_size=1, comm_dst=0)], "with itself"),
        ([make.node(0, COLL, comm_type=0, comm_size="many")], "comm_size: found 'many'"),
        ([make.node(0, 1)], "nothing in it"),
    ],
)
def test_bad_graphs_are_told_with_their_node(tmp_path: Path, nodes: list[bytes], said: str) -> None:
    with pytest.raises(InputError, match=said):
        convert(make.write_et(tmp_path, {0: nodes}))


def test_bad_options_are_told(tmp_path: Path) -> None:
    capture = make.write_et(tmp_path, {0: [make.node(0, COMP, us=1)]})
    for options in ({"deps": "none"}, {"world_size": 0}, {"world_size": "x"}, {"groups": {"a": [0, 0]}}):
        with pytest.raises(ConfigError):
            convert(capture, **options)


def test_provenance_has_the_files_read_with_digests_and_no_folder(tmp_path: Path) -> None:
    one = [make.node(0, COLL, comm_type=ALL_REDUCE, comm_size=8)]
    folder = make.write_et(tmp_path, {0: one, 1: one})
    (folder / "notes.txt").write_text("not read")
    for path in (folder, folder / "job"):
        made = convert(path).trace.provenance
        assert [s["file"] for s in made["source"]] == ["job.0.et", "job.1.et"]
        digest = hashlib.sha256((folder / "job.0.et").read_bytes()).hexdigest()
        assert made["source"][0]["sha256"] == digest
        assert str(tmp_path) not in json.dumps(made)
