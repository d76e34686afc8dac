"""A session: emulated file systems that a program uses, with real bytes, while emulated time passes."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fabricsim.errors import ConfigError, Problem
from fabricsim.fs.emulator import Emulator, EngineEmulator
from fabricsim.fs.stats import RankStats
from fabricsim.fs.tree import Folder, FolderKeeper, Keeper, Leaf, MemoryKeeper, Tree
from fabricsim.trace.schema import FLAG_BIT
from fabricsim.units import parse_time_ps

if TYPE_CHECKING:
    from fabricsim.cluster import Cluster
    from fabricsim.fs.filesystem import FileSystem
    from fabricsim.program import Model

__all__ = ["Session"]


class Session:
    """Emulated file systems shared by the ranks of a cluster.

    All ranks see the same files at once: a write is there for the others when it has ended, a rename when it
    has been done. Each call takes emulated time, from where the session stands; calls of one thread follow
    one another, ranks of ``run`` overlap. The same calls give the same times.

    Parameters
    ----------
    cluster
        A cluster or model with file systems, or the path of a cluster file or the name of a preset.
    ranks
        Ranks 0 to ranks-1 are clients; default all of the cluster.
    seed, threads
        As of ``replay``.
    folder
        Keeps the bytes in this folder of the machine, under the same paths; what is in it is there at the
        start. Default: in memory.
    emulator
        What emulates; default the core.

    Raises
    ------
    ConfigError
        When the cluster has no file system, or fewer ranks.
    """

    _current: Session | None = None

    def __init__(
        self,
        cluster: Cluster | Model | str | os.PathLike[str] | None = None,
        *,
        ranks: int | None = None,
        seed: int = 1,
        threads: int = 1,
        folder: str | os.PathLike[str] | None = None,
        emulator: Emulator | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self.keeper: Keeper = MemoryKeeper() if folder is None else FolderKeeper(folder)
        there = list(self.keeper.there())
        if emulator is None:
            if cluster is None:
                raise ConfigError([Problem("cluster", "missing, allowed: a cluster with [storage]")])
            emulator = _engine(cluster, ranks, seed, threads)
        names = emulator.start(there)
        self.emulator: Emulator = emulator
        self.mounts = tuple(emulator.mounts)
        self.n_ranks = emulator.n_ranks
        self.tree = Tree(self.keeper)
        self._plant(there, names)
        self._stats = [RankStats() for _ in range(self.n_ranks)]
        self._file_systems: dict[int, FileSystem] = {}
        self._run: _Run | None = None

    def __repr__(self) -> str:
        return f"<Session: {self.n_ranks} ranks, {', '.join(self.mounts)}, at {self.now()} ps>"

    def __enter__(self) -> Session:
        """Make it the one that ``fabricsim://`` addresses mean without a session of their own."""
        import fabricsim.fs.filesystem  # noqa: F401 (fsspec learns the address there)

        self._before, Session._current = Session._current, self
        return self

    def __exit__(self, *_: object) -> None:
        Session._current = self._before

    @classmethod
    def current(cls) -> Session | None:
        """Return the innermost session that was entered by ``with``."""
        return cls._current

    # ---- for users

    def fs(self, rank: int = 0) -> FileSystem:
        """Return the file system as a rank sees it, the same at each call.

        Raises
        ------
        ConfigError
            When there is no such rank.
        """
        from fabricsim.fs.filesystem import FileSystem

        if not 0 <= rank < self.n_ranks:
            raise ConfigError([Problem("rank", f"found {rank}, allowed: 0 to {self.n_ranks - 1}")])
        if rank not in self._file_systems:
            self._file_systems[rank] = FileSystem(session=self, rank=rank)
        return self._file_systems[rank]

    def now(self) -> int:
        """Return the emulated time since the start, picoseconds."""
        return self.emulator.now_ps

    def sleep(self, duration: str | int) -> None:
        """Let emulated time pass: compute between I/O, while what is dirty flows out.

        Parameters
        ----------
        duration
            Picoseconds, or a text such as ``"10ms"``.
        """
        length_ps = parse_time_ps(duration) if isinstance(duration, str) else int(duration)
        if length_ps < 0:
            raise ValueError(f"duration: found {duration!r}, allowed: 0 or more")
        task = self._task()
        if task is not None:
            task.pause(until_ps=self.now() + length_ps)
            return
        with self._lock:
            self.emulator.wait_any([], self.now() + length_ps)

    def run(self, function: Callable[[FileSystem], Any], ranks: Iterable[int] | None = None) -> list[Any]:
        """Call a function for several ranks at once, and return what it returned for each.

        Each rank's calls follow one another, and overlap with those of the others in emulated time. Whoever's
        operation ends first goes on first, by rank where that is a tie: the same calls give the same times.

        Parameters
        ----------
        function
            Called with the file system of each rank (``fs.rank`` tells which), in a thread of its own; one of
            them works at a time.
        ranks
            Default all.

        Raises
        ------
        Exception
            What the first of them has raised; the others are finished first.
        """
        chosen = list(range(self.n_ranks)) if ranks is None else list(ranks)
        if self._run is not None:
            raise RuntimeError("session.run inside session.run")
        self._run = _Run(self, function, chosen)
        try:
            return self._run.go()
        finally:
            self._run = None

    def barrier(self) -> None:
        """Inside ``run``: wait until every rank that has not finished has come here. Costs no time itself."""
        task = self._task()
        if task is None:
            raise RuntimeError("session.barrier outside session.run")
        task.pause(at_barrier=True)

    def stats(self, rank: int = 0) -> dict[str, Any]:
        """Return what a rank has done: calls, bytes, time in calls; and what the core tells of its client."""
        found = self._stats[rank].to_dict()
        clients = self.emulator.tables().get("clients", {})
        for at in np.flatnonzero(np.asarray(clients.get("rank", ())) == rank):
            found["client"] = {name: int(column[at]) for name, column in clients.items() if name != "rank"}
        return found

    # ---- for the file systems

    def io(
        self,
        rank: int,
        kind: str,
        name: int,
        *,
        offset: int = 0,
        size: int = 0,
        flags: Iterable[str] = (),
        new_name: int = -1,
    ) -> int:
        """Do one storage operation of a rank; return when it has ended, picoseconds."""
        with self._lock:
            token = self.emulator.begin(
                rank,
                kind,
                name,
                offset=offset,
                size=size,
                flags=sum(FLAG_BIT[word] for word in flags),
                new_name=new_name,
            )
            task = self._task()
            if task is None:
                _, start_ps, end_ps = self.emulator.wait_any([token])
        if task is not None:
            start_ps, end_ps = task.pause(token=token)
        self._stats[rank].count(kind, size, end_ps - start_ps)
        return end_ps

    @property
    def lock(self) -> Any:
        """Held while the tree is read or changed; never while another rank of ``run`` may go on."""
        return self._lock

    def mounted(self, path: str) -> bool:
        """Whether some file system holds a path."""
        return any(
            mount == "/" or path == mount or path.startswith(mount.rstrip("/") + "/") for mount in self.mounts
        )

    def _task(self) -> _Task | None:
        return self._run.tasks.get(threading.get_ident()) if self._run is not None else None

    def _plant(self, there: list[tuple[str, int]], names: dict[str, int]) -> None:
        """Put the mounts, and what is there already, in the tree."""
        folders = [path for path, size in there if size < 0]
        for path in [*sorted(self.mounts, key=len), *folders]:
            stem = ""
            for part in path.strip("/").split("/"):
                stem = f"{stem}/{part}"
                if part and self.tree.find(stem) is None:
                    number = self.emulator.add_directory(stem) if self.mounted(stem) else -1
                    self.tree.add(Folder(stem, names.get(stem, -1), 0, 0, number))
                    self.keeper.make_folder(stem)
        self.tree.root.name = names.get("/", -1)
        self.tree.root.number = self.emulator.add_directory("/") if "/" in self.mounts else -1
        for path, size in there:
            if size >= 0:
                self.tree.add(Leaf(path, names.get(path, -1), 0, 0))


def _engine(
    cluster: Cluster | Model | str | os.PathLike[str],
    ranks: int | None,
    seed: int,
    threads: int,
) -> EngineEmulator:
    from fabricsim.cluster import Cluster as Loader
    from fabricsim.program import Model, compile

    if isinstance(cluster, (str, os.PathLike)):
        cluster = Loader.from_toml(Path(cluster) if isinstance(cluster, os.PathLike) else cluster)
    model = cluster if isinstance(cluster, Model) else compile(cluster)
    most = int(model.topology.n_rank_hosts)
    n_ranks = most if ranks is None else ranks
    if not 1 <= n_ranks <= most:
        raise ConfigError([Problem("ranks", f"found {n_ranks}, allowed: 1 to {most}")])
    return EngineEmulator(model, n_ranks=n_ranks, seed=seed, threads=threads)


class _Task:
    """A rank of ``run``: its thread works only while it has the turn."""

    def __init__(self, owner: _Run, rank: int) -> None:
        self.owner, self.rank = owner, rank
        self.turn = threading.Semaphore(0)
        self.token, self.until_ps, self.at_barrier = -1, -1, False
        self.times = (-1, -1)
        self.result: Any = None
        self.error: BaseException | None = None

    def pause(self, *, token: int = -1, until_ps: int = -1, at_barrier: bool = False) -> tuple[int, int]:
        """Hand the turn back until an operation has ended, a time has come, or all are at the barrier."""
        self.token, self.until_ps, self.at_barrier = token, until_ps, at_barrier
        if self.owner.failed is None:
            self.owner.back.release()
            self.turn.acquire()
        if self.owner.failed is not None:
            raise RuntimeError("the run has failed") from self.owner.failed
        return self.times

    def work(self, function: Callable[[Any], Any], file_system: Any) -> None:
        self.owner.tasks[threading.get_ident()] = self
        self.turn.acquire()
        try:
            if self.owner.failed is None:
                self.result = function(file_system)
        except BaseException as error:
            self.error = error
        finally:
            del self.owner.tasks[threading.get_ident()]
            self.owner.finished.add(self.rank)
            self.owner.back.release()


class _Run:
    """Gives the turn to one rank after another: whoever can go on, then whose operation ends first."""

    def __init__(self, session: Session, function: Callable[[Any], Any], ranks: list[int]) -> None:
        self.session, self.function = session, function
        self.back = threading.Semaphore(0)
        self.tasks: dict[int, _Task] = {}
        self.finished: set[int] = set()
        self.failed: BaseException | None = None
        self.ranks = [_Task(self, rank) for rank in ranks]

    def go(self) -> list[Any]:
        threads = [
            threading.Thread(
                target=task.work, args=(self.function, self.session.fs(task.rank)), name=f"rank {task.rank}"
            )
            for task in self.ranks
        ]
        for thread in threads:
            thread.start()
        try:
            self._take_turns()
        except BaseException as error:
            # Of the core, or an interrupt: those that wait hear of it, or their threads would wait forever.
            self.failed = error
            for task in self.ranks:
                task.turn.release()
            raise
        finally:
            for thread in threads:
                thread.join()
        for task in self.ranks:
            if task.error is not None:
                raise task.error
        return [task.result for task in self.ranks]

    def _take_turns(self) -> None:
        ready = deque(self.ranks)
        waiting: list[_Task] = []
        while ready or waiting:
            if not ready:
                ready.extend(self._next(waiting))
            task = ready.popleft()
            task.turn.release()
            self.back.acquire()
            if task.rank not in self.finished:
                waiting.append(task)

    def _next(self, waiting: list[_Task]) -> list[_Task]:
        """Let time pass until some may go on; take them from ``waiting``."""
        emulator = self.session.emulator
        at_work = sorted((task for task in waiting if task.token >= 0), key=lambda task: task.rank)
        sleepers = [task for task in waiting if task.until_ps >= 0]
        if not at_work and not sleepers:
            found = sorted(waiting, key=lambda task: task.rank)  # all are at the barrier
        else:
            until_ps = min((task.until_ps for task in sleepers), default=None)
            which, start_ps, end_ps = emulator.wait_any([task.token for task in at_work], until_ps)
            if which >= 0:
                found = [at_work[which]]
                found[0].times = (start_ps, end_ps)
            else:
                due = (task for task in sleepers if task.until_ps <= emulator.now_ps)
                found = sorted(due, key=lambda task: (task.until_ps, task.rank))
        for task in found:
            waiting.remove(task)
        return found
