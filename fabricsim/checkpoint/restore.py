"""The trace of a restore: from the file system, or after a failed node from what other nodes still have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from fabricsim.checkpoint.plan import Piece, Plan
from fabricsim.checkpoint.save import MARKER_BYTES, TRAIN, provenance, train
from fabricsim.errors import ConfigError
from fabricsim.trace import Trace
from fabricsim.workload.rows import Rows

__all__ = ["TIERS", "restore_trace"]

#: Where ranks take their state from.
TIERS: dict[str, str] = {
    "store": "every rank reads from the shared file system",
    "local": "ranks read node-local storage; those of failed nodes, which lost it, the shared file system",
    "peer": "ranks have their state in host memory; those of failed nodes get theirs from the next node's",
}
RECV = 1


def restore_trace(
    plan: Plan, *, tier: str = "store", failed: Collection[int] = (), broadcast: bool = False
) -> Trace:
    """Return the trace of a restore, and of ``plan.steps`` training steps behind it.

    Parameters
    ----------
    plan
        What was saved and how. ``restart_ps`` passes on every rank first.
    tier
        A key of ``TIERS``.
    failed
        Nodes that failed: their ranks run on spares, with the same numbers. Where that is on the fabric is
        the cluster's matter.
    broadcast
        With tier ``store``, what several ranks need is read by the one that saved it and broadcast; otherwise
        each reads it. The other tiers always broadcast.

    Raises
    ------
    ConfigError
        When the tier is unknown, or failed nodes are not there or hold both copies.
    """
    nodes = -(-plan.world // plan.ranks_per_node)
    problems = []
    if tier not in TIERS:
        problems.append(f"tier: found {tier!r}, allowed: {', '.join(TIERS)}")
    problems += [f"failed: found node {n}, allowed: 0 to {nodes - 1}" for n in failed if not 0 <= n < nodes]
    if tier == "peer":
        if nodes < 2 or plan.world % plan.ranks_per_node:
            problems.append("tier: found peer, allowed with two or more whole nodes")
        problems += [
            f"failed: found nodes {n} and {(n + 1) % nodes}, which hold both copies, allowed: one of them"
            for n in failed
            if (n + 1) % nodes in failed
        ]
    if problems:
        raise ConfigError(problems)
    more = {"tier": tier, "failed": sorted(failed), "broadcast": broadcast}
    rows = Rows(**provenance(plan, "restore"), **more)
    _Restorer(plan, rows, tier, frozenset(failed), broadcast or tier != "store").restore()
    for step in range(plan.steps):
        train(plan, rows, step)
    return rows.trace()


class _Restorer:
    """Adds the rows of a restore."""

    def __init__(self, plan: Plan, rows: Rows, tier: str, failed: Collection[int], broadcast: bool) -> None:
        self.plan, self.rows, self.tier, self.broadcast = plan, rows, tier, broadcast
        self.lost = {rank for rank in range(plan.world) if plan.node(rank) in failed}
        #: The save that is restored: the last one.
        self.save = plan.saves - 1

    def restore(self) -> None:
        """Add them all."""
        plan, rows, everyone = self.plan, self.rows, range(self.plan.world)
        if plan.restart_ps:
            rows.add("compute", everyone, duration_ps=plan.restart_ps, stream=TRAIN, name="restore restart")
        marker = f"{plan.base}/latest"
        rows.open(everyone, marker, stream=TRAIN, name="restore latest")
        rows.read(everyone, marker, MARKER_BYTES, stream=TRAIN, name="restore latest")
        rows.add("close", everyone, file=marker, stream=TRAIN, name="restore latest")
        if self.tier == "local":
            self._read_local()
        elif self.tier == "peer":
            self._from_peers()
        for piece in plan.pieces:
            self._piece(piece)
        needed = self._needed()
        for size in sorted(set(needed.values())):
            ranks = [rank for rank, mine in needed.items() if mine == size]
            rows.add("compute", ranks, duration_ps=plan.copy_ps(size), stream=TRAIN, name="restore copy")
        if plan.world > 1:
            rows.add("barrier", everyone, stream=TRAIN, name="restore end")

    def _piece(self, piece: Piece) -> None:
        """Add what brings a piece to the ranks that need it."""
        plan, folder = self.plan, self.plan.folder(self.save)
        from_store = list(piece.ranks) if self.tier == "store" else []
        if self.tier == "local":
            from_store = [rank for rank in piece.ranks if rank in self.lost]
        if piece.scope == "rank":
            for some in _read_together(piece, from_store):
                plan.read_piece(self.rows, some, folder, "restore", some.ranks, stream=TRAIN)
            return
        for rank in piece.ranks:
            one, readers = piece.of(rank), self._readers(rank, piece.scope)
            if rank in from_store:
                who = [rank] if self.broadcast else readers
                plan.read_piece(self.rows, one, folder, "restore", who, stream=TRAIN)
            if self.broadcast and len(readers) > 1:
                self.rows.add(
                    "broadcast",
                    readers,
                    peer=[rank],
                    bytes=piece.bytes,
                    stream=TRAIN,
                    name="restore broadcast",
                )

    def _read_local(self) -> None:
        """Add the reads of node-local storage by the ranks that still have it."""
        plan, rows, file = self.plan, self.rows, self.plan.local_file(self.save)
        for size, all_ranks in plan.by_size.items():
            ranks = [rank for rank in all_ranks if rank not in self.lost]
            if ranks:
                whole = Piece(tuple(ranks), file, size)
                plan.read_piece(rows, whole, "", "restore", ranks, stream=TRAIN)

    def _from_peers(self) -> None:
        """Add the messages from the next node's host memory to the ranks that lost theirs."""
        plan, rows = self.plan, self.rows
        for size, all_ranks in plan.by_size.items():
            ranks = [rank for rank in all_ranks if rank in self.lost]
            if not ranks:
                continue
            peers = [plan.peer(rank) for rank in ranks]
            for _, some in plan.parts(size):
                rows.add("send", peers, peer=ranks, bytes=some, stream=RECV, name="restore send")
                rows.add("recv", ranks, peer=peers, bytes=some, stream=TRAIN, name="restore recv")

    def _readers(self, rank: int, scope: str) -> Sequence[int]:
        """Return the ranks that need what a rank saved."""
        parallel = self.plan.saved.parallel
        if scope == "world":
            return range(self.plan.world)
        place = parallel.place(rank)
        if scope == "data":
            return [parallel.rank(place.tp, place.pp, dp) for dp in range(parallel.dp)]
        return [
            parallel.rank(place.tp, place.pp, dp)
            for dp in range(place.dp % parallel.ep, parallel.dp, parallel.ep)
        ]

    def _needed(self) -> dict[int, int]:
        """Return the bytes that each rank needs on its accelerator."""
        found = dict.fromkeys(range(self.plan.world), 0)
        for piece in self.plan.pieces:
            for rank in piece.ranks:
                for reader in [rank] if piece.scope == "rank" else self._readers(rank, piece.scope):
                    found[reader] += piece.bytes
        return {rank: size for rank, size in found.items() if size}


def _read_together(piece: Piece, ranks: list[int]) -> Iterable[Piece]:
    """Give the pieces of some of a piece's ranks: the piece itself, one for all, or one for each."""
    if len(ranks) == len(piece.ranks):
        yield piece
    elif piece.stride == 0 and ranks:
        yield Piece(tuple(ranks), piece.file, piece.bytes, piece.begin, piece.offset, 0, piece.scope)
    else:
        yield from (piece.of(rank) for rank in ranks)
