"""Flows as a trace: each is a send and a recv, and a flow may wait for others to be sent or received."""

from __future__ import annotations

from collections.abc import Sequence

from fabricsim.convert._table import TableRows

__all__ = ["Flows"]


class Flows(TableRows):
    """Flows being gathered, and the rows that they become.

    A flow takes two rows: a send on its source, and a recv, bound to no order, on its destination.
    """

    def flow(
        self,
        src: int,
        dst: int,
        size: int,
        *,
        tag: int,
        name: str,
        start_ps: int = 0,
        after: Sequence[int] = (),
        priority: int = 0,
    ) -> int:
        """Append a flow and return the id of its send; its recv has the next id."""
        source, destination = self.rank_set((src,)), self.rank_set((dst,))
        columns = {"bytes": size, "tag": tag, "name": name, "priority": priority}
        row = self.add("send", source, peer=destination, delay_ps=start_ps, after=after, **columns)
        self.add("recv", destination, peer=source, delay_ps=0, after=(), **columns)
        return row
