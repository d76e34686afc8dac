"""The sections of a cluster that choose a model of the core and set its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer, model_validator

from fabricsim import fabrics
from fabricsim.collectives.config import LIBRARIES, NcclSettings
from fabricsim.errors import unknown_name
from fabricsim.fabrics.parameters import ParameterTable, read_values, unknown_key
from fabricsim.fabrics.section import Issue, issues_of, raise_issues, show

__all__ = [
    "COLLECTIVE_KINDS",
    "DEFAULT_ALGORITHMS",
    "SCALE_UP_SECTIONS",
    "SECTIONS",
    "Collectives",
    "CongestionControlModel",
    "LinkModel",
    "ModelSection",
    "RoutingModel",
    "Setting",
    "SwitchModel",
    "TransportModel",
    "parameter_rows",
]

#: Room, implementation and its parameters; a fourth item is the network, where it is not 0.
Setting = tuple[str, str, dict[str, int]] | tuple[str, str, dict[str, int], int]

#: The kinds of collective, as a trace names them, and the algorithm used when none is chosen.
DEFAULT_ALGORITHMS: Mapping[str, str] = {
    "all_reduce": "ring",
    "reduce_scatter": "ring",
    "all_gather": "ring",
    "all_to_all": "pairwise",
    "broadcast": "chain",
    "reduce": "chain",
    "barrier": "dissemination",
}
COLLECTIVE_KINDS = tuple(DEFAULT_ALGORITHMS)


class ModelSection(BaseModel):
    """The choice of one implementation of a room, with the parameters that differ from its defaults.

    Parameters
    ----------
    model
        Name of the implementation, as the core's tables list it.
    params
        Value by full parameter name, integers in the unit that ends the name; only those that were given. Do
        not change.

    Raises
    ------
    pydantic.ValidationError
        On an unknown model, unknown parameters and values out of range, all at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Name of the section in a file, of the room in the core, and the model used when none is chosen.
    section: ClassVar[str] = ""
    room: ClassVar[str] = ""
    default_model: ClassVar[str] = ""

    model: str
    params: dict[str, int]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            if isinstance(data, cls):
                return data
            raise_issues(cls.__name__, [((), f"found {show(data)}, allowed: a table", data)])
        table = fabrics.parameter_table()
        known = table.implementations.get(cls.room, ())
        model = data.get("model", cls.default_model)
        issues: list[Issue] = []
        if not isinstance(model, str) or model not in known:
            text = unknown_name("model", model if isinstance(model, str) else show(model), known)
            raise_issues(cls.__name__, [(("model",), text, model)])
        given = {str(key): value for key, value in data.items() if key != "model"}
        values, problems = read_values(given, table.of(cls.room, model), reserved=["model"])
        issues += [((key,), message, found) for key, message, found in problems]
        raise_issues(cls.__name__, issues)
        return {"model": model, "params": values}

    @model_serializer(mode="plain")
    def _write(self) -> dict[str, Any]:
        return {"model": self.model, **self.params}

    def resolved(self) -> dict[str, int]:
        """Return every parameter of the model by full name: the given values over the defaults."""
        return fabrics.parameter_table().defaults(self.room, self.model) | self.params

    def __hash__(self) -> int:
        return hash((self.model, tuple(self.params.items())))


class SwitchModel(ModelSection):
    """The switches: buffers, marking, forwarding."""

    section: ClassVar[str] = "switch"
    room: ClassVar[str] = "switch"
    default_model: ClassVar[str] = "ethernet"


class LinkModel(ModelSection):
    """The links: lossy, or with pause frames (PFC)."""

    section: ClassVar[str] = "link"
    room: ClassVar[str] = "link"
    default_model: ClassVar[str] = "pause"


class RoutingModel(ModelSection):
    """The choice among equal paths."""

    section: ClassVar[str] = "routing"
    room: ClassVar[str] = "route"
    default_model: ClassVar[str] = "ecmp"


class TransportModel(ModelSection):
    """The transport of the network interfaces."""

    section: ClassVar[str] = "transport"
    room: ClassVar[str] = "transport"
    default_model: ClassVar[str] = "roce"


class CongestionControlModel(ModelSection):
    """The congestion control of the senders."""

    section: ClassVar[str] = "congestion_control"
    room: ClassVar[str] = "cc"
    default_model: ClassVar[str] = "dcqcn"


#: The sections that choose a model, by the name that a file gives them.
SECTIONS: Mapping[str, type[ModelSection]] = {
    cls.section: cls for cls in (SwitchModel, LinkModel, RoutingModel, TransportModel, CongestionControlModel)
}


class ScaleUpSwitch(SwitchModel):
    """The switches of the scale-up network."""

    default_model: ClassVar[str] = "voq"


class ScaleUpLink(LinkModel):
    """The links of the scale-up network."""

    default_model: ClassVar[str] = "credit"


class ScaleUpTransport(TransportModel):
    """The transport of the scale-up ports."""

    default_model: ClassVar[str] = "scale_up"


class ScaleUpCongestionControl(CongestionControlModel):
    """The congestion control of the scale-up ports."""

    default_model: ClassVar[str] = "none"


#: The sections of the table ``[scale_up]``.
SCALE_UP_SECTIONS: Mapping[str, type[ModelSection]] = {
    cls.section: cls
    for cls in (ScaleUpSwitch, ScaleUpLink, RoutingModel, ScaleUpTransport, ScaleUpCongestionControl)
}


def parameter_rows(label: str, room: str, impl: str, values: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return rows of (what, value) for the parameters of a model, and the default where it differs."""
    table = fabrics.parameter_table().of(room, impl)
    rows = []
    for name, value in values.items():
        parameter = table[name]
        text = parameter.show(value)
        if value != parameter.default:
            text += f" (default {parameter.show(parameter.default)})"
        rows.append((f"{label}.{name}", text))
    return rows


class Collectives(BaseModel):
    """The algorithm of each kind of collective, and the parameters of the algorithms.

    Parameters
    ----------
    library
        ``fixed``: the algorithms below. ``nccl``: as NCCL chooses, operation by operation; the algorithms and
        parameters that are given hold for their kinds all the same.
    nccl
        Table ``[collectives.nccl]``, what NCCL is told.
    algorithms
        Algorithm by kind, only those that were chosen: ``all_reduce = "ring"``. Do not change.
    graphs
        File of a user's own algorithm by kind: ``all_reduce = {graph = "file.json"}``. Do not change.
    params
        Parameters by algorithm: ``[collectives.ring]`` with its keys. Do not change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    room: ClassVar[str] = "coll"

    library: str
    nccl: NcclSettings
    algorithms: dict[str, str]
    graphs: dict[str, str]
    params: dict[str, dict[str, int]]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            if isinstance(data, cls):
                return data
            raise_issues(cls.__name__, [((), f"found {show(data)}, allowed: a table", data)])
        table = fabrics.parameter_table()
        known = table.implementations.get(cls.room, ())
        chosen: dict[str, dict[str, str]] = {"algorithm": {}, "graph": {}}
        params: dict[str, dict[str, int]] = {}
        issues: list[Issue] = []
        library, nccl = data.get("library", LIBRARIES[0]), None
        if library not in LIBRARIES:
            text = unknown_name("library", library if isinstance(library, str) else show(library), LIBRARIES)
            issues.append((("library",), text, library))
        try:
            nccl = NcclSettings.model_validate(data.get("nccl", {}))
        except ValidationError as error:
            issues += [(("nccl", *loc), message, found) for loc, message, found in issues_of(error)]
        for key, value in data.items():
            if key in COLLECTIVE_KINDS:
                what, name = _chosen(str(key), value, table, issues)
                if name is not None:
                    chosen[what][key] = name
            elif key in known:
                if not isinstance(value, Mapping):
                    issues.append(((key,), f"found {show(value)}, allowed: a table of its parameters", value))
                    continue
                values, problems = read_values(value, table.of(cls.room, key))
                issues += [((key, name), message, found) for name, message, found in problems]
                params[key] = values
            elif key not in ("library", "nccl"):
                names = ["library", "nccl", *COLLECTIVE_KINDS, *known]
                issues.append(((key,), unknown_key(key, names), value))
        raise_issues(cls.__name__, issues)
        return {
            "library": library,
            "nccl": nccl,
            "algorithms": _in_order(chosen["algorithm"]),
            "graphs": _in_order(chosen["graph"]),
            "params": {a: params[a] for a in known if params.get(a)},
        }

    @model_serializer(mode="plain")
    def _write(self) -> dict[str, Any]:
        graphs = {kind: {"graph": path} for kind, path in self.graphs.items()}
        params = {name: dict(values) for name, values in self.params.items()}
        written: dict[str, Any] = {**self.algorithms, **graphs, **params}
        if self.library != LIBRARIES[0]:
            written = {"library": self.library, **written}
        nccl = self.nccl.model_dump(exclude_defaults=True)
        return {**written, "nccl": nccl} if nccl else written

    def chosen(self) -> dict[str, str]:
        """Return the algorithm of every kind: the given ones over the defaults that the core has."""
        known = fabrics.parameter_table().implementations.get(self.room, ())
        defaults = {kind: name for kind, name in DEFAULT_ALGORITHMS.items() if name in known}
        return defaults | self.algorithms

    def settings(self) -> list[Setting]:
        """Return (room, algorithm, parameters) for each algorithm that is used or has parameters."""
        table: ParameterTable = fabrics.parameter_table()
        names = sorted(set(self.chosen().values()) | set(self.params))
        return [
            (self.room, name, table.defaults(self.room, name) | self.params.get(name, {})) for name in names
        ]

    def __hash__(self) -> int:
        params = tuple((k, *v.items()) for k, v in self.params.items())
        return hash((self.library, *self.algorithms.items(), *self.graphs.items(), params))


def _in_order(chosen: Mapping[str, str]) -> dict[str, str]:
    return {kind: chosen[kind] for kind in COLLECTIVE_KINDS if kind in chosen}


def _chosen(kind: str, value: Any, table: ParameterTable, issues: list[Issue]) -> tuple[str, str | None]:
    """Read ``"ring"``, ``{algorithm = "ring"}`` or ``{graph = "file.json"}``.

    Returns
    -------
    tuple
        Which of the two, and the name; None with a problem among the issues.
    """
    what = "algorithm"
    loc: tuple[str, ...] = (kind,)
    if isinstance(value, Mapping):
        loc = (kind, "algorithm")
        allowed = ("algorithm", "graph")
        issues += [
            ((kind, str(key)), unknown_key(str(key), allowed), found)
            for key, found in value.items()
            if key not in allowed
        ]
        if len(value) > 1 and set(value) == set(allowed):
            issues.append(
                ((kind, "graph"), "given beside an algorithm, allowed: one of the two", value["graph"])
            )
        if "graph" in value:
            what, loc = "graph", (kind, "graph")
        value = value.get(what)
    known = table.implementations.get("coll", ())
    if what == "graph":
        if not isinstance(value, str) or not value:
            issues.append((loc, f"found {show(value)}, allowed: the path of a file", value))
            return what, None
        return what, value
    able = table.collectives.get(kind, known)
    if not isinstance(value, str):
        issues.append((loc, f"found {show(value)}, allowed: one of {', '.join(able)}", value))
    elif value not in known:
        issues.append((loc, unknown_name("algorithm", value, known), value))
    elif value not in able:
        text = f"found {value!r}, which does no {kind}; allowed: {', '.join(able)}"
        issues.append((loc, text, value))
    else:
        return what, value
    return what, None
