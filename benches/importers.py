"""How fast other tools' files come in and go out: rows of the trace (or nodes) a CPU-second, by format.

    python benches/importers.py [--scale N] [--repeat N] [-o results.json]

Each input is made first, in a folder of its own; the best of N runs counts. See benches/README.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fabricsim
from fabricsim.convert import FORMATS, export
from fabricsim.workload.rows import Rows

RANKS = 64


def goal(folder: Path, scale: int) -> Path:
    """A ring of messages and computations, every message with a tag of its own."""
    lines = [f"num_ranks {RANKS}"]
    for rank in range(RANKS):
        lines.append(f"rank {rank} {{")
        for n in range(500 * scale):
            lines += [
                f"s{n}: send 31250b to {(rank + 1) % RANKS} tag {n}",
                f"r{n}: recv 31250b from {(rank - 1) % RANKS} tag {n}",
                f"c{n}: calc 1000",
                f"c{n} requires r{n}",
            ]
            if n:
                lines.append(f"s{n} requires c{n - 1}")
        lines.append("}")
    return written(folder / "ring.goal", "\n".join(lines))


def goal_binary(folder: Path, scale: int) -> Path:
    """The same ring in the binary format: nodes of 39 bytes, then who waits for whom."""
    n = 500 * scale
    spans, body = [], b""
    begin = 6 + 16 * RANKS
    for rank in range(RANKS):
        nodes, listed = [], []
        for k in range(n):
            first = len(listed)
            last = k + 1 == n
            listed += [3 * k + 2] + ([] if last else [3 * k + 3])
            nodes.append(
                struct.pack("<IBIQIBBIIII", k > 0, 1, (rank + 1) % RANKS, 31250, k, 0, 0, 0, first, 0, first)
            )
            nodes.append(
                struct.pack("<IBIQIBBIIII", 0, 2, (rank - 1) % RANKS, 31250, k, 0, 0, 1, first, 0, first + 1)
            )
            more = 0 if last else 1
            nodes.append(struct.pack("<IBIQIBBIIII", 1, 3, 0, 1000, 0, 0, 0, more, first + 1, 0, first + 1))
        roots = [0, *range(1, 3 * n, 3)]
        data = struct.pack(f"<II{len(roots)}I", len(nodes), len(roots), *roots) + b"".join(nodes)
        data += struct.pack(f"<{len(listed)}I", *listed)
        spans += [begin + len(body), begin + len(body) + len(data)]
        body += data
    path = folder / "ring.bin"
    path.write_bytes(struct.pack("<QIBB", 4223, RANKS, 0, 0) + struct.pack(f"<{2 * RANKS}Q", *spans) + body)
    return path


def simai(folder: Path, scale: int) -> Path:
    """A transformer of many layers on 16,384 ranks."""
    head = (
        "HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 8 ep: 1 pp: 1 vpp: 1 ga: 1 all_gpus: 16384"
    )
    layer = "mlp\t-1\t752000\tALLREDUCE\t20971520\t752000\tALLREDUCE\t20971520\t752000\tALLREDUCE\t8192\t100"
    layers = 200 * scale
    return written(folder / "simai.txt", "\n".join([head, str(layers), *[layer] * layers]))


def inspector(folder: Path, scale: int) -> Path:
    """All-reduces of all ranks, with times, a file a rank."""
    folder = folder / "inspector"
    folder.mkdir()
    for rank in range(RANKS):
        lines = []
        for n in range(100 * scale):
            at = 1_000_000 + 100 * n
            kernels = [{"channel_id": c, "kernel_start_ts": at + c} for c in range(8)]
            perf = {
                "coll": "AllReduce",
                "coll_sn": n,
                "coll_msg_size_bytes": 1 << 20,
                "coll_exec_time_us": 60,
                "event_trace_ts": {"coll_start_ts": at, "coll_stop_ts": at + 9, "kernel_events": kernels},
            }
            header = {"id": "0x1", "rank": rank, "n_ranks": RANKS, "nnodes": 8}
            metadata = {"dump_timestamp_us": at + 90, "hostname": f"node{rank // 8}", "pid": 100 + rank}
            lines.append(json.dumps({"header": header, "metadata": metadata, "coll_perf": perf}))
        written(folder / f"pid{rank}.log", "\n".join(lines) + "\n")
    return folder


def kineto(folder: Path, scale: int) -> Path:
    """Steps of a kernel and an all-reduce on 8 ranks, gzip."""
    folder = folder / "kineto"
    folder.mkdir()
    for rank in range(8):
        events: list[dict[str, Any]] = []
        for n in range(500 * scale):
            at = 100.0 * n
            call = {"Collective name": "allreduce", "In msg nelems": 4096, "dtype": "Float", "Group size": 8}
            for k, (name, more) in enumerate((("gemm", {}), ("ncclDevKernel_AllReduce_Sum", call))):
                correlation = 2 * n + k + 1
                launch = {"correlation": correlation}
                kernel = {"stream": 7 + k, "correlation": correlation} | more
                events.append(event("cuda_runtime", "cudaLaunchKernel", at + 10 * k, 4, 1, launch))
                events.append(event("kernel", name, at + 20 + 30 * k, 25, 7 + k, kernel))
        info = {"backend": "nccl", "rank": rank, "world_size": 8}
        text = json.dumps({"schemaVersion": 1, "distributedInfo": info, "traceEvents": events})
        (folder / f"rank{rank}.json.gz").write_bytes(gzip.compress(text.encode(), 1))
    return folder


def event(category: str, name: str, at: float, took: float, tid: int, args: dict[str, Any]) -> dict[str, Any]:
    """A complete event of a Chrome trace."""
    place = {"ph": "X", "cat": category, "name": name, "ts": at, "dur": took, "pid": 0, "tid": tid}
    return place | {"args": args}


def rows_of(scale: int) -> Rows:
    """Steps of compute and grouped collectives on 64 ranks."""
    rows, everyone = Rows(generator="bench"), range(RANKS)
    for n in range(200 * scale):
        rows.add("compute", everyone, duration_ps=5_000_000, stream=0, name=f"layer {n}")
        rows.add("all_gather", everyone, bytes=1 << 20, group_size=8, stream=0, name="gather")
        rows.add("all_reduce", everyone, bytes=1 << 20, stream=1, after=[3 * n], name="reduce")
    return rows


def chakra(folder: Path, scale: int) -> Path:
    """The same steps as execution traces."""
    folder = folder / "et"
    folder.mkdir()
    export(rows_of(scale).trace(), folder / "job", to_format="chakra")
    (folder / "job.groups.json").unlink()
    return folder


def flows(folder: Path, scale: int) -> Path:
    """Messages between random pairs."""
    lines = ["src,dst,bytes,start_us,id"]
    lines += [f"{n % 1000},{(7 * n + 1) % 1000 + 1000},4096,{n},{n}" for n in range(20_000 * scale)]
    return written(folder / "flows.csv", "\n".join(lines) + "\n")


def htsim(folder: Path, scale: int) -> Path:
    """The same as a connection matrix."""
    n = 20_000 * scale
    lines = ["Nodes 2000", f"Connections {n}"]
    lines += [f"{k % 1000}->{(7 * k + 1) % 1000 + 1000} id {k + 1} start {k} size 4096" for k in range(n)]
    return written(folder / "flows.cm", "\n".join(lines) + "\n")


def written(path: Path, text: str) -> Path:
    """Write a text file and return its path."""
    path.write_text(text)
    return path


INPUTS: dict[str, tuple[str, Callable[[Path, int], Path]]] = {
    "goal": ("goal", goal),
    "goal, binary": ("goal", goal_binary),
    "simai": ("simai", simai),
    "nccl-inspector": ("nccl-inspector", inspector),
    "kineto": ("kineto", kineto),
    "chakra": ("chakra", chakra),
    "flows-csv": ("flows-csv", flows),
    "htsim": ("htsim", htsim),
}


def measured(scale: int, repeat: int) -> Iterator[dict[str, Any]]:
    """Each format's figures."""
    with tempfile.TemporaryDirectory(prefix="fabricsim-bench-") as name:
        folder = Path(name)
        for title, (form, make) in INPUTS.items():
            path = make(folder, scale)
            size = sum(p.stat().st_size for p in ([path] if path.is_file() else path.iterdir()))
            took, rows = best(repeat, lambda path=path, form=form: FORMATS[form].convert(path).trace.n_rows)
            yield {"format": title, "rows": rows, "bytes": size, "seconds": took, "rows_per_s": rows / took}
        trace = rows_of(scale).trace()
        (folder / "out").mkdir()
        out = folder / "out" / "job"
        took, nodes = best(repeat, lambda: export(trace, out, to_format="chakra").counts["nodes"])
        size = sum(p.stat().st_size for p in out.parent.iterdir())
        yield {
            "format": "to chakra",
            "rows": nodes,
            "bytes": size,
            "seconds": took,
            "rows_per_s": nodes / took,
        }


def best(repeat: int, run: Callable[[], int]) -> tuple[float, int]:
    """The least CPU-seconds of some runs, and what the last one returned."""
    times, found = [], 0
    for _ in range(repeat):
        start = time.process_time()
        found = run()
        times.append(time.process_time() - start)
    return min(times), found


def main() -> int:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=int, default=1, help="how much larger than usual (default 1)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the best counts (default 3)")
    parser.add_argument("-o", "--output", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    results = []
    print(f"{'format':<16}{'rows':>10}{'MB':>8}{'CPU-s':>8}{'rows/s':>10}{'MB/s':>8}")
    for figure in measured(arguments.scale, arguments.repeat):
        results.append(figure)
        megabytes = figure["bytes"] / 1e6
        print(
            f"{figure['format']:<16}{figure['rows']:>10,}{megabytes:>8.1f}{figure['seconds']:>8.2f}"
            f"{figure['rows_per_s']:>10,.0f}{megabytes / figure['seconds']:>8.1f}",
            flush=True,
        )
    if arguments.output:
        arguments.output.write_text(
            json.dumps({"version": fabricsim.__version__, "results": results}, indent=1)
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
