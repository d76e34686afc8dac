"""``fabricsim export``: a result for other tools."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fabricsim.cli.output import emit_json, log
from fabricsim.errors import ConfigError, EngineError, Problem

if TYPE_CHECKING:
    from fabricsim.result import Result

NAME = "export"
SUMMARY = (
    "write a result for other tools: a Perfetto trace, the links as iblinkinfo tells them, Prometheus metrics"
)

_FORMATS = ("perfetto", "iblinkinfo", "prometheus")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("result", metavar="RESULT", help="a result folder (of replay -o), or a file in it")
    parser.add_argument("--perfetto", metavar="FILE", help="a trace to open in ui.perfetto.dev (.pftrace)")
    parser.add_argument(
        "--iblinkinfo", metavar="FILE", help="the links as lines of iblinkinfo -l, or - for standard output"
    )
    parser.add_argument(
        "--prometheus",
        metavar="FILE",
        help="metrics with the names of NCCL Inspector (.prom), or - for standard output",
    )
    parser.add_argument(
        "--ranks",
        metavar="LIST",
        help="only these ranks in traces and metrics, such as 0-7,64 (default: all, or some of very many)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write what is asked for."""
    wanted = {name: path for name in _FORMATS if (path := getattr(arguments, name)) is not None}
    _check(wanted, json=arguments.json)
    ranks = None if arguments.ranks is None else rank_list(arguments.ranks)
    from fabricsim.cli.compare import result_at

    result = result_at(arguments.result)
    n_ranks = result.ranks.num_rows
    if ranks is not None and (wrong := [rank for rank in ranks if rank >= n_ranks]):
        raise ConfigError(
            [Problem("--ranks", f"found {rank}, allowed: 0 to {n_ranks - 1}") for rank in wrong]
        )
    told = {name: _write(result, name, path, ranks) for name, path in wanted.items()}
    if arguments.json:
        emit_json(told)
    return 0


def _check(wanted: dict[str, str], *, json: bool) -> None:
    problems: list[str | Problem] = []
    if not wanted:
        problems.append(f"nothing to write; name one of {', '.join('--' + name for name in _FORMATS)}")
    if wanted.get("perfetto") == "-":
        problems.append(Problem("--perfetto", "found -, allowed: a file"))
    if (to_stdout := [name for name, path in wanted.items() if path == "-"]) and (json or len(to_stdout) > 1):
        problems.append("only one thing can be written to standard output")
    if problems:
        raise ConfigError(problems)


def rank_list(text: str) -> list[int]:
    """Read ranks and ranges of them.

    >>> rank_list("0-3,8")
    [0, 1, 2, 3, 8]
    """
    found: list[int] = []
    problems = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            problems.append(Problem("--ranks", f"found {part!r}, allowed: ranks and ranges, such as 0-7,64"))
        elif dash and int(last) - int(first) > 1 << 24:
            problems.append(Problem("--ranks", f"found {part!r}, allowed: at most 2^24 ranks"))
        else:
            found += range(int(first), int(last if dash else first) + 1)
    if problems:
        raise ConfigError(problems)
    return found


def _write(result: Result, name: str, path: str, ranks: list[int] | None) -> dict[str, Any]:
    from fabricsim.report import iblinkinfo, prometheus, write_perfetto

    if name == "perfetto":
        made = write_perfetto(result, path, ranks)
        log(
            f"{path}: {made.ranks:,} of {made.of_ranks:,} ranks, {made.slices:,} slices,"
            f" {made.arrows:,} arrows, {made.counters} counters"
        )
        return {"path": path} | {key: getattr(made, key) for key in ("ranks", "slices", "arrows", "counters")}
    lines = iblinkinfo(result) if name == "iblinkinfo" else prometheus(result, ranks)
    count = _put(lines, path)
    if path != "-":
        log(f"{path}: {count:,} lines")
    return {"path": path, "lines": count}


def _put(lines: Iterable[str], path: str) -> int:
    """Write lines to a file, or for ``-`` to standard output, and return how many."""
    if path == "-":
        return _lines(sys.stdout, lines)
    try:
        with Path(path).open("w", encoding="utf-8", newline="\n") as file:
            return _lines(file, lines)
    except OSError as error:
        raise EngineError(f"{path}: cannot be written: {error.strerror or error}") from error


def _lines(file: TextIO, lines: Iterable[str]) -> int:
    count = 0
    for line in lines:
        file.write(line + "\n")
        count += 1
    return count
