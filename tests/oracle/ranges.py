"""Sets of byte ranges, as plain lists of (begin, end) that do not touch."""

from __future__ import annotations

from collections.abc import Iterator


class Ranges:
    def __init__(self) -> None:
        self.items: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(self.items))

    def __bool__(self) -> bool:
        return bool(self.items)

    @property
    def size(self) -> int:
        return sum(end - begin for begin, end in self.items)

    def add(self, begin: int, end: int) -> int:
        """Add a range; return how many bytes are new."""
        before = self.size
        apart = [(b, e) for b, e in self.items if e < begin or b > end]
        touching = [(b, e) for b, e in self.items if not (e < begin or b > end)]
        whole = min([begin, *(b for b, _ in touching)]), max([end, *(e for _, e in touching)])
        self.items = sorted([*apart, whole])
        return self.size - before

    def remove(self, begin: int, end: int) -> int:
        """Take a range out; return how many bytes were there."""
        before = self.size
        parts = [part for b, e in self.items for part in ((b, min(e, begin)), (max(b, end), e))]
        self.items = [(b, e) for b, e in parts if b < e]
        return before - self.size

    def inside(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Return what is there of a range."""
        cut = [(max(b, begin), min(e, end)) for b, e in self.items]
        return [(b, e) for b, e in cut if b < e]

    def covers(self, begin: int, end: int) -> bool:
        return any(b <= begin and e >= end for b, e in self.items)

    def end_at(self, offset: int) -> int:
        """Return the end of the range that an offset is in, the offset itself if it is in none."""
        return next((e for b, e in self.items if b <= offset < e), offset)

    def next_begin(self, offset: int) -> int | None:
        return next((b for b, _ in self.items if b > offset), None)
