"""Extent locks of an object: who gets what, who is called back, in which order those that wait go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PR, PW, GROUP = range(3)
EOF = (1 << 63) - 1  # the last byte that there can be
PAGE = 4096
MANY_GRANTED, MANY_WAITING = 32, 4
CONTENDED_BYTES = 32 << 20


@dataclass(eq=False)
class Lock:
    mode: int
    client: int
    asked: tuple[int, int]  # first and last byte
    rpc: Any = None
    key: Any = None  # (server, target, file, object)
    start: int = 0
    end: int = 0
    granted: bool = False
    called: bool = False
    # the client's
    users: int = 0
    giving: bool = False
    discard: bool = False  # its callback said so
    drops: bool = False  # and it has come in time


def conflict(a: int, b: int) -> bool:
    return not (a == b and a in (PR, GROUP))


def overlap(start: int, end: int, first: int, last: int) -> bool:
    return start <= last and first <= end


class Locks:
    """The locks of an object; ``call`` and ``grant`` tell of a lock."""

    def __init__(self, call: Any, grant: Any) -> None:
        self.call, self.grant = call, grant
        self.granted: list[Lock] = []
        self.waiting: list[Lock] = []

    def ask(self, lock: Lock) -> None:
        first, last = lock.asked
        if lock.mode == GROUP:
            lock.asked = 0, EOF
        else:
            lock.asked = first // PAGE * PAGE, EOF if last == EOF else (last // PAGE + 1) * PAGE - 1
        in_way = [g for g in self.granted if self.against(lock, g, (g.start, g.end))]
        queued = [w for w in self.waiting if self.against(lock, w, w.asked)]
        if lock.mode == GROUP:
            if any(g.mode == GROUP for g in self.granted):
                in_way = queued = []
            elif not in_way:
                queued = [w for w in queued if w.mode == GROUP]
        if not in_way and not queued:
            self.admit(lock)
            if lock.mode == GROUP:
                self.look_behind(lock)
            return
        if lock.mode == GROUP:
            place = next((i for i, w in enumerate(self.waiting) if w.mode != GROUP), len(self.waiting))
            self.waiting.insert(place, lock)
        else:
            self.waiting.append(lock)
        for held in sorted(in_way, key=lambda held: (held.mode, held.start)):
            self.call_back(held)

    def against(self, lock: Lock, other: Lock, extent: tuple[int, int]) -> bool:
        return conflict(lock.mode, other.mode) and overlap(*lock.asked, *extent)

    def call_back(self, lock: Lock) -> None:
        if not lock.called:
            lock.called = True
            self.call(lock)

    def admit(self, lock: Lock) -> None:
        lock.start, lock.end = self.grow(lock)
        lock.granted = True
        self.granted.append(lock)
        self.grant(lock)

    def look_behind(self, lock: Lock) -> None:
        """One that waits wants what has just been granted: call it back at once."""
        if any(self.against(w, lock, (lock.start, lock.end)) for w in self.waiting):
            self.call_back(lock)

    def give_back(self, lock: Lock) -> None:
        self.granted.remove(lock)
        while self.waiting:
            first = self.waiting[0]
            if any(self.against(first, g, (g.start, g.end)) for g in self.granted):
                break
            self.waiting.pop(0)
            self.admit(first)
            self.look_behind(first)

    # ---- growth

    def grow(self, lock: Lock) -> tuple[int, int]:
        first, last = lock.asked
        if (first, last) == (0, EOF):
            return 0, EOF
        rivals = [g for g in self.granted if conflict(lock.mode, g.mode)]
        start = first if rivals else 0
        end = min([EOF, *(g.start - 1 for g in rivals if g.start > last)])
        start, end = self.trim(lock, start, end, len(rivals))
        seen = 0
        for other in self.waiting:
            if other is lock or (start, end) == (first, last):
                continue
            if not conflict(lock.mode, other.mode) and other.client != lock.client:
                continue
            seen += 1
            if seen > MANY_WAITING:
                start = first
            low, high = other.asked
            if overlap(first, last, low, high) or not overlap(start, end, low, high):
                continue
            if low > last:
                end = low - 1
            else:
                start = high + 1
        return self.trim(lock, start, end, seen)

    def trim(self, lock: Lock, start: int, end: int, rivals: int) -> tuple[int, int]:
        first, last = lock.asked
        if rivals > MANY_GRANTED and lock.mode == PW and last - first + 1 < CONTENDED_BYTES:
            end = min(end, first + CONTENDED_BYTES - 1)
        if (start, end) == (0, EOF):
            return start, end
        unit = PAGE
        while (first | last + 1) % (2 * unit) == 0:
            unit *= 2
        start = -(-start // unit) * unit
        if end != EOF:
            end = (end + 1) // unit * unit - 1
        return start, end
