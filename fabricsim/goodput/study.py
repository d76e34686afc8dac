"""Studies: a configuration replayed under many seeds, beside the formulas, and over many intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fabricsim.errors import ConfigError
from fabricsim.goodput import theory
from fabricsim.goodput.config import GoodputConfig
from fabricsim.goodput.failures import corruptions_of, failures_of, listed
from fabricsim.goodput.rates import HOUR_PS
from fabricsim.goodput.replay import PARTS, Plan, Run, replay

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Estimate", "Study", "event_log", "plan_of", "simulate", "sweep", "without_corruption"]

# Student's t, two-sided 95 %, by degrees of freedom from 1; beyond them about 1.96 + 2.4 / degrees.
_T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145]
_T95 += [2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds, its sample standard deviation, and half of its 95 % confidence interval.

    The last two are None with one seed.

    >>> Estimate.of([1.0, 2.0, 3.0]).half_width / 4.303
    0.5773502691896258
    """

    mean: float
    deviation: float | None
    half_width: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Estimate from one value a seed."""
        n = len(values)
        mean = math.fsum(values) / n
        if n == 1:
            return cls(mean, None, None)
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
        t = _T95[n - 2] if n - 2 < len(_T95) else 1.96 + 2.4 / (n - 1)
        return cls(mean, deviation, t * deviation / math.sqrt(n))

    def to_json(self) -> dict[str, float | None]:
        """Return JSON types."""
        return {"mean": self.mean, "deviation": self.deviation, "half_width_95": self.half_width}


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """What a configuration came to under some seeds.

    Parameters
    ----------
    config, interval_ps
        What was replayed, and its interval between saves, ps.
    seeds, runs
        One run a seed.
    """

    config: GoodputConfig
    interval_ps: int
    seeds: tuple[int, ...]
    runs: tuple[Run, ...] = field(repr=False)

    @property
    def goodput(self) -> Estimate:
        """Useful time over wall time."""
        return Estimate.of([run.goodput for run in self.runs])

    @property
    def mtti_hours(self) -> Estimate | None:
        """Wall time of all runs by their interruptions, hours; None where there were none.

        The interval is that of the rate, to first order.
        """
        rate = Estimate.of([run.interruptions * HOUR_PS / run.wall_ps for run in self.runs])
        count = sum(run.interruptions for run in self.runs)
        if not count:
            return None
        hours = sum(run.wall_ps for run in self.runs) / HOUR_PS / count
        if rate.deviation is None or rate.half_width is None:
            return Estimate(hours, None, None)
        return Estimate(hours, rate.deviation * hours**2, rate.half_width * hours**2)

    def breakdown(self) -> dict[str, Estimate]:
        """Return each part's share of the wall time; the means add up to 1."""
        return {part: Estimate.of([run.parts[part] / run.wall_ps for run in self.runs]) for part in PARTS}

    def counts(self) -> dict[str, float]:
        """Return the mean counts of a run."""
        names = ["failures", "interruptions", "saves"]
        if self.config.corruption is not None:
            names += ["corruptions", "corrected", "rolled_back", "bad_checkpoints", "harmless"]
            names += ["undetected", "open", "tainted"]
        return {name: math.fsum(getattr(run, name) for run in self.runs) / len(self.runs) for name in names}

    def corruption(self) -> dict[str, float | None] | None:
        """Return the share of the harmful corruptions that was detected, and how late; None without any."""
        if self.config.corruption is None:
            return None
        found = sum(run.corrected + run.rolled_back + run.bad_checkpoints for run in self.runs)
        missed = sum(run.undetected for run in self.runs)
        in_time = sum(run.corrected + run.rolled_back for run in self.runs)
        late = sum(run.detected_late_ps for run in self.runs)
        return {
            "detected_share": found / (found + missed) if found + missed else None,
            "latency_s": late / in_time / 1e12 if in_time else None,
            "overhead": self.config.corruption.overhead_ppm() / 1e6,
        }

    def predicted(self) -> dict[str, float] | None:
        """Return what the formulas say for the same interval; None where there are no rates or no saves.

        ``young_interval_s`` and ``daly_interval_s`` are the best intervals by them. The recovery counts the
        time until a checkpoint can be used, by which an interruption loses more.
        """
        hours, checkpoint = self.config.mtti_hours(), self.config.checkpoint
        stall = checkpoint.stall_ps / 1e12
        recovery = (self.config.recovery_ps() + checkpoint.lag_ps) / 1e12
        if hours is None or checkpoint.mode == "none":
            return None
        mtti, interval = hours * 3600, self.interval_ps / 1e12
        return {
            "mtti_hours": hours,
            "recovery_s": recovery,
            "young_interval_s": theory.young_interval(stall, mtti),
            "daly_interval_s": theory.daly_interval(stall, mtti),
            "waste": theory.waste(stall, interval, mtti),
            "first_order_efficiency": theory.first_order_efficiency(stall, interval, mtti, recovery),
            "daly_efficiency": theory.daly_efficiency(stall, interval, mtti, recovery),
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types; times of the runs in ps, their parts add up to ``wall_ps``."""
        mtti = self.mtti_hours
        return {
            "name": self.config.name,
            "gpus": self.config.job.gpus,
            "interval_ps": self.interval_ps,
            "seeds": list(self.seeds),
            "goodput": self.goodput.to_json(),
            "mtti_hours": None if mtti is None else mtti.to_json(),
            "breakdown": {part: value.to_json() for part, value in self.breakdown().items()},
            "counts": self.counts(),
            "corruption": self.corruption(),
            "predicted": self.predicted(),
            "runs": [
                {
                    "seed": seed,
                    "wall_ps": run.wall_ps,
                    "finished": run.finished,
                    "goodput": run.goodput,
                    "interruptions": run.interruptions,
                    "parts_ps": dict(run.parts),
                }
                for seed, run in zip(self.seeds, self.runs, strict=True)
            ],
        }

    def __repr__(self) -> str:
        goodput = self.goodput
        spread = "" if goodput.half_width is None else f" ± {goodput.half_width:.4f}"
        return f"<Study {self.config.name}: goodput {goodput.mean:.4f}{spread}, {len(self.seeds)} seeds>"


def plan_of(config: GoodputConfig, interval_ps: int | None = None) -> Plan:
    """Settle the interval of a configuration: as given, or the best by its formula, to the nearest second.

    Raises
    ------
    ConfigError
        When the interval is to come from a formula and there are no rates.
    """
    checkpoint = config.checkpoint
    overhead = config.corruption.overhead_ppm() if config.corruption else 0
    chosen = checkpoint.interval_ps if interval_ps is None else interval_ps
    if isinstance(chosen, str):
        hours = config.mtti_hours()
        if checkpoint.mode == "none" or hours is None:
            return Plan(config, 10**12, overhead)
        best = {"young": theory.young_interval, "daly": theory.daly_interval}[chosen]
        chosen = max(1, round(best(checkpoint.stall_ps / 1e12, hours * 3600))) * 10**12
    if chosen < 1:
        raise ConfigError([f"interval: found {chosen} ps, allowed: more than 0"])
    return Plan(config, chosen, overhead)


def simulate(
    config: GoodputConfig, *, seeds: int | Iterable[int] = 1, interval_ps: int | None = None
) -> Study:
    """Replay a configuration.

    Parameters
    ----------
    config
        The job, its checkpoints, and what fails.
    seeds
        How many (1 to N are taken), or which. A seed's failures do not depend on anything but the rates, so
        studies of the same seeds that differ in their checkpoints meet the same failures.
    interval_ps
        Instead of the configuration's interval, ps.

    Raises
    ------
    ConfigError
        When there is no seed, or there are too many failures.
    InputError
        When the file of failures is bad.

    >>> config = GoodputConfig.load("llama3-405b", ["job.wall=2d"])
    >>> study = simulate(config, seeds=3)
    >>> sum(study.runs[0].parts.values()) == 48 * 3600 * 10**12
    True
    """
    chosen = tuple(range(1, seeds + 1)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        raise ConfigError(["seeds: found none, allowed: at least one"])
    plan, given = plan_of(config, interval_ps), listed(config)
    runs = [
        replay(
            plan,
            failures_of(config, seed, plan.until_ps, given),
            corruptions_of(config, seed, plan.until_ps),
        )
        for seed in chosen
    ]
    return Study(config, plan.interval_ps, chosen, tuple(runs))


def without_corruption(study: Study) -> Study:
    """Replay the same seeds without corruption and the cost of its detectors: the difference is its price.

    The interval is that of the study.
    """
    config = study.config.model_copy(update={"corruption": None})
    return simulate(config, seeds=study.seeds, interval_ps=study.interval_ps)


def sweep(
    config: GoodputConfig, intervals_ps: Iterable[int] | None = None, *, seeds: int | Iterable[int] = 10
) -> list[Study]:
    """Replay a configuration with each of some intervals, under the same failures.

    Parameters
    ----------
    config
        The configuration; its own interval does not matter.
    intervals_ps
        Intervals, ps; by themselves a quarter to four times Young's, by factors of the square root of 2.
    seeds
        As of ``simulate``.

    Returns
    -------
    list
        One study an interval, in their order; the best is the one of the highest mean goodput.
    """
    if intervals_ps is None:
        if config.checkpoint.mode == "none" or not config.checkpoint.stall_ps or config.mtti_hours() is None:
            raise ConfigError(["sweep: name the intervals where Young's formula gives none"])
        middle = theory.young_interval(config.checkpoint.stall_ps / 1e12, (config.mtti_hours() or 0) * 3600)
        intervals_ps = [max(1, round(middle * 2 ** (k / 2))) * 10**12 for k in range(-4, 5)]
    chosen = seeds if isinstance(seeds, int) else tuple(seeds)
    return [simulate(config, seeds=chosen, interval_ps=interval) for interval in intervals_ps]


def event_log(config: GoodputConfig, seed: int = 1) -> pa.Table:
    """Return what happens in a run, in order: one row an event.

    The columns are ``time_ps``, ``event``, ``component`` and ``item`` (null where there is none), ``work_ps``
    (useful work that the state or the checkpoint holds) and ``lost_ps`` (work lost by the event).

    >>> table = event_log(GoodputConfig.load("llama3-405b", ["job.wall=1d"]))
    >>> table["event"][0].as_py()
    'snapshot'
    """
    import json

    import pyarrow as pa

    import fabricsim

    plan = plan_of(config)
    rows: list[tuple[int, str, str | None, int | None, int, int]] = []
    failures = failures_of(config, seed, plan.until_ps, listed(config))
    replay(plan, failures, corruptions_of(config, seed, plan.until_ps), lambda *row: rows.append(row))
    provenance = {"fabricsim": fabricsim.__version__, "goodput": config.name, "seed": seed}
    text = pa.dictionary(pa.int32(), pa.string())
    unit = {"unit": "ps"}
    schema = pa.schema(
        [
            pa.field("time_ps", pa.int64(), False, unit),
            pa.field("event", text, False),
            pa.field("component", text),
            pa.field("item", pa.int64()),
            pa.field("work_ps", pa.int64(), False, unit),
            pa.field("lost_ps", pa.int64(), False, unit),
        ],
        {
            "fabricsim.schema": "goodput_events",
            "fabricsim.schema_version": "1.0",
            "fabricsim.provenance": json.dumps(provenance, sort_keys=True),
        },
    )
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [
            pa.array(column, pa.string()).dictionary_encode()
            if pa.types.is_dictionary(f.type)
            else pa.array(column, f.type)
            for f, column in zip(schema, columns, strict=True)
        ],
        schema=schema,
    )
