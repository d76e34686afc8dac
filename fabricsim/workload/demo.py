"""The demo's trace: one training step of a small transformer on 64 GPUs, and a gather for a checkpoint.

Tensor parallelism of 8 (ranks 8g to 8g+7 form group g), data parallelism of 8 (rank i of every group). Each
layer does what Megatron-style tensor parallelism does: an all-reduce after attention and one after the MLP,
in the forward and again in the backward pass. Gradients are reduce-scattered over the data-parallel group on
a second stream as soon as a layer's backward pass is through. At the end each data-parallel group gathers
its updated parameters, as for a checkpoint that one of its members writes.

Compute times follow from 24 x tokens x hidden^2 floating-point operations a layer and token-forward pass
(twice that backward), shared by the tensor-parallel group, at a rate that GPUs of the A100 class reach in
training.

``python -m fabricsim.workload.demo [PATH]`` writes the file that the package ships; the same bytes every
time.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from fabricsim.trace import Trace, write_trace
from fabricsim.workload.rows import Rows

__all__ = ["demo_path", "demo_trace"]

TENSOR_PARALLEL = 8
DATA_PARALLEL = 8
LAYERS = 3
HIDDEN = 3072
TOKENS = 1024
BYTES_PER_VALUE = 2
#: Floating-point operations a second that a GPU reaches: 40 % of an A100's 312 TFLOP/s in bf16.
FLOPS_PER_S = 125 * 10**12
#: The optimiser reads and writes 16 bytes a parameter at 1.5 TB/s.
OPTIMISER_PS_PER_1000_PARAMETERS = 10_667

COMPUTE_STREAM, GRADIENT_STREAM = 0, 1


def demo_path() -> Path:
    """Return the path of the trace that the package ships."""
    return Path(str(resources.files("fabricsim"))) / "data" / "demo_64gpu.arrow"


def demo_trace() -> Trace:
    """Make the demo's trace.

    >>> trace = demo_trace()
    >>> trace.n_ranks
    64
    """
    n_ranks = TENSOR_PARALLEL * DATA_PARALLEL
    everyone = range(n_ranks)
    tensor_groups = [range(first, first + TENSOR_PARALLEL) for first in range(0, n_ranks, TENSOR_PARALLEL)]
    data_groups = [range(first, n_ranks, TENSOR_PARALLEL) for first in range(TENSOR_PARALLEL)]
    activation_bytes = TOKENS * HIDDEN * BYTES_PER_VALUE
    layer_parameters = 12 * HIDDEN * HIDDEN // TENSOR_PARALLEL
    gradient_bytes = layer_parameters * BYTES_PER_VALUE
    half_layer_ps = 12 * TOKENS * HIDDEN * HIDDEN * 10**12 // (TENSOR_PARALLEL * FLOPS_PER_S)
    rows = Rows(
        generator="fabricsim.workload.demo",
        tensor_parallel=TENSOR_PARALLEL,
        data_parallel=DATA_PARALLEL,
        layers=LAYERS,
        hidden=HIDDEN,
        tokens=TOKENS,
    )

    def half(layer: int, part: str, times: int) -> int:
        """One half of a layer: compute on all ranks, then an all-reduce in each tensor-parallel group."""
        direction = "forward" if times == 1 else "backward"
        name = f"layer {layer} {part} {direction}"
        compute = rows.add(
            "compute", everyone, duration_ps=times * half_layer_ps, stream=COMPUTE_STREAM, name=name, step=0
        )
        for group in tensor_groups:
            rows.add(
                "all_reduce", group, bytes=activation_bytes, stream=COMPUTE_STREAM, name=f"{name} TP", step=0
            )
        return compute

    for layer in range(LAYERS):
        half(layer, "attention", 1)
        half(layer, "mlp", 1)
    scatters = []
    for layer in reversed(range(LAYERS)):
        half(layer, "mlp", 2)
        ready = half(layer, "attention", 2)
        for group in data_groups:
            scatters.append(
                rows.add(
                    "reduce_scatter",
                    group,
                    bytes=gradient_bytes,
                    stream=GRADIENT_STREAM,
                    after=[ready],
                    name=f"layer {layer} gradients DP",
                    step=0,
                )
            )
    optimiser = rows.add(
        "compute",
        everyone,
        duration_ps=LAYERS * layer_parameters * OPTIMISER_PS_PER_1000_PARAMETERS // (1000 * DATA_PARALLEL),
        stream=COMPUTE_STREAM,
        after=scatters,
        name="optimiser",
        step=0,
    )
    for group in data_groups:
        rows.add(
            "all_gather",
            group,
            bytes=LAYERS * gradient_bytes,
            stream=COMPUTE_STREAM,
            after=[optimiser],
            name="checkpoint gather",
            step=0,
        )
    return rows.trace()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else demo_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    made = demo_trace()
    write_trace(made, target, provenance=made.provenance)
