"""The head of a report: the figures to know first, and the sentence that names the bottleneck."""

from __future__ import annotations

from typing import Any

import numpy as np

from fabricsim.report.blocks import share
from fabricsim.report.time_figures import PARTS
from fabricsim.result import Result
from fabricsim.units import format_rate, format_time

__all__ = ["bottleneck", "headline", "warning"]

#: A link that is in use for this share of the run is said to bound it; from this share on a part is named.
_BUSY, _MUCH = 0.7, 0.2


def headline(result: Result, steps: np.ndarray) -> list[tuple[str, str, str]]:
    """Return name, value and a word more of the main figures.

    Parameters
    ----------
    result
        Of a replay.
    steps
        How long each step took, picoseconds; empty without steps.
    """
    summary = result.summary
    total = max(1, summary["end_ps"])
    tiles = [("time of the run", format_time(summary["end_ps"]), _steps(steps))]
    tiles += training(summary.get("training") or {})
    mean = summary["breakdown"]["mean"]
    tiles += [
        (name, share(mean[key], total), f"{format_time(mean[key])} a rank")
        for key, name, _ in PARTS
        if mean.get(key) or key != "exposed_storage_ps"
    ]
    if links := summary.get("links"):
        busy = links[0]
        tiles.append(("busiest link", f"{100 * busy['utilisation']:.1f} %", busy["link"]))
    return tiles


def _steps(steps: np.ndarray) -> str:
    if len(steps) < 2:
        return "one step" if len(steps) else ""
    return f"{len(steps)} steps, median {format_time(int(np.median(steps)))}"


def training(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the tiles of a training step: its time, tokens a second, use of the accelerators."""
    tiles = []
    if (step := found.get("step_ps")) is not None:
        tiles.append(("step", format_time(int(step)), ""))
    if (tokens := found.get("tokens_per_s")) is not None:
        each = found.get("tokens_per_s_per_accelerator")
        tiles.append(("tokens a second", f"{tokens:,.0f}", f"{each:,.0f} an accelerator" if each else ""))
    if (mfu := found.get("mfu")) is not None:
        rate = found.get("flops_per_s_per_accelerator")
        tiles.append(
            ("MFU", f"{100 * mfu:.1f} %", f"{rate / 1e12:,.0f} TFLOP/s an accelerator" if rate else "")
        )
    if (bubble := found.get("bubble")) is not None:
        tiles.append(("pipeline bubble", f"{100 * bubble:.1f} %", "of the steps"))
    return tiles


def warning(result: Result) -> str:
    """Say so when the run is not complete."""
    summary = result.summary
    status = summary.get("status", "complete")
    if status == "complete":
        return ""
    return (
        f"This run is not complete ({status}): {summary['operations_done']:,} of"
        f" {summary['operations_total']:,} operations of ranks ended."
    )


def bottleneck(result: Result) -> str:
    """Return a few sentences: what takes most of the time, and what seems to cause it."""
    summary = result.summary
    total, mean = max(1, summary["end_ps"]), summary["breakdown"]["mean"]
    parts = {key: mean.get(key, 0) for key, _, _ in PARTS}
    largest = max(parts, key=lambda key: parts[key])
    said = [_SAID[largest].format(share=share(parts[largest], total))]
    exposed = parts["exposed_communication_ps"]
    if exposed >= _MUCH * total or largest == "exposed_communication_ps":
        said += _communication(summary, exposed, total, already=largest == "exposed_communication_ps")
    if parts["exposed_storage_ps"] >= _MUCH * total:
        said += _storage(summary)
    return " ".join(said)


_SAID = {
    "compute_ps": "Compute takes most of the time, {share}.",
    "exposed_communication_ps": "Communication that no compute hides takes most of the time, {share}.",
    "exposed_storage_ps": "Waiting for storage takes most of the time, {share}.",
    "idle_ps": "Ranks are idle for most of the time, {share}: they wait for others, or have ended.",
}


def _communication(summary: dict[str, Any], exposed: int, total: int, *, already: bool) -> list[str]:
    said = [] if already else [f"Exposed communication takes {share(exposed, total)}."]
    kinds = [row for row in summary["breakdown"]["by_kind"] if row["exposed_ps"] and row["kind"] != "compute"]
    if kinds:
        most = max(kinds, key=lambda row: row["exposed_ps"])
        said.append(f"Most of that is {most['kind']} ({share(most['exposed_ps'], total)}).")
    waits = [(row["count"] * row["wait_ps"], row["count"] * row["time_ps"]) for row in summary["collectives"]]
    waiting, working = (sum(times) for times in zip(*waits, strict=True)) if waits else (0, 0)
    if waiting > working:
        said.append(
            "In collectives, ranks mostly wait for the last one to join: look for uneven work or late starts."
        )
    links = summary.get("links") or []
    busiest = links[0] if links else None
    if busiest and busiest["utilisation"] >= _BUSY:
        which, used = f"{busiest['link']} ({format_rate(busiest['rate_mbps'])})", busiest["utilisation"]
        said.append(f"{which} is in use {100 * used:.0f} % of the time and bounds it.")
    elif busiest:
        said.append(f"No link is in use for more than {100 * busiest['utilisation']:.0f} % of the time.")
        if summary.get("cnps"):
            said.append(f"{summary['cnps']:,} congestion notifications made senders slow down.")
        if (summary.get("paused_links") or {}).get("count"):
            said.append(f"{summary['paused_links']['count']} links were paused at times.")
    return said


def _storage(summary: dict[str, Any]) -> list[str]:
    slowest = (summary.get("storage") or {}).get("slowest_targets") or []
    if not slowest:
        return []
    first = slowest[0]
    return [
        f"The slowest target is {first['storage']} {first['target']} on {first['server']},"
        f" busy {100 * first['utilisation']:.0f} % of the time."
    ]
