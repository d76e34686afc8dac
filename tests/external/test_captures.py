"""Real captures: an eight-rank DLRM step, DDP on two GPUs, and Chakra graphs of ASTRA-sim and MLCommons."""

from __future__ import annotations

import statistics
from pathlib import Path

import capture_makers as make
import pytest

from fabricsim.convert import FORMATS, convert, detect
from fabricsim.errors import InputError
from fabricsim.trace import lower, read_trace, write_trace


def found(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return path


def rows(report) -> list[dict]:
    return report.trace.table.to_pylist()


@pytest.fixture(scope="module")
def dlrm(external_data: Path):
    folder = found(external_data / "kineto" / "dlrm_8ranks")
    return convert(folder / "dlrm_kineto.tar.gz", from_format="kineto", et=folder / "dlrm_pytorch_et.tar.gz")


def test_dlrm_folder_is_imported_as_it_is(dlrm, external_data: Path) -> None:
    report = convert(external_data / "kineto" / "dlrm_8ranks")
    assert report.warnings == ["sizes are taken from the PyTorch ETs beside the traces"]
    assert report.trace.table.equals(dlrm.trace.table)
    assert report.trace.provenance["source"] == dlrm.trace.provenance["source"]


def test_dlrm_collectives_and_their_measured_times(dlrm) -> None:
    assert dlrm.warnings == []
    assert (dlrm.counts["ranks"], dlrm.counts["communication_kernels"]) == (8, 64)
    calls = [r for r in rows(dlrm) if r["kind"] != "compute"]
    assert all(r["ranks"] == list(range(8)) for r in calls)
    seen = [(r["kind"], r["bytes"], (r["end_ps"] - r["start_ps"]) // 1_000_000) for r in calls]
    assert seen == [
        ("all_to_all", 24_576, 10),
        ("all_to_all", 192, 8),
        ("all_to_all", 1_536, 7),
        ("all_to_all", None, 7),
        ("all_reduce", 1_576_964, 86),
        ("all_to_all", 24_576, 10),
        ("all_reduce", 448, 20),
        ("all_reduce", 907_840, 69),
    ]
    assert calls[3]["splits"] == [384, 896, 1152, 6656, 2368, 384, 768, 960]


def test_dlrm_replays_to_its_measured_time(dlrm) -> None:
    table = rows(dlrm)
    ends = make.replay(dlrm.trace)
    off = [abs(ends[r["id"]][1] - r["end_ps"]) / 1e6 for r in table]
    assert statistics.median(off) <= 1 and max(off) <= 10  # microseconds, of a step of 19.8 ms
    assert max(r["delay_ps"] or 0 for r in table) < 20_000_000  # nothing waits for what was not seen
    assert len(table) < 3_500


def test_dlrm_goes_through_a_file(dlrm, tmp_path: Path) -> None:
    write_trace(dlrm.trace, tmp_path / "dlrm.arrow")
    assert lower(read_trace(tmp_path / "dlrm.arrow")).equals(lower(dlrm.trace))


def test_dlrm_needs_its_sizes_and_all_its_ranks(external_data: Path, tmp_path: Path) -> None:
    folder = found(external_data / "kineto" / "dlrm_8ranks")
    assert detect(folder / "dlrm_kineto.tar.gz") is FORMATS["kineto"]
    with pytest.raises(InputError, match="8 communication kernels without sizes"):
        convert(folder / "dlrm_kineto.tar.gz")
    data = (folder / "dlrm_kineto.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"damaged|cut short"):
        convert(tmp_path / "cut.tar.gz", from_format="kineto", et=folder / "dlrm_pytorch_et.tar.gz")


def test_dlrm_execution_traces_alone(external_data: Path) -> None:
    path = found(external_data / "kineto" / "dlrm_8ranks" / "dlrm_pytorch_et.tar.gz")
    assert detect(path) is FORMATS["pytorch-et"]
    report = convert(path)
    assert report.counts["waits"] == 40  # with the 64 collectives, 13 records a rank
    assert [r["kind"] for r in rows(report)] == ["all_to_all"] * 4 + [
        "all_reduce",
        "all_to_all",
        "all_reduce",
        "all_reduce",
    ]


def test_ddp_on_two_gpus_with_nccl_arguments(external_data: Path) -> None:
    path = found(external_data / "kineto" / "hta" / "nccl_data.json.gz")
    assert detect(path) is FORMATS["kineto"]
    report = convert(path)
    calls = [r for r in rows(report) if r["kind"] != "compute"]
    assert len(calls) == 21 and all(r["ranks"] == [0, 1] for r in calls)
    sizes = [r["bytes"] for r in calls[:7]]
    assert sizes == [212_480, 424, 8_196_000, 31_502_336, 26_255_360, 26_550_272, 9_724_160]
    assert any("1 of 2 ranks" in w for w in report.warnings)
    ends = make.replay(report.trace)
    assert max(abs(ends[r["id"]][1] - r["end_ps"]) for r in rows(report)) <= 2_000_000


@pytest.mark.parametrize("ranks", [4, 8])
@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_chakra_microbenchmarks(external_data: Path, kind: str, ranks: int) -> None:
    path = found(external_data / "chakra" / "microbenchmarks" / kind / f"{ranks}npus_1MB")
    assert detect(path) is FORMATS["chakra"]
    report = convert(path)
    (row,) = rows(report)
    size = (ranks if kind == "all_gather" else 1) << 20
    assert (row["kind"], row["bytes"], row["ranks"]) == (kind, size, list(range(ranks)))
    assert rows(FORMATS["chakra"].convert(path / kind)) == [row]  # by the files' prefix


def test_chakra_ring_of_messages(external_data: Path) -> None:
    report = convert(found(external_data / "chakra" / "custom_ring_8npus"))
    assert report.warnings == []
    assert report.trace.kinds == {"compute": 56, "recv": 112, "send": 112}
    assert {r["bytes"] for r in rows(report) if r["kind"] == "send"} == {131_072}


def test_chakra_ddp_capture_of_one_rank(external_data: Path) -> None:
    path = found(external_data / "chakra" / "mlcommons_tests" / "feeder_tests_trace.tar.gz")
    report = convert(path, world_size=8)
    calls = [r for r in rows(report) if r["kind"] != "compute"]
    assert [r["kind"] for r in calls] == ["broadcast"] * 2 + ["all_reduce"] * 5
    assert [r["bytes"] for r in calls][2:] == [8_196_000, 31_502_336, 26_255_360, 26_550_272, 9_724_160]
    assert all(r["ranks"] == list(range(8)) for r in calls)
    assert any("without comm_type or comm_size" in w and w.endswith(": 14") for w in report.warnings)
    alone = convert(path)
    assert alone.trace.n_ranks == 1 and any("give world_size" in w for w in alone.warnings)


def test_chakra_json_captures(external_data: Path) -> None:
    path = found(external_data / "chakra" / "mlcommons_tests" / "json_trace.tar.gz")
    with pytest.raises(InputError, match="prefix: chakra, small_chakra"):
        convert(path, from_format="chakra")
    report = FORMATS["chakra"].convert(path, prefix="chakra")
    assert report.counts["nodes"] == 3664 and any("no communication is left" in w for w in report.warnings)
    assert FORMATS["chakra"].convert(path, prefix="small_chakra").counts["ranks"] == 8


def test_pytorch_et_with_process_groups(external_data: Path) -> None:
    path = found(external_data / "chakra" / "mlcommons_tests" / "1.0.2-chakra.0.0.4.tgz")
    assert detect(path) is FORMATS["pytorch-et"]
    report = convert(path)
    assert [(r["kind"], r["bytes"], r["ranks"]) for r in rows(report)] == [("all_gather", 8, [0, 1])] * 10


def test_provenance_names_files_and_digests_but_no_folders(dlrm) -> None:
    sources = dlrm.trace.provenance["source"]
    assert [s["file"] for s in sources] == ["dlrm_kineto.tar.gz", "dlrm_pytorch_et.tar.gz"]
    assert all(len(s["sha256"]) == 64 for s in sources)
    assert "/" not in str(dlrm.trace.provenance)


def test_goal_schedules(external_data: Path) -> None:
    folder = found(external_data / "goal")
    blocking, ready = (convert(folder / f"{name}.goal") for name in ("blocking", "non_blocking"))
    assert blocking.trace.kinds == {"compute": 4, "send": 1, "recv": 1}
    # l3 irequires l1, which requires l2: it runs while the message travels.
    after = {r["name"]: r["after"] for r in rows(ready) if r["ranks"] == [0]}
    assert after["l3"] == after["l1"] == [rows(ready)[0]["id"]] and len(after["l4"]) == 2
    ring = folder / "ring64_tagged.goal.gz"
    assert detect(ring) is FORMATS["goal"]
    report = convert(ring)
    assert report.warnings == [] and report.trace.kinds == {"send": 8064, "recv": 8064}


def test_a_goal_schedule_that_does_not_tell_its_order(external_data: Path) -> None:
    path = found(external_data / "goal" / "ring64_untagged_ambiguous.goal.gz")
    with pytest.raises(InputError, match="send l3 of rank 0 to 1, tag 0, 31250 bytes and send l5") as caught:
        convert(path)
    assert len(caught.value.problems) == 64
    report = FORMATS["goal"].convert(path, matching="file")
    assert report.trace.kinds == {"send": 8064, "recv": 8064}


def test_simai_gpt_13b_on_128_ranks(external_data: Path) -> None:
    path = found(external_data / "simai" / "G13B-M1-C01_GPT13B_megatron_tp8_pp1_mbs1_A100.txt")
    assert detect(path) is FORMATS["simai"]
    with pytest.raises(InputError, match="1:all_gpus: found none"):
        convert(path)
    report = convert(path, ranks=128)
    assert report.warnings == []
    assert {k: report.counts[k] for k in ("layers", "ranks", "tp", "dp")} == dict(
        layers=92, ranks=128, tp=8, dp=16
    )
    calls = [r for r in rows(report) if r["kind"] != "compute"]
    assert len(calls) == 174 and len(rows(report)) == 623
    scatter = next(r for r in calls if r["kind"] == "reduce_scatter")
    assert (scatter["bytes"], scatter["group_size"], scatter["ranks"][:3]) == (6_497_239_040, 16, [0, 8, 16])
    reduces = [r for r in calls if r["kind"] == "all_reduce" and r["bytes"] == 20_971_520]
    # An embedding, and 40 layers of attention and MLP, each forwards and backwards.
    assert len(reduces) == 2 * 81 and {r["group_size"] for r in reduces} == {8}
    busy = sum(r["duration_ps"] for r in rows(report) if r["kind"] == "compute")
    assert 208 * 10**9 < busy < 209 * 10**9  # picoseconds


def test_other_simai_workloads(external_data: Path) -> None:
    folder = found(external_data / "simai")
    zero = folder / "L7B-D1-C02_Llama7B_deepspeed_zero3_A100.txt"
    assert any("of one rank left out" in w and w.endswith(": 12") for w in convert(zero, ranks=16).warnings)
    gathered = convert(zero, ranks=16, forward_groups="dp")
    assert gathered.warnings == [] and gathered.trace.kinds["all_gather"] == 12
    micro = convert(folder / "all_reduce.txt", ranks=8)
    sizes = [r["bytes"] for r in rows(micro) if r["kind"] == "all_reduce"]
    assert sizes == [4096 << n for n in range(19)]
    header = convert(folder / "microAllReduce.txt")
    assert header.trace.n_ranks == 8 and header.trace.kinds["all_reduce"] == 2
