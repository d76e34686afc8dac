"""A topology as flat arrays: hosts, switches and full-duplex cables, ready for the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fabricsim.errors import ConfigError
from fabricsim.units import format_rate, format_time

__all__ = ["CircuitSchedule", "Topology", "cable_problems"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Row = tuple[str, str]


@dataclass(frozen=True, eq=False)
class CircuitSchedule:
    """When optical circuits are lit: row ``i`` lights ``cable[i]`` again and again.

    A cable of the schedule is dark but for the times of its rows; a cable without a row is always there.
    While it is dark, packets wait before it.

    Parameters
    ----------
    cable
        int32[n], the cable.
    first_ps, up_ps, period_ps
        int64[n], when it first lights, for how long, and after what time again; a row whose ``up_ps`` is its
        ``period_ps`` is never dark. A light may last past the end of its period.
    """

    cable: Int32
    first_ps: Int64
    up_ps: Int64
    period_ps: Int64

    def __post_init__(self) -> None:
        for name, dtype in (
            ("cable", np.int32),
            ("first_ps", np.int64),
            ("up_ps", np.int64),
            ("period_ps", np.int64),
        ):
            array = np.array(getattr(self, name), dtype=dtype)
            array.flags.writeable = False
            object.__setattr__(self, name, array)


@dataclass(frozen=True, eq=False, repr=False)
class Topology:
    """Hosts, switches and cables.

    Nodes are numbered: hosts 0 .. n_hosts-1, then the switches. Cable ``i`` is full duplex: directed link
    ``2i`` goes from ``cable_a[i]`` to ``cable_b[i]``, link ``2i+1`` back. The order of the cables of a node
    is its port order.

    Every cable is of one network, 0 (scale-out) or 1 (scale-up); so is every switch, by its cables. A host
    has at most one cable in each network, and one at least. Whatever sits between hosts and moves packets is
    a switch: a network interface that several GPUs share, the router of a chip of a torus.

    Parameters
    ----------
    kind
        What it was made from, such as ``fat_tree``.
    n_hosts, n_switches
        Numbers of nodes; ``n_hosts`` >= 1, reducers included.
    cable_a, cable_b
        int32[n_cables], the two nodes of each cable.
    cable_rate_mbps
        int64[n_cables], Mb/s of each direction, > 0.
    cable_delay_ps
        int64[n_cables], propagation delay, > 0.
    node_latency_ps
        int64[n_nodes], fixed pipeline latency of a packet that enters the node, >= 0.
    node_names
        One name a node, all different.
    switch_tier
        int8[n_switches], 1 for a switch next to hosts, 2 for one above it, and so on.
    cable_network
        int8[n_cables], 0 for scale-out and 1 for scale-up; all 0 when it is left out.
    reducer_first
        Hosts from this one on are reducers, units of a switch that add what passes (NVLS, SHARP): no rank
        lives there. ``n_hosts`` when it is left out.
    storage_first
        Hosts from this one to the first reducer are servers of storage: no rank lives there either.
        ``reducer_first`` when it is left out.
    circuits
        When those of the cables that are optical circuits are lit; None when all cables are always there.

    Raises
    ------
    ConfigError
        When an array has a wrong length, a cable is wrong, a host has no cable or two in one network, a
        switch is in both networks, or a node is cut off.

    >>> from fabricsim.topology import Star
    >>> t = Star(hosts=2, rate_mbps=100_000, latency_ps=1_000_000).build()
    >>> t.n_links, t.link_name(0), t.link_name(3)
    (4, 'host0->switch0', 'switch0->host1')
    """

    kind: str
    n_hosts: int
    n_switches: int
    cable_a: Int32
    cable_b: Int32
    cable_rate_mbps: Int64
    cable_delay_ps: Int64
    node_latency_ps: Int64
    node_names: Sequence[str] = field(default=())
    switch_tier: npt.NDArray[np.int8] | None = None
    cable_network: npt.NDArray[np.int8] | None = None
    reducer_first: int = -1
    circuits: CircuitSchedule | None = None
    storage_first: int = -1

    def __post_init__(self) -> None:
        if not self.node_names:
            names = [f"host{i}" for i in range(self.n_hosts)] + [f"switch{i}" for i in range(self.n_switches)]
            object.__setattr__(self, "node_names", tuple(names))
        self._freeze("cable_a", np.int32)
        self._freeze("cable_b", np.int32)
        self._freeze("cable_rate_mbps", np.int64)
        self._freeze("cable_delay_ps", np.int64)
        self._freeze("node_latency_ps", np.int64)
        if self.cable_network is None:
            object.__setattr__(self, "cable_network", np.zeros(self.n_cables, np.int8))
        self._freeze("cable_network", np.int8)
        if self.reducer_first < 0:
            object.__setattr__(self, "reducer_first", self.n_hosts)
        if self.storage_first < 0:
            object.__setattr__(self, "storage_first", self.reducer_first)
        self._check_shapes()
        wrong = cable_problems(self)
        if wrong:
            raise ConfigError([f"topology: {message}" for _, message in wrong])
        if self.switch_tier is None:
            object.__setattr__(self, "switch_tier", self._distance_from_hosts())
        self._freeze("switch_tier", np.int8)

    def _freeze(self, name: str, dtype: npt.DTypeLike) -> None:
        array = np.array(getattr(self, name), dtype=dtype, copy=True, order="C")
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def _check_shapes(self) -> None:
        if self.n_hosts < 1:
            raise ConfigError(f"topology: found {self.n_hosts} hosts, allowed: at least 1")
        if not 1 <= self.reducer_first <= self.n_hosts:
            text = f"found {self.reducer_first}, allowed: 1 to {self.n_hosts}, the number of hosts"
            raise ConfigError(f"topology.reducer_first: {text}")
        if not 1 <= self.storage_first <= self.reducer_first:
            text = f"found {self.storage_first}, allowed: 1 to {self.reducer_first}, the first reducer"
            raise ConfigError(f"topology.storage_first: {text}")
        expected = {
            "cable_b": self.n_cables,
            "cable_rate_mbps": self.n_cables,
            "cable_delay_ps": self.n_cables,
            "node_latency_ps": self.n_nodes,
            "cable_network": self.n_cables,
        }
        wrong = [
            f"topology.{name}: found shape {getattr(self, name).shape}, allowed: ({size},)"
            for name, size in expected.items()
            if getattr(self, name).shape != (size,)
        ]
        if len(self.node_names) != self.n_nodes:
            wrong.append(f"topology.node_names: found {len(self.node_names)}, allowed: {self.n_nodes}")
        if wrong:
            raise ConfigError(wrong)
        negative = np.flatnonzero(self.node_latency_ps < 0)
        if negative.size:
            node = int(negative[0])
            found = int(self.node_latency_ps[node])
            raise ConfigError(f"topology: node {self.node_names[node]}: latency_ps is {found}, allowed: >= 0")

    @property
    def n_nodes(self) -> int:
        """Hosts and switches."""
        return self.n_hosts + self.n_switches

    @property
    def n_rank_hosts(self) -> int:
        """Hosts where a rank may live: all but the servers of storage and the reducers."""
        return self.storage_first

    @property
    def n_storage_hosts(self) -> int:
        """Hosts that are servers of storage."""
        return self.reducer_first - self.storage_first

    @property
    def n_reducers(self) -> int:
        """Hosts that are reducing units of switches."""
        return self.n_hosts - self.reducer_first

    @property
    def networks(self) -> tuple[int, ...]:
        """The networks that have cables, in order."""
        assert self.cable_network is not None
        return tuple(np.unique(self.cable_network).tolist())

    @property
    def n_cables(self) -> int:
        """Full-duplex cables."""
        return int(self.cable_a.shape[0])

    @property
    def n_links(self) -> int:
        """Directed links, two a cable."""
        return 2 * self.n_cables

    def link_ends(self, link: int) -> tuple[int, int]:
        """Return the nodes that directed link ``link`` leaves and enters."""
        if not 0 <= link < self.n_links:
            raise IndexError(f"link {link}, allowed: 0 to {self.n_links - 1}")
        a, b = int(self.cable_a[link // 2]), int(self.cable_b[link // 2])
        return (b, a) if link % 2 else (a, b)

    def link_name(self, link: int) -> str:
        """Return the name of directed link ``link``, such as ``host12->edge3``.

        A cable that runs beside others between the same nodes is told apart by its number among them:
        ``leaf0->spine1#2``.
        """
        a, b = self.link_ends(link)
        name = f"{self.node_names[a]}->{self.node_names[b]}"
        if self.has_parallel_cables:
            low, high = (a, b) if a < b else (b, a)
            same = np.minimum(self.cable_a, self.cable_b) == low
            same &= np.maximum(self.cable_a, self.cable_b) == high
            if np.count_nonzero(same) > 1:
                name += f"#{np.count_nonzero(same[: link // 2])}"
        return name

    @property
    def has_parallel_cables(self) -> bool:
        """Whether two nodes are joined by more than one cable."""
        known: bool | None = self.__dict__.get("_parallel")
        if known is None:
            low = np.minimum(self.cable_a, self.cable_b).astype(np.int64)
            pair = low * self.n_nodes + np.maximum(self.cable_a, self.cable_b)
            known = bool(np.unique(pair).size < pair.size)
            object.__setattr__(self, "_parallel", known)
        return known

    def node_tiers(self) -> npt.NDArray[np.int8]:
        """Return int8[n_nodes]: 0 for a host, the tier for a switch."""
        assert self.switch_tier is not None
        return np.concatenate([np.zeros(self.n_hosts, np.int8), self.switch_tier])

    def oversubscription(self) -> list[tuple[int, float]]:
        """Return (tier, rate down / rate up) of the worst switch of each tier that has cables upwards."""
        tiers = self.node_tiers()
        tier_a, tier_b = tiers[self.cable_a], tiers[self.cable_b]
        # What a reducer takes in and gives out are packets of the switch's other ports.
        reducer = self._is_reducer(self.cable_a) | self._is_reducer(self.cable_b)
        tier_a, tier_b = np.where(reducer, 0, tier_a), np.where(reducer, 0, tier_b)
        down, up = np.zeros(self.n_nodes), np.zeros(self.n_nodes)
        for node, tier, other in ((self.cable_a, tier_a, tier_b), (self.cable_b, tier_b, tier_a)):
            below, above = other < tier, other > tier
            down += np.bincount(node[below], weights=self.cable_rate_mbps[below], minlength=self.n_nodes)
            up += np.bincount(node[above], weights=self.cable_rate_mbps[above], minlength=self.n_nodes)
        rows = []
        for level in range(1, int(tiers.max(initial=0)) + 1):
            at = (tiers == level) & (up > 0)
            if at.any():
                rows.append((level, float((down[at] / up[at]).max())))
        return rows

    def _is_reducer(self, nodes: Int32) -> npt.NDArray[np.bool_]:
        return (nodes >= self.reducer_first) & (nodes < self.n_hosts)

    def describe(self) -> list[Row]:
        """Return rows of (what, value) that describe the topology."""
        assert self.switch_tier is not None and self.cable_network is not None
        rows = [("kind", self.kind), ("hosts", f"{self.n_rank_hosts:,}")]
        if self.n_storage_hosts:
            rows.append(("storage servers", f"{self.n_storage_hosts:,}"))
        if self.n_reducers:
            rows.append(("reducers", f"{self.n_reducers:,}"))
        up = np.zeros(self.n_nodes, bool)
        for ends in (self.cable_a, self.cable_b):
            up[ends[self.cable_network == 1]] = True
        for label, mine in (("scale-up switches", up[self.n_hosts :]), ("switches", ~up[self.n_hosts :])):
            tiers, counts = np.unique(self.switch_tier[mine], return_counts=True)
            if not counts.size and label != "switches":
                continue
            pairs = zip(tiers.tolist(), counts.tolist(), strict=True)
            parts = ", ".join(f"{count:,} in tier {tier}" for tier, count in pairs)
            rows.append((label, f"{counts.sum():,}" + (f" ({parts})" if len(counts) > 1 else "")))
        rows.append(("cables", f"{self.n_cables:,}"))
        to_host = (self.cable_a < self.n_hosts) | (self.cable_b < self.n_hosts)
        reducer = self._is_reducer(self.cable_a) | self._is_reducer(self.cable_b)
        for network, prefix in ((1, "scale-up "), (0, "")):
            inside = (self.cable_network == network) & ~reducer
            for label, chosen in (("host cables", to_host), ("fabric cables", ~to_host)):
                chosen = chosen & inside
                if chosen.any():
                    rate = _span(self.cable_rate_mbps[chosen], format_rate)
                    delay = _span(self.cable_delay_ps[chosen], format_time)
                    rows.append((prefix + label, f"{rate}, {delay}"))
        if self.circuits is not None:
            times = (self.circuits.up_ps, self.circuits.period_ps)
            light, period = (_span(v, format_time) for v in times)
            rows.append(("circuits", f"{np.unique(self.circuits.cable).size:,}, lit {light} every {period}"))
        if self.node_latency_ps.any():
            rows.append(("host latency", _span(self.node_latency_ps[: self.n_rank_hosts], format_time)))
            rows.append(("switch latency", _span(self.node_latency_ps[self.n_hosts :], format_time)))
        rows += [
            (f"oversubscription, tier {tier}", f"{ratio:.4g}:1") for tier, ratio in self.oversubscription()
        ]
        return rows

    def __repr__(self) -> str:
        storage, reducers = self.n_storage_hosts, self.n_reducers
        parts = [f"{self.n_rank_hosts} hosts", *([f"{storage} storage servers"] if storage else [])]
        parts += [f"{reducers} reducers"] if reducers else []
        parts += [f"{self.n_switches} switches", f"{self.n_cables} cables"]
        return f"Topology({self.kind}: {', '.join(parts)})"

    def _distance_from_hosts(self) -> npt.NDArray[np.int8]:
        """Tier of each switch as its distance in cables from the nearest host (at most 127)."""
        far = np.iinfo(np.int8).max
        distance = np.full(self.n_nodes, far, np.int8)
        distance[: self.n_rank_hosts] = 0
        for step in range(1, far):
            reached = np.concatenate(
                [
                    self.cable_b[distance[self.cable_a] == step - 1],
                    self.cable_a[distance[self.cable_b] == step - 1],
                ]
            )
            reached = reached[distance[reached] == far]
            if reached.size == 0:
                break
            distance[reached] = step
        return distance[self.n_hosts :]


def _span(values: Int64, show: Callable[[int], str]) -> str:
    if values.size == 0:
        return "none"
    low, high = int(values.min()), int(values.max())
    return show(low) if low == high else f"{show(low)} to {show(high)}"


def cable_problems(t: Topology, limit: int = 1000) -> list[tuple[int | None, str]]:
    """Find what is wrong with the cables.

    Returns
    -------
    list
        (cable or None, message); every kind of fault is looked for, at most ``limit`` messages each.
    """
    a, b = t.cable_a, t.cable_b
    problems: list[tuple[int | None, str]] = []

    def name(node: int) -> str:
        return t.node_names[node] if 0 <= node < t.n_nodes else f"node {node}"

    def blame(mask: npt.NDArray[np.bool_], message: str, values: Int64 | None = None) -> None:
        for i in np.flatnonzero(mask)[:limit].tolist():
            found = "" if values is None else f"found {int(values[i])}, "
            problems.append((i, f"cable {i} ({name(int(a[i]))} - {name(int(b[i]))}): {found}{message}"))

    outside = (a < 0) | (a >= t.n_nodes) | (b < 0) | (b >= t.n_nodes)
    blame(outside, f"unknown node, allowed: 0 to {t.n_nodes - 1}")
    blame((a == b) & ~outside, "joins a node with itself, allowed: two nodes")
    blame(
        (a < t.n_hosts) & (b < t.n_hosts) & (a != b) & ~outside,
        "joins two hosts, allowed: a host and a switch",
    )
    blame(t.cable_rate_mbps <= 0, "allowed: a rate > 0 (Mb/s)", t.cable_rate_mbps)
    blame(t.cable_delay_ps <= 0, "allowed: a delay > 0 (ps)", t.cable_delay_ps)
    if problems:
        return problems

    networks = _network_problems(t, limit)
    return networks or _reach_problems(t)


def _network_problems(t: Topology, limit: int) -> list[tuple[int | None, str]]:
    """Find hosts without a cable or with several in a network, and switches in both networks."""
    assert t.cable_network is not None
    problems: list[tuple[int | None, str]] = []
    for i in np.flatnonzero((t.cable_network < 0) | (t.cable_network > 1))[:limit].tolist():
        text = f"cable {i}: found network {int(t.cable_network[i])}, allowed: 0 (scale-out) or 1 (scale-up)"
        problems.append((i, text))
    if problems:
        return problems
    ports = np.zeros((2, t.n_nodes), np.int64)
    for network in (0, 1):
        chosen = t.cable_network == network
        ports[network] = np.bincount(
            np.concatenate([t.cable_a[chosen], t.cable_b[chosen]]), minlength=t.n_nodes
        )
    hosts = ports[:, : t.n_hosts]
    for host in np.flatnonzero(hosts.sum(axis=0) == 0)[:limit].tolist():
        text = f"host {t.node_names[host]} has 0 cables; allowed: exactly one in each of its networks"
        problems.append((None, text))
    for network, what in ((0, ""), (1, " scale-up")):
        for host in np.flatnonzero(hosts[network] > 1)[:limit].tolist():
            cables = np.flatnonzero(
                ((t.cable_a == host) | (t.cable_b == host)) & (t.cable_network == network)
            )
            listed = ", ".join(map(str, cables[:8].tolist()))
            text = f"host {t.node_names[host]} has {cables.size}{what} cables: cables {listed}"
            problems.append((None, f"{text}; allowed: exactly one in each of its networks"))
    both = np.flatnonzero((ports[:, t.n_hosts :] > 0).all(axis=0)) + t.n_hosts
    for switch in both[:limit].tolist():
        text = f"switch {t.node_names[switch]} has cables of both networks, allowed: of one"
        problems.append((None, text))
    return problems


def _reach_problems(t: Topology) -> list[tuple[int | None, str]]:
    """Find what is cut off: one of the networks must join all ranks, and every other node a rank."""
    assert t.cable_network is not None
    ranks = np.arange(t.n_nodes) < t.n_rank_hosts
    cut: Int64 | None = None
    alone = ~ranks
    for network in (0, 1):
        part = _components(t, t.cable_network == network)
        apart = np.flatnonzero((part != part[0]) & ranks)
        cut = apart if cut is None or apart.size < cut.size else cut
        alone &= ~np.isin(part, part[ranks])
    assert cut is not None
    nodes = np.union1d(cut, np.flatnonzero(alone))
    if nodes.size == 0:
        return []
    names = ", ".join(t.node_names[int(i)] for i in nodes[:8]) + (", ..." if nodes.size > 8 else "")
    return [(None, f"{nodes.size} nodes cannot be reached from {t.node_names[0]}: {names}")]


def _components(t: Topology, chosen: npt.NDArray[np.bool_]) -> Int32:
    """Label each node with the least node number of its part by the chosen cables (pointer jumping)."""
    cable_a, cable_b = t.cable_a[chosen], t.cable_b[chosen]
    label = np.arange(t.n_nodes, dtype=np.int32)
    while True:
        before = label.copy()
        least = np.minimum(label[cable_a], label[cable_b])
        # Hook the roots of both ends to the lesser label, then let every node look further.
        np.minimum.at(label, before[cable_a], least)
        np.minimum.at(label, before[cable_b], least)
        np.minimum.at(label, cable_a, least)
        np.minimum.at(label, cable_b, least)
        label = label[label]
        if np.array_equal(label, before):
            return label
