"""What a rank has done in a session."""

from __future__ import annotations

from typing import Any

__all__ = ["RankStats"]


class RankStats:
    """Counts of a rank: calls and time by kind, bytes read and written.

    >>> stats = RankStats()
    >>> stats.count("write", 4096, 1000)
    >>> stats.to_dict()["bytes_written"]
    4096
    """

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.time_ps: dict[str, int] = {}
        self.bytes_read = 0
        self.bytes_written = 0

    def count(self, kind: str, size_bytes: int, time_ps: int) -> None:
        """Count a call."""
        self.calls[kind] = self.calls.get(kind, 0) + 1
        self.time_ps[kind] = self.time_ps.get(kind, 0) + time_ps
        if kind == "read":
            self.bytes_read += size_bytes
        elif kind == "write":
            self.bytes_written += size_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return ``calls`` and ``time_ps`` by kind, ``bytes_read`` and ``bytes_written``."""
        return {
            "calls": dict(self.calls),
            "time_ps": dict(self.time_ps),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
        }
