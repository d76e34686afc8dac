"""Collective algorithms: what one rank does when it starts, receives, and is acknowledged.

``send(to_position, size, step, channel)`` hands a message over; ``step`` tells the receiver which one it is.
Every method returns whether the rank is done: it has received all that it needs and handed over all that it
sends. It ends when that has been acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .rules import part, pieces

STEP_BITS = 24
FROM_LEFT, FROM_RIGHT, FROM_PARENT = range(3)


class Collective:
    """One rank's part of a collective."""

    minds_acknowledgements = False

    def __init__(
        self, op: Any, position: int, param: dict[str, int], send: Callable[[int, int, int, int], None]
    ) -> None:
        self.op, self.kind, self.size, self.splits = op, op.kind, op.size, op.splits
        self.L = op.local_count
        self.n, self.position, self.root = len(op.ranks), position, op.root
        self.param, self.send = param, send
        self.channels = param.get("channel_count", 1)
        self.got = 0

    def ring(self, channel: int) -> list[int]:
        """Return a channel's ring: the domains in turn, changed between equal local ranks."""
        ring = []
        for domain in range(self.n // self.L):
            enters, step = (channel - 1, -1) if domain % 2 else (channel, 1)
            ring += [domain * self.L + (enters + step * i) % self.L for i in range(self.L)]
        return ring

    def ahead(self, channel: int, places: int) -> int:
        """Return the position so many places ahead in a channel's ring."""
        ring = self.ring(channel)
        return ring[(ring.index(self.position) + places) % self.n]

    def peers(self) -> Iterator[tuple[int, int]]:
        """Yield the positions that this one may send to, each with a channel."""
        raise AssertionError

    def start(self) -> bool:
        raise AssertionError

    def received(self, step: int) -> bool:
        raise AssertionError

    def acknowledged(self, step: int) -> bool:
        return False


class Ring(Collective):
    """In step s place i of a channel's ring sends the part of place i-s to the next; an all-reduce twice."""

    @property
    def steps(self) -> int:
        return (2 if self.kind == "all_reduce" else 1) * (self.n - 1)

    @property
    def m(self) -> int:
        most = (1 << STEP_BITS) // ((self.steps + 1) * self.channels)
        return pieces(self.size // self.n // self.channels, self.param["chunk_bytes"], most)

    def peers(self) -> Iterator[tuple[int, int]]:
        if self.n > 1:
            yield from ((self.ahead(channel, 1), channel) for channel in range(self.channels))

    def pass_on(self, step: int, piece: int, channel: int) -> None:
        whole = part(self.size, self.n, self.ahead(channel, -step))
        size = part(part(whole, self.channels, channel), self.m, piece)
        number = (step * self.m + piece) * self.channels + channel
        self.send(self.ahead(channel, 1), size, number, channel)

    def start(self) -> bool:
        if self.n == 1:
            return True
        for piece in range(self.m):
            for channel in range(self.channels):
                self.pass_on(0, piece, channel)
        return False

    def received(self, step: int) -> bool:
        number, channel = divmod(step, self.channels)
        if number // self.m + 1 < self.steps:
            self.pass_on(number // self.m + 1, number % self.m, channel)
        self.got += 1
        return self.got == self.steps * self.m * self.channels


class Chain(Collective):
    """Chunks run along each channel's ring, away from the root (broadcast) or towards it (reduce)."""

    @property
    def m(self) -> int:
        most = (1 << (STEP_BITS - 2)) // self.channels
        return pieces(self.size // self.channels, self.param["chunk_bytes"], most)

    def place(self, channel: int) -> int:
        """Return the place in a chain; the last one only receives."""
        ring = self.ring(channel)
        behind_root = ring.index(self.position) - ring.index(self.root)
        return (behind_root - (self.kind == "reduce")) % self.n

    def peers(self) -> Iterator[tuple[int, int]]:
        for channel in range(self.channels):
            if self.place(channel) != self.n - 1:
                yield self.ahead(channel, 1), channel

    def pass_on(self, step: int) -> None:
        piece, channel = divmod(step, self.channels)
        if self.place(channel) != self.n - 1:
            size = part(part(self.size, self.channels, channel), self.m, piece)
            self.send(self.ahead(channel, 1), size, step, channel)

    def is_done(self) -> bool:
        return self.got == self.m * sum(self.place(channel) > 0 for channel in range(self.channels))

    def start(self) -> bool:
        for step in range(self.m * self.channels):
            if self.place(step % self.channels) == 0:
                self.pass_on(step)
        return self.is_done()

    def received(self, step: int) -> bool:
        self.pass_on(step)
        self.got += 1
        return self.is_done()


class Tree(Collective):
    """One binary tree: chunks up to the root (all-reduce, reduce), down from it (all-reduce, broadcast).

    ``v`` counts positions from the root; v hangs under (v-1)/2.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if self.kind == "all_reduce":
            self.root = 0
        self.v = (self.position - self.root) % self.n
        self.children = [c for c in (2 * self.v + 1, 2 * self.v + 2) if c < self.n]
        self.from_child = [0, 0]
        self.up = 0  # chunks that all children have delivered, passed on
        self.m = pieces(self.size, self.param["chunk_bytes"], 1 << (STEP_BITS - 2))

    def at(self, v: int) -> int:
        return (v + self.root) % self.n

    def peers(self) -> Iterator[tuple[int, int]]:
        if self.v and self.kind != "broadcast":
            yield self.at((self.v - 1) // 2), 0
        if self.kind != "reduce":
            yield from ((self.at(child), 0) for child in self.children)

    def pass_on(self, v: int, piece: int, came_from: int) -> None:
        self.send(self.at(v), part(self.size, self.m, piece), piece << 2 | came_from, 0)

    def down(self, piece: int) -> None:
        for child in self.children:
            self.pass_on(child, piece, FROM_PARENT)

    def reduce_on(self) -> bool:
        while self.up < min([self.m, *self.from_child[: len(self.children)]]):
            if self.v:
                self.pass_on((self.v - 1) // 2, self.up, FROM_LEFT if self.v % 2 else FROM_RIGHT)
            elif self.kind == "all_reduce":
                self.down(self.up)
            self.up += 1
        return self.up == self.m and (self.v == 0 or self.kind == "reduce" or self.got == self.m)

    def start(self) -> bool:
        if self.n == 1:
            return True
        if self.kind != "broadcast":
            return self.reduce_on()
        if self.v:
            return False
        for piece in range(self.m):
            self.down(piece)
        return True

    def received(self, step: int) -> bool:
        if step & 3 != FROM_PARENT:
            self.from_child[step & 3] += 1
            return self.reduce_on()
        self.down(step >> 2)
        self.got += 1
        return self.got == self.m


class Pairwise(Collective):
    """Every rank to every other its own part, to i+1, i+2, … with a window of messages not acknowledged."""

    minds_acknowledgements = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.next, self.open = 1, 0
        others = [i for i in range(self.n) if i != self.position]
        self.expected = sum(self.between(i, self.position) > 0 for i in others)

    def between(self, src: int, dst: int) -> int:
        if self.splits:
            return self.splits[src * self.n + dst if len(self.splits) > self.n else dst]
        return part(self.size, self.n, src if self.kind == "all_gather" else dst)

    def peers(self) -> Iterator[tuple[int, int]]:
        for i in range(1, self.n):
            to = (self.position + i) % self.n
            if self.between(self.position, to) > 0:
                yield to, 0

    def go_on(self) -> bool:
        while self.next < self.n and self.open < self.param["window_count"]:
            to = (self.position + self.next) % self.n
            self.next += 1
            size = self.between(self.position, to)
            if size:
                self.open += 1
                self.send(to, size, 0, 0)
        return self.next == self.n and self.got == self.expected

    def start(self) -> bool:
        return self.go_on()

    def received(self, step: int) -> bool:
        self.got += 1
        return self.go_on()

    def acknowledged(self, step: int) -> bool:
        self.open -= 1
        return self.go_on()


class Dissemination(Collective):
    """A barrier: in round k every rank tells the one 2^k ahead."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.round = 0
        self.arrived: set[int] = set()

    def peers(self) -> Iterator[tuple[int, int]]:
        ahead = 1
        while ahead < self.n:
            yield (self.position + ahead) % self.n, 0
            ahead *= 2

    def tell(self) -> None:
        self.send((self.position + (1 << self.round)) % self.n, self.param["message_bytes"], self.round, 0)

    def start(self) -> bool:
        if self.n > 1:
            self.tell()
        return self.n == 1

    def received(self, step: int) -> bool:
        self.arrived.add(step)
        while self.round in self.arrived:
            self.round += 1
            if 1 << self.round >= self.n:
                return True
            self.tell()
        return False
