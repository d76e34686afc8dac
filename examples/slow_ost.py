"""What does one slow OST cost? 64 ranks save 15 MiB each to a Lustre of 16 OSTs, of which one is at a fifth.

Each file on one OST, over all of them, or over the fifteen others.
"""

import fabricsim
from fabricsim.workload import file_io

SAVE = file_io("write", n_ranks=64, size_bytes=15 << 20, transfer_bytes=1 << 20, file="/ckpt/{rank:03d}")
SLOW = 'storage.slow=[{target = 5, at = "0s", factor = 0.2}]'
LAYOUTS = {
    "one OST a file": "stripe_count = 1",
    "over all 16": "stripe_count = -1",
    "over the other 15": "stripe_count = 15, first_target = 6",
}


def save(layout: str, slow: bool) -> tuple[float, float]:
    """Return when the last rank's data is safe, and the mean over the ranks, ms."""
    table = f'storage.layout=[{{path = "/ckpt", stripe_size = "1MiB", {layout}}}]'
    cluster = fabricsim.Cluster.from_toml("demo-64-400g-lustre", [table, SLOW][: 1 + slow])
    ops = fabricsim.replay(SAVE, cluster).ops.to_pylist()
    ends = [op["end_ps"] / 1e9 for op in ops if op["kind"] == "fsync"]
    return max(ends), sum(ends) / len(ends)


print("ms until safe       healthy: all  (mean)   one slow: all  (mean)")
found = {}
for name, layout in LAYOUTS.items():
    found[name] = [*save(layout, slow=False), *save(layout, slow=True)]
    print("{:18}      {:8.1f} {:8.1f}        {:8.1f} {:8.1f}".format(name, *found[name]))
healthy, _, slow, _ = found["over all 16"]
print(
    f"One slow OST makes the save {slow / healthy:.1f} times as long, whatever the striping: one OST a file"
    f" spares most ranks, not the last. A way around costs {found['over the other 15'][2] / healthy - 1:.0%}."
)
