"""What formulas say of checkpoint intervals: Young's first order, Daly's higher order, his exact mean.

All times of a call in one unit: C is what a save stalls, M the mean time to an interruption, R what comes
between an interruption and useful work again (detection, replacement, restart, restore), T the useful time
between saves. They assume exponential failures and saves that can be used as soon as they end.

Sources: J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974;
J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22(3), 2006.
"""

from __future__ import annotations

import math

__all__ = ["daly_efficiency", "daly_interval", "first_order_efficiency", "waste", "young_interval"]


def young_interval(save: float, mtti: float) -> float:
    """Return Young's best interval, sqrt(2 C M), in the unit of its arguments.

    >>> round(young_interval(60, 3.093 * 3600))
    1156
    """
    return math.sqrt(2 * save * mtti)


def daly_interval(save: float, mtti: float) -> float:
    """Return Daly's best interval: M from C = 2 M on, below that a series whose first term is Young's.

    >>> round(daly_interval(60, 3.093 * 3600))
    1116
    """
    if save >= 2 * mtti:
        return mtti
    part = math.sqrt(save / (2 * mtti))
    return math.sqrt(2 * save * mtti) * (1 + part / 3 + part * part / 9) - save


def waste(save: float, interval: float, mtti: float) -> float:
    """Return the first-order waste beside useful time: C / T + T / (2 M).

    >>> f"{waste(60, 1156, 3.093 * 3600):.4f}"
    '0.1038'
    """
    return save / interval + interval / (2 * mtti)


def first_order_efficiency(save: float, interval: float, mtti: float, recovery: float = 0.0) -> float:
    """Return useful time over wall time to first order: 1 / (1 + C/T + T/(2M) + R/M).

    >>> f"{first_order_efficiency(60, 1156, 3.093 * 3600, 300):.4f}"
    '0.8844'
    """
    return 1 / (1 + waste(save, interval, mtti) + recovery / mtti)


def daly_efficiency(save: float, interval: float, mtti: float, recovery: float = 0.0) -> float:
    """Return useful time over wall time exactly, for exponential failures that may hit saves and recoveries.

    A stretch of T + C that must pass whole takes M e^(R/M) (e^((T+C)/M) - 1) on average.

    >>> f"{daly_efficiency(60, 1156, 3.093 * 3600):.4f}"
    '0.8997'
    """
    return interval / (mtti * math.exp(recovery / mtti) * math.expm1((interval + save) / mtti))
