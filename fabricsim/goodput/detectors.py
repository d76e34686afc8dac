"""Detectors of silent corruption that work on numbers: what the coverages of a study can be measured with.

* A matrix product with checksums of rows and columns (Huang and Abraham 1984): detects a wrong element, says
  which, and corrects it. With floating point, what lies below the rounding of the sums is not seen.
* A ring all-reduce whose messages carry a sum by block: a sum is linear, so the sum of the result must be the
  sum of the sums. Exact with integers, to rounding with floating point.
* Shards with a CRC-32 of the whole and the 16-bit guard of T10 protection information by block of 512 bytes.
  The CRC-32 is zlib's (polynomial 04C11DB7); storage systems mostly use CRC-32C (1EDC6F41), as long and with
  as much detected of random errors and of bursts up to 32 bits, but another value.
* A step that is run twice and compared bit by bit.
* A watch on the norm of gradients: a heuristic.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "NormWatch",
    "ProductCheck",
    "Shard",
    "checked_all_reduce",
    "checked_product",
    "flip_bit",
    "product_with_checksums",
    "repeats",
    "t10_guard",
]

Array = npt.NDArray[Any]


def flip_bit(values: Array, index: int, bit: int) -> None:
    """Flip one bit of one element in place.

    Parameters
    ----------
    values
        A contiguous array of numbers.
    index
        Of the flattened array.
    bit
        From 0, the least significant.

    >>> x = np.array([1.0]); flip_bit(x, 0, 63); float(x[0])
    -1.0
    """
    kind = np.dtype(f"u{values.dtype.itemsize}")
    flat = values.reshape(-1).view(kind)
    flat[index] ^= kind.type(1 << bit)


def _agree(difference: Any, tolerance: float) -> Any:
    """Return where sums agree: never where one is no number, nor at -2^63, whose magnitude is no int64."""
    return (difference <= tolerance) & (difference >= -tolerance)


# ---- matrix products


@dataclass(frozen=True)
class ProductCheck:
    """What the checksums of a product say.

    Parameters
    ----------
    ok
        Whether all sums agree.
    row, column
        Of the wrong element, when exactly one explains it; ``row`` or ``column`` is None when the wrong
        element is a checksum, and both are None when nothing or more than one is wrong.
    product
        The product, corrected where that was possible, else as it came; None when it is wrong and stays so.
    """

    ok: bool
    row: int | None
    column: int | None
    product: Array | None


def product_with_checksums(a: Array, b: Array) -> Array:
    """Multiply, with the column sums of ``a`` as one more row and the row sums of ``b`` as one more column.

    Parameters
    ----------
    a, b
        Matrices, m x k and k x n.

    Returns
    -------
    numpy.ndarray
        (m + 1) x (n + 1).
    """
    return np.vstack([a, a.sum(0, keepdims=True)]) @ np.hstack([b, b.sum(1, keepdims=True)])


def checked_product(full: Array, tolerance: float = 0.0) -> ProductCheck:
    """Check a product with checksums, and correct a single wrong element.

    Parameters
    ----------
    full
        From ``product_with_checksums``, (m + 1) x (n + 1).
    tolerance
        By how much sums may differ: 0 for integers; for floating point more than the rounding of the
        product and of its sums, about k (m + n) times the machine's epsilon times the largest ``|a| |b|``.

    >>> full = product_with_checksums(np.eye(3, dtype=np.int64), np.arange(9).reshape(3, 3))
    >>> full[1, 2] += 1 << 40
    >>> check = checked_product(full)
    >>> check.ok, check.row, check.column, int(check.product[1, 2])
    (False, 1, 2, 5)
    """
    with np.errstate(all="ignore"):
        inner = full[:-1, :-1]
        rows = np.flatnonzero(~_agree(inner.sum(1) - full[:-1, -1], tolerance))
        columns = np.flatnonzero(~_agree(inner.sum(0) - full[-1, :-1], tolerance))
        if not len(rows) and not len(columns):
            return ProductCheck(True, None, None, inner)
        if len(rows) > 1 or len(columns) > 1:
            return ProductCheck(False, None, None, None)
        if len(rows) == len(columns) == 1:
            row, column = int(rows[0]), int(columns[0])
            fixed = inner.copy()
            others = np.delete(inner[row], column).sum()
            fixed[row, column] = full[row, -1] - others
            return ProductCheck(False, row, column, fixed)
    return ProductCheck(
        False, int(rows[0]) if len(rows) else None, int(columns[0]) if len(columns) else None, inner
    )


# ---- collectives


def checked_all_reduce(
    vectors: Sequence[Array],
    *,
    tolerance: float = 0.0,
    fault: Callable[[int, int, Array], None] | None = None,
) -> tuple[Array, bool]:
    """Sum vectors over a ring, message by message, each with the sum of its block.

    Parameters
    ----------
    vectors
        One a rank, of one length and type; integers wrap.
    tolerance
        By how much a block's sum may differ from the sum that came with it.
    fault
        Called with (step, rank, message) for each message on the way, to change it; the last element is the
        sum.

    Returns
    -------
    tuple
        The sum as rank 0 has it, and whether any rank saw a wrong sum.
    """
    ranks = len(vectors)
    carried = [
        [np.append(block, block.sum(dtype=block.dtype)) for block in np.array_split(vector, ranks)]
        for vector in vectors
    ]
    seen = False
    # A reduce-scatter, then an all-gather: 2 (n - 1) steps, in each of which every rank sends one block on.
    for step in range(2 * (ranks - 1)):
        adds = step < ranks - 1
        messages = []
        for rank in range(ranks):
            block = (rank - step) % ranks if adds else (rank + 1 - (step - ranks + 1)) % ranks
            message = carried[rank][block].copy()
            if fault is not None:
                fault(step, rank, message)
            messages.append((block, message))
        for rank, (block, message) in enumerate(messages):
            to = (rank + 1) % ranks
            with np.errstate(all="ignore"):
                carried[to][block] = carried[to][block] + message if adds else message
                total = carried[to][block]
                difference = total[:-1].sum(dtype=total.dtype) - total[-1]
                seen |= not bool(_agree(difference, tolerance))
    return np.concatenate([block[:-1] for block in carried[0]]), seen


# ---- storage


def _t10_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8BB7 if crc & 0x8000 else crc << 1) & 0xFFFF
        table.append(crc)
    return table


_T10 = tuple(_t10_table())


def t10_guard(block: bytes) -> int:
    """Return the guard of T10 protection information: CRC-16 of polynomial 8BB7, from 0, not reflected.

    >>> hex(t10_guard(b"123456789"))
    '0xd0db'
    """
    crc = 0
    for byte in block:
        crc = (crc << 8 & 0xFFFF) ^ _T10[crc >> 8 ^ byte]
    return crc


@dataclass
class Shard:
    """A shard of a checkpoint with what protects it.

    >>> shard = Shard.seal(bytes(1024))
    >>> shard.data[700] = 1
    >>> shard.intact(), shard.wrong_blocks()
    (False, [1])
    """

    data: bytearray
    crc: int
    guards: tuple[int, ...]

    @classmethod
    def seal(cls, data: bytes, block_bytes: int = 512) -> Shard:
        """Protect data: a CRC-32 of the whole, a guard for each block."""
        blocks = range(0, len(data), block_bytes)
        return cls(
            bytearray(data), zlib.crc32(data), tuple(t10_guard(data[i : i + block_bytes]) for i in blocks)
        )

    def intact(self) -> bool:
        """Return whether the CRC-32 of the whole agrees."""
        return zlib.crc32(self.data) == self.crc

    def wrong_blocks(self, block_bytes: int = 512) -> list[int]:
        """Return the numbers of the blocks whose guard does not agree."""
        return [
            i
            for i, guard in enumerate(self.guards)
            if t10_guard(bytes(self.data[i * block_bytes : (i + 1) * block_bytes])) != guard
        ]


# ---- training


def repeats(step: Callable[[Array], Array], state: Array) -> bool:
    """Return whether a deterministic step gives the same bits twice.

    >>> repeats(lambda x: x * 2, np.ones(3))
    True
    """
    return step(state.copy()).tobytes() == step(state.copy()).tobytes()


class NormWatch:
    """A heuristic: a gradient's norm that is no number, or far from the median of those before, is suspect.

    Parameters
    ----------
    window
        How many norms are remembered; nothing is suspect before half of them are there.
    factor
        How many median absolute deviations from the median are too many.

    >>> watch = NormWatch(window=8)
    >>> [watch.suspect(norm) for norm in (1.0, 1.1, 0.9, 1.0, 1.05, 90.0, 1.0)]
    [False, False, False, False, False, True, False]
    """

    def __init__(self, window: int = 64, factor: float = 20.0) -> None:
        self.window, self.factor = window, factor
        self._seen: deque[float] = deque(maxlen=window)

    def suspect(self, norm: float) -> bool:
        """Look at the next norm; a suspect one is not remembered."""
        if not np.isfinite(norm):
            return True
        if len(self._seen) >= self.window // 2:
            seen = np.array(self._seen)
            middle = float(np.median(seen))
            spread = float(np.median(np.abs(seen - middle)))
            if abs(norm - middle) > self.factor * max(spread, 1e-3 * abs(middle)):
                return True
        self._seen.append(norm)
        return False
