"""``fabricsim report``: a page about a result, to look at."""

from __future__ import annotations

import argparse
import sys

from fabricsim.cli.output import emit_json, log
from fabricsim.errors import ConfigError

NAME = "report"
SUMMARY = "write a page about a result, one HTML file that opens offline: where time went, links, queues"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("result", metavar="RESULT", help="a result folder (of replay -o), or a file in it")
    parser.add_argument(
        "-o", "--out", metavar="FILE", required=True, help="the page, or - for standard output"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from fabricsim.cli.compare import result_at
    from fabricsim.report import report_html, write_report

    if arguments.out == "-" and arguments.json:
        raise ConfigError(["-o - and --json both want standard output"])
    result = result_at(arguments.result)
    if arguments.out == "-":
        sys.stdout.write(report_html(result))
        return 0
    written = write_report(result, arguments.out)
    if arguments.json:
        emit_json(
            {
                "path": written.path,
                "bytes": written.bytes,
                "own_bytes": written.own_bytes,
                "figures": list(written.figures),
            }
        )
    else:
        log(f"{written.path}: {len(written.figures)} sections, {written.bytes / 1e6:.1f} MB")
    return 0
