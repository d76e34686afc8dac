"""mdtest's own output: its head and summary, line by line as mdtest 4.0 prints them, and a JSON document.

Source: outputs of mdtest 3.4 to 4.0. Clock times are emulated, from 1 January 1970.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from fabricsim.storage_bench.ior_output import version
from fabricsim.storage_bench.mdtest import OPERATIONS, MdtestResult, Measured

__all__ = ["document", "summary", "text"]

_FIRST_FILE, _FIRST_TREE = OPERATIONS.index("File creation"), OPERATIONS.index("Tree creation")


def _clock(time_ps: int) -> str:
    return time.strftime("%m/%d/%Y %H:%M:%S", time.gmtime(time_ps // 10**12))


def _values(found: list[Measured], times: bool) -> tuple[float, float, float, float]:
    """Return greatest, least, mean and deviation over the iterations; 0 where a phase did not run."""
    if not found:
        return 0.0, 0.0, 0.0, 0.0
    values = [_milliseconds(phase) if times else phase.rate for phase in found]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return max(values), min(values), statistics.fmean(values), spread


def _milliseconds(phase: Measured) -> float:
    """Return the time of an operation of a task."""
    return phase.time_ps / 1e9 / max(phase.items, 1)


def summary(result: MdtestResult, *, times: bool = False) -> list[str]:
    """Return the lines of the summary.

    Parameters
    ----------
    result
        A run.
    times
        Milliseconds an operation (``-Z``) instead of operations a second.
    """
    what = "time (in ms/op)" if times else "rate (in ops/sec)"
    lines = [
        "",
        f"SUMMARY {what}: (of {result.config.iterations} iterations)",
        "   Operation                     Max            Min           Mean        Std Dev",
        "   ---------                     ---            ---           ----        -------",
    ]
    for operation in _told(result):
        numbers = " ".join(f"{value:14.3f}" for value in _values(result.of(operation), times))
        lines.append(f"   {operation:<22} {numbers}")
    return lines


def _told(result: MdtestResult) -> list[str]:
    """Return the operations of the summary: those of directories, of files, or both, and of trees."""
    config = result.config
    begin = 0 if config.directories else _FIRST_FILE
    end = _FIRST_TREE if config.files else _FIRST_FILE
    return [*OPERATIONS[begin:end], *OPERATIONS[_FIRST_TREE:]]


def text(
    result: MdtestResult, command: Sequence[str], *, rates: bool = True, times: bool = False
) -> list[str]:
    """Return all lines.

    Parameters
    ----------
    result
        A run.
    command
        The command line that is told.
    rates, times
        Which summaries.
    """
    config, tasks, per_node = result.config, result.tasks, result.tasks_per_node
    nodes = -(-tasks // per_node)
    quoted = " ".join([command[0], *(f"'{part}'" for part in command[1:])])
    items = tasks * config.items_per_task
    if config.files and config.directories:
        counted = f"{tasks} tasks, {items} files/directories"
    elif config.shared_file:
        counted = f"{tasks} tasks, {config.items_per_task} shared files"
    else:
        counted = f"{tasks} tasks, {items} {'files' if config.files else 'directories'}"
    lines = [
        f"-- started at {_clock(0)} --",
        "",
        f"mdtest-{version()} was launched with {tasks} total task(s) on {nodes} node(s)",
        f"Command line used: {quoted}",
        "Nodemap: " + "1" * per_node + "0" * (tasks - per_node),
        f"{'Path':<20}: {config.path}",
        f"{'Machine':<20}: emulated {result.cluster}",
    ]
    if config.stride:
        further = config.stride * (per_node if nodes > 1 else 1)
        lines.append(f"Shifting ranks by {further} for each phase.")
    lines.append(counted)
    if rates:
        lines += summary(result)
    if times:
        lines += summary(result, times=True)
    return [*lines, f"-- finished at {_clock(result.result.summary['end_ps'])} --"]


def document(result: MdtestResult, command: Sequence[str]) -> dict[str, Any]:
    """Return a JSON document: the summary, and exact times of each phase."""
    entries = []
    for operation in _told(result):
        rates, times = _values(result.of(operation), False), _values(result.of(operation), True)
        names = ("max", "min", "mean", "stddev")
        entries.append(
            {
                "operation": operation,
                "rate_ops_per_s": dict(zip(names, rates, strict=True)),
                "time_ms_per_op": dict(zip(names, times, strict=True)),
            }
        )
    return {
        "version": version(),
        "command_line": " ".join(command),
        "tasks": result.tasks,
        "tasks_per_node": result.tasks_per_node,
        "items_per_task": result.config.items_per_task,
        "iterations": result.config.iterations,
        "summary": entries,
        "phases": [
            {
                "operation": phase.operation,
                "iteration": phase.iteration,
                "items": phase.items,
                "time_ps": phase.time_ps,
                "rate_ops_per_s": phase.rate,
            }
            for phase in result.phases
        ],
        "fabricsim": {
            "cluster": result.cluster,
            "cluster_digest": result.cluster_digest,
            "seed": result.seed,
            "digest": result.result.digest,
        },
    }
