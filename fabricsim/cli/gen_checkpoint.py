"""``fabricsim gen checkpoint``: sizes of a checkpoint's files, and traces that save or restore it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from fabricsim.cli.output import emit_json, line, pairs, table
from fabricsim.errors import ConfigError, Problem

if TYPE_CHECKING:
    from fabricsim.checkpoint import Checkpoint, MlperfCheckpoint, Plan

NAME = "checkpoint"
SUMMARY = "save or restore a model's checkpoint, with training steps between; or tell its files' sizes"
#: Rows of the table of sizes that are shown.
SHOWN = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("-o", "--out", metavar="TRACE", help="the trace to write, or - for standard output")
    parser.add_argument(
        "--sizes", action="store_true", help="print the files and their bytes; with --json every single one"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the models, shardings, optimisers and modes"
    )
    what = parser.add_argument_group("what is saved")
    what.add_argument("--model", metavar="NAME", help="a model, such as llama3-8b (see --list)")
    what.add_argument(
        "--mlperf", metavar="NAME", help="instead: a workload of MLPerf Storage, such as llama3-405b"
    )
    what.add_argument(
        "--sharding", default="fsdp", metavar="NAME", help="ddp, zero1 to zero3, fsdp, fsdp-full"
    )
    what.add_argument("--weights", default="bf16", metavar="NAME", help="bf16, fp16 or fp32 (default bf16)")
    what.add_argument(
        "--optimiser",
        "--optimizer",
        default="adam-mixed",
        metavar="NAME",
        help="default adam-mixed: 12 B a weight",
    )
    for name, meaning in (
        ("tp", "tensor"),
        ("pp", "pipeline"),
        ("dp", "data"),
        ("ep", "expert"),
    ):
        what.add_argument(
            f"--{name}", type=int, default=1, metavar="N", help=f"{meaning} parallelism (default 1)"
        )
    what.add_argument("--order", default="tp-dp-pp", help="of ranks: tp-dp-pp or tp-pp-dp, fastest first")
    what.add_argument(
        "--vocab-multiple",
        type=int,
        default=1,
        metavar="N",
        help="pad the vocabulary to N x tp (Megatron-LM: 128)",
    )
    how = parser.add_argument_group("how it is saved")
    how.add_argument("--action", default="save", choices=("save", "restore"), help="default save")
    how.add_argument(
        "--mode", default="sync", metavar="NAME", help="sync, async, local or peer (default sync)"
    )
    how.add_argument(
        "--layout", default="rank", metavar="NAME", help="files: one a rank, one a node, or shared"
    )
    how.add_argument("--path", default="/ckpt", help="directory on the shared file system (default /ckpt)")
    how.add_argument(
        "--local-path", default="/local", metavar="PATH", help="on node-local storage (default /local)"
    )
    how.add_argument("--ranks-per-node", type=int, default=8, metavar="N", help="GPUs of a node (default 8)")
    how.add_argument(
        "--transfer", metavar="SIZE", help="bytes of a write or read, such as 16MiB; default a file"
    )
    how.add_argument("--copy-rate", default="25GB/s", metavar="RATE", help="to host memory; 0: in no time")
    how.add_argument(
        "--no-fsync", dest="fsync", action="store_false", help="close files without syncing them"
    )
    how.add_argument("--direct", action="store_true", help="around the client's cache")
    how.add_argument(
        "--drain-every", type=int, default=1, metavar="N", help="local, peer: every Nth to the store"
    )
    train = parser.add_argument_group("the training around it")
    train.add_argument("--steps", type=int, default=0, metavar="N", help="training steps; 0: one save alone")
    train.add_argument("--interval", type=int, default=1, metavar="N", help="steps between saves (default 1)")
    train.add_argument("--step-time", default="1s", metavar="TIME", help="that a step computes (default 1s)")
    train.add_argument(
        "--gradients", metavar="SIZE", help="of a step's all-reduce; default the model's; 0: none"
    )
    train.add_argument(
        "--priority",
        type=int,
        default=0,
        metavar="N",
        help="data class of the training's messages (default 0)",
    )
    restore = parser.add_argument_group("restoring")
    restore.add_argument(
        "--tier", default="store", metavar="NAME", help="from store, local or peer (default store)"
    )
    restore.add_argument(
        "--failed",
        type=int,
        action="append",
        default=[],
        metavar="NODE",
        help="a node whose state is lost; repeatable",
    )
    restore.add_argument(
        "--broadcast", action="store_true", help="one reads what several need, and broadcasts it"
    )
    restore.add_argument(
        "--restart", default="0s", metavar="TIME", help="before it: detection, start of the job"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print sizes, or write the trace."""
    if arguments.list:
        return _list(arguments.json)
    if (arguments.model is None) == (arguments.mlperf is None):
        raise ConfigError(["gen checkpoint needs --model NAME or --mlperf NAME (see --list)"])
    saved = _saved(arguments)
    if arguments.sizes:
        return _sizes(saved, arguments.json)
    if arguments.out is None:
        raise ConfigError(["gen checkpoint needs -o TRACE (or --sizes)"])
    from fabricsim.checkpoint import restore_trace, save_trace
    from fabricsim.cli.output import write_to

    plan = _plan(arguments, saved)
    if arguments.action == "save":
        trace = save_trace(plan)
    else:
        trace = restore_trace(
            plan, tier=arguments.tier, failed=arguments.failed, broadcast=arguments.broadcast
        )
    write_to(trace, arguments.out, json=arguments.json)
    facts = {"rows": trace.n_rows, "ranks": trace.n_ranks, "saves": plan.saves, "bytes": saved.total_bytes}
    if arguments.json:
        emit_json({"out": arguments.out} | facts | {"kinds": trace.kinds})
    elif arguments.out != "-":
        line(f"{arguments.out}: {trace!r}")
    return 0


def _saved(arguments: argparse.Namespace) -> Checkpoint | MlperfCheckpoint:
    from fabricsim.checkpoint import Checkpoint, Parallel, mlperf_checkpoint
    from fabricsim.workload.shapes import named_shape

    if arguments.mlperf is not None:
        return mlperf_checkpoint(arguments.mlperf)
    return Checkpoint(
        shape=named_shape(arguments.model),
        sharding=arguments.sharding,
        parallel=Parallel(
            tp=arguments.tp, pp=arguments.pp, dp=arguments.dp, ep=arguments.ep, order=arguments.order
        ),
        weights=arguments.weights,
        optimiser=arguments.optimiser,
        vocab_multiple=arguments.vocab_multiple,
    )


def _plan(arguments: argparse.Namespace, saved: Checkpoint | MlperfCheckpoint) -> Plan:
    from fabricsim.checkpoint import Plan
    from fabricsim.units import parse_bytes, parse_rate_mbps, parse_time_ps

    problems = []

    def read(option: str, function: Callable[[str], int]) -> int | None:
        text = getattr(arguments, option.replace("-", "_"))
        try:
            return None if text is None else function(text)
        except ValueError as error:
            problems.append(Problem(f"--{option}", str(error)))
            return None

    sizes = {name: read(name, parse_bytes) for name in ("transfer", "gradients")}
    times = {name: read(name, parse_time_ps) for name in ("step-time", "restart")}
    rate = read("copy-rate", parse_rate_mbps)
    if problems:
        raise ConfigError(problems)
    names = (
        "mode",
        "layout",
        "path",
        "local_path",
        "ranks_per_node",
        "fsync",
        "direct",
        "drain_every",
        "priority",
    )
    return Plan(
        saved=saved,
        transfer_bytes=sizes["transfer"] or 0,
        gradient_bytes=sizes["gradients"],
        step_ps=times["step-time"] or 0,
        restart_ps=times["restart"] or 0,
        copy_bytes_per_s=(rate or 0) * 125_000,
        steps=arguments.steps,
        interval=arguments.interval,
        **{name: getattr(arguments, name) for name in names},
    )


def _sizes(saved: Checkpoint | MlperfCheckpoint, as_json: bool) -> int:
    from fabricsim.units import GiB

    world, files = saved.parallel.world, saved.files
    if as_json:
        emit_json(
            {
                "ranks": world,
                "bytes": saved.total_bytes,
                "files": [
                    {"rank": f.rank, "file": f.name, "bytes": f.bytes, "holds": f.holds} for f in files
                ],
            }
        )
        return 0
    line(
        f"{len(files):,} files of {world:,} ranks,"
        f" {saved.total_bytes:,} bytes ({saved.total_bytes / GiB:.2f} GiB)"
    )
    held = Counter[str]()
    for file in files:
        held[file.holds] += file.bytes
    pairs((holds, f"{size:,} bytes") for holds, size in held.items())
    table(
        ["file", "holds", "rank", "bytes"],
        [[f.name, f.holds, f.rank, f"{f.bytes:,}"] for f in files[:SHOWN]],
        left=2,
    )
    if len(files) > SHOWN:
        line(f"and {len(files) - SHOWN:,} more; --json has them all")
    return 0


def _list(as_json: bool) -> int:
    from fabricsim.checkpoint import LAYOUTS, MLPERF, MODES, OPTIMISERS, SHARDINGS, TIERS
    from fabricsim.workload.shapes import SHAPES

    models = [
        {"name": s.name, "parameters": s.parameters, "active": s.active_parameters, "source": s.source}
        for s in SHAPES.values()
    ]
    choices = {
        "sharding": SHARDINGS,
        "optimiser": {name: one.meaning for name, one in OPTIMISERS.items()},
        "mode": MODES,
        "layout": LAYOUTS,
        "tier": TIERS,
        "mlperf": {
            name: f"{one.parallel.world} ranks, {one.total_bytes:,} bytes" for name, one in MLPERF.items()
        },
    }
    if as_json:
        emit_json({"models": models} | choices)
        return 0
    table(
        ["model", "source", "parameters", "active"],
        [[m["name"], m["source"], f"{m['parameters']:,}", f"{m['active']:,}"] for m in models],
        left=2,
    )
    for name, known in choices.items():
        line()
        line(f"--{name}")
        pairs(known.items())
    return 0
