"""Jitter and stragglers: how much longer an operation takes on these ranks at this step, by seed.

Every draw has its own key (seed, step, ranks), so a rank or a step more shifts no other draw. The same on
every machine: Philox bits, the exponential by sums and products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fabricsim.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Jitter"]

# Twelve uniform draws less six: mean 0, variance 1, and no logarithm.
_DRAWS = 12


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Random slowness of compute.

    Parameters
    ----------
    seed
        Of all draws.
    sigma
        Spread of an operation's duration from step to step: the standard deviation of its logarithm, 0 to 1.
    straggler_share
        Of the ranks, how many are slow for good, 0 to 1.
    straggler_factor
        How many times as long a slow rank takes, at least 1.

    Raises
    ------
    ConfigError
        When a value is out of range; names all of them.

    >>> Jitter(seed=1).factor([0, 1], 0)
    1.0
    """

    seed: int
    sigma: float = 0.0
    straggler_share: float = 0.0
    straggler_factor: float = 1.0

    def __post_init__(self) -> None:
        ranges = (
            ("sigma", self.sigma, 0, 1),
            ("straggler_share", self.straggler_share, 0, 1),
            ("straggler_factor", self.straggler_factor, 1, math.inf),
        )
        problems = [
            f"{name}: found {value!r}, allowed: {least} to {most}"
            for name, value, least, most in ranges
            if not (_is_number(value) and least <= value <= most and math.isfinite(value))
        ]
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            problems.append(f"seed: found {self.seed!r}, allowed: a whole number")
        if problems:
            raise ConfigError([f"jitter: {problem}" for problem in problems])

    def stragglers(self, n_ranks: int) -> npt.NDArray[np.bool_]:
        """Tell which of the first ranks are slow for good, bool[n_ranks]; more ranks change none of them."""
        return _stragglers(self.seed, self.straggler_share, n_ranks)

    def factor(self, ranks: Sequence[int] | npt.NDArray[Any], step: int, what: str = "") -> float:
        """Return how many times as long an operation takes that all these ranks do together.

        Parameters
        ----------
        ranks
            Who does it, int[n] with n at least 1: the slowest decides.
        step
            The training step.
        what
            Which operation of the step, where they are to differ.
        """
        import numpy as np

        from fabricsim.goodput.draws import Stream, exp

        who = np.asarray(ranks, np.int64)
        slow = self.straggler_share and self.stragglers(int(who.max()) + 1)[who].any()
        factor = self.straggler_factor if slow else 1.0
        if not self.sigma:
            return factor
        key = f"jitter {step} {int(who.min())} {who.size} {what}"
        normal = sum(Stream(self.seed, key).uniform(_DRAWS).tolist()) - _DRAWS / 2
        return factor * float(exp(np.array([self.sigma * normal]))[0])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@lru_cache(maxsize=64)
def _stragglers(seed: int, share: float, n_ranks: int) -> npt.NDArray[np.bool_]:
    """Draws of one stream, numbered by rank."""
    from fabricsim.goodput.draws import Stream

    slow = Stream(seed, "straggler").uniform(n_ranks) < share
    slow.flags.writeable = False
    return slow
