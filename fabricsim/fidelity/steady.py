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

#: Looks at the links are at these times after the launch: the first, then later by this factor each time.
FIRST_LOOK_PS = 20 * us
LATER = (7, 5)
#: The first look is late enough for so many packets on the slowest loaded link.
LEAST_PACKETS = 256
#: The traffic is steady when so many looks in a row foretell the same end, but for this share ...
LOOKS = 4
STEADY = 0.002
#: ... and the longest queue has not grown by more than this share over them, or is shorter than so many
#: packets: no buffer fills up that will make itself felt when it is full.
GROWN = 0.1
SHORT_PACKETS = 32
#: A link counts when it is busy for at least this share of what the busiest one is.
COUNTS = 0.05
#: Where pauses hold links up, the last ones are held up no more once this share of all is through.
THROUGH = 0.75


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
    total, packets = np.zeros(len(rate_mbps)), np.zeros(len(rate_mbps))
    np.add.at(total, loads.link, loads.bytes)
    np.add.at(packets, loads.link, loads.packets)
    busy = total * 8e6 / rate_mbps
    counted = np.flatnonzero(busy >= COUNTS * max(float(busy.max(initial=0.0)), 1.0))
    watch = _Watch(run, total[counted], packets[counted], counted, ack_bytes, rate_mbps)
    after_ps = max(FIRST_LOOK_PS, watch.least_ps())
    looks: list[_Look] = []
    while not step_to(run, launch_ps + after_ps):
        looks.append(watch.look(launch_ps + after_ps, tail_ps))
        if told is not None:
            told(int(run.counters()["packet_hops"]))
        apart = _apart(looks[-LOOKS:])
        if apart <= STEADY:
            found = _by_group(loads, counted, looks[-1].end, n_groups, len(rate_mbps))
            return Emulated(found, launch_ps + after_ps, int(run.counters()["packet_hops"]), apart)
        after_ps = after_ps * LATER[0] // LATER[1]
    counters = run.counters()
    instances = run.ops()
    taken = (instances["end_ps"] - instances["start_ps"]).reshape(n_groups, -1).max(axis=1)
    return Emulated(taken.astype(np.int64), int(counters["end_ps"]), int(counters["packet_hops"]), 0.0)


@dataclass(frozen=True, slots=True)
class _Look:
    """When each link that counts will be through, and the longest queue so far, in packets."""

    end: Floats
    last: float
    queue: float


class _Watch:
    """Looks at the links again and again and foretells their ends."""

    def __init__(
        self,
        run: Any,
        total: Floats,
        packets: Floats,
        counted: Ints,
        ack_bytes: Ints,
        rate_mbps: Ints,
    ) -> None:
        self.run, self.total, self.counted = run, total, counted
        self.size = total / np.maximum(packets, 1.0)
        self.ack_bytes = ack_bytes[counted]
        self.ps_per_byte = 8e6 / rate_mbps[counted]
        self.at_ps, self.done, self.pauses = 0, np.zeros(len(counted)), 0

    def least_ps(self) -> int:
        """Return the time of the least packets on the slowest link."""
        return int((LEAST_PACKETS * self.size * self.ps_per_byte).max(initial=0.0))

    def look(self, at_ps: int, tail_ps: Ints) -> _Look:
        links, pauses = self.run.links(), int(self.run.counters()["pfc_pauses"])
        # Acknowledgements are packets of a known size: what is left is data.
        data = links["bytes"][self.counted] - self.ack_bytes * links["packets"][self.counted]
        done = data * self.size / np.maximum(self.size - self.ack_bytes, 1.0)
        left = np.maximum(self.total - done, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            end = at_ps + np.where(left > 0, left * (at_ps - self.at_ps) / (done - self.done), 0.0)
        if pauses > self.pauses and len(end):
            through = np.sort(end)[int(THROUGH * (len(end) - 1))]
            late = np.isfinite(end) & (end > through)
            share = (end[late] - through) / (end[late] - at_ps)
            end[late] = through + share * left[late] * self.ps_per_byte[late]
        end = end + tail_ps[self.counted]
        self.at_ps, self.done, self.pauses = at_ps, done, pauses
        queue = float(links["max_queue_bytes"].max()) / max(float(self.size.max(initial=1.0)), 1.0)
        return _Look(end, float(end.max()) if len(end) else np.inf, queue)


def _apart(looks: list[_Look]) -> float:
    """Return by how much looks differ in what they foretell; infinity while the traffic changes."""
    last = [look.last for look in looks]
    if len(last) < LOOKS or not np.isfinite(last).all():
        return float(np.inf)
    if looks[-1].queue > max(looks[0].queue * (1 + GROWN), SHORT_PACKETS):
        return float(np.inf)
    return (max(last) - min(last)) / last[-1]


def _by_group(loads: Loads, counted: Ints, end: npt.NDArray[Any], n_groups: int, n_links: int) -> Ints:
    """Return when each group ends: when the last of its links is through."""
    by_link = np.zeros(n_links)
    by_link[counted] = end
    found = np.zeros(n_groups)
    np.maximum.at(found, loads.group, by_link[loads.link])
    return np.ceil(found).astype(np.int64)
