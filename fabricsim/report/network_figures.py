"""Figures of the network: links by use, time and queue, pauses and marks, completion times."""

from __future__ import annotations

from typing import Any

import numpy as np

from fabricsim.analysis.collectives import per_operation
from fabricsim.analysis.columns import COLLECTIVES
from fabricsim.report.blocks import LEGEND, Figure, axis, colour_of, rounded, share, time_unit
from fabricsim.report.network import Links, Samples
from fabricsim.result import Result
from fabricsim.units import format_bytes, format_rate, format_time

__all__ = ["completion_times", "link_map", "links_over_time", "marks_and_pauses", "queues"]

#: Cells across the map of the links, links that are shown one by one, curves of completion times.
CELLS, TOP_LINKS, CURVES = 120, 20, 8

#: Points of a curve.
_QUANTILES = np.concatenate([np.arange(0, 99, 1.0), np.arange(99, 100.01, 0.1)])


def link_map(links: Links) -> Figure | None:
    """How much each link was in use, tier by tier."""
    if not len(links):
        return None
    use = links.columns["utilisation"]
    cells, words, ticks, rows = [], [], [], []
    for one in links.classes:
        mine = use[one.links]
        first = np.arange(CELLS) * len(mine) // CELLS
        until = np.maximum(first + 1, (np.arange(CELLS) + 1) * len(mine) // CELLS)
        best = [int(low + np.argmax(mine[low:high])) for low, high in zip(first, until, strict=True)]
        cells.append(rounded(100 * mine[best], 3))
        words.append([links.name(int(one.links[at])) for at in best])
        ticks.append(f"{one.name}<br><span style='font-size:.85em'>{100 * mine.max():.0f} % at most</span>")
        top = int(one.links[int(np.argmax(mine))])
        rates = np.unique(links.columns["rate_mbps"][one.links])
        rows.append(
            [
                one.name,
                links.name(top),
                f"{len(mine):,}",
                " to ".join(format_rate(int(rate)) for rate in dict.fromkeys([rates[0], rates[-1]])),
                format_bytes(int(links.columns["bytes"][one.links].sum())),
                *(f"{100 * value:.1f} %" for value in (mine.mean(), np.median(mine), mine.max())),
            ]
        )
    top = int(np.argmax(use))
    text = (
        f"The busiest link is {links.name(top)} ({format_rate(int(links.columns['rate_mbps'][top]))}):"
        f" in use {100 * use[top]:.1f} % of the run. "
    )
    uneven = [
        f"{one.name} {use[one.links].max() / use[one.links].mean():.1f} times its mean"
        for one in links.classes
        if use[one.links].mean() > 0.01 and use[one.links].max() > 1.2 * use[one.links].mean()
    ]
    text += "The most used link of a tier against its mean: " + ", ".join(uneven) + "." if uneven else ""
    data = {
        "type": "heatmap",
        "z": cells,
        "customdata": words,
        "x": rounded((np.arange(CELLS) + 0.5) * 100 / CELLS, 4),
        "y": list(range(len(cells))),
        "colorscale": "@heat",
        "zmin": 0,
        "zmax": _round_up(100 * float(use.max())),
        "ygap": 3,
        "colorbar": {"title": {"text": "in use", "side": "right"}, "ticksuffix": " %", "thickness": 12},
        "hovertemplate": "%{customdata}: %{z} %<extra></extra>",
    }
    note = f"A row is a tier, first link to last, in {CELLS} cells; a cell is the most used of its links."
    if links.left_out:
        note += f" {links.left_out} smaller kinds of links are left out."
    return Figure(
        name="links",
        title="Links by use",
        text=text.strip(),
        data=[data],
        layout={
            "xaxis": axis("links of the tier, first to last (%)", showgrid=False),
            "yaxis": axis(
                "", autorange="reversed", tickvals=list(range(len(ticks))), ticktext=ticks, showgrid=False
            ),
        },
        columns=["links", "busiest", "number", "rate", "carried", "mean", "median", "most"],
        rows=rows,
        left=2,
        height=110 + 44 * len(cells),
        note=note,
    )


def _round_up(percent: float) -> float:
    """Return the next handy percentage."""
    return next((float(top) for top in (1, 2, 5, 10, 20, 40, 60, 80) if percent <= top), 100.0)


def busiest(links: Links) -> Figure | None:
    """The busiest links, one by one."""
    use, columns = links.columns["utilisation"], links.columns
    order = np.lexsort((np.arange(len(use)), -columns["busy_ps"]))[:TOP_LINKS]
    order = order[columns["busy_ps"][order] > 0]
    if not len(order):
        return None
    names = [links.name(at) for at in order.tolist()]
    data = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(order))),
        "x": rounded(100 * use[order], 4),
        "text": [f"{100 * use[at]:.1f} %" for at in order],
        "textposition": "auto",
        "marker": {"color": "@link"},
        "hovertemplate": "%{x} %<extra></extra>",
    }
    return Figure(
        name="busiest",
        title="Busiest links",
        text=f"The {len(order)} links with most time in use, of {len(use):,}.",
        data=[data],
        layout={
            "bargap": 0.25,
            "xaxis": axis("in use (% of the run)", rangemode="tozero"),
            "yaxis": axis("", autorange="reversed", tickvals=list(range(len(names))), ticktext=names),
        },
        columns=["link", "rate", "in use", "carried", "ECN marks", "drops", "paused", "longest queue"],
        rows=[
            [
                links.name(at),
                format_rate(int(columns["rate_mbps"][at])),
                f"{100 * use[at]:.1f} %",
                format_bytes(int(columns["bytes"][at])),
                f"{columns['ecn_marks'][at]:,}",
                f"{columns['drops'][at]:,}",
                format_time(int(columns["paused_ps"][at])),
                format_bytes(int(columns["max_queue_bytes"][at])),
            ]
            for at in order.tolist()
        ],
        height=90 + 22 * len(order),
    )


_NO_SAMPLES = (
    "No samples over time were recorded: replay with --series 10us (or record=('series',)) to see them."
)


def links_over_time(links: Links, samples: Samples | None) -> Figure:
    """How much the tiers, and the links that were used most, were in use when."""
    title = "Links over time"
    if samples is None:
        return Figure(name="link-time", title=title, text=_NO_SAMPLES)
    width = np.diff(samples.edges)
    tiers = np.zeros((len(links.classes), len(width)))
    for at, one in enumerate(links.classes):
        rate = links.columns["rate_mbps"][one.links]
        tiers[at] = 100 * rate @ samples.use(links, one.links) / rate.sum()
    top = np.argsort(-links.columns["busy_ps"], kind="stable")[:TOP_LINKS]
    top = top[links.columns["busy_ps"][top] > 0]
    names = [f"all {one.name}" for one in links.classes] + [links.name(at) for at in top.tolist()]
    z = np.concatenate([tiers, 100 * samples.use(links, top)])
    unit, unit_name = time_unit(int(samples.edges[-1]))
    data = {
        "type": "heatmap",
        "z": [rounded(row, 3) for row in z],
        "x": rounded(samples.edges / unit, 6),
        "y": list(range(len(names))),
        "colorscale": "@heat",
        "zmin": 0,
        "zmax": 100,
        "ygap": 1,
        "colorbar": {"title": {"text": "in use", "side": "right"}, "ticksuffix": " %", "thickness": 12},
        "hovertemplate": f"%{{x}} {unit_name}: %{{z}} %<extra></extra>",
    }
    peak = np.argmax(tiers, axis=1)
    rows = [
        [
            name,
            *(f"{value:.1f} %" for value in (np.average(row, weights=width), row.max())),
            _when(samples, row),
        ]
        for name, row in zip(names, z, strict=True)
    ]
    told = [
        f"{one.name} {tiers[at, peak[at]]:.0f} %"
        for at, one in enumerate(links.classes)
        if tiers[at, peak[at]] >= 1
    ]
    text = (
        f"A whole tier at its most: {', '.join(told)}." if told else "No tier was in use for 1 % of any time."
    )
    return Figure(
        name="link-time",
        title=title,
        text=text,
        data=[data],
        layout={
            "xaxis": axis(f"time ({unit_name})", showgrid=False),
            "yaxis": axis(
                "", autorange="reversed", tickvals=list(range(len(names))), ticktext=names, showgrid=False
            ),
        },
        columns=["links", "mean", "most", "then"],
        rows=rows,
        height=110 + 20 * len(names),
        note=f"Means of all links of a kind, then the {len(top)} busiest ones; {len(width)} pieces of time.",
    )


def _when(samples: Samples, row: np.ndarray) -> str:
    return format_time(int(samples.edges[int(np.argmax(row))]))


def queues(links: Links, samples: Samples | None) -> Figure | None:
    """The longest queues, by tier and over time."""
    depth = links.columns["max_queue_bytes"]
    if not depth.any():
        return None
    top = np.argsort(-depth, kind="stable")[:TOP_LINKS]
    top = top[depth[top] > 0]
    first = int(top[0])
    text = (
        f"The longest queue before a link was {format_bytes(int(depth[first]))}, before {links.name(first)}."
    )
    scale, unit = (1e6, "MB") if depth[first] >= 2e6 else (1e3, "KB")
    if samples is not None:
        data, layout = _queues_over_time(links, samples, top[:6], scale, unit)
        note = "The longest queue up to then, of the six links with the longest ones."
    else:
        used = [one for one in links.classes if depth[one.links].any()]
        data = [
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "y": [one.name for one in used],
                "x": rounded([how(depth[one.links]) / scale for one in used]),
                "marker": {"color": colour},
                "hovertemplate": f"%{{x}} {unit}<extra>{name}</extra>",
            }
            for name, how, colour in (("longest", np.max, "@link"), ("mean of links", np.mean, "@hidden"))
        ]
        layout = {
            "barmode": "group",
            "xaxis": axis(f"longest queue ({unit})", rangemode="tozero"),
            "yaxis": axis("", autorange="reversed"),
            "legend": LEGEND,
        }
        note = ""
    return Figure(
        name="queues",
        title="Queues",
        text=text,
        data=data,
        layout=layout,
        columns=["queue before", "longest", "drain time at full rate"],
        rows=[
            [
                links.name(at),
                format_bytes(int(depth[at])),
                format_time(int(depth[at]) * 8_000_000 // int(links.columns["rate_mbps"][at])),
            ]
            for at in top.tolist()
        ],
        note=note,
    )


def _queues_over_time(
    links: Links, samples: Samples, top: np.ndarray, scale: float, unit: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    time_scale, time_name = time_unit(int(samples.edges[-1]))
    data = []
    for at, link in enumerate(top.tolist()):
        mine = samples.link == link
        most = np.zeros(len(samples.edges) - 1)
        np.maximum.at(most, samples.piece[mine], samples.values["max_queue_bytes"][mine])
        most = np.maximum.accumulate(most)
        change = np.flatnonzero(np.diff(most, prepend=-1))
        x, y = [*samples.edges[change + 1], samples.edges[-1]], [*most[change], most[-1]]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": links.name(link),
                "x": rounded(np.array(x) / time_scale),
                "y": rounded(np.array(y) / scale),
                "line": {
                    "shape": "hv",
                    "color": f"@line{at}",
                    "width": 2,
                    "dash": _DASHES[at % len(_DASHES)],
                },
                "hovertemplate": f"%{{y}} {unit}<extra>%{{fullData.name}}</extra>",
            }
        )
    layout = {
        "xaxis": axis(f"time ({time_name})", rangemode="tozero"),
        "yaxis": axis(f"longest queue so far ({unit})", rangemode="tozero"),
        "legend": LEGEND,
    }
    return data, layout


#: Lines differ by more than their colour.
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def marks_and_pauses(result: Result, links: Links, samples: Samples | None) -> Figure:
    """ECN marks, drops and pauses: how many, where, when."""
    names = ("ecn_marks", "drops", "pauses", "paused_ps")
    summary = result.summary
    counts = [(name, int(links.columns[name].sum())) for name in names]
    title = "ECN marks, PFC pauses and drops"
    told = {"ecn_marks": "ECN marks", "pauses": "pause frames received", "drops": "drops"}
    if not any(count for _, count in counts):
        text = "No packet was marked or dropped, and no link was paused."
        return Figure(name="pauses", title=title, text=text)
    parts = [f"{count:,} {told[name]}" for name, count in counts if name in told and count]
    text = f"In all {', '.join(parts)}."
    paused = links.columns["paused_ps"]
    if paused.any():
        longest = int(np.argmax(paused))
        text += (
            f" {np.count_nonzero(paused):,} of {len(links):,} links were paused at times,"
            f" {links.name(longest)} for longest: {format_time(int(paused[longest]))}"
            f" ({share(int(paused[longest]), summary['end_ps'])})."
        )
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    if samples is not None:
        data, layout = _pauses_over_time(links, samples)
    rows = [
        [
            one.name,
            *(f"{links.columns[name][one.links].sum():,}" for name in ("ecn_marks", "drops", "pauses")),
            f"{np.count_nonzero(paused[one.links]):,}",
            format_time(int(paused[one.links].max())),
        ]
        for one in links.classes
    ]
    return Figure(
        name="pauses",
        title=title,
        text=text,
        data=data,
        layout=layout,
        columns=["links", "ECN marks", "drops", "pause frames", "links paused", "longest pause of a link"],
        rows=rows,
        height=300,
    )


def _pauses_over_time(links: Links, samples: Samples) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    every = np.zeros(len(links), np.int64)
    width = np.diff(samples.edges).astype(float)
    middle = (samples.edges[:-1] + samples.edges[1:]) / 2
    unit, unit_name = time_unit(int(samples.edges[-1]))
    marks = samples.sums("ecn_marks", every, 1)[0] / width * 1e6
    paused = (
        100
        * samples.sums("paused_ps", every, 1)[0]
        / width
        / max(1, np.count_nonzero(links.columns["paused_ps"]))
    )
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"xaxis": axis(f"time ({unit_name})"), "bargap": 0}
    if marks.any():
        data.append(_line("ECN marks", middle / unit, marks, "@exposed", "solid", "y"))
        layout["yaxis"] = axis("marks a microsecond", rangemode="tozero")
    if paused.any():
        second = "y2" if marks.any() else "y"
        data.append(
            _line(
                "paused, mean of the links that were",
                middle / unit,
                paused,
                "@all-to-all",
                "dash" if marks.any() else "solid",
                second,
            )
        )
        words = axis("paused (% of the time)", rangemode="tozero")
        layout["yaxis2" if marks.any() else "yaxis"] = words | (
            {"overlaying": "y", "side": "right", "showgrid": False} if marks.any() else {}
        )
    layout["legend"] = LEGEND
    return data, layout


def _line(name: str, x: np.ndarray, y: np.ndarray, colour: str, dash: str, on: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": rounded(x),
        "y": rounded(y, 4),
        "yaxis": on,
        "line": {"shape": "hvh", "color": colour, "width": 2, "dash": dash},
        "hovertemplate": f"%{{y}}<extra>{name}</extra>",
    }


def completion_times(result: Result) -> Figure | None:
    """How long flows and collectives took: the share that ended within a time."""
    curves = [*_flow_curves(result), *_collective_curves(result)][:CURVES]
    if not curves:
        return None
    most = max(int(times[-1]) for _, times, _ in curves)
    unit, unit_name = time_unit(most)
    data, rows = [], []
    for at, (name, times, colour) in enumerate(curves):
        place = np.maximum(0, np.ceil(_QUANTILES * len(times) / 100).astype(np.int64) - 1)
        keep = np.flatnonzero(np.diff(times[place], append=-1))  # of equal times the last tells all
        keep = np.union1d(keep, [0])
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": rounded(times[place][keep] / unit, 6),
                "y": rounded(_QUANTILES[keep], 4),
                "line": {
                    "shape": "vh",
                    "color": colour or f"@line{at % 6}",
                    "width": 2,
                    "dash": _DASHES[at % 6],
                },
                "hovertemplate": f"%{{y}} % within %{{x}} {unit_name}<extra>%{{fullData.name}}</extra>",
            }
        )
        marks = [times[max(0, -(-percent * len(times) // 100) - 1)] for percent in (0, 50, 90, 99, 100)]
        rows.append([name, f"{len(times):,}", *(format_time(int(time)) for time in marks)])
    name, times, _ = curves[0]
    middle, last = (int(times[max(0, -(-percent * len(times) // 100) - 1)]) for percent in (50, 99))
    text = (
        f"Half of {len(times):,} {name} took at most {format_time(middle)}, 99 % at most {format_time(last)}."
    )
    return Figure(
        name="completion",
        title="Completion times",
        text=text,
        data=data,
        layout={
            "xaxis": axis(f"time ({unit_name})", type="log"),
            "yaxis": axis("ended within (%)", range=[0, 101]),
            "legend": LEGEND,
        },
        columns=["operations", "number", "least", "median", "90 %", "99 %", "most"],
        rows=rows,
        height=380,
        note="A collective from the start of its last rank to its end; a flow to its last acknowledgement.",
    )


def _flow_curves(result: Result) -> list[tuple[str, np.ndarray, str]]:
    flows = result.flows
    ended = flows["fct_ps"].is_valid().to_numpy()
    times, sizes = flows["fct_ps"].fill_null(0).to_numpy()[ended], flows["bytes"].to_numpy()[ended]
    if not len(times):
        return []
    different = np.unique(sizes)
    if len(different) <= 4:
        parts = [(f"flows of {format_bytes(int(size))}", sizes == size) for size in different]
    else:
        edges = (0, 10_000, 1_000_000, 100_000_000, 2**63 - 1)
        words = ("under 10 KB", "10 KB to 1 MB", "1 MB to 100 MB", "of 100 MB and more")
        parts = [
            (f"flows {name}", (sizes >= low) & (sizes < high))
            for name, low, high in zip(words, edges[:-1], edges[1:], strict=True)
        ]
    return [(name, np.sort(times[mine]), "") for name, mine in parts if mine.any()]


def _collective_curves(result: Result) -> list[tuple[str, np.ndarray, str]]:
    each = per_operation(result.ops)
    time = each.last_end - each.last_start
    found = []
    for code, kind in enumerate(each.kinds):
        mine = (each.kind == code) & (time > 0)
        if kind in COLLECTIVES and kind != "barrier" and mine.any():
            found.append((kind, np.sort(time[mine]), colour_of(kind)))
    return sorted(found, key=lambda curve: (-int(curve[1].sum()), curve[0]))
