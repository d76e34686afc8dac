"""Checkpoint sizes: what benchmarks and projects told of theirs, and what the shapes of the models give.

And the time of one, through the emulated store.
"""

from __future__ import annotations

from fabricsim.checkpoint import Checkpoint, Parallel, mlperf_checkpoint
from fabricsim.cluster import Cluster
from fabricsim.run import replay
from fabricsim.validate import check
from fabricsim.workload.rows import Rows
from fabricsim.workload.shapes import named_shape

_GIB = 1 << 30
_DLIO = "DLIO's rule (argonne-lcf/dlio_benchmark) with mlcommons/storage configs/dlio/workload/{}.yaml"
_BLOOM = "bigscience-workshop/bigscience, train/tr11-176B-ml/README.md, its GB read as GiB"


def _largest(name: str, holds: str) -> float:
    return max(file.bytes for file in mlperf_checkpoint(name).files if file.holds == holds)


@check(
    "MLPerf checkpoint, Llama 3 8B",
    configuration="8 ranks, ZeRO 3: all files",
    published=112_425_623_552,
    unit="bytes",
    tolerance=0,
    source=_DLIO.format("llama3_8b"),
    kind="formula",
)
def llama3_8b() -> float:
    """104.70 GiB."""
    return mlperf_checkpoint("llama3-8b").total_bytes


@check(
    "MLPerf checkpoint, Llama 3 8B, optimiser of a rank",
    configuration="8 ranks, ZeRO 3: one file",
    published=12_045_637_632,
    unit="bytes",
    tolerance=0,
    source=_DLIO.format("llama3_8b"),
    kind="formula",
)
def llama3_8b_state() -> float:
    """The same on each rank."""
    return _largest("llama3-8b", "optimiser")


@check(
    "MLPerf checkpoint, Llama 3 70B",
    configuration="64 ranks, tensor parallel 8, ZeRO 3: all files",
    published=978_406_572_032,
    unit="bytes",
    tolerance=0,
    source=_DLIO.format("llama3_70b"),
    kind="formula",
)
def llama3_70b() -> float:
    """911.21 GiB."""
    return mlperf_checkpoint("llama3-70b").total_bytes


@check(
    "MLPerf checkpoint, Llama 3 70B, weights of a rank",
    configuration="64 ranks, tensor parallel 8, ZeRO 3: one file",
    published=2_184_120_320,
    unit="bytes",
    tolerance=0,
    source=_DLIO.format("llama3_70b"),
    kind="formula",
)
def llama3_70b_weights() -> float:
    """The same on each rank."""
    return _largest("llama3-70b", "weights")


@check(
    "MLPerf checkpoint, Llama 3 405B",
    configuration="512 ranks, tensor parallel 8, pipeline 32, ZeRO 1: all files",
    published=5.68,
    unit="TB",
    tolerance=0.001,
    source=_DLIO.format("llama3_405b"),
    kind="formula",
)
def llama3_405b() -> float:
    """A file a layer and tensor-parallel rank, and the optimiser of each rank."""
    return mlperf_checkpoint("llama3-405b").total_bytes / 1e12


def _bytes(name: str, holds: tuple[str, ...]) -> float:
    saved = Checkpoint(shape=named_shape(name), sharding="zero1", parallel=Parallel(dp=8))
    return sum(file.bytes for file in saved.files if file.holds in holds)


@check(
    "BLOOM checkpoint, weights",
    configuration="176.247 B parameters, bf16",
    published=329,
    unit="GiB",
    tolerance=0.005,
    source=_BLOOM,
    kind="formula",
)
def bloom_weights() -> float:
    """Two bytes a parameter."""
    return _bytes("bloom-176b", ("weights",)) / _GIB


@check(
    "BLOOM checkpoint, all",
    configuration="176.247 B parameters, bf16, Adam with fp32 master weights",
    published=2300,
    unit="GiB",
    tolerance=0.005,
    source=_BLOOM,
    kind="formula",
)
def bloom_all() -> float:
    """Fourteen bytes a parameter."""
    return _bytes("bloom-176b", ("weights", "optimiser")) / _GIB


@check(
    "GPT-3 175B checkpoint",
    configuration="14 bytes a parameter of 175 B",
    published=2.45,
    unit="TB",
    tolerance=0.005,
    source="first principles: bf16 weights, Adam with fp32 master weights",
    kind="formula",
)
def gpt3() -> float:
    """From the model's tensors, which count 174.6 B parameters."""
    return _bytes("gpt3-175b", ("weights", "optimiser")) / 1e12


#: Of the checkpoint's bytes one in so many is written, and the time told for all.
_SHARE = 1000
_RANKS = 16


@check(
    "MT-NLG 530B checkpoint to a 20 Gb/s store",
    configuration="12 bytes a parameter; a thousandth of them by 16 ranks to one target, the time times 1000",
    published=42,
    unit="min",
    tolerance=0.02,
    source="GEMINI (SOSP 2023), as others quote it",
    kind="storage",
)
def mt_nlg() -> float:
    """Until all is written and synced; the ranks' links are five times faster."""
    cluster = Cluster.from_dict(
        {
            "name": "store",
            "topology": {"kind": "star", "hosts": _RANKS, "rate": "100Gbps", "latency": "500ns"},
            "transport": {"train_count": 15},
            "storage": {
                "servers": 1,
                "attach": "*",
                "rate": "100Gbps",
                "latency": "500ns",
                "target": {"write": "20Gbps"},
            },
        }
    )
    rows, ranks = Rows(generator=__name__), range(_RANKS)
    size = 12 * named_shape("mt-nlg-530b").parameters // (_RANKS * _SHARE)
    rows.open(ranks, "/ckpt/{rank}", create=True, stream=0)
    rows.write(ranks, "/ckpt/{rank}", size, stream=0)
    rows.add("fsync", ranks, file="/ckpt/{rank}", stream=0)
    rows.add("close", ranks, file="/ckpt/{rank}", stream=0)
    return replay(rows.trace(), cluster).summary["end_ps"] * _SHARE / 60e12
