"""IOR's phases as rows of a trace: opens, transfers and closes between barriers.

Source: IOR's user documentation and its output, versions 3.3 to 4.0.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fabricsim.errors import ConfigError, Problem
from fabricsim.storage_bench.ior_config import Ior
from fabricsim.storage_bench.rows import PhaseRows, path_in
from fabricsim.trace.paths import escape
from fabricsim.units import s as SECOND_PS

if TYPE_CHECKING:
    from fabricsim.trace import Trace

__all__ = ["Phase", "ior_trace"]

#: Rows of a trace, at most: each transfer of IOR is one, or one a rank where ranks differ.
MOST_ROWS = 20_000_000


@dataclass(frozen=True, slots=True)
class Phase:
    """Rows of a phase, by id; ``access`` is write, read, check (not told), or remove (its barriers too)."""

    access: str
    repetition: int
    opens: range = range(0)
    transfers: range = range(0)
    closes: range = range(0)


class _Maker:
    """Makes the rows of a run, phase by phase."""

    def __init__(self, config: Ior, tasks: int, tasks_per_node: int, mount: str, seed: int) -> None:
        self.config, self.tasks, self.per_node, self.seed = config, tasks, tasks_per_node, seed
        self.rows = PhaseRows(tasks, generator="fabricsim.storage_bench.ior", tasks=tasks)
        self.path = escape(path_in(mount, config.test_file))
        self.phases: list[Phase] = []
        self.draws = 0

    def make(self) -> None:
        config = self.config
        for repetition in range(config.repetitions):
            shift: list[int] | int = 0
            if config.write:
                self._prepare(repetition)
                self._phase("write", repetition, 0, "write")
            if config.check_write:
                back = 2 * self.per_node % self.tasks if config.reorder else 0
                self._phase("read", repetition, back, "check")
            if config.reads:
                shift = self._shift(repetition)
                self._phase("read", repetition, shift, "read")
            if not config.keep:
                self._remove(repetition, 0 if config.reorder_random else shift)
            else:
                self.rows.barrier()

    def _prepare(self, repetition: int) -> None:
        """Make directories, and remove what is left of the last repetition."""
        config = self.config
        if config.unique_dir and repetition == 0:
            folder = self.path.rsplit("/", 1)[0]
            self.rows.add("mkdir", None, file=f"{folder}/{{rank}}")
        if repetition and config.keep and not config.existing and not config.multi_file:
            self._unlink(0, repetition)

    def _file(self, shift: int, repetition: int) -> str:
        """Return the path of the file of the task ``shift`` further."""
        config, path = self.config, self.path
        rank = f"rank+{shift}%{self.tasks}" if shift else "rank"
        if config.unique_dir:
            folder, name = path.rsplit("/", 1)
            path = f"{folder}/{{{rank}}}/{name}"
        if config.file_per_task:
            path += f".{{{rank}:08d}}"
        return f"{path}.{repetition}" if config.multi_file else path

    def _phase(self, kind: str, repetition: int, shift: list[int] | int, access: str) -> None:
        config, rows = self.config, self.rows
        delay = config.delay_s * SECOND_PS if config.delay_s and access != "check" else None
        rows.barrier(delay)
        create = "create" if kind == "write" else None
        opens = self._each(
            shift, repetition, lambda ranks, file: rows.add("open", ranks, file=file, flags=create)
        )
        if config.barriers:
            rows.barrier()
        begin = len(rows)
        self._transfers(kind, shift, repetition)
        if kind == "write" and config.fsync:
            self._each(shift, repetition, lambda ranks, file: rows.add("fsync", ranks, file=file))
        transfers = range(begin, len(rows))
        if config.barriers:
            rows.barrier()
        closes = self._each(shift, repetition, lambda ranks, file: rows.add("close", ranks, file=file))
        if access != "check":
            if kind == "write":
                rows.barrier()
            # IOR asks for the size of the file that it has written or read.
            self._each(shift, repetition, lambda ranks, file: rows.add("stat", ranks, file=file))
        self.phases.append(Phase(access, repetition, opens, transfers, closes))

    def _each(
        self, shift: list[int] | int, repetition: int, add: Callable[[list[int] | None, str], object]
    ) -> range:
        """Add rows in which every task does something with its file."""
        begin = len(self.rows)
        if isinstance(shift, int):
            add(None, self._file(shift, repetition))
        elif not self.config.file_per_task:
            add(None, self._file(0, repetition))
        else:
            for rank, back in enumerate(shift):
                add([rank], self._file(back, repetition))
        return range(begin, len(self.rows))

    def _transfers(self, kind: str, shift: list[int] | int, repetition: int) -> None:
        config, tasks = self.config, self.tasks
        if config.random_offset and not config.file_per_task:
            for rank, mine in enumerate(self._random_shared()):
                self._run(kind, [rank], self._file(0, repetition), mine, 0)
            return
        offsets = self._offsets()
        if not isinstance(shift, int):
            for rank, back in enumerate(shift):
                place = 0 if config.file_per_task else (rank + back) % tasks * config.block_bytes
                self._run(kind, [rank], self._file(back, repetition), offsets + place, 0)
        elif config.file_per_task:
            self._run(kind, None, self._file(shift, repetition), offsets, 0)
        else:
            # Of the tasks from `turn` on the one that has written theirs is at the beginning of the circle.
            turn = tasks - shift
            ranks = None if not shift else range(turn)
            file, block = self._file(0, repetition), config.block_bytes
            self._run(kind, ranks, file, offsets + shift * block, block)
            if shift:
                self._run(kind, range(turn, tasks), file, offsets, block)

    def _run(self, kind: str, ranks: Any, file: str, offsets: Any, stride: int) -> None:
        config, rows = self.config, self.rows
        flags = "direct" if config.direct else None
        if len(rows) + len(offsets) > MOST_ROWS:
            text = f"found more than {MOST_ROWS} rows of transfers, allowed: fewer, or larger transfers"
            raise ConfigError([Problem("-b, -t, -s", text)])
        places = [int(offset) for offset in offsets]
        if kind == "read" or not config.fsync_per_write:
            rows.transfers(kind, ranks, file, places, config.transfer_bytes, stride=stride, flags=flags)
            return
        for place in places:
            rows.transfers(kind, ranks, file, [place], config.transfer_bytes, stride=stride, flags=flags)
            rows.add("fsync", ranks, file=file)

    def _offsets(self) -> np.ndarray:
        """Return the offsets of the first task's transfers, bytes."""
        config = self.config
        whole = config.block_bytes * (1 if config.file_per_task else self.tasks)
        inside = (
            np.arange(config.block_bytes // config.transfer_bytes, dtype=np.int64) * config.transfer_bytes
        )
        segments = np.arange(config.segments, dtype=np.int64) * whole
        offsets = (segments[:, None] + inside[None, :]).ravel()
        if config.random_offset:
            order = list(range(len(offsets)))
            self._draw().shuffle(order)
            offsets = offsets[order]
        return offsets

    def _random_shared(self) -> list[list[int]]:
        """Return the transfers of a shared file, each given to a task at random, in random order."""
        config, draw = self.config, self._draw()
        count = config.transfers_per_task * self.tasks
        if count > MOST_ROWS:
            raise ConfigError([Problem("-z", f"found {count} transfers, allowed: {MOST_ROWS} in all")])
        found: list[list[int]] = [[] for _ in range(self.tasks)]
        for number in range(count):
            found[draw.randrange(self.tasks)].append(number * config.transfer_bytes)
        for offsets in found:
            draw.shuffle(offsets)
        return found

    def _draw(self) -> random.Random:
        self.draws += 1
        return random.Random(f"ior {self.seed} {self.draws}")

    def _shift(self, repetition: int) -> list[int] | int:
        """Return how much further the task stands that has written what a task reads."""
        config = self.config
        if config.reorder:
            return config.node_offset * self.per_node % self.tasks
        if not config.reorder_random:
            return 0
        nodes = -(-self.tasks // self.per_node)
        least = min(config.node_offset, nodes - 1) * self.per_node
        seed = config.reorder_seed if config.reorder_seed >= 0 else repetition - config.reorder_seed
        return [
            random.Random(f"ior {seed} {rank}").randrange(least, max(self.tasks, least + 1)) % self.tasks
            for rank in range(self.tasks)
        ]

    def _remove(self, repetition: int, shift: list[int] | int) -> None:
        begin = self.rows.barrier()
        self._unlink(shift if isinstance(shift, int) else 0, repetition)
        self.rows.barrier()
        self.phases.append(Phase("remove", repetition, range(begin, len(self.rows))))

    def _unlink(self, shift: int, repetition: int) -> None:
        ranks = None if self.config.file_per_task else [0]
        self.rows.add("unlink", ranks, file=self._file(shift, repetition))


def ior_trace(
    config: Ior, *, tasks: int, tasks_per_node: int = 1, mount: str = "/", seed: int = 1
) -> tuple[Trace, list[Phase]]:
    """Return the trace of a run of IOR, and which rows are which phase.

    Parameters
    ----------
    config
        What IOR is to do.
    tasks, tasks_per_node
        Ranks 0 to tasks-1, so many a node, block by block.
    mount
        Where a test file lies whose path does not begin with ``/``.
    seed
        Of random offsets.

    >>> trace, phases = ior_trace(Ior(write=True, file_per_task=True), tasks=4)
    >>> [phase.access for phase in phases], trace.n_ranks
    (['write', 'remove'], 4)

    Raises
    ------
    ConfigError
        When it is too much.
    """
    size = config.block_bytes * config.segments * tasks
    if size >= 1 << 62:
        raise ConfigError([Problem("-b, -s, -N", f"found {size} bytes in all, allowed: below 2^62")])
    maker = _Maker(config, tasks, min(tasks_per_node, tasks), mount, seed)
    maker.make()
    return maker.rows.trace(), maker.phases
