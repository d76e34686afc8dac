"""Prometheus text with the metric names of NCCL Inspector: boards of measured runs show emulated ones beside.

Source: NCCL, plugins/profiler/inspector: names, labels, ranges of sizes, means (geometric of bandwidths).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

import fabricsim
from fabricsim.analysis.collectives import bus_factor
from fabricsim.report.sample import Sample, sample_of, spread
from fabricsim.result import Result

__all__ = ["prometheus"]

#: Ranks at most, where none are named.
MOST_RANKS = 512

_GPU = re.compile(r"(.+)\.gpu(\d+)")

#: Kind -> what NCCL calls it.
_NAMES = {
    "all_reduce": "AllReduce",
    "all_gather": "AllGather",
    "reduce_scatter": "ReduceScatter",
    "all_to_all": "AlltoAll",
    "broadcast": "Broadcast",
    "reduce": "Reduce",
    "send": "Send",
    "recv": "Recv",
}

_METRICS = (
    ("nccl_bus_bandwidth_gbs", "Bus bandwidth of collectives, GB/s"),
    ("nccl_collective_exec_time_microseconds", "Time of collectives, microseconds"),
    ("nccl_p2p_bus_bandwidth_gbs", "Bus bandwidth of sends and receives, GB/s"),
    ("nccl_p2p_exec_time_microseconds", "Time of sends and receives, microseconds"),
)


def prometheus(result: Result, ranks: Sequence[int] | None = None) -> Iterator[str]:
    """Yield the lines of a text file for node exporter's textfile collector, without their ends.

    A value is the mean over a rank's operations of one kind, range of sizes and number of ranks: as NCCL
    Inspector's, the geometric mean of bandwidths and the arithmetic one of times. A rank's time runs from its
    own start to its end. Every sample has the label ``source="fabricsim"``; what a result does not tell (job,
    communicator, algorithm) is ``unknown``, as there.

    Parameters
    ----------
    result
        Of a replay.
    ranks
        Which ranks; by default all, or 512 of them, evenly spread.
    """
    n_ranks = max(1, result.ranks.num_rows)
    ops = sample_of(
        result, spread(n_ranks, MOST_RANKS) if ranks is None else np.unique(np.array(ranks, np.int64))
    )
    node, gpu = _places(result)
    members, nodes = _groups(result, ops, node)
    wanted = np.isin(ops.kind, [code for code, kind in enumerate(ops.kinds) if kind in _NAMES])
    wanted &= (ops.end > ops.start) & (ops.size > 0)
    size = _range(ops.size[wanted])
    columns = (ops.kind[wanted], ops.rank[wanted], members[wanted], nodes[wanted], *size)
    keys, which = _grouped(columns)
    time_us = (ops.end - ops.start)[wanted] / ops.count[wanted] / 1e6
    factor = np.array([bus_factor(ops.kinds[kind], int(many)) for kind, many in keys[[0, 2]].T.tolist()])
    bandwidth = ops.size[wanted] / time_us / 1e3 * factor[which] if len(which) else np.zeros(0)
    groups = keys.shape[1]
    many = np.maximum(np.bincount(which, minlength=groups), 1)
    mean = np.bincount(which, weights=time_us, minlength=groups) / many
    usable = bandwidth > 0
    logs = np.log(bandwidth, out=np.zeros(len(bandwidth)), where=usable)
    busy = np.bincount(which, weights=usable, minlength=groups)
    geometric = np.exp(np.bincount(which, weights=logs, minlength=groups) / np.maximum(busy, 1)) * (busy > 0)
    labels = [_labels(ops, key, node, gpu) for key in keys.T.tolist()]
    single = np.isin(keys[0], [code for code, kind in enumerate(ops.kinds) if kind in ("send", "recv")])
    for at, (metric, text) in enumerate(_METRICS):
        mine = np.flatnonzero(single == (at >= 2)).tolist()
        if mine:
            yield f"# HELP {metric} {text}"
            yield f"# TYPE {metric} gauge"
            values = mean if at % 2 else geometric
            yield from (f"{metric}{{{labels[key]}}} {values[key]:.6g}" for key in mine)


def _places(result: Result) -> tuple[list[str], list[str]]:
    """Return node and GPU of each rank: ``node3`` and ``GPU1`` of ``node3.gpu1``, else host and ``GPU0``."""
    ranks = result.ranks
    if "host" not in ranks.column_names:
        return [f"rank{rank}" for rank in range(ranks.num_rows)], ["GPU0"] * ranks.num_rows
    found = [(host, _GPU.fullmatch(host)) for host in ranks["host"].to_pylist()]
    nodes = [match[1] if match else host for host, match in found]
    return nodes, [f"GPU{match[2] if match else 0}" for _, match in found]


def _groups(result: Result, ops: Sample, node: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each operation of the sample how many ranks, on how many nodes, take part in it."""
    number = {name: at for at, name in enumerate(dict.fromkeys(node))}
    node_of = np.array([number[name] for name in node], np.int64)
    table = result.ops
    group = table["group"].to_numpy().astype(np.int64) if "group" in table.column_names else 0
    stride = int(np.max(group, initial=0)) + 1
    operation = table["id"].to_numpy() * stride + group
    codes, which = _encoded(operation)
    members = np.bincount(which, minlength=len(codes))
    pairs, _ = _encoded(which * len(number) + node_of[table["rank"].to_numpy()])
    nodes = np.bincount(pairs // max(1, len(number)), minlength=len(codes))
    order = np.argsort(codes, kind="stable")
    mine = order[np.searchsorted(codes[order], ops.id * stride + ops.group)] if len(codes) else ops.id
    members, nodes = members[mine], nodes[mine]
    single = np.isin(ops.kind, [code for code, kind in enumerate(ops.kinds) if kind in ("send", "recv")])
    members[single], nodes[single] = 2, 2
    # A send and its receive are two rows; the flow tells both ends.
    flows = result.flows
    src, dst = flows["src"].to_numpy(), flows["dst"].to_numpy()
    between = 1 + (node_of[src] != node_of[dst])
    known = flows["recv"].fill_null(-1).to_numpy() if "recv" in flows.column_names else np.full(len(src), -1)
    for operation, rank in ((flows["id"].to_numpy(), src), (known, dst)):
        at = ops.rows_of(operation, rank)
        nodes[at[at >= 0]] = between[at >= 0]
    return members, nodes


def _encoded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different values, in the order in which they come, and which of them each one is."""
    encoded = pa.array(values).dictionary_encode()
    return encoded.dictionary.to_numpy(), encoded.indices.to_numpy().astype(np.int64)


def _grouped(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the different rows of some columns, in order (columns x rows), and which of them each one is."""
    which = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, which = _encoded(which * (int(column.max(initial=0)) + 1) + column)
    first = np.unique(which, return_index=True)[1]
    keys = np.stack([column[first] for column in columns])
    order = np.lexsort(keys[::-1])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return keys[:, order], place[which]


def _range(size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unit (a power of 1024) and whole number of units of sizes."""
    unit = np.minimum(np.searchsorted(1024 ** np.arange(1, 5), size, side="right"), 4)
    return unit, size // 1024**unit


def _labels(ops: Sample, key: list[int], node: list[str], gpu: list[str]) -> str:
    kind, rank, members, nodes, unit, lower = key
    name = _NAMES[ops.kinds[kind]]
    found = {
        "version": f"fabricsim-{fabricsim.__version__}",
        "slurm_job_id": "unknown",
        "node": node[rank],
        "gpu": gpu[rank],
        "comm_name": "unknown",
        "n_nodes": nodes,
        "nranks": members,
        "p2p_operation" if name in ("Send", "Recv") else "collective": name,
        "message_size": f"{lower}-{lower + 1}{('B', 'KB', 'MB', 'GB', 'TB')[unit]}",
    }
    if "collective" in found:
        found["algo_proto"] = "unknown"
    found["source"] = "fabricsim"
    return ",".join(f'{label}="{value}"' for label, value in found.items())
