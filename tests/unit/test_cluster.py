"""Clusters: presets, settings, overrides, round trips, places of errors."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

import fabricsim.fabrics
from fabricsim.cluster import Cluster
from fabricsim.errors import ConfigError
from fabricsim.fabrics.parameters import read_values
from fabricsim.fabrics.toml import key_lines, write_toml
from fabricsim.platforms import list_platforms, preset_names
from fabricsim.topology import KINDS
from fabricsim.units import us

STAR = {"kind": "star", "hosts": 4, "rate": "100Gbps", "latency": "1us"}


def star(**sections) -> Cluster:
    return Cluster.from_dict({"name": "x", "topology": STAR, **sections})


def setting(cluster: Cluster, room: str) -> dict[str, int]:
    return next(values for r, _, values in cluster.settings() if r == room)


# ---- presets


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_reads_back(name):
    cluster = Cluster.from_toml(name)
    assert cluster.name == name
    assert cluster.description and cluster.sources
    again = Cluster.from_dict(tomllib.loads(cluster.to_toml()))
    assert again == cluster
    assert again.digest() == cluster.digest()
    assert Cluster.model_validate(cluster.model_dump(mode="json")) == cluster


def test_presets_are_listed_in_the_order_of_their_numbers():
    names = [preset.name for preset in list_platforms()]
    assert names.index("fat-tree-k8-100g-roce") < names.index("fat-tree-k16-100g-roce")
    assert all(preset.description for preset in list_platforms())


@pytest.mark.parametrize(("k", "hosts"), [(8, 128), (16, 1024), (32, 8192)])
@pytest.mark.parametrize("rate", [100, 400])
def test_fat_tree_presets(k, hosts, rate):
    cluster = Cluster.load(f"fat-tree-k{k}-{rate}g-roce")
    t = cluster.topology()
    assert t.n_hosts == hosts
    assert set(t.cable_rate_mbps.tolist()) == {rate * 1000}
    assert set(t.cable_delay_ps.tolist()) == {1_000_000}
    assert setting(cluster, "transport")["mtu_bytes"] == 4096
    assert (cluster.link.model, cluster.congestion_control.model) == ("pause", "dcqcn")
    assert setting(cluster, "switch")["ecn_kmin_bytes"] == 4_000 * rate


def test_ns3_preset_has_the_parameters_of_the_cross_check():
    cluster = Cluster.load("fat-tree-k4-100g-roce-hpcc")
    transport, cc = setting(cluster, "transport"), setting(cluster, "cc")
    assert transport["mtu_bytes"] + transport["header_bytes"] == 1048
    assert transport["ack_every_count"] == 1
    assert cc["alpha_timer_ps"] == 1_000_000
    assert cc["decrease_timer_ps"] == 4_000_000
    assert cc["increase_timer_ps"] == 300_000_000
    assert (cc["rate_ai_mbps"], cc["rate_hai_mbps"], cc["min_rate_mbps"]) == (20, 200, 1000)
    switch = setting(cluster, "switch")
    assert (switch["buffer_bytes"], switch["ecn_kmax_bytes"]) == (32_000_000, 1_600_000)
    assert switch["ecn_pmax_ppm"] == 200_000


def test_v100_preset():
    cluster = Cluster.load("v100-8")
    assert cluster.topology().cable_rate_mbps.tolist() == [1_200_000] * 8
    assert cluster.accelerator is not None
    assert cluster.accelerator.mem_bytes_per_s == 900 * 10**9


def test_sections_must_fit_together(tmp_path):
    four = {"name": "four", "topology": {"kind": "star", "hosts": 4, "rate": "100Gbps", "latency": "1us"}}
    assert setting(Cluster.from_dict(four, ["switch.data_class=2"]), "switch")["data_class_count"] == 2
    with pytest.raises(ConfigError) as found:
        Cluster.from_dict(
            four, ["switch.data_class=2", "transport.control_priority=false", "switch.ecn=false"]
        )
    priority, marks = str(found.value).splitlines()
    assert "transport.control_priority: found 0, allowed: 1 (true) with 2 data classes" in priority
    assert "switch.ecn: found 0, allowed: 1 (true) with DCQCN" in marks
    Cluster.from_dict(four, ["switch.ecn=false", "congestion_control.model=none"])


def test_demo_has_64_hosts():
    assert Cluster.load("demo-64-400g-roce").topology().n_hosts == 64


# ---- what the core is given


def test_settings_hold_every_parameter_of_the_chosen_models():
    cluster = star(transport={"mtu": "1KB"}, routing={"model": "spray"})
    rooms = {room: impl for room, impl, _ in cluster.settings() if room != "coll"}
    assert rooms == {
        "switch": "ethernet",
        "link": "pause",
        "route": "spray",
        "transport": "roce",
        "cc": "dcqcn",
    }
    table = fabricsim.fabrics.parameter_table()
    for room, impl, values in cluster.settings():
        assert list(values) == list(table.of(room, impl))
    assert setting(cluster, "transport")["mtu_bytes"] == 1000


def test_collectives():
    cluster = star(
        collectives={
            "all_reduce": {"algorithm": "tree"},
            "reduce_scatter": "pairwise",
            "ring": {"step": "2us"},
        }
    )
    assert cluster.algorithms()["all_reduce"] == "tree"
    assert cluster.algorithms()["reduce_scatter"] == "pairwise"
    assert cluster.algorithms()["all_to_all"] == "pairwise"
    ring = next(v for room, impl, v in cluster.settings() if (room, impl) == ("coll", "ring"))
    assert ring["step_ps"] == 2_000_000
    again = Cluster.from_dict(tomllib.loads(cluster.to_toml()))
    assert again == cluster


def test_rank_host_is_the_identity_and_bounded():
    hosts = star().rank_host(3)
    assert hosts.dtype == np.int32 and hosts.tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="found 5 ranks, allowed: 0 to 4"):
        star().rank_host(5)


def test_digest_tells_what_is_emulated_and_nothing_else():
    assert star(description="other words").digest() == star().digest()
    assert star(transport={"mtu": 4096}).digest() == star(transport={"mtu": 4096}).digest()
    default = setting(star(), "transport")["mtu_bytes"]
    assert star(transport={"mtu_bytes": default}).digest() == star().digest()
    assert star(transport={"mtu": 1024}).digest() != star().digest()
    assert hash(star()) == hash(star())


def test_copy_with_another_topology_forgets_the_old_arrays():
    cluster = star()
    cluster.topology()
    other = Cluster.load("fat-tree-k8-100g-roce")
    copied = cluster.model_copy(update={"topology_spec": other.topology_spec})
    assert copied.topology().n_hosts == 128


def test_cluster_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        star().name = "y"


# ---- telling


def test_repr_html_and_rows():
    cluster = star(description="a <b>", transport={"mtu": 1024})
    assert repr(cluster) == "<Cluster x: star, 4 hosts, 1 switches, ethernet, pause, roce, dcqcn>"
    rows = dict(cluster.describe())
    assert rows["transport.mtu_bytes"].startswith("1 KiB (default ")
    assert "a &lt;b&gt;" in cluster._repr_html_()


def test_schema_holds_the_parameters_with_ranges():
    schema = Cluster.json_schema()
    roce = schema["properties"]["transport"]["oneOf"][0]["properties"]
    table = fabricsim.fabrics.parameter_table().of("transport", "roce")
    mtu = table["mtu_bytes"]
    assert roce["mtu_bytes"]["minimum"] == mtu.minimum
    assert roce["mtu_bytes"]["default"] == mtu.default
    assert mtu.meaning in roce["mtu_bytes"]["description"]
    assert roce["mtu"]["type"] == ["string", "number"]
    kinds = [s["properties"]["kind"]["const"] for s in schema["properties"]["topology"]["oneOf"]]
    assert kinds == list(KINDS)


# ---- files, extends, overrides


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_extends_a_preset_and_is_named_after_itself(tmp_path):
    path = write(
        tmp_path,
        "mine.toml",
        'extends = "fat-tree-k8-100g-roce"\n[transport]\nmtu_bytes = 1024\n[topology]\nk = 4\n',
    )
    cluster = Cluster.load(path)
    assert cluster.name == "mine"
    assert cluster.topology().n_hosts == 16
    assert setting(cluster, "transport")["mtu_bytes"] == 1024


def test_a_file_extends_another_file(tmp_path):
    write(tmp_path, "base.toml", 'extends = "v100-8"\n[topology]\ngpus_per_node = 6\n')
    (tmp_path / "sub").mkdir()
    path = write(tmp_path / "sub", "top.toml", 'extends = "../base.toml"\n[scale_up.switch]\nvl_count = 2\n')
    cluster = Cluster.load(path)
    assert cluster.topology().n_hosts == 6
    # There is no scale-out network, and no setting for it.
    (values,) = [rest for room, *rest in cluster.settings() if room == "switch"]
    assert values[1]["vl_count"] == 2 and values[2] == 1
    assert repr(cluster) == "<Cluster top: nodes, 6 hosts, 1 switches, scale-up voq, credit, scale_up>"


def test_a_circle_is_an_error(tmp_path):
    a = write(tmp_path, "a.toml", 'extends = "b.toml"\n')
    write(tmp_path, "b.toml", 'extends = "a.toml"\n')
    with pytest.raises(ConfigError, match="a circle"):
        Cluster.load(a)


def test_overrides_replace_either_spelling():
    cluster = Cluster.load(
        "fat-tree-k8-100g-roce",
        ["transport.mtu_bytes=1024", "switch.ecn_kmin=100KB", "topology.rate=200Gbps", "name=other"],
    )
    assert setting(cluster, "transport")["mtu_bytes"] == 1024
    assert setting(cluster, "switch")["ecn_kmin_bytes"] == 100_000
    assert cluster.topology().cable_rate_mbps[0] == 200_000
    assert cluster.name == "other"


def test_another_model_drops_the_parameters_of_the_old_one():
    cluster = Cluster.load("fat-tree-k8-100g-roce", ["congestion_control.model=none", "link.model=lossy"])
    assert (cluster.congestion_control.model, cluster.link.model) == ("none", "lossy")


def test_another_kind_of_topology_keeps_rates_and_latencies():
    cluster = Cluster.load("fat-tree-k8-100g-roce", ["topology.kind=star", "topology.hosts=3"])
    assert cluster.topology().cable_rate_mbps.tolist() == [100_000] * 3


def test_topology_file_counts_from_the_folder_of_the_cluster_file(tmp_path):
    write(tmp_path, "t.txt", "3 1 2\n2\n0 2 1Gbps 1us 0\n1 2 1Gbps 1us 0\n")
    path = write(tmp_path, "c.toml", '[topology]\nkind = "file"\npath = "t.txt"\n')
    assert Cluster.load(path).topology().n_hosts == 2


def test_every_problem_is_told_with_its_place(tmp_path):
    path = write(
        tmp_path,
        "bad.toml",
        """extends = "fat-tree-k8-100g-roce"
colour = "red"

[topology]
k = 7
latency = "soon"

[switch]
ecn_kmin = "4 apples"
buffer_bytes = "3KB"
ecn_pmax_ppm = 2000000
kmin = 3

[transport]
model = "rocee"

[collectives]
all_reduce = "rings"
broadcats = "ring"

[collectives.ring]
step = "1"
""",
    )
    with pytest.raises(ConfigError) as caught:
        Cluster.load(path, ["link.xof=3", "topology.tiers=4"])
    lines = str(caught.value).splitlines()
    found = {line.split(": ")[0].removeprefix(f"{path}:") for line in lines}
    assert found == {
        "2:colour",
        "5:topology.k",
        "6:topology.latency",
        "9:switch.ecn_kmin",
        "10:switch.buffer_bytes",
        "11:switch.ecn_pmax_ppm",
        "12:switch.kmin",
        "15:transport.model",
        "18:collectives.all_reduce",
        "19:collectives.broadcats",
        "22:collectives.ring.step",
        "override link.xof",
        "override topology.tiers",
    }
    text = str(caught.value)
    assert f"{path}:5:topology.k: found 7, allowed: an even number from 2 to 128" in text
    assert "did you mean 'roce'?" in text
    assert "did you mean 'xoff'?" in text
    assert "did you mean 'broadcast'?" in text


def test_a_missing_value_is_placed_at_its_table(tmp_path):
    path = write(
        tmp_path, "c.toml", 'name = "c"\n\n[topology]\nkind = "star"\nrate = "1Gbps"\nlatency = "1us"\n'
    )
    with pytest.raises(ConfigError) as caught:
        Cluster.load(path)
    assert str(caught.value) == f"{path}:3:topology.hosts: missing"


def test_a_missing_topology(tmp_path):
    path = write(tmp_path, "c.toml", 'name = "c"\n')
    with pytest.raises(ConfigError, match=r"topology: missing, allowed: a table \[topology\]"):
        Cluster.load(path)


def test_a_faulty_cable_is_placed_at_its_line(tmp_path):
    path = write(
        tmp_path,
        "c.toml",
        '[topology]\nkind = "links"\nhosts = 2\nswitches = 1\ncables = [\n'
        '    ["h0", "s0", "1Gbps", "1us"],\n    # a comment, with [ and "\n'
        '    ["h1", "s1", "1Gbps", "1us"],\n]\n',
    )
    with pytest.raises(ConfigError) as caught:
        Cluster.load(path)
    assert str(caught.value).startswith(f"{path}:8:topology.cables[1]: unknown node 's1'")


# ---- the rule of units


def read(section, room="transport", impl="roce"):
    return read_values(section, fabricsim.fabrics.parameter_table().of(room, impl))


@pytest.mark.parametrize(
    ("key", "value", "name", "number"),
    [
        ("mtu", "4KiB", "mtu_bytes", 4096),
        ("mtu", 1024, "mtu_bytes", 1024),
        ("mtu_bytes", 1024, "mtu_bytes", 1024),
        ("rto", "4ms", "rto_ps", 4_000_000_000),
        ("ack_every", 2, "ack_every_count", 2),
        ("control_priority", True, "control_priority", 1),
    ],
)
def test_a_value_can_be_given_in_two_ways(key, value, name, number):
    assert read({key: value}) == ({name: number}, [])


@pytest.mark.parametrize("value", ["20%", "20 %", 0.2, "0.2"])
def test_shares(value):
    assert read({"ecn_pmax": value}, "switch", "ethernet") == ({"ecn_pmax_ppm": 200_000}, [])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mtu_bytes", "4KB", "allowed: "),
        ("mtu_bytes", True, "found True"),
        ("mtu_bytes", 1.5, "found 1.5"),
        ("mtu", "0.5B", "not a whole number"),
        ("mtu", None, "found None"),
        ("rto", 5, "a time without a unit"),
        ("rto_ps", -1, "found -1, allowed: "),
        ("ack_every", "2", "allowed: a whole number"),
        ("control_priority", 2, "found 2, allowed: 0 to 1"),
        ("control_priority", "yes", "allowed: true or false"),
        ("mut", 1, "did you mean 'mtu'?"),
    ],
)
def test_wrong_values(key, value, message):
    values, problems = read({key: value})
    assert values == {}
    assert len(problems) == 1 and message in problems[0][1]


@pytest.mark.parametrize("value", ["lots", "1/0", "-5%", "0.00000001", True, None, float("nan"), [1]])
def test_wrong_shares(value):
    values, problems = read({"ecn_pmax": value}, "switch", "ethernet")
    assert values == {} and len(problems) == 1


def test_both_spellings_at_once_are_an_error():
    assert "given twice" in read({"mtu": 1024, "mtu_bytes": 1024})[1][0][1]


# ---- TOML


def test_lines_of_keys():
    text = '# head\nname = """\n[fake]\n"""\n\n[a."b.c"]\nx = 1 # y = 2\n'
    text += '"q" = [\n  1,\n  [2,\n 3],\n]\nz.w = {u = 1}\n'
    lines = key_lines(text)
    tomllib.loads(text)
    assert lines[("name",)] == 2
    assert ("fake",) not in lines
    assert lines[("a", "b.c")] == 6
    assert lines[("a", "b.c", "x")] == 7
    assert lines[("a", "b.c", "q", 0)] == 9
    assert lines[("a", "b.c", "q", 1)] == 10
    assert lines[("a", "b.c", "z", "w")] == 13


def test_written_toml_reads_back():
    data = {
        "text": 'quote " slash \\ line\nend\x7f µ',
        "list": ["a", 1, 2.5, True],
        "nested": [["a", 1], ["b", 2]],
        "table": {"a b": 1, "inner": {"x": "y"}, "empty": {}},
    }
    assert tomllib.loads(write_toml(data)) == data


def test_an_algorithm_that_does_not_do_a_kind_is_told_with_its_place():
    with pytest.raises(ConfigError) as caught:
        star(collectives={"all_gather": "tree", "barrier": {"algorithm": "ring"}})
    text = str(caught.value)
    able = "ring, pairwise, halving_doubling"
    assert f"collectives.all_gather: found 'tree', which does no all_gather; allowed: {able}" in text
    assert (
        "collectives.barrier.algorithm: found 'ring', which does no barrier; allowed: dissemination" in text
    )


@pytest.mark.parametrize(
    "name", ["fat-tree-k16-100g-roce", "fat-tree-k8-400g-roce", "leaf-spine-64-400g-roce"]
)
def test_presets_have_dcqcn_as_published(name):
    cluster = Cluster.load(name)
    cc = setting(cluster, "cc")
    assert (cc["alpha_timer_ps"], cc["increase_timer_ps"], cc["decrease_timer_ps"]) == (55 * us, 55 * us, 0)
    assert (cc["byte_counter_bytes"], cc["fast_recovery_count"], cc["rate_ai_mbps"]) == (10_000_000, 5, 40)
    assert setting(cluster, "transport")["cnp_interval_ps"] == 50 * us


def test_another_kind_keeps_only_what_it_knows():
    star = {"kind": "star", "hosts": 4, "rate": "100Gbps", "host_rate": "50Gbps", "latency": "1us"}
    low = {"name": "x", "topology": star}
    torus = Cluster.from_dict(low, ["topology.kind=torus", "topology.x=4", "topology.y=4"])
    assert torus.topology().cable_rate_mbps[-1] == 100_000
