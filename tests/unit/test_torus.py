"""Tori: neighbours, wraparound, twist, cubes and their circuit switches, availability."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fabricsim.errors import ConfigError
from fabricsim.topology import Topology, Torus
from fabricsim.topology.cubes import OCS_COUNT, Cubes, cube_availability, slice_goodput, wired_goodput

LINK = {"rate_mbps": 360_000, "latency_ps": 500_000}


def torus(x, y, z=1, **more) -> Torus:
    return Torus(x=x, y=y, z=z, **LINK, **more)


def neighbours(t: Topology) -> list[list[int]]:
    """Neighbouring chips of each chip."""
    n = t.n_hosts
    found: list[list[int]] = [[] for _ in range(n)]
    for a, b in zip(t.cable_a[n:].tolist(), t.cable_b[n:].tolist(), strict=True):
        found[a - n].append(b - n)
        found[b - n].append(a - n)
    return found


def distances(of: list[list[int]], source: int) -> list[int]:
    far = [-1] * len(of)
    far[source] = 0
    queue = [source]
    for chip in queue:
        for other in of[chip]:
            if far[other] < 0:
                far[other] = far[chip] + 1
                queue.append(other)
    return far


def most_loaded(of: list[list[int]]) -> float:
    """Messages on the busiest directed link when all send one to all, shared evenly by all shortest paths."""
    load: Counter[tuple[int, int]] = Counter()
    for source in range(len(of)):
        far = distances(of, source)
        order = sorted(range(len(of)), key=far.__getitem__)
        paths = [0] * len(of)
        paths[source] = 1
        before = [[u for u in of[v] if far[u] == far[v] - 1] for v in range(len(of))]
        for chip in order[1:]:
            paths[chip] = sum(paths[u] for u in before[chip])
        passing = [1.0] * len(of)
        for chip in reversed(order[1:]):
            for u in before[chip]:
                share = passing[chip] * paths[u] / paths[chip]
                load[u, chip] += share
                passing[u] += share
    return max(load.values())


def test_a_chip_is_a_host_and_a_router():
    spec = torus(4, 4, 4, internal_latency_ps=7, switch_latency_ps=9)
    t = spec.build()
    assert (t.n_hosts, t.n_switches, t.n_cables) == (64, 64, 64 + 3 * 64)
    assert t.networks == (0,)
    assert t.cable_rate_mbps[:64].tolist() == [6 * 360_000] * 64
    assert t.cable_delay_ps[:64].tolist() == [7] * 64
    assert t.node_latency_ps.tolist() == [0] * 64 + [9] * 64
    assert t.node_names[1 + 4 * (2 + 4 * 3)] == "chip1.2.3"
    assert t.link_name(0) == "chip0.0.0->router0.0.0"
    assert torus(4, 4, 4, internal_rate_mbps=5).build().cable_rate_mbps[0] == 5


def test_cables_come_by_dimension_and_their_even_links_go_up():
    spec = torus(4, 8, 4)
    t, n = spec.build(), 128
    at = spec.coordinates()
    for dimension, size in enumerate((4, 8, 4)):
        block = slice(n * (1 + dimension), n * (2 + dimension))
        low, high = t.cable_a[block] - n, t.cable_b[block] - n
        assert low.tolist() == list(range(n))
        assert ((at[dimension, high] - at[dimension, low]) % size == 1).all()


def test_sizes_below_a_cube_are_lines():
    t = torus(2, 4).build()
    assert Counter(t.link_name(2 * i) for i in range(8, t.n_cables))["router0.0.0->router1.0.0"] == 1
    assert torus(2, 4).wraps == (False, True, False)
    assert t.n_cables == 8 + 4 + 8
    assert torus(3, 1).build().n_cables == 3 + 2
    assert torus(1, 1).build().n_cables == 1
    assert torus(8, 8, wrap_multiple=16).build().n_cables == 64 + 2 * 56


def test_a_ring_of_two_has_two_cables():
    t = torus(2, 1, wrap_multiple=1).build()
    ends = list(zip(t.cable_a[2:].tolist(), t.cable_b[2:].tolist(), strict=True))
    assert ends == [(2, 3), (3, 2)]


@pytest.mark.parametrize(
    ("twisted", "mean", "diameter", "load"), [(False, 4.031, 8, 128), (True, 3.465, 6, 73.333)]
)
def test_the_published_figures_of_a_twist(twisted, mean, diameter, load):
    """Twisted torus 4 x 4 x 8: mean distance, diameter and load of all-to-all."""
    of = neighbours(torus(4, 4, 8, twisted=twisted).build())
    far = [d for source in range(128) for d in distances(of, source)]
    assert sum(far) / 128 / 127 == pytest.approx(mean, abs=5e-4)
    assert max(far) == diameter
    assert most_loaded(of) == pytest.approx(load, abs=1e-3)


def test_twist_of_one_short_dimension_moves_both_long_ones():
    spec = torus(2, 4, 4, twisted=True, wrap_multiple=2)
    at = spec.coordinates()
    last = int(np.flatnonzero((at[0] == 1) & (at[1] == 1) & (at[2] == 3))[0])
    assert at[:, spec.next_up(0)[last]].tolist() == [0, 3, 1]
    assert at[:, spec.next_up(1)[last]].tolist() == [1, 2, 3]


def test_pod_of_tpu_v4():
    spec = torus(16, 16, 16)
    t = spec.build()
    assert (t.n_hosts, t.n_cables) == (4096, 4 * 4096)
    # The bisection of the published 24 TB/s: 2 x 256 links.
    at = spec.coordinates()[0]
    n = t.n_hosts
    cut = at[t.cable_a[n:] - n] // 8 != at[t.cable_b[n:] - n] // 8
    assert np.count_nonzero(cut) == 2 * 256


@st.composite
def any_torus(draw):
    step = draw(st.sampled_from([1, 2, 4]))
    sizes = [draw(st.sampled_from([s for s in range(1, 9) if s <= step or s % step == 0])) for _ in range(3)]
    return torus(*sizes, wrap_multiple=step)


@settings(deadline=None, max_examples=50)
@given(any_torus())
def test_any_torus_is_whole(spec):
    t = spec.build()
    degree = np.bincount(np.concatenate([t.cable_a, t.cable_b]), minlength=t.n_nodes)
    assert set(degree[: t.n_hosts].tolist()) == {1}
    sizes = [size for size in spec.sizes if size > 1]
    if all(wrap for wrap, size in zip(spec.wraps, spec.sizes, strict=True) if size > 1):
        assert set(degree[t.n_hosts :].tolist()) == {1 + 2 * len(sizes)}
    assert max(distances(neighbours(t), 0)) == sum(
        size // 2 if wrap else size - 1 for size, wrap in zip(spec.sizes, spec.wraps, strict=True)
    )
    assert Torus.model_validate(spec.toml_table()) == spec


@pytest.mark.parametrize("sizes", [(4, 4, 8), (4, 8, 4), (8, 4, 4), (4, 8, 8), (8, 8, 4)])
def test_a_twisted_torus_looks_the_same_from_every_chip(sizes):
    of = neighbours(torus(*sizes, twisted=True).build())
    assert set(map(len, of)) == {6}
    views = {tuple(sorted(distances(of, source))) for source in range(0, len(of), 7)}
    assert len(views) == 1


# ---- cubes


def test_cubes_and_their_circuit_switches():
    spec = torus(8, 8, 8)
    t, cubes = spec.build(), spec.cubes()
    assert (cubes.count, cubes.shape) == (8, (2, 2, 2))
    assert np.bincount(cubes.of_chip()).tolist() == [64] * 8
    ocs = cubes.ocs_of_cable(t)
    # Every cube has 6 faces of 16 links and every cable two ends; each switch has both links of each cube.
    assert np.count_nonzero(ocs >= 0) == 8 * 96 // 2
    assert np.bincount(ocs[ocs >= 0], minlength=OCS_COUNT).tolist() == [8] * 48
    assert len(cubes.face_cables(t, 3)) == 96
    # The two ends of a cable are at the same position of both faces.
    at, n = spec.coordinates(), t.n_hosts
    for cable in np.flatnonzero(ocs >= 0).tolist():
        low, high = at[:, t.cable_a[cable] - n], at[:, t.cable_b[cable] - n]
        d = int(ocs[cable]) // 16
        others = [o for o in range(3) if o != d]
        assert low[d] % 4 == 3 and high[d] % 4 == 0
        assert (low[others] % 4 == high[others] % 4).all()
        assert ocs[cable] % 16 == low[others[0]] % 4 + 4 * (low[others[1]] % 4)


def test_a_cube_joined_with_itself():
    spec = torus(4, 4, 4)
    t = spec.build()
    assert len(spec.cubes().face_cables(t, 0)) == 48
    assert np.bincount(spec.cubes().ocs_of_cable(t)[64:] + 1, minlength=49).tolist() == [144] + [1] * 48


def test_a_twist_goes_through_the_same_circuit_switches():
    spec = torus(4, 4, 8, twisted=True)
    ocs = spec.cubes().ocs_of_cable(spec.build())
    assert np.bincount(ocs[ocs >= 0]).tolist() == [2] * 48


def test_spares_stand_in_for_failed_cubes():
    spec = torus(16, 16, 16, pod_cubes=66, failed_cubes=[5, 64])
    cubes = spec.cubes()
    assert cubes.physical[5] == 65
    assert np.delete(cubes.physical, 5).tolist() == [i for i in range(64) if i != 5]
    assert torus(8, 8, 4).cubes().physical.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("sizes", "more", "place", "message"),
    [
        ((6, 4, 4), {}, "x", "found 6, allowed: 1 to 4, or a multiple of 4"),
        ((4, 4, 0), {}, "z", "found 0, allowed: >= 1"),
        ((4, 4, 4), {"twisted": True}, "twisted", "found true with 4 x 4 x 4, allowed: sizes k and 2k"),
        ((4, 4, 16), {"twisted": True}, "twisted", "found true with 4 x 4 x 16"),
        ((2, 2, 4), {"twisted": True}, "twisted", "that wrap around"),
        ((4, 4, 4), {"failed_cubes": [1]}, "failed_cubes", "found 1, allowed: cubes 0 to 0"),
        ((8, 4, 4), {"failed_cubes": [1]}, "failed_cubes", "leaves 1 of 2 cubes, allowed: at least 2"),
        ((8, 4, 4), {"pod_cubes": 1}, "pod_cubes", "leaves 1 of 1 cubes, allowed: at least 2"),
        ((2, 4, 4), {"pod_cubes": 1}, None, "has no cubes: found 2 x 4 x 4, allowed: multiples of 4"),
        ((1024, 1024, 1024), {}, None, "chips, allowed: at most 1,048,576"),
    ],
)
def test_faulty_tori(sizes, more, place, message):
    with pytest.raises(ValidationError) as caught:
        torus(*sizes, **more)
    found = [(e["loc"], e["msg"]) for e in caught.value.errors()]
    assert any(loc == ((place,) if place else ()) and message in text for loc, text in found), found


def test_a_torus_without_cubes_has_none_to_tell():
    with pytest.raises(ConfigError, match="has no cubes: found 2 x 4 x 1"):
        torus(2, 4).cubes()


# ---- availability


@pytest.mark.parametrize(("host", "cube"), [(0.99, 0.851), (0.995, 0.923), (0.999, 0.984)])
def test_availability_of_a_cube(host, cube):
    assert cube_availability(host) == pytest.approx(cube, abs=5e-4)


def test_goodput_of_slices():
    assert slice_goodput(1.0, 16) == wired_goodput(1.0, 16) == 1.0
    assert slice_goodput(0.999, 1) == pytest.approx(cube_availability(0.999))
    # Circuit switches are worth most where slices are large and hosts fail often.
    for m in (4, 8, 16, 32):
        assert slice_goodput(0.99, m) > wired_goodput(0.99, m)
    assert slice_goodput(0.999, 64) == pytest.approx(wired_goodput(0.999, 64))
    with pytest.raises(ValueError, match="host_availability: found 2, allowed: 0 to 1"):
        slice_goodput(2, 1)
    with pytest.raises(ValueError, match="slice_cubes: found 65, allowed: 1 to 64"):
        slice_goodput(1.0, 65)


def test_cubes_alone():
    assert Cubes((4, 4, 8), pod_cubes=3, failed=[0]).physical.tolist() == [2, 1]
    with pytest.raises(ConfigError, match="failed_cubes: leaves 1 of 2 cubes"):
        Cubes((4, 4, 8), failed=[0])
