"""The page: all of a report in one HTML file that needs nothing from anywhere else."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from fabricsim.errors import ConfigError, EngineError
from fabricsim.report import network_figures, other_figures, time_figures
from fabricsim.report.blocks import Figure
from fabricsim.report.headline import bottleneck, headline, warning
from fabricsim.report.network import links_of, samples_of
from fabricsim.report.sample import Sample, sample
from fabricsim.result import Result

__all__ = ["Report", "figures", "report_html", "write_report"]

# Nothing is fetched: the browser itself refuses whatever is not in the page.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written: the file, its bytes, those of them that are the result's (the rest is plotly's)."""

    path: str
    bytes: int
    own_bytes: int
    figures: tuple[str, ...]


def write_report(result: Result | str | Path, path: str | Path) -> Report:
    """Write a page about a result: one HTML file that opens without a network.

    Parameters
    ----------
    result
        A result, or the folder of one.
    path
        The file; one that exists is replaced.

    Returns
    -------
    Report
        Its size and figures. The same result gives the same bytes (with the same version of plotly).

    Raises
    ------
    InputError
        When the folder holds no result.
    ConfigError
        When plotly is not installed (``pip install 'fabricsim[report]'``).
    EngineError
        When the file cannot be written.
    """
    if not isinstance(result, Result):
        result = Result.load(result)
    text, shown = _page(result)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise EngineError(f"{path}: cannot be written: {error.strerror or error}") from error
    size = len(text.encode())
    return Report(
        path=str(path),
        bytes=size,
        own_bytes=size - len(_plotly()[0].encode()),
        figures=tuple(figure.name for figure in shown),
    )


def figures(result: Result, sampled: Sample | None = None) -> list[Figure]:
    """Return the figures of a result, in the order of the page; those that it has no data for are left out.

    Parameters
    ----------
    result
        Of a replay.
    sampled
        The operations of some of its ranks, from ``sample``; read when they are not given.
    """
    sampled = sample(result) if sampled is None else sampled
    links, samples = links_of(result), samples_of(result)
    found = [
        other_figures.training(result),
        time_figures.where_time_went(result),
        time_figures.by_rank(result),
        time_figures.timeline(result, sampled),
        time_figures.critical_path(result),
        time_figures.exposed_by_name(result, sampled),
        other_figures.collectives(result),
        network_figures.completion_times(result),
        network_figures.link_map(links),
        network_figures.busiest(links),
        network_figures.links_over_time(links, samples),
        network_figures.queues(links, samples),
        network_figures.marks_and_pauses(result, links, samples),
        other_figures.storage_targets(result),
        other_figures.checkpoints(result),
        other_figures.energy(result),
        other_figures.provenance(result),
    ]
    return [figure for figure in found if figure is not None]


def report_html(result: Result) -> str:
    """Return the page about a result as text.

    Raises
    ------
    ConfigError
        When plotly is not installed.
    """
    return _page(result)[0]


def _page(result: Result) -> tuple[str, list[Figure]]:
    plotly, version = _plotly()
    sampled = sample(result)
    shown = figures(result, sampled)
    summary = result.summary
    cluster = html.escape(str(summary.get("cluster", "")))
    steps = time_figures.step_times(sampled.even())
    tiles = "".join(
        f"<li><span>{html.escape(name)}</span><strong>{html.escape(value)}</strong>"
        f"<span>{html.escape(more)}</span></li>"
        for name, value, more in headline(result, steps)
    )
    warned = f'<p class="warning" role="alert">{html.escape(text)}</p>' if (text := warning(result)) else ""
    menu = "".join(f'<li><a href="#{one.name}">{html.escape(one.title)}</a></li>' for one in shown)
    drawn = {one.name: one.plotly() for one in shown if one.data}
    data = json.dumps(drawn, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace(
        "<", "\\u003c"
    )
    style, script = _file("page.css"), _file("page.js")
    body = "".join(one.html() for one in shown)
    what = ", ".join(f"{summary.get(name, 0):,} {name}" for name in ("hosts", "ranks", "operations"))
    own = (len(data.encode()) + len(body.encode())) / 1000
    size = (
        f"{own:,.0f} KB of figures and tables and {len(plotly.encode()) / 1e6:.1f} MB of plotly.js {version}"
    )
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{cluster}: fabricsim report</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{cluster}</h1>
<p class="soft">{what}</p>
{warned}<p class="lead">{html.escape(bottleneck(result))}</p>
<ul class="tiles">{tiles}</ul>
<nav aria-label="Contents"><ul>{menu}</ul></nav>
</header>
<main>
{body}</main>
<footer><p>fabricsim {html.escape(str(result.provenance.get("fabricsim", "")))}. This page holds {size};
long runs are summed up, so that it stays small. It needs no network.</p></footer>
<script type="application/json" id="figures">{data}</script>
<script>{plotly}</script>
<script>
{script}</script>
</body>
</html>
"""
    return text, shown


def _file(name: str) -> str:
    return resources.files("fabricsim.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> tuple[str, str]:
    """Return plotly's script, as its Python package brings it, and its version."""
    try:
        import plotly
        from plotly.offline import get_plotlyjs_version

        script = resources.files(plotly).joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    except (ImportError, OSError) as error:
        raise ConfigError(["a report needs plotly: pip install 'fabricsim[report]'"]) from error
    # Inside a script element nothing may look like its end.
    return script.replace("</script", "<\\/script"), get_plotlyjs_version()
