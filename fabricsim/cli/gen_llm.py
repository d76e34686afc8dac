"""``fabricsim gen llm``: the trace of training steps of a large language model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fabricsim.cli.output import emit_json, line, log, pairs, table
from fabricsim.errors import ConfigError

if TYPE_CHECKING:
    from fabricsim.workload.training import Training

NAME = "llm"
SUMMARY = "training steps of a large language model: dense or with experts, in any parallel layout"

#: Options with a whole number: name, field of ``Training``, and meaning.
_NUMBERS: tuple[tuple[str, str, str], ...] = (
    ("ranks", "n_ranks", "accelerators"),
    ("gbs", "global_batch_seqs", "sequences of a step"),
    ("mbs", "micro_batch_seqs", "sequences of a micro-batch (default 1)"),
    ("seq", "sequence_tokens", "tokens of a sequence"),
    ("tp", "tensor", "tensor parallelism (default 1)"),
    ("pp", "pipeline", "pipeline parallelism (default 1)"),
    ("vp", "virtual", "chunks of layers of a stage: above 1, the interleaved schedule"),
    ("cp", "context", "context parallelism (default 1)"),
    ("ep", "expert", "expert parallelism (default 1)"),
    ("etp", "expert_tensor", "ranks that share an expert (default: as --tp)"),
    ("zero", "zero", "0: DDP; 1: distributed optimizer; 2; 3"),
    ("shard-ranks", "shard_ranks", "ranks that share parameters with --fsdp hybrid"),
    ("prefetch", "prefetch", "layers gathered ahead with FSDP and ZeRO 3 (default 1)"),
    ("prefetch-backward", "prefetch_backward", "the same in backward (default: as --prefetch)"),
    ("vocab-multiple", "vocab_multiple", "pad the vocabulary to N x tp (default 128)"),
    ("steps", "steps", "training steps (default 1)"),
    ("checkpoint-every", "checkpoint_every", "a checkpoint after every N steps (default 0: none)"),
)
#: Options with a name.
_NAMES: tuple[tuple[str, str, str], ...] = (
    ("model", "model", "such as llama3-8b (see --list)"),
    ("accelerator", "accelerator", "such as h100 (default; see --list)"),
    ("precision", "precision", "of matrix multiplications: bf16 (default), fp16, fp8, fp4, tf32, fp32"),
    ("fsdp", "fsdp", "none (default), full, grad, hybrid"),
    ("recompute", "recompute", "none (default), selective, full"),
    ("context-exchange", "context_exchange", "keys and values: ring (default) or gather"),
    ("dispatch", "dispatch", "tokens travel once to each expert: token (default); or to each rank: rank"),
    ("param-dtype", "param_dtype", "of parameters on the wire: bf16 (default), fp16, fp32"),
    ("grad-dtype", "grad_dtype", "of gradients on the wire: fp32 (default), bf16, fp16"),
    ("bucket", "bucket_bytes", "gradients reduced at once, such as 100MB (default Megatron-LM's)"),
    ("data-path", "data_path", "file of the tokens (default /data/tokens.bin)"),
    ("detail", "detail", "rows: layer, stage or auto (default)"),
)
#: Options that are on or off; without them the training decides.
_FLAGS: tuple[tuple[str, str, str], ...] = (
    ("sp", "sequence_parallel", "sequence parallelism (default with --tp above 1)"),
    ("eager", "eager", "element-wise operations one by one, as PyTorch without a compiler"),
    ("fused-attention", "fused_attention", "FlashAttention (default)"),
    ("reduce-every", "reduce_every", "reduce gradients after every micro-batch"),
    ("overlap-grad-reduce", "overlap_grad_reduce", "behind backward (default)"),
    ("overlap-param-gather", "overlap_param_gather", "behind forward, ZeRO 1 and 2 (default)"),
    ("overlap-tensor", "overlap_tensor", "in chunks beside the multiplications"),
    ("overlap-pipeline", "overlap_pipeline", "compute while sending (default with --vp)"),
    ("overlap-expert", "overlap_expert", "shared experts while tokens travel"),
    ("data-loading", "data_loading", "read the tokens of the next step"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("-o", "--out", metavar="TRACE", help="the trace to write, or - for standard output")
    parser.add_argument("--list", action="store_true", help="list the models and accelerators")
    parser.add_argument(
        "--memory", action="store_true", help="print what a rank of each stage needs, instead of a trace"
    )
    unset: dict[str, Any] = {"default": argparse.SUPPRESS}
    for name, field, meaning in _NAMES:
        parser.add_argument(f"--{name}", dest=field, metavar="NAME", help=meaning, **unset)
    for name, field, meaning in _NUMBERS:
        parser.add_argument(f"--{name}", dest=field, type=int, metavar="N", help=meaning, **unset)
    for name, field, meaning in _FLAGS:
        parser.add_argument(
            f"--{name}", dest=field, action=argparse.BooleanOptionalAction, help=meaning, **unset
        )
    parser.add_argument(
        "--checkpoint",
        metavar="KEY=VALUE",
        action="append",
        help="an option of the checkpoint, such as mode=async; repeatable",
        **unset,
    )
    parser.add_argument(
        "--efficiency",
        metavar="KEY=VALUE",
        action="append",
        help="a constant of the kernels' times, such as gemm/hopper=0.7; repeatable",
        **unset,
    )
    parser.add_argument(
        "--jitter",
        metavar="KEY=VALUE,...",
        help="such as sigma=0.02,straggler_share=0.01,straggler_factor=1.2,seed=1",
        **unset,
    )


def run(arguments: argparse.Namespace) -> int:
    """Print lists or sizes, or write the trace."""
    if arguments.list:
        return _list(arguments.json)
    if arguments.memory and arguments.out is not None:
        raise ConfigError(["gen llm: found --memory and -o, allowed: one of them"])
    training = _training(arguments)
    if arguments.memory:
        return _memory(training, arguments.json)
    if arguments.out is None:
        raise ConfigError(["gen llm needs -o TRACE (or --memory)"])
    from fabricsim.cli.output import write_to
    from fabricsim.workload.training import llm, memory

    trace = llm(training)
    worst = max(memory(training), key=lambda stage: stage.total)
    if worst.total > training.device.mem_bytes:
        log(f"warning: {worst.excess(training.device)}")
    write_to(trace, arguments.out, json=arguments.json)
    facts = {
        name: value
        for name, value in trace.provenance.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    if arguments.json:
        emit_json({"out": arguments.out, "rows": trace.n_rows} | facts | {"kinds": trace.kinds})
    elif arguments.out != "-":
        line(f"{arguments.out}: {trace!r}")
        line(repr(training))
    return 0


def _training(arguments: argparse.Namespace) -> Training:
    from fabricsim.cli.options import key_values
    from fabricsim.workload.training import Training

    fields = [field for _, field, _ in (*_NAMES, *_NUMBERS, *_FLAGS)]
    found = {field: getattr(arguments, field) for field in fields if hasattr(arguments, field)}
    for name in ("checkpoint", "efficiency"):
        if hasattr(arguments, name):
            found[name] = key_values(getattr(arguments, name), f"--{name}")
    if hasattr(arguments, "jitter"):
        found["jitter"] = key_values([part for part in arguments.jitter.split(",") if part], "--jitter")
    try:
        return Training.from_dict(found)
    except ConfigError as error:
        raise ConfigError([_with_option(str(problem)) for problem in error.problems]) from None


def _with_option(problem: str) -> str:
    """Put the option in front of a problem that begins with the name of a field.

    >>> _with_option("tensor: found 0, allowed: a whole number, at least 1")
    '--tp: tensor: found 0, allowed: a whole number, at least 1'
    """
    field = problem.partition(":")[0]
    option = {field: name for name, field, _ in (*_NAMES, *_NUMBERS, *_FLAGS)}.get(field)
    return problem if option in (None, field) else f"--{option}: {problem}"


def _memory(training: Training, as_json: bool) -> int:
    from fabricsim.units import format_bytes
    from fabricsim.workload.training import memory

    stages = memory(training)
    if as_json:
        emit_json({"mem_bytes": training.device.mem_bytes, "stages": [one.to_json() for one in stages]})
        return 0
    line(f"{training!r}: bytes of a rank, of {format_bytes(training.device.mem_bytes)}")
    columns = ["weights", "gradients", "optimizer", "activations", "total"]
    table(
        ["stage", *columns],
        [[one.stage, *(format_bytes(getattr(one, name)) for name in columns)] for one in stages],
    )
    return 0


def _list(as_json: bool) -> int:
    from fabricsim.compute import ACCELERATORS
    from fabricsim.workload.shapes import SHAPES

    models = [
        {"name": s.name, "parameters": s.parameters, "active": s.active_parameters, "source": s.source}
        for s in SHAPES.values()
    ]
    devices = [
        {"name": d.name, "peak_flops": dict(d.peak_flops), "source": d.source} for d in ACCELERATORS.values()
    ]
    if as_json:
        emit_json({"models": models, "accelerators": devices})
        return 0
    table(
        ["model", "source", "parameters", "active"],
        [[m["name"], m["source"], f"{m['parameters']:,}", f"{m['active']:,}"] for m in models],
        left=2,
    )
    line()
    line("--accelerator")
    pairs((str(d["name"]), str(d["source"])) for d in devices)
    return 0
