"""Where the servers of a cluster's file systems are: new hosts, or hosts of the topology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fabricsim.errors import ConfigError
from fabricsim.fabrics.section import Issue
from fabricsim.storage.section import LAST, Storage
from fabricsim.topology.model import Topology
from fabricsim.topology.servers import matching_switches, with_server_hosts
from fabricsim.topology.spec import MAX_PORTS

__all__ = ["Placement", "place"]

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Placement:
    """The topology with the servers of all file systems.

    Parameters
    ----------
    topology
        Hosts of ranks, servers, reducers, switches.
    hosts
        For each file system int32[n_hosts], the hosts of its servers: those of data, then those of metadata.
    issues
        What is wrong, with its place below ``storage``; nothing was placed then.
    """

    topology: Topology
    hosts: tuple[Int32, ...]
    issues: tuple[Issue, ...] = ()

    def stores(self, storage: Sequence[Storage]) -> list[dict[str, Any]]:
        """Return the file systems as the core takes them."""
        return [_store(one, hosts) for one, hosts in zip(storage, self.hosts, strict=True)]


def place(topology: Topology, storage: Sequence[Storage], host_latency_ps: int = 0) -> Placement:
    """Give the servers of all file systems their hosts.

    Parameters
    ----------
    topology
        As its specification builds it, without servers.
    storage
        The file systems.
    host_latency_ps
        Pipeline latency of new hosts, ps.
    """
    issues: list[Issue] = []
    count = topology.n_rank_hosts
    first = count
    taken: dict[int, int] = {}
    places: list[Any] = []
    for number, one in enumerate(storage):
        found: Any = None
        if one.hosts == LAST:
            first -= one.n_hosts
            found = np.arange(first, first + one.n_hosts)
        elif one.hosts is not None:
            found = np.array(one.hosts)
        elif one.attach:
            try:
                switches = matching_switches(topology, one.attach)
                found = switches[np.arange(one.n_hosts) % len(switches)]
            except ValueError as error:
                issues.append(((number, "attach"), str(error), None))
        if one.hosts is not None:
            first = min(first, int(found.min()))
            issues += _host_issues(number, found, count, taken)
        places.append(found)
    if not issues and first + len(taken) != count:
        gap = next(host for host in range(first, count) if host not in taken)
        number = next(n for n, one in enumerate(storage) if one.hosts is not None)
        text = f"leave host {gap} between them, allowed: the last hosts together, where no rank is"
        issues.append(((number, "hosts"), text, None))
    if issues:
        return Placement(topology, (), tuple(issues))
    if first < count:
        topology = replace(topology, storage_first=first)
    return _attached(topology, storage, places, host_latency_ps)


def _host_issues(number: int, hosts: Int32, count: int, taken: dict[int, int]) -> list[Issue]:
    wrong = [host for host in hosts.tolist() if not 1 <= host < count]
    if wrong:
        text = f"found {wrong[0]}, allowed: 1 to {count - 1}; host 0 is that of rank 0"
        return [((number, "hosts"), text, None)]
    for host in hosts.tolist():
        if taken.setdefault(host, number) != number:
            text = f"found host {host}, which is a server of storage[{taken[host]}], allowed: one a host"
            return [((number, "hosts"), text, None)]
    return []


def _attached(
    before: Topology, storage: Sequence[Storage], places: list[Any], host_latency_ps: int
) -> Placement:
    """Add the new hosts of every file system."""
    names: list[str] = []
    switches: list[int] = []
    rates: list[int] = []
    delays: list[int] = []
    hosts: list[Int32] = []
    several = len(storage) > 1
    for one, found in zip(storage, places, strict=True):
        if one.attach:
            first = before.reducer_first + len(names)
            hosts.append(np.arange(first, first + one.n_hosts, dtype=np.int32))
            names += [f"{one.name}.{name}" if several else name for name in one.host_names()]
            switches += found.tolist()
            rates += [one.rate_mbps or 0] * one.n_hosts
            delays += [one.latency_ps or 0] * one.n_hosts
        else:
            hosts.append(np.asarray([] if found is None else found, np.int32))
    if not names:
        return Placement(before, tuple(hosts))
    issues = _name_issues(before, storage, names) + _port_issues(before, storage, switches)
    if issues:
        return Placement(before, (), tuple(issues))
    try:
        made = with_server_hosts(
            before, names, switches, rate_mbps=rates, delay_ps=delays, latency_ps=host_latency_ps
        )
    except ConfigError as error:
        return Placement(before, (), (((), str(error), None),))
    return Placement(made, tuple(hosts))


def _name_issues(t: Topology, storage: Sequence[Storage], names: list[str]) -> list[Issue]:
    known = set(t.node_names)
    again = [name for i, name in enumerate(names) if name in known or name in names[:i]]
    if not again:
        return []
    number = next((n for n, one in enumerate(storage) if again[0].startswith(f"{one.name}.")), 0)
    text = f"makes the server {again[0]}, but that name is taken; allowed: another name"
    return [((number, "name"), text, storage[number].name)]


def _port_issues(t: Topology, storage: Sequence[Storage], switches: list[int]) -> list[Issue]:
    ends = np.concatenate([t.cable_a, t.cable_b, np.asarray(switches, np.int32)])
    ports = np.bincount(ends, minlength=t.n_nodes)
    most = int(np.argmax(np.where(np.arange(t.n_nodes) >= t.n_hosts, ports, 0)))
    if ports[most] <= MAX_PORTS:
        return []
    text = f"makes {t.node_names[most]} a switch of {ports[most]:,} ports, allowed: at most {MAX_PORTS:,}"
    number = next(n for n, one in enumerate(storage) if one.attach)
    return [((number, "attach"), text, None)]


def _store(storage: Storage, hosts: Int32) -> dict[str, Any]:
    if storage.is_own:
        none = np.zeros(0, np.int32)
        rows = {"layouts": storage.layout_rows(), "slow": storage.slow_rows()}
        names = ("servers", "partners", "targets", "meta", "meta_partners")
        return dict.fromkeys(names, none) | rows | {"failures": storage.failure_rows()}
    data = storage.servers
    at = np.concatenate([hosts, hosts]) if storage.is_whole else hosts
    partners = storage.partners()
    return {
        "servers": at[:data].astype(np.int32),
        "partners": partners[:data],
        "targets": np.repeat(np.arange(data, dtype=np.int32), storage.targets_per_server),
        "meta": at[data:].astype(np.int32),
        "meta_partners": partners[data:],
        "layouts": storage.layout_rows(),
        "slow": storage.slow_rows(),
        "failures": storage.failure_rows(),
    }
