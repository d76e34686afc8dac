"""The kernels of a transformer: what a micro-batch runs on one rank, layer by layer.

Matrix multiplications are counted from the shape. Element-wise work is counted as bytes between memory and
caches, each tensor read and written once by each fused kernel. Communication is not here.

>>> from fabricsim.compute import flops_of
>>> from fabricsim.workload.shapes import named_shape
>>> micro = Micro(shape=named_shape("llama3-8b"), sequences=1, sequence_tokens=8192)
>>> flops_of(forward(micro, 0)["mlp"]) == 6 * 8192 * 4096 * 14336
True
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from fabricsim.compute.kernels import (
    Kernel,
    KernelClass,
    attention,
    elementwise,
    gemm,
    grouped_gemm,
    width_bytes,
)
from fabricsim.workload.shapes import ModelShape

__all__ = [
    "Micro",
    "Piece",
    "backward",
    "embedding_backward",
    "embedding_forward",
    "forward",
    "optimizer",
    "output_backward",
    "output_forward",
    "pieces",
]

_HALF = 2.0  # bytes of an activation
_NARROW = ("fp8", "int8", "fp4")

# Bytes that go to memory for a score of unfused attention: products written, masked softmax and dropout read
# and written, and read again. Backward, the same and the gradients.
_SCORE_FORWARD, _SCORE_BACKWARD = 13.0, 20.0
# Bytes for a logit: cast to fp32, maximum, exponentials and sum; backward, gradients in fp32 and 16 bits.
_LOGIT_FORWARD, _LOGIT_BACKWARD = 14.0, 10.0
# Operations of fused attention backward to those of its forward: five products and two.
_ATTENTION_BACKWARD = 2.5


@dataclass(frozen=True, kw_only=True)
class Micro:
    """A micro-batch on one rank.

    Parameters
    ----------
    shape
        The model.
    sequences, sequence_tokens
        Sequences of the micro-batch, and tokens of one.
    tensor, sequence_parallel, context
        Ranks of tensor parallelism, whether norms and residuals are cut along the sequence among them, and
        ranks of context parallelism.
    expert, expert_tensor
        Ranks that share the experts of a layer, and ranks that share one expert.
    precision
        Of matrix multiplications; attention and element-wise work have 16 bits.
    fused_attention
        Whether scores stay on the chip (FlashAttention) or go to memory.
    eager
        Whether norms, activations, residuals and losses run operation by operation, as in PyTorch without a
        compiler; otherwise as fused kernels (Megatron-LM, XLA, ``torch.compile``).
    """

    shape: ModelShape
    sequences: int
    sequence_tokens: int
    tensor: int = 1
    sequence_parallel: bool = False
    context: int = 1
    expert: int = 1
    expert_tensor: int = 1
    precision: str = "bf16"
    fused_attention: bool = True
    eager: bool = False

    @property
    def tokens(self) -> int:
        """Tokens that the tensor-parallel ranks handle together."""
        return self.sequences * self.sequence_tokens // self.context

    @property
    def own_tokens(self) -> int:
        """Tokens of which this rank holds norms and residuals."""
        return self.tokens // self.tensor if self.sequence_parallel else self.tokens

    @property
    def half(self) -> str:
        """The precision of what is not multiplied in fewer than 16 bits."""
        return "bf16" if self.precision in _NARROW else self.precision


Kernels = list[Kernel]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a layer: the kernels of its forward pass, and of the gradients of its inputs and weights."""

    forward: tuple[Kernel, ...]
    inputs: tuple[Kernel, ...] = ()
    weights: tuple[Kernel, ...] = ()

    @property
    def backward(self) -> tuple[Kernel, ...]:
        """All gradients."""
        return self.inputs + self.weights


_EAGER = {
    KernelClass.ELEMENTWISE: KernelClass.EAGER,
    KernelClass.ATTENTION: KernelClass.EAGER_ATTENTION,
}


def _run(micro: Micro, kernels: Iterable[Kernel]) -> tuple[Kernel, ...]:
    """The kernels as they are run: fused, or operation by operation."""
    if not micro.eager:
        return tuple(kernels)
    return tuple(replace(one, kind=_EAGER.get(one.kind, one.kind)) for one in kernels)


@lru_cache(maxsize=256)
def pieces(micro: Micro, moe: bool) -> dict[str, Piece]:
    """Return the parts of a layer in the order of its forward pass, named ``block.part``.

    ``attention.norm``, ``.in`` (projections), ``.core``, ``.out``, ``.add``; then of a dense layer
    ``mlp.norm``, ``.up``, ``.act``, ``.down``, ``.add``; of one with experts ``router.norm``, ``.scores``,
    ``.permute`` (tokens leave behind it), ``experts.ffn`` (and go back behind it), ``.merge``, ``.add``, and,
    where there are shared experts, ``shared.up``, ``.act``, ``.down``.
    """
    return {
        name: Piece(_run(micro, piece.forward), _run(micro, piece.inputs), _run(micro, piece.weights))
        for name, piece in _pieces(micro, moe).items()
    }


def _pieces(micro: Micro, moe: bool) -> dict[str, Piece]:
    found = {f"attention.{name}": piece for name, piece in _attention(micro).items()}
    if not moe:
        norm, add = _norm_and_add(micro)
        mlp = {"norm": norm} | _mlp(micro, micro.shape.ffn) | {"add": add}
        return found | {f"mlp.{name}": piece for name, piece in mlp.items()}
    found |= {f"router.{name}": piece for name, piece in _router(micro).items()}
    found |= {f"experts.{name}": piece for name, piece in _experts(micro).items()}
    if micro.shape.shared_experts:
        shared = _mlp(micro, micro.shape.expert_ffn * micro.shape.shared_experts)
        found |= {f"shared.{name}": piece for name, piece in shared.items()}
    return found


def forward(micro: Micro, layer: int) -> dict[str, Kernels]:
    """Return the kernels of a layer, from 0: ``attention`` and ``mlp``, or also ``router`` and ``experts``.

    Between router and experts tokens travel to their experts, and back after them; experts that every token
    goes to are among ``experts``.
    """
    found: dict[str, Kernels] = {}
    for name, piece in pieces(micro, micro.shape.is_moe(layer)).items():
        found.setdefault(_block(name), []).extend(piece.forward)
    return found


def backward(micro: Micro, layer: int, recompute: str = "none") -> dict[str, Kernels]:
    """Return the kernels of a layer's gradients, with what is computed again.

    Parameters
    ----------
    micro, layer
        As forward.
    recompute
        ``none``; ``selective``: the attention core; ``full``: the whole layer.
    """
    found: dict[str, Kernels] = {}
    for name, piece in pieces(micro, micro.shape.is_moe(layer)).items():
        kernels = found.setdefault(_block(name), [])
        kernels += piece.backward
        if recompute == "full" or (recompute == "selective" and name == "attention.core"):
            kernels += piece.forward
    return found


def _block(name: str) -> str:
    block = name.partition(".")[0]
    return "experts" if block == "shared" else block


def _elements(count: float, width: float = _HALF) -> Kernel:
    return elementwise(count * width)


def _linear(micro: Micro, m: int, n: int, k: int) -> Piece:
    """A linear layer of m tokens from k to n.

    In fewer than 16 bits, its inputs are cast first, and transposed where they are needed so.
    """
    precision = micro.precision
    cast: tuple[Kernel, ...] = ()
    cast_gradient: tuple[Kernel, ...] = ()
    if precision in _NARROW:
        wide = _HALF + 2 * width_bytes(precision)
        cast, cast_gradient = (_elements(m * k + n * k, wide),), (_elements(m * n, wide),)
    inputs = (gemm(m, k, n, precision), *cast_gradient)
    return Piece((gemm(m, n, k, precision), *cast), inputs, (gemm(k, n, m, precision),))


def _projections(micro: Micro) -> list[tuple[int, int]]:
    """Outputs and inputs of the linear layers before the attention core, on this rank."""
    shape, tensor = micro.shape, micro.tensor
    if shape.latent is None:
        kv = max(1, shape.kv_heads // tensor)
        return [((shape.heads // tensor + 2 * kv) * shape.head_width, shape.hidden)]
    latent = shape.latent
    heads = shape.heads // tensor
    return [
        (latent.query_rank + latent.key_value_rank + latent.rotary_width, shape.hidden),
        (heads * (latent.plain_width + latent.rotary_width), latent.query_rank),
        (heads * (latent.plain_width + latent.value_width), latent.key_value_rank),
    ]


def _value_width(shape: ModelShape) -> int:
    return shape.latent.value_width if shape.latent is not None else shape.head_width


def _core_forward(micro: Micro) -> Kernels:
    shape, latent = micro.shape, micro.shape.latent
    heads, kv_heads = max(1, shape.heads // micro.tensor), max(1, shape.kv_heads // micro.tensor)
    width = latent.plain_width + latent.rotary_width if latent is not None else shape.head_width
    value = _value_width(shape)
    queries, keys = micro.sequence_tokens // micro.context, micro.sequence_tokens
    if micro.fused_attention:
        return [attention(micro.sequences, heads, kv_heads, queries, keys, width, value, micro.half)]
    batch = micro.sequences * heads
    products = [gemm(queries, keys, width, micro.half), gemm(queries, value, keys, micro.half)]
    return [
        *(_batched(one, batch) for one in products),
        elementwise(batch * queries * keys * _SCORE_FORWARD, 2),
    ]


def _batched(kernel: Kernel, batch: int) -> Kernel:
    return Kernel(
        kernel.kind, kernel.flops * batch, kernel.mem_bytes * batch, kernel.precision, kernel.size * batch
    )


def _core_backward(micro: Micro) -> Kernels:
    products = [kernel for kernel in _core_forward(micro) if kernel.flops]
    if micro.fused_attention:
        (one,) = products
        work = int(one.flops * _ATTENTION_BACKWARD)
        return [Kernel(one.kind, work, int(one.mem_bytes * _ATTENTION_BACKWARD), one.precision)]
    batch = micro.sequences * max(1, micro.shape.heads // micro.tensor)
    scores = batch * (micro.sequence_tokens // micro.context) * micro.sequence_tokens
    return [*(one.times(2) for one in products), elementwise(scores * _SCORE_BACKWARD, 2)]


def _norm_and_add(micro: Micro) -> tuple[Piece, Piece]:
    """A norm (backward, the gradients of its input and of its weights), and a residual."""
    size = micro.own_tokens * micro.shape.hidden
    norm = Piece((_elements(2 * size),), (_elements(4 * size),))
    return norm, Piece((_elements(3 * size),), (_elements(3 * size),))


def _attention(micro: Micro) -> dict[str, Piece]:
    shape, tokens = micro.shape, micro.tokens
    norm, add = _norm_and_add(micro)
    linear = [_linear(micro, tokens, n, k) for n, k in _projections(micro)]
    if shape.latent is not None:  # what compresses is whole on every rank, and works on its part
        n, k = _projections(micro)[0]
        linear[0] = _linear(micro, micro.own_tokens, n, k)
    rotate: tuple[Kernel, ...] = ()
    if not shape.positions:  # rotation, norms of heads
        rotate = (_elements(2 * tokens * _projections(micro)[0][0]),)
    return {
        "norm": norm,
        "in": Piece(
            (*(kernel for piece in linear for kernel in piece.forward), *rotate),
            (*rotate, *(kernel for piece in linear for kernel in piece.inputs)),
            tuple(kernel for piece in linear for kernel in piece.weights),
        ),
        "core": Piece(tuple(_core_forward(micro)), tuple(_core_backward(micro))),
        "out": _linear(micro, tokens, shape.hidden, shape.heads // micro.tensor * _value_width(shape)),
        "add": add,
    }


def _mlp(micro: Micro, ffn: int) -> dict[str, Piece]:
    """A feed-forward network of an inner width, cut among the tensor-parallel ranks."""
    shape, tokens = micro.shape, micro.tokens
    inner = ffn // micro.tensor
    up = inner * (2 if shape.gated else 1)
    return {
        "up": _linear(micro, tokens, up, shape.hidden),
        "act": Piece((_elements(tokens * (up + inner)),), (_elements(2 * tokens * (up + inner)),)),
        "down": _linear(micro, tokens, shape.hidden, inner),
    }


def _twice(*kernels: Kernel) -> Piece:
    """Small kernels, whose gradients cost as much again and as much again."""
    return Piece(kernels, tuple(kernel.times(2) for kernel in kernels))


def _router(micro: Micro) -> dict[str, Piece]:
    """Scores of the experts, the choice, and the copies of tokens in the order of their experts."""
    shape = micro.shape
    tokens = micro.own_tokens
    return {
        "norm": _twice(_elements(2 * tokens * shape.hidden)),
        "scores": _twice(
            gemm(tokens, shape.experts, shape.hidden, micro.half),
            elementwise(tokens * shape.experts * 12.0, 6),  # softmax, top-k, masks
        ),
        "permute": _twice(elementwise(_HALF * tokens * shape.hidden * (1 + shape.experts_used), 24)),
    }


def _experts(micro: Micro) -> dict[str, Piece]:
    """Experts of this rank on the tokens that come to it, balanced; and what merges their results."""
    shape, precision = micro.shape, micro.precision
    used, own = shape.experts_used, micro.tokens // micro.tensor
    groups = max(1, shape.experts // micro.expert)
    rows = own * used * micro.expert_tensor
    each, inner = max(1, rows // groups), shape.expert_ffn // micro.expert_tensor
    up = inner * (2 if shape.gated else 1)
    forward: Kernels = []
    inputs: Kernels = []
    weights: Kernels = []
    for n, k in ((up, shape.hidden), (shape.hidden, inner)):
        forward.append(grouped_gemm(groups, each, n, k, precision))
        inputs.append(grouped_gemm(groups, each, k, n, precision))
        weights.append(grouped_gemm(groups, k, n, each, precision))
        if precision in _NARROW:
            wide = _HALF + 2 * width_bytes(precision)
            forward.append(_elements(rows * k + groups * n * k, wide))
            inputs.append(_elements(rows * n, wide))
    # Rows arrive and leave in the order of their senders.
    copies = elementwise(4 * _HALF * rows * shape.hidden, 24)
    forward += [_elements(rows * (up + inner)), copies]
    inputs += [_elements(2 * rows * (up + inner)), copies]
    merged = own * shape.hidden * (used + 1)
    return {
        "ffn": Piece(tuple(forward), tuple(inputs), tuple(weights)),
        "merge": Piece((_elements(merged),), (_elements(2 * merged),)),
        "add": _norm_and_add(micro)[1],
    }


def embedding_forward(micro: Micro) -> Kernels:
    """Return the kernels before the first layer."""
    return [elementwise(2 * _HALF * micro.tokens * micro.shape.hidden, kind=KernelClass.EMBEDDING)]


def embedding_backward(micro: Micro) -> Kernels:
    """Return those of its gradient: rows are read, added to in fp32 and written."""
    return [elementwise(10 * micro.tokens * micro.shape.hidden, kind=KernelClass.EMBEDDING)]


def output_forward(micro: Micro) -> Kernels:
    """Return the kernels after the last layer: norm, logits in 16-bit products, loss."""
    shape, vocab = micro.shape, -(-micro.shape.vocab // micro.tensor)
    kernels = (
        _elements(2 * micro.own_tokens * shape.hidden),
        gemm(micro.tokens, vocab, shape.hidden, micro.half),
        elementwise(_LOGIT_FORWARD * micro.tokens * vocab, 4),
    )
    return list(_run(micro, kernels))


def output_backward(micro: Micro) -> Kernels:
    """Return those of its gradients."""
    shape, vocab = micro.shape, -(-micro.shape.vocab // micro.tensor)
    kernels = (
        elementwise(_LOGIT_BACKWARD * micro.tokens * vocab, 2),
        gemm(micro.tokens, shape.hidden, vocab, micro.half),
        gemm(shape.hidden, vocab, micro.tokens, micro.half),
        _elements(4 * micro.own_tokens * shape.hidden),
    )
    return list(_run(micro, kernels))


def optimizer(parameters: int) -> Kernels:
    """Return Adam on so many parameters: gradient, weight and both moments in fp32, weight in 16 bits."""
    return [elementwise(30.0 * parameters, kind=KernelClass.OPTIMIZER)]
