"""Runs one pattern in packet detail at growing sizes until its time grows in proportion, and extrapolates.

For algorithms whose traffic changes on the way (an all-to-all that begins inside nodes, trees that fill and
drain): the part that changes is in every size, and what is added from size to size is the steady part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fabricsim.fidelity.steady import Emulated
from fabricsim.fidelity.stepping import step_to

__all__ = ["run_growing"]

#: The first size: so many units, and this share of the whole size at least.
FIRST_UNITS, FIRST_SHARE = 4, 128
#: Successive slopes foretell the same time at full size, but for this share.
STEADY = 0.004
#: Time cannot grow more slowly than the busiest link does; by so much, for the ends of trains of packets.
BOUND = 1.01


def run_growing(
    start: Callable[[int], Any],
    *,
    n_groups: int,
    units: int,
    told: Callable[[int], None] | None = None,
) -> Emulated:
    """Run a pattern of one row of a collective.

    Parameters
    ----------
    start
        Makes a fresh ``engine.Run`` of the row at a size of so many units.
    n_groups
        Groups of equal length that the ranks of the row are taken in.
    units
        The whole size: rounds of chunks, or packets of each message.
    told
        Called with the packet-hops so far.
    """
    hops = 0
    size = max(FIRST_UNITS, units // FIRST_SHARE)
    sizes: list[int] = []
    times: list[np.ndarray] = []
    busy: list[np.ndarray] = []
    whole: list[np.ndarray] = []
    while True:
        # The last sizes before the whole would cost more than they save.
        size = size if 4 * size <= units else units
        run = start(size)
        step_to(run)
        counters = run.counters()
        hops += int(counters["packet_hops"])
        if told is not None:
            told(hops)
        instances = run.ops()
        times.append((instances["end_ps"] - instances["start_ps"]).reshape(n_groups, -1).max(axis=1))
        if size == units:
            return Emulated(times[-1].astype(np.int64), int(times[-1].max()), hops, 0.0)
        sizes.append(size)
        busy.append(run.links()["busy_ps"].astype(np.float64))
        if len(sizes) > 1:
            grown = times[-1] - times[-2]
            slope = grown / (sizes[-1] - sizes[-2])
            whole.append(times[-1] + slope * (units - size))
            bound = float((busy[-1] - busy[-2]).max())
            apart = np.abs(whole[-1] / whole[-2] - 1).max() if len(whole) > 1 else np.inf
            if apart <= STEADY and bound <= BOUND * float(grown.max()):
                found = np.ceil(whole[-1]).astype(np.int64)
                return Emulated(found, int(times[-1].max()), hops, float(apart))
        size *= 2
