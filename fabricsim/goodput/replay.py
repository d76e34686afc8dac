"""The replay of one run: training, saves, interruptions, recoveries, event by event in whole picoseconds."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fabricsim.goodput.config import GoodputConfig
from fabricsim.goodput.corruption import METHODS
from fabricsim.goodput.failures import CorruptionEvent, Failure
from fabricsim.goodput.rates import MOST_PS

__all__ = ["PARTS", "Plan", "Run", "replay"]

#: What the wall time is made of; the parts of a run add up to it.
PARTS = (
    "productive",
    "checkpoint_stall",
    "checkpoint_slowdown",
    "check_overhead",
    "shrunk",
    "stalled",
    "lost_work",
    "detection",
    "waiting_for_spares",
    "replacement",
    "restart",
    "restore",
)

#: Checkpoints in storage that a job may go back to.
KEPT = 8

_MILLION = 1_000_000
_NEVER = 4 * MOST_PS

Log = Callable[[int, str, str | None, int | None, int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration with its interval settled: what every run of a study shares."""

    config: GoodputConfig
    interval_ps: int
    overhead_ppm: int = 0

    @property
    def until_ps(self) -> int:
        """When a run is over at the latest, ps."""
        return self.config.job.wall_ps or MOST_PS


@dataclass(slots=True)
class Run:
    """What one run came to; times in ps, and the parts add up to ``wall_ps``."""

    wall_ps: int = 0
    finished: bool = True
    parts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    failures: int = 0
    interruptions: int = 0
    saves: int = 0
    corruptions: int = 0
    corrected: int = 0
    rolled_back: int = 0
    bad_checkpoints: int = 0
    harmless: int = 0
    undetected: int = 0
    open: int = 0
    tainted: int = 0
    detected_late_ps: int = 0

    @property
    def goodput(self) -> float:
        """Useful time over wall time."""
        return self.parts["productive"] / self.wall_ps if self.wall_ps else 0.0


@dataclass(slots=True)
class _Saved:
    """A checkpoint: how much useful work it holds, and whether storage corrupted it (and who would tell)."""

    level: int
    bad: CorruptionEvent | None = None


def replay(
    plan: Plan,
    failures: Sequence[Failure],
    corruptions: Iterable[CorruptionEvent] = (),
    log: Log | None = None,
) -> Run:
    """Replay one run.

    Parameters
    ----------
    plan
        The configuration and its interval.
    failures, corruptions
        Of this run, in order of time.
    log
        Called with (time, event, component, item, work level, work lost) of everything that happens.
    """
    return _Replay(plan, failures, corruptions, log).run()


class _Replay:
    """The state of a run."""

    def __init__(
        self, plan: Plan, failures: Sequence[Failure], corruptions: Iterable[CorruptionEvent], log: Log | None
    ) -> None:
        self.plan, self.config = plan, plan.config
        self.job, self.checkpoint = plan.config.job, plan.config.checkpoint
        self.result = Run()
        self.parts = self.result.parts
        self.log = log
        component = self.config.component
        self.interrupts = [f for f in failures if component[f.component].interrupts]
        self.stalls = [f for f in failures if component[f.component].effect == "stall"]
        self.outages = _merged(
            (f.at_ps, f.at_ps + (component[f.component].outage_ps or 0))
            for f in failures
            if component[f.component].effect == "storage"
        )
        self.outage_ends = [end for _, end in self.outages]
        sources = self.config.corruption.source if self.config.corruption else ()
        events = list(corruptions)
        self.live = [e for e in events if sources[e.source].where != "storage"]
        self.rot = [e for e in events if sources[e.source].where == "storage"]
        self.failures = failures
        self.i = self.s = self.c = self.r = 0

        self.now, self.end, self.done = 0, plan.until_ps, 0
        self.goal = self.job.work_ps if self.job.work_ps is not None else _NEVER
        self.down = False
        self.until_save = plan.interval_ps if self.checkpoint.mode != "none" else _NEVER
        # Background work: when it ends, and the work that it saves; _NEVER for none.
        self.writing, self.writing_level = _NEVER, 0
        self.replicating, self.replicating_level = _NEVER, 0
        self.unwritten = 0
        self.saved: list[_Saved] = []
        self.memory: int | None = None
        self.memory_lost_nodes = 0
        # Nodes: those that work, ready spares, and (time, count) of those that come back from repair.
        self.active, self.pool, self.missing = self.job.nodes, self.job.spares, 0
        self.repairs: list[tuple[int, int]] = []
        self.detect_until = self.outage_until = 0
        # Corruptions that will be noticed: (when, level at which they came, event); and those that will not.
        self.pending: list[tuple[int, int, CorruptionEvent]] = []
        self.unknown: list[tuple[int, CorruptionEvent]] = []
        self.cycles: dict[Any, tuple[int, dict[str, int], int, int]] = {}
        self.new_levels: list[int] = []

    def run(self) -> Run:
        while not self.over():
            if self.down:
                self.recover()
            else:
                self.train()
        self.settle()
        result = self.result
        result.wall_ps = self.now
        result.finished = self.job.work_ps is None or self.done >= self.goal
        result.failures = sum(failure.at_ps < self.now for failure in self.failures)
        result.tainted = len(self.unknown) + len(self.pending)
        result.open = len(self.pending) + sum(one.bad is not None for one in self.saved)
        assert sum(self.parts.values()) == self.now and self.parts["productive"] == self.done
        return result

    def over(self) -> bool:
        return self.now >= self.end or self.done >= self.goal

    # ---- time

    def next_interrupt(self) -> int:
        at = self.interrupts[self.i].at_ps if self.i < len(self.interrupts) else _NEVER
        return min(at, self.pending[0][0]) if self.pending else at

    def spend(self, part: str, until: int) -> bool:
        """Pass time up to ``until`` in a part; False when an interruption or the run's end cut it off."""
        stop = min(until, self.end)
        interrupt = self.next_interrupt()
        cut = interrupt <= stop
        if cut:
            stop = max(self.now, interrupt)
        if stop > self.now:
            self.parts[part] += stop - self.now
            self.now = stop
        if cut and not self.over():
            self.interrupt()
        return not cut and self.now >= until

    def through(self, begin: int, length: int) -> int:
        """Return when a transfer with storage ends that begins at ``begin`` and alone takes ``length``."""
        at = bisect_right(self.outage_ends, begin)
        for down, up in self.outages[at:]:
            if begin + length <= down:
                break
            length -= max(0, down - begin)
            begin = up
        return begin + length

    def settle(self) -> None:
        """Let background writes end, and storage rot, up to now, in the order of time."""
        while True:
            rot = self.rot[self.r].at_ps if self.r < len(self.rot) else _NEVER
            first = min(self.writing, self.replicating, rot)
            if first > self.now:
                return
            if self.replicating == first:
                self.replicating = _NEVER
                self.memory, self.memory_lost_nodes = self.replicating_level, 0
                self.tell("in memory of peers", level=self.memory)
            elif self.writing == first:
                self.writing = _NEVER
                self.keep(self.writing_level)
            else:
                event = self.rot[self.r]
                self.r += 1
                self.result.corruptions += 1
                if self.saved and self.saved[-1].bad is None:
                    self.saved[-1].bad = event
                else:
                    self.result.harmless += 1

    def keep(self, level: int) -> None:
        self.saved.append(_Saved(level))
        self.new_levels.append(level)
        for old in self.saved[:-KEPT]:
            self.result.harmless += old.bad is not None
        del self.saved[:-KEPT]
        self.tell("saved", level=level)

    # ---- training

    def train(self) -> None:
        """Run to the next thing that happens."""
        busy = min(self.writing, self.replicating)
        limit = min(self.now + self.until_save, self.end)
        stop = min(limit, busy, self.next_interrupt())
        if self.s < len(self.stalls):
            stop = min(stop, max(self.now, self.stalls[self.s].at_ps))
        if self.c < len(self.live):
            while self.c < len(self.live) and self.live[self.c].at_ps < self.now:
                self.result.corruptions += 1
                self.result.harmless += 1  # nothing ran
                self.c += 1
            if self.c < len(self.live):
                stop = min(stop, self.live[self.c].at_ps)
        length = max(0, stop - self.now)
        slow = self.checkpoint.slowdown_ppm if busy < _NEVER else 0
        split = self.split(length, slow)
        if self.done + split[0] >= self.goal:
            length = self.shortest(length, slow)
            split = self.split(length, slow)
        self.pass_running(length, split)
        if self.over():
            return
        self.settle()
        if self.next_interrupt() <= self.now:
            self.interrupt()
        elif self.s < len(self.stalls) and self.stalls[self.s].at_ps <= self.now:
            self.stall()
        elif self.c < len(self.live) and self.live[self.c].at_ps <= self.now:
            self.corrupt()
        elif self.until_save == 0:
            self.save()

    def split(self, length: int, slow_ppm: int) -> tuple[int, int, int, int]:
        """Split running time: useful, lost to background writes, to checks, to missing nodes."""
        slow = length * slow_ppm // _MILLION
        rest = length - slow
        short = rest * (self.job.nodes - self.active) // self.job.nodes
        rest -= short
        useful = rest * _MILLION // (_MILLION + self.plan.overhead_ppm)
        return useful, slow, rest - useful, short

    def shortest(self, length: int, slow_ppm: int) -> int:
        """Return the least running time, up to ``length``, whose useful part reaches the goal."""
        low, high, wanted = 0, length, self.goal - self.done
        while low < high:
            middle = (low + high) // 2
            if self.split(middle, slow_ppm)[0] >= wanted:
                high = middle
            else:
                low = middle + 1
        return low

    def pass_running(self, length: int, split: tuple[int, int, int, int]) -> None:
        parts = self.parts
        parts["productive"] += split[0]
        parts["checkpoint_slowdown"] += split[1]
        parts["check_overhead"] += split[2]
        parts["shrunk"] += split[3]
        self.done += split[0]
        self.now += length
        self.until_save -= length

    def stall(self) -> None:
        failure = self.stalls[self.s]
        self.s += 1
        self.forget()
        component = self.config.component[failure.component]
        until = failure.at_ps + (component.outage_ps or 0)
        if until > self.now:
            self.tell("stalled", component.name, failure.item)
            self.spend("stalled", until)

    # ---- saving

    def save(self) -> None:
        mode = self.checkpoint.mode
        if mode == "sync":
            if not self.spend("checkpoint_stall", self.through(self.now, self.checkpoint.save_ps or 0)):
                return
            self.settle()
            self.keep(self.done)
        else:
            before = self.replicating if mode == "two_tier" else self.writing
            if before < _NEVER and not self.spend("checkpoint_stall", before):
                return
            self.settle()
            if not self.spend("checkpoint_stall", self.now + (self.checkpoint.snapshot_ps or 0)):
                return
            self.settle()
            every = self.checkpoint.write_every_count if mode == "two_tier" else 1
            self.unwritten = min(self.unwritten + 1, every)
            if mode == "two_tier":
                self.replicating = self.now + (self.checkpoint.replicate_ps or 0)
                self.replicating_level = self.done
            if self.unwritten == every and self.writing == _NEVER:
                self.writing = self.through(self.now, self.checkpoint.write_ps or 0)
                self.writing_level, self.unwritten = self.done, 0
            self.tell("snapshot", level=self.done)
            self.settle()
        self.result.saves += 1
        self.until_save = self.plan.interval_ps
        if self.active < self.job.nodes:
            self.grow()
        elif self.log is None:
            self.skip()

    def skip(self) -> None:
        """Pass whole cycles of training and saving at once, up to what next breaks their pattern."""
        shape = (
            self.writing - self.now if self.writing < _NEVER else -1,
            self.writing_level - self.done if self.writing < _NEVER else 0,
            self.replicating - self.now if self.replicating < _NEVER else -1,
            self.unwritten,
            bisect_right(self.outage_ends, self.now),
        )
        known = self.cycles.get(shape)
        self.cycles = {} if known else self.cycles
        self.cycles[shape] = (self.now, dict(self.parts), self.result.saves, len(self.new_levels))
        if known is None:
            return
        period = self.now - known[0]
        gain = {part: self.parts[part] - known[1][part] for part in PARTS}
        # Ends of background work lie within two periods, so nothing of them crosses what comes next.
        horizon = min(self.end, self.next_interrupt(), self.next_special())
        times = (horizon - self.now - 1) // period - 2 if period else 0
        if gain["productive"] and self.goal < _NEVER:
            times = min(times, (self.goal - self.done - 1) // gain["productive"] - 2)
        if times <= 0:
            return
        for part, more in gain.items():
            self.parts[part] += times * more
        shift = times * period
        step = gain["productive"]
        last = range(max(1, times - KEPT + 1), times + 1)
        levels = [level + n * step for n in last for level in self.new_levels[known[3] :]][-KEPT:]
        self.result.saves += times * (self.result.saves - known[2])
        self.now += shift
        self.done += times * step
        self.writing += shift if self.writing < _NEVER else 0
        self.replicating += shift if self.replicating < _NEVER else 0
        self.writing_level += times * step
        self.replicating_level += times * step
        if self.memory is not None:
            self.memory += times * step
        for level in levels:
            self.keep(level)
        self.forget()

    def forget(self) -> None:
        """Start anew to look for a pattern."""
        self.cycles.clear()
        self.new_levels.clear()

    def next_special(self) -> int:
        """Return when the next thing other than an interruption breaks the pattern of cycles."""
        found = _NEVER
        if self.s < len(self.stalls):
            found = self.stalls[self.s].at_ps
        if self.c < len(self.live):
            found = min(found, self.live[self.c].at_ps)
        if self.r < len(self.rot):
            found = min(found, self.rot[self.r].at_ps)
        at = bisect_right(self.outage_ends, self.now)
        return min(found, self.outages[at][0]) if at < len(self.outages) else found

    # ---- corruption

    def corrupt(self) -> None:
        """Corrupt the state of the training."""
        event = self.live[self.c]
        self.c += 1
        self.forget()
        self.result.corruptions += 1
        told = self.config.corruption
        assert told is not None
        name = told.source[event.source].name
        if event.detector < 0:
            self.unknown.append((self.done, event))
            self.result.undetected += 1
            self.tell("corrupted, unnoticed", name, event.item)
            return
        method = told.detector[event.detector].method
        if METHODS[method].corrects:
            self.result.corrected += 1
            self.result.detected_late_ps += event.late_ps
            self.tell(f"corrected by {method}", name, event.item)
            return
        heapq.heappush(self.pending, (self.now + event.late_ps, self.done, event))
        if event.late_ps == 0:
            self.interrupt()

    # ---- interruptions

    def interrupt(self) -> None:
        """Take the next interruption, which is due now."""
        self.settle()
        self.forget()
        at = self.interrupts[self.i].at_ps if self.i < len(self.interrupts) else _NEVER
        if self.pending and self.pending[0][0] < at:
            self.found_corruption()
            return
        failure = self.interrupts[self.i]
        self.i += 1
        component = self.config.component[failure.component]
        self.result.interruptions += 1
        late = self.job.detection_ps if component.detection_ps is None else component.detection_ps
        if component.effect == "replace":
            repair = self.job.repair_ps if component.repair_ps is None else component.repair_ps
            self.lose_nodes(component.lost_nodes, repair)
        self.outage_until = max(self.outage_until, self.now + (component.outage_ps or 0))
        self.stop(self.now + late)
        self.go_back(f"failed ({component.effect})", component.name, failure.item)

    def lose_nodes(self, count: int, repair_ps: int) -> None:
        count = min(count, self.job.nodes - self.missing)
        if count:
            self.missing += count
            heapq.heappush(self.repairs, (self.now + repair_ps, count))
        self.memory_lost_nodes += count
        if self.memory_lost_nodes > self.checkpoint.tolerates_nodes:
            self.memory = None

    def stop(self, detected: int) -> None:
        """Stop what runs; what was being written is lost."""
        self.writing = self.replicating = _NEVER
        self.down = True
        self.detect_until = max(detected, self.detect_until if self.detect_until > self.now else 0)

    def found_corruption(self) -> None:
        """Go back to before a corruption that has been noticed, on another node."""
        _, level, event = heapq.heappop(self.pending)
        told = self.config.corruption
        assert told is not None
        source = told.source[event.source]
        self.result.rolled_back += 1
        self.result.detected_late_ps += event.late_ps
        self.lose_nodes(1, self.job.repair_ps)
        if self.memory is not None and self.memory > level:
            self.memory = None
        while self.saved and self.saved[-1].level > level:
            self.result.harmless += self.saved.pop().bad is not None
        self.stop(self.now)
        self.go_back(f"corruption found by {told.detector[event.detector].method}", source.name, event.item)

    def go_back(self, why: str, name: str | None = None, item: int | None = None) -> None:
        """Lose the work since the newest checkpoint."""
        level = max(self.saved[-1].level if self.saved else 0, self.memory or 0)
        lost = self.done - level
        self.parts["productive"] -= lost
        self.parts["lost_work"] += lost
        self.done = level
        # What came into the state after that checkpoint was taken is gone with the state.
        kept = [entry for entry in self.pending if entry[1] < level]
        self.result.harmless += len(self.pending) - len(kept)
        self.pending = kept
        heapq.heapify(self.pending)
        self.unknown = [entry for entry in self.unknown if entry[0] < level]
        self.tell(why, name, item, level, lost)

    # ---- recovery

    def recover(self) -> None:
        """Bring the job back; returns early when something interrupts."""
        if self.now < self.detect_until and not self.spend("detection", self.detect_until):
            return
        if self.missing and not self.replace():
            return
        if self.now < self.outage_until and not self.spend("replacement", self.outage_until):
            return
        if not self.spend("restart", self.now + self.job.restart_ps):
            return
        if not self.restore():
            return
        self.down = False
        self.until_save = self.plan.interval_ps if self.checkpoint.mode != "none" else _NEVER
        self.forget()
        self.tell("running", level=self.done)

    def replace(self) -> bool:
        """Put spares in the place of failed nodes, or go on without, or wait."""
        least = self.job.least_nodes or -(-self.job.nodes // 2)
        while True:
            self.collect()
            taken = min(self.pool, self.missing)
            if taken == self.missing:
                break
            # The job runs on whole groups of nodes; healthy nodes of a broken group stand ready.
            group = self.job.shrink_nodes
            healthy = self.job.nodes - self.missing + self.pool
            if self.job.no_spare == "shrink" and healthy // group * group >= max(least, 1):
                break
            if not self.spend("waiting_for_spares", self.repairs[0][0]):
                return False
        swapped = taken > 0
        self.pool -= taken
        self.missing -= taken
        self.resize()
        return not swapped or self.spend("replacement", self.now + self.job.replacement_ps)

    def collect(self) -> None:
        """Take repaired nodes into the pool."""
        while self.repairs and self.repairs[0][0] <= self.now:
            self.pool += heapq.heappop(self.repairs)[1]

    def resize(self) -> None:
        group = self.job.shrink_nodes
        healthy = self.job.nodes - self.missing
        self.active = healthy if not self.missing else healthy // group * group

    def grow(self) -> None:
        """Take nodes that were repaired, after a save: the job starts again with them, nothing is lost."""
        self.collect()
        taken = min(self.pool, self.missing)
        group = self.job.shrink_nodes
        healthy = self.job.nodes - self.missing + taken
        bigger = healthy if taken == self.missing else healthy // group * group
        if bigger <= self.active:
            return
        self.pool -= taken
        self.missing -= taken
        self.resize()
        self.tell("grows", level=self.done)
        if self.spend("restart", self.now + self.job.restart_ps):
            memory = self.checkpoint.memory_restore_ps
            took = self.checkpoint.restore_ps if memory is None else memory
            self.spend("restore", self.through(self.now, took) if memory is None else self.now + took)

    def restore(self) -> bool:
        """Read the newest checkpoint; a corrupted one is noticed, or not, when it has been read."""
        while True:
            newest = self.saved[-1] if self.saved else None
            if self.memory is not None and self.memory >= (newest.level if newest else 0):
                took = self.now + (self.checkpoint.memory_restore_ps or 0)
                return self.spend("restore", took)
            if newest is None:
                return True
            if not self.spend("restore", self.through(self.now, self.checkpoint.restore_ps)):
                return False
            bad = newest.bad
            if bad is None:
                return True
            newest.bad = None
            told = self.config.corruption
            assert told is not None
            name = told.source[bad.source].name
            if bad.detector < 0:
                self.unknown.append((self.done - 1, bad))
                self.result.undetected += 1
                self.tell("restored what is corrupted, unnoticed", name, bad.item)
                return True
            self.result.bad_checkpoints += 1
            self.saved.pop()
            self.go_back("checkpoint found corrupted", name, bad.item)

    def tell(
        self, event: str, name: str | None = None, item: int | None = None, level: int = 0, lost: int = 0
    ) -> None:
        if self.log is not None:
            self.log(self.now, event, name, item, level or self.done, lost)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans of time in order, those that touch made one."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found
