"""Traces as Chakra execution traces: read by protobuf's own library, and back by our importer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fabricsim
from fabricsim.cli import main
from fabricsim.convert import convert, export
from fabricsim.errors import ConfigError, InputError
from fabricsim.trace import COLLECTIVES, Trace, write_trace
from fabricsim.workload.rows import Rows

US = 1_000_000
FOUR = (0, 1, 2, 3)


def exported(tmp_path: Path, rows: Rows) -> tuple[Any, Any]:
    """The report of the export, and of the import of what was written."""
    out = export(rows.trace(), tmp_path / "job", to_format="chakra")
    return out, convert(tmp_path, from_format="chakra")


def short(trace: Trace) -> list[tuple[Any, ...]]:
    rows = trace.table.to_pylist()
    return sorted(((r["kind"], r["name"], tuple(r["ranks"]), r["bytes"]) for r in rows), key=str)


def test_rows_come_back(tmp_path: Path) -> None:
    rows = Rows(generator="test")
    first = rows.add("compute", FOUR, duration_ps=5 * US, stream=0, name="gemm")
    rows.add("all_reduce", FOUR, bytes=64, stream=0, name="ar")
    rows.add("all_gather", (0, 1), bytes=64, stream=1, after=[first], name="ag")
    rows.add("reduce_scatter", (2, 3), bytes=64, stream=1, after=[first], name="rs")
    rows.add("all_to_all", (3, 1), bytes=32, stream=1, name="a2a")
    rows.add("broadcast", (1, 2), peer=[2], bytes=8, stream=2, name="bc")
    rows.add("reduce", (0, 3), peer=[3], bytes=8, stream=2, name="rd")
    rows.add("barrier", FOUR, stream=0, name="wait")
    rows.add("send", (0, 1), peer=(2, 3), bytes=16, tag=7, stream=3, name="p2p", delay_ps=2 * US)
    rows.add("recv", (2, 3), peer=(0, 1), bytes=16, tag=7, stream=3, name="p2p")
    rows.add("compute", (1,), flops=1e9, mem_bytes=500, stream=0, name="work")
    out, back = exported(tmp_path, rows)
    assert out.warnings == [] and out.counts == {"ranks": 4, "rows": 11, "nodes": 33, "groups": 5}
    assert [f.name for f in out.files] == [*(f"job.{r}.et" for r in FOUR), "job.groups.json"]
    named = json.loads((tmp_path / "job.groups.json").read_text())
    assert named == {"1": [0, 1], "2": [2, 3], "3": [3, 1], "4": [1, 2], "5": [0, 3]}
    assert back.warnings == []
    wanted = [("compute", "delay", (rank,), None) for rank in (0, 1)]
    for kind, name, ranks, size in short(rows.trace()):
        # A collective is of its group, all else of each rank alone.
        groups = [ranks] if kind in COLLECTIVES else [(rank,) for rank in ranks]
        wanted += [(kind, name, group, size) for group in groups]
    assert short(back.trace) == sorted(wanted, key=str)
    table = {(r["name"], r["ranks"][0]): r for r in back.trace.table.to_pylist()}
    assert table["work", 1]["flops"] == 1e9 and table["work", 1]["mem_bytes"] == 500
    assert table["bc", 1]["peer"] == [2] and table["rd", 0]["peer"] == [3]
    assert (table["p2p", 0]["peer"], table["p2p", 0]["tag"], table["p2p", 0]["stream"]) == ([2], 7, 3)
    assert table["p2p", 0]["after"] == [table["delay", 0]["id"]]
    assert table["gemm", 0]["id"] in table["ag", 0]["after"]


def test_groups_and_counts_are_written_out(tmp_path: Path) -> None:
    rows = Rows(generator="test")
    rows.add("all_reduce", FOUR, group_size=2, count=3, bytes=64, stream=0, delay_ps=US)
    rows.add("broadcast", FOUR, group_size=2, peer=(1, 2), bytes=64, stream=0)
    rows.add("compute", FOUR, count=2, duration_ps=3 * US, stream=0)
    out, back = exported(tmp_path, rows)
    # Of each rank: its groups, three times delay and all_reduce, the broadcast, two computations.
    assert out.counts["nodes"] == 4 * (1 + 6 + 1 + 2) and out.counts["groups"] == 2
    made = [(r["kind"], r["ranks"]) for r in back.trace.table.to_pylist() if r["kind"] == "all_reduce"]
    assert sorted(made, key=lambda m: m[1]) == [("all_reduce", [0, 1])] * 3 + [("all_reduce", [2, 3])] * 3
    roots = [(r["ranks"], r["peer"]) for r in back.trace.table.to_pylist() if r["kind"] == "broadcast"]
    assert sorted(roots) == [([0, 1], [1]), ([2, 3], [2])]
    assert back.trace.kinds["compute"] == 4 * (3 + 2)


def test_what_an_execution_trace_cannot_say(tmp_path: Path) -> None:
    rows = Rows(generator="test")
    for n in range(4):
        rows.add("compute", FOUR, duration_ps=US // 2 + n, stream=0, step=n)
    rows.add("all_to_all", (0, 1), splits=[1, 9, 3, 5], stream=0)
    rows.add("all_gather", (0, 1, 2), bytes=10, stream=0)
    rows.add("send", (0,), peer=(1,), bytes=4, tag=5 << 40, priority=3)
    rows.add("recv", (1,), peer=(0,), bytes=4, tag=5 << 40)
    rows.add("all_reduce", FOUR, bytes=4, start_ps=0, end_ps=7 * US + 1)
    out, back = exported(tmp_path, rows)
    assert sorted(out.warnings) == [
        "all_gather whose bytes are no multiple of its ranks, rounded up: 1",
        "all_to_all with unequal parts written with equal ones: 1",
        "measured times rounded to whole microseconds: 1",
        "numbers of training steps left out: 4",
        "tags above 31 bits numbered anew: 1",
        "times of computing rounded to whole microseconds: 16",
    ]
    table = back.trace.table.to_pylist()
    # Two microseconds in all, whatever each is rounded to.
    assert sum(r["duration_ps"] for r in table if r["kind"] == "compute" and r["ranks"] == [0]) == 2 * US
    assert {r["kind"]: r["bytes"] for r in table} | {"compute": None} == {
        **{"compute": None, "all_to_all": 9, "all_gather": 12, "send": 4, "recv": 4, "all_reduce": 4}
    }
    assert [r["end_ps"] - r["start_ps"] for r in table if r["kind"] == "all_reduce"] == [7 * US]
    rows.add("write", (0,), file="/f", bytes=4)
    with pytest.raises(
        InputError, match=r"row 9:kind: found write, which no Chakra ET holds, allowed: compute"
    ):
        export(rows.trace(), tmp_path / "x", to_format="chakra")
    with pytest.raises(ConfigError, match="unknown format 'charka'; did you mean 'chakra'"):
        export(rows.trace(), tmp_path / "x", to_format="charka")


def test_protobuf_reads_the_nodes(tmp_path: Path) -> None:
    """The schema is that of et_def.proto, as far as it is used."""
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory, unknown_fields

    field = descriptor.FieldDescriptorProto
    file = descriptor.FileDescriptorProto(name="et_def.proto", package="ChakraProtoMsg", syntax="proto3")

    def message(name: str, *fields: tuple[Any, ...]) -> None:
        made = file.message_type.add(name=name)
        for number, title, kind, repeated, of in fields:
            entry = made.field.add(name=title, number=number, type=kind)
            entry.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if of:
                entry.type_name = f".ChakraProtoMsg.{of}"

    attribute = ((7, "int32_val", field.TYPE_INT32), (9, "int64_val", field.TYPE_INT64))
    attribute += ((27, "bool_val", field.TYPE_BOOL), (29, "string_val", field.TYPE_STRING))
    one = [(number, name, kind, False, None) for number, name, kind in attribute]
    message("AttributeProto", (1, "name", field.TYPE_STRING, False, None), *one)
    attrs = ("attr", field.TYPE_MESSAGE, True, "AttributeProto")
    message("GlobalMetadata", (1, "version", field.TYPE_STRING, False, None), (2, *attrs))
    message("IOInfo", (1, "values", field.TYPE_STRING, False, None))
    message(
        "Node",
        (1, "id", field.TYPE_UINT64, False, None),
        (2, "name", field.TYPE_STRING, False, None),
        (3, "type", field.TYPE_INT32, False, None),
        (5, "data_deps", field.TYPE_UINT64, True, None),
        (6, "start_time_micros", field.TYPE_UINT64, False, None),
        (7, "duration_micros", field.TYPE_UINT64, False, None),
        (8, "inputs", field.TYPE_MESSAGE, False, "IOInfo"),
        (10, *attrs),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kinds = {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ChakraProtoMsg.{name}"))
        for name in ("GlobalMetadata", "Node")
    }
    rows = Rows(generator="test")
    rows.add("compute", FOUR, duration_ps=300 * US, stream=0, name="gemm")
    rows.add("all_gather", (0, 1), bytes=1 << 20, stream=0, name="gather")
    rows.add("send", (0,), peer=(3,), bytes=16, tag=200, after=[1])
    rows.add("recv", (3,), peer=(0,), bytes=16, tag=200)
    export(rows.trace(), tmp_path / "job", to_format="chakra")
    data, at, found = (tmp_path / "job.0.et").read_bytes(), 0, []
    while at < len(data):
        length = shift = 0
        while True:
            byte, at = data[at], at + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        made = kinds["Node" if found else "GlobalMetadata"]()
        made.ParseFromString(data[at : at + length])
        found.append(made)
        at += length
    assert found[0].version == "0.0.4"
    assert [len(unknown_fields.UnknownFieldSet(made)) for made in found] == [0] * len(found)
    listed = json.loads(found[1].inputs.values[2:-2])  # as ASTRA-sim cuts it
    assert listed == [{"pg_name": "1", "ranks": [0, 1], "group_size": 2}]

    def attributes(node: Any) -> dict[str, Any]:
        out = {}
        for entry in node.attr:
            ((_, value),) = [(f.name, v) for f, v in entry.ListFields() if f.name != "name"] or [("", False)]
            out[entry.name] = value
        return out

    nodes = [(n.id, n.name, n.type, list(n.data_deps), n.duration_micros) for n in found[2:]]
    assert nodes == [(1, "gemm", 4, [], 300), (2, "gather", 7, [1], 0), (3, "send", 5, [2], 0)]
    gather, send = attributes(found[3]), attributes(found[4])
    assert gather == {
        **{"is_cpu_op": False, "stream": 0, "comm_type": 2, "comm_size": 1 << 19, "pg_name": "1"}
    }
    assert send == {"is_cpu_op": False, "comm_size": 16, "comm_tag": 200, "comm_src": 0, "comm_dst": 3}


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table({"id": [0], "kind": ["all_reduce"], "ranks": [[0, 1]], "bytes": [64], "step": [1]})
    write_trace(Trace(table), tmp_path / "t.arrow")
    prefix = str(tmp_path / "et" / "job")
    assert main(["convert", str(tmp_path / "t.arrow"), "-o", prefix, "--to", "chakra"]) == 2
    (tmp_path / "et").mkdir()
    capsys.readouterr()
    assert main(["convert", str(tmp_path / "t.arrow"), "-o", prefix, "--to", "chakra", "--json"]) == 0
    told = capsys.readouterr()
    out = json.loads(told.out)
    assert out["files"] == [f"{prefix}.0.et", f"{prefix}.1.et"] and out["counts"]["nodes"] == 2
    assert "warning: numbers of training steps left out: 1" in told.err
    assert main(["convert", prefix, "-o", str(tmp_path / "back.arrow")]) in (0, 3)
    assert main(["convert", str(tmp_path / "et"), "-o", str(tmp_path / "back.arrow")]) == 0
    # A file of another tool, and a table of flows, are imported first.
    (tmp_path / "m.cm").write_text("Nodes 2\nConnections 1\n0->1 id 1 start 0 size 5\n")
    assert main(["convert", str(tmp_path / "m.cm"), "-o", prefix, "--to", "chakra"]) == 0
    flows = pa.table({"src": [0], "dst": [1], "bytes": [5]})
    with pa.OSFile(str(tmp_path / "f.arrow"), "wb") as sink, pa.ipc.new_file(sink, flows.schema) as writer:
        writer.write_table(flows)
    assert main(["convert", str(tmp_path / "f.arrow"), "-o", prefix, "--to", "chakra"]) == 0
    capsys.readouterr()
    assert main(["convert", str(tmp_path / "m.cm"), "-o", "-", "--to", "chakra"]) == 2
    assert main(["convert", str(tmp_path / "m.cm"), "-o", prefix, "--to", "charka"]) == 2
    assert "did you mean 'chakra'" in capsys.readouterr().err
    assert main(["convert", "--list"]) == 0
    assert "--to chakra: MLCommons Chakra ET" in capsys.readouterr().out


def test_a_training_step_takes_as_long_when_it_comes_back(tmp_path: Path) -> None:
    options = {"ranks": 16, "tp": 2, "pp": 2, "gbs": 8, "seq": 2048}
    trace = fabricsim.workload.llm(model="llama3-8b", **options)
    export(trace, tmp_path / "job", to_format="chakra")
    back = convert(tmp_path, from_format="chakra").trace
    cluster = fabricsim.Cluster.from_toml("leaf-spine-64-400g-roce")
    ends = [fabricsim.replay(t, cluster, fidelity="flow").summary["end_ps"] for t in (trace, back)]
    assert ends[1] == pytest.approx(ends[0], rel=1e-4)
