"""Speed of storage: remote procedure calls in trains and packet by packet, and a checkpoint of 5.7 TB.

    python benches/storage.py [--quick] [-o results.json]

Each scene runs in a process of its own, on one thread: CPU-seconds of the run, and the most memory that the
process held. See benches/README.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

GOALS = {"rpcs": "1 CPU-second", "checkpoint": "60 CPU-seconds, 2 GB"}


def cluster_of(ranks: int, train: int, storage: dict[str, Any], link: str) -> Any:
    """Leaves of 32 ranks under as many spines as they have uplinks, servers in turn on the leaves."""
    import fabricsim

    leaves, spines = ranks // 32, 16 if ranks > 64 else 4

    return fabricsim.Cluster.from_dict(
        {
            "name": "bench",
            "topology": {
                "kind": "leaf_spine",
                "leaves": leaves,
                "spines": spines,
                "hosts_per_leaf": 32,
                "host_rate": link,
                "fabric_rate": "400Gbps",
                "latency": "500ns",
            },
            "transport": {"train_count": train, "ack_every_count": 16},
            "link": {"model": "pause", "xoff_bytes": 30_000_000},
            "switch": {"buffer_bytes": 4_000_000_000, "ecn": False},
            "congestion_control": {"model": "none"},
            "storage": [{"attach": "leaf*", "latency": "500ns"} | storage],
        }
    )


def rpcs(train: int) -> tuple[Any, Any]:
    """16,384 writes of 4 MiB from 64 clients to 4 servers of 4 targets of 5 GB/s, staggered."""
    from fabricsim.workload.rows import Rows

    storage = {
        "servers": 4,
        "targets_per_server": 4,
        "rate": "400Gbps",
        "stripe_count": 16,
        "stripe_size": "4MiB",
        "target": {"write": "40Gbps"},
    }
    rows, ranks = Rows(), list(range(64))
    rows.open(ranks, "/out.{rank}", create=True, stream=0)
    rows.write(ranks, "/out.{rank}", 1 << 30, direct=True, stream=0)
    return cluster_of(64, train, storage, "100Gbps"), rows.trace()


def checkpoint(train: int) -> tuple[Any, Any]:
    """Llama 3 405B from 512 ranks, 5.7 TB, to 64 servers of 8 targets."""
    from fabricsim.workload.rows import Rows

    storage = {
        "servers": 64,
        "targets_per_server": 8,
        "rate": "400Gbps",
        "stripe_count": 4,
        "stripe_size": "4MiB",
        "target": {"write": "40Gbps"},
    }
    size = 14 * 405_853_388_800 // 512
    rows, ranks = Rows(), list(range(512))
    file = "/ckpt/rank{rank:03d}"
    rows.open(ranks, file, create=True, stream=0)
    rows.write(ranks, file, size, stream=0)
    rows.add("fsync", ranks, file=file, stream=0)
    rows.add("close", ranks, file=file, stream=0)
    return cluster_of(512, train, storage, "400Gbps"), rows.trace()


SCENES = {"rpcs": rpcs, "checkpoint": checkpoint}


def measure(scene: str, train: int) -> dict[str, Any]:
    """Run a scene in this process."""
    from fabricsim._core import engine
    from fabricsim.program import build_program, compile

    cluster, trace = SCENES[scene](train)
    before = time.process_time()
    program = build_program(compile(cluster), trace)
    compiled = time.process_time()
    run = engine.Run(program.model.engine, program.engine)
    run.step()
    took = time.process_time() - compiled
    run.check()
    counters, clients = run.counters(), run.clients()
    written = int(clients["rpc_written_bytes"].sum())
    return {
        "scene": scene,
        "train": train,
        "compile_s": compiled - before,
        "run_s": took,
        "rpcs": int(clients["rpcs"].sum()),
        "packet_hops": counters["packet_hops"],
        "emulated_s": counters["end_ps"] / 1e12,
        "gb_per_s": written / counters["end_ps"] * 1e3,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "digest": run.digest,
    }


def _line(scene: str, train: object, *rest: str) -> str:
    widths = (9, 10, 8, 9, 9, 9)
    numbers = "".join(f"{text:>{width}}" for text, width in zip(rest, widths, strict=False))
    return f"{scene:12}{train:>6}{numbers}  {rest[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the calls in trains alone")
    parser.add_argument("-o", help="write JSON")
    parser.add_argument("--scene", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.scene:
        print(json.dumps(measure(args.scene[0], int(args.scene[1]))))
        return
    wanted = [("rpcs", 15)] if args.quick else [("rpcs", 15), ("rpcs", 1), ("checkpoint", 15)]
    found = []
    print(_line("scene", "train", "CPU s", "RPCs", "us/RPC", "M hops", "GB/s", "peak GB", "goal"))
    for scene, train in wanted:
        command = [sys.executable, __file__, "--scene", scene, str(train)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found.append(row)
        goal = GOALS[scene] if train > 1 else "-"
        told = (f"{row['run_s']:.2f}", f"{row['rpcs']:,}", f"{row['run_s'] / row['rpcs'] * 1e6:.1f}")
        told += (f"{row['packet_hops'] / 1e6:.1f}", f"{row['gb_per_s']:.1f}", f"{row['peak_gb']:.2f}")
        print(_line(scene, train, *told, goal), flush=True)
    if args.o:
        with open(args.o, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
