"""Tables [[storage]] with anything in the place of each value: read, or refused as a whole with a message."""

from __future__ import annotations

import copy
import math

import pytest

from fabricsim.cluster import Cluster
from fabricsim.errors import ConfigError

STORAGE = {
    "name": "a",
    "mount": "/s",
    "model": "lustre",
    "servers": 2,
    "targets_per_server": 2,
    "meta_servers": 2,
    "failover": [["oss0", "oss1"]],
    "attach": ["*"],
    "rate": "100Gbps",
    "latency": "1us",
    "stripe_size": "1MiB",
    "rpc_size": "1MiB",
    "cache": True,
    "target": {"model": "flash", "write": "1GB/s"},
    "layout": [{"path": "/s/a", "components": [{"end": "1MiB"}, {"stripe_count": -1}], "mirrors": 2}],
    "directory": [{"path": "/s/a", "stripes": 2}],
    "slow": [{"target": 1, "at": "1s", "factor": 0.5, "for": "1s"}],
    "failure": [{"server": "oss0", "at": "1s", "takeover": "1s"}],
}
JUNK = [-1, 0, 1.5, "", [], {}, ["x"], [{}], 10**30, math.nan, [[1, 2]], "last", [None], 2**63 - 1, "1e400s"]


def places(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def read(storage) -> None:
    topology = {"kind": "star", "hosts": 8, "rate": "100Gbps", "latency": "1us"}
    try:
        cluster = Cluster.from_dict({"name": "x", "topology": topology, "storage": storage})
        cluster.stores(), cluster.settings(), cluster.digest(), cluster.describe(), cluster.to_toml()
    except ConfigError as error:
        assert all(str(problem).strip() for problem in error.problems)


def test_the_table_itself_is_read():
    topology = {"kind": "star", "hosts": 8, "rate": "100Gbps", "latency": "1us"}
    assert Cluster.from_dict({"name": "x", "topology": topology, "storage": [STORAGE]}).storage


@pytest.mark.parametrize("path", [*places(STORAGE)], ids=lambda path: ".".join(map(str, path)))
def test_anything_in_a_place_is_read_or_refused(path):
    for junk in JUNK:
        table = copy.deepcopy(STORAGE)
        inner = table
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = junk
        read([table])


@pytest.mark.parametrize("junk", JUNK, ids=str)
def test_anything_in_the_place_of_the_tables(junk):
    read(junk)
