"""Laws of file systems: what is written can be read, limits hold, how a run is stepped changes nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_worlds import Storage, create, io, then

KIB, US, MS = 1 << 10, 10**6, 10**9
IMPLS = ("lustre", "weka", "beegfs", "local")
WAYS: tuple[dict[str, Any], ...] = (
    {"threads": 2},
    {"threads": 3},
    {"plain": True},
    {"record_rpcs": False},
    {"record_packets": True},
)
extents = st.lists(st.tuples(st.integers(0, 300_000), st.integers(1, 120_000)), min_size=1, max_size=6)


def storage(impl: str, clients: int = 1, **params: int) -> Storage:
    small = {
        "rpc_bytes": 64 * KIB,
        "rpcs_in_flight_count": 3,
        "max_dirty_bytes": 150_000,
        "commit_ps": 5 * MS,
    }
    small |= {"cache_bytes": 1 << 20, "dirty_expire_ps": MS, "readahead_bytes": 256 * KIB, **params}
    if impl == "lustre":
        small |= {"stripe_bytes": 64 * KIB, "stripe_count": 2}
    return Storage(clients, 2, 1, 2, impl, small)


def union(ranges: list[tuple[int, int]]) -> int:
    """Return how many bytes are in one of (offset, size) ranges."""
    covered = end = 0
    for offset, size in sorted(ranges):
        covered += max(0, offset + size - max(end, offset))
        end = max(end, offset + size)
    return covered


@pytest.mark.parametrize("impl", IMPLS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(written=extents, direct=st.booleans(), cache_bytes=st.sampled_from([0, 100_000, 1 << 24]))
def test_what_is_written_is_read_back(
    impl: str, written: list[tuple[int, int]], direct: bool, cache_bytes: int
) -> None:
    flags = {"flags": "direct"} if direct else {}
    size = max(offset + length for offset, length in written)
    rows = [create(), *(io("write", offset=at, size=n, **flags) for at, n in written), io("fsync")]
    run = storage(impl, cache_bytes=cache_bytes).run(*rows, io("read", size=2 * size), io("close"))
    clients, targets = run.clients(), run.targets()
    assert clients["bytes_written"].tolist() == [sum(n for _, n in written)]
    assert clients["bytes_read"].tolist() == [size]  # with the holes, and no further
    cached = not direct and impl in ("lustre", "local")
    sent = int(clients["rpc_written_bytes"].sum())
    assert union(written) <= sent <= sum(n for _, n in written)
    assert cached or sent == sum(n for _, n in written)
    if impl == "weka":  # with the parity of each RPC
        assert targets["bytes_written"].sum() >= sent * 10 // 8
    else:
        assert targets["bytes_written"].sum() == sent
    assert clients["max_dirty_bytes"][0] <= 150_000


@settings(max_examples=8, deadline=None, derandomize=True)
@given(written=extents, direct=st.booleans())
def test_another_client_reads_what_one_has_written(written: list[tuple[int, int]], direct: bool) -> None:
    """Without an fsync: the locks bring the data to the servers first."""
    size = max(offset + length for offset, length in written)
    written = [(0, size), *written]  # no hole: who has not heard of what is behind it ends there
    writes = [io("write", 0, offset=at, size=n) for at, n in written]
    flags = {"flags": "direct"} if direct else {}
    rows = [create(0), *writes, *then(0, 1), io("stat", 1), io("read", 1, size=size, **flags)]
    run = storage("lustre", 2).run(*rows)
    clients, targets = run.clients(), run.targets()
    assert targets["bytes_written"].sum() >= union(written)
    assert clients["bytes_read"].tolist() == [0, size]
    assert targets["bytes_read"].sum() >= union(written)


def rows_of_all() -> list[dict[str, Any]]:
    """Return operations of three ranks on their own and on shared files."""
    rows = [create(0, 1, 2, file="/shared"), *(create(r, file=f"/own{r}") for r in range(3))]
    for i in range(4):
        rows.append(io("write", 0, 1, 2, file="/shared", offset=i * 90_000, stride=30_000, size=40_000))
        rows += [io("write", r, file=f"/own{r}", offset=i * 70_000, size=70_000) for r in range(3)]
    rows.append(io("fsync", 0, 1, 2, file="/shared"))
    rows.append(io("read", 0, 1, 2, file="/shared", stride=50_000, size=200_000))
    rows += [io("read", r, file=f"/own{r}", size=300_000) for r in range(3)]
    return [*rows, io("stat", 0, 1, 2, file="/shared"), io("close", 0, 1, 2, file="/shared")]


@pytest.mark.parametrize("impl", IMPLS)
def test_how_a_run_is_made_does_not_matter(impl: str) -> None:
    here, rows = storage(impl, 3, cache_bytes=200_000), rows_of_all()
    whole = here.run(*rows)
    for way in WAYS:
        other = here.run(*rows, **way)
        assert other.digest == whole.digest, way
        assert (other.ops()["end_ps"] == whole.ops()["end_ps"]).all(), way
    sliced, ends = here.start(*rows), int(whole.ops()["end_ps"].max())
    for i in range(1, 40):
        sliced.step(until_ps=ends * i // 40)
    assert sliced.step() is True
    sliced.check()
    assert sliced.digest == whole.digest
    for name in ("clients", "targets", "servers", "rpcs"):
        for column, values in getattr(whole, name)().items():
            assert (getattr(sliced, name)()[column] == values).all(), (name, column)


@pytest.mark.parametrize("impl", IMPLS)
def test_rpcs_go_forward(impl: str) -> None:
    """The stages of an RPC follow one another, and no more are under way than the window allows."""
    rpcs = storage(impl, 3).run(*rows_of_all()).rpcs()
    steps = [rpcs[name] for name in ("sent_ps", "queued_ps", "began_ps", "served_ps", "done_ps")]
    for before, after in pairwise(steps):
        assert (before <= after).all()
    for rank in range(3):
        for target in set(rpcs["target"].tolist()) - {-1}:
            mine = (rpcs["rank"] == rank) & (rpcs["target"] == target) & (rpcs["kind"] <= 1)
            for sent in rpcs["sent_ps"][mine]:
                assert ((rpcs["sent_ps"][mine] <= sent) & (rpcs["done_ps"][mine] > sent)).sum() <= 3


def test_a_directory_has_no_data() -> None:
    """A stat of it asks no data server; its data cannot be read."""
    here = storage("lustre")
    run = here.run(io("mkdir", file="/d/x"), io("stat", file="/d/x"))
    assert (run.rpcs()["server"] >= here.servers).all()
    assert here.run(io("mkdir", file="/d/x"), io("write", file="/d/x", size=9), check=False).clients()[
        "refused"
    ][0]


def test_the_directory_is_held_for_a_part_of_the_change() -> None:
    """That part is no longer than the change."""
    run = storage("lustre", create_ps=3 * US, directory_ps=70 * US).run(create())
    rpcs = run.rpcs()
    assert (rpcs["served_ps"] - rpcs["began_ps"]).tolist() == [3 * US]


def test_data_on_its_way_is_not_evicted() -> None:
    """It is read from the cache until it is answered, however small that is."""
    run = storage("local", cache_bytes=0).run(create(), io("write", size=140_000), io("read", size=60_000))
    assert run.clients()["rpc_read_bytes"][0] == 0
