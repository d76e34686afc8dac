"""Collects bundles of cables, for topologies of more than two kinds of cable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fabricsim.topology.model import CircuitSchedule, Int32, Int64, Topology

__all__ = ["SCALE_OUT", "SCALE_UP", "Cabling"]

#: The networks of a topology.
SCALE_OUT, SCALE_UP = 0, 1

#: The most that a cable carries, Mb/s: what the core takes, 1 Pb/s.
MAX_RATE_MBPS = 1_000_000_000


class Cabling:
    """Cables in the order in which they are added, which is the order of the ports of their nodes."""

    def __init__(self) -> None:
        self._ends: list[tuple[Int32, Int32]] = []
        self._values: list[tuple[Int64, Int64, npt.NDArray[np.int8]]] = []

    def add(
        self,
        a: npt.ArrayLike,
        b: npt.ArrayLike,
        rate_mbps: npt.ArrayLike,
        delay_ps: int,
        network: int = SCALE_OUT,
    ) -> None:
        """Add cables from ``a`` to ``b``, int[n] each or one number, all of one delay and network."""
        ends = np.broadcast_arrays(np.asarray(a, np.int32), np.asarray(b, np.int32), np.asarray(rate_mbps))
        size = ends[0].size
        self._ends.append((ends[0].reshape(-1), ends[1].reshape(-1)))
        rates = ends[2].reshape(-1).astype(np.int64)
        self._values.append((rates, np.full(size, delay_ps, np.int64), np.full(size, network, np.int8)))

    def add_reducers(
        self, first: int, switches: npt.ArrayLike, delay_ps: int, network: int = SCALE_OUT
    ) -> int:
        """Hang a reducer on each switch, as fast as all ports of the switch together.

        Parameters
        ----------
        first
            Node number of the first reducer; the others follow.
        switches
            int[n], whose other cables have been added before.

        Returns
        -------
        int
            The node number after the last reducer.
        """
        nodes = np.asarray(switches, np.int32)
        at = [np.bincount(side, weights=rate) for side, rate in self._sides()]
        rates = np.zeros(max(nodes.max(initial=-1) + 1, *(sums.size for sums in at)))
        for sums in at:
            rates[: sums.size] += sums
        last = first + nodes.size
        self.add(np.arange(first, last), nodes, np.minimum(rates[nodes], MAX_RATE_MBPS), delay_ps, network)
        return last

    def _sides(self) -> list[tuple[Int32, Int64]]:
        pairs = zip(self._ends, self._values, strict=True)
        return [(side, rates) for ends, (rates, _, _) in pairs for side in ends]

    def topology(
        self,
        kind: str,
        n_hosts: int,
        n_switches: int,
        reducer_first: int,
        latency_ps: Int64,
        names: Sequence[str],
        circuits: CircuitSchedule | None = None,
    ) -> Topology:
        """Make the topology of all cables; ``latency_ps`` is that of each node."""
        ends, values = self._ends, self._values
        return Topology(
            kind=kind,
            n_hosts=n_hosts,
            n_switches=n_switches,
            cable_a=np.concatenate([a for a, _ in ends]),
            cable_b=np.concatenate([b for _, b in ends]),
            cable_rate_mbps=np.concatenate([rate for rate, _, _ in values]),
            cable_delay_ps=np.concatenate([delay for _, delay, _ in values]),
            cable_network=np.concatenate([network for _, _, network in values]),
            node_latency_ps=latency_ps,
            node_names=tuple(names),
            reducer_first=reducer_first,
            circuits=circuits,
        )
