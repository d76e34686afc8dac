"""Storage operations in traces: paths, patterns, flags, offsets, and the rows that the helpers make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_table import compute, table

from fabricsim.trace import SCHEMA_VERSION, STORAGE, Trace, read_trace, validate, write_trace
from fabricsim.trace.paths import escape, parse_path
from fabricsim.trace.schema import META_VERSION
from fabricsim.workload import file_io
from fabricsim.workload.rows import Rows


def io(kind: str, *ranks: int, file: str | None = "/f", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "ranks": list(ranks or (0,)), "file": file, **more}


def write(*ranks: int, size: int = 10, **more: Any) -> dict[str, Any]:
    return io("write", *ranks, bytes=size, **more)


def test_every_kind_of_storage_row_is_read_back(tmp_path: Path) -> None:
    rows = [
        io("mkdir", file="/d"),
        io("open", 0, 1, file="/d/{rank:05d}", flags="create,excl"),
        write(0, 1, file="/d/{rank:05d}", offset=4, stride=16, flags="direct, group"),
        io("read", 0, 1, file="/d/{rank:05d}", bytes=3, flags=""),
        io("fsync", 0, 1, file="/d/{rank:05d}"),
        io("close", 0, 1, file="/d/{rank:05d}"),
        io("rename", 0, 1, file="/d/{rank:05d}", new_file="/d/done-{rank}"),
        io("readdir", file="/d"),
        io("stat", file="/d/done-0"),
        io("unlink", 0, 1, file="/d/done-{rank}"),
        io("rmdir", file="/d"),
    ]
    trace = Trace(table(*rows))
    assert set(trace.kinds) == STORAGE
    write_trace(trace, tmp_path / "a.arrow")
    again = read_trace(tmp_path / "a.arrow")
    assert again.table.equals(trace.table)
    assert again.table.schema.metadata[META_VERSION] == SCHEMA_VERSION.encode() == b"1.2"


def test_traces_of_version_1_0_are_read(tmp_path: Path) -> None:
    old = table(compute(0), write()).replace_schema_metadata({META_VERSION: b"1.0"})
    with pa.OSFile(str(tmp_path / "old.arrow"), "wb") as file, pa.ipc.new_file(file, old.schema) as writer:
        writer.write_table(old)
    assert read_trace(tmp_path / "old.arrow").n_rows == 2


CHECKS: list[tuple[dict[str, Any], str, str]] = [
    (write(file=None), "file", "null in a row of kind write"),
    (io("mkdir", file=None), "file", "null in a row of kind mkdir"),
    (write(file=""), "file", "an empty path"),
    (write(file="/a\0b"), "file", "a null character"),
    (write(file="/{rnk}"), "file", "'{rnk}' in '/{rnk}'"),
    (write(file="/a{rank"), "file", "'{rank' in"),
    (write(file="/a}b"), "file", "'}b' in"),
    (write(file="/{rank:5d}"), "file", "'{rank:5d}' in"),
    (write(file="/{rank:010d}"), "file", "'{rank:010d}' in"),
    (write(size=-1), "bytes", "-1"),
    (io("read"), "bytes", "null in a row of kind read"),
    (io("fsync", bytes=5), "bytes", "5 in a row of kind fsync"),
    (write(offset=-1), "offset", "-1"),
    (write(offset=2**63 - 5), "offset", str(2**63 - 5)),
    (write(0, 1, 2, stride=2**62), "offset", "0"),
    (io("stat", offset=7), "offset", "7 in a row of kind stat"),
    (write(stride=-8), "stride", "-8"),
    (io("open", stride=8), "stride", "8 in a row of kind open"),
    (compute(0, stride=8), "stride", "8 in a row of kind compute"),
    (io("open", flags="creat"), "flags", "unknown flag 'creat'; did you mean 'create'?"),
    (io("open", flags="direct"), "flags", "unknown flag 'direct'"),
    (io("open", flags="create,,trunc"), "flags", "unknown flag ''"),
    (write(flags="trunc"), "flags", "unknown flag 'trunc'"),
    (write(flags="direct,direct"), "flags", "a flag twice"),
    (io("open", flags="excl"), "flags", "excl without create"),
    (io("close", flags="direct"), "flags", "'direct' in a row of kind close"),
    (compute(0, flags="create"), "flags", "'create' in a row of kind compute"),
    (io("rename"), "new_file", "null in a row of kind rename"),
    (io("rename", new_file="/f"), "new_file", "'/f', which is file"),
    (io("rename", new_file="/{x}"), "new_file", "'{x}' in '/{x}'"),
    (io("unlink", new_file="/g"), "new_file", "'/g' in a row of kind unlink"),
]


@pytest.mark.parametrize(("row", "column", "says"), CHECKS, ids=[f"{c[1]} {c[2][:24]}" for c in CHECKS])
def test_each_check_names_row_and_column(row: dict[str, Any], column: str, says: str) -> None:
    problems = validate(table(compute(0), row), "f.arrow")
    assert len(problems) == 1, problems
    assert problems[0].where == f"f.arrow:row 1:{column}"
    assert says in problems[0].message and "allowed: " in problems[0].message


def test_all_problems_of_storage_rows_come_at_once() -> None:
    rows = [write(file=None), write(flags="x"), write(flags="x"), io("rename"), io("stat", stride=1)]
    found = validate(table(*rows), "f")
    assert [p.where for p in found] == ["f:row 0:file", "f:row 1:flags", "f:row 3:new_file", "f:row 4:stride"]
    assert "(2 rows: 1, 2)" in found[1].message


@given(ranks=st.lists(st.integers(0, 2**31 - 1), max_size=5), digits=st.integers(0, 9), text=st.text())
def test_patterns_expand_as_format_does(ranks: list[int], digits: int, text: str) -> None:
    text = text.replace("\0", "")
    field = f"{{rank:0{digits}d}}" if digits else "{rank}"
    path = f"/{escape(text)}{field}/{field}{escape(text)}"
    assert parse_path(path).paths(ranks).to_pylist() == [path.format(rank=rank) for rank in ranks]
    assert parse_path("/" + escape(text)).paths(ranks).to_pylist() == ["/" + text] * len(ranks)


def test_a_pattern_names_the_file_of_a_rank_further_on() -> None:
    made = parse_path("/tree.{rank+2%4}/{rank+1%4:03d}")
    assert made.paths([0, 1, 3]).to_pylist() == ["/tree.2/001", "/tree.3/002", "/tree.1/000"]


@given(st.text(alphabet="{}rank:0125d/"))
def test_any_path_is_understood_or_refused(path: str) -> None:
    try:
        made = parse_path(path)
    except ValueError as error:
        assert str(error)
    else:
        assert made.paths(np.array([3], np.int32)).to_pylist() == [path.format(rank=3)]


def test_file_io_writes_and_reads_whole_files() -> None:
    trace = file_io("write", n_ranks=4, size_bytes=1000, transfer_bytes=400, file="/shared")
    rows = trace.table.to_pylist()
    assert [row["kind"] for row in rows] == ["open", "write", "write", "write", "fsync", "close"]
    assert rows[0]["flags"] == "create"
    parts = [(row["offset"], row["bytes"], row["stride"]) for row in rows[1:4]]
    assert parts == [(0, 400, 1000), (400, 400, 1000), (800, 200, 1000)]
    own = file_io("read", n_ranks=4, size_bytes=1000, transfer_bytes=1000, direct=True).table.to_pylist()
    assert [(row["kind"], row["stride"], row["flags"]) for row in own] == [
        ("open", None, None), ("read", 0, "direct"), ("close", None, None)
    ]  # fmt: skip


def test_rows_make_flags_of_words() -> None:
    rows = Rows(generator="test")
    rows.open([0], "/f", create=True, excl=True)
    rows.write([0], "/f", 5, direct=True, group=True, name="x")
    assert [row["flags"] for row in rows.trace().table.to_pylist()] == ["create,excl", "direct,group"]
