"""Extent locks over the whole path: who asks how often, what is called back, and what it costs."""

import pytest
from store_worlds import Storage, create, io, kinds

KIB = 1 << 10
MIB = 1 << 20


def span_ps(run):
    return int(run.ops()["end_ps"].max())


def written_ps(run):
    """When the last write was in a cache: before what makes it safe."""
    ops = run.ops()
    return int(ops["end_ps"][ops["row"] < ops["row"].max()].max())


def count(run, kind):
    return kinds(run).count(kind)


def barrier(*ranks):
    return {"kind": "barrier", "ranks": list(ranks), "stream": 0}


def shared(clients, calls, size, *, strided, flags=None, **world):
    """Clients write one file: each its own part of it, or in turns; then all is made safe."""
    more = {} if flags is None else {"flags": flags}
    trace = [create(*range(clients))]
    for k in range(calls):
        for r in range(clients):
            at = (k * clients + r) * size if strided else (r * calls + k) * size
            trace.append(io("write", r, size=size, offset=at, **more))
    trace += [io("fsync", *range(clients))]
    return Storage(clients=clients, **world).run(*trace)


def test_the_first_writer_gets_the_whole_object():
    run = Storage().run(create(), *[io("write", size=MIB, offset=k * MIB) for k in range(16)])
    assert count(run, "lock") == 1


def test_one_lock_for_each_object():
    run = Storage(servers=4, params={"stripe_count": 4}).run(
        create(), *[io("write", size=MIB, offset=k * MIB) for k in range(16)]
    )
    assert count(run, "lock") == 4


def test_readers_share():
    clients = 4
    reads = [io("read", r, size=2 * MIB, offset=0) for _ in range(2) for r in range(clients)]
    run = Storage(clients=clients).run(*reads)
    assert count(run, "lock") == clients
    assert run.clients()["cache_hit_bytes"].tolist() == [2 * MIB] * clients
    assert run.clients()["lock_wait_ps"].max() < 30_000_000  # never waits for another


def test_a_reader_sees_what_another_wrote():
    size = 8 * MIB
    run = Storage(clients=2).run(
        create(0, 1), io("write", 0, size=size, offset=0), barrier(0, 1), io("read", 1, size=size, offset=0)
    )
    assert run.clients()["bytes_read"].tolist() == [0, size]
    rpcs = run.rpcs()
    kind = kinds(run)
    written = [end for what, end in zip(kind, rpcs["done_ps"], strict=True) if what == "write"]
    locks = [end for what, end in zip(kind, rpcs["done_ps"], strict=True) if what == "lock"]
    assert max(locks) > max(written)  # called back: the writer flushes first
    assert run.clients()["lock_wait_ps"][1] > run.clients()["lock_wait_ps"][0]


def test_segments_settle_and_turns_do_not():
    clients, calls, size = 4, 16, 256 * KIB
    segments = shared(clients, calls, size, strided=False)
    turns = shared(clients, calls, size, strided=True)
    assert clients <= count(segments, "lock") <= 4 * clients
    assert count(turns, "lock") > 2 * count(segments, "lock")
    assert turns.clients()["lock_wait_ps"].sum() > 2 * segments.clients()["lock_wait_ps"].sum()
    assert written_ps(turns) > 3 * written_ps(segments)
    for run in (segments, turns):
        assert run.targets()["bytes_written"].sum() == clients * calls * size


def test_a_group_writes_in_turns_without_waiting():
    clients, calls, size = 4, 16, 256 * KIB
    turns = shared(clients, calls, size, strided=True)
    group = shared(clients, calls, size, strided=True, flags="group")
    assert count(group, "lock") == clients
    assert written_ps(group) < written_ps(turns) / 3


def test_without_locks_nobody_asks():
    run = shared(4, 8, 256 * KIB, strided=True, params={"locks": 0})
    assert count(run, "lock") == 0


def test_a_glimpse_for_each_object():
    run = Storage(servers=2, targets_per_server=2, params={"stripe_count": 4}).run(
        create(), io("write", size=8 * MIB, offset=0), io("fsync"), io("stat")
    )
    assert count(run, "glimpse") == 4


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    def digest(n):
        trace = [create(*range(5))]
        trace += [
            io("write", r, size=300_000, offset=(5 * k + r) * 300_000) for k in range(6) for r in range(5)
        ]
        trace += [io("read", r, size=MIB, offset=r * MIB // 2) for r in range(5)]
        return Storage(clients=5, servers=2, params={"stripe_count": 2}).run(*trace, threads=n).digest

    assert digest(threads) == digest(1)
