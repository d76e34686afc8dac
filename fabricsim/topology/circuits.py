"""Top-of-rack switches joined by optical circuit switches that run through a schedule of circuits.

Sources: Mellette et al., "RotorNet: a scalable, low-complexity, optical datacenter network", SIGCOMM 2017 (a
round of matchings, slots with a dark time); Wang et al., "TopoOpt", NSDI 2023 (circuits for the traffic).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from fabricsim.errors import ConfigError
from fabricsim.fabrics.section import Issue, raise_issues, show
from fabricsim.topology.cabling import Cabling
from fabricsim.topology.model import CircuitSchedule, Topology
from fabricsim.topology.spec import Delay, Latency, Rate, RegularSpec, joints

__all__ = ["Circuits", "round_robin"]

Pair = tuple[int, int]
Rounds = tuple[tuple[Pair, ...], ...]

_FORM = (
    "allowed: a list of rounds, each a list of pairs of racks, such as [[[0, 1], [2, 3]], [[0, 2], [1, 3]]]"
)


def round_robin(n: int) -> Rounds:
    """Return rounds of pairs in which each of ``n`` meets each other once (the circle method).

    >>> round_robin(4)
    (((0, 3), (1, 2)), ((2, 3), (0, 1)), ((1, 3), (0, 2)))
    """
    seats = n + n % 2
    circle = list(range(seats - 1))
    rounds = []
    for _ in range(seats - 1):
        pairs = [(circle[0], seats - 1)]
        pairs += [(circle[i], circle[seats - 1 - i]) for i in range(1, seats // 2)]
        rounds.append(tuple((min(pair), max(pair)) for pair in pairs if max(pair) < n))
        circle = circle[-1:] + circle[:-1]
    return tuple(rounds)


class Circuits(RegularSpec):
    """Racks whose top-of-rack switches reach each other over circuits that come and go.

    Every pair of racks that ever has a circuit has a cable of its own, which carries packets while its
    circuit is lit. Time is cut into slots; in a slot each rack has at most ``uplinks`` circuits. A circuit is
    dark for ``dark_ps`` at the beginning of the first of the slots that it is lit in; one that is lit in
    every slot is never dark. Without ``rounds`` all racks meet in turn, ``uplinks`` matchings of a round
    robin in each slot.

    **Ports.** A rack's switch has its hosts, then its circuits by the other rack, then the spines.

    Parameters
    ----------
    racks, hosts_per_rack
        Numbers; racks 2 to 512. Host ``i`` is in rack ``i // hosts_per_rack``.
    uplinks
        Ports of a rack's switch to circuit switches, >= 1.
    slot_ps
        Length of a slot, ps.
    dark_ps
        How long a circuit is dark when it is set up, ps, less than a slot.
    rounds
        The circuits of each slot, as lists of pairs of racks; after the last slot comes the first.
    spines
        Electrical spines that join all racks at all times; default none.
    spine_rate_mbps
        Rate of a cable to a spine; default that of a circuit (``fabric_rate_mbps``, or ``rate_mbps``).

    >>> spec = Circuits(racks=4, hosts_per_rack=2, slot_ps=100, dark_ps=10, rate_mbps=1000, latency_ps=10)
    >>> t = spec.build()
    >>> t, t.circuits.first_ps.tolist()
    (Topology(circuits: 8 hosts, 4 switches, 14 cables), [110, 210, 10, 10, 210, 110])
    """

    summary: ClassVar[str] = "racks joined by optical circuits that follow a schedule"

    kind: Literal["circuits"] = "circuits"
    racks: Annotated[int, Field(ge=2, le=512)]
    hosts_per_rack: Annotated[int, Field(ge=1, le=1024)]
    uplinks: Annotated[int, Field(ge=1, le=512)] = 1
    slot_ps: Delay
    dark_ps: Latency
    rounds: Annotated[Rounds, Field(strict=False)] | None = None
    spines: Annotated[int, Field(ge=0, le=1024)] = 0
    spine_rate_mbps: Rate | None = None

    @field_validator("rounds", mode="before")
    @classmethod
    def _read_rounds(cls, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(f"found {show(value)}, {_FORM}")
        for i, pairs in enumerate(value):
            if not isinstance(pairs, (list, tuple)) or not all(_is_pair(pair) for pair in pairs):
                raise ValueError(f"round {i}: found {show(pairs)}, {_FORM}")
        return tuple(tuple((min(pair), max(pair)) for pair in pairs) for pairs in value)

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        issues: list[Issue] = []
        if self.dark_ps >= self.slot_ps:
            text = f"found {self.dark_ps}, allowed: less than a slot, {self.slot_ps} ps"
            issues.append((("dark",), text, self.dark_ps))
        issues += self._round_issues()
        raise_issues(type(self).__name__, issues)
        if self.rounds is not None:
            try:
                self.build()
            except ConfigError as error:
                raise_issues(type(self).__name__, [(("rounds",), p.message, None) for p in error.problems])
        return self

    def _round_issues(self) -> list[Issue]:
        issues: list[Issue] = []
        for number, pairs in enumerate(self.rounds or ()):
            wrong = [pair for pair in pairs if not 0 <= pair[0] < pair[1] < self.racks]
            twice = [pair for i, pair in enumerate(pairs) if pair in pairs[:i]]
            if wrong:
                text = f"found {list(wrong[0])}, allowed: two racks of 0 to {self.racks - 1}"
                issues.append((("rounds", number), text, None))
            elif twice:
                text = f"found {list(twice[0])} twice, allowed: one circuit between two racks"
                issues.append((("rounds", number), text, None))
            elif pairs:
                used = np.bincount(np.array(pairs).ravel(), minlength=self.racks)
                if used.max() > self.uplinks:
                    rack = int(used.argmax())
                    most = f"at most {self.uplinks} (uplinks)"
                    text = f"found {used[rack]} circuits of rack {rack}, allowed: {most}"
                    issues.append((("rounds", number), text, None))
        return issues

    @property
    def n_hosts(self) -> int:
        """Number of hosts."""
        return self.racks * self.hosts_per_rack

    def slots(self) -> Rounds:
        """Return the circuits of each slot: the given rounds, or matchings of a round robin."""
        if self.rounds is not None:
            return self.rounds
        matchings = round_robin(self.racks)
        parts = [matchings[i : i + self.uplinks] for i in range(0, len(matchings), self.uplinks)]
        return tuple(tuple(pair for matching in part for pair in matching) for part in parts)

    def build(self) -> Topology:
        """Make the flat arrays; see ``Topology``."""
        hosts, slots, cables = self.n_hosts, self.slots(), Cabling()
        host_rate, rate = self.rates_mbps()
        rack = np.arange(hosts, dtype=np.int32) // self.hosts_per_rack
        cables.add(np.arange(hosts), hosts + rack, host_rate, self.latency_ps)
        pairs = sorted({pair for pairs in slots for pair in pairs})
        ends = np.array(pairs, np.int32).reshape(-1, 2)
        cables.add(hosts + ends[:, 0], hosts + ends[:, 1], rate, self.latency_ps)
        a, b = joints(hosts, self.racks, hosts + self.racks, self.spines)
        cables.add(a, b, self.spine_rate_mbps or rate, self.latency_ps)
        names = [f"host{i}" for i in range(hosts)] + [f"rack{i}" for i in range(self.racks)]
        names += [f"spine{i}" for i in range(self.spines)]
        switches = self.racks + self.spines
        latencies = self.node_latency_ps(hosts, switches)
        schedule = self._schedule(slots, {pair: hosts + i for i, pair in enumerate(pairs)})
        return cables.topology(self.kind, hosts, switches, hosts, latencies, names, schedule)

    def _schedule(self, slots: Rounds, cable: dict[Pair, int]) -> CircuitSchedule:
        """Return when each circuit lights: a row for each run of slots in which a pair stays joined."""
        count, rows = len(slots), []
        lit: dict[Pair, set[int]] = {pair: set() for pair in cable}
        for number, pairs in enumerate(slots):
            for pair in pairs:
                lit[pair].add(number)
        period_ps = count * self.slot_ps
        for pair, numbers in lit.items():
            if len(numbers) == count:
                rows.append((cable[pair], 0, period_ps, period_ps))
                continue
            for first in sorted(n for n in numbers if (n - 1) % count not in numbers):
                length = next(k for k in range(1, count) if (first + k) % count not in numbers)
                up_ps = length * self.slot_ps - self.dark_ps
                rows.append((cable[pair], first * self.slot_ps + self.dark_ps, up_ps, period_ps))
        return CircuitSchedule(*np.array(rows, np.int64).reshape(-1, 4).T)


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        return False
    return all(isinstance(rack, int) and not isinstance(rack, bool) for rack in pair)
