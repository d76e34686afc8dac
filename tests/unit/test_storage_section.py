"""The tables [[storage]] of a cluster: what they say, what is wrong with them, where the servers are."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from store_tables import store_table

import fabricsim.fabrics
from fabricsim.cluster import Cluster
from fabricsim.errors import ConfigError
from fabricsim.storage import core_files
from fabricsim.topology import Star
from fabricsim.topology.servers import with_server_hosts
from fabricsim.trace.files import make_files
from fabricsim.workload.rows import Rows

STAR = {"kind": "star", "hosts": 8, "rate": "100Gbps", "latency": "1us"}
LEAVES = {
    "kind": "leaf_spine",
    "leaves": 2,
    "spines": 1,
    "hosts_per_leaf": 2,
    "rate": "100Gbps",
    "latency": "1us",
}
NEW = {"attach": "*", "rate": "200Gbps", "latency": "2us"}


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    table = store_table()
    monkeypatch.setattr(fabricsim.fabrics, "parameter_table", lambda: table)


def cluster(*storage, topology=STAR, overrides=()) -> Cluster:
    data = {"name": "x", "topology": topology, "storage": list(storage)}
    return Cluster.from_dict(data, overrides)


def wrong(*storage, topology=STAR) -> str:
    with pytest.raises(ConfigError) as caught:
        cluster(*storage, topology=topology)
    return str(caught.value)


# ---- where the servers are


def test_new_hosts_come_behind_the_ranks_and_before_the_reducers():
    c = cluster({**NEW, "servers": 3, "meta_servers": 2, "attach": ["leaf*"]}, topology=LEAVES)
    t, before = c.topology(), Cluster.from_dict({"name": "x", "topology": LEAVES}).topology()
    assert (t.n_rank_hosts, t.n_storage_hosts, t.n_hosts) == (4, 5, 9)
    assert t.node_names[4:9] == ("oss0", "oss1", "oss2", "mds0", "mds1")
    assert t.node_names[9:] == before.node_names[4:]
    names = [t.link_name(2 * cable) for cable in range(before.n_cables, t.n_cables)]
    assert names == ["oss0->leaf0", "oss1->leaf1", "oss2->leaf0", "mds0->leaf1", "mds1->leaf0"]
    assert [t.link_name(link) for link in range(before.n_links)] == [
        before.link_name(link) for link in range(before.n_links)
    ]
    assert t.cable_rate_mbps[-5:].tolist() == [200_000] * 5
    assert t.cable_delay_ps[-5:].tolist() == [2_000_000] * 5
    assert t.node_tiers().tolist() == [0] * 9 + [1, 1, 2]
    with pytest.raises(ConfigError, match="allowed: 0 to 4"):
        c.rank_host(5)


def test_reducers_stay_last():
    nodes = Cluster.load("dgx-h100", ["topology.nodes=2"])
    data = nodes.model_dump() | {"storage": {**NEW, "attach": "group0.leaf[01]"}}
    t, before = Cluster.from_dict(data).topology(), nodes.topology()
    assert (t.n_reducers, t.n_rank_hosts) == (before.n_reducers, before.n_rank_hosts)
    assert t.node_names[t.reducer_first :] == before.node_names[before.reducer_first :]
    assert np.array_equal(t.node_tiers()[t.n_hosts :], before.node_tiers()[before.n_hosts :])


def test_hosts_of_the_topology_take_no_rank():
    c = cluster({"hosts": "last", "servers": 2})
    assert (c.topology().n_rank_hosts, c.topology().n_hosts) == (5, 8)
    store = c.stores()[0]
    assert (store["servers"].tolist(), store["meta"].tolist()) == ([5, 6], [7])
    c = cluster({"hosts": [7, 5, 6], "servers": 2})
    assert c.stores()[0]["servers"].tolist() == [7, 5]
    assert c.digest() != cluster({"hosts": "last", "servers": 2}).digest()


def test_two_file_systems():
    both = cluster(
        {"name": "a", "mount": "/a", "hosts": "last"},
        {"name": "b", "mount": "/b", "model": "weka", "servers": 5, "targets_per_server": 2, **NEW},
    )
    assert both.topology().node_names[8:13] == tuple(f"b.backend{i}" for i in range(5))
    first, second = both.stores()
    assert (first["servers"].tolist(), first["meta"].tolist()) == ([6], [7])
    assert second["servers"].tolist() == second["meta"].tolist() == [8, 9, 10, 11, 12]
    assert second["targets"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    found = [(room, impl, number) for room, impl, _, number in both.settings()[5:9]]
    assert found == [
        ("store", "lustre", 0),
        ("target", "flash", 0),
        ("store", "weka", 1),
        ("target", "flash", 1),
    ]


def test_local_servers_are_the_clients():
    c = cluster({"model": "local"})
    assert c.topology().n_hosts == c.topology().n_rank_hosts == 8
    store = c.stores()[0]
    assert [store[name].tolist() for name in ("servers", "targets", "meta")] == [[], [], []]


def test_a_topology_without_servers_is_as_before():
    t = Star(hosts=2, rate_mbps=1, latency_ps=1).build()
    assert (t.storage_first, t.n_storage_hosts, t.n_reducers) == (2, 0, 0)
    made = with_server_hosts(t, ["s"], [2], rate_mbps=5, delay_ps=7, latency_ps=9)
    assert made.node_latency_ps.tolist() == [0, 0, 9, 0]
    assert "1 storage servers" in repr(made)


# ---- what they say


def test_values_go_to_the_settings_by_their_short_names():
    given = {"rpc_size": "1MiB", "stripe_size": "4MiB", "cache": False, "cache_bytes": 5, "open": "1us"}
    c = cluster({**NEW, **given, "target": {"model": "disk", "seek": "4ms"}})
    values = {room: values for room, _, values, *_ in c.settings()}
    assert values["store"] == {
        "rpc_bytes": 1 << 20,
        "cache": 0,
        "cache_bytes": 5,
        "stripe_bytes": 4 << 20,
        "stripe_count": 1,
        "open_ps": 1_000_000,
    }
    assert values["target"] == {"seek_ps": 4_000_000_000}


def test_pairs_take_over():
    c = cluster({**NEW, "servers": 3, "meta_servers": 2, "failover": "pairs"})
    store = c.stores()[0]
    assert (store["partners"].tolist(), store["meta_partners"].tolist()) == ([1, 0, -1], [4, 3])
    failures = [
        {"server": "mds0", "at": "1s", "takeover": "2s"},
        {"server": "oss2", "at": "500ms", "back": "1s"},
    ]
    c = cluster({**NEW, "servers": 3, "meta_servers": 2, "failover": [["mds0", "mds1"]], "failure": failures})
    store = c.stores()[0]
    assert (store["partners"].tolist(), store["meta_partners"].tolist()) == ([-1, -1, -1], [4, 3])
    half, second = 500_000_000_000, 1_000_000_000_000
    assert store["failures"].tolist() == [[half, 2, half + second], [second, 3, 3 * second]]


def test_layouts_and_slow_targets():
    parts = [{"end": "1MiB", "on_meta": True}, {"end": "64MiB", "stripe_count": 1}, {"stripe_count": -1}]
    layouts = [
        {"path": "/a", "components": parts},
        {"path": "/a/b", "stripe_count": 2, "stripe_size": "2MiB", "first_target": 3, "mirrors": 2},
    ]
    slow = [{"target": 3, "at": "1s", "factor": 0.5, "for": "1s"}, {"target": 1, "factor": "25%"}]
    c = cluster({**NEW, "targets_per_server": 4, "layout": layouts, "slow": slow})
    mib = 1 << 20
    assert c.stores()[0]["layouts"].tolist() == [
        [1, 0, 0, mib, mib, 1, -1, 1],
        [1, 0, mib, 64 * mib, mib, 1, -1, 0],
        [1, 0, 64 * mib, -1, mib, -1, -1, 0],
        [2, 0, 0, -1, 2 * mib, 2, 3, 0],
        [2, 1, 0, -1, 2 * mib, 2, 1, 0],
    ]
    second = 10**12
    assert c.stores()[0]["slow"].tolist() == [
        [0, 1, 250_000],
        [second, 3, 500_000],
        [2 * second, 3, 1_000_000],
    ]


def test_files_get_their_layouts_and_directories_their_stripes():
    one = {
        **NEW,
        "mount": "/s",
        "meta_servers": 4,
        "layout": [{"path": "/s/a", "stripe_count": 4}, {"path": "/s/a/b/", "stripe_count": 8}],
        "directory": [{"path": "/s/a", "stripes": -1}, {"path": "/s/a/b", "stripes": 2}],
    }
    c = cluster(one, {"name": "fast", "model": "local", "mount": "/n"})
    paths = ["/s/x", "/s/a/x", "/s/ab", "/s/a/b/c", "/n/y", "/s/a/x"]
    rows = Rows()
    for path in paths:
        rows.read([0], path, 10)
    files = make_files(rows.trace(), [one.mount for one in c.storage])
    assert files is not None
    found = core_files(files, c.storage)
    by_path = dict(zip(files.paths.to_pylist(), found["layout"].tolist(), strict=True))
    assert by_path == {"/s/x": 0, "/s/a/x": 1, "/s/ab": 0, "/s/a/b/c": 2, "/n/y": 0}
    assert by_path == {path: c.storage[path[1] == "n"].layout_of(path) for path in by_path}
    stripes = dict(zip(files.directories.to_pylist(), found["directory_stripes"].tolist(), strict=True))
    assert stripes == {"/s": 1, "/s/a": 4, "/s/a/b": 2, "/n": 1}
    assert found["store"].tolist() == [0, 0, 0, 0, 1]


def test_clusters_with_storage_read_back():
    c = cluster(
        {**NEW, "name": "a", "mount": "/a", "failover": [["oss0", "oss1"]], "servers": 2, "rpc_size": "1MiB"},
        {"name": "b", "model": "beegfs", "hosts": [6, 7], "layout": {"path": "/x", "stripe_count": 1}},
        {"name": "c", "model": "local", "mount": "/c", "target": {"write": "1GB/s"}},
    )
    text = c.to_toml()
    assert text.count("[[storage]]") == 3 and "[storage.target]" in text
    again = Cluster.from_dict(tomllib.loads(text))
    assert again == c and again.digest() == c.digest()
    assert Cluster.model_validate(c.model_dump(mode="json")) == c
    assert json.loads(c.model_dump_json())["storage"][0]["rpc_bytes"] == 1 << 20
    assert ("storage.a", "lustre at /a: 2 oss of 1 target, 1 mds") in c.describe()
    assert ("storage.a.rpc_bytes", "1 MiB (default 4 MiB)") in c.describe()
    assert len({c, again}) == 1


def test_names_do_not_count_in_the_digest_and_all_else_does():
    first = cluster(NEW).digest()
    assert cluster({**NEW, "name": "other"}).digest() == first
    assert cluster({**NEW, "rpc_size": "4MiB"}).digest() == first
    changes = [
        {"mount": "/x"},
        {"rpc_size": "1MiB"},
        {"targets_per_server": 2},
        {"slow": {"target": 0, "factor": 0.5}},
        {"directory": {"path": "/d", "stripes": 2}},
        {"target": {"write": "1GB/s"}},
    ]
    assert len({cluster({**NEW, **change}).digest() for change in changes} | {first}) == len(changes) + 1


def test_the_schema_has_every_model_with_its_parameters():
    schema = Cluster.json_schema()["properties"]["storage"]
    assert "$ref" not in json.dumps(schema)
    choices = schema["oneOf"][0]["oneOf"]
    assert [choice["properties"]["model"]["const"] for choice in choices] == [
        "lustre",
        "beegfs",
        "weka",
        "local",
    ]
    assert {"stripe_count", "rpc", "attach", "layout"} <= set(choices[0]["properties"])


# ---- overrides and layers


def test_a_single_table_is_one_and_overrides_change_it(tmp_path):
    base = tmp_path / "base.toml"
    base.write_text(
        'name = "x"\n[topology]\nkind = "star"\nhosts = 4\nrate = "1Gbps"\nlatency = "1us"\n'
        '[storage]\nattach = "*"\nrate = "1Gbps"\nlatency = "1us"\nstripe_count = 4\n'
        '[storage.target]\nwrite = "1GB/s"\n'
    )
    c = Cluster.load(base, ["storage.servers=3", "storage.rpc_size=1MiB", "storage.target.write=2GB/s"])
    one = c.storage[0]
    assert (one.servers, one.params) == (3, {"rpc_bytes": 1 << 20, "stripe_count": 4})
    assert one.target.params == {"write_mbps": 16_000}
    # another model keeps where the servers are, and not the parameters
    top = tmp_path / "top.toml"
    top.write_text('extends = "base.toml"\n[storage]\nmodel = "weka"\n')
    one = Cluster.load(top).storage[0]
    assert (one.model, one.attach, one.params) == ("weka", ("*",), {})
    more = tmp_path / "more.toml"
    more.write_text('extends = "base.toml"\n[[storage]]\nmodel = "local"\n')
    assert [one.model for one in Cluster.load(more).storage] == ["local"]


def test_an_override_names_one_of_several():
    two = {**NEW, "name": "a", "mount": "/a"}, {"model": "local", "name": "b", "mount": "/b"}
    c = cluster(*two, overrides=["storage.a.servers=3", "storage.b.mount=/c", "storage.a.target.write=1GB/s"])
    assert (c.storage[0].servers, c.storage[1].mount) == (3, "/c")
    assert c.storage[0].target.params == {"write_mbps": 8000}
    with pytest.raises(ConfigError, match=r"override storage.a.servers: found 0, allowed: >= 1"):
        cluster(*two, overrides=["storage.a.servers=0"])
    # one file system may be named too, or not
    assert cluster({**NEW, "name": "a"}, overrides=["storage.a.servers=2"]).storage[0].servers == 2


def test_every_error_is_told_with_its_line(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        "\n".join(
            [
                '[topology]\nkind = "star"\nhosts = 4\nrate = "1Gbps"\nlatency = "1us"',  # lines 1 to 5
                '[[storage]]\nname = "a"\nattach = "*"\nrate = "1Gbps"\nlatency = "1us"\nrpc_sise = "1MiB"',
                '[[storage]]\nname = "b"\nmodel = "luster"',
                '[[storage]]\nname = "c"\nattach = "*"\nrate = "1Gbps"\nlatency = "1us"',
                "[[storage.slow]]\ntarget = 0\nfactor = 0.5\n[[storage.slow]]\ntarget = 7\nfactor = 0.5",
            ]
        )
    )
    with pytest.raises(ConfigError) as caught:
        Cluster.load(path)
    first, second, third = str(caught.value).splitlines()
    assert first.startswith(f"{path}:11:storage[0].rpc_sise: unknown key")
    assert second.startswith(f"{path}:14:storage[1].model: unknown model 'luster'; did you mean 'lustre'?")
    assert third.startswith(f"{path}:24:storage[2].slow[1].target: found 7, allowed: 0 to 0, the targets")
    with pytest.raises(ConfigError, match=r"override storage.rpc_size: found 'x'"):
        cluster(NEW, overrides=["storage.rpc_size=x"])


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({}, "found neither attach nor hosts"),
        ({**NEW, "hosts": "last"}, "found attach and hosts"),
        ({"attach": "*"}, 'rate: missing, allowed: rate = "400Gbps"'),
        ({**NEW, "attach": "leaf*"}, "attach: found 'leaf*', which no switch matches"),
        ({"hosts": [0, 1]}, "found 0, allowed: 1 to 7; host 0 is that of rank 0"),
        ({"hosts": [4, 5]}, "hosts: leave host 6 between them, allowed: the last hosts"),
        ({"hosts": [7]}, "hosts: found 1 hosts, allowed: 2, one a server"),
        ({"hosts": "last", "servers": 8}, "found -1, allowed: 1 to 7"),
        ({**NEW, "mount": "x"}, "mount: found 'x', allowed: a path from / on"),
        ({**NEW, "model": "weka", "meta_servers": 1}, "meta_servers: allowed: without it"),
        ({"model": "local", "attach": "*"}, "attach: allowed: without it with local"),
        ({"model": "local", "targets_per_server": 2}, "targets_per_server: found 2, allowed: 1"),
        ({**NEW, "failover": "both"}, 'failover: found \'both\', allowed: "none", "pairs"'),
        ({**NEW, "failover": [["oss0", "oss1"]]}, "failover[0]: unknown server 'oss1'"),
        ({**NEW, "failover": [["oss0", "mds0"]]}, "allowed: two servers of data, or two of metadata"),
        ({**NEW, "failure": {"server": "oss0", "at": "1s"}}, "allowed: one of back"),
        ({**NEW, "failure": {"server": "oss0", "at": "1s", "takeover": "1s"}}, "oss0 has no partner"),
        ({**NEW, "layout": {"path": "/x", "stripe_count": 0}}, "stripe_count: found 0, allowed: 1 or more"),
        ({**NEW, "layout": {"path": "/x", "first_target": 1}}, "first_target: found 1, allowed: 0 to 0"),
        ({**NEW, "mount": "/m", "layout": {"path": "/x"}}, "allowed: a path under the mount, /m"),
        ({**NEW, "layout": [{"path": "/x"}, {"path": "/x/"}]}, "found '/x/' again, allowed: once"),
        ({**NEW, "model": "weka", "layout": {"path": "/x"}}, "layout: allowed: none with the model weka"),
        (
            {**NEW, "layout": {"path": "/x", "components": [{"end": "1MB"}]}},
            "components[0].end: allowed: without it",
        ),
        ({**NEW, "stripe_count": 0}, "stripe_count: found 0, allowed: 1 or more"),
        ({**NEW, "stripe_size": "1MB"}, "stripe_size: found 1000000, allowed: a multiple of 64 KiB"),
        ({**NEW, "layout": {"path": "/x", "components": [{}, {}]}}, "components[0].end: missing"),
        (
            {**NEW, "model": "weka", "failure": {"server": "backend0", "at": "1s", "back": "1s"}},
            "do not fail",
        ),
        ({**NEW, "directory": {"path": "/x", "stripes": 0}}, "stripes: found 0, allowed: 1 or more"),
        ({**NEW, "slow": {"target": 0, "factor": 2}}, "factor: found 2, allowed: more than 0, up to 1"),
        ({**NEW, "stripe_size": "1MiB", "stripe_bytes": 5}, "stripe_bytes: given twice"),
        ({**NEW, "servers": 1100}, "a switch of 1,109 ports, allowed: at most 1,023"),
    ],
)
def test_what_is_wrong_is_said(table, text):
    assert text in wrong(table)


def test_two_of_a_name_or_mount_are_refused():
    assert "found two of name 'lustre'" in wrong({**NEW, "mount": "/a"}, NEW)
    assert "found two of mount '/'" in wrong({**NEW, "name": "a"}, NEW)
    assert "allowed: at most 4" in wrong(*({**NEW, "name": f"n{i}", "mount": f"/{i}"} for i in range(5)))
    taken = {"name": "a", "mount": "/a", "hosts": [7, 6]}
    assert "found host 6, which is a server of storage[0]" in wrong(taken, {"hosts": [5, 6]})


def test_a_topology_of_scale_up_alone_has_no_switch_for_servers():
    assert "allowed: with a scale-out network" in wrong({**NEW, "attach": "*"}, topology=_box())


def _box():
    return {
        "kind": "nodes",
        "nodes": 1,
        "gpus_per_node": 4,
        "scale_up_rate": "1Tbps",
        "scale_up_latency": "1us",
        "fabric": "none",
    }


def test_the_example_of_the_docs_is_a_file_system():
    page = Path(__file__).resolve().parents[2] / "docs" / "cluster-file.md"
    blocks = page.read_text().split("```toml\n")
    (text,) = (block.split("```")[0] for block in blocks if block.startswith("[[storage]]"))
    one = Cluster.from_dict({"name": "x", "topology": LEAVES} | tomllib.loads(text)).storage[0]
    assert [part.stripe_count for part in one.layout[0].components] == [1, -1]
    assert one.failure_rows().tolist() == [[30 * 10**12, 1, 50 * 10**12]]
