"""``fabricsim convert``: other tools' files to a trace."""

from __future__ import annotations

import argparse

from fabricsim.cli.options import input_path, key_values
from fabricsim.cli.output import check_output, emit_json, line, log, pairs, write_to
from fabricsim.errors import ConfigError

NAME = "convert"
SUMMARY = "convert a file or folder of another tool to a trace"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("input", metavar="IN", nargs="?", help="a file or folder, or - for standard input")
    parser.add_argument("-o", "--out", metavar="TRACE", help="the trace to write, or - for standard output")
    parser.add_argument(
        "--from", dest="from_format", metavar="FORMAT", help="the format, if not by its contents"
    )
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of the format, such as et=FOLDER for kineto; repeatable",
    )
    parser.add_argument("--list", action="store_true", help="list the formats and their options")


def run(arguments: argparse.Namespace) -> int:
    """Convert, write the trace, and tell what was read and left out."""
    from fabricsim.convert import FORMATS, convert

    if arguments.list:
        if arguments.json:
            emit_json(
                [
                    {
                        "name": f.name,
                        "summary": f.summary,
                        "suffixes": list(f.suffixes),
                        "options": sorted(f.options()),
                    }
                    for f in FORMATS.values()
                ]
            )
        else:
            for form in FORMATS.values():
                options = sorted(form.options())
                line(f"{form.name}: {form.summary}")
                if options:
                    line(f"    --option {' '.join(f'{name}=…' for name in options)}")
        return 0
    if arguments.input is None or arguments.out is None:
        raise ConfigError(["convert needs an input and -o TRACE (or --list)"])
    check_output(arguments.out, json=arguments.json)
    with input_path(arguments.input) as path:
        report = convert(path, from_format=arguments.from_format, **key_values(arguments.option, "--option"))
    for warning in report.warnings:
        log(f"warning: {warning}")
    trace = report.trace
    write_to(trace, arguments.out, json=arguments.json)
    if arguments.json:
        emit_json(
            {
                "out": arguments.out,
                "rows": trace.table.num_rows,
                "ranks": trace.n_ranks,
                "counts": dict(report.counts),
                "warnings": list(report.warnings),
            }
        )
    elif arguments.out != "-":
        line(f"{arguments.out}: {trace.table.num_rows} rows, {trace.n_ranks} ranks")
        pairs(report.counts.items())
    return 0
