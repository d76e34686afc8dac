"""What a session asks of the core: names of files, operations that begin and end, time that passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from fabricsim.errors import ConfigError, Problem
from fabricsim.storage.tables import ALL, is_under
from fabricsim.trace import LOWERED_SCHEMA

if TYPE_CHECKING:
    from fabricsim.program import Model

__all__ = ["Emulator", "EngineEmulator", "Place"]

#: (path, bytes or -1 of a directory) of what is there before a session begins.
Place = tuple[str, int]


class Emulator(Protocol):
    """The emulated file systems of a session. Times are picoseconds, sizes bytes; names are numbers."""

    @property
    def n_ranks(self) -> int:
        """Ranks that are clients: 0 to n_ranks-1."""

    @property
    def mounts(self) -> Sequence[str]:
        """Where the file systems are."""

    def start(self, there: Sequence[Place]) -> dict[str, int]:
        """Begin with what is there already, folders before what is in them; return all names, also of mounts.

        Called once, before all others; what no mount holds has no name.
        """

    @property
    def now_ps(self) -> int:
        """Where the emulated time stands."""

    def add_directory(self, path: str) -> int:
        """Return the number of a directory, for the names in it."""

    def add_name(self, path: str, directory: int) -> int:
        """Return a name that nothing has yet: of a file or of a directory that will be made."""

    def begin(
        self,
        rank: int,
        kind: str,
        name: int,
        *,
        offset: int = 0,
        size: int = 0,
        flags: int = 0,
        new_name: int = -1,
    ) -> int:
        """Begin an operation of a rank now, a storage kind of the trace; return its token."""

    def wait_any(self, tokens: Sequence[int], until_ps: int | None = None) -> tuple[int, int, int]:
        """Go on until one has ended; return which (its index; -1: ``until_ps`` came first), start and end."""

    def tables(self) -> dict[str, Mapping[str, np.ndarray]]:
        """Return what the core tells of clients, servers and targets so far, by name."""


class EngineEmulator:
    """The compiled core, run as far as each operation needs.

    Parameters
    ----------
    model
        A compiled cluster with file systems.
    n_ranks
        Ranks 0 to n_ranks-1 are clients.
    seed, threads
        As of ``replay``.

    Raises
    ------
    ConfigError
        When the cluster has no file system, or fewer ranks.
    """

    def __init__(self, model: Model, *, n_ranks: int, seed: int = 1, threads: int = 1) -> None:
        self._storage = model.cluster.storage
        if not self._storage:
            text = f"cluster {model.cluster.name!r} has no file system, allowed: one with [storage]"
            raise ConfigError([Problem("cluster", text)])
        self._model, self._seed, self._threads = model, seed, threads
        self._n_ranks = n_ranks
        self._mounts = [str(one.mount) for one in self._storage]
        self._numbers: dict[str, int] = {}

    @property
    def n_ranks(self) -> int:
        return self._n_ranks

    @property
    def mounts(self) -> Sequence[str]:
        return self._mounts

    def start(self, there: Sequence[Place]) -> dict[str, int]:
        from fabricsim._core import engine

        sizes = dict.fromkeys(self.mounts, -1) | {
            path: size for path, size in there if self._store(path) >= 0
        }
        stripes = [self._stripes(path) for path, size in sizes.items() if size < 0]
        self._numbers = {path: i for i, path in enumerate(p for p, size in sizes.items() if size < 0)}
        # A mount is an entry of itself: the folder that it is in is of another file system, or of none.
        folders = [path if path in self.mounts else _parent(path) for path in sizes]
        files: dict[str, Any] = {
            "store": np.array([self._store(path) for path in sizes], np.int8),
            "directory": np.array([self._numbers[folder] for folder in folders], np.int32),
            "layout": np.array([self._layout(path) for path in sizes], np.int32),
            "bytes": np.array([max(size, 0) for size in sizes.values()], np.int64),
            "directory_stripes": np.array(stripes, np.int32),
            "clients": np.arange(self.n_ranks, dtype=np.int32),
            "ranks_per_client": self._model.cluster.storage[0].ranks_per_client,
        }
        hosts = np.asarray(self._model.cluster.rank_host(self.n_ranks), np.int32)
        empty = pa.Table.from_pylist([], schema=LOWERED_SCHEMA).combine_chunks()
        program = engine.Program(self._model.engine, empty, rank_host=hosts, files=files)
        self._run = engine.Run(self._model.engine, program, seed=self._seed, threads=self._threads)
        return {path: number for number, path in enumerate(sizes)}

    @property
    def now_ps(self) -> int:
        return int(self._run.frontier_ps)

    def add_directory(self, path: str) -> int:
        if path in self._numbers:
            return self._numbers[path]
        return int(self._run.add_directory(self._stripes(path)))

    def add_name(self, path: str, directory: int) -> int:
        return int(self._run.add_file(self._store(path), directory, self._layout(path)))

    def begin(
        self,
        rank: int,
        kind: str,
        name: int,
        *,
        offset: int = 0,
        size: int = 0,
        flags: int = 0,
        new_name: int = -1,
    ) -> int:
        return int(self._run.io(rank, kind, name, offset=offset, size=size, flags=flags, new_file=new_name))

    def wait_any(self, tokens: Sequence[int], until_ps: int | None = None) -> tuple[int, int, int]:
        which, start_ps, end_ps = self._run.wait_any(np.array(tokens, np.int64), until_ps)
        return int(which), int(start_ps), int(end_ps)

    def tables(self) -> dict[str, Mapping[str, np.ndarray]]:
        return {
            "clients": self._run.clients(),
            "servers": self._run.servers(),
            "targets": self._run.targets(),
        }

    def _store(self, path: str) -> int:
        """Return the file system that holds a path; -1 for none."""
        found = [(len(mount), number) for number, mount in enumerate(self.mounts) if is_under(path, mount)]
        return max(found)[1] if found else -1

    def _layout(self, path: str) -> int:
        """Return the layout of a new file: 0, the file system's own, or 1 more than its table's number."""
        tables = self._storage[self._store(path)].layout if self._store(path) >= 0 else ()
        found = [
            (len(table.path.rstrip("/")), i + 1)
            for i, table in enumerate(tables)
            if is_under(path, table.path)
        ]
        return max(found)[1] if found else 0

    def _stripes(self, path: str) -> int:
        """Return over how many metadata servers a directory is spread."""
        if self._store(path) < 0:
            return 1
        one = self._storage[self._store(path)]
        found = [(len(t.path.rstrip("/")), t.stripes) for t in one.directory if is_under(path, t.path)]
        if not found:
            return 1
        stripes = max(found)[1]
        return int(one.n_meta if stripes == ALL else min(stripes, one.n_meta))


def _parent(path: str) -> str:
    return path.rsplit("/", 1)[0] or "/"
