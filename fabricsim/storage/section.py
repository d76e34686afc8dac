"""A file system of a cluster: the table ``[[storage]]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, model_serializer, model_validator

from fabricsim import fabrics
from fabricsim.errors import unknown_name
from fabricsim.fabrics.models import ModelSection, Setting, parameter_rows
from fabricsim.fabrics.parameters import UNITS, read_values, short_names, split_unit, unknown_key
from fabricsim.fabrics.section import Issue, Section, raise_issues, show
from fabricsim.storage.tables import ALL, Directory, Failure, Layout, Slow, is_under
from fabricsim.topology.spec import Delay, Rate
from fabricsim.units import format_rate, format_time

__all__ = ["LAST", "Storage", "StorageTarget"]

ROOM, DEFAULT_MODEL = "store", "lustre"

#: What the servers of a model are called: those of data and those of metadata.
_NAMES: Mapping[str, tuple[str, str]] = {
    "lustre": ("oss", "mds"),
    "beegfs": ("storage", "meta"),
    "weka": ("backend", "backend"),
    "local": ("nvme", "nvme"),
}

#: Models each of whose servers keeps metadata too.
_WHOLE = ("weka", "local")

#: Models whose servers are the clients' own hosts.
_OWN = ("local",)

#: Models whose servers do not fail.
_NEVER_FAIL = ("weka", "local")

#: Bytes of stripes and chunks are multiples of it.
_STRIPE_UNIT = 65_536

#: Models without stripes to choose.
_NO_LAYOUT = ("weka", "local")

#: ``hosts = "last"``: the last hosts of the topology.
LAST = "last"

#: The most file systems of a cluster; as FAB_STORES_MAX of fabricsim.h.
STORES_MAX = 4

_STRIPE_BYTES = 1 << 20


class StorageTarget(ModelSection):
    """What the servers keep data on: flash, or disks."""

    section: ClassVar[str] = "target"
    room: ClassVar[str] = "target"
    default_model: ClassVar[str] = "flash"


def _globs(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _hosts(value: Any) -> Any:
    if value is None or value == LAST:
        return value
    whole = isinstance(value, (list, tuple)) and all(
        isinstance(host, int) and not isinstance(host, bool) and host >= 0 for host in value
    )
    if not whole or not value or len(set(value)) < len(value):
        raise ValueError(f'found {show(value)}, allowed: "last", or a list of different hosts by number')
    return tuple(value)


def _pairs(value: Any) -> Any:
    if value in ("none", "pairs"):
        return value
    whole = isinstance(value, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        for pair in value
    )
    if not whole:
        text = '"none", "pairs" (neighbours), or pairs of servers, such as [["oss0", "oss1"]]'
        raise ValueError(f"found {show(value)}, allowed: {text}")
    return tuple(tuple(pair) for pair in value)


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, Mapping) else value


Tables = BeforeValidator(_one_or_more)
Pairs = tuple[tuple[str, str], ...]


class Storage(Section):
    """A file system whose servers are hosts of the fabric.

    The keys that are not below are parameters of the model, by its table in the core.

    Parameters
    ----------
    name
        What it is called; default the name of the model.
    mount
        Paths of a trace that begin with it are files of it; default ``/``. Of several the longest counts.
    model
        ``lustre`` (default), ``beegfs``, ``weka`` or ``local``.
    servers, targets_per_server
        Servers of data, and targets (OSTs, drives) of each; default 1.
    meta_servers
        Servers of metadata, 1 or more; default 1. Servers of ``weka`` and ``local`` do both.
    ranks_per_client
        So many ranks one after another, such as those of a node, share the client of the first: its cache,
        its windows, and with ``local`` its drive; default 1. The same for all file systems of a cluster.
    failover
        Who takes over when a server fails: ``none`` (default), ``pairs`` (neighbours of a kind), or pairs of
        names such as ``[["oss0", "oss1"]]``.
    attach
        The servers are new hosts, cabled to the scale-out switches whose names match these globs, in turn.
    hosts
        Or they are hosts of the topology, by number, first those of data; ``last``: its last ones. No rank
        lives there, so together they must be the last ones.
    rate_mbps, latency_ps
        With ``attach``: rate, Mb/s, and delay, ps, of their cables.
    params
        Parameters of the model by full name, only those that were given. Do not change.
    target
        Table ``[storage.target]``: model of the targets and its parameters.
    layout, directory, slow, failure
        Tables ``[[storage.layout]]`` and so on.
    """

    name: str = ""
    mount: str = "/"
    model: str = DEFAULT_MODEL
    servers: Annotated[int, Field(ge=1, le=16_384)] = 1
    targets_per_server: Annotated[int, Field(ge=1, le=1024)] = 1
    meta_servers: Annotated[int, Field(ge=1, le=1024)] | None = None
    ranks_per_client: Annotated[int, Field(ge=1, le=1024)] = 1
    failover: Annotated[Literal["none", "pairs"] | Pairs, BeforeValidator(_pairs)] = "none"
    attach: Annotated[tuple[str, ...], BeforeValidator(_globs), Field(strict=False)] = ()
    hosts: Annotated[Literal["last"] | tuple[int, ...] | None, BeforeValidator(_hosts)] = None
    rate_mbps: Rate | None = None
    latency_ps: Delay | None = None
    params: dict[str, int] = Field(default_factory=dict)
    target: StorageTarget = Field(default_factory=lambda: StorageTarget.model_validate({}))
    layout: Annotated[tuple[Layout, ...], Tables, Field(strict=False)] = ()
    directory: Annotated[tuple[Directory, ...], Tables, Field(strict=False)] = ()
    slow: Annotated[tuple[Slow, ...], Tables, Field(strict=False)] = ()
    failure: Annotated[tuple[Failure, ...], Tables, Field(strict=False)] = ()

    # ---- reading

    @classmethod
    def _by_field(cls, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Issue], dict[str, str]]:
        """Put the parameters of the model apart from the fields."""
        table = fabrics.parameter_table()
        model = data.get("model", DEFAULT_MODEL)
        known = table.implementations.get(ROOM, ())
        if not isinstance(model, str) or model not in known:
            found = model if isinstance(model, str) else show(model)
            return {}, [(("model",), unknown_name("model", found, known), model)], {}
        fields = {*cls.model_fields, *cls.short_fields()} - {"params"}
        parameters = table.of(ROOM, model)
        given: dict[str, Any] = {}
        called: dict[str, str] = {}
        issues: list[Issue] = []
        for key, value in data.items():
            if key in fields:
                continue
            name = _parameter_name(key, parameters)
            if name not in parameters and name not in short_names(parameters):
                issues.append(((key,), unknown_key(key, [*cls._known_keys(), *_shown(parameters)]), value))
            elif name in given:
                text = f"given twice, also as {name!r}; allowed: one of the two"
                issues.append(((key,), text, value))
            else:
                given[name] = value
                if name != key:
                    called[name] = key
                    try:
                        given[name] = UNITS[split_unit(name)[1]].parse(value)
                    except ValueError as error:
                        issues.append(((key,), str(error), value))
                        del given[name]
        values, problems = read_values(given, parameters)
        issues += [((called.get(key, key),), message, found) for key, message, found in problems]
        own = {key: value for key, value in data.items() if key in fields}
        read, own_issues, places = super()._by_field(own)
        return read | {"params": values}, own_issues + issues, places

    @classmethod
    def _known_keys(cls) -> list[str]:
        return [key for key in super()._known_keys() if key != "params"]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        issues: list[Issue] = []
        if not self.name:
            object.__setattr__(self, "name", self.model)
        if not self.mount.startswith("/"):
            issues.append((("mount",), f"found {self.mount!r}, allowed: a path from / on", self.mount))
        self._check_place(issues)
        if not self._check_partners(issues):
            self._check_failures(issues)
        self._check_layouts(issues)
        for i, slow in enumerate(self.slow):
            if slow.target >= self.n_targets:
                text = f"found {slow.target}, allowed: 0 to {self.n_targets - 1}, the targets"
                issues.append((("slow", i, "target"), text, slow.target))
        raise_issues("Storage", issues)
        return self

    def _check_place(self, issues: list[Issue]) -> None:
        if self.is_whole and self.meta_servers is not None:
            text = f"allowed: without it with the model {self.model}, whose servers keep metadata too"
            issues.append((("meta_servers",), text, self.meta_servers))
        if self.is_own:
            for key in ("attach", "hosts", "rate_mbps", "latency_ps"):
                if getattr(self, key) not in (None, ()):
                    text = f"allowed: without it with {self.model}, whose servers are the clients' hosts"
                    issues.append(((split_unit(key)[0],), text, getattr(self, key)))
            for key in ("servers", "targets_per_server"):
                if (found := getattr(self, key)) != 1:
                    text = f"found {found}, allowed: 1 with the model {self.model}, that of each client"
                    issues.append(((key,), text, found))
            return
        if (not self.attach) == (self.hosts is None):
            found = "attach and hosts" if self.attach else "neither attach nor hosts"
            text = f'found {found}, allowed: one of the two, such as attach = "leaf*"'
            issues.append((("attach",), text, None))
        for key, example in (("rate_mbps", 'rate = "400Gbps"'), ("latency_ps", 'latency = "500ns"')):
            value, short = getattr(self, key), split_unit(key)[0]
            if self.attach and value is None:
                issues.append(((short,), f"missing, allowed: {example}, of the cables of attach", None))
            elif not self.attach and value is not None:
                issues.append(((short,), "allowed: with attach, which makes cables", value))
        if isinstance(self.hosts, tuple) and len(self.hosts) != self.n_hosts:
            text = f"found {len(self.hosts)} hosts, allowed: {self.n_hosts}, one a server"
            issues.append((("hosts",), text, None))

    def _check_partners(self, issues: list[Issue]) -> bool:
        """Say what is wrong with the pairs; return whether anything is."""
        before = len(issues)
        if self.failover == "none":
            return False
        if self.is_own:
            issues.append((("failover",), f"allowed: none with the model {self.model}", self.failover))
            return True
        known = self.server_numbers()
        seen: set[str] = set()
        for i, pair in enumerate(self.failover if isinstance(self.failover, tuple) else ()):
            for name in pair:
                if name not in known:
                    issues.append((("failover", i), unknown_name("server", name, known), name))
                elif name in seen:
                    issues.append((("failover", i), f"found {name!r} again, allowed: once", name))
                seen.add(name)
            if not issues[before:] and self._is_meta(pair[0]) != self._is_meta(pair[1]):
                text = f"found {list(pair)}, allowed: two servers of data, or two of metadata"
                issues.append((("failover", i), text, None))
        return len(issues) > before

    def _is_meta(self, name: str) -> bool:
        return self.server_numbers()[name][0] >= self.servers

    def _check_failures(self, issues: list[Issue]) -> None:
        known, partner = self.server_numbers(), self.partners()
        for i, failure in enumerate(self.failure):
            if self.model in _NEVER_FAIL:
                text = f"allowed: none with the model {self.model}, whose servers do not fail by themselves"
                issues.append((("failure", i), text, None))
            elif failure.server not in known:
                text = unknown_name("server", failure.server, known)
                issues.append((("failure", i, "server"), text, failure.server))
            else:
                has = partner[known[failure.server][0]] >= 0
                if has != (failure.takeover_ps is not None):
                    key, other = ("back", "takeover") if has else ("takeover", "back")
                    text = f"allowed: {other} instead; {failure.server} has {'a' if has else 'no'} partner"
                    issues.append((("failure", i, key), text, None))
                for other_failure in self.failure[:i]:
                    first, second = sorted((failure, other_failure), key=lambda f: f.at_ps)
                    if failure.server == other_failure.server and second.at_ps < first.up_ps:
                        text = f"{failure.server} fails while it is down, allowed: after {first.up_ps} ps"
                        issues.append((("failure", i, "at"), text, failure.at_ps))

    def _check_layouts(self, issues: list[Issue]) -> None:
        if self.model in _NO_LAYOUT and self.layout:
            text = f"allowed: none with the model {self.model}, which places all files alike"
            issues.append((("layout",), text, None))
        for what in ("layout", "directory"):
            seen: set[str] = set()
            for i, table in enumerate(getattr(self, what)):
                path = table.path.rstrip("/") or "/"
                if not is_under(path, self.mount):
                    text = f"found {table.path!r}, allowed: a path under the mount, {self.mount}"
                    issues.append(((what, i, "path"), text, table.path))
                elif path in seen:
                    text = f"found {table.path!r} again, allowed: once"
                    issues.append(((what, i, "path"), text, table.path))
                seen.add(path)
        if self.params.get("stripe_count") == 0:
            issues.append((("stripe_count",), "found 0, allowed: 1 or more, or -1 for all targets", 0))
        for key in ("stripe_bytes", "chunk_bytes"):
            if (found := self.params.get(key, 0)) % _STRIPE_UNIT:
                text = f"found {found}, allowed: a multiple of 64 KiB"
                issues.append(((key.replace("_bytes", "_size"),), text, found))
        for i, layout in enumerate(self.layout):
            first = ("layout", i)
            for k, part in enumerate(layout.parts()):
                at: tuple[str | int, ...] = (*first, "components", k) if layout.components else first
                if part.first_target is not None and part.first_target >= self.n_targets:
                    text = f"found {part.first_target}, allowed: 0 to {self.n_targets - 1}, the targets"
                    issues.append(((*at, "first_target"), text, part.first_target))

    @model_serializer(mode="plain")
    def _write(self) -> dict[str, Any]:
        """Write it as its table: what differs from the defaults, and the parameters among the keys."""
        written: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name == "params":
                written |= value
            elif name == "target":
                if value != StorageTarget.model_validate({}):
                    written[name] = value.model_dump()
            elif name in ("layout", "directory", "slow", "failure"):
                if value:
                    written[name] = [table.model_dump(exclude_defaults=True) for table in value]
            elif name in ("name", "model", "servers", "targets_per_server") or value != field.default:
                written[name] = _plain(value)
        return written

    def __hash__(self) -> int:
        return hash((self.name, self.mount, self.model, self.n_targets, *self.params.items()))

    # ---- numbers

    @property
    def is_whole(self) -> bool:
        """Whether each server keeps data and metadata."""
        return self.model in _WHOLE

    @property
    def is_own(self) -> bool:
        """Whether the servers are the clients' own hosts."""
        return self.model in _OWN

    @property
    def n_meta(self) -> int:
        """Servers of metadata."""
        return self.servers if self.is_whole else self.meta_servers or 1

    @property
    def n_targets(self) -> int:
        """Targets of data."""
        return self.servers * self.targets_per_server

    @property
    def n_hosts(self) -> int:
        """Hosts that its servers live on, but for those of the clients."""
        if self.is_own:
            return 0
        return self.servers if self.is_whole else self.servers + self.n_meta

    def host_names(self) -> list[str]:
        """Return the names of the servers' hosts: first those of data."""
        data, meta = _NAMES.get(self.model, ("server", "meta"))
        names = [f"{data}{i}" for i in range(self.servers)]
        return names if self.is_whole else names + [f"{meta}{i}" for i in range(self.n_meta)]

    def server_numbers(self) -> dict[str, tuple[int, ...]]:
        """Return the servers by name as the core numbers them: those of data, then those of metadata."""
        names = self.host_names()
        if self.is_whole:
            return {name: (i, self.servers + i) for i, name in enumerate(names)}
        return {name: (i,) for i, name in enumerate(names)}

    def partners(self) -> npt.NDArray[np.int32]:
        """Return int32[servers + n_meta], the server that takes over each, -1 for none."""
        found = np.full(self.servers + self.n_meta, -1, np.int32)
        numbers = self.server_numbers()
        pairs: Iterable[tuple[Iterable[int], Iterable[int]]] = ()
        if self.failover == "pairs":
            kinds = ((0, self.servers), (self.servers, self.servers + self.n_meta))
            pairs = [([i], [i + 1]) for low, end in kinds for i in range(low, end - 1, 2)]
        elif isinstance(self.failover, tuple):
            pairs = [(numbers[a], numbers[b]) for a, b in self.failover]
        for first, second in pairs:
            for a, b in zip(first, second, strict=True):
                found[a], found[b] = b, a
        return found

    # ---- files

    def layout_of(self, path: str) -> int:
        """Return the number of the layout of a file: 0 the file system's own, from 1 on ``layout``."""
        return 1 + _longest(path, [table.path for table in self.layout])

    def stripes_of(self, folder: str) -> int:
        """Return over how many metadata servers the entries of a directory are spread."""
        at = _longest(folder, [table.path for table in self.directory])
        stripes = self.directory[at].stripes if at >= 0 else 1
        return self.n_meta if stripes == ALL else min(stripes, self.n_meta)

    def places(self) -> dict[str, Any]:
        """Return what decides where a file of a path goes, as JSON types."""
        return {
            "mount": self.mount,
            "layout": [table.path for table in self.layout],
            "directory": [[table.path, table.stripes] for table in self.directory],
        }

    # ---- what the core is given

    def resolved(self) -> dict[str, int]:
        """Return every parameter of the model by full name: the given values over the defaults."""
        return fabrics.parameter_table().defaults(ROOM, self.model) | self.params

    def settings(self, number: int) -> list[Setting]:
        """Return the settings of the core for the store of this number."""
        target = self.target
        return [
            (ROOM, self.model, self.resolved(), number),
            (target.room, target.model, target.resolved(), number),
        ]

    def layout_rows(self) -> npt.NDArray[np.int64]:
        """Return int64[n, 8] for the layouts from 1 on: layout, mirror, begin, end (-1: none), stripe bytes,
        stripe count (-1: all), first target (-1: the allocator's choice), whether metadata servers keep it.
        """
        values = self.resolved()
        size = values.get("stripe_bytes", values.get("stripe_size_bytes", _STRIPE_BYTES))
        count = values.get("stripe_count", 1)
        rows = []
        for number, layout in enumerate(self.layout, 1):
            for mirror in range(layout.mirrors):
                begin = 0
                for part in layout.parts():
                    end = part.end_bytes if part.end_bytes is not None else -1
                    stripes = 1 if part.on_meta else part.stripe_count or count
                    first = -1 if part.first_target is None else part.first_target
                    if first >= 0:
                        first = (first + mirror * max(stripes, 1)) % self.n_targets
                    stripe = part.stripe_size_bytes or size
                    rows.append((number, mirror, begin, end, stripe, stripes, first, int(part.on_meta)))
                    begin = end
        return np.array(rows, np.int64).reshape(-1, 8)

    def slow_rows(self) -> npt.NDArray[np.int64]:
        """Return int64[n, 3]: when_ps, target, ppm; ordered by target and time."""
        rows = sorted(row for table in self.slow for row in table.rows())
        return np.array(sorted(rows, key=lambda row: (row[1], row[0])), np.int64).reshape(-1, 3)

    def failure_rows(self) -> npt.NDArray[np.int64]:
        """Return int64[n, 3]: when_ps, server, up_ps; ordered by time."""
        numbers = self.server_numbers()
        rows = [(f.at_ps, server, f.up_ps) for f in self.failure for server in numbers[f.server]]
        return np.array(sorted(rows), np.int64).reshape(-1, 3)

    # ---- telling

    def describe(self) -> list[tuple[str, str]]:
        """Return rows of (what, value), every parameter included."""
        label = f"storage.{self.name}"
        rows = [(label, f"{self.model} at {self.mount}: {self._servers_in_words()}")]
        if self.attach:
            rate, delay = format_rate(self.rate_mbps or 0), format_time(self.latency_ps or 0)
            rows.append((f"{label}.attach", f"{', '.join(self.attach)}: {rate}, {delay}"))
        elif self.hosts is not None:
            hosts = f"the last {self.n_hosts}" if self.hosts == LAST else ", ".join(map(str, self.hosts))
            rows.append((f"{label}.hosts", hosts))
        if self.failover != "none":
            pairs = (
                self.failover if isinstance(self.failover, str) else ", ".join(map("/".join, self.failover))
            )
            rows.append((f"{label}.failover", pairs))
        rows += parameter_rows(label, ROOM, self.model, self.resolved())
        rows.append((f"{label}.target", self.target.model))
        rows += parameter_rows(f"{label}.target", "target", self.target.model, self.target.resolved())
        for what in ("layout", "directory", "slow", "failure"):
            for i, table in enumerate(tables := getattr(self, what)):
                number = f"[{i}]" if len(tables) > 1 else ""
                rows.append((f"{label}.{what}{number}", _in_words(table)))
        return rows

    def _servers_in_words(self) -> str:
        targets = f"{self.targets_per_server} targets" if self.targets_per_server > 1 else "1 target"
        if self.is_own:
            return f"{targets} on each client"
        data, meta = _NAMES.get(self.model, ("server", "meta"))
        return f"{self.servers} {data} of {targets}" + ("" if self.is_whole else f", {self.n_meta} {meta}")


def _in_words(table: Section) -> str:
    """Write what a table gives in a line, as its keys are written.

    >>> parts = [{"end": "64KiB", "on_meta": True}, {"stripe_count": -1}]
    >>> _in_words(Layout.model_validate({"path": "/a", "components": parts}))
    'path /a, components (on_meta true, end 64 KiB) (stripe_count -1)'
    """
    values, inside = table.model_dump(exclude_defaults=True), []
    for name in type(table).model_fields:
        if name == "components" and name in values:
            parts = (f"({_in_words(part)})" for part in getattr(table, name))
            inside.append(f"components {' '.join(parts)}")
        elif name in values:
            stem, unit = split_unit(name)
            if unit and unit != "count":
                inside.append(f"{stem} {UNITS[unit].show(values[name])}")
            else:
                inside.append(f"{name} {str(values[name]).lower() if values[name] is True else values[name]}")
    return ", ".join(inside)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _shown(parameters: Iterable[str]) -> list[str]:
    """Return the names that parameters are given by: less their unit where that is no other's, or a size."""
    names = list(parameters)
    short = short_names(names)
    shown = [f"{stem}_size" if name.endswith("_bytes") else stem for stem, name in short.items()]
    return [*shown, *(name for name in names if split_unit(name)[0] not in short)]


def _parameter_name(key: str, parameters: Iterable[str]) -> str:
    """Return the name of a parameter that is called a size: ``rpc_size`` is ``rpc_bytes``."""
    stem = key.removesuffix("_size")
    name = f"{stem}_bytes"
    return name if stem != key and key not in parameters and name in parameters else key


def _longest(path: str, folders: list[str]) -> int:
    """Return which of the folders holds a path, the longest of several; -1 for none."""
    holds = [i for i, folder in enumerate(folders) if is_under(path, folder)]
    return max(holds, key=lambda i: len(folders[i].rstrip("/")), default=-1)
