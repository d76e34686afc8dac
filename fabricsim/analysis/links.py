"""Which links bound a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim.analysis.columns import column

__all__ = ["busiest_links", "paused_links"]


def busiest_links(links: pa.Table, limit: int = 5) -> list[dict[str, Any]]:
    """Return the links with the highest utilisation over the run, with their queues, marks and pauses.

    Parameters
    ----------
    links
        The table ``Result.links``: one row a directed link.
    limit
        How many to return at most; links that carried nothing are never returned.

    >>> columns = {"link": ["a->b", "b->a"], "rate_mbps": [9, 9], "busy_ps": [50, 0], "paused_ps": [0, 0]}
    >>> table = pa.table(columns)
    >>> [row["link"] for row in busiest_links(table)]
    ['a->b']
    """
    busy = column(links, "busy_ps")
    rate = column(links, "rate_mbps")
    # Links paused as well as busy come first among equals; then the order of the table decides.
    order = np.lexsort((np.arange(len(busy)), rate, -column(links, "paused_ps"), -busy))[:limit]
    order = order[busy[order] > 0]
    names = [name for name in links.column_names if name not in ("src", "dst")]
    return links.select(names).take(pa.array(order)).to_pylist()


def paused_links(links: pa.Table) -> dict[str, Any]:
    """Return how many links were paused, and which for longest, by name and picoseconds.

    >>> paused_links(pa.table({"link": ["a->b", "b->a"], "paused_ps": [0, 7]}))
    {'count': 1, 'longest': 'b->a', 'longest_ps': 7}
    """
    paused = column(links, "paused_ps")
    count = int(np.count_nonzero(paused))
    longest = int(np.argmax(paused)) if count else 0
    name = links["link"][longest].as_py() if count else None
    return {"count": count, "longest": name, "longest_ps": int(paused[longest]) if count else 0}
