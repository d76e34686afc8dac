"""Finds what is alike in a program: rows that make the same traffic are one pattern, emulated once.

Two rows of a collective make the same traffic when kind, variant, bytes, stream, priority and ranks are the
same. Where every group lies inside one scale-up domain the domains matter only by their wiring, so that the
tensor-parallel groups of a thousand nodes are one pattern. Sends make the same traffic when the links of
their paths have the same rates and delays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim.topology.domains import alike_domains, scale_up_domains
from fabricsim.trace.schema import KIND_CODE

if TYPE_CHECKING:
    from fabricsim.program import Model, Program

__all__ = ["PathShapes", "Pattern", "find_patterns"]

Ints = npt.NDArray[np.int64]

FIRST, LAST = KIND_CODE["all_reduce"], KIND_CODE["barrier"]
_ROOTED = (KIND_CODE["broadcast"], KIND_CODE["reduce"])


@dataclass(frozen=True, eq=False)
class Pattern:
    """A row of a collective that stands for all that are like it.

    Parameters
    ----------
    row
        As the core reads it: alone, at once, with the ranks of its own groups only.
    n_groups
        Groups that its ranks are taken in.
    uses
        (row of the program, group of that row, group of the pattern), as int64[n] each.
    """

    row: Mapping[str, Any]
    n_groups: int
    uses: list[tuple[Ints, Ints, Ints]] = field(default_factory=list)


def find_patterns(program: Program) -> list[Pattern]:
    """Return the patterns of a program's collectives, in the order of their first rows."""
    return _Finder(program).patterns()


class _Finder:
    def __init__(self, program: Program) -> None:
        self.table = program.expansion.table.combine_chunks()
        topology = program.model.topology
        self.domain = scale_up_domains(topology)
        self.alike = alike_domains(topology)
        self.rank_host = np.asarray(program.rank_host, np.int64)
        # The place of a host among those of its domain.
        order = np.argsort(self.domain, kind="stable")
        first = np.searchsorted(self.domain[order], np.arange(int(self.domain.max()) + 1))
        self.place = np.empty(len(self.domain), np.int64)
        self.place[order] = np.arange(len(order)) - first[self.domain[order]]
        self.found: dict[tuple[Any, ...], Pattern] = {}
        self.sets: dict[tuple[bytes, int], list[tuple[bytes, Ints, list[Ints]]] | None] = {}

    def patterns(self) -> list[Pattern]:
        kind = self.table["kind"].to_numpy()
        rows = np.flatnonzero((kind >= FIRST) & (kind <= LAST))
        names = ["kind", "bytes", "stream", "priority", "variant", "group_size"]
        columns = {name: self.table[name].to_numpy() for name in names if name in self.table.column_names}
        lists = {name: _offsets(self.table, name) for name in ("ranks", "peer", "splits")}
        same: dict[tuple[Any, ...], list[int]] = {}
        for row in rows.tolist():
            parts = [values[begin[row] : begin[row + 1]] for begin, values in lists.values()]
            if len(parts[0]) < 2:
                continue
            key = (*(int(v[row]) for v in columns.values()), *(part.tobytes() for part in parts))
            same.setdefault(key, []).append(row)
        for alike in same.values():
            self._add(np.array(alike, np.int64))
        return list(self.found.values())

    def _add(self, rows: Ints) -> None:
        """Note rows that have everything in common."""
        told = self.table.slice(int(rows[0]), 1).to_pylist()[0]
        told |= {"id": 0, "after": [], "delay_ps": 0}
        if "count" in told:
            told["count"] = 1
        ranks = np.array(told["ranks"], np.int64)
        size = told.get("group_size") or len(ranks)
        if size < 2:
            return
        groups = ranks.reshape(-1, size)
        plain = tuple(told[name] for name in ("kind", "bytes", "stream", "priority", "variant"))
        classes = self._classes(groups) if not told["splits"] else None
        if classes is None:
            key = (*plain, size, ranks.tobytes(), tuple(told["peer"]), tuple(told["splits"]))
            everyone = np.arange(len(groups))
            self._use(key, told, groups, rows, everyone, everyone)
            return
        roots = self._roots(told, groups)
        for signature, chosen, alike in classes:
            mine = {**told, "ranks": groups[chosen].reshape(-1).tolist()}
            if "group_size" in told:
                mine["group_size"] = size if len(chosen) > 1 else 0
            if told["kind"] in _ROOTED:
                mine["peer"] = groups[chosen, roots[chosen]].tolist()
            key = (*plain, size, signature, roots[chosen].tobytes())
            for members in alike:
                self._use(key, mine, groups[chosen], rows, members, np.arange(len(members)))

    def _use(
        self,
        key: tuple[Any, ...],
        told: Mapping[str, Any],
        groups: Ints,
        rows: Ints,
        members: Ints,
        places: Ints,
    ) -> None:
        pattern = self.found.get(key)
        if pattern is None:
            pattern = self.found[key] = Pattern(told, len(groups))
        n = len(members)
        pattern.uses.append((np.repeat(rows, n), np.tile(members, len(rows)), np.tile(places, len(rows))))

    def _roots(self, told: Mapping[str, Any], groups: Ints) -> Ints:
        """Return the position of the root in each group, 0 where there is none."""
        if told["kind"] not in _ROOTED:
            return np.zeros(len(groups), np.int64)
        roots = np.array(told["peer"], np.int64)
        return np.argmax(groups == roots[:, None], axis=1).astype(np.int64)

    def _classes(self, groups: Ints) -> list[tuple[bytes, Ints, list[Ints]]] | None:
        """Return domains that hold whole groups by class: signature, groups of the first, of each.

        None when a group spans domains.
        """
        key = (groups.tobytes(), groups.shape[1])
        if key not in self.sets:
            self.sets[key] = self._make_classes(groups)
        return self.sets[key]

    def _make_classes(self, groups: Ints) -> list[tuple[bytes, Ints, list[Ints]]] | None:
        host = self.rank_host[groups]
        domain = self.domain[host]
        if (domain != domain[:, :1]).any():
            return None
        found: dict[bytes, list[Ints]] = {}
        order = np.argsort(domain[:, 0], kind="stable")
        cuts = np.flatnonzero(np.diff(domain[order, 0])) + 1
        for members in np.split(order, cuts):
            kind = self.alike[domain[members[0], 0]]
            signature = int(kind).to_bytes(4, "little") + self.place[host[members]].tobytes()
            found.setdefault(signature, []).append(members)
        return [(signature, alike[0], alike) for signature, alike in found.items()]


def _offsets(table: pa.Table, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    lists = table[name].combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.chunk(0)
    return lists.offsets.to_numpy().astype(np.int64), lists.values.to_numpy()


class PathShapes:
    """Numbers the shapes of paths: rates, delays and latencies in the order in which a packet meets them.

    Parameters
    ----------
    model
        A compiled cluster.
    """

    def __init__(self, model: Model) -> None:
        topology = model.topology
        ends = np.stack([topology.cable_b, topology.cable_a], axis=1).reshape(-1)
        self._link = np.stack(
            [
                np.repeat(topology.cable_rate_mbps, 2),
                np.repeat(topology.cable_delay_ps, 2),
                np.asarray(topology.node_latency_ps)[ends],
                np.repeat(topology.cable_network, 2),
            ],
            axis=1,
        ).astype(np.int64)
        self._model = model
        self._numbers: dict[bytes, int] = {}
        self._known: dict[tuple[int, int], int] = {}
        #: A pair of hosts of each shape.
        self.pairs: list[tuple[int, int]] = []

    def of(self, src: int, dst: int) -> int:
        """Return the number of the shape of the path between two hosts."""
        pair = (src, dst)
        if pair not in self._known:
            shape = self._link[self._model.engine.path(src, dst)].tobytes()
            if shape not in self._numbers:
                self._numbers[shape] = len(self.pairs)
                self.pairs.append(pair)
            self._known[pair] = self._numbers[shape]
        return self._known[pair]
