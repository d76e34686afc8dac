"""The parameter tables of the core, and the one rule by which a configuration names units.

A value whose name ends in a unit (``_bytes``, ``_ps``, ``_mbps``, ``_ppm``, ``_count``) can be written in two
ways: under its full name as an integer of that unit (``ecn_kmin_bytes = 400000``), or under the name less the
unit as people write it (``ecn_kmin = "400KB"``, ``rto = "4ms"``, ``min_rate = "1Gbps"``, ``ecn_pmax =
"20%"``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

from fabricsim.errors import EngineError, nearest
from fabricsim.units import (
    format_bytes,
    format_rate,
    format_time,
    parse_bytes,
    parse_rate_mbps,
    parse_time_ps,
)

__all__ = ["UNITS", "Parameter", "ParameterTable", "Unit", "parameter_table", "read_values", "split_unit"]

INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Unit:
    """How values of one unit are written by people: ``parse`` reads them, ``show`` writes them."""

    noun: str
    example: str
    parse: Callable[[Any], int]
    show: Callable[[int], str]


def _parse_time(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value != 0:
        raise ValueError(
            f"found {value}, a time without a unit; allowed: a time with its unit, such as '600ns'"
        )
    return parse_time_ps(value)


def _parse_rate(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value != 0:
        raise ValueError(
            f"found {value}, a rate without a unit; allowed: a rate with its unit, such as '400Gbps'"
        )
    return 0 if value == 0 and not isinstance(value, bool) else parse_rate_mbps(value)


def _parse_ppm(value: Any) -> int:
    """Read a share of one (0.2) or a percentage ("20%") as parts per million."""
    forms = "allowed: a share such as 0.2 or a percentage such as '20%', a whole number of parts per million"
    text = value.strip() if isinstance(value, str) else value
    try:
        if isinstance(text, bool):
            raise ValueError
        if isinstance(text, str):
            share = Fraction(text[:-1]) / 100 if text.endswith("%") else Fraction(text)
        else:
            share = Fraction(repr(text))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"found {value!r}, which is no share; {forms}") from None
    ppm = share * 1_000_000
    if ppm < 0 or ppm.denominator != 1:
        raise ValueError(f"found {value!r}; {forms}")
    return int(ppm)


def _parse_count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"found {value!r}, allowed: a whole number")
    return value


def _show_ppm(value: int) -> str:
    return f"{value / 10_000:.6g} %"


#: The units that may end a name.
UNITS: Mapping[str, Unit] = {
    "bytes": Unit("bytes", '"4KB"', parse_bytes, format_bytes),
    "ps": Unit("ps", '"600ns"', _parse_time, format_time),
    "mbps": Unit("Mb/s", '"400Gbps"', _parse_rate, format_rate),
    "ppm": Unit("ppm", '"20%" or 0.2', _parse_ppm, _show_ppm),
    "count": Unit("", "5", _parse_count, str),
}


def split_unit(name: str) -> tuple[str, str]:
    """Return a name less its unit, and the unit (empty when it has none).

    >>> split_unit("ecn_kmin_bytes"), split_unit("hash_seed")
    (('ecn_kmin', 'bytes'), ('hash_seed', ''))
    """
    stem, _, suffix = name.rpartition("_")
    return (stem, suffix) if stem and suffix in UNITS else (name, "")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of one implementation of a room, as the core states it.

    Parameters
    ----------
    room, impl, name
        Where it belongs, such as ``transport``, ``roce``, ``mtu_bytes``.
    unit
        The unit as the core prints it; what counts for reading is the ending of the name.
    default, minimum, maximum
        Integers of that unit.
    meaning, source
        One sentence, and where the default comes from.
    """

    room: str
    impl: str
    name: str
    unit: str
    default: int
    minimum: int
    maximum: int
    meaning: str
    source: str

    @property
    def allowed(self) -> str:
        """The range with its unit, for error messages."""
        unit = UNITS.get(split_unit(self.name)[1])
        noun = f" {unit.noun}" if unit and unit.noun else ""
        if self.maximum >= INT64_MAX:
            return f"a whole number >= {self.minimum}{noun}"
        return f"{self.minimum} to {self.maximum}{noun}"

    def show(self, value: int) -> str:
        """Write a value for people."""
        unit = UNITS.get(split_unit(self.name)[1])
        return unit.show(value) if unit else str(value)


@dataclass(frozen=True)
class ParameterTable:
    """What the core implements: the names of each room, and the parameters of each name.

    ``collectives`` holds the algorithms of each kind of collective, as the core lists them.
    """

    implementations: Mapping[str, tuple[str, ...]]
    parameters: Mapping[tuple[str, str], Mapping[str, Parameter]] = field(repr=False)
    collectives: Mapping[str, tuple[str, ...]] = field(repr=False, default_factory=dict)

    @classmethod
    def from_engine(
        cls,
        implementations: Mapping[str, Iterable[str]],
        params: Iterable[Mapping[str, Any]],
        summaries: Iterable[tuple[str, str, str, Iterable[str]]] = (),
    ) -> ParameterTable:
        """Build the table from what the engine's functions of the same names return."""
        rooms = {room: tuple(names) for room, names in implementations.items()}
        tables: dict[tuple[str, str], dict[str, Parameter]] = {
            (room, name): {} for room, names in rooms.items() for name in names
        }
        for row in params:
            parameter = Parameter(
                room=row["room"],
                impl=row["impl"],
                name=row["name"],
                unit=row["unit"],
                default=int(row["default"]),
                minimum=int(row["min"]),
                maximum=int(row["max"]),
                meaning=row["meaning"],
                source=row["source"],
            )
            tables.setdefault((parameter.room, parameter.impl), {})[parameter.name] = parameter
        algorithms: dict[str, tuple[str, ...]] = {}
        for room, name, _, kinds in summaries:
            for kind in kinds if room == "coll" else ():
                algorithms[kind] = (*algorithms.get(kind, ()), name)
        return cls(rooms, tables, algorithms)

    def of(self, room: str, impl: str) -> Mapping[str, Parameter]:
        """Return the parameters of one implementation by full name; empty when it has none."""
        return self.parameters.get((room, impl), {})

    def defaults(self, room: str, impl: str) -> dict[str, int]:
        """Return the default of each parameter of one implementation."""
        return {name: p.default for name, p in self.of(room, impl).items()}


@lru_cache(maxsize=1)
def parameter_table() -> ParameterTable:
    """Return the tables of the compiled core.

    Raises
    ------
    EngineError
        When the core is not built.
    """
    try:
        import fabricsim._core.engine as engine
    except ImportError as error:
        raise EngineError(f"the compiled core of fabricsim cannot be loaded: {error}") from error
    return ParameterTable.from_engine(engine.implementations(), engine.params(), engine.summaries())


def short_names(full_names: Iterable[str]) -> dict[str, str]:
    """Return short name -> full name for those whose short name is not taken by another.

    >>> short_names(["mtu_bytes", "window_bytes", "window_count", "hash_seed"])
    {'mtu': 'mtu_bytes'}
    """
    full = list(full_names)
    stems: dict[str, list[str]] = {}
    for name in full:
        stem, unit = split_unit(name)
        if unit:
            stems.setdefault(stem, []).append(name)
    return {stem: names[0] for stem, names in stems.items() if len(names) == 1 and stem not in full}


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that a key is unknown, which are known, and which is nearest."""
    names = sorted(set(known))
    guess = nearest(key, names)
    hint = f"; did you mean {guess!r}?" if guess else ""
    return f"unknown key{hint} (known: {', '.join(names) or 'none'})"


def read_values(
    section: Mapping[str, Any], table: Mapping[str, Parameter], reserved: Iterable[str] = ()
) -> tuple[dict[str, int], list[tuple[str, str, Any]]]:
    """Read the parameters that a section gives, by the rule of units, against a table.

    Parameters
    ----------
    section
        Keys as a configuration gives them, without the reserved ones.
    table
        The known parameters by full name.
    reserved
        Other keys that the section knows, only to be named in messages.

    Returns
    -------
    tuple
        Values by full name, and problems as (key, message, value found); all problems, not the first.
    """
    short = short_names(table)
    known = [*reserved, *short, *(name for name in table if split_unit(name)[0] not in short)]
    values: dict[str, int] = {}
    given_as: dict[str, str] = {}
    problems: list[tuple[str, str, Any]] = []
    for key, value in section.items():
        name = key if key in table else short.get(key)
        if name is None:
            problems.append((key, unknown_key(key, known), value))
            continue
        if name in given_as:
            problems.append((key, f"given twice, also as {given_as[name]!r}; allowed: one of the two", value))
            continue
        given_as[name] = key
        parameter = table[name]
        try:
            number = _read_number(key, name, parameter, value)
        except ValueError as error:
            problems.append((key, str(error), value))
            continue
        if not parameter.minimum <= number <= parameter.maximum:
            problems.append((key, f"found {value!r}, allowed: {parameter.allowed}", value))
            continue
        values[name] = number
    return {name: values[name] for name in table if name in values}, problems


def _read_number(key: str, name: str, parameter: Parameter, value: Any) -> int:
    stem, suffix = split_unit(name)
    if key != name:
        return UNITS[suffix].parse(value)
    is_switch = (parameter.minimum, parameter.maximum) == (0, 1)
    if isinstance(value, bool) and is_switch:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        allowed = "true or false" if is_switch else parameter.allowed
        other = f" (or {stem} = {UNITS[suffix].example})" if suffix and suffix != "count" else ""
        raise ValueError(f"found {value!r}, allowed: {allowed}{other}")
    return value
