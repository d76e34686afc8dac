"""A topology file that other simulators read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fabricsim.topology import FatTree, TopologyFile

DATA = Path(os.environ.get("FABRICSIM_EXTERNAL_DATA", Path(__file__).parents[2].parent / "shared" / "traces"))
FILE = DATA / "topology" / "fat_tree_k4_100g.txt"

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="no external data: set FABRICSIM_EXTERNAL_DATA")


def test_hpcc_fat_tree_is_the_same_fabric():
    read = TopologyFile(path=str(FILE)).build()
    made = FatTree(k=4, rate_mbps=100_000, latency_ps=1_000_000).build()
    assert (read.n_hosts, read.n_switches, read.n_cables) == (made.n_hosts, made.n_switches, made.n_cables)
    assert read.oversubscription() == made.oversubscription()
    assert np.array_equal(read.cable_delay_ps, made.cable_delay_ps)
    tiers = sorted(read.switch_tier.tolist())
    assert tiers == sorted(made.switch_tier.tolist())
