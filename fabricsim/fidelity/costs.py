"""Costs of a program's activities from packet runs of its patterns: what hybrid fidelity gives the flows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim.fidelity.growing import run_growing
from fabricsim.fidelity.patterns import PathShapes, Pattern, find_patterns
from fabricsim.fidelity.sends import Curve, measure_curve
from fabricsim.fidelity.steady import Emulated, Loads, run_steady
from fabricsim.topology.cabling import SCALE_OUT, SCALE_UP
from fabricsim.trace.schema import KIND_CODE, KINDS

if TYPE_CHECKING:
    from fabricsim.program import Program

__all__ = ["Costs", "hybrid_costs"]

Ints = npt.NDArray[np.int64]

#: Algorithms that send the same messages over the same links from begin to end.
SELF_SIMILAR = frozenset({"ring"})

#: What groups take alone is found in so many turns, or when they end together as they should, but for this.
TURNS = 6
NEAR = 0.0005


@dataclass(frozen=True)
class Costs:
    """What activities take when they are alone, and how that was found.

    Parameters
    ----------
    latency_ps, work_ps
        int64[activities], as ``engine.Flow`` takes them; -1: worked out there.
    patterns
        Different ones that were emulated.
    packet_hops
        Packets that crossed a link in those runs.
    extrapolated
        Share of the activities' time that lies beyond what was emulated.
    error
        How far foretold ends still differed, as a share: the mean over the activities' time.
    """

    latency_ps: Ints
    work_ps: Ints
    patterns: int
    packet_hops: int
    extrapolated: float
    error: float

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return {
            "patterns": self.patterns,
            "packet_hops": self.packet_hops,
            "extrapolated": round(self.extrapolated, 6),
            "error": round(self.error, 6),
        }


def hybrid_costs(
    program: Program,
    *,
    seed: int = 1,
    threads: int = 1,
    told: Callable[[int], None] | None = None,
) -> Costs:
    """Emulate each pattern of a program in packet detail and return the costs of all its activities.

    Parameters
    ----------
    program
        A compiled program.
    seed, threads
        Of the packet runs.
    told
        Called with the packet-hops so far.
    """
    return _Measuring(program, seed, threads, told).costs()


class _Measuring:
    def __init__(self, program: Program, seed: int, threads: int, told: Callable[[int], None] | None) -> None:
        from fabricsim._core import engine

        self.program, self.seed, self.threads, self.told = program, seed, threads, told
        activities = engine.Flow.activities(program.engine)
        self.op, self.group = activities["op"], activities["group"]
        n = len(self.op)
        self.time_ps, self.until_ps = np.full(n, -1, np.int64), np.zeros(n, np.int64)
        self.error = np.zeros(n)
        self.hops = 0
        self.first = np.searchsorted(self.op, np.arange(program.expansion.table.num_rows))
        own = engine.Flow(program.model.engine, program.engine, seed=seed)
        analytic = own.costs()
        self.latency_ps, self.work_ps = analytic["latency_ps"].copy(), analytic["work_ps"].copy()
        self.fabric = _Fabric(program)

    def costs(self) -> Costs:
        patterns = find_patterns(self.program)
        for pattern in patterns:
            found = self._emulate(pattern)
            self.hops += found.packet_hops
            first_row, first_group, _ = pattern.uses[0]
            activity = int(self.first[first_row[0]] + first_group[0])
            before_ps, alone = self._alone(pattern, found.time_ps, int(self.latency_ps[activity]))
            for rows, groups, places in pattern.uses:
                at = self.first[rows] + groups
                self.time_ps[at] = alone[places]
                self.latency_ps[at] = before_ps
                self.until_ps[at] = found.until_ps
                self.error[at] = found.error
        curves = self._sends()
        known = self.time_ps >= 0
        # Work is never shorter than the most loaded link needs, which is what the core reckons at least.
        latency = np.where(known, np.minimum(self.latency_ps, self.time_ps), self.latency_ps)
        work = np.where(known, self.time_ps - latency, self.work_ps)
        taken = np.where(known, self.time_ps, 0).astype(np.float64)
        whole = max(float(taken.sum()), 1.0)
        beyond = np.maximum(taken - self.until_ps, 0.0)
        return Costs(
            latency_ps=latency,
            work_ps=work,
            patterns=len(patterns) + curves,
            packet_hops=self.hops,
            extrapolated=float(beyond.sum()) / whole,
            error=float((self.error * taken).sum()) / whole,
        )

    def _emulate(self, pattern: Pattern) -> Emulated:
        from fabricsim._core import engine

        fabric, model = self.fabric, self.program.model.engine
        name, values = _algorithm(self.program, pattern)
        told = None if self.told is None else partial(_add, self.told, self.hops)
        if name in SELF_SIMILAR:
            own = self._program(pattern)
            tail = np.zeros(2, np.int64)
            tail[SCALE_UP] = values.get("step_ps", 0)
            tail[SCALE_OUT] = tail[SCALE_UP] + values.get("net_step_ps", 0)
            return run_steady(
                engine.Run(model, own, seed=self.seed, threads=self.threads),
                fabric.loads(engine.Flow(model, own, seed=self.seed), pattern.n_groups),
                n_groups=pattern.n_groups,
                rate_mbps=fabric.rate_mbps,
                ack_bytes=fabric.ack_bytes,
                launch_ps=values.get("launch_ps", 0),
                tail_ps=tail[fabric.network],
                told=told,
            )
        unit = max(1, _unit_bytes(name, values, pattern, max(fabric.mtu.values())))
        units = max(1, -(-int(pattern.row["bytes"]) // unit))

        def start(size: int) -> Any:
            own = self._program(pattern, size, units)
            return engine.Run(model, own, seed=self.seed, threads=self.threads)

        return run_growing(start, n_groups=pattern.n_groups, units=units, told=told)

    def _alone(self, pattern: Pattern, time_ps: Ints, latency_ps: int) -> tuple[int, Ints]:
        """Return latency and time of groups alone: sharing links makes of them what packets found."""
        from fabricsim._core import engine

        if pattern.n_groups == 1:
            return latency_ps, time_ps
        model, own = self.program.model.engine, self._program(pattern)
        alone = time_ps
        for _ in range(TURNS):
            latency = np.minimum(latency_ps, alone)
            costs = {"latency_ps": latency, "work_ps": alone - latency}
            flow = engine.Flow(model, own, seed=self.seed, costs=costs)
            flow.step()
            instances = flow.ops()
            together = (instances["end_ps"] - instances["start_ps"]).reshape(pattern.n_groups, -1).max(axis=1)
            if np.abs(together - time_ps).max() <= NEAR * time_ps.max():
                break
            if latency_ps:  # steps hide behind the messages before: they are no time before the work
                latency_ps = 0
            else:
                alone = np.maximum(np.rint(alone * (time_ps / together)).astype(np.int64), 1)
        return latency_ps, alone

    def _program(self, pattern: Pattern, size: int = 1, units: int = 1) -> Any:
        """Return the program of a pattern, or of ``size / units`` of it."""
        from fabricsim._core import engine

        program, row = self.program, dict(pattern.row)
        if size != units:
            row["bytes"] = row["bytes"] * size // units
            row["splits"] = [part * size // units for part in row["splits"]]
        return engine.Program(
            program.model.engine,
            pa.Table.from_pylist([row], schema=program.expansion.table.schema),
            rank_host=program.rank_host,
            algorithms=program.model.cluster.algorithms(),
            variants=program.plan.variants,
        )

    def _sends(self) -> int:
        """Give every send its time by the curve of its path; return how many curves there are."""
        table = self.program.expansion.table
        kind = table["kind"].to_numpy()
        wanted = np.flatnonzero(kind[self.op] == KIND_CODE["send"])
        if not wanted.size:
            return 0
        size, priority = table["bytes"].to_numpy(), table["priority"].to_numpy()
        ranks, peers = table["ranks"].combine_chunks(), table["peer"].combine_chunks()
        begin, values = ranks.offsets.to_numpy(), ranks.values.to_numpy()
        peer_begin, peer_values = peers.offsets.to_numpy(), peers.values.to_numpy()
        op, place = self.op[wanted], self.group[wanted]
        src, dst = values[begin[op] + place], peer_values[peer_begin[op] + place]
        host = np.asarray(self.program.rank_host, np.int64)
        shapes = PathShapes(self.program.model)
        pairs, which = np.unique(np.stack([src, dst]), axis=1, return_inverse=True)
        shape = np.array(
            [-1 if s == d else shapes.of(int(host[s]), int(host[d])) for s, d in pairs.T], np.int64
        )[which.reshape(-1)]
        rank_of = {int(h): rank for rank, h in enumerate(host.tolist())}
        curves = 0
        for number, (source, target) in enumerate(shapes.pairs):
            for data_class in np.unique(priority[op[shape == number]]).tolist():
                mine = wanted[(shape == number) & (priority[op] == data_class)]
                bytes_ = size[self.op[mine]]
                curve = self._curve((rank_of[source], rank_of[target]), data_class, int(bytes_.max()))
                curves += 1
                self.hops += curve.packet_hops
                self.time_ps[mine] = curve.time_of(bytes_)
                self.until_ps[mine] = curve.time_ps[-1]
                self.error[mine] = np.where(bytes_ > curve.bytes[-1], curve.error, 0.0)
        return curves

    def _curve(self, pair: tuple[int, int], priority: int, most_bytes: int) -> Curve:
        network = self.fabric.network_between(*(int(self.program.rank_host[rank]) for rank in pair))
        return measure_curve(self.program, pair, priority, self.fabric.mtu[network], most_bytes, self.seed)


class _Fabric:
    """What the packet runs need to know of the links."""

    def __init__(self, program: Program) -> None:
        cluster, topology = program.model.cluster, program.model.topology
        self.model = program.model
        self.network = np.repeat(np.asarray(topology.cable_network, np.int64), 2)
        self.rate_mbps = np.repeat(np.asarray(topology.cable_rate_mbps, np.int64), 2)
        models = {
            (room, more[0] if more else SCALE_OUT): (name, values)
            for room, name, values, *more in cluster.settings()
            if room in ("transport", "route")
        }
        networks = [number for number in (SCALE_OUT, SCALE_UP) if ("transport", number) in models]
        self.mtu = {number: models["transport", number][1]["mtu_bytes"] for number in networks}
        ack = np.zeros(2, np.int64)
        # Links inside the fabric carry what is known only where a connection keeps to one way.
        ends = np.stack([topology.cable_a, topology.cable_b], axis=1)
        tail, head = ends.reshape(-1) < topology.n_hosts, ends[:, ::-1].reshape(-1) < topology.n_hosts
        self.known = tail | head
        for number in networks:
            name, values = models["transport", number]
            ack[number] = values["ack_bytes"]
            if name != "srd" and _keeps_way(*models["route", number]):
                self.known |= self.network == number
        self.ack_bytes = ack[self.network]

    def network_between(self, src: int, dst: int) -> int:
        """Return the network that joins two hosts."""
        path = self.model.engine.path(src, dst)
        return int(self.network[path[0]]) if len(path) else SCALE_OUT

    def loads(self, flow: Any, n_groups: int) -> Loads:
        """Return what the groups of a pattern put on links that are sure to carry it."""
        parts = [flow.loads(group) for group in range(n_groups)]
        group = np.repeat(np.arange(n_groups), [len(part["link"]) for part in parts])
        link, size, packets = (
            np.concatenate([np.asarray(part[name], np.int64) for part in parts])
            for name in ("link", "bytes", "packets")
        )
        sure = self.known[link]
        return Loads(group[sure], link[sure], size[sure], packets[sure])


def _add(told: Callable[[int], None], before: int, hops: int) -> None:
    told(before + hops)


def _keeps_way(route: str, values: Mapping[str, int]) -> bool:
    return not values.get("multipath") if route == "torus" else route not in ("adaptive", "spray")


def _unit_bytes(name: str, values: Mapping[str, int], pattern: Pattern, mtu: int) -> int:
    """Return the bytes of one round of chunks, or of one packet between each pair."""
    ranks = len(pattern.row["ranks"]) // pattern.n_groups
    chunk, channels = values.get("chunk_bytes", 0), values.get("channel_count", 1)
    if not chunk:
        return ranks * mtu
    by_parts = pattern.row["kind"] in (KIND_CODE["reduce_scatter"], KIND_CODE["all_gather"])
    match name:
        case "double_tree":
            return 2 * channels * chunk
        case "nvls_tree":
            return 16 * chunk  # two trees of as many shares as a domain has ranks: eight, mostly
        case _:
            return chunk * channels * (ranks if by_parts else 1)


def _algorithm(program: Program, pattern: Pattern) -> tuple[str, Mapping[str, int]]:
    """Return the algorithm that a pattern runs with, and its parameters."""
    variant = int(pattern.row["variant"])
    if variant >= 0:
        return program.plan.variants[variant]
    cluster = program.model.cluster
    name = cluster.algorithms().get(KINDS[pattern.row["kind"]], "")
    for room, own, values, *_ in cluster.settings():
        if room == "coll" and own == name:
            return name, values
    return name, {}
