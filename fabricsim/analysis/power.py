"""Energy of a run: what each part drew, from the times and bytes of the run and the watts that are given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fabricsim.analysis.breakdown import breakdown
from fabricsim.analysis.columns import column
from fabricsim.errors import ConfigError
from fabricsim.topology.cabling import SCALE_OUT, SCALE_UP

if TYPE_CHECKING:
    from fabricsim.cluster import Cluster
    from fabricsim.fabrics.power import Power
    from fabricsim.result import Result
    from fabricsim.topology import Topology

__all__ = ["energy", "power"]

# A network interface that several GPUs share is a node of the topology `nodes`.
_NIC = re.compile(r"node\d+\.nic\d+")

_PS, _PJ = 1e-12, 1e-12


def power(result: Result, cluster: Cluster) -> dict[str, Any]:
    """Return the energy of a run and where it went.

    Parameters
    ----------
    result
        Of a replay on the cluster.
    cluster
        With a section ``[power]``, which may differ from the one of the replay.

    Returns
    -------
    dict
        ``energy_j`` with cooling, ``average_w``, ``per_step_j`` (None where the trace tells no steps),
        ``parts_j`` that add up to ``energy_j``, ``accelerators`` and ``pue``; joules and watts as floats.

    Raises
    ------
    ConfigError
        When the cluster has no section ``[power]``.

    >>> import fabricsim
    >>> from fabricsim.workload import collective
    >>> cluster = fabricsim.Cluster.from_toml("demo-64-400g-roce", ["power.accelerator_compute_w=700"])
    >>> trace = collective("all_reduce", size_bytes=1 << 20, n_ranks=64)
    >>> found = power(fabricsim.replay(trace, cluster), cluster)
    >>> found["accelerators"], found["average_w"] <= 64 * 700
    (64, True)
    """
    if cluster.power is None:
        raise ConfigError([f"cluster {cluster.name!r} has no section [power]"])
    end_ps = int(result.summary["end_ps"])
    topology = cluster.topology()
    # A store without targets of its own is local: one at each host.
    targets = [len(store["targets"]) or topology.n_rank_hosts for store in cluster.stores()]
    return energy(
        cluster.power,
        topology,
        result.ops,
        result.links,
        end_ps,
        targets=result.storage,
        target_count=sum(targets),
    )


def energy(
    watts: Power,
    topology: Topology,
    ops: pa.Table,
    links: pa.Table,
    end_ps: int,
    *,
    targets: pa.Table | None = None,
    target_count: int = 0,
) -> dict[str, Any]:
    """Return what ``power`` does, from the tables of a result.

    Parameters
    ----------
    watts, topology
        Of the cluster.
    ops, links, targets
        The tables ``ops``, ``links`` and, if there is one, ``storage`` of a result.
    end_ps
        The length of the run, ps.
    target_count
        Storage targets of the cluster.
    """
    seconds = end_ps * _PS
    states = breakdown(ops, end_ps)
    accelerators = topology.n_rank_hosts
    compute_s, exposed_s = (float(int(t.sum())) * _PS for t in (states.compute_ps, states.exposed_ps))
    idle_s = max(0.0, accelerators * seconds - compute_s - exposed_s)
    parts = {
        "accelerator_compute": compute_s * watts.accelerator_compute_w,
        "accelerator_communication": exposed_s * watts.communication_w,
        "accelerator_idle": idle_s * watts.idle_w,
        "hosts": accelerators * seconds * watts.host_w,
    }
    parts |= _network(watts, topology, column(links, "bytes"), seconds)
    parts["storage_servers"] = topology.n_storage_hosts * seconds * watts.storage_server_w
    busy_s = 0.0
    if targets is not None:
        target_count = max(target_count, targets.num_rows)
        busy_s = float(np.minimum(column(targets, "busy_ps"), end_ps).sum()) * _PS
    parts["storage_targets"] = busy_s * (watts.target_active_w - watts.target_idle_w)
    parts["storage_targets"] += target_count * seconds * watts.target_idle_w
    parts["cooling"] = sum(parts.values()) * (watts.pue - 1)
    total = sum(parts.values())
    steps = _steps(ops)
    return {
        "energy_j": total,
        "average_w": total / seconds if end_ps else 0.0,
        "per_step_j": total / steps if steps else None,
        "steps": steps,
        "accelerators": accelerators,
        "pue": watts.pue,
        "parts_j": parts,
    }


def _network(watts: Power, topology: Topology, sent: np.ndarray, seconds: float) -> dict[str, float]:
    """Return the energy of interfaces, links and switches; ``sent`` is the bytes of each directed link."""
    t = topology
    assert t.cable_network is not None
    names = t.node_names[t.n_hosts :]
    nic = np.array([False] * t.n_hosts + [bool(_NIC.fullmatch(name)) for name in names], bool)
    up = np.zeros(t.n_nodes, bool)
    for ends in (t.cable_a, t.cable_b):
        up[ends[t.cable_network == SCALE_UP]] = True
    switch = ~nic
    switch[: t.n_hosts] = False

    # An interface is the end of a scale-out cable at a host of a rank or of storage, or a node of its own.
    real = np.zeros(t.n_nodes, bool)
    real[: t.reducer_first] = True
    out = t.cable_network == SCALE_OUT
    inside = nic[t.cable_a] | nic[t.cable_b]
    ends_at_hosts = (real[t.cable_a].astype(np.int64) + real[t.cable_b])[out & ~inside].sum()
    nics = int(nic.sum()) + int(ends_at_hosts)

    # Cables of reducers, and between a GPU and the interface that it shares, are inside a box.
    host = np.arange(t.n_nodes) < t.n_hosts
    boxed = (nic[t.cable_a] & host[t.cable_b]) | (nic[t.cable_b] & host[t.cable_a])
    reducer = host & ~real
    boxed |= reducer[t.cable_a] | reducer[t.cable_b]
    bits = 8.0 * sent.reshape(-1, 2).sum(1)
    found = {"nics": nics * seconds * watts.nic_w, "links": 0.0, "switches": 0.0}
    for network, idle_w, bit_pj, switch_w in (
        (SCALE_OUT, watts.link_w, watts.link_pj_per_bit, watts.switch_w),
        (SCALE_UP, watts.scale_up_link_w, watts.scale_up_link_pj_per_bit, watts.scale_up_switch_w),
    ):
        mine = (t.cable_network == network) & ~boxed
        found["links"] += int(mine.sum()) * seconds * idle_w + float(bits[mine].sum()) * bit_pj * _PJ
        count = int((switch & (up == (network == SCALE_UP))).sum())
        found["switches"] += count * seconds * switch_w
    # Links come in pairs: first from a to b, then back.
    source = np.stack([t.cable_a, t.cable_b], 1).reshape(-1)
    found["switches"] += 8.0 * float(sent[switch[source]].sum()) * watts.switch_pj_per_bit * _PJ
    return found


def _steps(ops: pa.Table) -> int:
    """Return how many steps the operations belong to."""
    return len(ops["step"].drop_null().unique()) if "step" in ops.column_names else 0
