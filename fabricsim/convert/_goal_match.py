"""What each operation of a GOAL schedule waits for, and which send belongs to which receive."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence

from fabricsim.convert.goal import ANY, CALC, SEND, Schedule
from fabricsim.errors import Problem
from fabricsim.trace.order import find_cycle

#: What many things start with must not multiply what they wait for: with more it becomes a 0 ns calc.
_MOST_PASSED = 64
_Bad = Callable[[int, str], None]


def flatten(schedule: Schedule) -> None:
    """Make waits of starts: who waits for the start of b waits for all that b waits for.

    `starts` stays, so that the order of the rows can follow it.
    """
    order = _local_order(schedule)
    if order is None:
        return
    first = {b for waits in schedule.starts.values() for b in waits}
    for op in order:
        after = schedule.after[op]
        for b in schedule.starts.get(op, ()):
            after.extend(schedule.after[b])
        if len(after) > 1:
            after = schedule.after[op] = list(dict.fromkeys(after))
        if op in first and len(after) > _MOST_PASSED:
            mark = schedule.add(CALC, schedule.rank[op], 0, schedule.place[op], cpu=-1)
            schedule.after[mark] = after
            schedule.after[op] = [mark]


def _local_order(schedule: Schedule) -> list[int] | None:
    """Operations so that each comes after what it waits for on its rank; None where some wait in a circle."""
    n = len(schedule)
    waiting = [len(after) for after in schedule.after]
    followers: list[list[int]] = [[] for _ in range(n)]
    for op, after in enumerate(schedule.after):
        for b in after:
            followers[b].append(op)
    for op, starts in schedule.starts.items():
        waiting[op] += len(starts)
        for b in starts:
            followers[b].append(op)
    order = [op for op in range(n) if not waiting[op]]
    for op in order:
        for child in followers[op]:
            waiting[child] -= 1
            if not waiting[child]:
                order.append(child)
    if len(order) == n:
        return order
    done = set(order)
    stuck = {
        op: [b for b in (*schedule.after[op], *schedule.starts.get(op, ())) if b not in done]
        for op in range(n)
        if op not in done
    }
    circle(schedule, find_cycle(stuck))
    return None


def circle(schedule: Schedule, ring: Sequence[int]) -> None:
    """Note that operations wait for each other."""
    told = " waits for ".join(f"{schedule.name(op)} ({schedule.at(op)})" for op in [*ring[:6], ring[0]])
    more = f" and {len(ring) - 6} more" if len(ring) > 6 else ""
    schedule.problems.append(_problem(schedule, ring[0], f"found a circle: {told}{more}, allowed: none"))


def _problem(schedule: Schedule, op: int, message: str) -> Problem:
    return Problem(schedule.at(op), message)


def match(schedule: Schedule, strict: bool) -> None:
    """Give each receive the source and the tag of its send, and both a tag that is theirs alone.

    Receives of the same message are matched in the order of posting (see goal.py).
    """
    ends: dict[tuple[int, int, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    anyone: dict[int, list[int]] = defaultdict(list)
    for op, kind in enumerate(schedule.kind):
        if kind == CALC:
            continue
        rank, peer, tag = schedule.rank[op], schedule.peer[op], schedule.tag[op]
        if kind == SEND:
            ends[rank, peer, tag][0].append(op)
        elif peer == ANY or tag == ANY:
            anyone[rank].append(op)
        else:
            ends[peer, rank, tag][1].append(op)

    def bad(op: int, message: str) -> None:
        schedule.problems.append(_problem(schedule, op, message))

    posted = _Posting(schedule)
    pairs: list[tuple[list[int], list[int]]] = []
    left: dict[int, list[int]] = defaultdict(list)
    for (_, dst, _), (sends, recvs) in ends.items():
        if not recvs and dst in anyone:
            left[dst] += sends
        elif len(sends) == len(recvs):
            if strict and len(sends) > 1 and not _ordered(posted, sends, recvs, bad):
                continue
            pairs.append((posted.sort(sends, strict), posted.sort(recvs, strict)))
        else:
            _unmatched(schedule, sends, recvs, bool(anyone.get(dst)), bad)
    for rank, recvs in anyone.items():
        found = _from_anyone(schedule, posted, left[rank], recvs, strict, bad)
        pairs += found
    for sends, recvs in pairs:
        _settle(schedule, sends, recvs, bad)


def _settle(schedule: Schedule, sends: list[int], recvs: list[int], bad: _Bad) -> None:
    for k, (a, b) in enumerate(zip(sends, recvs, strict=True)):
        if schedule.size[a] != schedule.size[b]:
            bad(b, f"found {schedule.name(b)}, but it matches {schedule.name(a)} ({schedule.at(a)})")
        tag = schedule.tag[a] + (k << 32)
        schedule.peer[b] = schedule.rank[a]
        schedule.tag[a] = schedule.tag[b] = tag
        schedule.partner[b] = a


def _unmatched(schedule: Schedule, sends: list[int], recvs: list[int], anyone: bool, bad: _Bad) -> None:
    more, least = (sends, recvs) if len(sends) > len(recvs) else (recvs, sends)
    odd = more[len(least)]
    kind = "receives" if schedule.kind[odd] == SEND else "sends"
    mine = "sends" if schedule.kind[odd] == SEND else "receives"
    hint = "; receives from any are there too, which may take either" if anyone else ""
    text = (
        f"{schedule.name(odd)}: {len(more)} such {mine}, but {len(least)} {kind}, so one has no partner{hint}"
    )
    bad(odd, text)


def _ordered(posted: _Posting, sends: list[int], recvs: list[int], bad: _Bad) -> bool:
    for side in (sends, recvs):
        odd = posted.unordered(side)
        if odd is None:
            continue
        a, b = odd
        schedule = posted.schedule
        text = (
            f"{schedule.name(a)} and {schedule.name(b)} ({schedule.at(b)}): nothing tells which is posted"
            f" first, so which of {len(side)} messages is whose; allowed: different tags, or one that"
            " requires the other"
        )
        bad(a, text)
        return False
    return True


def _from_anyone(
    schedule: Schedule, posted: _Posting, sends: list[int], recvs: list[int], strict: bool, bad: _Bad
) -> list[tuple[list[int], list[int]]]:
    """Match the receives of a rank from any source, or of any tag, with the sends that none else asks for."""
    patterns: dict[tuple[int, int], list[int]] = defaultdict(list)
    for op in recvs:
        patterns[schedule.peer[op], schedule.tag[op]].append(op)
    found: list[tuple[list[int], list[int]]] = []
    rest = list(sends)
    for (peer, tag), own in patterns.items():
        fits = [op for op in rest if peer in (ANY, schedule.rank[op]) and tag in (ANY, schedule.tag[op])]
        other = next(
            (
                theirs[0]
                for (p, t), theirs in patterns.items()
                if (p, t) != (peer, tag)
                and any(p in (ANY, schedule.rank[op]) and t in (ANY, schedule.tag[op]) for op in fits)
            ),
            None,
        )
        if other is not None:
            bad(own[0], f"{schedule.name(own[0])} and {schedule.name(other)} ask for the same messages")
            continue
        rest = [op for op in rest if op not in set(fits)]
        if len(fits) != len(own):
            mine = f"{len(own)} such receives, but {len(fits)} sends that none else asks for"
            bad((own + fits)[0] if own else fits[0], f"{schedule.name(own[0])}: {mine}")
            continue
        sources = {schedule.rank[op] for op in fits}
        if len(own) > 1 and len(sources) > 1:
            if strict and not (posted.alike(own) and len({schedule.size[op] for op in fits}) == 1):
                text = (
                    f"{schedule.name(own[0])}: {len(own)} such receives and messages of {len(sources)} ranks,"
                )
                bad(own[0], f"{text} whose order of arrival decides; allowed: a source in each receive")
                continue
            # Alike, so that any order is the same; the tags must differ by source alone.
            for source in sorted(sources):
                mine_sent = [op for op in fits if schedule.rank[op] == source]
                taken, own = own[: len(mine_sent)], own[len(mine_sent) :]
                found.append((posted.sort(mine_sent, strict), taken))
            continue
        if strict and len(own) > 1 and not _ordered(posted, fits, own, bad):
            continue
        found.append((posted.sort(fits, strict), posted.sort(own, strict)))
    for op in rest:
        bad(op, f"{schedule.name(op)}: no receive asks for it")
    return found


class _Posting:
    """The order in which operations of a rank are posted, as far as what they wait for tells."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._depth: list[int] | None = None
        self._children: list[set[int]] | None = None

    def sort(self, ops: list[int], strict: bool) -> list[int]:
        """Operations in the order of posting."""
        if len(ops) < 2 or not strict:
            return ops
        depth = self._depths()
        return sorted(ops, key=lambda op: (depth[op], op))

    def unordered(self, ops: list[int]) -> tuple[int, int] | None:
        """Two operations of which neither is sure to be posted first, and that are not alike; or None."""
        ordered = self.sort(ops, True)
        for a, b in itertools.pairwise(ordered):
            if not self._no_later(a, b) and not self.alike([a, b]):
                return a, b
        return None

    def alike(self, ops: list[int]) -> bool:
        """Whether operations have one size, wait for the same, and the same wait for them."""
        schedule = self.schedule
        if self._children is None:
            self._children = [set() for _ in range(len(schedule))]
            for op, after in enumerate(schedule.after):
                for b in after:
                    self._children[b].add(op)
        first = ops[0]
        waits, size, children = set(schedule.after[first]), schedule.size[first], self._children[first]
        return all(
            schedule.size[op] == size and set(schedule.after[op]) == waits and self._children[op] == children
            for op in ops[1:]
        )

    def _depths(self) -> list[int]:
        """How many operations stand one behind the other before each one, on its rank."""
        if self._depth is None:
            after = self.schedule.after
            depth = [0] * len(after)
            waiting = [len(own) for own in after]
            followers: list[list[int]] = [[] for _ in after]
            for op, own in enumerate(after):
                for b in own:
                    followers[b].append(op)
            order = [op for op, n in enumerate(waiting) if not n]
            for op in order:
                for child in followers[op]:
                    depth[child] = max(depth[child], depth[op] + 1)
                    waiting[child] -= 1
                    if not waiting[child]:
                        order.append(child)
            self._depth = depth
        return self._depth

    def _no_later(self, a: int, b: int) -> bool:
        """Whether all that `a` waits for has ended when `b` starts."""
        after = self.schedule.after
        wanted = set(after[a]) - set(after[b])
        if not wanted:
            return True
        depth = self._depths()
        least = min(depth[op] for op in wanted)
        seen, stack = set(after[b]), [op for op in after[b] if depth[op] > least]
        if a in seen:
            return True
        while stack and wanted:
            for op in after[stack.pop()]:
                if op == a:
                    return True
                if op not in seen:
                    seen.add(op)
                    wanted.discard(op)
                    if depth[op] > least:
                        stack.append(op)
        return not wanted
