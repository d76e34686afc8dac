"""Silent data corruption: where it comes from, which methods catch it, what they cost.

A corruption of compute, memory or a link changes the state of the training while it runs; one of storage
changes the newest checkpoint that lies there, and matters only if that is restored. A detector catches a
share of those of a place; what it catches is put right at once, or makes the job go back to a checkpoint
from before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fabricsim.fabrics.section import Section, raise_issues
from fabricsim.goodput.rates import Rate, Time

__all__ = [
    "METHODS",
    "Corruption",
    "CorruptionSource",
    "Detector",
    "Method",
    "abft_overhead",
    "checksum_overhead",
]

Share = Annotated[int, Field(ge=0, le=1_000_000)]


def abft_overhead(m: int, n: int, k: int) -> float:
    """Return the extra operations of a checksummed product of m x k by k x n, over its 2 m n k.

    Column sums of the first factor (m k) and row sums of the second (k n) make a product of m + 1 by n + 1,
    whose rows and columns are summed and compared (2 m n). Source: K.-H. Huang, J. A. Abraham,
    "Algorithm-based fault tolerance for matrix operations", IEEE Trans. Computers C-33(6), 1984.

    >>> f"{100 * abft_overhead(8192, 8192, 8192):.3f} %"
    '0.049 %'
    """
    return (m * k + k * n + 2 * k * (m + n + 1) + 2 * m * n) / (2 * m * n * k)


def checksum_overhead(block_bytes: int, word_bytes: int = 8) -> float:
    """Return the extra bytes of a collective that carries a sum of ``word_bytes`` with each block.

    >>> checksum_overhead(4096)
    0.001953125
    """
    return word_bytes / block_bytes


@dataclass(frozen=True)
class Method:
    """What a way of detection does unless told otherwise.

    Parameters
    ----------
    covers
        Place -> share of its corruptions that it catches, ppm.
    corrects
        Whether what is caught is put right at once; else the job goes back to a good checkpoint.
    latency_ps
        From the corruption to its detection, ps.
    overhead_ppm
        What it adds to the useful time, ppm.
    source
        Where these come from.
    """

    covers: Mapping[str, int]
    corrects: bool
    latency_ps: int
    overhead_ppm: int
    source: str


#: The known ways, by name.
METHODS: Mapping[str, Method] = {
    "abft": Method(
        {"compute": 900_000},
        True,
        0,
        round(1e6 * abft_overhead(8192, 8192, 8192)),
        "Huang and Abraham 1984, of products of 8192; 90 % of compute in such products is assumed",
    ),
    "collective_checksum": Method(
        {"link": 999_999},
        True,
        0,
        round(1e6 * 0.2 * checksum_overhead(4096)),
        "a word for 4 KiB; 20 % of the time in exposed communication is assumed; sent again when wrong",
    ),
    "shard_crc": Method(
        {"storage": 1_000_000},
        False,
        0,
        0,
        "CRC-32 misses 2^-32 of random errors, T10-PI's 16 bits 2^-16; its time is part of the save",
    ),
    "replay": Method(
        {"compute": 10_000},
        False,
        0,
        10_000,
        "steps that are run twice and compared: the share of them is coverage and overhead; 1 % is assumed",
    ),
    "norm_watch": Method(
        {"compute": 300_000, "memory": 300_000},
        False,
        600 * 10**12,
        0,
        "a heuristic: jumps of the gradient's norm; 30 % after 10 min is assumed, false alarms are left out",
    ),
}


class CorruptionSource(Rate):
    """Something that corrupts silently; the fields of ``Rate``, and this.

    Parameters
    ----------
    where
        ``compute``, ``memory``, ``link`` or ``storage``.
    """

    where: Literal["compute", "memory", "link", "storage"]


class Detector(Section):
    """A way of detection in use; what is left out is as in ``METHODS``.

    Parameters
    ----------
    method
        ``abft``, ``collective_checksum``, ``shard_crc``, ``replay`` or ``norm_watch``.
    coverage_ppm
        Share of the corruptions of its places that it catches, ppm; with ``replay`` also its overhead.
    latency_ps
        From a corruption to its detection, ps; ``shard_crc`` detects on restore.
    overhead_ppm
        What it adds to the useful time, ppm.
    """

    method: Literal["abft", "collective_checksum", "shard_crc", "replay", "norm_watch"]
    coverage_ppm: Share | None = None
    latency_ps: Time | None = None
    overhead_ppm: Share | None = None

    def covers(self, where: str) -> int:
        """Return the share of the corruptions of a place that it catches, ppm."""
        share = METHODS[self.method].covers.get(where, 0)
        return share if self.coverage_ppm is None or not share else self.coverage_ppm

    @property
    def late_ps(self) -> int:
        """From a corruption to its detection, ps."""
        return METHODS[self.method].latency_ps if self.latency_ps is None else self.latency_ps

    @property
    def cost_ppm(self) -> int:
        """What it adds to the useful time, ppm."""
        if self.overhead_ppm is not None:
            return self.overhead_ppm
        if self.method == "replay" and self.coverage_ppm is not None:
            return self.coverage_ppm
        return METHODS[self.method].overhead_ppm


class Corruption(Section):
    """Silent data corruption: ``[[corruption.source]]`` and ``[[corruption.detector]]``.

    >>> made = Corruption.model_validate({
    ...     "source": [{"name": "core", "where": "compute", "per": "gpu", "fit": 280}],
    ...     "detector": [{"method": "abft"}, {"method": "replay", "coverage": "2%"}]})
    >>> made.overhead_ppm()
    20488
    """

    source: Annotated[tuple[CorruptionSource, ...], Field(strict=False)] = ()
    detector: Annotated[tuple[Detector, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _differ(self) -> Self:
        for key, names in (
            ("source", [one.name for one in self.source]),
            ("detector", [one.method for one in self.detector]),
        ):
            for i, name in enumerate(names):
                if name in names[:i]:
                    raise_issues("Corruption", [((key, i), f"found {name!r} twice, allowed: once", name)])
        return self

    def overhead_ppm(self) -> int:
        """Return what all detectors add to the useful time, ppm."""
        return sum(detector.cost_ppm for detector in self.detector)

    def coverage(self, where: str) -> float:
        """Return the share of the corruptions of a place that any detector catches, were they independent."""
        missed = 1.0
        for detector in self.detector:
            missed *= 1 - detector.covers(where) / 1e6
        return 1 - missed
