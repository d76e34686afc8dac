"""Faults of a fabric: listed ones, and random ones drawn by rates; both become changes of links at times."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Context, Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from fabricsim.errors import ConfigError, nearest
from fabricsim.fabrics.section import Issue, Section, raise_issues
from fabricsim.units import INT64_MAX

if TYPE_CHECKING:
    from fabricsim.topology import Topology, TopologySpec

__all__ = ["FaultEvent", "FaultRate", "Faults", "links_of"]

Int64 = npt.NDArray[np.int64]

#: The kinds of the core, as FAB_CHANGE_* of csrc/include/fabricsim.h.
DOWN, UP, RATE, ERRORS, DARK = range(5)

_LINK = re.compile(r"\s*(.+?)\s*->\s*(.+?)(?:#(\d+))?\s*")
_HOUR_PS = 3600 * 10**12
_PER_BIT = 10**18
_MOST_PS = INT64_MAX // 8
_MOST_EVENTS = 1_000_000

Time = Annotated[int, Field(ge=0, le=_MOST_PS)]
Length = Annotated[int, Field(gt=0, le=_MOST_PS)]


class FaultEvent(Section):
    """A fault at a time.

    Parameters
    ----------
    at_ps
        When it happens, ps.
    kind
        ``down``: a cable carries nothing. ``degrade``: a slower rate. ``errors``: packets are lost to wrong
        bits. ``dark``: an optical circuit begins no packet. ``swap``: a cube of a torus is replaced, all
        of its cables are dark meanwhile.
    link
        A directed link by its name, such as ``leaf0->spine1`` or ``leaf0->spine1#2``; the cable is meant with
        ``down`` and ``dark``, and with the others unless ``both`` is false.
    node
        Instead of a link: a switch or host, with all of its cables.
    port, uplink
        With ``node``: only the cable of this number among all of its cables, or among those to a higher tier.
    cube
        With ``swap``: the place of the cube in the torus, ``cx + CX * (cy + CY * cz)``.
    for_ps
        How long it lasts, ps; for good where it is left out. ``dark`` and ``swap`` need it.
    rate_mbps
        With ``degrade``: the rate of each direction, Mb/s.
    bit_error_rate
        With ``errors``: the chance of a bit to arrive wrong, up to 1e-4.
    both
        Whether both directions of a cable are meant; default true.
    every_ps, times
        Flapping: the fault comes again after so long, so many times in all.

    >>> event = {"at": "10ms", "link": "leaf0->spine1", "kind": "down", "for": "5ms"}
    >>> FaultEvent.model_validate(event).for_ps
    5000000000
    """

    at_ps: Time
    kind: Literal["down", "degrade", "errors", "dark", "swap"]
    link: str | None = None
    node: str | None = None
    port: Annotated[int, Field(ge=0)] | None = None
    uplink: Annotated[int, Field(ge=0)] | None = None
    cube: Annotated[int, Field(ge=0)] | None = None
    for_ps: Length | None = None
    rate_mbps: Annotated[int, Field(ge=250)] | None = None
    bit_error_rate: Annotated[float, Field(ge=0, le=1e-4)] | None = None
    both: bool = True
    every_ps: Length | None = None
    times: Annotated[int, Field(ge=1, le=100_000)] = 1

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        issues: list[Issue] = []
        if (self.kind == "swap") != (self.cube is not None):
            issues.append((("cube",), "allowed: with kind = 'swap', which needs it", self.cube))
        named = [name for name in ("link", "node", "cube") if getattr(self, name) is not None]
        if len(named) != 1:
            found = " and ".join(named) or "none"
            issues.append(((), f"found {found}, allowed: one of link, node and cube", None))
        if (self.port is not None) + (self.uplink is not None) > (self.node is not None):
            issues.append((("node",), "allowed: with one of port and uplink, which need it", self.node))
        for key, kind, value in (
            ("rate", "degrade", self.rate_mbps),
            ("bit_error_rate", "errors", self.bit_error_rate),
        ):
            if (self.kind == kind) != (value is not None):
                issues.append(((key,), f"allowed: with kind = {kind!r}, which needs it", value))
        if self.kind in ("dark", "swap") and self.for_ps is None:
            issues.append((("for",), f"missing, allowed: how long with kind = {self.kind!r}", None))
        if (self.times > 1) != (self.every_ps is not None):
            issues.append((("every",), "allowed: with times > 1, which needs it", self.every_ps))
        elif self.every_ps is not None and (self.for_ps is None or self.for_ps >= self.every_ps):
            text = f"found {self.every_ps} ps, allowed: more than `for`, which is needed"
            issues.append((("every",), text, self.every_ps))
        if self.at_ps + (self.every_ps or 0) * self.times > _MOST_PS:
            issues.append((("times",), f"the last one comes after {_MOST_PS} ps", self.times))
        raise_issues("FaultEvent", issues)
        return self

    def rows(self, links: list[tuple[int, int]]) -> Iterator[tuple[int, int, int, int]]:
        """Yield (when_ps, link, kind, value) of the core for the links that the event is about."""
        for turn in range(self.times):
            at = self.at_ps + turn * (self.every_ps or 0)
            end = None if self.for_ps is None else at + self.for_ps
            for link, other in links:
                directions = (link, other) if self.both else (link,)
                if self.kind == "down":
                    yield at, link, DOWN, 0
                    if end is not None:
                        yield end, link, UP, 0
                elif self.kind in ("dark", "swap"):
                    assert self.for_ps is not None
                    yield at, link, DARK, self.for_ps
                else:
                    kind = RATE if self.kind == "degrade" else ERRORS
                    value = self.rate_mbps or round((self.bit_error_rate or 0) * _PER_BIT)
                    for one in directions:
                        yield at, one, kind, value
                        if end is not None:
                            yield end, one, kind, 0


class FaultRate(Section):
    """How often things of a kind fail, each by itself.

    Parameters
    ----------
    fit
        Failures in 10^9 hours of each; or
    mtbf_hours
        hours from one repair to the next failure, on average.
    repair_ps
        How long a failure lasts, ps.
    """

    fit: Annotated[float, Field(gt=0)] | None = None
    mtbf_hours: Annotated[float, Field(gt=0)] | None = None
    repair_ps: Length

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.fit is None) == (self.mtbf_hours is None):
            raise_issues("FaultRate", [((), "allowed: one of fit and mtbf_hours", None)])
        return self

    def mean_ps(self) -> Decimal:
        """Return the mean time from a repair to the next failure, in picoseconds."""
        hours = Decimal(10**9) / Decimal(repr(self.fit)) if self.fit else Decimal(repr(self.mtbf_hours))
        return hours * _HOUR_PS


class Faults(Section):
    """What fails in a run, and how fast the routes learn of it.

    Parameters
    ----------
    heal_ps
        How long after a cable went down or came back the routes go by it, ps.
    heals
        Whether they ever do; default true.
    event
        Faults at given times: ``[[faults.event]]``.
    links, switches, hosts
        Rates of random failures: of a cable between switches, of a switch, of a host's cables.
    horizon_ps
        Random failures begin before this time, ps; needed where there are rates.

    >>> down = {"at": "1ms", "link": "leaf0->spine1", "kind": "down"}
    >>> Faults.model_validate({"heal": "50us", "event": [down]}).heal_ps
    50000000
    """

    heal_ps: Time = 10_000_000_000
    heals: bool = True
    event: Annotated[tuple[FaultEvent, ...], Field(strict=False)] = ()
    links: FaultRate | None = None
    switches: FaultRate | None = None
    hosts: FaultRate | None = None
    horizon_ps: Length | None = None

    _RATED: ClassVar[tuple[str, ...]] = ("links", "switches", "hosts")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        rated = [name for name in self._RATED if getattr(self, name) is not None]
        if bool(rated) != (self.horizon_ps is not None):
            text = "allowed: with rates of links, switches or hosts, which need it"
            raise_issues("Faults", [(("horizon",), text, self.horizon_ps)])
        return self

    @property
    def core_heal_ps(self) -> int:
        """``heal_ps`` as the core takes it: -1 for never."""
        return self.heal_ps if self.heals else -1

    def problems(self, topology: Topology, spec: TopologySpec) -> list[Issue]:
        """Find names that the topology does not have, and faults that a link cannot have."""
        issues: list[Issue] = []
        finder = _Finder(topology)
        for i, event in enumerate(self.event):
            key = "link" if event.link is not None else "node" if event.node is not None else "cube"
            try:
                links = finder.links(event, spec)
            except ValueError as error:
                issues.append((("event", i, key), str(error), getattr(event, key)))
                continue
            if event.kind in ("dark", "swap"):
                ends = {min(topology.link_ends(link)) for link, _ in links}
                if any(node < topology.n_hosts for node in ends):
                    text = "reaches a host, allowed: cables between switches can be dark"
                    issues.append((("event", i, key), text, getattr(event, key)))
            if event.kind == "degrade":
                assert event.rate_mbps is not None
                least = min(int(topology.cable_rate_mbps[link // 2]) for link, _ in links)
                if event.rate_mbps > least:
                    text = f"found {event.rate_mbps} Mb/s, allowed: at most the cable's, {least} Mb/s"
                    issues.append((("event", i, "rate"), text, event.rate_mbps))
        return issues

    def changes(self, topology: Topology, spec: TopologySpec, seed: int) -> Int64:
        """Return int64[n, 4], what changes by time: when_ps, directed link, kind and value of the core.

        The draws of a cable, switch or host depend on the seed and its name alone.
        """
        finder = _Finder(topology)
        rows = [row for event in self.event for row in event.rows(finder.links(event, spec))]
        rows += self._random(topology, finder, seed)
        table = np.array(rows, np.int64).reshape(-1, 4)
        return table[np.argsort(table[:, 0], kind="stable")]

    def _random(self, topology: Topology, finder: _Finder, seed: int) -> list[tuple[int, int, int, int]]:
        rows: list[tuple[int, int, int, int]] = []
        assert topology.cable_a is not None
        between = np.minimum(topology.cable_a, topology.cable_b) >= topology.n_hosts
        entities = {
            "links": [(topology.link_name(2 * int(c)), [2 * int(c)]) for c in np.flatnonzero(between)]
            if self.links
            else [],
            "switches": [
                (topology.node_names[n], finder.of_node(n)) for n in range(topology.n_hosts, topology.n_nodes)
            ]
            if self.switches
            else [],
            "hosts": [(topology.node_names[n], finder.of_node(n)) for n in range(topology.n_rank_hosts)]
            if self.hosts
            else [],
        }
        for what in self._RATED:
            rate: FaultRate | None = getattr(self, what)
            for name, links in entities[what]:
                assert rate is not None and self.horizon_ps is not None
                for at, end in _failures(rate, self.horizon_ps, f"{seed}:{what}:{name}"):
                    rows += [(at, link, DOWN, 0) for link in links]
                    rows += [(end, link, UP, 0) for link in links]
                if len(rows) > _MOST_EVENTS:
                    raise ConfigError(f"faults: more than {_MOST_EVENTS} changes before the horizon")
        return rows

    def describe(self) -> list[tuple[str, str]]:
        """Return rows of (what, value)."""
        rows = [("faults.heal_ps", str(self.heal_ps) if self.heals else "never")]
        rows += [("faults.event", _line(event.model_dump(exclude_defaults=True))) for event in self.event]
        for what in self._RATED:
            if getattr(self, what) is not None:
                rows.append((f"faults.{what}", _line(getattr(self, what).model_dump(exclude_none=True))))
        return rows


def _line(values: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _failures(rate: FaultRate, horizon_ps: int, key: str) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the failures of one thing: exponential times between, by a draw each."""
    context = Context(prec=40)
    mean, at = rate.mean_ps(), 0
    for number in range(_MOST_EVENTS):
        digest = hashlib.sha256(f"{key}:{number}".encode()).digest()
        # (n + 1/2) / 2^64 is never 0 or 1; the logarithm of decimal is rounded the same everywhere
        share = context.divide(Decimal(2 * int.from_bytes(digest[:8], "big") + 1), Decimal(2**65))
        at += int(context.multiply(-context.ln(share), mean))
        if at >= horizon_ps:
            return
        yield at, at + rate.repair_ps
        at += rate.repair_ps


class _Finder:
    """Finds links of a topology by names."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology

    @cached_property
    def _node(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.topology.node_names)}

    @cached_property
    def _cables(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for cable, (a, b) in enumerate(zip(self.topology.cable_a, self.topology.cable_b, strict=True)):
            found[int(a)].append(cable)
            found[int(b)].append(cable)
        return found

    def node(self, name: str) -> int:
        if name in self._node:
            return self._node[name]
        guess = nearest(name, self._node)
        hint = f"; did you mean {guess!r}?" if guess else ""
        raise ValueError(f"unknown node {name!r}{hint}")

    def of_node(self, node: int, port: int | None = None, uplink: int | None = None) -> list[int]:
        """Return the links of a node's cables, one a cable; or of the one at a port."""
        cables, t = self._cables[node], self.topology
        if uplink is not None:
            tiers = t.node_tiers()
            above = (int(t.cable_a[c]) + int(t.cable_b[c]) - node for c in cables)
            cables = [c for c, other in zip(cables, above, strict=True) if tiers[other] > tiers[node]]
        chosen = uplink if port is None else port
        if chosen is None:
            return [2 * cable for cable in cables]
        if chosen >= len(cables):
            what = "cable" if uplink is None else "uplink"
            raise ValueError(f"found {what} {chosen} of {t.node_names[node]}, which has {len(cables)}")
        return [2 * cables[chosen]]

    def link(self, name: str) -> int:
        match = _LINK.fullmatch(name)
        if match is None:
            raise ValueError(f"found {name!r}, allowed: a link such as leaf0->spine1, or leaf0->spine1#2")
        a, b = self.node(match[1]), self.node(match[2])
        t = self.topology
        between = [c for c in self._cables[a] if {int(t.cable_a[c]), int(t.cable_b[c])} == {a, b}]
        if not between:
            others = sorted({int(t.cable_a[c]) + int(t.cable_b[c]) - a for c in self._cables[a]})
            names = ", ".join(t.node_names[node] for node in others[:8])
            more = ", …" if len(others) > 8 else ""
            raise ValueError(
                f"no cable joins {match[1]} and {match[2]} ({match[1]} is joined with {names}{more})"
            )
        if match[3] is None and len(between) > 1:
            raise ValueError(
                f"{len(between)} cables join {match[1]} and {match[2]}, allowed: one of them, {name}#0 …"
            )
        number = int(match[3] or 0)
        if number >= len(between):
            raise ValueError(
                f"found cable {number} between {match[1]} and {match[2]}, allowed: 0 to {len(between) - 1}"
            )
        return 2 * between[number] + int(int(t.cable_a[between[number]]) != a)

    def links(self, event: FaultEvent, spec: TopologySpec) -> list[tuple[int, int]]:
        """Return (link, the one back) of each cable that an event is about."""
        if event.link is not None:
            chosen = [self.link(event.link)]
        elif event.node is not None:
            chosen = self.of_node(self.node(event.node), event.port, event.uplink)
        else:
            chosen = self._of_cube(event.cube or 0, spec)
        return [(link, link ^ 1) for link in chosen]

    def _of_cube(self, place: int, spec: TopologySpec) -> list[int]:
        """Return the links of the cables between routers that touch the cube at a place of a torus."""
        from fabricsim.topology.torus import Torus

        if not isinstance(spec, Torus):
            raise ValueError("allowed: with topology.kind = 'torus', made of cubes of 4 x 4 x 4 chips")
        cubes = spec.cubes()
        if place >= cubes.count:
            raise ValueError(f"found cube {place}, allowed: 0 to {cubes.count - 1}")
        t, of_chip = self.topology, cubes.of_chip()
        routers = np.flatnonzero(np.minimum(t.cable_a, t.cable_b) >= t.n_hosts)
        first, second = of_chip[t.cable_a[routers] - t.n_hosts], of_chip[t.cable_b[routers] - t.n_hosts]
        return [2 * int(c) for c in routers[(first == place) | (second == place)]]


def links_of(topology: Topology, text: str) -> str:
    """Return a message of the core with its ``link N`` replaced by the names of the links."""

    def name(match: re.Match[str]) -> str:
        link = int(match[1])
        return f"link {topology.link_name(link)}" if link < topology.n_links else match[0]

    return re.sub(r"\blink (\d+)\b", name, text)
