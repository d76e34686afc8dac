"""PyTorch execution traces: which collectives, how large, between whom."""

from __future__ import annotations

import json
from pathlib import Path

import capture_makers as make
import pytest

from fabricsim.convert import FORMATS, detect
from fabricsim.convert.pytorch_et import convert
from fabricsim.errors import InputError


def rows(report) -> list[dict]:
    return report.trace.table.to_pylist()


def test_kinds_sizes_and_waits(tmp_path: Path) -> None:
    def rank(r: int) -> list[dict]:
        return [
            make.record(9, "_allgather_base", 10, rank=r, out=20),
            make.record(5, "allreduce", 100, rank=r),
            make.record(6, "wait", 0, rank=r),
            make.record(12, "broadcast", 7, rank=1),
        ]

    path = make.write_pytorch_et(tmp_path, {0: rank(0), 1: rank(1)})
    report = convert(path)
    table = rows(report)
    assert [(r["kind"], r["bytes"]) for r in table] == [
        ("all_reduce", 400),
        ("all_gather", 80),
        ("broadcast", 28),
    ]
    assert table[2]["peer"] == [1] and {r["stream"] for r in table} == {0}
    assert report.counts["waits"] == 2 and "no times" in report.warnings[0]
    assert detect(path) is FORMATS["pytorch-et"]


def test_unequal_splits_of_rows_become_bytes(tmp_path: Path) -> None:
    # Two columns a row: the splits count rows of the tensors' first dimension.
    a = make.record(1, "all_to_allv", 8, rank=0, out=6, sends=(1, 3), receives=(1, 2))
    b = make.record(1, "all_to_allv", 10, rank=1, out=12, sends=(2, 3), receives=(3, 3))
    (row,) = rows(convert(make.write_pytorch_et(tmp_path, {0: [a], 1: [b]})))
    assert row["splits"] == [8, 24, 16, 24] and row["bytes"] is None


def test_splits_that_disagree_are_told(tmp_path: Path) -> None:
    a = make.record(1, "all_to_allv", 4, rank=0, out=3, sends=(1, 3), receives=(1, 2))
    b = make.record(1, "all_to_allv", 4, rank=1, out=4, sends=(2, 2), receives=(2, 2))
    with pytest.raises(InputError, match="rank 0 sends 12 bytes to rank 1, which receives 8"):
        convert(make.write_pytorch_et(tmp_path, {0: [a], 1: [b]}))


def test_one_rank_takes_the_others_to_send_alike(tmp_path: Path) -> None:
    a = make.record(1, "all_to_allv", 4, rank=0, out=3, sends=(1, 3), receives=(1, 2))
    report = convert(make.write_pytorch_et(tmp_path, {0: [a]}))
    (row,) = rows(report)
    assert row["splits"] == [4, 12, 8, 8] and row["ranks"] == [0, 1]
    assert any("outside the capture" in w for w in report.warnings)


def test_messages_between_ranks(tmp_path: Path) -> None:
    a, b = make.record(1, "send", 4, rank=1), make.record(1, "recv", 0, rank=0, out=4)
    first, second = rows(convert(make.write_pytorch_et(tmp_path, {0: [a], 1: [b]})))
    assert (first["kind"], first["peer"], first["bytes"]) == ("send", [1], 16)
    assert (second["kind"], second["peer"], second["bytes"]) == ("recv", [0], 16)


def test_the_layout_of_1_1_and_its_groups(tmp_path: Path) -> None:
    groups = [
        {"pg_name": "0", "ranks": [], "group_size": 4},
        {"pg_name": "7", "ranks": [1, 3], "group_size": 2},
    ]
    init = {"name": "## process_group:init ##", "id": 1, "inputs": {"values": [json.dumps(groups)]}}
    for rank in (1, 3):
        values = [
            [[5, 6, 0, 10, 4, "cuda:0"]],
            [3, False],
            ["7", "tp"],
            rank // 2,
            "allreduce",
            [],
            [],
            1,
            2,
            2,
        ]
        call = {
            "name": "record_param_comms",
            "id": 2,
            "inputs": {"values": values},
            "outputs": {"values": []},
        }
        document = {"schema": "1.1.0-chakra.0.0.4", "nodes": [init, call | {"inputs": {"values": values}}]}
        (tmp_path / f"rank{rank}.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="no ET of rank 0, 2"):
        convert(tmp_path)
    (row,) = rows(convert(tmp_path, world_size=4))
    assert (row["ranks"], row["bytes"]) == ([1, 3], 40)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": [1, 2]}, "without a known collective"),
        ({"inputs": ["allreduce"]}, "0 fields before"),
        ({"inputs": [[], 1, 2, "x", "allreduce", [], []]}, "rank: found 'x'"),
        ({"inputs": [[], 1, 2, 0, "all_to_allv", 5, []]}, "splits"),
        ({"inputs": [[[1, 1, 0, -4, 4, "cuda"]], 1, 2, 0, "allreduce", [], []]}, "elements"),
    ],
)
def test_bad_records_are_told_with_their_node(tmp_path: Path, change: dict, said: str) -> None:
    node = make.record(31, "allreduce", 4, rank=0) | change
    with pytest.raises(InputError, match=f"node 31.*{said}"):
        convert(make.write_pytorch_et(tmp_path, {0: [node]}))
