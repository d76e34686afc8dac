"""Eight GPUs reduce gradients while each writes a checkpoint to one of two storage hosts.

In one data class the pauses that the storage hosts cause stop the gradients too. In two they do not: round
robin shares the GPUs' links between the classes, strict priority keeps them for the gradients.
"""

import fabricsim
from fabricsim.workload.rows import Rows

GPUS, STORAGE = 8, 2
RACK = {
    "name": "a rack",
    "topology": {"kind": "star", "hosts": GPUS + STORAGE, "rate": "400Gbps", "latency": "500ns"},
    "congestion_control": {"model": "none"},
}


def step(gradients: int) -> fabricsim.Trace:
    """Return four all-reduces in the data class ``gradients``, and a checkpoint in class 0."""
    rows = Rows(generator="examples/two_classes.py")
    for gpu in range(GPUS):
        target = GPUS + gpu % STORAGE
        rows.add("send", [gpu], peer=[target], bytes=128 << 20, tag=gpu, priority=0)
        rows.add("recv", [target], peer=[gpu], bytes=128 << 20, tag=gpu)
    for _ in range(4):
        rows.add("all_reduce", range(GPUS), bytes=64 << 20, stream=0, priority=gradients)
    return rows.trace()


print("classes           all-reduces  checkpoint")
for name, classes, turns in (("one", 1, 0), ("two, strict", 2, 0), ("two, round robin", 2, 1)):
    settings = [f"switch.data_class_count={classes}", f"switch.class_round_robin={turns}"]
    result = fabricsim.replay(step(classes - 1), fabricsim.Cluster.from_dict(RACK, settings))
    ends = [op["end_ps"] for op in result.ops.to_pylist() if op["kind"] == "all_reduce"]
    written_ps = result.summary["flows_summary"]["fct_max_ps"]
    print(f"{name:17} {max(ends) / 1e9:8.2f} ms {written_ps / 1e9:8.2f} ms")
