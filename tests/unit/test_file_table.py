"""The files of a trace: against a plain loop over rows and ranks, and what is refused."""

from __future__ import annotations

import posixpath
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_table import compute, table

from fabricsim.errors import ConfigError, InputError
from fabricsim.trace import LOWERED_SCHEMA, LOWERED_STORAGE, Trace, lower, make_files, storage_usage
from fabricsim.trace.files import FileTable, normal_path
from fabricsim.trace.schema import FLAG_BIT
from fabricsim.workload.rows import Rows


def io(kind: str, *ranks: int, file: str = "/f", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "ranks": list(ranks or (0,)), "file": file, **more}


def files_of(*rows: dict[str, Any], mounts: tuple[str, ...] = ("/",)) -> FileTable:
    found = make_files(Trace(table(*rows)), mounts)
    assert found is not None
    return found


def test_a_trace_without_storage_has_no_files() -> None:
    trace = Trace(table(compute(0, file="not a path of a file system{")))
    assert make_files(trace, ["/"]) is None
    assert lower(trace).column_names == LOWERED_SCHEMA.names


def test_files_are_numbered_by_path_whatever_pattern_names_them() -> None:
    found = files_of(
        io("open", 3, 1, file="/ckpt/{rank:02d}", flags="create,trunc"),
        io("write", 3, 1, file="ckpt//./{rank:02d}", bytes=10, offset=5, stride=7, flags="direct,group"),
        compute(0),
        io("stat", 0, 2, file="/ckpt/03"),
        io("rename", 3, file="/ckpt/03", new_file="/ckpt/x/../done"),
        io("mkdir", file="/ckpt/dir/"),
    )
    assert sorted(found.paths.to_pylist()) == ["/ckpt/01", "/ckpt/03", "/ckpt/dir", "/ckpt/done"]
    columns = found.columns.to_pydict()
    number = {path: i for i, path in enumerate(found.paths.to_pylist())}
    three, one = number["/ckpt/03"], number["/ckpt/01"]
    assert columns["files"] == [[three, one], [three, one], [], [three], [three], [number["/ckpt/dir"]]]
    assert columns["new_files"] == [[], [], [], [], [number["/ckpt/done"]], []]
    assert columns["flags"] == [5, 24, 0, 0, 0, 0]
    assert (columns["offset"][1], columns["stride"][1]) == (5, 7)
    assert found.directories.to_pylist() == ["/ckpt"]
    assert found.is_directory.tolist() == [path == "/ckpt/dir" for path in found.paths.to_pylist()]
    assert found.size_bytes.tolist() == [-1] * 4


def test_what_is_there_before_the_run_has_the_size_of_its_furthest_read() -> None:
    found = files_of(
        io("read", 0, 1, 2, file="/shared", bytes=10, offset=100, stride=1000),
        io("read", 0, 1, file="/own{rank}", bytes=10, offset=100, stride=50),
        io("write", file="/log", bytes=9),
        io("open", file="/made", flags="create"),
        io("read", file="/made", bytes=50),
        io("rename", file="/made", new_file="/other"),
        io("stat", file="/other"),
        io("unlink", file="/gone"),
        io("open", file="/gone", flags="create"),
        io("readdir", file="/dir"),
    )
    sizes = dict(zip(found.paths.to_pylist(), found.size_bytes.tolist(), strict=True))
    assert sizes == {
        "/shared": 2110, "/own0": 110, "/own1": 160, "/log": 0,
        "/made": -1, "/other": -1, "/gone": 0, "/dir": 0,
    }  # fmt: skip


def test_the_longest_mount_holds_a_path() -> None:
    rows = [io("stat", file=path) for path in ("/scratch/a", "/scratchy", "/scratch", "/scratch/fast/b/c")]
    found = files_of(*rows, mounts=("/scratch/", "/", "/scratch/fast"))
    assert found.mount.tolist() == [0, 1, 0, 2]
    folders = found.directories.to_pylist()
    assert [folders[d] for d in found.directory] == ["/scratch", "/", "/scratch", "/scratch/fast/b"]


@pytest.mark.parametrize(
    ("rows", "mounts", "says"),
    [
        ([io("stat", file="/x/{rank}"), io("stat")], ("/y", "/z"), "row 0:file: found '/x/0', allowed: "
         "a path in one of: /y, /z (2 rows: 0, 1)"),
        ([io("stat", file="/yy")], ("/y",), "found '/yy'"),
        ([io("stat", file="relative")], ("/y",), "found '/relative'"),
        ([io("rename", file="/y/a", new_file="/b")], ("/y",), "row 0:new_file: found '/b'"),
        ([compute(0), io("rename", file="/y/a", new_file="/b")], ("/y", "/"),
         "row 1:new_file: found a rename from /y to /, allowed: a path in the file system of file"),
        ([io("stat")], (), "allowed: a cluster with file systems"),
    ],
)  # fmt: skip
def test_rows_without_a_file_system_are_named(rows: Any, mounts: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError) as error:
        files_of(*rows, mounts=mounts)
    assert len(error.value.problems) == 1
    assert says in str(error.value)


def test_mounts_are_different() -> None:
    with pytest.raises(ConfigError, match="one twice in /a, /a/"):
        files_of(io("stat"), mounts=("/a", "/a/"))


def test_lowered_tables_have_the_columns_of_storage() -> None:
    trace = Trace(table(compute(0), io("write", 0, 1, bytes=5, stride=5)))
    lowered = lower(trace, files=make_files(trace, ["/"]))
    assert lowered.column_names == LOWERED_SCHEMA.names + LOWERED_STORAGE.names
    assert all(column.null_count == 0 and column.num_chunks == 1 for column in lowered.columns)
    assert lowered["files"].to_pylist() == [[], [0]]


def test_usage_sums_up_bytes_files_and_sizes() -> None:
    rows = Rows(generator="test")
    rows.open([0, 1, 2], "/own{rank}", create=True)
    rows.write([0, 1, 2], "/own{rank}", 100)
    rows.write([0, 1], "/shared", 1000, stride=1000)
    rows.read([1], "/own1", 100)
    rows.add("mkdir", [0], file="/dir/sub")
    assert storage_usage(Trace(table(compute(0)))) is None
    assert storage_usage(rows.trace(), most=2) == {
        "bytes_read": 100, "reads": 1, "bytes_written": 2300, "writes": 5,
        "other_operations": {"open": 3, "mkdir": 1}, "files": 4, "files_made": 3, "directories": 2,
        "biggest_files": [
            {"path": "/shared", "bytes_read": 0, "bytes_written": 2000},
            {"path": "/own1", "bytes_read": 100, "bytes_written": 100},
        ],
        "transfer_sizes": [{"bytes": 1000, "reads": 0, "writes": 2}, {"bytes": 100, "reads": 1, "writes": 3}],
    }  # fmt: skip
    huge = Trace(table(*[io("read", *range(9), bytes=2**62) for _ in range(3)]))
    assert storage_usage(huge)["bytes_read"] == 27 * 2**62  # type: ignore[index]


def plain(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The same, row by row and rank by rank."""
    sizes: dict[str, int] = {}
    lists: list[list[str]] = []
    for row in rows:
        files = [posixpath.normpath("/" + row["file"].format(rank=r).lstrip("/")) for r in row["ranks"]]
        creates = row["kind"] == "mkdir" or (row["kind"] == "open" and "create" in (row.get("flags") or ""))
        for place, file in enumerate(files):
            sizes.setdefault(file, -1 if creates else 0)
            if row["kind"] == "read" and row["bytes"] and sizes[file] >= 0:
                end = (row.get("offset") or 0) + place * (row.get("stride") or 0) + row["bytes"]
                sizes[file] = max(sizes[file], end)
        if row["kind"] == "rename":
            new = posixpath.normpath("/" + row["new_file"].format(rank=row["ranks"][0]).lstrip("/"))
            sizes.setdefault(new, -1)
        lists.append(files if "{" in row["file"] else files[:1])
    return {"sizes": sizes, "lists": lists}


PATHS = st.sampled_from(["/a", "a", "/a/0", "/{rank}", "/a/{rank}", "/a/{rank:03d}", "/a/./{rank}", "/a/001"])


@st.composite
def storage_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        ranks = draw(st.lists(st.integers(0, 40), min_size=1, max_size=5, unique=True))
        kind = draw(st.sampled_from(["open", "read", "write", "stat", "mkdir", "rename"]))
        row: dict[str, Any] = {"kind": kind, "ranks": ranks, "file": draw(PATHS)}
        if kind in ("read", "write"):
            row |= {"bytes": draw(st.integers(0, 9)), "offset": draw(st.integers(0, 99))}
            row["stride"] = draw(st.one_of(st.none(), st.integers(0, 1000)))
        if kind == "open":
            row["flags"] = draw(st.sampled_from([None, "create", "trunc"]))
        if kind == "rename":
            row["new_file"] = "/new/{rank}" if len(ranks) == 1 else "/new/all"
        rows.append(row)
    return rows


@settings(max_examples=150)
@given(storage_rows())
def test_files_are_those_of_a_plain_loop(rows: list[dict[str, Any]]) -> None:
    found, expected = files_of(*rows), plain(rows)
    paths = found.paths.to_pylist()
    assert len(set(paths)) == len(paths)
    assert dict(zip(paths, found.size_bytes.tolist(), strict=True)) == expected["sizes"]
    assert [[paths[f] for f in files] for files in found.columns["files"].to_pylist()] == expected["lists"]
    folders = found.directories.to_pylist()
    assert [folders[d] for d in found.directory] == [posixpath.dirname(path) for path in paths]


@given(st.text(alphabet="/.a{}", min_size=1))
def test_normal_paths_are_those_of_the_root(path: str) -> None:
    found = normal_path(path)
    assert found == posixpath.normpath("/" + path.lstrip("/"))
    assert normal_path(found) == found


def test_many_ranks_cost_little() -> None:
    rows, everyone = Rows(generator="test"), range(16_384)
    for shard in range(4):
        file = f"/ckpt/step100/{{rank:05d}}_{shard}.pt"
        rows.open(everyone, file, create=True)
        for offset in range(4):
            rows.write(everyone, file, 1 << 20, offset=offset << 20)
    trace = rows.trace()
    begin = time.process_time()
    found = make_files(trace, ["/", "/ckpt"])
    assert time.process_time() - begin < 1
    assert found is not None and len(found) == 4 * 16_384
    assert np.array_equal(found.columns["files"][7].values.to_numpy(), 16_384 + np.arange(16_384))


def test_flags_have_the_bits_of_the_core() -> None:
    assert FLAG_BIT == {"create": 1, "excl": 2, "trunc": 4, "direct": 8, "group": 16}
    assert pa.types.is_int16(LOWERED_STORAGE.field("flags").type)
