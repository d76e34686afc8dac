"""The core's file systems and the oracle's give the same times, RPCs, packets and counts on small worlds.

``python tests/oracle f7`` shows the world of seed 7; FABRICSIM_ORACLE_WORLDS runs more.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from oracle.simulator import TooLongError
from oracle.storage import StoreWorld, compare
from oracle.store_generate import store_world

BATCH = 50
BATCHES = max(1, int(os.environ.get("FABRICSIM_ORACLE_WORLDS", "800")) * 3 // 8 // BATCH)
MOST_EVENTS = 100_000


def options(seed: int) -> dict[str, object]:
    """Return how the core runs a world: every way must give the same."""
    return {"threads": 2 + seed % 2 if seed % 5 == 0 else 1, "plain": seed % 4 == 0}


@pytest.mark.parametrize("batch", range(BATCHES))
def test_same_trail(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        try:
            difference, _ = compare(store_world(seed), MOST_EVENTS, **options(seed))
        except TooLongError:
            continue
        assert not difference, "\n".join([f"world {seed} (python tests/oracle f{seed})", *difference])


def seen_in(world: StoreWorld, seen: Counter[str]) -> None:
    """Count what happens in a world."""
    seen.update({f"store {world.store}", f"target {world.target}"})
    run = world.run()
    run.step()
    rpcs = run.rpcs()
    names = ("read", "write", "sync", "lock", "glimpse", "open", "close", "stat", "unlink", "mkdir", "rename")
    seen.update({f"rpc {names[kind]}" for kind in set(rpcs["kind"].tolist()) if kind < len(names)})
    clients, targets, servers = run.clients(), run.targets(), run.servers()
    counts = ("cache_hit_bytes", "readahead_bytes", "blocked_ps", "lock_wait_ps", "refused")
    seen.update({name for name in counts if clients[name].any()})
    seen["waits for a thread"] += bool(targets["wait_ps"].any())
    seen["several at a target"] += bool((targets["queue_max"] > 1).any())
    seen["commits"] += bool(servers["committed"].any())
    seen["drops"] += run.counters()["drops"] > 0


def test_the_worlds_make_trouble() -> None:
    seen: Counter[str] = Counter()
    for seed in range(150):
        seen_in(store_world(seed), seen)
    wanted = {f"store {name}" for name in ("local", "lustre", "weka", "beegfs")} | {
        "target flash",
        "target disk",
    }
    kinds = ("read", "write", "sync", "lock", "glimpse", "open", "close", "stat", "unlink", "mkdir", "rename")
    wanted |= {f"rpc {name}" for name in kinds}
    wanted |= {"cache_hit_bytes", "readahead_bytes", "blocked_ps", "lock_wait_ps", "refused", "commits"}
    wanted |= {"waits for a thread", "several at a target"}
    assert wanted <= {name for name, n in seen.items() if n >= 5}, seen
