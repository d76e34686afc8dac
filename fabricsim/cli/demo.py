"""``fabricsim demo``: a training step on 64 GPUs, with nothing to prepare."""

from __future__ import annotations

import argparse
import shlex

from fabricsim.cli.options import add_run
from fabricsim.cli.output import emit_json, heading, line

NAME = "demo"
SUMMARY = "replay the training step that is shipped (64 GPUs), and say what to try next"
PRESET = "demo-64-400g-roce"
NEXT = (
    "routing.model=spray",
    "topology.leaves=8 topology.hosts_per_leaf=8",
    "congestion_control.model=dcqcn switch.ecn=true",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_run(parser)
    parser.set_defaults(cluster=PRESET, overrides=[])


def run(arguments: argparse.Namespace) -> int:
    """Replay the demo's trace and print its summary."""
    from fabricsim.cli.running import execute
    from fabricsim.cli.summary import print_summary
    from fabricsim.trace import read_trace
    from fabricsim.workload.demo import demo_path

    path = demo_path()
    result = execute(arguments, read_trace(path))
    if arguments.json:
        emit_json(result.to_json())
        return 0
    print_summary(result.summary)
    heading("next, the same step with packet spraying, with full bisection, and with DCQCN as published:")
    for settings in NEXT:
        options = " ".join(f"--set {setting}" for setting in settings.split())
        line(f"  fabricsim replay {shlex.quote(str(path))} -c {PRESET} {options}")
    return 0
