"""Groups and repetitions of a row: the same as rows written out, and told as one operation."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

import fabricsim
from fabricsim.errors import InputError
from fabricsim.trace import Trace, lower
from fabricsim.workload.rows import Rows
from tests.trace_table import table

STAR = {"kind": "star", "hosts": 16, "rate": "100Gbps", "latency": "1us"}


def cluster(**more: Any) -> fabricsim.Cluster:
    return fabricsim.Cluster.from_dict({"name": "groups", "topology": STAR} | more)


def times(result: fabricsim.Result) -> list[tuple[str, int, int, int]]:
    """Return (name, rank, start, end) of every operation of a rank."""
    ops = result.ops.select(["name", "rank", "start_ps", "end_ps"]).to_pylist()
    return sorted((op["name"], op["rank"], op["start_ps"], op["end_ps"]) for op in ops)


def mixed(grouped: bool) -> Trace:
    """Every collective over groups of 4 of 12 ranks, in a stream, between computes of unequal lengths."""
    rows = Rows()
    everyone = list(range(12))
    for rank in everyone:
        rows.add("compute", [rank], duration_ps=1_000_000 * (rank + 1), stream=0, name="compute")
    kinds = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "reduce", "barrier")
    for kind in kinds:
        columns: dict[str, Any] = {"stream": 0, "name": kind, "delay_ps": 5}
        if kind != "barrier":
            columns["bytes"] = 100_000
        roots = [2, 4, 11] if kind in ("broadcast", "reduce") else []
        if grouped:
            rows.add(kind, everyone, group_size=4, peer=roots or None, **columns)
            continue
        for group in range(3):
            peer = roots[group : group + 1] or None
            rows.add(kind, everyone[4 * group : 4 * group + 4], peer=peer, **columns)
    return rows.trace()


def test_groups_are_rows_of_their_own() -> None:
    whole, parts = (fabricsim.replay(mixed(grouped), cluster()) for grouped in (True, False))
    assert times(whole) == times(parts)
    assert mixed(True).total_bytes == mixed(False).total_bytes
    assert whole.summary["packets"] == parts.summary["packets"]
    told = {(c["kind"], c["ranks"], c["count"], c["time_ps"]) for c in whole.summary["collectives"]}
    assert told == {(c["kind"], c["ranks"], c["count"], c["time_ps"]) for c in parts.summary["collectives"]}
    assert whole.summary["critical_path"]["by_kind"] == parts.summary["critical_path"]["by_kind"]
    groups = whole.ops.filter(pa.compute.equal(whole.ops["name"], "barrier"))["group"].to_pylist()
    assert groups == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("preset", ["dgx-h100", "dgx-superpod-a100-hdr", "tpu-v4-pod"])
def test_groups_run_what_a_library_chooses(preset: str) -> None:
    """In-network reducers, NCCL's variants and tori see the group, not the row."""
    found = []
    for grouped in (True, False):
        rows = Rows()
        for size in (1 << 10, 1 << 22):
            if grouped:
                rows.add("all_reduce", range(8), bytes=size, group_size=4, stream=0, name=f"{size}")
            else:
                rows.add("all_reduce", range(4), bytes=size, stream=0, name=f"{size}")
                rows.add("all_reduce", range(4, 8), bytes=size, stream=0, name=f"{size}")
        found.append(times(fabricsim.replay(rows.trace(), preset)))
    assert found[0] == found[1]


@pytest.mark.parametrize("stream", [0, None])
def test_repetitions_are_rows_one_after_another(stream: int | None) -> None:
    once, again = Rows(), Rows()
    columns: dict[str, Any] = {"bytes": 50_000, "delay_ps": 700_000, "stream": stream, "name": "gather"}
    first = once.add("compute", range(8), duration_ps=10_000, stream=stream, name="before")
    last = once.add("all_gather", range(8), group_size=4, count=3, after=[first], **columns)
    once.add("compute", range(8), duration_ps=10_000, count=4, delay_ps=100, after=[last], name="after")
    last = again.add("compute", range(8), duration_ps=10_000, stream=stream, name="before")
    for _ in range(3):
        last = again.add("all_gather", range(8), group_size=4, after=[last], **columns)
    for _ in range(4):
        last = again.add("compute", range(8), duration_ps=10_000, delay_ps=100, after=[last], name="after")
    one, many = fabricsim.replay(once.trace(), cluster()), fabricsim.replay(again.trace(), cluster())
    assert one.summary["end_ps"] == many.summary["end_ps"]
    for name in ("gather", "after"):
        for rank in range(8):
            spans = [(start, end) for n, r, start, end in times(many) if (n, r) == (name, rank)]
            (told,) = [(start, end) for n, r, start, end in times(one) if (n, r) == (name, rank)]
            assert told == (min(spans)[0], max(spans)[1])
    gathers = [c for c in one.summary["collectives"] if c["kind"] == "all_gather"]
    assert [(c["ranks"], c["count"]) for c in gathers] == [(4, 6)]


def test_lowered_columns_are_there_only_where_needed() -> None:
    plain = mixed(False)
    assert "group_size" not in lower(plain).column_names
    assert lower(mixed(True)).column_names[-2:] == ["group_size", "count"]


WRONG = [
    ({"kind": "compute", "duration_ps": 1, "group_size": 2}, "group_size", "in a row of kind compute"),
    ({"kind": "barrier", "group_size": 3}, "group_size", "3 for 4 ranks"),
    ({"kind": "barrier", "group_size": -1}, "group_size", "-1"),
    ({"kind": "barrier", "count": 0}, "count", "0"),
    ({"kind": "send", "peer": [4, 5, 6, 7], "bytes": 1, "count": 2}, "count", "in a row of kind send"),
    ({"kind": "broadcast", "bytes": 1, "peer": [0], "group_size": 2}, "peer", "1 entries for 2 groups"),
    ({"kind": "broadcast", "bytes": 1, "peer": [0, 1], "group_size": 2}, "peer", r"root 0, 1"),
    ({"kind": "all_to_all", "splits": [1, 1, 1, 1], "group_size": 2}, "splits", "with group_size"),
]


@pytest.mark.parametrize(("row", "column", "text"), WRONG)
def test_what_groups_cannot_be_is_named(row: dict[str, Any], column: str, text: str) -> None:
    with pytest.raises(InputError, match=rf"row 0:{column}: .*{text}"):
        Trace(table({"ranks": [0, 1, 2, 3]} | row))


def test_groups_do_not_wait_for_each_other() -> None:
    """Two groups of one row in turn: no cycle, though the rows seem to wait for each other."""
    rows = [
        {"id": 0, "kind": "barrier", "ranks": [0, 1, 2, 3], "group_size": 2, "after": [1]},
        {"id": 1, "kind": "compute", "ranks": [0], "duration_ps": 1},
        {"id": 2, "kind": "compute", "ranks": [2], "duration_ps": 1, "after": [0]},
    ]
    assert fabricsim.replay(Trace(table(*rows)), cluster()).summary["operations_done"] == 6
