"""Flows as a trace: each is a send and a recv, and a flow may wait for others to be sent or received."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from fabricsim.trace import KINDS, Trace
from fabricsim.trace.schema import KIND_TYPE, metadata


@dataclass
class Flows:
    """Flows being gathered, and the rows that they become.

    A flow takes two rows: a send on its source, and a recv, bound to no order, on its destination.
    """

    kind: list[int] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)
    peer: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    delay_ps: list[int] = field(default_factory=list)
    tag: list[int] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    after: list[Sequence[int]] = field(default_factory=list)
    priority: list[int] = field(default_factory=list)

    def add(
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
        row = len(self.kind)
        self.kind += (KINDS.index("send"), KINDS.index("recv"))
        self.rank += (src, dst)
        self.peer += (dst, src)
        self.size += (size, size)
        self.delay_ps += (start_ps, 0)
        self.tag += (tag, tag)
        self.name += (name, name)
        self.after += (after, ())
        self.priority += (priority, priority)
        return row

    def trace(self, where: str, provenance: dict[str, Any]) -> Trace:
        """Return the flows as a trace, checked."""
        n = len(self.kind)
        one_each = pa.array(range(n + 1), pa.int32())
        table = pa.table(
            {
                "id": pa.array(range(n), pa.int64()),
                "kind": pa.DictionaryArray.from_arrays(pa.array(self.kind, pa.int8()), pa.array(KINDS)).cast(
                    KIND_TYPE
                ),
                "ranks": pa.ListArray.from_arrays(one_each, pa.array(self.rank, pa.int32())),
                "peer": pa.ListArray.from_arrays(one_each, pa.array(self.peer, pa.int32())),
                "bytes": pa.array(self.size, pa.int64()),
                "delay_ps": pa.array(self.delay_ps, pa.int64()),
                "after": pa.array(self.after, pa.list_(pa.int64())),
                "name": pa.array(self.name, pa.string()),
                "tag": pa.array(self.tag, pa.int64()),
                "priority": pa.array(self.priority, pa.int32()),
            },
            metadata=metadata(provenance),
        )
        return Trace(table, where)
