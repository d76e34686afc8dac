"""The accelerator of a rank: what turns floating-point operations and bytes of memory into time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar

from pydantic import Field

from fabricsim.fabrics.section import Section
from fabricsim.units import parse_rate_mbps

__all__ = ["Accelerator", "format_flops", "parse_bandwidth", "parse_flops"]

_FLOPS = re.compile(r"\s*(\d[\d_]*(?:\.\d+)?(?:[eE]\+?\d{1,2})?)\s*([kMGTPE]?)FLOPS?(?:/s)?\s*", re.ASCII)
_PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}


def parse_flops(value: Any) -> int:
    """Read a rate of floating-point operations.

    >>> parse_flops("312TFLOPS"), parse_flops("0.5 GFLOPS")
    (312000000000000, 500000000)
    """
    forms = "allowed: a number with FLOPS, GFLOPS, TFLOPS or PFLOPS, such as '312TFLOPS'"
    match = _FLOPS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"found {value!r}, {forms}")
    amount = Fraction(match[1].replace("_", "")) * _PREFIXES[match[2]]
    if amount.denominator != 1:
        raise ValueError(f"found {value!r}, which is no whole number of operations a second; {forms}")
    return int(amount)


def parse_bandwidth(value: Any) -> int:
    """Read a memory bandwidth as bytes per second, to 125 kB/s.

    >>> parse_bandwidth("2039GB/s")
    2039000000000
    """
    if not isinstance(value, str):
        raise ValueError(f"found {value!r}, allowed: a rate with its unit, such as '2039GB/s'")
    return parse_rate_mbps(value) * 125_000


def format_flops(flops_per_s: int) -> str:
    """Write a rate of floating-point operations.

    >>> format_flops(312 * 10**12)
    '312 TFLOPS'
    """
    prefix = max((p for p, f in _PREFIXES.items() if f <= flops_per_s), key=_PREFIXES.__getitem__, default="")
    return f"{flops_per_s / _PREFIXES[prefix]:.6g} {prefix}FLOPS"


class Accelerator(Section):
    """An accelerator: compute operations of a trace that give ``flops`` or ``mem_bytes`` take the longer of
    both times.

    Parameters
    ----------
    name
        What it is.
    flops_per_s
        Attainable rate, floating-point operations per second, > 0; short form ``peak = "312TFLOPS"``.
    mem_bytes_per_s
        Memory bandwidth, bytes per second, > 0; short form ``memory_bandwidth = "2039GB/s"``.

    >>> Accelerator(name="A100", peak="312TFLOPS", memory_bandwidth="2039GB/s").flops_per_s
    312000000000000
    """

    name: Annotated[str, Field(min_length=1)]
    flops_per_s: Annotated[int, Field(gt=0, le=10**18)]
    mem_bytes_per_s: Annotated[int, Field(gt=0, le=10**18)]

    extra_short_names: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
        "peak": ("flops_per_s", parse_flops),
        "memory_bandwidth": ("mem_bytes_per_s", parse_bandwidth),
    }

    @classmethod
    def _missing(cls, field: str) -> str:
        examples = {"flops_per_s": 'peak = "312TFLOPS"', "mem_bytes_per_s": 'memory_bandwidth = "2039GB/s"'}
        return f"missing, allowed: {examples[field]}" if field in examples else "missing"
