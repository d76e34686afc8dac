"""What is swept: the values of each key, how points are taken from them, and what is asked of the results."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from fabricsim.errors import ConfigError, Problem, nearest, unknown_name
from fabricsim.sweep.point import Point, cluster_sources, replay_options
from fabricsim.sweep.toml import read_sweep_file
from fabricsim.sweep.values import MAX_VALUES, Interval, Value, parse_values
from fabricsim.sweep.workloads import option_problems, workload_digest

__all__ = ["SAMPLINGS", "Factor", "Objective", "Sweep"]

#: How points are taken from the values.
SAMPLINGS: Mapping[str, str] = {
    "grid": "every combination",
    "random": "so many points, each value drawn by itself",
    "latin": "so many points, each range of values met evenly (Latin hypercube)",
}

#: What keys begin with; ``layout`` is those options of the workload that lay its ranks out.
_ROOMS = ("cluster", "workload", "layout", "replay")
_ALONE = ("cluster", "workload", "seed")

#: Figures that are better the greater they are.
_GREATER = ("mfu", "hfu", "goodput", "algbw_gbs", "busbw_gbs", "gbs", "write_gbs", "read_gbs")


@dataclass(frozen=True, slots=True)
class Objective:
    """A figure of the summary to be made small, or great.

    >>> Objective.parse("max:training.tokens_per_s"), Objective.parse("end_ps").sign
    (Objective(path='training.tokens_per_s', greatest=True), 1)
    """

    path: str
    greatest: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a path, by itself or after ``min:`` or ``max:``; rates and shares of use are made great."""
        how, colon, path = text.partition(":")
        if colon and how in ("min", "max"):
            return cls(path, how == "max")
        last = text.rsplit(".", 1)[-1]
        return cls(text, last in _GREATER or "_per_s" in last)

    @property
    def sign(self) -> int:
        """What the figure is multiplied with so that less is better."""
        return -1 if self.greatest else 1

    def __str__(self) -> str:
        return f"{'max' if self.greatest else 'min'}:{self.path}"


@dataclass(frozen=True, slots=True)
class Factor:
    """Keys that vary together: one by itself, or several in pairs; ``values`` has a row a choice."""

    keys: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...] = ()
    interval: Interval | None = None

    @property
    def name(self) -> str:
        """The keys, with commas between."""
        return ",".join(self.keys)

    def at(self, share: float) -> tuple[Value, ...]:
        """Return the values at a share of the range, 0 to 1."""
        if self.interval is not None:
            return (self.interval.at(share),)
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Points to be emulated, as a frozen value; every error of its making is told at once.

    Parameters
    ----------
    fixed
        Values that all points share, by key: ``cluster`` (a file or preset), ``cluster.transport.mtu`` and
        any other key of a cluster file, ``workload`` (as ``make_trace`` takes it), ``workload.ranks`` and any
        other option of it (``layout.tp`` is the same as ``workload.tp``), ``seed``, ``replay.max_time`` and
        other parameters of ``fabricsim.replay``.
    vary
        The values of the keys that vary: a list, or a text that ``parse_values`` reads.
    paired
        Groups of keys that vary together: lists of one length each.
    sampling
        A key of ``SAMPLINGS``.
    points
        How many, with ``random`` and ``latin``.
    sample_seed
        Of the draws; those of a key do not depend on the other keys.
    objectives
        Paths of figures of the summary, see ``Objective.parse``; two give a Pareto front.

    Raises
    ------
    ConfigError
        With all that is wrong.

    >>> sweep = Sweep(
    ...     fixed={"cluster": "demo-64-400g-roce", "workload": "collective", "workload.kind": "all_reduce"},
    ...     vary={"workload.ranks": "8:64:*2", "workload.size": ["1MiB", "16MiB"]},
    ... )
    >>> sweep
    <Sweep: 8 points, grid of workload.ranks (4) and workload.size (2)>
    """

    fixed: Mapping[str, Value] = field(default_factory=dict)
    vary: Mapping[str, Sequence[Value] | str] = field(default_factory=dict)
    paired: Sequence[Mapping[str, Sequence[Value] | str]] = ()
    sampling: str = "grid"
    points: int | None = None
    sample_seed: int = 1
    objectives: Sequence[str] = ("end_ps",)
    where: str = field(default="sweep", repr=False)
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        fixed, factors, found = self._parsed
        problems = list(found)
        given = [*fixed, *(key for factor in factors for key in factor.keys)]
        for key in sorted({key for key in given if given.count(key) > 1}):
            problems.append(Problem(self._place(key), f"{key} is given twice, allowed: once"))
        problems += [
            Problem(self._place(key), text) for key in dict.fromkeys(given) if (text := _unknown(key))
        ]
        for name in ("cluster", "workload"):
            if name not in given:
                problems.append(
                    Problem(self.where, f"no {name} is given, allowed: one, or several that vary")
                )
        problems += self._sampling_problems(factors)
        if not self.objectives or not all(isinstance(one, str) and one for one in self.objectives):
            text = f"found {self.objectives!r}, allowed: one path of a figure, or several"
            problems.append(Problem(f"{self.where}:objective", text))
        problems += [Problem(self._place(k), _NO_NUMBER) for k, value in fixed.items() if _endless(value)]
        if not problems:
            problems += self._option_problems(fixed, factors)
        if problems:
            raise ConfigError(problems)

    # ---- checks

    @cached_property
    def _parsed(self) -> tuple[dict[str, Value], tuple[Factor, ...], tuple[Problem, ...]]:
        """What does not vary, what does, and what is wrong with the values."""
        problems: list[Problem] = []
        factors = tuple(self._factors(problems))
        return {_key(key): value for key, value in self.fixed.items()}, factors, tuple(problems)

    def _place(self, key: str) -> str:
        parts = tuple(key.split("."))
        for table in ("vary", "set"):
            for size in range(len(parts), 0, -1):
                for loc in ((table, *parts[:size]), (table, ".".join(parts[:size]))):
                    if loc in self.lines:
                        return f"{self.where}:{self.lines[loc]}:{key}"
        return f"{self.where}:{key}"

    def _factors(self, problems: list[Problem]) -> list[Factor]:
        found: list[Factor] = []
        for name, given in self.vary.items():
            key = _key(name)
            values = self._values(key, given, problems)
            if len(values) == 1 and isinstance(values[0], Interval):
                found.append(Factor((key,), interval=values[0]))
            elif values:
                found.append(Factor((key,), tuple((value,) for value in values)))
        for group in self.paired:
            columns = {_key(name): self._values(_key(name), given, problems) for name, given in group.items()}
            lengths = {key: len(values) for key, values in columns.items()}
            if len(set(lengths.values())) > 1 or not lengths:
                told = ", ".join(f"{key} has {n}" for key, n in lengths.items()) or "no key"
                problems.append(Problem(f"{self.where}:zip", f"{told}, allowed: as many values of each"))
            elif any(isinstance(value, Interval) for values in columns.values() for value in values):
                problems.append(Problem(f"{self.where}:zip", "found an interval, allowed: lists and ranges"))
            else:
                found.append(Factor(tuple(columns), tuple(zip(*columns.values(), strict=True))))
        return found

    def _values(self, key: str, given: Sequence[Value] | str, problems: list[Problem]) -> list[Any]:
        if isinstance(given, str):
            try:
                values = parse_values(given)
            except ValueError as error:
                problems.append(Problem(self._place(key), str(error)))
                return []
        elif isinstance(given, Iterable) and not isinstance(given, Mapping):
            values = list(given)
        else:
            problems.append(Problem(self._place(key), f"found {given!r}, allowed: a list, or a text"))
            return []
        if any(_endless(value) for value in values):
            problems.append(Problem(self._place(key), _NO_NUMBER))
        if not values:
            problems.append(Problem(self._place(key), "found no values, allowed: at least one"))
        return values

    def _sampling_problems(self, factors: Sequence[Factor]) -> list[Problem]:
        problems = []
        if self.sampling not in SAMPLINGS:
            text = unknown_name("sampling", str(self.sampling), SAMPLINGS)
            problems.append(Problem(f"{self.where}:sampling", text))
        if self.sampling == "grid":
            if self.points is not None:
                text = f"found {self.points}, allowed with random and latin; a grid has all points"
                problems.append(Problem(f"{self.where}:points", text))
            intervals = [one for one in factors if one.interval is not None]
            text = "found the interval {}, allowed in a grid: a list or a range first:last:step"
            problems += [Problem(self._place(one.name), text.format(f"{one.interval}")) for one in intervals]
            count = math.prod(len(one.values) for one in factors if one.interval is None)
        else:
            count = 1 if self.points is None else self.points
            if self.points is None or self.points < 1:
                text = f"found {self.points}, allowed with {self.sampling}: at least 1"
                problems.append(Problem(f"{self.where}:points", text))
        if count > MAX_VALUES:
            problems.append(Problem(self.where, f"found {count} points, allowed: at most {MAX_VALUES}"))
        return problems

    def _option_problems(self, fixed: Mapping[str, Value], factors: Sequence[Factor]) -> list[Problem]:
        """Say which workloads, options and seeds are not known: those that no point could be built with."""
        values = _values_by_key(fixed, factors)
        problems = []
        options = [key.removeprefix("workload.") for key in values if key.startswith("workload.")]
        names = values["workload"]
        wrong = {}
        for name in names:
            if not isinstance(name, str):
                problems.append(Problem(self._place("workload"), f"found {name!r}, allowed: a text"))
                continue
            # With several workloads an option need only be one of them.
            wrong[name] = set(option_problems(name, options if len(names) == 1 else ()))
        problems += [
            Problem(self._place("workload"), text) for each in wrong.values() for text in sorted(each)
        ]
        for value in values["cluster"]:
            if not isinstance(value, str):
                problems.append(Problem(self._place("cluster"), f"found {value!r}, allowed: a text"))
        for value in values.get("seed", ()):
            if isinstance(value, bool) or not isinstance(value, int):
                problems.append(Problem(self._place("seed"), f"found {value!r}, allowed: a whole number"))
        return problems

    # ---- making

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        fixed: Mapping[str, Value] | None = None,
        vary: Mapping[str, str] | None = None,
        paired: Sequence[Mapping[str, str]] = (),
        **others: Any,
    ) -> Self:
        """Read a sweep file, with values that come on top of it.

        Parameters
        ----------
        source
            A TOML file; None to do with the values alone.
        fixed, vary
            Replace what the file has for the same key, wherever it has it.
        paired
            Further groups.
        others
            ``sampling``, ``points``, ``sample_seed``, ``objectives``; None leaves what the file says.

        Raises
        ------
        ConfigError
            With every problem and its place.
        """
        data: dict[str, Any] = {"fixed": {}, "vary": {}, "paired": []}
        if source is not None:
            data |= read_sweep_file(Path(source))
        above_fixed = {_key(key): value for key, value in (fixed or {}).items()}
        above_vary = {_key(key): value for key, value in (vary or {}).items()}
        for name, above in (("fixed", above_fixed), ("vary", above_vary)):
            below = {_key(key): value for key, value in data[name].items()}
            below = {key: value for key, value in below.items() if key not in above_fixed | above_vary}
            data[name] = below | above
        data["paired"] = [*data["paired"], *paired]
        return cls(**data | {key: value for key, value in others.items() if value is not None})

    def replace(self, **changes: Any) -> Self:
        """Return a sweep with some of its parameters changed."""
        return dataclasses.replace(self, **changes)

    # ---- points

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What varies, the keys that vary together as one."""
        return self._parsed[1]

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that vary."""
        return tuple(key for factor in self.factors for key in factor.keys)

    @property
    def goals(self) -> tuple[Objective, ...]:
        """The objectives, read."""
        return tuple(map(Objective.parse, self.objectives))

    def settings(self) -> list[dict[str, Value]]:
        """Return the values of what varies of every point, in order; equal points are given once."""
        made = [
            dict(zip(self.varied, itertools.chain.from_iterable(row), strict=True)) for row in self._rows()
        ]
        return list({repr(list(setting.items())): setting for setting in made}.values())

    def _rows(self) -> Iterator[tuple[tuple[Value, ...], ...]]:
        if self.sampling == "grid":
            yield from itertools.product(*(factor.values for factor in self.factors))
            return
        n = self.points or 1
        shares = [self._shares(factor, n) for factor in self.factors]
        for index in range(n):
            yield tuple(f.at(share[index]) for f, share in zip(self.factors, shares, strict=True))

    def _shares(self, factor: Factor, n: int) -> list[float]:
        """Draw where in a factor's range each point lies; the draws belong to the seed and its keys."""
        draws = random.Random(f"{self.sample_seed}/{factor.name}")
        if self.sampling == "random":
            return [draws.random() for _ in range(n)]
        strata = [stratum for _, stratum in sorted((draws.random(), index) for index in range(n))]
        return [(stratum + draws.random()) / n for stratum in strata]

    @cached_property
    def all_points(self) -> tuple[Point, ...]:
        """Every point, in order.

        Raises
        ------
        ConfigError, InputError
            When a file that points are made from cannot be read.
        """
        fixed = self._parsed[0]
        clusters: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}
        workloads: dict[str, str | None] = {}
        found = []
        for setting in self.settings():
            given = fixed | setting
            name, workload = given["cluster"], given["workload"]
            if name not in clusters:
                clusters[name] = _cluster(name)
            if workload not in workloads:
                workloads[workload] = workload_digest(workload)
            data, sources = clusters[name]
            file = workloads[workload]
            found.append(
                Point(
                    given=given,
                    cluster=data,
                    overrides=tuple(_under("cluster", given).items()),
                    workload=str(Path(workload).resolve()) if file and Path(workload).is_file() else workload,
                    options=_under("workload", given),
                    seed=given.get("seed", 1),
                    replay=_under("replay", given),
                    sources=sources | ({"workload": file} if file else {}),
                )
            )
        return tuple(found)

    def plan(self) -> dict[str, Any]:
        """Return what ``sweep.json`` holds: the points with what varies, and what is asked of them."""
        return {
            "fixed": dict(self._parsed[0]),
            "factors": [list(factor.keys) for factor in self.factors],
            "sampling": self.sampling,
            "objectives": [str(goal) for goal in self.goals],
            "points": [[point.name, *(point.given[key] for key in self.varied)] for point in self.all_points],
        }

    def __repr__(self) -> str:
        shown = [
            f"{one.name} ({one.interval if one.interval is not None else len(one.values)})"
            for one in self.factors
        ]
        of = f" of {' and '.join(shown)}" if shown else ""
        return f"<Sweep: {len(self.settings())} points, {self.sampling}{of}>"


_NO_NUMBER = "found inf or nan, allowed: a finite number"


def _endless(value: Value) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _key(key: str) -> str:
    """Return a key under its one name: ``layout.tp`` is ``workload.tp``, and ``step-time`` ``step_time``."""
    room, dot, rest = key.strip().partition(".")
    if room == "layout" and dot:
        room = "workload"
    return (
        f"{room}.{rest.replace('-', '_')}" if dot and room in ("workload", "replay") else f"{room}{dot}{rest}"
    )


def _unknown(key: str) -> str:
    """Say what is wrong with a key; nothing when it may be one."""
    room, dot, rest = key.partition(".")
    if dot and rest and room == "replay":
        known = replay_options()
        unknown = rest not in {*known, *known.values()}
        return unknown_name("option of a replay", rest, known) if unknown else ""
    if (dot and rest and room in _ROOMS) or (not dot and key in _ALONE):
        return ""
    guess = nearest(room, (*_ROOMS, "seed"))
    hint = f"; did you mean {guess!r}?" if guess and guess != room else ""
    allowed = "cluster, cluster.KEY, workload, workload.OPTION, layout.OPTION, replay.OPTION or seed"
    return f"found the key {key!r}{hint}, allowed: {allowed}"


def _under(room: str, given: Mapping[str, Value]) -> dict[str, Value]:
    return {key[len(room) + 1 :]: value for key, value in given.items() if key.startswith(f"{room}.")}


def _values_by_key(fixed: Mapping[str, Value], factors: Sequence[Factor]) -> dict[str, list[Value]]:
    found = {key: [value] for key, value in fixed.items()}
    for factor in factors:
        for index, key in enumerate(factor.keys):
            found[key] = [row[index] for row in factor.values]
    return found


def _cluster(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of a cluster file or preset, and the digests of all that it is made from."""
    from fabricsim.cluster_file import layers_of_file

    data = layers_of_file(name).merged()
    return data, cluster_sources(data)
