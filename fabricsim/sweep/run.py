"""Run a sweep: hand its points to an executor, and keep what comes back, whatever ends the run."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from fabricsim.errors import ConfigError, EngineError, Problem
from fabricsim.run import MAX_THREADS
from fabricsim.sweep.config import Sweep
from fabricsim.sweep.files import Folder
from fabricsim.sweep.point import COMPLETE, FAILED, INVALID, Outcome, Point, run_point
from fabricsim.sweep.study import Study

__all__ = ["SweepProgress", "run_sweep", "shard_of"]

#: Points that a given executor has at once: enough for its workers, few enough to be shared with others.
IN_FLIGHT = 1000
#: Processes of ``jobs``, at most.
MAX_JOBS = 1024
# How often to look for points that another process holds.
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """How far a sweep is: points done and all of them, those there before, what went wrong, seconds."""

    done: int
    total: int
    before: int
    invalid: int
    failed: int
    wall_s: float

    @property
    def left_s(self) -> float | None:
        """Seconds until the end if the other points take as long as those so far; None before the first."""
        ran = self.done - self.before
        return self.wall_s / ran * (self.total - self.done) if ran else None


def run_sweep(
    sweep: Sweep,
    folder: str | Path,
    *,
    executor: Executor | None = None,
    jobs: int = 1,
    shard: tuple[int, int] = (1, 1),
    threads: int = 1,
    keep: bool = False,
    in_flight: int | None = None,
    progress: Callable[[SweepProgress], None] | None = None,
) -> Study:
    """Run the points of a sweep that are not there yet, and write the table of all.

    Parameters
    ----------
    sweep
        What to run.
    folder
        Where each point's file goes, and ``sweep.arrow`` and ``sweep.csv``. What is there is not run again,
        but for points that failed. Several processes may share it: a point is run by one of them.
    executor
        Where to run: any ``concurrent.futures.Executor``, or that of a Dask client. Its workers need
        fabricsim of the same version, and trace files and graphs under the same paths. What comes out does
        not depend on it.
    jobs
        Without an executor: processes, 1 to 1024; 1 is this process.
    shard
        (i, N) takes the points i, i+N, i+2N … of the sweep, 1 <= i <= N.
    threads
        Threads of the core, 1 to 64, of each point.
    keep
        Whether the whole result of each point is saved too, to ``results/NAME``.
    in_flight
        Points that the executor has at once; default 1000, or two for each of ``jobs``.
    progress
        Called after each point.

    Returns
    -------
    Study
        The table of all points, and what it tells.

    Raises
    ------
    ConfigError
        When an option is not possible, the folder cannot be made, or none of the points can be built.
    EngineError
        When the executor takes no more work, or a file cannot be written.
    """
    _check(jobs, shard, threads, in_flight)
    points = sweep.all_points
    place = Folder(Path(folder).resolve())
    place.make()
    plan = sweep.plan()
    place.save_plan(plan)
    wanted = shard_of(points, shard)
    work = _Work(place, wanted, threads, keep, progress)
    try:
        with _executor(executor, jobs) as (workers, most):
            work.run(workers, in_flight or most)
    finally:
        study = Study.gather(plan, [place], sweep.goals)
        place.save_table(study.table)
    if study.counts() == {INVALID: len(points)}:
        reasons = dict.fromkeys(error for _, _, _, error in study.troubles())
        raise ConfigError([f"none of {len(points)} points can be built:", *reasons])
    return study


def shard_of(points: Sequence[Point], shard: tuple[int, int]) -> list[Point]:
    """Return the points of a shard (i, N): every N-th from the i-th on."""
    return list(points[shard[0] - 1 :: shard[1]])


def _check(jobs: int, shard: tuple[int, int], threads: int, in_flight: int | None) -> None:
    problems = []
    for name, value, most in (("jobs", jobs, MAX_JOBS), ("threads", threads, MAX_THREADS)):
        if not 1 <= value <= most:
            problems.append(Problem(name, f"found {value}, allowed: 1 to {most}"))
    if not 1 <= shard[0] <= shard[1]:
        problems.append(Problem("shard", f"found {shard[0]}/{shard[1]}, allowed: i/N with 1 <= i <= N"))
    if in_flight is not None and in_flight < 1:
        problems.append(Problem("in_flight", f"found {in_flight}, allowed: at least 1"))
    if problems:
        raise ConfigError(problems)


class _Work:
    """The points that are left, and what became of the others."""

    def __init__(
        self,
        folder: Folder,
        points: Sequence[Point],
        threads: int,
        keep: bool,
        progress: Callable[[SweepProgress], None] | None,
    ) -> None:
        self.folder, self.threads, self.keep, self.progress = folder, threads, keep, progress
        self.total, self.done, self.invalid, self.failed = len(points), 0, 0, 0
        left = [point for point in points if not folder.is_done(point, kept=keep)]
        self.done = self.before = self.total - len(left)
        # Points of one cluster follow one another, so that a process compiles it once.
        first = {key: index for index, key in reversed([*enumerate(point.cluster_key for point in left)])}
        self.todo = deque(sorted(left, key=lambda point: first[point.cluster_key]))
        self.running: dict[Future[Outcome], Point] = {}
        self.held: list[Point] = []
        self.suspects: deque[Point] = deque()
        self.began = time.monotonic()

    def run(self, workers: _Workers, most: int) -> None:
        """Run everything; at most so many points at once."""
        self._tell()
        with _Claims(self.folder.points) as claims:
            while self.todo or self.running or self.held or self.suspects:
                self._submit(workers, claims, most)
                if self.running:
                    ready, _ = wait(
                        self.running, timeout=_LOOK_S if self.held else None, return_when=FIRST_COMPLETED
                    )
                    for future in ready:
                        self._take(future, self.running.pop(future), workers, claims)
                elif self.held:
                    time.sleep(_LOOK_S)
                self.todo.extend(self.held)
                self.held.clear()

    def _submit(self, workers: _Workers, claims: _Claims, most: int) -> None:
        # After a process died, each point that it may have been is run alone: the culprit is known then.
        if self.suspects:
            if not self.running:
                self._start(self.suspects[0], workers)
            return
        while self.todo and len(self.running) < most:
            point = self.todo.popleft()
            if not claims.take(point):
                self.held.append(point)
            elif self.folder.is_done(point, kept=self.keep):
                claims.release(point)
                self._count(self.folder.load(point.name))
            else:
                self._start(point, workers)
            if most == 1 and self.running:
                return

    def _start(self, point: Point, workers: _Workers) -> None:
        keep = str(self.folder.result(point)) if self.keep else None
        self.running[workers.submit(point, self.threads, keep)] = point

    def _take(self, future: Future[Outcome], point: Point, workers: _Workers, claims: _Claims) -> None:
        alone = bool(self.suspects) and self.suspects[0] is point
        error = None if future.cancelled() else future.exception()
        if isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, BrokenProcessPool) and workers.heals and not alone:
            workers.heal()
            self.suspects.append(point)
            return
        if alone:
            self.suspects.popleft()
        if future.cancelled():
            outcome = Outcome(status=FAILED, error="its run was cancelled")
        elif isinstance(error, BrokenProcessPool):
            workers.heal()
            outcome = Outcome(status=FAILED, error="the process that ran it ended abruptly")
        elif error is not None:
            outcome = Outcome(status=FAILED, error=f"{type(error).__name__}: {error}")
        else:
            outcome = future.result()
        self.folder.save(point, outcome)
        claims.release(point)
        self._count(outcome)

    def _count(self, outcome: Outcome | None) -> None:
        status = outcome.status if outcome else FAILED
        self.done += 1
        self.invalid += status == INVALID
        self.failed += status not in (COMPLETE, INVALID)
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            wall = time.monotonic() - self.began
            self.progress(SweepProgress(self.done, self.total, self.before, self.invalid, self.failed, wall))


class _Claims:
    """What this process has claimed of the points: a byte of a file that it has locked for each.

    The system takes the locks back when a process ends, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self.file: IO[bytes] | None = None

    def __enter__(self) -> _Claims:
        try:
            self.file = self.path.open("ab")
        except OSError as error:
            raise EngineError(f"{self.path}: cannot be opened: {error.strerror or error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def take(self, point: Point) -> bool:
        """Claim a point; False where another process has it."""
        try:
            import fcntl
        except ImportError:  # no such locks here: a point that two processes share is run twice
            return True
        try:
            fcntl.lockf(self._handle(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(point))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # a file system without locks: the same
            return True
        return True

    def release(self, point: Point) -> None:
        """Give a point back."""
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.lockf(self._handle(), fcntl.LOCK_UN, 1, _byte(point))

    def _handle(self) -> IO[bytes]:
        assert self.file is not None
        return self.file


def _byte(point: Point) -> int:
    return int(point.name[:15], 16)


# ---- where points run


class _Workers:
    """An executor that points are given to."""

    heals = False

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def submit(self, point: Point, threads: int, keep: str | None) -> Future[Outcome]:
        """Start a point."""
        try:
            return self.executor.submit(run_point, point, threads, keep)
        except RuntimeError as error:
            raise EngineError(f"the executor takes no more points: {error}") from error

    def heal(self) -> None:
        """Bring an executor back whose process died; one that was given is left as it is."""

    def stop(self) -> None:
        """End what runs, after an interruption."""


class _Here(_Workers):
    """This process: a point is run when it is submitted."""

    def __init__(self) -> None:
        pass

    def submit(self, point: Point, threads: int, keep: str | None) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(run_point(point, threads, keep))
        return future


class _Pool(_Workers):
    """Processes of our own, which end with this one and are replaced when one dies."""

    heals = True

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.broken = False
        self._begin()

    def _begin(self) -> None:
        # Not forked from here: threads of Arrow and of the progress bar may hold locks at that moment.
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        self.ours, theirs = context.Pipe()
        self.theirs = theirs
        self.executor = ProcessPoolExecutor(
            self.jobs, mp_context=context, initializer=_begin_worker, initargs=(theirs,)
        )
        self.broken = False

    def submit(self, point: Point, threads: int, keep: str | None) -> Future[Outcome]:
        if not self.broken:
            with contextlib.suppress(BrokenProcessPool):
                return self.executor.submit(run_point, point, threads, keep)
        self.stop()
        self._begin()
        return self.executor.submit(run_point, point, threads, keep)

    def heal(self) -> None:
        self.broken = True

    def stop(self) -> None:
        self.ours.close()
        self.theirs.close()
        self.executor.shutdown(wait=False, cancel_futures=True)


def _begin_worker(pipe: Connection) -> None:
    """Leave Ctrl-C to the process that started this one, and end when it ends or closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            pipe.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _executor(given: Executor | None, jobs: int) -> Iterator[tuple[_Workers, int]]:
    """Give where to run, and how many points to start at once."""
    workers: _Workers
    if given is not None:
        workers, most = _Workers(given), IN_FLIGHT
    elif jobs == 1:
        workers, most = _Here(), 1
    else:
        workers, most = _Pool(jobs), 2 * jobs
    try:
        yield workers, most
    finally:
        workers.stop()


@contextlib.contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """Give the executor of a Dask cluster, in a ``with``.

    Parameters
    ----------
    address
        Of its scheduler, such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    ConfigError
        When dask is not installed, or nothing answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        text = "dask is not installed; allowed with it: pip install 'fabricsim[dask]'"
        raise ConfigError([Problem("dask", text)]) from error
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError([Problem("dask", f"{address}: no scheduler answers: {error}")]) from error
    with client:
        yield client.get_executor(pure=False)
