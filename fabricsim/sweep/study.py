"""What a sweep found: its table, the best settings, and how much each key matters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import fabricsim
from fabricsim.errors import ConfigError, Problem, unknown_name
from fabricsim.sweep.config import Objective
from fabricsim.sweep.effects import REPEATS, Sensitivity, sensitivity
from fabricsim.sweep.files import Folder, figure, flatten, table_of
from fabricsim.sweep.point import COMPLETE, INVALID, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MISSING", "Setting", "Study"]

#: The status of a point that has not run.
MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Setting:
    """Values of what varies, seeds apart, with the mean figures over its points.

    Parameters
    ----------
    values
        By key.
    points
        Names of its points, one a seed.
    figures
        The mean of each objective.
    """

    values: Mapping[str, Any]
    points: tuple[str, ...]
    figures: tuple[float, ...]

    def to_json(self, goals: Sequence[Objective]) -> dict[str, Any]:
        """Return JSON types."""
        figures = {goal.path: value for goal, value in zip(goals, self.figures, strict=True)}
        return {"values": dict(self.values), "points": list(self.points), "objectives": figures}


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """The points of a sweep with what became of them.

    Parameters
    ----------
    plan
        As ``sweep.json`` has it.
    outcomes
        Of each point of the plan, in its order; None for those that have not run.
    goals
        What is asked of the figures.
    """

    plan: Mapping[str, Any]
    outcomes: Sequence[Outcome | None] = field(repr=False)
    goals: tuple[Objective, ...]

    @classmethod
    def load(cls, *folders: str | Path, objectives: Sequence[str] = ()) -> Self:
        """Read a study from the folder of a sweep, or from those of its shards.

        Parameters
        ----------
        folders
            At least one; the plan is that of the first, points are taken from wherever they are.
        objectives
            In place of those of the plan.

        Raises
        ------
        InputError
            When there is no plan.
        ConfigError
            When a figure of an objective is in no summary.
        """
        places = [Folder(folder) for folder in folders]
        plan = places[0].load_plan()
        study = cls.gather(plan, places, tuple(map(Objective.parse, objectives or plan["objectives"])))
        if objectives:
            study.check_goals()
        return study

    @classmethod
    def gather(cls, plan: Mapping[str, Any], places: Sequence[Folder], goals: tuple[Objective, ...]) -> Self:
        """Read what became of the points of a plan from some folders."""
        found = []
        for name, *_ in plan["points"]:
            loaded = (place.load(name) for place in places)
            known = [outcome for outcome in loaded if outcome is not None]
            # A shard that failed at a point does not hide another one that did not.
            known.sort(key=lambda outcome: outcome.status != COMPLETE)
            found.append(known[0] if known else None)
        return cls(plan, tuple(found), goals)

    def check_goals(self) -> None:
        """Raise ConfigError where an objective is in no summary, though there are some."""
        summaries = self._summaries()
        problems = [
            Problem("objective", unknown_name("figure", goal.path, _numbers(summaries[0])))
            for goal in self.goals
            if summaries and all(_number(figure(summary, goal.path)) is None for summary in summaries)
        ]
        if problems:
            raise ConfigError(problems)

    # ---- tables

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that vary."""
        return tuple(key for keys in self.plan["factors"] for key in keys)

    @cached_property
    def table(self) -> pa.Table:
        """One row a point: ``point`` (its name), ``status``, ``error``, what varies, and its figures."""
        rows = [
            (name, dict(zip(self.varied, values, strict=True)), outcome)
            for (name, *values), outcome in zip(self.plan["points"], self.outcomes, strict=True)
        ]
        told = {key: self.plan[key] for key in ("fixed", "factors", "sampling")}
        return table_of(rows, [goal.path for goal in self.goals], {"fabricsim": fabricsim.__version__} | told)

    def counts(self) -> dict[str, int]:
        """Return how many points have each status."""
        return dict(Counter(outcome.status if outcome else MISSING for outcome in self.outcomes))

    def troubles(self) -> list[tuple[str, str, dict[str, Any], str]]:
        """Return name, status, values and error of each point that ran and is not complete."""
        return [
            (name, outcome.status, dict(zip(self.varied, values, strict=True)), outcome.error or "")
            for (name, *values), outcome in zip(self.plan["points"], self.outcomes, strict=True)
            if outcome is not None and outcome.status != COMPLETE
        ]

    @property
    def failed(self) -> int:
        """How many points failed or can never end; those that cannot be built are not among them."""
        return sum(n for status, n in self.counts().items() if status not in (COMPLETE, INVALID, MISSING))

    def _summaries(self) -> list[Mapping[str, Any]]:
        return [o.summary for o in self.outcomes if o is not None and o.summary is not None]

    def figures(self, goal: Objective) -> list[float | None]:
        """Return an objective's figure of each point; None where it has none."""
        return [
            None if one is None or one.summary is None else _number(figure(one.summary, goal.path))
            for one in self.outcomes
        ]

    # ---- what it tells

    def settings(self) -> list[Setting]:
        """Return the settings all of whose points have figures, in the order of the plan."""
        columns = [self.figures(goal) for goal in self.goals]
        rows: dict[str, list[int]] = {}
        repeats = [key in REPEATS for key in self.varied]
        kept = [
            [value for value, repeat in zip(values, repeats, strict=True) if not repeat]
            for _, *values in self.plan["points"]
        ]
        for index, values in enumerate(kept):
            rows.setdefault(repr(values), []).append(index)
        keys = [key for key, repeat in zip(self.varied, repeats, strict=True) if not repeat]
        found = []
        for some in rows.values():
            there = [[column[i] for i in some if column[i] is not None] for column in columns]
            if any(len(values) < len(some) for values in there):
                continue
            means = tuple(math.fsum(v for v in values if v is not None) / len(values) for values in there)
            names = tuple(self.plan["points"][i][0] for i in some)
            found.append(Setting(dict(zip(keys, kept[some[0]], strict=True)), names, means))
        return found

    def best(self) -> Setting | None:
        """Return the setting that is best by the first objective, the first of equals; None without any."""
        sign = self.goals[0].sign
        return min(self.settings(), key=lambda one: sign * one.figures[0], default=None)

    def pareto(self) -> list[Setting]:
        """Return the settings that no other one is better than in all objectives, by the first objective."""
        signs = [goal.sign for goal in self.goals]
        scored = [
            (tuple(s * f for s, f in zip(signs, one.figures, strict=True)), one) for one in self.settings()
        ]
        scored.sort(key=lambda pair: pair[0])
        front: list[tuple[tuple[float, ...], Setting]] = []
        for score, one in scored:
            # Whoever is before this one in the order may be better than it, never worse in all.
            beaten = any(
                other != score and all(a <= b for a, b in zip(other, score, strict=True))
                for other, _ in front
            )
            if not beaten:
                front.append((score, one))
        return [one for _, one in front]

    def sensitivity(self, goal: Objective | None = None) -> Sensitivity | None:
        """Return how much each key matters for an objective; None with too few points."""
        goal = goal or self.goals[0]
        columns = [[row[1 + index] for row in self.plan["points"]] for index in range(len(self.varied))]
        return sensitivity(
            self.plan["factors"], columns, self.figures(goal), goal.path, grid=self.plan["sampling"] == "grid"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types; of each point what varies and the objectives."""
        best = self.best()
        columns = [self.figures(goal) for goal in self.goals]
        points = []
        for index, (name, *values) in enumerate(self.plan["points"]):
            outcome = self.outcomes[index]
            row: dict[str, Any] = {"point": name, "status": outcome.status if outcome else MISSING}
            row |= {"error": outcome.error} if outcome and outcome.error else {}
            row["values"] = dict(zip(self.varied, values, strict=True))
            row["objectives"] = {g.path: c[index] for g, c in zip(self.goals, columns, strict=True)}
            points.append(row)
        found = [self.sensitivity(goal) for goal in self.goals]
        return {
            "fixed": self.plan["fixed"],
            "objectives": [str(goal) for goal in self.goals],
            "counts": self.counts(),
            "best": best.to_json(self.goals) if best else None,
            "pareto": [s.to_json(self.goals) for s in self.pareto()] if len(self.goals) > 1 else None,
            "sensitivity": [one.to_json() for one in found if one is not None],
            "points": points,
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return the main facts as pairs of text."""
        rows = [("points", ", ".join(f"{n} {status}" for status, n in self.counts().items()))]
        if best := self.best():
            rows += [("best", ", ".join(f"{key} = {value}" for key, value in best.values.items()))]
            rows += [(g.path, f"{f:.6g}") for g, f in zip(self.goals, best.figures, strict=True)]
        return rows

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in self.counts().items())
        return f"<Study of {' and '.join(self.varied) or 'one point'}: {counts}>"

    def _repr_html_(self) -> str:
        from fabricsim.result import html_table

        return html_table(self.rows(), "fabricsim sweep")


def _number(value: Any) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else value


def _numbers(summary: Mapping[str, Any]) -> list[str]:
    return [path for path, value in flatten(summary).items() if _number(value) is not None]
