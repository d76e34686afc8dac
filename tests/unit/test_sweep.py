"""What is swept: values, points, samples, and what the figures tell."""

import itertools
import math

import pytest

import fabricsim
from fabricsim.errors import ConfigError
from fabricsim.sweep import Objective, Sweep
from fabricsim.sweep.effects import sensitivity
from fabricsim.sweep.files import figure, flatten
from fabricsim.sweep.point import replay_values
from fabricsim.sweep.values import number_of, parse_values, split_list
from fabricsim.sweep.workloads import GENERATORS, make_trace, option_problems

FIXED = {
    "cluster": "demo-64-400g-roce",
    "workload": "collective",
    "workload.kind": "all_reduce",
    "workload.size": 4096,
    "workload.ranks": 8,
}


def without(*keys):
    return {key: value for key, value in FIXED.items() if key not in keys}


# ---- values


@pytest.mark.parametrize(
    "text, values",
    [
        ("1024,4096", [1024, 4096]),
        ("ecmp, spray", ["ecmp", "spray"]),
        ("true,1.5,4KB", [True, 1.5, "4KB"]),
        ("2:8:2", [2, 4, 6, 8]),
        ("2:9:2", [2, 4, 6, 8]),
        ("8:2:-3", [8, 5, 2]),
        ("0.1:0.3:0.1", [0.1, 0.2, 0.3]),
        ("1us:2us:250ns", ["1us", "1.25us", "1.5us", "1.75us", "2us"]),
        ("1:64:*4", [1, 4, 16, 64]),
        ("8:1:*0.5", [8, 4, 2, 1]),
        ("1:4:*1.5", [1, 1.5, 2.25, 3.375]),
        ("64KiB:1MiB:*4", ["64KiB", "256KiB", "1024KiB"]),
        ("1:1000:log4", [1, 10, 100, 1000]),
        ("1us:1ms:log4", ["1us", "10us", "100us", "1000us"]),
        ("1,8:16:8", [1, 8, 16]),
        ('"1:2",[1, 2],"a,b"', ["1:2", [1, 2], "a,b"]),
        ("my.module:make,./a.arrow", ["my.module:make", "./a.arrow"]),
    ],
)
def test_values_are_read(text, values):
    assert parse_values(text) == values


@pytest.mark.parametrize("text", ["", "1,,2", "1:5", "1:5:x", "5:1:1", "1:5:0", "1:9:log1", "1:9:logx"])
def test_bad_ranges_say_what_is_allowed(text):
    with pytest.raises(ValueError, match="allowed"):
        parse_values(text)


@pytest.mark.parametrize("text", ["0:8:*2", "1:8:*1", "8:1:*2", "1:8:*0.5", "1us:8KB:1us", "0..9 log"])
def test_bad_steps_say_what_is_allowed(text):
    with pytest.raises(ValueError, match="allowed"):
        parse_values(text)


@pytest.mark.parametrize("text", ["0:9:log3", "5..1", "1us..2ms", "1..2,3", "0:9999999:1"])
def test_bad_ends_say_what_is_allowed(text):
    with pytest.raises(ValueError, match="allowed"):
        parse_values(text)


def test_lists_split_outside_brackets_and_quotes():
    assert split_list("a=[1;2];b='x;y'", ";") == ["a=[1;2]", "b='x;y'"]


def test_intervals_round_to_their_decimals():
    (whole,) = parse_values("1..4")
    drawn = [whole.at(share / 1000) for share in range(1001)]
    assert set(drawn) == {1, 2, 3, 4} and abs(drawn.count(1) - 250) <= 1
    (fine,) = parse_values("0.10us..0.20us")
    assert (fine.at(0), fine.at(0.5), fine.at(1)) == ("0.1us", "0.15us", "0.2us")
    (log,) = parse_values("1..10000 log")
    assert (log.at(0), log.at(1)) == (1, 10000) and 70 < log.at(0.5) < 100
    assert f"{log}" == "1..10000 log"


def test_values_are_numbers_whatever_their_unit():
    assert [number_of(v) for v in (3, "3", "1KiB", "1ns", "2Gbps", True, "x", [1], None, "3 apples")] == [
        3.0,
        3.0,
        1024.0,
        1000.0,
        2000.0,
        *[None] * 5,
    ]


# ---- workloads


def test_generators_take_options_by_short_and_full_names():
    short = make_trace("collective", {"kind": "all_reduce", "size": "4KiB", "ranks": 4})
    full = make_trace("collective", {"kind": "all_reduce", "size_bytes": 4096, "n_ranks": 4})
    assert short.table == full.table
    assert make_trace("demo", {}).n_ranks == 64
    saved = make_trace(
        "checkpoint", {"model": "llama3-8b", "dp": 4, "step_time": "1ms", "copy_rate": "10GB/s"}
    )
    assert saved.n_ranks == 4
    assert make_trace("checkpoint", {"mlperf": "llama3-8b", "mode": "async"}).n_ranks == 8
    assert set(GENERATORS) >= {"collective", "permutation", "incast", "file_io", "checkpoint", "demo"}


def test_training_steps_take_the_options_of_gen_llm():
    options = {"model": "gpt2", "ranks": 8, "gbs": 8, "seq": 512}
    trace = make_trace("llm", options | {"tp": 2, "jitter.sigma": 0.1, "bucket": "50MB"})
    assert trace.n_ranks == 8 and trace.provenance["generator"] == "fabricsim.workload.llm"
    with pytest.raises(ConfigError, match="a multiple of tensor x context x pipeline, 3"):
        make_trace("llm", options | {"tp": 3})
    with pytest.raises(ConfigError, match="found tp and tensor, allowed: one of them"):
        make_trace("llm", options | {"tp": 2, "tensor": 2})


@pytest.mark.parametrize(
    "workload, options, texts",
    [
        ("incast", {"senders": True}, ["workload.senders: found True", "workload.size: missing"]),
        ("collective", {"kind": 3, "size": "1x", "ranks": 4}, ["kind: found 3", "size: found '1x'"]),
        ("collective", {"kind": "all", "size": 1, "ranks": 4}, ["unknown kind 'all'"]),
        ("incast", {"sendrs": 1}, ["did you mean 'senders'"]),
        ("incast", {"size": 1, "size_bytes": 1}, ["found size and size_bytes, allowed: one of them"]),
        ("incast", {"size": 1, "senders.x": 1}, ["workload.senders: found {'x': 1}"]),
        ("incast", {"size": 1, "senders": 2, "senders.x": 1}, ["found workload.senders too"]),
        ("incats", {}, ["did you mean 'incast'", "trace file"]),
        ("checkpoint", {}, ["one of workload.model and workload.mlperf"]),
        ("checkpoint", {"mlperf": "llama3-8b", "tp": 2}, ["workload.tp: allowed with workload.model"]),
        ("no.such.module:make", {}, ["cannot be imported"]),
        ("fabricsim.units:ps", {}, ["no function"]),
    ],
)
def test_bad_workloads_are_told(workload, options, texts):
    with pytest.raises(ConfigError) as told:
        make_trace(workload, options)
    for text in texts:
        assert text in str(told.value)


def test_a_function_is_a_workload():
    assert make_trace("fabricsim.workload:incast", {"senders": 3, "size": 100}).n_ranks == 4
    assert option_problems("fabricsim.workload:incast", ["ranks"])


def test_options_of_replays_come_from_its_parameters():
    assert replay_values({"max_time": "1ms"}) == replay_values({"max_time_ps": 10**9})
    with pytest.raises(ConfigError, match="did you mean 'max_time'"):
        replay_values({"maxtime": 1})


# ---- points


def test_a_grid_has_every_combination_in_order():
    sweep = Sweep(
        fixed=without("workload.ranks", "workload.size"),
        vary={"workload.ranks": "8:32:*2", "seed": [1, 2]},
        paired=[{"workload.size": "1KiB,4KiB", "cluster.transport.mtu": [1024, 4096]}],
    )
    assert [tuple(s.values()) for s in sweep.settings()] == [
        (ranks, seed, size, mtu)
        for ranks, seed, (size, mtu) in itertools.product(
            (8, 16, 32), (1, 2), (("1KiB", 1024), ("4KiB", 4096))
        )
    ]
    points = sweep.all_points
    assert len({point.name for point in points}) == len(points) == 12
    assert points[3].options == {"kind": "all_reduce", "ranks": 8, "size": "4KiB"}
    assert (points[3].seed, points[3].overrides) == (2, (("transport.mtu", 4096),))
    assert "12 points" in repr(sweep)


def test_the_name_of_a_point_is_what_it_is_made_of(tmp_path, monkeypatch):
    def names(**changes):
        return [
            point.name for point in Sweep(**{"fixed": FIXED, "vary": {"seed": [1, 2]}} | changes).all_points
        ]

    here = names()
    assert (
        here
        == names()
        == names(vary={}, fixed=FIXED | {"seed": 1}) + names(vary={}, fixed=FIXED | {"seed": 2})
    )
    assert names(vary={"seed": [2, 1]}) == here[::-1]
    assert not {*names(fixed=FIXED | {"cluster.transport.mtu": 1024})} & {*here}
    # The layout is options of the workload under another name.
    layout = [{**without("workload.ranks"), key: 8} for key in ("layout.ranks", "workload.ranks")]
    assert names(fixed=layout[0]) == names(fixed=layout[1]) == here
    monkeypatch.setattr(fabricsim, "__version__", "9.9")
    assert not {*names()} & {*here}
    monkeypatch.undo()
    file = tmp_path / "c.toml"
    file.write_text('extends = "demo-64-400g-roce"\n')
    before = names(fixed=FIXED | {"cluster": str(file)})
    file.write_text('extends = "demo-64-400g-roce"\n[transport]\nmtu = 1024\n')
    assert not {*names(fixed=FIXED | {"cluster": str(file)})} & {*before}


def test_files_that_a_cluster_names_count_by_what_they_hold(tmp_path):
    links, cluster = tmp_path / "links.csv", tmp_path / "c.toml"
    cluster.write_text('[topology]\nkind = "links"\npath = "links.csv"\n')

    def name():
        return Sweep(fixed=FIXED | {"cluster": str(cluster)}).all_points[0].name

    links.write_text("a")
    first = name()
    links.write_text("b")
    assert name() != first
    links.write_text("a")
    assert name() == first


def test_samples_belong_to_the_seed_and_their_key():
    vary = {"workload.ranks": "2..64", "cluster.transport.mtu": [1024, 4096]}
    base = {"fixed": without("workload.ranks"), "points": 16, "sampling": "random"}
    one, same = Sweep(vary=vary, **base), Sweep(vary=vary, **base)
    assert one.settings() == same.settings()
    assert one.settings() != Sweep(vary=vary, **base, sample_seed=2).settings()
    alone = Sweep(vary={"workload.ranks": "2..64"}, **base)
    drawn = {s["workload.ranks"] for s in one.settings()}
    assert {s["workload.ranks"] for s in alone.settings()} == drawn
    assert all(2 <= value <= 64 for value in drawn)


def test_latin_hypercubes_meet_each_range_evenly():
    vary = {"workload.ranks": "1..64", "cluster.transport.mtu": [1024, 2048, 4096, 8192]}
    base = {"fixed": without("workload.ranks"), "points": 16, "sampling": "latin"}
    settings = Sweep(vary=vary, **base).settings()
    assert sorted((s["workload.ranks"] - 1) // 4 for s in settings) == [*range(16)]
    mtus = [s["cluster.transport.mtu"] for s in settings]
    assert [mtus.count(mtu) for mtu in (1024, 2048, 4096, 8192)] == [4] * 4


@pytest.mark.parametrize(
    "changes, texts",
    [
        ({"fixed": {}}, ["no cluster", "no workload"]),
        (
            {"vary": {"sed": [1], "replay.fdelity": ["x"]}},
            ["'sed'", "did you mean 'seed'", "option of a replay"],
        ),
        ({"vary": {"workload.rnks": [1]}}, ["did you mean 'ranks'"]),
        ({"vary": {"workload.ranks": [1]}}, ["given twice"]),
        ({"vary": {"layout.ranks": [1]}}, ["given twice"]),
        ({"vary": {"seed": []}}, ["found no values"]),
        ({"vary": {"seed": 5}}, ["found 5", "allowed: a list"]),
        ({"vary": {"seed": ["x", True]}}, ["found 'x'", "found True"]),
        ({"vary": {"seed": "1:2"}}, ["first:last:step"]),
        ({"vary": {"seed": "1..5"}}, ["found the interval 1..5"]),
        ({"vary": {"seed": "1..5"}, "sampling": "latin"}, ["points: found None"]),
        ({"vary": {"seed": [1]}, "points": 3}, ["points: found 3"]),
        ({"sampling": "sobol"}, ["unknown sampling"]),
        ({"paired": [{"seed": [1, 2], "replay.max_time": ["1s"]}]}, ["seed has 2, replay.max_time has 1"]),
        ({"paired": [{"seed": "1..5"}]}, ["found an interval"]),
        ({"vary": {"seed": "1:2000:1", "cluster.transport.mtu": "1:2000:1"}}, ["4000000 points"]),
        ({"objectives": ()}, ["objective: found ()"]),
        ({"objectives": [5]}, ["objective: found [5]"]),
        ({"sampling": 5}, ["unknown sampling '5'"]),
        ({"vary": {"cluster.x": [float("nan")]}}, ["cluster.x: found inf or nan"]),
        ({"fixed": FIXED | {"cluster.x": float("inf")}}, ["cluster.x: found inf or nan"]),
        ({"fixed": FIXED | {"workload": "incats"}}, ["did you mean 'incast'"]),
    ],
)
def test_bad_sweeps_are_told(changes, texts):
    with pytest.raises(ConfigError) as told:
        Sweep(**{"fixed": FIXED} | changes)
    for text in texts:
        assert text in str(told.value)


def test_a_sweep_file_says_all_of_it(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "demo-64-400g-roce"\n')
    file = tmp_path / "sweep.toml"
    file.write_text(
        'cluster = "mine.toml"\nworkload = "collective"\nsampling = "latin"\npoints = 5\nsample_seed = 3\n'
        'objective = ["end_ps", "max:packets"]\n[set]\nworkload.kind = "all_reduce"\nworkload.size = "4KiB"\n'
        '[vary]\nworkload.ranks = "2..64"\n"cluster.transport.mtu" = [1024, 4096]\n'
        "[[zip]]\nseed = [1, 2]\nworkload.iterations = [1, 2]\n"
    )
    sweep = Sweep.load(file)
    assert sweep.fixed["cluster"] == str(tmp_path / "mine.toml")
    assert sweep.varied == ("workload.ranks", "cluster.transport.mtu", "seed", "workload.iterations")
    assert (sweep.sampling, sweep.points, sweep.sample_seed) == ("latin", 5, 3)
    assert [str(goal) for goal in sweep.goals] == ["min:end_ps", "max:packets"]
    assert len(sweep.all_points) == 5
    over = Sweep.load(file, fixed={"layout.ranks": 4}, vary={"workload.size": "1KiB,2KiB"}, points=2)
    assert (over.points, over.fixed["workload.ranks"]) == (2, 4) and "workload.size" not in over.fixed


@pytest.mark.parametrize(
    "text, told",
    [
        ("a = [", "not valid TOML"),
        ("vary = 3\nobjctive = 'x'", "2:objctive: unknown key 'objctive'; did you mean 'objective'?"),
        ("vary = 3", "1:vary: allowed: a table"),
        ("zip = 3", "1:zip: allowed: a table"),
        ("points = '3'", "1:points: found '3', allowed: a whole number"),
        ("workload = 'demo'\ncluster = 'x'\n[vary]\nseed = '1:2'", "sweep.toml:4:seed: found '1:2'"),
        (
            "workload = 'demo'\ncluster = 'x'\n[vary.cluster]\nk = '1:2'",
            "sweep.toml:4:cluster.k: found '1:2'",
        ),
    ],
)
def test_bad_sweep_files_are_told_with_their_lines(tmp_path, text, told):
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        Sweep.load(tmp_path / "sweep.toml")
    assert told in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        Sweep.load(tmp_path / "none.toml")


# ---- figures


def test_figures_have_paths():
    summary = {
        "end_ps": 5,
        "training": {"mfu": 0.5},
        "collectives": [{"kind": "send", "n": 2}, {"kind": "send", "n": 3}],
        "by": [{"kind": "send", "n": 2}],
        "none": None,
    }
    assert flatten(summary) == {"end_ps": 5, "training.mfu": 0.5, "by.send.n": 2, "none": None}
    paths = {
        "training.mfu": 0.5,
        "collectives.1.n": 3,
        "by.send.n": 2,
        "by.0.n": 2,
        "collectives.send.n": None,
    }
    paths |= {"collectives.7.n": None, "end_ps.x": None, "nope": None}
    assert {path: figure(summary, path) for path in paths} == paths


def test_objectives_know_what_is_better():
    signs = {"end_ps": 1, "training.mfu": -1, "collectives.all_reduce.busbw_gbs": -1, "max:end_ps": -1}
    signs |= {"min:training.mfu": 1, "training.tokens_per_s": -1, "drops": 1}
    assert {text: Objective.parse(text).sign for text in signs} == signs


def grid(function, **axes):
    rows = [*itertools.product(*axes.values())]
    return (
        [[key] for key in axes],
        [list(column) for column in zip(*rows, strict=True)],
        [function(*r) for r in rows],
    )


def test_shares_of_an_additive_grid_add_up():
    found = sensitivity(*grid(lambda a, b: 10 * a + b, a=[0, 1, 2], b=[0, 1]), "t", grid=True)
    variance = {"a": 100 * 2 / 3, "b": 1 / 4}
    for effect in found.effects:
        assert effect.share == pytest.approx(variance[effect.keys[0]] / sum(variance.values()))
        assert effect.elasticity is None  # 0 has no logarithm
    assert found.remainder == 0 and found.balanced
    assert [effect.spread for effect in found.effects] == [20, 1]
    assert [(one.value, one.mean, one.points) for one in found.effects[1].levels] == [(0, 10, 3), (1, 11, 3)]


def test_interactions_are_the_remainder():
    found = sensitivity(*grid(lambda a, b: a * b, a=[-1, 1], b=[-1, 1]), "t", grid=True)
    assert [effect.share for effect in found.effects] == [0, 0] and found.remainder == pytest.approx(1)


def test_elasticities_are_exponents_even_with_holes():
    def power(size, rate, kind):
        return 3.0 * 1000 ** (kind == "b") * size**0.5 / float(rate[:-4])

    axes = {"size": ["1KiB", "4KiB", "16KiB"], "rate": ["100Gbps", "400Gbps"], "kind": ["a", "b"]}
    factors, columns, figures = grid(lambda s, r, k: power(number_of(s), r, k), **axes)
    for holes in ((), (0, 3, 7)):
        holed = [None if index in holes else value for index, value in enumerate(figures)]
        found = sensitivity(factors, columns, holed, "t", grid=True)
        slopes = {effect.keys[0]: effect.elasticity for effect in found.effects}
        assert slopes == {"size": pytest.approx(0.5), "rate": pytest.approx(-1), "kind": None}
        assert found.balanced == (not holes)


def test_samples_are_cut_into_ranges_and_corrected():
    sweep = Sweep(
        fixed={"cluster": "demo-64-400g-roce", "workload": "demo"},
        vary={"cluster.x": "1..1000000", "cluster.y": "1..1000000"},
        sampling="latin",
        points=400,
    )
    columns = [[s[key] for s in sweep.settings()] for key in sweep.varied]
    found = sensitivity([["x"], ["y"]], columns, [float(x) for x in columns[0]], "t", grid=False)
    shares = {effect.keys[0]: effect.share for effect in found.effects}
    assert shares["x"] > 0.98 and shares["y"] < 0.02 and found.remainder < 0.02
    assert {effect.keys[0]: effect.elasticity for effect in found.effects}["x"] == pytest.approx(1)
    assert [len(effect.levels) for effect in found.effects] == [10, 10]


def test_seeds_have_no_elasticity_and_pairs_are_one_factor():
    seeds = sensitivity([["seed"]], [[1, 2, 3]], [1.0, 2.0, 3.0], "t", grid=True)
    assert seeds.effects[0].elasticity is None and seeds.effects[0].share == 1
    pairs = sensitivity([["a", "b"]], [[1, 2], ["x", "y"]], [1.0, 2.0], "t", grid=True)
    assert [level.value for level in pairs.effects[0].levels] == ["1, x", "2, y"]


@pytest.mark.parametrize("figures", [[None, None], [1.0, None], [5.0, 5.0]])
def test_too_little_or_nothing_to_explain(figures):
    found = sensitivity([["a"]], [[1, 2]], figures, "t", grid=True)
    if found is not None:
        assert (found.effects[0].share, found.remainder) == (0, 0)
        assert math.isclose(found.effects[0].elasticity, 0, abs_tol=1e-12)
