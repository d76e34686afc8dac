"""TPU pods: what tori of chips carry, and how many cubes are up.

The measured gain of a twisted torus is compared on links with so much buffer that only their rates bind: from
1 MiB a lane on, more changes nothing. The buffers of ICI are not published; with less of them the regular
torus falls further behind than it did on real pods.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fabricsim.cluster import Cluster
from fabricsim.program import compile
from fabricsim.topology.cubes import cube_availability
from fabricsim.validate import check
from fabricsim.validate._worlds import start
from fabricsim.workload import collective

_ISCA = "Jouppi et al., TPU v4, ISCA 2023"
_CLOUD = "docs.cloud.google.com/tpu/docs/v4"


def collective_ps(kind: str, size_bytes: int, topology: dict[str, Any], algorithm: str) -> int:
    """Return how long a collective of all chips of a torus takes, ps."""
    cables = {"kind": "torus", "rate": "45GB/s", "latency": "1us"}
    cluster = Cluster.from_dict(
        {
            "name": "slice",
            "topology": {**cables, **topology},
            "switch": {"model": "voq", "vl_count": 4},
            "link": {"model": "credit", "vl_buffer": "1MiB"},
            "transport": {"model": "ici"},
            "routing": {"model": "torus"},
            "congestion_control": {"model": "none"},
            "collectives": {
                kind: algorithm,
                "pairwise": {"window_count": 65536},
                "torus": {f"{name}_count": topology[name] for name in "xyz"},
            },
        }
    )
    model = compile(cluster)
    trace = collective(kind, size_bytes=size_bytes, n_ranks=model.topology.n_hosts)
    run = start(model, trace)
    run.step()
    return int(run.ops()["end_ps"].max())


@check(
    "Twisted torus 4x4x8, measured",
    configuration="uniform all-to-all of 64 KiB a pair, regular over twisted time, ample buffers",
    published=1.63,
    tolerance=0.08,
    source=f"{_ISCA}, figure 6",
    kind="first-principles",
)
def twisted_gain() -> float:
    """Both are near their link bounds, which alone would give 1.745."""
    times = [
        collective_ps("all_to_all", 8 << 20, {"x": 4, "y": 4, "z": 8, "twisted": twisted}, "pairwise")
        for twisted in (False, True)
    ]
    return times[0] / times[1]


@check(
    "TPU v4 pod, all-reduce",
    configuration="16x16x16, what all links carry; from 8x8x8 by the growth of the time with the size",
    published=1.1,
    unit="PB/s",
    tolerance=0.03,
    source=_CLOUD,
    kind="first-principles",
)
def pod_all_reduce() -> float:
    """All six links of every chip work at once."""
    cube = {"x": 8, "y": 8, "z": 8}
    small, large = 3 << 20, 9 << 20
    took_ps = collective_ps("all_reduce", large, cube, "torus") - collective_ps(
        "all_reduce", small, cube, "torus"
    )
    sent_bytes = 2 * (large - small) * 511 / 512
    return 4096 * sent_bytes / took_ps * 1e12 / 1e15


@check(
    "TPU v4 pod, bisection",
    configuration="16x16x16, links one way across the middle",
    published=24,
    unit="TB/s",
    tolerance=0.06,
    source=_CLOUD,
    kind="first-principles",
)
def pod_bisection() -> float:
    """A torus is cut twice: in the middle and at the wrap."""
    topology = Cluster.from_toml("tpu-v4-pod").topology()
    chips = topology.n_hosts
    between = np.minimum(topology.cable_a, topology.cable_b) >= chips
    upper = np.stack([topology.cable_a[between], topology.cable_b[between]]) - chips >= chips // 2
    crossing = topology.cable_rate_mbps[between][upper[0] != upper[1]]
    return float(crossing.sum()) / 8e6


def _availability(host: float, published: float) -> None:
    @check(
        f"OCS availability, hosts {host:g} up",
        configuration="a cube of 16 hosts",
        published=published,
        tolerance=0.005,
        source=f"{_ISCA}, figure 4: a^16",
        kind="first-principles",
    )
    def cube() -> float:
        """A cube is up when all its hosts are; a spare stands in for it."""
        return cube_availability(host)


for _host, _published in ((0.99, 0.851), (0.995, 0.923), (0.999, 0.984)):
    _availability(_host, _published)
