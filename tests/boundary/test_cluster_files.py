"""Bad cluster and topology files: a clear error with its place, never a crash."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from fabricsim.cluster import Cluster
from fabricsim.errors import ConfigError
from fabricsim.platforms import preset_path
from fabricsim.topology import KINDS

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

GOOD = preset_path("leaf-spine-64-400g-roce").read_bytes()
TOPOLOGY = b"4 2 4\n2 3\n0 2 100Gbps 1us 0\n1 3 100Gbps 1us 0\n2 3 400Gbps 1us 0\n2 3 400Gbps 1us 0\n"


def load(path: Path, content: bytes):
    """Load bytes as a cluster file: a cluster, or the error's text."""
    path.write_bytes(content)
    try:
        return Cluster.load(path)
    except ConfigError as error:
        assert error.exit_code == 2
        return str(error)


@QUIET
@given(st.binary(max_size=200))
def test_random_bytes(tmp_path, content):
    assert isinstance(load(tmp_path / "c.toml", content), str)


@QUIET
@given(st.integers(0, len(GOOD)))
def test_truncated_files(tmp_path, size):
    path = tmp_path / "c.toml"
    result = load(path, GOOD[:size])
    assert isinstance(result, Cluster) or str(path) in result


@QUIET
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte(tmp_path, at, byte):
    path = tmp_path / "c.toml"
    result = load(path, GOOD[:at] + bytes([byte]) + GOOD[at + 1 :])
    assert isinstance(result, Cluster) or str(path) in result


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "name",
        "sources",
        "topology",
        "switch",
        "link",
        "transport",
        "congestion_control",
        "collectives",
        "accelerator",
        "scale_up",
    ]
)
FIELDS = st.sampled_from(
    [
        "kind",
        "model",
        "hosts",
        "k",
        "rate",
        "latency",
        "mtu",
        "ecn_pmax",
        "all_reduce",
        "ring",
        "cables",
        "name",
    ]
)


@QUIET
@given(st.dictionaries(KEYS, JSON | st.dictionaries(FIELDS, JSON, max_size=4), max_size=4))
def test_values_of_wrong_types(data):
    with pytest.raises(ConfigError):
        Cluster.from_dict({"topology": {"kind": "star"}} | data)


@st.composite
def made_topologies(draw):
    """A topology of any kind, whose fields have small numbers, words that some kind knows, or anything."""
    kind = draw(st.sampled_from([kind for kind in KINDS if kind != "file"]))
    cls = KINDS[kind]
    fields = [*cls.model_fields, *cls.short_fields()]
    words = st.sampled_from(["switch", "mesh", "none", "rails", "racks", "100Gbps", "1us", True, "0ns"])
    table = draw(st.dictionaries(st.sampled_from(fields), st.integers(-1, 5) | words | JSON, max_size=12))
    needed = {
        name: draw(st.integers(1, 5))
        for name, field in cls.model_fields.items()
        if field.is_required() and draw(st.booleans())
    }
    return {"rate_mbps": 1000, "latency_ps": 10} | needed | table | {"kind": kind}


@QUIET
@given(made_topologies())
def test_topologies_of_odd_numbers(table):
    try:
        t = Cluster.from_dict({"name": "x", "topology": table}, where="c.toml").topology()
    except ConfigError as error:
        assert "c.toml:topology" in str(error) or "topology: " in str(error)
    else:
        assert t.n_rank_hosts >= 1


@QUIET
@given(st.text(max_size=30))
def test_random_overrides(text):
    try:
        Cluster.load("v100-8", [text])
    except ConfigError as error:
        assert "override" in str(error) or "\n" in text


@QUIET
@given(KEYS, FIELDS, st.text(max_size=12))
def test_overrides_with_random_values(section, field, value):
    try:
        Cluster.load("v100-8", [f"{section}.{field}={value}"])
    except ConfigError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "topology: missing"),
        ("name = 1\n[topology]\n", ":1:name: found 1, allowed: a text"),
        ("topology = 3\n", ":1:topology: found 3, allowed: a table"),
        ('[topology]\nkind = "ring"\n', ":2:topology.kind: unknown kind 'ring'"),
        ("[topology]\nkind = 5\n", ":2:topology.kind: unknown kind '5'"),
        ("[topology]\nk = 4\n", ":1:topology.kind: missing, allowed: one of fat_tree"),
        ("x = \n", ":1:5: not valid TOML"),
        ("[a]\n[a]\n", ": not valid TOML"),
        ('extends = "nothing"\n', ":1:extends: found 'nothing', which is no file and no preset"),
        ("extends = 3\n", ":1:extends: found 3, allowed: a preset or a TOML file"),
        ('[topology]\nkind = "file"\npath = "no.txt"\n', "no.txt: cannot be read: No such file"),
        ("x = " + "[" * 5000, "not valid TOML: "),
    ],
)
def test_bad_cluster_files(tmp_path, text, message):
    path = tmp_path / "c.toml"
    result = load(path, text.encode())
    assert isinstance(result, str)
    assert result.startswith(str(path)) and message in result


@pytest.mark.parametrize("text", ["", "transport.mtu", "=3", "transport.=3", ".mtu=3", "extends=v100-8"])
def test_malformed_overrides(text):
    with pytest.raises(ConfigError, match="override"):
        Cluster.load("v100-8", [text])


def test_all_malformed_overrides_are_told():
    with pytest.raises(ConfigError) as caught:
        Cluster.load("v100-8", ["a", "b", "transport.mtu=1024"])
    assert len(caught.value.problems) == 2


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ConfigError, match="is no file and no preset; did you mean 'v100-8'"):
        Cluster.load("v100-9")
    with pytest.raises(ConfigError, match="is a folder"):
        Cluster.load(tmp_path)


# ---- topology files


def load_topology(folder: Path, content: bytes):
    (folder / "t.txt").write_bytes(content)
    return load(folder / "c.toml", b'[topology]\nkind = "file"\npath = "t.txt"\n')


def test_the_good_topology_file(tmp_path):
    assert load_topology(tmp_path, TOPOLOGY).topology().n_links == 8


@QUIET
@given(st.binary(max_size=100))
def test_random_topology_files(tmp_path, content):
    assert isinstance(load_topology(tmp_path, content), str)


@QUIET
@given(st.integers(0, len(TOPOLOGY) - 3))
def test_truncated_topology_files(tmp_path, size):
    result = load_topology(tmp_path, TOPOLOGY[:size])
    assert isinstance(result, Cluster) or "t.txt" in result


@QUIET
@given(st.integers(0, len(TOPOLOGY) - 1), st.integers(0, 255))
def test_a_changed_byte_in_a_topology_file(tmp_path, at, byte):
    result = load_topology(tmp_path, TOPOLOGY[:at] + bytes([byte]) + TOPOLOGY[at + 1 :])
    assert isinstance(result, Cluster) or "t.txt" in result


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"0 2 100Gbps", b"0 9 100Gbps", "t.txt:3: found node '9', allowed: 0 to 3"),
        (b"0 2 100Gbps", b"0 0 100Gbps", "t.txt:3: cable 0 (host0 - host0): joins a node with itself"),
        (b"0 2 100Gbps", b"0 2 0Gbps", "t.txt:3: found '0Gbps', a rate of zero"),
        (
            b"0 2 100Gbps 1us",
            b"0 2 100Gbps 0us",
            "t.txt:3: cable 0 (host0 - switch2): found 0, allowed: a delay",
        ),
        (b"1us 0\n1 3", b"1us 0.01\n1 3", "t.txt:3: found error rate 0.01, allowed: 0"),
        (b"1us 0\n1 3", b"1us x\n1 3", "t.txt:3: found error rate 'x'"),
        (b"1us 0\n1 3", b"1us 0 0\n1 3", "t.txt:3: found 6 words"),
        (b"4 2 4", b"4 2 5", "t.txt:1: found 4 cables in the file, allowed: 5"),
        (b"4 2 4", b"4 2", "t.txt:1: found '4 2', allowed: 'nodes switches links'"),
        (b"4 2 4", b"4 8 2 4 4 H100", "hosts of several cables"),
        (b"4 2 4", b"99999999999 2 4", "t.txt:1: found "),
        (b"2 3\n0", b"2 7\n0", "t.txt:2: found '7', allowed: a switch 0 to 3"),
        (b"2 3\n0", b"2 2\n0", "t.txt:1: found 1 different switches, allowed: 2"),
        (b"1 3 100Gbps", b"1 2 100Gbps", None),
        (b"1 3 100Gbps", b"0 3 100Gbps", "host host0 has 2 cables"),
    ],
)
def test_bad_topology_files(tmp_path, old, new, message):
    assert old in TOPOLOGY
    result = load_topology(tmp_path, TOPOLOGY.replace(old, new))
    if message is None:
        assert isinstance(result, Cluster)
    else:
        assert isinstance(result, str)
        assert ":3:topology.path: " in result and message in result


def test_all_faulty_lines_are_told(tmp_path):
    result = load_topology(tmp_path, TOPOLOGY.replace(b"100Gbps", b"fast"))
    assert "t.txt:3: " in result and "t.txt:4: " in result
