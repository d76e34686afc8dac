"""Writes operations out for the core's packets, and folds what was run back to them.

What happens several times becomes as many rows. A user's graphs take the place of the operations of their
kind: an operation becomes a begin, its steps and an end, on each rank; begin and end take no time and keep
its place in the stream. Receives wait for the receive before them in their thread, sends too; nothing waits
for a send but what names it. Each message is a flow of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim.collectives.graph import Graph, Step
from fabricsim.errors import InputError, Problem
from fabricsim.trace.schema import KIND_CODE, KINDS

__all__ = ["Expansion", "expand"]

Ints = npt.NDArray[np.int64]
Arrays = dict[str, np.ndarray]

_PLAIN, _BEGIN, _STEP, _END = range(4)


@dataclass(frozen=True)
class Expansion:
    """The rows that the core runs, and where they come from.

    Parameters
    ----------
    table
        Rows as the core reads them.
    origin, role
        Of each row: the row that it comes from, and whether it is that row itself, its begin, a step or its
        end.
    """

    table: pa.Table
    origin: Ints
    role: npt.NDArray[np.int8]

    def fold(self, instances: Arrays) -> Arrays:
        """Return operations of ranks by the rows they come from: from begin to end."""
        row = instances["row"]
        role = self.role[row]
        kept = (role == _PLAIN) | (role == _END)
        folded = {name: values[kept] for name, values in instances.items()}
        # Begins and ends have the same ranks in the same order.
        folded["start_ps"][role[kept] == _END] = instances["start_ps"][role == _BEGIN]
        folded["row"] = self.origin[folded["row"]]
        return folded

    def fold_sends(self, sends: Arrays) -> Arrays:
        """Return the sends that were sends before."""
        kept = self.role[sends["row"]] == _PLAIN
        folded = {name: values[kept] for name, values in sends.items()}
        folded["row"] = self.origin[folded["row"]]
        return folded


def expand(
    table: pa.Table, graphs: Mapping[str, Graph], where: str = "trace", *, repeat: bool = True
) -> Expansion:
    """Write out what happens several times, and put graphs in place of the operations of their kinds.

    Parameters
    ----------
    table
        Rows as ``fabricsim.trace.lower`` returns them.
    graphs
        Verified graphs by kind.
    where
        Names the trace in errors.
    repeat
        Whether to write out what happens several times; flows take it as it is.

    Raises
    ------
    InputError
        When an operation has other ranks, another root or unequal parts; names the row.
    """
    repeated = _repeat(table) if repeat else _as_it_is(table)
    made = _put_graphs(repeated.table, graphs, where)
    role, outer = made.role, repeated.role[made.origin]
    # A graph in a repetition: its begin is one only in the first, its end only in the last.
    role = np.where(role == _PLAIN, outer, np.where((outer == _PLAIN) | (outer == role), role, _STEP))
    return Expansion(made.table, repeated.origin[made.origin], role.astype(np.int8))


def _as_it_is(table: pa.Table) -> Expansion:
    n = table.num_rows
    return Expansion(table, np.arange(n), np.zeros(n, np.int8))


def _repeat(table: pa.Table) -> Expansion:
    """Write out rows that happen several times: the first begins, the last has the id and ends."""
    n = table.num_rows
    count = table["count"].to_numpy() if "count" in table.column_names else np.ones(n, np.int64)
    if (count == 1).all():
        return _as_it_is(table)
    origin = np.repeat(np.arange(n), count)
    last = np.cumsum(count) - 1
    first = last - count + 1
    role = np.full(len(origin), _STEP, np.int8)
    role[first], role[last] = _BEGIN, _END
    role[last[count == 1]] = _PLAIN
    rows = table.take(pa.array(origin)).combine_chunks()
    again = np.ones(len(origin), bool)  # not the first of its row
    again[first] = False
    old = table["id"].to_numpy()
    ids = old[origin]
    inner = role != _PLAIN
    inner[last] = False
    ids[inner] = int(old.max()) + 1 + np.arange(np.count_nonzero(inner))
    lists, before = rows["after"].chunk(0), ids[np.flatnonzero(again) - 1]
    lengths = np.where(again, 1, lists.value_lengths().to_numpy())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = np.zeros(offsets[-1], np.int64)
    values[offsets[:-1][again]] = before
    kept = np.repeat(~again, lists.value_lengths().to_numpy())
    own = np.ones(len(values), bool)
    own[offsets[:-1][again]] = False
    values[own] = lists.flatten().to_numpy()[kept]
    new = {"id": pa.array(ids), "after": pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))}
    new["count"] = pa.array(np.ones(len(origin), np.int64))
    for name, column in new.items():
        at = rows.column_names.index(name)
        rows = rows.set_column(at, rows.schema.field(at), column)
    return Expansion(rows, origin, role)


def _put_graphs(table: pa.Table, graphs: Mapping[str, Graph], where: str) -> Expansion:
    kind = table["kind"].to_numpy()
    codes = {KIND_CODE[name]: graph for name, graph in graphs.items()}
    chosen = np.isin(kind, list(codes))
    if not chosen.any():
        return _as_it_is(table)
    ids = table["id"].to_numpy()
    maker = _Maker(int(ids.max()) + 1, int(table["tag"].to_numpy().max(initial=0)) + 1)
    problems: list[Problem] = []
    pieces: list[pa.Table] = []
    origin: list[Ints] = []
    roles: list[npt.NDArray[np.int8]] = []
    begin = 0
    for at in [*np.flatnonzero(chosen).tolist(), table.num_rows]:
        if at > begin:
            pieces.append(table.slice(begin, at - begin))
            origin.append(np.arange(begin, at))
            roles.append(np.full(at - begin, _PLAIN, np.int8))
        begin = at + 1
        if at == table.num_rows:
            break
        row = table.slice(at, 1).to_pylist()[0]
        graph = codes[int(kind[at])]
        if wrong := _misfit(row, graph):
            problems.append(Problem(f"{where}:row {at}", wrong))
            continue
        rows, role = maker.rows(row, graph)
        pieces.append(pa.Table.from_pylist(rows, schema=table.schema))
        origin.append(np.full(len(rows), at))
        roles.append(np.array(role, np.int8))
    if problems:
        raise InputError(problems)
    joined = pa.concat_tables(pieces).combine_chunks()
    return Expansion(joined, np.concatenate(origin), np.concatenate(roles))


def _misfit(row: Mapping[str, Any], graph: Graph) -> str:
    kind, size = KINDS[row["kind"]], row.get("group_size") or len(row["ranks"])
    if size != graph.n_ranks:
        return f"found {kind} of {size} ranks, allowed: {graph.n_ranks}, those of {graph.where}"
    if row["splits"]:
        return f"found unequal parts, allowed: equal ones with {graph.where}"
    if kind in ("broadcast", "reduce"):
        for group, peer in enumerate(row["peer"]):
            root = row["ranks"].index(peer) - group * size
            if root != graph.root:
                return f"found the root at place {root}, allowed: {graph.root}, that of {graph.where}"
    return ""


class _Maker:
    """Makes the rows of operations; ids and tags are beyond those of the trace."""

    def __init__(self, first_id: int, first_tag: int) -> None:
        self.next_id, self.next_tag = first_id, first_tag

    def rows(self, row: Mapping[str, Any], graph: Graph) -> tuple[list[dict[str, Any]], list[int]]:
        """Return the rows of one operation and their roles."""
        begin = self._id()
        plain = {"peer": [], "bytes": 0, "splits": [], "duration_ps": 0, "delay_ps": 0, "stream": -1}
        plain |= {"after": [], "tag": 0, "priority": row["priority"], "variant": -1}
        plain |= {"files": [], "new_files": [], "offset": 0, "stride": 0, "flags": 0}  # no storage
        plain |= {"group_size": 0, "count": 1}
        rest = {"kind": KIND_CODE["compute"], "ranks": row["ranks"], "stream": row["stream"]}
        first = plain | rest | {"id": begin, "after": row["after"], "delay_ps": row["delay_ps"]}
        rows, roles, ends = [first], [_BEGIN], [begin]
        for at in range(0, len(row["ranks"]), graph.n_ranks):
            steps = self._steps(row, row["ranks"][at : at + graph.n_ranks], graph, plain, begin)
            rows += steps
            roles += [_STEP] * len(steps)
            ends += [step["id"] for step in steps]
        last = plain | rest | {"id": row["id"], "after": ends}
        return [*rows, last], [*roles, _END]

    def _steps(
        self, row: Mapping[str, Any], ranks: list[int], graph: Graph, plain: Mapping[str, Any], begin: int
    ) -> list[dict[str, Any]]:
        """Return the rows of the steps of one group."""
        rows = []
        ids = {(rank, t, s): self._id() for rank, t, s, _ in graph.steps()}
        sizes, tags = self._messages(row["bytes"], graph)
        for rank, threads in enumerate(graph.threads):
            for t, thread in enumerate(threads):
                before = begin
                for s, step in enumerate(thread):
                    key = (rank, t, s)
                    after = [before, *(ids[rank, thread_, step_] for thread_, step_ in step.after)]
                    made = {**plain, "id": ids[key], "ranks": [ranks[rank]], "after": after}
                    if step.op in ("send", "recv", "recv_reduce"):
                        made["kind"] = KIND_CODE["send" if step.op == "send" else "recv"]
                        made["peer"] = [ranks[step.peer]]
                        made["bytes"], made["tag"] = sizes[key], tags[key]
                    else:
                        made["kind"] = KIND_CODE["compute"]
                    rows.append(made)
                    if step.op != "send":
                        before = ids[key]
        return rows

    def _id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _messages(
        self, size: int, graph: Graph
    ) -> tuple[dict[tuple[int, int, int], int], dict[tuple[int, int, int], int]]:
        """Return bytes and tag of each send and receive; both ends of a message have the sender's."""
        sizes: dict[tuple[int, int, int], int] = {}
        tags: dict[tuple[int, int, int], int] = {}
        sent: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
        received: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
        for rank, t, s, step in graph.steps():
            if step.op == "send":
                sent.setdefault((rank, step.peer, step.channel), []).append((rank, t, s))
                sizes[rank, t, s] = _bytes(step, size, graph.chunks)
            elif step.op in ("recv", "recv_reduce"):
                received.setdefault((step.peer, rank, step.channel), []).append((rank, t, s))
        for way, sends in sent.items():
            for one, other in zip(sends, received[way], strict=True):
                sizes[other] = sizes[one]
                tags[one] = tags[other] = self.next_tag
                self.next_tag += 1
        return sizes, tags


def _bytes(step: Step, size: int, chunks: int) -> int:
    """Return the bytes of a step's chunks: parts of the operation's as even as can be."""
    buffer, first = step.place
    if buffer == "tmp":
        return -(-size // chunks) * step.count
    return size * (first + step.count) // chunks - size * first // chunks
