"""A strict reader of the protobuf wire format, each error with its byte, and as much of a writer.

The format is described at https://protobuf.dev/programming-guides/encoding/.  Only what Chakra execution
traces need is here: varints, strings, packed lists; no schema, no groups.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = (VARINT, FIXED64, BYTES, FIXED32)
_U64 = (1 << 64) - 1


class WireError(ValueError):
    """Bytes that are not a protobuf message; `offset` is the place in the file, in bytes."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(f"byte {offset}: {message}")
        self.offset = offset
        self.message = message


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read the varint at `at`: (value, place after it); raises WireError past `end` or over 64 bits."""
    value = shift = 0
    start = at
    while True:
        if at >= end:
            raise WireError(start, "a varint is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise WireError(start, "a varint is longer than ten bytes")
    if value > _U64:
        raise WireError(start, "a varint does not fit in 64 bits")
    return value, at


def messages(data: bytes) -> Iterator[tuple[int, int]]:
    """The (start, end) of every message in a file where each is preceded by its length."""
    at, size = 0, len(data)
    while at < size:
        head = at
        length, at = varint(data, at, size)
        if length > size - at:
            raise WireError(head, f"a message of {length} bytes, but only {size - at} bytes are left")
        yield at, at + length
        at += length


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message in data[at:end]: (number, wire type, value or start, place of its end).

    For VARINT the third item is the value; for the others it is the place of the first byte.
    """
    while at < end:
        head = at
        key, at = varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0 or number >= 1 << 29 or wire not in _WIRE_TYPES:
            raise WireError(head, f"no field can have number {number} and wire type {wire}")
        if wire == VARINT:
            value, at = varint(data, at, end)
            yield number, wire, value, at
            continue
        if wire == BYTES:
            length, at = varint(data, at, end)
        else:
            length = 8 if wire == FIXED64 else 4
        if length > end - at:
            raise WireError(head, f"field {number} has {length} bytes, but only {end - at} are left")
        yield number, wire, at, at + length
        at += length


def text(data: bytes, start: int, end: int) -> str:
    """data[start:end] as UTF-8; raises WireError."""
    try:
        return data[start:end].decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError(start + error.start, "a string is not UTF-8") from None


def packed(data: bytes, start: int, end: int) -> list[int]:
    """The varints packed in data[start:end]."""
    values = []
    while start < end:
        value, start = varint(data, start, end)
        values.append(value)
    return values


def signed(value: int) -> int:
    """A 64-bit varint as the int64 it stands for."""
    return value - (1 << 64) if value >> 63 else value


def zigzag(value: int) -> int:
    """A varint as the sint64 it stands for."""
    return (value >> 1) ^ -(value & 1)


def number(data: bytes, start: int, end: int, form: str) -> int | float:
    """The fixed-width number in data[start:end] by its struct format."""
    return struct.unpack_from(form, data, start)[0] if end - start == struct.calcsize(form) else 0


def put_varint(value: int) -> bytes:
    """An integer as a varint; negative ones as the 64 bits that int32 and int64 have there."""
    value &= _U64
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_number(field: int, value: int) -> bytes:
    """A field that is a varint."""
    return put_varint(field << 3) + put_varint(value)


def put_bytes(field: int, value: bytes | str) -> bytes:
    """A field that is a string, a message or a packed list."""
    raw = value.encode("utf-8") if isinstance(value, str) else value
    return put_varint(field << 3 | BYTES) + put_varint(len(raw)) + raw
