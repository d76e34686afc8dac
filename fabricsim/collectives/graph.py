"""A user's own collective as a graph of sends and receives: what it is, and whether it is right.

The file is JSON (``read_graph``), or XML of MSCCL (``fabricsim.collectives.msccl``). Each rank has threads;
the steps of a thread run in order, a receive waits for its message, a send does not wait. Messages between
two ranks on one channel match in order.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabricsim.errors import InputError, Problem, nearest

__all__ = ["KINDS", "OPS", "Graph", "Step", "read_graph", "verify"]

#: The kinds that a graph may be of.
KINDS = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "reduce")

#: What a step may do: send, receive into a place, receive and add to it, or copy from place to place.
OPS = ("send", "recv", "recv_reduce", "copy", "reduce")

_RANKS_MOST, _CHUNKS_MOST, _STEPS_MOST = 4096, 1 << 16, 1 << 20
_PROBLEMS_MOST = 20

#: A place: buffer (``in``, ``out``, ``tmp``) and number. Where ``in`` and ``out`` are one it is ``in``.
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a thread.

    Parameters
    ----------
    op
        One of ``OPS``.
    peer
        The other rank of a send or receive; -1 else.
    place
        Where the data is or goes, the first of ``count`` places in a row.
    count
        Chunks, >= 1.
    source
        Where a ``copy`` or ``reduce`` takes it from.
    channel
        Messages of one channel between two ranks match in order.
    after
        (thread, step) of the same rank that must be over first.
    """

    op: str
    peer: int
    place: Place
    count: int = 1
    source: Place | None = None
    channel: int = 0
    after: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Graph:
    """A collective as sends and receives.

    ``threads[rank]`` lists threads, each a list of steps. ``chunks`` are the parts of the operation's bytes,
    a multiple of the ranks where each rank has a part. ``where`` names the file.
    """

    name: str
    kind: str
    n_ranks: int
    chunks: int
    threads: tuple[tuple[tuple[Step, ...], ...], ...] = field(repr=False)
    root: int = 0
    where: str = ""

    @property
    def in_place(self) -> bool:
        """Whether input and output are one buffer: all but ``all_to_all``."""
        return self.kind != "all_to_all"

    def steps(self) -> Iterator[tuple[int, int, int, Step]]:
        """Give (rank, thread, number, step) of every step."""
        for rank, threads in enumerate(self.threads):
            for t, thread in enumerate(threads):
                for s, step in enumerate(thread):
                    yield rank, t, s, step


# ---- reading


def read_graph(path: str | Path) -> Graph:
    """Read a graph from a file, JSON or MSCCL's XML, and verify it.

    Raises
    ------
    InputError
        With every problem found: of the form, or what the graph would do wrong.
    """
    path = Path(path)
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError([Problem(where, error.strerror or str(error))]) from None
    except UnicodeDecodeError as error:
        raise InputError([Problem(where, f"byte {error.start} is no UTF-8")]) from None
    if text.lstrip().startswith("<"):
        from fabricsim.collectives.msccl import parse_msccl

        graph = parse_msccl(text, where)
    else:
        graph = parse_graph(text, where)
    verify(graph)
    return graph


def parse_graph(text: str, where: str) -> Graph:
    """Read the JSON form; see docs/collective-graphs.md."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError([Problem(where, f"not JSON: {error}")]) from None
    reader = _Reader(where)
    graph = reader.graph(data)
    if reader.problems or graph is None:
        raise InputError(reader.problems)
    return graph


class _Reader:
    """Reads the JSON form, noting every problem with its place."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[Problem] = []

    def bad(self, place: str, text: str) -> None:
        if len(self.problems) < _PROBLEMS_MOST:
            self.problems.append(Problem(f"{self.where}:{place}" if place else self.where, text))

    def number(
        self, data: Mapping[str, Any], key: str, place: str, least: int, most: int, default: Any
    ) -> int:
        value = data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.bad(f"{place}{key}", f"found {value!r}, allowed: {least} to {most}")
            return least
        return value

    def keys(self, data: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
        for key in data:
            if key not in known:
                guess = nearest(key, known)
                hint = f"; did you mean {guess!r}?" if guess else ""
                self.bad(f"{place}{key}", f"unknown key{hint} (known: {', '.join(known)})")

    def graph(self, data: Any) -> Graph | None:
        if not isinstance(data, dict):
            self.bad("", f"found a JSON {type(data).__name__}, allowed: an object")
            return None
        self.keys(data, ("schema", "name", "kind", "ranks", "chunks", "root", "threads"), "")
        if data.get("schema") != "fabricsim.graph/1":
            self.bad("schema", f"found {data.get('schema')!r}, allowed: 'fabricsim.graph/1'")
        kind = data.get("kind")
        if kind not in KINDS:
            self.bad("kind", f"found {kind!r}, allowed: {', '.join(KINDS)}")
            return None
        n = self.number(data, "ranks", "", 1, _RANKS_MOST, None)
        chunks = self.number(data, "chunks", "", 1, _CHUNKS_MOST, None)
        root = self.number(data, "root", "", 0, max(n - 1, 0), 0)
        if kind in ("reduce_scatter", "all_gather", "all_to_all") and chunks % n:
            self.bad("chunks", f"found {chunks}, allowed for {kind}: a multiple of the {n} ranks")
        listed = data.get("threads")
        if not isinstance(listed, list) or len(listed) != n:
            found = f"a list of {len(listed)}" if isinstance(listed, list) else repr(listed)
            self.bad("threads", f"found {found}, allowed: a list of threads for each of the {n} ranks")
            return None
        graph = Graph(str(data.get("name", "")), kind, n, chunks, (), root, self.where)
        total = 0
        ranks = []
        for rank, threads in enumerate(listed):
            made = []
            if not isinstance(threads, list) or not all(isinstance(thread, list) for thread in threads):
                self.bad(f"threads[{rank}]", "allowed: a list of lists of steps")
                continue
            for t, thread in enumerate(threads):
                total += len(thread)
                if total > _STEPS_MOST:
                    self.bad("threads", f"found more than {_STEPS_MOST} steps")
                    return None
                steps = [
                    self.step(graph, step, rank, f"threads[{rank}][{t}][{s}]")
                    for s, step in enumerate(thread)
                ]
                made.append(tuple(step for step in steps if step is not None))
            ranks.append(tuple(made))
        return Graph(graph.name, kind, n, chunks, tuple(ranks), root, self.where)

    def step(self, graph: Graph, data: Any, rank: int, place: str) -> Step | None:
        if not isinstance(data, dict):
            self.bad(
                place, f"found {data!r}, allowed: an object such as {{'op': 'send', 'to': 1, 'chunk': 0}}"
            )
            return None
        op, dot = data.get("op"), f"{place}."
        if op not in OPS:
            self.bad(f"{dot}op", f"found {op!r}, allowed: {', '.join(OPS)}")
            return None
        moves = op in ("send", "recv", "recv_reduce")
        end = {"send": "to", "recv": "from", "recv_reduce": "from"}.get(op)
        known = ("op", "chunk", "count", "after", *((end, "channel") if end else ("source",)))
        self.keys(data, known, dot)
        peer = -1
        if moves and end:
            peer = self.number(data, end, dot, 0, graph.n_ranks - 1, None)
            if peer == rank:
                self.bad(f"{dot}{end}", f"found {peer}, the rank itself; allowed: another rank, or op 'copy'")
        count = self.number(data, "count", dot, 1, graph.chunks, 1)
        where = self.place(graph, data.get("chunk"), count, f"{dot}chunk")
        source = None if moves else self.place(graph, data.get("source"), count, f"{dot}source")
        channel = self.number(data, "channel", dot, 0, 255, 0) if moves else 0
        after = data.get("after", [])
        pairs = []
        if not isinstance(after, list):
            self.bad(f"{dot}after", f"found {after!r}, allowed: a list of [thread, step] of this rank")
            after = []
        for pair in after:
            if isinstance(pair, list) and len(pair) == 2 and all(type(v) is int and v >= 0 for v in pair):
                pairs.append((pair[0], pair[1]))
            else:
                self.bad(f"{dot}after", f"found {pair!r}, allowed: [thread, step] of this rank")
        return Step(op, peer, where, count, source, channel, tuple(pairs))

    def place(self, graph: Graph, value: Any, count: int, place: str) -> Place:
        """Read ``3``, ``"in:3"``, ``"out:3"`` or ``"tmp:3"``."""
        buffer, number = "in", value
        if isinstance(value, str):
            buffer, _, text = value.partition(":")
            number = int(text) if text.isdecimal() else None
        plain = isinstance(value, int) and not isinstance(value, bool)
        most = (_CHUNKS_MOST if buffer == "tmp" else graph.chunks) - count
        buffers = ("in", "out", "tmp")
        if buffer not in buffers or type(number) is not int or (plain and not graph.in_place):
            forms = "a chunk's number, " if graph.in_place else ""
            self.bad(place, f"found {value!r}, allowed: {forms}'in:N', 'out:N' or 'tmp:N'")
            return ("in", 0)
        if not 0 <= number <= most:
            self.bad(place, f"found {value!r} and {count} in all, allowed: chunks 0 to {most + count - 1}")
            return ("in", 0)
        return ("in" if graph.in_place and buffer == "out" else buffer, number)


# ---- verifying

#: What a place holds: the chunk, and the ranks whose parts are in it.
_Value = tuple[int, frozenset[int]]


def verify(graph: Graph) -> None:
    """Run a graph on sets in place of data; raise what is wrong.

    Raises
    ------
    InputError
        A dependency that is not there, a deadlock with who waits for what, data added to other data or twice,
        messages that no one receives, and places that do not hold at the end what the collective says.
    """
    run = _Verifier(graph)
    problems = run.bad_steps() or run.execute() or run.wrong_at_the_end()
    if problems:
        raise InputError(problems[:_PROBLEMS_MOST])


class _Verifier:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.held: list[dict[Place, _Value]] = [self._begin(rank) for rank in range(graph.n_ranks)]
        self.messages: dict[tuple[int, int, int], deque[tuple[list[_Value | None], str]]] = {}
        self.problems: list[Problem] = []

    def _begin(self, rank: int) -> dict[Place, _Value]:
        g = self.graph
        part = g.chunks // g.n_ranks
        match g.kind:
            case "all_gather":
                mine = range(rank * part, (rank + 1) * part)
            case "broadcast":
                mine = range(g.chunks if rank == g.root else 0)
            case _:
                mine = range(g.chunks)
        # The chunk of an all_to_all is told by sender and place, so that no two are alike.
        first = rank * g.chunks if g.kind == "all_to_all" else 0
        return {("in", c): (first + c, frozenset([rank])) for c in mine}

    def _wanted(self, rank: int) -> dict[Place, _Value]:
        g = self.graph
        part, everyone = g.chunks // g.n_ranks, frozenset(range(g.n_ranks))
        match g.kind:
            case "all_reduce":
                return {("in", c): (c, everyone) for c in range(g.chunks)}
            case "reduce_scatter":
                return {("in", c): (c, everyone) for c in range(rank * part, (rank + 1) * part)}
            case "all_gather":
                return {("in", c): (c, frozenset([c // part])) for c in range(g.chunks)}
            case "broadcast":
                return {("in", c): (c, frozenset([g.root])) for c in range(g.chunks)}
            case "reduce":
                return {("in", c): (c, everyone) for c in range(g.chunks if rank == g.root else 0)}
        return {
            ("out", s * part + i): (s * g.chunks + rank * part + i, frozenset([s]))
            for s in range(g.n_ranks)
            for i in range(part)
        }

    def _name(self, rank: int, thread: int, step: int) -> str:
        return f"{self.graph.where}:rank {rank}, thread {thread}, step {step}"

    def _bad(self, place: str, text: str) -> None:
        if len(self.problems) < _PROBLEMS_MOST:
            self.problems.append(Problem(place, text))

    def bad_steps(self) -> list[Problem]:
        """Return dependencies on steps that are not there, and ways between ranks that two threads share."""
        users: dict[tuple[str, int, int, int], int] = {}
        for rank, t, s, step in self.graph.steps():
            if step.peer >= 0:
                what = "sends to" if step.op == "send" else "receives from"
                first = users.setdefault((what, rank, step.peer, step.channel), t)
                if first != t:
                    text = f"{what} rank {step.peer} on channel {step.channel}, as thread {first} does"
                    self._bad(self._name(rank, t, s), f"{text}; allowed: one thread a channel")
            threads = self.graph.threads[rank]
            for thread, number in step.after:
                if thread >= len(threads) or number >= len(threads[thread]):
                    self._bad(
                        self._name(rank, t, s), f"waits for thread {thread}, step {number}: there is none"
                    )
        return self.problems

    def execute(self) -> list[Problem]:
        """Run all threads as far as they go; return what went wrong."""
        at = [[0] * len(threads) for threads in self.graph.threads]
        moved = True
        while moved and not self.problems:
            moved = False
            for rank, threads in enumerate(self.graph.threads):
                for t, thread in enumerate(threads):
                    while at[rank][t] < len(thread) and not self._waits(rank, thread[at[rank][t]], at[rank]):
                        self._do(rank, t, at[rank][t], thread[at[rank][t]])
                        at[rank][t] += 1
                        moved = True
        if self.problems:
            return self.problems
        for rank, threads in enumerate(self.graph.threads):
            for t, thread in enumerate(threads):
                if at[rank][t] < len(thread):
                    why = self._waits(rank, thread[at[rank][t]], at[rank])
                    self._bad(self._name(rank, t, at[rank][t]), f"waits for ever: for {why}")
        for (source, target, channel), queue in self.messages.items():
            for _, sender in queue:
                text = f"is never received by rank {target} (from rank {source}, channel {channel})"
                self._bad(sender, f"what it sends {text}")
        return self.problems

    def _waits(self, rank: int, step: Step, at: list[int]) -> str:
        """Say what a step waits for; empty when it may go."""
        for thread, number in step.after:
            if at[thread] <= number:
                return f"thread {thread}, step {number}"
        if step.op in ("recv", "recv_reduce") and not self.messages.get((step.peer, rank, step.channel)):
            return f"a message from rank {step.peer} on channel {step.channel}"
        return ""

    def _do(self, rank: int, t: int, s: int, step: Step) -> None:
        held, name = self.held[rank], self._name(rank, t, s)
        buffer, first = step.place
        if step.op == "send":
            values = [held.get((buffer, first + i)) for i in range(step.count)]
            if None in values:
                self._bad(name, f"sends {buffer}:{first + values.index(None)}, which holds nothing yet")
            self.messages.setdefault((rank, step.peer, step.channel), deque()).append((values, name))
            return
        if step.op in ("recv", "recv_reduce"):
            values, sender = self.messages[step.peer, rank, step.channel].popleft()
            if len(values) != step.count:
                self._bad(
                    name, f"receives {step.count} chunks of the {len(values)} that are sent by {sender}"
                )
                return
        else:
            assert step.source is not None
            values = [held.get((step.source[0], step.source[1] + i)) for i in range(step.count)]
            if None in values:
                self._bad(
                    name, f"takes {step.source[0]}:{step.source[1] + values.index(None)}, which is empty"
                )
                return
        for i, value in enumerate(values):
            if value is None:
                return
            place = (buffer, first + i)
            if step.op in ("recv_reduce", "reduce"):
                value = self._sum(name, place, held.get(place), value)
            held[place] = value

    def _sum(self, name: str, place: Place, here: _Value | None, there: _Value) -> _Value:
        shown = f"{place[0]}:{place[1]}"
        if here is None:
            self._bad(name, f"adds to {shown}, which holds nothing yet")
            return there
        if here[0] != there[0]:
            self._bad(name, f"adds chunk {there[0]} to {shown}, which holds chunk {here[0]}")
        elif twice := here[1] & there[1]:
            self._bad(name, f"adds the part of rank {min(twice)} to {shown} a second time")
        return (here[0], here[1] | there[1])

    def wrong_at_the_end(self) -> list[Problem]:
        """Return places that do not hold what the collective says."""
        g = self.graph
        for rank in range(g.n_ranks):
            for (buffer, number), (chunk, parts) in self._wanted(rank).items():
                found = self.held[rank].get((buffer, number))
                if found == (chunk, parts):
                    continue
                place = f"{g.where}:rank {rank}, {buffer}:{number}"
                if found is None:
                    self._bad(place, f"holds nothing at the end of the {g.kind}, allowed: chunk {chunk}")
                elif found[0] != chunk:
                    self._bad(place, f"holds chunk {found[0]} at the end, allowed: chunk {chunk}")
                else:
                    lack, more = sorted(parts - found[1]), sorted(found[1] - parts)
                    told = [f"lacks the parts of ranks {_few(lack)}"] if lack else []
                    told += (
                        [f"has the parts of ranks {_few(more)}, which do not belong there"] if more else []
                    )
                    self._bad(place, f"{' and '.join(told)} at the end of the {g.kind}")
        return self.problems


def _few(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks[:8])) + (", ..." if len(ranks) > 8 else "")
