"""``fabricsim repair``: a readable file out of one that was cut short."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from fabricsim.cli.output import emit_json, line
from fabricsim.errors import ConfigError, InputError, Problem

NAME = "repair"
SUMMARY = "recover the whole batches of an Arrow file whose writing was interrupted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", metavar="FILE", help="the damaged file; it is not changed")
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="the file to write (default: FILE with .repaired.arrow)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Repair, and tell what was saved and lost; exit 1 when nothing was."""
    from fabricsim.trace import repair

    source = Path(arguments.file)
    if not source.is_file():
        raise InputError([Problem(arguments.file, "no such file")])
    target = Path(arguments.out) if arguments.out else source.with_name(f"{source.stem}.repaired.arrow")
    if target.resolve() == source.resolve():
        raise ConfigError([Problem("--out", "is the damaged file itself; name another")])
    report = repair(source, target)
    if arguments.json:
        emit_json(dataclasses.asdict(report))
    else:
        line(str(report))
    return 0 if report.rows_saved else 1
