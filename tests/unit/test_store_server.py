"""Data servers and targets on the whole path: what bounds them, queues, journal, shards, conservation."""

import numpy as np
import pytest
from engine_worlds import GBPS, US
from store_worlds import Storage, create, io

from fabricsim._core import engine

KIB, MIB = 1 << 10, 1 << 20
CHUNK = 512 * KIB


def takes(size, rate_mbps):
    """Time of bytes at a rate, in ps, rounded up."""
    return -(-size * 8_000_000 // rate_mbps)


def only(run, kind):
    """The RPCs of a kind, ordered by when their server answered."""
    rows = run.rpcs()
    rows = {name: values[rows["kind"] == engine.RPC_KINDS.index(kind)] for name, values in rows.items()}
    order = np.argsort(rows["served_ps"], kind="stable")
    return {name: values[order] for name, values in rows.items()}


class Lossless(Storage):
    """With pauses on its links: reads of many servers meet at a client's."""

    def model(self, **options):
        return super().model(settings=[("link", "pause", {})], **options)


def one_server(**params):
    """A server with one target; data comes in the requests, so that only the server takes time after."""
    target = params.pop("target_params", {})
    clients = params.pop("clients", 1)
    slow = params.pop("slow", ())
    name = params.pop("target", "flash")
    params = {"short_io_bytes": MIB, "rpc_cpu_ps": 30 * US, **params}
    return Storage(
        clients=clients, impl="beegfs", params=params, target=name, target_params=target, slow=slow
    )


# ---- one RPC


def test_a_write_takes_processor_bus_checksum_and_target():
    storage = one_server(server_mbps=80_000, checksum_mbps=20_000, target_params={"write_mbps": 10_000})
    row = only(storage.run(create(), io("write", size=CHUNK, offset=0)), "write")
    assert row["began_ps"][0] == row["queued_ps"][0]
    assert row["target_ps"][0] - row["began_ps"][0] == 30 * US + takes(CHUNK, 80_000) + takes(CHUNK, 20_000)
    assert row["served_ps"][0] - row["target_ps"][0] == 20 * US + takes(CHUNK, 10_000)


def test_a_read_takes_them_in_the_other_order():
    storage = one_server(server_mbps=80_000, checksum_mbps=20_000, target_params={"read_mbps": 10_000})
    row = only(storage.run(io("read", size=CHUNK, offset=0)), "read")
    assert row["target_ps"][0] - row["began_ps"][0] == 30 * US
    rest = 80 * US + takes(CHUNK, 10_000) + takes(CHUNK, 80_000) + takes(CHUNK, 20_000)
    assert row["served_ps"][0] - row["target_ps"][0] == rest


def test_large_data_is_pulled_in_fragments():
    """A pull to the client and the data back: a round trip and the bytes on the wire are added."""
    pulled = one_server(short_io_bytes=0, fragment_bytes=128 * KIB)
    run = pulled.run(create(), io("write", size=CHUNK, offset=0))
    row = only(run, "write")
    waited = row["target_ps"][0] - row["began_ps"][0] - 30 * US
    wire = takes(CHUNK, 100 * GBPS)
    assert 4 * US + wire < waited < 4 * US + 1.1 * wire + 2 * US
    # open, its reply; request, pull, four fragments, reply
    assert run.counters()["messages"] == 2 + 1 + 1 + 4 + 1


def test_a_read_is_answered_after_all_its_fragments_are_acknowledged():
    storage = one_server(short_io_bytes=0, fragment_bytes=128 * KIB)
    row = only(storage.run(io("read", size=CHUNK, offset=0)), "read")
    pushed = row["served_ps"][0] - row["target_ps"][0] - 80 * US - takes(CHUNK, 56_000)
    wire = takes(CHUNK, 100 * GBPS)
    assert 4 * US + wire < pushed < 4 * US + 1.1 * wire + 2 * US


def test_a_read_ends_with_its_object():
    run = one_server().run(create(), io("write", size=100_000, offset=0), io("read", size=MIB, offset=50_000))
    assert run.targets()["bytes_read"].sum() == 50_000
    assert run.clients()["bytes_read"].sum() == 50_000


def test_a_read_of_nothing_does_not_touch_the_target():
    run = one_server().run(create(), io("write", size=1000, offset=0), io("read", size=MIB, offset=5000))
    assert run.targets()["rpcs"].sum() == 1
    assert run.clients()["bytes_read"].sum() == 0


# ---- what bounds many


def many(storage, count=40, **more):
    return storage.run(create(), io("write", size=count * CHUNK, offset=0), **more)


def test_bound_by_the_target():
    rows = only(many(one_server(target_params={"write_mbps": 8_000})), "write")
    assert len(rows["bytes"]) == 40
    assert rows["served_ps"][-1] - rows["target_ps"].min() == 20 * US + 40 * takes(CHUNK, 8_000)
    assert (np.diff(rows["served_ps"]) == takes(CHUNK, 8_000)).all()


def test_bound_by_the_bus():
    rows = only(many(one_server(server_mbps=8_000)), "write")
    assert (np.diff(np.sort(rows["target_ps"])) == takes(CHUNK, 8_000)).all()


def test_reads_and_writes_share_the_bus():
    storage = one_server(server_mbps=8_000, clients=2)
    run = storage.run(
        create(0),
        io("write", 0, size=20 * CHUNK, offset=0),
        io("read", 1, file="/g", size=20 * CHUNK, offset=0),
    )
    writes, reads = only(run, "write"), only(run, "read")
    crossed = np.sort(np.concatenate([writes["target_ps"], reads["served_ps"]]))
    assert len(crossed) == 40
    assert (np.diff(crossed[4:]) == takes(CHUNK, 8_000)).all()


def test_bound_by_threads():
    rows = only(many(one_server(threads_count=1)), "write")
    assert (rows["began_ps"][1:] == rows["served_ps"][:-1]).all()
    held = 30 * US + 20 * US + takes(CHUNK, 40_000)
    assert (rows["served_ps"] - rows["began_ps"] == held).all()


def test_checksums_are_bound_by_threads_alone():
    """Two threads checksum side by side."""
    fast = {"write_mbps": 1_000_000, "write_latency_ps": 0}
    rows = only(many(one_server(threads_count=2, checksum_mbps=8_000, target_params=fast)), "write")
    span = rows["served_ps"][-1] - rows["began_ps"].min()
    each = 30 * US + takes(CHUNK, 8_000) + takes(CHUNK, 1_000_000)
    assert 20 * each <= span < 21 * each


def test_bound_by_the_link_of_the_server():
    storage = one_server(clients=4, short_io_bytes=0, rpcs_in_flight_count=4)
    storage.target_params = {"write_mbps": 1_000_000}
    ranks = range(4)
    run = storage.run(
        create(*ranks, file="/f{rank}"), io("write", *ranks, file="/f{rank}", size=16 * CHUNK, offset=0)
    )
    rows = only(run, "write")
    rate = rows["bytes"].sum() * 8e6 / (rows["target_ps"].max() - rows["sent_ps"].min())
    assert 0.93 * 100 * GBPS < rate < 100 * GBPS


def test_requests_wait_in_order():
    storage = one_server(clients=5, threads_count=2)
    run = storage.run(
        create(*range(5), file="/f{rank}"), io("write", *range(5), file="/f{rank}", size=8 * CHUNK, offset=0)
    )
    rows = only(run, "write")
    order = np.lexsort((rows["began_ps"], rows["queued_ps"]))
    assert (np.diff(rows["began_ps"][order]) >= 0).all()
    at_work = [((rows["began_ps"] <= t) & (rows["served_ps"] > t)).sum() for t in rows["began_ps"]]
    assert max(at_work) == 2
    targets = run.targets()
    assert targets["wait_ps"][0] == (rows["began_ps"] - rows["queued_ps"]).sum() > 0
    assert targets["service_ps"][0] == (rows["served_ps"] - rows["began_ps"]).sum()
    assert run.servers()["queue_max"][0] > 0


def test_two_targets_of_a_server_work_side_by_side():
    storage = one_server(target_params={"write_mbps": 8_000}, threads_count=64)
    storage.targets_per_server = 2
    run = many(storage)
    rows = only(run, "write")
    span = rows["served_ps"].max() - rows["target_ps"].min()
    assert 20 * takes(CHUNK, 8_000) < span < 22 * takes(CHUNK, 8_000)
    assert (run.targets()["bytes_written"][:2] == 20 * CHUNK).all()


# ---- targets


def slowed(begin, work, steps):
    """The end of work on a target that changes its rate: in the plainest way."""
    left, now, factor = work * 1_000_000, begin, 1_000_000
    for when, new in [*steps, (None, None)]:
        if when is not None and when <= now:
            factor = new
            continue
        if when is None or left <= (when - now) * factor:
            return now + -(-left // factor)
        left, now, factor = left - (when - now) * factor, when, new
    raise AssertionError


def test_a_target_that_slows_down_in_the_middle():
    steps = [(400 * US, 250_000), (900 * US, 600_000), (1500 * US, 1_000_000)]
    storage = one_server(target_params={"write_mbps": 8_000}, slow=[(when, 0, ppm) for when, ppm in steps])
    rows = only(many(storage, 4), "write")
    free = 0
    for submitted, served in zip(np.sort(rows["target_ps"]), rows["served_ps"], strict=True):
        free = slowed(max(int(submitted) + 20 * US, free), takes(CHUNK, 8_000), steps)
        assert served == free
    assert rows["target_ps"].min() < 400 * US < 1500 * US < free


def test_only_the_slow_target_is_slow():
    storage = one_server(target_params={"write_mbps": 8_000}, slow=[(0, 1, 100_000)], threads_count=64)
    storage.targets_per_server = 2
    rows = only(many(storage), "write")
    last = [rows["served_ps"][rows["target"] == t].max() for t in range(2)]
    assert last[1] > 8 * last[0]


def test_disks_seek_between_files():
    """Two readers of one array: every operation seeks; a reader alone goes on."""
    params = {"data_count": 8, "disk_mbps": 1600, "seek_ps": 8000 * US}
    alone = one_server(target="disk", target_params=params).run(io("read", size=16 * CHUNK, offset=0))
    stream = takes(CHUNK // 8, 1600)  # half a stripe of 1 MiB lies on half of the disks
    assert alone.targets()["busy_ps"][0] == 8000 * US + 16 * 2 * stream
    both = one_server(target="disk", target_params=params, clients=2, rpcs_in_flight_count=1)
    run = both.run(
        io("read", 0, size=16 * CHUNK, offset=0), io("read", 1, file="/g", size=16 * CHUNK, offset=0)
    )
    rows = only(run, "read")
    seeks = 1 + (np.diff(rows["file"]) != 0).sum()
    assert seeks == 32
    assert run.targets()["busy_ps"][0] == seeks * 8000 * US + 32 * 2 * stream


def test_busy_time_is_when_something_is_under_way():
    run = many(one_server(target_params={"write_mbps": 8_000}))
    rows = only(run, "write")
    assert run.targets()["busy_ps"][0] == rows["served_ps"].max() - rows["target_ps"].min()
    assert run.targets()["queue_max"][0] == 12


# ---- the journal


COST = 700 * US


def synced(*rows, **params):
    return one_server(commit_cost_ps=COST, **params).run(*rows)


def test_an_fsync_waits_for_a_commit():
    rows = only(synced(create(), io("write", size=CHUNK, offset=0), io("fsync")), "sync")
    assert (rows["served_ps"] - rows["began_ps"]).tolist() == [30 * US + COST]


def test_a_second_fsync_finds_nothing_to_commit():
    run = synced(create(), io("write", size=CHUNK, offset=0), io("fsync"), io("fsync"))
    rows = only(run, "sync")
    assert (rows["served_ps"] - rows["began_ps"]).tolist()[0] == 30 * US + COST
    assert (rows["served_ps"] - rows["began_ps"]).tolist()[1:] in ([], [30 * US])


def test_fsyncs_share_a_commit_or_wait_for_the_next():
    """Rank 0 forces a commit; what others write meanwhile waits for the next, and shares that."""
    ranks = range(1, 4)
    run = synced(
        create(0),
        io("write", 0, size=CHUNK, offset=0),
        io("fsync", 0),
        create(*ranks, file="/g{rank}"),
        io("write", *ranks, file="/g{rank}", size=4 * KIB, offset=0, delay_ps=400 * US),
        io("fsync", *ranks, file="/g{rank}"),
        clients=4,
    )
    rows = only(run, "sync")
    assert len(rows["served_ps"]) == 4
    ends = np.unique(rows["served_ps"])
    assert len(ends) == 2 and ends[1] - ends[0] == COST


def test_everything_is_committed_after_the_interval():
    run = many(one_server(commit_ps=1000 * US))
    servers = run.servers()
    assert servers["changes"][0] == servers["committed"][0] == 40
    assert run.counters()["now_ps"] >= only(run, "write")["served_ps"].min() + 1000 * US


# ---- shards


def weka(**more):
    return Storage(**{"impl": "weka", "servers": 12, "metas": 0, "clients": 2, **more})


def test_shards_carry_data_and_parity_to_their_servers():
    run = weka(params={"data_count": 8, "parity_count": 2}).run(
        create(), io("write", size=32 * MIB, offset=0)
    )
    targets = run.targets()
    assert targets["bytes_written"].sum() == 32 * MIB * 10 // 8
    assert targets["rpcs"].sum() == 32 * 10
    assert (targets["bytes_written"] > 0).all()
    servers = run.servers()
    assert servers["changes"].sum() == servers["committed"].sum() == 32 + 1  # and the file's making


def test_shards_travel_on_the_fabric():
    storage = weka(params={"data_count": 8, "parity_count": 2})
    links = storage.run(create(), io("write", size=32 * MIB, offset=0)).links()
    from_client, to_client = links["bytes"][0:2]
    from_servers = links["bytes"][4::2][:12].sum()
    assert 32 * MIB < from_client < 1.1 * 32 * MIB
    assert to_client < MIB
    # a tenth of them and less stays at home
    assert 0.85 * 1.25 * 32 * MIB < from_servers < 1.1 * 1.25 * 32 * MIB


def test_a_piece_is_stored_when_its_slowest_shard_is():
    fast = only(weka().run(create(), io("write", size=MIB, offset=0)), "write")
    slow = only(
        weka(slow=[(0, t, 10_000) for t in range(12)]).run(create(), io("write", size=MIB, offset=0)), "write"
    )
    shard = takes(128 * KIB, 40_000)
    stored = slow["served_ps"][0] - fast["served_ps"][0]
    assert stored == 100 * shard - shard


def test_reads_go_to_the_owners_and_find_all():
    write = io("write", 0, 1, size=5 * MIB, offset=0, stride=5 * MIB)
    run = weka().run(create(0, 1), write, io("read", 1, size=10 * MIB, offset=0, delay_ps=10_000 * US))
    assert run.targets()["bytes_read"].sum() == 10 * MIB
    assert run.clients()["bytes_read"].sum() == 10 * MIB
    assert len(only(run, "read")["bytes"]) == 80


def test_ten_cores_of_a_client():
    """The row that the rate of a core is calibrated on: 34,569 MiB/s."""
    params = {"cores_count": 10, "rpcs_in_flight_count": 32}
    storage = Lossless(servers=16, metas=0, impl="weka", rate_mbps=400 * GBPS, params=params)
    run = storage.run(io("read", size=256 * MIB, offset=0))
    rows = only(run, "read")
    rate = 256 / ((rows["done_ps"].max() - rows["sent_ps"].min()) * 1e-12)
    assert rate == pytest.approx(34_569, rel=0.05)


# ---- node-local


def test_local_clients_share_nothing():
    storage = Storage(clients=2, servers=0, metas=0, impl="local", params={"cache": 0})
    both = storage.run(
        create(0, 1, file="/f{rank}"), io("write", 0, 1, file="/f{rank}", size=32 * MIB, offset=0)
    )
    one = storage.run(create(0, file="/f{rank}"), io("write", 0, file="/f{rank}", size=32 * MIB, offset=0))
    assert both.ops()["end_ps"].max() == one.ops()["end_ps"].max()
    assert both.counters()["packets"] == 0
    assert (both.targets()["bytes_written"] == 32 * MIB).all()


# ---- conservation and determinism


WORLDS = {
    "lustre": Storage(clients=3, servers=2, targets_per_server=2, params={"stripe_count": 3}),
    "beegfs": Storage(clients=3, servers=2, targets_per_server=2, impl="beegfs"),
    "weka": weka(clients=3, servers=7, targets_per_server=2),
    "local": Storage(clients=3, servers=0, metas=0, impl="local", params={"cache": 0}),
    "disks": Storage(clients=3, servers=2, impl="beegfs", target="disk"),
}
SIZES = [1, 4096, 100_000, 3 * MIB + 17]


def mixed():
    ranks = range(3)
    rows = [create(*ranks, file="/{rank}")]
    at = 0
    for size in SIZES:
        rows.append(io("write", *ranks, file="/{rank}", size=size, offset=at))
        at += size
    rows.append(io("fsync", *ranks, file="/{rank}"))
    rows.append(io("read", *ranks, file="/{rank}", size=at, offset=0))
    rows.append(io("read", *ranks, file="/shared", size=2 * MIB, offset=0, stride=2 * MIB))
    return rows


@pytest.mark.parametrize("name", WORLDS)
def test_every_byte_written_is_read_back(name):
    run = WORLDS[name].run(*mixed())
    clients = run.clients()
    assert (clients["bytes_written"] == sum(SIZES)).all()
    assert (clients["bytes_read"] == sum(SIZES) + 2 * MIB).all()
    targets = run.targets()
    assert targets["bytes_read"].sum() == clients["rpc_read_bytes"].sum()
    if name != "lustre":
        assert targets["bytes_read"].sum() == clients["bytes_read"].sum()
    if name == "weka":
        assert targets["bytes_written"].sum() >= 1.25 * clients["bytes_written"].sum()
    else:
        assert targets["bytes_written"].sum() == clients["bytes_written"].sum()


@pytest.mark.parametrize("name", WORLDS)
def test_threads_do_not_change_a_digest(name):
    digests = {WORLDS[name].run(*mixed(), threads=threads).digest for threads in (1, 2, 3)}
    digests.add(WORLDS[name].run(*mixed(), plain=True).digest)
    assert len(digests) == 1


def test_slow_servers_that_shard_do_not_fail():
    from fabricsim.errors import ConfigError

    with pytest.raises(ConfigError, match="servers of weka do not fail by themselves"):
        weka(failures=[(US, 0, 10**9)]).model()


def test_a_slow_backend_slows_all_of_a_parity_store() -> None:
    """Each file is on all servers: one of them at a tenth of its rate keeps a write of many pieces up."""
    size = 64 << 20
    rows = [create(), io("write", size=size), io("fsync"), io("read", offset=0, size=size)]
    times = []
    for slow in ((), ((0, 2, 100_000),)):
        run = Storage(1, 7, 0, impl="weka", target_params={"write_mbps": 20_000}, slow=slow).run(*rows)
        assert run.clients()["bytes_read"].tolist() == [size]
        ops = run.ops()
        times.append(int(ops["end_ps"].max()))
    assert 1.5 * times[0] < times[1] < 12 * times[0]
