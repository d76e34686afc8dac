"""Where does ECMP hurt? Traffic of 64 GPUs with full bisection, hashed by flow and sprayed by packet.

A pattern could end when the busiest host's own cable has carried its bytes: told is the share of that rate.
"""

import fabricsim
from fabricsim.workload import collective, incast, permutation

MIB, HOST_MBPS = 1 << 20, 400_000
#: Trace, and bytes that the busiest host sends or receives.
PATTERNS = {
    "ring all-reduce": (collective("all_reduce", size_bytes=64 * MIB, n_ranks=64), 126 * MIB),
    "all-to-all": (collective("all_to_all", size_bytes=16 * MIB, n_ranks=64), 15.75 * MIB),
    "random pairs": (permutation(n_ranks=64, size_bytes=8 * MIB), 8 * MIB),
    "8 to 1": (incast(n_senders=8, size_bytes=4 * MIB), 32 * MIB),
}
PFC_ALONE = ["congestion_control.model=none", "switch.ecn=false"]


def share(trace: fabricsim.Trace, n_bytes: float, routing: str) -> float:
    """Return the rate that a pattern attains as a share of the busiest cable's."""
    settings = [f"routing.model={routing}", *PFC_ALONE]
    result = fabricsim.replay(trace, fabricsim.Cluster.from_toml("leaf-spine-64-400g-roce", settings))
    return n_bytes * 8e6 / HOST_MBPS / result.summary["end_ps"]


print("share of the rate   ecmp  spray")
found = {}
for name, pattern in PATTERNS.items():
    found[name] = [share(*pattern, routing) for routing in ("ecmp", "spray")]
    print(f"{name:18} {found[name][0]:5.0%} {found[name][1]:6.0%}")
worst = min(found, key=lambda name: found[name][0] / found[name][1])
print(
    f"ECMP hurts {worst} most, {found[worst][1] / found[worst][0]:.1f} times as slow: few long flows meet on"
    " an uplink by chance. A ring's neighbours seldom do, and no routing helps where all go to one host."
)
