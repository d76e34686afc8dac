"""Energy of runs: by hand, and what must hold for any."""

import json
import tomllib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fabricsim
from fabricsim import Cluster
from fabricsim.analysis.power import energy, power
from fabricsim.cli import main
from fabricsim.errors import ConfigError
from fabricsim.fabrics.power import Power
from fabricsim.topology import Star
from fabricsim.workload import collective

MS = 10**9
STAR = {"kind": "star", "hosts": 4, "rate": "100Gbps", "latency": "1us"}
WATTS = {
    "accelerator_compute_w": 700.0,
    "accelerator_communication_w": 400.0,
    "accelerator_idle_w": 100.0,
    "host_w": 350.0,
    "nic_w": 25.0,
    "link_w": 18.0,
    "link_pj_per_bit": 2.0,
    "switch_w": 500.0,
    "switch_pj_per_bit": 10.0,
    "pue": 1.25,
}


def tables(sent=0):
    ops = pa.table(
        {
            "id": [0, 0, 1, 1],
            "kind": ["compute", "compute", "all_reduce", "all_reduce"],
            "rank": [0, 1, 0, 1],
            "bytes": [0, 0, 8, 8],
            "start_ps": [0, 0, 600 * MS, 700 * MS],
            "end_ps": [600 * MS, 700 * MS, 900 * MS, 900 * MS],
            "step": [0, 0, 1, 1],
        }
    )
    return ops, pa.table({"bytes": [sent] * 8})


def test_the_parts_by_hand():
    topology = Star.model_validate(STAR).build()
    ops, links = tables(sent=10**9)
    found = energy(Power.model_validate(WATTS), topology, ops, links, 1000 * MS)
    parts = found["parts_j"]
    assert parts["accelerator_compute"] == pytest.approx(1.3 * 700)
    assert parts["accelerator_communication"] == pytest.approx(0.5 * 400)
    # Two of four hosts have no rank; the others wait 0.1 s each.
    assert parts["accelerator_idle"] == pytest.approx((2 + 0.2) * 100)
    assert parts["hosts"] == 4 * 350 and parts["nics"] == 4 * 25
    assert parts["links"] == pytest.approx(4 * 18 + 8e9 * 8 * 2e-12)
    assert parts["switches"] == pytest.approx(500 + 4e9 * 8 * 10e-12)
    assert parts["cooling"] == pytest.approx(0.25 * (found["energy_j"] - parts["cooling"]))
    assert found["energy_j"] == pytest.approx(sum(parts.values()))
    assert found["average_w"] == pytest.approx(found["energy_j"])
    assert (found["steps"], found["per_step_j"]) == (2, pytest.approx(found["energy_j"] / 2))


def test_storage_draws_by_its_busy_time():
    watts = Power.model_validate(WATTS | {"target_active_w": 20.0, "target_idle_w": 5.0})
    topology = Star.model_validate(STAR).build()
    busy = pa.table({"busy_ps": [400 * MS, 0]})
    found = energy(watts, topology, *tables(), 1000 * MS, targets=busy, target_count=2)
    assert found["parts_j"]["storage_targets"] == pytest.approx(2 * 5 + 0.4 * 15)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(set(WATTS) - {"pue", "accelerator_compute_w"})), st.floats(0, 700)
    ),
    st.floats(1, 3),
    st.integers(0, 10**12),
)
def test_energy_adds_up_and_grows_with_every_watt(changes, pue, sent):
    topology = Star.model_validate(STAR).build()
    ops, links = tables(sent)
    less = Power.model_validate({"accelerator_compute_w": 700.0, "pue": pue} | changes)
    found = energy(less, topology, ops, links, 900 * MS)
    assert found["energy_j"] == pytest.approx(sum(found["parts_j"].values()))
    assert min(found["parts_j"].values()) >= -1e-9
    for name in changes:
        more = less.model_copy(update={name: changes[name] + 1})
        assert energy(more, topology, ops, links, 900 * MS)["energy_j"] >= found["energy_j"]


def test_shared_interfaces_are_no_switches():
    watts = {"accelerator_compute_w": 400.0, "nic_w": 1000.0, "switch_w": 10**6, "link_w": 10.0}
    cluster = Cluster.from_toml("hgx-a100-4hdr", [f"power={json.dumps(watts).replace(':', '=')}"])
    topology = cluster.topology()
    nics = sum(".nic" in name for name in topology.node_names)
    assert nics and cluster.power is not None
    idle = pa.table({"bytes": [0] * topology.n_links})
    found = energy(cluster.power, topology, tables()[0], idle, 10**12)["parts_j"]
    assert found["nics"] == nics * 1000
    assert found["switches"] == 1e6  # rack0.leaf; the NVSwitches have their own watts
    assert found["links"] == nics * 10


def test_a_replay_tells_its_energy_only_when_asked(tmp_path, capsys):
    trace = collective("all_reduce", size_bytes=1 << 20, n_ranks=4)
    plain = Cluster.from_dict({"name": "x", "topology": STAR})
    watts = Cluster.from_dict({"name": "x", "topology": STAR, "power": WATTS})
    without, found = fabricsim.replay(trace, plain), fabricsim.replay(trace, watts)
    assert "power" not in without.summary and without.digest == found.digest
    assert without.provenance == found.provenance
    assert found.summary["power"] == power(found, watts)
    assert found.summary["power"]["parts_j"]["accelerator_communication"] > 0
    loaded = fabricsim.Result.load(found.save(tmp_path / "out"))
    assert loaded.summary["power"] == found.summary["power"] == power(loaded, watts)
    with pytest.raises(ConfigError, match="power"):
        power(without, plain)
    assert dict(watts.describe())["power.host_w"] == "350"
    assert Cluster.from_dict(tomllib.loads(watts.to_toml())) == watts
    path = tmp_path / "trace.arrow"
    fabricsim.write_trace(trace, path)
    given = ["--cluster", "leaf-spine-64-400g-roce", "--set", "power.accelerator_compute_w=700"]
    assert main(["replay", str(path), *given]) == 0
    assert "energy" in capsys.readouterr().out


def test_watts_that_cannot_be_are_told():
    for wrong, part in (
        ({"accelerator_compute_w": 0}, "more than 0"),
        ({"pue": 0.9}, ">= 1"),
        ({"accelerator_idle_w": 800.0}, "at most accelerator_compute_w"),
        ({"target_idle_w": 3.0}, "at most target_active_w"),
        ({"gpu_w": 3.0}, "unknown key"),
    ):
        with pytest.raises(ConfigError, match=part):
            Cluster.from_dict({"name": "x", "topology": STAR, "power": WATTS | wrong})
    with pytest.raises(ConfigError, match="accelerator_compute_w = 700"):
        Cluster.from_dict({"name": "x", "topology": STAR, "power": {}})


@pytest.mark.parametrize("model", ["lustre", "weka", "local"])
def test_targets_count_with_and_without_storage_operations(model):
    where = {} if model == "local" else {"attach": "switch*", "rate": "100Gbps", "latency": "1us"}
    storage = [{"model": model, "servers": 2, "targets_per_server": 3} | where]
    if model == "local":
        storage = [{"model": model}]
    watts = {
        "accelerator_compute_w": 1.0,
        "target_idle_w": 7.0,
        "target_active_w": 9.0,
        "storage_server_w": 50.0,
    }
    cluster = Cluster.from_dict({"name": "x", "topology": STAR, "storage": storage, "power": watts})
    quiet = fabricsim.replay(collective("all_reduce", size_bytes=1 << 20, n_ranks=4), cluster)
    parts, seconds = quiet.summary["power"]["parts_j"], quiet.summary["end_ps"] * 1e-12
    servers, targets = (4, 4) if model == "local" else (2, 6)
    assert parts["storage_targets"] == pytest.approx(7 * targets * seconds)
    hosts = cluster.topology().n_storage_hosts
    assert parts["storage_servers"] == pytest.approx(50 * hosts * seconds)
    assert hosts == (0 if model == "local" else servers + (model == "lustre"))
