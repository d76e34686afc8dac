"""The result of a replay: a summary, tables of operations, flows and links, and their folder on disk."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim import records
from fabricsim.errors import ConfigError, EngineError, InputError, Problem
from fabricsim.units import format_bytes, format_time

__all__ = ["FileTable", "Result", "flows_summary", "html_bar", "html_table", "training_rows"]

#: The tables of a result, in the order in which they are written.
TABLES = ("ops", "flows", "links", "ranks", "series", "storage", "servers", "clients", "rpcs")

#: Those that every result has.
ALWAYS = ("ops", "flows", "links")


@dataclass(frozen=True)
class FileTable:
    """A table that lies in an Arrow IPC file, read (mapped) when it is asked for."""

    path: Path
    name: str

    def __call__(self) -> pa.Table:
        return records.read_table(self.path, self.name)


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a replay found.

    Parameters
    ----------
    summary
        Totals: ``end_ps``, ``packets``, ``packet_hops``, ``drops``, ``ecn_marks``, ``pfc_pauses``,
        ``digest``, ``flows_summary``, ``breakdown`` and more; JSON types only.
    provenance
        What it was made from: versions, digests of the cluster and of the trace, the seed. No time, no host.
    sources
        Table name -> a function that makes it on first use.

    >>> import fabricsim
    >>> from fabricsim.workload import collective
    >>> trace = collective("all_reduce", size_bytes=1 << 20, n_ranks=8)
    >>> result = fabricsim.replay(trace, fabricsim.Cluster.from_toml("demo-64-400g-roce"))
    >>> result.ops.num_rows, result.summary["drops"]
    (8, 0)
    """

    summary: dict[str, Any]
    provenance: dict[str, Any]
    sources: Mapping[str, Callable[[], pa.Table]] = field(repr=False)
    _made: dict[str, pa.Table] = field(default_factory=dict, repr=False)

    @property
    def ops(self) -> pa.Table:
        """One row for each rank of each operation: id, kind, rank, start_ps, end_ps, name, bytes …"""
        return self.table("ops")

    @property
    def flows(self) -> pa.Table:
        """Sends: id, tag, name, src and dst (ranks), bytes, start_ps, end_ps, fct_ps, delivered_ps, recv."""
        return self.table("flows")

    @property
    def links(self) -> pa.Table:
        """Directed links: names, rate, packets, bytes, busy time, utilisation, marks, drops, pauses …"""
        return self.table("links")

    @property
    def ranks(self) -> pa.Table:
        """Ranks: where each is, and its compute, communication and storage time (exposed or not), idle."""
        if "ranks" in self.sources:
            return self.table("ranks")
        from fabricsim.analysis import breakdown

        # A result of an older version: its ranks are told from its operations.
        return breakdown(self.ops, self.summary["end_ps"]).table()

    @property
    def series(self) -> pa.Table | None:
        """Samples of the links over time, or None when none were recorded."""
        return self.table("series") if "series" in self.sources else None

    @property
    def storage(self) -> pa.Table | None:
        """Targets of the file systems: RPCs, bytes, busy time, waits; None without storage operations."""
        return self.table("storage") if "storage" in self.sources else None

    @property
    def digest(self) -> str:
        """16 hex digits over everything that happened: equal for equal runs, whatever the threads."""
        return str(self.summary["digest"])

    def table(self, name: str) -> pa.Table:
        """Return a table by name, made on first use."""
        if name not in self._made:
            self._made[name] = self.sources[name]()
        return self._made[name]

    def save(self, folder: str | Path) -> Path:
        """Write ``summary.json`` and the tables as Arrow IPC files (lz4) to a folder, made where missing.

        The same inputs give the same bytes. Files of an earlier result in the folder are replaced.

        Raises
        ------
        ConfigError
            When the folder cannot be made.
        EngineError
            When a file cannot be written.
        """
        folder = make_folder(folder)
        for name in TABLES:
            path = folder / f"{name}.arrow"
            source = self.sources.get(name)
            if isinstance(source, FileTable) and source.path.resolve() == path.resolve():
                continue
            # A file that is mapped somewhere stays whole for its readers: the new one is another file.
            path.unlink(missing_ok=True)
            if source is not None:
                records.write_table(path, self.table(name))
        path = folder / "summary.json"
        text = json.dumps({"summary": self.summary, "provenance": self.provenance}, indent=1) + "\n"
        try:
            path.write_text(text)
        except OSError as error:
            raise EngineError(f"{path}: cannot be written: {error.strerror or error}") from error
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Result:
        """Read a result from its folder; tables are mapped from disk on first use.

        Raises
        ------
        InputError
            When the folder holds no result, or one that is damaged.
        """
        folder = Path(folder)
        path = folder / "summary.json"
        try:
            data = json.loads(path.read_text())
        except OSError as error:
            raise InputError([Problem(str(path), error.strerror or str(error))]) from error
        except (ValueError, RecursionError) as error:
            raise InputError([Problem(str(path), f"not JSON: {error}")]) from error
        summary = data.get("summary") if isinstance(data, dict) else None
        if (
            not isinstance(summary, dict)
            or not isinstance(summary.get("end_ps"), int)
            or "digest" not in summary
        ):
            raise InputError(
                [Problem(str(path), "not the summary of a result: no summary.end_ps and digest")]
            )
        provenance = data.get("provenance")

        present = [name for name in TABLES if name in ALWAYS or (folder / f"{name}.arrow").exists()]
        return cls(
            summary=summary,
            provenance=provenance if isinstance(provenance, dict) else {},
            sources={name: FileTable(folder / f"{name}.arrow", name) for name in present},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the summary with every flow in it: id, src, dst, bytes, start_ps, end_ps, fct_ps."""
        names = ["id", "src", "dst", "bytes", "start_ps", "end_ps", "fct_ps"]
        return self.summary | {"flows": self.flows.select(names).to_pylist()}

    def __repr__(self) -> str:
        summary = self.summary
        status = "" if summary.get("status", "complete") == "complete" else f", {summary['status']}"
        return (
            f"<Result {format_time(summary['end_ps'])}, {summary.get('packet_hops', 0):,} packet-hops,"
            f" digest {self.digest}{status}>"
        )

    def _repr_html_(self) -> str:
        mean = self.summary.get("breakdown", {}).get("mean", {})
        parts = [(label, mean.get(key, 0), colour) for key, label, colour in _BAR]
        return html_bar(parts, "time, mean of the ranks") + html_table(self.rows(), "fabricsim result")

    def rows(self) -> list[tuple[str, str]]:
        """Return the main figures as pairs of text."""
        summary = self.summary
        total = max(1, summary["end_ps"])
        rows = [("time", format_time(summary["end_ps"]))]
        if detail := summary.get("fidelity"):
            error = (
                f", each operation alone about {100 * detail['error']:.2f} % off" if "error" in detail else ""
            )
            rows.append(("fidelity", f"{detail['mode']}{error}"))
        mean = summary.get("breakdown", {}).get("mean", {})
        for name, label in (
            ("compute_ps", "compute"),
            ("exposed_communication_ps", "exposed communication"),
            ("overlapped_communication_ps", "overlapped communication"),
            ("exposed_storage_ps", "exposed storage"),
            ("overlapped_storage_ps", "overlapped storage"),
            ("idle_ps", "idle"),
        ):
            if name in mean and (mean[name] or "storage" not in name):
                rows.append((label, f"{format_time(mean[name])} ({100 * mean[name] / total:.1f} %)"))
        if told := summary.get("training"):
            rows += training_rows(told)
        if storage := summary.get("storage"):
            rows.append(("read, written", " and ".join(format_bytes(storage[f"bytes_{w}"]) for w in _WAYS)))
        flows = summary.get("flows_summary") or {}
        if flows.get("count"):
            rows.append(("flows", f"{flows['count']}, {format_bytes(flows['bytes'])}"))
            rows.append(
                ("flow completion p50, p99", f"{_time(flows['fct_p50_ps'])}, {_time(flows['fct_p99_ps'])}")
            )
        if power := summary.get("power"):
            rows.append(("energy", f"{power['energy_j']:.4g} J, on average {power['average_w']:.4g} W"))
        for name in ("packets", "packet_hops", "drops", "ecn_marks", "pfc_pauses"):
            if name in summary:
                rows.append((name.replace("_", " "), f"{summary[name]:,}"))
        return [*rows, ("digest", self.digest)]


def flows_summary(flows: pa.Table) -> dict[str, Any]:
    """Return count, bytes, and the minimum, median, 99th percentile and maximum of the completion times.

    Percentiles are nearest-rank: a value that occurred, the same on every machine.
    """
    times = np.sort(flows["fct_ps"].drop_null().to_numpy())
    n = len(times)

    def at(percent: int) -> int | None:
        return int(times[max(0, -(-percent * n // 100) - 1)]) if n else None

    return {
        "count": flows.num_rows,
        "finished": n,
        "bytes": int(flows["bytes"].to_numpy().sum()) if flows.num_rows else 0,
        "fct_min_ps": at(0),
        "fct_p50_ps": at(50),
        "fct_p99_ps": at(99),
        "fct_max_ps": at(100),
    }


_CAUSAL = " (MFU counts attention in full, HFU the causal half that is done)"


def training_rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the main figures of a training as pairs of text."""
    rows = [
        ("training step", f"{format_time(told['step_ps'])}, mean of {told['steps']}"),
        ("tokens", f"{told['tokens_per_s']:,.0f} /s, {told['tokens_per_s_per_accelerator']:,.1f} /s a rank"),
        ("model", f"{told['flops_per_s_per_accelerator'] / 1e12:,.1f} TFLOP/s a rank"),
        (
            "MFU, HFU",
            f"{100 * told['mfu']:.2f} %, {100 * told['hfu']:.2f} %{_CAUSAL * (told['hfu'] < told['mfu'])}",
        ),
        ("pipeline bubble", f"{100 * told['bubble']:.1f} %"),
    ]
    if memory := told.get("memory"):
        fits = "" if memory["total"] <= memory["device"] else ": does not fit"
        text = f"{format_bytes(memory['total'])} of {format_bytes(memory['device'])}{fits}"
        rows.append(("memory of a rank", text))
    return rows


def html_table(rows: Iterable[tuple[object, object]], title: str) -> str:
    """Return a small two-column HTML table."""
    body = "".join(
        f"<tr><th style='text-align:left'>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>"
        for key, value in rows
    )
    return f"<table><caption>{html.escape(title)}</caption>{body}</table>"


def html_bar(parts: Iterable[tuple[str, int, str]], title: str) -> str:
    """Return a bar of the shares of parts (name, amount, colour) and their names: plain HTML, no script.

    >>> "compute 75 %" in html_bar([("compute", 3, "#3b6fb6"), ("idle", 1, "#c5cbd3")], "time")
    True
    """
    parts = [(name, amount, colour) for name, amount, colour in parts if amount > 0]
    total = sum(amount for _, amount, _ in parts)
    if not total:
        return ""
    words = [html.escape(f"{name} {100 * amount / total:.3g} %") for name, amount, _ in parts]
    bar = "".join(
        f"<div title='{word}' style='width:{100 * amount / total:.2f}%;background:{colour}'></div>"
        for word, (_, amount, colour) in zip(words, parts, strict=True)
    )
    legend = "".join(
        f"<span style='margin-right:1em;white-space:nowrap'>"
        f"<span style='color:{colour}'>&#9632;</span> {word}</span>"
        for word, (_, _, colour) in zip(words, parts, strict=True)
    )
    title = html.escape(title)
    return (
        f"<div role='img' aria-label='{title}: {', '.join(words)}' style='max-width:40em'><div>{title}</div>"
        f"<div style='display:flex;height:1.1em;margin:.2em 0'>{bar}</div><div>{legend}</div></div>"
    )


def make_folder(folder: str | Path) -> Path:
    """Make a folder for a result where it is missing, and return its path."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([Problem(str(folder), f"cannot be made: {error.strerror or error}")]) from error
    return folder


_WAYS = ("read", "written")

#: Parts of the time in the bar of a notebook: they add up to the whole.
_BAR = (
    ("compute_ps", "compute", "#3b6fb6"),
    ("exposed_communication_ps", "exposed communication", "#cf5f00"),
    ("exposed_storage_ps", "exposed storage", "#3f7f22"),
    ("idle_ps", "idle", "#8f98a3"),
)


def _time(value: int | None) -> str:
    return "-" if value is None else format_time(value)
