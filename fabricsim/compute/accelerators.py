"""Accelerators by name: dense peak rates by precision, memory, power, each with its source.

Peaks are those of the data sheets without structured sparsity; where a sheet prints only the sparse rate,
half of it. What a kernel reaches of them is in ``fabricsim.compute.efficiency``.

>>> from fabricsim.compute.accelerators import accelerator_named
>>> accelerator_named("h100").peak("bf16")
989000000000000.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fabricsim.errors import ConfigError, unknown_name

__all__ = ["ACCELERATORS", "PRECISIONS", "Accelerator", "accelerator_like", "accelerator_named"]

#: Precisions of matrix multiplication, widest first.
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4")


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What an accelerator can do at most.

    Parameters
    ----------
    name
        In the catalogue, such as ``h100``.
    label
        As clusters call it, such as ``H100 SXM``.
    family
        Its architecture: accelerators of a family share efficiencies.
    peak_flops
        Dense peak, floating-point (or integer) operations per second, by precision; one that is missing is
        not supported.
    mem_bytes_per_s, mem_bytes
        Bandwidth and size of the device memory, bytes per second and bytes.
    power_w
        Most that it draws, watts; None: not published.
    source
        Where the figures were published.
    """

    name: str
    label: str
    family: str
    peak_flops: Mapping[str, float]
    mem_bytes_per_s: float
    mem_bytes: int
    power_w: float | None
    source: str

    def __repr__(self) -> str:
        return f"<Accelerator {self.name}: {self.label}, {self.family}>"

    def peak(self, precision: str) -> float:
        """Return the dense peak of a precision, operations per second.

        Raises
        ------
        ConfigError
            When the accelerator does not support it; names what it supports.
        """
        if precision not in self.peak_flops:
            raise ConfigError(
                [
                    f"precision: found {precision!r}, which {self.label} does not support,"
                    f" allowed: {', '.join(self.peak_flops)}"
                ]
            )
        return self.peak_flops[precision]


_T = 1e12
_GB = 10**9
_GIB = 2**30


def _peaks(**tera: float) -> dict[str, float]:
    """Peaks of a given number of 10^12 operations a second, in the order of PRECISIONS; f16 is both kinds."""
    both = tera.pop("f16", None)
    if both is not None:
        tera |= {"fp16": both, "bf16": both}
    return {precision: tera[precision] * _T for precision in PRECISIONS if precision in tera}


_A100 = _peaks(fp32=19.5, tf32=156, f16=312, int8=624)
_H100 = _peaks(fp32=67, tf32=494.5, f16=989, fp8=1979, int8=1979)
_A100_SHEET = "NVIDIA A100 data sheet (recalled)"
_H100_SHEET = "NVIDIA H100 data sheet: sparse rates halved (recalled)"
_TPU_SHEET = "Google Cloud TPU documentation, docs/tpu7x: TPU generations compared (read)"
_MTIA_SHEET = "Meta, Our next-generation MTIA, 2024: table of v1 and v2 (read as quoted)"
_B200_SHEET = (
    "NVIDIA HGX B200 data sheet and Blackwell architecture brief: sparse rates halved (read as quoted)"
)
_GB_SHEET = "NVIDIA {} NVL72 data sheet, a 72nd of the rack, sparse rates halved (read as quoted)"


def _accelerator(
    name: str,
    label: str,
    family: str,
    peaks: Mapping[str, float],
    mem_gb_per_s: float,
    mem_bytes: int,
    power_w: float | None,
    source: str,
) -> Accelerator:
    return Accelerator(
        name=name,
        label=label,
        family=family,
        peak_flops=peaks,
        mem_bytes_per_s=mem_gb_per_s * _GB,
        mem_bytes=mem_bytes,
        power_w=power_w,
        source=source,
    )


#: Accelerators by name.
ACCELERATORS: dict[str, Accelerator] = {
    found.name: found
    for found in (
        _accelerator(
            "v100", "V100 SXM2", "volta", _peaks(fp32=15.7, fp16=125), 900, 32 * _GB, 300,
            "NVIDIA V100 data sheet (recalled)",
        ),
        _accelerator("a100-40gb", "A100 SXM", "ampere", _A100, 1555, 40 * _GB, 400, _A100_SHEET),
        _accelerator("a100", "A100 SXM", "ampere", _A100, 2039, 80 * _GB, 400, _A100_SHEET),
        _accelerator("a100-pcie", "A100 PCIe", "ampere", _A100, 1935, 80 * _GB, 300, _A100_SHEET),
        _accelerator("h100", "H100 SXM", "hopper", _H100, 3350, 80 * _GB, 700, _H100_SHEET),
        _accelerator(
            "h100-pcie", "H100 PCIe", "hopper",
            _peaks(fp32=51, tf32=378, f16=756, fp8=1513, int8=1513), 2000, 80 * _GB, 350, _H100_SHEET,
        ),
        _accelerator(
            "h200", "H200 SXM", "hopper", _H100, 4800, 141 * _GB, 700,
            "NVIDIA H200 data sheet: sparse rates halved (recalled)",
        ),
        _accelerator(
            "b200", "B200", "blackwell", _peaks(fp32=75, tf32=1100, f16=2250, fp8=4500, int8=4500, fp4=9000),
            8000, 180 * _GB, 1000, _B200_SHEET,
        ),
        _accelerator(
            "gb200", "GB200", "blackwell",
            _peaks(fp32=80, tf32=1250, f16=2500, fp8=5000, int8=5000, fp4=10000), 8000, 186 * _GB, 1200,
            _GB_SHEET.format("GB200"),
        ),
        _accelerator(
            "b300", "B300", "blackwell", _peaks(fp32=75, tf32=1125, f16=2250, fp8=4500, int8=150, fp4=13500),
            8000, 270 * _GB, 1100, "NVIDIA HGX B300 data sheet: sparse rates halved (read as quoted)",
        ),
        _accelerator(
            "gb300", "GB300", "blackwell",
            _peaks(fp32=80, tf32=1250, f16=2500, fp8=5000, int8=165, fp4=15000), 8000, 279 * _GB, 1400,
            _GB_SHEET.format("GB300"),
        ),
        _accelerator(
            "mi300x", "MI300X", "cdna3", _peaks(fp32=163.4, tf32=653.7, f16=1307, fp8=2615, int8=2615),
            5300, 192 * _GB, 750, "AMD Instinct MI300X data sheet (recalled)",
        ),
        _accelerator(
            "tpu-v4", "TPU v4", "tpu", _peaks(bf16=275, int8=275), 1200, 32 * _GIB, 192,
            "Google Cloud TPU documentation, docs/v4 (recalled); jax-ml scaling book (read)",
        ),
        _accelerator(
            "tpu-v5e", "TPU v5e", "tpu", _peaks(bf16=197, int8=394), 810, 16 * _GIB, None,
            "jax-ml scaling book, chapter on TPUs (read); int8 is twice bf16",
        ),
        _accelerator(
            "tpu-v5p", "TPU v5p", "tpu", _peaks(bf16=459, fp8=459, int8=918), 2765, 95 * _GIB, None,
            _TPU_SHEET,
        ),
        _accelerator(
            "tpu-v6e", "TPU v6e", "tpu", _peaks(bf16=918, fp8=918, int8=1836), 1638, 32 * _GIB, None,
            _TPU_SHEET,
        ),
        _accelerator(
            "tpu-v7x", "TPU7x", "tpu", _peaks(bf16=2307, fp8=4614), 7380, 192 * _GIB, None, _TPU_SHEET
        ),
        _accelerator(
            "trn2", "Trainium2", "trainium", _peaks(fp32=181, tf32=667, f16=667, fp8=1299), 2900, 96 * _GIB,
            None, "AWS Neuron documentation, Trainium2 architecture (read)",
        ),
        _accelerator(
            "mtia-v1", "MTIA v1", "mtia", _peaks(f16=51.2, int8=102.4), 176, 64 * _GB, 25, _MTIA_SHEET
        ),
        _accelerator(
            "mtia-v2", "MTIA v2", "mtia", _peaks(f16=177, int8=354), 204.8, 128 * _GB, 90, _MTIA_SHEET
        ),
    )
}  # fmt: skip


def accelerator_named(name: str) -> Accelerator:
    """Return an accelerator by its name or label; of several with a label the largest.

    Raises
    ------
    ConfigError
        When there is none; names those that there are.
    """
    if name in ACCELERATORS:
        return ACCELERATORS[name]
    labelled = [found for found in ACCELERATORS.values() if found.label.casefold() == name.casefold()]
    if not labelled:
        raise ConfigError([unknown_name("accelerator", name, ACCELERATORS)])
    return max(labelled, key=lambda found: found.mem_bytes)


def accelerator_like(label: str, mem_bytes_per_s: float) -> Accelerator | None:
    """Return the accelerator of a label and memory bandwidth, as a cluster's file names them, or None."""
    for found in ACCELERATORS.values():
        if found.label == label and found.mem_bytes_per_s == mem_bytes_per_s:
            return found
    return None
