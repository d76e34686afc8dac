"""nccl-tests' own output: its table line by line, and the document of its ``-J``.

Source: NVIDIA/nccl-tests, ``src/util.cu`` and ``src/common.cu``. No data is moved here, so what nccl-tests
would have checked is told as ``N/A``, and both halves of the table hold the same emulated time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fabricsim.collectives.bench import Measured

__all__ = ["document", "fitted", "footer", "header", "row"]

_TITLE = "# %10s  %12s  %8s  %6s  %6s           out-of-place                       in-place          "
_HALF = "  %7s  %6s  %6s  %6s"
_NAMES = "# %10s  %12s  %8s  %6s  %6s" + 2 * _HALF
_ROW = "%12i  %12i  %8s  %6s  %6i"


def fitted(value: float, width: int) -> str:
    """Write a number with as many decimals, at most two, as fit a width.

    >>> [fitted(v, 7) for v in (12.876, 62239.0, 1234567.0, 123456789.0)]
    ['12.88', '62239.0', '1234567', '1.2e+08']
    """
    for form in ("%.2f", "%.1f", "%.0f"):
        text = form % value
        if len(text) <= width:
            return text
    return ("%.1e" if width >= 7 else "%.0e") % value


def header() -> list[str]:
    """Return the four lines above the rows."""
    half = ("time", "algbw", "busbw", "#wrong")
    units = ("(us)", "(GB/s)", "(GB/s)", "")
    return [
        "#",
        _TITLE % ("", "", "", "", ""),
        _NAMES % ("size", "count", "type", "redop", "root", *half, *half),
        _NAMES % ("(B)", "(elements)", "", "", "", *units, *units),
    ]


def row(found: Measured) -> str:
    """Return one row."""
    half = _HALF % (
        fitted(found.time_us, 7),
        fitted(found.algbw_gbs, 6),
        fitted(found.busbw_gbs, 6),
        "N/A",
    )
    return _ROW % (found.size_bytes, found.count, found.datatype, found.redop, found.root) + half + half


def average_busbw(rows: Sequence[Measured]) -> float:
    """Return the mean bus bandwidth of all rows, GB/s; 0 without rows."""
    return sum(r.busbw_gbs for r in rows) / len(rows) if rows else 0.0


def footer(rows: Sequence[Measured]) -> list[str]:
    """Return the lines below the rows."""
    return [
        "# Out of bounds values : N/A (no data is moved, so none is checked)",
        f"# Avg bus bandwidth    : {average_busbw(rows):g}",
        "#",
    ]


def document(
    rows: Sequence[Measured],
    *,
    version: str,
    arguments: Sequence[str],
    config: dict[str, Any],
    devices: Iterable[dict[str, Any]],
    start_time: str,
    end_time: str,
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Return the document of ``-J``: nccl-tests' keys, null where nothing was checked, and ``fabricsim``.

    Parameters
    ----------
    rows
        The rows of the table.
    version, arguments
        Of this program.
    config
        The entries of ``config`` beside the devices.
    devices
        Of each rank.
    start_time, end_time
        ISO 8601.
    extra
        What goes under ``fabricsim``.
    """
    results = []
    for found in rows:
        half = {
            "time": found.time_us,
            "alg_bw": found.algbw_gbs,
            "bus_bw": found.busbw_gbs,
            "nwrong": None,
        }
        entry: dict[str, Any] = {
            "size": found.size_bytes,
            "count": found.count,
            "type": found.datatype,
            "redop": found.redop,
            "root": found.root,
            "out_of_place": half,
            "in_place": dict(half),
            "actual_iterations": config["iterations"],
            "experiment_name": "",
        }
        if found.choice is not None:
            entry["nccl_choice"] = found.choice
        results.append(entry)
    return {
        "version": version,
        "start_time": start_time,
        "args": list(arguments),
        "env": [],
        "nccl_version": None,
        "config": config | {"devices": list(devices)},
        "results": results,
        "out_of_bounds": {"count": None, "okay": None},
        "average_bus_bandwidth": {"bandwidth": average_busbw(rows), "okay": None},
        "errors": [],
        "end_time": end_time,
        "fabricsim": extra | {"digests": [found.digest for found in rows]},
    }
