"""The values that a key of a sweep takes: lists, ranges by steps or factors, and intervals to draw from."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from fabricsim.units import parse_bytes, parse_rate_mbps, parse_time_ps

__all__ = ["MAX_VALUES", "Interval", "Value", "number_of", "parse_values", "split_list"]

#: A value of a key, as TOML has it: a number, true or false, a text, a list.
Value = Any

#: Values of a range, at most.
MAX_VALUES = 1_000_000

_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_]*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([^\d\s.:*][^:]*?)?\s*")
_FORMS = "a list v1,v2,..., a range first:last:step, first:last:*factor or first:last:logN, or low..high"


@dataclass(frozen=True, slots=True)
class Interval:
    """What random and Latin-hypercube samples of a number are drawn from.

    Parameters
    ----------
    low, high
        The ends, in the unit.
    decimals
        Draws are rounded to so many; those that the ends are written with.
    unit
        Behind each number; empty when it has none.
    log
        Whether it is the logarithm that is drawn evenly; then ``low`` is more than 0.

    >>> parse_values("1us..9us")[0].at(0.5)
    '5us'
    """

    low: Decimal
    high: Decimal
    decimals: int
    unit: str
    log: bool = False

    def at(self, share: float) -> Value:
        """Return the value at a share of the interval, 0 to 1: text with a unit, else a number."""
        # Half a step of the rounding beyond the ends, so that they are drawn as often as others.
        low, high, half = float(self.low), float(self.high), 0.5 / 10**self.decimals
        begin, end = low - half, high + half
        number = (
            begin * math.exp(share * math.log(end / begin)) if self.log else begin + share * (end - begin)
        )
        return _written(Fraction(min(max(round(number, self.decimals), low), high)), self.decimals, self.unit)

    def __str__(self) -> str:
        return f"{self.low}{self.unit}..{self.high}{self.unit}" + (" log" if self.log else "")


def split_list(text: str, mark: str = ",") -> list[str]:
    """Split a text at a mark, but not inside brackets or quotes.

    >>> split_list('1, [2, 3], "a,b"')
    ['1', '[2, 3]', '"a,b"']
    """
    parts, depth, quote, begin = [], 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "[{(":
            depth += 1
        elif char in "]})":
            depth -= 1
        elif char == mark and depth <= 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [part.strip() for part in [*parts, text[begin:]]]


def parse_values(text: str) -> list[Value | Interval]:
    """Read the values of a key as the command line and sweep files write them.

    Parameters
    ----------
    text
        Values and ranges with commas between. A range is ``first:last:step``, ``first:last:*factor`` or
        ``first:last:logN`` (N values at even distances of the logarithm); its ends may have a unit, and it
        includes ``last`` where the steps meet it. ``low..high`` and ``low..high log`` are intervals.

    Raises
    ------
    ValueError
        When a range is not possible.

    >>> parse_values("ecmp,spray"), parse_values("1:4:1"), parse_values("64KiB:1MiB:*4")
    (['ecmp', 'spray'], [1, 2, 3, 4], ['64KiB', '256KiB', '1024KiB'])
    >>> parse_values("1:1000:log4"), parse_values('"1:2",true')
    ([1, 10, 100, 1000], ['1:2', True])
    """
    found: list[Value | Interval] = []
    for part in split_list(text):
        if not part:
            raise ValueError(f"found {text!r} with an empty value, allowed: {_FORMS}")
        interval = _interval(part)
        if interval is not None:
            found.append(interval)
            continue
        pieces = part.split(":")
        if len(pieces) > 1 and part[0] not in "\"'[{" and _NUMBER.fullmatch(pieces[0]):
            found += _range(part, pieces)
        else:
            found.append(read_value(part))
    if len(found) > 1 and any(isinstance(value, Interval) for value in found):
        raise ValueError(f"found {text!r}, allowed: an interval low..high alone")
    return found


def read_value(text: str) -> Value:
    """Read one value: as TOML where it is TOML, else as the text that it is."""
    try:
        read = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return read["value"] if set(read) == {"value"} else text


def number_of(value: Value) -> float | None:
    """Return a value as a number, whatever its unit (ps, bytes or Mb/s then); None when it is none.

    >>> number_of("4KB"), number_of("2us"), number_of(True), number_of("ecmp")
    (4000.0, 2000000.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if not isinstance(value, str):
        return float(value)
    if not _NUMBER.fullmatch(value):
        return None
    for parse in (float, parse_time_ps, parse_bytes, parse_rate_mbps):
        try:
            return float(parse(value))
        except ValueError:
            continue
    return None


def _read_number(text: str) -> tuple[Decimal, str] | None:
    match = _NUMBER.fullmatch(text)
    return (Decimal(match[1].replace("_", "")), match[2] or "") if match else None


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _written(number: Fraction, decimals: int, unit: str) -> Value:
    if unit:
        shown = f"{float(number):.{decimals}f}" if decimals else str(round(number))
        return (shown.rstrip("0").rstrip(".") if decimals else shown) + unit
    return float(round(number, decimals)) if decimals else round(number)


def _factor(unit: str, other: str) -> Fraction:
    """Return how many of the first unit one of the other is."""
    if unit == other:
        return Fraction(1)
    parsers: Sequence[Callable[[str], int]] = (parse_time_ps, parse_bytes, parse_rate_mbps)
    for parse in parsers:
        try:
            return Fraction(parse(f"1{other}"), parse(f"1{unit}"))
        except ValueError:
            continue
    raise ValueError(f"found units {unit!r} and {other!r}, allowed: units of one kind at both ends")


def _interval(text: str) -> Interval | None:
    low_text, dots, high_text = text.partition("..")
    if not dots:
        return None
    log = high_text.rstrip().endswith(" log")
    low, high = _read_number(low_text), _read_number(high_text.rstrip().removesuffix(" log"))
    if low is None or high is None:
        return None
    if low[1] != high[1]:
        raise ValueError(f"found {text!r}, allowed: the same unit at both ends of an interval")
    if not low[0] < high[0] or (log and low[0] <= 0):
        raise ValueError(f"found {text!r}, allowed: {'0 < ' if log else ''}low < high")
    return Interval(low[0], high[0], max(_decimals(low[0]), _decimals(high[0])), low[1], log)


def _range(text: str, pieces: list[str]) -> list[Value]:
    """Return the values of a range, in the unit of its first end."""
    ends = [_read_number(piece) for piece in pieces[:2]]
    if len(pieces) != 3 or ends[0] is None or ends[1] is None:
        raise ValueError(f"found {text!r}, allowed: {_FORMS}")
    (first, unit), (last, other) = ends[0], ends[1]
    begin, end = Fraction(first), Fraction(last) * _factor(unit, other)
    decimals = max(_decimals(first), _decimals(last))
    how = pieces[2].strip()
    if how.startswith("log"):
        return _spaced(text, begin, end, how[3:], decimals, unit)
    step = _read_number(how.removeprefix("*"))
    if step is None:
        raise ValueError(f"found {text!r}, allowed: {_FORMS}")
    if how.startswith("*"):
        factor = Fraction(step[0])
        if step[1] or begin <= 0 or end <= 0 or factor <= 0 or (factor > 1) != (end > begin) or factor == 1:
            raise ValueError(f"found {text!r}, allowed: ends above 0 and a factor that leads from one on")
        values, number = [], begin
        while number == end or (number < end) == (factor > 1):
            places = decimals if (number * 10**decimals).denominator == 1 else max(decimals, 6)
            values.append(_written(number, places, unit))
            number *= factor
            _check_count(text, len(values))
        return values
    width = Fraction(step[0]) * _factor(unit, step[1] or unit)
    if width == 0 or (end - begin) / width < 0:
        raise ValueError(f"found {text!r}, allowed: a step that leads from the first end to the last")
    count = int((end - begin) / width) + 1
    _check_count(text, count)
    decimals = max(decimals, _decimals(step[0]))
    if step[1] and (width * 10**decimals).denominator != 1:
        decimals += 6
    return [_written(begin + index * width, decimals, unit) for index in range(count)]


def _spaced(text: str, begin: Fraction, end: Fraction, count: str, decimals: int, unit: str) -> list[Value]:
    if not count.isdecimal() or int(count) < 2 or begin <= 0 or end <= 0:
        raise ValueError(f"found {text!r}, allowed: first:last:logN with ends above 0 and N of 2 or more")
    n = int(count)
    _check_count(text, n)
    ratio = math.log(float(end / begin))
    inner = [float(begin) * math.exp(index / (n - 1) * ratio) for index in range(1, n - 1)]
    numbers = [begin, *(Fraction(round(number, decimals)) for number in inner), end]
    return list(dict.fromkeys(_written(number, decimals, unit) for number in numbers))


def _check_count(text: str, count: int) -> None:
    if count > MAX_VALUES:
        raise ValueError(f"found {text!r}, allowed: at most {MAX_VALUES} values")
