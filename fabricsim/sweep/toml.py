"""Sweep files: TOML with what all points share, what varies, and how."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fabricsim.errors import ConfigError, Problem, unknown_name
from fabricsim.fabrics.toml import key_lines

__all__ = ["read_sweep_file"]

_TABLES = {"set": "fixed", "vary": "vary"}
_ALONE = ("cluster", "workload", "seed")
_PLAIN = (*_ALONE, "sampling", "points", "sample_seed", "objective")


def read_sweep_file(path: Path) -> dict[str, Any]:
    """Read a sweep file into the parameters of a sweep; paths count from its folder.

    Raises
    ------
    ConfigError
        When it cannot be read, or has keys that it may not have.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be read: {error.strerror or error}")]) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([Problem(str(path), f"not valid TOML: {error}")]) from None
    lines = key_lines(text)
    problems = []
    for key in data:
        if key not in (*_TABLES, *_PLAIN, "zip"):
            what = unknown_name("key", key, (*_TABLES, *_PLAIN, "zip"))
            problems.append(Problem(f"{path}:{lines.get((key,), 1)}:{key}", what))
    groups = data.get("zip", [])
    groups = groups if isinstance(groups, list) else [groups]
    tables = [(key, data.get(key, {})) for key in _TABLES] + [("zip", group) for group in groups]
    for key, table in tables:
        if not isinstance(table, Mapping):
            problems.append(Problem(f"{path}:{lines.get((key,), 1)}:{key}", "allowed: a table"))
    for key, kind, allowed in (("points", int, "a whole number"), ("sample_seed", int, "a whole number")):
        if key in data and (not isinstance(data[key], kind) or isinstance(data[key], bool)):
            found = f"found {data[key]!r}, allowed: {allowed}"
            problems.append(Problem(f"{path}:{lines.get((key,), 1)}:{key}", found))
    if problems:
        raise ConfigError(problems)
    made: dict[str, Any] = {name: dict(_flat(data.get(key, {}))) for key, name in _TABLES.items()}
    made["fixed"] = {key: data[key] for key in _ALONE if key in data} | made["fixed"]
    made["paired"] = [dict(_flat(group)) for group in groups]
    for key in ("sampling", "points", "sample_seed"):
        if key in data:
            made[key] = data[key]
    if "objective" in data:
        wanted = data["objective"]
        made["objectives"] = [wanted] if isinstance(wanted, str) else wanted
    folder = path.parent
    for values in (made["fixed"], made["vary"], *made["paired"]):
        for key in ("cluster", "workload"):
            if key in values:
                values[key] = _beside(values[key], folder)
    return made | {"where": str(path), "lines": lines}


def _beside(value: Any, folder: Path) -> Any:
    """Return paths of files as they count from the folder of the sweep file."""
    if isinstance(value, list):
        return [_beside(one, folder) for one in value]
    is_path = isinstance(value, str) and (folder / value).is_file() and not Path(value).is_absolute()
    return os.path.normpath(folder / value) if is_path else value


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the keys of nested tables with dots."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
