"""The table [scale_up]: settings of the second network, overrides, errors, models that go together."""

from __future__ import annotations

import tomllib

import pytest

import fabricsim.fabrics
from fabricsim.cluster import Cluster
from fabricsim.errors import ConfigError
from fabricsim.fabrics.combinations import combination_issues
from fabricsim.fabrics.models import (
    CongestionControlModel,
    LinkModel,
    ModelSection,
    RoutingModel,
    SwitchModel,
    TransportModel,
)

TOPOLOGY = {
    "kind": "nodes",
    "nodes": 2,
    "gpus_per_node": 2,
    "scale_up_rate": "450GB/s",
    "scale_up_latency": "100ns",
    "spines": 1,
    "rate": "400Gbps",
    "latency": "200ns",
}
PAUSE = {
    "switch": {"model": "ethernet", "cut_through": True, "ecn": False},
    "link": {"model": "pause"},
    "transport": {"model": "roce", "mtu": "2KB"},
}


def nodes(*overrides: str, **sections) -> Cluster:
    sections = {"scale_up": PAUSE} | sections
    return Cluster.from_dict({"name": "x", "topology": TOPOLOGY, **sections}, overrides, where="c.toml")


def test_settings_of_both_networks():
    cluster = nodes(transport={"mtu": 4096})
    mtu = {
        rest[0] if rest else 0: v["mtu_bytes"]
        for room, _, v, *rest in cluster.settings()
        if room == "transport"
    }
    assert mtu == {0: 4096, 1: 2000}
    rooms = [(room, name) for room, name, _, *rest in cluster.settings() if rest == [1]]
    assert rooms == [
        ("switch", "ethernet"),
        ("link", "pause"),
        ("route", "ecmp"),
        ("transport", "roce"),
        ("cc", "none"),
    ]


def test_a_cluster_without_a_scale_up_network_has_no_settings_for_it():
    cluster = nodes("topology.scale_up=none")
    assert all(len(setting) == 3 for setting in cluster.settings())
    assert "scale-up" not in repr(cluster)


def test_it_reads_back_and_counts_in_the_digest():
    cluster = nodes()
    again = Cluster.from_dict(tomllib.loads(cluster.to_toml()))
    assert again == cluster and again.digest() == cluster.digest() and hash(again) == hash(cluster)
    assert nodes("scale_up.transport.mtu=1024").digest() != cluster.digest()
    assert Cluster.model_validate(cluster.model_dump(mode="json")) == cluster


def test_it_is_told():
    cluster = nodes()
    rows = dict(cluster.describe())
    assert rows["scale_up.switch"] == "ethernet"
    assert rows["scale_up.transport.mtu_bytes"].startswith("2 KB")
    assert repr(cluster).endswith("ethernet, pause, roce, dcqcn; scale-up ethernet, pause, roce>")


def test_layers_merge_table_by_table(tmp_path):
    (tmp_path / "low.toml").write_text(nodes().to_toml())
    top = tmp_path / "top.toml"
    top.write_text(
        'extends = "low.toml"\n[scale_up.transport]\nack_every = 4\n[scale_up.link]\nmodel = "lossy"\n'
    )
    cluster = Cluster.load(top, ["scale_up.switch.ecn=true"])
    assert cluster.scale_up.transport.params == {"mtu_bytes": 2000, "ack_every_count": 4}
    assert cluster.scale_up.link.model == "lossy"
    assert cluster.scale_up.switch.params == {"cut_through": 1, "ecn": 1}


@pytest.mark.parametrize(
    ("override", "where", "message"),
    [
        ("scale_up.switch.model=crossbar", "override scale_up.switch.model", "unknown model 'crossbar'"),
        ("scale_up.transport.mtus=1", "override scale_up.transport.mtus", "did you mean 'mtu'"),
        ("scale_up.transport.mtu=1", "override scale_up.transport.mtu", "allowed:"),
        ("scale_up.switches=1", "override scale_up.switches", "did you mean 'switch'"),
        ("scale_up=1", "override scale_up", "found 1, allowed: a table"),
        (
            "scale_up.congestion_control.model=5",
            "override scale_up.congestion_control.model",
            "unknown model",
        ),
    ],
)
def test_errors_have_their_place(override, where, message):
    with pytest.raises(ConfigError) as caught:
        nodes(override)
    (problem,) = caught.value.problems
    assert problem.where == where and message in problem.message


def test_errors_of_both_networks_are_told_together(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        nodes().to_toml().replace('[switch]\nmodel = "ethernet"', '[switch]\nmodel = "ethernet"\nbuf = 1')
    )
    with pytest.raises(ConfigError) as caught:
        Cluster.load(path, ["scale_up.switch.buf=1"])
    first, second = caught.value.problems
    assert first.where.startswith(f"{path}:") and first.where.endswith(":switch.buf")
    assert second.where == "override scale_up.switch.buf"


def test_the_schema_has_it():
    table = fabricsim.fabrics.parameter_table()
    scale_up = Cluster.json_schema()["properties"]["scale_up"]["properties"]
    assert list(scale_up) == ["switch", "link", "routing", "transport", "congestion_control"]
    models = [choice["properties"]["model"]["const"] for choice in scale_up["transport"]["oneOf"]]
    assert models == list(table.implementations["transport"])


# ---- what goes together


def section(cls: type[ModelSection], model: str) -> ModelSection:
    return cls.model_construct(model=model, params={})


def together(kind="nodes", **models: str) -> list[str]:
    made = {
        "switch": "ethernet",
        "link": "pause",
        "routing": "ecmp",
        "transport": "roce",
        "congestion_control": "none",
    }
    classes = (SwitchModel, LinkModel, RoutingModel, TransportModel, CongestionControlModel)
    sections = {cls.section: section(cls, (made | models)[cls.section]) for cls in classes}
    return [f"{'.'.join(map(str, loc))}: {text}" for loc, text, _ in combination_issues(sections, kind)]


@pytest.mark.parametrize(
    "models",
    [
        {},
        {"congestion_control": "dcqcn"},
        {"congestion_control": "timely"},
        {"switch": "voq", "link": "credit", "transport": "rc", "congestion_control": "ib_cc"},
        {"switch": "voq", "link": "credit", "transport": "ici", "routing": "torus", "kind": "torus"},
        {"link": "lossy", "transport": "srd", "routing": "spray", "congestion_control": "srd_cc"},
    ],
)
def test_models_that_go_together(models):
    assert together(**models) == []


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"switch": "voq"}, "link.model: found 'pause', allowed: credit with the switch voq"),
        ({"link": "credit"}, "switch.model: found 'ethernet', allowed: voq with credit links"),
        ({"routing": "torus"}, "routing.model: found 'torus', allowed: a route that a nodes has"),
        (
            {"congestion_control": "ib_cc"},
            "congestion_control.model: found 'ib_cc', allowed: none or another",
        ),
        ({"congestion_control": "srd_cc"}, "it goes with transport.model = srd"),
        (
            {"transport": "srd", "congestion_control": "swift"},
            "allowed: srd_cc or none with the transport srd",
        ),
        (
            {"switch": "voq", "link": "credit", "congestion_control": "hpcc"},
            "it goes with switch.model = ethernet, whose telemetry it reads",
        ),
    ],
)
def test_models_that_do_not_go_together(models, message):
    (found,) = together(**models)
    assert message in found


def test_all_that_does_not_go_together_is_told():
    assert len(together(switch="voq", routing="torus", congestion_control="dcqcn")) == 3


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (
            'kind = "nodes"\nnodes = 2\ngpus_per_node = 8\nscale_up = "none"\nfabric = "rials"\n'
            'rate = "1Gbps"\n',
            {"6:topology.fabric": "found 'rials', allowed: 'rails', 'racks' or 'none'"},
        ),
        (
            'kind = "nodes"\nnodes = 2\ngpus_per_node = 8\nscale_up_rate = "450GB/s"\n'
            'scale_up_latency = "0ns"\nrate = "400Gbps"\nlatency = "1us"\nnic_per_node = 4\n',
            {
                "6:topology.scale_up_latency": "found 0, allowed: more than 0",
                "9:topology.nic_per_node": "did you mean 'nics_per_node'",
            },
        ),
        (
            'kind = "torus"\nx = 6\ny = 4\nz = 8\ntwisted = true\nrate = "45GB/s"\nlatency = "1us"\n',
            {
                "3:topology.x": "found 6, allowed: 1 to 4, or a multiple of 4",
                "6:topology.twisted": "found true with 6 x 4 x 8",
            },
        ),
        (
            'kind = "circuits"\nracks = 4\nhosts_per_rack = 1\nslot = "1us"\ndark = "2us"\nrate = "1Gbps"\n'
            'latency = "1us"\nrounds = [\n  [[0, 1]],\n  [[0, 4]],\n]\n',
            {
                "6:topology.dark": "found 2000000, allowed: less than a slot",
                "11:topology.rounds[1]": "found [0, 4], allowed: two racks of 0 to 3",
            },
        ),
    ],
)
def test_faults_of_topologies_name_file_line_and_key(tmp_path, text, places):
    path = tmp_path / "c.toml"
    path.write_text("[topology]\n" + text)
    with pytest.raises(ConfigError) as caught:
        Cluster.load(path)
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert sorted(found) == sorted(f"{path}:{place}" for place in places)
    assert all(message in found[f"{path}:{place}"] for place, message in places.items())


def test_models_that_do_not_go_together_are_told_with_their_lines(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        '[topology]\nkind = "star"\nhosts = 4\nrate = "1Gbps"\nlatency = "1us"\n[switch]\nmodel = "voq"\n'
        '[routing]\nmodel = "torus"\n[scale_up.link]\nmodel = "pause"\n'
    )
    with pytest.raises(ConfigError) as caught:
        Cluster.load(path)
    assert [problem.where for problem in caught.value.problems] == [
        f"{path}:link.model",
        f"{path}:9:routing.model",
        f"{path}:congestion_control.model",
        f"{path}:11:scale_up.link.model",
    ]
