"""Published training runs as trainings on clusters, and the time of their steps.

What a source leaves open is settled by the rules of ``training_of`` and ``cluster_of``, the same for all rows
of the source.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from fabricsim.cluster import Cluster
from fabricsim.fidelity import Fidelity, open_flow
from fabricsim.program import Model, build_program, compile
from fabricsim.validate._training_rows import Published, published
from fabricsim.workload.shapes import ModelShape, named_shape
from fabricsim.workload.training import Training, llm

__all__ = ["cluster_of", "fitted", "shape_of", "spread_of", "step_s", "superseded", "training_of"]


def shape_of(row: Published) -> ModelShape:
    """Return a row's model; MPT has as many learned positions as the sequence has tokens."""
    shape = named_shape(row.model)
    return replace(shape, positions=row.sequence_tokens) if row.model.startswith("mpt") else shape


def training_of(row: Published) -> Training:
    """Return what a row trained."""
    options: dict[str, Any] = {
        "model": shape_of(row),
        "n_ranks": row.n_ranks,
        "accelerator": row.accelerator,
        "precision": row.precision,
        "tensor": row.tensor,
        "pipeline": row.pipeline,
        "virtual": row.virtual,
        "expert": row.expert,
        "global_batch_seqs": row.global_batch_seqs,
        "micro_batch_seqs": row.micro_batch_seqs,
        "sequence_tokens": row.sequence_tokens,
        "grad_dtype": "bf16",
        "detail": "stage",
    }
    return Training(**options | _STACKS[row.source.partition("-")[0]](row))


def _foundry(row: Published) -> dict[str, Any]:
    """PyTorch FSDP under Composer, whose default is to gather the next parameters only behind a backward."""
    return {
        "fsdp": row.sharding,
        "recompute": "full" if row.recompute else "none",
        "eager": True,
        "vocab_multiple": 1,
        "prefetch_backward": 0,
    }


def _nemo(row: Published) -> dict[str, Any]:
    """Megatron-LM with its distributed optimizer and its overlaps; a token goes to a rank once (DeepEP)."""
    return {
        "zero": 1,
        "overlap_tensor": row.tensor > 1,
        "dispatch": "rank" if row.expert > 1 else "token",
    }


def _sc21(row: Published) -> dict[str, Any]:
    """Megatron-LM of 2021: plain attention, everything computed again, no sequence parallelism."""
    return {
        "sequence_parallel": False,
        "recompute": "full",
        "fused_attention": False,
        "grad_dtype": "fp16",
        "overlap_grad_reduce": row.pipeline == 1,
        "vocab_multiple": 1,
    }


def _llama3(row: Published) -> dict[str, Any]:
    """Section 3.3.2 of the paper: sharded optimizer and gradients, interleaved pipeline of a layer each."""
    return {"zero": 1, "grad_dtype": "fp32"}


def _maxtext(row: Published) -> dict[str, Any]:
    """MaxText's FSDP over all chips; nearly all but projections of the attention is computed again."""
    return {"fsdp": "full", "recompute": "full", "vocab_multiple": 1}


# Of pipelines side by side so many are emulated.
_REPLICAS = 8
_EVER_PS = 2**62
# A later release that is this much faster supersedes a row.
_FASTER = 1.10


@cache
def superseded() -> frozenset[int]:
    """Return the numbers of the rows that a later release of the same software did much faster.

    The table has releases of one software that train a model on as many accelerators, in 29 s and in 51 s.
    The constants stand for the latest releases: a row whose tokens per second are 10 % less than those of a
    later one is not fitted on. It is reported like any other.
    """
    found = set()
    later: dict[tuple[str, ...], float] = {}
    for row in published():  # the newest release first
        if not row.source.startswith("nemo"):
            continue
        what = (row.model, row.accelerator, str(row.n_ranks), str(row.sequence_tokens))
        rate = row.global_batch_seqs * row.sequence_tokens / row.step_s
        if later.get(what, 0.0) > _FASTER * rate:
            found.add(row.number)
        later[what] = max(rate, later.get(what, 0.0))
    return frozenset(found)


def fitted(row: Published) -> bool:
    """Tell whether constants were fitted on a row: its number is odd, and no later release supersedes it."""
    return row.number % 2 == 1 and row.number not in superseded()


_STACKS = {"foundry": _foundry, "nemo": _nemo, "sc21": _sc21, "llama3": _llama3, "tpu": _maxtext}

_SIDES = {8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16), 512: (16, 32)}


def cluster_of(row: Published) -> Cluster:
    """Return what a row ran on: a preset with as many nodes.

    The A100 of 40 GB have an interface of 200 Gb/s each. The two pods of 512 TPU v6e are one torus.
    """
    nodes = f"topology.nodes={-(-row.n_ranks // 8)}"
    if row.accelerator == "tpu-v6e":
        x, y = _SIDES[row.n_ranks]
        sides = [f"topology.x={x}", f"topology.y={y}", f"collectives.torus.x={x}", f"collectives.torus.y={y}"]
        return Cluster.load("tpu-v6e-pod", sides)
    if row.accelerator == "gb200":
        return Cluster.load("gb200-nvl72")
    if row.source == "llama3":
        return Cluster.load("meta-24k-roce", [nodes])
    if row.accelerator == "a100-40gb":
        return Cluster.load("dgx-superpod-a100-hdr", [nodes, "topology.sharp=false"])
    return Cluster.load("dgx-superpod-a100-hdr" if row.accelerator == "a100" else "dgx-h100", [nodes])


@lru_cache(maxsize=2)
def _model(cluster: Cluster) -> Model:
    return compile(cluster)


def _emulated_s(training: Training, cluster: Cluster) -> float:
    program = build_program(_model(cluster), llm(training), packets=False)
    run, _ = open_flow(program, Fidelity.FLOW, seed=1)
    while not run.step(_EVER_PS):
        pass
    return float(run.counters()["end_ps"]) * 1e-12


def step_s(row: Published, training: Training | None = None) -> float:
    """Return the seconds of a row's step, on links that share as fluids.

    Of many micro-batches the first few rounds of the pipeline are emulated, and each further one takes what
    the last of these took. Of pipelines side by side 8 are emulated, whose compute waits for as many ranks
    as there are.

    Parameters
    ----------
    row
        Of the table.
    training
        Another than ``training_of`` gives, such as with other constants.
    """
    if training is None:  # rows that differ in the release alone are the same here
        stack = row.source.partition("-")[0]
        return _own_step_s(replace(row, number=0, step_s=0.0, tflops=0.0, source=stack))
    training = _fewer_replicas(training)
    cluster = cluster_of(replace(row, n_ranks=training.n_ranks))
    few, more = (2, 3) if training.pipeline == 1 else (training.pipeline, 2 * training.pipeline)
    if training.micro_batches <= 2 * more:
        return _emulated_s(training, cluster)
    sequences = training.data * training.micro_batch_seqs
    first, second = (
        _emulated_s(replace(training, global_batch_seqs=count * sequences), cluster) for count in (few, more)
    )
    return first + (second - first) * (training.micro_batches - few) / (more - few)


def _fewer_replicas(training: Training) -> Training:
    """Return the training with 8 pipelines at most, whose slowest rank is as slow as that of all."""
    if training.pipeline == 1 or training.data <= _REPLICAS:
        return training
    fewer = training.n_ranks // training.data * _REPLICAS
    slow = training.efficiency.value("spread", training.device) * (training.n_ranks - 1).bit_length()
    spread = {f"spread/{training.device.family}": slow / (fewer - 1).bit_length()}
    return replace(
        training,
        n_ranks=fewer,
        global_batch_seqs=training.global_batch_seqs // training.data * _REPLICAS,
        efficiency=training.efficiency.with_values(spread),
    )


@cache
def _own_step_s(row: Published) -> float:
    return step_s(row, training_of(row))


def spread_of(errors: Iterable[float]) -> tuple[float, float]:
    """Return the median and the 90th percentile of the sizes of errors."""
    sizes = sorted(abs(error) for error in errors)
    return statistics.median(sizes), sizes[math.ceil(0.9 * len(sizes)) - 1]
