"""The JSON document that nccl-tests writes with ``-J``, and ``fabricsim bench`` too.

Source: NVIDIA/nccl-tests, ``src/util.cu``. A number that is none is the text ``nan`` there; roots are text.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabricsim.errors import InputError, Problem

__all__ = ["KINDS", "NcclTests", "read_nccl_tests"]

#: The programs of nccl-tests, without ``_perf``, and what a trace calls what they do.
KINDS = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "sendrecv": "send",
}


@dataclass(frozen=True)
class NcclTests:
    """The results of an nccl-tests run: bytes, time and bus bandwidth of each size.

    Parameters
    ----------
    kind
        The trace's name of what ran, or None where the file does not tell.
    ranks
        How many, or None where the file does not list its devices.
    rows
        One dict a result: ``bytes``, ``time_ps``, ``busbw_gbs`` (None where it is no number), ``type``,
        ``redop``, ``root`` (-1: none) and ``wrong`` (elements that were wrong, None: not checked).
    """

    kind: str | None
    ranks: int | None
    rows: tuple[dict[str, Any], ...] = field(repr=False)


def read_nccl_tests(path: str | Path) -> NcclTests:
    """Read the JSON file that nccl-tests writes with ``-J``; out of place where both were measured.

    Raises
    ------
    InputError
        When the file cannot be read, is not JSON, or has no ``results`` of sizes and times.
    """
    where = str(path)
    try:
        data = json.loads(Path(path).read_text())
    except OSError as error:
        raise InputError([Problem(where, error.strerror or str(error))]) from error
    except (ValueError, RecursionError) as error:
        raise InputError([Problem(where, f"not JSON: {error}")]) from error
    return parse_nccl_tests(data, where)


def parse_nccl_tests(data: Any, where: str) -> NcclTests:
    """Take apart a document of nccl-tests; raises InputError with all that is wrong with it."""
    if not isinstance(data, dict) or not isinstance(data.get("results"), list):
        raise InputError([Problem(where, "no list 'results'; allowed: the file of nccl-tests -J")])
    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for number, entry in enumerate(data["results"]):
        place = f"{where}:results[{number}]"
        entry = entry if isinstance(entry, dict) else {}
        half = entry.get("out_of_place") or entry.get("in_place")
        half = half if isinstance(half, dict) else {}
        size, took = _number(entry.get("size")), _number(half.get("time"))
        if size is None or took is None or not 0 <= size < 1 << 62 or not 0 < took < 1e12:
            hint = "; the time is that of the CPU (-C)" if "cpu_time" in half else ""
            problems.append(Problem(place, f"needs a size >= 0 and out_of_place.time > 0 (us){hint}"))
            continue
        wrong = _number(half.get("nwrong"))
        rows.append(
            {
                "bytes": int(size),
                "time_ps": round(took * 1_000_000),
                "busbw_gbs": _number(half.get("bus_bw")),
                "type": str(entry.get("type", "")),
                "redop": str(entry.get("redop", "")),
                "root": _root(entry.get("root")),
                "wrong": None if wrong is None else int(wrong),
            }
        )
    if problems:
        raise InputError(problems)
    config = data.get("config")
    devices = config.get("devices") if isinstance(config, dict) else None
    ranks = len(devices) if isinstance(devices, list) and devices else None
    return NcclTests(_kind_of(data.get("args")), ranks, tuple(rows))


def _number(value: object) -> int | float | None:
    """Return a finite number as it is, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def _root(value: object) -> int:
    text = str(value).strip()
    return int(text) if re.fullmatch(r"-?\d{1,9}", text, re.ASCII) else -1


def _kind_of(arguments: object) -> str | None:
    """Return what the program named in nccl-tests' own arguments does."""
    words = list(map(str, arguments)) if isinstance(arguments, list) else str(arguments or "").split()
    for word in words:
        # fabricsim bench names its tests without _perf.
        name = word.rsplit("/", 1)[-1].removesuffix("_perf")
        if name in KINDS:
            return KINDS[name]
    return None
