"""Completion times that other simulators give, with what those simulators count and leave out."""

from __future__ import annotations

import statistics
from functools import lru_cache

from fabricsim.cluster import Cluster
from fabricsim.program import compile
from fabricsim.validate import check
from fabricsim.validate._worlds import compile_star, start
from fabricsim.workload.rows import Rows

_NS3 = "alibaba-edu/High-Precision-Congestion-Control @ 9f4be2a (ns-3.17), DCQCN"
_NS3_HPCC = "the same simulator, HPCC without fast reaction, W_AI of 40 Mb/s"
_ASTRA = "astra-sim/astra-sim @ 518bd51, congestion-aware analytical back end, Ring_4chunks.json"
_SEEDS = 16


# Its T is 12 us of links and six times 80 ns; 14 bytes pad an acknowledgement that has no telemetry.
_HPCC = (
    "link.model=lossy",
    "transport.ack=46B",
    "congestion_control.model=hpcc",
    "congestion_control.base_rtt=12.48us",
    "congestion_control.ai=62B",
    "congestion_control.max_stage=0",
    "congestion_control.fast_react=false",
    "congestion_control.min_rate=1Gbps",
)


def _crosscheck_us(
    flows: list[tuple[int, int, int, int]], seed: int = 1, overrides: tuple[str, ...] = ()
) -> float:
    """Return the completion time of the last flow, in us, on the preset made after that simulator."""
    cluster = Cluster.from_toml("fat-tree-k4-100g-roce-hpcc", overrides)
    run = start(compile(cluster), flows, seed=seed)
    run.step()
    sends = run.sends()
    return int((sends["end_ps"] - sends["start_ps"]).max()) / 1e6


@check(
    "RoCE ns-3 cross-check, one flow",
    configuration="fat-tree k = 4, 100 Gb/s, 1 us a link, 1 MB over 6 links, 1000 B packets",
    published=95.44,
    unit="us",
    tolerance=0.02,
    source=f"{_NS3}; it cuts the 83.84 ns of a packet to 83 ns, which is 0.9 % of the time",
    kind="simulator",
)
def ns3_one_flow() -> float:
    """Without congestion: serialisation, propagation and the acknowledgement."""
    return _crosscheck_us([(0, 15, 1_000_000, 0)], 1)


@check(
    "RoCE ns-3 cross-check, 2 to 1",
    configuration=f"the same, two of 5 MB into one host: the last; mean of {_SEEDS} seeds",
    published=1275.5,
    unit="us",
    tolerance=0.1,
    source=f"{_NS3}; one run there, while marking is random: seeds give 1150 to 1480 us here",
    kind="simulator",
)
def ns3_two_to_one() -> float:
    """With the simulator's own DCQCN parameters."""
    flows = [(1, 0, 5_000_000, 0), (8, 0, 5_000_000, 0)]
    return statistics.fmean(_crosscheck_us(flows, seed) for seed in range(1, _SEEDS + 1))


@check(
    "RoCE ns-3 cross-check, one flow, HPCC",
    configuration="the same, 1 MB, 1090 B on the wire with telemetry",
    published=103.86,
    unit="us",
    tolerance=0.02,
    source=_NS3_HPCC,
    kind="simulator",
)
def ns3_hpcc_one_flow() -> float:
    """A flow alone steers itself to 95 % of the line."""
    return _crosscheck_us([(0, 15, 1_000_000, 0)], overrides=_HPCC)


@check(
    "RoCE ns-3 cross-check, 2 to 1, HPCC",
    configuration="the same, two of 5 MB into one host: the last",
    published=938.5,
    unit="us",
    tolerance=0.1,
    source=f"{_NS3_HPCC}; its first flow ends at 866.8 us, here at 620: shares differ, their sum does not",
    kind="simulator",
)
def ns3_hpcc_two_to_one() -> float:
    """Both start at line rate and share 95 % of it."""
    return _crosscheck_us([(1, 0, 5_000_000, 0), (8, 0, 5_000_000, 0)], overrides=_HPCC)


@check(
    "uet-htsim one flow",
    configuration="2 MB over 6 links of 100 Gb/s and 1 us, frames of 4150 B (64 of headers)",
    published=176.2,
    unit="us",
    tolerance=0.01,
    source="Broadcom/csg-htsim, UET with NSCC on a fat-tree; closed form 176.4",
    kind="simulator",
)
def htsim_one_flow() -> float:
    """Store and forward over six links, and a 64-byte acknowledgement."""
    transport = {
        "mtu_bytes": 4150 - 64,
        "header_bytes": 64,
        "first_header_bytes": 0,
        "ack_bytes": 64,
        "min_wire_bytes": 64,
    }
    topology = {"kind": "fat_tree", "k": 4, "rate": "100Gbps", "latency": "1us"}
    cluster = Cluster.from_dict({"name": "htsim", "topology": topology, "transport": transport})
    run = start(compile(cluster), [(0, 15, 2_000_000, 0)])
    run.step()
    return int(run.sends()["end_ps"][0]) / 1e6


@lru_cache(maxsize=2)
def _astra_ring_us(npus: int) -> float:
    """Return the time in us of four all-reduces of 256 KiB, one after another, on a ring of NPUs.

    That simulator has no packets, headers or acknowledgements: here the largest packets, the least headers
    and a cut-through star, in which a ring's messages never share a link. The two cables of a path are its
    one link; 10 ns are its endpoint delay. Its passes over local memory (1600 GB/s) are left out:
    2.7 % of its time on 8 NPUs, 0.6 % on 64.
    """
    model = compile_star(
        npus,
        "50GiB/s",
        "250ns",
        switch={"cut_through": True, "ecn": False},
        transport={
            "mtu_bytes": 16384,
            "header_bytes": 20,
            "first_header_bytes": 0,
            "min_wire_bytes": 20,
            "ack_bytes": 20,
        },
        congestion_control={"model": "none"},
        collectives={"all_reduce": "ring", "ring": {"step": "10ns"}},
    )
    rows = Rows(generator="fabricsim.validate")
    for chunk in range(4):
        rows.add("all_reduce", range(npus), bytes=1 << 18, stream=0, step=chunk)
    run = start(model, rows.trace())
    run.step()
    return int(run.ops()["end_ps"].max()) / 1e6


@check(
    "ASTRA-sim ring all-reduce, 8 NPUs",
    configuration="1 MiB, 50 GiB/s, 500 ns, 4 chunks one after another",
    published=64.44,
    unit="us",
    tolerance=0.05,
    source=_ASTRA,
    kind="simulator",
)
def astra_8() -> float:
    """56 steps of 32 KiB."""
    return _astra_ring_us(8)


@check(
    "ASTRA-sim ring all-reduce, 64 NPUs",
    configuration="the same",
    published=296.896,
    unit="us",
    tolerance=0.05,
    source=_ASTRA,
    kind="simulator",
)
def astra_64() -> float:
    """504 steps of 4 KiB."""
    return _astra_ring_us(64)
