"""The time of kernels: a roofline whose every share of the peak is a named constant.

A kernel takes the longer of its operations at the share of the peak that its class attains and of its bytes
at the share of the memory bandwidth, and a gap before the next. A matrix multiplication loses, besides, about
what the results of half a wave of tiles cost: ``size / (size + gemm_fill)`` of its rate is left. A list of
kernels takes no less than the host needs to launch them, and longer by ``spread`` for every doubling of the
ranks that wait for one another.

>>> from fabricsim.compute import accelerator_named, gemm, kernel_ps
>>> 200e12 < 2 * 8192**3 / (kernel_ps([gemm(8192, 8192, 8192)], accelerator_named("a100")) * 1e-12) < 312e12
True
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fabricsim.compute.accelerators import Accelerator
from fabricsim.compute.kernels import Kernel, KernelClass
from fabricsim.errors import ConfigError, unknown_name

__all__ = ["EFFICIENCY", "Constant", "Efficiency", "kernel_ps"]

_PS = 1e12


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of the model: its value, what it is, and where it comes from."""

    value: float
    meaning: str
    basis: str


@dataclass(frozen=True)
class Efficiency:
    """Named constants of kernels.

    Parameters
    ----------
    constants
        By name. ``gemm`` holds for every accelerator, ``gemm/hopper`` for a family and ``gemm/hopper/fp8``
        for a precision of it; the most exact one is taken.
    """

    constants: Mapping[str, Constant]

    def __repr__(self) -> str:
        return f"<Efficiency: {len(self.constants)} constants>"

    def value(self, name: str, accelerator: Accelerator, precision: str = "") -> float:
        """Return the constant of a name for an accelerator and precision."""
        family = accelerator.family
        for key in (f"{name}/{family}/{precision}", f"{name}/{family}", name):
            found = self.constants.get(key)
            if found is not None:
                return found.value
        raise ConfigError([unknown_name("efficiency", name, self.constants)])

    def of(self, accelerator: Accelerator) -> dict[str, Constant]:
        """Return the constants that hold for an accelerator, by name, and by ``name/precision`` where so."""
        found = {name: one for name, one in self.constants.items() if "/" not in name}
        for name, one in self.constants.items():
            base, _, rest = name.partition("/")
            family, _, precision = rest.partition("/")
            if family == accelerator.family:
                found[f"{base}/{precision}" if precision else base] = one
        return found

    def with_values(self, values: Mapping[str, float]) -> Efficiency:
        """Return the same with other values; a name may add a family or precision to a known one.

        Raises
        ------
        ConfigError
            When a name is none, a value is not positive and finite, or a share is above 1; names all of them.
        """
        changed, problems = dict(self.constants), []
        for name, value in values.items():
            base = self.constants.get(name) or self.constants.get(name.partition("/")[0])
            if base is None:
                problems.append(unknown_name("efficiency", name, self.constants))
            elif isinstance(value, bool) or not isinstance(value, (int, float)):
                problems.append(f"efficiency {name}: found {value!r}, allowed: a number above 0")
            elif not (0 < value < float("inf") or (value == 0 and name.partition("/")[0] in _MAY_BE_0)):
                problems.append(f"efficiency {name}: found {value}, allowed: above 0")
            elif base.meaning.startswith("share") and value > 1:
                problems.append(f"efficiency {name}: found {value}, allowed: up to 1, {base.meaning}")
            else:
                changed[name] = replace(base, value=float(value), basis="given")
        if problems:
            raise ConfigError(problems)
        return Efficiency(changed)


_ASSUMED = "assumed"
_FITTED = "fitted on the odd rows of docs/compute.md"
_MAY_BE_0 = ("gap_s", "host_s", "spread")
_GEMM = "share of the dense peak of large matrix multiplications"
_ATTENTION = "share of the dense 16-bit peak of fused attention"
_EAGER = "share of the memory bandwidth of work that is not fused, by the bytes that it would move if it were"
_EAGER_ATTENTION = "share of the dense 16-bit peak of the first FlashAttention"
_SPREAD = "how much longer the slowest of twice as many ranks takes, of the time of one"

#: The constants in use.
EFFICIENCY = Efficiency(
    {
        "gemm": Constant(0.688, _GEMM, "assumed: as hopper"),
        "gemm/volta": Constant(0.775, _GEMM, "assumed: as ampere"),
        "gemm/ampere": Constant(0.775, _GEMM, _FITTED),
        "gemm/hopper": Constant(0.688, _GEMM, _FITTED),
        "gemm/blackwell/fp8": Constant(0.478, _GEMM, _FITTED),
        "gemm/blackwell/fp4": Constant(
            0.332, _GEMM, "assumed: to fp8 as fp8 to 16 bits"
        ),
        "gemm/tpu": Constant(0.644, _GEMM, _FITTED),
        "grouped_gemm": Constant(0.5, f"{_GEMM}, grouped (experts)", _ASSUMED),
        "attention": Constant(0.5, _ATTENTION, _ASSUMED),
        "memory": Constant(0.891, "share of the memory bandwidth", _FITTED),
        "eager": Constant(0.432, _EAGER, "assumed: as hopper"),
        "eager/ampere": Constant(0.591, _EAGER, _FITTED),
        "eager/hopper": Constant(0.432, _EAGER, _FITTED),
        "eager_attention": Constant(0.181, _EAGER_ATTENTION, "assumed: as hopper"),
        "eager_attention/ampere": Constant(0.325, _EAGER_ATTENTION, _FITTED),
        "eager_attention/hopper": Constant(0.181, _EAGER_ATTENTION, _FITTED),
        "spread": Constant(0.0139, _SPREAD, _FITTED),
        "spread/tpu": Constant(0.0, _SPREAD, "the published rows of 8 to 256 chips show none"),
        "gemm_fill": Constant(
            1.1e6,
            "elements of a result that the machine has in work at a time, half of which are lost at the end",
            "Google's bf16 GEMM sweep on TPU7x, 128 to 32768 cubed",
        ),
        "gap_s": Constant(3e-6, "from a kernel to the next, seconds", _ASSUMED),
        "host_s": Constant(
            3.44e-05, "of the host for a kernel, seconds; a device that has less to do waits", _FITTED
        ),
    }
)  # fmt: skip


def kernel_ps(
    kernels: Iterable[Kernel],
    accelerator: Accelerator,
    efficiency: Efficiency = EFFICIENCY,
    n_ranks: int = 1,
) -> int:
    """Return how long kernels take one after another, in ps, rounded up.

    Parameters
    ----------
    kernels, accelerator, efficiency
        What, on what, and the constants.
    n_ranks
        Ranks that do the same and wait for one another: the slowest of them decides.

    Raises
    ------
    ConfigError
        When the accelerator does not support a kernel's precision.
    """
    device = host = 0.0
    memory = accelerator.mem_bytes_per_s * efficiency.value("memory", accelerator)
    eager = accelerator.mem_bytes_per_s * efficiency.value("eager", accelerator)
    gap = efficiency.value("gap_s", accelerator)
    launch = efficiency.value("host_s", accelerator)
    for kernel in kernels:
        rate = eager if kernel.kind is KernelClass.EAGER else memory
        seconds = kernel.mem_bytes / rate
        if kernel.flops:
            share = efficiency.value(kernel.kind, accelerator, kernel.precision)
            if kernel.size:
                share *= kernel.size / (kernel.size + efficiency.value("gemm_fill", accelerator))
            seconds = max(seconds, kernel.flops / (accelerator.peak(kernel.precision) * share))
        device += kernel.count * (seconds + gap)
        host += kernel.count * launch
    slowest = 1 + efficiency.value("spread", accelerator) * (n_ranks - 1).bit_length()
    exact = max(device, host) * slowest * _PS
    whole = int(exact)
    return whole + (whole < exact)
