"""From a library's choices to variants of the core's algorithms, one a row of a program.

A variant is an algorithm of the core with values for its parameters. Wire times come from the emulated
fabric; what software takes (launches, steps) comes from NCCL's tuner, less what the fabric takes for a hop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim import fabrics
from fabricsim.collectives import nccl_facts as facts
from fabricsim.collectives.nccl import KINDS, Forced, System, choose
from fabricsim.collectives.nccl_facts import ALGORITHMS, PROTOCOLS, Algorithm, Protocol
from fabricsim.collectives.system import Site, site_of
from fabricsim.errors import ConfigError, Problem
from fabricsim.trace.schema import KIND_CODE
from fabricsim.trace.schema import KINDS as TRACE_KINDS

if TYPE_CHECKING:
    from fabricsim.cluster import Cluster

__all__ = ["Plan", "make_plan"]

Ints = npt.NDArray[np.int64]
Variant = tuple[str, dict[str, int]]

_PS_PER_US = 1_000_000
_VARIANTS_MOST = 32_767

#: The core's algorithm for each of NCCL's. The ring of a broadcast or reduce is a chain; NVLS that gathers or
#: scatters goes through the one switch.
IMPLEMENTATIONS: Mapping[Algorithm, str] = {
    Algorithm.TREE: "double_tree",
    Algorithm.RING: "ring",
    Algorithm.COLLNET_DIRECT: "in_network",
    Algorithm.COLLNET_CHAIN: "in_network",
    Algorithm.NVLS: "nvls_tree",
    Algorithm.NVLS_TREE: "nvls_tree",
    Algorithm.PAT: "pat",
}
_CHAINED = ("broadcast", "reduce")


@dataclass
class Plan:
    """What the rows of a program run with.

    Parameters
    ----------
    table
        The lowered rows: ``variant`` is an index into ``variants``, -1 for the kind's own algorithm.
    variants
        (algorithm of the core, value by parameter).
    algorithm, protocol, channels, time_us
        By row, what NCCL chose (-1 and NaN where it chooses nothing), and the time that it predicts.
    """

    table: pa.Table
    variants: list[Variant]
    algorithm: Ints
    protocol: Ints
    channels: Ints
    time_us: npt.NDArray[np.float64]
    _numbers: dict[tuple[Any, ...], int] = field(default_factory=dict, repr=False)

    @classmethod
    def without_choice(cls, table: pa.Table) -> Plan:
        """Return the plan of rows that run as they are."""
        none = np.full(table.num_rows, -1, np.int64)
        return cls(table, [], none, none.copy(), none.copy(), np.full(table.num_rows, np.nan))

    def add(self, variant: Variant) -> int:
        """Return the number of a variant, a new one if there is none like it."""
        name, values = variant
        key = (name, *values.items())
        if key not in self._numbers:
            self._numbers[key] = len(self.variants)
            self.variants.append(variant)
        return self._numbers[key]

    def choice(self, row: int) -> dict[str, Any] | None:
        """Return what was chosen for a row as JSON types, or None."""
        if self.algorithm[row] < 0:
            return None
        return {
            "algorithm": str(ALGORITHMS[self.algorithm[row]]),
            "protocol": str(PROTOCOLS[self.protocol[row]]),
            "channels": int(self.channels[row]),
            "predicted_us": float(self.time_us[row]),
        }


def make_plan(cluster: Cluster, lowered: pa.Table, rank_host: npt.NDArray[np.int32]) -> Plan:
    """Choose for every row of a lowered table.

    Parameters
    ----------
    cluster
        With its library and what is forced.
    lowered
        Rows as ``fabricsim.trace.lower`` returns them.
    rank_host
        int32[ranks], the host of each rank.

    Raises
    ------
    ConfigError
        When what is forced is not possible, or the system is not known well enough.
    """
    plan = Plan.without_choice(lowered)
    told = cluster.collectives
    kind = lowered["kind"].to_numpy()
    own = [KIND_CODE[name] for name in (*told.algorithms, *told.graphs)]  # those that the user chose
    chosen = (kind >= KIND_CODE["all_reduce"]) & (kind <= KIND_CODE["barrier"]) & ~np.isin(kind, own)
    rows = np.flatnonzero(chosen)
    if told.library != "nccl" or not rows.size:
        return plan
    site = site_of(cluster)
    forced = Forced(
        algorithm=Algorithm(told.nccl.algorithm) if told.nccl.algorithm else None,
        protocol=Protocol(told.nccl.protocol) if told.nccl.protocol else None,
        least_channels=told.nccl.min_channel_count,
        most_channels=told.nccl.max_channel_count,
    )
    domain = site.domain[rank_host]
    parts = _group_sizes(lowered)
    plan.table = _node_by_node(lowered, rows, parts, domain)
    n_ranks, n_nodes, even = _shapes(plan.table["ranks"], rows, parts, domain)
    keys = np.stack([kind[rows].astype(np.int64), n_ranks, n_nodes, even])
    unique, which = np.unique(keys, axis=1, return_inverse=True)
    size = lowered["bytes"].to_numpy()
    variant = np.full(lowered.num_rows, -1, np.int64)
    for index in range(unique.shape[1]):
        mine = rows[which.reshape(-1) == index]
        code, ranks, nodes, is_even = (int(v) for v in unique[:, index])
        system = site.system(ranks, nodes, bool(is_even))
        name = TRACE_KINDS[code]
        if name in KINDS:
            variant[mine] = _choose(plan, site, system, name, mine, size[mine], forced)
        else:
            variant[mine] = _without_choice(plan, site, system, name, size[mine])
    if len(plan.variants) > _VARIANTS_MOST:
        text = f"found {len(plan.variants)} variants of collectives, allowed: {_VARIANTS_MOST}"
        raise ConfigError([Problem("collectives", text)])
    at = lowered.column_names.index("variant")
    column = pa.array(variant.astype(np.int16))
    plan.table = plan.table.set_column(at, lowered.schema.field(at), column)
    return plan


def _group_sizes(table: pa.Table) -> Ints:
    """Return how many ranks of each row do its operation together."""
    n_ranks: Ints = table["ranks"].chunk(0).value_lengths().to_numpy().astype(np.int64)
    if "group_size" not in table.column_names:
        return n_ranks
    size = table["group_size"].to_numpy()
    return np.where(size > 0, size, n_ranks)


def _node_by_node(table: pa.Table, rows: Ints, parts: Ints, domain: npt.NDArray[np.int32]) -> pa.Table:
    """Return the table with the ranks of each group together by node, as NCCL takes them.

    Only kinds whose parts are alike: a rank's part of an all_to_all with splits stays its own.
    """
    lists = table["ranks"].chunk(0)
    offsets, values = lists.offsets.to_numpy().astype(np.int64), lists.values.to_numpy()
    kinds, splits = table["kind"].to_numpy(), table["splits"].chunk(0).value_lengths().to_numpy()
    alike = rows[(kinds[rows] != KIND_CODE["all_to_all"]) | (splits[rows] == 0)]
    changed, known = None, {}
    for row in alike:
        for begin in range(offsets[row], offsets[row + 1], parts[row]):
            members = values[begin : begin + parts[row]]
            key = members.tobytes()
            if key not in known:
                known[key] = _together(members, domain)
            if known[key] is not None:
                changed = values.copy() if changed is None else changed
                changed[begin : begin + parts[row]] = known[key]
    if changed is None:
        return table
    column = pa.ListArray.from_arrays(lists.offsets, pa.array(changed, pa.int32()))
    at = table.column_names.index("ranks")
    return table.set_column(at, table.schema.field(at), column)


def _together(members: npt.NDArray[np.int32], domain: npt.NDArray[np.int32]) -> npt.NDArray[np.int32] | None:
    """Return ranks node by node, nodes in the order of their first rank; None when they are."""
    nodes = domain[members]
    if np.count_nonzero(np.diff(nodes)) + 1 == len(np.unique(nodes)):
        return None
    _, first, which = np.unique(nodes, return_index=True, return_inverse=True)
    found: npt.NDArray[np.int32] = members[np.argsort(first[which.reshape(-1)], kind="stable")]
    return found


def _shapes(
    ranks: pa.ChunkedArray, rows: Ints, parts: Ints, domain: npt.NDArray[np.int32]
) -> tuple[Ints, Ints, npt.NDArray[np.int64]]:
    """Return ranks and nodes of each row's groups, and whether each node has as many of its ranks.

    Where the groups of a row lie over different numbers of nodes, its ranks all run what suits the widest.
    """
    lists = ranks.combine_chunks() if ranks.num_chunks != 1 else ranks.chunk(0)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    lengths = parts[rows]
    values = lists.values.to_numpy()
    nodes, even = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    # Rows of one set have the same bytes: its first and last rank and its length tell most sets apart.
    found: dict[bytes, tuple[int, int]] = {}
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        members = values[offsets[row] : offsets[row + 1]]
        key = members.tobytes() + length.tobytes()
        if key not in found:
            groups = (np.unique(g, return_counts=True)[1] for g in domain[members].reshape(-1, length))
            found[key] = max((len(counts), int(counts.min() == counts.max())) for counts in groups)
        nodes[i], even[i] = found[key]
    return lengths, nodes, even


def _choose(
    plan: Plan, site: Site, system: System, kind: str, rows: Ints, sizes: Ints, forced: Forced
) -> Ints:
    """Note what the tuner chooses for rows; return the numbers of their variants."""
    unique, which = np.unique(sizes, return_inverse=True)
    found = choose(system, kind, unique, forced)
    plan.algorithm[rows], plan.protocol[rows] = found.algorithm[which], found.protocol[which]
    plan.channels[rows], plan.time_us[rows] = found.channels[which], found.time_us[which]
    choices = zip(found.algorithm, found.protocol, found.channels, unique, strict=True)
    numbers = [
        plan.add(_variant(site, system, kind, ALGORITHMS[a], PROTOCOLS[p], int(channels), int(size)))
        for a, p, channels, size in choices
    ]
    return np.array(numbers, np.int64)[which]


def _without_choice(plan: Plan, site: Site, system: System, kind: str, sizes: Ints) -> Ints:
    """Return variants of what the tuner does not know: messages between pairs, and a barrier's."""
    name = "pairwise" if kind == "all_to_all" else "dissemination"
    small = np.ones(len(sizes), bool)
    if kind == "all_to_all":
        small = sizes // system.n_ranks <= facts.P2P_LL_BYTES
    numbers = []
    for protocol in (Protocol.LL, Protocol.SIMPLE):
        values = _latencies(site, system, Algorithm.RING, protocol, kind)
        if kind == "all_to_all":
            values["overhead_ppm"] = facts.PROTOCOL_OVERHEAD_PPM[protocol]
            values["up_overhead_ppm"] = _kernel_overhead(site, system, Algorithm.RING, protocol)
            values["window_count"] = min(max(system.n_ranks - 1, 1), facts.P2P_AT_ONCE)
        numbers.append(plan.add(_known(name, values)))
    return np.where(small, numbers[0], numbers[1])


# ---- a variant


def _variant(
    site: Site, system: System, kind: str, algorithm: Algorithm, protocol: Protocol, channels: int, size: int
) -> Variant:
    name = "chain" if kind in _CHAINED else IMPLEMENTATIONS[algorithm]
    if algorithm is Algorithm.NVLS and kind != "all_reduce":
        name = "in_network"
    values = _latencies(site, system, algorithm, protocol, kind)
    values["overhead_ppm"] = facts.PROTOCOL_OVERHEAD_PPM[protocol]
    values["up_overhead_ppm"] = _kernel_overhead(site, system, algorithm, protocol)
    values["channel_count"] = max(1, channels // 2) if algorithm is Algorithm.TREE else channels
    values["chunk_bytes"] = _chunk(system, kind, algorithm, protocol, channels, size)
    return _known(name, values)


def _known(name: str, values: Mapping[str, int]) -> Variant:
    """Return the variant with those values that the core's algorithm knows, within their limits."""
    table = fabrics.parameter_table().of("coll", name)
    return name, {
        key: min(max(value, table[key].minimum), table[key].maximum)
        for key, value in values.items()
        if key in table
    }


def _latencies(
    site: Site, system: System, algorithm: Algorithm, protocol: Protocol, kind: str
) -> dict[str, int]:
    """Return launch and step times in ps: NCCL's, less what the emulated fabric takes for a hop."""
    p = PROTOCOLS.index(protocol)
    base = facts.BASE_LATENCY[algorithm][p]
    inside = facts.STEP_LATENCY[system.inside][algorithm][p]
    alone = system.ranks_per_node == 1
    between = facts.STEP_LATENCY["net"][Algorithm.TREE if alone else algorithm][p]
    if algorithm is Algorithm.RING and system.n_nodes > 1 and kind not in _CHAINED:
        inside = max(inside, facts.NET_OVERHEAD[system.cpu] * (3 if protocol is Protocol.SIMPLE else 1))
    if system.n_nodes == system.n_ranks:
        inside = 0.0
    match algorithm:
        case Algorithm.NVLS | Algorithm.NVLS_TREE | Algorithm.COLLNET_DIRECT | Algorithm.COLLNET_CHAIN:
            # The tuner has one latency for the whole way into the switches and back.
            launch = base + inside + (between if algorithm is not Algorithm.NVLS_TREE else 0.0)
            if algorithm is Algorithm.NVLS and system.n_nodes == 1:
                launch = base + inside
            inside_ps, launch_ps = 0, _ps(launch) - 2 * site.hop_ps
        case Algorithm.PAT:
            inside_ps, launch_ps = _ps(inside) - site.hop_ps, _ps(base + system.n_ranks * 2.8)
            between /= 3.5
        case _:
            inside_ps, launch_ps = _ps(inside) - site.hop_ps, _ps(base)
    return {
        "launch_ps": max(launch_ps, 0),
        "step_ps": max(inside_ps, 0),
        # added to step_ps where a message came over the scale-out network
        "net_step_ps": max(_ps(between) - site.net_hop_ps - max(inside_ps, 0), 0),
    }


def _kernel_overhead(site: Site, system: System, algorithm: Algorithm, protocol: Protocol) -> int:
    """Return what a kernel's stores need of NVLink beside the data, ppm.

    A kernel attains what NCCL counts of a link, not all that the link carries; NVLS its published share of
    that, and LL no more than NCCL's limit.
    """
    if not site.link_gbs or not system.nvlink_gbs:
        return 0
    attained = system.nvlink_gbs
    if protocol is Protocol.LL:  # flags and all
        attained = min(attained, 2 * facts.LL_MOST_ONE_NODE[system.architecture])
    if algorithm in (Algorithm.NVLS, Algorithm.NVLS_TREE):
        attained *= facts.NVLS_EFFICIENCY[system.architecture]
    return max(0, round(1_000_000 * (site.link_gbs / attained - 1)))


def _ps(time_us: float) -> int:
    return round(time_us * _PS_PER_US)


def _chunk(
    system: System, kind: str, algorithm: Algorithm, protocol: Protocol, channels: int, size: int
) -> int:
    """Return the bytes of a message of one channel: a power of two, so that sizes share variants."""
    if protocol is not Protocol.SIMPLE:
        return facts.LL_CHUNK_BYTES
    step = facts.SIMPLE_BUFFER_BYTES // facts.STEPS
    if algorithm in (Algorithm.NVLS, Algorithm.NVLS_TREE):
        chunk, at_once = facts.NVLS_CHUNK_BYTES, channels * max(1, int(system.ranks_per_node))
        for least, times in ((65_536, 64), (32_768, 8), (16_384, 2)):
            if size < times * at_once * chunk and chunk > least:
                chunk = least
        return chunk
    if algorithm is Algorithm.TREE:
        chunk, depth = step, int(system.ranks_per_node) - 1 + max(1, system.n_nodes.bit_length() - 1)
        for least, times in ((131_072, 8), (65_536, 4), (32_768, 1)):
            while size // (channels * chunk) < depth * times and chunk > least:
                chunk //= 2
        return chunk
    if kind in _CHAINED:
        return step
    # A ring's chunk travels in two slices, each at least 1/32 of its full size.
    most, part = facts.SLICE_STEPS * step, -(-size // (system.n_ranks * channels))
    half = max(-(-part // 2), most // facts.SLICE_LEAST)
    return int(min(most, 1 << (half - 1).bit_length()))
