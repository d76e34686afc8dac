"""Walks the messages of an Arrow IPC file without reading their bodies, to find where a broken one ends.

The layout is that of the Arrow columnar format, "Serialization and Interprocess Communication (IPC)": a file
is the magic, a stream of messages (continuation mark, length of metadata, flatbuffer, body), and a footer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

MAGIC = b"ARROW1"
_CONTINUATION = 0xFFFFFFFF
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_KNOWN = (_SCHEMA, _DICTIONARY, _BATCH)
_MAX_METADATA = 1 << 28


@dataclass(frozen=True, slots=True)
class Message:
    """One message: positions of its first byte and of the one behind it; rows of a record batch, else 0."""

    begin: int
    end: int
    rows: int
    is_batch: bool


@dataclass(frozen=True, slots=True)
class Scan:
    """What a walk found.

    Parameters
    ----------
    start
        Where the stream of messages begins: 8 in a file, 0 in a stream.
    messages
        The whole messages, in order.
    end
        The byte behind the last whole message.
    cut
        The message that starts at ``end`` but is not all there, when its metadata could be read.
    size
        The size of the file in bytes.
    """

    start: int
    messages: tuple[Message, ...]
    end: int
    cut: Message | None
    size: int

    @property
    def batches(self) -> int:
        return sum(m.is_batch for m in self.messages)

    @property
    def rows(self) -> int:
        return sum(m.rows for m in self.messages)


def _read_metadata(data: bytes) -> tuple[int, int, int] | None:
    """Return (header type, body length, rows) of a Message flatbuffer, None when it is none."""

    def field(table: int, index: int) -> int | None:
        vtable = table - int(struct.unpack_from("<i", data, table)[0])
        if vtable < 0 or 4 + 2 * index >= struct.unpack_from("<H", data, vtable)[0]:
            return None
        offset = int(struct.unpack_from("<H", data, vtable + 4 + 2 * index)[0])
        return table + offset if offset else None

    try:
        message = int(struct.unpack_from("<I", data)[0])
        kind_at, header_at, length_at = (field(message, i) for i in (1, 2, 3))
        kind = data[kind_at] if kind_at is not None else 0
        length = int(struct.unpack_from("<q", data, length_at)[0]) if length_at is not None else 0
        rows = 0
        if kind == _BATCH and header_at is not None:
            batch = header_at + int(struct.unpack_from("<I", data, header_at)[0])
            rows_at = field(batch, 0)
            rows = int(struct.unpack_from("<q", data, rows_at)[0]) if rows_at is not None else 0
    except (struct.error, IndexError):
        return None
    if kind not in _KNOWN or length < 0 or rows < 0:
        return None
    return kind, length, rows


def scan(file: BinaryIO) -> Scan:
    """Walk a seekable file from its beginning; never raises on strange bytes."""
    size = file.seek(0, 2)
    file.seek(0)
    start = min(8, size) if file.read(len(MAGIC)) == MAGIC else 0
    at, messages, cut = start, [], None
    while at + 8 <= size:
        file.seek(at)
        mark, length = struct.unpack("<Ii", file.read(8))
        if mark != _CONTINUATION or not 0 < length <= _MAX_METADATA:
            break
        data = file.read(length)
        found = _read_metadata(data) if len(data) == length else None
        if found is None:
            break
        kind, body, rows = found
        message = Message(at, at + 8 + length + body, rows, kind == _BATCH)
        if message.end > size:
            cut = message
            break
        messages.append(message)
        at = message.end
    return Scan(start, tuple(messages), at, cut, size)
