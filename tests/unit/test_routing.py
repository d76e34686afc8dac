"""Routes as the engine tells them: paths, and credit loops that are refused by name."""

import numpy as np
import pytest
from scenes import switch_ring

from fabricsim._core import engine
from fabricsim.errors import ConfigError


def ring_model(switches, *settings):
    ring = switch_ring(switches, 1)
    return engine.Model(
        n_hosts=ring["n_hosts"],
        n_switches=ring["n_switches"],
        cable_a=[cable.a for cable in ring["cables"]],
        cable_b=[cable.b for cable in ring["cables"]],
        cable_rate_mbps=[cable.rate_mbps for cable in ring["cables"]],
        cable_delay_ps=[cable.delay_ps for cable in ring["cables"]],
        node_latency_ps=ring["latency_ps"],
        settings=list(settings),
    )


def test_paths_are_links_in_order():
    model = ring_model(6)
    assert model.path(0, 2).tolist() == [0, 12, 14, 5]
    assert model.path(0, 5).tolist() == [0, 23, 11]
    assert {tuple(model.path(0, 3, e)) for e in range(64)} == {(0, 12, 14, 16, 7), (0, 23, 21, 19, 7)}
    assert model.path(1, 1).tolist() == [] and model.path(0, 99).tolist() == []
    assert model.path(0, 1).dtype == np.int32


def test_a_credit_loop_is_refused_by_name():
    credit = [("switch", "voq", {}), ("link", "credit", {})]
    with pytest.raises(
        ConfigError, match=r"credit loop: link 10 \(switch 0 -> switch 1\), link 12 \(switch 1"
    ):
        ring_model(5, *credit)
    ring_model(5, *credit, ("route", "updown", {}))
    ring_model(3, *credit)
    ring_model(5)
    torus = {"x_count": 5}
    with pytest.raises(ConfigError, match="needs 4 data classes"):
        ring_model(5, *credit, ("route", "torus", torus))
    ring_model(5, ("switch", "voq", {"vl_count": 4}), *credit[1:], ("route", "torus", torus))
    ring_model(
        5, ("switch", "voq", {"vl_count": 2}), *credit[1:], ("route", "torus", {**torus, "two_orders": 0})
    )


def test_a_torus_names_the_cable_that_does_not_fit():
    with pytest.raises(ConfigError) as caught:
        ring_model(6, ("route", "torus", {"x_count": 2, "y_count": 3}))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(
        "cable 11: joins switch 0 and switch 5, which are no neighbours in the torus of 2 x 3"
    )
    assert "switch 0: no cable to switch 2, its neighbour to +y in the torus" in lines
