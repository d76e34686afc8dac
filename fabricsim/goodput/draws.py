"""Keyed random draws that are the same on every machine: Philox bits, logarithms by + − × ÷ alone.

A stream belongs to the seed and a name, and the draws of one stream are numbered, so another component, or
more of one, never shifts what the others draw. numpy promises the bits of Philox; its ``log`` may differ in
the last bit from one processor to the next, so the logarithm here is a series of rounded sums and products.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

__all__ = ["Stream", "exp", "ln", "weibull_scale"]

Floats = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
_BITS = 53


class Stream:
    """The draws of one name under a seed, in order.

    Parameters
    ----------
    seed
        Of the study.
    name
        Of what draws: any text.

    >>> first, other = Stream(1, "gpu"), Stream(1, "gpu")
    >>> bool((first.uniform(3) == other.uniform(3)).all())
    True
    """

    def __init__(self, seed: int, name: str) -> None:
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def uniform(self, count: int) -> Floats:
        """Return the next draws, float64[count], each within (0, 1) and never 0 or 1."""
        raw = np.asarray(self._bits.random_raw(count), np.uint64) >> np.uint64(64 - _BITS + 1)
        return (raw.astype(np.float64) + 0.5) / float(1 << (_BITS - 1))

    def integers(self, count: int, below: int) -> Int64:
        """Return the next draws as whole numbers from 0 to ``below`` - 1, int64[count]."""
        raw = np.asarray(self._bits.random_raw(count), np.uint64)
        return (raw % np.uint64(below)).astype(np.int64)


def ln(x: Floats) -> Floats:
    """Return the natural logarithm of positive numbers, to 1e-15 of it, with the same bits everywhere.

    >>> float(ln(np.array([1.0]))[0])
    0.0
    """
    mantissa, exponent = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    mantissa = np.where(small, 2 * mantissa, mantissa)
    exponent = exponent - small
    # ln m = 2 artanh((m - 1) / (m + 1)), where the argument is below 0.172
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    total = np.full_like(s, 1 / 21)
    for power in range(19, 0, -2):
        total = total * square + 1 / power
    return exponent * _LN2_HIGH + (2 * s * total + exponent * _LN2_LOW)


def exp(x: Floats) -> Floats:
    """Return the exponential, to 1e-15 of it, with the same bits everywhere.

    >>> float(exp(np.array([0.0]))[0])
    1.0
    """
    n = np.rint(x / (_LN2_HIGH + _LN2_LOW))
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    total = np.ones_like(r)
    for power in range(16, 0, -1):
        total = total * r / power + 1
    return np.ldexp(total, n.astype(np.int64))


def weibull_scale(mean: float, shape: float) -> float:
    """Return the scale of a Weibull distribution of a mean: mean / Γ(1 + 1 / shape), to 12 digits.

    >>> weibull_scale(10.0, 1.0)
    10.0
    """
    return mean / float(f"{math.gamma(1 + 1 / shape):.12g}")
