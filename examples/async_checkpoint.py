"""Training and checkpoints on one fabric: what saving in line and behind the training costs, and why.

Sixteen GPUs train with FSDP. After every second step their state goes to a Lustre file system whose servers
hang on the same leaf switches. Saved in line, the training stands still until it is written. Saved behind, it
stands still for the copy to host memory, and when the save before is still under way; and where the write and
the gradients' all-reduces share links, these take longer.

    python examples/async_checkpoint.py
"""

import numpy as np

import fabricsim
from fabricsim.analysis import checkpoints
from fabricsim.checkpoint import Checkpoint, Parallel
from fabricsim.units import format_time, ms
from fabricsim.workload import checkpoint
from fabricsim.workload.shapes import named_shape

CLUSTER = {
    "name": "training and storage",
    "topology": {
        "kind": "leaf_spine",
        "leaves": 2,
        "spines": 2,
        "hosts_per_leaf": 8,
        "rate": "100Gbps",
        "fabric_rate": "400Gbps",
        "latency": "500ns",
    },
    # Packets go in trains of 15: several times faster, and nothing here depends on single ones.
    "transport": {"train_count": 15},
    "link": {"model": "pause", "xoff_bytes": 2_000_000, "headroom_bytes": 1_000_000},
    "switch": {"buffer_bytes": 4_000_000_000, "ecn": False},
    "congestion_control": {"model": "none"},
    "storage": {
        "mount": "/ckpt",
        "model": "lustre",
        "servers": 4,
        "attach": "leaf*",
        "rate": "100Gbps",
        "latency": "500ns",
        "stripe_count": -1,
    },
}
SAVED = Checkpoint(shape=named_shape("gpt2"), sharding="fsdp", parallel=Parallel(dp=16))
STEPS, INTERVAL, GRADIENTS = 8, 2, 32 << 20


def replay(mode: str, step_ps: int, interval: int = INTERVAL) -> fabricsim.Result:
    """Replay eight steps, with a save after every ``interval``."""
    options = {"mode": mode, "steps": STEPS, "interval": interval, "step_ps": step_ps}
    trace = checkpoint(SAVED, gradient_bytes=GRADIENTS, **options)
    return fabricsim.replay(trace, fabricsim.Cluster.from_dict(CLUSTER))


def costs(result: fabricsim.Result) -> dict[str, int]:
    """Return when the last step ended, and means over the ranks: parts of the stalls, time in all-reduces.

    With what the all-reduces take more than in a run without saves, the parts add up to the difference.
    """
    ops, saves = result.ops, checkpoints(result.ops).table
    names = ops["name"].to_pylist()
    start, end = ops["start_ps"].to_numpy(), ops["end_ps"].to_numpy()
    train = np.array([name.startswith("train") for name in names])
    reduces = np.array([name.endswith("gradients") for name in names])
    # The save behind the last step holds nothing up.
    during = saves.filter(np.array(saves["step"].to_numpy() < STEPS - 1)) if saves.num_rows else saves
    parts = {name: int(during[f"{name}_ps"].to_numpy().sum()) // 16 for name in ("stall", "wait", "snapshot")}
    return {
        "training": int(end[train].max()),
        "snapshot": parts["snapshot"],
        "wait": parts["wait"],
        "write": parts["stall"] - parts["wait"] - parts["snapshot"],
        "all-reduce": int((end - start)[reduces].sum()) // 16,
    }


#: The costs by the time of a step and how it is saved.
found = {}
for step_ps in (60 * ms, 20 * ms):
    print(f"{STEPS} steps of {format_time(step_ps)}, {SAVED.total_bytes / 1e9:.2f} GB after every second")
    print("            training    copies     waits    writes  all-reduces")
    runs = {
        "no save": replay("sync", step_ps, interval=STEPS + 1),
        "in line": replay("sync", step_ps),
        "behind": replay("async", step_ps),
    }
    for label, result in runs.items():
        found[step_ps, label] = costs(result)
        training, *parts, reduces = map(format_time, found[step_ps, label].values())
        print(f"  {label:8}  {training:>8}", *(f"{part:>9}" for part in parts), f"{reduces:>12}")
