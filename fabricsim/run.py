"""Replay a trace on a cluster: run the core slice by slice, and make a result of what it found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import fabricsim
from fabricsim import records
from fabricsim.analysis import (
    breakdown,
    busiest_links,
    checkpoints,
    collectives,
    critical_path,
    paused_links,
    power,
    training,
)
from fabricsim.analysis.checkpoint import CHECKPOINT_GENERATOR
from fabricsim.analysis.critical_path import path_summary
from fabricsim.analysis.training import TRAINING_GENERATOR
from fabricsim.errors import ConfigError, DeadlockError, EngineError, Problem, unknown_name
from fabricsim.fabrics.faults import links_of
from fabricsim.fidelity import Fidelity, check_fidelity, open_flow
from fabricsim.program import Model, Program, build_program, compile, without_repetitions
from fabricsim.result import FileTable, Result, flows_summary, make_folder
from fabricsim.storage.results import storage_summary, storage_tables
from fabricsim.units import format_time, us

if TYPE_CHECKING:
    from fabricsim.cluster import Cluster
    from fabricsim.trace import Trace

__all__ = ["Progress", "replay", "run_program"]

#: What ``record`` may name.
RECORDS = ("series", "rpcs")

#: Threads of the core, at most; as FAB_THREADS_MAX of csrc/sim/run.h.
MAX_THREADS = 64

#: Emulated time between the samples of ``record=("series",)``, in picoseconds.
SERIES_PS = 10 * us

#: Counters of the core that belong to the result. How the core worked (windows, memory) is not among them.
COUNTERS = (
    "packets",
    "packet_hops",
    "drops",
    "ecn_marks",
    "pfc_pauses",
    "cnps",
    "acks",
    "naks",
    "retransmits",
    "timeouts",
    "messages",
)

# A slice ends often enough for Ctrl-C and the progress bar, seldom enough to cost nothing.
_FIRST_SLICE_PS = 10 * us
_LEAST_SLICE_PS = 1 * us
_SHORT_S, _LONG_S = 0.05, 0.2
# What a burst of traffic in a quiet run may take: slices are bounded as if every rank sent and received at
# full rate over paths of this length, or every link were full.
_BURST_S, _HOPS_PER_S, _FULL_PACKET_BITS, _PATH_LINKS = 2.0, 10e6, 4096 * 8, 8
# Asking the core when the next thing happens is a pass over all links: at most this share of the time.
_ASKING = 0.1

# Walking the critical path needs the whole dependency graph in memory.
_PATH_INSTANCES = 5_000_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: emulated picoseconds, operations of ranks, packet-hops, wall-clock seconds."""

    now_ps: int
    done_ops: int
    total_ops: int
    packet_hops: int
    wall_s: float


def replay(
    trace: Trace | str | Path,
    cluster: Cluster | Model | str | Path,
    *,
    seed: int = 1,
    threads: int = 1,
    out: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    record: Collection[str] = (),
    series_ps: int | None = None,
    max_time_ps: int | None = None,
    fidelity: str = "packet",
) -> Result:
    """Emulate a trace on a cluster.

    Parameters
    ----------
    trace
        Operations of rank sets, or the path of a trace file.
    cluster
        A cluster, a compiled model, or the path of a cluster file or the name of a preset.
    seed
        Of the random draws (ECN marks, hashes), 0 to 2^63-1. The same inputs and seed give the same result.
    threads
        Threads of the core, 1 to 64; the result does not depend on it.
    out
        A folder that the result is saved to. An interrupted or limited run leaves what it found so far there,
        with ``"status"`` in the summary saying so.
    progress
        Called about ten times a second.
    record
        ``"series"`` samples the links over time, ``"rpcs"`` keeps the way of every storage RPC. Recording
        never changes a result.
    series_ps
        Picoseconds of emulated time between samples, at least 1; implies ``record=("series",)``. Default 10
        us.
    max_time_ps
        Give up when the emulated time reaches this.
    fidelity
        ``"packet"``: every packet. ``"flow"``: collectives and messages share links as fluids do; what each
        takes alone is worked out. ``"hybrid"``: the same, but each different one is emulated in packets until
        its traffic is steady. The last two do without faults, circuits, storage and recording.

    Returns
    -------
    Result
        Summary and tables.

    Raises
    ------
    ConfigError
        When an option or the cluster is not possible.
    InputError
        When the trace cannot be run, or can never finish (DeadlockError: who waits for whom).
    EngineError
        When ``max_time_ps`` was reached, or the core ran out of memory.

    >>> import fabricsim
    >>> from fabricsim.workload import collective
    >>> trace = collective("all_reduce", size_bytes=1 << 20, n_ranks=8)
    >>> model = fabricsim.compile(fabricsim.Cluster.from_toml("demo-64-400g-roce"))
    >>> fabricsim.replay(trace, model).digest == fabricsim.replay(trace, model).digest
    True
    """
    _check_options(seed, threads, record, series_ps, max_time_ps, fidelity)
    folder = make_folder(out) if out is not None else None
    if isinstance(trace, (str, os.PathLike)):
        from fabricsim.trace import read_trace

        trace = read_trace(trace)
    packets = fidelity == Fidelity.PACKET
    program = build_program(_as_model(cluster), trace, packets=packets)
    return run_program(
        program,
        seed=seed,
        threads=threads,
        folder=folder,
        progress=progress,
        record=record,
        series_ps=series_ps,
        max_time_ps=max_time_ps,
        fidelity=fidelity,
    )


def run_program(
    program: Program,
    *,
    seed: int = 1,
    threads: int = 1,
    folder: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    record: Collection[str] = (),
    series_ps: int | None = None,
    max_time_ps: int | None = None,
    fidelity: str = "packet",
) -> Result:
    """Run a compiled program; the parameters are those of ``replay``, ``folder`` is there already."""
    _check_options(seed, threads, record, series_ps, max_time_ps, fidelity)
    has_rpcs = "rpcs" in _as_names(record)
    if fidelity != Fidelity.PACKET:
        program = without_repetitions(program)
    run, detail = _open(program, Fidelity(fidelity), seed, threads, has_rpcs, progress)
    provenance = {
        "fabricsim": fabricsim.__version__,
        "cluster": program.model.cluster.name,
        "cluster_digest": program.model.digest,
        "trace_digest": program.digest,
        "seed": seed,
    }
    if detail is not None:
        provenance["fidelity"] = fidelity
    series = None
    if "series" in _as_names(record) or series_ps is not None:
        series = _Series(run, series_ps or SERIES_PS, folder, provenance)
    status = "complete"
    slices = _Slices(run, program)
    try:
        _advance(run, slices, series, progress, max_time_ps)
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except DeadlockError as error:
        status = "deadlock"
        raise _who_waits(run, program, error) from error
    except EngineError as error:
        status = "stopped"
        raise EngineError(links_of(program.model.topology, str(error))) from error
    except BaseException:
        status = "stopped"
        raise
    finally:
        if series is not None:
            series.close()
        if status != "complete" and folder is not None:
            _result(program, run, provenance, series, status, slices.until_ps, has_rpcs, detail).save(folder)
    result = _result(program, run, provenance, series, status, has_rpcs=has_rpcs, detail=detail)
    if folder is not None:
        result.save(folder)
    return result


def _open(
    program: Program,
    fidelity: Fidelity,
    seed: int,
    threads: int,
    has_rpcs: bool,
    progress: Callable[[Progress], None] | None,
) -> tuple[Any, dict[str, Any] | None]:
    """Make the core's run, and say how detailed it is where it does without packets."""
    if fidelity is not Fidelity.PACKET:
        began, total = time.perf_counter(), int(program.engine.n_instances)

        def told(hops: int) -> None:
            if progress is not None:
                progress(Progress(0, 0, total, hops, time.perf_counter() - began))

        return open_flow(program, fidelity, seed=seed, threads=threads, told=told)
    from fabricsim._core import engine

    changes = _changes(program.model, seed)
    if has_rpcs:
        changes["record_rpcs"] = True
    return engine.Run(program.model.engine, program.engine, seed=seed, threads=threads, **changes), None


def _changes_at_all(model: Model) -> bool:
    return model.cluster.faults is not None or model.topology.circuits is not None


def _changes(model: Model, seed: int) -> dict[str, Any]:
    """Return what changes in the fabric during a run, as the core takes it."""
    faults, circuits = model.cluster.faults, model.topology.circuits
    found: dict[str, Any] = {}
    if faults is not None:
        found["changes"] = faults.changes(model.topology, model.cluster.topology_spec, seed)
        found["heal_ps"] = faults.core_heal_ps
    if circuits is not None:
        columns = (circuits.cable, circuits.first_ps, circuits.up_ps, circuits.period_ps)
        found["circuits"] = np.stack([np.asarray(column, np.int64) for column in columns], axis=1)
    return found


def _check_options(
    seed: int,
    threads: int,
    record: Collection[str],
    series_ps: int | None,
    max_time_ps: int | None,
    fidelity: str,
) -> None:
    problems = check_fidelity(fidelity)
    if not 0 <= seed < 2**63:
        problems.append(Problem("seed", f"found {seed}, allowed: 0 to 2^63-1"))
    if not 1 <= threads <= MAX_THREADS:
        problems.append(Problem("threads", f"found {threads}, allowed: 1 to {MAX_THREADS}"))
    wrong = [name for name in _as_names(record) if name not in RECORDS]
    problems += [Problem("record", unknown_name("record", name, RECORDS)) for name in wrong]
    if fidelity in (Fidelity.HYBRID, Fidelity.FLOW) and (record or series_ps is not None):
        asked = ", ".join(_as_names(record)) or "series_ps"
        problems.append(Problem("record", f"found {asked}, allowed with fidelity {str(fidelity)!r}: nothing"))
    if series_ps is not None and series_ps < 1:
        problems.append(Problem("series_ps", f"found {series_ps}, allowed: at least 1"))
    if max_time_ps is not None and max_time_ps < 1:
        problems.append(Problem("max_time_ps", f"found {max_time_ps}, allowed: at least 1"))
    if problems:
        raise ConfigError(problems)


def _as_names(record: Collection[str]) -> Collection[str]:
    return (record,) if isinstance(record, str) else record


def _as_model(cluster: Cluster | Model | str | Path) -> Model:
    if isinstance(cluster, Model):
        return cluster
    if isinstance(cluster, (str, os.PathLike)):
        from fabricsim.cluster import Cluster as Loader

        cluster = Loader.from_toml(cluster)
    return compile(cluster)


def _advance(
    run: Any,
    slices: _Slices,
    series: _Series | None,
    progress: Callable[[Progress], None] | None,
    max_time_ps: int | None,
) -> None:
    """Step the run to its end, in slices of emulated time that take about a tenth of a second each."""
    began = time.perf_counter()
    total = int(run.total_ops)
    finished = False
    while not finished:
        begin_ps = slices.begin()
        until = begin_ps + slices.length_ps
        if series is not None:
            until = min(until, series.next_after(begin_ps))
        if max_time_ps is not None:
            until = min(until, max_time_ps)
        slices.until_ps = until
        before = time.perf_counter()
        finished = run.step(until)
        now = time.perf_counter()
        slices.took(now - before)
        if series is not None and (finished or until >= series.next_ps):
            # The last acknowledgements may pass after the last operation has ended.
            series.sample(max(int(run.counters()["end_ps"]), series.last_ps) if finished else until)
        if progress is not None and (finished or slices.due(now)):
            hops = int(run.counters()["packet_hops"])
            progress(Progress(_reached_ps(run, until), int(run.done_ops), total, hops, now - began))
        if not finished and max_time_ps is not None and until >= max_time_ps:
            raise EngineError(
                f"the emulated time reached the limit of {format_time(max_time_ps)}"
                f" with {run.done_ops} of {total} operations of ranks done"
            )


def _reached_ps(run: Any, until: int) -> int:
    """Return how far a run is; once all operations have ended only timers are left, which may be far away."""
    done = run.done_ops == run.total_ops
    return int(run.counters()["end_ps"]) if done else min(until, int(run.now_ps))


class _Slices:
    """From when to when to run before looking up again."""

    def __init__(self, run: Any, program: Program) -> None:
        self.run = run
        self.length_ps, self.until_ps = _FIRST_SLICE_PS, 0
        topology = program.model.topology
        rates = np.asarray(topology.cable_rate_mbps, np.float64)
        ours = np.isin(topology.cable_a, program.rank_host) | np.isin(topology.cable_b, program.rank_host)
        mbps = 2.0 * min(float(rates.sum()), _PATH_LINKS * float(rates[ours].sum()))
        hops_per_ps = mbps * 1e6 / _FULL_PACKET_BITS / 1e12
        self.most_ps = max(_FIRST_SLICE_PS, int(_BURST_S * _HOPS_PER_S / max(hops_per_ps, 1e-18)))
        self.told = self.asked = self.asking = 0.0

    def begin(self) -> int:
        """Return where the next slice begins: after a silence, where the next thing happens."""
        before = time.perf_counter()
        if _ASKING * (before - self.asked) < self.asking:
            return self.until_ps
        next_ps = int(self.run.now_ps)
        self.asked = time.perf_counter()
        self.asking = self.asked - before
        return max(self.until_ps, next_ps)

    def took(self, wall_s: float) -> None:
        if wall_s < _SHORT_S:
            self.length_ps = min(2 * self.length_ps, self.most_ps)
        elif wall_s > _LONG_S:
            self.length_ps = max(self.length_ps // 2, _LEAST_SLICE_PS)

    def due(self, now: float) -> bool:
        if now - self.told < 0.1:
            return False
        self.told = now
        return True


class _Series:
    """Samples of the links, to a file batch by batch when there is a folder, else in memory."""

    def __init__(self, run: Any, every_ps: int, folder: Path | None, provenance: dict[str, Any]) -> None:
        self.run, self.every_ps, self.next_ps, self.last_ps = run, every_ps, every_ps, 0
        self.schema = records.with_provenance("series", provenance)
        self.before: dict[str, np.ndarray] | None = None
        self.pending: list[pa.RecordBatch] = []
        self.kept: list[pa.RecordBatch] = []
        self.rows = 0
        self.path = folder / "series.arrow" if folder is not None else None
        self.writer = records.TableWriter(self.path, self.schema) if self.path is not None else None

    def next_after(self, begin_ps: int) -> int:
        """Return the next time to sample: nothing happens before ``begin_ps``, so no sample is due there."""
        if self.next_ps <= begin_ps:
            self.next_ps = (begin_ps // self.every_ps + 1) * self.every_ps
        return self.next_ps

    def sample(self, time_ps: int) -> None:
        now = self.run.links()
        batch = records.series_batch(time_ps, now, self.before)
        self.before, self.last_ps = now, time_ps
        self.next_ps += self.every_ps
        if batch is not None:
            self.pending.append(batch)
            self.rows += batch.num_rows
            if self.rows >= records.BATCH_ROWS:
                self._flush()

    def close(self) -> None:
        self._flush()
        if self.writer is not None:
            self.writer.close()

    def source(self) -> Callable[[], pa.Table]:
        if self.path is not None:
            return FileTable(self.path, "series")
        return _given(pa.Table.from_batches(self.kept, schema=self.schema))

    def _flush(self) -> None:
        if not self.pending:
            return
        table = pa.Table.from_batches(self.pending, schema=records.SCHEMAS["series"])
        table = table.combine_chunks().replace_schema_metadata(self.schema.metadata)
        self.pending, self.rows = [], 0
        if self.writer is not None:
            self.writer.write(table)
        else:
            self.kept.extend(table.to_batches())


def _result(
    program: Program,
    run: Any,
    provenance: dict[str, Any],
    series: _Series | None,
    status: str,
    until_ps: int = 0,
    has_rpcs: bool = False,
    detail: dict[str, Any] | None = None,
) -> Result:
    counters = run.counters()
    end_ps = int(counters["end_ps"])
    instances = program.expansion.fold(run.ops())
    ops = records.ops_table(program, instances, provenance)
    flows = records.flows_table(program, program.expansion.fold_sends(run.sends()), provenance)
    counts = run.links()
    length_ps = end_ps
    if status == "deadlock":  # when it came about is not known, but links were busy until then
        length_ps = max(end_ps, int(counts["busy_ps"].max(initial=0)))
    elif status != "complete":
        length_ps = max(end_ps, _reached_ps(run, until_ps))
    links = records.links_table(program.model.topology, counts, length_ps, provenance)
    parts = breakdown(ops, end_ps)
    summary: dict[str, Any] = {"status": status, "end_ps": end_ps}
    if detail is not None:  # no packets, so nothing to count of them
        summary |= {"fidelity": detail, "messages": int(counters["messages"])}
    else:
        summary |= {name: int(counters[name]) for name in COUNTERS if name in counters}
    summary |= {
        "digest": str(run.digest),
        "cluster": program.model.cluster.name,
        "hosts": int(program.model.topology.n_rank_hosts),
        "ranks": int(program.trace.n_ranks),
        "operations": program.lowered.num_rows,
        "operations_done": int(run.done_ops),
        "operations_total": int(run.total_ops),
        "flows_summary": flows_summary(flows),
        "breakdown": parts.summary(),
        "critical_path": _path(program, instances),
        "collectives": collectives(ops),
        "links": busiest_links(links),
        "paused_links": paused_links(links),
    }
    if _changes_at_all(program.model):
        summary["faults"] = {
            "changes": int(counters["changes"]),
            "lost_packets": int(counters["lost"]),
            "heals": int(counters["heals"]),
        }
    ranks = records.ranks_table(program, parts, provenance)
    tables = {"ops": ops, "flows": flows, "links": links, "ranks": ranks}
    sources: dict[str, Callable[[], pa.Table]] = {name: _given(table) for name, table in tables.items()}
    if program.files is not None:
        summary["storage"] = storage_summary(program, run, ops, end_ps)
        sources |= storage_tables(program, run, provenance, rpcs=has_rpcs)
    told = program.trace.provenance
    if told.get("generator") == TRAINING_GENERATOR:
        summary["training"] = training(ops, told)
    if told.get("generator") == CHECKPOINT_GENERATOR or _saves(told):
        found = checkpoints(ops)
        summary["checkpoints"] = {"saves": found.summary(), "restore": found.restore}
    if series is not None:
        sources["series"] = series.source()
    result = Result(summary=summary, provenance=provenance, sources=sources)
    if program.model.cluster.power is not None:
        summary["power"] = power(result, program.model.cluster)
    return result


def _saves(told: Mapping[str, Any]) -> bool:
    """Tell whether a generated training saves checkpoints."""
    options = told.get("options")
    return told.get("generator") == TRAINING_GENERATOR and bool(options and options.get("checkpoint_every"))


def _given(table: pa.Table) -> Callable[[], pa.Table]:
    return lambda: table


def _path(program: Program, instances: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """Return the critical path in short; None when there are too many operations to keep the graph of."""
    from fabricsim.trace.schema import KINDS

    if len(instances["row"]) > _PATH_INSTANCES:
        return None
    path = critical_path(
        program.lowered, instances["rank"], instances["start_ps"], instances["end_ps"], tuple(KINDS)
    )
    return path_summary(path, dict(_named(program, {segment.id for segment in path})))


def _named(program: Program, ids: set[int]) -> Iterator[tuple[int, str]]:
    table = program.trace.table
    if "name" not in table.column_names or not ids:
        return
    wanted = np.flatnonzero(np.isin(table["id"].to_numpy(), np.fromiter(ids, np.int64)))
    picked = table.select(["id", "name"]).take(pa.array(wanted))
    for operation, name in zip(picked["id"].to_pylist(), picked["name"].to_pylist(), strict=True):
        if name is not None:
            yield operation, name


def _who_waits(run: Any, program: Program, error: DeadlockError) -> DeadlockError:
    """Say which operations are stuck, by id, kind, name and rank, and on what."""
    from fabricsim.trace.schema import KINDS

    blocked = run.blocked(limit=20)
    if not blocked:
        return error
    ids, kinds = program.lowered["id"].to_numpy(), program.lowered["kind"].to_numpy()
    origin = program.expansion.origin
    names = dict(_named(program, {int(ids[origin[entry["row"]]]) for entry in blocked}))
    problems: list[Problem | str] = ["the program can never finish; these operations wait:"]
    for entry in blocked:
        row = int(origin[entry["row"]])
        operation = int(ids[row])
        name = f" {names[operation]!r}" if operation in names else ""
        place = f"operation {operation} ({KINDS[kinds[row]]}{name}) on rank {entry['rank']}"
        problems.append(Problem(place, str(entry["why"])))
    left = int(run.total_ops) - int(run.done_ops)
    if left > len(blocked):
        problems.append(f"and {left - len(blocked)} more that have not ended")
    return DeadlockError(problems)
