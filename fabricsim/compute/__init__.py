"""Compute: accelerators, kernels, and how long these take.

>>> from fabricsim.compute import accelerator_named, gemm, kernel_ps
>>> kernel_ps([gemm(4096, 4096, 4096)], accelerator_named("h100")) > 0
True
"""

from fabricsim.compute.accelerators import ACCELERATORS, Accelerator, accelerator_like, accelerator_named
from fabricsim.compute.efficiency import EFFICIENCY, Constant, Efficiency, kernel_ps
from fabricsim.compute.jitter import Jitter
from fabricsim.compute.kernels import (
    Kernel,
    KernelClass,
    attention,
    elementwise,
    flops_of,
    gemm,
    grouped_gemm,
)

__all__ = [
    "ACCELERATORS",
    "EFFICIENCY",
    "Accelerator",
    "Constant",
    "Efficiency",
    "Jitter",
    "Kernel",
    "KernelClass",
    "accelerator_like",
    "accelerator_named",
    "attention",
    "elementwise",
    "flops_of",
    "gemm",
    "grouped_gemm",
    "kernel_ps",
]
