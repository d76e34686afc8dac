"""Replay and its result, on the stand-in core."""

import dataclasses
import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest

import fabricsim
from fabricsim import records
from fabricsim.result import FileTable, Result, flows_summary
from fabricsim.workload import collective, flows
from fabricsim.workload.rows import Rows

pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.fixture
def star():
    topology = {"kind": "star", "hosts": 8, "rate": "100Gbps", "latency": "500ns"}
    return fabricsim.Cluster.from_dict({"name": "star", "topology": topology})


def step_trace():
    rows = Rows()
    compute = rows.add("compute", range(4), duration_ps=1000, stream=0, name="forward", step=3)
    rows.add("all_reduce", range(4), bytes=500, stream=0, name="sum")
    rows.add("reduce_scatter", [0, 1], bytes=800, stream=1, after=[compute])
    return rows.trace()


def test_a_replay_tells_operations_by_rank(star):
    result = fabricsim.replay(step_trace(), star)
    assert result.ops.num_rows == 10
    assert result.ops["kind"].to_pylist()[3:9] == ["compute", *["all_reduce"] * 4, "reduce_scatter"]
    assert result.ops["end_ps"].to_pylist() == [1000] * 4 + [1500] * 4 + [1800] * 2
    assert result.ops["name"].to_pylist()[::3] == ["forward", "forward", "sum", None]
    assert result.ops["step"].to_pylist()[0] == 3
    assert result.summary["end_ps"] == 1800
    assert result.summary["status"] == "complete"
    assert result.summary["operations_done"] == result.summary["operations_total"] == 10
    assert result.digest == result.summary["digest"]
    json.dumps(result.summary, allow_nan=False)


def test_the_breakdown_and_the_critical_path_are_in_the_summary(star):
    summary = fabricsim.replay(step_trace(), star).summary
    assert summary["breakdown"]["mean"]["compute_ps"] == 1000
    assert summary["breakdown"]["slowest"]["rank"] == 0
    path = summary["critical_path"]
    assert path["by_kind"] == {"compute": 1000, "reduce_scatter": 800}
    assert path["longest"][0]["name"] == "forward"
    assert summary["collectives"][0]["kind"] == "reduce_scatter"
    assert summary["links"][0]["link"] == "host0->switch0"
    assert summary["links"][0]["utilisation"] == 1.0


def test_units_and_provenance_are_in_the_metadata(star):
    result = fabricsim.replay(step_trace(), star, seed=7)
    field = result.ops.schema.field("start_ps")
    assert field.metadata == {b"unit": b"ps"}
    provenance = json.loads(result.links.schema.metadata[b"fabricsim.provenance"])
    assert provenance == result.provenance
    assert provenance["seed"] == 7
    assert provenance["cluster"] == "star"
    assert "threads" not in provenance


def test_saving_and_loading_gives_the_same_tables_and_bytes(star, tmp_path):
    trace = flows([(0, 1, 100, 0), (1, 2, 300, 50)])
    result = fabricsim.replay(trace, star, out=tmp_path / "a")
    fabricsim.replay(trace, star, threads=2, out=tmp_path / "b")
    for name in ("ops.arrow", "flows.arrow", "links.arrow", "summary.json"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in "ab")
        assert hashlib.sha256(one).digest() == hashlib.sha256(two).digest(), name
    loaded = Result.load(tmp_path / "a")
    assert loaded.summary == result.summary
    assert loaded.provenance == result.provenance
    for name in ("ops", "flows", "links"):
        assert loaded.table(name).equals(result.table(name), check_metadata=True)
    loaded.save(tmp_path / "c")
    assert (tmp_path / "c" / "ops.arrow").read_bytes() == (tmp_path / "a" / "ops.arrow").read_bytes()
    loaded.save(tmp_path / "a")
    assert Result.load(tmp_path / "a").ops.equals(result.ops)


def test_flows_have_completion_times(star):
    result = fabricsim.replay(flows([(0, 1, 100, 0), (1, 2, 300, 50)]), star)
    assert result.flows["fct_ps"].to_pylist() == [100, 300]
    assert result.flows["start_ps"].to_pylist() == [0, 50]
    summary = result.summary["flows_summary"]
    assert (summary["count"], summary["bytes"]) == (2, 400)
    assert (summary["fct_min_ps"], summary["fct_p50_ps"], summary["fct_max_ps"]) == (100, 100, 300)
    document = result.to_json()
    assert document["flows"][1] == {
        "id": 2,
        "src": 1,
        "dst": 2,
        "bytes": 300,
        "start_ps": 50,
        "end_ps": 350,
        "fct_ps": 300,
    }
    json.dumps(document, allow_nan=False)


def test_flow_percentiles_are_values_that_occurred():
    def table(times):
        columns = {"fct_ps": pa.array(times, pa.int64()), "bytes": pa.array([1] * len(times), pa.int64())}
        return flows_summary(pa.table(columns))

    times = table(list(range(1, 101)))
    assert (times["fct_min_ps"], times["fct_p50_ps"], times["fct_p99_ps"]) == (1, 50, 99)
    empty = table([])
    assert empty["fct_p50_ps"] is None and empty["count"] == 0
    some = table([5, None])
    assert (some["count"], some["finished"], some["fct_max_ps"]) == (2, 1, 5)


def test_repr_fits_a_line_and_html_is_a_table(star):
    result = fabricsim.replay(step_trace(), star)
    assert "\n" not in repr(result) and len(repr(result)) < 110
    assert "1.8 ns" in repr(result)
    shown = result._repr_html_()
    assert "<table>" in shown and "compute 55.6 %" in shown and "<script" not in shown
    assert (
        "<script>"
        not in dataclasses.replace(result, summary=result.summary | {"digest": "<script>"})._repr_html_()
    )


def test_progress_is_told_and_ends_at_the_end(star):
    seen = []
    fabricsim.replay(step_trace(), star, progress=seen.append)
    assert seen[-1].done_ops == seen[-1].total_ops == 10


def test_slices_adapt(star):
    from types import SimpleNamespace

    from fabricsim.run import _Slices

    def of(ranks):
        model = SimpleNamespace(topology=star.topology())
        program = SimpleNamespace(model=model, rank_host=np.arange(ranks))
        return _Slices(SimpleNamespace(now_ps=3_000_000_000), program)

    assert of(1).most_ps == pytest.approx(
        of(8).most_ps
    )  # over eight links it may fill as much as all do over one
    slices = of(8)
    first = slices.length_ps
    slices.took(0.001)
    assert slices.length_ps == 2 * first
    slices.took(0.1)
    assert slices.length_ps == 2 * first
    slices.took(1.0)
    assert slices.length_ps == first
    for _ in range(100):
        slices.took(0.0)
    # Eight full 100 Gb/s cables make 48.8 million packet-hops a second, at 10 million a wall-clock second.
    assert slices.length_ps == slices.most_ps == pytest.approx(0.41e12, rel=0.01)
    assert slices.begin() == 3_000_000_000
    slices.run.now_ps, slices.asking = (
        4_000_000_000,
        1.0,
    )  # it took long to ask, so it is not asked again soon
    assert slices.begin() == 0


def test_series_are_sampled_and_do_not_change_the_result(star, tmp_path):
    trace = collective("all_reduce", size_bytes=100_000, n_ranks=4)
    plain = fabricsim.replay(trace, star)
    assert plain.series is None
    memory = fabricsim.replay(trace, star, series_ps=10_000)
    disk = fabricsim.replay(trace, star, series_ps=10_000, out=tmp_path)
    assert memory.summary == disk.summary == plain.summary
    assert memory.series.equals(disk.series)
    assert memory.series["time_ps"].to_pylist()[::3] == [10_000 * (i + 1) for i in range(10)]
    per_link = memory.series.group_by("link").aggregate([("bytes", "sum")]).to_pydict()
    assert dict(zip(per_link["link"], per_link["bytes_sum"], strict=True)) == {
        0: 100_000,
        1: 50_000,
        2: 50_000,
    }
    assert Result.load(tmp_path).series.equals(memory.series)
    fabricsim.replay(trace, star, out=tmp_path)
    assert Result.load(tmp_path).series is None


def test_ctrl_c_saves_what_there_is_and_is_passed_on(star, tmp_path, fake_engine, monkeypatch):
    trace = collective("all_reduce", size_bytes=30_000_000, n_ranks=4, iterations=3)
    step = fake_engine.Run.step

    def interrupted(run, until_ps):
        if run.done_ops:
            raise KeyboardInterrupt
        return step(run, until_ps)

    monkeypatch.setattr(fake_engine.Run, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fabricsim.replay(trace, star, out=tmp_path, series_ps=20_000_000)
    result = Result.load(tmp_path)
    assert result.summary["status"] == "interrupted"
    assert result.summary["operations_done"] == 4
    assert result.ops["end_ps"].null_count == 8
    assert result.series.num_rows > 0
    assert "interrupted" in repr(result)


def test_the_limit_of_time_stops_with_what_there_is(star, tmp_path):
    trace = collective("all_reduce", size_bytes=1000, n_ranks=4, iterations=3)
    with pytest.raises(fabricsim.EngineError, match=r"2\.5 ns .* 8 of 12"):
        fabricsim.replay(trace, star, max_time_ps=2500, out=tmp_path)
    assert Result.load(tmp_path).summary["status"] == "stopped"
    fabricsim.replay(trace, star, max_time_ps=3000)


def test_a_deadlock_names_who_waits(star):
    rows = Rows()
    rows.add("recv", [0], peer=[1], bytes=8, stream=0, name="first")
    rows.add("send", [0], peer=[1], bytes=8, stream=0)
    rows.add("recv", [1], peer=[0], bytes=8, stream=0)
    rows.add("send", [1], peer=[0], bytes=8, stream=0)
    with pytest.raises(fabricsim.DeadlockError) as found:
        fabricsim.replay(rows.trace(), star)
    assert "operation 0 (recv 'first') on rank 0: waits for a message" in str(found.value)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": -1},
        {"seed": 2**63},
        {"threads": 0},
        {"threads": 65},
        {"record": ("packets",)},
        {"record": "serie"},
        {"series_ps": 0},
        {"max_time_ps": 0},
    ],
)
def test_options_out_of_range_are_named(star, options):
    with pytest.raises(fabricsim.ConfigError) as found:
        fabricsim.replay(step_trace(), star, **options)
    assert next(iter(options)) in str(found.value)


def test_more_ranks_than_hosts_is_a_configuration_error(star):
    with pytest.raises(fabricsim.ConfigError, match="9 ranks"):
        fabricsim.replay(collective("barrier", size_bytes=0, n_ranks=9), star)


def test_a_folder_that_cannot_be_made_is_told_before_the_run(star, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(fabricsim.ConfigError, match="cannot be made"):
        fabricsim.replay(step_trace(), star, out=tmp_path / "file" / "out")


def test_no_space_is_an_error_with_its_file():
    schema = records.with_provenance("ops", {})
    big = pa.table([pa.nulls(0, field.type) for field in schema], schema=schema)
    with pytest.raises(fabricsim.EngineError, match="/dev/full"):
        records.write_table("/dev/full", big)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"summary": {"end_ps": "x", "digest": 1}}', "[" * 100_000]
)
def test_a_damaged_summary_is_an_input_error(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(fabricsim.InputError):
        Result.load(tmp_path)


def test_a_damaged_table_is_an_input_error(star, tmp_path):
    fabricsim.replay(step_trace(), star, out=tmp_path)
    path = tmp_path / "ops.arrow"
    data = path.read_bytes()
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(fabricsim.InputError):
            _ = Result.load(tmp_path).ops
    path.write_bytes((tmp_path / "links.arrow").read_bytes())
    with pytest.raises(fabricsim.InputError, match="holds 'links'"):
        _ = FileTable(path, "ops")()


def test_long_tables_are_written_in_batches(tmp_path):
    n = records.BATCH_ROWS + 5
    schema = records.with_provenance("series", {})
    table = pa.table([pa.array(np.arange(n), field.type) for field in schema], schema=schema)
    records.write_table(tmp_path / "series.arrow", table)
    with pa.memory_map(str(tmp_path / "series.arrow")) as source:
        assert pa.ipc.open_file(source).num_record_batches == 2
    assert records.read_table(tmp_path / "series.arrow", "series").equals(table)


def test_link_names_are_those_of_the_topology(star):
    topology = star.topology()
    links = fabricsim.replay(step_trace(), star).links
    assert links["link"].to_pylist() == [topology.link_name(link) for link in range(topology.n_links)]


def test_parallel_cables_have_numbers_in_the_link_names():
    from types import SimpleNamespace

    topology = SimpleNamespace(
        cable_a=np.array([0, 1, 2, 2]),
        cable_b=np.array([2, 2, 3, 3]),
        cable_rate_mbps=np.array([1, 1, 1, 1]),
        cable_network=np.zeros(4, np.int8),
        node_tiers=lambda: np.array([0, 0, 1, 2], np.int8),
        node_names=("h0", "h1", "s0", "s1"),
        has_parallel_cables=True,
    )
    names = ["packets", "bytes", "busy_ps", "ecn_marks", "drops", "pauses", "paused_ps", "max_queue_bytes"]
    table = records.links_table(topology, {name: np.zeros(8, np.int64) for name in names}, 0, {})
    assert table["link"].to_pylist() == [
        *("h0->s0", "s0->h0", "h1->s0", "s0->h1"),
        *("s0->s1#0", "s1->s0#0", "s0->s1#1", "s1->s0#1"),
    ]
    assert table["src_tier"].to_pylist() == [0, 1, 0, 1, 1, 2, 1, 2]
    assert table["dst_tier"].to_pylist() == [1, 0, 1, 0, 2, 1, 2, 1]
    assert set(table["network"].to_pylist()) == {"scale_out"}


def test_ranks_tell_where_they_are_and_what_they_did(star, tmp_path):
    result = fabricsim.replay(step_trace(), star, out=tmp_path)
    ranks = Result.load(tmp_path).ranks
    assert ranks["host"].to_pylist() == ["host0", "host1", "host2", "host3"]
    assert ranks["compute_ps"].to_pylist() == [1000] * 4
    assert ranks["idle_ps"].to_pylist() == [0, 0, 300, 300]
    (tmp_path / "ranks.arrow").unlink()
    assert Result.load(tmp_path).ranks["idle_ps"].equals(result.ranks["idle_ps"])


def test_a_send_names_its_receive(star):
    rows = Rows()
    rows.add("send", [0], peer=[1], bytes=8, tag=4)
    rows.add("send", [0], peer=[1], bytes=8, tag=2)
    late = rows.add("recv", [1], peer=[0], bytes=8, tag=2)
    soon = rows.add("recv", [1], peer=[0], bytes=8, tag=4)
    assert fabricsim.replay(rows.trace(), star).flows["recv"].to_pylist() == [soon, late]
