"""The page about a result: complete, bounded, offline, the same bytes again, and drawn by a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pyarrow.compute as pc
import pytest
from report_results import large_result, small_result

import fabricsim
from fabricsim import records
from fabricsim.cli import main
from fabricsim.errors import EngineError, InputError
from fabricsim.report import figures, report_html, write_report
from fabricsim.report.headline import bottleneck, headline, training
from fabricsim.report.network import links_of, samples_of
from fabricsim.report.sample import sample
from fabricsim.report.time_figures import _covered, exposed_by_name, step_times
from fabricsim.result import Result

pytest.importorskip("plotly")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def result():
    return small_result()


@pytest.fixture(scope="module")
def page(result):
    return report_html(result)


class Outline(HTMLParser):
    """Collects what a page refers to, its sections, and its tables."""

    def __init__(self):
        super().__init__()
        self.references, self.sections, self.charts, self.tables = [], [], [], 0

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.references += [found[name] for name in ("src", "href") if name in found]
        if tag == "section":
            self.sections.append(found["id"])
        self.tables += tag == "table"
        if "data-figure" in found:
            self.charts.append(found)


def without_plotly(page):
    return re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)


def test_the_page_has_every_section_and_refers_to_nothing_outside(page):
    outline = Outline()
    outline.feed(without_plotly(page))
    wanted = "breakdown ranks timeline path exposed collectives completion links busiest link-time queues"
    assert outline.sections == [*wanted.split(), "pauses", "storage", "provenance"]
    assert outline.references and all(reference.startswith("#") for reference in outline.references)
    assert {reference[1:] for reference in outline.references} == set(outline.sections)
    assert "default-src 'none'" in page and "showSendToCloud: false" in page
    drawn = json.loads(re.search(r'id="figures">(.*?)</script>', page).group(1))
    assert [chart["data-figure"] for chart in outline.charts] == list(drawn)
    assert all(chart["role"] == "img" and len(chart["aria-label"]) > 40 for chart in outline.charts)
    assert outline.tables >= len(drawn)


def test_names_of_operations_are_text(page):
    rest = without_plotly(page)
    assert "&lt;gather&gt; #" in rest
    assert "<gather>" not in rest


def test_the_same_result_gives_the_same_bytes(result, page, tmp_path):
    result.save(tmp_path / "saved")
    written = write_report(tmp_path / "saved", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == page
    assert written.bytes == len(page.encode())
    assert written.own_bytes < 300_000


def test_plotly_knows_every_property_of_the_figures(result):
    graph_objects = pytest.importorskip("plotly.graph_objects")
    for figure in figures(result):
        text = json.dumps(figure.plotly()).replace('"@heat"', '"Blues"')
        found = json.loads(re.sub(r'"@[a-z0-9-]+"', '"#123456"', text))
        graph_objects.Figure(found)


def test_every_colour_is_one_of_the_page(result, page):
    named = {
        name
        for figure in figures(result)
        for name in re.findall(r'"@([a-z0-9-]+)"', json.dumps(figure.plotly()))
    }
    style = page[: page.index("</style>")]
    light, dark = style.split("prefers-color-scheme: dark")
    for name in named:
        assert f"--{name}:" in light and f"--{name}:" in dark, name


def test_the_head_names_the_bottleneck(result):
    said = bottleneck(result)
    assert "takes most of the time" in said
    tiles = {name: value for name, value, _ in headline(result, step_times(sample(result)))}
    assert tiles["compute"] == "".join(
        f"{100 * _mean(result, 'compute_ps') / result.summary['end_ps']:.1f} %"
    )
    assert {"time of the run", "exposed communication", "exposed storage", "busiest link"} <= set(tiles)


def _mean(result, name):
    return result.summary["breakdown"]["mean"][name]


def test_training_figures_have_tiles():
    found = {
        "step_ps": 2 * 10**12,
        "tokens_per_s": 1_000_000.4,
        "mfu": 0.412,
        "flops_per_s_per_accelerator": 4.07e14,
    }
    assert [tile[:2] for tile in training(found)] == [
        ("step", "2 s"),
        ("tokens a second", "1,000,000"),
        ("MFU", "41.2 %"),
    ]


def test_steps_run_from_the_end_of_one_to_the_end_of_the_next(result):
    steps = step_times(sample(result))
    ops = result.ops.to_pandas()
    ends = ops[ops.step >= 0].groupby("step").end_ps.max()
    assert steps.tolist() == [ends[0] - ops[ops.step == 0].start_ps.min(), ends[1] - ends[0]]


def test_exposed_time_by_name_adds_up_where_nothing_is_in_flight_together():
    from fabricsim.workload.rows import Rows

    rows = Rows()
    rows.add("compute", range(4), duration_ps=30_000_000, stream=0, name="work")
    rows.add("all_reduce", range(4), bytes=1 << 20, stream=1, name="sum 1")
    rows.add("all_reduce", range(4), bytes=1 << 21, stream=1, name="sum 2")
    result = fabricsim.replay(rows.trace(), "demo-64-400g-roce")
    figure = exposed_by_name(result, sample(result))
    assert [row[0] for row in figure.rows] == ["sum # (all_reduce)"]
    exposed, hidden = (
        next(bar["x"][0] for bar in figure.data if bar["name"] == name)
        for name in ("exposed", "behind compute")
    )
    mean = result.summary["breakdown"]["mean"]
    assert exposed == pytest.approx(mean["exposed_communication_ps"] / 1e6, rel=1e-4)
    assert hidden == pytest.approx(mean["overlapped_communication_ps"] / 1e6, rel=1e-4)


def test_covered_time():
    start, end = np.array([0, 10, 15]), np.array([5, 20, 18])
    assert _covered(start, end, np.array([0, 5, 12, 17, 30])).tolist() == [0, 5, 7, 14, 18]


def test_samples_keep_every_byte(result):
    links, samples = links_of(result), samples_of(result)
    sums = samples.sums("bytes", np.zeros(len(links), np.int64), 1)
    assert sums.sum() == links.columns["bytes"].sum()
    assert samples.edges[0] == 0 and (np.diff(samples.edges) > 0).all()


def test_links_are_put_into_tiers(result):
    classes = {one.name: len(one.links) for one in links_of(result).classes}
    assert classes["host → leaf"] == classes["leaf → host"] == 64
    assert classes["leaf → oss"] == 4
    assert sum(classes.values()) == result.links.num_rows


def test_a_long_run_is_summed_up():
    large = large_result(ranks=3000, each=60)
    shown = {figure.name: figure for figure in figures(large)}
    assert len(report_html(large)) - len(report_html(small_large())) < 400_000
    assert "10 of 3,000 ranks" in shown["timeline"].note
    assert "idle for longest" in shown["timeline"].note
    assert "neighbouring ranks" in shown["ranks"].note
    assert len(shown["ranks"].data[0]["x"]) <= 256
    assert "64 of 3,000 ranks" in shown["exposed"].note
    assert len(shown["exposed"].data[0]["x"]) <= 16
    assert len(shown["links"].data[0]["z"][0]) == 120


def small_large():
    return large_result(ranks=2, each=3)


def test_a_timeline_of_many_operations_has_few_bars():
    figure = next(figure for figure in figures(large_result(ranks=4, each=5000)) if figure.name == "timeline")
    assert sum(len(bars["x"]) for bars in figure.data) <= 3000
    assert "a bar shows the kind that took most of each" in figure.note


def test_a_timeline_of_many_streams_has_fewer_ranks():
    large = large_result(ranks=40, each=100)
    ops = large.ops
    streams = records.table_of(
        "ops", {name: ops[name] for name in ops.column_names} | {"stream": ops["id"]}, {}
    )
    sources = {**large.sources, "ops": lambda: streams.filter(pc.less(streams["stream"], 9))}
    made = Result(summary=large.summary, provenance={}, sources=sources)
    figure = next(figure for figure in figures(made) if figure.name == "timeline")
    assert "of 4 of 40 ranks" in figure.note and "left out" not in figure.note
    assert len(figure.layout["yaxis"]["ticktext"]) == 36


def test_what_is_not_there_is_left_out():
    trace = fabricsim.workload.collective("all_reduce", size_bytes=1 << 16, n_ranks=2)
    bare = fabricsim.replay(trace, "demo-64-400g-roce")
    names = [figure.name for figure in figures(bare)]
    assert "storage" not in names and "checkpoints" not in names
    assert "No samples" in next(figure.text for figure in figures(bare) if figure.name == "link-time")
    assert "plotly.js" in report_html(bare)


def test_a_result_of_an_older_version_has_a_page(result):
    older = {name: result.table(name) for name in result.sources if name != "ranks"}
    older["links"] = older["links"].drop_columns(["network", "src_tier", "dst_tier"])
    sources = {name: (lambda table=table: table) for name, table in older.items()}
    shown = {
        figure.name: figure
        for figure in figures(Result(summary=result.summary, provenance={}, sources=sources))
    }
    assert "host → leaf" in [row[0] for row in shown["links"].rows]
    assert "ranks" in shown


def test_a_run_that_was_stopped_says_so(tmp_path):
    trace = fabricsim.workload.collective("all_reduce", size_bytes=1 << 20, n_ranks=8)
    with pytest.raises(EngineError):
        fabricsim.replay(trace, "demo-64-400g-roce", out=tmp_path / "r", max_time_ps=3_000_000)
    page = report_html(Result.load(tmp_path / "r"))
    assert "This run is not complete (stopped): 0 of 8 operations" in page


def test_the_command_writes_the_page_and_tells_its_size(result, page, tmp_path, capsys):
    result.save(tmp_path / "r")
    assert main(["report", str(tmp_path / "r" / "ops.arrow"), "-o", str(tmp_path / "r.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == len(page.encode()) == (tmp_path / "r.html").stat().st_size
    assert main(["report", str(tmp_path / "r"), "-o", "-"]) == 0
    assert capsys.readouterr().out == page


def test_bad_input_is_told(result, tmp_path, capsys):
    with pytest.raises(InputError, match=r"nowhere.summary\.json"):
        write_report(tmp_path / "nowhere", tmp_path / "r.html")
    with pytest.raises(EngineError, match="cannot be written"):
        write_report(result, tmp_path / "no" / "such" / "folder.html")
    assert main(["report", str(tmp_path / "nowhere"), "-o", str(tmp_path / "r.html")]) == 3
    assert main(["report", str(tmp_path), "-o", "-", "--json"]) == 2


def test_a_browser_draws_every_figure_without_a_network(page, tmp_path):
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium: apt-get install chromium")
    (tmp_path / "r.html").write_text(page, encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += ["--enable-logging=stderr", "--v=0", "--window-size=1200,900"]
    command += [
        "--proxy-server=127.0.0.1:9",
        "--dump-dom",
        (tmp_path / "r.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    outline = Outline()
    outline.feed(without_plotly(done.stdout))
    for chart in outline.charts:
        assert "js-plotly-plot" in chart["class"], chart["data-figure"]
    for mark in ("bars", "hm", "scatterlayer", "xaxislayer", "legend"):
        assert mark in done.stdout
    assert done.stdout.count('class="main-svg"') >= 2 * len(outline.charts)
    assert "cannot be drawn" not in re.sub(r"<script>.*?</script>", "", done.stdout, flags=re.DOTALL)
