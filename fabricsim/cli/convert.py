"""``fabricsim convert``: other tools' files to a trace, and a trace to theirs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabricsim.cli.options import input_path, key_values
from fabricsim.cli.output import check_output, emit_json, line, log, pairs, write_to
from fabricsim.errors import ConfigError

if TYPE_CHECKING:
    from fabricsim.trace import Trace

NAME = "convert"
SUMMARY = "convert a file or folder of another tool to a trace, or a trace to another tool's files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("input", metavar="IN", nargs="?", help="a file or folder, or - for standard input")
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="the trace to write, or - for standard output; with --to a prefix"
    )
    parser.add_argument(
        "--from", dest="from_format", metavar="FORMAT", help="the format, if not by its contents"
    )
    parser.add_argument(
        "--to", dest="to_format", metavar="FORMAT", help="write files of this format, such as chakra"
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
    from fabricsim.convert import convert

    if arguments.list:
        _list(arguments.json)
        return 0
    if arguments.input is None or arguments.out is None:
        raise ConfigError(["convert needs an input and -o OUT (or --list)"])
    options = key_values(arguments.option, "--option")
    if arguments.to_format is not None:
        return _export(arguments, options)
    check_output(arguments.out, json=arguments.json)
    with input_path(arguments.input) as path:
        report = convert(path, from_format=arguments.from_format, **options)
    trace = report.trace
    _warn(report.warnings)
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


def _export(arguments: argparse.Namespace, options: dict[str, Any]) -> int:
    """Write a trace, or what is imported first, as files of another tool."""
    from fabricsim.convert import EXPORTS, export
    from fabricsim.errors import unknown_name

    if arguments.to_format not in EXPORTS:
        raise ConfigError([unknown_name("format", arguments.to_format, EXPORTS)])
    if arguments.out == "-":
        raise ConfigError(["-o - with --to: several files are written, allowed: a prefix"])
    with input_path(arguments.input) as path:
        trace, warnings = _trace_of(path, arguments.from_format, options)
    report = export(trace, arguments.out, to_format=arguments.to_format)
    warnings = [*warnings, *report.warnings]
    _warn(warnings)
    if arguments.json:
        files = [str(file) for file in report.files]
        emit_json({"files": files, "counts": dict(report.counts), "warnings": warnings})
    else:
        line(f"{arguments.out}: {len(report.files)} files")
        pairs(report.counts.items())
    return 0


def _trace_of(path: Path, from_format: str | None, options: dict[str, Any]) -> tuple[Trace, list[str]]:
    """The trace in a file, or the one that a file of another tool becomes."""
    from fabricsim.convert import convert
    from fabricsim.errors import InputError
    from fabricsim.trace import read_trace

    if from_format is None and not options and path.is_file() and _begins(path, b"ARROW1"):
        try:
            return read_trace(path), []
        except InputError as error:
            # A table of flows is an Arrow file too.
            try:
                report = convert(path)
            except InputError:
                raise error from None
            return report.trace, list(report.warnings)
    report = convert(path, from_format=from_format, **options)
    return report.trace, list(report.warnings)


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        log(f"warning: {warning}")


def _list(as_json: bool) -> None:
    """Print the formats and their options."""
    from fabricsim.convert import EXPORTS, FORMATS

    if as_json:
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
        return
    for form in FORMATS.values():
        options = sorted(form.options())
        line(f"{form.name}: {form.summary}")
        if options:
            line(f"    --option {' '.join(f'{name}=…' for name in options)}")
    for name, (summary, _) in EXPORTS.items():
        line(f"--to {name}: {summary}")
