"""Options that several commands share, and how they become objects."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich_argparse import RichHelpFormatter

from fabricsim.errors import ConfigError, InputError, Problem

if TYPE_CHECKING:
    from fabricsim.cluster import Cluster

__all__ = [
    "HelpFormatter",
    "add_cluster",
    "add_run",
    "fault_events",
    "input_path",
    "key_values",
    "load_cluster",
]


class HelpFormatter(RichHelpFormatter):
    """The help of every command: usage and options as they are, without markup in our own text."""

    text_markup = False
    help_markup = False


def add_cluster(parser: argparse.ArgumentParser, *, required: bool = True, short: bool = True) -> None:
    """Add ``--cluster`` (and ``-c``, if ``short``) and ``--set``."""
    parser.add_argument(
        *(["-c"] if short else []),
        "--cluster",
        metavar="FILE|PRESET",
        required=required,
        help="a cluster TOML file, or a preset (see: fabricsim platforms)",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="override a key of the cluster, such as topology.spines=4 or transport.mtu=1024; repeatable",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add what every replay takes: seed, threads, output, limits, progress."""
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of the random draws (default 1)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="threads of the core, 1 to 64 (default 1); same result",
    )
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="save summary.json and the Arrow tables to this folder"
    )
    parser.add_argument(
        "--series",
        metavar="TIME",
        help="sample the links every TIME of emulated time, such as 10us (needs -o)",
    )
    parser.add_argument(
        "--rpcs", action="store_true", help="keep the way of every storage RPC in rpcs.arrow (needs -o)"
    )
    parser.add_argument(
        "--fault",
        metavar="KEY=VALUE,...",
        action="append",
        default=[],
        dest="faults",
        help="a fault, such as 'at=10ms,link=leaf0->spine1,kind=down,for=5ms'; repeatable",
    )
    parser.add_argument(
        "--fidelity",
        default="packet",
        metavar="packet|hybrid|flow",
        help="packet: every packet (default); flow: fluids that share links; hybrid: such fluids, each kind"
        " measured in packets until it is steady",
    )
    parser.add_argument("--max-time", metavar="TIME", help="give up at this emulated time, such as 5s")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show progress on stderr (default: on a terminal)",
    )


def load_cluster(name: str, overrides: list[str]) -> Cluster:
    """Load a cluster file or preset, with ``--set`` applied."""
    from fabricsim.cluster import Cluster

    return Cluster.from_toml(name, overrides)


def fault_events(texts: list[str]) -> list[dict[str, Any]]:
    """Read the values of ``--fault``.

    >>> fault_events(["at=1ms,node=spine0,kind=down"])
    [{'at': '1ms', 'node': 'spine0', 'kind': 'down'}]
    """
    return [key_values([part for part in text.split(",") if part.strip()], "--fault") for text in texts]


def key_values(pairs: list[str], option: str) -> dict[str, Any]:
    """Read KEY=VALUE texts; a value is read as TOML where it is TOML (numbers, true, lists), else as text.

    >>> key_values(["a.b=3", "c=400KB", "d=[1, 2]"], "--set")
    {'a.b': 3, 'c': '400KB', 'd': [1, 2]}
    """
    import tomllib

    found: dict[str, Any] = {}
    problems = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            problems.append(Problem(option, f"found {pair!r}, allowed: KEY=VALUE"))
            continue
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except (tomllib.TOMLDecodeError, KeyError):
            found[key] = value.strip()
    if problems:
        raise ConfigError(problems)
    return found


def time_option(text: str | None, option: str) -> int | None:
    """Read an option that is a time, in picoseconds."""
    from fabricsim.units import parse_time_ps

    if text is None:
        return None
    try:
        return parse_time_ps(text)
    except ValueError as error:
        raise ConfigError([Problem(option, str(error))]) from error


@contextlib.contextmanager
def input_path(name: str) -> Iterator[Path]:
    """Give the path of an input; for ``-``, of a copy of standard input that is deleted afterwards."""
    if name != "-":
        path = Path(name)
        if not path.exists():
            raise InputError([Problem(name, "no such file or folder")])
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="fabricsim-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        yield path
