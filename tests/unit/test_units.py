"""Units are exact, and refuse what they cannot say."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabricsim import units
from fabricsim.errors import (
    CheckError,
    ConfigError,
    DeadlockError,
    EngineError,
    FabricsimError,
    InputError,
    Problem,
    nearest,
    unknown_name,
)


@pytest.mark.parametrize(
    ("text", "ps"),
    [
        ("600ns", 600_000),
        ("0.1us", 100_000),
        ("1.5 ms", 1_500_000_000),
        ("2s", 2 * units.s),
        ("55µs", 55_000_000),
        ("1e3ns", 1_000_000),
        ("0", 0),
        (17, 17),
        ("1_000ps", 1000),
    ],
)
def test_times(text: str | int, ps: int) -> None:
    assert units.parse_time_ps(text) == ps


@pytest.mark.parametrize(
    ("text", "size"),
    [("4MiB", 4 << 20), ("32MB", 32_000_000), ("1.5KiB", 1536), ("4096", 4096), ("8 B", 8), (0, 0)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "mbps"),
    [
        ("400Gbps", 400_000),
        ("50GB/s", 400_000),
        ("50GiB/s", 429_497),
        ("1.6Tb/s", 1_600_000),
        ("1kbps", 1),
        (7, 7),
    ],
)
def test_rates(text: str | int, mbps: int) -> None:
    assert units.parse_rate_mbps(text) == mbps


@pytest.mark.parametrize(
    "bad", ["", "ns", "-1ns", "0.1ps", "nan", "inf s", "5", "5 parsecs", "1e400s", True, 1.5, -1]
)
def test_bad_times_say_what_is_allowed(bad: object) -> None:
    with pytest.raises(ValueError, match="allowed"):
        units.parse_time_ps(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["4M", "0.5", "-4KB", "1.0001KB", "9e18KB", None, 1 << 63])
def test_bad_sizes_say_what_is_allowed(bad: object) -> None:
    with pytest.raises(ValueError, match="allowed"):
        units.parse_bytes(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["0Gbps", 0, "100", "10GB", "-1Gbps", -3])
def test_bad_rates_say_what_is_allowed(bad: object) -> None:
    with pytest.raises(ValueError, match="allowed"):
        units.parse_rate_mbps(bad)  # type: ignore[arg-type]


@given(st.integers(0, 2**63 - 1))
def test_whole_numbers_survive_every_unit(value: int) -> None:
    assert units.parse_time_ps(f"{value}ps") == value
    assert units.parse_bytes(f"{value}B") == value
    digits = f"{value:04d}"
    assert units.parse_time_ps(f"{digits[:-3]}.{digits[-3:]}ns") == value


@given(st.integers(0, 2**63 - 1))
def test_formats_are_within_half_of_the_last_digit(value: int) -> None:
    number, unit = units.format_time(value).split()
    factor = {"ps": 1, "ns": units.ns, "us": units.us, "ms": units.ms, "s": units.s}[unit]
    assert abs(float(number) * factor - value) <= max(value * 5.1e-4, 0)
    assert float(number) < 1000 or unit == "s"


def test_formats() -> None:
    assert units.format_time(999_960) == "1 us"
    assert units.format_time(-1_500) == "-1.5 ns"
    assert units.format_bytes(128_000) == "128 KB"
    assert units.format_bytes(4096) == "4 KiB"
    assert units.format_rate(1_600_000) == "1.6 Tb/s"


def test_errors_tell_all_problems_and_carry_exit_codes() -> None:
    error = InputError([Problem("a.arrow:row 3:ranks", "found -1"), "also this"])
    assert str(error) == "a.arrow:row 3:ranks: found -1\nalso this"
    many = str(ConfigError([f"problem {i}" for i in range(60)])).splitlines()
    assert len(many) == 51
    assert many[-1] == "and 10 more"
    codes = {
        kind: kind.exit_code for kind in (CheckError, ConfigError, InputError, DeadlockError, EngineError)
    }
    assert list(codes.values()) == [1, 2, 3, 3, 4]
    assert all(issubclass(kind, FabricsimError) for kind in codes)
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_nearest_names() -> None:
    assert nearest("strem", ["stream", "step"]) == "stream"
    assert nearest("ALL_REDUCE", ["all_reduce"]) == "all_reduce"
    assert "known: a, b" in unknown_name("thing", "zzz", ["b", "a"])
