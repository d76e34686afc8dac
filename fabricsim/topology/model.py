"""A topology as flat arrays: hosts, switches and full-duplex cables, ready for the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fabricsim.errors import ConfigError
from fabricsim.units import format_rate, format_time

__all__ = ["Topology", "cable_problems"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Row = tuple[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class Topology:
    """Hosts, switches and cables.

    Nodes are numbered: hosts 0 .. n_hosts-1, then the switches. Cable ``i`` is full duplex: directed link
    ``2i`` goes from ``cable_a[i]`` to ``cable_b[i]``, link ``2i+1`` back. The order of the cables of a node
    is its port order.

    Parameters
    ----------
    kind
        What it was made from, such as ``fat_tree``.
    n_hosts, n_switches
        Numbers of nodes; ``n_hosts`` >= 1.
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

    Raises
    ------
    ConfigError
        When an array has a wrong length, a cable is wrong, a host has other than one cable, or a node is cut
        off.

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

    def __post_init__(self) -> None:
        if not self.node_names:
            names = [f"host{i}" for i in range(self.n_hosts)] + [f"switch{i}" for i in range(self.n_switches)]
            object.__setattr__(self, "node_names", tuple(names))
        self._freeze("cable_a", np.int32)
        self._freeze("cable_b", np.int32)
        self._freeze("cable_rate_mbps", np.int64)
        self._freeze("cable_delay_ps", np.int64)
        self._freeze("node_latency_ps", np.int64)
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
        expected = {
            "cable_b": self.n_cables,
            "cable_rate_mbps": self.n_cables,
            "cable_delay_ps": self.n_cables,
            "node_latency_ps": self.n_nodes,
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

    def describe(self) -> list[Row]:
        """Return rows of (what, value) that describe the topology."""
        assert self.switch_tier is not None
        rows = [("kind", self.kind), ("hosts", f"{self.n_hosts:,}")]
        tiers, counts = np.unique(self.switch_tier, return_counts=True)
        parts = ", ".join(f"{c:,} in tier {t}" for t, c in zip(tiers.tolist(), counts.tolist(), strict=True))
        rows.append(("switches", f"{self.n_switches:,}" + (f" ({parts})" if len(counts) > 1 else "")))
        rows.append(("cables", f"{self.n_cables:,}"))
        to_host = (self.cable_a < self.n_hosts) | (self.cable_b < self.n_hosts)
        for label, chosen in (("host cables", to_host), ("fabric cables", ~to_host)):
            if chosen.any():
                rate = _span(self.cable_rate_mbps[chosen], format_rate)
                rows.append((label, f"{rate}, {_span(self.cable_delay_ps[chosen], format_time)}"))
        if self.node_latency_ps.any():
            rows.append(("host latency", _span(self.node_latency_ps[: self.n_hosts], format_time)))
            rows.append(("switch latency", _span(self.node_latency_ps[self.n_hosts :], format_time)))
        rows += [
            (f"oversubscription, tier {tier}", f"{ratio:.4g}:1") for tier, ratio in self.oversubscription()
        ]
        return rows

    def __repr__(self) -> str:
        return (
            f"Topology({self.kind}: {self.n_hosts} hosts, {self.n_switches} switches, {self.n_cables} cables)"
        )

    def _distance_from_hosts(self) -> npt.NDArray[np.int8]:
        """Tier of each switch as its distance in cables from the nearest host (at most 127)."""
        far = np.iinfo(np.int8).max
        distance = np.full(self.n_nodes, far, np.int8)
        distance[: self.n_hosts] = 0
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

    ports = np.bincount(np.concatenate([a, b]), minlength=t.n_nodes)
    for host in np.flatnonzero(ports[: t.n_hosts] != 1)[:limit].tolist():
        cables = np.flatnonzero((a == host) | (b == host))
        listed = f": cables {', '.join(map(str, cables[:8].tolist()))}" if cables.size else ""
        problems.append((None, f"host {name(host)} has {cables.size} cables{listed}; allowed: exactly one"))
    if problems:
        return problems

    part = _components(t)
    apart = np.flatnonzero(part != part[0])
    if apart.size:
        names = ", ".join(name(int(i)) for i in apart[:8])
        more = ", ..." if apart.size > 8 else ""
        problems.append((None, f"{apart.size} nodes cannot be reached from {name(0)}: {names}{more}"))
    return problems


def _components(t: Topology) -> Int32:
    """Label each node with the least node number of its connected part (pointer jumping)."""
    label = np.arange(t.n_nodes, dtype=np.int32)
    while True:
        before = label.copy()
        least = np.minimum(label[t.cable_a], label[t.cable_b])
        # Hook the roots of both ends to the lesser label, then let every node look further.
        np.minimum.at(label, before[t.cable_a], least)
        np.minimum.at(label, before[t.cable_b], least)
        np.minimum.at(label, t.cable_a, least)
        np.minimum.at(label, t.cable_b, least)
        label = label[label]
        if np.array_equal(label, before):
            return label
