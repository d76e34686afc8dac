"""Storage against published and measured cases: bounds, one slow target, locks, a checkpoint's time.

Packets travel in trains of 15 here (``transport.train``): storage moves many of them, and what is checked
does not depend on single ones; tests compare both.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fabricsim._core import engine
from fabricsim.cluster import Cluster
from fabricsim.program import build_program, compile
from fabricsim.trace import Trace
from fabricsim.validate import check
from fabricsim.workload.rows import Rows

_GB = 1_000_000_000
_MIB = 1 << 20
_TRAINS = {"train_count": 15}


def _cluster(ranks: int, rate: str, storage: dict[str, Any], **sections: Any) -> Cluster:
    """Ranks and servers around one switch."""
    return Cluster.from_dict(
        {
            "name": "storage",
            "topology": {"kind": "star", "hosts": ranks, "rate": rate, "latency": "500ns"},
            "transport": _TRAINS,
            "link": {"model": "pause", "xoff_bytes": 2_000_000, "headroom_bytes": 1_000_000},
            "switch": {"buffer_bytes": 4_000_000_000, "ecn": False},
            "congestion_control": {"model": "none"},
            "storage": [{"attach": "*", "latency": "500ns"} | storage],
            **sections,
        }
    )


def _run(cluster: Cluster, trace: Trace, **options: Any) -> Any:
    """Run a trace to its end, and check that nothing is left."""
    program = build_program(compile(cluster), trace)
    run = engine.Run(program.model.engine, program.engine, **options)
    run.step()
    run.check()
    return run


# ---- many clients, few servers ------------------------------------------------------------------------

_OSS, _OST, _CLIENTS, _EACH = 4, 4, 64, 1 << 30
_OST_BYTES_PER_S = 5 * _GB


@check(
    "One OSS bound",
    configuration="64 clients write 1 GiB each to 4 OSS of 4 OST of 5 GB/s, stripes of 4 MiB over all",
    published=_OSS * _OST * _OST_BYTES_PER_S / _GB,
    unit="GB/s",
    tolerance=0.02,
    source="the bound; SimGrid's disks reach 79.9 GB/s in the same case",
    kind="storage",
)
def oss_bound() -> float:
    """Bytes over the time until the last has been committed."""
    storage = {
        "servers": _OSS,
        "targets_per_server": _OST,
        "rate": "400Gbps",
        "stripe_count": _OSS * _OST,
        "stripe_size": "4MiB",
        "target": {"write": f"{_OST_BYTES_PER_S * 8 // 1_000_000}Mbps"},
    }
    rows = Rows()
    ranks = list(range(_CLIENTS))
    rows.open(ranks, "/out.{rank}", create=True, stream=0)
    rows.write(ranks, "/out.{rank}", _EACH, direct=True, stream=0)
    run = _run(_cluster(_CLIENTS, "100Gbps", storage), rows.trace())
    return _CLIENTS * _EACH / (run.counters()["end_ps"] / 1e12) / _GB


# ---- one slow target ----------------------------------------------------------------------------------

_EDISON = "NERSC Edison, IOR of 2,048 ranks, an example log of PyDarshan"
_EDISON_STATUS = "calibrated: the rates of a healthy target (the median) and of the slow one (the job)"
_EDISON_RANKS, _EDISON_OSTS, _SLOW = 2048, 24, 14
_FILE = 256 * _MIB
#: Two rates are fitted, in bytes a second: of 23 targets on the median of their ranks, of one on the job.
_HEALTHY, _SLOW_RATE = 1_850_000_000, 29_250_000


@cache
def _edison() -> tuple[np.ndarray, np.ndarray, float]:
    """Seconds that each rank wrote for, its target, and seconds that the job took."""
    storage = {
        "servers": _EDISON_OSTS,
        "rate": "54Gbps",
        "stripe_count": 1,
        "stripe_size": "1MiB",
        "target": {"write": f"{_HEALTHY * 8 // 1_000_000}Mbps"},
        "slow": [{"target": _SLOW, "at": "0s", "factor": _SLOW_RATE / _HEALTHY}],
    }
    rows = Rows()
    ranks = list(range(_EDISON_RANKS))
    rows.open(ranks, "/scratch/testFile.{rank}", create=True, stream=0)
    write = rows.write(ranks, "/scratch/testFile.{rank}", _FILE, stream=0)
    rows.add("fsync", ranks, file="/scratch/testFile.{rank}", stream=0)
    run = _run(_cluster(_EDISON_RANKS, "10Gbps", storage), rows.trace(), record_rpcs=True)
    rpcs, ops = run.rpcs(), run.ops()
    writes = rpcs["kind"] == engine.RPC_KINDS.index("write")
    target = np.zeros(_EDISON_RANKS, np.int64)
    target[rpcs["rank"][writes]] = rpcs["target"][writes]
    seconds = np.zeros(_EDISON_RANKS)
    mine = ops["row"] == write
    seconds[ops["rank"][mine]] = (ops["end_ps"][mine] - ops["start_ps"][mine]) / 1e12
    return seconds, target, run.counters()["end_ps"] / 1e12


def _healthy(share: float) -> float:
    seconds, target, _ = _edison()
    return float(np.quantile(seconds[target != _SLOW], share))


_CASE = {"source": _EDISON, "kind": "storage", "unit": "s", "status": _EDISON_STATUS}


@check("Slow OST, job", configuration="the whole job", published=780, tolerance=0.03, **_CASE)
def slow_job() -> float:
    """The time until every rank's data is there."""
    return _edison()[2]


@check(
    "Slow OST, the others' median",
    configuration="time in write, ranks of the other 23 targets",
    published=11.28,
    tolerance=0.10,
    **_CASE,
)
def others_median() -> float:
    """The median of the ranks whose target is healthy."""
    return _healthy(0.5)


@check(
    "Slow OST, the others' 95th percentile",
    configuration="time in write, ranks of the other 23 targets",
    published=14.40,
    tolerance=0.10,
    **_CASE,
)
def others_95() -> float:
    """The slow ones among the ranks whose target is healthy."""
    return _healthy(0.95)
