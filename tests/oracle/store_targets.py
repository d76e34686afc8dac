"""What data servers keep data on: flash and disks, and such as serve at a part of their rate for a while."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

WHOLE_PPM = 1_000_000


def rate_ps(size: int, mbps: int) -> int:
    """Return how long bytes take at a rate, rounded up; a rate of 0 is no limit."""
    return -(-8_000_000 * size // mbps) if mbps else 0


class Target:
    """A device, what it has under way, and what is counted for it."""

    def __init__(self, kind: str, param: dict[str, int], slow: list[tuple[int, int]]) -> None:
        self.kind, self.param, self.slow = kind, param, slow
        self.ends: list[int] = []  # of all operations, in their order
        self.free_ps = 0
        self.after: tuple[Any, int] | None = None  # stream and offset where the last operation ended
        self.submitted: list[tuple[int, int]] = []  # begin and end of each operation
        self.count = dict.fromkeys(("rpcs", "bytes_read", "bytes_written", "wait_ps", "service_ps"), 0)

    def transfer(self, start: int, work: int) -> int:
        """Return the end of what a whole target would do in a time."""
        left, at, factor = Fraction(work * WHOLE_PPM), start, WHOLE_PPM
        for when, next_factor in self.slow:
            if when > at:
                if left <= (when - at) * factor:
                    break
                left -= (when - at) * factor
                at = when
            factor = next_factor
        return at + ceil(left / factor)

    def submit(self, write: bool, stream: Any, offset: int, size: int, now: int) -> int:
        """Hand an operation over; return when it is done."""
        end = (self.flash if self.kind == "flash" else self.disk)(write, stream, offset, size, now)
        self.ends.append(end)
        self.submitted.append((now, end))
        self.count["rpcs"] += 1
        self.count["bytes_written" if write else "bytes_read"] += size
        return end

    def flash(self, write: bool, stream: Any, offset: int, size: int, now: int) -> int:
        way = "write" if write else "read"
        depth = self.param["queue_depth_count"]
        begin = max(now, self.ends[-depth]) if len(self.ends) >= depth else now
        start = max(begin + self.param[f"{way}_latency_ps"], self.ends[-1] if self.ends else 0)
        return self.transfer(start, rate_ps(size, self.param[f"{way}_mbps"]))

    def disk(self, write: bool, stream: Any, offset: int, size: int, now: int) -> int:
        p, end = self.param, offset + size
        at = max([now, *self.ends[-1:]])
        if self.after != (stream, offset):
            at += p["seek_ps"]
        self.after = stream, end
        if write and p["parity_count"] and (first := self.read_before(offset, end)):
            at = self.transfer(at, rate_ps(first, p["disk_mbps"])) + p["rotation_ps"]
        return self.transfer(at, rate_ps(self.busiest(offset, end), p["disk_mbps"]))

    def busiest(self, begin: int, end: int) -> int:
        """Return the bytes of the disk that has most of a range."""
        chunk, disks = self.param["chunk_bytes"], self.param["data_count"]
        held = [0] * disks
        at = begin
        while at < end:
            step = min(end, at // chunk * chunk + chunk)
            held[at // chunk % disks] += step - at
            at = step
        return max(held)

    def read_before(self, begin: int, end: int) -> int:
        """Return what the busiest disk reads of the stripes that a write covers in part."""
        row = self.param["chunk_bytes"] * self.param["data_count"]
        first, last = begin // row, (end - 1) // row
        partial = [n for n in dict.fromkeys((first, last)) if begin > n * row or end < (n + 1) * row]
        return sum(self.busiest(max(begin, n * row), min(end, (n + 1) * row)) for n in partial)

    def totals(self) -> dict[str, int]:
        """Return what is counted: the time with anything under way, and the most at once, too."""
        busy, until = 0, -1
        most = 0
        for i, (begin, end) in enumerate(self.submitted):
            busy += max(0, end - max(begin, until))
            until = max(until, end)
            most = max(most, 1 + sum(other > begin for _, other in self.submitted[:i]))
        return {**self.count, "busy_ps": busy, "queue_max": most}
