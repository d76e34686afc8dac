"""Programs as fluid activities: against packets, against shares worked out by hand, and what is refused."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from engine_worlds import GBPS, US, leaf_spine, program, star
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_table import all_reduce, compute, recv, send, table

import fabricsim
from fabricsim._core import engine
from fabricsim.errors import ConfigError, DeadlockError
from fabricsim.program import build_program
from fabricsim.workload import collective, file_io


@cache
def preset(name: str) -> fabricsim.Model:
    return fabricsim.compile(fabricsim.Cluster.from_toml(name))


def both(model, made):
    """The same program as packets and as fluid, each run to its end."""
    run, flow = engine.Run(model, made, seed=1), engine.Flow(model, made, seed=1)
    assert run.step() is flow.step() is True
    return run, flow


def flows_to(dst: int, *sizes: int) -> list[dict]:
    """A send of each size from a rank of its own, and its recv."""
    rows = []
    for tag, size in enumerate(sizes):
        src = tag if tag < dst else tag + 1
        rows += [send(src, dst, size, tag=tag), recv(dst, src, size, tag=tag)]
    return rows


# ---- what packets do not change


def test_without_messages_times_are_those_of_the_packets():
    model = star(3).model()
    rows = [
        compute(0, 1, 2, duration_ps=500, stream=0),
        compute(0, duration_ps=70, stream=0, delay_ps=9),
        compute(1, 2, duration_ps=30, stream=1, after=[0]),
        compute(0, 1, 2, duration_ps=0, after=[1, 2]),
    ]
    run, flow = both(model, program(model, table(*rows), 3))
    for name, values in run.ops().items():
        np.testing.assert_array_equal(flow.ops()[name], values)
    assert flow.counters()["end_ps"] == run.counters()["end_ps"] == 579
    assert flow.links()["bytes"].sum() == 0


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 4097, 100_000])
@pytest.mark.parametrize("cut_through", [0, 1])
def test_a_message_alone_takes_as_long_as_its_packets(size, cut_through):
    model = leaf_spine(2, 2, 1).model(("switch", "ethernet", {"cut_through": cut_through}))
    run, flow = both(model, program(model, table(send(0, 1, size), recv(1, 0, size)), 2))
    packets, fluid = run.sends(), flow.sends()
    assert abs(int(fluid["delivered_ps"][0]) - int(packets["delivered_ps"][0])) <= 4 * 1280 + 4
    assert fluid["end_ps"][0] - fluid["delivered_ps"][0] == packets["end_ps"][0] - packets["delivered_ps"][0]
    np.testing.assert_array_equal(flow.links()["bytes"], run.links()["bytes"])


# ---- shares


def shares(model, rows, ranks: int, work_ps: list[int]) -> dict:
    """Run sends with no latency and the work given; their sends()."""
    made = program(model, table(*rows), ranks)
    flow = engine.Flow(model, made, costs={"latency_ps": [0] * len(work_ps), "work_ps": work_ps})
    assert flow.step()
    return flow.sends()


def own_work(model, rows, ranks: int) -> list[int]:
    return engine.Flow(model, program(model, table(*rows), ranks)).costs()["work_ps"].tolist()


def test_equal_flows_share_a_link_in_equal_parts():
    model = star(5).model()
    rows = flows_to(4, *[1 << 20] * 4)
    work = own_work(model, rows, 5)
    found = shares(model, rows, 5, work)
    assert found["delivered_ps"].tolist() == pytest.approx([4 * work[0]] * 4, rel=0.01)


def test_who_is_done_leaves_its_share_to_the_others():
    model = star(3).model()
    rows = flows_to(2, 1 << 20, 3 << 20)
    short, long = own_work(model, rows, 3)
    found = shares(model, rows, 3, [short, long])
    assert found["delivered_ps"].tolist() == pytest.approx([2 * short, short + long], rel=0.01)


def test_a_flow_takes_what_another_cannot():
    """Rank 0 has three flows, one of them to where a fourth one goes: that has what the third leaves."""
    model = star(5).model()
    size = 1 << 22
    pairs = [(0, 1), (0, 2), (0, 3), (4, 3)]
    rows = [row for src, dst in pairs for row in (send(src, dst, size), recv(dst, src, size))]
    work = own_work(model, rows, 5)
    found = shares(model, rows, 5, work)
    rates = work[0] / found["delivered_ps"].astype(float)
    # a third each, and two thirds until the others are done
    assert rates[:3] == pytest.approx([1 / 3] * 3, rel=0.02)
    assert rates[3] == pytest.approx(2 / 3, rel=0.02)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 1 << 20)), min_size=1, max_size=12
    )
)
def test_no_link_carries_more_than_it_can(pairs):
    model = leaf_spine(2, 1, 3).model()
    rows = []
    for tag, (src, dst, size) in enumerate(pairs):
        dst = dst if dst != src else (src + 1) % 6
        rows += [send(src, dst, size, tag=tag), recv(dst, src, size, tag=tag)]
    made = program(model, table(*rows), 6)
    flow = engine.Flow(model, made)
    work = flow.costs()["work_ps"]
    assert flow.step()
    end_ps = flow.counters()["end_ps"]
    assert flow.links()["busy_ps"].max() <= end_ps
    assert end_ps <= flow.costs()["latency_ps"].max() + work.sum() + 10 * US
    run = engine.Run(model, made)
    run.step()
    np.testing.assert_array_equal(flow.links()["bytes"], run.links()["bytes"])


def test_results_do_not_depend_on_slices():
    model = leaf_spine(4, 2, 4).model()
    rows = [all_reduce(*range(16), size=1 << 20, stream=0), *flows_to(15, *[1 << 18] * 8)]
    made = program(model, table(*rows), 16)
    whole, sliced = engine.Flow(model, made), engine.Flow(model, made)
    whole.step()
    until = 0
    while not sliced.step(until := until + 7 * US):
        assert sliced.now_ps >= until
    assert sliced.digest == whole.digest
    assert whole.counters()["windows"] > 0
    assert engine.Flow(model, made, seed=2).digest != whole.digest


# ---- activities and their costs


def test_activities_are_groups_and_sends_in_row_order():
    model = star(4).model()
    rows = [compute(0), all_reduce(0, 1), send(0, 1), recv(1, 0), all_reduce(2, 3), all_reduce(0, 1, 2, 3)]
    made = program(model, table(*rows), 4)
    found = engine.Flow.activities(made)
    assert found["op"].tolist() == [1, 2, 4, 5] and found["group"].tolist() == [0, 0, 0, 0]
    costs = engine.Flow(model, made).costs()
    assert costs["latency_ps"].dtype == costs["work_ps"].dtype == np.int64
    assert costs["work_ps"][0] == costs["work_ps"][2] < costs["work_ps"][3]


def test_costs_given_take_the_place_of_those_found():
    model = star(2).model()
    made = program(model, table(all_reduce(0, 1, stream=0), all_reduce(0, 1, stream=0)), 2)
    own = engine.Flow(model, made).costs()
    flow = engine.Flow(model, made, costs={"latency_ps": [5, -1], "work_ps": [10**9, -1]})
    found = flow.costs()
    assert found["latency_ps"].tolist() == [5, own["latency_ps"][1]]
    assert found["work_ps"].tolist() == [10**9, own["work_ps"][1]]
    flow.step()
    assert flow.ops()["end_ps"].tolist()[:2] == [10**9 + 5] * 2


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"latency_ps": [1, 2]}, "costs: found 2 of latency_ps, allowed: 1, one an activity"),
        ({"work": [1]}, "costs: unknown work"),
        ({"work_ps": [-2]}, "costs: work_ps of activity 0: found -2, allowed -1 to 2^52 - 1"),
        ({"work_ps": [1.5]}, "costs.work_ps: found float64 values, allowed: whole numbers"),
    ],
)
def test_costs_that_are_not_possible(costs, message):
    model = star(2).model()
    made = program(model, table(all_reduce(0, 1)), 2)
    with pytest.raises(ConfigError, match=message.replace("^", r"\^")):
        engine.Flow(model, made, costs=costs)


def test_loads_are_the_data_that_the_packets_carry():
    model = leaf_spine(2, 2, 2).model()
    made = program(model, table(send(0, 3, 10_000), recv(3, 0, 10_000)), 4)
    flow = engine.Flow(model, made)
    loads = flow.loads(0)
    run = engine.Run(model, made)
    run.step()
    counts = run.links()
    data = np.flatnonzero(counts["bytes"] > 5000)
    assert sorted(loads["link"].tolist()) == data.tolist()
    np.testing.assert_array_equal(loads["bytes"], counts["bytes"][loads["link"]])
    assert loads["packets"].tolist() == [3] * 4
    with pytest.raises(ConfigError, match="activity: found 1, allowed 0 to 0"):
        flow.loads(1)


def test_groups_of_a_row_are_activities_by_themselves():
    """Two groups of four on leaves of their own do at once what one does alone."""
    model = leaf_spine(2, 2, 4).model()
    one = program(model, table(all_reduce(0, 1, 2, 3)), 8)
    two = program(model, table(all_reduce(*range(8), group_size=4)), 8)
    assert engine.Flow.activities(two)["group"].tolist() == [0, 1]
    alone, beside = engine.Flow(model, one), engine.Flow(model, two)
    assert alone.step() and beside.step()
    assert beside.counters()["end_ps"] == alone.counters()["end_ps"]
    assert set(beside.ops()["end_ps"].tolist()) == {alone.counters()["end_ps"]}
    run, _ = both(model, two)
    np.testing.assert_array_equal(beside.links()["bytes"], run.links()["bytes"])


def test_repetitions_follow_each_other_after_the_delay():
    model = star(4).model()
    rows = [compute(0, 1, duration_ps=300, count=5, delay_ps=10), all_reduce(2, 3, count=3, delay_ps=1000)]
    flow = engine.Flow(model, program(model, table(*rows), 4))
    assert flow.step()
    costs = flow.costs()
    once = int(costs["latency_ps"][0] + costs["work_ps"][0])
    ops = flow.ops()
    assert ops["start_ps"].tolist() == [10, 10, 1000, 1000]
    assert ops["end_ps"].tolist() == [5 * 310, 5 * 310, 3 * (1000 + once), 3 * (1000 + once)]
    single = program(model, table(all_reduce(2, 3)), 4)
    run, _ = both(model, single)
    np.testing.assert_array_equal(flow.links()["bytes"], 3 * run.links()["bytes"])
    assert flow.counters()["messages"] == 3 * run.counters()["messages"]


# ---- what cannot be


def test_a_deadlock_says_who_waits_for_whom():
    model = star(2).model()
    rows = [recv(0, 1, stream=0), send(0, 1, stream=0), recv(1, 0, stream=0), send(1, 0, stream=0)]
    made = program(model, table(*rows), 2)
    told = []
    for executor in (engine.Run(model, made), engine.Flow(model, made)):
        with pytest.raises(DeadlockError) as error:
            executor.step()
        told.append((str(error.value), executor.blocked()))
    assert told[0] == told[1]
    assert told[0][1][0] == {"row": 0, "rank": 0, "waits_for": 1, "why": "waits for rank 1"}


def test_storage_is_refused_by_name():
    model = preset("demo-64-400g-lustre")
    trace = file_io("write", n_ranks=2, size_bytes=1 << 20, transfer_bytes=1 << 20, file="/lustre/{rank:05d}")
    made = build_program(model, trace)
    with pytest.raises(ConfigError, match="row 0: flow: found a storage operation"):
        engine.Flow(model.engine, made.engine)


def test_another_models_program_is_refused():
    model = star(2).model()
    made = program(model, table(all_reduce(0, 1)), 2)
    with pytest.raises(ConfigError, match="compiled for another model"):
        engine.Flow(star(2, 200 * GBPS).model(), made)


# ---- how near it comes: bounds are a little above what was measured

# What a fluid does not see: bursts of windows that collide, chains of channels side by side in a domain.
NEAR = {
    "demo-64-400g-roce": {"": 0.015, "all_to_all": 0.05},
    "dgx-h100": {"": 0.08, "broadcast": 0.15, "reduce": 0.15},
    "gb200-nvl72": {"": 0.12},
    "dgx-superpod-a100-hdr": {"": 0.1, "all_to_all": 0.14},
    "tpu-v4-pod": {"": 0.1},
}
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce", "barrier")


@pytest.mark.parametrize("ranks", [8, 32])
@pytest.mark.parametrize("name", NEAR)
def test_collectives_end_when_their_packets_do(name, ranks):
    model = preset(name)
    for kind in KINDS:
        if name == "tpu-v4-pod" and kind == "all_to_all":
            continue  # full buffers hold up those behind them
        for size in (0,) if kind == "barrier" else (1 << 16, 1 << 20, 1 << 23):
            made = build_program(model, collective(kind, size_bytes=size, n_ranks=ranks))
            run, flow = both(model.engine, made.engine)
            near = NEAR[name].get(kind, NEAR[name][""])
            assert flow.counters()["end_ps"] == pytest.approx(run.counters()["end_ps"], rel=near), (
                kind,
                size,
            )
            assert flow.counters()["messages"] == run.counters()["messages"]
            assert (
                abs(int((flow.links()["bytes"] - run.links()["bytes"]).sum()))
                <= run.links()["bytes"].sum() / 1000
            )


def test_some_rounds_of_a_ring_tell_of_all():
    """More rounds than the dry run looks at, by the packets and by the bandwidth that a ring has."""
    model = star(96, 400 * GBPS).model()
    made = program(model, table(all_reduce(*range(96), size=96 << 14)), 96)
    run, flow = both(model, made)
    assert flow.counters()["messages"] == run.counters()["messages"] == 96 * 190
    assert flow.counters()["end_ps"] == pytest.approx(run.counters()["end_ps"], rel=0.01)
    np.testing.assert_allclose(flow.links()["bytes"], run.links()["bytes"], rtol=1e-3)
    large = 10 << 30
    made = program(model, table(all_reduce(*range(96), size=large)), 96)
    flow = engine.Flow(model, made)
    flow.step()
    assert flow.counters()["end_ps"] == pytest.approx(
        2 * large * 95 / 96 * 8e6 / 400_000 * 4264 / 4096, rel=0.01
    )


def test_links_carry_what_their_packets_do():
    model = preset("demo-64-400g-roce")
    for kind in KINDS:
        made = build_program(
            model, collective(kind, size_bytes=0 if kind == "barrier" else 1 << 20, n_ranks=64)
        )
        run, flow = both(model.engine, made.engine)
        np.testing.assert_array_equal(flow.links()["bytes"], run.links()["bytes"])
