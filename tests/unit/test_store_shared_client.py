"""Ranks of a node that share a client: one cache, one window, one drive; calls go by messages."""

import pytest
from store_worlds import Storage, create, io, kinds, then

from fabricsim import Cluster
from fabricsim.errors import ConfigError, InputError

MIB = 1 << 20


def test_what_one_rank_wrote_another_reads_from_the_cache():
    rows = [create(0), io("write", 0, size=4 * MIB), *then(0, 1), create(1), io("read", 1, size=4 * MIB)]
    alone = Storage(clients=2).run(*rows)
    shared = Storage(clients=2).run(*rows, ranks_per_client=2)
    assert "read" in kinds(alone) and "read" not in kinds(shared)
    assert shared.clients()["rank"].tolist() == [0]
    assert shared.clients()["cache_hit_bytes"].tolist() == [4 * MIB]
    assert shared.clients()["bytes_read"].tolist() == [4 * MIB]


def test_a_call_of_another_rank_costs_a_message_each_way():
    """64 bytes with headers on two links of 1 us, behind the acknowledgement of what came before."""
    rows = [create(1), io("stat", 1)]
    alone = Storage(clients=2).run(*rows).ops()["end_ps"]
    shared = Storage(clients=2).run(*rows, ranks_per_client=2).ops()["end_ps"]
    way = 2 * (1_000_000 + (64 + 82 + 16) * 80) + 86 * 80
    assert (shared - alone).tolist() == [2 * way, 4 * way]


def test_a_window_is_the_nodes():
    """Two ranks with a window of one call each, or of one together."""
    store = Storage(clients=2, params={"rpcs_in_flight_count": 1, "rpc_bytes": MIB})
    store.target_params = {"write_latency_ps": 5_000_000_000}
    rows = [create(0, 1, file="/{rank}"), io("write", 0, 1, file="/{rank}", size=8 * MIB, flags="direct")]
    alone, shared = (int(store.run(*rows, ranks_per_client=n).ops()["end_ps"].max()) for n in (1, 2))
    assert shared == pytest.approx(2 * alone, rel=0.05)


def test_a_node_has_one_drive():
    rows = [create(0), io("write", 0, size=MIB), io("fsync", 0), *then(0, 1), io("read", 1, size=MIB)]
    run = Storage(clients=4, servers=0, metas=0, impl="local").run(*rows, ranks_per_client=2)
    assert run.clients()["bytes_read"].sum() == MIB and run.clients()["refused"].sum() == 0


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    store = Storage(clients=6, servers=2)
    ranks = range(6)
    rows = [create(*ranks, file="/s"), io("write", *ranks, file="/s", size=MIB, stride=MIB)]
    rows += [io("fsync", *ranks, file="/s"), io("read", *ranks, file="/s", size=6 * MIB)]
    one = store.run(*rows, ranks_per_client=4)
    assert store.run(*rows, ranks_per_client=4, threads=threads).digest == one.digest


def test_a_negative_number_is_refused():
    with pytest.raises(InputError, match="ranks_per_client: found -1"):
        Storage(clients=2).start(create(0), ranks_per_client=-1)


def test_file_systems_of_a_cluster_agree():
    storage = [
        {"name": "a", "mount": "/a", "model": "local", "ranks_per_client": 2},
        {"name": "b", "mount": "/b", "model": "local", "ranks_per_client": 4},
    ]
    topology = {"kind": "star", "hosts": 4, "rate": "100Gbps", "latency": "1us"}
    with pytest.raises(ConfigError, match=r"ranks_per_client of \[2, 4\], allowed: one number"):
        Cluster.from_dict({"name": "x", "topology": topology, "storage": storage})
