"""SRD as published: many to one ends close to the ideal.

Source: Shalev et al., "A cloud-optimized transport protocol for elastic and scalable HPC", IEEE Micro 40(6),
2020: 48 flows of 2 MB to one server of 100 Gb/s, of which the slowest ends close to the ideal of 7.7 to 8 ms.
The fabric behind it is not published: a full leaf-spine stands for it, with switch, transport and controller
as they are by default.
"""

from __future__ import annotations

from fabricsim.cluster import Cluster
from fabricsim.program import compile
from fabricsim.validate import check
from fabricsim.validate._worlds import start


@check(
    "SRD incast: slowest flow",
    configuration="48 hosts to one at 100 Gb/s, 2 MB each; srd, srd_cc, lossy leaf-spine of 56, all defaults",
    published=8.0,
    unit="ms",
    tolerance=0.1,
    source="Shalev et al., IEEE Micro 40(6), 2020: ideal 7.7 to 8 ms, the slowest close to it",
    kind="end-to-end",
)
def slowest_of_48_ms() -> float:
    """The end of the last of 48 flows that start at once."""
    topology = {"kind": "leaf_spine", "leaves": 7, "spines": 8, "hosts_per_leaf": 8}
    cluster = Cluster.from_dict(
        {
            "name": "srd",
            "topology": {**topology, "rate": "100Gbps", "latency": "1us"},
            "link": {"model": "lossy"},
            "transport": {"model": "srd"},
            "congestion_control": {"model": "srd_cc"},
        }
    )
    run = start(compile(cluster), [(8 + sender, 0, 2_000_000, 0) for sender in range(48)])
    run.step()
    return float(run.sends()["delivered_ps"].max()) / 1e9
