"""The tables of a result: their columns, units and provenance, and how a run's arrays become them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from fabricsim.errors import EngineError, InputError, Problem

if TYPE_CHECKING:
    from fabricsim.analysis import Breakdown
    from fabricsim.program import Program

__all__ = [
    "BATCH_ROWS",
    "NETWORKS",
    "SCHEMAS",
    "TableWriter",
    "flows_table",
    "links_table",
    "ops_table",
    "ranks_table",
    "read_table",
    "series_batch",
    "table_of",
    "with_provenance",
    "write_table",
]

#: Rows of a record batch: memory stays flat however long a table is.
BATCH_ROWS = 64 * 1024

#: The networks of a topology, by number.
NETWORKS = ("scale_out", "scale_up")

#: The version of the layout of result files; a reader refuses another major version.
SCHEMA_VERSION = "1.1"


def _field(name: str, kind: pa.DataType, unit: str | None = None, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {"unit": unit} if unit else None)


_KIND = pa.dictionary(pa.int8(), pa.string())
_NAME = pa.dictionary(pa.int32(), pa.string())

#: Table name -> its columns. Times are picoseconds from the start of the run.
SCHEMAS: Mapping[str, pa.Schema] = {
    "ops": pa.schema(
        [
            _field("id", pa.int64()),
            _field("kind", _KIND),
            _field("rank", pa.int32()),
            _field("start_ps", pa.int64(), "ps", True),
            _field("end_ps", pa.int64(), "ps", True),
            _field("name", _NAME, None, True),
            _field("bytes", pa.int64(), "bytes"),
            _field("step", pa.int32(), None, True),
            _field("stream", pa.int32(), None, True),
            _field("group", pa.int32(), "group of the operation that the rank is in"),
            _field("count", pa.int32(), "times that it happened, one after another"),
        ]
    ),
    "flows": pa.schema(
        [
            _field("id", pa.int64()),
            _field("tag", pa.int64()),
            _field("name", _NAME, None, True),
            _field("src", pa.int32()),
            _field("dst", pa.int32()),
            _field("bytes", pa.int64(), "bytes"),
            _field("start_ps", pa.int64(), "ps", True),
            _field("end_ps", pa.int64(), "ps", True),
            _field("fct_ps", pa.int64(), "ps", True),
            _field("delivered_ps", pa.int64(), "ps", True),
            _field("recv", pa.int64(), "id of the receive", True),
        ]
    ),
    "ranks": pa.schema(
        [
            _field("rank", pa.int32()),
            _field("host", pa.string()),
            _field("compute_ps", pa.int64(), "ps"),
            _field("exposed_communication_ps", pa.int64(), "ps"),
            _field("overlapped_communication_ps", pa.int64(), "ps"),
            _field("exposed_storage_ps", pa.int64(), "ps"),
            _field("overlapped_storage_ps", pa.int64(), "ps"),
            _field("idle_ps", pa.int64(), "ps"),
        ]
    ),
    "links": pa.schema(
        [
            _field("link", pa.string()),
            _field("src", pa.string()),
            _field("dst", pa.string()),
            _field("network", _NAME),
            _field("src_tier", pa.int8()),
            _field("dst_tier", pa.int8()),
            _field("rate_mbps", pa.int64(), "Mb/s"),
            _field("packets", pa.int64()),
            _field("bytes", pa.int64(), "bytes"),
            _field("busy_ps", pa.int64(), "ps"),
            _field("utilisation", pa.float64(), "fraction of the run"),
            _field("ecn_marks", pa.int64(), "packets"),
            _field("drops", pa.int64(), "packets"),
            _field("pauses", pa.int64(), "pause frames received"),
            _field("paused_ps", pa.int64(), "ps"),
            _field("max_queue_bytes", pa.int64(), "bytes"),
            _field("lost_packets", pa.int64(), "packets"),
            _field("down_ps", pa.int64(), "ps"),
        ]
    ),
    "series": pa.schema(
        [
            _field("time_ps", pa.int64(), "ps"),
            _field("link", pa.int32(), "row of the links table"),
            _field("bytes", pa.int64(), "bytes since the last sample"),
            _field("packets", pa.int64(), "packets since the last sample"),
            _field("ecn_marks", pa.int64(), "packets since the last sample"),
            _field("paused_ps", pa.int64(), "ps since the last sample"),
            _field("max_queue_bytes", pa.int64(), "bytes, highest so far"),
        ]
    ),
    "storage": pa.schema(
        [
            _field("storage", _NAME),
            _field("target", pa.int32()),
            _field("server", _NAME),
            _field("rpcs", pa.int64()),
            _field("bytes_read", pa.int64(), "bytes"),
            _field("bytes_written", pa.int64(), "bytes"),
            _field("busy_ps", pa.int64(), "ps"),
            _field("queue_max", pa.int64(), "RPCs"),
            _field("wait_ps", pa.int64(), "ps, sum over RPCs"),
            _field("service_ps", pa.int64(), "ps, sum over RPCs"),
        ]
    ),
    "servers": pa.schema(
        [
            _field("storage", _NAME),
            _field("server", _NAME),
            _field("keeps", _NAME, "data or metadata"),
            _field("host", _NAME),
            _field("queue_max", pa.int64(), "RPCs"),
            _field("changes", pa.int64()),
            _field("committed", pa.int64(), "changes"),
            _field("failures", pa.int64()),
        ]
    ),
    "clients": pa.schema(
        [
            _field("rank", pa.int32()),
            _field("calls", pa.int64()),
            _field("bytes_read", pa.int64(), "bytes"),
            _field("bytes_written", pa.int64(), "bytes"),
            _field("cache_hit_bytes", pa.int64(), "bytes"),
            _field("readahead_bytes", pa.int64(), "bytes"),
            _field("rpcs", pa.int64()),
            _field("rpc_read_bytes", pa.int64(), "bytes"),
            _field("rpc_written_bytes", pa.int64(), "bytes"),
            _field("max_dirty_bytes", pa.int64(), "bytes, of any target"),
            _field("blocked_ps", pa.int64(), "ps"),
            _field("lock_wait_ps", pa.int64(), "ps"),
            _field("resent", pa.int64(), "RPCs"),
            _field("evictions", pa.int64()),
            _field("lost_dirty_bytes", pa.int64(), "bytes"),
            _field("refused", pa.int64(), "operations"),
            _field("failed", pa.int64(), "operations"),
        ]
    ),
    "rpcs": pa.schema(
        [
            _field("rank", pa.int32()),
            _field("storage", _NAME),
            _field("server", _NAME),
            _field("target", pa.int32(), None, True),
            _field("kind", _NAME),
            _field("file", _NAME, None, True),
            _field("object", pa.int32()),
            _field("offset", pa.int64(), "bytes, in the object"),
            _field("bytes", pa.int64(), "bytes"),
            _field("sent_ps", pa.int64(), "ps", True),
            _field("queued_ps", pa.int64(), "ps", True),
            _field("began_ps", pa.int64(), "ps", True),
            _field("target_ps", pa.int64(), "ps", True),
            _field("served_ps", pa.int64(), "ps", True),
            _field("done_ps", pa.int64(), "ps", True),
        ]
    ),
}


def with_provenance(name: str, provenance: Mapping[str, Any]) -> pa.Schema:
    """Return the columns of a table with who made it in the metadata."""
    return SCHEMAS[name].with_metadata(
        {
            "fabricsim.schema": name,
            "fabricsim.schema_version": SCHEMA_VERSION,
            "fabricsim.provenance": json.dumps(provenance, sort_keys=True, separators=(",", ":")),
        }
    )


def ops_table(
    program: Program, instances: Mapping[str, np.ndarray], provenance: Mapping[str, Any]
) -> pa.Table:
    """Return one row for each rank of each operation; times are null for what did not happen."""
    row = instances["row"]
    columns = {
        "id": _taken(program.lowered["id"], row),
        "kind": _kinds(program, row),
        "rank": instances["rank"],
        "start_ps": _time(instances["start_ps"]),
        "end_ps": _time(instances["end_ps"]),
        "name": _names(program, row),
        "bytes": _taken(program.lowered["bytes"], row),
        "step": _optional(program, "step", row, pa.int32()),
        "stream": _optional(program, "stream", row, pa.int32()),
        "group": _groups(program, row),
        "count": np.asarray(program.trace.view.counts, np.int32)[row],
    }
    return table_of("ops", columns, provenance)


def _groups(program: Program, row: np.ndarray) -> np.ndarray:
    """Return for each rank of an operation which of its groups it is in: the ranks of a row lie together."""
    if "group_size" not in program.lowered.column_names or not len(row):
        return np.zeros(len(row), np.int32)
    size = program.lowered["group_size"].to_numpy()[row]
    at = np.arange(len(row))
    begins = np.flatnonzero(np.diff(row, prepend=-1))
    place = at - np.repeat(begins, np.diff(begins, append=len(row)))
    return np.where(size > 0, place // np.maximum(size, 1), 0).astype(np.int32)


def flows_table(program: Program, sends: Mapping[str, np.ndarray], provenance: Mapping[str, Any]) -> pa.Table:
    """Return one row for each send; ``fct_ps`` runs from its start to its last acknowledgement."""
    row, start, end = sends["row"], sends["start_ps"], sends["end_ps"]
    columns = {
        "id": _taken(program.lowered["id"], row),
        "tag": _taken(program.lowered["tag"], row),
        "name": _names(program, row),
        "src": sends["src"],
        "dst": sends["dst"],
        "bytes": sends["bytes"],
        "start_ps": _time(start),
        "end_ps": _time(end),
        "fct_ps": pa.array(np.asarray(end - start, np.int64), mask=(end < 0) | (start < 0)),
        "delivered_ps": _time(sends["delivered_ps"]),
        "recv": _receives(program.lowered, sends),
    }
    return table_of("flows", columns, provenance)


def _receives(lowered: pa.Table, sends: Mapping[str, np.ndarray]) -> pa.Array:
    """Return for each send the id of its receive: k-th with k-th of (source, destination, tag), else null."""
    from fabricsim.trace.schema import KIND_CODE

    recvs = lowered.filter(pc.equal(lowered["kind"], KIND_CODE["recv"])).combine_chunks()
    sources, targets = (pc.list_flatten(recvs[name]).to_numpy() for name in ("peer", "ranks"))
    count = len(sources)
    if not count or count != len(sends["row"]):
        return pa.nulls(len(sends["row"]), pa.int64())
    row = np.repeat(np.arange(recvs.num_rows), pc.list_value_length(recvs["ranks"]).to_numpy())

    def sorted_keys(source: np.ndarray, target: np.ndarray, tag: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = (tag, target, source) if (tag != tag[0]).any() else (target, source)
        order = np.lexsort(keys)
        return order, np.stack([source, target, tag])[:, order]

    sent, sent_keys = sorted_keys(sends["src"], sends["dst"], _taken(lowered["tag"], sends["row"]))
    received, received_keys = sorted_keys(sources, targets, recvs["tag"].to_numpy()[row])
    if not np.array_equal(sent_keys, received_keys):
        return pa.nulls(count, pa.int64())
    found = np.empty(count, np.int64)
    found[sent] = recvs["id"].to_numpy()[row[received]]
    return pa.array(found)


def ranks_table(program: Program, parts: Breakdown, provenance: Mapping[str, Any]) -> pa.Table:
    """Return one row for each rank: where it is, and what it did with its time."""
    names = pa.array(list(program.model.topology.node_names), pa.string())
    ranks = len(program.rank_host)
    columns: dict[str, Any] = {"rank": np.arange(ranks), "host": names.take(pa.array(program.rank_host))}
    for name, values in parts.columns():
        # A rank without operations is idle all the time.
        whole = np.full(ranks, parts.total_ps if name == "idle_ps" else 0, np.int64)
        whole[parts.rank] = values
        columns[name] = whole
    return table_of("ranks", columns, provenance)


def links_table(
    topology: Any, counters: Mapping[str, np.ndarray], end_ps: int, provenance: Mapping[str, Any]
) -> pa.Table:
    """Return one row for each directed link, cable by cable, first from its a end to its b end."""
    source = np.stack([topology.cable_a, topology.cable_b], axis=1).reshape(-1)
    target = np.stack([topology.cable_b, topology.cable_a], axis=1).reshape(-1)
    nodes = pa.array(list(topology.node_names), pa.string())
    src, dst = nodes.take(pa.array(source)), nodes.take(pa.array(target))
    columns = {
        "link": _link_names(topology, src, dst),
        "src": src,
        "dst": dst,
        "network": pa.DictionaryArray.from_arrays(np.repeat(topology.cable_network, 2), pa.array(NETWORKS)),
        "src_tier": topology.node_tiers()[source],
        "dst_tier": topology.node_tiers()[target],
        "rate_mbps": np.repeat(np.asarray(topology.cable_rate_mbps, np.int64), 2),
        "utilisation": np.asarray(counters["busy_ps"], np.float64) / max(1, end_ps),
    }
    for name in (
        "packets",
        "bytes",
        "busy_ps",
        "ecn_marks",
        "drops",
        "pauses",
        "paused_ps",
        "max_queue_bytes",
    ):
        columns[name] = counters[name]
    none = np.zeros(len(source), np.int64)
    columns["lost_packets"], columns["down_ps"] = counters.get("lost", none), counters.get("down_ps", none)
    return table_of("links", columns, provenance)


def _link_names(topology: Any, src: pa.Array, dst: pa.Array) -> pa.Array:
    """Return the names of all directed links: as ``Topology.link_name`` gives them, all at once."""
    names = pc.binary_join_element_wise(src, dst, "->")
    if not topology.has_parallel_cables:
        return names
    ends = np.sort(np.stack([topology.cable_a, topology.cable_b]), axis=0)
    order = np.lexsort((np.arange(ends.shape[1]), ends[1], ends[0]))
    new = np.ones(len(order), bool)
    new[1:] = np.any(np.diff(ends[:, order], axis=1) != 0, axis=0)
    first = np.flatnonzero(new)
    size = np.diff(first, append=len(order))
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order)) - np.repeat(first, size)
    alone = np.empty(len(order), bool)
    alone[order] = np.repeat(size == 1, size)
    numbered = pc.binary_join_element_wise(names, pa.array(np.repeat(number, 2)).cast(pa.string()), "#")
    return pc.if_else(pa.array(np.repeat(alone, 2)), names, numbered)


def series_batch(
    time_ps: int, now: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray] | None
) -> pa.RecordBatch | None:
    """Return a sample of every link on which something happened since the last one, None if nothing did."""
    names = ("bytes", "packets", "ecn_marks", "paused_ps")
    change = {name: now[name] - before[name] if before is not None else now[name] for name in names}
    link = np.flatnonzero(np.any([values != 0 for values in change.values()], axis=0))
    if not len(link):
        return None
    columns: dict[str, np.ndarray] = {name: values[link] for name, values in change.items()}
    columns["time_ps"] = np.full(len(link), time_ps, np.int64)
    columns["link"] = link
    columns["max_queue_bytes"] = now["max_queue_bytes"][link]
    schema = SCHEMAS["series"]
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


class TableWriter:
    """Writes a table batch by batch to an Arrow IPC file with lz4; closed properly, whatever happens.

    Parameters
    ----------
    path
        The file; one that exists is replaced.
    schema
        Columns and metadata, from ``with_provenance``.

    Raises
    ------
    EngineError
        When the file cannot be written: no space, no permission.
    """

    def __init__(self, path: str | Path, schema: pa.Schema) -> None:
        self.path = Path(path)
        try:
            self._sink: pa.NativeFile | None = pa.OSFile(str(path), "wb")
            self._writer = ipc.new_file(self._sink, schema, options=ipc.IpcWriteOptions(compression="lz4"))
        except OSError as error:
            raise self._failed(error) from error

    def write(self, data: pa.Table | pa.RecordBatch) -> None:
        """Write rows, in batches of at most ``BATCH_ROWS``."""
        try:
            for batch in data.to_batches(max_chunksize=BATCH_ROWS) if isinstance(data, pa.Table) else [data]:
                self._writer.write_batch(batch)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Write the footer and close; closing twice does nothing."""
        if self._sink is None:
            return
        sink, self._sink = self._sink, None
        try:
            self._writer.close()
            sink.close()
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _failed(self, error: OSError) -> EngineError:
        return EngineError(f"{self.path}: cannot be written: {error.strerror or error}")


def write_table(path: str | Path, table: pa.Table) -> None:
    """Write a whole table to an Arrow IPC file."""
    with TableWriter(path, table.schema) as writer:
        writer.write(table)


def read_table(path: str | Path, name: str) -> pa.Table:
    """Read a table of a result from an Arrow IPC file.

    Raises
    ------
    InputError
        When it is not readable, or is another kind of table or of another major version.
    """
    try:
        with pa.memory_map(str(path)) as source:
            table = ipc.open_file(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise InputError([Problem(str(path), f"not a complete Arrow IPC file: {error}")]) from error
    metadata = table.schema.metadata or {}
    found = metadata.get(b"fabricsim.schema", b"").decode(errors="replace")
    version = metadata.get(b"fabricsim.schema_version", b"").decode(errors="replace")
    if found != name:
        raise InputError([Problem(str(path), f"holds {found or 'no fabricsim table'!r}, wanted {name!r}")])
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise InputError(
            [Problem(str(path), f"schema version {version}, this program reads {SCHEMA_VERSION}")]
        )
    return table


def table_of(name: str, columns: Mapping[str, Any], provenance: Mapping[str, Any]) -> pa.Table:
    """Return a table of ``SCHEMAS`` from its columns; others are left out."""
    schema = with_provenance(name, provenance)
    arrays = []
    for field in schema:
        values = columns[field.name]
        if isinstance(values, np.ndarray):
            values = pa.array(values)
        arrays.append(values if values.type == field.type else values.cast(field.type))
    return pa.table(arrays, schema=schema)


def _taken(column: pa.ChunkedArray, row: np.ndarray) -> np.ndarray:
    return column.to_numpy()[row]


def _time(values: np.ndarray) -> pa.Array:
    """Return times with null for the negative ones."""
    return pa.array(np.asarray(values, np.int64), mask=np.asarray(values) < 0)


def _kinds(program: Program, row: np.ndarray) -> pa.DictionaryArray:
    from fabricsim.trace.schema import KINDS

    codes = program.lowered["kind"].to_numpy()[row].astype(np.int8)
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(KINDS), pa.string()))


def _names(program: Program, row: np.ndarray) -> pa.Array:
    table = program.trace.table
    if "name" not in table.column_names:
        return pa.nulls(len(row), pa.string()).dictionary_encode().cast(_NAME)
    names = table["name"]
    if pa.types.is_dictionary(names.type):
        names = names.cast(names.type.value_type)
    encoded = names.cast(pa.string()).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return encoded.dictionary_encode().take(pa.array(row))


def _optional(program: Program, name: str, row: np.ndarray, kind: pa.DataType) -> pa.Array:
    table = program.trace.table
    if name not in table.column_names:
        return pa.nulls(len(row), kind)
    taken = table[name].take(pa.array(row)).cast(kind)
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken
