"""Reading cluster files: presets that a file extends, overrides, and the place of every value."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fabricsim.errors import ConfigError, Problem, nearest
from fabricsim.fabrics.models import SCALE_UP_SECTIONS, SECTIONS, ModelSection
from fabricsim.fabrics.parameters import split_unit
from fabricsim.fabrics.section import issues_of
from fabricsim.fabrics.toml import key_lines
from fabricsim.platforms import preset_names, preset_path
from fabricsim.storage import Storage, StorageTarget
from fabricsim.topology import KINDS
from fabricsim.topology.spec import RegularSpec

__all__ = ["Layer", "Layers", "layers_of_dict", "layers_of_file", "override_layer", "problems_of"]

Loc = tuple[str | int, ...]

# How deep files may extend one another; presets need two.
MAX_EXTENDS = 16

# The fields that regular topologies share, which outlive a change to another kind that has them.
_COMMON_TOPOLOGY = {split_unit(name)[0] for name in RegularSpec.model_fields} - {"kind"}


@dataclass(frozen=True)
class Layer:
    """One source of values: a file, a dict or an override."""

    where: str
    data: Mapping[str, Any]
    lines: Mapping[Loc, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Layers:
    """Layers from the lowest to the topmost, and what they come to together."""

    layers: Sequence[Layer]

    def merged(self) -> dict[str, Any]:
        """Return the values, where upper layers replace lower ones."""
        data: dict[str, Any] = {}
        for layer in self.layers:
            data = _merge(data, layer.data)
        return data

    def place(self, loc: Loc) -> str:
        """Return ``file:line:key`` of a value: in the topmost layer that has it, or the table above."""
        key = _dotted(loc)
        named = self._by_name(loc)
        for size in range(len(loc), 0, -1):
            for layer in reversed(self.layers):
                found = _found(layer.data, loc[:size])
                if found is None and size > 2:
                    found = _found(layer.data, named[:size])
                if found is not None:
                    line = layer.lines.get(_nearest_line(found, layer.lines))
                    key = _dotted((*found, *loc[size:]))
                    shown = "" if layer.where == f"override {key}" else key
                    parts = [layer.where, str(line) if line else "", shown]
                    return ":".join(part for part in parts if part)
        return ":".join(part for part in (self.layers[-1].where, key) if part)

    def _by_name(self, loc: Loc) -> Loc:
        """Return the place of a file system's value as an override names it: ``storage.scratch.servers``."""
        if loc[:1] == ("storage",) and len(loc) > 1 and isinstance(loc[1], int):
            tables = self.merged().get("storage")
            if isinstance(tables, (list, tuple)) and loc[1] < len(tables):
                table = tables[loc[1]]
                name = table.get("name") if isinstance(table, Mapping) else None
                return ("storage", name, *loc[2:]) if isinstance(name, str) else loc
        return loc


def _nearest_line(loc: Loc, lines: Mapping[Loc, int]) -> Loc:
    while loc and loc not in lines:
        loc = loc[:-1]
    return loc


def _found(data: Any, loc: Loc) -> Loc | None:
    """Return where a layer has a value, None when it has not; a single table is the first of a list."""
    found: Loc = ()
    for part in loc:
        if part == 0 and isinstance(data, Mapping):
            continue
        inside = part in data if isinstance(data, Mapping) else False
        if isinstance(part, int) and isinstance(data, (list, tuple)):
            inside = part < len(data)
        if not inside:
            return None
        data = data[part]
        found = (*found, part)
    return found


def _dotted(loc: Loc) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _merge(
    low: Mapping[str, Any], top: Mapping[str, Any], sections: Mapping[str, type[ModelSection]] = SECTIONS
) -> dict[str, Any]:
    merged = dict(low)
    for key, value in top.items():
        if key == "extends":
            continue
        base = merged.get(key)
        if key == "storage" and isinstance(value, Mapping):
            merged[key] = _merge_storage(base, value)
        elif not (isinstance(base, Mapping) and isinstance(value, Mapping)):
            merged[key] = value
        elif key == "topology":
            merged[key] = _merge_section(base, value, "kind", None)
        elif key in sections:
            merged[key] = _merge_section(base, value, "model", sections[key].default_model)
        elif key == "scale_up":
            merged[key] = _merge(base, value, SCALE_UP_SECTIONS)
        elif key == "collectives":
            merged[key] = _merge_collectives(base, value)
        else:
            merged[key] = _replace(base, value)
    return merged


def _merge_storage(low: Any, top: Mapping[str, Any]) -> list[Any]:
    """Merge a table into the one file system below, or of several into the one of its name.

    ``storage.scratch.servers=3`` is the override of the one that is called scratch.
    """
    tables = [low] if isinstance(low, Mapping) else list(low) if isinstance(low, (list, tuple)) else []
    for i, table in enumerate(tables):
        name = table.get("name") if isinstance(table, Mapping) else None
        if isinstance(name, str) and set(top) == {name} and isinstance(top[name], Mapping):
            return [*tables[:i], *_merge_storage(table, top[name]), *tables[i + 1 :]]
    for i, table in enumerate(tables):
        same = len(tables) == 1 or (isinstance(table, Mapping) and table.get("name") == top.get("name"))
        if isinstance(table, Mapping) and same:
            if "model" in top and top["model"] != table.get("model", Storage.model_fields["model"].default):
                keys = {*Storage.model_fields, *Storage.short_fields()}
                table = {key: value for key, value in table.items() if key in keys}
            merged = _replace(table, top)
            below, above = table.get("target"), top.get("target")
            if isinstance(below, Mapping) and isinstance(above, Mapping):
                merged["target"] = _merge_section(below, above, "model", StorageTarget.default_model)
            return [*tables[:i], merged, *tables[i + 1 :]]
    return [*tables, top]


def _merge_section(
    low: Mapping[str, Any], top: Mapping[str, Any], choice: str, default: Any
) -> dict[str, Any]:
    """Merge two tables of one section; parameters of another model or kind than the new one are dropped."""
    if choice in top and top[choice] != low.get(choice, default):
        keep = _outliving(top[choice]) if choice == "kind" else set()
        low = {k: v for k, v in low.items() if split_unit(k)[0] in keep}
    return _replace(low, top)


def _outliving(kind: Any) -> set[str]:
    if not isinstance(kind, str) or kind in ("file", "links"):
        return set()
    fields = KINDS[kind].model_fields if kind in KINDS else RegularSpec.model_fields
    return _COMMON_TOPOLOGY & {split_unit(name)[0] for name in fields}


def _merge_collectives(low: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in top.items():
        base = merged.get(key)
        both = isinstance(base, Mapping) and isinstance(value, Mapping)
        merged[key] = _replace(base, value) if both else value  # type: ignore[arg-type]
    return merged


# Names of one value with and without its unit; the accelerator's are irregular.
_SAME = {"peak": "flops_per_s", "memory_bandwidth": "mem_bytes_per_s"}


def _same(a: str, b: str) -> bool:
    """Whether two keys of a section name one value: ``mtu`` and ``mtu_bytes``."""
    if a == b or _SAME.get(a) == b or _SAME.get(b) == a:
        return True
    (stem_a, unit_a), (stem_b, unit_b) = split_unit(a), split_unit(b)
    return stem_a == stem_b and not (unit_a and unit_b)


def _replace(low: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in low.items() if not any(_same(k, key) for key in top)}
    return {**kept, **top}


def layers_of_file(source: str | os.PathLike[str]) -> Layers:
    """Read a cluster file or preset and what it extends, lowest first.

    Raises
    ------
    ConfigError
        When it cannot be found or read, is no TOML, or extends in a circle.
    """
    path = _find(source, Path(), "")
    layer = _read(path)
    return Layers([*_below(layer, path.parent, [path]), layer])


def layers_of_dict(data: Mapping[str, Any], where: str = "cluster") -> Layers:
    """Take a dict shaped as a cluster file, and read what it extends."""
    layer = Layer(where, _absolute(data, Path()))
    return Layers([*_below(layer, Path(), []), layer])


def _below(layer: Layer, folder: Path, seen: list[Path]) -> list[Layer]:
    """Read what a layer extends, and what that extends."""
    layers: list[Layer] = []
    while "extends" in layer.data:
        name, place = layer.data["extends"], Layers([layer]).place(("extends",))
        if not isinstance(name, str):
            raise ConfigError([Problem(place, f"found {name!r}, allowed: a preset or a TOML file")])
        path = _find(name, folder, place)
        if path in seen or len(seen) > MAX_EXTENDS:
            raise ConfigError([Problem(place, f"extends {name!r}, which extends this file: a circle")])
        seen = [*seen, path]
        layer, folder = _read(path), path.parent
        layers.insert(0, layer)
    return layers


def _find(source: str | os.PathLike[str], folder: Path, place: str) -> Path:
    text = os.fspath(source)
    names = preset_names()
    if text in names:
        return preset_path(text)
    path = folder / text
    if path.is_file():
        return path.resolve()
    if path.is_dir():
        raise ConfigError([Problem(place or text, f"{text} is a folder, allowed: a preset or a TOML file")])
    guess = nearest(text, names)
    hint = f"; did you mean {guess!r}?" if guess else ""
    message = f"found {text!r}, which is no file and no preset{hint} (presets: {', '.join(names)})"
    raise ConfigError([Problem(place, message)])


def _read(path: Path) -> Layer:
    where = f"preset {path.stem}" if path.parent == preset_path(preset_names()[0]).parent else str(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError([Problem(where, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(where, f"byte {error.start} is no UTF-8, allowed: a TOML file")]) from None
    except tomllib.TOMLDecodeError as error:
        match = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        message = str(error)[: match.start()] if match else str(error)
        at = f"{where}:{match[1]}:{match[2]}" if match else where
        raise ConfigError([Problem(at, f"not valid TOML: {message}")]) from None
    except RecursionError:
        raise ConfigError([Problem(where, "not valid TOML: nested too deeply")]) from None
    return Layer(where, _absolute({"name": path.stem} | data, path.parent), key_lines(text))


def _absolute(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths of other files absolute: they count from the folder of the file that names them."""
    made = dict(data)
    topology, collectives = data.get("topology"), data.get("collectives")
    if isinstance(topology, Mapping):
        made["topology"] = _with_absolute(topology, "path", folder)
    if isinstance(collectives, Mapping):
        made["collectives"] = {
            key: _with_absolute(value, "graph", folder) if isinstance(value, Mapping) else value
            for key, value in collectives.items()
        }
    return made


def _with_absolute(table: Mapping[str, Any], key: str, folder: Path) -> Mapping[str, Any]:
    path = table.get(key)
    return {**table, key: str((folder / path).resolve())} if isinstance(path, str) and path else table


def override_layer(text: str) -> Layer:
    """Read an override such as ``transport.mtu=1024``; the value is TOML, or a text as it stands.

    Raises
    ------
    ConfigError
        When there is no key or no ``=``.

    >>> override_layer("transport.mtu=4KB").data
    {'transport': {'mtu': '4KB'}}
    """
    key, equals, value_text = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    form = "allowed: section.key=value, such as transport.mtu=1024"
    if not equals or not all(parts):
        raise ConfigError([Problem(f"override {text!r}", form)])
    if parts[0] == "extends":
        raise ConfigError([Problem(f"override {text!r}", "extends cannot be overridden; name that preset")])
    value: Any = value_text.strip()
    try:
        read = tomllib.loads(f"value = {value}")
        if set(read) == {"value"}:
            value = read["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        pass
    for part in reversed(parts):
        value = {part: value}
    return Layer("override " + ".".join(parts), _absolute(value, Path()))


def with_overrides(layers: Layers, overrides: Iterable[str]) -> Layers:
    """Put overrides on top, the last one topmost; all malformed ones are told together."""
    added: list[Layer] = []
    problems: list[Problem] = []
    for text in overrides:
        try:
            added.append(override_layer(text))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return Layers([*layers.layers, *added])


def problems_of(error: ValidationError, layers: Layers) -> list[Problem]:
    """Turn a validation error into problems with their places."""
    return [Problem(layers.place(loc), message) for loc, message, _ in issues_of(error)]
