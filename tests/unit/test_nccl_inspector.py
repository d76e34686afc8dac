"""NCCL Inspector records: collectives by communicator and number, ranks of the job, gaps, and bad lines."""

from __future__ import annotations

import copy
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

import fabricsim
from fabricsim.analysis import compare
from fabricsim.convert import ConvertReport, convert, detect
from fabricsim.errors import ConfigError, InputError

US = 1_000_000


def record(
    rank: int,
    number: int,
    *,
    coll: str = "AllReduce",
    size: int = 1024,
    start: int | None = None,
    took: int = 10,
    comm: str = "0xa",
    n_ranks: int = 2,
    pid: int | None = None,
    host: str = "node0",
    peer: int | None = None,
) -> dict[str, Any]:
    """A record as the plugin writes it; times in us."""
    prefix = "coll" if peer is None else "p2p"
    at = 5_000 if start is None else start
    perf: dict[str, Any] = {
        prefix: coll,
        f"{prefix}_sn": number,
        f"{prefix}_msg_size_bytes": size,
        f"{prefix}_exec_time_us": took,
        f"{prefix}_timing_source": "kernel_gpu",
        f"{prefix}_algobw_gbs": 1.5,
    }
    if peer is not None:
        perf["p2p_peer"] = peer
    if start is not None:
        kernels = [
            {"channel_id": c, "kernel_start_ts": start + c, "kernel_stop_ts": start + took} for c in (0, 1)
        ]
        perf["event_trace_ts"] = {f"{prefix}_start_ts": start - 1, "kernel_events": kernels}
    return {
        "header": {"id": comm, "rank": rank, "n_ranks": n_ranks, "nnodes": 1},
        "metadata": {
            "inspector_output_format_version": "v4.0",
            "dump_timestamp_us": at + took + 3,
            "hostname": host,
            "pid": 100 + rank if pid is None else pid,
        },
        f"{prefix}_perf": perf,
    }


def imported(tmp_path: Path, *records: dict[str, Any], **options: Any) -> ConvertReport:
    path = tmp_path / "job.log"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    assert detect(path).name == "nccl-inspector"
    return convert(path, **options)


def rows(report: ConvertReport) -> list[dict[str, Any]]:
    return report.trace.table.to_pylist()


def test_records_of_a_collective_are_one_row_with_the_shortest_time(tmp_path: Path) -> None:
    report = imported(
        tmp_path,
        record(0, 7, start=5_000, took=40),
        record(1, 7, start=5_030, took=10),
        record(1, 8, coll="AllGather", start=5_100),
        record(0, 8, coll="AllGather", start=5_100),
        record(0, 9, coll="ReduceScatter", start=5_200),
        record(0, 10, coll="Broadcast", start=5_300),
    )
    made = [r for r in rows(report) if r["kind"] != "compute"]
    assert [(r["kind"], r["bytes"], r["ranks"]) for r in made] == [
        ("all_reduce", 1024, [0, 1]),
        ("all_gather", 2048, [0, 1]),
        ("reduce_scatter", 2048, [0, 1]),
        ("broadcast", 1024, [0, 1]),
    ]
    # Rank 0 waited for rank 1; times count from the first start, of rank 1's record.
    assert [(r["start_ps"] // US, r["end_ps"] // US) for r in made][:2] == [(0, 10), (70, 80)]
    assert {r["stream"] for r in made} == {0}
    assert report.warnings == [
        "records of collectives that some rank did not write: 2",
        "broadcast without a root in the file, taken as from the group's first rank: 1",
    ]
    assert report.counts["ranks"] == 2 and report.counts["records"] == 6


def test_gaps_become_compute_of_each_rank(tmp_path: Path) -> None:
    records = [record(0, 1, start=1_000), record(1, 1, start=1_000)]
    records += [record(0, 2, start=1_050, took=30), record(1, 2, start=1_070, took=10)]
    report = imported(tmp_path, *records)
    gaps = [(r["ranks"], r["duration_ps"] // US, r["after"]) for r in rows(report) if r["kind"] == "compute"]
    assert gaps == [([0], 40, [0]), ([1], 60, [0])]
    second = next(r for r in rows(report) if r["name"] == "all_reduce 2")
    assert second["after"] == [1, 2]
    none = imported(tmp_path, *records, gaps="none")
    assert none.trace.kinds == {"all_reduce": 2}
    bare = imported(tmp_path, *(record(r["header"]["rank"], r["coll_perf"]["coll_sn"]) for r in records))
    assert bare.trace.kinds == {"all_reduce": 2} and "times of writing" in bare.warnings[0]
    # What overlaps waits for what had ended when it began.
    over = [record(0, 1, start=1_000, took=100), record(0, 1, comm="0xb", start=1_040, took=10)]
    over += [record(0, 2, comm="0xb", start=1_060, took=10)]
    over += [
        {**r, "header": {**r["header"], "rank": 1}, "metadata": {**r["metadata"], "pid": 101}} for r in over
    ]
    table = {r["name"] or r["kind"]: r for r in rows(imported(tmp_path, *over))}
    assert (
        sorted(r["duration_ps"] for r in rows(imported(tmp_path, *over)) if r["kind"] == "compute")
        == [10 * US] * 2
    )
    assert table["all_reduce 1"]["after"] in (None, [])


def test_ranks_of_smaller_communicators_are_those_of_the_job(tmp_path: Path) -> None:
    job = [record(r, 1, n_ranks=4, start=1_000) for r in range(4)]
    part = [record(i, 1, comm="0xb", pid=100 + r, start=1_100) for i, r in enumerate((1, 3))]
    report = imported(tmp_path, *job, *part)
    assert [r["ranks"] for r in rows(report) if r["kind"] == "all_reduce"] == [[0, 1, 2, 3], [1, 3]]
    assert report.warnings == []
    # Several processes of one communicator, none of all: by host and process.
    hosts = [
        record(i, 1, comm=f"0x{h}", host=f"node{h}", pid=9 - i, start=1_000) for h in (10, 9) for i in (0, 1)
    ]
    numbered = imported(tmp_path, *hosts)
    assert sorted(r["ranks"] for r in rows(numbered)) == [[1, 0], [3, 2]]
    assert "4 processes: they are numbered by host and process id" in numbered.warnings[0]
    said = imported(tmp_path, *hosts, groups={"0x9": [5, 6], "0x10": [0, 1]})
    assert sorted(r["ranks"] for r in rows(said)) == [[0, 1], [5, 6]] and said.trace.n_ranks == 7
    with pytest.raises(InputError, match="has 2 ranks, groups lists 3"):
        imported(tmp_path, *hosts, groups={"0x9": [5, 6, 7], "0x10": [0, 1]})
    # One process with several accelerators: alone it is clear, with a part it is not.
    one = [record(r, 1, n_ranks=4, pid=1, start=1_000) for r in range(4)]
    assert imported(tmp_path, *one).trace.n_ranks == 4
    with pytest.raises(
        InputError, match="which ranks of the job its 2 are is not known; give them with groups"
    ):
        imported(tmp_path, *one, record(0, 1, comm="0xb", pid=1), record(1, 1, comm="0xb", pid=1))


def test_messages_match_by_their_numbers(tmp_path: Path) -> None:
    sends = [record(0, n, coll="Send", peer=1, size=8 * n, start=1_000 + n) for n in (2, 1)]
    recvs = [record(1, n + 5, coll="Recv", peer=0, size=8 * n, start=1_000 + n) for n in (1, 2)]
    report = imported(tmp_path, *sends, *recvs, record(0, 1, start=2_000), record(1, 1, start=2_000))
    made = [
        (r["kind"], r["ranks"], r["peer"], r["bytes"]) for r in rows(report) if r["kind"] in ("send", "recv")
    ]
    assert made == [
        ("send", [0], [1], 8),
        ("recv", [1], [0], 8),
        ("send", [0], [1], 16),
        ("recv", [1], [0], 16),
    ]
    odd = imported(tmp_path, *sends, recvs[0], record(0, 1, start=2_000), record(1, 1, start=2_000))
    assert odd.trace.kinds == {"all_reduce": 1}
    assert odd.warnings == ["messages left out, because sends and receives do not agree: 3"]


def test_files_of_a_folder_gzip_and_a_last_line_cut_short(tmp_path: Path) -> None:
    for rank in (0, 1):
        text = json.dumps(record(rank, 1, start=1_000)) + "\n"
        (tmp_path / f"node0-pid{rank}.log.gz").write_bytes(gzip.compress((text + text[:50]).encode()))
    (tmp_path / "other.log").write_text("started\n")
    report = convert(tmp_path)
    assert report.trace.kinds == {"all_reduce": 1} and report.counts["records"] == 2
    assert sorted(report.warnings) == [
        "last lines that were cut short left out: 2",
        "other.log holds no NCCL Inspector records: skipped",
    ]


def test_a_replay_is_compared_with_what_was_measured(tmp_path: Path) -> None:
    records = [record(r, n, size=1 << 20, start=1_000 + 500 * n, took=30) for n in (1, 2) for r in (0, 1)]
    report = imported(tmp_path, *records)
    result = fabricsim.replay(report.trace, fabricsim.Cluster.from_toml("leaf-spine-64-400g-roce"))
    found = compare(report.trace, result)
    assert [r["measured_ps"] for r in found.rows] == [30 * US] * 2
    # 530 us, of which 470 us are the gap.
    assert 470 / 530 < found.summary["step_ratio"] < 1.1


def test_all_bad_lines_at_once(tmp_path: Path) -> None:
    good = record(0, 1)
    bad = [copy.deepcopy(good) for _ in range(4)]
    del bad[0]["header"]["rank"]
    bad[1]["coll_perf"]["coll_msg_size_bytes"] = -4
    bad[1]["metadata"]["pid"] = "x"
    bad[2]["coll_perf"]["event_trace_ts"] = {"kernel_events": [{"kernel_start_ts": "now"}]}
    bad[3]["metadata"] = 5
    path = tmp_path / "job.log"
    path.write_text("\n".join([json.dumps(good), *map(json.dumps, bad), "{", json.dumps(good)]))
    with pytest.raises(InputError) as caught:
        convert(path)
    told = [str(p) for p in caught.value.problems]
    assert [t.split(": ")[0] for t in told] == [
        "job.log:2:header",
        "job.log:3:metadata",
        "job.log:3:coll_perf",
        "job.log:4:event_trace_ts",
        "job.log:5:metadata",
        "job.log:6",
    ]
    assert (
        told[2]
        == f"job.log:3:coll_perf: coll_msg_size_bytes: found -4, allowed: an integer from 0 to {1 << 42}"
    )


def test_records_that_do_not_agree(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"coll_sn 1 is all_reduce of 8 bytes on rank 1, but all_reduce of 4 on"
    ):
        imported(tmp_path, record(0, 1, size=4), record(1, 1, size=8))
    with pytest.raises(InputError, match="rank 0 tells of coll_sn 1 again"):
        imported(tmp_path, record(0, 1), record(0, 1))
    with pytest.raises(InputError, match="communicator 0xa: found 3 ranks, but 2 at job"):
        imported(tmp_path, record(0, 1), record(1, 1, n_ranks=3))
    with pytest.raises(InputError, match="rank 0 is also process 100 of node0"):
        imported(tmp_path, record(0, 1), record(0, 2, pid=7))
    with pytest.raises(InputError, match="nothing in it becomes an operation"):
        imported(tmp_path, record(0, 1, coll="Gather"), record(1, 1, size=0))
    with pytest.raises(ConfigError, match="gaps: found 'all'"):
        imported(tmp_path, record(0, 1), gaps="all")


def test_fuzz(tmp_path: Path) -> None:
    rng = random.Random(8)
    lines = [record(r, n, start=1_000 + 50 * n) for n in (1, 2) for r in (0, 1)]
    lines += [record(0, 1, coll="Send", peer=1, start=1_200), record(1, 1, coll="Recv", peer=0, start=1_200)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path = tmp_path / "job.log"
    strange = [None, -1, 1 << 70, 1e400, 0.5, "", "x", [], {}, True]
    ended = 0
    for turn in range(600):
        if turn % 2:
            changed = copy.deepcopy(lines)
            at: Any = rng.choice(changed)
            while True:
                key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
                if isinstance(at[key], (dict, list)) and at[key] and rng.random() < 0.8:
                    at = at[key]
                    continue
                at[key] = rng.choice(strange)
                break
            path.write_text("".join(json.dumps(line) + "\n" for line in changed))
        else:
            data = bytearray(text.encode())
            data[rng.randrange(len(data))] = rng.randrange(256)
            path.write_bytes(data)
        try:
            convert(path, from_format="nccl-inspector")
            ended += 1
        except InputError as error:
            assert error.problems
    assert 20 < ended < 580
