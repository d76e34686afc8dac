"""Memory that a rank needs: weights, gradients, optimizer, activations.

Activations are those of Korthikanti et al. (arXiv 2205.05198, section 4), tensor by tensor, so that gated
networks, fewer key-value heads and fused attention have theirs. Left out: temporary buffers, fragments,
communication buffers, and the framework itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fabricsim.compute import Accelerator
from fabricsim.units import format_bytes
from fabricsim.workload.training.options import DTYPES, Training
from fabricsim.workload.training.parameters import Unit, units_of

__all__ = ["Footprint", "layer_activation_bytes", "memory"]

#: Bytes of a parameter that Adam keeps: master weight and two moments in fp32.
_OPTIMIZER_BYTES = 12


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a rank of a pipeline stage needs at its peak."""

    stage: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def to_json(self) -> dict[str, Any]:
        """Return the parts and their total."""
        return asdict(self) | {"total": self.total}

    def excess(self, device: Accelerator) -> str:
        """Say that it does not fit."""
        return (
            f"a rank of stage {self.stage} needs {format_bytes(self.total)}, {device.name} has"
            f" {format_bytes(device.mem_bytes)} (weights {format_bytes(self.weights)}, gradients"
            f" {format_bytes(self.gradients)}, optimizer {format_bytes(self.optimizer)}, activations"
            f" {format_bytes(self.activations)})"
        )


def memory(training: Training) -> list[Footprint]:
    """Return what a rank of each stage needs.

    >>> options = {"model": "llama3-8b", "global_batch_seqs": 64, "sequence_tokens": 8192}
    >>> memory(Training(n_ranks=8, **options))[0].weights == 2 * 8_030_261_248
    True
    """
    return [_of_stage(training, stage, units) for stage, units in enumerate(units_of(training))]


def _of_stage(training: Training, stage: int, units: list[list[Unit]]) -> Footprint:
    layout, sharded = training.layout, training.fully_sharded
    shards = {
        "dense": layout.size("shard" if training.fsdp == "hybrid" else "dp_cp"),
        "expert": layout.size("edp"),
    }
    weights = gradients = optimizer = 0
    weight_bytes, gradient_bytes = DTYPES[training.param_dtype], DTYPES[training.grad_dtype]
    for kind, ranks in shards.items():
        whole = sum(unit.elements(kind) for own in units for unit in own)
        largest = max((unit.elements(kind) for own in units for unit in own), default=0)
        own = -(-whole // ranks)
        # Whole layers are there while they are worked on, and those gathered ahead.
        ahead = whole if training.keeps_gathered else min(whole, (1 + training.prefetch) * largest)
        weights += weight_bytes * (own + ahead if sharded else whole)
        cut_gradients = training.zero == 2 or (sharded and training.reduce_every)
        gradients += gradient_bytes * (own + largest if cut_gradients else whole)
        optimizer += _OPTIMIZER_BYTES * (own if sharded or training.zero else whole)
    return Footprint(stage, weights, gradients, optimizer, _activations(training, stage, units))


def _activations(training: Training, stage: int, units: list[list[Unit]]) -> int:
    """Bytes of the micro-batches that are under way at once on a stage."""
    chunks, stages = len(units), training.pipeline
    # The passes that come before the first backward one, each through one chunk.
    if chunks == 1:
        under_way = min(stages - stage, training.micro_batches)
    else:
        most = training.micro_batches * chunks
        under_way = min(2 * (stages - stage - 1) + (chunks - 1) * stages + 1, most)
    each = [sum(_kept(training, unit) for unit in own) for own in units]
    total = under_way * sum(each) // chunks
    if training.recompute == "full":  # one layer is there as a whole
        total += max((layer_activation_bytes(training, unit.moe) for own in units for unit in own), default=0)
    output = any(unit.kind == "output" for own in units for unit in own)
    tokens = training.micro_batch_seqs * training.sequence_tokens // training.context
    return total + output * 4 * tokens * training.padded.vocab // training.tensor


def _kept(training: Training, unit: Unit) -> int:
    if unit.kind != "layer":
        return 0
    if training.recompute == "full":
        return _block(training)[0] * training.activation_bytes
    return layer_activation_bytes(training, unit.moe, recompute=training.recompute)


def _block(training: Training) -> tuple[int, int, int]:
    """Elements of an activation as norms and residuals have it, and as matrices do; tokens."""
    tokens = training.micro_batch_seqs * training.sequence_tokens // training.context
    whole = tokens * training.shape.hidden
    return (whole // training.tensor if training.sequence_parallel else whole), whole, tokens


def layer_activation_bytes(training: Training, moe: bool = False, *, recompute: str = "none") -> int:
    """Return the bytes of activations that a layer keeps for its backward pass.

    With biases (the GPT kind) there are dropout masks of one byte. ``recompute="selective"`` leaves the
    scores out.

    >>> gpt = Training(
    ...     model="gpt3-175b", n_ranks=8, tensor=8, global_batch_seqs=1, sequence_tokens=2048,
    ...     fused_attention=False)
    >>> s, h, a = 2048, 12288, 96
    >>> layer_activation_bytes(gpt) == s * h * (34 + 5 * a * s // h) // 8
    True
    """
    shape, size = training.shape, training.activation_bytes
    own, _, tokens = _block(training)
    tensor = training.tensor
    mask = 1 if shape.linear_bias else 0
    # Inputs of both norms and of the first matrices, as cut as the sequence is; masks of both residuals.
    found = own * (4 * size + 2 * mask)
    latent = shape.latent
    if latent is None:
        kept = shape.heads * shape.head_width * 2 + 2 * shape.kv_heads * shape.head_width
    else:
        query = latent.plain_width + latent.rotary_width
        kept = shape.heads * (2 * query + 2 * latent.value_width)
    found += size * tokens * kept // tensor  # queries, keys, values, and the input of the output matrix
    if not training.fused_attention and recompute == "none":
        scores = training.micro_batch_seqs * training.sequence_tokens**2 // training.context * shape.heads
        found += (2 * size + 1) * scores // tensor  # softmax, dropout and its mask
    width = 3 if shape.gated else 2
    if not moe:
        return found + size * tokens * width * shape.ffn // tensor
    rows = tokens // tensor * shape.experts_used
    found += size * rows * (shape.hidden + width * shape.expert_ffn)
    return found + size * tokens * width * shape.shared_experts * shape.expert_ffn // tensor
