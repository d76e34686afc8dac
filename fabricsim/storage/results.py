"""What a run tells of storage: tables of targets, servers, clients and RPCs, and their summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fabricsim import records
from fabricsim.analysis.columns import op_columns
from fabricsim.storage.section import Storage

if TYPE_CHECKING:
    from fabricsim.program import Program

__all__ = ["storage_summary", "storage_tables"]

Arrays = Mapping[str, np.ndarray]

#: The kinds of the trace, in the order in which a summary tells of them.
_KINDS = ("write", "read", "open", "fsync", "close", "stat", "unlink", "mkdir", "rmdir", "rename", "readdir")

#: What a summary has of the clients: sums, and the greatest.
_SUMS = (
    "bytes_read",
    "bytes_written",
    "rpcs",
    "rpc_read_bytes",
    "rpc_written_bytes",
    "cache_hit_bytes",
    "readahead_bytes",
    "blocked_ps",
    "lock_wait_ps",
    "lost_dirty_bytes",
    "resent",
    "evictions",
    "refused",
    "failed",
)


def storage_tables(
    program: Program, run: Any, provenance: Mapping[str, Any], *, rpcs: bool = False
) -> dict[str, Callable[[], pa.Table]]:
    """Return what makes each table: ``storage`` (targets), ``servers``, ``clients``, and ``rpcs`` if asked.

    Parameters
    ----------
    program
        Whose ranks do I/O.
    run
        The core's run.
    provenance
        For the metadata.
    """
    names = _Names(program)
    targets, servers, clients = run.targets(), run.servers(), run.clients()
    found: dict[str, Callable[[], pa.Table]] = {
        "storage": partial(_targets, names, targets, provenance),
        "servers": partial(_servers, names, servers, provenance),
        "clients": lambda: records.table_of("clients", clients, provenance),
    }
    if rpcs:
        found["rpcs"] = partial(_rpcs, names, run.rpcs(), provenance)
    return found


class _Names:
    """The names of file systems, servers, hosts and files by number."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.storage: tuple[Storage, ...] = program.model.cluster.storage
        self.nodes = program.model.topology.node_names
        self._servers = [self._of(one) for one in self.storage]

    def _of(self, one: Storage) -> list[str]:
        if one.is_own:
            return list(self.nodes)
        numbers = one.server_numbers()
        names = [""] * (one.servers + one.n_meta)
        for name, mine in numbers.items():
            for number in mine:
                names[number] = name
        return names

    def stores(self, store: np.ndarray) -> pa.Array:
        return _taken([one.name for one in self.storage], store)

    def servers(self, store: np.ndarray, server: np.ndarray) -> pa.Array:
        pairs = zip(store.tolist(), server.tolist(), strict=True)
        return pa.array([self._servers[s][i] for s, i in pairs], pa.string())

    def hosts(self, host: np.ndarray) -> pa.Array:
        return _taken(list(self.nodes), host)

    def files(self, file: np.ndarray) -> pa.Array:
        files = self.program.files
        assert files is not None
        known = (file >= 0) & (file < len(files.paths))
        return files.paths.take(pa.array(np.where(known, file, 0), mask=~known))


def _taken(names: list[str], at: np.ndarray) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(at))


def _targets(names: _Names, rows: Arrays, provenance: Mapping[str, Any]) -> pa.Table:
    columns = dict(rows)
    columns["storage"] = names.stores(rows["store"])
    columns["server"] = names.servers(rows["store"], rows["server"])
    return records.table_of("storage", columns, provenance)


def _servers(names: _Names, rows: Arrays, provenance: Mapping[str, Any]) -> pa.Table:
    columns = dict(rows)
    columns["storage"] = names.stores(rows["store"])
    columns["server"] = names.servers(rows["store"], rows["server"])
    columns["host"] = names.hosts(rows["host"])
    columns["keeps"] = _taken(["data", "metadata"], rows["is_meta"])
    return records.table_of("servers", columns, provenance)


def _rpcs(names: _Names, rows: Arrays, provenance: Mapping[str, Any]) -> pa.Table:
    from fabricsim._core import engine

    columns = dict(rows)
    columns["storage"] = names.stores(rows["store"])
    columns["server"] = names.servers(rows["store"], rows["server"])
    columns["kind"] = _taken(list(engine.RPC_KINDS), rows["kind"])
    columns["file"] = names.files(rows["file"])
    columns["target"] = pa.array(rows["target"], mask=rows["target"] < 0)
    for name in rows:
        if name.endswith("_ps"):
            columns[name] = pa.array(rows[name], mask=rows[name] < 0)
    return records.table_of("rpcs", columns, provenance)


# ---- the summary


def storage_summary(program: Program, run: Any, ops: pa.Table, end_ps: int) -> dict[str, Any]:
    """Return what ``summary.json`` has of storage.

    Parameters
    ----------
    program, run
        The program, and the core's run of it.
    ops
        The table of operations.
    end_ps
        The end of the last operation.
    """
    names, targets, servers, clients = _Names(program), run.targets(), run.servers(), run.clients()
    found: dict[str, Any] = {name: int(clients[name].sum()) for name in _SUMS}
    found["max_dirty_bytes"] = int(clients["max_dirty_bytes"].max(initial=0))
    found["failures"] = int(servers["failures"].sum())
    return found | {
        "by_kind": _by_kind(ops),
        "file_systems": _file_systems(names, targets),
        "slowest_targets": _slowest(names, targets, end_ps),
    }


def _by_kind(ops: pa.Table) -> list[dict[str, Any]]:
    """Return how often each kind was done, and how fast from its first start to its last end."""
    data = op_columns(ops)
    found = []
    for kind in _KINDS:
        mine = data.of_kind(kind)
        if not mine.any():
            continue
        size = int(data.size[mine].sum()) if kind in ("read", "write") else 0
        span = int(data.end[mine].max() - data.start[mine].min())
        times = data.end[mine] - data.start[mine]
        found.append(
            {
                "kind": kind,
                "operations": int(mine.sum()),
                "bytes": size,
                "time_ps": span,
                "mean_ps": int(times.sum()) // len(times),
                "max_ps": int(times.max()),
                "gbs": size / span * 1000 if size and span else None,
            }
        )
    return found


def _file_systems(names: _Names, targets: Arrays) -> list[dict[str, Any]]:
    found = []
    for number, one in enumerate(names.storage):
        mine = targets["store"] == number
        sums = {name: int(targets[name][mine].sum()) for name in ("rpcs", "bytes_read", "bytes_written")}
        found.append({"name": one.name, "model": one.model, "mount": one.mount} | sums)
    return found


def _slowest(names: _Names, targets: Arrays, end_ps: int, limit: int = 5) -> list[dict[str, Any]]:
    """Return the targets that took longest for an RPC on average, waits included."""
    count = np.maximum(targets["rpcs"], 1)
    wait, service = targets["wait_ps"] // count, targets["service_ps"] // count
    order = np.lexsort((targets["target"], targets["store"], -(wait + service)))
    order = order[targets["rpcs"][order] > 0][:limit]
    server = names.servers(targets["store"][order], targets["server"][order]).to_pylist()
    return [
        {
            "storage": names.storage[int(targets["store"][at])].name,
            "target": int(targets["target"][at]),
            "server": name,
            "rpcs": int(targets["rpcs"][at]),
            "bytes": int(targets["bytes_read"][at] + targets["bytes_written"][at]),
            "busy_ps": int(targets["busy_ps"][at]),
            "utilisation": min(
                1.0, int(targets["busy_ps"][at]) / max(1, end_ps)
            ),  # it may work on after the end
            "wait_ps": int(wait[at]),
            "service_ps": int(service[at]),
        }
        for at, name in zip(order.tolist(), server, strict=True)
    ]
