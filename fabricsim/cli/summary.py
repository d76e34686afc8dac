"""The summary of a replay as text: how long, where the time went, which links bound it."""

from __future__ import annotations

from typing import Any

from fabricsim.cli.output import heading, line, pairs, shortened, table
from fabricsim.result import training_rows
from fabricsim.units import format_bytes, format_rate, format_time

__all__ = ["percent", "print_flows", "print_summary", "time_or_dash"]

_PARTS = (
    ("compute_ps", "compute"),
    ("exposed_communication_ps", "exposed communication"),
    ("exposed_storage_ps", "exposed storage"),
    ("idle_ps", "idle"),
    ("overlapped_communication_ps", "(communication behind compute)"),
    ("overlapped_storage_ps", "(storage behind both)"),
)


def percent(part: int | float, whole: int | float) -> str:
    """Write a share."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def time_or_dash(value: int | None) -> str:
    """Write a time in picoseconds, or a dash for none."""
    return "-" if value is None else format_time(value)


def print_summary(summary: dict[str, Any]) -> None:
    """Print everything that a summary tells."""
    total = summary["end_ps"]
    line(
        f"{summary['cluster']}: {summary['hosts']} hosts, {summary['ranks']} ranks,"
        f" {summary['operations']} operations"
    )
    if summary.get("status", "complete") != "complete":
        done, all_of_them = summary["operations_done"], summary["operations_total"]
        line(
            f"this run is not complete ({summary['status']}):"
            f" {done} of {all_of_them} operations of ranks ended"
        )
    line(f"time {format_time(total)}, digest {summary['digest']}")
    _print_fidelity(summary.get("fidelity"))
    if told := summary.get("training"):
        heading("training")
        pairs(training_rows(told))
    _print_breakdown(summary["breakdown"], total)
    _print_path(summary.get("critical_path"), total)
    _print_collectives(summary.get("collectives") or [])
    if (summary.get("flows_summary") or {}).get("count"):
        print_flows(summary["flows_summary"])
    _print_storage(summary.get("storage"), total)
    _print_checkpoints(summary.get("checkpoints") or {})
    _print_links(summary.get("links") or [])
    _print_paused(summary)
    _print_held_back(summary)
    _print_power(summary.get("power"))
    names = ("packets", "packet_hops", "drops", "retransmits", "ecn_marks", "cnps", "pfc_pauses")
    if counted := [(name.replace("_", " "), f"{summary[name]:,}") for name in names if name in summary]:
        heading("network")
        pairs(counted)


def _print_fidelity(detail: dict[str, Any] | None) -> None:
    """Say what was worked out instead of emulated."""
    if detail is None:
        return
    line(f"fidelity {detail['mode']}: {detail['activities']:,} activities that share links as fluids")
    line("not in it: queues, marks, pauses, congestion control, and what is held up behind full buffers")
    if "patterns" in detail:
        line(
            f"{detail['patterns']} patterns measured in packets ({detail['packet_hops']:,} packet-hops);"
            f" {100 * detail['extrapolated']:.1f} % of their time extrapolated;"
            f" each alone is by estimate {100 * detail['error']:.2f} % off"
        )


def print_flows(flows: dict[str, Any]) -> None:
    """Print the completion times of flows in short."""
    heading("flow completion times")
    if flows["finished"] < flows["count"]:
        pairs([("not finished", flows["count"] - flows["finished"])])
    names = ("fct_min_ps", "fct_p50_ps", "fct_p99_ps", "fct_max_ps")
    row = [flows["count"], format_bytes(flows["bytes"]), *(time_or_dash(flows[name]) for name in names)]
    table(["flows", "bytes", "min", "p50", "p99", "max"], [row], left=0)


def _print_breakdown(parts: dict[str, Any], total: int) -> None:
    mean, slowest = parts["mean"], parts["slowest"]
    if not slowest:
        return
    heading("where the time went")
    table(
        ["", "mean of ranks", "", f"rank {slowest['rank']} (last to end)", ""],
        [
            [
                label,
                format_time(mean[name]),
                percent(mean[name], total),
                format_time(slowest[name]),
                percent(slowest[name], total),
            ]
            for name, label in _PARTS
            if name in mean and (mean[name] or slowest[name] or "storage" not in name)
        ],
    )
    heading("by kind (mean of ranks)")
    table(
        ["kind", "operations", "in flight", "exposed", "of the time"],
        [
            [
                row["kind"],
                row["operations"],
                format_time(row["in_flight_ps"]),
                "-" if row["kind"] == "compute" else format_time(row["exposed_ps"]),
                percent(row["in_flight_ps"] if row["kind"] == "compute" else row["exposed_ps"], total),
            ]
            for row in parts["by_kind"]
        ],
    )


def _print_path(path: dict[str, Any] | None, total: int) -> None:
    if not path or not path["by_kind"]:
        return
    heading("critical path")
    shares = [f"{kind} {percent(time_ps, total)}" for kind, time_ps in path["by_kind"].items()]
    line(f"  {', '.join(shares)}")
    table(
        ["  longest", "operation", "rank", "time"],
        [
            [
                f"  {row['kind']}",
                shortened(row["name"]) or f"id {row['id']}",
                row["rank"],
                format_time(row["time_ps"]),
            ]
            for row in path["longest"][:3]
        ],
        left=2,
    )


def _print_collectives(rows: list[dict[str, Any]], limit: int = 12) -> None:
    if not rows:
        return
    heading("collectives (as nccl-tests counts; time from the last start to the last end)")
    table(
        ["kind", "bytes", "ranks", "count", "time", "algbw GB/s", "busbw GB/s", "waiting"],
        [
            [
                row["kind"],
                format_bytes(row["bytes"]),
                row["ranks"],
                row["count"],
                format_time(row["time_ps"]),
                None if row["algbw_gbs"] is None else f"{row['algbw_gbs']:.2f}",
                None if row["busbw_gbs"] is None else f"{row['busbw_gbs']:.2f}",
                format_time(row["wait_ps"]),
            ]
            for row in rows[:limit]
        ],
    )
    if len(rows) > limit:
        line(f"and {len(rows) - limit} more (--json has all)")


def _print_storage(storage: dict[str, Any] | None, total: int) -> None:
    if not storage:
        return
    heading("storage")
    table(
        ["kind", "calls", "bytes", "first to last", "mean", "longest", "GB/s"],
        [
            [
                row["kind"],
                f"{row['operations']:,}",
                format_bytes(row["bytes"]) if row["bytes"] else None,
                *(format_time(row[name]) for name in ("time_ps", "mean_ps", "max_ps")),
                None if row["gbs"] is None else f"{row['gbs']:.2f}",
            ]
            for row in storage["by_kind"]
        ],
    )
    _print_storage_notes(storage)
    if storage["slowest_targets"]:
        heading("slowest targets (mean of an RPC)")
        table(
            ["target", "server", "RPCs", "bytes", "busy", "wait", "service"],
            [
                [
                    f"{row['storage']} {row['target']}",
                    row["server"],
                    f"{row['rpcs']:,}",
                    format_bytes(row["bytes"]),
                    percent(row["busy_ps"], total),
                    format_time(row["wait_ps"]),
                    format_time(row["service_ps"]),
                ]
                for row in storage["slowest_targets"]
            ],
            left=2,
        )


def _print_storage_notes(storage: dict[str, Any]) -> None:
    """Print what caches, locks and failures did: only what happened."""
    notes = (
        ("rpcs", "RPCs", "{:,}".format),
        ("rpc_written_bytes", "written over the network", format_bytes),
        ("rpc_read_bytes", "read over the network", format_bytes),
        ("cache_hit_bytes", "read from caches", format_bytes),
        ("max_dirty_bytes", "most dirty bytes of a client and target", format_bytes),
        ("blocked_ps", "writers waited for room", format_time),
        ("lock_wait_ps", "waited for locks", format_time),
        ("failures", "servers failed", str),
        ("resent", "RPCs sent again", "{:,}".format),
        ("evictions", "clients evicted", str),
        ("lost_dirty_bytes", "dirty bytes lost", format_bytes),
        ("failed", "failed: of clients that a server had given up", "{:,}".format),
        ("refused", "refused: of files that are not there, or there already", "{:,}".format),
    )
    pairs((label, show(storage[name])) for name, label, show in notes if storage[name])


def _print_power(found: dict[str, Any] | None) -> None:
    if not found:
        return
    heading("energy")
    told = [
        ("in all", f"{_amount(found['energy_j'])}J, on average {_amount(found['average_w'])}W"),
        (f"by step of {found['steps']}", f"{_amount(found['per_step_j'] or 0)}J"),
    ]
    told += [(name.replace("_", " "), f"{_amount(part)}J") for name, part in found["parts_j"].items()]
    pairs((name, text) for name, text in told if not text.startswith("0 "))


def _amount(value: float) -> str:
    """Write a number with the prefix of its unit."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m")):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}"
    return f"{value:.4g} "


def _print_held_back(summary: dict[str, Any]) -> None:
    """Say so when ranks mostly wait for messages while no link is busy and congestion control was at work."""
    busiest = max((row["utilisation"] for row in summary.get("links") or []), default=1.0)
    exposed = (summary["breakdown"]["slowest"] or {}).get("exposed_communication_ps", 0)
    if busiest < 0.5 and 2 * exposed > summary["end_ps"] and summary.get("cnps"):
        line(
            f"no link is busy half of the time: {summary['cnps']:,} congestion notifications"
            " made senders slow down"
        )


def _print_paused(summary: dict[str, Any]) -> None:
    paused = summary.get("paused_links") or {}
    if paused.get("count"):
        share = percent(paused["longest_ps"], summary["end_ps"])
        told = f"{paused['longest']} the longest, {format_time(paused['longest_ps'])} ({share})"
        line(f"links paused at times: {paused['count']}, {told}")


def _print_links(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    heading("busiest links")
    table(
        ["link", "rate", "busy", "carried", "ECN marks", "drops", "pauses", "paused", "longest queue"],
        [
            [
                row["link"],
                format_rate(row["rate_mbps"]),
                f"{100 * row['utilisation']:.1f} %",
                format_bytes(row["bytes"]),
                f"{row['ecn_marks']:,}",
                f"{row['drops']:,}",
                f"{row['pauses']:,}",
                format_time(row["paused_ps"]),
                format_bytes(row["max_queue_bytes"]),
            ]
            for row in rows
        ],
    )


def _print_checkpoints(found: dict[str, Any]) -> None:
    if found.get("saves"):
        heading("checkpoints (stall of the training, its longest on a rank; writes over all ranks)")
        table(
            ["save", "step", "bytes", "stall", "of it waiting", "snapshot", "write", "GB/s", "drain"],
            [
                [
                    row["save"],
                    row["step"],
                    format_bytes(row["bytes"]),
                    *(format_time(row[f"{name}_max_ps"]) for name in ("stall", "wait", "snapshot")),
                    format_time(row["write_ps"]),
                    None if row["write_gbs"] is None else f"{row['write_gbs']:.1f}",
                    format_time(row["drain_ps"]) if row["drain_ps"] else None,
                ]
                for row in found["saves"]
            ],
            left=0,
        )
    if found.get("restore"):
        heading("restore (the longest of a rank)")
        pairs((name.removesuffix("_ps"), format_time(value)) for name, value in found["restore"].items())
