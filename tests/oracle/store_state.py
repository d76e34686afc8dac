"""What a client has of files, objects and operations."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from .ranges import Ranges
from .store_calls import Channel, Part
from .store_locks import GROUP, PR, PW, Lock

GROUP_FLAG = 16
Steps = Generator[None, None, None]


@dataclass(eq=False)
class ClientObject:
    file: ClientFile
    number: int
    target: int
    channel: Channel
    dirty: Ranges = field(default_factory=Ranges)
    cached: Ranges = field(default_factory=Ranges)
    reading: Ranges = field(default_factory=Ranges)
    end: int = 0  # as last heard, or written
    newest_end: int = 0  # of what was last written or asked for
    dirty_since: int | None = None
    last_transno: int = 0
    locks: list[Lock] = field(default_factory=list)  # last granted first
    writes: list[Part] = field(default_factory=list)  # without a reply
    tail: Part | None = None  # of those that wait to be sent
    drains: list[tuple[set[Part], Any]] = field(default_factory=list)  # last come first
    readers: list[Operation] = field(default_factory=list)  # whose data is on its way


@dataclass(eq=False)
class ClientFile:
    number: int
    content: int
    opened: bool = False
    opening: bool = False
    known: bool = False
    has_objects: bool = False  # the content: it is no directory
    opens: int = 0
    waiting: list[Operation] = field(default_factory=list)
    objects: dict[int, ClientObject] = field(default_factory=dict)
    size: int = 0
    generation: int = 0  # how often its objects were made empty, as far as known
    drains: list[tuple[set[Part], Any]] = field(default_factory=list)
    read_next: int = 0
    window: int = 0
    ahead_end: int = 0

    @property
    def used_objects(self) -> list[ClientObject]:
        return [self.objects[i] for i in sorted(self.objects)]


@dataclass(eq=False)
class Segment:
    """A piece of a read on its way to the application."""

    object: ClientObject
    lock: Lock | None
    at: int
    end: int
    shift: int  # offset in the object less that in the file


@dataclass(eq=False)
class Operation:
    kind: str
    flags: int
    name: ClientFile
    offset: int
    size: int
    ended: Any
    new_name: int = -1
    file: Any = None
    steps: Steps | None = None
    left: int = 0  # requests, or parts, without a reply
    refused: bool = False
    unit: int = 0
    since: int = 0
    lock: Lock | None = None  # that it has just been given
    direct: bool = False
    # a read
    cursor: int = 0
    asked: int = 0
    at_end: bool = False
    ahead_done: bool = False
    filling: bool = False
    locking: bool = False  # has asked for a lock
    wanted: tuple[ClientObject, int, int] | None = None  # for this range
    copying: bool = False
    waits: bool = False
    segments: list[Segment] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def mode(self) -> int:
        return GROUP if self.flags & GROUP_FLAG else PW if self.kind == "write" else PR
