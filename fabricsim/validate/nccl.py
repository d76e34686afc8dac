"""Collectives as nccl-tests measured them on real systems, on the presets of those systems.

The choices are NCCL's, by its published tuner; constants of it are used as published. Nothing is fitted on a
row below. That the Oracle shape has 800 Gb/s a GPU is inferred from its all-to-all.

Sizes above 256 MiB are told from emulations of 128 and 256 MiB, between which time grows in proportion to
bytes: bandwidth has converged there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fabricsim.analysis.collectives import bus_factor
from fabricsim.cluster import Cluster
from fabricsim.collectives.bench import TESTS, bench
from fabricsim.program import Model, compile
from fabricsim.validate import check

__all__ = ["CASES", "Case", "emulate"]

_MIB = 1 << 20
_LARGEST = 256 * _MIB

_P5 = (
    "https://github.com/aws-samples/awsome-distributed-training/blob/7217859f67bc693c52ff175ccc6082c41dbd7a1b"
    "/micro-benchmarks/nccl-tests/aws-batch/README.md"
)
_STAS = (
    "https://github.com/stas00/ml-engineering/blob/744d01e18b79512572f64a6bbd8b5f4a725203a7/network/README.md"
)
_ISSUE = "https://github.com/NVIDIA/nccl-tests/issues"
_OCI = "Oracle Cloud, nccl-tests on B300 shapes, NCCL 2.28.9"


@dataclass(frozen=True)
class Case:
    """One measured figure.

    Parameters
    ----------
    name
        Of the check.
    preset, overrides
        The cluster.
    test
        A test of nccl-tests.
    nodes, gpus
        Nodes, and GPUs of each, that take part.
    size_bytes
        As the row tells.
    published
        In ``unit``: ``GB/s`` is bus bandwidth, ``us`` the time, ``GB/s a NIC`` what crosses each interface.
    tolerance
        Relative.
    source
        Where it was measured.
    status
        As of ``fabricsim.validate.Check``.
    """

    name: str
    preset: str
    overrides: tuple[str, ...]
    test: str
    nodes: int
    gpus: int
    size_bytes: int
    published: float
    unit: str
    tolerance: float
    source: str
    status: str = "physics"


_RING = ("collectives.nccl.algorithm=ring",)
_TWO = ("topology.nodes=2",)

CASES = (
    Case(
        "A100 HDR ring",
        "hgx-a100-4hdr",
        (),
        "all_reduce",
        3,
        8,
        131_072_008,
        96.45,
        "GB/s",
        0.04,
        f"{_ISSUE}/119",
    ),
    Case(
        "A100 HDR ring, slowest row",
        "hgx-a100-4hdr",
        (),
        "all_reduce",
        3,
        8,
        128_974_856,
        95.67,
        "GB/s",
        0.04,
        f"{_ISSUE}/119",
    ),
    Case(
        "Forced ring, 4 NICs",
        "hgx-a100-4hdr",
        ("topology.nodes=2", "topology.gpus_per_node=4", *_RING),
        "all_reduce",
        2,
        4,
        4096 * _MIB,
        97.37,
        "GB/s",
        0.05,
        f"{_ISSUE}/252",
    ),
    Case(
        "Forced ring, 4 NICs: median of ten",
        "hgx-a100-4hdr",
        ("topology.nodes=2", "topology.gpus_per_node=4", *_RING),
        "all_reduce",
        2,
        4,
        512 * _MIB,
        94.95,
        "GB/s",
        0.05,
        f"{_ISSUE}/252",
    ),
    Case(
        "B300 all-to-all over RoCE",
        "oci-b300-roce",
        _TWO,
        "alltoall",
        2,
        8,
        8192 * _MIB,
        44_498.0,
        "us",
        0.03,
        f"{_OCI}; 800 Gb/s a GPU is inferred",
    ),
    Case(
        "B300 all-to-all in a node",
        "oci-b300-roce",
        _TWO,
        "alltoall",
        1,
        8,
        8192 * _MIB,
        11_126.0,
        "us",
        0.10,
        _OCI,
    ),
    Case(
        "B300 NVLS all-reduce",
        "oci-b300-roce",
        _TWO,
        "all_reduce",
        1,
        8,
        8192 * _MIB,
        834.84,
        "GB/s",
        0.05,
        _OCI,
    ),
    Case(
        "B200 ring all-reduce",
        "dgx-b200",
        (*_TWO, *_RING),
        "all_reduce",
        1,
        8,
        16_384 * _MIB,
        682.2,
        "GB/s",
        0.08,
        _STAS,
    ),
    Case(
        "H200 ring all-reduce",
        "dgx-h200",
        (*_TWO, *_RING),
        "all_reduce",
        1,
        8,
        16_384 * _MIB,
        367.2,
        "GB/s",
        0.03,
        _STAS,
    ),
    Case(
        "H200 NVLS all-reduce",
        "dgx-h200",
        _TWO,
        "all_reduce",
        1,
        8,
        16_384 * _MIB,
        480.0,
        "GB/s",
        0.05,
        _STAS,
    ),
    Case(
        "H200 all-gather",
        "dgx-h200",
        _TWO,
        "all_gather",
        1,
        8,
        16_384 * _MIB,
        361.4,
        "GB/s",
        0.03,
        _STAS,
    ),
    Case(
        "H200 reduce-scatter",
        "dgx-h200",
        _TWO,
        "reduce_scatter",
        1,
        8,
        16_384 * _MIB,
        362.9,
        "GB/s",
        0.03,
        _STAS,
    ),
    Case(
        "H200 copy",
        "dgx-h200",
        _TWO,
        "sendrecv",
        1,
        2,
        16_384 * _MIB,
        396.4,
        "GB/s",
        0.03,
        _STAS,
    ),
    Case(
        "A100 ring all-reduce",
        "dgx-superpod-a100-hdr",
        _TWO,
        "all_reduce",
        1,
        8,
        16_384 * _MIB,
        234.89,
        "GB/s",
        0.03,
        _STAS,
    ),
    Case(
        "H100 NVLS all-reduce, 256 MiB",
        "dgx-h100",
        _TWO,
        "all_reduce",
        1,
        8,
        256 * _MIB,
        1121.4,
        "us",
        0.10,
        _P5,
    ),
    Case(
        "H100 NVLS all-reduce, 16 GiB",
        "dgx-h100",
        _TWO,
        "all_reduce",
        1,
        8,
        16_384 * _MIB,
        483.05,
        "GB/s",
        0.05,
        _P5,
    ),
    Case(
        "H100 all-reduce, 64 MiB",
        "dgx-h100",
        _TWO,
        "all_reduce",
        1,
        8,
        64 * _MIB,
        326.6,
        "us",
        0.20,
        _P5,
    ),
    Case(
        "H100 all-reduce, 1 MiB",
        "dgx-h100",
        _TWO,
        "all_reduce",
        1,
        8,
        _MIB,
        28.56,
        "us",
        0.30,
        _P5,
    ),
    Case(
        "H100 all-reduce, 64 KiB",
        "dgx-h100",
        _TWO,
        "all_reduce",
        1,
        8,
        65_536,
        19.09,
        "us",
        0.20,
        _P5,
    ),
    Case("H100 all-reduce, 1 KiB", "dgx-h100", _TWO, "all_reduce", 1, 8, 1024, 16.43, "us", 0.10, _P5),
    Case("H100 all-reduce, 8 B", "dgx-h100", _TWO, "all_reduce", 1, 8, 8, 12.9, "us", 0.25, _P5),
    Case(
        "H100 on two nodes, 16 GiB",
        "dgx-h100",
        _TWO,
        "all_reduce",
        2,
        8,
        16_384 * _MIB,
        472.35,
        "GB/s",
        0.10,
        "nccl-tests on two DGX H100 with 8 NDR each",
    ),
    Case(
        "DeepEP all-to-all over NDR",
        "dgx-h100",
        _TWO,
        "alltoall",
        2,
        8,
        256 * _MIB,
        45.0,
        "GB/s a NIC",
        0.06,
        "deepseek-ai/DeepEP, README: EP 8 x 2, 90 GB/s of which half stays in the node",
    ),
)


@lru_cache(maxsize=16)
def _model(preset: str, overrides: tuple[str, ...]) -> Model:
    return compile(Cluster.from_toml(preset, overrides))


@lru_cache(maxsize=256)
def _time_us(
    preset: str, overrides: tuple[str, ...], test: str, nodes: int, gpus: int, size_bytes: int
) -> float:
    model = _model(preset, overrides)
    per_node = int(getattr(model.cluster.topology_spec, "gpus_per_node", gpus))
    ranks = [node * per_node + gpu for node in range(nodes) for gpu in range(gpus)]
    return next(bench(model, test, [size_bytes], ranks=ranks)).time_us


def emulate(case: Case) -> float:
    """Return the emulated figure of a case, in its unit.

    >>> round(emulate(CASES[-3]), 1) > 10  # the latency of a small all-reduce, us
    True
    """
    key = (case.preset, case.overrides, case.test, case.nodes, case.gpus)
    if case.size_bytes <= _LARGEST:
        time_us = _time_us(*key, case.size_bytes)
    else:
        half, full = _time_us(*key, _LARGEST // 2), _time_us(*key, _LARGEST)
        time_us = full + (full - half) * (case.size_bytes - _LARGEST) / (_LARGEST // 2)
    if case.unit == "us":
        return time_us
    algbw = case.size_bytes / time_us / 1000
    if case.unit == "GB/s a NIC":
        return algbw * (case.nodes - 1) / case.nodes
    kind, n = TESTS[case.test].kind, case.nodes * case.gpus
    return algbw * (1.0 if kind == "send" else bus_factor(kind, n))


def _register(case: Case) -> None:
    size = f"{case.size_bytes // _MIB} MiB" if case.size_bytes >= _MIB else f"{case.size_bytes} B"

    @check(
        case.name,
        configuration=f"{case.test} of {size}, {case.nodes} x {case.gpus} GPUs of {case.preset}",
        published=case.published,
        unit=case.unit,
        tolerance=case.tolerance,
        source=case.source,
        kind="end-to-end",
        status=case.status,
    )
    def run() -> float:
        return emulate(case)


for _case in CASES:
    _register(_case)
