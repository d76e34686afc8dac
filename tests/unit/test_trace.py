"""Traces: round trips, canonical form, other libraries, and every check."""

from __future__ import annotations

import io
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_table import all_reduce, compute, recv, send, table

from fabricsim.errors import InputError
from fabricsim.trace import (
    KINDS,
    LOWERED_SCHEMA,
    TRACE_SCHEMA,
    Trace,
    TraceWarning,
    lower,
    make_provenance,
    read_trace,
    validate,
    write_trace,
)
from fabricsim.trace.schema import META_SCHEMA, META_VERSION

ROOT = Path(__file__).resolve().parents[2]


def small() -> pa.Table:
    return table(
        compute(0, 1, 2, stream=0),
        all_reduce(0, 1, 2, stream=0, name="grad"),
        send(0, 1, 4096, stream=1, after=[0], tag=7),
        recv(1, 0, 4096, after=[0], tag=7),
        {"kind": "barrier", "ranks": [2, 0, 1], "after": [1]},
        {"kind": "broadcast", "ranks": [0, 2], "peer": [2], "bytes": 10},
        {"kind": "all_to_all", "ranks": [0, 1], "splits": [0, 5, 6, 1]},
        {"kind": "all_to_all", "ranks": [0, 1], "splits": [2, 3], "bytes": 5},
    )


def only(problems: list[Any]) -> str:
    assert len(problems) == 1, problems
    return str(problems[0])


def test_round_trip_keeps_every_value_and_is_the_same_bytes(tmp_path: Path) -> None:
    trace = Trace(small())
    origin = make_provenance("test", seed=3)
    for name in ("a.arrow", "b.arrow"):
        write_trace(trace, tmp_path / name, provenance=origin)
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()
    again = read_trace(tmp_path / "a.arrow")
    assert again.table.equals(trace.table)
    assert again.provenance == origin
    assert again.n_rows == len(again) == 8
    assert again.n_ranks == 3
    assert not again.table.schema.field("ranks").nullable
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.arrow", "b.arrow"]


def test_provenance_names_the_source_and_its_digest(tmp_path: Path) -> None:
    source = tmp_path / "x.cm"
    source.write_bytes(b"abc")
    made = make_provenance("convert htsim", source=source, nodes=4)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert made["source"] == [{"file": "x.cm", "sha256": digest}]
    assert made["nodes"] == 4
    assert set(made) == {"fabricsim", "generator", "pyarrow", "source", "nodes"}


def test_lowered_columns_have_no_nulls() -> None:
    lowered = lower(Trace(small()))
    assert lowered.schema.equals(LOWERED_SCHEMA)
    assert all(column.null_count == 0 and column.num_chunks == 1 for column in lowered.columns)
    rows = lowered.to_pylist()
    assert rows[0] == {
        "id": 0, "kind": 0, "ranks": [0, 1, 2], "peer": [], "bytes": 0, "splits": [], "duration_ps": 1000,
        "delay_ps": 0, "stream": 0, "after": [], "tag": 0, "priority": 0, "variant": -1,
    }  # fmt: skip
    assert rows[2]["kind"] == KINDS.index("send")
    assert (rows[2]["peer"], rows[2]["after"], rows[2]["tag"], rows[2]["stream"]) == ([1], [0], 7, 1)
    assert rows[3]["stream"] == -1
    # Sender 0 sends 5 in all, sender 1 sends 7.
    assert (rows[6]["bytes"], rows[7]["bytes"]) == (7, 5)


def test_work_becomes_time_by_the_accelerator() -> None:
    rows = [
        {"kind": "compute", "ranks": [0], "flops": 3e12},
        {"kind": "compute", "ranks": [0], "flops": 1e12, "mem_bytes": 10**12},
        compute(0, duration_ps=2**62 + 1),
        {"kind": "compute", "ranks": [0], "flops": 1.0},
    ]
    trace = Trace(table(*rows))
    with pytest.raises(InputError, match=r"row 0:flops.*accelerator.*3 rows: 0, 1, 3"):
        lower(trace)
    chip = types.SimpleNamespace(flops_per_s=1e12, mem_bytes_per_s=0.5e12)
    durations = lower(trace, chip)["duration_ps"].to_pylist()
    assert durations == [3 * 10**12, 2 * 10**12, 2**62 + 1, 1]
    with pytest.raises(InputError, match="mem_bytes rate"):
        lower(trace, types.SimpleNamespace(flops_per_s=1e12, mem_bytes_per_s=0))


def test_storage_needs_a_file_system() -> None:
    trace = Trace(table(compute(0), {"kind": "write", "ranks": [0], "bytes": 5, "file": "f", "offset": 0}))
    with pytest.raises(InputError, match=r"row 1:kind: found write, but the cluster has no \[storage\]"):
        lower(trace)


def test_a_slice_of_a_table_is_a_trace() -> None:
    whole = pa.concat_tables([table(compute(0), compute(1)), table(compute(2, id=2), compute(3, id=3))])
    trace = Trace(whole.slice(1, 2))
    assert trace.table["ranks"].to_pylist() == [[1], [2]]
    assert lower(trace)["ranks"].to_pylist() == [[1], [2]]


def test_repr_is_a_line_and_html_escapes() -> None:
    trace = Trace(small())
    assert repr(trace).startswith("<Trace: 8 operations of 3 ranks (2 all_to_all, 1 compute")
    assert "\n" not in repr(trace)
    named = trace.table.replace_schema_metadata({b"fabricsim.provenance": b'{"generator":"<b>"}'})
    assert "&lt;b&gt;" in Trace(named)._repr_html_()


# Other libraries.


def test_pandas_reads_and_writes_traces(tmp_path: Path) -> None:
    write_trace(Trace(small()), tmp_path / "t.arrow")
    frame = pandas.read_feather(tmp_path / "t.arrow")
    assert frame["kind"].tolist()[:2] == ["compute", "all_reduce"]
    assert list(frame["ranks"][1]) == [0, 1, 2]
    frame = pandas.DataFrame(
        {"id": [0, 1], "kind": ["send", "recv"], "ranks": [[0], [1]], "peer": [[1], [0]]}
    )
    frame["bytes"] = 5
    assert Trace(pa.Table.from_pandas(frame)).kinds == {"send": 1, "recv": 1}


def test_polars_reads_and_writes_traces(tmp_path: Path) -> None:
    write_trace(Trace(small()), tmp_path / "t.arrow")
    frame = polars.read_ipc(tmp_path / "t.arrow")
    assert frame["kind"].cast(polars.String).to_list()[:2] == ["compute", "all_reduce"]
    assert frame["ranks"].to_list()[1] == [0, 1, 2]
    frame.write_ipc(tmp_path / "p.arrow")
    again = read_trace(tmp_path / "p.arrow")
    assert lower(again).equals(lower(Trace(small())))
    text = frame.with_columns(polars.col("kind").cast(polars.String))
    text.write_ipc_stream(tmp_path / "s.arrows")
    assert lower(read_trace(tmp_path / "s.arrows")).equals(lower(Trace(small())))


def test_traces_pass_through_pipes() -> None:
    code = (
        "import sys; from fabricsim.trace import read_trace, write_trace; write_trace(read_trace('-'), '-')"
    )
    data = io.BytesIO()
    with pa.ipc.new_stream(data, small().schema) as writer:
        writer.write_table(small())
    done = subprocess.run(
        [sys.executable, "-c", code], input=data.getvalue(), capture_output=True, check=True, cwd=ROOT
    )
    assert Trace(pa.ipc.open_stream(done.stdout).read_all()).table.equals(Trace(small()).table)


def test_unknown_columns_are_kept_with_a_warning(tmp_path: Path) -> None:
    extra = table(compute(0)).append_column("strem", pa.array([3]))
    write_trace(extra, tmp_path / "t.arrow")
    with pytest.warns(TraceWarning, match="'strem' is unknown and ignored; did you mean 'stream'"):
        trace = read_trace(tmp_path / "t.arrow")
    assert trace.table["strem"].to_pylist() == [3]


# Schema and version.


def test_another_major_version_is_refused_by_name() -> None:
    newer = table(compute(0)).replace_schema_metadata({META_VERSION: b"2.0"})
    assert "version 2.0, allowed: 1.x" in only(validate(newer))
    assert validate(table(compute(0)).replace_schema_metadata({META_VERSION: b"1.7"})) == []
    assert "'abc'" in only(validate(table(compute(0)).replace_schema_metadata({META_VERSION: b"abc"})))
    ops = table(compute(0)).replace_schema_metadata({META_SCHEMA: b"ops"})
    assert "'ops' file, allowed: 'trace'" in only(validate(ops))


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_bad_provenance_is_told(text: bytes) -> None:
    assert "provenance" in only(
        validate(table(compute(0)).replace_schema_metadata({b"fabricsim.provenance": text}))
    )


def test_missing_and_wrong_columns_are_told_together() -> None:
    bad = pa.table({"id": [1.5], "ranks": ["0"], "bytes": ["x"]})
    assert only(validate(bad, "f")).startswith("f:kind: missing column")
    found = [str(p) for p in validate(bad.append_column("kind", pa.array([3])), "f")]
    assert [line.split(":")[1] for line in found] == ["id", "kind", "ranks", "bytes"]
    assert "found type double, allowed: int64" in found[0]
    twice = pa.table([[1], [1]], names=["id", "id"])
    assert "2 columns of that name" in str(validate(twice)[0])


def test_values_that_do_not_fit_are_told() -> None:
    wide = pa.table({"id": [0], "kind": ["compute"], "ranks": pa.array([[2**40]]), "duration_ps": [1]})
    assert "ranks: does not fit" in only(validate(wide))


# Values, one check each: what is changed, the column named, what the message says.

CHECKS: list[tuple[list[dict[str, Any]], str, str]] = [
    ([compute(0, priority=8)], "row 0:priority", "found 8, allowed: 0 to 7"),
    ([compute(0, kind="computer")], "row 0:kind", "did you mean 'compute'"),
    ([compute(0), compute(1, id=0), compute(2, id=0)], "row 1:id", "0 again (first in row 0)"),
    ([compute(0, id=-4)], "row 0:id", "-4"),
    ([compute(0, id=None)], "row 0:id", "null"),
    ([compute(0, ranks=None)], "row 0:ranks", "null"),
    ([compute(0), compute()], "row 1:ranks", "no ranks"),
    ([compute(0, -1)], "row 0:ranks", "[0, -1]"),
    ([compute(3, 1, 3)], "row 0:ranks", "a rank twice"),
    ([compute(0, ranks=[0, None])], "row 0:ranks", "a null in the list"),
    ([all_reduce(0, 1, bytes=None)], "row 0:bytes", "null in a row of kind all_reduce"),
    ([all_reduce(0, 1, bytes=-1)], "row 0:bytes", "-1"),
    ([compute(0, bytes=5)], "row 0:bytes", "5 in a row of kind compute"),
    ([compute(0, duration_ps=None)], "row 0:duration_ps", "null"),
    ([compute(0, duration_ps=-5)], "row 0:duration_ps", "-5"),
    ([compute(0, duration_ps=None, flops=float("nan"))], "row 0:flops", "nan"),
    ([compute(0, duration_ps=None, flops=-1.0)], "row 0:flops", "-1.0"),
    ([all_reduce(0, 1, duration_ps=5)], "row 0:duration_ps", "5 in a row of kind all_reduce"),
    ([compute(0, stream=-1)], "row 0:stream", "-1"),
    ([compute(0, delay_ps=-1)], "row 0:delay_ps", "-1"),
    ([compute(0, start_ps=5, end_ps=4)], "row 0:end_ps", "before start_ps 5"),
    ([send(0, 1), recv(1, 0, peer=[-1])], "row 1:peer", "ambiguous receive"),
    ([send(0, 1, peer=[-1])], "row 0:peer", "[-1]"),
    ([send(0, 1, peer=[1, 2])], "row 0:peer", "2 peers for 1 ranks"),
    ([send(0, 0)], "row 0:peer", "rank 0 to itself"),
    ([send(0, 1, tag=3), send(0, 1, tag=4), recv(1, 0, tag=4)], "row 0:peer", "tag 3, without a recv"),
    ([recv(1, 0)], "row 0:peer", "a recv from rank 0 to rank 1, tag 0, without a send"),
    ([send(0, 1), send(0, 1), recv(1, 0)], "row 1:peer", "without a recv"),
    ([send(0, 1, 10), recv(1, 0, 20)], "row 1:bytes", "20 in a recv, but the send in row 0 has 10"),
    ([all_reduce(0, 1, peer=[0])], "row 0:peer", "[0] in a row of kind all_reduce"),
    ([{"kind": "broadcast", "ranks": [0, 1], "peer": [5], "bytes": 1}], "row 0:peer", "root 5, not in"),
    ([{"kind": "reduce", "ranks": [0, 1], "bytes": 1}], "row 0:peer", "0 entries"),
    ([{"kind": "all_to_all", "ranks": [0, 1], "splits": [1, 2, 3]}], "row 0:splits", "3 entries for 2 ranks"),
    ([{"kind": "all_to_all", "ranks": [0, 1], "splits": [1, -2]}], "row 0:splits", "[1, -2]"),
    ([{"kind": "all_to_all", "ranks": [0, 1], "splits": [1, 2], "bytes": 4}], "row 0:bytes", "add up to 3"),
    ([{"kind": "all_to_all", "ranks": [0, 1], "splits": [2**62, 2**62]}], "row 0:splits", "more than 2^63-1"),
    ([{"kind": "all_to_all", "ranks": [0, 1]}], "row 0:bytes", "null in a row of kind all_to_all"),
    ([all_reduce(0, 1, splits=[1, 2])], "row 0:splits", "splits in a row of kind all_reduce"),
    ([{"kind": "read", "ranks": [0], "bytes": 1}], "row 0:file", "null in a row of kind read"),
    ([compute(0), compute(0, after=[9])], "row 1:after", "9, which is no id"),
    ([compute(0, after=[0])], "row 0:after", "the row itself"),
    ([compute(0), compute(1, after=[0])], "row 1:after", "shares no rank"),
    ([compute(0, 2, 4), compute(1, 3, 5, after=[0])], "row 1:after", "shares no rank"),
    ([compute(0, after=[1]), compute(0, after=[0])], "row 0:after", "a cycle: row 0 (id 0) waits for row 1"),
    ([compute(0, stream=1, after=[1]), compute(0, stream=1)], "row 0:after", "by stream 1 of rank 0"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "place", "says"), CHECKS, ids=[f"{c[1]} {c[2][:24]}" for c in CHECKS])
def test_each_check_names_row_column_and_what_is_allowed(rows: Any, place: str, says: str) -> None:
    problem = only(validate(table(*rows), "f.arrow"))
    assert problem.startswith(f"f.arrow:{place}: found ") or says.startswith("did you mean")
    assert says in problem
    assert "allowed: " in problem


def test_all_problems_come_at_once_with_counts() -> None:
    rows = [all_reduce(0, 1, size=-1) for _ in range(9)] + [compute(0, stream=-2), send(4, 5)]
    found = [str(p) for p in validate(table(*rows), "f")]
    assert found[0] == "f:row 0:bytes: found -1, allowed: at least 0 (9 rows: 0, 1, 2, 3, 4, …)"
    assert [line.split(":")[1:3] for line in found[1:]] == [["row 9", "stream"], ["row 10", "peer"]]
    with pytest.raises(InputError) as error:
        Trace(table(*rows), "f")
    assert [str(p) for p in error.value.problems] == found


def test_ranks_out_of_a_given_range() -> None:
    assert "rank 7, allowed: ranks 0 to 3" in only(validate(table(compute(0, 7)), n_ranks=4))
    assert "no rows" in only(validate(table(compute(0)).slice(1)))


def test_multi_rank_sends_match_element_by_element() -> None:
    ring = {"kind": "send", "ranks": [0, 1, 2], "peer": [1, 2, 0], "bytes": 8}
    back = {"kind": "recv", "ranks": [2, 0, 1], "peer": [1, 2, 0], "bytes": 8}
    assert validate(table(ring, back)) == []
    assert "from rank 2 to rank 0, tag 0, without a recv" in only(
        validate(table(ring, {**back, "ranks": [2, 1], "peer": [1, 0]}))
    )


def test_messages_match_in_order_within_a_pair() -> None:
    assert (
        validate(
            table(recv(1, 0, 5), recv(1, 0, 6), send(0, 1, 5), send(2, 1, 9), recv(1, 2, 9), send(0, 1, 6))
        )
        == []
    )
    assert "6 in a recv, but the send in row 2 has 5" in only(
        validate(table(recv(1, 0, 6), recv(1, 0, 5), send(0, 1, 5), send(0, 1, 6)))[:1]
    )


def test_after_may_name_later_rows_without_a_cycle() -> None:
    assert validate(table(compute(0, after=[2]), compute(0), compute(0, after=[1]))) == []
    # By rows this is a ring, on no rank is it one: the edges are on ranks 0, 2 and 1.
    rows = [compute(0, 1, after=[1]), compute(0, 2, after=[2]), compute(1, 2, after=[])]
    assert validate(table(*rows)) == []
    assert validate(table(*rows[:2], compute(1, 2, after=[0]))) == []
    joined = [all_reduce(0, 1, after=[1]), all_reduce(0, 2, after=[2]), all_reduce(1, 2, after=[0])]
    assert "a cycle: row 0 (id 0) waits for row 1 (id 1) by after; row 1" in only(validate(table(*joined)))


def test_long_chains_backwards_are_no_cycle() -> None:
    n = 20_000
    chain = pa.table(
        {
            "id": np.arange(n),
            "kind": ["compute"] * n,
            "ranks": [[0]] * n,
            "duration_ps": [1] * n,
            "after": [[i + 1] for i in range(n - 1)] + [[]],
        }
    )
    assert validate(chain) == []
    ring = chain.set_column(4, "after", pa.array([[i + 1] for i in range(n - 1)] + [[0]]))
    assert f"{n} in all" in only(validate(ring))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_cycles_agree_with_a_plain_search(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 7))
    rows = []
    for _ in range(n):
        ranks = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
        stream = data.draw(st.sampled_from([None, 0, 1]))
        after = data.draw(st.lists(st.integers(0, n - 1), max_size=2))
        make = data.draw(st.sampled_from([compute, all_reduce]))
        rows.append(make(*ranks, stream=stream, after=after))
    for i, row in enumerate(rows):
        row["after"] = [a for a in row["after"] if a != i and set(row["ranks"]) & set(rows[a]["ranks"])]
    found = validate(table(*rows))
    assert bool(found) == _has_cycle(rows)
    assert all("a cycle" in str(p) for p in found)


def _has_cycle(rows: list[dict[str, Any]]) -> bool:
    """Run the operations: whatever never runs waits in a cycle (or behind one)."""
    ended: set[tuple[int, int]] = set()
    moved = True
    while moved:
        moved = False
        for i, row in enumerate(rows):
            ready = []
            for rank in row["ranks"]:
                needs = [a for a in row["after"] if rank in rows[a]["ranks"]]
                if row["stream"] is not None:
                    needs += [
                        j for j in range(i) if rows[j]["stream"] == row["stream"] and rank in rows[j]["ranks"]
                    ]
                if all((j, rank) in ended for j in needs):
                    ready.append(rank)
            if row["kind"] == "all_reduce" and len(ready) < len(row["ranks"]):
                continue
            for rank in ready:
                if (i, rank) not in ended:
                    ended.add((i, rank))
                    moved = True
    return len(ended) < sum(len(row["ranks"]) for row in rows)


def test_equal_rank_lists_are_told_from_equal_hashes() -> None:
    view = Trace(table(*(compute(*r) for r in ([0, 1], [1, 0], [0, 1], [2], [0, 1, 2])))).view
    number, sample = view.rank_sets(np.arange(5))
    assert number[0] == number[2]
    assert len(set(number.tolist())) == 4
    assert [view.ranks.at(int(sample[k])) for k in number] == [[0, 1], [1, 0], [0, 1], [2], [0, 1, 2]]


def test_schema_is_documented() -> None:
    assert TRACE_SCHEMA.field("bytes").metadata == {b"unit": b"bytes"}
    assert TRACE_SCHEMA.field("duration_ps").metadata == {b"unit": b"ps"}
