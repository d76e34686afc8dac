"""JSON Schema of cluster files, so that editors complete keys and show ranges."""

from __future__ import annotations

from typing import Any

from fabricsim.collectives.config import LIBRARIES, NcclSettings
from fabricsim.fabrics.accelerator import Accelerator
from fabricsim.fabrics.faults import FaultEvent, FaultRate, Faults
from fabricsim.fabrics.models import COLLECTIVE_KINDS, SCALE_UP_SECTIONS, SECTIONS, ModelSection
from fabricsim.fabrics.parameters import (
    INT64_MAX,
    UNITS,
    Parameter,
    ParameterTable,
    short_names,
    split_unit,
)
from fabricsim.fabrics.power import Power
from fabricsim.fabrics.section import Section

__all__ = ["cluster_schema"]

Schema = dict[str, Any]


def cluster_schema(table: ParameterTable) -> Schema:
    """Return the JSON Schema (draft 2020-12) of cluster files.

    Parameters
    ----------
    table
        The core's tables, from which descriptions, ranges and defaults are taken.
    """
    from fabricsim.topology import KINDS

    properties: Schema = {
        "name": {"type": "string", "minLength": 1, "description": "name of the cluster"},
        "description": {"type": "string"},
        "sources": {"type": "array", "items": {"type": "string"}, "description": "sources of the numbers"},
        "extends": {
            "type": "string",
            "description": "a preset or TOML file whose values this file starts from",
        },
        "topology": {"oneOf": [_section(cls, cls.summary, kind) for kind, cls in KINDS.items()]},
        "accelerator": _section(Accelerator, "what turns operations and bytes of memory into time"),
        "faults": _faults(),
        "power": _section(Power, "watts of the parts, for the energy of a run"),
    }
    properties |= {name: _choices(table, cls) for name, cls in SECTIONS.items()}
    properties["scale_up"] = {
        "type": "object",
        "description": "the models of the scale-up network",
        "properties": {name: _choices(table, cls) for name, cls in SCALE_UP_SECTIONS.items()},
        "additionalProperties": False,
    }
    properties["collectives"] = _collectives(table)
    one = _storage(table)
    properties["storage"] = {
        "description": "file systems whose servers are hosts of the fabric",
        "oneOf": [one, {"type": "array", "items": one}],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fabricsim cluster",
        "type": "object",
        "properties": properties,
        "anyOf": [{"required": ["topology"]}, {"required": ["extends"]}],
        "additionalProperties": False,
    }


def _storage(table: ParameterTable) -> Schema:
    """Schema of a file system: one choice a model, with its parameters among the keys."""
    from fabricsim.storage import Component, Directory, Failure, Layout, Slow, Storage, StorageTarget
    from fabricsim.storage.section import DEFAULT_MODEL, ROOM

    shared = _section(Storage, "a file system")
    shared.pop("$defs", None)
    properties = shared["properties"]
    del properties["params"]
    tables = {
        "layout": _section(Layout, "how files under a path are laid out"),
        "directory": _section(Directory, "a directory that several metadata servers share"),
        "slow": _section(Slow, "a target that is slower from a time on"),
        "failure": _section(Failure, "a server that fails"),
    }
    tables["layout"].pop("$defs", None)
    component = _section(Component, "a part of a file")
    tables["layout"]["properties"]["components"] = {"type": "array", "items": component}
    for name, one in tables.items():
        properties[name] = {"oneOf": [one, {"type": "array", "items": one}]}
    properties["attach"] = {
        "description": "globs of switches",
        "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    pair = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
    properties["failover"] = {"oneOf": [{"enum": ["none", "pairs"]}, {"type": "array", "items": pair}]}
    properties["hosts"] = {"oneOf": [{"const": "last"}, {"type": "array", "items": {"type": "integer"}}]}
    properties["target"] = _choices(table, StorageTarget)
    choices = []
    for model in table.implementations.get(ROOM, ()):
        own = {"model": {"const": model}} | _parameters(table, ROOM, model)
        choice = {"type": "object", "properties": properties | own, "additionalProperties": False}
        choices.append(choice if model == DEFAULT_MODEL else choice | {"required": ["model"]})
    return {"description": "a file system", "oneOf": choices}


def _faults() -> Schema:
    result = _section(Faults, "what fails during a run")
    del result["$defs"]
    event = _section(FaultEvent, "a fault at a time")
    result["properties"]["event"] = {"type": "array", "items": event}
    for name in ("links", "switches", "hosts"):
        result["properties"][name] = _section(FaultRate, f"how often {name} fail")
    return result


def _section(cls: type[Section], summary: str, kind: str | None = None) -> Schema:
    """Schema of a section with fields: each under its full name and, where it has one, its short name."""
    made = cls.model_json_schema()
    properties: Schema = {}
    short = {field: key for key, (field, _) in cls.short_fields().items()}
    for name, schema in made["properties"].items():
        schema = {key: value for key, value in schema.items() if key != "title"}
        if schema.get("default", "") is None:
            del schema["default"]
        properties[name] = schema
        if name in short:
            unit = UNITS.get(split_unit(name)[1])
            example = f", such as {unit.example}" if unit else ""
            properties[short[name]] = {
                "type": ["string", "integer"],
                "description": f"{name} with a human unit{example}",
            }
    if kind is not None:
        properties["kind"] = {"const": kind, "description": summary}
    needed = [name for name in made.get("required", []) if name != "kind"]
    result: Schema = {
        "type": "object",
        "description": summary,
        "properties": properties,
        "additionalProperties": False,
    }
    plain = [name for name in needed if name not in short]
    if kind is not None:
        plain.insert(0, "kind")
    if plain:
        result["required"] = plain
    either = [
        {"anyOf": [{"required": [name]}, {"required": [short[name]]}]} for name in needed if name in short
    ]
    if either:
        result["allOf"] = either
    if "$defs" in made:
        result["$defs"] = made["$defs"]
    return result


def _choices(table: ParameterTable, cls: type[ModelSection]) -> Schema:
    models = table.implementations.get(cls.room, ())
    choices = [_model(table, cls.room, model, cls.default_model) for model in models]
    return {"description": (cls.__doc__ or "").strip(), "oneOf": choices}


def _model(table: ParameterTable, room: str, model: str, default: str) -> Schema:
    result: Schema = {
        "type": "object",
        "properties": {"model": {"const": model}, **_parameters(table, room, model)},
        "additionalProperties": False,
    }
    if model != default:
        result["required"] = ["model"]
    return result


def _parameters(table: ParameterTable, room: str, impl: str) -> Schema:
    parameters = table.of(room, impl)
    short = {name: key for key, name in short_names(parameters).items()}
    properties: Schema = {}
    for name, parameter in parameters.items():
        properties[name] = _integer(parameter)
        if name in short:
            unit = UNITS[split_unit(name)[1]]
            properties[short[name]] = {
                "type": ["string", "number"],
                "description": f"{parameter.meaning}; such as {unit.example}",
                "default": parameter.show(parameter.default),
            }
    return properties


def _integer(parameter: Parameter) -> Schema:
    details = [parameter.meaning]
    if parameter.unit:
        details.append(f"unit: {parameter.unit}")
    if parameter.source:
        details.append(f"source of the default: {parameter.source}")
    schema: Schema = {
        "type": "integer",
        "description": "; ".join(details),
        "default": parameter.default,
        "minimum": parameter.minimum,
    }
    if (parameter.minimum, parameter.maximum) == (0, 1):
        schema["type"] = ["integer", "boolean"]
    if parameter.maximum < INT64_MAX:
        schema["maximum"] = parameter.maximum
    return schema


def _collectives(table: ParameterTable) -> Schema:
    names = list(table.implementations.get("coll", ()))
    properties: Schema = {
        "library": {"enum": list(LIBRARIES), "description": "one algorithm a kind, or as NCCL chooses"},
        "nccl": _section(NcclSettings, "what NCCL is told, and sees"),
    }
    for kind in COLLECTIVE_KINDS:
        able = list(table.collectives.get(kind, names))
        properties[kind] = {
            "description": f"algorithm of {kind}",
            "oneOf": [
                {"enum": able},
                {
                    "type": "object",
                    "properties": {"algorithm": {"enum": able}},
                    "required": ["algorithm"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"graph": {"type": "string", "description": "a file of sends and recvs"}},
                    "required": ["graph"],
                    "additionalProperties": False,
                },
            ],
        }
    for name in names:
        properties[name] = {
            "type": "object",
            "description": f"parameters of the algorithm {name}",
            "properties": _parameters(table, "coll", name),
            "additionalProperties": False,
        }
    return {"type": "object", "properties": properties, "additionalProperties": False}
