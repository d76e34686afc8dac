"""Run a replay as the options of a command say."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabricsim.cli.options import fault_events, load_cluster, time_option
from fabricsim.cli.output import log
from fabricsim.cli.progress import showing
from fabricsim.errors import ConfigError, DeadlockError, EngineError

if TYPE_CHECKING:
    from fabricsim.result import Result
    from fabricsim.trace import Trace

__all__ = ["execute"]


def execute(arguments: argparse.Namespace, trace: Trace, faults: Sequence[Mapping[str, Any]] = ()) -> Result:
    """Replay a trace as the options of ``add_cluster`` and ``add_run`` say; its cost is told on stderr.

    ``faults`` are events that come with the trace.
    """
    from fabricsim.program import compile
    from fabricsim.run import replay

    if arguments.series is not None and arguments.out is None:
        raise ConfigError(["--series writes series.arrow to a folder; name it with -o DIR"])
    if arguments.rpcs and arguments.out is None:
        raise ConfigError(["--rpcs writes rpcs.arrow to a folder; name it with -o DIR"])
    series_ps = time_option(arguments.series, "--series")
    max_time_ps = time_option(arguments.max_time, "--max-time")
    cluster = load_cluster(arguments.cluster, arguments.overrides)
    events = [*faults, *fault_events(arguments.faults)]
    model = compile(cluster.with_faults(events, where=cluster.name) if events else cluster)
    began = time.perf_counter()
    try:
        with showing(arguments.progress) as update:
            result = replay(
                trace,
                model,
                seed=arguments.seed,
                threads=arguments.threads,
                out=arguments.out,
                progress=update,
                record=("rpcs",) if arguments.rpcs else (),
                series_ps=series_ps,
                max_time_ps=max_time_ps,
                fidelity=arguments.fidelity,
            )
    except (KeyboardInterrupt, DeadlockError, EngineError):
        if arguments.out is not None and (Path(arguments.out) / "summary.json").is_file():
            log(f"what was found until then is in {arguments.out}")
        raise
    took = time.perf_counter() - began
    if detail := result.summary.get("fidelity"):
        log(f"{detail['activities']:,} activities in {took:.2f} s")
    else:
        hops = result.summary.get("packet_hops", 0)
        log(f"{hops:,} packet-hops in {took:.2f} s ({hops / max(took, 1e-9) / 1e6:.1f} M/s)")
    if arguments.out is not None:
        log(f"saved to {arguments.out}")
    return result
