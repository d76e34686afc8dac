"""Shapes of transformer language models: their weights tensor by tensor, and models by name.

A shape says which matrices a model has; parameter counts, checkpoint sizes and messages follow from it. The
named ones carry the dimensions that their authors published.

>>> named_shape("llama3-8b").parameters
8030261248
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fabricsim.errors import ConfigError, unknown_name

__all__ = ["SHAPES", "LatentAttention", "ModelShape", "Tensor", "named_shape", "part"]


def part(total: int, parts: int, index: int) -> int:
    """Return the size of one of ``parts`` nearly equal parts; the first ones are one larger.

    >>> [part(10, 4, index) for index in range(4)]
    [3, 3, 2, 2]
    """
    return total // parts + (index < total % parts)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight tensor, or several alike, one an expert.

    Parameters
    ----------
    name
        What it is, such as ``attention.q``.
    shape
        Its dimensions, in elements.
    cut
        The axis along which tensor parallelism cuts it; None: every tensor-parallel rank holds the whole.
    unit
        It is cut at multiples of so many elements of that axis (an attention head).
    experts
        So many of this tensor, one an expert; 0: one, not of an expert.
    """

    name: str
    shape: tuple[int, ...]
    cut: int | None = None
    unit: int = 1
    experts: int = 0

    @property
    def elements(self) -> int:
        """Elements of all of them."""
        return _product(self.shape) * max(1, self.experts)

    def local(self, parts: int, index: int) -> tuple[int, ...]:
        """Return the shape of what tensor-parallel rank ``index`` of ``parts`` holds of one of them.

        With more ranks than units (fewer key-value heads than ranks), each rank holds one unit.
        """
        if self.cut is None or parts == 1:
            return self.shape
        mine = max(1, part(self.shape[self.cut] // self.unit, parts, index)) * self.unit
        return (*self.shape[: self.cut], mine, *self.shape[self.cut + 1 :])


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention: ranks of the compressed queries and key-values, and widths of a head.

    Source: DeepSeek-V2, arXiv 2405.04434, section 2.1.
    """

    query_rank: int
    key_value_rank: int
    plain_width: int
    rotary_width: int
    value_width: int


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer.

    Parameters
    ----------
    name
        Of the model.
    layers, hidden, heads
        Transformer layers, width, and attention heads of each; at least 1.
    ffn
        Inner width of the feed-forward network of a dense layer.
    vocab
        Rows of the embedding.
    source
        Where the dimensions were published.
    kv_heads
        Heads of keys and values; 0: as many as ``heads``.
    head_width
        Width of a head; 0: ``hidden // heads``.
    tied
        Whether the output layer shares the embedding's weights.
    positions
        Rows of a learned table of positions; 0: none (rotary, ALiBi).
    gated
        Three feed-forward matrices (SwiGLU) rather than two.
    norm_bias, linear_bias, qkv_bias, query_key_norm, embedding_norm
        Layer norms with biases (RMSNorm has none); biases in every linear layer, or only in queries, keys and
        values; norms over the heads of queries and keys; a norm after the embedding.
    experts, experts_used, shared_experts, expert_ffn, dense_layers, router_bias
        Routed experts of a layer (0: a dense model), how many a token goes to, experts that every token goes
        to, inner width of one, how many first layers are dense, and whether the router has a bias.
    latent
        Multi-head latent attention, if any.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    ffn: int
    vocab: int
    source: str
    kv_heads: int = 0
    head_width: int = 0
    tied: bool = False
    positions: int = 0
    gated: bool = True
    norm_bias: bool = False
    linear_bias: bool = False
    qkv_bias: bool = False
    query_key_norm: bool = False
    embedding_norm: bool = False
    experts: int = 0
    experts_used: int = 0
    shared_experts: int = 0
    expert_ffn: int = 0
    dense_layers: int = 0
    router_bias: bool = False
    latent: LatentAttention | None = None

    def __post_init__(self) -> None:
        if not self.kv_heads:
            object.__setattr__(self, "kv_heads", self.heads)
        if not self.head_width:
            object.__setattr__(self, "head_width", self.hidden // max(1, self.heads))
        problems = [
            f"{name}: found {getattr(self, name)}, allowed: at least 1"
            for name in ("layers", "hidden", "heads", "ffn", "vocab", "kv_heads", "head_width")
            if getattr(self, name) < 1
        ]
        if self.experts and not (0 < self.experts_used <= self.experts and self.expert_ffn > 0):
            problems.append(
                f"experts_used: found {self.experts_used} of {self.experts} experts, allowed: 1 to all,"
                " with expert_ffn"
            )
        if problems:
            raise ConfigError([f"model {self.name}: {problem}" for problem in problems])

    def __repr__(self) -> str:
        return (
            f"<ModelShape {self.name}: {self.layers} layers of {self.hidden}, {self.parameters:,} parameters>"
        )

    def is_moe(self, layer: int) -> bool:
        """Tell whether the layer (from 0) has experts."""
        return self.experts > 0 and layer >= self.dense_layers

    def embedding(self) -> tuple[Tensor, ...]:
        """Return the tensors before the first layer."""
        found = [Tensor("embedding", (self.vocab, self.hidden), 0)]
        if self.positions:
            found.append(Tensor("positions", (self.positions, self.hidden)))
        if self.embedding_norm:
            found += self._norm("embedding.norm", self.hidden)
        return tuple(found)

    def layer(self, index: int) -> tuple[Tensor, ...]:
        """Return the tensors of a layer, from 0."""
        return self._moe_layer if self.is_moe(index) else self._dense_layer

    def output(self) -> tuple[Tensor, ...]:
        """Return the tensors after the last layer; tied weights are the embedding's and not counted again."""
        found = self._norm("norm", self.hidden)
        if not self.tied:
            found.append(Tensor("output", (self.vocab, self.hidden), 0))
        return tuple(found)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all tensors in the order of the model."""
        inner = [tensor for index in range(self.layers) for tensor in self.layer(index)]
        return (*self.embedding(), *inner, *self.output())

    @cached_property
    def parameters(self) -> int:
        """How many weights the model has."""
        return sum(tensor.elements for tensor in self.tensors())

    @cached_property
    def active_parameters(self) -> int:
        """How many weights a token meets: of the routed experts those that it goes to."""
        idle = sum(
            t.elements // t.experts * (t.experts - self.experts_used) for t in self.tensors() if t.experts
        )
        return self.parameters - idle

    def padded(self, multiple: int) -> ModelShape:
        """Return the model with the embedding's rows rounded up to a multiple, as Megatron-LM does."""
        return replace(self, vocab=-(-self.vocab // multiple) * multiple)

    @cached_property
    def _dense_layer(self) -> tuple[Tensor, ...]:
        return (*self._attention(), *self._mlp("mlp", self.ffn, 0))

    @cached_property
    def _moe_layer(self) -> tuple[Tensor, ...]:
        found = [*self._attention(), Tensor("router", (self.experts, self.hidden))]
        if self.router_bias:
            found.append(Tensor("router.bias", (self.experts,)))
        found += self._mlp("expert", self.expert_ffn, self.experts)
        if self.shared_experts:
            found += self._mlp("shared", self.expert_ffn * self.shared_experts, 0)
        return tuple(found)

    def _norm(self, name: str, width: int) -> list[Tensor]:
        found = [Tensor(name, (width,))]
        if self.norm_bias:
            found.append(Tensor(f"{name}.bias", (width,)))
        return found

    def _attention(self) -> list[Tensor]:
        hidden, width = self.hidden, self.head_width
        found = [*self._norm("attention.norm", hidden), *self._norm("mlp.norm", hidden)]
        if self.latent is not None:
            return found + self._latent_attention(self.latent)
        for name, heads in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads)):
            found.append(Tensor(f"attention.{name}", (heads * width, hidden), 0, width))
            if self.linear_bias or self.qkv_bias:
                found.append(Tensor(f"attention.{name}.bias", (heads * width,), 0, width))
        found.append(Tensor("attention.out", (hidden, self.heads * width), 1, width))
        if self.linear_bias:
            found.append(Tensor("attention.out.bias", (hidden,)))
        if self.query_key_norm:
            found += [Tensor("attention.q.norm", (width,)), Tensor("attention.k.norm", (width,))]
        return found

    def _latent_attention(self, latent: LatentAttention) -> list[Tensor]:
        query = latent.plain_width + latent.rotary_width
        expanded = latent.plain_width + latent.value_width
        return [
            Tensor("attention.q.down", (latent.query_rank, self.hidden)),
            *self._norm("attention.q.norm", latent.query_rank),
            Tensor("attention.q.up", (self.heads * query, latent.query_rank), 0, query),
            Tensor("attention.kv.down", (latent.key_value_rank + latent.rotary_width, self.hidden)),
            *self._norm("attention.kv.norm", latent.key_value_rank),
            Tensor("attention.kv.up", (self.heads * expanded, latent.key_value_rank), 0, expanded),
            Tensor("attention.out", (self.hidden, self.heads * latent.value_width), 1, latent.value_width),
        ]

    def _mlp(self, name: str, width: int, experts: int) -> list[Tensor]:
        found = [Tensor(f"{name}.gate", (width, self.hidden), 0, 1, experts)] if self.gated else []
        found.append(Tensor(f"{name}.up", (width, self.hidden), 0, 1, experts))
        if self.linear_bias:
            found.append(Tensor(f"{name}.up.bias", (width,), 0, 1, experts))
        found.append(Tensor(f"{name}.down", (self.hidden, width), 1, 1, experts))
        if self.linear_bias:
            found.append(Tensor(f"{name}.down.bias", (self.hidden,), None, 1, experts))
        return found


def _gpt(name: str, layers: int, hidden: int, heads: int, source: str, **more: Any) -> ModelShape:
    """A model of the GPT-2 kind: learned positions, biases everywhere, tied output."""
    dimensions: dict[str, Any] = {"vocab": 50257, "positions": 1024} | more
    return ModelShape(
        name=name, layers=layers, hidden=hidden, heads=heads, ffn=4 * hidden, source=source, tied=True,
        gated=False, norm_bias=True, linear_bias=True, **dimensions,
    )  # fmt: skip


def _llama(
    name: str, layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, **more: Any
) -> ModelShape:
    """A model of the Llama kind: RMSNorm, SwiGLU, rotary positions, no biases."""
    given: dict[str, Any] = {"vocab": 128256, "source": "Llama 3, arXiv 2407.21783, table 3"} | more
    return ModelShape(
        name=name, layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, ffn=ffn, **given,
    )  # fmt: skip


_GPT2 = "GPT-2: Radford et al. 2019, table 2; openai/gpt-2 hparams.json"
_GPT3 = "GPT-3, arXiv 2005.14165, table 2.1"
_SC21 = "Megatron-LM, SC21, arXiv 2104.04473, table 1; vocabulary 51,200"
_MPT = "mosaicml/llm-foundry, scripts/train/yamls/pretrain and benchmarking"
_LLAMA2 = "Llama 2, arXiv 2307.09288"
_LLAMA32 = "Llama 3.2: the published config.json"
_QWEN25 = "Qwen2.5, arXiv 2412.15115, table 1; the published config.json"
_QWEN3 = "Qwen3, arXiv 2505.09388, tables 1 and 2; the published config.json"

#: Models by name.
SHAPES: dict[str, ModelShape] = {
    shape.name: shape
    for shape in (
        _gpt("gpt2", 12, 768, 12, _GPT2),
        _gpt("gpt2-xl", 48, 1600, 25, _GPT2),
        _gpt("gpt3-125m", 12, 768, 12, _GPT3, positions=2048),
        _gpt("gpt3-350m", 24, 1024, 16, _GPT3, positions=2048),
        _gpt("gpt3-760m", 24, 1536, 16, _GPT3, positions=2048),
        _gpt("gpt3-1.3b", 24, 2048, 16, f"{_GPT3}, whose 24 heads of 128 are not its width", positions=2048),
        _gpt("gpt3-2.7b", 32, 2560, 32, _GPT3, positions=2048),
        _gpt("gpt3-6.7b", 32, 4096, 32, _GPT3, positions=2048),
        _gpt("gpt3-13b", 40, 5120, 40, f"{_GPT3}, whose 5140 is no multiple of its heads", positions=2048),
        _gpt("gpt3-175b", 96, 12288, 96, _GPT3, positions=2048),
        _gpt(
            "mt-nlg-530b", 105, 20480, 128,
            "Megatron-Turing NLG, arXiv 2201.11990, section 2.3; vocabulary padded for tensor parallel 8",
            vocab=51200, positions=2048,
        ),
        *(
            _gpt(f"gpt-{size}", layers, hidden, heads, _SC21, vocab=51200, positions=2048)
            for size, layers, hidden, heads in (
                ("1.7b", 24, 2304, 24), ("3.6b", 30, 3072, 32), ("7.5b", 36, 4096, 32),
                ("18.4b", 40, 6144, 48), ("39.1b", 48, 8192, 64), ("76.1b", 60, 10240, 80),
                ("145.6b", 80, 12288, 96), ("310.1b", 96, 16384, 128), ("529.6b", 105, 20480, 128),
                ("1008b", 128, 25600, 160),
            )
        ),
        *(
            _gpt(f"mpt-{size}", layers, hidden, heads, _MPT, vocab=50368, positions=2048)
            for size, layers, hidden, heads in (
                ("125m", 12, 768, 12), ("350m", 24, 1024, 16), ("760m", 24, 1536, 12), ("1b", 24, 2048, 16),
                ("3b", 32, 2560, 20), ("7b", 32, 4096, 32), ("13b", 40, 5120, 40), ("30b", 48, 7168, 56),
                ("70b", 80, 8192, 64),
            )
        ),
        replace(
            _gpt("bloom-176b", 70, 14336, 112, "BLOOM, arXiv 2211.05100, table 3", vocab=250880, positions=0),
            embedding_norm=True,
        ),
        _llama("llama2-7b", 32, 4096, 32, 32, 11008, vocab=32000, source=_LLAMA2),
        _llama("llama2-13b", 40, 5120, 40, 40, 13824, vocab=32000, source=_LLAMA2),
        _llama("llama2-70b", 80, 8192, 64, 8, 28672, vocab=32000, source=_LLAMA2),
        _llama("llama3-8b", 32, 4096, 32, 8, 14336),
        _llama("llama3-70b", 80, 8192, 64, 8, 28672),
        _llama("llama3-405b", 126, 16384, 128, 8, 53248),
        _llama("llama3.2-1b", 16, 2048, 32, 8, 8192, tied=True, source=_LLAMA32),
        _llama("llama3.2-3b", 28, 3072, 24, 8, 8192, tied=True, source=_LLAMA32),
        _llama("mistral-7b", 32, 4096, 32, 8, 14336, vocab=32000, source="arXiv 2310.06825, table 1"),
        _llama(
            "mixtral-8x7b", 32, 4096, 32, 8, 14336, vocab=32000, experts=8, experts_used=2, expert_ffn=14336,
            source="Mixtral of experts, arXiv 2401.04088, table 1",
        ),
        _llama(
            "qwen2.5-7b", 28, 3584, 28, 4, 18944, vocab=152064, qkv_bias=True, source=_QWEN25,
        ),
        _llama("qwen2.5-72b", 80, 8192, 64, 8, 29568, vocab=152064, qkv_bias=True, source=_QWEN25),
        _llama(
            "qwen3-8b", 36, 4096, 32, 8, 12288, vocab=151936, head_width=128, query_key_norm=True,
            source=_QWEN3,
        ),
        _llama(
            "qwen3-30b-a3b", 48, 2048, 32, 4, 6144, vocab=151936, head_width=128, query_key_norm=True,
            experts=128, experts_used=8, expert_ffn=768, source=_QWEN3,
        ),
        _llama(
            "qwen3-235b-a22b", 94, 4096, 64, 4, 12288, vocab=151936, head_width=128, query_key_norm=True,
            experts=128, experts_used=8, expert_ffn=1536, source=_QWEN3,
        ),
        _llama(
            "deepseek-v2", 60, 5120, 128, 128, 12288, vocab=102400, experts=160, experts_used=6,
            shared_experts=2, expert_ffn=1536, dense_layers=1,
            latent=LatentAttention(
                query_rank=1536, key_value_rank=512, plain_width=128, rotary_width=64, value_width=128
            ),
            source="DeepSeek-V2, arXiv 2405.04434, section 3.1.2",
        ),
        _llama(
            "deepseek-v3", 61, 7168, 128, 128, 18432, vocab=129280, experts=256, experts_used=8,
            shared_experts=1, expert_ffn=2048, dense_layers=3, router_bias=True,
            latent=LatentAttention(
                query_rank=1536, key_value_rank=512, plain_width=128, rotary_width=64, value_width=128
            ),
            source="DeepSeek-V3, arXiv 2412.19437, section 4.2; without the module of the second next token",
        ),
    )
}  # fmt: skip


def named_shape(name: str) -> ModelShape:
    """Return a model by name.

    Raises
    ------
    ConfigError
        When there is none; names those that there are.
    """
    if name not in SHAPES:
        raise ConfigError([unknown_name("model", name, SHAPES)])
    return SHAPES[name]
