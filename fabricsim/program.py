"""Compile a cluster to a Model, and a trace on it to a Program: the two constants that runs share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fabricsim.errors import InputError

if TYPE_CHECKING:
    from fabricsim.cluster import Cluster
    from fabricsim.collectives.expand import Expansion
    from fabricsim.collectives.plan import Plan
    from fabricsim.trace import Trace
    from fabricsim.trace.files import FileTable

__all__ = ["Model", "Program", "build_program", "compile", "table_digest", "without_repetitions"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A compiled cluster: constant, shareable by replays, threads and sweeps.

    Parameters
    ----------
    cluster
        What it was compiled from.
    topology
        Nodes and cables as flat arrays.
    engine
        The compiled core's own model.
    """

    cluster: Cluster
    topology: Any
    engine: Any = field(repr=False)

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the SHA-256 of all that is emulated."""
        return str(self.cluster.digest())[:16]

    @property
    def lookahead_ps(self) -> int:
        """The width of the core's time window: the least delay of a link, in picoseconds."""
        return int(self.engine.lookahead_ps)

    def __repr__(self) -> str:
        hosts, switches = self.topology.n_hosts, self.topology.n_switches
        return f"<Model {self.cluster.name}: {hosts} hosts, {switches} switches, {self.engine.n_links} links>"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A trace compiled on a model: its lowered rows, where its ranks are, and the core's own program.

    ``plan`` is what the collective library chose for each lowered row; ``expansion`` is what the core runs:
    the lowered rows, with a user's graphs in place of the operations of their kinds. ``files`` are the files
    of its storage operations; None when it has no such operations.
    """

    model: Model
    trace: Trace
    lowered: pa.Table
    rank_host: np.ndarray
    plan: Plan
    expansion: Expansion
    digest: str
    engine: Any = field(repr=False)
    files: FileTable | None = field(default=None, repr=False)


def compile(cluster: Cluster) -> Model:
    """Compile a cluster once, for many replays.

    Parameters
    ----------
    cluster
        The configuration, from ``Cluster.from_toml`` or ``Cluster.from_dict``.

    Returns
    -------
    Model
        Constant; give it to ``replay`` in place of the cluster.

    Raises
    ------
    ConfigError
        When the topology or a setting is not possible.

    >>> import fabricsim
    >>> fabricsim.compile(fabricsim.Cluster.from_toml("demo-64-400g-roce"))  # doctest: +ELLIPSIS
    <Model demo-64-400g-roce: 64 hosts, ...>
    """
    from fabricsim._core import engine

    topology = cluster.topology()
    stores: dict[str, Any] = {}
    if cluster.storage:
        added = sum(one.n_hosts for one in cluster.storage if one.attach)
        stores = {"stores": cluster.stores(), "server_count": added}
    core = engine.Model(
        n_hosts=topology.n_hosts,
        n_switches=topology.n_switches,
        cable_a=topology.cable_a,
        cable_b=topology.cable_b,
        cable_rate_mbps=topology.cable_rate_mbps,
        cable_delay_ps=topology.cable_delay_ps,
        node_latency_ps=topology.node_latency_ps,
        settings=cluster.settings(),
        cable_network=topology.cable_network,
        reducer_count=topology.n_reducers,
        **stores,
    )
    return Model(cluster=cluster, topology=topology, engine=core)


def build_program(model: Model, trace: Trace, *, packets: bool = True) -> Program:
    """Lower a trace and compile it on a model.

    Parameters
    ----------
    model
        A compiled cluster.
    trace
        Operations of rank sets.
    packets
        Whether it is for packets; for flows, what happens several times is not written out.

    Raises
    ------
    InputError
        When the trace is empty, or has a row that the core cannot run.
    ConfigError
        When the trace has more ranks than the cluster has places.
    """
    from fabricsim.collectives.plan import make_plan
    from fabricsim.storage import core_files
    from fabricsim.trace import lower
    from fabricsim.trace.files import make_files

    if trace.table.num_rows == 0:
        raise InputError(["the trace has no rows; there is nothing to replay"])
    cluster = model.cluster
    rank_host = np.asarray(cluster.rank_host(trace.n_ranks), dtype=np.int32)
    files = make_files(trace, [one.mount for one in cluster.storage]) if cluster.storage else None
    rows = lower(trace, cluster.accelerator, files=files).combine_chunks()
    plan = make_plan(cluster, rows, rank_host)
    lowered = plan.table
    own_files = {"files": core_files(files, cluster.storage)} if files is not None else {}
    expansion, core = _compiled(model, trace, plan, rank_host, own_files, packets)
    return Program(
        model=model,
        trace=trace,
        lowered=lowered,
        rank_host=rank_host,
        plan=plan,
        expansion=expansion,
        digest=_digest(lowered, own_files.get("files")),
        engine=core,
        files=files,
    )


def without_repetitions(program: Program) -> Program:
    """Return a program as flows run it: what happens several times is one operation, not written out."""
    if program.expansion.table.num_rows == program.lowered.num_rows:
        return program
    expansion, core = _compiled(
        program.model, program.trace, program.plan, program.rank_host, {}, packets=False
    )
    return replace(program, expansion=expansion, engine=core)


def _compiled(
    model: Model,
    trace: Trace,
    plan: Plan,
    rank_host: np.ndarray,
    files: Mapping[str, Any],
    packets: bool,
) -> tuple[Expansion, Any]:
    """Return the rows that the core runs, and its program."""
    from fabricsim._core import engine
    from fabricsim.collectives.expand import expand

    cluster = model.cluster
    expansion = expand(plan.table, cluster.graphs(), trace.where, repeat=packets)
    core = engine.Program(
        model.engine,
        expansion.table,
        rank_host=rank_host,
        algorithms=cluster.algorithms(),
        variants=plan.variants,
        **files,
    )
    return expansion, core


def _digest(lowered: pa.Table, files: Mapping[str, np.ndarray] | None) -> str:
    """Return the digest of the rows, and of what their files are on the cluster where they have any."""
    rows = table_digest(lowered)
    if files is None:
        return rows
    parts = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes() for array in files.values()]
    return hashlib.sha256(b"".join([rows.encode(), *parts])).hexdigest()[:16]


def table_digest(table: pa.Table) -> str:
    """Return 16 hex digits of the SHA-256 of a table's values, whatever its chunks and metadata.

    Parameters
    ----------
    table
        Columns of integers and of lists of integers, without nulls.

    >>> a = pa.table({"x": pa.chunked_array([[1, 2], [3]])})
    >>> table_digest(a) == table_digest(pa.table({"x": [1, 2, 3]}))
    True
    """
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        digest.update(f"{name}:{values.type}:{len(values)};".encode())
        if pa.types.is_list(values.type):
            lengths = values.value_lengths().to_numpy(zero_copy_only=False).astype("<i4")
            digest.update(lengths.tobytes())
            values = values.flatten()
        array = values.to_numpy(zero_copy_only=False)
        digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:16]
