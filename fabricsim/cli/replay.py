"""``fabricsim replay``: a trace on a cluster."""

from __future__ import annotations

import argparse

from fabricsim.cli.options import add_cluster, add_run
from fabricsim.cli.output import emit_json

NAME = "replay"
SUMMARY = "replay a trace on a cluster: how long it takes, where the time goes, which links bound it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("trace", metavar="TRACE", help="a trace (Arrow IPC file), or - for standard input")
    add_cluster(parser)
    add_run(parser)


def run(arguments: argparse.Namespace) -> int:
    """Replay and print the summary."""
    from fabricsim.cli.running import execute
    from fabricsim.cli.summary import print_summary
    from fabricsim.trace import read_trace

    result = execute(arguments, read_trace(arguments.trace))
    if arguments.json:
        emit_json(result.to_json())
    else:
        print_summary(result.summary)
    return 0
