"""Kernels: what an accelerator runs at a time, as operations and bytes, and how those are counted.

>>> from fabricsim.compute.kernels import gemm
>>> gemm(2048, 4096, 1024).flops
17179869184
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = [
    "Kernel",
    "KernelClass",
    "attention",
    "elementwise",
    "flops_of",
    "gemm",
    "grouped_gemm",
    "width_bytes",
]


class KernelClass(StrEnum):
    """Kinds of kernels: each attains its own share of the peak.

    Eager ones are those of a model that PyTorch runs operation by operation: their bytes are counted as if
    they were fused, and the attention is the first FlashAttention.
    """

    GEMM = "gemm"
    GROUPED_GEMM = "grouped_gemm"
    ATTENTION = "attention"
    ELEMENTWISE = "elementwise"
    EMBEDDING = "embedding"
    OPTIMIZER = "optimizer"
    EAGER = "eager"
    EAGER_ATTENTION = "eager_attention"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel, launched a number of times.

    Parameters
    ----------
    kind
        Its class.
    flops, mem_bytes
        Operations, and bytes moved between the device's memory and its caches, of one launch.
    precision
        Of its operations.
    size
        Elements of the result of one matrix multiplication: few of them leave the machine
        half filled; 0: many.
    count
        Launches.
    """

    kind: KernelClass
    flops: int
    mem_bytes: int
    precision: str = "bf16"
    size: int = 0
    count: int = 1

    def times(self, count: int) -> Kernel:
        """Return the kernel launched so many times as often."""
        return replace(self, count=self.count * count)


def width_bytes(precision: str) -> float:
    """Return the bytes of a number.

    >>> width_bytes("fp4")
    0.5
    """
    return {"fp32": 4.0, "tf32": 4.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}.get(precision, 2.0)


def gemm(m: int, n: int, k: int, precision: str = "bf16", count: int = 1) -> Kernel:
    """Return the product of an m x k and a k x n matrix; its result has 16 bits a number, or more."""
    moved = int((m * k + k * n) * width_bytes(precision) + m * n * max(2.0, width_bytes(precision)))
    return Kernel(KernelClass.GEMM, 2 * m * n * k, moved, precision, m * n, count)


def grouped_gemm(groups: int, m: int, n: int, k: int, precision: str = "bf16") -> Kernel:
    """Return as many products as there are groups (experts), in one launch; ``m`` rows each."""
    one = gemm(m, n, k, precision)
    return Kernel(
        KernelClass.GROUPED_GEMM, groups * one.flops, groups * one.mem_bytes, precision, groups * m * n
    )


def attention(
    sequences: int,
    heads: int,
    kv_heads: int,
    queries: int,
    keys: int,
    width: int,
    value_width: int = 0,
    precision: str = "bf16",
) -> Kernel:
    """Return fused causal attention forward, which does half of the products and writes none of them.

    Parameters
    ----------
    sequences
        In the batch.
    heads, kv_heads
        Of the queries, and of keys and values, on this rank.
    queries, keys
        Tokens of a sequence on this rank, and of all of it.
    width, value_width
        Of a head's queries and keys, and of its values; 0: the same.
    precision
        Of the products: 16 bits.
    """
    value_width = value_width or width
    flops = sequences * heads * queries * keys * (width + value_width)
    moved = 2 * sequences * (queries * heads + keys * kv_heads) * (width + value_width)
    return Kernel(KernelClass.ATTENTION, flops, moved, precision)


def elementwise(mem_bytes: float, count: int = 1, kind: KernelClass = KernelClass.ELEMENTWISE) -> Kernel:
    """Return ``count`` launches that together move so many bytes; their operations take no time."""
    return Kernel(kind, 0, int(mem_bytes / count), "fp32", 0, count)


def flops_of(kernels: Iterable[Kernel]) -> int:
    """Return the operations of all launches."""
    return sum(kernel.flops * kernel.count for kernel in kernels)
