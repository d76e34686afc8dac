"""Collective algorithms with parts in switches that reduce and multicast; positions from n on are those."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from .collectives import STEP_BITS, Collective
from .domain_collectives import below_in_tree, cut
from .places import RefusedError, Tree
from .rules import part, pieces


def has_own_reducers(tree: Tree, n: int, local: int) -> bool:
    """Whether each rank shares its reducer with the ranks of its domain alone."""
    blocks = [list(range(rank // local * local, rank // local * local + local)) for rank in range(n)]
    return [[p for p in range(n) if tree.parent[p] == tree.parent[rank]] for rank in range(n)] == blocks


class Reducing(Collective):
    """What both have in common: a tree of reducers, chunks, a window."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tree = self.op.tree
        self.is_rank = self.position < self.n
        self.above = self.tree.parent[self.position]
        self.children = self.tree.children(self.position)
        self.sent = self.back = 0
        self.counted: Counter[Any] = Counter()


class InNetwork(Reducing):
    """Chunks go up a tree of reducers and come down; a step is twice the chunk, one more on its way down."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if self.tree.parent[self.n :].count(None) != 1:
            raise RefusedError("no single tree")
        self.by_parts = self.kind in ("reduce_scatter", "all_gather")
        parts = self.n if self.by_parts else 1
        self.m = pieces(self.size // parts, self.param["chunk_bytes"], (1 << 22) // parts)
        self.chunks = self.m * parts

    def size_of(self, chunk: int) -> int:
        if self.kind == "barrier":
            return self.param["message_bytes"]
        if self.by_parts:
            return part(part(self.size, self.n, chunk % self.n), self.m, chunk // self.n)
        return part(self.size, self.m, chunk)

    def peers(self) -> Iterator[tuple[int, int]]:
        if self.n > 1:
            yield from ((p, 0) for p in (self.above, *self.children) if p is not None)

    def wants(self, child: int, chunk: int) -> bool:
        """Whether a result goes down to a child with its data."""
        if self.kind == "reduce_scatter":
            return self.tree.is_below(chunk % self.n, child)
        if self.kind == "reduce":
            return self.tree.is_below(self.root, child)
        return not (self.kind == "broadcast" and child == self.root)

    def up(self, chunk: int) -> None:
        self.send(self.above, self.size_of(chunk), 2 * chunk, 0)

    def down(self, chunk: int) -> None:
        for child in self.children:
            self.send(child, self.size_of(chunk) if self.wants(child, chunk) else 0, 2 * chunk + 1, 0)

    def go_on(self) -> bool:
        mine = range(self.chunks)
        if self.kind == "all_gather":
            mine = mine[self.position :: self.n]
        if self.kind == "broadcast" and self.position != self.root:
            mine = mine[:0]
        while self.sent < min(len(mine), self.back + self.param["window_count"]):
            self.sent += 1
            self.up(mine[self.sent - 1])
        return self.got == self.chunks

    def start(self) -> bool:
        return self.n == 1 or (self.is_rank and self.go_on())

    def received(self, step: int) -> bool:
        chunk, down = divmod(step, 2)
        if self.is_rank:
            self.got += 1
            self.back += self.kind != "all_gather" or chunk % self.n == self.position
            return self.go_on()
        self.counted[chunk] += 1
        if down:
            self.down(chunk)
        elif self.kind in ("all_gather", "broadcast") or self.counted[chunk] == len(self.children):
            if self.above is None:
                self.down(chunk)
            else:
                self.up(chunk)
        return False


DATA, RESULT, SUM, WRITTEN, LEFT, RIGHT, PARENT = range(7)


class NvlsTree(Reducing):
    """Domains' switches add up; owners of shares reduce them over two trees, and have them written to all."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if not has_own_reducers(self.tree, self.n, self.L):
            raise RefusedError("no reducer for each domain")
        most = (1 << STEP_BITS - 3) // (2 * self.L)
        self.m = pieces(self.size // (2 * self.L), self.param["chunk_bytes"], min(most, 65535))
        self.chunks = self.m * 2 * self.L
        self.domain, self.local = divmod(self.position, self.L)
        self.domains = self.n // self.L

    def around(self, chunk: int) -> tuple[int | None, int, list[int]]:
        """Return who is above an owner in its chunk's tree, what it is to that one, and who is below."""
        tree = chunk // self.L % 2
        below = [v for v in below_in_tree(self.domains, tree, self.domain) if v is not None]
        for v in range(self.domains):
            if self.domain in (under := below_in_tree(self.domains, tree, v)):
                up = v * self.L + self.local
                return up, LEFT + under.index(self.domain), [v * self.L + self.local for v in below]
        return None, 0, [v * self.L + self.local for v in below]

    def peers(self) -> Iterator[tuple[int, int]]:
        if self.n == 1:
            return
        if not self.is_rank:
            yield from ((child, 0) for child in self.children)
            return
        yield self.above, 0
        for first in (0, self.L):
            up, _, below = self.around(first)
            yield from ((p, 0) for p in (up, *below) if p is not None)

    def pass_on(self, to: int, chunk: int, kind: int, *, empty: bool = False) -> None:
        span = cut(cut((0, self.size), self.L, chunk % self.L), 2, chunk // self.L % 2)
        size = part(span[1], self.m, chunk // self.L // 2)
        self.send(to, 0 if empty else size, 8 * chunk + kind, 0)

    def fill_window(self) -> None:
        while self.sent < min(self.chunks, self.back + self.param["window_count"]):
            self.sent += 1
            self.pass_on(self.above, self.sent - 1, DATA)

    def spread(self, chunk: int) -> None:
        for child in self.around(chunk)[2]:
            self.pass_on(child, chunk, PARENT)
        self.pass_on(self.above, chunk, RESULT)

    def start(self) -> bool:
        if self.n > 1 and self.is_rank:
            self.fill_window()
        return self.n == 1

    def received(self, step: int) -> bool:
        chunk, kind = divmod(step, 8)
        if not self.is_rank:
            self.at_reducer(chunk, kind)
            return False
        self.got += 1
        up, i_am, below = self.around(chunk)
        if kind == PARENT:
            self.spread(chunk)
        elif kind in (LEFT, RIGHT) or (kind == SUM and chunk % self.L == self.local):
            self.counted[chunk] += 1
            if self.counted[chunk] == 1 + len(below):
                if up is None:
                    self.spread(chunk)
                else:
                    self.pass_on(up, chunk, i_am)
        if kind == SUM:
            self.back += 1
            self.fill_window()
        return self.got == 2 * self.chunks + self.m * (len(list(self.peers())) - 1)

    def at_reducer(self, chunk: int, kind: int) -> None:
        if kind == DATA:
            self.counted[chunk] += 1
            if self.counted[chunk] < self.L:
                return
        for rank in self.children:
            if kind == RESULT:
                self.pass_on(rank, chunk, WRITTEN)
            else:
                self.pass_on(rank, chunk, SUM, empty=chunk % self.L != rank % self.L)
