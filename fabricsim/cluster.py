"""A cluster: the topology, the models of its parts with their parameters, and the accelerator."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from fabricsim import fabrics
from fabricsim.cluster_file import Layers, layers_of_dict, layers_of_file, problems_of, with_overrides
from fabricsim.errors import ConfigError, Problem, unknown_name
from fabricsim.fabrics.accelerator import Accelerator, format_flops
from fabricsim.fabrics.combinations import combination_issues
from fabricsim.fabrics.faults import Faults
from fabricsim.fabrics.models import (
    Collectives,
    CongestionControlModel,
    LinkModel,
    ModelSection,
    RoutingModel,
    Setting,
    SwitchModel,
    TransportModel,
    parameter_rows,
)
from fabricsim.fabrics.power import Power
from fabricsim.fabrics.scale_up import ScaleUp
from fabricsim.fabrics.section import Issue, Section, raise_issues, show
from fabricsim.fabrics.toml import write_toml
from fabricsim.platforms import list_platforms
from fabricsim.storage import Placement, Storage, place
from fabricsim.storage.section import STORES_MAX
from fabricsim.topology import KINDS, Topology, TopologySpec
from fabricsim.topology.cabling import SCALE_OUT, SCALE_UP
from fabricsim.units import format_bytes

if TYPE_CHECKING:
    from fabricsim.collectives.graph import Graph

__all__ = ["Cluster", "list_platforms"]


def _topology_of(data: Any) -> Any:
    """Read a topology by its kind."""
    if not isinstance(data, Mapping):
        if not isinstance(data, TopologySpec):
            raise_issues("topology", [((), f"found {show(data)}, allowed: a table", data)])
        return data
    kind = data.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind].model_validate(dict(data))
    text = f"missing, allowed: one of {', '.join(KINDS)}"
    if kind is not None:
        text = unknown_name("kind", kind if isinstance(kind, str) else show(kind), KINDS)
    raise_issues("topology", [(("kind",), text, kind)])
    return None


def _one_or_more(data: Any) -> Any:
    return (data,) if isinstance(data, Mapping) else data


class Cluster(Section):
    """A cluster as a frozen value; every error of its making is told at once.

    Parameters
    ----------
    name, description, sources
        What it is, in words; the sources of its numbers.
    topology
        Table with ``kind`` and the fields of that kind, see ``fabricsim.topology``; kept as
        ``topology_spec``.
    switch, link, routing, transport, congestion_control
        Tables with ``model`` and its parameters, of the scale-out network.
    scale_up
        The same five tables for the scale-up network; its defaults are used where it is None and the topology
        has such a network.
    collectives
        Algorithm of each kind of collective, and tables of the algorithms' parameters.
    accelerator
        What turns operations and bytes of memory into time; None when the trace gives durations.
    faults
        What fails during a run, and how fast routes heal; None when nothing does.
    power
        Watts of the parts, from which the energy of a run is reckoned; None to do without.
    storage
        File systems whose servers are hosts of the fabric: tables ``[[storage]]``.

    Raises
    ------
    ConfigError
        From ``load``, ``from_toml`` and ``from_dict``; each problem with file, line and key.
    pydantic.ValidationError
        From the constructor.

    >>> cluster = Cluster.from_toml("fat-tree-k8-100g-roce")
    >>> cluster.topology()
    Topology(fat_tree: 128 hosts, 80 switches, 384 cables)
    """

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    sources: Annotated[tuple[str, ...], Field(strict=False)] = ()
    topology_spec: Annotated[SerializeAsAny[TopologySpec], BeforeValidator(_topology_of)]
    switch: SwitchModel = Field(default_factory=lambda: SwitchModel.model_validate({}))
    link: LinkModel = Field(default_factory=lambda: LinkModel.model_validate({}))
    routing: RoutingModel = Field(default_factory=lambda: RoutingModel.model_validate({}))
    transport: TransportModel = Field(default_factory=lambda: TransportModel.model_validate({}))
    congestion_control: CongestionControlModel = Field(
        default_factory=lambda: CongestionControlModel.model_validate({})
    )
    scale_up: ScaleUp | None = None
    collectives: Collectives = Field(default_factory=lambda: Collectives.model_validate({}))
    accelerator: Accelerator | None = None
    faults: Faults | None = None
    power: Power | None = None
    storage: Annotated[tuple[Storage, ...], BeforeValidator(_one_or_more), Field(strict=False)] = ()

    extra_short_names: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
        "topology": ("topology_spec", lambda value: value)
    }

    @classmethod
    def _missing(cls, field: str) -> str:
        if field == "topology_spec":
            return f"missing, allowed: a table [topology] with kind = one of {', '.join(KINDS)}"
        return "missing"

    @classmethod
    def _known_keys(cls) -> list[str]:
        return [*super()._known_keys(), "extends"]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        switch, transport = self.switch.resolved(), self.transport.resolved()
        issues: list[Issue] = []
        classes = switch.get("data_class_count", 1)
        if classes > 1 and not transport.get("control_priority", 1):
            text = f"found 0, allowed: 1 (true) with {classes} data classes"
            issues.append((("transport", "control_priority"), text, 0))
        if self.congestion_control.model == "dcqcn" and not switch.get("ecn", 1):
            text = (
                'found 0, allowed: 1 (true) with DCQCN; without marks set congestion_control.model = "none"'
            )
            issues.append((("switch", "ecn"), text, 0))
        kind = self.topology_spec.kind
        issues += combination_issues({s.section: s for s in self._model_sections()}, kind)
        if self.scale_up is not None:
            issues += combination_issues(self.scale_up.sections(), kind, first=("scale_up",))
        wrong = self._storage_names() or self._placement.issues
        issues += [(("storage", *loc), text, value) for loc, text, value in wrong]
        if self.faults is not None and not wrong:
            found = self.faults.problems(self.topology(), self.topology_spec)
            issues += [(("faults", *loc), text, value) for loc, text, value in found]
        raise_issues("Cluster", issues)
        return self

    def _storage_names(self) -> list[Issue]:
        """Say which names and mounts are those of two file systems, and when there are too many."""
        wrong: list[Issue] = []
        if len(self.storage) > STORES_MAX:
            wrong.append(((), f"found {len(self.storage)} file systems, allowed: at most {STORES_MAX}", None))
        for what in ("name", "mount"):
            values = [getattr(one, what) for one in self.storage]
            for value in sorted({v for v in values if values.count(v) > 1}):
                text = f"found two of {what} {value!r}, allowed: a {what} of its own for each"
                wrong.append(((), text, value))
        shares = {one.ranks_per_client for one in self.storage}
        if len(shares) > 1:
            text = f"found ranks_per_client of {sorted(shares)}, allowed: one number for all file systems"
            wrong.append(((), text, None))
        return wrong

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"topology" if key == "topology_spec" else key: value for key, value in handler(self).items()}

    # ---- making

    @classmethod
    def load(cls, source: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Self:
        """Read a cluster file, or a preset by its name.

        Parameters
        ----------
        source
            Path of a TOML file, or the name of a preset.
        overrides
            Values to change, such as ``transport.mtu=1024`` or ``topology.k=16``.

        Raises
        ------
        ConfigError
            With every problem found and its place.
        """
        return cls._of_layers(with_overrides(layers_of_file(source), overrides))

    @classmethod
    def from_toml(cls, source: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Self:
        """Read a cluster file, or a preset by its name; the same as ``load``."""
        return cls.load(source, overrides)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], overrides: Iterable[str] = (), *, where: str = "cluster"
    ) -> Self:
        """Take a dict that is shaped as a cluster file; ``where`` names it in errors.

        >>> topology = {"kind": "star", "hosts": 4, "rate": "100Gbps", "latency": "1us"}
        >>> Cluster.from_dict({"name": "four", "topology": topology})
        <Cluster four: star, 4 hosts, 1 switches, ethernet, pause, roce, dcqcn>
        """
        return cls._of_layers(with_overrides(layers_of_dict(data, where), overrides))

    @classmethod
    def _of_layers(cls, layers: Layers) -> Self:
        try:
            return cls.model_validate({"name": "cluster"} | layers.merged())
        except ValidationError as error:
            raise ConfigError(problems_of(error, layers)) from None

    def with_faults(self, events: Iterable[Mapping[str, Any]], *, where: str = "cluster") -> Self:
        """Return a copy with more faults, each a table ``[[faults.event]]``; ``where`` names them in errors.

        Raises
        ------
        ConfigError
            When a name is unknown, or a fault is not possible.
        """
        data = self.model_dump()
        faults = data.get("faults") or {}
        data["faults"] = faults | {"event": [*faults.get("event", ()), *map(dict, events)]}
        return self.from_dict(data, where=where)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with fields replaced, unchecked; ``from_dict(model_dump(), overrides)`` checks."""
        copied = super().model_copy(update=update, deep=deep)
        for made in ("_placement", "_graphs"):
            copied.__dict__.pop(made, None)
        return copied

    # ---- what the core is given

    @cached_property
    def _placement(self) -> Placement:
        return place(self.topology_spec.build(), self.storage, self.topology_spec.host_latency_ps)

    def topology(self) -> Topology:
        """Return the flat arrays of the topology, servers of storage included; made at the first call."""
        return self._placement.topology

    def stores(self) -> list[dict[str, Any]]:
        """Return the file systems as the core takes them: hosts of their servers, layouts, what fails."""
        return self._placement.stores(self.storage)

    def settings(self) -> list[Setting]:
        """Return (room, implementation, value by parameter) for every room, defaults included.

        A fourth item is the network, 1 for scale-up, or with the rooms ``store`` and ``target`` the number of
        the file system.
        """
        models: list[Setting] = [(s.room, s.model, self._values(s)) for s in self._scale_out_sections()]
        models += [(s.room, s.model, s.resolved(), SCALE_UP) for s in self._scale_up_sections().values()]
        models += [setting for i, one in enumerate(self.storage) for setting in one.settings(i)]
        return models + self.collectives.settings()

    def _values(self, section: ModelSection) -> dict[str, int]:
        """Return the parameters of a scale-out model: given values over the topology's over the defaults."""
        values = section.resolved()
        if section.room == RoutingModel.room:
            shape = self.topology_spec.route_parameters()
            values |= {k: v for k, v in shape.items() if k in values and k not in section.params}
        return values

    def _scale_out_sections(self) -> list[ModelSection]:
        """Return the sections of the scale-out network, none when the topology has no such network."""
        return self._model_sections() if SCALE_OUT in self.topology().networks else []

    def _scale_up_sections(self) -> dict[str, ModelSection]:
        """Return the sections of the scale-up network, none when the topology has no such network."""
        if SCALE_UP not in self.topology().networks:
            return {}
        return (self.scale_up or ScaleUp.model_validate({})).sections()

    def algorithms(self) -> dict[str, str]:
        """Return the algorithm of each kind of collective."""
        return self.collectives.chosen()

    def graphs(self) -> dict[str, Graph]:
        """Return the user's own algorithms by kind, read and verified; made at the first call.

        Raises
        ------
        InputError
            With what is wrong with a file.
        """
        return self._graphs

    @cached_property
    def _graphs(self) -> dict[str, Graph]:
        from fabricsim.collectives.graph import read_graph

        found = {}
        for kind, path in self.collectives.graphs.items():
            graph = read_graph(path)
            if graph.kind != kind:
                text = f"found a graph of {graph.kind}, allowed: one of {kind}"
                raise ConfigError([Problem(f"{path}:kind", text)])
            found[kind] = graph
        return found

    def rank_host(self, n_ranks: int) -> npt.NDArray[np.int32]:
        """Return the host of each rank, int32[n_ranks]: rank r is host r.

        Raises
        ------
        ConfigError
            When there are more ranks than hosts; servers of storage and reducers do not count.
        """
        hosts = self.topology().n_rank_hosts
        if not 0 <= n_ranks <= hosts:
            raise ConfigError(
                f"found {n_ranks} ranks, allowed: 0 to {hosts}, the hosts of cluster {self.name!r}"
            )
        return np.arange(n_ranks, dtype=np.int32)

    def _model_sections(self) -> list[ModelSection]:
        return [self.switch, self.link, self.routing, self.transport, self.congestion_control]

    # ---- telling

    def digest(self) -> str:
        """Return the SHA-256, in hex, of all that is emulated: topology, settings, algorithms, accelerator.

        Names and descriptions do not count.
        """
        t = self.topology()
        accelerator = self.accelerator
        content: dict[str, Any] = {
            "hosts": t.n_hosts,
            "switches": t.n_switches,
            "settings": self.settings(),
            "algorithms": self.algorithms(),
            "flops_per_s": accelerator.flops_per_s if accelerator else None,
            "mem_bytes_per_s": accelerator.mem_bytes_per_s if accelerator else None,
        }
        if (told := self.collectives).library != "fixed":
            content["library"] = [told.library, told.nccl.model_dump()]
        if self.collectives.graphs:
            content["graphs"] = {kind: repr(graph.threads) for kind, graph in self.graphs().items()}
        if self.faults is not None:
            content["faults"] = self.faults.model_dump()
        if self.storage:
            stores = [{name: array.tolist() for name, array in store.items()} for store in self.stores()]
            places = [one.places() for one in self.storage]
            content["storage"] = [a | b for a, b in zip(stores, places, strict=True)]
            if (together := self.storage[0].ranks_per_client) > 1:
                content["ranks_per_client"] = together
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
        if t.networks != (0,) or t.n_reducers:
            assert t.cable_network is not None
            digest.update(t.reducer_first.to_bytes(4, "little") + t.cable_network.tobytes())
        if (c := t.circuits) is not None:
            for array in (c.cable, c.first_ps, c.up_ps, c.period_ps):
                digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        for array in (t.cable_a, t.cable_b, t.cable_rate_mbps, t.cable_delay_ps, t.node_latency_ps):
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        return digest.hexdigest()

    def describe(self) -> list[tuple[str, str]]:
        """Return rows of (what, value) that tell the whole cluster, every parameter included."""
        rows = [("name", self.name)]
        if self.description:
            rows.append(("description", self.description))
        rows += [(f"topology: {what}", value) for what, value in self.topology().describe()]
        sections = {s.section: s for s in self._scale_out_sections()}
        sections |= {f"scale_up.{name}": s for name, s in self._scale_up_sections().items()}
        for label, section in sections.items():
            rows.append((label, section.model))
            values = section.resolved() if label.startswith("scale_up.") else self._values(section)
            rows += parameter_rows(label, section.room, section.model, values)
        rows.append(("collectives.library", self.collectives.library))
        told = self.collectives.nccl.model_dump(exclude_defaults=True)
        rows += [(f"collectives.nccl.{name}", str(value)) for name, value in told.items()]
        graphs = self.collectives.graphs
        rows += [(f"collectives.{kind}", graphs.get(kind, name)) for kind, name in self.algorithms().items()]
        for room, name, values, *_ in self.collectives.settings():
            rows += parameter_rows(f"collectives.{name}", room, name, values)
        if self.accelerator:
            a = self.accelerator
            text = f"{a.name}, {format_flops(a.flops_per_s)}, {format_bytes(a.mem_bytes_per_s)}/s"
            rows.append(("accelerator", text))
        rows += self.faults.describe() if self.faults else []
        rows += self.power.describe() if self.power else []
        for one in self.storage:
            rows += one.describe()
        rows += [("source", source) for source in self.sources]
        return rows

    def to_toml(self) -> str:
        """Return a cluster file that reads back to an equal cluster."""
        data = {key: value for key, value in self.model_dump().items() if value not in (None, "", (), {})}
        data["topology"] = self.topology_spec.toml_table()
        return write_toml(data)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Return the JSON Schema of cluster files, with the core's parameters, for editors."""
        from fabricsim.fabrics.schema import cluster_schema

        return cluster_schema(fabrics.parameter_table())

    def __repr__(self) -> str:
        t = self.topology()
        shown = ("switch", "link", "transport", "congestion_control")
        models = ", ".join(s.model for s in self._scale_out_sections() if s.section in shown)
        if above := self._scale_up_sections():
            text = f"scale-up {', '.join(above[name].model for name in shown[:3])}"
            models = f"{models}; {text}" if models else text
        return f"<Cluster {self.name}: {t.kind}, {t.n_rank_hosts} hosts, {t.n_switches} switches, {models}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        from fabricsim.result import html_table

        return html_table(self.describe(), f"Cluster {self.name}")

    def __hash__(self) -> int:
        return hash(self.digest())
