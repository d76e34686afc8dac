"""Any topology, as an explicit list of cables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from fabricsim.errors import unknown_name
from fabricsim.fabrics.parameters import UNITS
from fabricsim.fabrics.section import Issue, raise_issues, show
from fabricsim.topology.cabling import SCALE_OUT, SCALE_UP
from fabricsim.topology.model import Topology, cable_problems
from fabricsim.topology.spec import MAX_HOSTS, Delay, Rate, TopologySpec

__all__ = ["Links", "unchecked"]

Names = Annotated[tuple[str, ...], Field(strict=False)]
Cable = tuple[str, str, int | None, int | None]

_FORM = 'allowed: [node, node, rate, delay], such as ["h0", "s0", "100Gbps", "1us"]'


def unchecked(**arrays: Any) -> Topology:
    """Make a Topology without its checks, so that ``cable_problems`` can tell all faults with their place."""
    t = object.__new__(Topology)
    n_hosts = arrays["n_hosts"]
    known = {"cable_network": np.zeros(len(arrays["cable_a"]), np.int8)}
    known |= {"reducer_first": n_hosts, "storage_first": n_hosts}
    for name, value in (known | arrays).items():
        object.__setattr__(t, name, value)
    return t


class Links(TopologySpec):
    """Hosts, switches and cables, one by one.

    Parameters
    ----------
    hosts, switches
        Either a number (named ``h0``, ``h1`` ... and ``s0``, ``s1`` ...) or a list of names.
    cables
        Each [node, node, rate, delay]; the rate (``"100Gbps"`` or Mb/s) and the delay (``"1us"`` or ps) can
        be left out where ``rate`` and ``latency`` give them for all. The order is the port order.
    scale_up_cables
        The cables of the scale-up network, in the same form; a switch has cables of one network only.
    rate_mbps, latency_ps
        Rate and delay of the cables that do not give their own.

    >>> cables = [["h0", "s0"], ["h1", "s0", "40Gbps"]]
    >>> Links(hosts=2, switches=1, cables=cables, rate_mbps=100_000, latency_ps=1000).build()
    Topology(links: 2 hosts, 1 switches, 2 cables)
    """

    summary: ClassVar[str] = "an explicit list of cables"

    kind: Literal["links"] = "links"
    hosts: Annotated[int, Field(ge=1, le=MAX_HOSTS)] | Names
    switches: Annotated[int, Field(ge=0, le=MAX_HOSTS)] | Names
    cables: Annotated[tuple[Cable, ...], Field(strict=False)]
    scale_up_cables: Annotated[tuple[Cable, ...], Field(strict=False)] = ()
    rate_mbps: Rate | None = None
    latency_ps: Delay | None = None

    @field_validator("hosts", "switches", mode="before")
    @classmethod
    def _number_or_names(cls, value: Any) -> Any:
        names = isinstance(value, (list, tuple)) and all(isinstance(v, str) and v for v in value)
        if names and len(set(value)) == len(value) and value:
            return tuple(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValueError(f"found {show(value)}, allowed: a number of nodes or a list of different names")

    @field_validator("cables", "scale_up_cables", mode="before")
    @classmethod
    def _read_cables(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"found {show(value)}, allowed: a list of cables")
        issues: list[Issue] = []
        cables = []
        for i, cable in enumerate(value):
            try:
                cables.append(_read_cable(cable))
            except ValueError as error:
                issues.append(((i,), str(error), cable))
        raise_issues(cls.__name__, issues)
        return tuple(cables)

    @model_validator(mode="after")
    def _check_cables(self) -> Self:
        self._arrays()
        return self

    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the hosts and of the switches."""
        hosts, switches = self.hosts, self.switches
        return (
            hosts if isinstance(hosts, tuple) else tuple(f"h{i}" for i in range(hosts)),
            switches if isinstance(switches, tuple) else tuple(f"s{i}" for i in range(switches)),
        )

    def _arrays(self) -> dict[str, Any]:
        hosts, switches = self.names()
        ids: dict[str, int] = {}
        issues: list[Issue] = []
        for i, name in enumerate(hosts + switches):
            if ids.setdefault(name, i) != i:
                issues.append((("switches",), f"found {name!r}, which names a host too", name))
        cables = self.cables + self.scale_up_cables
        places = [("cables", i) for i in range(len(self.cables))]
        places += [("scale_up_cables", i) for i in range(len(self.scale_up_cables))]
        ends = np.zeros((len(cables), 2), np.int32)
        numbers = np.zeros((len(cables), 2), np.int64)
        for i, (a, b, rate, delay) in enumerate(cables):
            for side, name in enumerate((a, b)):
                if name in ids:
                    ends[i, side] = ids[name]
                else:
                    near = list(ids) if len(ids) <= 50 else [n for n in ids if n[:1] == name[:1]][:50]
                    issues.append((places[i], unknown_name("node", name, near), name))
            given = (rate, self.rate_mbps, "rate"), (delay, self.latency_ps, "latency")
            for side, (own, common, key) in enumerate(given):
                number = own if own is not None else common
                if number is None:
                    text = f"cable {i} ({a} - {b}) has no {key}; allowed: its own, or {key} for all cables"
                    issues.append((places[i], text, None))
                else:
                    numbers[i, side] = number
        raise_issues("Links", issues)
        arrays: dict[str, Any] = {
            "kind": self.kind,
            "n_hosts": len(hosts),
            "n_switches": len(switches),
            "cable_a": ends[:, 0].copy(),
            "cable_b": ends[:, 1].copy(),
            "cable_rate_mbps": numbers[:, 0].copy(),
            "cable_delay_ps": numbers[:, 1].copy(),
            "node_latency_ps": self.node_latency_ps(len(hosts), len(switches)),
            "node_names": hosts + switches,
            "cable_network": np.repeat(
                np.array([SCALE_OUT, SCALE_UP], np.int8), [len(self.cables), len(self.scale_up_cables)]
            ),
        }
        faults = cable_problems(unchecked(**arrays))
        raise_issues("Links", [(("cables",) if i is None else places[i], text, None) for i, text in faults])
        return arrays

    def build(self) -> Topology:
        """Make the flat arrays; see ``Topology``."""
        return Topology(**self._arrays())


def _read_cable(cable: Any) -> Cable:
    if isinstance(cable, str) or not isinstance(cable, Sequence) or not 2 <= len(cable) <= 4:
        raise ValueError(f"found {show(cable)}, {_FORM}")
    a, b, rate, delay = [*cable, None, None][:4]
    if not (isinstance(a, str) and isinstance(b, str)):
        raise ValueError(f"found {show(cable)}, {_FORM}")
    rate = _read_number(rate, "mbps", 100_000_000, "rate")
    delay = _read_number(delay, "ps", 1_000_000_000_000, "delay")
    return a, b, rate, delay


def _read_number(value: Any, unit: str, most: int, what: str) -> int | None:
    if value is None:
        return None
    number = value
    if isinstance(value, bool) or not isinstance(value, int):
        number = UNITS[unit].parse(value)
    if not 0 < number <= most:
        raise ValueError(f"found {what} {value!r}, allowed: a {what} > 0 and <= {UNITS[unit].show(most)}")
    return number
