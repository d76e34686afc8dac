"""A training step and an asynchronous checkpoint on one fabric: what the checkpoint costs, and why.

Every step of 32 GPUs computes and reduces gradients. After the second one each copies its state to host
memory, goes on, and writes the copy to a Lustre on the same leaves in the background. The all-reduce that
runs meanwhile takes four times as long: the servers fetch at once what all clients have ready, more than
their cables carry, so the switches before them fill up and pause the cables that lead there, and gradients
stand on the same cables. With a data class of its own, the checkpoint's pauses stop the checkpoint alone.
"""

import fabricsim
from fabricsim.workload.rows import Rows

GPUS, STEPS, MIB = 32, 4, 1 << 20


def training(save: bool) -> fabricsim.Trace:
    """Return the steps on stream 0, and behind the second one a checkpoint on stream 1."""
    rows = Rows(generator="examples/checkpoint_contention.py")
    gpus = range(GPUS)
    for step in range(STEPS):
        rows.add("compute", gpus, duration_ps=500_000_000, stream=0, name="compute", step=step)
        rows.add("all_reduce", gpus, bytes=64 * MIB, stream=0, name="gradients", step=step, priority=1)
        if save and step == 1:
            copied = rows.add("compute", gpus, duration_ps=100_000_000, stream=0, name="snapshot", step=step)
            file = "/ckpt/step1/{rank:03d}"
            rows.open(gpus, file, create=True, stream=1, after=[copied])
            rows.write(gpus, file, 64 * MIB, stream=1)
            rows.add("fsync", gpus, file=file, stream=1)
    return rows.trace()


def replay(name: str, save: bool, data_class: int = 0) -> fabricsim.Result:
    """Replay, and print the all-reduce of each step, and from the first open to the last fsync."""
    settings = ["switch.data_class_count=2", f"storage.data_class={data_class}"]
    cluster = fabricsim.Cluster.from_toml("demo-64-400g-lustre", settings)
    result = fabricsim.replay(training(save), cluster)
    ops = result.ops.to_pylist()
    row = f"{name:16}"
    for step in range(STEPS):
        mine = [op for op in ops if op["name"] == "gradients" and op["step"] == step]
        row += f"{(max(op['end_ps'] for op in mine) - max(op['start_ps'] for op in mine)) / 1e9:8.2f}"
    if save:
        opened = min(op["start_ps"] for op in ops if op["kind"] == "open")
        row += f"{(max(op['end_ps'] for op in ops if op['kind'] == 'fsync') - opened) / 1e9:10.2f}"
    print(row)
    return result


print("all-reduce, ms    step 0  step 1  step 2  step 3      save")
replay("no checkpoint", save=False)
shared = replay("one data class", save=True, data_class=1)
replay("its own class", save=True, data_class=0)

links = shared.links.to_pylist()
into = max(
    (link for link in links if link["dst"].startswith("oss")), key=lambda link: link["max_queue_bytes"]
)
paused = sorted((link for link in links if link["paused_ps"]), key=lambda link: -link["paused_ps"])
longest = f"{paused[0]['link']} for {paused[0]['paused_ps'] / 1e9:.2f} ms"
target = shared.summary["storage"]["slowest_targets"][0]
print(
    f"\nwhy: in one data class up to {into['max_queue_bytes'] / 1e6:.1f} MB stood before {into['link']},"
    f"\nand {len(paused)} cables that lead to the servers were paused, {longest}."
    f"\nTargets are the next bound: {target['server']}'s target {target['target']} was busy for"
    f" {target['busy_ps'] / 1e9:.2f} ms of the save."
)
