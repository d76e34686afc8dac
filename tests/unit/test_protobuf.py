"""The wire format by hand: what varints and fields are, and where they are cut."""

import capture_makers as make
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabricsim.convert import _protobuf as pb


@given(st.integers(0, (1 << 64) - 1))
def test_a_varint_is_what_was_written(value: int) -> None:
    data = make.varint(value)
    assert pb.varint(data, 0, len(data)) == (value, len(data))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_signed_values_come_back(value: int) -> None:
    data = make.varint(value)
    assert pb.signed(pb.varint(data, 0, len(data))[0]) == value
    assert pb.zigzag((value << 1) ^ (value >> 63)) == value


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80", "cut short"),
        (b"\xff" * 10 + b"\x01", "longer than ten"),
        (b"\xff" * 9 + b"\x7f", "64 bits"),
    ],
)
def test_bad_varints_are_told(data: bytes, said: str) -> None:
    with pytest.raises(pb.WireError, match=said):
        pb.varint(data, 0, len(data))


@pytest.mark.parametrize(
    "data", [b"\x00", b"\x0b", b"\x0f\x01", b"\x0a\x05abc", b"\x09\x01\x02", b"\x0d\x01"]
)
def test_bad_fields_are_told_with_their_byte(data: bytes) -> None:
    with pytest.raises(pb.WireError, match="byte 0"):
        list(pb.fields(data, 0, len(data)))


def test_a_message_longer_than_the_file_is_told() -> None:
    with pytest.raises(pb.WireError, match="only 2 bytes are left"):
        list(pb.messages(b"\x01a\x09bc"))
