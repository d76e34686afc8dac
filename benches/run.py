"""Speed of the core: builds benches/bench.c, runs its scenes, prints a table and writes JSON.

    python benches/run.py [--quick] [--repeat N] [--no-callgrind] [-o results.json]

Packet-hops a CPU-second is the best of N runs (the noise of a shared machine only slows); instructions a
hop are counted by callgrind over fab_run_step and repeat exactly. See benches/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["-std=c11", "-O2", "-fno-tree-vectorize", "-fno-gcse", "-ffp-contract=off", "-D_POSIX_C_SOURCE=200809L"]
SIZES = {8: 128, 16: 1024, 32: 8192}
GOALS = {  # million packet-hops a CPU-second by hosts, and instructions a hop
    "lossy": ({128: 40, 1024: 28, 8192: 15}, 200),
    "pause": ({128: 30, 1024: 20, 8192: 11}, 260),
}


def build(folder: Path) -> Path:
    program = folder / "bench"
    sources = [str(ROOT / "benches/bench.c"), *sorted(map(str, ROOT.glob("csrc/*/*.c")))]
    include = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}"]
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, *FLAGS, "-g", *include, *sources, "-pthread", "-lm", "-o", str(program)], check=True)
    return program


def run(program: Path, *scene: object) -> dict:
    done = subprocess.run([str(program), *map(str, scene)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def best(program: Path, repeat: int, *scene: object) -> dict:
    runs = [run(program, *scene) for _ in range(repeat)]
    if len({r["digest"] for r in runs}) != 1:
        raise SystemExit(f"{scene}: the digest differs from run to run")
    return min(runs, key=lambda r: r["cpu_s"])


def instructions(program: Path, *scene: object) -> float | None:
    """Instructions a hop inside fab_run_step; None without valgrind."""
    if not shutil.which("valgrind"):
        return None
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=fab_run_step"]
    done = subprocess.run([*command, str(program), *map(str, scene)], check=True, capture_output=True, text=True)
    counted = re.search(r"Collected : (\d+)", done.stderr)
    return int(counted[1]) / json.loads(done.stdout)["hops"] if counted else None


def machine() -> dict[str, str]:
    def output(*command: str) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return ""

    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    return {
        "compiler": output(os.environ.get("CC", "cc"), "--version").splitlines()[0],
        "flags": " ".join(FLAGS),
        "commit": output("git", "describe", "--always", "--dirty").strip(),
        "processor": model[1] if model else platform.processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128 hosts only")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each scene; the best counts (default 5)")
    parser.add_argument("--no-callgrind", action="store_true", help="do not count instructions")
    parser.add_argument("-o", "--output", type=Path, help="write all figures as JSON")
    options = parser.parse_args()
    ports = [8] if options.quick else list(SIZES)
    rows: list[dict] = []

    def show(label: str, result: dict, note: str = "") -> None:
        print(f"{label:<44}{result['mhops_per_cpu_s']:8.1f} M hops/CPU-s  {note}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        print("permutation, DCQCN and ECN on, an ACK a packet")
        for gbps in (100, 400):
            for fabric in ("lossy", "pause", "pause+class"):
                for k in ports:
                    result = best(program, options.repeat, "perm", k, gbps, fabric)
                    notes = [f"{result['bytes_per_host'] / 1024:.1f} KiB a host"]
                    if gbps == 100 and not options.no_callgrind:
                        result["instructions_per_hop"] = instructions(program, "perm", k, gbps, fabric)
                        if result["instructions_per_hop"]:
                            notes.append(f"{result['instructions_per_hop']:.0f} instructions a hop")
                    if gbps == 100 and fabric in GOALS:
                        speed, count = GOALS[fabric]
                        notes.append(f"goal {speed[SIZES[k]]} M, {count} instructions")
                    rows.append(result)
                    show(f"{fabric:<12} {SIZES[k]:>5} hosts {gbps} Gb/s", result, ", ".join(notes))
        print("other scenes at 100 Gb/s")
        for k in ports[:2]:
            for scene in ("incast", "a2a"):
                for fabric in ("lossy", "pause"):
                    rows.append(best(program, options.repeat, scene, k, 100, fabric))
                    show(f"{scene} {fabric:<12} {SIZES[k]:>5} hosts", rows[-1])
        for ranks, k in ((128, 8), (512, 16)):
            if k in ports:
                rows.append(best(program, options.repeat, "ring", k, 100, "pause", 1, ranks))
                show(f"ring all-reduce of 1 MiB, {ranks} ranks", rows[-1],
                     f"{rows[-1]['mmessages_per_cpu_s']:.1f} M messages/CPU-s (goal for 512 ranks: 2)")  # fmt: skip
        sparse = {k: best(program, 2 * options.repeat, "sparse", k, 100, "lossy") for k in ports}
        for k, result in sparse.items():
            rows.append(result)
            ratio = result["cpu_s"] / sparse[8]["cpu_s"]
            show(f"16 flows alone on {SIZES[k]} hosts", result, f"{ratio:.2f} of the time on 128 (goal 1.5)")
        for k in ports:
            one, two = (best(program, options.repeat, "perm", k, 100, "pause", threads) for threads in (1, 2))
            if one["digest"] != two["digest"]:
                raise SystemExit("one and two threads differ")
            rows.append(two)
            print(f"{'2 threads, pause, ' + str(SIZES[k]) + ' hosts':<44}{one['wall_s'] / two['wall_s']:8.2f} times as fast (goal 1.5)")
    if options.output:
        options.output.write_text(json.dumps({"machine": machine(), "results": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
