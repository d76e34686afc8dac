"""Where the bytes of files are: components, stripes, mirrors and allocators of each file system.

A piece of a range is (offset in the file, offset in the object, bytes, object, target).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import Any

from .rules import draw, mix

KEY_PLACE = 6
BLOCK = 4096
FOR_EVER = (1 << 63) - 1
Piece = tuple[int, int, int, int, int]


def walk(number: int, count: int) -> Iterator[int]:
    """Go through so many things by a step that has no divisor in common with their number, for ever."""
    at, step = (number & 0xFFFFFFFF) % count, 1
    if count > 2:
        step = 1 + (number >> 32) % (count - 1)
        while gcd(step, count) != 1:
            step = step % (count - 1) + 1
    while True:
        yield at
        at = (at + step) % count


class Layouts:
    """The layouts of a file system. ``rows`` are those of ``[[storage.layout]]``, by layout 1 and up."""

    def __init__(self, world: Any) -> None:
        self.world, self.param = world, world.store_param
        self.seed = world.seed
        self.target_server: list[int] = world.target_server
        self.targets, self.servers = len(self.target_server), world.servers
        self.own: dict[int, list[tuple[int, ...]]] = {}
        for row in world.layouts:
            self.own.setdefault(row[0], []).append(tuple(row[1:]))
        self.own.setdefault(0, self.standard())

    def standard(self) -> list[tuple[int, ...]]:
        return [(0, 0, -1, 0, 1, -1, 0)]

    def place(self, file: int, layout: int, made: int, server: int) -> list[int]:
        """Return the target of each object of a file that is made; ``made`` were before it."""
        raise NotImplementedError

    def map(self, f: Any, client: int, write: bool, offset: int, size: int) -> list[Piece]:
        raise NotImplementedError

    def file_end(self, f: Any, object: int, end: int) -> int:
        return end

    def object_end(self, f: Any, object: int, size: int) -> int:
        """Return what a file of a size has of an object."""
        if size <= 0:
            return 0
        high = size
        low = 0  # the end of the file grows with that of the object
        while low < high:
            middle = (low + high + 1) // 2
            if self.file_end(f, object, middle) <= size:
                low = middle
            else:
                high = middle - 1
        return low

    def spread(self, file: int, offset: int, size: int) -> list[tuple[int, int, int]]:
        """Return the shards of a write, none if its server keeps it: (target, offset or -1, bytes)."""
        return []


class Local(Layouts):
    def place(self, file: int, layout: int, made: int, server: int) -> list[int]:
        return [0]

    def map(self, f: Any, client: int, write: bool, offset: int, size: int) -> list[Piece]:
        return [(offset, offset, size, 0, 0)]


class Striped(Layouts):
    """Components: mirror, begin, end or -1, stripe bytes, stripes or -1, first target or -1, data on MDT."""

    def standard(self) -> list[tuple[int, ...]]:
        p = self.param
        parts: list[tuple[int, ...]] = []
        dom = p["dom_bytes"] if self.world.metas else 0
        for mirror in range(p["mirror_count"]):
            if dom:
                parts.append((mirror, 0, dom, dom, 1, -1, 1))
            parts.append((mirror, dom, -1, p["stripe_bytes"], p["stripe_count"], p["first_target"], 0))
        return parts

    def components(self, layout: int) -> Iterator[tuple[int, int, int, int, int, int, int, int]]:
        """Give each with the number of its first object."""
        first = 0
        for mirror, begin, end, stripe, count, target, on_meta in self.own[layout]:
            count = self.targets if count < 0 else count
            yield first, mirror, begin, FOR_EVER if end < 0 else end, stripe, count, target, on_meta
            first += count

    def order(self) -> list[int]:
        """Return the targets in the order in which objects get them."""
        each, rest = divmod(self.targets, self.servers)
        if rest or any(server != t // each for t, server in enumerate(self.target_server)):
            return list(range(self.targets))
        return [server * each + j for j in range(each) for server in range(self.servers)]

    def place(self, file: int, layout: int, made: int, server: int) -> list[int]:
        parts = list(self.components(layout))
        placed = sum(p[5] for p in parts if not p[7])
        begins = self.targets // gcd(placed, self.targets)  # after so many files they begin anew
        at = made * placed + (made // begins if begins < self.targets else 0)
        if self.param["allocator"]:
            at = draw(self.seed, KEY_PLACE, file, 0) % self.targets
        found, order = [], self.order()
        for *_, count, target, on_meta in parts:
            for s in range(count):
                if on_meta:
                    found.append(self.targets + server)
                elif target >= 0:
                    found.append((target + s) % self.targets)
                else:
                    found.append(order[at % self.targets])
                    at += 1
        return found

    def map(self, f: Any, client: int, write: bool, offset: int, size: int) -> list[Piece]:
        mirrors = 1 + max(part[0] for part in self.own[f.layout])
        mirror = 0 if write or f.size_before < 0 else client % mirrors
        pieces, end = [], offset + size
        for first, of, begin, stop, stripe, count, _, on_meta in self.components(f.layout):
            if of != mirror:
                continue
            stripe = stop if on_meta else stripe
            at, last = max(offset, begin), min(end, stop)
            while at < last:
                step = last - at if count == 1 else min(last, at // stripe * stripe + stripe) - at
                inside = at // (stripe * count) * stripe + at % stripe
                number = first + at // stripe % count
                pieces.append((at, inside, step, number, f.targets[number]))
                at += step
        return pieces

    def file_end(self, f: Any, object: int, end: int) -> int:
        if end == 0:
            return 0
        for first, _, _, stop, stripe, count, _, on_meta in self.components(f.layout):
            if first <= object < first + count:
                stripe = stop if on_meta else stripe
                rounds, rest = divmod(end - 1, stripe)
                return (rounds * count + object - first) * stripe + rest + 1
        raise AssertionError

    def object_end(self, f: Any, object: int, size: int) -> int:
        for first, _, begin, stop, stripe, count, _, on_meta in self.components(f.layout):
            if not first <= object < first + count:
                continue
            stripe = stop if on_meta else stripe
            rounds, rest = divmod(min(size, stop), stripe * count)
            end = rounds * stripe + min(stripe, max(0, rest - (object - first) * stripe))
            return end if self.file_end(f, object, end) > begin else 0
        raise AssertionError


class Chunks(Layouts):
    """Of BeeGFS."""

    def standard(self) -> list[tuple[int, ...]]:
        return [(0, 0, -1, self.param["chunk_bytes"], self.param["stripe_count"], -1, 0)]

    def pattern(self, layout: int) -> tuple[int, int, int]:
        _, _, _, chunk, count, first, _ = self.own[layout][0]
        return chunk, self.targets if count < 0 else min(count, self.targets), first

    def place(self, file: int, layout: int, made: int, server: int) -> list[int]:
        _, count, first = self.pattern(layout)
        places = walk(draw(self.seed, KEY_PLACE, file, 0), self.targets)
        return [next(places) if first < 0 else (first + i) % self.targets for i in range(count)]

    def map(self, f: Any, client: int, write: bool, offset: int, size: int) -> list[Piece]:
        chunk, count, _ = self.pattern(f.layout)
        pieces, at = [], offset
        while at < offset + size:
            n = at // chunk
            step = min(offset + size, (n + 1) * chunk) - at
            pieces.append((at, n // count * chunk + at % chunk, step, n % count, f.targets[n % count]))
            at += step
        return pieces

    def file_end(self, f: Any, object: int, end: int) -> int:
        chunk, count, _ = self.pattern(f.layout)
        rounds, rest = divmod(end - 1, chunk)
        return (rounds * count + object) * chunk + rest + 1 if end else 0


class Weka(Layouts):
    def place(self, file: int, layout: int, made: int, server: int) -> list[int]:
        return list(range(self.targets))

    def number(self, file: int, piece: int) -> int:
        return mix(mix(file) ^ piece)

    def of_server(self, server: int, number: int) -> int:
        own = [t for t, s in enumerate(self.target_server) if s == server]
        return own[number % len(own)] if own else number % self.targets

    @property
    def part(self) -> int:
        blocks = -(-self.param["rpc_bytes"] // BLOCK)
        return -(-blocks // self.param["data_count"]) * BLOCK

    def owners(self, file: int, piece: int) -> list[int]:
        number = self.number(file, piece)
        servers, drawn = walk(number, self.servers), (mix(number) >> 32) % self.targets
        parts = self.param["data_count"] + self.param["parity_count"]
        return [self.of_server(next(servers), drawn + i // self.servers) for i in range(parts)]

    def parts(self, file: int, offset: int, size: int) -> list[Piece]:
        pieces, at, whole = [], offset, self.param["rpc_bytes"]
        while at < offset + size:
            n = at // whole
            k = (at - n * whole) // self.part
            step = min(offset + size, (n + 1) * whole, n * whole + (k + 1) * self.part) - at
            target = self.owners(file, n)[k]
            pieces.append((at, at, step, target, target))
            at += step
        return pieces

    def map(self, f: Any, client: int, write: bool, offset: int, size: int) -> list[Piece]:
        if not write:
            return self.parts(f.number, offset, size)
        pieces, at, whole = [], offset, self.param["rpc_bytes"]
        while at < offset + size:
            step = min(offset + size, at // whole * whole + whole) - at
            hashed = mix(~self.number(f.number, at // whole) & (1 << 64) - 1)
            target = self.of_server((hashed >> 32) % self.servers, hashed & 0xFFFFFFFF)
            pieces.append((at, at, step, target, target))
            at += step
        return pieces

    def spread(self, file: int, offset: int, size: int) -> list[tuple[int, int, int]]:
        n = offset // self.param["rpc_bytes"]
        shards = [(target, at, step) for at, _, step, _, target in self.parts(file, offset, size)]
        parity = self.owners(file, n)[self.param["data_count"] :]
        return shards + [(t, -1, -(-size // self.param["data_count"])) for t in parity]


LAYOUTS: dict[str, type[Layouts]] = {"local": Local, "lustre": Striped, "beegfs": Chunks, "weka": Weka}
