"""Kineto traces: pieces of compute, the host's time, who waits for whom, and collectives over ranks."""

from __future__ import annotations

from pathlib import Path

import capture_makers as make
import pytest

from fabricsim.convert import FORMATS, detect
from fabricsim.convert.kineto import convert
from fabricsim.errors import ConfigError, InputError

US = 1_000_000


def rows(report) -> list[dict]:
    return report.trace.table.to_pylist()


def gpu(report) -> list[dict]:
    return [r for r in rows(report) if r["name"] != "host"]


def test_a_step_of_two_ranks(tmp_path: Path) -> None:
    for rank, late in ((0, 0), (1, 40)):
        p = make.Profile(rank, 2)
        p.kernel(0, 5, 20)  # ends at 25
        p.kernel(3, 26, 10 + late)  # one piece with the first, ends at 36 or 76
        # Rank 0 comes at 38 and waits until 80; rank 1 comes at 78: the network takes 12 us.
        p.collective(10, 38 + late, 52 - late, **make.NCCL)
        p.wait(16)
        p.kernel(18, 92, 30)
        p.write(tmp_path)
    report = convert(tmp_path)
    assert report.warnings == [] and detect(tmp_path) is FORMATS["kineto"]
    table = gpu(report)
    assert [r["kind"] for r in table] == ["compute", "compute", "all_reduce", "compute", "compute"]
    reduce = table[2]
    assert (reduce["ranks"], reduce["bytes"], reduce["stream"]) == ([0, 1], 1024, 900_000)
    assert (reduce["start_ps"], reduce["end_ps"]) == (78 * US, 90 * US)
    first = next(r for r in table[:2] if r["ranks"] == [0])
    assert first["duration_ps"] == 31 * US and first["name"] == "gemm and 1 more"
    assert first["id"] in reduce["after"]
    for last in table[3:]:
        assert reduce["id"] in last["after"] and last["delay_ps"] == 2 * US
    assert max(end for _, end in make.replay(report.trace).values()) == 122 * US


def test_without_a_wait_compute_does_not_wait(tmp_path: Path) -> None:
    p = make.Profile(0, 1)
    p.kernel(0, 5, 10)
    p.collective(10, 18, 5, **make.NCCL)
    p.kernel(40, 50, 10)
    table = gpu(convert(p.write(tmp_path)))
    reduce, last = table[1], table[2]
    assert reduce["kind"] == "all_reduce" and reduce["id"] not in last["after"]


def test_a_gap_is_the_hosts_time(tmp_path: Path) -> None:
    p = make.Profile(0, 1)
    p.kernel(0, 5, 10)
    p.kernel(100, 105, 10)
    report = convert(p.write(tmp_path))
    host = [r for r in rows(report) if r["name"] == "host"]
    assert [r["duration_ps"] for r in host] == [2 * US, 100 * US] and host[0]["stream"] == 1_000_000
    second = gpu(report)[1]
    assert (second["after"], second["delay_ps"]) == ([host[1]["id"]], 3 * US)
    assert "no communication kernels in the capture" in report.warnings
    (one,) = gpu(convert(tmp_path, gap_us=200))
    assert one["duration_ps"] == 110 * US


def test_the_host_waits_at_a_synchronisation(tmp_path: Path) -> None:
    p = make.Profile(0, 1)
    p.kernel(0, 5, 200)
    p.sync(10, 196)  # returns at 206
    p.kernel(216, 220, 5)
    report = convert(p.write(tmp_path))
    first, second = gpu(report)
    host = [r for r in rows(report) if r["name"] == "host"]
    assert [r["duration_ps"] for r in host] == [2 * US, 8 * US, 13 * US]
    assert host[2]["after"] == [first["id"]] and second["after"] == [host[2]["id"]]


def test_a_sync_during_which_another_thread_launched_is_counted(tmp_path: Path) -> None:
    p = make.Profile(0, 1)
    p.kernel(0, 5, 200)
    p.sync(10, 196)
    p.kernel(50, 206, 5, thread=2)
    report = convert(p.write(tmp_path))
    assert any("another thread launched" in w for w in report.warnings)


def test_compute_streams_wait_for_each_other(tmp_path: Path) -> None:
    p = make.Profile(0, 1)
    p.kernel(0, 5, 10, stream=7)
    p.wait(4)
    p.kernel(6, 16, 10, stream=8)
    first, second = gpu(convert(p.write(tmp_path)))
    assert first["id"] in second["after"]


def test_sizes_from_pytorch_et(tmp_path: Path) -> None:
    for rank in (0, 1):
        p = make.Profile(rank, 2)
        p.collective(10, 18, 5)
        p.collective(30, 40, 5, name="SendRecv")
        p.write(tmp_path / "kineto")
    records = {
        r: [
            make.record(1, "allreduce", 50, rank=r),
            make.record(2, "wait", 0, rank=r),
            make.record(3, "all_to_allv", 4, rank=r, out=2 + 4 * r, sends=(1, 3), receives=(1 + 2 * r,) * 2),
        ]
        for r in (0, 1)
    }
    path = make.write_pytorch_et(tmp_path / "et", records)
    with pytest.raises(InputError, match=r"without sizes.*et="):
        convert(tmp_path / "kineto")
    table = gpu(convert(tmp_path / "kineto", et=path))
    assert [(r["kind"], r["bytes"]) for r in table] == [("all_reduce", 200), ("all_to_all", None)]
    assert table[1]["splits"] == [4, 12]
    for r in (0, 1):
        records[r][0]["inputs"][4] = "_allgather_base"
    make.write_pytorch_et(tmp_path / "et", records)
    with pytest.raises(InputError, match="in the place of a all_gather"):
        convert(tmp_path / "kineto", et=path)
    records[0].pop()
    make.write_pytorch_et(tmp_path / "et", records)
    with pytest.raises(InputError, match="2 communication kernels, but 1 collectives"):
        convert(tmp_path / "kineto", et=path)


@pytest.mark.parametrize("folder", ["an_et", "the_et"])  # before and after the traces
def test_execution_traces_beside_the_traces_are_used(tmp_path: Path, folder: str) -> None:
    for rank in (0, 1):
        p = make.Profile(rank, 2)
        p.collective(10, 18, 5)
        p.write(tmp_path / "kineto")
    records = {r: [make.record(1, "allreduce", 50, rank=r)] for r in (0, 1)}
    et = make.write_pytorch_et(tmp_path / folder, records)
    assert detect(tmp_path) is FORMATS["kineto"]
    report = convert(tmp_path)
    assert report.warnings == ["sizes are taken from the PyTorch ETs beside the traces"]
    assert report.trace.table.equals(convert(tmp_path / "kineto", et=et).trace.table)
    assert len(report.trace.provenance["source"]) == 4
    next(iter(sorted(et.iterdir()))).unlink()
    with pytest.raises(InputError, match="no ET of rank 0"):
        convert(tmp_path)
    for rank in (0, 1):
        p = make.Profile(rank, 2)
        p.collective(10, 18, 5, **make.NCCL)
        p.write(tmp_path / "kineto")
    (told,) = convert(tmp_path).warnings
    assert "not needed" in told


def test_all_gather_and_splits_from_arguments(tmp_path: Path) -> None:
    for rank in (0, 1):
        p = make.Profile(rank, 2)
        gather = {
            "Collective name": "_allgather_base",
            "In msg nelems": 10,
            "Out msg nelems": 20,
            "dtype": "BFloat16",
        }
        p.collective(10, 18, 5, name="AllGather", **gather)
        sizes = {"In split size": "[1, 3]", "Out split size": str([1 + 2 * rank] * 2)}
        exchange = {"Collective name": "all_to_allv", "In msg nelems": 8, "Out msg nelems": 4 + 8 * rank}
        p.collective(30, 40, 5, name="SendRecv", dtype="Half", **exchange, **sizes)
        p.write(tmp_path)
    table = gpu(convert(tmp_path))
    assert table[0]["bytes"] == 40 and table[1]["splits"] == [4, 12]


def test_some_ranks_of_a_job(tmp_path: Path) -> None:
    p = make.Profile(1, 4)
    group = {"Process Group Name": "tp", "Process Group Ranks": "[1, 3]", "Group size": 2}
    p.collective(10, 18, 5, **make.NCCL, **group)
    p.write(tmp_path)
    report = convert(tmp_path)
    assert gpu(report)[0]["ranks"] == [1, 3] and "1 of 4 ranks" in report.warnings[0]
    make.Profile(2, 4).write(tmp_path)
    with pytest.raises(InputError, match="no trace of rank 0, 3"):
        convert(tmp_path)
    assert convert(tmp_path, world_size=4).counts["ranks"] == 4
    p.events[-1]["args"]["Process Group Ranks"] = "[1, 3, ...]"
    p.write(tmp_path)
    with pytest.raises(InputError, match="give them with groups"):
        convert(tmp_path, world_size=4)
    assert gpu(convert(tmp_path, world_size=4, groups={"tp": [1, 3]}))[0]["ranks"] == [1, 3]


def test_messages_between_ranks(tmp_path: Path) -> None:
    for rank, kind, peer in ((0, "send", "Dst Rank"), (1, "recv", "Src Rank")):
        p = make.Profile(rank, 2)
        args = {"Collective name": kind, "In msg nelems": 4, "dtype": "Float", peer: 1 - rank}
        p.collective(10, 18, 5, name="SendRecv", **args)
        p.write(tmp_path)
    a, b = gpu(convert(tmp_path))
    assert (a["kind"], a["peer"], b["kind"], b["peer"], b["bytes"]) == ("send", [1], "recv", [0], 16)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Collective name": "frobnicate"}, "not known"),
        ({"dtype": "Quad"}, "dtype"),
        ({"In msg nelems": -1}, "In msg nelems"),
        ({"In msg nelems": "x"}, "In msg nelems"),
        ({"Process Group Ranks": "[1]"}, "not in its process group"),
        ({"Group size": 7, "Process Group Ranks": "[0]"}, "its size is 7"),
    ],
)
def test_bad_arguments_are_told_with_their_event(tmp_path: Path, change: dict, said: str) -> None:
    p = make.Profile(0, 2)
    p.collective(10, 18, 5, **(make.NCCL | change))
    with pytest.raises(InputError, match=rf"traceEvents\[3\].*{said}"):
        convert(p.write(tmp_path))


def test_bad_options_are_told(tmp_path: Path) -> None:
    path = make.Profile(0, 1).write(tmp_path)
    for options in ({"gap_us": -1}, {"gap_us": "x"}, {"gap_us": float("nan")}, {"world_size": -3}):
        with pytest.raises(ConfigError):
            convert(path, **options)


def test_arguments_of_current_pytorch(tmp_path: Path) -> None:
    """Roots, evenly spaced groups whose list is cut short, and what else the profiler writes by now."""
    more = {
        "Process Group Name": "3",
        "Process Group Description": "mesh_dp",
        "Process Group Ranks": "[1, 3, ...]",
        "Global rank start": 1,
        "Global rank stride": 2,
        "Group size": 4,
        "In split size": "[]",
        "Out split size": "[]",
        "Seq": 17,
        "Comms Id": "9122",
        "dtype": "BFloat16",
    }
    p = make.Profile(3, 8)
    broadcast = make.NCCL | more | {"Collective name": "broadcast", "Rank": 2}
    p.collective(10, 15, 5, name="Broadcast", **broadcast)
    gather = {"Collective name": "_allgather_base", "Rank": 1, "Out msg nelems": 1024}
    p.collective(40, 45, 5, name="AllGather", **(make.NCCL | more | gather))
    # A batch of sends and receives is one kernel, and says nothing.
    p.collective(70, 75, 5, name="SendRecv")
    report = convert(p.write(tmp_path))
    made = [r for r in rows(report) if r["kind"] not in ("compute",)]
    assert [(r["kind"], r["bytes"], r["ranks"], r["peer"]) for r in made] == [
        ("broadcast", 512, [1, 3, 5, 7], [5]),
        ("all_gather", 2048, [1, 3, 5, 7], None),
    ]
    assert report.warnings == [
        "1 of 8 ranks are in the capture; the others only answer",
        "communication kernels without sizes, such as batches of sends and receives,"
        " taken as compute of their measured time: 1",
    ]
