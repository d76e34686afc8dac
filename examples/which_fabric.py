"""Which fabric for this model? A training step of Llama 3 8B on 64 H100, in two layouts, on four fabrics.

The compute is the same everywhere. Messages share the links as fluids here: a second for each step.
"""

import fabricsim
from fabricsim.workload import llm

FABRICS = {
    "72 GPUs a NVLink domain": ("gb200-nvl72", []),
    "nodes of 8, InfiniBand rails": ("dgx-h100", ["topology.nodes=8"]),
    "nodes of 8, RoCE racks": ("meta-24k-roce-128", []),
    "no NVLink, RoCE leaf-spine": ("leaf-spine-64-400g-roce", []),
}
MODEL = {"model": "llama3-8b", "ranks": 64, "gbs": 64, "seq": 4096}
LAYOUTS = {"FSDP": {"fsdp": "full"}, "TP 8, ZeRO 1": {"tp": 8, "zero": 1}}

print(f"step, MFU {'':20}" + "".join(f"{layout:>20}" for layout in LAYOUTS))
steps = {}
for fabric, (preset, settings) in FABRICS.items():
    line = f"{fabric:30}"
    for layout, options in LAYOUTS.items():
        cluster = fabricsim.Cluster.from_toml(preset, settings)
        training = fabricsim.replay(llm(**MODEL, **options), cluster, fidelity="flow").summary["training"]
        steps[fabric, layout] = training["step_ps"] / 1e12
        line += f"{steps[fabric, layout]:13.2f} s {training['mfu']:4.0%}"
    print(line)
(fabric, layout), best = min(steps.items(), key=lambda item: item[1])
rails, without = (steps[name, "FSDP"] for name in list(FABRICS)[1::2])
print(
    f"Fastest is {fabric} with {layout}, {best:.2f} s; rails come within {rails / best - 1:.0%}."
    " At this size the layout matters more than the fabric, if nodes have NVLink:"
    f" {without / rails:.1f} times as slow without."
)
