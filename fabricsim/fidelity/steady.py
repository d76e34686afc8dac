"""Runs one pattern in packet detail until its traffic is steady, and works out from it when it ends.

A collective of some size sends the same pattern of messages again and again: after a few chunks every link
carries bytes at a rate that no longer changes. What each link has to carry in all is known, so the end
follows from what is left and the rates. The run is at full size: nothing is scaled, chunks and channels are
those of the whole operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fabricsim.fidelity.stepping import step_to
from fabricsim.units import us

__all__ = ["Emulated", "Loads", "run_steady"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Looks at the links are at these times after the launch: the first, then twice as late each time.
FIRST_LOOK_PS = 20 * us
#: The first look is late enough for so many packets on the slowest loaded link.
LEAST_PACKETS = 256
#: The traffic is steady when three looks in a row foretell the same end, but for this share.
STEADY = 0.002
#: A link counts when it is busy for at least this share of what the busiest one is.
COUNTS = 0.05


@dataclass(frozen=True, slots=True)
class Loads:
    """What groups put on links: data packets with their headers, without acknowledgements.

    Parameters
    ----------
    group, link
        int64[n]
    bytes, packets
        int64[n], of that group on that link.
    """

    group: Ints
    link: Ints
    bytes: Ints
    packets: Ints


@dataclass(frozen=True, slots=True)
class Emulated:
    """What a pattern takes.

    Parameters
    ----------
    time_ps
        int64[groups], from the start to the end of its last rank.
    until_ps
        How far the packets were emulated.
    packet_hops
        Packets that crossed a link, as counted.
    error
        By how much the last foretold ends differ, as a share; 0 when the run went to its end.
    """

    time_ps: Ints
    until_ps: int
    packet_hops: int
    error: float


def run_steady(
    run: Any,
    loads: Loads,
    *,
    n_groups: int,
    rate_mbps: Ints,
    ack_bytes: Ints,
    launch_ps: int,
    tail_ps: Ints,
    told: Callable[[int], None] | None = None,
) -> Emulated:
    """Run a pattern of one row of a collective.

    Parameters
    ----------
    run
        A fresh ``engine.Run`` of a program of that row alone.
    loads
        What its groups have to carry.
    n_groups
        Groups of equal length that the ranks of the row are taken in.
    rate_mbps, ack_bytes
        int64[links]: rates, and the wire bytes of an acknowledgement.
    launch_ps
        When the first message is sent.
    tail_ps
        int64[links], from the last byte on a link to the end of an operation that waits for it.
    told
        Called with the packet-hops so far.
    """
    total = np.zeros(len(rate_mbps))
    packets = np.zeros(len(rate_mbps))
    np.add.at(total, loads.link, loads.bytes)
    np.add.at(packets, loads.link, loads.packets)
    busy = total * 8e6 / rate_mbps
    counted = np.flatnonzero(busy >= COUNTS * max(float(busy.max(initial=0.0)), 1.0))
    size = total[counted] / np.maximum(packets[counted], 1.0)
    whole = size / np.maximum(size - ack_bytes[counted], 1.0)

    def carried() -> Floats:
        found = run.links()
        data = found["bytes"][counted] - ack_bytes[counted] * found["packets"][counted]
        return np.asarray(data * whole, np.float64)

    first_ps = FIRST_LOOK_PS
    if len(counted):
        first_ps = max(first_ps, int((LEAST_PACKETS * size * 8e6 / rate_mbps[counted]).max()))
    at_ps, before_ps, before = launch_ps + first_ps, 0, np.zeros(len(counted))
    ends: list[float] = []
    while not step_to(run, at_ps):
        now = carried()
        hops = int(run.counters()["packet_hops"])
        if told is not None:
            told(hops)
        left = np.maximum(total[counted] - now, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            more = np.where(left > 0, left * (at_ps - before_ps) / (now - before), 0.0)
        end = at_ps + more + tail_ps[counted]
        ends.append(float(end.max()) if len(end) else np.inf)
        if len(ends) > 2 and max(_apart(ends[-1], ends[-2]), _apart(ends[-2], ends[-3])) <= STEADY:
            return Emulated(
                _by_group(loads, counted, end, n_groups, len(rate_mbps)),
                at_ps,
                hops,
                max(_apart(ends[-1], ends[-2]), _apart(ends[-2], ends[-3])),
            )
        before_ps, before = at_ps, now
        at_ps = launch_ps + 2 * (at_ps - launch_ps)
    counters = run.counters()
    instances = run.ops()
    taken = (instances["end_ps"] - instances["start_ps"]).reshape(n_groups, -1).max(axis=1)
    return Emulated(taken.astype(np.int64), int(counters["end_ps"]), int(counters["packet_hops"]), 0.0)


def _apart(a: float, b: float) -> float:
    return abs(a - b) / a if np.isfinite(a) and np.isfinite(b) else np.inf


def _by_group(loads: Loads, counted: Ints, end: npt.NDArray[Any], n_groups: int, n_links: int) -> Ints:
    """Return when each group ends: when the last of its links is through."""
    by_link = np.zeros(n_links)
    by_link[counted] = end
    found = np.zeros(n_groups)
    np.maximum.at(found, loads.group, by_link[loads.link])
    return np.ceil(found).astype(np.int64)
