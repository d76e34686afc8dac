"""More collective algorithms: trees, halving, both networks, tori. ``collectives.py`` has the simple ones.

``L`` is the number of ranks of a scale-up domain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from .collectives import STEP_BITS, Chain, Collective, Dissemination, Pairwise, Ring, Tree
from .rules import part, pieces


def cut(span: tuple[int, int], parts: int, i: int) -> tuple[int, int]:
    """Return even part i of a span (first byte, bytes)."""
    return span[0] + span[1] * i // parts, part(span[1], parts, i)


def below_in_tree(d: int, tree: int, v: int) -> list[int | None]:
    """Return the children, left and right, of a domain of d in one of the two trees."""
    turn = (lambda x: d - 1 - x) if d % 2 == 0 else (lambda x: (x - tree) % d)
    back = (lambda x: d - 1 - x) if d % 2 == 0 else (lambda x: (x + tree) % d)
    v = turn(v) if tree else v
    reach = (v & -v if v else 1 << (d - 1).bit_length()) // 2
    left = v - reach if v and reach else None
    while reach and v + reach >= d:
        reach //= 2
    right = v + reach if reach else None
    return [None if x is None else back(x) if tree else x for x in (left, right)]


class DoubleTree(Collective):
    """Two binary trees over the domains, each with half of a channel's data, and a chain inside."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.channels = min(self.channels, 3 * self.L)
        most = min((1 << (STEP_BITS - 2)) // (2 * self.channels), 65535)
        self.m = pieces(self.size // (2 * self.channels), self.param["chunk_bytes"], most)
        self.domains = self.n // self.L
        self.domain, self.local = divmod(self.position, self.L)
        self.come: Counter[tuple[int, int, int]] = Counter()  # by channel, tree, from

    def neighbours(self, channel: int, tree: int) -> tuple[int | None, int, list[int | None]]:
        """Return the position above, what this one is to it, and those below: left, right, the chain's."""
        head = channel % self.L
        depth = (self.local - head) % self.L
        chain = self.domain * self.L + (self.local + 1) % self.L if depth + 1 < self.L else None
        if depth:
            return self.domain * self.L + (self.local - 1) % self.L, 2, [None, None, chain]
        below = [
            None if v is None else v * self.L + head for v in below_in_tree(self.domains, tree, self.domain)
        ]
        for v in range(self.domains):
            if self.domain in below_in_tree(self.domains, tree, v):
                return (
                    v * self.L + head,
                    below_in_tree(self.domains, tree, v).index(self.domain),
                    [*below, chain],
                )
        return None, 0, [*below, chain]

    def ways(self) -> Iterator[tuple[int, int]]:
        yield from ((channel, tree) for channel in range(self.channels) for tree in range(2))

    def peers(self) -> Iterator[tuple[int, int]]:
        for channel, tree in self.ways():
            up, _, below = self.neighbours(channel, tree)
            yield from ((p, channel) for p in (up, *below) if p is not None)

    def pass_on(self, to: int | None, channel: int, tree: int, piece: int, came_from: int) -> None:
        if to is not None:
            size = part(part(self.size, 2 * self.channels, 2 * channel + tree), self.m, piece)
            self.send(to, size, ((piece * self.channels + channel) * 2 + tree) * 4 + came_from, channel)

    def reduced(self, channel: int, tree: int, piece: int) -> None:
        up, i_am, below = self.neighbours(channel, tree)
        if up is not None:
            self.pass_on(up, channel, tree, piece, i_am)
        else:
            for child in below:
                self.pass_on(child, channel, tree, piece, 3)

    def start(self) -> bool:
        for piece in range(self.m):
            for channel, tree in self.ways():
                if self.n > 1 and not any(c is not None for c in self.neighbours(channel, tree)[2]):
                    self.reduced(channel, tree, piece)
        return self.n == 1

    def received(self, step: int) -> bool:
        number, came_from = divmod(step, 4)
        piece, channel, tree = number // 2 // self.channels, number // 2 % self.channels, number % 2
        below = self.neighbours(channel, tree)[2]
        if came_from == 3:
            for child in below:
                self.pass_on(child, channel, tree, piece, 3)
        else:
            self.come[channel, tree, came_from] += 1
            if all(self.come[channel, tree, i] > piece for i in range(3) if below[i] is not None):
                self.reduced(channel, tree, piece)
        self.got += 1
        return self.got == self.m * len(list(self.peers()))


class HalvingDoubling(Collective):
    """Exchanges with actors at distances of powers of two; the first ranks of other counts go in pairs."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.levels = self.n.bit_length() - 1
        self.power = 1 << self.levels
        self.pairs = self.n - self.power
        self.paired = self.position < 2 * self.pairs
        self.acts = not self.paired or self.position % 2 == 0
        self.actor = self.position // 2 if self.paired else self.position - self.pairs
        self.halves = self.levels if self.kind != "all_gather" else 0
        doubles = self.levels if self.kind != "reduce_scatter" else 0
        self.last = 1 + self.halves + doubles
        self.next = 0
        self.come: set[int] = set()

    def at(self, actor: int) -> int:
        return 2 * actor if actor < self.pairs else actor + self.pairs

    def block(self, first: int, end: int) -> int:
        if self.kind == "all_reduce":
            return self.size * end // self.power - self.size * first // self.power
        return self.size * self.at(end) // self.n - self.size * self.at(first) // self.n

    def message(self, phase: int) -> tuple[int, int] | None:
        """Return whom a phase's message goes to and its size, if this rank sends one."""
        if phase in (0, self.last):
            if not self.paired or self.acts != (phase == self.last):
                return None
            own = part(self.size, self.n, self.position | 1)
            sizes = {
                "all_reduce": (self.size, self.size),
                "reduce_scatter": (self.size, own),
                "all_gather": (own, self.size - own),
            }
            return self.position ^ 1, sizes[self.kind][phase > 0]
        if not self.acts:
            return None
        halving = phase <= self.halves
        distance = self.power >> phase if halving else 1 << (phase - 1 - self.halves)
        partner = self.actor ^ distance
        first = (partner if halving else self.actor) // distance * distance
        return self.at(partner), self.block(first, first + distance)

    def gets(self, phase: int) -> bool:
        if phase in (0, self.last):
            return self.paired and self.acts == (phase == 0)
        return self.acts

    def peers(self) -> Iterator[tuple[int, int]]:
        for phase in range(self.last + 1):
            message = self.message(phase)
            if message and self.n > 1:
                yield message[0], 0

    def go_on(self) -> bool:
        while self.next <= self.last:
            if any(self.gets(p) and p not in self.come for p in range(self.next)):
                return False
            message = self.message(self.next)
            if message:
                self.send(*message, self.next, 0)
            self.next += 1
        return all(p in self.come for p in range(self.last + 1) if self.gets(p))

    def start(self) -> bool:
        return self.n == 1 or self.go_on()

    def received(self, step: int) -> bool:
        self.come.add(step)
        return self.go_on()


class Hierarchical(Collective):
    """Straight inside domains, a ring between equal local ranks of the domains; slice by slice."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.slices = pieces(self.size, self.param["slice_bytes"], 10)
        self.domains = self.n // self.L
        self.domain, self.local = divmod(self.position, self.L)
        self.begin = self.domains - 1 if self.kind == "all_gather" else 0
        self.end = (1 if self.kind == "reduce_scatter" else 2) * (self.domains - 1)
        self.reduced: Counter[int] = Counter()
        self.held: dict[int, list[int]] = {s: [] for s in range(self.slices)}

    def others(self) -> list[int]:
        return [self.domain * self.L + (self.local + i) % self.L for i in range(1, self.L)]

    def part_size(self, s: int, local: int, of: int) -> int:
        if self.kind != "all_reduce":
            return part(part(self.size, self.n, of * self.L + local), self.slices, s)
        return part(part(part(self.size, self.slices, s), self.L, local), self.domains, of)

    def peers(self) -> Iterator[tuple[int, int]]:
        yield from ((p, 0) for p in self.others())
        if self.domains > 1:
            yield (self.domain + 1) % self.domains * self.L + self.local, 0

    def number(self, kind: int, index: int, s: int) -> int:
        return (index * self.slices + s) * 4 + kind

    def ring_on(self, s: int, step: int) -> None:
        if step < self.end:
            size = self.part_size(s, self.local, (self.domain - 1 - step) % self.domains)
            to = (self.domain + 1) % self.domains * self.L + self.local
            self.send(to, size, self.number(1, step, s), 0)

    def give(self, s: int, of: int) -> None:
        if self.kind != "reduce_scatter":
            for to in self.others():
                self.send(to, self.part_size(s, self.local, of), self.number(2, of, s), 0)

    def ring_came(self, s: int, step: int) -> None:
        if step >= self.domains - 2:
            self.give(s, (self.domain - 2 - step) % self.domains)
        self.ring_on(s, step + 1)

    def ready(self, s: int) -> None:
        if self.domains == 1:
            self.give(s, 0)
        self.ring_on(s, 0)
        for step in self.held[s]:
            self.ring_came(s, step)

    def is_done(self) -> bool:
        others = self.L - 1
        wanted = self.end - self.begin + others * (self.kind != "all_gather")
        return self.got == self.slices * (wanted + others * self.domains * (self.kind != "reduce_scatter"))

    def start(self) -> bool:
        for s in range(self.slices):
            if self.kind == "all_gather":
                self.give(s, self.domain)
                self.ring_on(s, self.begin)
                continue
            for to in self.others():
                size = sum(self.part_size(s, to % self.L, of) for of in range(self.domains))
                self.send(to, size, self.number(0, 0, s), 0)
            if self.L == 1:
                self.ready(s)
        return self.is_done()

    def received(self, step: int) -> bool:
        index, s, kind = step // 4 // self.slices, step // 4 % self.slices, step % 4
        self.got += 1
        if kind == 0:
            self.reduced[s] += 1
            if self.reduced[s] == self.L - 1:
                self.ready(s)
        elif kind == 1:
            if self.kind != "all_gather" and self.reduced[s] < self.L - 1:
                self.held[s].append(index)
            else:
                self.ring_came(s, index)
        return self.is_done()


class Pxn(Pairwise):
    """What a domain has for a rank of another is gathered on that one's rail, and crosses in one message."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.domains = self.n // self.L
        self.domain, self.local = divmod(self.position, self.L)
        self.begun = self.collected = self.passed = self.open = 0
        self.come: Counter[int] = Counter()
        crossing = sum(self.of_domain(d, self.position) > 0 for d in range(self.domains) if d != self.domain)
        self.expected = (self.L - 1) * self.domains + crossing

    def of_domain(self, domain: int, to: int) -> int:
        return sum(self.between(domain * self.L + i, to) for i in range(self.L))

    def target(self, turn: int, local: int) -> int:
        return (self.domain + turn) % self.domains * self.L + local % self.L

    def peers(self) -> Iterator[tuple[int, int]]:
        yield from ((self.target(0, self.local + i), 0) for i in range(1, self.L))
        yield from ((self.target(turn, self.local), 0) for turn in range(1, self.domains))

    def go_on(self) -> bool:
        window = self.param["window_count"]
        while True:
            if self.begun < min(self.domains, self.passed + window):
                for i in range(1, self.L):
                    size = self.between(self.position, self.target(self.begun, self.local + i))
                    self.send(self.target(0, self.local + i), size, 2 * self.begun, 0)
                self.begun += 1
            elif self.collected < self.begun and self.come[self.collected] == self.L - 1:
                self.collected += 1
            elif self.passed < self.collected and self.open < window:
                to = self.target(self.passed, self.local)
                size = self.of_domain(self.domain, to) if self.passed else 0
                if size:
                    self.open += 1
                    self.send(to, size, 2 * self.passed + 1, 0)
                self.passed += 1
            else:
                return self.passed == self.domains and self.got == self.expected

    def received(self, step: int) -> bool:
        if step % 2 == 0:
            self.come[step // 2] += 1
        self.got += 1
        return self.go_on()

    def acknowledged(self, step: int) -> bool:
        self.open -= step % 2
        return self.go_on()


class Torus(Collective):
    """Rings along the dimensions, in every order and both ways."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        y, z = (self.param[f"{axis}_count"] or 1 for axis in "yz")
        x = self.param["x_count"] or self.n // (y * z)
        sides = [(x, 1), (y, x), (z, x * y)]
        self.sides = [(size, stride) for size, stride in sides if size > 1]
        self.d = len(self.sides)
        self.channels = 2 * self.d
        self.phases = list(range(2 * self.d))
        if self.kind != "all_reduce":
            self.phases = self.phases[self.d :] if self.kind == "all_gather" else self.phases[: self.d]
        self.come: Counter[tuple[int, int]] = Counter()  # by channel and phase
        self.where = [self.position // stride % size for size, stride in self.sides]

    def turn(self, phase: int) -> int:
        return phase if phase < self.d else 2 * self.d - 1 - phase

    def axis(self, channel: int, phase: int) -> int:
        return (channel // 2 + self.turn(phase)) % self.d

    def beside(self, channel: int, phase: int) -> int:
        size, stride = self.sides[self.axis(channel, phase)]
        here = self.where[self.axis(channel, phase)]
        return self.position + ((here + (-1) ** channel) % size - here) * stride

    def size_of(self, channel: int, phase: int, step: int) -> int:
        axis, sign = self.axis(channel, phase), (-1) ** channel
        block = (self.where[axis] - sign * (step + (phase < self.d))) % self.sides[axis][0]
        axes = [(channel // 2 + t) % self.d for t in range(self.turn(phase))]
        fixed = {a: self.where[a] for a in axes}
        fixed[axis] = block
        if self.kind == "all_reduce":
            span = cut((0, self.size), self.channels, channel)
            for a, i in fixed.items():
                span = cut(span, self.sides[a][0], i)
            return span[1]
        return sum(
            part(part(self.size, self.n, p), self.channels, channel)
            for p in range(self.n)
            if all(p // self.sides[a][1] % self.sides[a][0] == i for a, i in fixed.items())
        )

    def pass_on(self, channel: int, phase: int, step: int) -> None:
        if step < self.sides[self.axis(channel, phase)][0] - 1:
            size = self.size_of(channel, phase, step)
            self.send(self.beside(channel, phase), size, (step * 8 + phase) * 8 + channel, channel)

    def complete(self, channel: int, phase: int) -> bool:
        return self.come[channel, phase] == self.sides[self.axis(channel, phase)][0] - 1

    def begin(self, channel: int, first: int) -> None:
        for phase in [p for p in self.phases if p >= first]:
            self.pass_on(channel, phase, 0)
            for step in range(self.come[channel, phase] if phase < self.d else 0):
                self.pass_on(channel, phase, step + 1)
            if not self.complete(channel, phase):
                return

    def peers(self) -> Iterator[tuple[int, int]]:
        for channel in range(self.channels):
            yield from ((self.beside(channel, phase), channel) for phase in self.phases)

    def start(self) -> bool:
        for channel in range(self.channels):
            self.begin(channel, 0)
        return self.n == 1

    def received(self, step: int) -> bool:
        number, channel = divmod(step, 8)
        step, phase = divmod(number, 8)
        self.come[channel, phase] += 1
        begun = all(self.complete(channel, p) for p in self.phases if p < phase)
        if begun or phase >= self.d:
            self.pass_on(channel, phase, step + 1)
        if begun and self.complete(channel, phase):
            self.begin(channel, phase + 1)
        return all(self.complete(c, p) for c in range(self.channels) for p in self.phases)


class Pat(Collective):
    """A binomial tree for each part, far distances first; parts that go together share messages."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.levels = (self.n - 1).bit_length()
        whole, chunk = self.size // self.n, self.param["chunk_bytes"]
        self.m = pieces(whole, chunk, 65535 // (self.n // 2 + 1))
        fit = chunk // -(-whole // self.m) if chunk and whole else self.n
        self.group = max(1, min(fit, self.n))
        self.sent: Counter[int] = Counter()  # by level
        self.come: Counter[int] = Counter()

    def offsets(self, level: int) -> list[list[int]]:
        """Return the distances from a part's own rank, message by message, that a level's sender is at."""
        all_of = range(0, self.n - (1 << level), 2 << level)
        return [list(all_of[i : i + self.group]) for i in range(0, len(all_of), self.group)]

    def peer(self, level: int) -> int:
        return (self.position + (1 << level) * (1 if self.kind == "all_gather" else -1)) % self.n

    def peers(self) -> Iterator[tuple[int, int]]:
        yield from ((self.peer(level), 0) for level in range(self.levels))

    def needs(self, level: int, i: int, of: int) -> int:
        """Return how many messages of another level must have come before message i may go."""
        if not (of > level if self.kind == "all_gather" else of < level):
            return 0
        groups, others = self.offsets(level), self.offsets(of)
        piece, group = divmod(i, len(groups))
        held = {o for some in groups[: group + 1] for o in some}
        if self.kind == "all_gather":  # a part at distance o came at distance o - 2^of from its own rank
            wanted = {o - (1 << of) for o in held}
        else:  # the sender is 2^level further, and adds what comes from 2^of further still
            wanted = {o + (1 << level) for o in held}
        before = [k + 1 for k, some in enumerate(others) if wanted & set(some)]
        return piece * len(others) + (max(before) if before else 0)

    def go_on(self) -> bool:
        order = range(self.levels)
        for level in reversed(order) if self.kind == "all_gather" else order:
            groups = self.offsets(level)
            while self.sent[level] < self.m * len(groups):
                i = self.sent[level]
                if any(self.come[of] < self.needs(level, i, of) for of in order):
                    break
                y = self.position if self.kind == "all_gather" else self.position - (1 << level)
                piece, group = divmod(i, len(groups))
                whole = [part(self.size, self.n, (y - o) % self.n) for o in groups[group]]
                size = sum(part(size, self.m, piece) for size in whole)
                self.sent[level] += 1
                self.send(self.peer(level), size, i * 16 + level, 0)
        return all(self.come[level] == self.m * len(self.offsets(level)) for level in order)

    def start(self) -> bool:
        return self.go_on()

    def received(self, step: int) -> bool:
        self.come[step % 16] += 1
        return self.go_on()


ALGORITHMS: dict[str, type[Collective]] = {
    "ring": Ring,
    "chain": Chain,
    "tree": Tree,
    "pairwise": Pairwise,
    "dissemination": Dissemination,
    "double_tree": DoubleTree,
    "halving_doubling": HalvingDoubling,
    "hierarchical": Hierarchical,
    "pxn": Pxn,
    "torus": Torus,
    "pat": Pat,
}
