"""Units: integers inside (picoseconds, bytes, Mb/s), human text such as ``600ns`` at the edges.

Numbers are read as exact fractions, so ``0.1us`` is 100,000 ps and nothing is lost to binary fractions.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = [
    "GB",
    "KB",
    "MB",
    "PB",
    "TB",
    "Gbps",
    "GiB",
    "KiB",
    "Mbps",
    "MiB",
    "PiB",
    "Tbps",
    "TiB",
    "format_bytes",
    "format_rate",
    "format_time",
    "ms",
    "ns",
    "parse_bytes",
    "parse_rate_mbps",
    "parse_time_ps",
    "ps",
    "s",
    "us",
]

# Time, in picoseconds.
ps = 1
ns = 1_000
us = 1_000_000
ms = 1_000_000_000
s = 1_000_000_000_000

# Sizes, in bytes.
KB, MB, GB, TB, PB = 10**3, 10**6, 10**9, 10**12, 10**15
KiB, MiB, GiB, TiB, PiB = 2**10, 2**20, 2**30, 2**40, 2**50

# Rates, in megabits per second.
Mbps, Gbps, Tbps = 1, 1_000, 1_000_000

INT64_MAX = 2**63 - 1

_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([^\d\s].*?)?\s*", re.ASCII)

_TIME_UNITS = {
    "ps": ps,
    "ns": ns,
    "us": us,
    "µs": us,
    "μs": us,
    "ms": ms,
    "s": s,
    "min": 60 * s,
    "h": 3600 * s,
    "d": 86400 * s,
}
_BYTE_UNITS = {"B": 1, "kB": KB, "KB": KB, "MB": MB, "GB": GB, "TB": TB, "PB": PB}
_BYTE_UNITS |= {"KiB": KiB, "kiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB, "PiB": PiB}

# Bits per second of each unit of rate.
_RATE_UNITS: dict[str, int] = {}
for _prefix, _factor in {"": 1, "k": KB, "K": KB, "M": MB, "G": GB, "T": TB}.items():
    for _suffix in ("bps", "b/s", "bit/s"):
        _RATE_UNITS[_prefix + _suffix] = _factor
for _unit, _factor in _BYTE_UNITS.items():
    _RATE_UNITS[_unit + "/s"] = 8 * _factor

_TIME_FORMS = "a whole number of ps, or a number with ps, ns, us, ms, s, min, h or d, such as '600ns'"
_BYTE_FORMS = "a whole number of bytes, or a number with B, KB, MB, GB, KiB, MiB, GiB or TiB, such as '4MiB'"
_RATE_FORMS = (
    "a whole number of Mb/s, or a number with Mbps, Gbps, Tbps, MB/s, GB/s, MiB/s or GiB/s, such as '400Gbps'"
)


def _read(value: int | str, units: dict[str, int], bare: bool, what: str, forms: str) -> Fraction | int:
    """Return an int as it is, and text as number x factor; raise ValueError naming the allowed forms."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"found {value!r}, not a {what}; allowed: {forms}")
    if isinstance(value, int):
        return value
    match = _NUMBER.fullmatch(value)
    if match is None:
        raise ValueError(f"found {value!r}, not a {what}; allowed: {forms}")
    text, unit = match[1].replace("_", ""), match[2]
    number = int(text) if text.isdecimal() else Fraction(text)
    if unit is None:
        if bare or number == 0:
            return number
        raise ValueError(f"found {value!r}, a {what} without a unit; allowed: {forms}")
    if unit not in units:
        raise ValueError(f"found {value!r}, unknown unit {unit!r}; allowed: {forms}")
    return number * units[unit]


def _whole(value: int | str, amount: Fraction | int, unit: str, forms: str) -> int:
    if amount < 0:
        raise ValueError(f"found {value!r}, which is negative; allowed: {forms}")
    if amount > INT64_MAX:
        raise ValueError(f"found {value!r}, which is more than 2^63-1 {unit}; allowed: {forms}")
    whole = int(amount)
    if whole != amount:
        raise ValueError(f"found {value!r}, which is not a whole number of {unit}; allowed: {forms}")
    return whole


def parse_time_ps(value: int | str) -> int:
    """Read a time.

    Parameters
    ----------
    value
        Picoseconds as an int, or text with a unit.

    Returns
    -------
    int
        Picoseconds, 0 to 2^63-1.

    Raises
    ------
    ValueError
        When it is negative, not a number, has no or an unknown unit, or is no whole number of picoseconds.

    >>> parse_time_ps("600ns"), parse_time_ps("0.1 us"), parse_time_ps(7)
    (600000, 100000, 7)
    """
    return _whole(value, _read(value, _TIME_UNITS, False, "time", _TIME_FORMS), "ps", _TIME_FORMS)


def parse_bytes(value: int | str) -> int:
    """Read a size.

    Parameters
    ----------
    value
        Bytes as an int, or text with or without a unit. KB, MB … are powers of 1000; KiB, MiB … of 1024.

    Returns
    -------
    int
        Bytes, 0 to 2^63-1.

    Raises
    ------
    ValueError
        When it is negative, not a number, has an unknown unit, or is no whole number of bytes.

    >>> parse_bytes("4MiB"), parse_bytes("32MB"), parse_bytes("17")
    (4194304, 32000000, 17)
    """
    return _whole(value, _read(value, _BYTE_UNITS, True, "size", _BYTE_FORMS), "bytes", _BYTE_FORMS)


def parse_rate_mbps(value: int | str) -> int:
    """Read a rate.

    Parameters
    ----------
    value
        Mb/s as an int, or text with a unit of bits (``Gbps``, ``Gb/s``) or bytes (``GiB/s``) a second.

    Returns
    -------
    int
        Mb/s (10^6 bits a second), at least 1, rounded to the nearest.

    Raises
    ------
    ValueError
        When it is zero, negative, not a number, or has no or an unknown unit.

    >>> parse_rate_mbps("400Gbps"), parse_rate_mbps("50GB/s"), parse_rate_mbps("50GiB/s")
    (400000, 400000, 429497)
    """
    amount = _read(value, _RATE_UNITS, False, "rate", _RATE_FORMS)
    if amount == 0:
        raise ValueError(f"found {value!r}, a rate of zero; allowed: {_RATE_FORMS}")
    if isinstance(value, str) and amount > 0:
        amount = max(1, int((amount + 500_000) // 1_000_000))
    return _whole(value, amount, "Mb/s", _RATE_FORMS)


def _significant(amount: int, unit: int) -> tuple[str, bool]:
    """Return amount / unit to four significant digits, rounded half up, and whether that is exact."""
    digits = len(str(amount // unit))
    places = max(0, 4 - digits)
    scaled = (amount * 10**places * 2 + unit) // (2 * unit)
    text = str(scaled)
    if places:
        text = text.rjust(places + 1, "0")
        text = f"{text[:-places]}.{text[-places:]}".rstrip("0").rstrip(".")
    return text, scaled * unit == amount * 10**places


def _scaled(amount: int, ladder: list[tuple[str, int]]) -> tuple[str, bool]:
    """Return amount in the largest unit of the ascending ladder in which it is at least 1."""
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    name, unit = ladder[0]
    for next_name, next_unit in ladder[1:]:
        # What would print as 1000 (or 1024) of one unit is 1 of the next.
        if amount < next_unit and float(_significant(amount, unit)[0]) < next_unit // unit:
            break
        name, unit = next_name, next_unit
    text, exact = _significant(amount, unit)
    return f"{sign}{text} {name}", exact


_TIME_LADDER = [("ps", ps), ("ns", ns), ("us", us), ("ms", ms), ("s", s)]
_BYTE_LADDER = [("B", 1), ("KB", KB), ("MB", MB), ("GB", GB), ("TB", TB), ("PB", PB)]
_BINARY_LADDER = [("B", 1), ("KiB", KiB), ("MiB", MiB), ("GiB", GiB), ("TiB", TiB), ("PiB", PiB)]
_RATE_LADDER = [("Mb/s", Mbps), ("Gb/s", Gbps), ("Tb/s", Tbps)]


def format_time(time_ps: int) -> str:
    """Write a time in picoseconds to four significant digits.

    >>> format_time(1_234_000_000), format_time(600_000), format_time(0)
    ('1.234 ms', '600 ns', '0 ps')
    """
    return _scaled(int(time_ps), _TIME_LADDER)[0]


def format_bytes(size: int) -> str:
    """Write a size in bytes: binary units where only they are exact (or shorter), decimal ones otherwise.

    >>> format_bytes(4 * MiB), format_bytes(2 * MB), format_bytes(1_234_567)
    ('4 MiB', '2 MB', '1.235 MB')
    """
    decimal, decimal_exact = _scaled(int(size), _BYTE_LADDER)
    binary, binary_exact = _scaled(int(size), _BINARY_LADDER)
    if binary_exact and (not decimal_exact or len(binary) < len(decimal)):
        return binary
    return decimal


def format_rate(rate_mbps: int) -> str:
    """Write a rate in Mb/s.

    >>> format_rate(400_000), format_rate(1)
    ('400 Gb/s', '1 Mb/s')
    """
    return _scaled(int(rate_mbps), _RATE_LADDER)[0]
