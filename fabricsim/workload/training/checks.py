"""Which options of a training go together: all that do not, each with what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from fabricsim.checkpoint import Plan
from fabricsim.compute import Accelerator, Efficiency, Jitter
from fabricsim.errors import unknown_name
from fabricsim.workload.shapes import ModelShape

if TYPE_CHECKING:
    from fabricsim.workload.training.options import Training

__all__ = ["problems_of"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "fsdp": ("none", "full", "grad", "hybrid"),
    "recompute": ("none", "selective", "full"),
    "context_exchange": ("ring", "gather"),
    "dispatch": ("token", "rank"),
    "detail": ("auto", "layer", "stage"),
    "param_dtype": ("bf16", "fp16", "fp32"),
    "grad_dtype": ("bf16", "fp16", "fp32"),
}
_PRECISIONS = ("bf16", "fp16", "fp8", "fp4", "tf32", "fp32")
_LEAST: dict[str, int] = {
    "n_ranks": 1,
    "global_batch_seqs": 1,
    "sequence_tokens": 1,
    "tensor": 1,
    "pipeline": 1,
    "virtual": 1,
    "context": 1,
    "expert": 1,
    "expert_tensor": 1,
    "micro_batch_seqs": 1,
    "shard_ranks": 0,
    "prefetch": 0,
    "prefetch_backward": 0,
    "bucket_bytes": 0,
    "vocab_multiple": 1,
    "steps": 1,
    "checkpoint_every": 0,
}
#: So many steps are written row by row; what comes of years is for goodput.
_STEPS_MOST = 10_000
#: Options of a checkpoint that do not follow from the training.
_PLAN = (
    "path", "mode", "layout", "ranks_per_node", "transfer_bytes", "copy_bytes_per_s", "fsync", "direct",
    "local_path", "drain_every",
)  # fmt: skip
_FLAGS = (
    "sequence_parallel", "reduce_every", "fused_attention", "eager", "overlap_grad_reduce",
    "overlap_param_gather", "overlap_tensor", "overlap_pipeline", "overlap_expert", "data_loading",
)  # fmt: skip


def problems_of(training: Training) -> list[str]:
    """Return what is wrong with the options, one sentence each; empty when nothing is."""
    problems = list(_values(training))
    if problems:
        return problems  # what goes together cannot be told of values that are none
    found = [*_layout(training), *_batch(training), *_sharding(training)]
    if isinstance(training.model, ModelShape):
        found += [*_model(training, training.model), *_experts(training, training.model)]
    return found + list(_rest(training))


def _values(t: Training) -> Iterator[str]:
    for name, least in _LEAST.items():
        value = getattr(t, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            yield f"{name}: found {value!r}, allowed: a whole number, at least {least}"
    if isinstance(t.steps, int) and t.steps > _STEPS_MOST:
        yield f"steps: found {t.steps}, allowed: at most {_STEPS_MOST}"
    if t.zero not in (0, 1, 2, 3):
        yield f"zero: found {t.zero!r}, allowed: 0, 1, 2, 3"
    for name, known in _CHOICES.items():
        if getattr(t, name) not in known:
            yield f"{name}: found {getattr(t, name)!r}, allowed: {', '.join(known)}"
    for name in _FLAGS:
        if not isinstance(getattr(t, name), bool):
            yield f"{name}: found {getattr(t, name)!r}, allowed: true, false"
    if t.precision not in _PRECISIONS:
        yield unknown_name("precision", str(t.precision), _PRECISIONS)
    elif isinstance(t.accelerator, Accelerator):
        half = "bf16" if t.precision in ("fp8", "fp4") else t.precision
        for precision in dict.fromkeys((t.precision, half)):
            if precision not in t.accelerator.peak_flops:
                yield (
                    f"precision: found {t.precision}, which needs {precision} on {t.accelerator.name},"
                    f" allowed: {', '.join(t.accelerator.peak_flops)}"
                )
    if not isinstance(t.checkpoint, Mapping):
        yield f"checkpoint: found {t.checkpoint!r}, allowed: a mapping of options"
    else:
        words: dict[type, str] = {int: "a whole number", bool: "true or false", str: "a text"}
        kinds: dict[str, type] = {one.name: type(one.default) for one in fields(Plan) if one.name in _PLAN}
        for name, value in t.checkpoint.items():
            if name in kinds and type(value) is not kinds[name]:
                yield f"checkpoint: {name}: found {value!r}, allowed: {words[kinds[name]]}"
    if not isinstance(t.efficiency, Efficiency):
        yield f"efficiency: found {t.efficiency!r}, allowed: an Efficiency"
    if not isinstance(t.data_path, str) or not t.data_path:
        yield f"data_path: found {t.data_path!r}, allowed: a path"
    if t.jitter is not None and not isinstance(t.jitter, Jitter):
        yield f"jitter: found {t.jitter!r}, allowed: none, or a Jitter"


def _layout(t: Training) -> Iterator[str]:
    world = t.tensor * t.context * t.pipeline
    if t.n_ranks % world:
        yield f"n_ranks: found {t.n_ranks}, allowed: a multiple of tensor x context x pipeline, {world}"
    if t.virtual > 1 and t.pipeline == 1:
        yield f"virtual: found {t.virtual} with pipeline 1, allowed: 1, or pipeline above 1"
    if t.sequence_parallel and t.tensor == 1:
        yield "sequence_parallel: found true with tensor 1, allowed: false, or tensor above 1"
    if t.context > 1 and not t.fused_attention:
        yield f"fused_attention: found false with context {t.context}, allowed: true"
    for name, on in (("overlap_tensor", t.overlap_tensor), ("overlap_pipeline", t.overlap_pipeline)):
        degree = "tensor" if name == "overlap_tensor" else "pipeline"
        if on and getattr(t, degree) == 1:
            yield f"{name}: found true with {degree} 1, allowed: false, or {degree} above 1"
    if t.overlap_tensor and t.tensor > 1 and not t.sequence_parallel:
        yield "overlap_tensor: found true without sequence_parallel, allowed: both"
    if t.context_exchange != "ring" and t.context == 1:
        yield f"context_exchange: found {t.context_exchange} with context 1, allowed: ring"


def _batch(t: Training) -> Iterator[str]:
    if t.n_ranks % (t.tensor * t.context * t.pipeline):
        return
    together = t.data * t.micro_batch_seqs
    if t.global_batch_seqs % together:
        yield (
            f"global_batch_seqs: found {t.global_batch_seqs}, allowed: a multiple of micro_batch_seqs x data"
            f" parallelism, {t.micro_batch_seqs} x {t.data}"
        )
    elif t.virtual > 1 and t.micro_batches % t.pipeline:
        yield (
            f"virtual: found {t.virtual} with {t.micro_batches} micro-batches, allowed: 1, or a number of"
            f" micro-batches that pipeline, {t.pipeline}, divides"
        )
    if t.context > 1 and t.sequence_tokens % (2 * t.context):
        yield (
            f"sequence_tokens: found {t.sequence_tokens}, allowed: a multiple of 2 x context, {2 * t.context}"
        )
    elif t.sequence_parallel and t.sequence_tokens // t.context % t.tensor:
        yield (
            f"sequence_tokens: found {t.sequence_tokens}, allowed with sequence_parallel: a multiple of"
            f" context x tensor, {t.context * t.tensor}"
        )


def _sharding(t: Training) -> Iterator[str]:
    if t.fsdp != "none" and t.zero:
        yield f"zero: found {t.zero} with fsdp {t.fsdp}, allowed: 0, as FSDP shards all by itself"
    if t.zero >= 2 and t.pipeline > 1:
        yield f"zero: found {t.zero} with pipeline {t.pipeline}, allowed: 0, 1 (or fsdp)"
    if t.zero >= 2 and not t.reduce_every:
        yield f"reduce_every: found false with zero {t.zero}, allowed: true"
    if t.n_ranks % (t.tensor * t.context * t.pipeline):
        return
    replicas = t.data * t.context
    if t.fsdp == "hybrid" and (t.shard_ranks < 2 or replicas % t.shard_ranks or t.shard_ranks == replicas):
        yield (
            f"shard_ranks: found {t.shard_ranks} with fsdp hybrid, allowed: a divisor of data x context,"
            f" {replicas}, above 1 and below it"
        )
    if t.fsdp != "hybrid" and t.shard_ranks:
        yield f"shard_ranks: found {t.shard_ranks} with fsdp {t.fsdp}, allowed: 0, or fsdp hybrid"
    if t.fsdp == "hybrid" and t.expert > 1:
        yield f"fsdp: found hybrid with expert {t.expert}, allowed: full, grad"


def _model(t: Training, shape: ModelShape) -> Iterator[str]:
    parts = {"heads": shape.heads, "ffn": shape.ffn, "the shared experts": 0}
    if shape.experts and not shape.dense_layers:
        parts.pop("ffn")
    if shape.shared_experts:
        parts["the shared experts"] = shape.shared_experts * shape.expert_ffn
    for what, size in parts.items():
        if size % t.tensor:
            yield f"tensor: found {t.tensor}, allowed: a divisor of {what} of {shape.name}, {size}"
    if shape.kv_heads % t.tensor and t.tensor % shape.kv_heads:
        yield (
            f"tensor: found {t.tensor}, allowed: a divisor or a multiple of the key-value heads of"
            f" {shape.name}, {shape.kv_heads}"
        )
    if t.pipeline * t.virtual > shape.layers and t.pipeline * t.virtual != shape.layers + 2:
        yield (
            f"pipeline: found {t.pipeline} x virtual {t.virtual}, allowed: at most {shape.layers}, the"
            f" layers of {shape.name}, or {shape.layers + 2}: embedding and output have a place of their own"
        )
    if shape.positions and t.sequence_tokens > shape.positions:
        yield (
            f"sequence_tokens: found {t.sequence_tokens}, allowed: at most {shape.positions}, the"
            f" positions of {shape.name}"
        )


def _experts(t: Training, shape: ModelShape) -> Iterator[str]:
    if not shape.experts:
        if t.expert > 1:
            yield f"expert: found {t.expert}, allowed: 1, as {shape.name} has no experts"
        if t.expert_tensor != t.tensor:
            yield (
                f"expert_tensor: found {t.expert_tensor}, allowed: {t.tensor}, as {shape.name} has no experts"
            )
    else:
        if shape.experts % t.expert:
            yield (
                f"expert: found {t.expert}, allowed: a divisor of {shape.experts}, the experts of"
                f" {shape.name}"
            )
        if shape.expert_ffn % t.expert_tensor:
            yield (
                f"expert_tensor: found {t.expert_tensor}, allowed: a divisor of {shape.expert_ffn}, the"
                f" width of an expert of {shape.name}"
            )
        if t.tensor > 1 and not t.sequence_parallel:
            yield "sequence_parallel: found false with experts and tensor above 1, allowed: true"
        stage = t.n_ranks // t.pipeline
        if t.n_ranks % t.pipeline == 0 and stage % (t.expert * t.expert_tensor):
            yield (
                f"expert: found {t.expert} x expert_tensor {t.expert_tensor}, allowed: a divisor of tensor x"
                f" context x data, {stage}"
            )
    if t.dispatch != "token" and t.expert == 1:
        yield f"dispatch: found {t.dispatch} with expert 1, allowed: token, or expert above 1"
    if t.overlap_expert and not (shape.shared_experts and t.expert > 1):
        yield "overlap_expert: found true, allowed with: a model with shared experts, and expert above 1"


def _rest(t: Training) -> Iterator[str]:
    if t.checkpoint_every > t.steps:
        yield f"checkpoint_every: found {t.checkpoint_every} with {t.steps} steps, allowed: at most steps"
    if t.checkpoint and not t.checkpoint_every:
        yield "checkpoint: found options without checkpoint_every, allowed: both"
    unknown = [name for name in t.checkpoint if name not in _PLAN]
    for name in unknown:
        yield unknown_name("option of a checkpoint", name, _PLAN)
    if t.checkpoint_every and t.expert_tensor != t.tensor:
        yield f"expert_tensor: found {t.expert_tensor} with checkpoint_every, allowed: as tensor, {t.tensor}"
