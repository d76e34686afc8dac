"""Goodput: the parts of a run add up, formulas are met, and what can happen does what it should."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabricsim.cli import main
from fabricsim.errors import ConfigError, InputError
from fabricsim.goodput import (
    GoodputConfig,
    daly_efficiency,
    daly_interval,
    event_log,
    first_order_efficiency,
    simulate,
    sweep,
    without_corruption,
    young_interval,
)
from fabricsim.goodput.draws import Stream, exp, ln, weibull_scale
from fabricsim.goodput.failures import corruptions_of, draw, failures_of, listed
from fabricsim.goodput.rates import HOUR_PS, Rate
from fabricsim.goodput.replay import PARTS, replay
from fabricsim.goodput.study import plan_of

S = 10**12
JOB = {"nodes": 8, "wall": "2d", "detection": "30s", "replacement": "40s", "restart": "50s", "repair": "3h"}
SYNC = {"save": "60s", "interval": "10min", "restore": "20s"}
ASYNC = {"mode": "async", "snapshot": "5s", "write": "90s", "interval": "10min", "restore": "20s"}
TIERS = {
    "mode": "two_tier",
    "snapshot": "2s",
    "write": "200s",
    "replicate": "20s",
    "interval": "100s",
    "restore": "60s",
    "memory_restore": "5s",
    "write_every_count": 3,
}
GPU = {"name": "gpu", "per": "gpu", "mtbf_hours": 200.0}


def make(job=None, checkpoint=None, component=(), **more):
    data = {"job": JOB | (job or {}), "checkpoint": checkpoint or SYNC, "component": list(component)}
    return GoodputConfig.from_dict(data | more)


def one_run(config, seed=1, log=None):
    plan = plan_of(config)
    failures = failures_of(config, seed, plan.until_ps, listed(config))
    return replay(plan, failures, corruptions_of(config, seed, plan.until_ps), log)


def failing_at(*times, component=None, job=None, checkpoint=None, **more):
    """A run with failures at given times."""
    component = {"name": "node"} | (component or {})
    events = [{"at": at, "component": "node"} for at in times]
    return one_run(make(job, checkpoint, [component], event=events, **more))


def seconds(run):
    return {part: time / S for part, time in run.parts.items() if time}


# ---- draws


def test_logarithm_and_exponential_are_exact_to_a_few_bits():
    x = Stream(3, "x").uniform(2000)
    assert np.abs(ln(x) / np.log(x) - 1).max() < 1e-15
    assert np.abs(exp(-20 * x) / np.exp(-20 * x) - 1).max() < 2e-15
    assert weibull_scale(7.0, 2.0) == pytest.approx(7 / math.gamma(1.5), rel=1e-11)


def test_draws_are_pinned():
    rate = Rate(name="gpu", mtbf_hours=100.0)
    times, items = draw(rate, 64, 24 * HOUR_PS, 1, "fails:gpu")
    assert (times[0], times[-1], len(times), items[0]) == (4671889798994834, 62947347615371846, 7, 18)


@pytest.mark.parametrize(
    "interval, told", [("0s", "found 0, allowed: a time of more than 0"), (5, "a time without a unit")]
)
def test_an_interval_that_is_none_is_told_once(interval, told):
    with pytest.raises(ConfigError) as caught:
        GoodputConfig.from_dict({"job": {"wall": "1d"}, "checkpoint": SYNC | {"interval": interval}})
    assert str(caught.value).count("interval:") == 1 and told in str(caught.value)


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0])
def test_failures_come_at_their_rate(shape):
    rate = Rate(name="x", mtbf_hours=50.0, weibull_shape=shape)
    counts = [len(draw(rate, 100, 2000 * HOUR_PS, seed, "x")[0]) for seed in range(5)]
    # A renewal process that starts new counts (c² - 1) / 2 an item more, c the deviation over the mean.
    square = math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1
    assert sum(counts) / 500 == pytest.approx(40 + (square - 1) / 2, rel=0.03)


def test_what_is_old_and_wears_fails_sooner():
    def count(**more):
        rate = Rate(name="fan", mtbf_hours=1000.0, **more)
        return sum(len(draw(rate, 2000, 100 * HOUR_PS, seed, "fan")[0]) for seed in range(3)) / 3

    scale = 1000 / math.gamma(1.5)
    new = 2000 * -math.expm1(-((100 / scale) ** 2))
    old = 2000 * -math.expm1((800 / scale) ** 2 - (900 / scale) ** 2)
    assert count(weibull_shape=2.0) == pytest.approx(new, rel=0.25)
    assert count(weibull_shape=2.0, age_hours=800.0) == pytest.approx(old, rel=0.1)


def test_a_component_more_shifts_no_draw_of_another():
    nic = {"name": "nic", "per": "node", "mtbf_hours": 20.0, "weibull_shape": 1.5}
    alone = failures_of(make(component=[GPU]), 5, 48 * HOUR_PS)
    both = failures_of(make(component=[nic, GPU]), 5, 48 * HOUR_PS)
    assert alone and [f.at_ps for f in both if f.component == 1] == [f.at_ps for f in alone]
    assert len(both) > len(alone)


def test_one_more_item_shifts_no_draw_of_those_that_wear():
    rate = Rate(name="disk", mtbf_hours=30.0, weibull_shape=3.0)
    few, many = (draw(rate, n, 300 * HOUR_PS, 2, "disk") for n in (20, 25))
    kept = many[1] < 20
    assert (many[0][kept] == few[0]).all() and (many[1][kept] == few[1]).all()


# ---- runs by hand


def test_nothing_fails():
    run = one_run(make({"wall": "6601s"}))
    assert seconds(run) == {"productive": 6001.0, "checkpoint_stall": 600.0}
    assert run.saves == 10 and run.wall_ps == 6601 * S


def test_a_failure_costs_what_was_not_saved_and_the_way_back():
    run = failing_at("1000s", job={"spares": 1, "wall": "2000s"})
    # saved at 660 s; 340 s are lost; back at 1000 + 30 + 40 + 50 + 20 = 1140 s; a save at 1740 s
    assert seconds(run) == {
        "productive": 600 + 600 + 200.0,
        "checkpoint_stall": 120.0,
        "lost_work": 340.0,
        "detection": 30.0,
        "replacement": 40.0,
        "restart": 50.0,
        "restore": 20.0,
    }
    assert run.interruptions == 1 and run.goodput == 0.7


def test_a_failure_in_a_save_makes_it_void():
    run = failing_at("659s", job={"spares": 1, "wall": "1000s"})
    assert seconds(run)["lost_work"] == 600 and seconds(run)["checkpoint_stall"] == 59


def test_failures_during_recovery_begin_it_again():
    run = failing_at("1000s", "1100s", job={"spares": 2, "wall": "2000s"})
    # 1000: detection 30, replacement 40, restart 30 of 50; 1100: everything again
    found = seconds(run)
    assert (found["detection"], found["replacement"], found["restart"]) == (60, 80, 80)
    assert found["lost_work"] == 340 and run.interruptions == 2


def test_without_spares_the_job_waits_for_the_repair():
    run = failing_at("1000s", job={"wall": "5h"})
    assert seconds(run)["waiting_for_spares"] == 3 * 3600 - 30


def test_or_shrinks_and_grows_after_a_save():
    run = failing_at("1000s", job={"wall": "5h", "no_spare": "shrink", "repair": "1h"})
    found = seconds(run)
    assert "waiting_for_spares" not in found and "replacement" not in found
    # 1/8 of the running time is missing from 1000 s + 100 s to the first save after 4600 s
    assert found["shrunk"] == pytest.approx(600 * 6 / 8)
    assert found["restart"] == 100 and found["restore"] == 40


def test_shrinks_by_whole_replicas():
    job = {"no_spare": "shrink", "shrink_nodes": 4, "wall": "4000s"}
    events = [{"at": "0s", "component": "node"}]
    run = one_run(make(job, component=[{"name": "node"}], event=events))
    running = run.parts["productive"] + run.parts["shrunk"]
    assert run.parts["productive"] * 2 == running
    waiting = one_run(make(job | {"least_nodes": 5}, component=[{"name": "node"}], event=events))
    assert waiting.parts["waiting_for_spares"] and not waiting.parts["productive"]


def test_a_restart_needs_no_spare_and_waits_for_what_is_out():
    run = failing_at("1000s", component={"effect": "restart", "outage": "5min"}, job={"wall": "2000s"})
    found = seconds(run)
    assert found["replacement"] == 270 and found["detection"] == 30 and "waiting_for_spares" not in found


def test_a_stall_loses_no_work():
    run = failing_at("100s", component={"effect": "stall", "outage": "7s"}, job={"wall": "600s"})
    assert seconds(run) == {"productive": 593.0, "stalled": 7.0}
    assert run.interruptions == 0 and run.failures == 1


def test_saves_wait_for_storage():
    run = failing_at("610s", component={"effect": "storage", "outage": "100s"}, job={"wall": "800s"})
    assert seconds(run) == {"productive": 640.0, "checkpoint_stall": 160.0}


def test_an_asynchronous_checkpoint_counts_when_its_write_is_done():
    job = {"spares": 1, "wall": "2000s"}
    early = failing_at("690s", job=job, checkpoint=ASYNC)
    late = failing_at("700s", job=job, checkpoint=ASYNC)
    assert seconds(early)["lost_work"] == 685 and seconds(late)["lost_work"] == 95
    slow = failing_at(job={"wall": "2000s"}, checkpoint=ASYNC | {"slowdown": "10%"})
    assert seconds(slow)["checkpoint_slowdown"] == pytest.approx(27)


def test_a_write_that_is_not_done_holds_the_next_save_back():
    run = failing_at(job={"wall": "3000s"}, checkpoint=ASYNC | {"write": "700s"})
    # snapshots at 600 s and, the write being done, at 1305, 2010, 2715 s
    assert seconds(run)["checkpoint_stall"] == 3 * 100 + 4 * 5


def test_two_tiers():
    job = {"spares": 3, "wall": "3000s"}
    one = failing_at("1000s", job=job, checkpoint=TIERS)
    # snapshots at 100, 202, ... 916 (in peers' memory at 938); the state of 900 s of work is restored
    assert seconds(one)["lost_work"] == 1000 - 918 and seconds(one)["restore"] == 5
    two = failing_at("1000s", component={"lost_nodes": 2}, job=job, checkpoint=TIERS)
    # writes to storage of the snapshots at 304, 610 and 916: those of the second are done at 812
    assert seconds(two)["lost_work"] == 1000 - 918 + 300 and seconds(two)["restore"] == 60


def test_work_instead_of_wall():
    config = GoodputConfig.from_dict(
        {"job": {"work": "2h"}, "checkpoint": SYNC, "component": [GPU | {"effect": "restart"}]}
    )
    run = one_run(config, 3)
    assert run.finished and run.parts["productive"] == 7200 * S
    rarely = {"job": {"work": "80d", "spares": 99}, "checkpoint": SYNC | {"interval": "9h"}}
    hopeless = GoodputConfig.from_dict(rarely | {"component": [GPU | {"mtbf_hours": 8.0}]})
    assert not one_run(hopeless).finished


# ---- a plain simulator, second by second, of a job without corruption, storage outages or shrinking


def plain(checkpoint, failures, wall, spares, kinds):
    """Return the parts in whole seconds; ``failures`` maps a second to the kinds that fail then."""
    mode, every = checkpoint["mode"], checkpoint["interval"]
    parts = dict.fromkeys(PARTS, 0)
    phase, left = "run", every  # what goes on, and for how many seconds more
    stored = memory = done = 0  # work that storage, peers' memory and the job hold
    writing = copying = None  # (end, level) of what goes to storage and to peers
    lost_nodes = unwritten = 0
    pool, repairs, missing = spares, [], 0
    for now in range(wall + 1):
        if writing and writing[0] <= now:
            stored, writing = writing[1], None
        if copying and copying[0] <= now:
            memory, copying, lost_nodes = copying[1], None, 0
        for kind in failures.get(now, ()):
            lost_nodes += kinds[kind] == "replace" and missing < 8
            memory = 0 if lost_nodes > 1 else memory
            level = max(stored, memory)
            parts["lost_work"] += done - level
            parts["productive"] -= done - level
            done, writing, copying = level, None, None
            detected = now + 30
            if phase == "detection":
                detected = max(detected, now + left)
            phase, left = "detection", detected - now
            if kinds[kind] == "replace" and missing < 8:
                missing += 1
                repairs.append(now + 600)
        if now == wall:
            break
        while True:
            # What is over makes way for what comes next, which may be over at once.
            if phase == "detection" and left == 0:
                phase, left = ("spares", 0) if missing else ("restart", 50)
            elif phase == "spares":
                pool += sum(one <= now for one in repairs)
                repairs = [one for one in repairs if one > now]
                if pool < missing:
                    break
                pool, missing, phase, left = pool - missing, 0, "replacement", 40
            elif phase == "replacement" and left == 0:
                phase, left = "restart", 50
            elif phase == "restart" and left == 0:
                phase, left = "restore", 5 if memory and memory >= stored else 20 if stored else 0
            elif phase == "restore" and left == 0:
                phase, left = "run", every
            elif phase == "run" and left == 0:
                phase = "wait"
            elif phase == "wait" and not (copying if mode == "two_tier" else writing):
                phase, left = "save", checkpoint["stall"]
            elif phase == "save" and left == 0:
                phase, left = "run", every
                if mode == "sync":
                    stored = done
                elif mode == "async":
                    writing = (now + checkpoint["write"], done)
                else:
                    copying = (now + checkpoint["replicate"], done)
                    unwritten = min(unwritten + 1, 3)
                    if unwritten == 3 and not writing:
                        writing, unwritten = (now + checkpoint["write"], done), 0
            else:
                break
        name = {"run": "productive", "wait": "checkpoint_stall", "save": "checkpoint_stall"}.get(phase, phase)
        parts["waiting_for_spares" if phase == "spares" else name] += 1
        done += phase == "run"
        left -= phase not in ("wait", "spares")
    return {name: value for name, value in parts.items() if value}


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["sync", "async", "two_tier"]),
    st.integers(20, 400),
    st.integers(1, 60),
    st.integers(1, 500),
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(1, 3999), st.sampled_from(["node", "bug"])), max_size=9),
    st.integers(0, 2),
)
def test_a_plain_simulator_finds_the_same(mode, interval, stall, write, replicate, events, spares):
    kinds = {"node": "replace", "bug": "restart"}
    found = {}
    # The components' order, not the list's, decides who is first of two in one second.
    for at, kind in sorted(set(events), key=lambda one: (one[0], list(kinds).index(one[1]))):
        found.setdefault(at, []).append(kind)
    told = {"mode": mode, "interval": interval, "stall": stall, "write": write, "replicate": replicate}
    wanted = plain(told, found, 4000, spares, kinds)
    checkpoint = {"mode": mode, "interval": f"{interval}s", "restore": "20s"}
    if mode == "sync":
        checkpoint |= {"save": f"{stall}s"}
    else:
        checkpoint |= {"snapshot": f"{stall}s", "write": f"{write}s"}
    if mode == "two_tier":
        checkpoint |= {"replicate": f"{replicate}s", "memory_restore": "5s", "write_every_count": 3}
    config = make(
        {"wall": "4000s", "spares": spares, "repair": "600s"},
        checkpoint,
        [{"name": name, "effect": effect} for name, effect in kinds.items()],
        event=[{"at": f"{at}s", "component": kind} for at, kind in sorted(set(events))],
    )
    assert seconds(one_run(config)) == wanted


# ---- what holds for all


checkpoints = st.sampled_from([SYNC, ASYNC, TIERS, {"mode": "none"}, ASYNC | {"write": "650s"}])
slowing = st.sampled_from([0, 1, 30_001])
components = st.lists(
    st.sampled_from(
        [
            GPU,
            {"name": "bug", "mtbf_hours": 3.0, "effect": "restart", "outage": "200s"},
            {"name": "link", "mtbf_hours": 2.0, "effect": "stall", "outage": "8s"},
            {"name": "OST", "mtbf_hours": 5.0, "effect": "storage", "outage": "700s"},
            {"name": "switch", "mtbf_hours": 9.0, "lost_nodes": 4, "weibull_shape": 0.6},
        ]
    ),
    unique_by=lambda one: one["name"],
    max_size=5,
)
SOURCES = [
    {"name": f"in {where}", "where": where, "mtbf_hours": 4.0}
    for where in ("compute", "memory", "link", "storage")
]
detectors = st.lists(
    st.sampled_from(["abft", "collective_checksum", "shard_crc", "replay", "norm_watch"]),
    unique=True,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(
    checkpoints,
    slowing,
    components,
    st.sampled_from(["wait", "shrink"]),
    st.integers(0, 3),
    st.none() | detectors,
    st.integers(1, 1000),
)
def test_parts_add_up_and_skipping_cycles_changes_nothing(
    checkpoint, slow, component, no_spare, spares, methods, seed
):
    told = {}
    if methods is not None:
        found = [{"method": m} | ({"coverage": "50%"} if m == "replay" else {}) for m in methods]
        told = {"corruption": {"source": SOURCES, "detector": found}}
    checkpoint = checkpoint | ({"slowdown_ppm": slow} if "mode" in checkpoint else {})
    config = make({"no_spare": no_spare, "spares": spares}, checkpoint, component, **told)
    run, stepped = one_run(config, seed), one_run(config, seed, lambda *row: None)
    assert run == stepped
    assert sum(run.parts.values()) == run.wall_ps == 48 * HOUR_PS
    assert set(run.parts) == set(PARTS) and min(run.parts.values()) >= 0
    fates = run.corrected + run.rolled_back + run.bad_checkpoints + run.harmless + run.undetected + run.open
    assert run.corruptions == fates


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 1000))
def test_more_failures_mean_less_goodput_and_more_spares_no_less(seed):
    def goodput(mtbf, **job):
        return simulate(make(job, SYNC, [GPU | {"mtbf_hours": mtbf}]), seeds=[seed]).goodput.mean

    assert goodput(20.0, spares=50) < goodput(20_000.0, spares=50)
    waits = [simulate(make({"spares": n}, SYNC, [GPU]), seeds=[seed]).runs[0] for n in (0, 2, 20)]
    times = [run.parts["waiting_for_spares"] for run in waits]
    assert times[2] == 0 and times[2] <= times[0]


# ---- formulas


@pytest.mark.parametrize("recovery", [0, 300])
def test_a_replay_meets_the_exact_mean_of_daly(recovery):
    job = {"nodes": 1, "wall": "60d", "detection": f"{recovery}s", "restart": "0s"}
    component = [{"name": "job", "mtbf_hours": 2.0, "effect": "restart"}]
    study = simulate(make(job, {"save": "60s", "interval": "900s"}, component), seeds=20)
    wanted = daly_efficiency(60, 900, 7200, recovery)
    assert abs(study.goodput.mean - wanted) < 2 * study.goodput.half_width
    assert study.predicted()["daly_efficiency"] == wanted


def test_limits_of_the_formulas():
    assert first_order_efficiency(1, 100, 1e12) == pytest.approx(1 / 1.01)
    assert daly_efficiency(1, 100, 1e12) == pytest.approx(1 / 1.01, rel=1e-6)
    assert daly_interval(1e-6, 3600) == pytest.approx(young_interval(1e-6, 3600), rel=1e-4)
    assert daly_interval(10, 4) == 4


def test_the_best_interval_is_near_the_formula():
    component = [{"name": "job", "mtbf_hours": 3.0, "effect": "restart"}]
    studies = sweep(make({"wall": "30d"}, {"save": "60s"}, component), seeds=10)
    best = max(studies, key=lambda study: study.goodput.mean)
    assert len(studies) == 9 and abs(studies.index(best) - 4) <= 1
    assert {study.seeds for study in studies} == {tuple(range(1, 11))}


# ---- corruption


def test_detectors_are_worth_their_coverage():
    def study(*detector):
        source = [{"name": "core", "where": "compute", "mtbf_hours": 1.0}]
        told = {"source": source, "detector": list(detector)}
        return simulate(make({"spares": 999, "wall": "20d"}, SYNC, corruption=told), seeds=4)

    blind = study()
    assert blind.counts()["undetected"] > 0.8 * blind.counts()["corruptions"]
    abft = study({"method": "abft", "coverage": "90%"})
    assert abft.corruption()["detected_share"] == pytest.approx(0.9, abs=0.02)
    assert abft.counts()["rolled_back"] == 0 and abft.counts()["interruptions"] == 0
    replayed = study({"method": "replay", "coverage": "50%"})
    assert replayed.breakdown()["check_overhead"].mean > 0.2
    watched = study({"method": "norm_watch", "coverage": "100%", "latency": "10min"})
    assert watched.corruption()["latency_s"] == 600
    lost = watched.breakdown()["lost_work"].mean
    assert (
        lost
        > study({"method": "norm_watch", "coverage": "100%", "latency": "0s"}).breakdown()["lost_work"].mean
    )
    assert watched.goodput.mean < blind.goodput.mean
    assert without_corruption(watched).goodput == without_corruption(blind).goodput
    assert without_corruption(watched).goodput.mean > watched.goodput.mean


def test_a_bad_checkpoint_is_noticed_when_it_is_read():
    source = [{"name": "disk", "where": "storage", "mtbf_hours": 0.1}]

    def run(*detector):
        told = {"source": source, "detector": list(detector)}
        return failing_at("40000s", job={"spares": 1, "wall": "45000s"}, corruption=told)

    noticed, not_noticed = run({"method": "shard_crc"}), run()
    assert noticed.bad_checkpoints >= 1 and noticed.tainted == 0
    assert noticed.parts["restore"] == (1 + noticed.bad_checkpoints) * 20 * S
    assert noticed.parts["lost_work"] > not_noticed.parts["lost_work"]
    assert not_noticed.tainted == 1


# ---- configuration, files, command


def test_every_error_is_told(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(
        '[job]\nnodes = 0\nwall = "54"\n[checkpoint]\nmode = "async"\nsave = "1s"\n'
        '[[component]]\nname = "gpu"\neffect = "stall"\nfit = 1.0\nmtbf_hours = 2.0\n'
    )
    with pytest.raises(ConfigError) as error:
        GoodputConfig.load(path)
    text = str(error.value)
    for part in ("bad.toml:2:job.nodes", "bad.toml:3:job.wall", "bad.toml:6:checkpoint.save"):
        assert part in text, text
    assert "snapshot" in text and "found mtbf_hours and fit" in text
    for data, part in (
        ({"component": [GPU, GPU]}, "twice"),
        ({"event": [{"at": "1s", "component": "gpo"}]}, "known: none"),
        ({"job": JOB | {"work": "1h"}}, "one of wall"),
        ({"checkpoint": {"save": "1s"}}, "no component has a rate"),
        ({"corruption": {"detector": [{"method": "abft"}] * 2}}, "twice"),
    ):
        with pytest.raises(ConfigError, match=part):
            GoodputConfig.from_dict({"job": JOB, "checkpoint": SYNC} | data)
    with pytest.raises(ConfigError, match="presets: llama3-405b"):
        GoodputConfig.load("llama4")
    with pytest.raises(ConfigError, match="more than"):
        simulate(make(component=[GPU | {"mtbf_hours": 1e-6}]))


def test_another_mode_drops_the_times_of_the_one_below():
    config = GoodputConfig.load("llama3-405b", ["checkpoint.mode=sync", "checkpoint.save=60s"])
    assert (config.checkpoint.save_ps, config.checkpoint.write_ps) == (60 * S, None)
    assert config.changed("job.nodes=512").job.gpus == 4096


def test_times_of_emulated_runs(tmp_path):
    def run(name, saves=(), restore=None):
        folder = tmp_path / name
        folder.mkdir()
        found = {"saves": list(saves), "restore": restore or {}}
        summary = {"end_ps": 1, "digest": "x", "checkpoints": found}
        (folder / "summary.json").write_text(json.dumps({"summary": summary}))
        return name

    save = {"stall_max_ps": 7 * S, "wait_max_ps": 2 * S, "write_ps": 40 * S, "drain_ps": 0}
    run("saves", [save, save | {"stall_max_ps": 8 * S, "drain_ps": 90 * S}])
    run("restore", restore={"total_ps": 33 * S})
    path = tmp_path / "job.toml"
    path.write_text(
        '[job]\nwall = "1d"\n[checkpoint]\nmode = "async"\ninterval = "10min"\nsaves_from = "saves"\n'
        'restore_from = "restore"\n'
    )
    found = GoodputConfig.load(path).checkpoint
    assert (found.snapshot_ps, found.write_ps, found.restore_ps) == (5.5 * S, 40 * S, 33 * S)
    sync = GoodputConfig.load(path, ["checkpoint.mode=sync"])
    assert sync.checkpoint.save_ps == 5.5 * S and sync.changed("job.nodes=3").checkpoint == sync.checkpoint
    own = ["checkpoint.mode=two_tier", "checkpoint.memory_restore=3s", "checkpoint.snapshot=1s"]
    tiers = GoodputConfig.load(path, own).checkpoint
    assert (tiers.snapshot_ps, tiers.replicate_ps, tiers.write_ps) == (S, 40 * S, 90 * S)
    with pytest.raises(ConfigError, match="no saves"):
        GoodputConfig.load(path, [f"checkpoint.saves_from={tmp_path / 'restore'}"])
    with pytest.raises(ConfigError, match="no restore"):
        GoodputConfig.load(path, [f"checkpoint.restore_from={tmp_path / 'saves'}"])
    with pytest.raises(InputError):
        GoodputConfig.load(path, ["checkpoint.saves_from=nowhere"])


@pytest.mark.parametrize("form", ["csv", "toml", "arrow"])
def test_failures_of_a_file(tmp_path, form):
    import pyarrow as pa
    from pyarrow import ipc

    path = tmp_path / f"events.{form}"
    if form == "csv":
        path.write_text("at,component,item\n1000s,gpu,7\n")
    elif form == "toml":
        path.write_text('[[event]]\nat = "1000s"\ncomponent = "gpu"\nitem = 7\n')
    else:
        table = pa.table({"at_ps": [1000 * S], "component": ["gpu"], "item": [7]})
        with ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    config = make({"spares": 1, "wall": "2000s"}, component=[{"name": "gpu"}], events=str(path))
    assert one_run(config) == failing_at("1000s", job={"spares": 1, "wall": "2000s"})
    table = event_log(config)
    row = table.to_pylist()[1]
    assert (row["event"], row["component"], row["item"]) == ("failed (replace)", "gpu", 7)
    assert row["lost_ps"] == 340 * S and table.schema.field("time_ps").metadata == {b"unit": b"ps"}


@pytest.mark.parametrize(
    "text, part",
    [
        ("at,component\n5,gpu\n", "line 2:at"),
        ("at,component\n5s,cpu\n", "unknown component 'cpu'"),
        ("at,component\n5s,gpu,3,4\n", "no column"),
        ("when\n5s\n", "unknown key"),
        ("at,component\n\xff", "cannot be read|missing|no UTF-8|not a time"),
    ],
)
def test_bad_files_of_failures(tmp_path, text, part):
    path = tmp_path / "events.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=part):
        simulate(make(component=[{"name": "gpu"}], events=str(path)))
    other = tmp_path / "events.arrow"
    other.write_bytes(b"ARROW1 no")
    with pytest.raises(InputError):
        simulate(make(component=[{"name": "gpu"}], events=str(other)))


def test_the_command(capsys, tmp_path):
    assert main(["goodput", "llama3-405b", "--wall", "2d", "--seeds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0.8 < found["goodput"]["mean"] < 1 and len(found["runs"]) == 2
    assert sum(found["runs"][0]["parts_ps"].values()) == found["runs"][0]["wall_ps"]
    assert sum(part["mean"] for part in found["breakdown"].values()) == pytest.approx(1)
    log = tmp_path / "log.arrow"
    assert main(["goodput", "--mtti", "3h", "--save", "1min", "--wall", "5d", "--log", str(log)]) == 0
    out = capsys.readouterr().out
    assert "goodput" in out and "Daly" in out
    assert main(["inspect", str(log)]) == 0
    assert "events of a run" in capsys.readouterr().out
    assert main(["goodput", "--mtti", "3h", "--save", "1min", "--sweep", "10min,20min", "--seeds", "2"]) == 0
    assert "best" in capsys.readouterr().out
    for bad in (["--mtti", "3h"], [], ["llama3-405b", "--mtti", "1h"], ["llama3-405b", "--seeds", "0"]):
        assert main(["goodput", *bad]) == 2
    capsys.readouterr()


def test_the_example_reads_and_runs(capsys):
    path = Path(__file__).parents[2] / "examples" / "goodput_shared_cluster.toml"
    assert main(["goodput", str(path), "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert "silent corruption" in out and "stalled" in out and "points" in out
    assert main(["inspect", str(path)]) == 0
    assert "study of goodput" in capsys.readouterr().out
