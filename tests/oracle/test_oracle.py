"""The core and the oracle give the same trail, to the picosecond, on random small worlds.

``python tests/oracle SEED …`` shows a world and its first difference; FABRICSIM_ORACLE_WORLDS runs more.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from scenes import SCENES

from fabricsim.errors import ConfigError
from oracle.generate import (
    circuit_world,
    class_world,
    controller_world,
    credit_world,
    random_world,
    srd_world,
)
from oracle.places import RefusedError
from oracle.servers import REDUCED, server_world
from oracle.simulator import Simulator, TooLongError
from oracle.world import ALGORITHMS, compare

BATCH = 50
SERVERS_BATCH = 25  # they are longer
BATCHES = max(1, int(os.environ.get("FABRICSIM_ORACLE_WORLDS", "800")) // BATCH)
MOST_EVENTS = 100_000


def options(seed: int) -> dict[str, object]:
    """Return how the core runs a world: every way must give the same."""
    return {"threads": 2 if seed % 10 == 0 else 1, "plain": seed % 4 == 0}


@pytest.mark.parametrize("batch", range(BATCHES))
def test_same_trail(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        try:
            difference, _ = compare(random_world(seed), MOST_EVENTS, **options(seed))
        except TooLongError:
            continue
        assert not difference, "\n".join([f"world {seed} (python tests/oracle {seed})", *difference])


@pytest.mark.parametrize("batch", range(max(1, BATCHES * 3 // 8)))
def test_same_trail_of_classes(batch: int) -> None:
    """Worlds with two to four data classes."""
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        try:
            difference, _ = compare(class_world(seed), MOST_EVENTS, **options(seed))
        except TooLongError:
            continue
        assert not difference, "\n".join([f"world {seed} (python tests/oracle c{seed})", *difference])


@pytest.mark.parametrize("batch", range(max(1, BATCHES * 3 // 8)))
def test_same_trail_of_credits(batch: int) -> None:
    """Worlds with credits and virtual output queues; those whose routes wait in a circle are refused."""
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        try:
            difference, _ = compare(credit_world(seed), MOST_EVENTS, **options(seed))
        except (TooLongError, ConfigError):
            continue
        assert not difference, "\n".join([f"world {seed} (python tests/oracle v{seed})", *difference])


def test_same_trail_of_circuits() -> None:
    """Worlds with credits whose cables between switches are lit by a schedule."""
    for seed in range(2 * BATCHES):
        try:
            difference, _ = compare(circuit_world(seed), MOST_EVENTS, **options(seed))
        except (TooLongError, ConfigError):
            continue
        assert not difference, "\n".join([f"world {seed} (python tests/oracle o{seed})", *difference])


@pytest.mark.parametrize("batch", range(max(1, BATCHES // 4)))
def test_same_trail_of_controllers(batch: int) -> None:
    """Worlds of any kind with controllers that go by acknowledgements, or by BECNs."""
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        try:
            difference, _ = compare(controller_world(seed), MOST_EVENTS, **options(seed))
        except (TooLongError, ConfigError):
            continue
        assert not difference, "\n".join([f"world {seed} (python tests/oracle m{seed})", *difference])


@pytest.mark.parametrize("batch", range(max(1, BATCHES // 4)))
def test_same_trail_of_srd(batch: int) -> None:
    """Worlds whose hosts speak SRD."""
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        try:
            difference, _ = compare(srd_world(seed), MOST_EVENTS, **options(seed))
        except TooLongError:
            continue
        assert not difference, "\n".join([f"world {seed} (python tests/oracle s{seed})", *difference])


@pytest.mark.parametrize("batch", range(max(1, BATCHES // 4)))
def test_same_trail_of_servers(batch: int) -> None:
    """Worlds with two networks, scale-up domains and units that reduce; what one refuses, both refuse."""
    for seed in range(batch * SERVERS_BATCH, (batch + 1) * SERVERS_BATCH):
        try:
            difference, _ = compare(server_world(seed), MOST_EVENTS, **options(seed))
        except (TooLongError, RefusedError):
            continue
        assert not difference, "\n".join([f"world {seed} (python tests/oracle n{seed})", *difference])


@pytest.mark.parametrize("name", SCENES)
def test_same_trail_of_scenes(name: str) -> None:
    """The shared scenes are longer than the random worlds."""
    difference, _ = compare(SCENES[name](), 10_000_000)
    assert not difference, "\n".join(difference)


def test_the_worlds_make_trouble() -> None:
    """What the comparison covers: everything that can happen does happen in the worlds that are run."""
    seen: Counter[str] = Counter()
    for seed in range(200):
        world = random_world(seed)
        seen[f"link {world.chosen('link')}"] += 1
        seen[f"route {world.chosen('route')}"] += 1
        seen[f"colours {min(world.model().n_colours, 3)}"] += 1
        seen[f"cut-through {world.params('switch')['cut_through']}"] += 1
        seen[f"control priority {world.params('transport')['control_priority']}"] += 1
        for row in world.rows:
            seen[row["kind"]] += 1
        counters = world.run()
        try:
            counters.step()
        except Exception as error:
            seen[type(error).__name__] += 1
        seen.update({name: n for name, n in counters.counters().items() if n > 0})
    wanted = {"link pause", "link lossy", "colours 2", "colours 3"}
    wanted |= {f"route {kind}" for kind in ("ecmp", "spray", "adaptive", "dmodk", "updown", "torus")}
    wanted |= {"cut-through 0", "cut-through 1", "control priority 0", "control priority 1"}
    wanted |= {
        "compute",
        "send",
        "recv",
        *ALGORITHMS,
        "pfc_pauses",
        "pfc_resumes",
        "drops",
        "ecn_marks",
        "cnps",
    }
    wanted |= {"naks", "timeouts", "retransmits", "duplicates"}
    assert wanted <= {name for name, n in seen.items() if n >= 5}, seen


def test_the_class_worlds_make_trouble() -> None:
    """The same with several classes: both turns, every mask, and what may happen to a class happens."""
    seen: Counter[str] = Counter()
    for seed in range(200):
        world = class_world(seed)
        switch, classes = world.params("switch"), {row["priority"] for row in world.rows}
        seen[f"classes {switch['data_class_count']}"] += len(classes) > 1
        seen[f"round robin {switch['class_round_robin']}"] += len(classes) > 1
        seen[f"cut-through {switch['cut_through']}"] += 1
        if world.chosen("link") == "pause":
            mask = world.params("link")["lossless_classes"] & (1 << switch["data_class_count"]) - 1
            seen["lossless beside lossy"] += 0 < mask < (1 << switch["data_class_count"]) - 1
        run = world.run(record_packets=True)
        try:
            run.step()
        except Exception as error:
            seen[type(error).__name__] += 1
        seen["pauses of a higher class"] += any(p[6] >= 4 and p[4] > 1 for p in run.packets())
        seen.update({name for name, n in run.counters().items() if n > 0})
    wanted = {f"classes {n}" for n in (2, 3, 4)} | {"round robin 0", "round robin 1"}
    wanted |= {"cut-through 0", "cut-through 1", "lossless beside lossy", "pauses of a higher class"}
    wanted |= {"pfc_pauses", "drops", "ecn_marks", "cnps", "naks", "timeouts", "duplicates"}
    assert wanted <= {name for name, n in seen.items() if n >= 5}, seen


def test_the_credit_worlds_make_trouble() -> None:
    """Every lane and turn, both kinds of inputs, waits for credits, marks, and loops that are refused."""
    seen: Counter[str] = Counter()
    for seed in range(200):
        world = credit_world(seed)
        switch = world.params("switch")
        try:
            run = world.run()
        except ConfigError:
            seen["loops"] += 1
            continue
        seen[f"lanes {switch['vl_count']}"] += 1
        seen[f"input queue {switch['input_queue']}"] += 1
        seen["held"] += len({cable.rate_mbps for cable in world.cables}) > 1
        try:
            run.step()
        except Exception as error:
            seen[type(error).__name__] += 1
        seen["waits for credits"] += bool(run.links()["pauses"].any())
        seen.update({name for name, n in run.counters().items() if n > 0})
        assert run.counters()["drops"] == 0
    wanted = {f"lanes {n}" for n in (1, 2, 3, 4)} | {"input queue 0", "input queue 1", "held"}
    wanted |= {"waits for credits", "ecn_marks", "cnps", "timeouts", "duplicates"}
    assert wanted <= {name for name, n in seen.items() if n >= 5}, seen


def test_the_server_worlds_make_trouble() -> None:
    """Every fabric in either network, sets of all kinds, every algorithm, trees of units, and refusals."""
    seen: Counter[str] = Counter()
    for seed in range(160):
        world = server_world(seed)
        for part in (world.part(0), world.part(1)):
            up = "up " if part.settings is world.up_settings else "out "
            seen[up + part.chosen("transport")] += 1
            seen[up + part.chosen("switch") + " " + part.chosen("link")] += 1
        try:
            oracle, run = Simulator(world), world.run()
        except RefusedError:
            seen["refused"] += 1
            continue
        for op in oracle.program.ops:
            if not op.algorithm:
                continue
            domains = len(op.ranks) // op.local_count
            seen[f"{op.algorithm} with {min(op.local_count, 2)} of {min(domains, 2)} domains"] += 1
            seen["variants" if op.variant >= 0 else "no variants"] += 1
            seen["odd sets"] += op.local_count == 1 and len(op.ranks) > 2
            seen["costs"] += bool(op.param["net_step_ps"] and op.param["overhead_ppm"])
            seen["more for scale-up"] += op.param["up_overhead_ppm"] > 0
            if op.tree:
                seen[f"{op.algorithm} {op.kind}"] += 1
                seen[f"{op.algorithm} of {min(len(op.tree.hosts), 3)} units"] += 1
        classes = [plane.classes for plane in oracle.planes]
        seen["classes more than the other's"] += classes[0] != classes[1]
        try:
            run.step()
        except Exception as error:
            seen[type(error).__name__] += 1
        busy = {world.cables[i // 2].network for i, n in enumerate(run.links()["packets"]) if n}
        seen["both networks"] += len(busy) == 2
        seen.update({name for name, n in run.counters().items() if n > 0})
    wanted = {f"{w} {t}" for w in ("out", "up") for t in ("roce", "rc", "scale_up", "srd")}
    wanted |= {f"{w} {f}" for w in ("out", "up") for f in ("ethernet lossy", "ethernet pause", "voq credit")}
    several = ("ring", "chain", "double_tree", "hierarchical", "pxn", "nvls_tree")
    wanted |= {f"{name} with 2 of {d} domains" for name in several for d in (1, 2)}
    wanted |= {f"in_network {kind}" for kind in REDUCED} | {"variants", "no variants", "odd sets", "costs"}
    wanted |= {f"{name} of {n} units" for name in ("in_network", "nvls_tree") for n in (1, 2)}
    wanted |= {"in_network of 3 units", "more for scale-up", "classes more than the other's", "both networks"}
    wanted |= {"refused", "ecn_marks", "pfc_pauses", "drops", "timeouts"}
    assert wanted <= {name for name, n in seen.items() if n >= 3}, seen


def test_the_srd_worlds_make_trouble() -> None:
    """Few paths and many, loss found both ways, connections that give up, packets twice."""
    seen: Counter[str] = Counter()
    for seed in range(200):
        world = srd_world(seed)
        seen[f"link {world.chosen('link')}"] += 1
        seen[f"paths {world.params('transport')['path_count']}"] += 1
        run = world.run()
        try:
            run.step()
        except Exception as error:
            seen[type(error).__name__] += 1
        counters = run.counters()
        seen["found without a time-out"] += counters["retransmits"] > 0 and not counters["timeouts"]
        seen.update({name for name, n in counters.items() if n > 0})
    wanted = {f"paths {n}" for n in (1, 2, 3, 16, 64)} | {"link pause", "link lossy", "EngineError"}
    wanted |= {"found without a time-out", "timeouts", "duplicates", "cnps", "drops", "pfc_pauses"}
    assert wanted <= {name for name, n in seen.items() if n >= 5}, seen
