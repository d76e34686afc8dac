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
#: Trains of 15 packets, and buffers that hold them.
_COARSE = ("transport.train=15", "transport.ack_every=16", "switch.buffer=4GB", "link.xoff=30MB")


def _cluster(ranks: int, rate: str, storage: dict[str, Any], **sections: Any) -> Cluster:
    """Ranks and servers around one switch."""
    return Cluster.from_dict(
        {
            "name": "storage",
            "topology": {"kind": "star", "hosts": ranks, "rate": rate, "latency": "500ns"},
            "link": {"model": "pause"},
            "switch": {"ecn": False},
            "congestion_control": {"model": "none"},
            "storage": [{"attach": "*", "latency": "500ns"} | storage],
            **sections,
        },
        _COARSE,
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
_EDISON_STATUS = "calibrated: two rates, of healthy targets on the median, of the slow one on the job"
_EDISON_RANKS, _EDISON_OSTS, _SLOW = 2048, 24, 14
_FILE = 256 * _MIB
#: Two rates are fitted, in bytes a second: of 23 targets, on the median of their ranks; of one, on the job.
_HEALTHY, _SLOW_RATE = 1_740_000_000, 29_250_000


@cache
def _edison() -> tuple[np.ndarray, np.ndarray, float]:
    """Seconds that each rank wrote for, its target, and seconds that the job took."""
    data = Cluster.load(
        "edison-lustre", [*_COARSE, f"storage.target.write={_HEALTHY // 1_000_000}MB/s"]
    ).model_dump()
    data["storage"][0]["slow"] = [{"target": _SLOW, "at": "0s", "factor": round(_SLOW_RATE / _HEALTHY, 6)}]
    rows = Rows()
    ranks = list(range(_EDISON_RANKS))
    rows.open(ranks, "/scratch/testFile.{rank}", create=True, stream=0)
    write = rows.write(ranks, "/scratch/testFile.{rank}", _FILE, stream=0)
    rows.add("fsync", ranks, file="/scratch/testFile.{rank}", stream=0)
    run = _run(Cluster.from_dict(data), rows.trace(), record_rpcs=True)
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


# ---- extent locks -------------------------------------------------------------------------------------

_LDLM = (
    "lustre/ldlm/ldlm_extent.c: growth stops where the next conflicting request, granted or waiting, begins"
)


@cache
def _locks() -> dict[int, int]:
    """The end that each rank's lock was granted to: three write to one object, the first holds it all."""
    storage = {"servers": 1, "rate": "400Gbps", "stripe_count": 1, "target": {"write": "1GB/s"}}
    rows, file = Rows(), "/shared"
    rows.open([0, 1, 2], file, create=True, stream=0)
    rows.write([0], file, 256 * _MIB, stream=0)
    for rank, offset in ((1, 8 * _MIB), (2, 16 * _MIB)):
        rows.write([rank], file, _MIB, offset=offset, delay_ps=rank * 1_000_000_000, stream=0)
    run = _run(_cluster(3, "100Gbps", storage), rows.trace(), record_rpcs=True)
    rpcs = run.rpcs()
    lock = rpcs["kind"] == engine.RPC_KINDS.index("lock")
    return dict(zip(rpcs["rank"][lock].tolist(), rpcs["granted_end"][lock].tolist(), strict=True))


def _check_lock(rank: int, what: str, end: int) -> None:
    @check(
        f"LDLM, {what}",
        configuration="ranks 1 and 2 ask for 8 to 9 and 16 to 17 MiB of an object that rank 0 holds",
        published=end,
        tolerance=0,
        unit="last byte",
        source=_LDLM,
        kind="storage",
    )
    def granted() -> float:
        return _locks()[rank]


_check_lock(0, "alone", 2**63 - 1)
_check_lock(1, "before a request that waits", 16 * _MIB - 1)
_check_lock(2, "the last", 2**63 - 1)
