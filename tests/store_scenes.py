"""Small scenes of file systems for golden digests: each shows a part of the store room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store_worlds import Storage, create, io
from trace_table import all_reduce

from fabricsim._core import engine

KIB, MIB, MS = 1 << 10, 1 << 20, 10**9


def shared_file() -> engine.Run:
    """Six ranks write interleaved parts of one striped file, read each other's, and look at its size."""
    ranks = range(6)
    store = Storage(clients=6, servers=2, targets_per_server=2, layouts=[(0, 0, 0, -1, 256 * KIB, -1, -1, 0)])
    store.params = {"rpc_bytes": MIB, "max_dirty_bytes": 2 * MIB, "readahead_bytes": 4 * MIB}
    rows = [create(*ranks)]
    rows += [io("write", *ranks, size=MIB, offset=k * 6 * MIB, stride=MIB) for k in range(3)]
    rows += [io("fsync", *ranks), io("stat", 0), io("read", *ranks, size=18 * MIB), io("close", *ranks)]
    return store.start(*rows)


def beside_collectives() -> engine.Run:
    """Own files by small direct writes, while the ranks reduce; a target slows down on the way."""
    ranks = range(8)
    store = Storage(clients=8, servers=2, metas=2, slow=[(2 * MS, 0, 200_000)])
    rows: list[dict[str, Any]] = [create(*ranks, file="/d/{rank}")]
    rows += [
        io("write", *ranks, file="/d/{rank}", size=48 * KIB, offset=k * 64 * KIB, flags="direct")
        for k in range(20)
    ]
    rows += [{**all_reduce(*ranks, size=4 * MIB), "stream": 1}]
    rows += [io("fsync", *ranks, file="/d/{rank}"), io("unlink", *ranks, file="/d/{rank}")]
    return store.start(*rows)


def failover() -> engine.Run:
    """A data server fails under writes, and its partner takes over."""
    ranks = range(4)
    store = Storage(clients=4, servers=2, partners=[1, 0], failures=[(3 * MS, 0, 200 * MS)])
    store.params = {
        "timeout_ps": 100 * MS,
        "reconnect_ps": 50 * MS,
        "recovery_soft_ps": 1000 * MS,
        "recovery_hard_ps": 2000 * MS,
    }
    rows = [create(*ranks, file="/{rank}"), io("write", *ranks, file="/{rank}", size=64 * MIB)]
    rows += [io("fsync", *ranks, file="/{rank}"), io("read", *ranks, file="/{rank}", size=64 * MIB)]
    return store.start(*rows)


def parity() -> engine.Run:
    """Stripes of data and parity over all servers."""
    ranks = range(4)
    store = Storage(clients=4, servers=7, metas=0, impl="weka")
    store.params = {"data_count": 3, "parity_count": 2}
    rows = [create(*ranks, file="/{rank}"), io("write", *ranks, file="/{rank}", size=5 * MIB)]
    return store.start(*rows, io("read", *ranks, file="/{rank}", size=5 * MIB))


def disks() -> engine.Run:
    """Chunks over the disks of four arrays, small directories beside them."""
    ranks = range(4)
    store = Storage(clients=4, servers=2, targets_per_server=2, impl="beegfs", target="disk")
    rows = [io("mkdir", *ranks, file="/d{rank}"), create(*ranks, file="/d{rank}/x")]
    rows += [io("write", *ranks, file="/d{rank}/x", size=3 * MIB), io("fsync", *ranks, file="/d{rank}/x")]
    return store.start(*rows, io("rename", *ranks, file="/d{rank}/x", new_file="/d{rank}/y"))


STORE_SCENES: dict[str, Callable[[], engine.Run]] = {
    "store shared file": shared_file,
    "store beside collectives": beside_collectives,
    "store failover": failover,
    "store parity": parity,
    "store disks": disks,
}
