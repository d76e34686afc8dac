"""``fabricsim ior``: IOR on an emulated cluster, with its flags, its table and its summaries."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabricsim.cli.options import add_cluster, load_cluster, time_option
from fabricsim.cli.output import line, log
from fabricsim.cli.tool_flags import add_refused, refused, size_of
from fabricsim.errors import ConfigError, EngineError, Problem, unknown_name

if TYPE_CHECKING:
    from fabricsim.storage_bench import Ior

NAME = "ior"
SUMMARY = "write and read files of all ranks as IOR does: its flags, its table, its summaries"

FORMATS = ("default", "JSON", "CSV")

#: Flags of IOR that are refused, how many arguments they take, and why.
REFUSED = (
    (("-c",), 0, "collective I/O is MPI-IO's, and the API is POSIX"),
    (("-D",), 1, "a phase does not end by the clock; give its size by -b and -s"),
    (("-f",), 1, "no script is read; give the flags of each of its tests"),
    (("-G",), 1, "no data is kept, so it has no signature"),
    (("-H",), 0, "there are no MPI hints"),
    (("-I",), 0, "there is no HDF5"),
    (("-j",), 1, "every run is alike, so there are no outliers"),
    (("-J",), 1, "there is no HDF5"),
    (("-K",), 0, "no data is compared, so no file has errors"),
    (("-l",), 1, "no data is kept, so it has no pattern"),
    (("-M",), 1, "memory of nodes is not modelled; set the client's cache by --set"),
    (("-n",), 0, "there is no HDF5"),
    (("-p",), 0, "preallocation is MPI-IO's"),
    (("-P",), 0, "shared file pointers are MPI-IO's"),
    (("-q",), 0, "no data is compared, so there are no errors"),
    (("-S",), 0, "strided datatypes are MPI-IO's"),
    (("-T",), 1, "repetitions are not limited by time; --max-time gives up at an emulated time"),
    (("-U",), 1, "there are no MPI hints"),
    (("-V",), 0, "file views are MPI-IO's"),
    (("-x",), 0, "a transfer is never cut short"),
    (("--dryRun",), 0, "emulating is all that is done"),
    (("--lustre.stripe_count", "--lustre.striping_unit"), 1, "layouts are the cluster's: [[storage.layout]]"),
)

# Flag, name, help. The names are those of ``-O``, too.
_SWITCHES = (
    ("-w", "writeFile", "write", "write (-w and -r where neither is given, nor -W or -R)"),
    ("-r", "readFile", "read", "read"),
    ("-W", "checkWrite", "check_write", "read back after writing; nothing is compared, as no data is kept"),
    ("-R", "checkRead", "check_read", "read, as with -r; nothing is compared"),
    ("-F", "filePerProc", "file_per_task", "a file a task, instead of a shared one"),
    ("-e", "fsync", "fsync", "fsync at the end of a write phase"),
    ("-Y", "fsyncPerWrite", "fsync_per_write", "fsync after each write"),
    ("-C", "reorderTasks", "reorder", "read what a task of the next node has written"),
    ("-Z", "reorderTasksRandom", "reorder_random", "read what a task drawn at random has written"),
    ("-z", "randomOffset", "random_offset", "transfers in random order"),
    ("-k", "keepFile", "keep", "keep the files"),
    ("-E", "useExistingTestFile", "existing", "do not remove kept files before a write"),
    ("-m", "multiFile", "multi_file", "files of their own for each repetition"),
    ("-g", "intraTestBarriers", "barriers", "barriers between open, transfers and close"),
    ("-u", "uniqueDir", "unique_dir", "with -F, a directory a task"),
)
_SIZES = (
    ("-b", "blockSize", "block_bytes", "1m", "bytes of a task in a segment"),
    ("-t", "transferSize", "transfer_bytes", "256k", "bytes of a transfer"),
)
_COUNTS = (
    ("-s", "segmentCount", "segments", 1, "segments"),
    ("-i", "repetitions", "repetitions", 1, "repetitions"),
    ("-Q", "taskPerNodeOffset", "node_offset", 1, "with -C and -Z: how many nodes away"),
    ("-X", "reorderTasksRandomSeed", "reorder_seed", 0, "seed of -Z; below 0: another for each repetition"),
    ("-d", "interTestDelay", "delay_s", 0, "seconds before each phase"),
    ("-A", "refnum", "reference", 0, "a number that the summary tells"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_cluster(parser, short=False)
    parser.add_argument("-a", "--api", default="POSIX", metavar="API", help="POSIX, the only one")
    parser.add_argument("-o", "--test-file", metavar="FILE", help="path of the file (default testFile)")
    parser.add_argument("-N", "--tasks", type=int, metavar="N", help="tasks: the first N ranks (default all)")
    for flag, _, name, default, text in _SIZES:
        parser.add_argument(flag, dest=name, metavar="SIZE", help=f"{text}, such as 4k, 1m, 2g ({default})")
    for flag, _, name, number, text in _COUNTS:
        parser.add_argument(flag, dest=name, metavar="N", help=f"{text} ({number})")
    for flag, _, name, text in _SWITCHES:
        parser.add_argument(flag, dest=name, action="store_true", help=text)
    parser.add_argument(
        "--posix.odirect", dest="direct", action="store_true", help="around the client's cache"
    )
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="tell more, once")
    parser.add_argument(
        "-O",
        dest="directives",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="summaryFormat=default|JSON|CSV, summaryFile=FILE, or a flag by its name, such as blockSize=1m",
    )
    add_refused(parser, REFUSED)
    add_running(parser)


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add the options of the replay, under names that the tools do not have."""
    group = parser.add_argument_group("emulation")
    group.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the random draws (1)")
    group.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the core; same result")
    group.add_argument("--out", metavar="DIR", help="save summary.json and the Arrow tables to this folder")
    group.add_argument(
        "--rpcs", action="store_true", help="keep the way of every RPC in rpcs.arrow (needs --out)"
    )
    group.add_argument("--trace", metavar="FILE", help="write the trace to this file, and do not run it")
    group.add_argument("--max-time", metavar="TIME", help="give up at this emulated time, such as 5s")
    group.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show progress on stderr (default: on a terminal)",
    )


def records(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return what the run records; ``--rpcs`` needs a folder."""
    if arguments.rpcs and arguments.out is None:
        raise ConfigError(["--rpcs writes rpcs.arrow to a folder; name it with --out DIR"])
    return ("rpcs",) if arguments.rpcs else ()


@contextlib.contextmanager
def saving(arguments: argparse.Namespace) -> Iterator[Path | None]:
    """Give the folder of the result, if there is one, and tell what is in it behind the run."""
    from fabricsim.result import make_folder

    folder = make_folder(arguments.out) if arguments.out is not None else None
    try:
        yield folder
    except (KeyboardInterrupt, EngineError):
        if folder is not None and (folder / "summary.json").is_file():
            log(f"what was found until then is in {arguments.out}")
        raise
    if folder is not None:
        log(f"saved to {arguments.out}")


def run(arguments: argparse.Namespace) -> int:
    """Run, and print what IOR prints."""
    from fabricsim.cli.progress import showing
    from fabricsim.program import compile
    from fabricsim.storage_bench import run_ior
    from fabricsim.storage_bench.ior_output import csv, document, text

    config, tasks, output = _read(arguments)
    record = records(arguments)
    max_time_ps = time_option(arguments.max_time, "--max-time")
    model = compile(load_cluster(arguments.cluster, arguments.overrides))
    if arguments.trace:
        return _write_trace(arguments, config, model, tasks)
    with (
        saving(arguments) as folder,
        _summary_file(output["file"]) as write,
        showing(arguments.progress) as update,
    ):
        result = run_ior(
            model,
            config,
            tasks=tasks,
            seed=arguments.seed,
            threads=arguments.threads,
            folder=folder,
            max_time_ps=max_time_ps,
            progress=update,
            record=record,
        )
        command = ["ior", *_given(arguments)]
        form = "JSON" if arguments.json else output["format"]
        if form == "JSON":
            lines = json.dumps(document(result, command), indent=1, allow_nan=False).splitlines()
        else:
            lines = csv(result) if form == "CSV" else text(result, command)
        for entry in lines:
            write(entry)
    log(f"{result.result.summary['packet_hops']:,} packet-hops, digest {result.result.digest}")
    return 0


def _write_trace(arguments: argparse.Namespace, config: Ior, model: Any, tasks: int | None) -> int:
    from fabricsim.storage_bench.ior import ior_trace, mount_of, places_of, tasks_of
    from fabricsim.trace import write_trace

    tasks, (_, per_node) = tasks_of(model, tasks, "-N"), places_of(model)
    mount = mount_of(model, config.test_file, "-o")
    trace, _ = ior_trace(config, tasks=tasks, tasks_per_node=per_node, mount=mount, seed=arguments.seed)
    write_trace(trace, arguments.trace)
    log(f"{trace.table.num_rows:,} rows of {tasks} ranks in {arguments.trace}")
    return 0


def _given(arguments: argparse.Namespace) -> list[str]:
    """Return the flags that differ from the defaults, as a command line."""
    given = [f"--cluster={arguments.cluster}", *(f"--set={text}" for text in arguments.overrides)]
    if arguments.tasks is not None:
        given += ["-N", str(arguments.tasks)]
    for flag, name in (*_SIZES_AND_COUNTS, ("-o", "test_file")):
        value = getattr(arguments, name)
        if value is not None:
            given += [flag, str(value)]
    given += [flag for flag, _, name, _ in _SWITCHES if getattr(arguments, name)]
    if arguments.direct:
        given.append("--posix.odirect")
    given += ["-v"] * arguments.verbose
    return [*given, *(part for text in arguments.directives for part in ("-O", text))]


_SIZES_AND_COUNTS = tuple((entry[0], entry[2]) for entry in (*_SIZES, *_COUNTS))


def _read(arguments: argparse.Namespace) -> tuple[Ior, int | None, dict[str, str]]:
    """Return what the flags and directives come to; every problem is told at once."""
    from fabricsim.storage_bench import Ior

    problems = refused(arguments, REFUSED)
    if arguments.api.upper() != "POSIX":
        problems.append(Problem("-a", f"found {arguments.api!r}, allowed: POSIX"))
    # Directives and flags set the same values; the flags were said by name, so they count.
    values: dict[str, str] = {}
    output = {"format": "default", "file": ""}
    for text in arguments.directives:
        for part in text.split(","):
            _directive(part, values, output, problems)
    settings: dict[str, Any] = {}
    for flag, _, name, default, _ in _SIZES:
        given = getattr(arguments, name)
        settings[name] = size_of(given or values.get(name, default), flag, problems)
    for flag, _, name, number, _ in _COUNTS:
        given = getattr(arguments, name)
        settings[name] = _count(given or values.get(name, str(number)), flag, problems)
    for _, _, name, _ in (*_SWITCHES, ("", "", "direct", "")):
        settings[name] = bool(getattr(arguments, name)) or values.get(name, "0") != "0"
    settings["test_file"] = arguments.test_file or values.get("test_file", "testFile")
    settings["verbose"] = arguments.verbose or _count(values.get("verbose", "0"), "-v", problems)
    tasks = arguments.tasks
    if tasks is None and "tasks" in values:
        tasks = _count(values["tasks"], "-N", problems)
    if problems:
        raise ConfigError(problems)
    return Ior(**settings), tasks, output


def _directive(part: str, values: dict[str, str], output: dict[str, str], problems: list[Problem]) -> None:
    """Take one NAME=VALUE of ``-O``."""
    known = {word.lower(): name for _, word, name, *_ in (*_SIZES, *_COUNTS)}
    switches = {word.lower(): name for _, word, name, _ in _SWITCHES} | {"useo_direct": "direct"}
    switches["reordertasksconstant"] = "reorder"
    others = {"testfile": "test_file", "numtasks": "tasks", "verbose": "verbose"}
    word, equals, value = (piece.strip() for piece in part.partition("="))
    where, name = f"-O {word}", word.lower()
    if not equals or not name or not value:
        problems.append(Problem("-O", f"found {part!r}, allowed: NAME=VALUE"))
    elif name == "summaryformat":
        forms = {form.lower(): form for form in FORMATS}
        if value.lower() in forms:
            output["format"] = forms[value.lower()]
        else:
            problems.append(Problem(where, unknown_name("format", value, FORMATS)))
    elif name == "summaryfile":
        output["file"] = value
    elif name == "api":
        if value.upper() != "POSIX":
            problems.append(Problem(where, f"found {value!r}, allowed: POSIX"))
    elif name in switches:
        if value not in ("0", "1"):
            problems.append(Problem(where, f"found {value!r}, allowed: 0 or 1"))
        values[switches[name]] = value
    elif name in known or name in others:
        values[known.get(name) or others[name]] = value
    else:
        words = ["summaryFormat", "summaryFile", "api", "testFile", "numTasks", "useO_DIRECT"]
        words += [entry[1] for entry in (*_SIZES, *_COUNTS, *_SWITCHES)]
        problems.append(Problem("-O", unknown_name("directive", word, words)))


def _count(text: str, flag: str, problems: list[Problem]) -> int:
    negative = flag == "-X" and text.startswith("-")
    number = size_of(text[1:] if negative else text, flag, problems)
    return -number if negative else number


@contextlib.contextmanager
def _summary_file(name: str) -> Iterator[Any]:
    """Give a function that writes a line: to standard output, or to the file of ``summaryFile``."""
    if not name:
        yield line
        return
    path, lines = Path(name), list[str]()
    try:
        path.touch()  # a name that cannot be written is told before the run
    except OSError as error:
        raise ConfigError([Problem("-O summaryFile", f"{name}: {error.strerror or error}")]) from error
    yield lines.append
    path.write_text("".join(text + "\n" for text in lines))
    log(f"summary in {name}")
