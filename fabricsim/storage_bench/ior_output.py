"""IOR's own output: tables and summaries, JSON and CSV, line by line as IOR 4.0 prints them.

Source: outputs of IOR 3.3 to 4.0 and its user documentation. The lines of the greatest bandwidth and of
removals are those of 3.3, which 4.0 prints with ``-v``. Clock times are emulated, from 1 January 1970.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import fabricsim
from fabricsim.storage_bench.ior import IorResult, Transfer

__all__ = ["IOR_VERSION", "clock", "csv", "document", "human", "text"]

#: The version whose format this is.
IOR_VERSION = "4.0.0"

MIB, MB, KIB = 1 << 20, 1_000_000, 1 << 10

_HEADS = ["access", "bw(MiB/s)", "IOPS", "Latency(s)", "block(KiB)", "xfer(KiB)", "open(s)", "wr/rd(s)"]
_HEADS += ["close(s)", "total(s)", "iter"]
_WIDTHS = (10, 11, 11, 12, 11, 11, 11, 11, 11, 11, 4)
_TABLE = [
    "".join(f"{word:<{width}}" for word, width in zip(words, _WIDTHS, strict=True)).rstrip()
    for words in (_HEADS, ["-" * max(len(word), 8 if "(s)" in word else 0) for word in _HEADS])
]
_SUMMARY = (
    "Operation   Max(MiB)   Min(MiB)  Mean(MiB)     StdDev   Max(OPs)   Min(OPs)  Mean(OPs)     StdDev"
    "    Mean(s) Stonewall(s) Stonewall(MiB) Test# #Tasks tPN reps fPP reord reordoff reordrand seed segcnt"
    "   blksiz    xsize aggs(MiB)   API RefNum"
)


def clock(time_ps: int) -> str:
    """Return an emulated time as a date.

    >>> clock(61_000_000_000_000)
    'Thu Jan  1 00:01:01 1970'
    """
    return time.asctime(time.gmtime(time_ps // 10**12))


def human(size_bytes: int) -> str:
    """Write a size as IOR does: whole units, or two decimals; bytes below a MiB.

    >>> human(262144), human(1 << 20), human(3 << 29), human(6710886400 << 10)
    ('262144 bytes', '1 MiB', '1.50 GiB', '6.25 TiB')
    """
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size_bytes >= 1 << power:
            whole = size_bytes % (1 << power) == 0
            return f"{size_bytes >> power} {unit}" if whole else f"{size_bytes / (1 << power):.2f} {unit}"
    return f"{size_bytes} bytes"


def _number(value: float) -> str:
    """Write a number of IOR's table: ten columns, six decimals below 1, two below 3600, then none."""
    digits = 6 if value < 1 else 2 if value < 3600 else 0
    return f"{value:<10.{digits}f}"


def _seconds(value_ps: float) -> float:
    return value_ps / 1e12


def _pair(name: str, value: object) -> str:
    return f"{name:<20}: {value}"


def version() -> str:
    """Return the version that is told."""
    return f"{IOR_VERSION}+fabricsim-{fabricsim.__version__}"


def text(result: IorResult, command: Sequence[str]) -> list[str]:
    """Return the lines of the default format.

    Parameters
    ----------
    result
        A run.
    command
        The command line that is told.
    """
    config = result.config
    lines = [
        f"IOR-{version()}: MPI Coordinated Test of Parallel I/O",
        _pair("Began", clock(0)),
        _pair("Command line", " ".join(command)),
        _pair("Machine", f"emulated {result.cluster}"),
    ]
    if config.verbose:
        lines.append("Start time skew across all tasks: 0.00 sec")
    lines += [
        _pair("TestID", 0),
        _pair("StartTime", clock(0)),
        _pair("Path", config.test_file),
    ]
    if config.verbose:
        lines.append(f"Participating tasks : {result.tasks}")
    lines += ["", "Options: "]
    lines += [_pair(name, value) for name, value in options(result).items()]
    lines += ["", "Results: ", "", *_TABLE]
    lines += _rows(result)
    for access, title in (("write", "Max Write: "), ("read", "Max Read:  ")):
        if found := result.of(access):
            best = max(transfer.bytes_per_s for transfer in found)
            lines.append(f"{title}{best / MIB:.2f} MiB/sec ({best / MB:.2f} MB/sec)")
    lines += ["", "Summary of all tests:", _SUMMARY]
    lines += [_summary_row(result, access) for access in ("write", "read") if result.of(access)]
    return [*lines, _pair("Finished", clock(result.result.summary["end_ps"]))]


def _rows(result: IorResult) -> list[str]:
    config = result.config
    lines = []
    removals = dict(result.removals)
    for repetition in range(config.repetitions):
        for transfer in result.transfers:
            if transfer.repetition != repetition:
                continue
            if config.verbose:
                lines.append(f"Commencing {transfer.access} performance test: {clock(transfer.begin_ps)}")
            lines.append(_row(config.block_bytes, config.transfer_bytes, transfer))
        if repetition in removals:
            took = _number(_seconds(removals[repetition]))
            lines.append(
                "remove    -          -          -           -          -          -          -          -"
                f"          {took} {repetition:<4d}"
            )
    return lines


def _row(block: int, size: int, transfer: Transfer) -> str:
    numbers = (
        block / KIB,
        size / KIB,
        _seconds(transfer.open_ps),
        _seconds(transfer.access_ps),
        _seconds(transfer.close_ps),
        _seconds(transfer.total_ps),
    )
    head = f"{transfer.access:<10}{_number(transfer.bytes_per_s / MIB)} {_number(transfer.iops)} "
    head += f"{_number(_seconds(transfer.latency_ps))}  "
    return head + " ".join(map(_number, numbers)) + f" {transfer.repetition:<4d}"


def options(result: IorResult) -> dict[str, object]:
    """Return the entries of "Options", in order."""
    config = result.config
    found: dict[str, object] = {
        "api": "POSIX",
        "apiVersion": "",
        "test filename": config.test_file,
        "access": "file-per-process" if config.file_per_task else "single-shared-file",
        "type": "independent",
        "segments": config.segments,
        "ordering in a file": "random" if config.random_offset else "sequential",
        "ordering inter file": "no tasks offsets",
    }
    if config.reorder or config.reorder_random:
        found["ordering inter file"] = "constant task offset" if config.reorder else "random task offset"
        found["task offset"] = config.node_offset
    if config.reorder_random:
        found["reorder random seed"] = config.reorder_seed
    return found | {
        "nodes": -(-result.tasks // result.tasks_per_node),
        "tasks": result.tasks,
        "clients per node": result.tasks_per_node,
        "repetitions": config.repetitions,
        "xfersize": human(config.transfer_bytes),
        "blocksize": human(config.block_bytes),
        "aggregate filesize": human(config.block_bytes * config.segments * result.tasks),
        **({"verbose": config.verbose} if config.verbose else {}),
    }


def _statistics(values: list[float]) -> tuple[float, float, float, float]:
    return max(values), min(values), statistics.fmean(values), statistics.pstdev(values)


def _totals(result: IorResult, access: str) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Return greatest, least, mean and deviation of MiB/s and of operations/s, and the mean time in s."""
    found = result.of(access)
    bandwidth = _statistics([transfer.bytes_per_s / MIB for transfer in found])
    # The summary counts operations over the total time, the table over that of the transfers.
    operations = _statistics([t.bytes_per_s / result.config.transfer_bytes for t in found])
    return bandwidth, operations, statistics.fmean(_seconds(transfer.total_ps) for transfer in found)


def _summary_row(result: IorResult, access: str) -> str:
    config = result.config
    bandwidth, operations, mean_s = _totals(result, access)
    numbers = " ".join(f"{value:10.2f}" for value in (*bandwidth, *operations))
    total = config.block_bytes * config.segments * result.tasks / MIB
    return (
        f"{access:<9} {numbers} {mean_s:10.5f} {'NA':>10} {'NA':>13} {0:5d} {result.tasks:6d}"
        f" {result.tasks_per_node:3d} {config.repetitions:4d} {config.file_per_task:3d} {config.reorder:5d}"
        f" {config.node_offset:8d} {config.reorder_random:9d} {config.reorder_seed:4d} {config.segments:6d}"
        f" {config.block_bytes:8d} {config.transfer_bytes:8d} {total:9.1f} POSIX {config.reference:6d}"
    )


def _four(value: float) -> float:
    """Round as IOR's JSON does: four decimals."""
    return round(value, 4)


def document(result: IorResult, command: Sequence[str]) -> dict[str, Any]:
    """Return the document of ``summaryFormat=JSON``, with exact times under ``fabricsim``.

    Parameters
    ----------
    result
        A run.
    command
        The command line that is told.
    """
    config = result.config
    rows: list[dict[str, Any]] = []
    removals = dict(result.removals)
    for repetition in range(config.repetitions):
        rows += [_json_row(result, t) for t in result.transfers if t.repetition == repetition]
        if repetition in removals:
            rows.append({"access": "remove", "totalTime": _four(_seconds(removals[repetition]))})
    best: dict[str, float] = {}
    for access in ("write", "read"):
        if found := result.of(access):
            rate = max(transfer.bytes_per_s for transfer in found)
            best |= {f"{access}MiB": _four(rate / MIB), f"{access}MB": _four(rate / MB)}
    test = {
        "TestID": 0,
        "StartTime": clock(0),
        "Path": config.test_file,
        "Parameters": _parameters(result),
        "Options": options(result),
        "Results": rows,
        "max": best,
    }
    return {
        "Version": version(),
        "Began": clock(0),
        "Command line": " ".join(command),
        "Machine": f"emulated {result.cluster}",
        "tests": [test],
        "summary": [_json_summary(result, access) for access in ("write", "read") if result.of(access)],
        "Finished": clock(result.result.summary["end_ps"]),
        "fabricsim": {
            "cluster": result.cluster,
            "cluster_digest": result.cluster_digest,
            "seed": result.seed,
            "digest": result.result.digest,
            "phases": [
                {
                    "access": t.access,
                    "repetition": t.repetition,
                    "bytes": t.size_bytes,
                    "open_ps": t.open_ps,
                    "access_ps": t.access_ps,
                    "close_ps": t.close_ps,
                    "total_ps": t.total_ps,
                }
                for t in result.transfers
            ],
            "removals_ps": [took for _, took in result.removals],
        },
    }


def _json_row(result: IorResult, transfer: Transfer) -> dict[str, Any]:
    return {
        "access": transfer.access,
        "bwMiB": _four(transfer.bytes_per_s / MIB),
        "blockKiB": _four(result.config.block_bytes / KIB),
        "xferKiB": _four(result.config.transfer_bytes / KIB),
        "iops": _four(transfer.iops),
        "latency": _four(_seconds(transfer.latency_ps)),
        "openTime": _four(_seconds(transfer.open_ps)),
        "wrRdTime": _four(_seconds(transfer.access_ps)),
        "closeTime": _four(_seconds(transfer.close_ps)),
        "totalTime": _four(_seconds(transfer.total_ps)),
    }


def _json_summary(result: IorResult, access: str) -> dict[str, Any]:
    config = result.config
    bandwidth, operations, mean_s = _totals(result, access)
    found: dict[str, Any] = {
        "operation": access,
        "API": "POSIX",
        "TestID": 0,
        "ReferenceNumber": config.reference,
        "segmentCount": config.segments,
        "blockSize": config.block_bytes,
        "transferSize": config.transfer_bytes,
        "numTasks": result.tasks,
        "tasksPerNode": result.tasks_per_node,
        "repetitions": config.repetitions,
        "filePerProc": int(config.file_per_task),
        "reorderTasks": int(config.reorder),
        "taskPerNodeOffset": config.node_offset,
        "reorderTasksRandom": int(config.reorder_random),
        "reorderTasksRandomSeed": config.reorder_seed,
    }
    names = ("bwMaxMIB", "bwMinMIB", "bwMeanMIB", "bwStdMIB", "OPsMax", "OPsMin", "OPsMean", "OPsSD")
    found |= dict(zip(names, map(_four, (*bandwidth, *operations)), strict=True))
    total = config.block_bytes * config.segments * result.tasks / MIB
    return found | {"MeanTime": _four(mean_s), "xsizeMiB": _four(total)}


def _parameters(result: IorResult) -> dict[str, Any]:
    """Return what IOR lists of its parameters that has a meaning here."""
    config = result.config
    return {
        "testID": 0,
        "refnum": config.reference,
        "api": "POSIX",
        "platform": "fabricsim",
        "testFileName": config.test_file,
        "deadlineForStonewall": 0,
        "maxTimeDuration": 0,
        "nodes": -(-result.tasks // result.tasks_per_node),
        "tasksPerNode": result.tasks_per_node,
        "repetitions": config.repetitions,
        "multiFile": int(config.multi_file),
        "interTestDelay": config.delay_s,
        "fsync": int(config.fsync),
        "fsyncperwrite": int(config.fsync_per_write),
        "useExistingTestFile": int(config.existing),
        "uniqueDir": int(config.unique_dir),
        "readFile": int(config.read),
        "writeFile": int(config.write),
        "filePerProc": int(config.file_per_task),
        "reorderTasks": int(config.reorder),
        "reorderTasksRandom": int(config.reorder_random),
        "reorderTasksRandomSeed": config.reorder_seed,
        "randomOffset": int(config.random_offset),
        "checkWrite": int(config.check_write),
        "checkRead": int(config.check_read),
        "useO_DIRECT": int(config.direct),
        "keepFile": int(config.keep),
        "verbose": config.verbose,
        "collective": 0,
        "segmentCount": config.segments,
        "transferSize": config.transfer_bytes,
        "blockSize": config.block_bytes,
    }


def csv(result: IorResult) -> list[str]:
    """Return the lines of ``summaryFormat=CSV``."""
    config = result.config
    lines = [
        "access,bw(MiB/s),IOPS,Latency,block(KiB),xfer(KiB),open(s),wr/rd(s),close(s),total(s),numTasks,iter"
    ]
    for t in result.transfers:
        numbers = (
            t.bytes_per_s / MIB,
            t.iops,
            _seconds(t.latency_ps),
            config.block_bytes / KIB,
            config.transfer_bytes / KIB,
            *(_seconds(value) for value in (t.open_ps, t.access_ps, t.close_ps, t.total_ps)),
        )
        row = ",".join(f"{value:.4f}" for value in numbers)
        lines.append(f"{t.access},{row},{result.tasks},{t.repetition}")
    return lines
