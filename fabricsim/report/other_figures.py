"""Tables of collectives, figures of storage, and what else a summary may hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from fabricsim.analysis.columns import column
from fabricsim.report.blocks import LEGEND, Figure, axis, rounded, share, time_unit
from fabricsim.result import Result
from fabricsim.units import format_bytes, format_time

__all__ = ["checkpoints", "collectives", "energy", "provenance", "storage_targets", "training"]

#: Bars of storage targets, at most; more are put together.
TARGET_BARS = 128


def collectives(result: Result) -> Figure | None:
    """The collectives by kind, size and ranks, with the bandwidths that nccl-tests counts."""
    found = [row for row in result.summary.get("collectives") or [] if row["time_ps"]]
    if not found:
        return None
    rated = [row for row in found if row["busbw_gbs"]]
    text = (
        "As nccl-tests counts: the time from the start of the last rank to the end of the last, its median."
    )
    if len(rated) > 1:
        best, worst = (pick(rated, key=lambda row: row["busbw_gbs"]) for pick in (max, min))
        text += (
            f" Bus bandwidth is between {worst['busbw_gbs']:.4g} GB/s ({_collective(worst)})"
            f" and {best['busbw_gbs']:.4g} GB/s ({_collective(best)})."
        )
    return Figure(
        name="collectives",
        title="Collectives",
        text=text,
        columns=[
            "kind",
            "bytes",
            "ranks",
            "number",
            "time",
            "waiting for the last",
            "algbw GB/s",
            "busbw GB/s",
        ],
        rows=[
            [
                row["kind"],
                format_bytes(row["bytes"]),
                f"{row['ranks']:,}",
                f"{row['count']:,}",
                format_time(row["time_ps"]),
                format_time(row["wait_ps"]),
                *(None if row[name] is None else f"{row[name]:.4g}" for name in ("algbw_gbs", "busbw_gbs")),
            ]
            for row in found
        ],
    )


def _collective(row: dict[str, Any]) -> str:
    return f"{row['kind']} of {format_bytes(row['bytes'])} on {row['ranks']:,} ranks"


def storage_targets(result: Result) -> Figure | None:
    """What the targets of the file systems took in and gave out, and which were slow."""
    table, summary = result.storage, result.summary.get("storage")
    if table is None or summary is None or not table.num_rows:
        return None
    total = max(1, result.summary["end_ps"])
    names = [
        f"{s} {t}" for s, t in zip(table["storage"].to_pylist(), table["target"].to_pylist(), strict=True)
    ]
    servers = table["server"].to_pylist()
    wanted = ("rpcs", "bytes_read", "bytes_written", "busy_ps", "queue_max", "wait_ps", "service_ps")
    values = {name: column(table, name) for name in wanted}
    n = table.num_rows
    width = -(-n // TARGET_BARS)
    first = np.arange(0, n, width)
    largest = max(1, int(max(values["bytes_read"].max(), values["bytes_written"].max())))
    scale, unit = next(
        (size, word)
        for size, word in ((10**9, "GB"), (10**6, "MB"), (1, "B"))
        if largest >= size or size == 1
    )
    data: list[dict[str, Any]] = []
    for way, colour in (("written", "@storage"), ("read", "@all-gather")):
        mean = np.add.reduceat(values[f"bytes_{way}"], first) / np.diff(first, append=n)
        if mean.any():
            data.append(
                {
                    "type": "bar",
                    "name": way,
                    "x": list(range(len(first))),
                    "y": rounded(mean / scale),
                    "customdata": [names[at] for at in first.tolist()],
                    "marker": {"color": colour, "line": {"width": 0}},
                    "hovertemplate": f"%{{customdata}}: %{{y}} {unit}<extra>{way}</extra>",
                }
            )
    calls = np.maximum(values["rpcs"], 1)
    order = np.lexsort((np.arange(n), -(values["wait_ps"] + values["service_ps"]) // calls))
    order = order[values["rpcs"][order] > 0]
    text = (
        f"Applications read {format_bytes(summary['bytes_read'])} and wrote"
        f" {format_bytes(summary['bytes_written'])} with {summary['rpcs']:,} RPCs to {n:,} targets."
    )
    if len(order):
        slow = int(order[0])
        text += (
            f" The slowest target is {names[slow]} on {servers[slow]}: an RPC waits"
            f" {format_time(int(values['wait_ps'][slow] // calls[slow]))} and is served in"
            f" {format_time(int(values['service_ps'][slow] // calls[slow]))} on average,"
            f" {share(min(total, int(values['busy_ps'][slow])), total)} of the time busy."
        )
    return Figure(
        name="storage",
        title="Storage targets",
        text=text,
        data=data,
        layout={
            "barmode": "group",
            "xaxis": axis("target", tickvals=[0, len(first) - 1], ticktext=[names[0], names[int(first[-1])]]),
            "yaxis": axis(f"bytes ({unit})", rangemode="tozero"),
            "legend": LEGEND,
        },
        note=f"Each bar is the mean of {width} neighbouring targets." if width > 1 else "",
        columns=["target", "server", "RPCs", "read", "written", "busy", "longest queue", "wait", "service"],
        rows=[
            [
                names[at],
                servers[at],
                f"{values['rpcs'][at]:,}",
                format_bytes(int(values["bytes_read"][at])),
                format_bytes(int(values["bytes_written"][at])),
                share(min(total, int(values["busy_ps"][at])), total),
                f"{values['queue_max'][at]:,}",
                format_time(int(values["wait_ps"][at] // calls[at])),
                format_time(int(values["service_ps"][at] // calls[at])),
            ]
            for at in order.tolist()
        ],
        left=2,
    )


def training(result: Result) -> Figure | None:
    """What a training step reached."""
    found = result.summary.get("training")
    if not found:
        return None
    steps = found["steps_ps"]
    unit, unit_name = time_unit(max(steps))
    text = (
        f"A step takes {format_time(found['step_ps'])}: {found['tokens_per_s']:,.0f} tokens a second,"
        f" {found['tokens_per_s_per_accelerator']:,.1f} an accelerator,"
        f" at {100 * found['mfu']:.1f} % of the peak for the model's own operations (MFU)"
        f" and {100 * found['hfu']:.1f} % for all that are done (HFU)."
        f" Ranks wait for other pipeline stages for {100 * found['bubble']:.1f} % of the steps."
    )
    if memory := found.get("memory"):
        text += f" A rank needs {format_bytes(memory['total'])} of {format_bytes(memory['device'])}."
    data = {
        "type": "bar",
        "x": list(range(len(steps[:TARGET_BARS]))),
        "y": rounded(np.array(steps[:TARGET_BARS]) / unit),
        "marker": {"color": "@compute"},
        "hovertemplate": f"step %{{x}}: %{{y}} {unit_name}<extra></extra>",
    }
    return Figure(
        name="training",
        title="Training",
        text=text,
        data=[data] if len(steps) > 1 else [],
        layout={"xaxis": axis("step"), "yaxis": axis(f"time ({unit_name})", rangemode="tozero")},
        columns=["step", "time", "of the mean"],
        rows=[[at, format_time(step), share(step, found["step_ps"])] for at, step in enumerate(steps)],
        height=240,
    )


def checkpoints(result: Result) -> Figure | None:
    """What each save cost."""
    found = result.summary.get("checkpoints") or {}
    saves, restore = found.get("saves") or [], found.get("restore") or {}
    if not saves and not restore:
        return None
    text = ""
    if saves:
        stall = max(row["stall_max_ps"] for row in saves)
        many = "one save" if len(saves) == 1 else f"{len(saves)} saves"
        text = f"{many.capitalize()}; training stalled for at most {format_time(stall)}. "
    if restore:
        parts = [f"{name.removesuffix('_ps')} {format_time(value)}" for name, value in restore.items()]
        text += f"A restore took, on its slowest rank: {', '.join(parts)}."
    return Figure(
        name="checkpoints",
        title="Checkpoints",
        text=text.strip(),
        columns=["save", "step", "bytes", "stall", "of it waiting", "snapshot", "write", "GB/s", "drain"],
        rows=[
            [
                row["save"],
                row["step"],
                format_bytes(row["bytes"]),
                *(format_time(row[f"{name}_max_ps"]) for name in ("stall", "wait", "snapshot")),
                format_time(row["write_ps"]),
                None if row["write_gbs"] is None else f"{row['write_gbs']:.1f}",
                format_time(row["drain_ps"]) if row["drain_ps"] else None,
            ]
            for row in saves
        ],
        left=0,
    )


def energy(result: Result) -> Figure | None:
    """Where the energy went, for a cluster that tells its watts."""
    found = result.summary.get("power")
    if not found:
        return None
    parts = {name.replace("_", " "): joules for name, joules in found["parts_j"].items() if joules}
    total = found["energy_j"] or 1
    return Figure(
        name="energy",
        title="Energy",
        text=f"{found['energy_j']:.4g} J in all, on average {found['average_w']:.4g} W.",
        columns=["part", "J", "of all"],
        rows=[[name, f"{joules:.4g}", share(joules, total)] for name, joules in parts.items()],
    )


def provenance(result: Result) -> Figure:
    """What the result was made from, and the counters of the run."""
    summary = result.summary
    rows: list[list[object]] = [[name.replace("_", " "), value] for name, value in result.provenance.items()]
    counters = (
        "packets",
        "packet_hops",
        "drops",
        "retransmits",
        "timeouts",
        "ecn_marks",
        "cnps",
        "pfc_pauses",
    )
    names = ("status", "hosts", "ranks", "operations", "operations_done", "operations_total", *counters)
    rows += [
        [name.replace("_", " "), f"{value:,}" if isinstance(value, int) else value]
        for name in names
        if (value := summary.get(name)) is not None
    ]
    rows.append(["digest", result.digest])
    told = summary.get("fidelity")
    if isinstance(told, dict):
        rows += [[f"fidelity: {name.replace('_', ' ')}", _plain(value)] for name, value in told.items()]
    elif told is not None:
        rows.append(["fidelity", told])
    return Figure(
        name="provenance",
        title="Provenance",
        text="The same cluster, trace, seed and version give the same result, and this page byte by byte.",
        columns=["what", "value"],
        rows=rows,
        left=2,
    )


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
