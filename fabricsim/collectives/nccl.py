"""NCCL's tuner: which algorithm and protocol it takes for a collective, by the times that it predicts.

A pure function of what NCCL sees of a system. For each algorithm and protocol there is a bandwidth and a
latency; the predicted time is ``latency + bytes / bandwidth``, and the least time wins. The rules are those
of the source that ``nccl_facts`` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fabricsim.collectives import nccl_facts as facts
from fabricsim.collectives.nccl_facts import ALGORITHMS, PROTOCOLS, Algorithm, Architecture, Protocol
from fabricsim.errors import ConfigError

__all__ = ["KINDS", "Choices", "Forced", "Graph", "System", "choose", "graphs", "model", "predict"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: The kinds that the tuner decides on, and the algorithms that each may take.
KINDS: Mapping[str, tuple[Algorithm, ...]] = {
    "all_reduce": tuple(a for a in ALGORITHMS if a is not Algorithm.PAT),
    "reduce_scatter": (Algorithm.RING, Algorithm.COLLNET_DIRECT, Algorithm.NVLS, Algorithm.PAT),
    "all_gather": (Algorithm.RING, Algorithm.COLLNET_DIRECT, Algorithm.NVLS, Algorithm.PAT),
    "broadcast": (Algorithm.RING,),
    "reduce": (Algorithm.RING,),
}

# NVLS gathers and scatters in domains of at most so many (NCCL_MAX_NVLS_ARITY).
_NVLS_RANKS_MOST = 32
# PCIe 3.0 x16: at or below this all rings together use blocks of 256 threads.
_PCIE_GBS = 12.0


@dataclass(frozen=True, kw_only=True)
class System:
    """What NCCL's tuner sees of a communicator's system.

    Parameters
    ----------
    architecture
        Of the GPUs.
    n_ranks, n_nodes
        Size of the communicator: ranks >= 1, nodes 1 to ``n_ranks``. A node is an NVLink domain.
    nvlink_gbs
        NVLink bandwidth of a GPU one way, GB/s, as NCCL counts it; 0 without NVLink.
    pcie_gbs
        Of a GPU one way, GB/s.
    nics, nic_gbs
        Network interfaces that the ranks of one node use, and GB/s of each; unused on one node.
    net_latency_us
        What the network plug-in tells of a message's latency; 0 for InfiniBand and RoCE.
    nvls, sharp
        Whether NVLink switches, and network switches, reduce.
    nvswitch
        Whether NVLink runs through switches.
    cpu
        ``intel`` or ``amd``.

    >>> System(architecture=Architecture.HOPPER, n_ranks=16, n_nodes=2, nvlink_gbs=370.8).ranks_per_node
    8.0
    """

    architecture: Architecture
    n_ranks: int
    n_nodes: int = 1
    nvlink_gbs: float = 0.0
    pcie_gbs: float = 12.0
    nics: int = 1
    nic_gbs: float = 12.0
    net_latency_us: float = 0.0
    nvls: bool = False
    sharp: bool = False
    nvswitch: bool = True
    cpu: str = "intel"

    @property
    def ranks_per_node(self) -> float:
        """Ranks over nodes."""
        return self.n_ranks / self.n_nodes

    @property
    def inside(self) -> str:
        """The kind of link inside a node: ``nvlink`` or ``pcie``."""
        return "nvlink" if self.nvlink_gbs > 0 else "pcie"


@dataclass(frozen=True, kw_only=True)
class Forced:
    """What a user forces, as NCCL_ALGO, NCCL_PROTO, NCCL_MIN_NCHANNELS and NCCL_MAX_NCHANNELS do.

    An algorithm is forced on the kinds that have it; the others choose freely. None: the tuner's choice.
    """

    algorithm: Algorithm | None = None
    protocol: Protocol | None = None
    least_channels: int = 1
    most_channels: int = facts.CHANNELS_MOST


@dataclass(frozen=True)
class Graph:
    """Channels that the search finds: how many, and GB/s of each inside a node and between nodes."""

    channels: int
    inside_gbs: float
    between_gbs: float


@dataclass(frozen=True)
class Choices:
    """Choices for some sizes, one entry a size.

    ``algorithm`` and ``protocol`` index ``ALGORITHMS`` and ``PROTOCOLS``; ``channels`` are those used,
    ``time_us`` is NCCL's own prediction.
    """

    algorithm: Ints
    protocol: Ints
    channels: Ints
    time_us: Floats


@dataclass(frozen=True)
class Model:
    """GB/s (0: not available) and latency in us of each algorithm (rows) and protocol (columns)."""

    gbs: Floats
    latency_us: Floats


# ---- channels


@lru_cache(maxsize=256)
def graphs(system: System) -> tuple[Graph, Graph, Graph]:
    """Return the channels of rings, of trees and of NVLS.

    >>> a100 = System(architecture=Architecture.AMPERE, n_ranks=8, nvlink_gbs=240.0)
    >>> graphs(a100)[0]
    Graph(channels=12, inside_gbs=20.0, between_gbs=20.0)
    """
    speeds, fits = _search(system)
    ring = _best(speeds, fits, _most_gbs(system))
    tree = ring
    if system.n_nodes == 2 and ring.channels:  # trees may be faster inside a node, as only half goes out
        total = _inside_gbs(system) * system.n_ranks / max(system.n_ranks - 2, 1)
        faster = [s for s in speeds if ring.inside_gbs < s and ring.channels * s <= total]
        faster = [s for s in faster if speeds[speeds.index(s) + 1] < 2 * ring.between_gbs]
        tree = replace(ring, inside_gbs=float(max(faster, default=ring.inside_gbs)))
    ring, tree = _doubled(system, ring), _doubled(system, tree)
    least = min(ring.channels, tree.channels)
    return replace(ring, channels=least), replace(tree, channels=least), _nvls_graph(system, speeds)


def _inside_gbs(system: System) -> float:
    return system.nvlink_gbs or system.pcie_gbs


def _most_gbs(system: System) -> float:
    if system.n_nodes == 1:
        return _inside_gbs(system)
    return min(system.nic_gbs, system.pcie_gbs)


def _search(system: System) -> tuple[list[float], list[int]]:
    """Return the speeds to try, and how many channels of each there is room for."""
    architecture, inside = system.architecture, _inside_gbs(system)
    most = facts.CHANNELS_MOST // 2
    if system.n_nodes == 1:
        speeds = list(facts.SPEEDS_INSIDE[architecture])
        return speeds, [min(most, int(inside / s + 1e-9)) for s in speeds]
    speeds = list(facts.SPEEDS_BETWEEN[architecture])
    room = []
    for speed in speeds:
        fit = system.nics * int(_most_gbs(system) / speed + 1e-9)
        if system.ranks_per_node > 1:
            fit = min(fit, int(inside / speed + 1e-9))
        else:
            fit = min(fit, int(system.pcie_gbs / speed + 1e-9))
        room.append(min(most, fit))
    return speeds, room


def _best(speeds: Sequence[float], fits: Sequence[int], most_gbs: float) -> Graph:
    """Return the channels of the greatest total, the fastest of those; speeds below half are not tried."""
    channels, best = 0, 0.0
    for speed, fit in zip(speeds, fits, strict=True):
        if speed > most_gbs + 1e-9 or fit == 0:
            continue
        if channels and speed < 0.49 * best:
            break
        if fit * speed > channels * best + 1e-9:
            channels, best = fit, float(speed)
    if not channels:
        return Graph(1, 0.1, 0.1)
    return Graph(channels, best, best)


def _doubled(system: System, graph: Graph) -> Graph:
    newer = system.architecture in (Architecture.HOPPER, Architecture.BLACKWELL)
    if graph.inside_gbs < 25 or (newer and graph.inside_gbs < 50 and graph.channels > 4):
        return graph
    channels = min(2 * graph.channels, facts.CHANNELS_MOST // 2)
    parts = -(-channels // graph.channels)
    return Graph(channels, graph.inside_gbs / parts, graph.between_gbs / parts)


def _nvls_graph(system: System, speeds: Sequence[float]) -> Graph:
    """One channel a rank of the domain: each sends what is its own to reduce."""
    heads = int(system.ranks_per_node)
    if not system.nvls or heads < 2:
        return Graph(0, 0.0, 0.0)
    total = system.nvlink_gbs * heads / (heads - 1)
    most = _most_gbs(system) if system.n_nodes > 1 else system.nvlink_gbs
    able = [s for s in speeds if s <= most + 1e-9]
    speed = max((s for s in able if s * heads <= total + 1e-9), default=0.0)
    if not speed and able:  # a large domain: not every rank has a channel
        speed = max(able, key=lambda s: int(total / s + 1e-9) * s)
        heads = int(total / speed + 1e-9)
    return Graph(heads, float(speed), float(speed)) if speed and heads > 1 else Graph(0, 0.0, 0.0)


def channels_of(system: System) -> int:
    """Return the channels of a communicator: those of the search, doubled.

    >>> channels_of(System(architecture=Architecture.HOPPER, n_ranks=8, nvlink_gbs=370.8))
    24
    """
    found = min(facts.CHANNELS_MOST, 2 * graphs(system)[0].channels)
    newer = system.architecture in (Architecture.HOPPER, Architecture.BLACKWELL)
    if system.n_nodes > 1 and newer and found < 16:
        found = min(16, 2 * found)
    return found


# ---- bandwidth and latency


@lru_cache(maxsize=1024)
def model(system: System, kind: str) -> Model:
    """Return bandwidths and latencies of every algorithm and protocol for a kind of collective."""
    gbs = np.zeros((len(ALGORITHMS), len(PROTOCOLS)))
    latency = np.zeros_like(gbs)
    if system.n_ranks > 1:
        for algorithm in KINDS[kind]:
            for p, protocol in enumerate(PROTOCOLS):
                a = ALGORITHMS.index(algorithm)
                if not _available(system, kind, algorithm, protocol):
                    continue
                gbs[a, p] = _bandwidth(system, kind, algorithm, protocol)
                latency[a, p] = _latency(system, kind, algorithm, p)
    gbs.flags.writeable = latency.flags.writeable = False
    return Model(gbs, latency)


def _available(system: System, kind: str, algorithm: Algorithm, protocol: Protocol) -> bool:
    one_node, simple = system.n_nodes == 1, protocol is Protocol.SIMPLE
    if protocol is Protocol.LL128 and not system.nvlink_gbs and system.ranks_per_node > 1:
        return False
    match algorithm:
        case Algorithm.NVLS:
            if not one_node and not system.sharp:
                return False
            gathers = kind in ("all_gather", "reduce_scatter")
            return simple and system.nvls and not (gathers and system.n_ranks > _NVLS_RANKS_MOST)
        case Algorithm.NVLS_TREE:
            return simple and system.nvls and not one_node
        case Algorithm.COLLNET_DIRECT:
            return simple and system.sharp and system.nvswitch and bool(system.nvlink_gbs) and not one_node
        case Algorithm.COLLNET_CHAIN:
            return simple and system.sharp and not one_node
        case Algorithm.PAT:
            return simple and system.n_nodes == system.n_ranks
    return True


def _bandwidth(system: System, kind: str, algorithm: Algorithm, protocol: Protocol) -> float:
    """Return GB/s of the collective's bytes."""
    n, nodes, per_node = system.n_ranks, system.n_nodes, system.ranks_per_node
    architecture, scale = system.architecture, min(system.n_nodes, 3) - 1
    ring, tree, nvls = graphs(system)
    graph = ring
    if algorithm is Algorithm.TREE:
        graph = tree
    elif algorithm in (Algorithm.NVLS, Algorithm.NVLS_TREE):
        graph = nvls
    if algorithm in (Algorithm.NVLS, Algorithm.NVLS_TREE):
        if graph.channels < 2:
            return 0.0
        inside = (
            graph.inside_gbs * facts.NVLS_EFFICIENCY[architecture] * (graph.channels - 1) / graph.channels
        )
        inside *= 2.0 if kind == "all_reduce" else (per_node - 1) / per_node
        speed = min(inside, graph.between_gbs * (2 if nodes <= 2 and algorithm is Algorithm.NVLS_TREE else 1))
        if algorithm is Algorithm.NVLS_TREE:
            speed = min(speed, facts.NVLS_TREE_MOST[architecture][scale])
    elif nodes <= 2 or algorithm in (Algorithm.COLLNET_DIRECT, Algorithm.COLLNET_CHAIN):
        speed = graph.inside_gbs
    else:
        speed = graph.between_gbs
    gbs = graph.channels * speed
    ll_most = facts.LL_MOST_ONE_NODE[architecture] if nodes == 1 else facts.LL_MOST[system.cpu][scale - 1]
    if algorithm is Algorithm.RING and protocol is Protocol.LL:
        gbs = min(ll_most, gbs * 0.5)
    elif algorithm is Algorithm.RING and protocol is Protocol.LL128:
        gbs = min(gbs * 0.92, graph.channels * facts.RING_LL128_MOST[architecture][scale])
    elif algorithm is Algorithm.TREE:
        gbs = min(gbs * 0.92, graph.channels * facts.TREE_MOST[architecture][scale])
        if protocol is Protocol.LL:
            gbs = min(gbs / 3.8, ll_most)
        elif protocol is Protocol.LL128:
            share = 7 / 9 if nodes == 1 else 120 / 128
            gbs = min(gbs * share, graph.channels * facts.TREE_LL128_MOST[architecture][scale])
    elif algorithm is Algorithm.PAT:
        gbs *= 0.75
    elif algorithm is Algorithm.COLLNET_DIRECT:
        if kind == "all_reduce":
            factor = per_node / graph.channels
            gbs /= factor - (factor - 1) / 2
            if architecture in (Architecture.HOPPER, Architecture.BLACKWELL):
                gbs *= 0.85
        else:
            gbs = per_node * min(graph.inside_gbs, graph.between_gbs * 0.9)
    if kind in ("all_gather", "reduce_scatter") and algorithm is not Algorithm.RING:
        return gbs
    if algorithm in (Algorithm.RING, Algorithm.NVLS, Algorithm.NVLS_TREE):
        return gbs * n / _steps(kind, n)
    return gbs * 0.5


def _steps(kind: str, n: int) -> int:
    if kind == "all_reduce":
        return 2 * (n - 1)
    return n - 1 if kind in ("all_gather", "reduce_scatter") else n


def _latency(system: System, kind: str, algorithm: Algorithm, p: int) -> float:
    """Return the latency of the collective in us."""
    n, nodes, simple = system.n_ranks, system.n_nodes, PROTOCOLS[p] is Protocol.SIMPLE
    others, log_nodes = n // nodes - 1, nodes.bit_length() - 1
    base = facts.BASE_LATENCY[algorithm][p]
    inside = facts.STEP_LATENCY[system.inside][algorithm][p]
    alone = system.ranks_per_node == 1
    between = facts.STEP_LATENCY["net"][Algorithm.TREE if alone else algorithm][p]
    between += system.net_latency_us * (2 if simple else 1)
    match algorithm:
        case Algorithm.RING if kind in ("broadcast", "reduce"):
            return base + facts.STEP_LATENCY[system.inside if nodes == 1 else "net"][algorithm][p]
        case Algorithm.RING:
            if nodes > 1:
                inside = max(inside, facts.NET_OVERHEAD[system.cpu] * (3 if simple else 1))
            across = (2 if kind == "all_reduce" else 1) * (nodes - 1)
            return base + (_steps(kind, n) - across) * inside + across * between
        case Algorithm.TREE:
            return base + 2 * (others * inside + log_nodes * between)
        case Algorithm.COLLNET_DIRECT:
            return base + 2 * (min(1, others) * inside + others * 0.4) + between
        case Algorithm.COLLNET_CHAIN:
            return base + 2 * others * inside + between
        case Algorithm.NVLS:
            return inside + (between if nodes > 1 else 0.0)
        case Algorithm.NVLS_TREE:
            return base + inside + 2 * log_nodes * between
        case Algorithm.PAT:
            return base + log_nodes * (between / 3.5) + n * 2.8
    raise AssertionError(algorithm)


# ---- times and choices


def predict(system: System, kind: str, sizes: npt.ArrayLike) -> Floats:
    """Return the time that NCCL predicts, us[sizes, algorithm, protocol]; infinite where it is no choice.

    Parameters
    ----------
    system
        The communicator.
    kind
        One of ``KINDS``.
    sizes
        Bytes of each operation as the trace counts them.

    >>> h100 = System(architecture=Architecture.HOPPER, n_ranks=8, nvlink_gbs=370.8, nvls=True)
    >>> float(predict(h100, "all_reduce", [8])[0, 1, 0].round(2))  # ring, LL
    15.0
    """
    size = np.asarray(sizes, np.int64)
    found = model(system, kind)
    gbs = np.broadcast_to(found.gbs, (len(size), *found.gbs.shape)).copy()
    latency = np.broadcast_to(found.latency_us, gbs.shape).copy()
    if kind == "all_reduce":
        log_size = np.frexp(np.maximum(size >> 6, 1).astype(np.float64))[1] - 1
        correction = np.asarray(facts.TREE_CORRECTION).T[np.minimum(log_size, 23)]
        known = (size >= 64)[:, None]
        tree = ALGORITHMS.index(Algorithm.TREE)
        gbs[:, tree] *= np.where(known & (log_size < 23)[:, None], correction, 1.0)
        if system.architecture is Architecture.BLACKWELL:
            nvls_tree = ALGORITHMS.index(Algorithm.NVLS_TREE)
            gbs[:, nvls_tree] *= np.where(known & (log_size < 24)[:, None], correction, 1.0)
        if system.n_nodes > 1:
            ring, simple = ALGORITHMS.index(Algorithm.RING), PROTOCOLS.index(Protocol.SIMPLE)
            plateau = 1.9 if system.architecture is Architecture.VOLTA else 1.4
            large = size // (channels_of(system) * system.n_ranks) >= 64
            latency[:, ring, simple] *= np.where(large, plateau, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        time = latency + size[:, None, None] / (1000 * gbs)
    return np.where(gbs > 0, time, np.inf)


def choose(system: System, kind: str, sizes: npt.ArrayLike, forced: Forced | None = None) -> Choices:
    """Return the choice of the least predicted time for each size; of equal times the first.

    Raises
    ------
    ConfigError
        When what is forced is not possible on this system.

    >>> h200 = System(architecture=Architecture.HOPPER, n_ranks=8, nvlink_gbs=370.8, nvls=True)
    >>> found = choose(h200, "all_reduce", [1 << 20, 2 << 20])
    >>> [str(ALGORITHMS[a]) for a in found.algorithm]
    ['ring', 'nvls']
    """
    forced = forced or Forced()
    size = np.asarray(sizes, np.int64)
    times = predict(system, kind, size)
    allowed = np.ones(times.shape[1:], bool)
    if forced.algorithm is not None and forced.algorithm in KINDS[kind]:
        allowed[np.arange(len(ALGORITHMS)) != ALGORITHMS.index(forced.algorithm)] = False
    if forced.protocol is not None:
        columns = np.arange(len(PROTOCOLS)) != PROTOCOLS.index(forced.protocol)
        # What has one protocol alone is not forced into another.
        several = (model(system, kind).gbs > 0).sum(axis=1) > 1
        allowed[np.ix_(several, columns)] = False
    if system.n_ranks > 1 and len(size) and not (allowed & (model(system, kind).gbs > 0)).any():
        raise ConfigError(_impossible(system, kind, forced))
    flat = np.where(allowed, times, np.inf).reshape(len(size), allowed.size)
    best = flat.argmin(axis=1)
    time = flat[np.arange(len(size)), best]
    algorithm, protocol = np.divmod(best, len(PROTOCOLS))
    if system.n_ranks == 1:
        algorithm, protocol = np.full_like(best, 1), np.full_like(best, 2)
        time = np.zeros(len(size))
    return Choices(algorithm, protocol, _channels(system, size, algorithm, protocol, forced), time)


def _impossible(system: System, kind: str, forced: Forced) -> str:
    able = model(system, kind).gbs > 0
    names = [
        f"{algorithm} with {', '.join(str(PROTOCOLS[p]) for p in np.flatnonzero(able[a]))}"
        for a, algorithm in enumerate(ALGORITHMS)
        if able[a].any()
    ]
    wanted = " with ".join(str(name) for name in (forced.algorithm, forced.protocol) if name)
    ranks = f"{system.n_ranks} ranks on {system.n_nodes} node{'s' if system.n_nodes > 1 else ''}"
    return f"collectives.nccl: found {wanted} for {kind} of {ranks}, allowed there: {'; '.join(names)}"


def _channels(system: System, size: Ints, algorithm: Ints, protocol: Ints, forced: Forced) -> Ints:
    """Return how many channels each operation uses: fewer for small ones."""
    most = max(min(channels_of(system), forced.most_channels), forced.least_channels)
    ring = graphs(system)[0]
    threads = np.array([facts.THREADS[p] for p in PROTOCOLS])
    if ring.channels * ring.inside_gbs <= _PCIE_GBS:
        threads[PROTOCOLS.index(Protocol.SIMPLE)] = 256
    each = np.array([facts.THREAD_BYTES[p] for p in PROTOCOLS])
    fill = (threads * each)[protocol]
    ring_ll = (algorithm == ALGORITHMS.index(Algorithm.RING)) & (protocol == PROTOCOLS.index(Protocol.LL))
    fill = np.where(ring_ll, fill * system.n_ranks, fill)
    used = np.clip(size // np.maximum(fill, 1), min(forced.least_channels, most), most)
    in_switch = np.isin(algorithm, [ALGORITHMS.index(a) for a in (Algorithm.NVLS, Algorithm.NVLS_TREE)])
    return np.where(in_switch, max(1, facts.NVLS_CHANNELS[system.architecture]), used)
