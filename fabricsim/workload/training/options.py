"""What is trained, on how many ranks, and how: every option of a training step, validated together.

>>> Training(model="llama3-8b", n_ranks=64, tensor=8, global_batch_seqs=64, sequence_tokens=8192).data
8
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any

from fabricsim.checkpoint import Checkpoint, Plan
from fabricsim.compute import EFFICIENCY, Accelerator, Efficiency, Jitter, accelerator_named
from fabricsim.errors import ConfigError, unknown_name
from fabricsim.units import parse_bytes, parse_rate_mbps
from fabricsim.workload.shapes import ModelShape, named_shape
from fabricsim.workload.training.checks import problems_of
from fabricsim.workload.training.layout import Layout

__all__ = ["ALIASES", "DTYPES", "Training"]

#: Bytes of an element of parameters and gradients.
DTYPES: dict[str, int] = {"fp32": 4, "bf16": 2, "fp16": 2}

#: Short names, as the command line has them, of fields.
ALIASES: dict[str, str] = {
    "ranks": "n_ranks",
    "tp": "tensor",
    "pp": "pipeline",
    "vp": "virtual",
    "cp": "context",
    "ep": "expert",
    "etp": "expert_tensor",
    "sp": "sequence_parallel",
    "gbs": "global_batch_seqs",
    "mbs": "micro_batch_seqs",
    "seq": "sequence_tokens",
}

#: Elements of a bucket of gradients, at least, and a rank's share of it: the defaults of Megatron-LM.
_BUCKET_ELEMENTS, _BUCKET_ELEMENTS_PER_RANK = 40_000_000, 1_000_000


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training job: model, parallel layout, batch, and what overlaps with what.

    Data parallelism is what the ranks leave over: ``n_ranks / (tensor x context x pipeline)``. Ranks are
    ordered as Megatron-LM orders them, see ``Layout``.

    Parameters
    ----------
    model
        A name of ``fabricsim.workload.shapes``, or a shape.
    n_ranks
        Accelerators, one a rank, at least 1.
    accelerator
        A name of ``fabricsim.compute.ACCELERATORS``, or one: what compute takes.
    precision
        Of the matrix multiplications: ``bf16``, ``fp16``, ``fp8``, ``fp4``, ``tf32`` or ``fp32``. Activations
        travel in 16 bits (fp32 and tf32: 32).
    tensor, sequence_parallel
        Tensor-parallel ranks, and whether norms and residuals are cut along the sequence among them, so that
        all-gather and reduce-scatter take the place of all-reduce; None: if ``tensor`` is above 1.
    pipeline, virtual
        Pipeline stages, and chunks of layers of each: 1 is 1F1B, more is the interleaved schedule.
    context, context_exchange
        Context-parallel ranks, and how keys and values reach them: ``ring`` (behind the attention) or
        ``gather`` (before it).
    expert, expert_tensor
        Ranks that share the experts of a layer, and ranks that share each expert; 0: as ``tensor``.
    dispatch
        How tokens travel to their experts: ``token``, once for each of these; or ``rank``, once for each rank
        that has any of them (DeepEP).
    global_batch_seqs, micro_batch_seqs, sequence_tokens
        Sequences of a step and of a micro-batch of a rank, and tokens of a sequence.
    zero
        0: DDP, gradients are all-reduced. 1: the distributed optimizer, gradients are reduce-scattered and
        parameters all-gathered. 2: gradients also after each micro-batch. 3: parameters are gathered layer by
        layer, as ``fsdp="full"``.
    fsdp, shard_ranks
        ``none``; ``full``: parameters are cut and gathered for forward and again for backward; ``grad``: kept
        from forward to backward; ``hybrid``: as full among ``shard_ranks`` data-parallel ranks, with an
        all-reduce among their replicas.
    reduce_every
        Whether gradients are reduced after every micro-batch rather than the last one; None: with FSDP and
        ZeRO 2 and 3, yes.
    recompute
        In backward: ``none``, ``selective`` (the attention core) or ``full`` (every layer) is computed again.
    fused_attention
        Whether attention is one kernel that skips what the causal mask hides (FlashAttention); otherwise all
        products are done, and scores go to memory.
    eager
        Whether norms, activations, residuals and losses run operation by operation, as in PyTorch without a
        compiler, rather than as fused kernels.
    efficiency
        What kernels attain of the accelerator's peaks, see ``fabricsim.compute.Efficiency``.
    param_dtype, grad_dtype
        Of parameters as they are gathered, and of gradients as they are reduced: ``bf16``, ``fp16``,
        ``fp32``.
    overlap_grad_reduce, overlap_param_gather
        Whether gradients are reduced bucket by bucket behind the last backward pass, and parameters gathered
        behind the first forward pass (ZeRO 1 and 2).
    overlap_tensor
        Whether exposed tensor-parallel messages are cut in chunks, each beside the multiplication of another,
        as Transformer Engine's user buffers do.
    overlap_pipeline
        Whether a stage computes on while it sends; None: with ``virtual`` above 1, as Megatron-LM.
    overlap_expert
        Whether the shared experts are computed while tokens travel.
    prefetch, prefetch_backward
        Layers whose parameters are gathered ahead in forward and in backward (FSDP and ZeRO 3); 0: each when
        it is its turn; None: in backward as in forward.
    bucket_bytes
        Gradients that are reduced at once; 0: Megatron-LM's 40,000,000 elements, or a million a data-parallel
        rank if that is more, and all of a chunk but on the first chunk of the first stage.
    vocab_multiple
        The vocabulary is padded to a multiple of this times ``tensor``.
    steps
        Training steps, at most 10,000.
    checkpoint_every, checkpoint
        A checkpoint after every so many steps (0: none), and options of ``fabricsim.checkpoint.Plan`` for it.
    data_loading, data_path
        Whether the tokens of the next step are read, by one rank of each that need the same, from a file
        there.
    detail
        ``layer``: a row for each part of a layer; ``stage``: a few rows for a pass of a stage; ``auto``:
        layer if that is not too much.
    jitter
        Of compute, see ``fabricsim.compute.Jitter``.

    Raises
    ------
    ConfigError
        With all that does not fit.

    >>> Training(model="gpt2", n_ranks=4, tensor=3, global_batch_seqs=4, sequence_tokens=1024)
    Traceback (most recent call last):
        ...
    fabricsim.errors.ConfigError: n_ranks: found 4, allowed: a multiple of tensor x context x pipeline, 3
    """

    model: ModelShape | str
    n_ranks: int
    global_batch_seqs: int
    sequence_tokens: int
    accelerator: Accelerator | str = "h100"
    precision: str = "bf16"
    tensor: int = 1
    sequence_parallel: bool | None = None
    pipeline: int = 1
    virtual: int = 1
    context: int = 1
    context_exchange: str = "ring"
    expert: int = 1
    expert_tensor: int = 0
    dispatch: str = "token"
    micro_batch_seqs: int = 1
    zero: int = 0
    fsdp: str = "none"
    shard_ranks: int = 0
    reduce_every: bool | None = None
    recompute: str = "none"
    fused_attention: bool = True
    eager: bool = False
    efficiency: Efficiency = EFFICIENCY
    param_dtype: str = "bf16"
    grad_dtype: str = "fp32"
    overlap_grad_reduce: bool = True
    overlap_param_gather: bool = True
    overlap_tensor: bool = False
    overlap_pipeline: bool | None = None
    overlap_expert: bool = False
    prefetch: int = 1
    prefetch_backward: int | None = None
    bucket_bytes: int = 0
    vocab_multiple: int = 128
    steps: int = 1
    checkpoint_every: int = 0
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    data_loading: bool = False
    data_path: str = "/data/tokens.bin"
    detail: str = "auto"
    jitter: Jitter | None = None

    def __post_init__(self) -> None:
        problems = []
        for name, read, kind in (
            ("model", named_shape, ModelShape),
            ("accelerator", accelerator_named, Accelerator),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                try:
                    object.__setattr__(self, name, read(str(value)))
                except ConfigError as error:
                    problems += [problem.message for problem in error.problems]
        backward = self.prefetch if self.prefetch_backward is None else self.prefetch_backward
        for name, value in (
            ("prefetch_backward", backward),
            ("expert_tensor", self.expert_tensor or self.tensor),
            ("sequence_parallel", _chosen(self.sequence_parallel, _above(self.tensor, 1))),
            ("overlap_pipeline", _chosen(self.overlap_pipeline, _above(self.virtual, 1))),
            ("reduce_every", _chosen(self.reduce_every, _above(self.zero, 1) or self.fsdp != "none")),
        ):
            object.__setattr__(self, name, value)
        problems += problems_of(self)
        if problems:
            raise ConfigError(problems)
        self.plan()  # which tells what is wrong with the options of a checkpoint

    def __repr__(self) -> str:
        layout = f"TP{self.tensor} CP{self.context} PP{self.pipeline} DP{self.data}"
        return f"<Training: {self.shape.name} on {self.n_ranks} ranks, {layout}, {self.steps} steps>"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Training:
        """Return a training of named values, as a sweep or the command line has them.

        Parameters
        ----------
        values
            Fields or their short names (``ALIASES``: ``tp``, ``pp``, ``gbs`` ...), with dashes or
            underscores; ``bucket_bytes`` may be a text such as ``"100MB"``, ``jitter`` a mapping of its
            parameters, and ``efficiency`` one of constants by name.

        Raises
        ------
        ConfigError
            With all names that are unknown or missing, and values that do not fit.

        >>> Training.from_dict({"model": "gpt2", "ranks": 8, "tp": 2, "gbs": 8, "seq": 1024}).data
        4
        """
        known = {one.name: one for one in fields(cls)}
        found: dict[str, Any] = {}
        problems: list[Any] = []
        for given, value in values.items():
            name = ALIASES.get(given, given.replace("-", "_"))
            if name not in known:
                problems.append(unknown_name("option of a training", given, [*known, *ALIASES]))
            elif name in found:
                problems.append(f"{given}: found twice, allowed: once ({name})")
            else:
                found[name] = value
        short = {name: alias for alias, name in ALIASES.items()}
        for name, one in known.items():
            if one.default is MISSING and one.default_factory is MISSING and name not in found:
                problems.append(
                    f"{short.get(name, name)}: missing, allowed: a value"
                    + (" (a name of fabricsim.workload.shapes)" if name == "model" else "")
                )
        if isinstance(found.get("checkpoint"), Mapping):
            found["checkpoint"] = dict(found["checkpoint"])
        for where, name, read in (
            (found, "bucket_bytes", parse_bytes),
            (found.get("checkpoint"), "transfer_bytes", parse_bytes),
            (found.get("checkpoint"), "copy_bytes_per_s", _bytes_per_s),
        ):
            if isinstance(where, dict) and isinstance(where.get(name), str):
                try:
                    where[name] = read(where[name])
                except ValueError as error:
                    problems.append(f"{name}: {error}")
        for name, make in (("jitter", _jitter), ("efficiency", EFFICIENCY.with_values)):
            if isinstance(found.get(name), Mapping):
                try:
                    found[name] = make(found[name])
                except ConfigError as error:
                    problems += error.problems
        if problems:
            raise ConfigError(problems)
        return cls(**found)

    # ---- what follows from the options

    @property
    def shape(self) -> ModelShape:
        """The model."""
        assert isinstance(self.model, ModelShape)
        return self.model

    @cached_property
    def padded(self) -> ModelShape:
        """The model with its vocabulary padded."""
        return self.shape.padded(self.vocab_multiple * self.tensor)

    @property
    def device(self) -> Accelerator:
        """The accelerator."""
        assert isinstance(self.accelerator, Accelerator)
        return self.accelerator

    @property
    def data(self) -> int:
        """Data-parallel replicas."""
        return self.n_ranks // (self.tensor * self.context * self.pipeline)

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a step on each replica."""
        return self.global_batch_seqs // (self.data * self.micro_batch_seqs)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a step."""
        return self.global_batch_seqs * self.sequence_tokens

    @property
    def activation_bytes(self) -> int:
        """Bytes of an activation on the wire."""
        return 4 if self.precision in ("fp32", "tf32") else 2

    @property
    def fully_sharded(self) -> bool:
        """Whether parameters are gathered layer by layer: FSDP and ZeRO 3."""
        return self.fsdp != "none" or self.zero == 3

    @property
    def keeps_gathered(self) -> bool:
        """Whether gathered parameters stay from forward to backward."""
        return self.fsdp == "grad"

    @property
    def prefetched_backward(self) -> int:
        """Layers whose parameters are gathered ahead in backward."""
        assert self.prefetch_backward is not None
        return self.prefetch_backward

    def bucket_elements(self, stage: int = 0, chunk: int = 0) -> int:
        """Elements of a chunk's gradients that are reduced at once, at least; without overlap all are."""
        if not self.overlap_grad_reduce:
            return 2**62
        if self.bucket_bytes:
            return max(1, self.bucket_bytes // DTYPES[self.grad_dtype])
        if stage or chunk:  # they are through before the first chunk of the first stage is
            return 2**62
        return max(_BUCKET_ELEMENTS, _BUCKET_ELEMENTS_PER_RANK * self.data * self.context)

    @cached_property
    def layout(self) -> Layout:
        """Where each rank stands."""
        return Layout(
            tensor=self.tensor,
            context=self.context,
            data=self.data,
            pipeline=self.pipeline,
            expert=self.expert,
            expert_tensor=self.expert_tensor,
            shard=self.shard_ranks if self.fsdp == "hybrid" else self.data * self.context,
        )

    def groups(self) -> dict[str, list[list[int]]]:
        """Return the ranks of every group by kind: ``tp``, ``cp``, ``dp``, ``pp`` and those of ``Layout``."""
        return self.layout.groups()

    def plan(self) -> Plan | None:
        """Return how checkpoints are saved, None without any."""
        if not self.checkpoint_every:
            return None
        saved = Checkpoint(
            shape=self.shape,
            sharding="fsdp" if self.fsdp != "none" else ("ddp", "zero1", "zero2", "zero3")[self.zero],
            parallel=self.layout.parallel,
            weights=self.param_dtype,
            vocab_multiple=self.vocab_multiple,
        )
        try:
            return Plan(saved=saved, steps=self.steps, interval=self.checkpoint_every, **self.checkpoint)
        except ConfigError as error:
            raise ConfigError([f"checkpoint: {problem}" for problem in error.problems]) from None

    def padded_elements(self, elements: int, parts: int) -> int:
        """Round elements of a buffer up, so that it can be cut in equal parts: Megatron-LM pads so too."""
        multiple = math.lcm(parts, 128)
        return -(-elements // multiple) * multiple

    def options(self) -> dict[str, Any]:
        """Return every option as JSON types, for the provenance of a trace."""
        found: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, (ModelShape, Accelerator)):
                value = value.name
            elif isinstance(value, Jitter):
                value = {part.name: getattr(value, part.name) for part in fields(Jitter)}
            elif isinstance(value, Efficiency):
                value = {
                    key: constant.value
                    for key, constant in value.constants.items()
                    if constant != EFFICIENCY.constants.get(key)
                }
            elif isinstance(value, Mapping):
                value = dict(value)
            found[one.name] = value
        return found


def _bytes_per_s(text: str) -> int:
    return parse_rate_mbps(text) * 125_000


def _jitter(values: Mapping[str, Any]) -> Jitter:
    known = [one.name for one in fields(Jitter)]
    problems = [unknown_name("option of jitter", name, known) for name in values if name not in known]
    if problems:
        raise ConfigError(problems)
    return Jitter(**{"seed": 1} | dict(values))


def _above(value: object, least: int) -> bool:
    """Whether it is a number above; what is none is told by the checks that follow."""
    return isinstance(value, int) and value > least


def _chosen(given: bool | None, otherwise: bool) -> bool:
    return otherwise if given is None else given
