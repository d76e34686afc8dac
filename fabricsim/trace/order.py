"""Checks of operations together: `after` within shared ranks, sends matched with receives, and cycles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np

from fabricsim.trace.findings import Findings
from fabricsim.trace.view import Ints, View, spread

#: Fewer rows than this are taken off one by one: numpy would only add overhead.
_SMALL_FRONT = 64


def check_sharing(view: View, out: Findings) -> None:
    """An operation can wait only on ranks that both have: name rows whose `after` shares none."""
    row, waits_for, _ = view.edges
    known = (waits_for >= 0) & (waits_for != row)
    row, waits_for = row[known], waits_for[known]
    # Most edges are settled by their first ranks, or as spans without gaps; the others are compared as sets.
    ranks, lengths = view.ranks, view.ranks.lengths
    low = ranks.values[np.minimum(ranks.offsets[:-1], len(ranks.values) - 1)].astype(np.int64)
    high = ranks.values[ranks.offsets[1:] - 1].astype(np.int64)
    gapless = view.ascending & (high - low + 1 == lengths)
    shared = low[row] == low[waits_for]
    shared |= (
        gapless[row] & gapless[waits_for] & (low[row] <= high[waits_for]) & (low[waits_for] <= high[row])
    )
    row, waits_for = row[~shared], waits_for[~shared]
    if len(row) == 0:
        return
    rows, place = np.unique(np.concatenate([row, waits_for]), return_inverse=True)
    number, sample = view.rank_sets(rows)
    mine, theirs = number[place[: len(row)]], number[place[len(row) :]]
    lengths = lengths[sample]
    # Each pair of sets is looked at once, through the smaller of the two.
    low, high = np.minimum(mine, theirs), np.maximum(mine, theirs)
    pairs, which = np.unique(low * len(sample) + high, return_inverse=True)
    one, two = pairs // len(sample), pairs % len(sample)
    first_smaller = lengths[one] <= lengths[two]
    small, large = np.where(first_smaller, one, two), np.where(first_smaller, two, one)
    sets = np.unique(large)
    set_at, in_set = view.ranks.of(sample[sets])
    members = np.sort(sets[set_at] << 32 | in_set.astype(np.int64))
    pair_at, in_pair = view.ranks.of(sample[small])
    wanted = large[pair_at] << 32 | in_pair.astype(np.int64)
    at = np.minimum(np.searchsorted(members, wanted), len(members) - 1)
    shares = np.zeros(len(pairs), bool)
    shares[pair_at[members[at] == wanted]] = True
    bad = ~shares[which]
    if bad.any():
        rows, first = np.unique(row[bad], return_index=True)
        other = int(waits_for[bad][first[0]])
        ids = view.flat("id").values
        text = f"{ids[other]} (row {other}), which shares no rank with this row"
        out.add("after", rows, text, "operations that have a rank of this row")


def _messages(view: View, kind: str) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Return row, source rank, destination rank, tag and bytes of every send (or recv), in row order."""
    rows = np.flatnonzero(view.is_kind(kind))
    at, here = view.ranks.of(rows)
    _, there = view.peer.of(rows)
    row = rows[at]
    here, there = here.astype(np.int64), there.astype(np.int64)
    source, target = (here, there) if kind == "send" else (there, here)
    return row, source, target, view.flat("tag").values[row], view.flat("bytes").values[row]


def check_matching(view: View, out: Findings) -> None:
    """The k-th send of (source, destination, tag) meets the k-th recv of the same: name those that do not."""
    send, recv = _messages(view, "send"), _messages(view, "recv")
    if all(np.array_equal(a, b) for a, b in zip(send[1:4], recv[1:4], strict=True)):
        # Pairs written side by side: matched in order as they stand.
        _check_sizes(out, send, recv)
        return
    tags, senders = np.concatenate([send[3], recv[3]]), len(send[0])
    pair = np.concatenate([send[1] << 31 | send[2], recv[1] << 31 | recv[2]])
    is_recv = np.arange(len(pair)) >= senders
    if len(tags) == 0 or bool((tags == tags[0]).all()):
        order = np.argsort(pair, kind="stable")
    else:
        order = np.lexsort((tags, pair))
    pair, tags, is_recv = pair[order], tags[order], is_recv[order]
    new = np.ones(len(pair), bool)
    new[1:] = (pair[1:] != pair[:-1]) | (tags[1:] != tags[:-1])
    group = np.cumsum(new) - 1
    # The place of each message among the sends (or receives) of its group, in row order.
    heads = np.flatnonzero(new)
    recvs_before: Ints = np.cumsum(is_recv) - is_recv
    sends_before = np.arange(len(pair)) - recvs_before
    recvs_before -= recvs_before[heads][group]
    sends_before -= sends_before[heads][group]
    place = np.where(is_recv, recvs_before, sends_before)
    n_recvs = np.add.reduceat(is_recv.astype(np.int64), heads)
    n_sends = np.add.reduceat((~is_recv).astype(np.int64), heads)
    alone = place >= np.where(is_recv, n_sends[group], n_recvs[group])
    if alone.any():
        _name_alone(out, "send", "recv", send, np.sort(order[alone & ~is_recv]))
        _name_alone(out, "recv", "send", recv, np.sort(order[alone & is_recv] - senders))
        return
    # Equal counts in every group: the sends in this order face the receives in this order.
    sends, recvs = order[~is_recv], order[is_recv] - senders
    _check_sizes(out, tuple(c[sends] for c in send), tuple(c[recvs] for c in recv))


def _name_alone(out: Findings, kind: str, partner: str, side: tuple[Ints, ...], at: Ints) -> None:
    if len(at):
        _, source, target, tag, _ = (int(column[at[0]]) for column in side)
        text = f"a {kind} from rank {source} to rank {target}, tag {tag}, without a {partner}"
        allowed = "as many sends as receives of each source, destination and tag"
        out.add("peer", np.unique(side[0][at]), text, allowed)


def _check_sizes(out: Findings, send: tuple[Ints, ...], recv: tuple[Ints, ...]) -> None:
    bad = np.flatnonzero(send[4] != recv[4])
    if len(bad) == 0:
        return
    bad = bad[np.argsort(recv[0][bad], kind="stable")]
    first = bad[0]
    text = f"{recv[4][first]} in a recv, but the send in row {send[0][first]} has {send[4][first]}"
    out.add("bytes", np.unique(recv[0][bad]), text, "the same bytes in both")


def check_cycles(view: View, out: Findings) -> None:
    """Name a cycle of operations that wait for each other, by `after` and by the order of streams.

    Streams only lead forward, so a cycle needs an `after` that names a later row; else nothing is to do.
    A cycle lies within overlapping spans of such edges, so only the rows of those spans are looked at:
    first row by row, taking off what waits for nothing, then, if some remain, rank by rank.
    """
    row, waits_for, _ = view.edges
    sound = (waits_for >= 0) & (waits_for != row)
    row, waits_for = row[sound], waits_for[sound]
    later = waits_for > row
    if not later.any():
        return
    depth = np.zeros(view.n + 1, np.int64)
    np.add.at(depth, row[later], 1)
    np.subtract.at(depth, waits_for[later] + 1, 1)
    within = np.cumsum(depth[:-1]) > 0
    rows = np.flatnonzero(within)
    local = np.full(view.n, -1, np.int64)
    local[rows] = np.arange(len(rows))
    by_after = within[row] & within[waits_for]
    head, tail = local[row[by_after]], local[waits_for[by_after]]
    next_head, next_tail = _stream_edges(view, rows)
    left = _peel(len(rows), np.concatenate([head, next_head]), np.concatenate([tail, next_tail]))
    if len(left):
        _name_cycle(view, rows[left], out)


def _stream_edges(view: View, rows: Ints) -> tuple[Ints, Ints]:
    """Return, as indices into ``rows``, each operation and the one before it on a rank's stream."""
    stream = view.flat("stream")
    kept = np.flatnonzero(stream.given[rows])
    at, rank = view.ranks.of(rows[kept])
    index = kept[at]
    key = rank.astype(np.int64) << 32 | stream.values[rows[index]].astype(np.int64)
    order = np.argsort(key, kind="stable")
    key, index = key[order], index[order]
    same = key[1:] == key[:-1]
    return index[1:][same], index[:-1][same]


def _peel(n: int, head: Ints, tail: Ints) -> Ints:
    """Take off nodes that wait for nothing, again and again; return what remains: cycles and what follows."""
    order = np.argsort(tail, kind="stable")
    follows, sorted_tail = head[order], tail[order]
    offsets = np.searchsorted(sorted_tail, np.arange(n + 1))
    waiting = np.bincount(head, minlength=n)
    gone = np.zeros(n, bool)
    front = np.flatnonzero(waiting == 0)
    while len(front) >= _SMALL_FRONT:
        gone[front] = True
        at, _ = spread(offsets, front)
        touched = follows[at]
        np.subtract.at(waiting, touched, 1)
        touched = np.unique(touched)
        front = touched[waiting[touched] == 0]
    # Long thin chains: plain Python is quicker than arrays of a few entries.
    stack, counts, bounds, after = front.tolist(), waiting.tolist(), offsets.tolist(), follows.tolist()
    done = []
    while stack:
        node = stack.pop()
        done.append(node)
        for other in after[bounds[node] : bounds[node + 1]]:
            counts[other] -= 1
            if counts[other] == 0:
                stack.append(other)
    gone[np.array(done, np.int64)] = True
    return np.flatnonzero(~gone)


#: Operations that no rank can leave before all have come: one node for all their ranks.
_JOINED = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "barrier")


def _name_cycle(view: View, rows: Ints, out: Findings) -> None:
    """Look for a cycle rank by rank among the few rows that remain, and tell one, with who waits for whom."""
    joined = view.is_kind(*_JOINED)
    within = set(rows.tolist())
    ids = view.flat("id").values
    waits: dict[tuple[int, int], dict[tuple[int, int], str]] = defaultdict(dict)
    last: dict[tuple[int, int], tuple[int, int]] = {}
    row_of = {int(ids[row]): row for row in within}
    after, stream = view.lists("after"), view.flat("stream")

    place_of = {row: {rank: i for i, rank in enumerate(view.ranks.at(row))} for row in within}

    def node(row: int, rank: int) -> tuple[int, int]:
        return (row, -1 - place_of[row][rank] // int(view.group_sizes[row]) if joined[row] else rank)

    for row in rows.tolist():
        for rank in view.ranks.at(row):
            me = node(row, rank)
            for named in after.at(row):
                other = row_of.get(named)
                if other is not None and rank in place_of[other]:
                    waits[me][node(other, rank)] = "by after"
            if stream.given[row]:
                place = (rank, int(stream.values[row]))
                if place in last:
                    waits[me].setdefault(last[place], f"by stream {place[1]} of rank {rank}")
                last[place] = me
    cycle = find_cycle(waits)
    if not cycle:
        return
    start = min(range(len(cycle)), key=lambda i: cycle[i])
    cycle = cycle[start:] + cycle[:start]
    parts = []
    for me, other in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        pair = f"row {me[0]} (id {ids[me[0]]}) waits for row {other[0]} (id {ids[other[0]]})"
        parts.append(f"{pair} {waits[me][other]}")
    shown = "; ".join(parts[:8]) + (f"; … {len(parts)} in all" if len(parts) > 8 else "")
    members = np.unique(np.array([me[0] for me in cycle], np.int64))
    out.add("after", members, f"a cycle: {shown}", "operations that do not wait for themselves")


_Node = TypeVar("_Node", int, tuple[int, int])


def find_cycle(waits: Mapping[_Node, Iterable[_Node]]) -> list[_Node]:
    """Return the nodes of one cycle, each waiting for the next, or nothing: a walk with its own stack."""
    finished: set[_Node] = set()
    for root in sorted(waits):
        if root in finished:
            continue
        path, place, walk = [root], {root: 0}, [iter(waits[root])]
        while path:
            for other in walk[-1]:
                if other in place:
                    return path[place[other] :]
                if other not in finished:
                    place[other] = len(path)
                    path.append(other)
                    walk.append(iter(waits.get(other, ())))
                    break
            else:
                node = path.pop()
                walk.pop()
                del place[node]
                finished.add(node)
    return []
