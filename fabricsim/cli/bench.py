"""``fabricsim bench``: nccl-tests on an emulated cluster, with its flags and its table."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabricsim.cli.options import add_cluster, load_cluster, time_option
from fabricsim.cli.output import emit_json, line, log, table
from fabricsim.errors import ConfigError, Problem, unknown_name

if TYPE_CHECKING:
    from fabricsim.collectives.bench import Measured
    from fabricsim.program import Model

NAME = "bench"
SUMMARY = "measure one collective over a range of sizes, as nccl-tests does: its flags, its table, its -J"

TEST_NAMES = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "broadcast", "reduce", "sendrecv")
REDOPS = ("sum", "prod", "min", "max", "avg", "mulsum")

#: Flags of nccl-tests that an emulator cannot honour: name, what is allowed, and why no more is.
_WITHOUT_MEANING = (
    ("-m", "agg_iters", (1,), "operations are not aggregated in a launch"),
    ("-N", "run_cycles", (1,), "another cycle gives the same table again"),
    ("-p", "parallel_init", (0,), "there is nothing to initialise"),
    ("-c", "check", (0,), "no data is moved, so none can be checked"),
    ("-z", "blocking", (0,), "no host waits for an operation"),
    ("-y", "stream_null", (0,), "there are no CUDA streams"),
    ("-G", "cudagraph", (0,), "there are no CUDA graphs"),
    ("-C", "report_cputime", (0,), "no CPU time is emulated"),
    ("-R", "local_register", (0,), "buffers are not registered"),
    ("-T", "timeout", (0,), "nothing hangs; --max-time limits the emulated time"),
)

# Ranks that are listed one by one above the table.
_LISTED = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("test", metavar="TEST", help=f"one of {', '.join(TEST_NAMES)}")
    add_cluster(parser, short=False)
    ranks = parser.add_argument_group("ranks")
    ranks.add_argument("--ranks", type=int, metavar="N", help="the first N ranks (default: all)")
    ranks.add_argument("--nodes", type=int, metavar="N", help="processes, one a node, as of mpirun -np N")
    ranks.add_argument("-t", "--nthreads", type=int, metavar="N", help="threads of a process (default 1)")
    ranks.add_argument("-g", "--ngpus", type=int, metavar="N", help="GPUs of a thread (default 1)")
    sizes = parser.add_argument_group("sizes, such as 8, 64K, 1.5M or 8G, of 1024")
    sizes.add_argument("-b", "--minbytes", default="32M", metavar="SIZE", help="first size (default 32M)")
    sizes.add_argument("-e", "--maxbytes", default="32M", metavar="SIZE", help="last size (default 32M)")
    sizes.add_argument(
        "-i", "--stepbytes", default="1M", metavar="SIZE", help="to the next size (default 1M)"
    )
    sizes.add_argument("-f", "--stepfactor", type=int, default=1, metavar="N", help="multiply by N instead")
    what = parser.add_argument_group("operations")
    what.add_argument("-d", "--datatype", default="float", metavar="TYPE", help="or all (default float)")
    what.add_argument(
        "-o", "--op", default="sum", metavar="OP", help="or all (default sum); all take as long"
    )
    what.add_argument("-r", "--root", default="0", metavar="RANK", help="or all (default 0)")
    what.add_argument(
        "-n",
        "--iters",
        type=int,
        default=1,
        metavar="N",
        help="operations one after another that are averaged (default 1: each is the same but for overlap)",
    )
    what.add_argument(
        "-w", "--warmup_iters", type=int, default=0, metavar="N", help="operations before them (default 0)"
    )
    what.add_argument(
        "-a",
        "--average",
        type=int,
        default=1,
        metavar="0-3",
        help="time of rank 0, or mean, least, greatest of the ranks (default 1)",
    )
    output = parser.add_argument_group("output and run")
    output.add_argument("-J", "--output_file", metavar="FILE", help="also write nccl-tests' JSON document")
    output.add_argument(
        "--explain",
        action="store_true",
        help="what the collective library chose for each size, and the time it predicts itself",
    )
    output.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of the random draws (default 1)"
    )
    output.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of the core; same result"
    )
    output.add_argument("--max-time", metavar="TIME", help="give up at this emulated time of one size")
    output.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show progress on stderr (default: on a terminal)",
    )
    other = parser.add_argument_group("taken for scripts' sake, at the value that means nothing here")
    for flag, name, neutral, reason in _WITHOUT_MEANING:
        other.add_argument(
            flag, f"--{name}", type=int, default=neutral[0], metavar="N", help=f"{neutral[0]}: {reason}"
        )


def run(arguments: argparse.Namespace) -> int:
    """Emulate size by size, printing each row as it is known."""
    from fabricsim.cli.progress import showing
    from fabricsim.collectives import nccl_table
    from fabricsim.collectives.bench import bench
    from fabricsim.program import compile

    plan = _Plan(arguments)
    max_time_ps = time_option(arguments.max_time, "--max-time")
    model = compile(load_cluster(arguments.cluster, arguments.overrides))
    ranks = plan.ranks(model)
    roots = plan.roots(len(ranks))
    started = _now()
    rows: list[Measured] = []
    with _output_file(arguments.output_file) as write, showing(arguments.progress) as update:
        series = [
            bench(
                model,
                arguments.test,
                plan.sizes,
                ranks=ranks,
                iterations=arguments.iters,
                warmup=arguments.warmup_iters,
                datatype=datatype,
                redop=redop,
                root=root,
                average=arguments.average,
                seed=arguments.seed,
                threads=arguments.threads,
                max_time_ps=max_time_ps,
                progress=update,
            )
            for datatype in plan.datatypes
            for redop in plan.redops
            for root in roots
        ]
        if not arguments.json:
            _say([*plan.head(model, ranks), *nccl_table.header()])
        for row in itertools.chain.from_iterable(series):
            rows.append(row)
            if not arguments.json:
                _say([nccl_table.row(row)])
        document = plan.document(model, ranks, rows, started)
        write(document)
    if arguments.json:
        emit_json(document)
        return 0
    for text in nccl_table.footer(rows):
        line(text)
    if arguments.explain:
        _explain(rows)
    log(f"{sum(row.packet_hops for row in rows):,} packet-hops in all")
    return 0


def _say(lines: list[str]) -> None:
    """Print lines at once, so that rows can be read while others are emulated."""
    for text in lines:
        line(text)
    sys.stdout.flush()


class _Plan:
    """What the options come to; every problem is told at once."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from fabricsim.collectives.bench import DATATYPES, TESTS, sizes_between

        self.arguments = arguments
        problems: list[Problem] = []
        if arguments.test not in TESTS:
            problems.append(Problem("TEST", unknown_name("test", arguments.test, TESTS)))
        for flag, name, neutral, reason in _WITHOUT_MEANING:
            found = getattr(arguments, name)
            if found not in neutral:
                problems.append(
                    Problem(f"{flag} (--{name})", f"found {found}, allowed: {neutral[0]}; {reason}")
                )
        for flag, found in (
            ("-t", arguments.nthreads),
            ("-g", arguments.ngpus),
            ("--nodes", arguments.nodes),
        ):
            if found is not None and found < 1:
                problems.append(Problem(flag, f"found {found}, allowed: at least 1"))
        if arguments.ranks is not None and {arguments.nthreads, arguments.ngpus, arguments.nodes} != {None}:
            problems.append(Problem("--ranks", "tells the ranks alone, allowed: without -t, -g and --nodes"))
        least, most, step = (
            _size(getattr(arguments, name), flag, problems)
            for flag, name in (("-b", "minbytes"), ("-e", "maxbytes"), ("-i", "stepbytes"))
        )
        if arguments.stepfactor < 1:
            problems.append(Problem("-f", f"found {arguments.stepfactor}, allowed: at least 1"))
        if step == 0 and arguments.stepfactor < 2:
            problems.append(Problem("-i", "found 0, allowed: at least 1"))
        if not problems and most < least:
            problems.append(Problem("-e", f"found {most}, allowed: at least -b, {least}"))
        self.datatypes = _names(arguments.datatype, list(DATATYPES), "-d", problems)
        self.redops = _names(arguments.op, list(REDOPS), "-o", problems)
        if not problems and not TESTS[arguments.test].reduces:
            self.redops = self.redops[:1]
        if problems:
            raise ConfigError(problems)
        self.test = TESTS[arguments.test]
        self.least, self.most, self.step = least, most, step
        self.sizes = sizes_between(least, most, factor=arguments.stepfactor, step=max(step, 1))

    def ranks(self, model: Model) -> list[int]:
        """Return the hosts of the ranks: the first of the cluster, or the first so many of each node."""
        arguments = self.arguments
        places = int(model.topology.n_rank_hosts)
        if arguments.ranks is not None:
            if not 1 <= arguments.ranks <= places:
                raise ConfigError([Problem("--ranks", f"found {arguments.ranks}, allowed: 1 to {places}")])
            return list(range(arguments.ranks))
        per_node = int(getattr(model.cluster.topology_spec, "gpus_per_node", 0)) or places
        if arguments.nthreads is None and arguments.ngpus is None:
            if arguments.nodes is None:
                return list(range(places))
            each = per_node
        else:
            each = (arguments.nthreads or 1) * (arguments.ngpus or 1)
        nodes = arguments.nodes or 1
        if each > per_node or nodes * per_node > places:
            text = f"found {nodes} nodes with {each} ranks, allowed: {places // per_node} with {per_node}"
            raise ConfigError([Problem("--nodes, -t, -g", text)])
        return [node * per_node + rank for node in range(nodes) for rank in range(each)]

    def roots(self, n: int) -> list[int]:
        """Return the roots to go through."""
        text = self.arguments.root
        if not self.test.rooted:
            return [0]
        if text in ("all", "-1"):
            return list(range(n))
        if not text.isdecimal() or int(text) >= n:
            raise ConfigError([Problem("-r", f"found {text!r}, allowed: 0 to {n - 1}, or all")])
        return [int(text)]

    def config(self) -> dict[str, Any]:
        """Return the settings under the names of nccl-tests' JSON."""
        arguments = self.arguments
        factor = arguments.stepfactor > 1
        return {
            "nthreads": arguments.nthreads or 1,
            "ngpus": arguments.ngpus or 1,
            "minimum_bytes": self.least,
            "maximum_bytes": self.most,
            "step_factor" if factor else "step_bytes": arguments.stepfactor if factor else self.step,
            "warmup_iters": arguments.warmup_iters,
            "iterations": arguments.iters,
            "aggregated_iterations": 1,
            "validation": 0,
            "graph": 0,
            "blocking_collectives": False,
            "per_iter_timing": False,
            "per_iter_skip": 0,
            "parallel_init": False,
        }

    def head(self, model: Model, ranks: list[int]) -> list[str]:
        """Return the comments above the table."""
        c = self.config()
        step = f"{c['step_factor']}(factor)" if "step_factor" in c else f"{c['step_bytes']}(bytes)"
        lines = [
            f"# nThread {c['nthreads']} nGpus {c['ngpus']} minBytes {self.least} maxBytes {self.most}"
            f" step: {step} warmup iters: {c['warmup_iters']} iters: {c['iterations']} agg iters: 1"
            " validation: 0 graph: 0",
            f"# emulated: {model.cluster.name}, {len(ranks)} ranks, each size from an idle fabric",
            "#",
            "# Using devices",
        ]
        lines += [
            f"#  Rank {d['rank']:2d} Group  0 Pid {d['pid']:6d} on {d['hostname']:>10}"
            f" device {d['device']:2d} [emulated] {d['device_info']}"
            for d in _devices(model, ranks[:_LISTED])
        ]
        if len(ranks) > _LISTED:
            lines.append(f"#  and {len(ranks) - _LISTED} more")
        return lines

    def document(self, model: Model, ranks: list[int], rows: list[Measured], started: str) -> dict[str, Any]:
        """Return the JSON document."""
        import fabricsim
        from fabricsim.collectives import nccl_table

        return nccl_table.document(
            rows,
            version=f"fabricsim {fabricsim.__version__}",
            arguments=["fabricsim", NAME, self.test.name, *_given(self.arguments)],
            config=self.config(),
            devices=_devices(model, ranks),
            start_time=started,
            end_time=_now(),
            extra={
                "cluster": model.cluster.name,
                "cluster_digest": model.digest,
                "seed": self.arguments.seed,
                "average": self.arguments.average,
                "library": str(getattr(model.cluster.collectives, "library", "fixed")),
            },
        )


def _devices(model: Model, ranks: list[int]) -> Iterator[dict[str, Any]]:
    cluster = model.cluster
    per_node = int(getattr(cluster.topology_spec, "gpus_per_node", 0)) or 1
    info = cluster.accelerator.name if cluster.accelerator else "accelerator"
    for rank, host in enumerate(ranks):
        node, device = divmod(host, per_node)
        yield {
            "rank": rank,
            "group": 0,
            "pid": 0,
            "hostname": f"node{node}",
            "device": device,
            "device_hex": f"0x{device:x}",
            "device_info": info,
        }


def _given(arguments: argparse.Namespace) -> list[str]:
    """Return the options that shape the result, as text."""
    names = ("minbytes", "maxbytes", "stepbytes", "stepfactor", "iters", "warmup_iters", "datatype", "op")
    given = [f"--{name}={getattr(arguments, name)}" for name in (*names, "root", "average")]
    return [f"--cluster={arguments.cluster}", *(f"--set={text}" for text in arguments.overrides), *given]


_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kKmMgGtT]?)(?:i?[bB])?", re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def _size(text: str, flag: str, problems: list[Problem]) -> int:
    """Read a size as nccl-tests does: K, M and G are powers of 1024.

    >>> [_size(text, "-b", []) for text in ("8", "64K", "1.5M", "8G")]
    [8, 65536, 1572864, 8589934592]
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        problems.append(Problem(flag, f"found {text!r}, allowed: a size such as 8, 64K, 1.5M or 8G"))
        return 0
    size = int(Fraction(match[1]) * 1024 ** _POWERS[match[2].upper()])
    if size > 1 << 44:
        problems.append(Problem(flag, f"found {text!r}, allowed: at most 16T"))
    return size


def _names(text: str, known: list[str], flag: str, problems: list[Problem]) -> list[str]:
    if text == "all":
        return known
    if text not in known:
        problems.append(Problem(flag, unknown_name("name", text, [*known, "all"])))
    return [text]


@contextlib.contextmanager
def _output_file(name: str | None) -> Iterator[Any]:
    """Give what writes the document to a file; the file is made first, so that a bad name is told at once."""
    if name is None:
        yield lambda document: None
        return
    path = Path(name)
    try:
        path.touch()
    except OSError as error:
        raise ConfigError([Problem(f"-J {name}", error.strerror or str(error))]) from error
    yield lambda document: path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _explain(rows: list[Measured]) -> None:
    """Print what was chosen, as comments below the table."""
    line("# what the library chose")
    chosen = [(row, row.choice or {}) for row in rows]
    table(
        ["# size", "algorithm", "protocol", "channels", "predicted us", "emulated us", "ratio"],
        [
            [
                f"# {row.size_bytes}",
                choice.get("algorithm"),
                choice.get("protocol"),
                choice.get("channels"),
                None if choice.get("predicted_us") is None else f"{choice['predicted_us']:.2f}",
                f"{row.time_us:.2f}",
                f"{row.time_us / choice['predicted_us']:.3f}" if choice.get("predicted_us") else None,
            ]
            for row, choice in chosen
        ],
        left=3,
    )
