"""How fast training steps are generated: rows of the trace a CPU-second, its check and its file included.

    python benches/generate.py [--repeat N] [-o results.json]

The best of N runs counts. See benches/README.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabricsim
from fabricsim.trace import write_trace
from fabricsim.workload import llm

#: What is generated, by name.
CASES: dict[str, dict[str, Any]] = {
    "llama3-8b, 64 ranks, layer": {
        "model": "llama3-8b", "ranks": 64, "tp": 4, "pp": 4, "gbs": 32, "seq": 8192, "zero": 1,
        "detail": "layer",
    },
    "llama3-405b, 2,048 ranks, VP8": {
        "model": "llama3-405b", "ranks": 2048, "tp": 8, "pp": 16, "vp": 8, "gbs": 256, "seq": 8192, "zero": 1,
    },
    "llama3-405b, 16,384 ranks": {
        "model": "llama3-405b", "ranks": 16384, "tp": 8, "pp": 16, "gbs": 2048, "seq": 8192, "zero": 1,
    },
    "mpt-70b, 512 ranks, FSDP": {
        "model": "mpt-70b", "ranks": 512, "gbs": 4096, "mbs": 8, "seq": 2048, "fsdp": "full",
        "recompute": "full", "detail": "layer",
    },
    "deepseek-v3, 2,048 ranks, EP64": {
        "model": "deepseek-v3", "ranks": 2048, "pp": 16, "ep": 64, "gbs": 15360, "seq": 4096, "zero": 1,
    },
}  # fmt: skip


def measured(repeat: int) -> Iterator[dict[str, Any]]:
    """Generate each case, and write it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.arrow"
        for name, options in CASES.items():
            best = None
            for _ in range(repeat):
                began = time.process_time()
                trace = llm(**options)
                write_trace(trace, path)
                took = time.process_time() - began
                best = took if best is None else min(best, took)
            places = len(trace.table["ranks"].combine_chunks().flatten())
            yield {
                "case": name,
                "rows": trace.n_rows,
                "ranks_of_rows": places,
                "seconds": best,
                "rows_per_s": trace.n_rows / best,
                "bytes": path.stat().st_size,
            }


def main() -> int:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the best counts (default 3)")
    parser.add_argument("-o", "--output", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    results = []
    print(f"{'case':<34}{'rows':>8}{'ranks of rows':>15}{'MB':>8}{'CPU-s':>8}{'rows/s':>9}")
    for figure in measured(arguments.repeat):
        results.append(figure)
        print(
            f"{figure['case']:<34}{figure['rows']:>8,}{figure['ranks_of_rows']:>15,}"
            f"{figure['bytes'] / 1e6:>8.1f}{figure['seconds']:>8.2f}{figure['rows_per_s']:>9,.0f}",
            flush=True,
        )
    if arguments.output:
        arguments.output.write_text(
            json.dumps({"version": fabricsim.__version__, "results": results}, indent=1)
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
