"""What a client of a file system does: whole paths against formulas, its limits, and what it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_worlds import GBPS, US
from store_worlds import Storage, create, io, kinds, then, wait

from fabricsim._core import engine

MIB = 1 << 20
S = 10**12
CALL_PS = 2 * US
COPY_MBPS = 100_000


def lengths(run: engine.Run) -> list[int]:
    """Return how long each operation took, by row and rank."""
    ops = run.ops()
    return (ops["end_ps"] - ops["start_ps"]).tolist()


def copy_ps(size: int) -> int:
    return size * 8_000_000 // COPY_MBPS


def client(run: engine.Run, rank: int = 0) -> dict[str, int]:
    rows = run.clients()
    return {name: int(values[rows["rank"] == rank][0]) for name, values in rows.items()}


def rpcs(run: engine.Run, kind: str) -> dict[str, np.ndarray]:
    rows = run.rpcs()
    keep = rows["kind"] == engine.RPC_KINDS.index(kind)
    return {name: values[keep] for name, values in rows.items()}


def storage(**params: Any) -> Storage:
    return Storage(servers=2, params={"call_ps": CALL_PS, "copy_mbps": COPY_MBPS, **params})


# ---- writes


def test_a_write_ends_in_the_cache_and_fsync_at_the_server() -> None:
    run = storage().run(create(), io("write", size=64 * MIB), io("fsync"), io("close"))
    _, write, fsync, _ = lengths(run)
    own = client(run)
    assert write == CALL_PS + own["lock_wait_ps"] + copy_ps(64 * MIB)
    assert own["blocked_ps"] == 0
    assert own["bytes_written"] == own["rpc_written_bytes"] == 64 * MIB
    sent = rpcs(run, "write")
    assert sent["bytes"].tolist() == [4 * MIB] * 16
    assert sorted(sent["offset"].tolist()) == [4 * MIB * i for i in range(16)]
    end = int(run.ops()["end_ps"][2])
    assert end == rpcs(run, "sync")["done_ps"][0] > sent["done_ps"].max()
    assert fsync > 0
    assert kinds(run).count("sync") == 1


def test_a_direct_write_ends_with_its_last_reply() -> None:
    run = storage().run(create(), io("write", size=10 * MIB, flags="direct"))
    sent = rpcs(run, "write")
    assert sorted(sent["bytes"].tolist()) == [2 * MIB, 4 * MIB, 4 * MIB]
    assert run.ops()["end_ps"][1] == sent["done_ps"].max()
    assert client(run)["max_dirty_bytes"] == 0


def test_a_small_direct_write_travels_in_its_request() -> None:
    params = {"short_io_bytes": 16384, "request_bytes": 512}
    run = storage(**params).run(create(), io("write", size=4096, flags="direct"))
    sent = rpcs(run, "write")
    request_ps = int(sent["queued_ps"][0] - sent["sent_ps"][0])
    # two links of 100 Gb/s and 1 us: about the request and its data, once stored and forwarded
    assert 2 * US + (4096 + 512) * 80 <= request_ps < 2 * US + 2 * (4096 + 512 + 600) * 80


@pytest.mark.parametrize("limit", [4 * MIB, 8 * MIB, 10 * MIB])
@pytest.mark.parametrize("which", ["max_dirty_bytes", "grant_bytes"])
def test_the_limit_of_dirty_bytes_is_held(limit: int, which: str) -> None:
    run = storage(**{which: limit}).run(create(), io("write", size=48 * MIB), io("fsync"))
    own = client(run)
    assert 4 * MIB <= own["max_dirty_bytes"] <= limit
    assert own["blocked_ps"] > 0
    assert lengths(run)[1] == CALL_PS + own["lock_wait_ps"] + own["blocked_ps"] + copy_ps(48 * MIB)
    assert rpcs(run, "write")["bytes"].tolist() == [4 * MIB] * 12


def test_the_window_is_held() -> None:
    run = storage(rpcs_in_flight_count=3).run(create(), io("write", size=64 * MIB, flags="direct"))
    sent = rpcs(run, "write")
    times = sorted([(t, 1) for t in sent["sent_ps"]] + [(t, -1) for t in sent["done_ps"]])
    assert max(np.cumsum([step for _, step in times])) == 3


def test_small_writes_are_coalesced() -> None:
    rows = [io("write", size=47008, offset=47008 * i) for i in range(200)]
    run = storage().run(create(), *rows, io("fsync"))
    sent = rpcs(run, "write")
    assert sorted(sent["bytes"].tolist()) == [200 * 47008 - 8 * MIB, 4 * MIB, 4 * MIB]


def test_what_is_written_again_is_sent_once() -> None:
    rows = [io("write", size=MIB) for _ in range(5)]
    run = storage().run(create(), *rows, io("fsync"))
    assert rpcs(run, "write")["bytes"].tolist() == [MIB]
    assert client(run)["bytes_written"] == 5 * MIB


def test_dirty_data_expires() -> None:
    run = storage(dirty_expire_ps=5 * S).run(create(), io("write", size=MIB), wait(0, 10 * S))
    sent = rpcs(run, "write")
    assert sent["bytes"].tolist() == [MIB]
    assert sent["sent_ps"][0] == run.ops()["end_ps"][1] + 5 * S


def test_what_is_left_dirty_is_told() -> None:
    run = storage(dirty_expire_ps=0).run(create(), io("write", size=MIB), check=False)
    with pytest.raises(Exception, match="1048576 bytes are dirty"):
        run.check()


# ---- reads


def test_what_was_written_is_read_from_the_cache() -> None:
    run = storage().run(create(), io("write", size=64 * MIB), io("fsync"), io("read", size=64 * MIB))
    assert lengths(run)[3] == CALL_PS + copy_ps(64 * MIB)
    own = client(run)
    assert own["cache_hit_bytes"] == own["bytes_read"] == 64 * MIB
    assert own["rpc_read_bytes"] == 0


def test_a_read_overlaps_its_rpcs_and_copies() -> None:
    run = storage().run(io("read", size=64 * MIB))
    got = rpcs(run, "read")
    assert got["bytes"].tolist() == [4 * MIB] * 16
    last = int(got["done_ps"].max())
    assert run.ops()["end_ps"][0] == last + copy_ps(4 * MIB)
    assert client(run)["bytes_read"] == 64 * MIB


def test_a_read_ends_at_the_end_of_the_file() -> None:
    run = Storage(clients=2, servers=2).run(
        create(0),
        io("write", 0, size=5 * MIB + 5),
        io("fsync", 0),
        *then(0, 1),
        io("read", 1, size=20 * MIB),
        io("read", 0, size=20 * MIB, flags="direct"),
    )
    for rank in (0, 1):
        assert client(run, rank)["bytes_read"] == 5 * MIB + 5


def test_a_sequential_reader_is_read_ahead_of() -> None:
    rows = [io("read", size=MIB, offset=MIB * i) for i in range(64)]
    params = {"readahead_bytes": 32 * MIB, "readahead_whole_bytes": 0}
    ahead = storage(**params).run(*rows)
    own = client(ahead)
    assert own["readahead_bytes"] > 56 * MIB
    assert own["rpc_read_bytes"] == own["bytes_read"] == 64 * MIB
    alone = storage(readahead_bytes=0).run(*rows)
    assert client(alone)["readahead_bytes"] == 0
    assert kinds(alone).count("read") == 64
    assert sum(lengths(ahead)) < 0.7 * sum(lengths(alone))


def test_a_small_file_is_read_whole() -> None:
    rows = [io("read", size=4096, offset=MIB), io("read", size=4096, offset=0), io("read", size=2 * MIB)]
    run = storage(readahead_whole_bytes=4 * MIB).run(*rows)
    own = client(run)
    assert own["rpc_read_bytes"] == 2 * MIB
    assert own["cache_hit_bytes"] >= 2 * MIB - 4096


def test_a_random_reader_is_not_read_ahead_of() -> None:
    offsets = np.random.default_rng(1).permutation(64)
    rows = [io("read", size=4096, offset=int(i) * MIB) for i in offsets]
    run = storage().run(*rows, io("read", size=0, offset=64 * MIB))
    assert client(run)["rpc_read_bytes"] <= 64 * 4096 + 4 * MIB


@pytest.mark.parametrize("cache", [0, 4 * MIB, 16 * MIB])
def test_a_small_cache_reads_everything_once(cache: int) -> None:
    run = storage(cache_bytes=cache).run(io("read", size=64 * MIB), io("read", size=64 * MIB))
    own = client(run)
    assert own["bytes_read"] == 128 * MIB
    assert 128 * MIB - cache <= own["rpc_read_bytes"] <= 128 * MIB


def test_a_read_gets_on_without_any_room_in_the_cache() -> None:
    """What was there when it began is gone before the rest has come, again and again."""
    run = storage(cache_bytes=0, dirty_expire_ps=0).run(
        io("read", size=3 * MIB, offset=MIB),
        io("write", size=4096),
        io("write", size=5000, offset=MIB),
        io("read", size=4 * MIB),
        io("fsync"),
    )
    assert client(run)["bytes_read"] == 7 * MIB


# ---- locks


def test_readers_share_what_writers_take_from_one_another() -> None:
    two = Storage(clients=2, servers=1)
    readers = two.run(io("read", 0, 1, size=8 * MIB))
    assert kinds(readers).count("lock") == 2
    rows = [io("write", 0, 1, size=MIB, offset=2 * MIB * i, stride=MIB) for i in range(8)]
    writers = two.run(create(0, 1), *rows, io("fsync", 0, 1))
    assert kinds(writers).count("lock") > 4
    assert sum(client(writers, rank)["rpc_written_bytes"] for rank in (0, 1)) == 16 * MIB
    assert client(writers, 0)["lock_wait_ps"] > client(readers, 0)["lock_wait_ps"]


def test_a_reader_sees_what_another_has_not_sent_yet() -> None:
    run = Storage(clients=2, servers=1, params={"dirty_expire_ps": 0}).run(
        create(0),
        io("write", 0, size=MIB),
        *then(0, 1),
        io("read", 1, size=MIB),
    )
    assert client(run, 1)["bytes_read"] == MIB
    assert client(run, 0)["rpc_written_bytes"] == MIB
    assert rpcs(run, "write")["done_ps"][0] < rpcs(run, "read")["sent_ps"][0]


def test_a_group_shares_its_lock_until_it_closes() -> None:
    rows = [io("write", 0, 1, size=MIB, offset=2 * MIB * i, stride=MIB, flags="group") for i in range(8)]
    run = Storage(clients=2, servers=1).run(create(0, 1), *rows, io("fsync", 0, 1), io("close", 0, 1))
    assert kinds(run).count("lock") == 2


# ---- files


def test_a_file_that_is_not_there_is_refused() -> None:
    run = storage().run(
        create(), io("unlink"), io("read", size=MIB), io("write", size=MIB), io("fsync"), check=False
    )
    assert client(run)["refused"] == 3
    assert client(run)["bytes_written"] == client(run)["bytes_read"] == 0


def test_a_renamed_file_keeps_its_bytes() -> None:
    run = Storage(clients=2, servers=2).run(
        create(0, file="/a"),
        io("write", 0, file="/a", size=3 * MIB),
        io("rename", 0, file="/a", new_file="/b"),
        io("fsync", 0, file="/b"),
        *then(0, 1),
        io("read", 1, file="/b", size=3 * MIB),
        io("read", 0, file="/b", size=3 * MIB),
    )
    assert client(run, 0)["cache_hit_bytes"] == 3 * MIB
    assert client(run, 1)["bytes_read"] == 3 * MIB


def test_stat_asks_the_servers_of_all_objects() -> None:
    two = Storage(servers=2, layouts=[(0, 0, 0, -1, MIB, 2, -1, 0)])
    run = two.run(create(), io("write", size=3 * MIB), io("stat"))
    assert kinds(run).count("glimpse") == 2
    stat = int(run.ops()["start_ps"][2])
    assert set(rpcs(run, "glimpse")["sent_ps"]) | set(rpcs(run, "stat")["sent_ps"]) == {stat}


# ---- the client's bus


def test_the_bus_of_a_client_is_one() -> None:
    slow = storage(client_mbps=8_000)  # a byte a nanosecond
    run = slow.run(
        create(), io("write", size=32 * MIB, flags="direct"), io("read", size=32 * MIB, flags="direct")
    )
    _, write, read = lengths(run)
    for took in (write, read):
        assert 32 * MIB * 1000 < took < 32 * MIB * 1000 + 2 * 4 * MIB * 1000


# ---- several operations at once


def test_streams_of_a_rank_go_on_beside_one_another() -> None:
    def row(kind: str, stream: int, **more: Any) -> dict[str, Any]:
        return {**io(kind, file=f"/{stream}", **more), "stream": stream}

    def rows(stream: int) -> list[dict[str, Any]]:
        return [
            row("open", stream, flags="create"),
            row("write", stream, size=16 * MIB),
            row("fsync", stream),
            row("read", stream, size=16 * MIB),
            row("unlink", stream),
        ]

    run = storage(max_dirty_bytes=8 * MIB).run(*rows(0), *rows(1), *rows(2))
    own = client(run)
    assert own["bytes_written"] == own["bytes_read"] == 48 * MIB
    assert own["max_dirty_bytes"] <= 8 * MIB


@pytest.mark.parametrize("impl", ["lustre", "beegfs", "weka", "local"])
def test_threads_change_nothing(impl: str) -> None:
    here = Storage(clients=3, servers=3, impl=impl)
    rows = [io("write", 0, 1, 2, size=MIB, offset=3 * MIB * i, stride=MIB) for i in range(4)]
    rows = [
        create(0, 1, 2),
        *rows,
        io("fsync", 0, 1, 2),
        io("read", 0, 1, 2, size=12 * MIB),
        io("stat", 0, 1, 2),
    ]
    runs = [here.run(*rows, threads=threads) for threads in (1, 2, 3)]
    assert len({run.digest for run in runs}) == 1
    for run in runs[1:]:
        assert all(np.array_equal(run.rpcs()[name], column) for name, column in runs[0].rpcs().items())
    if impl != "local":
        assert sum(client(runs[0], rank)["bytes_read"] for rank in range(3)) == 36 * MIB


# ---- servers that fail

FAILING = {
    "timeout_ps": 2 * S,
    "reconnect_ps": S,
    "recovery_soft_ps": 10 * S,
    "recovery_hard_ps": 30 * S,
}


@pytest.mark.parametrize("partners", [[], [1, 0]])
@pytest.mark.parametrize("flags", [None, "direct"])
def test_nothing_is_lost_when_a_server_fails(partners: list[int], flags: str | None) -> None:
    here = Storage(servers=2, partners=partners, params=FAILING, failures=[(S // 50, 0, 3 * S)])
    more = {"flags": flags} if flags else {}
    run = here.run(
        create(), io("write", size=512 * MIB, **more), io("fsync"), io("read", size=512 * MIB, **more)
    )
    own = client(run)
    assert own["resent"] > 0
    assert own["lost_dirty_bytes"] == own["evictions"] == 0
    assert own["bytes_read"] == 512 * MIB
    assert 3 * S < run.ops()["end_ps"][2] < 7 * S


def test_a_client_that_comes_too_late_is_evicted() -> None:
    params = {**FAILING, "recovery_soft_ps": S // 2, "recovery_hard_ps": S}
    here = Storage(servers=2, params=params, failures=[(S // 50, 0, S)])
    run = here.run(create(), io("write", size=512 * MIB), io("fsync"), io("write", size=8 * MIB), io("fsync"))
    own = client(run)
    assert own["evictions"] == 1
    assert 0 < own["lost_dirty_bytes"] <= 512 * MIB
    assert own["failed"] == 1  # the first fsync, which would not have known of the loss otherwise


@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize("flags", [None, "direct"])
def test_what_an_evicted_client_waits_for_fails(kind: str, flags: str | None) -> None:
    params = {**FAILING, "recovery_soft_ps": S // 20, "recovery_hard_ps": S // 20}
    here = Storage(params=params, failures=[(S // 50, 0, S // 40)])
    run = here.run(
        io(kind, size=512 * MIB, flags=flags), io("fsync"), io("read", offset=0, size=MIB), bytes=[512 * MIB]
    )
    own = client(run)
    assert own["evictions"] == 1
    # of a direct write some was answered and not committed: the fsync tells of that
    assert own["failed"] == (2 if (kind, flags) == ("write", "direct") else 1)
    assert own["refused"] == 0
    if kind == "read":
        assert MIB <= own["bytes_read"] < 512 * MIB  # a direct read counts whole or not at all


def test_locks_outlive_a_failure() -> None:
    here = Storage(clients=2, servers=1, params=FAILING, failures=[(S, 0, 2 * S)])
    run = here.run(
        create(0),
        io("write", 0, size=8 * MIB),
        io("fsync", 0),
        wait(0, S),
        io("write", 0, size=MIB),
        io("fsync", 0),
        *then(0, 1),
        io("read", 1, size=8 * MIB),
        *then(1, 0),
        io("read", 0, size=8 * MIB),
    )
    assert client(run, 1)["bytes_read"] == 8 * MIB
    assert client(run, 0)["evictions"] == 0


def test_a_client_that_comes_after_a_failure_finds_the_server() -> None:
    here = Storage(servers=2, partners=[1, 0], params=FAILING, failures=[(S, 0, 2 * S)])
    run = here.run(wait(0, 5 * S), create(), io("write", size=MIB), io("fsync"))
    assert client(run)["resent"] == 0


def test_rates_of_the_fabric_bound_a_stream() -> None:
    here = storage()
    here.rate_mbps = 10 * GBPS
    run = here.run(create(), io("write", size=64 * MIB), io("fsync"))
    took = int(run.ops()["end_ps"][2] - run.ops()["start_ps"][1])
    assert 64 * MIB * 800 < took < 1.25 * 64 * MIB * 800
