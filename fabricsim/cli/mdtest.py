"""``fabricsim mdtest``: mdtest on an emulated cluster, with its flags and its summary."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fabricsim.cli.ior import add_running, records, saving
from fabricsim.cli.options import add_cluster, load_cluster, time_option
from fabricsim.cli.output import emit_json, line, log
from fabricsim.cli.tool_flags import add_refused, refused, size_of
from fabricsim.errors import ConfigError, Problem

if TYPE_CHECKING:
    from fabricsim.storage_bench import Mdtest

NAME = "mdtest"
SUMMARY = (
    "make, stat, read and remove files and directories of all ranks as mdtest does: its flags, its summary"
)

#: Flags of mdtest that are refused, how many arguments they take, and why.
REFUSED = (
    (("-B",), 1, "a phase is timed from barrier to barrier"),
    (("-c",), 0, "every task makes its own items"),
    (("-f",), 1, "one number of tasks is run: --tasks"),
    (("-g",), 0, "layouts are the cluster's: [[storage.layout]]"),
    (("-G",), 1, "no data is kept, so it has no pattern"),
    (("-k",), 0, "files are made by open"),
    (("-l",), 1, "one number of tasks is run: --tasks"),
    (("-p",), 1, "iterations follow one another at once"),
    (("-R",), 0, "items are taken in order"),
    (("--random-seed",), 1, "items are taken in order"),
    (("-s",), 1, "one number of tasks is run: --tasks"),
    (("-v",), 0, "phases are told by --json"),
    (("-V",), 1, "phases are told by --json"),
    (("-W",), 1, "a phase does not end by the clock; give its items by -n"),
    (("-x",), 1, "a phase does not end by the clock"),
    (("-Y",), 0, "no client is flushed as a whole; -y does an fsync after each write"),
    (("--verify-write",), 0, "no data is kept; -e reads it back"),
    (("--print-all-procs",), 0, "times of ranks are in the result: --out"),
    (("--showRankStatistics",), 0, "times of ranks are in the result: --out"),
    (("--saveRankPerformanceDetails",), 1, "times of ranks are in the result: --out"),
    (("--savePerOpDataCSV",), 1, "times of operations are in the result: --out"),
)

# Flag, name, help.
_SWITCHES = (
    ("-D", "directories", "directories only"),
    ("-F", "files", "files only"),
    ("-C", "create", "the create phases only, or with the other phases that are given"),
    ("-T", "stat", "the stat phases only"),
    ("-E", "read", "the read phase only"),
    ("-U", "rename", "the rename phase only"),
    ("-r", "remove", "the remove phases only"),
    ("-u", "unique", "a tree for each task"),
    ("-L", "leaf_only", "items only in the leaves of the tree"),
    ("-S", "shared_file", "all tasks open the same files"),
    ("-y", "sync", "fsync after writing a file"),
)
# Flag, name, default, help.
_NUMBERS = (
    ("-n", "items", "0", "files, and directories, of each task"),
    ("-I", "items_per_directory", "0", "or so many in each directory of the tree"),
    ("-z", "depth", "0", "depth of the tree"),
    ("-b", "branches", "1", "branches of each of its directories"),
    ("-i", "iterations", "1", "iterations"),
    ("-N", "stride", "0", "stat, read and remove what tasks so many nodes away have made"),
    ("-w", "write_bytes", "0", "bytes written to each file, such as 3901 or 4k"),
    ("-e", "read_bytes", "0", "bytes read of each file"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_cluster(parser, short=False)
    parser.add_argument("-a", "--api", default="POSIX", metavar="API", help="POSIX, the only one")
    parser.add_argument("-d", "--path", default="./out", metavar="DIR", help="where; it is there (./out)")
    parser.add_argument("--tasks", type=int, metavar="N", help="tasks: the first N ranks (default all)")
    for flag, name, default, text in _NUMBERS:
        parser.add_argument(flag, dest=name, default=default, metavar="N", help=f"{text} ({default})")
    for flag, name, text in _SWITCHES:
        parser.add_argument(flag, dest=name, action="store_true", help=text)
    parser.add_argument(
        "-X", "--verify-read", action="store_true", help="with -e: reading is all that is done"
    )
    parser.add_argument(
        "-t", dest="overhead", action="store_true", help="taken: a phase counts from barrier to barrier"
    )
    parser.add_argument(
        "-Z", dest="times", action="store_true", help="milliseconds an operation instead of rates"
    )
    parser.add_argument("-P", dest="both", action="store_true", help="rates and times")
    add_refused(parser, REFUSED)
    add_running(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run, and print what mdtest prints."""
    from fabricsim.cli.progress import showing
    from fabricsim.program import compile
    from fabricsim.storage_bench import run_mdtest
    from fabricsim.storage_bench.mdtest_output import document, text

    config = _read(arguments)
    record = records(arguments)
    max_time_ps = time_option(arguments.max_time, "--max-time")
    model = compile(load_cluster(arguments.cluster, arguments.overrides))
    if arguments.trace:
        return _write_trace(arguments, config, model)
    with saving(arguments) as folder, showing(arguments.progress) as update:
        result = run_mdtest(
            model,
            config,
            tasks=arguments.tasks,
            seed=arguments.seed,
            threads=arguments.threads,
            folder=folder,
            max_time_ps=max_time_ps,
            progress=update,
            record=record,
        )
    command = ["mdtest", *_given(arguments)]
    if arguments.json:
        emit_json(document(result, command))
    else:
        rates, times = arguments.both or not arguments.times, arguments.both or arguments.times
        for entry in text(result, command, rates=rates, times=times):
            line(entry)
    log(f"{result.result.summary['packet_hops']:,} packet-hops, digest {result.result.digest}")
    return 0


def _write_trace(arguments: argparse.Namespace, config: Mdtest, model: Any) -> int:
    from fabricsim.storage_bench.ior import mount_of, places_of, tasks_of
    from fabricsim.storage_bench.mdtest import mdtest_trace
    from fabricsim.trace import write_trace

    tasks, (_, per_node) = tasks_of(model, arguments.tasks, "--tasks"), places_of(model)
    mount = mount_of(model, config.path, "-d")
    trace, _ = mdtest_trace(config, tasks=tasks, tasks_per_node=per_node, mount=mount)
    write_trace(trace, arguments.trace)
    log(f"{trace.table.num_rows:,} rows of {tasks} ranks in {arguments.trace}")
    return 0


def _given(arguments: argparse.Namespace) -> list[str]:
    given = [f"--cluster={arguments.cluster}", *(f"--set={text}" for text in arguments.overrides)]
    if arguments.tasks is not None:
        given.append(f"--tasks={arguments.tasks}")
    for flag, name, default, _ in (*_NUMBERS, ("-d", "path", "./out", "")):
        if getattr(arguments, name) != default:
            given += [flag, str(getattr(arguments, name))]
    given += [flag for flag, name, _ in _SWITCHES if getattr(arguments, name)]
    more = (("-X", "verify_read"), ("-t", "overhead"), ("-Z", "times"), ("-P", "both"))
    return [*given, *(flag for flag, name in more if getattr(arguments, name))]


def _read(arguments: argparse.Namespace) -> Mdtest:
    """Return what the flags come to; every problem is told at once."""
    from fabricsim.storage_bench import Mdtest

    problems = refused(arguments, REFUSED)
    if arguments.api.upper() != "POSIX":
        problems.append(Problem("-a", f"found {arguments.api!r}, allowed: POSIX"))
    settings: dict[str, Any] = {
        name: size_of(getattr(arguments, name), flag, problems) for flag, name, *_ in _NUMBERS
    }
    if "@" in arguments.path:
        problems.append(Problem("-d", f"found {arguments.path!r}, allowed: one directory"))
    if arguments.verify_read and not settings["read_bytes"]:
        problems.append(Problem("-X", "allowed: with -e, the bytes that are read"))
    if problems:
        raise ConfigError(problems)
    settings |= {name: getattr(arguments, name) for _, name, _ in _SWITCHES}
    return Mdtest(path=arguments.path, **settings)
