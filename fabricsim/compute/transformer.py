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

from dataclasses import dataclass
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
    "backward",
    "embedding_backward",
    "embedding_forward",
    "forward",
    "optimizer",
    "output_backward",
    "output_forward",
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


@lru_cache(maxsize=256)
def _forward(micro: Micro, moe: bool) -> dict[str, tuple[Kernel, ...]]:
    found = {"attention": tuple(_attention_forward(micro))}
    if moe:
        found["router"] = tuple(_router_forward(micro))
        found["experts"] = tuple(_experts(micro, backward=False))
    else:
        found["mlp"] = tuple(_mlp(micro, micro.shape.ffn, backward=False))
    return found


@lru_cache(maxsize=256)
def _backward(micro: Micro, moe: bool, recompute: str) -> dict[str, tuple[Kernel, ...]]:
    found = {"attention": _attention_backward(micro)}
    if moe:
        found["router"] = [again for kernel in _router_forward(micro) for again in _gradients(kernel)]
        found["experts"] = _experts(micro, backward=True)
    else:
        found["mlp"] = _mlp(micro, micro.shape.ffn, backward=True)
    if recompute == "full":
        for name, kernels in _forward(micro, moe).items():
            found[name] += kernels
    elif recompute == "selective":
        found["attention"] += _core_forward(micro)
    return {name: tuple(kernels) for name, kernels in found.items()}


def forward(micro: Micro, layer: int) -> dict[str, Kernels]:
    """Return the kernels of a layer, from 0: ``attention`` and ``mlp``, or also ``router`` and ``experts``.

    Between router and experts tokens travel to their experts, and back after them; experts that every token
    goes to are among ``experts``.
    """
    found = _forward(micro, micro.shape.is_moe(layer))
    return {name: list(kernels) for name, kernels in found.items()}


def backward(micro: Micro, layer: int, recompute: str = "none") -> dict[str, Kernels]:
    """Return the kernels of a layer's gradients, with what is computed again.

    Parameters
    ----------
    micro, layer
        As forward.
    recompute
        ``none``; ``selective``: the attention core; ``full``: the whole layer.
    """
    found = _backward(micro, micro.shape.is_moe(layer), recompute)
    return {name: list(kernels) for name, kernels in found.items()}


def _elements(count: float, width: float = _HALF) -> Kernel:
    return elementwise(count * width)


def _product(micro: Micro, m: int, n: int, k: int, *, backward: bool) -> Kernels:
    """A linear layer of m tokens from k to n; backward, the gradients of its input and of its weights.

    In fewer than 16 bits, its inputs are cast first, and transposed where they are needed so.
    """
    precision = micro.precision
    if not backward:
        found = [gemm(m, n, k, precision)]
        if precision in _NARROW:
            found.append(_elements(m * k + n * k, _HALF + 2 * width_bytes(precision)))
        return found
    found = [gemm(m, k, n, precision), gemm(k, n, m, precision)]
    if precision in _NARROW:
        found.append(_elements(m * n, _HALF + 2 * width_bytes(precision)))
    return found


def _gradients(kernel: Kernel) -> Kernels:
    """What a small kernel's gradients cost: twice the kernel."""
    return [kernel.times(2)]


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


def _attention_forward(micro: Micro) -> Kernels:
    shape, tokens, own = micro.shape, micro.tokens, micro.own_tokens
    inner = shape.heads // micro.tensor * _value_width(shape)
    found = [_elements(2 * own * shape.hidden)]  # norm
    for n, k in _projections(micro):
        found += _product(micro, tokens, n, k, backward=False)
    if not shape.positions:
        found.append(_elements(2 * tokens * _projections(micro)[0][0]))  # rotation, norms of heads
    found += _core_forward(micro)
    found += _product(micro, tokens, shape.hidden, inner, backward=False)
    found.append(_elements(3 * own * shape.hidden))  # residual
    return found


def _attention_backward(micro: Micro) -> Kernels:
    shape, tokens, own = micro.shape, micro.tokens, micro.own_tokens
    inner = shape.heads // micro.tensor * _value_width(shape)
    found = _product(micro, tokens, shape.hidden, inner, backward=True)
    found += _core_backward(micro)
    for n, k in _projections(micro):
        found += _product(micro, tokens, n, k, backward=True)
    if not shape.positions:
        found.append(_elements(2 * tokens * _projections(micro)[0][0]))
    # the gradients of the norm's input and of its weights, and the sum of the residual's two gradients
    found += [_elements(4 * own * shape.hidden), _elements(3 * own * shape.hidden)]
    return found


def _mlp(micro: Micro, ffn: int, *, backward: bool, norms: bool = True) -> Kernels:
    """A feed-forward network of an inner width, cut among tensor-parallel ranks, with norm and residual."""
    shape, tokens, own = micro.shape, micro.tokens, micro.own_tokens
    inner = ffn // micro.tensor
    up = inner * (2 if shape.gated else 1)
    found = _product(micro, tokens, up, shape.hidden, backward=backward)
    found += _product(micro, tokens, shape.hidden, inner, backward=backward)
    found.append(_elements(tokens * (up + inner) * (2 if backward else 1)))  # activation
    if norms:
        found += [_elements((4 if backward else 2) * own * shape.hidden), _elements(3 * own * shape.hidden)]
    return found


def _router_forward(micro: Micro) -> Kernels:
    """Scores of the experts, the choice, and the copies of tokens in the order of their experts."""
    shape = micro.shape
    tokens = micro.own_tokens
    return [
        _elements(2 * tokens * shape.hidden),
        gemm(tokens, shape.experts, shape.hidden, micro.half),
        elementwise(tokens * shape.experts * 12.0, 6),  # softmax, top-k, masks
        elementwise(_HALF * tokens * shape.hidden * (1 + shape.experts_used), 2),
    ]


def _experts(micro: Micro, *, backward: bool) -> Kernels:
    """Experts of this rank on the tokens that come to it, balanced; and what merges their results."""
    shape = micro.shape
    used, own = shape.experts_used, micro.tokens // micro.tensor
    groups = max(1, shape.experts // micro.expert)
    rows = own * used * micro.expert_tensor
    each, inner = max(1, rows // groups), shape.expert_ffn // micro.expert_tensor
    up = inner * (2 if shape.gated else 1)
    found: Kernels = []
    for n, k in ((up, shape.hidden), (shape.hidden, inner)):
        sizes = ((each, k, n), (k, n, each)) if backward else ((each, n, k),)
        found += [grouped_gemm(groups, *size, micro.precision) for size in sizes]
        if micro.precision in _NARROW:
            wide = _HALF + 2 * width_bytes(micro.precision)
            found.append(_elements(rows * n if backward else rows * k + groups * n * k, wide))
    found.append(_elements(rows * (up + inner) * (2 if backward else 1)))
    # rows arrive and leave in the order of their senders; a token's results are weighed and added
    found += [
        elementwise(4 * _HALF * rows * shape.hidden, 2),
        _elements(own * shape.hidden * (used + 1) * (2 if backward else 1)),
        _elements(3 * micro.own_tokens * shape.hidden),
    ]
    if shape.shared_experts:
        found += _mlp(micro, shape.expert_ffn * shape.shared_experts, backward=backward, norms=False)
    return found


def embedding_forward(micro: Micro) -> Kernels:
    """Return the kernels before the first layer."""
    return [elementwise(2 * _HALF * micro.tokens * micro.shape.hidden, kind=KernelClass.EMBEDDING)]


def embedding_backward(micro: Micro) -> Kernels:
    """Return those of its gradient: rows are read, added to in fp32 and written."""
    return [elementwise(10 * micro.tokens * micro.shape.hidden, kind=KernelClass.EMBEDDING)]


def output_forward(micro: Micro) -> Kernels:
    """Return the kernels after the last layer: norm, logits in 16-bit products, loss."""
    shape, vocab = micro.shape, -(-micro.shape.vocab // micro.tensor)
    return [
        _elements(2 * micro.own_tokens * shape.hidden),
        gemm(micro.tokens, vocab, shape.hidden, micro.half),
        elementwise(_LOGIT_FORWARD * micro.tokens * vocab, 4),
    ]


def output_backward(micro: Micro) -> Kernels:
    """Return those of its gradients."""
    shape, vocab = micro.shape, -(-micro.shape.vocab // micro.tensor)
    return [
        elementwise(_LOGIT_BACKWARD * micro.tokens * vocab, 2),
        gemm(micro.tokens, shape.hidden, vocab, micro.half),
        gemm(shape.hidden, vocab, micro.tokens, micro.half),
        _elements(4 * micro.own_tokens * shape.hidden),
    ]


def optimizer(parameters: int) -> Kernels:
    """Return Adam on so many parameters: gradient, weight and both moments in fp32, weight in 16 bits."""
    return [elementwise(30.0 * parameters, kind=KernelClass.OPTIMIZER)]
