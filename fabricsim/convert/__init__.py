"""Importers: other tools' files become traces, and exporters. One file a format, one entry in a list below.

A module of a format has two functions: ``sniff(path) -> bool``, cheap and never raising on strange bytes, and
``convert(path, *, ...) -> ConvertReport``, whose options are keyword-only. It is imported on first use.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fabricsim.errors import ConfigError, InputError, unknown_name

if TYPE_CHECKING:
    from fabricsim.trace import Trace

__all__ = ["EXPORTS", "FORMATS", "ConvertReport", "ExportReport", "Importer", "convert", "detect", "export"]


@dataclass(frozen=True)
class ConvertReport:
    """What an importer made of its input.

    Parameters
    ----------
    trace
        The trace, valid.
    warnings
        What was left out, approximated or repaired, one sentence each, with counts.
    counts
        How many of what was read and written, such as ``{"flows": 128, "nodes": 128}``.
    faults
        Faults of the fabric that belong to it, as tables ``[[faults.event]]`` of a cluster file.
    """

    trace: Trace
    warnings: list[str] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class ExportReport:
    """What an exporter wrote.

    Parameters
    ----------
    files
        The files, in order.
    warnings
        What the format cannot say, one sentence each, with counts.
    counts
        How many of what was written, such as ``{"nodes": 128}``.
    """

    files: list[Path]
    warnings: list[str] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Importer:
    """A format that can be imported.

    Parameters
    ----------
    name
        The name that ``--from`` takes.
    summary
        One line for the help.
    suffixes
        File name endings that suggest the format; a hint, ``sniff`` decides.
    module
        The module with ``sniff`` and ``convert``.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    module: str

    def _module(self) -> ModuleType:
        return importlib.import_module(self.module)

    def sniff(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether the file or folder looks like this format."""
        return bool(self._module().sniff(Path(path)))

    def options(self) -> dict[str, Any]:
        """Return the names of the importer's options with their defaults."""
        parameters = inspect.signature(self._module().convert).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def convert(self, path: str | os.PathLike[str], **options: Any) -> ConvertReport:
        """Import a file or folder.

        Raises
        ------
        ConfigError
            When an option is unknown to this format.
        InputError
            When the input is not what the format asks for, with all problems and their places.
        """
        known = self.options()
        bad = [f"{self.name}: {unknown_name('option', name, known)}" for name in options if name not in known]
        if bad:
            raise ConfigError(bad)
        report: ConvertReport = self._module().convert(Path(path), **options)
        return report


#: Every format, by name, in the order in which ``detect`` asks them.
FORMATS: dict[str, Importer] = {
    importer.name: importer
    for importer in (
        Importer("htsim", "htsim connection matrix", (".cm",), "fabricsim.convert.htsim_cm"),
        Importer(
            "flows-csv",
            "point-to-point flows: src, dst, bytes and optional start, id, tag, name, priority; CSV or Arrow",
            (".csv", ".arrow"),
            "fabricsim.convert.flows_csv",
        ),
        Importer("chakra", "MLCommons Chakra ET, one a rank", (".et",), "fabricsim.convert.chakra"),
        Importer(
            "simai",
            "workload text of SimAI and ASTRA-sim 1.0",
            (".txt", ".txt.gz"),
            "fabricsim.convert.simai",
        ),
        Importer(
            "goal",
            "GOAL schedules of LogGOPSim and ATLAHS, text or binary",
            (".goal", ".goal.gz", ".bin"),
            "fabricsim.convert.goal",
        ),
        Importer(
            "nccl-inspector",
            "JSON lines of the NCCL Inspector, NCCL's profiler plugin",
            (".log", ".log.gz", ".jsonl", ".jsonl.gz"),
            "fabricsim.convert.nccl_inspector",
        ),
        Importer(
            "nccl-tests",
            "results of nccl-tests and of fabricsim bench (-J)",
            (".json", ".json.gz"),
            "fabricsim.convert.nccl_tests",
        ),
        Importer("kineto", "Kineto traces of PyTorch", (".json", ".json.gz"), "fabricsim.convert.kineto"),
        Importer("pytorch-et", "PyTorch execution traces", (), "fabricsim.convert.pytorch_et"),
        Importer("darshan", "Darshan logs with DXT", (".darshan",), "fabricsim.convert.darshan"),
    )
}


def detect(path: str | os.PathLike[str]) -> Importer:
    """Return the importer of a file or folder: by its contents, those whose suffix fits asked first.

    Raises
    ------
    InputError
        When there is no such file, or no format recognises it; names the known formats.
    """
    where = Path(path)
    if not where.exists():
        raise InputError(f"{path}: no such file or folder")
    name = where.name.casefold()
    ordered = sorted(FORMATS.values(), key=lambda importer: not name.endswith(importer.suffixes))
    for importer in ordered:
        if importer.sniff(where):
            return importer
    known = ", ".join(f"{i.name} ({i.summary})" for i in FORMATS.values())
    raise InputError(f"{path}: no known format; known: {known}")


def convert(path: str | os.PathLike[str], *, from_format: str | None = None, **options: Any) -> ConvertReport:
    """Import a file or folder of a named format, or of the one that its contents show.

    Raises
    ------
    ConfigError
        When the format or an option is unknown.
    InputError
        When the input is bad.
    """
    if from_format is None:
        return detect(path).convert(path, **options)
    if from_format not in FORMATS:
        raise ConfigError(unknown_name("format", from_format, FORMATS))
    return FORMATS[from_format].convert(path, **options)


#: Every format that a trace can be exported to: summary, and the module with ``export(trace, prefix)``.
EXPORTS: dict[str, tuple[str, str]] = {
    "chakra": ("MLCommons Chakra ET, <OUT>.<rank>.et", "fabricsim.convert.to_chakra"),
}


def export(trace: Trace, prefix: str | os.PathLike[str], *, to_format: str) -> ExportReport:
    """Export a trace to the files of another tool.

    Raises
    ------
    ConfigError
        When the format is unknown, or a file cannot be written.
    InputError
        When the trace holds what the format cannot say.
    """
    if to_format not in EXPORTS:
        raise ConfigError(unknown_name("format", to_format, EXPORTS))
    report: ExportReport = importlib.import_module(EXPORTS[to_format][1]).export(trace, prefix)
    return report
