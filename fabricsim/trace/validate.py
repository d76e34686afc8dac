"""The checks of a trace: the schema, then values, all problems at once, each with row, column and count.

Rows are numbered from 0. Every check is vectorised; Python loops run only to describe what is wrong.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim.errors import Problem, unknown_name
from fabricsim.trace.findings import Findings, value_of
from fabricsim.trace.order import check_cycles, check_matching, check_sharing
from fabricsim.trace.schema import (
    COLLECTIVES,
    COLUMNS,
    KIND_CODE,
    KINDS,
    POINT_TO_POINT,
    ROOTED,
    SIZED,
    normalise,
)
from fabricsim.trace.storage import check_storage
from fabricsim.trace.view import Ints, View

INT64_MAX = 2**63 - 1
#: Of the priorities of IEEE 802.1Q.
HIGHEST_PRIORITY = 7

#: Columns that may not be negative where they are given.
_NON_NEGATIVE = (
    "id", "bytes", "duration_ps", "mem_bytes", "delay_ps", "stream", "start_ps", "end_ps", "offset",
    "stride", "priority", "group_size",
)  # fmt: skip
#: Columns of lists whose entries may not be negative.
_NON_NEGATIVE_LISTS = ("ranks", "splits")


def validate(table: pa.Table, where: str = "trace", *, n_ranks: int | None = None) -> list[Problem]:
    """Check a trace table and return everything that is wrong with it.

    Parameters
    ----------
    table
        Any Arrow table; types that hold the same values (large lists, strings, other integers) are accepted.
    where
        What the problems name as their place, usually the path.
    n_ranks
        When given, ranks must be below it.

    Returns
    -------
    list of Problem
        Empty when the trace is valid. Schema problems first; when there are any, values are not looked at.

    >>> import pyarrow as pa
    >>> print(validate(pa.table({"id": [1], "kind": ["barier"], "ranks": [[0, 1]]}), "x.arrow")[0].where)
    x.arrow:row 0:kind
    """
    table, problems = normalise(table, where)
    return problems or check(View(table), where, n_ranks=n_ranks)


def check(view: View, where: str, *, n_ranks: int | None = None) -> list[Problem]:
    """Check the values of a normalised table; see ``validate``."""
    if view.n == 0:
        return [Problem(where, "found no rows, allowed: at least one operation")]
    out = Findings(where)
    _check_nulls(view, out)
    if out.problems:
        # Without ids, kinds and ranks no other check can tell the truth.
        return out.problems
    _check_kinds(view, out)
    _check_signs(view, out)
    _check_ids(view, out)
    _check_ranks(view, out, n_ranks)
    _check_bytes(view, out)
    _check_compute(view, out)
    _check_groups(view, out)
    _check_splits(view, out)
    check_storage(view, out)
    _check_times(view, out)
    _check_peers(view, out)
    _check_after(view, out)
    # What follows looks at several rows together, so the columns that it reads must be sound.
    if not out.columns & {"kind", "ranks", "peer"}:
        check_matching(view, out)
    if not out.columns & {"id", "kind", "ranks", "stream"}:
        check_sharing(view, out)
        check_cycles(view, out)
    return out.problems


def _check_nulls(view: View, out: Findings) -> None:
    for column in COLUMNS:
        array = view.array(column.name)
        if array is None:
            continue
        if column.required and array.null_count:
            bad = array.is_null().to_numpy(zero_copy_only=False)
            out.mask(column.name, bad, "null", f"{column.type}, not null")
        if pa.types.is_list(column.type) and view.lists(column.name).null_entries:
            lists = view.lists(column.name)
            null = array.flatten().is_null().to_numpy(zero_copy_only=False)
            out.add(column.name, np.unique(lists.row[null]), "a null in the list", "entries not null")


def _check_kinds(view: View, out: Findings) -> None:
    if view.known.all():
        return
    words = view.array("kind")
    assert words is not None
    indices = words.indices.to_numpy(zero_copy_only=False)
    for index, word in enumerate(words.dictionary.to_pylist()):
        if word not in KIND_CODE:
            rows = np.flatnonzero(indices == index)
            out.add("kind", rows, unknown_name("kind", str(word), KINDS), "a known kind")


def _check_signs(view: View, out: Findings) -> None:
    for name in _NON_NEGATIVE:
        if name in view.table.column_names:
            values = view.flat(name).values
            if values.size and values.min() < 0:
                out.mask(name, values < 0, value_of(values), "at least 0")
    priority = view.flat("priority").values
    if priority.size and priority.max() > HIGHEST_PRIORITY:
        out.mask("priority", priority > HIGHEST_PRIORITY, value_of(priority), f"0 to {HIGHEST_PRIORITY}")
    for name in _NON_NEGATIVE_LISTS:
        lists = view.lists(name)
        if lists.values.size and lists.values.min() < 0:
            rows = np.unique(lists.row[lists.values < 0])
            out.add(name, rows, _short(lists.at(int(rows[0]))), "entries of at least 0")


def _check_ids(view: View, out: Findings) -> None:
    ids, order = view.rows_by_id
    if order is None:
        return
    again = np.flatnonzero(ids[1:] == ids[:-1]) + 1
    if len(again) == 0:
        return
    # Equal ids stand in row order, so the row before is an earlier one with the same id.
    rows, earlier = order[again], order[again - 1]
    by_row = np.argsort(rows)
    before = {int(rows[i]): int(earlier[i]) for i in by_row[:1]}
    out.add(
        "id",
        rows[by_row],
        lambda r: f"{ids[again[by_row[0]]]} again (first in row {before[r]})",
        "unique ids",
    )


def _check_ranks(view: View, out: Findings, n_ranks: int | None) -> None:
    ranks = view.ranks
    out.mask("ranks", ranks.lengths == 0, "no ranks", "at least one rank")
    if n_ranks is not None and ranks.values.size and int(ranks.values.max()) >= n_ranks:
        rows = np.unique(ranks.row[ranks.values >= n_ranks])
        out.add("ranks", rows, lambda r: f"rank {max(ranks.at(r))}", f"ranks 0 to {n_ranks - 1}")
    # Ascending lists hold no rank twice; only the others are sorted and looked at.
    rows = np.flatnonzero(~view.ascending)
    if len(rows) == 0:
        return
    which, some = ranks.of(rows)
    order = np.lexsort((some, which))
    twice = (some[order][1:] == some[order][:-1]) & (which[order][1:] == which[order][:-1])
    bad = rows[np.unique(which[order][1:][twice])]
    out.add("ranks", bad, lambda r: f"a rank twice in {_short(ranks.at(r))}", "each rank once")


def _check_bytes(view: View, out: Findings) -> None:
    size = view.flat("bytes")
    splits = view.lists("splits")
    missing = view.is_kind(*SIZED) & ~size.given
    missing &= ~(view.is_kind("all_to_all") & (splits.lengths > 0))
    out.mask("bytes", missing, lambda r: f"null in a row of kind {_kind(view, r)}", "bytes, at least 0")
    sized = view.is_kind(*SIZED)
    surplus = view.known & ~sized & (size.values != 0)
    out.mask("bytes", surplus, lambda r: f"{size.values[r]} in a row of kind {_kind(view, r)}", "null or 0")


def _check_compute(view: View, out: Findings) -> None:
    compute = view.is_kind("compute")
    duration, flops, memory = view.flat("duration_ps"), view.flat("flops"), view.flat("mem_bytes")
    work = flops.given | memory.given
    neither = compute & ~duration.given & ~work
    out.mask("duration_ps", neither, "null", "duration_ps, or flops and mem_bytes, in a compute row")
    for name, column in (("duration_ps", duration), ("flops", flops), ("mem_bytes", memory)):
        if not column.given.any():
            continue
        other = view.known & ~compute & (column.values != 0)
        rows = np.flatnonzero(other)
        if len(rows):
            first = int(rows[0])
            found = f"{column.values[first]} in a row of kind {_kind(view, first)}"
            out.add(name, rows, found, "null or 0")
    if flops.given.any():
        bad = flops.given & ~(np.isfinite(flops.values) & (flops.values >= 0))
        out.mask("flops", bad, lambda r: str(flops.values[r]), "a finite number, at least 0")


def _check_groups(view: View, out: Findings) -> None:
    size, count = view.flat("group_size"), view.flat("count")
    collective = view.is_kind(*COLLECTIVES)
    other = view.known & ~collective & (size.values != 0)
    out.mask(
        "group_size", other, lambda r: f"{size.values[r]} in a row of kind {_kind(view, r)}", "null or 0"
    )
    n = view.ranks.lengths
    uneven = collective & (size.values > 0) & (n % np.maximum(size.values, 1) != 0)
    out.mask(
        "group_size",
        uneven,
        lambda r: f"{size.values[r]} for {n[r]} ranks",
        "a divisor of the number of ranks",
    )
    wrong = count.given & ((count.values < 1) | (count.values >= 2**31))
    out.mask("count", wrong, value_of(count.values), "1 to 2^31 - 1")
    once = view.known & ~collective & ~view.is_kind("compute") & count.given & ~wrong & (count.values != 1)
    out.mask("count", once, lambda r: f"{count.values[r]} in a row of kind {_kind(view, r)}", "null or 1")


def row_sums(view: View, rows: Ints) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Return the greatest total that one rank sends, for all_to_all rows with ``splits``, exact and as float.

    ``rows`` hold n or n*n entries each. The exact one wraps past 2^63-1, which the other tells.
    """
    splits, n = view.lists("splits"), view.ranks.lengths[rows]
    lengths = splits.lengths[rows]
    _, values = splits.of(rows)
    # The segments to sum: one for each row of n entries, n for each of n*n.
    segments = np.where(lengths == n, 1, n)
    starts = np.repeat(np.cumsum(lengths) - lengths, segments)
    owner = np.repeat(np.arange(len(rows)), segments)
    place = np.arange(len(owner)) - (np.cumsum(segments) - segments)[owner]
    starts = starts + place * n[owner]
    exact = np.add.reduceat(values, starts)
    about = np.add.reduceat(values.astype(np.float64), starts)
    heads = np.cumsum(segments) - segments
    return np.maximum.reduceat(exact, heads), np.maximum.reduceat(about, heads)


def _check_splits(view: View, out: Findings) -> None:
    splits = view.lists("splits")
    if len(splits.values) == 0:
        return
    n, lengths = view.ranks.lengths, splits.lengths
    all_to_all = view.is_kind("all_to_all")
    wrong_kind = view.known & ~all_to_all & (lengths > 0)
    out.mask("splits", wrong_kind, lambda r: f"splits in a row of kind {_kind(view, r)}", "null or empty")
    has = all_to_all & (lengths > 0) & (n > 0)
    parts = has & (view.flat("group_size").values > 0)
    out.mask("splits", parts, "splits in a row with group_size", "one of the two")
    wrong = has & (lengths != n) & (lengths != n * n)
    out.mask(
        "splits", wrong, lambda r: f"{lengths[r]} entries for {n[r]} ranks", "n entries, or n*n row by row"
    )
    rows = np.flatnonzero(has & ~wrong)
    if len(rows) == 0 or splits.values.min() < 0:
        return
    total, about = row_sums(view, rows)
    over = rows[about >= INT64_MAX]
    out.add("splits", over, "parts that add up to more than 2^63-1 bytes", "a total below")
    size = view.flat("bytes")
    differs = size.given[rows] & (size.values[rows] != total) & (about < INT64_MAX)
    greatest = dict(zip(rows[differs].tolist()[:1], total[differs].tolist()[:1], strict=True))
    out.add(
        "bytes",
        rows[differs],
        lambda r: f"{size.values[r]}, but splits add up to {greatest[r]}",
        "null, or the greatest total that a rank sends",
    )


def _check_times(view: View, out: Findings) -> None:
    start, end = view.flat("start_ps"), view.flat("end_ps")
    bad = start.given & end.given & (end.values < start.values)
    out.mask(
        "end_ps", bad, lambda r: f"{end.values[r]}, before start_ps {start.values[r]}", "end_ps >= start_ps"
    )


def _check_peers(view: View, out: Findings) -> None:
    ranks, peer, lengths = view.ranks, view.peer, view.peer.lengths
    p2p = view.is_kind(*POINT_TO_POINT)
    rooted = view.is_kind(*ROOTED)
    other = view.known & ~p2p & ~rooted & (lengths > 0)
    out.mask(
        "peer", other, lambda r: f"{_short(peer.at(r))} in a row of kind {_kind(view, r)}", "null or empty"
    )
    uneven = p2p & (lengths != ranks.lengths)
    out.mask(
        "peer", uneven, lambda r: f"{lengths[r]} peers for {ranks.lengths[r]} ranks", "as many peers as ranks"
    )
    if p2p.any():
        rows = np.flatnonzero(p2p & ~uneven)
        at, there = peer.of(rows)
        _, here = ranks.of(rows)
        any_source = np.unique(rows[at[(there == -1) & (view.kind[rows[at]] == KINDS.index("recv"))]])
        out.add("peer", any_source, "-1, an ambiguous receive from any rank", "the rank that sends")
        negative = np.setdiff1d(np.unique(rows[at[there < 0]]), any_source)
        out.add("peer", negative, lambda r: _short(peer.at(r)), "ranks of at least 0")
        itself = np.unique(rows[at[there == here]])
        out.add("peer", itself, lambda r: f"a message of rank {ranks.at(r)[0]} to itself", "another rank")
    if rooted.any():
        groups = ranks.lengths // view.group_sizes
        odd = rooted & (lengths != groups)
        text = "the root rank of each group, one entry without groups"
        out.mask("peer", odd, lambda r: f"{lengths[r]} entries for {groups[r]} groups", text)
        _check_roots(view, np.flatnonzero(rooted & (lengths == groups)), out)


def _check_roots(view: View, rows: Ints, out: Findings) -> None:
    """Name rows of broadcasts and reductions with a root that is not in its group."""
    ranks, peer = view.ranks, view.peer
    at, there = ranks.of(rows)
    place = np.arange(len(at)) - (np.cumsum(ranks.lengths[rows]) - ranks.lengths[rows])[at]
    group = place // view.group_sizes[rows][at]  # of its row
    root_at, roots = peer.of(rows)
    first = np.cumsum(peer.lengths[rows]) - peer.lengths[rows]
    inside = np.zeros(len(roots), bool)
    hit = there == roots[first[at] + group]
    inside[(first[at] + group)[hit]] = True
    bad = rows[np.unique(root_at[~inside])]
    out.add(
        "peer",
        bad,
        lambda r: f"root {_short(peer.at(r)).strip('[]')}, not in ranks {_short(ranks.at(r))}",
        "a root that takes part",
    )


def _check_after(view: View, out: Findings) -> None:
    row, waits_for, named = view.edges
    if len(row) == 0:
        return
    unknown = waits_for < 0
    if unknown.any():
        rows, first = np.unique(row[unknown], return_index=True)
        missing = named[unknown][first[0]]
        out.add("after", rows, f"{missing}, which is no id of this trace", "ids of other rows")
    itself = np.unique(row[waits_for == row])
    out.add("after", itself, lambda r: f"{view.flat('id').values[r]}, the row itself", "ids of other rows")


def _kind(view: View, row: int) -> str:
    code = int(view.kind[row])
    return KINDS[code] if code >= 0 else "unknown"


def _short(values: list[int]) -> str:
    if len(values) <= 8:
        return str(values)
    return "[" + ", ".join(map(str, values[:8])) + f", … {len(values)} entries]"
