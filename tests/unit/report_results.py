"""Results that the tests of reports and exports share."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

import fabricsim
from fabricsim import records
from fabricsim.result import Result
from fabricsim.workload.rows import Rows

#: The kinds of operations of a step that are in flight together.
RANKS = range(8)


def small_result() -> Result:
    """Two steps of eight ranks: compute, collectives, sends and a checkpoint, with samples of the links."""
    rows = Rows()
    rows.open(RANKS, "/ckpt/{rank}", create=True, stream=2)
    for step in range(2):
        forward = rows.add(
            "compute", RANKS, duration_ps=40_000_000, stream=0, step=step, name="layer 3 forward"
        )
        rows.add("all_reduce", RANKS, bytes=1 << 20, stream=1, step=step, after=[forward], name="layer 3 sum")
        rows.add("all_gather", RANKS, bytes=1 << 19, stream=1, step=step, name=f"<gather> {step}")
        rows.add("compute", RANKS, duration_ps=20_000_000 * (1 + step), stream=0, step=step, name="layer 4")
        rows.add("send", [0, 1], peer=[4, 5], bytes=50_000, stream=3, step=step, tag=step, name="activations")
        rows.add("recv", [4, 5], peer=[0, 1], bytes=50_000, stream=3, step=step, tag=step)
        rows.add("barrier", RANKS, stream=1, step=step)
    rows.write(RANKS, "/ckpt/{rank}", 4 << 20, stream=2)
    rows.add("fsync", RANKS, file="/ckpt/{rank}", stream=2)
    cluster = fabricsim.Cluster.from_toml("demo-64-400g-lustre")
    return fabricsim.replay(rows.trace(), cluster, series_ps=5_000_000)


def large_result(ranks: int, each: int) -> Result:
    """A result with many ranks and operations, made without a run: compute and communication in turn.

    A host has one link to its leaf and one back, 32 hosts a leaf.
    """
    rank, at = np.tile(np.arange(ranks), each), np.repeat(np.arange(each), ranks)
    kinds = pa.array(["compute", "all_reduce", "all_gather"])
    start = at * 1_000_000 + rank * 10
    ops = {
        "id": at,
        "kind": pa.DictionaryArray.from_arrays(pa.array((at % 3).astype(np.int8)), kinds),
        "rank": rank,
        "start_ps": start,
        "end_ps": start + 900_000 - (rank * 7 + at * 13) % 5000,
        "name": pa.DictionaryArray.from_arrays(
            pa.array((at % 200).astype(np.int32)),
            pa.array([f"layer {layer} of block {layer % 7}" for layer in range(200)]),
        ),
        "bytes": np.where(at % 3, 1 << 20, 0),
        "step": at // max(1, each // 4),
        "stream": at % 2,
        "group": np.zeros(len(at), np.int32),
        "count": np.ones(len(at), np.int32),
    }
    hosts = [f"host{host}" for host in range(ranks)]
    leaves = [f"leaf{host // 32}" for host in range(ranks)]
    src = [name for pair in zip(hosts, leaves, strict=True) for name in pair]
    dst = [name for pair in zip(leaves, hosts, strict=True) for name in pair]
    links = len(src)
    none = np.zeros(links, np.int64)
    busy = (np.arange(links) * 7919 % 1000) * 1000
    end_ps = each * 1_000_000
    tables = {
        "ops": records.table_of("ops", ops, {}),
        "flows": records.with_provenance("flows", {}).empty_table(),
        "links": records.table_of(
            "links",
            {name: none for name in ("ecn_marks", "drops", "pauses", "paused_ps", "lost_packets", "down_ps")}
            | {
                "link": pa.array([f"{a}->{b}" for a, b in zip(src, dst, strict=True)]),
                "src": pa.array(src),
                "dst": pa.array(dst),
            }
            | {
                "network": pa.array(["scale_out"] * links),
                "src_tier": np.tile([0, 1], ranks),
                "dst_tier": np.tile([1, 0], ranks),
            }
            | {
                "rate_mbps": none + 400_000,
                "packets": none,
                "bytes": busy,
                "busy_ps": busy,
                "max_queue_bytes": busy,
            }
            | {"utilisation": busy / end_ps},
            {},
        ),
        "ranks": records.table_of(
            "ranks",
            {
                "rank": np.arange(ranks),
                "host": pa.array(hosts),
                "compute_ps": np.arange(ranks) % 97 * 1000,
                "exposed_communication_ps": np.arange(ranks) % 89 * 1000,
                "overlapped_communication_ps": np.zeros(ranks, np.int64),
                "exposed_storage_ps": np.zeros(ranks, np.int64),
                "overlapped_storage_ps": np.zeros(ranks, np.int64),
                "idle_ps": np.arange(ranks) % 83 * 1000,
            },
            {},
        ),
    }
    parts = {"compute_ps": end_ps // 3, "exposed_communication_ps": end_ps // 2, "idle_ps": end_ps // 6}
    parts |= {
        f"{name}_ps": 0 for name in ("overlapped_communication", "exposed_storage", "overlapped_storage")
    }
    summary = {
        "end_ps": end_ps,
        "digest": "0" * 16,
        "cluster": "made up",
        "ranks": ranks,
        "operations": each,
        "breakdown": {"total_ps": end_ps, "mean": parts, "slowest": parts | {"rank": 0}, "by_kind": []},
        "collectives": [],
    }
    sources = {name: (lambda table=table: table) for name, table in tables.items()}
    return Result(summary=summary, provenance={}, sources=sources)
