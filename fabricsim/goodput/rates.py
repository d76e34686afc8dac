"""Rates: how often each thing of a kind fails, and how many there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fabricsim.fabrics.section import Section, raise_issues
from fabricsim.units import parse_time_ps

__all__ = ["HOUR_PS", "MOST_PS", "Length", "Rate", "Time"]

HOUR_PS = 3600 * 10**12

#: The longest time, 100 days: all times fit 63 bits of picoseconds.
MOST_PS = 2400 * HOUR_PS

Time = Annotated[int, Field(ge=0, le=MOST_PS)]
Length = Annotated[int, Field(gt=0, le=MOST_PS)]
_More = Annotated[float, Field(gt=0, le=1e15)]


def _hours(value: Any) -> float:
    return parse_time_ps(value) / HOUR_PS


class Rate(Section):
    """How often things of a kind fail, each by itself.

    Parameters
    ----------
    name
        What it is, unique; its random draws belong to the name.
    per, count
        How many there are: ``count`` (default 1) a ``gpu``, a ``node`` or in the whole ``job``.
    mtbf_hours
        Mean hours from one failure of each to its next; or
    fit
        failures of each in 10^9 hours; or
    observed, observed_items, observed_over_hours
        failures that were counted, of how many, in how many hours (short: ``observed_over = "54d"``).
        Without any of the three it fails only as listed.
    weibull_shape
        1 for exponential times between failures, less for infant mortality, more for wear.
    age_hours
        Age of each item at the start, which matters where the shape is not 1; default new.

    >>> Rate(name="gpu", per="gpu", observed=148, observed_items=16384, observed_over="54d").mean_hours()
    143470.7027027027
    """

    name: Annotated[str, Field(min_length=1)]
    per: Literal["gpu", "node", "job"] = "job"
    count: Annotated[int, Field(ge=1, le=10**9)] = 1
    mtbf_hours: _More | None = None
    fit: _More | None = None
    observed: _More | None = None
    observed_items: Annotated[int, Field(ge=1)] | None = None
    observed_over_hours: _More | None = None
    weibull_shape: Annotated[float, Field(ge=0.2, le=10)] = 1.0
    age_hours: Annotated[float, Field(ge=0, le=1e7)] = 0.0

    extra_short_names: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
        "observed_over": ("observed_over_hours", _hours)
    }

    @model_validator(mode="after")
    def _is_one_rate(self) -> Self:
        given = [name for name in ("mtbf_hours", "fit", "observed") if getattr(self, name) is not None]
        if len(given) > 1:
            text = f"found {' and '.join(given)}, allowed: one of mtbf_hours, fit and observed"
            raise_issues(type(self).__name__, [((), text, None)])
        together = [self.observed, self.observed_items, self.observed_over_hours]
        if any(v is None for v in together) and any(v is not None for v in together):
            text = "allowed: observed, observed_items and observed_over together"
            raise_issues(type(self).__name__, [(("observed",), text, self.observed)])
        return self

    def mean_hours(self) -> float | None:
        """Return the mean hours from one failure of each to its next; None where there is no rate."""
        if self.fit is not None:
            return 1e9 / self.fit
        if self.observed is not None:
            assert self.observed_items is not None and self.observed_over_hours is not None
            return self.observed_items * self.observed_over_hours / self.observed
        return self.mtbf_hours

    def items(self, nodes: int, gpus: int) -> int:
        """Return how many there are in a job of so many nodes and GPUs."""
        return self.count * {"gpu": gpus, "node": nodes, "job": 1}[self.per]
