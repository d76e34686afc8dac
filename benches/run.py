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
FLAGS = [
    "-std=c11",
    "-O2",
    "-fno-tree-vectorize",
    "-fno-gcse",
    "-ffp-contract=off",
    "-D_POSIX_C_SOURCE=200809L",
]
SIZES = {8: 128, 16: 1024, 32: 8192}
GOALS = {  # million packet-hops a CPU-second by hosts, and instructions a hop
    "lossy": ({128: 40, 1024: 28, 8192: 15}, 200),
    "pause": ({128: 30, 1024: 20, 8192: 11}, 260),
    "credit": ({128: 18, 1024: 10, 8192: 8}, 360),
    "credit+lanes": ({128: 18, 1024: 10, 8192: 8}, 360),
    "srd": ({128: 25, 1024: 18, 8192: 10}, 300),
}


def build(folder: Path) -> Path:
    program = folder / "bench"
    sources = [str(ROOT / "benches/bench.c"), *sorted(map(str, ROOT.glob("csrc/*/*.c")))]
    include = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}"]
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, *FLAGS, "-g", *include, *sources, "-pthread", "-lm", "-o", str(program)], check=True
    )
    return program


def run(program: Path, *scene: object) -> dict:
    done = subprocess.run([str(program), *map(str, scene)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def best(program: Path, repeat: int, *scene: object) -> dict:
    runs = [run(program, *scene) for _ in range(repeat)]
    if len({r["digest"] for r in runs}) != 1:
        raise SystemExit(f"{scene}: the digest differs from run to run")
    return min(runs, key=lambda r: r["cpu_s"])


def instructions(program: Path, *scene: object) -> float:
    """Instructions a hop inside fab_run_step."""
    command = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--toggle-collect=fab_run_step",
    ]
    done = subprocess.run(
        [*command, str(program), *map(str, scene)], check=True, capture_output=True, text=True
    )
    counted = re.search(r"Collected : (\d+)", done.stderr)
    if not counted:
        raise SystemExit(f"callgrind did not say what it collected:\n{done.stderr}")
    return int(counted[1]) / json.loads(done.stdout)["hops"]


def machine() -> dict[str, str]:
    def output(*command: str) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return ""

    model = (
        re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        if sys.platform == "linux"
        else None
    )
    return {
        "compiler": output(os.environ.get("CC", "cc"), "--version").splitlines()[0],
        "flags": " ".join(FLAGS),
        "commit": output("git", "describe", "--always", "--dirty").strip(),
        "processor": model[1] if model else platform.processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }


class Bench:
    """The scenes, run and printed one by one."""

    def __init__(self, program: Path, ports: list[int], repeat: int, count_instructions: bool) -> None:
        self.program, self.ports, self.repeat = program, ports, repeat
        self.count_instructions = count_instructions
        self.results: list[dict] = []

    def best(self, *scene: object, more: int = 1) -> dict:
        self.results.append(best(self.program, more * self.repeat, *scene))
        return self.results[-1]

    @staticmethod
    def show(label: str, result: dict, *notes: str) -> None:
        print(f"{label:<36}{result['mhops_per_cpu_s']:6.1f} M hops/CPU-s  {', '.join(notes)}", flush=True)

    def permutations(self) -> None:
        print("permutation, DCQCN and ECN on, an ACK a packet")
        for gbps in (100, 400):
            for fabric in ("lossy", "pause", "pause+class", "credit", "credit+lanes"):
                for k in self.ports:
                    self.permutation(k, gbps, fabric)
        print("permutation, SRD with its controller, an ACK a packet of 8 KiB")
        for k in self.ports:
            self.permutation(k, 100, "srd")
        print("permutation on a torus of k x k x k chips, 45 GB/s links, minimal ways of every packet")
        for k in self.ports[:2]:
            self.permutation(k, 360, "torus")

    def permutation(self, k: int, gbps: int, fabric: str) -> None:
        result = self.best("perm", k, gbps, fabric)
        notes = [f"{result['bytes_per_host'] / 1024:.1f} KiB a host"]
        if self.count_instructions:
            result["instructions_per_hop"] = instructions(self.program, "perm", k, gbps, fabric)
            notes.append(f"{result['instructions_per_hop']:.0f} instructions a hop")
        if gbps == 100 and fabric in GOALS:
            speed, count = GOALS[fabric]
            notes.append(f"goal {speed[SIZES[k]]} M and {count}")
        self.show(f"{fabric:<12} {result['hosts']:>5} hosts {gbps} Gb/s", result, *notes)

    def others(self) -> None:
        print("other scenes at 100 Gb/s")
        for k in self.ports[:2]:
            for scene in ("incast", "a2a"):
                for fabric in ("lossy", "pause"):
                    self.show(f"{scene:<7}{fabric:<6}{SIZES[k]:>5} hosts", self.best(scene, k, 100, fabric))
        for ranks, k in ((128, 8), (512, 16)):
            if k in self.ports:
                result = self.best("ring", k, 100, "pause", 1, ranks)
                messages = f"{result['mmessages_per_cpu_s']:.1f} M messages/CPU-s"
                self.show(f"1 MiB ring all-reduce, {ranks} ranks", result, messages, "goal 2 with 512 ranks")

    def sparse(self) -> None:
        alone: float | None = None
        for k in self.ports:
            result = self.best("sparse", k, 100, "lossy", more=2)
            alone = alone or result["cpu_s"]
            ratio = f"{result['cpu_s'] / alone:.2f} of the time on {SIZES[self.ports[0]]}"
            self.show(f"16 flows alone on {SIZES[k]} hosts", result, ratio, "goal 1.5")

    def threads(self) -> None:
        for k in self.ports:
            one, two = (self.best("perm", k, 100, "pause", threads) for threads in (1, 2))
            if one["digest"] != two["digest"]:
                raise SystemExit("one and two threads differ")
            ratio = f"{one['wall_s'] / two['wall_s']:.2f} times as fast as one, goal 1.5"
            self.show(f"2 threads, pause, {SIZES[k]} hosts", two, ratio)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="128 hosts only")
    parser.add_argument(
        "--repeat", type=int, default=5, help="runs of each scene; the best counts (default 5)"
    )
    parser.add_argument("--no-callgrind", action="store_true", help="do not count instructions")
    parser.add_argument("-o", "--output", type=Path, help="write all figures as JSON")
    options = parser.parse_args()
    count = not options.no_callgrind and shutil.which("valgrind") is not None
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(build(Path(folder)), [8] if options.quick else list(SIZES), options.repeat, count)
        bench.permutations()
        bench.others()
        bench.sparse()
        bench.threads()
    if options.output:
        text = json.dumps({"machine": machine(), "results": bench.results}, indent=1)
        options.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
