"""The failures of a run: drawn by rates and a seed, or listed in a file; and the corruptions among them."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc
from pydantic import ValidationError

from fabricsim.errors import ConfigError, InputError, Problem, nearest
from fabricsim.fabrics.section import issues_of
from fabricsim.goodput.config import GoodputConfig, ListedFailure
from fabricsim.goodput.draws import Floats, Int64, Stream, exp, ln, weibull_scale
from fabricsim.goodput.rates import HOUR_PS, Rate

__all__ = ["CorruptionEvent", "Failure", "corruptions_of", "draw", "failures_of", "listed", "read_failures"]

#: Failures of one component in one run, at most.
MOST_EVENTS = 200_000


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """A failure: ``at_ps``, the number of its component in the configuration, and which item it is."""

    at_ps: int
    component: int
    item: int


@dataclass(frozen=True, slots=True, order=True)
class CorruptionEvent:
    """A corruption: when, which source, which item; who catches it (-1 for nobody) and how late, ps."""

    at_ps: int
    source: int
    item: int
    detector: int
    late_ps: int


def draw(rate: Rate, items: int, until_ps: int, seed: int, key: str) -> tuple[Int64, Int64]:
    """Draw the failures of so many things until a time.

    Exponential times are drawn for all things together; the others thing by thing, where a thing starts anew
    with each failure.

    Returns
    -------
    tuple
        Times, ps, ascending, int64[n]; and which item each is of, int64[n].

    Raises
    ------
    ConfigError
        When there are more than 200,000.
    """
    hours = rate.mean_hours()
    if hours is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    mean_ps = hours * HOUR_PS
    if until_ps / mean_ps * items > MOST_EVENTS:
        raise ConfigError([f"{rate.name}: more than {MOST_EVENTS:,} failures, allowed: lower rates"])
    if rate.weibull_shape == 1:
        times = _pooled(mean_ps / items, until_ps, Stream(seed, key))
        return times, Stream(seed, f"{key}:item").integers(len(times), items)
    return _by_item(rate, mean_ps, items, until_ps, seed, key)


def _pooled(mean_ps: float, until_ps: int, stream: Stream) -> Int64:
    """Return the times of a Poisson process."""
    block = max(16, int(1.1 * until_ps / mean_ps))
    found: list[int] = []
    last = 0
    while True:
        gaps = np.minimum(-ln(stream.uniform(block)) * mean_ps, float(until_ps))
        # Python's integers: the sum may go beyond 63 bits before it is seen to be late enough
        for gap in gaps.astype(np.int64).tolist():
            last += gap
            if last >= until_ps:
                return np.array(found, np.int64)
            found.append(last)


def _by_item(
    rate: Rate, mean_ps: float, items: int, until_ps: int, seed: int, key: str
) -> tuple[Int64, Int64]:
    """Return the times of things that wear: the n-th life of each is a draw of the n-th stream."""
    scale, shape = weibull_scale(mean_ps, rate.weibull_shape), rate.weibull_shape
    age = rate.age_hours * HOUR_PS
    survived = _power(np.array([age / scale]), shape) if age else np.zeros(1)
    alive, begin = np.arange(items), np.zeros(items, np.int64)
    times, who = [], []
    for life in range(MOST_EVENTS):
        uniform = Stream(seed, f"{key}:life {life}").uniform(items)[alive]
        # The first life is known to have lasted until now.
        gaps = _power(survived - ln(uniform), 1 / shape) * scale - age
        age, survived = 0.0, np.zeros(1)
        gaps = np.clip(gaps, 0.0, float(until_ps))
        lived = gaps.astype(np.int64)
        failed = lived < until_ps - begin
        alive, begin = alive[failed], begin[failed] + lived[failed]
        if not len(alive):
            break
        times.append(begin)
        who.append(alive)
    if not times:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at, item = np.concatenate(times), np.concatenate(who)
    order = np.lexsort((item, at))
    return at[order], item[order]


def _power(x: Floats, exponent: float) -> Floats:
    return exp(ln(x) * exponent)


def failures_of(
    config: GoodputConfig, seed: int, until_ps: int, given: Iterable[ListedFailure] = ()
) -> list[Failure]:
    """Return the failures of a run in order: drawn by the components' rates, and those given.

    The draws of a component depend on the seed, its name and its own numbers alone.
    """
    found: list[Failure] = []
    for number, component in enumerate(config.component):
        times, items = draw(component, config.items_of(component), until_ps, seed, f"fails:{component.name}")
        found += [Failure(at, number, item) for at, item in zip(times.tolist(), items.tolist(), strict=True)]
    numbers = {component.name: number for number, component in enumerate(config.component)}
    found += [Failure(e.at_ps, numbers[e.component], e.item) for e in given if e.at_ps < until_ps]
    return sorted(found)


def corruptions_of(config: GoodputConfig, seed: int, until_ps: int) -> list[CorruptionEvent]:
    """Return the corruptions of a run in order, with who catches each: the earliest, then the first told."""
    told = config.corruption
    found: list[CorruptionEvent] = []
    for number, source in enumerate(told.source if told else ()):
        assert told is not None
        key = f"corrupts:{source.name}"
        times, items = draw(source, config.items_of(source), until_ps, seed, key)
        caught = np.full(len(times), -1)
        late = np.zeros(len(times), np.int64)
        for index, detector in enumerate(told.detector):
            share = detector.covers(source.where)
            hit = Stream(seed, f"{key}:{detector.method}").uniform(len(times)) * 1e6 < share
            better = hit & ((caught < 0) | (detector.late_ps < late))
            caught[better], late[better] = index, detector.late_ps
        rows = zip(times.tolist(), items.tolist(), caught.tolist(), late.tolist(), strict=True)
        found += [CorruptionEvent(at, number, item, who, lag) for at, item, who, lag in rows]
    return sorted(found)


def listed(config: GoodputConfig) -> list[ListedFailure]:
    """Return the failures that a configuration lists, its file's too.

    Raises
    ------
    InputError
        With every bad row of the file.
    """
    found = list(config.event)
    if config.events is not None:
        found += read_failures(config.events, [component.name for component in config.component])
    return found


def read_failures(path: str | Path, components: Iterable[str]) -> list[ListedFailure]:
    """Read failures from a CSV, an Arrow IPC file, or a TOML file of ``[[event]]``.

    The columns are ``at_ps`` (or ``at``, with a unit), ``component`` and, optionally, ``item``.

    Raises
    ------
    InputError
        With every bad row.
    """
    path, known = Path(path), list(components)
    problems: list[Problem] = []
    found = []
    for place, row in _rows(path):
        try:
            event = ListedFailure.model_validate(row)
        except ValidationError as error:
            problems += [
                Problem(":".join([f"{path}:{place}", *map(str, loc)]), text)
                for loc, text, _ in issues_of(error)
            ]
            continue
        if event.component not in known:
            guess = nearest(event.component, known)
            hint = f"; did you mean {guess!r}?" if guess else ""
            text = f"unknown component {event.component!r}{hint} (known: {', '.join(known) or 'none'})"
            problems.append(Problem(f"{path}:{place}:component", text))
        found.append(event)
    if problems:
        raise InputError(problems)
    return found


def _rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        if path.suffix == ".toml":
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            events = data.get("event", [])
            if not isinstance(events, list) or set(data) - {"event"}:
                raise InputError([Problem(str(path), "allowed: tables [[event]] and nothing else")])
            return [(f"event {i}", row) for i, row in enumerate(events)]
        if path.suffix == ".arrow":
            with ipc.open_file(path) as reader:
                rows = reader.read_all().to_pylist()
            return [(f"row {i}", _present(row)) for i, row in enumerate(rows)]
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            return [(f"line {reader.line_num}", _numbers(row)) for row in reader]
    except OSError as error:
        raise InputError([Problem(str(path), error.strerror or str(error))]) from None
    except (
        UnicodeDecodeError,
        csv.Error,
        tomllib.TOMLDecodeError,
        RecursionError,
        pa.ArrowException,
    ) as error:
        raise InputError([Problem(str(path), f"cannot be read: {error}")]) from None


def _present(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def _numbers(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row of a CSV with whole numbers as such; cells beyond the columns come under one name."""
    made: dict[str, Any] = {}
    for key, value in row.items():
        if value is None or value == "":
            continue
        whole = isinstance(value, str) and key in ("at_ps", "item") and value.strip().isdecimal()
        made["(no column)" if key is None else key] = int(value) if whole else value
    return made
