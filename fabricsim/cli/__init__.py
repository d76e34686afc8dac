"""The command line: one file a command; data to stdout, progress and logs to stderr.

Exit codes: 0 ok, 1 a check failed, 2 usage or configuration, 3 bad input file, 4 internal, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import fabricsim
from fabricsim.cli import (
    accelerators,
    bench,
    compare,
    convert,
    demo,
    doctor,
    export,
    flows,
    gen,
    goodput,
    inspect,
    ior,
    mdtest,
    platforms,
    repair,
    replay,
    report,
    sweep,
    validate,
)
from fabricsim.cli.options import HelpFormatter
from fabricsim.errors import FabricsimError

__all__ = ["build_parser", "main"]

#: Commands by what one wants, as the help lists them; each has NAME, SUMMARY, add_arguments() and run().
GROUPS = {
    "begin": (demo, doctor),
    "choose hardware": (platforms, accelerators),
    "get a trace": (gen, convert),
    "run": (replay, flows, bench, ior, mdtest, sweep, goodput),
    "look at results": (inspect, compare, report, export),
    "check": (validate, repair),
}
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)

INTERNAL, INTERRUPTED = 4, 130


class _CommandParser(argparse.ArgumentParser):
    """The parser of a command, which itself says what it does not know: with its own usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="fabricsim",
        description="Emulate AI clusters: replay collectives and storage I/O on a packet-level network.",
        epilog="Start with: fabricsim demo. What a command takes: fabricsim COMMAND --help",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fabricsim {fabricsim.__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=_CommandParser
    )
    # argparse lists all commands in one: that list is left out, and its lines go into groups of our own.
    parser._action_groups.pop()
    for title, group in GROUPS.items():
        listed = parser.add_argument_group(title)
        for command in group:
            child = commands.add_parser(
                command.NAME,
                help=command.SUMMARY,
                description=command.SUMMARY[0].upper() + command.SUMMARY[1:] + ".",
                formatter_class=HelpFormatter,
            )
            listed._group_actions.append(commands._choices_actions.pop())
            command.add_arguments(child)
            child.add_argument("--json", action="store_true", help="print one JSON document instead of text")
            child.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; nothing that a user does wrong ends in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    try:
        arguments = build_parser().parse_args(argv)
        code = int(arguments.run(arguments) or 0)
        sys.stdout.flush()
        return code
    except FabricsimError as error:
        _tell(str(error))
        return error.exit_code
    except BrokenPipeError:
        _abandon_output()  # its reader has enough
        return 0
    except KeyboardInterrupt:
        _tell("interrupted", label="")
        return INTERRUPTED
    except MemoryError:
        _tell("out of memory")
        return INTERNAL
    except OSError as error:
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            _abandon_output()
        _tell(f"{error.filename or 'output'}: {error.strerror or error}")
        return INTERNAL
    except Exception as error:
        if os.environ.get("FABRICSIM_TRACEBACK"):
            raise
        _tell(
            f"internal: {type(error).__name__}: {error}\n"
            "This is a fault of fabricsim; FABRICSIM_TRACEBACK=1 shows where. Please report it."
        )
        return INTERNAL


def _abandon_output() -> None:
    """Send what waits for standard output nowhere, or the interpreter tries it again and exits 120."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _tell(message: str, label: str = "error") -> None:
    """Say what went wrong, one problem a line, in colour on a terminal."""
    lines = message.splitlines() or [""]
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.text import Text

            console = Console(stderr=True)
            for index, line in enumerate(lines):
                head = Text(f"{label}: " if label and index == 0 else "", style="bold red")
                console.print(head + Text(line), soft_wrap=True)
        else:
            print(f"{label}: " if label else "", end="", file=sys.stderr)
            print("\n".join(lines), file=sys.stderr, flush=True)
