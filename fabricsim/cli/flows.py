"""``fabricsim flows``: point-to-point flows on a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fabricsim.cli.options import add_cluster, add_run, input_path
from fabricsim.cli.output import emit_json, heading, line, log, pairs, table

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "flows"
SUMMARY = "run point-to-point flows (htsim .cm, CSV or Arrow) and tell their completion times"
SLOWEST = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "matrix",
        metavar="MATRIX",
        help="htsim connection matrix, table of src, dst, bytes (CSV or Arrow), or trace; - for stdin",
    )
    parser.add_argument(
        "--from", dest="from_format", metavar="FORMAT", help="the format, if not by its contents"
    )
    add_cluster(parser)
    add_run(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the flows and print their completion times."""
    from fabricsim.cli.running import execute
    from fabricsim.cli.summary import time_or_dash
    from fabricsim.convert import convert
    from fabricsim.result import flows_summary
    from fabricsim.trace import read_trace
    from fabricsim.units import format_bytes, format_rate, format_time

    faults: Sequence[Mapping[str, Any]] = ()
    with input_path(arguments.matrix) as path:
        if arguments.from_format is None and is_trace(path):
            trace = read_trace(path)
        else:
            report = convert(path, from_format=arguments.from_format)
            trace, faults = report.trace, report.faults
            for warning in report.warnings:
                log(f"warning: {warning}")
    result = execute(arguments, trace, faults)
    flows = named_flows(result.flows)
    times = flows_summary(flows)
    if arguments.json:
        names = ["id", "src", "dst", "bytes", "start_ps", "end_ps", "fct_ps"]
        emit_json(result.summary | {"flows_summary": times, "flows": flows.select(names).to_pylist()})
        return 0
    summary = result.summary
    line(
        f"{summary['cluster']}: {summary['hosts']} hosts,"
        f" {times['count']} flows, {format_bytes(times['bytes'])}"
    )
    line(f"time {format_time(summary['end_ps'])}, digest {summary['digest']}")
    heading("completion times")
    names = ["fct_min_ps", "fct_p50_ps", "fct_p99_ps", "fct_max_ps"]
    table(["min", "p50", "p99", "max"], [[time_or_dash(times[name]) for name in names]], left=0)
    heading("slowest flows")
    table(
        ["flow", "src", "dst", "bytes", "start", "completion", "goodput"],
        [
            [
                row["id"],
                row["src"],
                row["dst"],
                format_bytes(row["bytes"]),
                time_or_dash(row["start_ps"]),
                time_or_dash(row["fct_ps"]),
                format_rate(row["bytes"] * 8_000_000 // row["fct_ps"]) if row["fct_ps"] else None,
            ]
            for row in _slowest(flows)
        ],
        left=0,
    )
    heading("busiest links")
    table(
        ["link", "busy", "ECN marks", "drops", "pauses", "longest queue"],
        [
            [
                row["link"],
                f"{100 * row['utilisation']:.1f} %",
                f"{row['ecn_marks']:,}",
                f"{row['drops']:,}",
                f"{row['pauses']:,}",
                format_bytes(row["max_queue_bytes"]),
            ]
            for row in summary["links"]
        ],
    )
    heading("network")
    counters = ("packets", "packet_hops", "drops", "retransmits", "ecn_marks", "cnps", "pfc_pauses")
    pairs((name.replace("_", " "), f"{summary[name]:,}") for name in counters if name in summary)
    return 0


def is_trace(path: Any) -> bool:
    """Tell whether a file is one of our traces, by the metadata of its schema."""
    import pyarrow as pa
    from pyarrow import ipc

    try:
        with pa.memory_map(str(path)) as source:
            metadata = ipc.open_file(source).schema.metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return bool(metadata.get(b"fabricsim.schema") == b"trace")


def named_flows(flows: pa.Table) -> pa.Table:
    """Return the flows under the ids of their file: the tag, where every flow has its own.

    What an importer adds to carry triggers between hosts is a message, not a flow, and is left out.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    names = flows["name"].cast(pa.string())
    flows = flows.filter(pc.invert(pc.fill_null(pc.starts_with(names, "trigger "), False)))
    tags = flows["tag"].to_numpy()
    if len(np.unique(tags)) == len(tags):
        flows = flows.set_column(flows.column_names.index("id"), "id", flows["tag"])
    return flows


def _slowest(flows: pa.Table) -> list[dict[str, Any]]:
    import numpy as np
    import pyarrow as pa

    times = flows["fct_ps"].fill_null(np.iinfo(np.int64).max).to_numpy()
    return flows.take(pa.array(np.argsort(-times, kind="stable")[:SLOWEST])).to_pylist()
