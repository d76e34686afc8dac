"""``fabricsim inspect``: what a file is, and what is in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fabricsim.cli.options import input_path
from fabricsim.cli.output import emit_json, heading, line, pairs, shortened_path, table
from fabricsim.errors import ConfigError, FabricsimError, InputError

NAME = "inspect"
SUMMARY = (
    "tell what a file or folder is (trace, result, cluster, topology, input to convert) and what it holds"
)

#: What an Arrow IPC file begins with.
_MAGIC = b"ARROW1"

#: Tables that are not those of a result, by their schema.
_OTHER_TABLES = {
    "goodput_events": "events of a run of goodput",
    "sweep": "table of a sweep",
    "sweep_point": "point of a sweep",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument("file", metavar="FILE", help="a file, a folder, a preset, or - for standard input")


def run(arguments: argparse.Namespace) -> int:
    """Find out and print."""
    found = _preset(arguments.file)
    if found is None:
        with input_path(arguments.file) as path:
            found = describe(path)
    if arguments.json:
        emit_json(found)
        return 0
    line(f"{arguments.file}: {found['what']}")
    storage = found.pop("storage", None)
    what = found.pop("what")
    # The names of a cluster are keys of its file.
    names = {name: name if what == "cluster" else name.replace("_", " ") for name in found}
    pairs((names[name], _text(value)) for name, value in found.items())
    if storage is not None:
        _print_storage(storage)
    return 0


def _print_storage(storage: dict[str, Any]) -> None:
    from fabricsim.units import format_bytes

    heading("files")
    read, written = format_bytes(storage["bytes_read"]), format_bytes(storage["bytes_written"])
    pairs(
        [
            ("read", f"{read} by {storage['reads']:,} reads"),
            ("written", f"{written} by {storage['writes']:,} writes"),
            ("other operations", _text(storage["other_operations"])),
            ("files", f"{storage['files']:,} ({storage['files_made']:,} made by the run)"),
            ("directories", f"{storage['directories']:,}"),
        ]
    )
    if storage["biggest_files"]:
        heading("biggest files")
        table(
            ["path", "read", "written"],
            [
                [
                    shortened_path(file["path"]),
                    format_bytes(file["bytes_read"]),
                    format_bytes(file["bytes_written"]),
                ]
                for file in storage["biggest_files"]
            ],
        )
        heading("sizes that move most bytes")
        table(
            ["size", "reads", "writes"],
            [
                [format_bytes(size["bytes"]), f"{size['reads']:,}", f"{size['writes']:,}"]
                for size in storage["transfer_sizes"]
            ],
        )


def describe(path: Path) -> dict[str, Any]:
    """Return what a file or folder is (``what``) and what it holds.

    Raises
    ------
    InputError, ConfigError
        When it is nothing that fabricsim knows, or damaged.
    """
    if path.is_dir():
        if (path / "sweep.json").is_file():
            return _sweep(path)
        return _result(path) if (path / "summary.json").is_file() else _convertible(path)
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    if head == _MAGIC:
        return _arrow(path)
    if path.suffix == ".toml":
        return _goodput(path) or _cluster(str(path))
    if path.name == "summary.json":
        return _result(path.parent)
    tries: list[Callable[[Path], dict[str, Any]]] = [_convertible, _topology]
    if path.suffix == ".json":
        tries.insert(0, _nccl_tests)
    for attempt in tries:
        try:
            return attempt(path)
        except FabricsimError:
            continue
    # Nothing knows it: the importers' own message lists what would be known.
    return _convertible(path)


def _preset(name: str) -> dict[str, Any] | None:
    from fabricsim.platforms import preset_names

    if name != "-" and not Path(name).exists() and name in preset_names():
        return _cluster(name)
    return None


def _arrow(path: Path) -> dict[str, Any]:
    from fabricsim.records import SCHEMAS, read_table
    from fabricsim.trace import Trace, read_arrow

    table = read_arrow(path)
    metadata = table.schema.metadata or {}
    name = metadata.get(b"fabricsim.schema", b"").decode(errors="replace")
    if name in SCHEMAS or name in _OTHER_TABLES:
        from fabricsim.trace.schema import provenance_of

        what = _OTHER_TABLES.get(name, "")
        if name in SCHEMAS:
            table, what = read_table(path, name), f"table {name!r} of a result"
        found = {"what": what, "rows": table.num_rows, "columns": table.column_names}
        return found | {"provenance": provenance_of(metadata)}
    if name == "" and not {"kind", "ranks"} <= set(table.column_names):
        return _convertible(path)
    return _trace(Trace(table, str(path)))


def _trace(trace: Any) -> dict[str, Any]:
    from fabricsim.trace import storage_usage

    rows = trace.table
    measured = 0
    if {"start_ps", "end_ps"} <= set(rows.column_names):
        measured = rows.num_rows - max(rows["start_ps"].null_count, rows["end_ps"].null_count)
    usage = storage_usage(trace)
    return {
        "what": "trace",
        "rows": trace.n_rows,
        "ranks": trace.n_ranks,
        "kinds": dict(trace.kinds),
        "bytes": trace.total_bytes,
        "measured_rows": measured,
        "columns": rows.column_names,
        "provenance": trace.provenance,
        "warnings": list(trace.warnings),
    } | ({} if usage is None else {"storage": usage})


def _result(folder: Path) -> dict[str, Any]:
    from fabricsim.result import Result

    result = Result.load(folder)
    found: dict[str, Any] = {"what": "result of a replay"}
    names = (
        "status",
        "cluster",
        "hosts",
        "ranks",
        "operations",
        "end_ps",
        "packets",
        "packet_hops",
        "digest",
    )
    found |= {name: result.summary[name] for name in names if name in result.summary}
    found["rows"] = {name: result.table(name).num_rows for name in result.sources}
    return found | {"provenance": result.provenance}


def _sweep(folder: Path) -> dict[str, Any]:
    from fabricsim.sweep import Study

    study = Study.load(folder)
    best = study.best()
    return {
        "what": "sweep (fabricsim sweep show)",
        "varied": list(study.varied),
        "objectives": [str(goal) for goal in study.goals],
        "points": study.counts(),
        "best": best.to_json(study.goals) if best else None,
    }


def _cluster(name: str) -> dict[str, Any]:
    from fabricsim.cluster import Cluster

    cluster = Cluster.from_toml(name)
    found: dict[str, Any] = {"what": "cluster"}
    for key, value in cluster.describe():
        found[key] = f"{found[key]}; {value}" if key in found else value
    return found


def _goodput(path: Path) -> dict[str, Any] | None:
    """Return what a study of goodput is, None for another TOML file."""
    import tomllib

    try:
        if "job" not in tomllib.loads(path.read_text(encoding="utf-8")):
            return None
    except ValueError:
        return None
    from fabricsim.goodput import GoodputConfig

    config = GoodputConfig.load(path)
    hours = config.mtti_hours()
    return {
        "what": "study of goodput",
        "name": config.name,
        "nodes": config.job.nodes,
        "gpus": config.job.gpus,
        "checkpoints": config.checkpoint.mode,
        "components": len(config.component),
        "hours_to_an_interruption": None if hours is None else round(hours, 3),
        "sources": list(config.sources),
    }


def _nccl_tests(path: Path) -> dict[str, Any]:
    from fabricsim.analysis import read_nccl_tests

    table = read_nccl_tests(path)
    sizes = [row["bytes"] for row in table.rows]
    found = {"what": "nccl-tests results", "kind": table.kind, "ranks": table.ranks, "sizes": len(sizes)}
    return found | {"least_bytes": min(sizes, default=None), "most_bytes": max(sizes, default=None)}


def _topology(path: Path) -> dict[str, Any]:
    from fabricsim.topology.file import TopologyFile

    try:
        topology = TopologyFile(path=str(path)).build()
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    return {"what": "topology file"} | {name: str(value) for name, value in topology.describe()}


def _convertible(path: Path) -> dict[str, Any]:
    from fabricsim.convert import detect

    importer = detect(path)
    try:
        report = importer.convert(path)
    except FabricsimError as error:
        raise InputError(
            [f"{path} looks like {importer.summary}, but cannot be read:", str(error)]
        ) from error
    found: dict[str, Any] = {"what": f"{importer.summary} (fabricsim convert --from {importer.name})"}
    found |= {f"read {name}": value for name, value in report.counts.items()}
    trace = _trace(report.trace)
    trace.pop("what")
    return found | trace | {"warnings": list(report.warnings)}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)
