"""Twisted or plain torus? 128 TPU v4 chips as 4 x 4 x 8, and the two collectives that training leans on.

Links have buffers of 1 MiB a lane, so that their rates alone bind: those of real chips are not published.
"""

import fabricsim
from fabricsim.workload import collective

SIDES = [f"{table}.{side}" for table in ("topology", "collectives.torus") for side in ("x=4", "y=4", "z=8")]
BUFFERS = ["link.vl_buffer=1MiB", "collectives.pairwise.window=65536"]


def time_us(kind: str, size_bytes: int, twisted: str) -> float:
    """Return how long one collective of all chips takes, us."""
    settings = [*SIDES, *BUFFERS, f"topology.twisted={twisted}"]
    cluster = fabricsim.Cluster.from_toml("tpu-v4-pod", settings)
    result = fabricsim.replay(collective(kind, size_bytes=size_bytes, n_ranks=128), cluster)
    return result.summary["end_ps"] / 1e6


print("128 chips            plain    twisted")
gain = {}
for kind, size_bytes in (("all_to_all", 8 << 20), ("all_reduce", 32 << 20)):
    plain, twisted = (time_us(kind, size_bytes, flag) for flag in ("false", "true"))
    gain[kind] = plain / twisted
    print(f"{kind:15} {plain:7.0f} us {twisted:7.0f} us")
print(
    f"Twisted where experts exchange tokens: all-to-all is {gain['all_to_all']:.2f} times as fast."
    f" Plain where gradients rule: twisted, all-reduce is {1 / gain['all_reduce']:.2f} times as slow,"
    " since its rings along the sides no longer close."
)
