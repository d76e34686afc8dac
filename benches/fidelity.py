"""Levels of detail on the same traces: how far the times are apart, and what they cost.

``python benches/fidelity.py [SCENE ...] [--trace FILE --cluster PRESET] [-o FILE]``; ``--list`` names the
scenes. Each runs in packets, in trains of 15 packets, in hybrid and in flow detail, on one thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fabricsim
from fabricsim.trace import Trace, read_trace
from fabricsim.workload import collective, incast
from fabricsim.workload.demo import demo_trace
from fabricsim.workload.training import Training, llm

MODES = ("packet", "train", "hybrid", "flow")
DGX8, DGX16 = ("dgx-h100", "topology.nodes=8"), ("dgx-h100", "topology.nodes=16")
META = ("meta-24k-roce-128",)


def _llm(**options: Any) -> Callable[[], Trace]:
    return lambda: llm(Training.from_dict(options))


#: Scene -> (trace, preset and overrides).
SCENES: dict[str, tuple[Callable[[], Trace], tuple[str, ...]]] = {
    "demo": (demo_trace, ("demo-64-400g-roce",)),
    "fsdp": (_llm(model="llama3-8b", ranks=64, fsdp="full", gbs=64, mbs=1, seq=4096), DGX8),
    "pipeline": (_llm(model="llama3-8b", ranks=64, tp=2, pp=4, gbs=32, mbs=1, seq=2048), DGX8),
    "experts": (lambda: collective("all_to_all", size_bytes=256 << 20, n_ranks=64, iterations=4), DGX8),
    "experts-roce": (lambda: collective("all_to_all", size_bytes=256 << 20, n_ranks=64, iterations=4), META),
    "incast": (lambda: incast(n_senders=32, size_bytes=4 << 20), ("demo-64-400g-roce",)),
}


def _run(trace: Trace, cluster: tuple[str, ...], mode: str) -> dict[str, Any]:
    preset, *overrides = cluster
    if mode == "train":
        overrides = [*overrides, "transport.train=15"]
    loaded = fabricsim.Cluster.from_toml(preset, list(overrides))
    began = time.process_time()
    model = fabricsim.compile(loaded)
    detail = "packet" if mode == "train" else mode
    result = fabricsim.replay(trace, model, fidelity=detail)
    cpu_s = time.process_time() - began
    ops = result.ops
    keep = np.asarray(ops["kind"].cast("string")) != "compute"
    taken = (ops["end_ps"].to_numpy() - ops["start_ps"].to_numpy())[keep]
    told = result.summary.get("fidelity", {})
    return {
        "mode": mode,
        "end_ps": result.summary["end_ps"],
        "cpu_s": round(cpu_s, 3),
        "packet_hops": result.summary.get("packet_hops", told.get("packet_hops", 0)),
        "estimated_error": told.get("error"),
        "taken": taken,
    }


def _measure(name: str, trace: Trace, cluster: tuple[str, ...], modes: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for mode in modes:
        row = _run(trace, cluster, mode)
        taken = row.pop("taken")
        if not rows:
            base, end = taken, row["end_ps"]
        off = np.abs(taken - base) / np.maximum(base, 1)
        row |= {"scene": name, "off": row["end_ps"] / end - 1, "operations_off": float(off.mean())}
        rows.append(row)
        print(
            f"{name:16s} {mode:7s} {row['end_ps'] / 1e9:10.3f} ms {100 * row['off']:+7.2f} %"
            f"  operations {100 * row['operations_off']:6.2f} %  {row['cpu_s']:8.2f} CPU-s"
            f"  {row['packet_hops'] / 1e6:8.1f} M hops",
            flush=True,
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenes", nargs="*", metavar="SCENE")
    parser.add_argument("--list", action="store_true", help="name the scenes")
    parser.add_argument("--trace", help="a trace file instead")
    parser.add_argument("--cluster", nargs="+", default=list(DGX16), help="preset and overrides of --trace")
    parser.add_argument(
        "--modes", default=",".join(MODES), help="the first one is what others are compared with"
    )
    parser.add_argument("-o", "--out", help="write the rows as JSON")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(SCENES))
        return
    modes = arguments.modes.split(",")
    if arguments.trace:
        name = Path(arguments.trace).stem
        rows = _measure(name, read_trace(arguments.trace), tuple(arguments.cluster), modes)
    else:
        names = arguments.scenes or list(SCENES)
        rows = [row for name in names for row in _measure(name, SCENES[name][0](), SCENES[name][1], modes)]
    if arguments.out:
        told = {"fabricsim": fabricsim.__version__, "machine": platform.processor() or platform.machine()}
        Path(arguments.out).write_text(json.dumps(told | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
