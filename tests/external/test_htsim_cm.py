"""The connection matrices that htsim users have: every flow arrives in the trace."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from fabricsim.convert import FORMATS, detect
from fabricsim.trace import lower, read_trace, write_trace

FILES = {
    "perm_128n_2000kB.cm": (128, 128, 2_000_000),
    "perm_1024n_2000kB.cm": (1024, 1024, 2_000_000),
    "incast_128n_32to1_1000kB.cm": (128, 32, 1_000_000),
    "a2a_128n_64_128kB.cm": (128, 4032, 128_000),
}


@pytest.mark.parametrize("name", FILES)
def test_every_flow_becomes_a_send_and_a_recv(external_data: Path, tmp_path: Path, name: str) -> None:
    path = external_data / "flows" / name
    if not path.exists():
        pytest.skip(f"{path} is missing")
    nodes, flows, size = FILES[name]
    assert detect(path).name == "htsim"
    report = FORMATS["htsim"].convert(path)
    assert report.warnings == []
    assert (report.counts["nodes"], report.counts["flows"]) == (nodes, flows)
    assert report.trace.kinds == {"send": flows, "recv": flows}
    assert report.trace.total_bytes == 2 * flows * size
    assert report.trace.n_ranks <= nodes

    write_trace(report.trace, tmp_path / "out.arrow")
    again = read_trace(tmp_path / "out.arrow")
    assert lower(again).equals(lower(report.trace))
    sends = again.table.filter(pc.equal(again.table["kind"].cast("string"), "send"))
    assert sends["tag"].to_pylist() == list(range(1, flows + 1))


def test_a_permutation_uses_each_host_once(external_data: Path) -> None:
    path = external_data / "flows" / "perm_1024n_2000kB.cm"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    table = lower(FORMATS["htsim"].convert(path).trace)
    ranks = np.array(table["ranks"].combine_chunks().flatten())
    assert np.array_equal(np.bincount(ranks, minlength=1024), np.full(1024, 2))


def test_a_file_of_1024_flows_takes_milliseconds(external_data: Path) -> None:
    path = external_data / "flows" / "perm_1024n_2000kB.cm"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    FORMATS["htsim"].convert(path)
    best = min(_seconds(path) for _ in range(5))
    # About 8 ms on the machine this was written on; the bound only catches a change of order.
    assert best < 0.1


def _seconds(path: Path) -> float:
    began = time.perf_counter()
    FORMATS["htsim"].convert(path)
    return time.perf_counter() - began
