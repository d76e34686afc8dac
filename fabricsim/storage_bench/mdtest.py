"""mdtest: phases of metadata operations between barriers, and the rates that mdtest takes of them.

Source: mdtest's manual and its own output, versions 3.4 to 4.0. A rate is the items of all tasks over the
time from the barrier before a phase to the one behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabricsim.errors import ConfigError, Problem
from fabricsim.storage_bench.ior import mount_of, places_of, tasks_of
from fabricsim.storage_bench.rows import PhaseRows, Times, path_in, tell_refusals
from fabricsim.trace.paths import escape

if TYPE_CHECKING:
    from fabricsim.program import Model
    from fabricsim.run import Progress
    from fabricsim.trace import Trace

__all__ = ["OPERATIONS", "Mdtest", "MdtestResult", "Measured", "mdtest_trace", "run_mdtest"]

#: What the summary tells, in its order; the first four are of directories, the next four of files.
OPERATIONS = (
    "Directory creation",
    "Directory stat",
    "Directory rename",
    "Directory removal",
    "File creation",
    "File stat",
    "File read",
    "File removal",
    "Tree creation",
    "Tree removal",
)

#: Rows of a trace, at most.
MOST_ROWS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Mdtest:
    """What mdtest is to do; the flags' names and defaults are mdtest's.

    Parameters
    ----------
    items, items_per_directory
        ``-n``: files and directories of each task; or ``-I``: so many in each directory of the tree.
    depth, branches
        ``-z``, ``-b``: the tree; depth 0 is one directory.
    leaf_only
        ``-L``: items only in the leaves of the tree.
    directories, files
        ``-D``, ``-F``: of directories or of files only; neither: both.
    create, stat, read, remove, rename
        ``-C``, ``-T``, ``-E``, ``-r``, ``-U``: these phases only; none: all.
    unique
        ``-u``: a tree for each task.
    shared_file
        ``-S``: all tasks open the same files.
    stride
        ``-N``: a task stats, reads and removes what others have made, each phase so many nodes further on.
    iterations
        ``-i``.
    write_bytes, read_bytes, sync
        ``-w``, ``-e``: bytes of each file; ``-y``: fsync after the write.
    path
        ``-d``; one that does not begin with ``/`` lies in the first file system. It is there.

    Raises
    ------
    ConfigError
        With everything that does not fit together.

    >>> Mdtest(items=10, depth=2, branches=2).items_per_task
    7
    """

    items: int = 0
    items_per_directory: int = 0
    depth: int = 0
    branches: int = 1
    leaf_only: bool = False
    directories: bool = False
    files: bool = False
    create: bool = False
    stat: bool = False
    read: bool = False
    remove: bool = False
    rename: bool = False
    unique: bool = False
    shared_file: bool = False
    stride: int = 0
    iterations: int = 1
    write_bytes: int = 0
    read_bytes: int = 0
    sync: bool = False
    path: str = "./out"

    def __post_init__(self) -> None:
        phases = ("create", "stat", "read", "remove", "rename")
        if not any(getattr(self, name) for name in phases):
            for name in phases:
                object.__setattr__(self, name, True)
        if not (self.directories or self.files):
            object.__setattr__(self, "directories", True)
            object.__setattr__(self, "files", True)
        if self.shared_file:
            object.__setattr__(self, "directories", False)
            object.__setattr__(self, "files", True)
        if problems := list(self._problems()):
            raise ConfigError(problems)

    def _problems(self) -> Iterator[Problem]:
        for flag, value, least, most in (
            ("-n", self.items, 0, MOST_ROWS),
            ("-I", self.items_per_directory, 0, MOST_ROWS),
            ("-z", self.depth, 0, 64),
            ("-b", self.branches, 1, 1_000_000),
            ("-i", self.iterations, 1, 1_000_000),
            ("-N", self.stride, 0, 1 << 31),
        ):
            if not least <= value <= most:
                yield Problem(flag, f"found {value}, allowed: {least} to {most}")
                return
        if bool(self.items) == bool(self.items_per_directory):
            yield Problem("-n, -I", "allowed: one of them, at least 1")
        elif self.n_directories > 1_000_000:
            yield Problem("-z, -b", f"found a tree of {self.n_directories} directories, allowed: 1000000")
        elif self.items_per_task == 0:
            text = f"found {self.items} for {self.n_filled} directories, allowed: at least one for each"
            yield Problem("-n", text)
        if self.unique and self.shared_file:
            yield Problem("-S", "found with -u, allowed: one of them")
        if self.create and self.read and self.files and self.read_bytes > self.write_bytes:
            yield Problem("-e", f"found {self.read_bytes}, allowed: at most -w, {self.write_bytes}")
        if not self.path:
            yield Problem("-d", "found nothing, allowed: the path of a directory")

    @property
    def n_directories(self) -> int:
        """Directories of a tree."""
        if self.branches == 1:
            return self.depth + 1
        return int((self.branches ** (self.depth + 1) - 1) // (self.branches - 1))

    @property
    def n_filled(self) -> int:
        """Directories of a tree that have items."""
        return int(self.branches**self.depth) if self.leaf_only else self.n_directories

    @property
    def per_directory(self) -> int:
        """Items of a task in each directory that has some."""
        return self.items_per_directory or self.items // self.n_filled

    @property
    def items_per_task(self) -> int:
        """Files, and directories, of a task in all: ``-n`` in whole directories."""
        return self.per_directory * self.n_filled


@dataclass(frozen=True, slots=True)
class Phase:
    """Rows of a phase: its operation, which iteration, items of a task, barriers before and behind it."""

    operation: str
    iteration: int
    items: int
    before: int
    behind: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A phase of an iteration.

    Parameters
    ----------
    operation, iteration
        One of ``OPERATIONS``, and which iteration from 0.
    items
        Of all tasks; of a tree its directories, as mdtest counts them.
    time_ps
        The longest of a task, from barrier to barrier.
    """

    operation: str
    iteration: int
    items: int
    time_ps: int

    @property
    def rate(self) -> float:
        """Operations a second of all tasks."""
        return self.items * 1e12 / self.time_ps if self.time_ps else 0.0


@dataclass(frozen=True, kw_only=True)
class MdtestResult:
    """All phases of a run.

    Parameters
    ----------
    config, tasks, tasks_per_node
        What was asked for.
    phases
        Each phase of each iteration, in order.
    cluster, seed, result
        Where and how it ran; ``result`` is the Result of the replay.
    """

    config: Mdtest
    tasks: int
    tasks_per_node: int
    phases: list[Measured]
    cluster: str
    cluster_digest: str
    seed: int
    result: Any = field(repr=False)

    def of(self, operation: str) -> list[Measured]:
        """Return the phases of one operation, an iteration each."""
        return [phase for phase in self.phases if phase.operation == operation]


class _Maker:
    """Makes the rows of a run, phase by phase."""

    def __init__(self, config: Mdtest, tasks: int, stride: int, mount: str) -> None:
        self.config, self.tasks, self.stride = config, tasks, stride
        self.rows = PhaseRows(tasks, generator="fabricsim.storage_bench.mdtest", tasks=tasks)
        self.root = escape(path_in(mount, config.path).rstrip("/"))
        self.phases: list[Phase] = []
        self.folder = ""

    def make(self) -> None:
        config, rows = self.config, self.rows
        for iteration in range(config.iterations):
            self.folder = f"{self.root}/test-dir.{iteration}-0"
            if config.create:
                rows.add("mkdir", [0], file=self.folder)
                self._phase("Tree creation", iteration, config.n_directories, lambda: self._tree("mkdir"))
            if config.directories:
                self._directories(iteration)
            if config.files:
                self._files(iteration)
            if config.remove:
                self._phase("Tree removal", iteration, config.n_directories, lambda: self._tree("rmdir"))
                rows.add("rmdir", [0], file=self.folder)

    def _phase(self, operation: str, iteration: int, items: int, add: Callable[[], None]) -> None:
        before = self.rows.barrier()
        add()
        behind = self.rows.barrier()
        self.phases.append(Phase(operation, iteration, items, before, behind))

    def _directories(self, iteration: int) -> None:
        config, rows = self.config, self.rows
        n = config.items_per_task

        def each(kind: str, turn: int) -> Callable[[], None]:
            def add() -> None:
                for path in self._items("dir", turn):
                    rows.add(kind, None, file=path)

            return add

        if config.create:
            self._phase("Directory creation", iteration, n, each("mkdir", 0))
        if config.stat:
            self._phase("Directory stat", iteration, n, each("stat", 1))
        if config.rename and n > 1:
            self._phase("Directory rename", iteration, n, self._rename)
        if config.remove:
            self._phase("Directory removal", iteration, n, each("rmdir", 3))

    def _rename(self) -> None:
        """Rename all directories in a circle: each takes the name of the one before it."""
        paths, rows = self._items("dir", 1), self.rows
        aside = paths[0] + "-XX"
        rows.add("rename", None, file=paths[0], new_file=aside)
        for path, new in zip(paths[1:], paths, strict=False):
            rows.add("rename", None, file=path, new_file=new)
        rows.add("rename", None, file=aside, new_file=paths[-1])

    def _files(self, iteration: int) -> None:
        config, rows = self.config, self.rows
        n = config.items_per_task

        def create() -> None:
            for path in self._items("file", 0):
                rows.add("open", None, file=path, flags="create")
                if config.write_bytes:
                    rows.transfers("write", None, path, [0], config.write_bytes)
                    if config.sync:
                        rows.add("fsync", None, file=path)
                rows.add("close", None, file=path)

        def stat() -> None:
            for path in self._items("file", 1):
                rows.add("stat", None, file=path)

        def read() -> None:
            for path in self._items("file", 2):
                rows.add("open", None, file=path)
                if config.read_bytes:
                    rows.transfers("read", None, path, [0], config.read_bytes)
                rows.add("close", None, file=path)

        def remove() -> None:
            ranks = [0] if config.shared_file else None
            for path in self._items("file", 3):
                rows.add("unlink", ranks, file=path)

        for wanted, operation, add in (
            (config.create, "File creation", create),
            (config.stat, "File stat", stat),
            (config.read, "File read", read),
            (config.remove, "File removal", remove),
        ):
            if wanted:
                self._phase(operation, iteration, n, add)

    def _rank(self, turn: int) -> str:
        """Return the pattern of the number of the task that a task follows in its ``turn``-th phase."""
        further = turn * self.stride % self.tasks
        return f"{{rank+{further}%{self.tasks}}}" if further else "{rank}"

    def _base(self, turn: int) -> str:
        return f"mdtest_tree.{self._rank(turn)}" if self.config.unique else "mdtest_tree"

    def _directory(self, number: int, turn: int) -> str:
        """Return the path of a directory of the tree; directory k lies in (k - 1) // branches."""
        base, parts = self._base(turn), [number]
        while parts[-1] > 0:
            parts.append((parts[-1] - 1) // self.config.branches)
        return "/".join([self.folder, *(f"{base}.{part}" for part in reversed(parts))])

    def _items(self, what: str, turn: int) -> list[str]:
        """Return the paths of a task's items in its ``turn``-th phase: those of the task that it follows."""
        config = self.config
        if len(self.rows) + config.items_per_task > MOST_ROWS:
            text = f"found more than {MOST_ROWS} rows, allowed: fewer items or iterations"
            raise ConfigError([Problem("-n", text)])
        first = config.n_directories - config.n_filled
        # Trees are followed one turn more than names, so that an item is where its maker has put it.
        owner = "shared." if config.shared_file else f"{self._rank(turn)}."
        count, paths = config.per_directory, []
        for number in range(first, config.n_directories):
            folder = self._directory(number, turn + 1)
            begin = number * count
            paths += [f"{folder}/{what}.mdtest.{owner}{item}" for item in range(begin, begin + count)]
        return paths

    def _tree(self, kind: str) -> None:
        """Make the tree from its root, or remove it from its leaves."""
        ranks = None if self.config.unique else [0]
        numbers = range(self.config.n_directories)
        for number in numbers if kind == "mkdir" else reversed(numbers):
            self.rows.add(kind, ranks, file=self._directory(number, 0))


def mdtest_trace(
    config: Mdtest, *, tasks: int, tasks_per_node: int = 1, mount: str = "/"
) -> tuple[Trace, list[Phase]]:
    """Return the trace of a run of mdtest, and which rows are which phase.

    Parameters
    ----------
    config
        What mdtest is to do.
    tasks, tasks_per_node
        Ranks 0 to tasks-1, so many a node, block by block.
    mount
        Where a path lies that does not begin with ``/``.

    >>> trace, phases = mdtest_trace(Mdtest(items=3, files=True, create=True), tasks=2)
    >>> [phase.operation for phase in phases], trace.n_ranks
    (['Tree creation', 'File creation'], 2)
    """
    per_node = min(tasks_per_node, tasks)
    maker = _Maker(config, tasks, _stride(config, tasks, per_node), mount)
    maker.make()
    return maker.rows.trace(), maker.phases


def _stride(config: Mdtest, tasks: int, per_node: int) -> int:
    """Return ``-N`` in tasks: on several nodes mdtest counts it in nodes."""
    return config.stride * (per_node if tasks > per_node else 1)


def run_mdtest(
    model: Model,
    config: Mdtest,
    *,
    tasks: int | None = None,
    seed: int = 1,
    threads: int = 1,
    folder: Path | None = None,
    max_time_ps: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    record: Collection[str] = (),
) -> MdtestResult:
    """Run mdtest on an emulated cluster; the parameters are those of ``run_ior``.

    Raises
    ------
    ConfigError
        When the cluster has no file system, or fewer ranks.
    """
    from fabricsim.program import build_program
    from fabricsim.run import run_program

    tasks = tasks_of(model, tasks, "--tasks")
    per_node, mount = min(places_of(model)[1], tasks), mount_of(model, config.path, "-d")
    trace, phases = mdtest_trace(config, tasks=tasks, tasks_per_node=per_node, mount=mount)
    result = run_program(
        build_program(model, trace),
        seed=seed,
        threads=threads,
        folder=folder,
        max_time_ps=max_time_ps,
        progress=progress,
        record=record,
    )
    reads = sum(phase.items for phase in phases if phase.operation == "File read")
    tell_refusals(result.summary, reads * config.read_bytes * tasks)
    return MdtestResult(
        config=config,
        tasks=tasks,
        tasks_per_node=per_node,
        phases=measure(phases, Times(result.ops, tasks)),
        cluster=model.cluster.name,
        cluster_digest=model.digest,
        seed=seed,
        result=result,
    )


def measure(phases: list[Phase], times: Times) -> list[Measured]:
    """Return what mdtest tells of each phase."""
    found = []
    for phase in phases:
        begun, ended = times.of(phase.before)[1], times.of(phase.behind)[1]
        # A tree counts once, whoever makes it.
        share = 1 if phase.operation.startswith("Tree") else times.n_ranks
        found.append(
            Measured(
                operation=phase.operation,
                iteration=phase.iteration,
                items=phase.items * share,
                time_ps=int((ended - begun).max()),
            )
        )
    return found
