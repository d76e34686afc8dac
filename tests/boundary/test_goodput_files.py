"""Whatever a study of goodput is given, it runs or says what is wrong."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabricsim.errors import ConfigError, InputError
from fabricsim.goodput import GoodputConfig, simulate
from fabricsim.goodput.failures import read_failures

GOOD = {
    "job": {"nodes": 2, "wall": "1h", "spares": 1, "no_spare": "wait"},
    "checkpoint": {"mode": "sync", "save": "10s", "interval": "5min"},
    "component": [{"name": "gpu", "per": "gpu", "mtbf_hours": 40.0, "effect": "replace"}],
    "event": [{"at": "5min", "component": "gpu"}],
    "corruption": {
        "source": [{"name": "core", "where": "compute", "fit": 1e7}],
        "detector": [{"method": "abft"}],
    },
}
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
VALUES |= st.sampled_from(
    ["async", "young", "0s", "3h", "shrink", "storage", "llama3-405b", [], {}, [[]], [{}]]
)
VALUES |= st.dictionaries(st.sampled_from(["mode", "name", "at", "save"]), st.integers() | st.just([]))


def places(value, place=()):
    yield place
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*place, key))
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from places(one, (*place, i))


def changed(value, place, new):
    if not place:
        return new
    made = dict(value) if isinstance(value, dict) else list(value)
    made[place[0]] = changed(value[place[0]], place[1:], new)
    return made


@settings(max_examples=120, deadline=None)
@given(st.sampled_from([place for place in places(GOOD) if place]), VALUES)
def test_any_value_anywhere(place, value):
    data = changed(GOOD, place, value)
    with contextlib.suppress(ConfigError, InputError):
        config = GoodputConfig.from_dict(data)
        run = simulate(config).runs[0]
        assert sum(run.parts.values()) == run.wall_ps


@pytest.mark.parametrize("override", ["checkpoint=3", "checkpoint.mode=[]", "job=[]", "x.y=1"])
def test_overrides_of_any_shape(override):
    with pytest.raises(ConfigError):
        GoodputConfig.load("llama3-405b", [override])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["csv", "toml", "arrow", "txt"]), st.booleans())
def test_any_bytes_as_a_list_of_failures(tmp_path_factory, data, ending, headed):
    path = tmp_path_factory.mktemp("failures") / f"events.{ending}"
    head = {"csv": b"at,component,item\n", "toml": b"[[event]]\n", "arrow": b"ARROW1\0\0", "txt": b"at\n"}
    path.write_bytes((head[ending] if headed else b"") + data)
    with contextlib.suppress(InputError):
        assert all(event.component == "gpu" for event in read_failures(path, ["gpu"]))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_configuration(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("config") / "job.toml"
    path.write_bytes(b"[job]\n" + data)
    with contextlib.suppress(ConfigError):
        GoodputConfig.load(path)
