"""The folder of a sweep: a file for each point, the plan, one table of all; every file appears whole."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import fabricsim
from fabricsim.errors import ConfigError, EngineError, InputError, Problem
from fabricsim.records import SCHEMA_VERSION, read_table, write_table
from fabricsim.sweep.point import FAILED, Outcome, Point

__all__ = ["Folder", "figure", "flatten"]

_POINT, _TABLE = "sweep_point", "sweep"
#: Columns of a point file that are not figures of its summary.
_OWN = ("point", "status", "error")


def flatten(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a summary by their path, such as ``breakdown.mean.compute_ps``.

    Lists are left out, but for tables with a row a ``kind``: ``breakdown.by_kind.all_reduce.exposed_ps``.

    >>> flatten({"end_ps": 5, "a": {"b": 1.5, "c": [{"kind": "send", "n": 2}], "d": [1, 2]}})
    {'end_ps': 5, 'a.b': 1.5, 'a.c.send.n': 2}
    """
    return dict(_figures(summary, ""))


def _figures(data: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        here = f"{path}.{name}" if path else str(name)
        if isinstance(value, list):
            value = _by_kind(value)
        if isinstance(value, Mapping):
            yield from _figures(value, here)
        elif not isinstance(value, list):
            yield here, value


def _by_kind(rows: list[Any]) -> Any:
    """Return a list of tables as one table by kind, where each is of a kind of its own; else the list."""
    kinds = [row.get("kind") if isinstance(row, Mapping) else None for row in rows]
    if not rows or None in kinds or len(set(kinds)) < len(kinds):
        return rows
    return {
        kind: {k: v for k, v in row.items() if k != "kind"} for kind, row in zip(kinds, rows, strict=True)
    }


def figure(summary: Mapping[str, Any], path: str) -> Any:
    """Return what a summary has under a path, None when it has nothing there; lists count from 0.

    >>> figure({"links": [{"link": "a", "drops": 3}]}, "links.0.drops")
    3
    """
    data: Any = summary
    for part in path.split("."):
        if isinstance(data, list) and not part.isdecimal():
            data = _by_kind(data)
        if isinstance(data, list):
            data = data[int(part)] if part.isdecimal() and int(part) < len(data) else None
        else:
            data = data.get(part) if isinstance(data, Mapping) else None
    return data


def _column(values: Sequence[Any]) -> pa.Array:
    """Return a column: of booleans, integers or numbers where all values are, else of text."""
    there = [value for value in values if value is not None]
    kinds = {type(value) for value in there}
    if kinds <= {bool} and kinds:
        return pa.array(values, pa.bool_())
    if kinds <= {int} and kinds and all(-(2**63) <= value < 2**63 for value in there):
        return pa.array(values, pa.int64())
    if kinds <= {int, float} and kinds:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds <= {str}:
        return pa.array(values, pa.string())
    texts = [v if v is None or isinstance(v, str) else json.dumps(v, default=str) for v in values]
    return pa.array(texts, pa.string())


def _unit(name: str) -> dict[str, str] | None:
    for suffix, unit in (("_ps", "ps"), ("_bytes", "bytes"), ("_mbps", "Mb/s"), ("_gbs", "GB/s")):
        if name.endswith(suffix):
            return {"unit": unit}
    return None


def _table(name: str, columns: Mapping[str, Sequence[Any]], provenance: Mapping[str, Any]) -> pa.Table:
    arrays = {key: _column(values) for key, values in columns.items()}
    fields = [pa.field(key, array.type, True, _unit(key)) for key, array in arrays.items()]
    metadata = {
        "fabricsim.schema": name,
        "fabricsim.schema_version": SCHEMA_VERSION,
        "fabricsim.provenance": json.dumps(provenance, sort_keys=True, default=str),
    }
    return pa.table(list(arrays.values()), schema=pa.schema(fields, metadata))


class Folder:
    """The folder of a sweep.

    ``points/NAME.arrow`` is one row: what was given, the status, and the figures of the summary;
    ``results/NAME`` the whole result, where it was kept; ``sweep.json`` the plan; ``sweep.arrow`` and
    ``sweep.csv`` the table.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.points = self.path / "points"

    def make(self) -> None:
        """Make what is missing of the folder.

        Raises
        ------
        ConfigError
            When it cannot be made.
        """
        try:
            self.points.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"cannot be made: {error.strerror or error}"
            raise ConfigError([Problem(str(self.path), text)]) from error

    def result(self, point: Point) -> Path:
        """Return the folder of a point's whole result."""
        return self.path / "results" / point.name

    def file(self, name: str) -> Path:
        """Return the file of a point by its name."""
        return self.points / f"{name}.arrow"

    # ---- points

    def save(self, point: Point, outcome: Outcome) -> None:
        """Write the file of a point."""
        columns: dict[str, Any] = {"point": point.name, "status": outcome.status, "error": outcome.error}
        columns |= point.given
        summary = outcome.summary or {}
        columns |= {key: value for key, value in flatten(summary).items() if key not in columns}
        columns["summary"] = json.dumps(summary) if outcome.summary is not None else None
        provenance = {"fabricsim": fabricsim.__version__, "given": point.given, "sources": point.sources}
        table = _table(_POINT, {key: [value] for key, value in columns.items()}, provenance)
        with _whole(self.file(point.name)) as path:
            write_table(path, table)

    def load(self, name: str) -> Outcome | None:
        """Read what became of a point, by its name; None when that is not there, or is no such file."""
        path = self.file(name)
        if not path.is_file():
            return None
        try:
            row = read_table(path, _POINT).select([*_OWN, "summary"]).to_pylist()[0]
            summary = None if row["summary"] is None else json.loads(row["summary"])
            return Outcome(status=row["status"], error=row["error"], summary=summary)
        except (InputError, KeyError, IndexError, ValueError):
            return None

    def is_done(self, point: Point, *, kept: bool = False) -> bool:
        """Whether a point need not be run (again); failures that need not come again are."""
        found = self.load(point.name)
        if found is None or found.status == FAILED:
            return False
        return not kept or found.summary is None or (self.result(point) / "summary.json").is_file()

    # ---- the plan and the table

    def save_plan(self, plan: Mapping[str, Any]) -> None:
        """Write ``sweep.json``."""
        with _whole(self.path / "sweep.json") as path:
            path.write_text(json.dumps(plan, indent=1, default=str) + "\n", encoding="utf-8")

    def load_plan(self) -> dict[str, Any]:
        """Read ``sweep.json``.

        Raises
        ------
        InputError
            When it is not there, or not what it should be.
        """
        path = self.path / "sweep.json"
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError([Problem(str(path), error.strerror or str(error))]) from error
        except (ValueError, RecursionError) as error:
            raise InputError([Problem(str(path), f"not JSON: {error}")]) from error
        wanted = {"fixed": dict, "factors": list, "sampling": str, "objectives": list, "points": list}
        if not isinstance(plan, dict) or any(not isinstance(plan.get(k), t) for k, t in wanted.items()):
            raise InputError([Problem(str(path), f"not the plan of a sweep: needs {', '.join(wanted)}")])
        width = 1 + sum(len(keys) for keys in plan["factors"])
        if any(not isinstance(row, list) or len(row) != width for row in plan["points"]):
            raise InputError([Problem(str(path), f"not the plan of a sweep: points need {width} values")])
        return plan

    def save_table(self, table: pa.Table) -> None:
        """Write ``sweep.arrow`` and ``sweep.csv``."""
        from pyarrow import csv

        with _whole(self.path / "sweep.arrow") as path:
            write_table(path, table)
        with _whole(self.path / "sweep.csv") as path:
            csv.write_csv(table, path)


class _whole:
    """Gives the path of a file to write, which takes its name when it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")

    def __enter__(self) -> Path:
        return self.beside

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                os.replace(self.beside, self.path)
            else:
                self.beside.unlink(missing_ok=True)
        except OSError as error:
            raise EngineError(f"{self.path}: cannot be written: {error.strerror or error}") from error


def table_of(
    rows: Iterable[tuple[str, Mapping[str, Any], Outcome | None]],
    objectives: Sequence[str],
    provenance: Mapping[str, Any],
) -> pa.Table:
    """Return one row a point: name, status, error, what was varied, and the figures of its summary.

    Parameters
    ----------
    rows
        Name, values of what was varied, and outcome of each point; None where it is not there yet.
    objectives
        Paths of figures that are columns wherever they are in the summary.
    """
    made: list[dict[str, Any]] = []
    for name, given, outcome in rows:
        row: dict[str, Any] = {"point": name, "status": outcome.status if outcome else "missing"}
        row |= {"error": outcome.error if outcome else None} | dict(given)
        summary = (outcome.summary if outcome else None) or {}
        row |= {path: figure(summary, path) for path in objectives}
        row |= {key: value for key, value in flatten(summary).items() if key not in row}
        made.append(row)
    names = dict.fromkeys(name for row in made for name in row)
    return _table(_TABLE, {name: [row.get(name) for row in made] for name in names}, provenance)
