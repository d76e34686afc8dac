"""IOR on an emulated cluster: the times that it takes of its phases.

A phase's bandwidth counts from the first start of an open to the last end of a close, as IOR's does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fabricsim.errors import ConfigError, Problem
from fabricsim.storage.tables import is_under
from fabricsim.storage_bench.ior_config import Ior
from fabricsim.storage_bench.ior_trace import Phase, ior_trace
from fabricsim.storage_bench.rows import Times, tell_refusals

if TYPE_CHECKING:
    from fabricsim.program import Model
    from fabricsim.run import Progress

__all__ = [
    "Ior",
    "IorResult",
    "Transfer",
    "ior_trace",
    "measure",
    "mount_of",
    "mounts_of",
    "places_of",
    "run_ior",
    "tasks_of",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """What IOR tells of a phase: times in picoseconds, from the first start to the last end of any task.

    Parameters
    ----------
    access, repetition
        ``write`` or ``read``, and which repetition from 0.
    begin_ps
        When its first open began.
    size_bytes, operations
        Bytes and transfers of all tasks.
    open_ps, access_ps, close_ps, total_ps
        Opens; transfers with the fsync at their end; closes; from the first open to the last close.
    latency_ps
        Mean time of a transfer on the task where that is least.
    """

    access: str
    repetition: int
    begin_ps: int
    size_bytes: int
    operations: int
    open_ps: int
    access_ps: int
    close_ps: int
    total_ps: int
    latency_ps: float

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth over the total time, bytes a second."""
        return self.size_bytes * 1e12 / self.total_ps if self.total_ps else 0.0

    @property
    def iops(self) -> float:
        """Transfers a second over the time of the transfers."""
        return self.operations * 1e12 / self.access_ps if self.access_ps else 0.0


@dataclass(frozen=True, kw_only=True)
class IorResult:
    """All phases of a run.

    Parameters
    ----------
    config, tasks, tasks_per_node
        What was asked for.
    transfers
        Each write and read phase, in order.
    removals
        (repetition, picoseconds) of each removal of the files.
    cluster, seed, result
        Where and how it ran; ``result`` is the Result of the replay.
    """

    config: Ior
    tasks: int
    tasks_per_node: int
    transfers: list[Transfer]
    removals: list[tuple[int, int]]
    cluster: str
    cluster_digest: str
    seed: int
    result: Any = field(repr=False)

    def of(self, access: str) -> list[Transfer]:
        """Return the phases of one kind."""
        return [transfer for transfer in self.transfers if transfer.access == access]


def places_of(model: Model) -> tuple[int, int]:
    """Return how many ranks a cluster has room for, and how many of them a node."""
    return int(model.topology.n_rank_hosts), int(
        getattr(model.cluster.topology_spec, "gpus_per_node", 0)
    ) or 1


def mounts_of(model: Model) -> list[str]:
    """Return where the cluster's file systems are.

    Raises
    ------
    ConfigError
        When it has none.
    """
    found = [str(storage.mount) for storage in getattr(model.cluster, "storage", None) or ()]
    if not found:
        name = model.cluster.name
        text = (
            f"cluster {name!r} has no file system, allowed: one with [storage], such as demo-64-400g-lustre"
        )
        raise ConfigError([Problem("--cluster", text)])
    return found


def mount_of(model: Model, path: str, flag: str) -> str:
    """Return where the first file system is, in which a path lies that does not begin with ``/``.

    Raises
    ------
    ConfigError
        When there is none, or none holds the path.
    """
    mounts = mounts_of(model)
    if path.startswith("/") and not any(is_under(path, mount) for mount in mounts):
        text = f"found {path!r}, allowed: a path in one of: {', '.join(mounts)}"
        raise ConfigError([Problem(flag, text)])
    return mounts[0]


def tasks_of(model: Model, tasks: int | None, flag: str) -> int:
    """Return how many ranks take part; None: all that there are.

    Raises
    ------
    ConfigError
        When there are fewer.
    """
    most, _ = places_of(model)
    if tasks is not None and not 1 <= tasks <= most:
        raise ConfigError([Problem(flag, f"found {tasks}, allowed: 1 to {most}")])
    return most if tasks is None else tasks


def run_ior(
    model: Model,
    config: Ior,
    *,
    tasks: int | None = None,
    seed: int = 1,
    threads: int = 1,
    folder: Path | None = None,
    max_time_ps: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    record: Collection[str] = (),
) -> IorResult:
    """Run IOR on an emulated cluster.

    Parameters
    ----------
    model
        A compiled cluster with a file system.
    config
        What IOR is to do.
    tasks
        The first so many ranks; default all.
    seed, threads, max_time_ps, progress, record
        As of ``replay``.
    folder
        Where the result of the replay is saved.

    Raises
    ------
    ConfigError
        When the cluster has no file system, or fewer ranks.
    """
    from fabricsim.program import build_program
    from fabricsim.run import run_program

    tasks = tasks_of(model, tasks, "-N")
    per_node = min(places_of(model)[1], tasks)
    mount = mount_of(model, config.test_file, "-o")
    trace, phases = ior_trace(config, tasks=tasks, tasks_per_node=per_node, mount=mount, seed=seed)
    result = run_program(
        build_program(model, trace),
        seed=seed,
        threads=threads,
        folder=folder,
        max_time_ps=max_time_ps,
        progress=progress,
        record=record,
    )
    reads = sum(phase.access in ("read", "check") for phase in phases)
    tell_refusals(result.summary, reads * config.block_bytes * config.segments * tasks)
    transfers, removals = measure(config, phases, Times(result.ops, tasks))
    return IorResult(
        config=config,
        tasks=tasks,
        tasks_per_node=per_node,
        transfers=transfers,
        removals=removals,
        cluster=model.cluster.name,
        cluster_digest=model.digest,
        seed=seed,
        result=result,
    )


def measure(config: Ior, phases: list[Phase], times: Times) -> tuple[list[Transfer], list[tuple[int, int]]]:
    """Return what IOR tells of each phase, and (repetition, picoseconds) of each removal."""
    found: list[Transfer] = []
    removals: list[tuple[int, int]] = []
    operations = config.transfers_per_task * times.n_ranks
    for phase in phases:
        if phase.access == "remove":
            # As rank 0 sees it, barriers included.
            started, ended = times.of(phase.opens)
            removals.append((phase.repetition, int(ended[0] - started[0])))
        elif phase.access != "check":
            opened, open_end = times.of(phase.opens)
            begun, ended = times.of(phase.transfers)
            closing, closed = times.of(phase.closes)
            some = ended >= 0
            counts = _operations(config, phase, times)
            mean = (ended - begun)[some] / np.maximum(counts[some], 1)
            found.append(
                Transfer(
                    access=phase.access,
                    repetition=phase.repetition,
                    begin_ps=int(opened.min()),
                    size_bytes=operations * config.transfer_bytes,
                    operations=operations,
                    open_ps=int(open_end.max() - opened.min()),
                    access_ps=int(ended[some].max() - begun[some].min()),
                    close_ps=int(closed.max() - closing.min()),
                    total_ps=int(closed.max() - opened.min()),
                    latency_ps=float(mean.min()),
                )
            )
    return found, removals


def _operations(config: Ior, phase: Phase, times: Times) -> np.ndarray:
    """Return the transfers of each task."""
    if not (config.random_offset and not config.file_per_task):
        return np.full(times.n_ranks, config.transfers_per_task)
    rows = times.count(phase.transfers)
    if phase.access == "write":
        rows = rows - bool(config.fsync)
        rows = rows // 2 if config.fsync_per_write else rows
    return rows
