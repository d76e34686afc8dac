"""``fabricsim gen``: traces of workloads made here; a file ``gen_*.py`` for each workload."""

from __future__ import annotations

import argparse

from fabricsim.cli import gen_checkpoint, gen_llm
from fabricsim.cli.options import HelpFormatter

NAME = "gen"
SUMMARY = "generate the trace of a workload"

#: Every workload. One has NAME, SUMMARY, add_arguments(parser) and run(args), as a command has.
WORKLOADS = (gen_llm, gen_checkpoint)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a parser for each workload."""
    workloads = parser.add_subparsers(title="workloads", metavar="WORKLOAD", dest="workload", required=True)
    for workload in WORKLOADS:
        child = workloads.add_parser(
            workload.NAME,
            help=workload.SUMMARY,
            description=workload.SUMMARY[0].upper() + workload.SUMMARY[1:] + ".",
            formatter_class=HelpFormatter,
        )
        workload.add_arguments(child)
        # Also taken before the workload's name, which a default here would undo.
        child.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="print one JSON document instead of text",
        )
        child.set_defaults(run_workload=workload.run)


def run(arguments: argparse.Namespace) -> int:
    """Run the workload's generator."""
    return int(arguments.run_workload(arguments) or 0)
