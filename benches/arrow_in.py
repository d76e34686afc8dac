"""How fast a trace comes in: rows a second of the check, of lowering and of the core's compilation.

    python benches/arrow_in.py [--rows N] [--repeat N] [--profile] [-o results.json]

The trace is a step again and again: on each of 64 ranks a compute and a message to the next rank, and an
all-reduce of each set of 8. Each stage is the best of N runs, each on a fresh trace.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import fabricsim
from fabricsim._core import engine
from fabricsim.program import table_digest
from fabricsim.trace import Trace, lower, validate
from fabricsim.trace.schema import KIND_DICTIONARY, KINDS

RANKS, GROUP = 64, 8
GOAL_ROWS_PER_S = 5_000_000


def trace_table(rows: int) -> pa.Table:
    """Return a trace of about so many rows, built by columns."""
    one = np.arange(RANKS, dtype=np.int32)
    sets = RANKS // GROUP
    kinds = np.repeat(
        [KINDS.index(k) for k in ("compute", "send", "recv", "all_reduce")], [RANKS] * 3 + [sets]
    )
    step = {
        "kind": kinds.astype(np.int8),
        "rank_count": np.repeat([1, GROUP], [3 * RANKS, sets]),
        "ranks": np.concatenate([one, one, one, one]),
        "peer_count": np.repeat([0, 1, 0], [RANKS, 2 * RANKS, sets]),
        "peer": np.concatenate([(one + 1) % RANKS, (one - 1) % RANKS]),
        "bytes": np.repeat([0, 65536, 1 << 20], [RANKS, 2 * RANKS, sets]),
        "duration_ps": np.repeat([50_000_000, 0], [RANKS, 2 * RANKS + sets]),
    }
    steps = max(1, rows // len(kinds))
    many = {name: np.tile(values, steps) for name, values in step.items()}
    n = len(many["kind"])

    def lists(name: str, count: str) -> pa.Array:
        offsets = np.concatenate([[0], np.cumsum(many[count])]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(many[name].astype(np.int32)))

    given = many["kind"] == KINDS.index("compute")
    return pa.table(
        {
            "id": pa.array(np.arange(n)),
            "kind": pa.DictionaryArray.from_arrays(pa.array(many["kind"]), KIND_DICTIONARY),
            "ranks": lists("ranks", "rank_count"),
            "peer": lists("peer", "peer_count"),
            "bytes": pa.array(many["bytes"], mask=given),
            "duration_ps": pa.array(many["duration_ps"], mask=~given),
            "stream": pa.array(np.where(many["kind"] == KINDS.index("all_reduce"), 1, 0).astype(np.int32)),
        }
    )


def best(repeat: int, fresh: Callable[[], Any], work: Callable[[Any], Any]) -> tuple[float, Any]:
    """Return the shortest time of so many runs on what ``fresh`` makes, in seconds, and the last result."""
    times, made = [], None
    for _ in range(repeat):
        given, made = fresh(), None
        began = time.perf_counter()
        made = work(given)
        times.append(time.perf_counter() - began)
    return min(times), made


def main() -> int:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="where the Python stages spend their time")
    parser.add_argument("-o", "--out", help="write the results as JSON")
    options = parser.parse_args()

    model = fabricsim.compile(fabricsim.Cluster.from_toml("leaf-spine-64-400g-roce"))
    table = trace_table(options.rows)
    rank_host = np.arange(RANKS, dtype=np.int32)
    algorithms = model.cluster.algorithms()

    def compiled(lowered: pa.Table) -> engine.Program:
        return engine.Program(model.engine, lowered, rank_host=rank_host, algorithms=algorithms)

    trace = Trace(table)
    lowered = lower(trace)
    stages: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
        "validate": (lambda: table, lambda given: validate(given, "trace")),
        "lower": (lambda: Trace(table), lower),
        "engine.Program": (lambda: lowered, compiled),
        "digest": (lambda: lowered, table_digest),
        "lower + engine.Program": (lambda: Trace(table), lambda given: compiled(lower(given))),
        "all": (lambda: table, lambda given: compiled(lower(Trace(given)))),
    }
    seconds = {}
    for stage, (fresh, work) in stages.items():
        seconds[stage], program = best(options.repeat, fresh, work)

    rows = table.num_rows
    print(
        f"{rows:,} rows, {program.n_instances:,} operations of ranks, {program.n_connections:,} connections"
    )
    print(f"{'stage':24}{'s':>8}{'M rows/s':>10}")
    for stage, took in seconds.items():
        print(f"{stage:24}{took:8.3f}{rows / took / 1e6:10.2f}")
    print(f"goal {GOAL_ROWS_PER_S / 1e6:.0f} M rows/s")
    if options.out:
        results = {"rows": rows, "goal_rows_per_s": GOAL_ROWS_PER_S, "seconds": seconds}
        Path(options.out).write_text(json.dumps(results, indent=2) + "\n")
    if options.profile:
        with cProfile.Profile() as profile:
            lower(Trace(table))
        pstats.Stats(profile).sort_stats("tottime").print_stats(15)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
