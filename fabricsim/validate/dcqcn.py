"""DCQCN as published: thresholds of the switch buffer, fairness, and the queue at its fixed point.

Sources: Zhu et al., "Congestion control for large-scale RDMA deployments", SIGCOMM 2015 (the algorithm,
section 4 on thresholds, figure 8 on fairness), and Zhu et al., "ECN or delay: lessons learnt from analysis of
DCQCN and TIMELY", CoNEXT 2016 (the fixed point).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fabricsim.errors import CheckError
from fabricsim.validate import check
from fabricsim.validate._worlds import bytes_sent, compile_star, first_times, start, uplinks

_PAPER = "Zhu et al., DCQCN, SIGCOMM 2015"
_FLUID = "Zhu et al., ECN or Delay, CoNEXT 2016: p = cbrt(R_AI N^2 / (t C^2) (1/B + N/(T C))^2), t = 50 us"

# The paper's switch: Trident II, 32 ports of 40 Gb/s, 12 MB, 8 classes, beta = 8.
_PORTS, _CLASSES, _BETA = 32, 8, 8
_BUFFER_KB, _FLIGHT_KB = 12_000.0, 22.4

_MS = 10**9
_ENDLESS = 1 << 40


def pfc_threshold_kb() -> float:
    """Return the static PFC threshold: what is left of the buffer beside the headroom, by port and class."""
    return (_BUFFER_KB - _CLASSES * _PORTS * _FLIGHT_KB) / (_CLASSES * _PORTS)


def ecn_threshold_kb() -> float:
    """Return the ECN threshold below which marking comes before PFC with dynamic PFC thresholds."""
    return _BETA * (_BUFFER_KB - _CLASSES * _PORTS * _FLIGHT_KB) / (_CLASSES * _PORTS * (_BETA + 1))


def _switch_of_the_paper(link: dict[str, Any], control: str = "dcqcn") -> Any:
    """The run of an incast of all ports but one, with cut-off marking at the ECN threshold."""
    mark = round(ecn_threshold_kb() * 1000)
    model = compile_star(
        _PORTS,
        "40Gbps",
        "1us",
        switch={"buffer_bytes": round(_BUFFER_KB * 1000), "ecn_kmin_bytes": mark, "ecn_kmax_bytes": mark + 1},
        link={"model": "pause", "headroom_bytes": round(_FLIGHT_KB * 1000), **link},
        transport={"mtu_bytes": 1024},
        congestion_control={"model": control},
    )
    return start(model, [(sender, 0, 1_000_000, 0) for sender in range(1, _PORTS)])


@check(
    "DCQCN t_PFC",
    configuration="Trident II, 32 x 40 Gb/s, 12 MB, 8 classes: (B - 8 n t_flight) / (8 n)",
    published=24.47,
    unit="KB",
    tolerance=0.001,
    source=_PAPER,
    kind="first-principles",
)
def t_pfc() -> float:
    """The paper's formula."""
    return pfc_threshold_kb()


@check(
    "DCQCN t_ECN",
    configuration="the same, beta 8: beta (B - 8 n t_flight) / (8 n (beta + 1))",
    published=21.75,
    unit="KB",
    tolerance=0.001,
    source=_PAPER,
    kind="first-principles",
)
def t_ecn() -> float:
    """The paper's formula."""
    return ecn_threshold_kb()


@check(
    "DCQCN thresholds: no drop",
    configuration="31 to 1 on that switch, XOFF at t_PFC, headroom t_flight: packets dropped",
    published=0,
    tolerance=0,
    source=_PAPER,
    kind="invariant",
)
def no_drop() -> float:
    """The emulated switch loses nothing with the paper's thresholds, though it pauses."""
    run = _switch_of_the_paper({"xoff_bytes": round(pfc_threshold_kb() * 1000)})
    run.step()
    totals = run.counters()
    if not totals["pfc_pauses"]:
        raise CheckError("no pause was sent: the thresholds were not tested")
    return float(totals["drops"])


@check(
    "DCQCN thresholds: ECN before PFC",
    configuration="31 to 1 at line rate, dynamic XOFF of beta 8: 1 if a pause comes before the first mark",
    published=0,
    tolerance=0,
    source=_PAPER,
    kind="invariant",
)
def ecn_before_pfc() -> float:
    """Senders heed no mark here, so that a pause must come; looked at every 0.2 us."""
    # beta/8 of the free buffer for one of the 8 classes: all of it.
    run = _switch_of_the_paper({"xoff_alpha_ppm": 1_000_000 * _BETA // _CLASSES}, "none")
    found = first_times(run, ("ecn_marks", "pfc_pauses"), 200_000, 20 * _MS)
    if "pfc_pauses" not in found:
        raise CheckError("no pause was sent: the thresholds were not tested")
    return float(found.get("ecn_marks", found["pfc_pauses"]) >= found["pfc_pauses"])


@lru_cache(maxsize=1)
def _four_senders() -> np.ndarray:
    """Rates in Gb/s of four senders to one receiver at 40 Gb/s, over 100 ms after 100 ms."""
    model = _at_40_gbps(4, kmax_kb=200, pmax_percent=1)
    run = start(model, [(sender, 0, _ENDLESS, 0) for sender in range(1, 5)])
    return bytes_sent(run, uplinks(model)[1:], 100 * _MS, 200 * _MS) * 8 / 0.1 / 1e9


def _at_40_gbps(senders: int, *, kmax_kb: int, pmax_percent: int) -> Any:
    """The paper's parameters; packets of 1000 bytes on the wire."""
    return compile_star(
        senders + 1,
        "40Gbps",
        "1us",
        switch={
            "buffer": "12MB",
            "ecn_kmin": "5KB",
            "ecn_kmax": f"{kmax_kb}KB",
            "ecn_pmax": f"{pmax_percent}%",
        },
        transport={"mtu_bytes": 1000 - 82, "ack_every_count": 64},
    )


@check(
    "DCQCN fairness: least share",
    configuration="4 senders to 1 at 40 Gb/s, parameters of the paper",
    published=10.0,
    unit="Gb/s",
    tolerance=0.1,
    source=f"{_PAPER}, figure 8",
    kind="first-principles",
)
def least_share() -> float:
    """The slowest of four."""
    return float(_four_senders().min())


@check(
    "DCQCN fairness: greatest share",
    configuration="the same",
    published=10.0,
    unit="Gb/s",
    tolerance=0.1,
    source=f"{_PAPER}, figure 8",
    kind="first-principles",
)
def greatest_share() -> float:
    """The fastest of four."""
    return float(_four_senders().max())


@check(
    "DCQCN fairness: Jain index",
    configuration="the same",
    published=0.99,
    tolerance=0,
    source=f"{_PAPER}, figure 8",
    kind="first-principles",
    sense="at least",
)
def jain_index() -> float:
    """The square of the sum over n times the sum of squares."""
    rates = _four_senders()
    return float(rates.sum() ** 2 / (len(rates) * (rates**2).sum()))


def mean_queue_kb(senders: int, *, kmax_kb: int, pmax_percent: int) -> float:
    """Return the time average of the bottleneck's queue in KB, from 100 to 200 ms."""
    model = _at_40_gbps(senders, kmax_kb=kmax_kb, pmax_percent=pmax_percent)
    run = start(model, [(sender, 0, _ENDLESS, 0) for sender in range(1, senders + 1)], record_packets=True)
    run.step(200 * _MS)
    seen = run.packets()
    seen = seen[seen["kind"] == 0]
    sent = uplinks(model)[1:]
    comes = np.isin(seen["link"], sent)
    delay_ps = int(model.topology.cable_delay_ps[0])
    # What has come to the switch less what has left it: the packet that is being sent counts.
    sample_ps = np.arange(100 * _MS, 199 * _MS, 2_000_000)

    def total(chosen: np.ndarray, shift_ps: int) -> np.ndarray:
        upto = np.searchsorted(seen["when_ps"][chosen] - shift_ps, sample_ps, side="right")
        return np.concatenate([[0], np.cumsum(seen["bytes"][chosen], dtype=np.int64)])[upto]

    return float((total(comes, 0) - total(~comes, delay_ps)).mean()) / 1000


@check(
    "DCQCN fixed point, 2 flows",
    configuration="mean queue; 40 Gb/s, packets of 1000 B, Kmin 5 KB, Kmax 200 KB, Pmax 1 %",
    published=23.0,
    unit="KB",
    tolerance=0.2,
    source=_FLUID,
    kind="analytic",
)
def queue_of_two() -> float:
    """Two flows stay on the sloped part of the marking curve."""
    return mean_queue_kb(2, kmax_kb=200, pmax_percent=1)


@check(
    "DCQCN fixed point, 10 flows",
    configuration="the same, the slope of marking continued to Kmax 785 KB, Pmax 4 %",
    published=158.0,
    unit="KB",
    tolerance=0.2,
    source=f"{_FLUID}. The formula knows the slope alone. With Kmax 200 KB the emulated queue swings past it:"
    " all packets are marked, all flows cut at once, and the mean queue is 65 KB",
    kind="analytic",
)
def queue_of_ten() -> float:
    """Ten flows, without the cliff at Kmax that a fluid at rest never meets."""
    return mean_queue_kb(10, kmax_kb=785, pmax_percent=4)
