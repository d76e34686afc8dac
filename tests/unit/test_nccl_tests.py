"""nccl-tests' JSON: as a trace, and measured beside what fabricsim bench wrote."""

from __future__ import annotations

import copy
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

import fabricsim
from fabricsim.analysis import NcclTests, compare, read_nccl_tests
from fabricsim.cli import main
from fabricsim.convert import convert, detect
from fabricsim.errors import ConfigError, InputError

US = 1_000_000


def document(
    program: str = "./build/all_reduce_perf", ranks: int = 4, sizes: Any = (8, 1 << 20)
) -> dict[str, Any]:
    """A document as version 2 of nccl-tests writes it."""
    results = []
    for size in sizes:
        half = {"time": size / 8 + 10, "alg_bw": 1.5, "bus_bw": 2.25, "nwrong": 0.0}
        entry = {"size": size, "count": size // 4, "type": "float", "redop": "sum", "root": "    -1"}
        results.append(
            entry | {"out_of_place": half, "in_place": half | {"time": 1.0}, "actual_iterations": 20}
        )
    return {
        "version": 2,
        "start_time": "2026-01-01 00:00:00",
        "args": [program, "-b", "8"],
        "env": [],
        "config": {"devices": [{"rank": rank, "hostname": "a"} for rank in range(ranks)]},
        "results": results,
        "out_of_bounds": {"count": 0, "okay": "true"},
    }


def written(tmp_path: Path, data: Any, name: str = "m.json") -> Path:
    (tmp_path / name).write_text(json.dumps(data))
    return tmp_path / name


def test_results_become_collectives_with_measured_times(tmp_path: Path) -> None:
    path = written(tmp_path, document(sizes=(0, 8, 1 << 20)))
    assert detect(path).name == "nccl-tests"
    report = convert(path)
    made = [
        (r["kind"], r["bytes"], r["ranks"], r["start_ps"], r["end_ps"])
        for r in report.trace.table.to_pylist()
    ]
    took = ((1 << 20) // 8 + 10) * US
    assert made == [
        ("all_reduce", 8, [0, 1, 2, 3], 0, 11 * US),
        ("all_reduce", 1 << 20, [0, 1, 2, 3], 11 * US, 11 * US + took),
    ]
    assert report.warnings == ["results of 0 bytes left out: 1"]
    (tmp_path / "m.json.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert convert(tmp_path / "m.json.gz").trace.table.equals(report.trace.table)
    rooted = document("/opt/broadcast_perf")
    rooted["results"][1]["root"] = "     2"
    rooted["results"][1]["out_of_place"]["nwrong"] = 3.0
    report = convert(written(tmp_path, rooted))
    assert [r["peer"] for r in report.trace.table.to_pylist()] == [[0], [2]]
    assert report.warnings == ["results that nccl-tests found wrong: 1"]


def test_sendrecv_goes_round_and_round(tmp_path: Path) -> None:
    report = convert(written(tmp_path, document("sendrecv_perf", sizes=(8, 16))))
    rows = report.trace.table.to_pylist()
    assert [(r["kind"], r["peer"], r["after"]) for r in rows] == [
        ("recv", [3, 0, 1, 2], None),
        ("send", [1, 2, 3, 0], None),
        ("recv", [3, 0, 1, 2], [1]),
        ("send", [1, 2, 3, 0], [0]),
    ]
    result = fabricsim.replay(report.trace, fabricsim.Cluster.from_toml("leaf-spine-64-400g-roce"))
    assert len(compare(report.trace, result).rows) == 4


def test_what_the_file_does_not_tell_is_an_option(tmp_path: Path) -> None:
    data = document("./my_test")
    data["config"] = None
    path = written(tmp_path, data)
    with pytest.raises(InputError) as caught:
        convert(path)
    assert [p.where for p in caught.value.problems] == [f"{path}:args", f"{path}:config.devices"]
    assert convert(path, ranks=8, test="alltoall").trace.kinds == {"all_to_all": 2}
    with pytest.raises(ConfigError, match="unknown test 'all_reduces'; did you mean 'all_reduce'"):
        convert(path, test="all_reduces")


def test_all_bad_results_at_once(tmp_path: Path) -> None:
    data = document(sizes=(8, 16, 32, 64))
    data["results"][0]["out_of_place"]["time"] = "nan"
    data["results"][1]["out_of_place"] = {"cpu_time": 5.0}
    data["results"][3]["size"] = "64"
    with pytest.raises(InputError) as caught:
        convert(written(tmp_path, data))
    where = f"{tmp_path}/m.json:results"
    assert [p.where for p in caught.value.problems] == [f"{where}[0]", f"{where}[1]", f"{where}[3]"]
    assert "the time is that of the CPU (-C)" in str(caught.value)
    data = document("reduce_perf")
    data["results"][1]["root"] = "4"
    with pytest.raises(InputError, match=r"results\[1\]: root: found 4, allowed: -1 to 3"):
        convert(written(tmp_path, data))
    with pytest.raises(InputError, match="results of 0 bytes alone"):
        convert(written(tmp_path, document(sizes=(0,))))
    with pytest.raises(InputError, match="results: found none"):
        convert(written(tmp_path, document(sizes=())))


def test_measured_beside_what_bench_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim = str(tmp_path / "sim.json")
    flags = [
        "--cluster",
        "leaf-spine-64-400g-roce",
        "--ranks",
        "4",
        "-b",
        "8",
        "-e",
        "64",
        "-f",
        "2",
        "-J",
        sim,
    ]
    assert main(["bench", "all_reduce", *flags]) == 0
    measured = str(written(tmp_path, document(sizes=(8, 16, 4096))))
    capsys.readouterr()
    assert main(["compare", measured, sim, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(r["bytes"], r["measured_ps"]) for r in found["rows"]] == [(8, 11 * US), (16, 12 * US)]
    ours = {r["bytes"]: r["time_ps"] for r in read_nccl_tests(sim).rows}
    assert [r["emulated_ps"] for r in found["rows"]] == [ours[8], ours[16]]
    assert found["unmatched"] == 1 and found["step_measured_ps"] is None
    assert main(["compare", measured, sim]) == 0
    assert "whole step" not in capsys.readouterr().out
    other = str(written(tmp_path, document("all_gather_perf"), "o.json"))
    assert main(["compare", other, sim]) == 3
    assert "another test: measured all_gather, emulated all_reduce" in capsys.readouterr().err


def test_tables_are_matched_by_type_operation_and_root() -> None:
    def table(*rows: tuple[int, str, int]) -> NcclTests:
        made = [
            {"bytes": b, "type": t, "redop": "sum", "root": -1, "time_ps": p, "busbw_gbs": 1.0}
            for b, t, p in rows
        ]
        return NcclTests("all_reduce", None, tuple(made))

    emulated = table((8, "half", 5), (8, "float", 7), (16, "half", 9), (32, "half", 1), (32, "int8", 2))
    found = compare(table((8, "float", 14), (16, "double", 18), (32, "double", 3)), emulated)
    assert [(r["bytes"], r["ratio"]) for r in found.rows] == [(8, 0.5), (16, 0.5)] and found.unmatched == 1
    with pytest.raises(InputError, match="no size is in both tables"):
        compare(table((64, "half", 3)), emulated)
    with pytest.raises(InputError, match="another number of ranks: measured 4, emulated 8"):
        compare(NcclTests(None, 4, emulated.rows), NcclTests(None, 8, emulated.rows))


def test_fuzz(tmp_path: Path) -> None:
    rng = random.Random(4)
    data = document("reduce_perf")
    strange = [None, -1, 1 << 70, 1e400, 0.5, "", "x", [], {}, True]
    path = tmp_path / "m.json"
    ended = 0
    for turn in range(600):
        if turn % 2:
            changed = copy.deepcopy(data)
            at: Any = changed
            while True:
                key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
                if isinstance(at[key], (dict, list)) and at[key] and rng.random() < 0.8:
                    at = at[key]
                    continue
                at[key] = rng.choice(strange)
                break
            path.write_text(json.dumps(changed))
        else:
            raw = bytearray(json.dumps(data).encode())
            raw[rng.randrange(len(raw))] = rng.randrange(256)
            path.write_bytes(raw)
        try:
            convert(path, from_format="nccl-tests")
            ended += 1
        except InputError as error:
            assert all(str(path) in p.where for p in error.problems)
    assert 20 < ended < 590
