"""Figures of time: where it went, by rank, by operation and on the critical path."""

from __future__ import annotations

from typing import Any

import numpy as np

from fabricsim.analysis.columns import STORAGE
from fabricsim.report.blocks import LEGEND, Figure, axis, colour_of, rounded, share, time_unit
from fabricsim.report.sample import Sample, pattern
from fabricsim.result import Result
from fabricsim.units import format_time

__all__ = ["by_rank", "critical_path", "exposed_by_name", "step_times", "timeline", "where_time_went"]

#: Bars of ranks, of names; lines and bars of the timeline; at most.
RANK_BARS, NAME_BARS, TIMELINE_ROWS, TIMELINE_BARS = 256, 16, 40, 3000

#: The most ranks of a timeline.
TIMELINE_RANKS = 10

#: Parts of the time that add up, and those behind others: column, words, colour.
PARTS = (
    ("compute_ps", "compute", "@compute"),
    ("exposed_communication_ps", "exposed communication", "@exposed"),
    ("exposed_storage_ps", "exposed storage", "@storage"),
    ("idle_ps", "idle", "@idle"),
)
BEHIND = (
    ("overlapped_communication_ps", "communication behind compute", "@hidden"),
    ("overlapped_storage_ps", "storage behind both", "@hidden"),
)

_BARS = {"barmode": "stack", "bargap": 0.25, "legend": LEGEND}


def where_time_went(result: Result) -> Figure:
    """Mean of the ranks, and the rank that ended last."""
    parts, total = result.summary["breakdown"], max(1, result.summary["end_ps"])
    who = [("mean of the ranks", parts["mean"])]
    if slowest := parts["slowest"]:
        who.append((f"rank {slowest['rank']}, the last to end", slowest))
    shown = [part for part in (*PARTS, *BEHIND) if any(values.get(part[0]) for _, values in who)]
    unit, unit_name = time_unit(total)
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label,
            "y": [name for name, _ in who],
            "x": rounded([values[key] / unit for _, values in who]),
            "text": [share(values[key], total) if values[key] > total / 25 else "" for _, values in who],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}<br>{label}: %{{x}} {unit_name}<extra></extra>",
        }
        for key, label, colour in PARTS
        if any(values[key] for _, values in who)
    ]
    mean = parts["mean"]
    told = [f"{label} {share(mean[key], total)}" for key, label, _ in PARTS if mean.get(key)]
    hidden = mean.get("overlapped_communication_ps", 0)
    text = f"Of {format_time(total)}, on the mean of the ranks: {', '.join(told)}."
    if hidden:
        text += f" Another {format_time(hidden)} of communication is hidden behind compute."
    return Figure(
        name="breakdown",
        title="Where the time went",
        text=text,
        data=data,
        layout=_BARS | {"xaxis": axis(f"time ({unit_name})"), "yaxis": axis("", autorange="reversed")},
        columns=["part", *(text for name, _ in who for text in (name, "of the time"))],
        rows=[
            [label, *(text for _, v in who for text in (format_time(v[key]), share(v[key], total)))]
            for key, label, _ in shown
        ],
        height=90 + 70 * len(who),
    )


def by_rank(result: Result) -> Figure | None:
    """Return the parts of the time of every rank; neighbours are put together where they are many."""
    ranks, total = result.ranks, max(1, result.summary["end_ps"])
    n = ranks.num_rows
    if n < 2:
        return None
    width = -(-n // RANK_BARS)
    first = np.arange(0, n, width)
    sizes = np.diff(first, append=n)
    unit, unit_name = time_unit(total)
    labels = [
        f"{at}" if size == 1 else f"{at}–{at + size - 1}"
        for at, size in zip(first.tolist(), sizes.tolist(), strict=True)
    ]
    columns = {key: ranks[key].to_numpy() for key, _, _ in (*PARTS, *BEHIND)}
    means = {key: np.add.reduceat(values, first) / sizes for key, values in columns.items()}
    shown = [part for part in PARTS if columns[part[0]].any()]
    data = [
        {
            "type": "bar",
            "name": label,
            "x": first.tolist(),
            "y": rounded(means[key] / unit),
            "width": width,
            "offset": 0,
            "customdata": labels,
            "marker": {"color": colour, "line": {"width": 0}},
            "hovertemplate": f"rank %{{customdata}}<br>{label}: %{{y}} {unit_name}<extra></extra>",
        }
        for key, label, colour in shown
    ]
    exposed = columns["exposed_communication_ps"]
    least, most = int(np.argmin(exposed)), int(np.argmax(exposed))
    text = (
        f"Exposed communication is between {format_time(int(exposed[least]))} (rank {least})"
        f" and {format_time(int(exposed[most]))} (rank {most})."
    )
    idle = columns["idle_ps"]
    text += f" The rank that is idle for longest is {int(np.argmax(idle))}: {format_time(int(idle.max()))}."
    order = np.lexsort((np.arange(n), -exposed))[:TABLE_RANKS]
    hosts = ranks["host"] if "host" in ranks.column_names else None
    return Figure(
        name="ranks",
        title="Time by rank",
        text=text,
        data=data,
        layout=_BARS
        | {"bargap": 0, "xaxis": axis("rank", rangemode="tozero"), "yaxis": axis(f"time ({unit_name})")},
        note=f"Each bar is the mean of {width} neighbouring ranks." if width > 1 else "",
        columns=["rank", "host", *(label for _, label, _ in shown)],
        rows=[
            [
                at,
                hosts[at].as_py() if hosts else None,
                *(format_time(int(columns[k][at])) for k, _, _ in shown),
            ]
            for at in order.tolist()
        ],
        left=2,
    )


#: Ranks in the table behind the figure: those with most exposed communication.
TABLE_RANKS = 20


def timeline(result: Result, sampled: Sample) -> Figure | None:
    """What some ranks did when, a line a stream."""
    picked = sampled.representative(TIMELINE_RANKS)
    ops = sampled.of_ranks(np.array(picked, np.int64))
    streams = np.unique(np.stack([ops.rank, ops.stream]), axis=1).shape[1]
    if streams > TIMELINE_ROWS:  # fewer ranks, rather than some with all their streams and others with none
        picked = sampled.representative(max(4, TIMELINE_ROWS * len(picked) // streams))
        ops = sampled.of_ranks(np.array(picked, np.int64))
    if not len(ops.start):
        return None
    keys, line = np.unique(np.stack([ops.rank, ops.stream]), axis=1, return_inverse=True)
    line = line.reshape(-1)
    lines = [(int(rank), int(stream)) for rank, stream in keys.T]
    left_out = len(lines) - TIMELINE_ROWS
    if left_out > 0:
        lines, kept = lines[:TIMELINE_ROWS], line < TIMELINE_ROWS
    else:
        kept = np.ones(len(line), bool)
    total = max(1, result.summary["end_ps"])
    bars, bins = _bars(ops, line, kept, total)
    unit, unit_name = time_unit(total)
    labels = [f"rank {rank}" + (f", stream {stream}" if stream >= 0 else "") for rank, stream in lines]
    data = []
    colours: dict[str, list[int]] = {}
    for kind in dict.fromkeys(bars["kind"].tolist()):
        colours.setdefault(colour_of(ops.kinds[kind]), []).append(kind)
    for colour, kinds in colours.items():
        mine = np.isin(bars["kind"], kinds)
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": ", ".join(ops.kinds[kind] for kind in kinds),
                "y": bars["line"][mine].tolist(),
                "base": rounded(bars["start"][mine] / unit, 6),
                "x": rounded((bars["end"] - bars["start"])[mine] / unit),
                "width": 0.8,
                "customdata": [bars["text"][at] for at in np.flatnonzero(mine).tolist()],
                "marker": {"color": colour, "line": {"width": 0}},
                "hovertemplate": f"%{{customdata}}<br>from %{{base}} {unit_name}<extra>%{{x}}</extra>",
            }
        )
    note = f"{int(kept.sum()):,} operations of {len(picked)} of {sampled.n_ranks:,} ranks"
    if bins:
        note += f"; a bar shows the kind that took most of each {format_time(total // bins)}"
    if left_out > 0:
        note += f"; {left_out} more streams are left out"
    if len(picked) < sampled.n_ranks:
        why = [f"rank {rank}: {reason}" for rank, reason in ops.extremes.items()]
        note += f". Evenly spread, and {', '.join(why)}" if why else ", evenly spread"
    busy = np.bincount(ops.kind, weights=ops.end - ops.start, minlength=len(ops.kinds))
    order = [at for at in np.argsort(-busy, kind="stable").tolist() if busy[at]]
    count = np.bincount(ops.kind, minlength=len(ops.kinds))
    return Figure(
        name="timeline",
        title="Timeline",
        text="What ranks did when, a line for each stream of a rank; a gap is waiting. Drag to zoom.",
        data=data,
        layout={
            "barmode": "overlay",
            "bargap": 0.2,
            "legend": LEGEND,
            "xaxis": axis(f"time ({unit_name})", range=[0, rounded([total / unit], 6)[0]]),
            "yaxis": axis(
                "", autorange="reversed", tickvals=list(range(len(lines))), ticktext=labels, showgrid=False
            ),
        },
        columns=["kind", "operations", "time by rank", "of the time"],
        rows=[
            [
                ops.kinds[at],
                f"{count[at]:,}",
                format_time(int(busy[at]) // len(picked)),
                share(busy[at] / len(picked), total),
            ]
            for at in order
        ],
        height=110 + 24 * len(lines),
        note=note + ".",
    )


def _bars(ops: Sample, line: np.ndarray, kept: np.ndarray, total: int) -> tuple[dict[str, Any], int]:
    """Return the bars of a timeline; where they would be too many, of equal pieces of time (how many)."""
    if kept.sum() <= TIMELINE_BARS:
        names = [
            (ops.names[name] if name >= 0 else ops.kinds[kind])
            for name, kind in zip(ops.name[kept].tolist(), ops.kind[kept].tolist(), strict=True)
        ]
        bars = {"line": line[kept], "kind": ops.kind[kept], "start": ops.start[kept], "end": ops.end[kept]}
        return bars | {"text": names}, 0
    for bins in (1600, 800, 400, 200, 100, 50):
        bars = _pieces(ops, line, kept, total, bins)
        if len(bars["line"]) <= TIMELINE_BARS:
            break
    return bars, bins


def _pieces(ops: Sample, line: np.ndarray, kept: np.ndarray, total: int, bins: int) -> dict[str, Any]:
    """Return bars of the kind that took most of each piece, neighbours of one kind put together."""
    edges = np.arange(bins + 1) * total / bins
    found: dict[str, list[Any]] = {"line": [], "kind": [], "start": [], "end": []}
    for at in np.unique(line[kept]).tolist():
        mine = kept & (line == at)
        kind = ops.kind[mine]
        took = np.zeros((len(ops.kinds) + 1, bins))
        for code in np.unique(kind).tolist():
            took[code] = np.diff(_covered(ops.start[mine][kind == code], ops.end[mine][kind == code], edges))
        took[-1] = total / bins - took.sum(0)  # what is left is a gap
        best = np.argmax(took, axis=0)
        change = np.flatnonzero(np.diff(best, prepend=-1))
        until = np.append(change[1:], bins)
        busy = best[change] < len(ops.kinds)
        found["line"] += [at] * int(busy.sum())
        found["kind"] += best[change][busy].tolist()
        found["start"] += edges[change][busy].tolist()
        found["end"] += edges[until][busy].tolist()
    bars: dict[str, Any] = {name: np.array(values) for name, values in found.items()}
    bars["text"] = [f"mostly {ops.kinds[code]}" for code in found["kind"]]
    return bars


def _covered(start: np.ndarray, end: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return how much time of the intervals lies before each of some times."""

    def before(times: np.ndarray) -> np.ndarray:
        times = np.sort(times)
        sums = np.concatenate([[0], np.cumsum(times)])
        count = np.searchsorted(times, at)
        return count * at - sums[count]

    return before(start) - before(end)


def exposed_by_name(result: Result, sampled: Sample) -> Figure | None:
    """Communication that no compute hid, by the names of the operations."""
    sampled = sampled.even()
    storage = np.isin(sampled.kind, [code for code, kind in enumerate(sampled.kinds) if kind in STORAGE])
    compute = sampled.kind == (sampled.kinds.index("compute") if "compute" in sampled.kinds else -2)
    wanted = ~compute & ~storage
    if not wanted.any():
        return None
    exposed = _uncovered(sampled, compute, wanted)
    flight = (sampled.end - sampled.start)[wanted]
    names = [pattern(name) for name in sampled.names]
    label = {name: code for code, name in enumerate(dict.fromkeys([*names, ""]))}
    code = np.array([label[name] for name in [*names, ""]])[sampled.name[wanted]]
    key = sampled.kind[wanted] * len(label) + code
    groups, which = np.unique(key, return_inverse=True)
    shown, hidden = (np.bincount(which, weights=w) / len(sampled.ranks) for w in (exposed, flight - exposed))
    count = np.bincount(which) / len(sampled.ranks)
    words = list(label)
    order = np.lexsort((groups, -shown))
    unit, unit_name = time_unit(int(max(shown.max(), hidden.max(), 1)))
    total = max(1, result.summary["end_ps"])

    def title(group: int) -> str:
        kind, name = sampled.kinds[groups[group] // len(label)], words[groups[group] % len(label)]
        return f"{name} ({kind})" if name else kind

    top = order[:NAME_BARS]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(range(len(top))),
            "x": rounded(values[top] / unit),
            "text": [share(v, total) for v in values[top]] if name == "exposed" else None,
            "textposition": "auto",
            "marker": {"color": colour},
            "hovertemplate": f"%{{x}} {unit_name}<extra>{name}</extra>",
        }
        for name, values, colour in (("exposed", shown, "@exposed"), ("behind compute", hidden, "@hidden"))
    ]
    first = order[0]
    text = f"Most of what compute does not hide is {title(first)}: {format_time(int(shown[first]))} a rank"
    text += f", {share(shown[first], total)} of the time."
    note = f"Mean of {sampled.told()}. # is a number; of operations in flight at the same time each counts."
    if len(groups) > len(top):
        note += f" {len(groups) - len(top)} more names are in the table."
    return Figure(
        name="exposed",
        title="Exposed communication by name",
        text=text,
        data=data,
        layout=_BARS
        | {
            "xaxis": axis(f"time by rank ({unit_name})"),
            "yaxis": axis(
                "",
                autorange="reversed",
                tickvals=list(range(len(top))),
                ticktext=[_short(title(group)) for group in top],
            ),
        },
        columns=["name", "operations by rank", "exposed", "of the time", "behind compute"],
        rows=[
            [
                title(group),
                f"{count[group]:g}" if count[group] < 100 else f"{count[group]:,.0f}",
                format_time(int(shown[group])),
                share(shown[group], total),
                format_time(int(hidden[group])),
            ]
            for group in order
        ],
        height=120 + 26 * len(top),
        note=note,
    )


def _short(name: str, width: int = 44) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _uncovered(ops: Sample, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return for each operation of ``second`` its time without any of ``first`` on the same rank."""
    # One long axis: the ranks one after another.
    stride = int(ops.end.max()) + 1
    offset = np.searchsorted(ops.ranks, ops.rank) * stride
    start, end = (ops.start + offset), (ops.end + offset)
    times = np.concatenate([start[first], end[first]])
    step = np.repeat([1, -1], int(first.sum()))
    order = np.lexsort((-step, times))
    times, busy = times[order], np.cumsum(step[order]) > 0
    sums = np.concatenate([[0], np.cumsum(np.diff(times) * busy[:-1])]) if len(times) else np.zeros(1)

    def before(at: np.ndarray) -> np.ndarray:
        if not len(times):
            return np.zeros(len(at))
        last = np.searchsorted(times, at, side="right") - 1
        inside = np.maximum(last, 0)
        return np.where(last < 0, 0, sums[inside] + (at - times[inside]) * busy[inside])

    return (end - start)[second] - (before(end[second]) - before(start[second]))


def step_times(sampled: Sample) -> np.ndarray:
    """Return how long each step took: from the end of the one before it to its end, picoseconds."""
    told = sampled.step >= 0
    if not told.any():
        return np.zeros(0, np.int64)
    steps, which = np.unique(sampled.step[told], return_inverse=True)
    ends = np.zeros(len(steps), np.int64)
    np.maximum.at(ends, which, sampled.end[told])
    return np.diff(ends, prepend=int(sampled.start[told].min()))


def critical_path(result: Result) -> Figure | None:
    """What the end of the run waited for."""
    path = result.summary.get("critical_path")
    if not path or not path["by_kind"]:
        return None
    total = max(1, sum(path["by_kind"].values()))
    unit, unit_name = time_unit(total)
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": kind,
            "y": ["critical path"],
            "x": rounded([time / unit]),
            "text": [f"{kind} {share(time, total)}" if time > total / 12 else ""],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "marker": {"color": colour_of(kind)},
            "hovertemplate": f"{kind}: %{{x}} {unit_name}<extra></extra>",
        }
        for kind, time in path["by_kind"].items()
        if time
    ]
    told = ", ".join(
        f"{kind} {share(time, total)}" for kind, time in path["by_kind"].items() if time > total / 1000
    )
    return Figure(
        name="path",
        title="Critical path",
        text=f"Back from the operation that ended last, through what each one waited for: {told}.",
        data=data,
        layout=_BARS | {"xaxis": axis(f"time ({unit_name})"), "yaxis": axis("", showticklabels=False)},
        columns=["longest on the path", "operation", "rank", "from", "time", "of the path"],
        rows=[
            [
                row["kind"],
                row["name"] or f"id {row['id']}",
                row["rank"],
                format_time(row["start_ps"]),
                format_time(row["time_ps"]),
                share(row["time_ps"], total),
            ]
            for row in path["longest"]
        ],
        left=2,
        height=170,
    )
