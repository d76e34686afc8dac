"""Servers that fail: nothing is lost, replays keep their order, the window ends early, the late are told."""

import random
from itertools import pairwise

import numpy as np
import pytest
from engine_worlds import GBPS
from store_worlds import Storage, create, io, kinds, wait

from fabricsim._core import engine

MIB = 1 << 20
S = 10**12
MS = 10**9

FAILING = {
    "timeout_ps": 200 * MS,
    "reconnect_ps": 50 * MS,
    "recovery_soft_ps": 20 * S,
    "recovery_hard_ps": 60 * S,
    "commit_ps": 500 * MS,
}


def barrier(*ranks):
    return {"kind": "barrier", "ranks": list(ranks), "stream": 0}


def column(run, kind, name, **where):
    rows = run.rpcs()
    keep = rows["kind"] == engine.RPC_KINDS.index(kind)
    for key, value in where.items():
        keep &= rows[key] == value
    return rows[name][keep]


def cluster(clients, *failures, partners=(1, 0), **more):
    more = {"clients": clients, "servers": 2, "partners": partners, "params": FAILING, **more}
    return Storage(failures=failures, **more)


def write_all(clients, size, file="/f.{rank}"):
    ranks = range(clients)
    return [
        *[create(r, file=file) for r in ranks],
        *[io("write", r, file=file, size=size, offset=0) for r in ranks],
    ]


@pytest.mark.parametrize("up_ps", [30 * MS, 300 * MS, S])
@pytest.mark.parametrize("server", [0, 2])
def test_no_request_is_lost(server, up_ps):
    """A data server or the metadata server fails at different moments of the same work."""
    clients, size = 3, 24 * MIB
    work = [
        *write_all(clients, size),
        io("fsync", *range(clients), file="/f.{rank}"),
        barrier(*range(clients)),
    ]
    work += [io("read", r, file=f"/f.{(r + 1) % clients}", size=size, offset=0) for r in range(clients)]
    for when_ps in (MS // 10, MS // 3, 3 * MS, 10 * MS):
        run = cluster(clients, (when_ps, server, when_ps + up_ps)).run(*work)
        told = run.clients()
        assert told["refused"].sum() == told["evictions"].sum() == told["lost_dirty_bytes"].sum() == 0
        assert told["bytes_read"].tolist() == [size] * clients
        assert told["bytes_written"].tolist() == [size] * clients
        assert run.servers()["failures"][server] == 1


def test_what_was_not_committed_is_sent_again():
    """Answered, but of no commit when the server fails: all of it, and nothing that was committed before."""
    size = 32 * MIB
    work = [create(file="/f"), io("write", file="/f", size=size, offset=0), io("fsync", file="/f")]
    work += [io("write", file="/f", size=size, offset=size), wait(0, 2 * S)]
    begin = cluster(1).run(*work, check=False).ops()["end_ps"][3]
    run = cluster(1, (int(begin) + 100 * MS, 0, int(begin) + 200 * MS)).run(*work)
    assert run.clients()["resent"].tolist() == [size // (4 * MIB) + 1]  # and the lock
    assert run.clients()["lost_dirty_bytes"].tolist() == [0]
    assert run.targets()["bytes_written"].tolist()[0] == 3 * size


def test_replays_of_several_clients_keep_their_order():
    clients = 4
    work = [create(*range(clients), file="/d/all")]
    work += [create(r, file=f"/d/{k}.{{rank}}") for k in range(6) for r in range(clients)]
    work += [wait(r, S) for r in range(clients)]
    work += [io("stat", r, file=f"/d/{k}.{{rank}}") for k in range(6) for r in range(clients)]
    run = cluster(clients, (50 * MS, 2, 100 * MS)).run(*work)
    assert run.clients()["refused"].sum() == 0
    assert run.clients()["resent"].sum() == clients * 6 + 1
    assert run.servers()["changes"].tolist()[2] == clients * 6 + 1


def test_names_are_those_that_were_committed_and_replayed():
    """Created, removed and made anew, renamed: all undone by the failure, and done again in that order."""
    work = [
        io("mkdir", file="/d"),
        create(file="/d/a"),
        io("unlink", file="/d/a"),
        create(file="/d/a"),
        io("write", file="/d/a", size=MIB, offset=0),
        io("fsync", file="/d/a"),
        io("rename", file="/d/a", new_file="/d/b"),
        io("open", file="/d/a", flags="create,excl"),
        wait(0, S),
        io("stat", file="/d/a"),
        io("stat", file="/d/b"),
        io("unlink", file="/d/a"),
        io("open", file="/d/a", flags="create,excl"),
    ]
    calm, hit = cluster(1).run(*work), cluster(1, (50 * MS, 2, 100 * MS)).run(*work)
    for run in (calm, hit):
        assert run.clients()["refused"].tolist() == [0]
    assert hit.clients()["resent"].tolist() == [6]


def test_the_window_ends_with_the_last_client():
    """An idle client comes by itself; so nobody waits for the end of the window."""
    run = cluster(2, (50 * MS, 0, 100 * MS)).run(
        create(0, 1),
        io("write", 0, size=MIB, offset=0),
        io("write", 1, size=MIB, offset=8 * MIB),
        wait(0, 60 * MS),
        io("write", 0, size=64 * MIB, offset=16 * MIB),
        io("fsync", 0),
    )
    assert kinds(run, server=0).count("connect") == 2
    # both notice by their time-outs
    assert S // 4 < run.ops()["end_ps"].max() < S
    assert run.clients()["evictions"].tolist() == [0, 0]


def test_who_comes_too_late_is_evicted_and_told():
    params = {**FAILING, "recovery_soft_ps": 100 * MS, "recovery_hard_ps": 150 * MS}
    late = cluster(1, (20 * MS, 0, 30 * MS), params=params)
    size = 512 * MIB
    run = late.run(
        create(), io("write", size=size, offset=0), io("fsync"), io("write", size=MIB, offset=0), io("fsync")
    )
    told = run.clients()
    assert told["evictions"].tolist() == [1]
    assert 0 < told["lost_dirty_bytes"][0] <= size
    # what it lost it has not written; what came after it has
    assert kinds(run, server=0).count("connect") == 1


def test_locks_come_back_and_still_keep_others_out():
    size = 4 * MIB
    run = cluster(2, (50 * MS, 0, 100 * MS)).run(
        create(0, 1),
        io("write", 0, size=size, offset=0),
        io("fsync", 0),
        wait(0, 90 * MS),
        wait(1, 900 * MS),
        io("write", 0, size=size, offset=0),
        io("read", 1, size=size, offset=0),
    )
    locks = column(run, "lock", "done_ps", rank=0)
    assert len(locks) == 2  # once asked for, once replayed
    assert run.clients()["bytes_read"].tolist() == [0, size]


def test_failures_one_after_another():
    """The pair fails in turns: to the partner and back."""
    size = 256 * MIB
    failures = [(20 * MS, 0, 100 * MS), (S, 0, 1100 * MS), (2 * S, 1, 2100 * MS)]
    work = [*write_all(2, size), io("fsync", 0, 1, file="/f.{rank}"), *[wait(r, S) for r in (0, 1)]]
    work += [io("write", r, file="/f.{rank}", size=size, offset=size) for r in (0, 1)]
    work += [io("fsync", 0, 1, file="/f.{rank}")]
    run = cluster(2, *failures).run(*work)
    assert run.servers()["failures"].tolist() == [2, 1, 0]
    assert run.clients()["lost_dirty_bytes"].sum() == run.clients()["evictions"].sum() == 0
    assert (run.targets()["bytes_written"][:2] >= 2 * size).all()


def test_a_metadata_server_with_a_partner():
    world = cluster(3, (20 * MS, 2, 60 * MS), metas=2, meta_partners=(3, 2))
    work = [create(r, file=f"/d/{k}.{{rank}}") for k in range(300) for r in range(3)]
    run = world.run(*work, stripes=2)
    assert run.clients()["refused"].sum() == run.clients()["evictions"].sum() == 0
    assert run.servers()["changes"][2:].sum() == len(work)
    gaps = [b - a for a, b in pairwise(np.sort(column(run, "open", "done_ps")))]
    assert max(gaps) > 40 * MS


def random_work(dice, clients):
    """Writes of all kinds, reads, renames across directories, pauses; in the end all is made safe."""
    names = ["/d/own.{rank}", "/d/all", "/e/own.{rank}"]
    work = []
    for k in range(dice.randint(1, 12)):
        ranks = sorted(dice.sample(range(clients), dice.randint(1, clients)))
        name, size, at = (
            dice.choice(names),
            dice.choice([1000, 100_000, MIB, 20 * MIB]),
            dice.randrange(40) * MIB,
        )
        kind = dice.choice(["write", "write", "direct", "group", "read", "fsync", "stat", "wait", "rename"])
        work.append(create(*ranks, file=name))
        if kind == "wait":
            work += [wait(r, int(10 ** dice.uniform(7, 11.7))) for r in ranks]
        elif kind == "rename":
            for r in ranks:
                old, new = f"/{dice.choice('de')}/tmp{k}.{r}", f"/{dice.choice('de')}/done{k}.{r}"
                work += [create(r, file=old), io("write", r, file=old, size=size, offset=0)]
                work += [io("fsync", r, file=old), io("rename", r, file=old, new_file=new)]
                work += [io("stat", r, file=new)]
        elif kind in ("fsync", "stat"):
            work.append(io(kind, *ranks, file=name))
        else:
            flags = {"flags": kind} if kind in ("direct", "group") else {}
            kind = "write" if flags else kind
            work.append(io(kind, *ranks, file=name, size=size, offset=at, stride=size, **flags))
    for name in names:
        work += [create(*range(clients), file=name), io("fsync", *range(clients), file=name)]
    return work


@pytest.mark.parametrize("seed", range(24))
def test_anything_may_fail_at_any_time(seed):
    dice = random.Random(seed)
    clients, servers, metas = dice.randint(1, 5), dice.randint(1, 3), dice.randint(1, 3)
    failures = []
    for server in range(servers + metas):
        at_ps = 0
        while dice.random() < 0.5:
            at_ps += int(10 ** dice.uniform(7.5, 12))
            failures.append((at_ps, server, at_ps + int(10 ** dice.uniform(8, 12))))
            at_ps = failures[-1][2]
    world = Storage(
        clients=clients,
        servers=servers,
        metas=metas,
        targets_per_server=dice.randint(1, 3),
        partners=[(s + 1) % servers if servers > 1 else -1 for s in range(servers)],
        meta_partners=[servers + (m + 1) % metas if metas > 1 else -1 for m in range(metas)],
        failures=failures,
        params={
            **FAILING,
            "stripe_count": dice.randint(1, 4),
            "commit_ps": dice.choice([0, MS, 500 * MS, 5 * S]),
            "dom_bytes": dice.choice([0, 65536]),
        },
    )
    run = world.run(*random_work(dice, clients), stripes=dice.choice([1, metas]), threads=1 + seed % 3)
    told = run.clients()
    assert told["refused"].sum() == told["evictions"].sum() == told["lost_dirty_bytes"].sum() == 0


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    def run(n):
        failures = [(20 * MS, 0, 100 * MS), (25 * MS, 2, 200 * MS), (S, 0, 1200 * MS)]
        size = 64 * MIB
        work = [
            *write_all(4, size),
            io("fsync", *range(4), file="/f.{rank}"),
            *[wait(r, S) for r in range(4)],
        ]
        work += [
            io("write", r, file="/all", size=MIB, offset=(4 * k + r) * MIB)
            for k in range(4)
            for r in range(4)
        ]
        work += [io("fsync", *range(4), file="/all")]
        world = cluster(4, *failures, metas=2, rate_mbps=50 * GBPS)
        return world.run(*work, threads=n)

    one, many = run(1), run(threads)
    assert one.digest == many.digest
    for name, values in one.rpcs().items():
        assert (values == many.rpcs()[name]).all(), name
