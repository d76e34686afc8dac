"""Flows: the grammar of connection matrices, triggers, tables of flows, and the registry of importers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fabricsim.convert import FORMATS, ConvertReport, convert, detect
from fabricsim.errors import ConfigError, InputError


def matrix(tmp_path: Path, text: str) -> ConvertReport:
    (tmp_path / "m.cm").write_text(text)
    return FORMATS["htsim"].convert(tmp_path / "m.cm")


def rows(report: ConvertReport) -> list[dict[str, Any]]:
    return report.trace.table.to_pylist()


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as error:
        matrix(tmp_path, text)
    return [str(p).removeprefix(str(tmp_path / "m.cm")) for p in error.value.problems]


def test_a_flow_is_a_send_and_a_recv(tmp_path: Path) -> None:
    report = matrix(
        tmp_path,
        """
        # two flows
        Nodes 8
        Connections 2

        3->1 id 7 start 2500 size 5000000000   # more than 32 bits
        0->1 start 0 size 10
        """,
    )
    first, second = rows(report)[:2]
    assert (first["kind"], first["ranks"], first["peer"]) == ("send", [3], [1])
    assert (second["kind"], second["ranks"], second["peer"]) == ("recv", [1], [3])
    assert first["bytes"] == second["bytes"] == 5_000_000_000
    assert (first["delay_ps"], second["delay_ps"]) == (2500, 0)
    assert first["tag"] == second["tag"] == 7
    assert first["name"] == "flow 7"
    assert [r["tag"] for r in rows(report)[2:]] == [1, 1]
    assert report.counts["nodes"] == 8
    assert report.trace.provenance["nodes"] == 8
    assert report.warnings == []


def test_a_trigger_on_the_same_host_is_a_dependency(tmp_path: Path) -> None:
    report = matrix(
        tmp_path,
        "Nodes 4\nConnections 3\nTriggers 2\n"
        "0->1 id 1 start 0 size 5 send_done_trigger 1 recv_done_trigger 2\n"
        "0->2 id 2 trigger 1 size 6\n"
        "1->3 id 3 trigger 2 size 7\n"
        "trigger id 1 oneshot\ntrigger id 2 oneshot\n",
    )
    assert [r["after"] for r in rows(report)] == [[], [], [0], [], [1], []]
    assert report.warnings == []


def test_a_trigger_on_another_host_travels(tmp_path: Path) -> None:
    report = matrix(
        tmp_path,
        "Nodes 4\nConnections 3\nTriggers 1\n"
        "0->1 id 1 start 0 size 5 send_done_trigger 9\n"
        "2->3 id 2 trigger 9 size 6\n"
        "2->1 id 3 trigger 9 size 6\n"
        "trigger id 9 oneshot\n",
    )
    made = rows(report)
    assert [(r["kind"], r["ranks"], r["bytes"], r["name"]) for r in made[6:]] == [
        ("send", [0], 1, "trigger 9"),
        ("recv", [2], 1, "trigger 9"),
    ]
    assert made[6]["after"] == [0]
    assert made[2]["after"] == made[4]["after"] == [7]
    assert report.counts["trigger_messages"] == 1
    assert "1 1-byte messages" in report.warnings[0]


def test_a_barrier_waits_for_all_and_a_multishot_takes_turns(tmp_path: Path) -> None:
    text = (
        "Nodes 4\nConnections 4\nTriggers 1\n"
        "0->1 id 1 start 0 size 5 send_done_trigger 1\n"
        "2->1 id 2 start 0 size 5 recv_done_trigger 1\n"
        "0->3 id 3 trigger 1 size 6 prio 3\n"
        "0->2 id 4 trigger 1 size 6\n"
    )
    made = rows(matrix(tmp_path, text + "trigger id 1 barrier count 2\n"))
    assert made[4]["after"] == made[6]["after"] == [0, 9]
    assert (made[8]["ranks"], made[8]["after"]) == ([1], [3])
    report = matrix(tmp_path, text + "trigger id 1 multishot\n")
    made = rows(report)
    assert (made[4]["after"], made[6]["after"], made[8]["after"]) == ([0], [9], [3])
    assert any("multishot" in w for w in report.warnings)
    assert [r["priority"] for r in made[4:6]] == [3, 3] and not made[0]["priority"]


HEAD = "Nodes 4\nConnections 1\n"
FLOW = "0->1 id 1 start 0 size 5"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"Nodes 4\nConnections 3\n{FLOW}", "Connections says 3, found 1 flows"),
        (f"Connections 1\n{FLOW}", "found no Nodes"),
        (f"Nodes 4\n{FLOW}", "found no Connections"),
        (f"Nodes 0\nConnections 1\n{FLOW}", ":1: Nodes: found '0'"),
        (f"Nodes 4 5\nConnections 1\n{FLOW}", ":1: found 'Nodes 4 5'"),
        (f"{HEAD}Nodes 4\n{FLOW}", ":3: found Nodes again"),
        (f"{HEAD}0->9 start 0 size 5", ":3: found host 9, allowed: 0 to 3"),
        (f"{HEAD}1->1 start 0 size 5", ":3: found a flow from host 1 to itself"),
        (f"{HEAD}0->1 start 0", ":3: found no size"),
        (f"{HEAD}0->1 start 0 size 0", ":3: size: found '0'"),
        (f"{HEAD}0->1 start -5 size 5", ":3: start: found '-5'"),
        (f"{HEAD}0->1 start 0 size {2**63}", f":3: size: found '{2**63}'"),
        (f"{HEAD}0->1 size 5", ":3: found neither start nor trigger"),
        (f"{HEAD}0->1 start 0 trigger 1 size 5", ":3: found both start and trigger"),
        (f"{HEAD}0->1 start 0 size", ":3: found size without a number"),
        (f"{HEAD}0->1 start 0 start 1 size 5", ":3: found start again"),
        (f"{HEAD}0->1 strat 0 size 5", ":3: unknown key 'strat'; did you mean 'start'?"),
        (f"{HEAD}{FLOW}\nNodse 5", ":4: unknown statement 'Nodse'; did you mean 'Nodes'?"),
        (f"Nodes 4\nConnections 2\n{FLOW}\n{FLOW}", ":4: found id 1 again (first in line 3)"),
        (f"{HEAD}{FLOW} send_done_trigger 3", ":3: send_done_trigger: found 3"),
        (f"{HEAD}0->1 trigger 3 size 5", ":3: trigger: found 3"),
        (f"{HEAD}Triggers 1\n0->1 trigger 3 size 5\ntrigger id 3 oneshot", ":5: trigger 3: found 0 flows"),
        (f"{HEAD}Triggers 2\n{FLOW}\ntrigger id 3 oneshot", "Triggers says 2, found 1 triggers"),
        (f"{HEAD}{FLOW}\ntrigger id 3 oneshot", "found 1 triggers, but no line Triggers"),
        (f"{HEAD}Triggers 1\n{FLOW}\ntrigger id 3 oneshoot", "did you mean 'oneshot'"),
        (f"{HEAD}Triggers 1\n{FLOW}\ntrigger id 3 barrier", ":5: found a barrier without a count"),
        (f"{HEAD}Triggers 1\n{FLOW}\ntrigger 3 oneshot", ":5: found 'trigger 3 oneshot'"),
        (f"{HEAD}{FLOW}\nfailure switch_type TOR switch_id 0 link_id 1", "1 failures, but no line Failures"),
        (f"{HEAD}Failures 2\n{FLOW}", "Failures says 2, found 0 failures"),
        (f"{HEAD}Failures 1\n{FLOW}\nfailure switch_type ToR switch_id 0 link_id 1", "did you mean 'TOR'"),
        (f"{HEAD}Failures 1\n{FLOW}\nfailure switch_id 0 link_id 1", "allowed: failure switch_type"),
    ],
)
def test_bad_lines_are_told_with_their_number(tmp_path: Path, text: str, says: str) -> None:
    found = problems(tmp_path, text)
    assert any(says in line for line in found), found


def test_a_barrier_with_another_count_and_two_shots_at_once(tmp_path: Path) -> None:
    text = (
        "Nodes 4\nConnections 3\nTriggers 1\n"
        "0->1 id 1 start 0 size 5 send_done_trigger 1\n0->1 id 2 start 0 size 5 send_done_trigger 1\n"
        "0->1 id 3 trigger 1 size 5\n"
    )
    assert "count says 3, found 2 flows" in problems(tmp_path, text + "trigger id 1 barrier count 3")[0]
    assert "found 2 flows that fire it, allowed: one" in problems(tmp_path, text + "trigger id 1 oneshot")[0]


def test_flows_that_start_each_other_are_a_cycle(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "Nodes 4\nConnections 2\nTriggers 2\n"
        "0->1 id 5 trigger 1 size 5 send_done_trigger 2\n2->1 id 6 trigger 2 size 5 send_done_trigger 1\n"
        "trigger id 1 oneshot\ntrigger id 2 oneshot",
    )
    assert found == [":4: found a cycle: flow 5 waits for flow 6 waits for flow 5, allowed: none"]


def test_all_problems_of_a_file_come_at_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "Nodes 4\nConnections 3\n0->9 start 0 size 1\n0->1 size 2\nfoo")) == 4


# Tables of flows.


def flows(tmp_path: Path, text: str) -> ConvertReport:
    (tmp_path / "f.csv").write_text(text)
    return FORMATS["flows-csv"].convert(tmp_path / "f.csv")


def test_csv_flows(tmp_path: Path) -> None:
    report = flows(
        tmp_path,
        "# made by hand\nsrc, dst, bytes, start_us, id, name, priority\n0,1,2MB,0.5,4,hello,3\n2,1,10,,9,,\n",
    )
    made = rows(report)
    assert [(r["kind"], r["ranks"], r["bytes"]) for r in made[:2]] == [
        ("send", [0], 2_000_000),
        ("recv", [1], 2_000_000),
    ]
    assert [r["delay_ps"] for r in made] == [500_000, 0, 0, 0]
    assert [r["name"] for r in made] == ["hello", "hello", "flow 9", "flow 9"]
    assert [r["tag"] for r in made] == [4, 4, 9, 9]
    assert [r["priority"] for r in made] == [3, 3, 0, 0]
    assert report.counts == {"flows": 2, "nodes": 3}
    assert detect(tmp_path / "f.csv").name == "flows-csv"


def test_arrow_flows(tmp_path: Path) -> None:
    table = pa.table({"src": [0, 1], "dst": [1, 0], "bytes": [5, 6], "start_ns": [0.25, None], "tag": [3, 3]})
    with pa.OSFile(str(tmp_path / "f.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert detect(tmp_path / "f.arrow").name == "flows-csv"
    made = rows(convert(tmp_path / "f.arrow"))
    assert [r["delay_ps"] for r in made] == [250, 0, 0, 0]
    assert [r["tag"] for r in made] == [3] * 4
    bad = table.set_column(0, "src", pa.array([0.5, None]))
    with pa.OSFile(str(tmp_path / "f.arrow"), "wb") as sink, pa.ipc.new_file(sink, bad.schema) as writer:
        writer.write_table(bad)
    with pytest.raises(InputError, match=r"(?s)row 0: src: found 0\.5.*row 1: src: found None"):
        convert(tmp_path / "f.arrow", from_format="flows-csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("src,dst,bytes\n", "found no flows"),
        ("src,dst\n0,1\n", "header: missing column 'bytes'"),
        ("src,dst,byte\n0,1,2\n", "unknown column 'byte'; did you mean 'bytes'?"),
        ("src,dst,bytes,bytes\n0,1,2,3\n", "column 'bytes' twice"),
        ("src,dst,bytes,start_ps,start_us\n0,1,2,3,4\n", "start_ps and start_us"),
        ("src,dst,bytes\n0,1\n", ":2: found 2 fields, allowed: 3"),
        ("src,dst,bytes\n0,x,5\n", ":2: dst: found 'x'"),
        ("src,dst,bytes\n0,-1,5\n", ":2: dst: found '-1'"),
        ("src,dst,bytes\n0,,5\n", ":2: dst: found None"),
        ("src,dst,bytes\n\n0,1,5 parsecs\n", ":3: bytes: found '5 parsecs'"),
        ("src,dst,bytes\n1,1,5\n", ":2: found a flow from 1 to itself"),
        ("src,dst,bytes,id\n0,1,5,3\n0,1,5,3\n", ":3: id: found 3 again"),
        ("src,dst,bytes,start_ps\n0,1,5,0.5\n", ":2: start_ps: found '0.5ps'"),
        ("src,dst,bytes\n0,1,99999999999999999999\n", ":2: bytes: found"),
        ("src,dst,bytes,priority\n0,1,5,8\n", ":2: priority: found 8, allowed: a whole number from 0 to 7"),
    ],
)
def test_bad_flows_are_told_with_their_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        flows(tmp_path, text)
    assert says in str(error.value)


# The registry.


def test_unknown_formats_and_options_are_answered_with_the_known(tmp_path: Path) -> None:
    (tmp_path / "m.cm").write_text(f"{HEAD}{FLOW}")
    with pytest.raises(ConfigError, match=r"unknown format 'htsin'; did you mean 'htsim'\?"):
        convert(tmp_path / "m.cm", from_format="htsin")
    with pytest.raises(ConfigError, match="htsim: unknown option 'strict'"):
        convert(tmp_path / "m.cm", strict=True)
    with pytest.raises(InputError, match="no such file"):
        detect(tmp_path / "absent")
    (tmp_path / "x").write_bytes(b"\0\xff\0")
    with pytest.raises(InputError, match="no known format; known: htsim"):
        detect(tmp_path / "x")
    assert all(importer.summary for importer in FORMATS.values())


def test_an_import_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    one, two = (matrix(tmp_path, f"{HEAD}{FLOW}").trace.table for _ in range(2))
    assert one.equals(two)
    assert one.schema.metadata == two.schema.metadata
