"""How much each key of a sweep matters: main effects, shares of the variance, elasticities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fabricsim.sweep.values import number_of

__all__ = ["REPEATS", "Effect", "Level", "Sensitivity", "sensitivity"]

#: Keys whose values are repetitions, whatever their numbers.
REPEATS = ("seed", "workload.seed")

# Ranges that the values of a sampled key are cut into, at most.
_MOST_BINS = 10
# What is less of the total than this is rounding.
_NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class Level:
    """One value of a key (or a range of them), the mean figure of its points, and their number."""

    value: Any
    mean: float
    points: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What one key does, or several that vary together.

    Parameters
    ----------
    keys
        The keys.
    levels
        Its values in their order.
    spread
        The greatest mean of a level less the least.
    share
        Of the variance of the figure: how much the means of the levels explain, 0 to 1; None where there are
        not points enough.
    elasticity
        Per cent that the figure changes by for one per cent of the key, the other keys kept: the slope of the
        logarithms. None where the values are no numbers above 0.
    """

    keys: tuple[str, ...]
    levels: tuple[Level, ...]
    spread: float
    share: float | None
    elasticity: float | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "keys": list(self.keys),
            "levels": [{"value": one.value, "mean": one.mean, "points": one.points} for one in self.levels],
            "spread": self.spread,
            "share": self.share,
            "elasticity": self.elasticity,
        }


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What each key does to a figure.

    Parameters
    ----------
    path
        The figure.
    points, mean
        The points that have it, and its mean.
    effects
        The greatest share first.
    remainder
        Share of the variance that no sum of effects of single keys explains: interactions. None where there
        are not points enough to tell.
    balanced
        Whether each combination of values is there once, so that shares and remainder add up to 1.
    """

    path: str
    points: int
    mean: float
    effects: tuple[Effect, ...]
    remainder: float | None
    balanced: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "objective": self.path,
            "points": self.points,
            "mean": self.mean,
            "effects": [one.to_json() for one in self.effects],
            "remainder": self.remainder,
            "balanced": self.balanced,
        }


def sensitivity(
    factors: Sequence[Sequence[str]],
    columns: Sequence[Sequence[Any]],
    figures: Sequence[float | None],
    path: str,
    *,
    grid: bool,
) -> Sensitivity | None:
    """Return what each factor does to a figure; None with fewer than two points, or where nothing varies.

    Parameters
    ----------
    factors
        Keys that vary together.
    columns
        The values of each key, a value a point.
    figures
        One a point; points without are left out.
    grid
        Whether every combination was asked for. Else values that are many are cut into ranges of equally many
        points, and shares are corrected for the number of ranges.

    >>> columns = [[1, 1, 2, 2], ["x", "y", "x", "y"]]
    >>> found = sensitivity([["a"], ["b"]], columns, [1, 2, 2, 4], "t", grid=True)
    >>> [(effect.keys, round(effect.share, 3)) for effect in found.effects], round(found.remainder, 3)
    ([(('a',), 0.474), (('b',), 0.474)], 0.053)
    """
    there = [index for index, value in enumerate(figures) if value is not None]
    if len(there) < 2:
        return None
    y = np.array([figures[index] for index in there], np.float64)
    total = float(((y - y.mean()) ** 2).sum())
    at = 0
    coded: list[tuple[tuple[str, ...], list[Any], np.ndarray, list[float] | None]] = []
    for keys in factors:
        rows = [tuple(columns[at + k][index] for k in range(len(keys))) for index in there]
        at += len(keys)
        alone = len(keys) == 1 and keys[0] not in REPEATS
        numbers = [number_of(row[0]) for row in rows] if alone else []
        known = [number for number in numbers if number is not None]
        numeric = known if known and len(known) == len(rows) else None
        names, codes = _levels(rows, numeric, grid)
        if len(names) > 1:
            coded.append((tuple(keys), names, codes, numeric))
    if not coded:
        return None
    slopes = _elasticities(y, coded)
    effects = []
    for (keys, names, codes, _), slope in zip(coded, slopes, strict=True):
        counts = np.bincount(codes, minlength=len(names))
        means = np.bincount(codes, weights=y, minlength=len(names)) / counts
        levels = tuple(
            Level(name, float(mean), int(n)) for name, mean, n in zip(names, means, counts, strict=True)
        )
        between = float((counts * (means - y.mean()) ** 2).sum())
        share = _share(between, total, len(names), len(y), grid, y)
        effects.append(Effect(keys, levels, float(means.max() - means.min()), share, slope))
    effects.sort(key=lambda one: -(one.share or 0.0))
    sizes = [len(names) for _, names, _, _ in coded]
    balanced = grid and len(there) == len(figures) == math.prod(sizes)
    remainder = _remainder(y, total, [(codes, len(names)) for _, names, codes, _ in coded], grid)
    return Sensitivity(path, len(y), float(y.mean()), tuple(effects), remainder, balanced)


def _levels(
    rows: list[tuple[Any, ...]], numbers: list[float] | None, grid: bool
) -> tuple[list[Any], np.ndarray]:
    """Return the levels of a factor in the order of its values, and which one each point has."""
    bins = max(2, min(_MOST_BINS, round(math.sqrt(len(rows)))))
    distinct = list(dict.fromkeys(map(repr, rows)))
    if not grid and numbers is not None and len(distinct) > bins:
        order = np.argsort(np.array(numbers), kind="stable")
        codes = np.empty(len(rows), np.int64)
        codes[order] = np.arange(len(rows)) * bins // len(rows)
        names = []
        for index in range(bins):
            ends = [rows[i][0] for i in order[codes[order] == index][[0, -1]]]
            names.append(f"{ends[0]}..{ends[1]}")
        return names, codes
    code = {text: index for index, text in enumerate(distinct)}
    first = {code[repr(row)]: row for row in reversed(rows)}
    names = [first[i][0] if len(first[i]) == 1 else ", ".join(map(str, first[i])) for i in range(len(code))]
    return names, np.array([code[repr(row)] for row in rows], np.int64)


def _share(between: float, total: float, levels: int, n: int, grid: bool, y: np.ndarray) -> float | None:
    if total <= _NOTHING * float((y**2).sum()):
        return 0.0
    if grid:
        return between / total
    if n <= levels:
        return None
    # Means of few points differ by chance: what that comes to is taken off (epsilon squared).
    return max(0.0, (between - (levels - 1) * (total - between) / (n - levels)) / total)


def _remainder(y: np.ndarray, total: float, coded: list[tuple[np.ndarray, int]], grid: bool) -> float | None:
    if total <= _NOTHING * float((y**2).sum()):
        return 0.0
    design = np.hstack([np.ones((len(y), 1)), *(_dummies(codes, n) for codes, n in coded)])
    if len(y) < design.shape[1] or (not grid and len(y) == design.shape[1]):
        return None
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    left = float(((y - design @ solution) ** 2).sum()) / total
    if not grid:
        left *= (len(y) - 1) / (len(y) - int(rank))
    return min(1.0, left) if left > _NOTHING else 0.0


def _dummies(codes: np.ndarray, n: int) -> np.ndarray:
    """Return a column for each level but the first: 1 where a point has it."""
    return (codes[:, None] == np.arange(1, n)[None, :]).astype(np.float64)


def _elasticities(
    y: np.ndarray, coded: list[tuple[tuple[str, ...], list[Any], np.ndarray, list[float] | None]]
) -> list[float | None]:
    """Return the slope of the figure's logarithm by that of each number, the other factors kept."""
    logs = [
        np.log(np.array(numbers)) if numbers is not None and min(numbers) > 0 else None
        for *_, numbers in coded
    ]
    if y.min() <= 0:
        return [None] * len(coded)
    target = np.log(y)
    parts = [
        log[:, None] if log is not None else _dummies(codes, len(names))
        for log, (_, names, codes, _) in zip(logs, coded, strict=True)
    ]
    design = np.hstack([np.ones((len(y), 1)), *parts])
    solution, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    whole = int(rank) == design.shape[1] <= len(y)
    slopes: list[float | None] = []
    at = 1
    for log, part in zip(logs, parts, strict=True):
        if log is None:
            slopes.append(None)
        elif whole:
            slopes.append(float(solution[at]))
        else:  # not points enough to keep the others
            apart = log - log.mean()
            slopes.append(float((apart * target).sum() / (apart**2).sum()))
        at += part.shape[1]
    return slopes
