"""Floating-point operations of a training step: those of the model, and those that are done.

Of the model: three times the forward pass, where each weight that a token meets is multiplied and added once,
and attention has all products of queries and keys, those behind the causal mask too (as PaLM, arXiv
2204.02311, appendix B, counts). Those that are done leave out what fused attention skips, and have what is
computed again.
"""

from __future__ import annotations

from collections.abc import Iterable

from fabricsim.workload.training.options import Training
from fabricsim.workload.training.parameters import Unit
from fabricsim.workload.training.parts import Beside, Item, Message, Parts

__all__ = ["attention_flops", "done_flops", "model_flops", "passes_of"]


def attention_flops(training: Training) -> int:
    """Return the products of queries, keys and values of a step, forward and backward, without a mask."""
    shape, latent = training.shape, training.shape.latent
    width = 2 * shape.head_width
    if latent is not None:
        width = latent.plain_width + latent.rotary_width + latent.value_width
    return 6 * training.tokens_per_step * training.sequence_tokens * shape.layers * shape.heads * width


def model_flops(training: Training, *, causal: bool = False) -> int:
    """Return the operations of a step that the model needs; ``causal``: only half of attention's.

    >>> options = {"model": "llama3-8b", "n_ranks": 8, "global_batch_seqs": 8, "sequence_tokens": 8192}
    >>> model_flops(Training(**options)) / (6 * 8_030_261_248 * 8 * 8192) > 1
    True
    """
    shape, weights = training.shape, 0
    for index in range(shape.layers):
        for tensor in shape.layer(index):
            if len(tensor.shape) == 2:
                elements = tensor.elements
                if tensor.experts:
                    elements = elements // tensor.experts * shape.experts_used
                weights += elements
    weights += shape.vocab * shape.hidden  # the output layer, tied or not
    attention = attention_flops(training)
    return 6 * training.tokens_per_step * weights + (attention // 2 if causal else attention)


def passes_of(parts: Parts, unit: Unit) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Return the forward and the backward pass of a unit."""
    if unit.kind == "embedding":
        return parts.embedding_forward(), parts.embedding_backward()
    if unit.kind == "output":
        return parts.output_forward(), parts.output_backward()
    return parts.layer_forward(unit.moe), parts.layer_backward(unit.moe)


def done_flops(training: Training, parts: Parts, units: Iterable[Unit]) -> int:
    """Return the operations that all ranks of a stage do in a step for some of its units."""
    memo: dict[tuple[str, bool], int] = {}
    total = 0
    for unit in units:
        key = (unit.kind, unit.moe)
        if key not in memo:
            memo[key] = sum(_flops(items) for items in passes_of(parts, unit))
        total += memo[key]
    return total * training.micro_batches * training.layout.stage_ranks


def _flops(items: Iterable[Item]) -> int:
    total = 0
    for item in items:
        if not isinstance(item, Message):
            works = item.works if isinstance(item, Beside) else (item,)
            total += sum(work.flops for work in works)
    return total
