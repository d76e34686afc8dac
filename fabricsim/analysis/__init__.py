"""Where the time went: breakdown, critical path, busiest links, bandwidths, checkpoints, comparison."""

from fabricsim.analysis.breakdown import Breakdown, breakdown
from fabricsim.analysis.checkpoint import Checkpoints, checkpoints
from fabricsim.analysis.collectives import bus_factor, collectives
from fabricsim.analysis.comparison import Comparison, compare
from fabricsim.analysis.critical_path import Segment, critical_path
from fabricsim.analysis.links import busiest_links, paused_links
from fabricsim.analysis.nccl_tests import NcclTests, read_nccl_tests
from fabricsim.analysis.power import power
from fabricsim.analysis.training import training

__all__ = [
    "Breakdown",
    "Checkpoints",
    "Comparison",
    "NcclTests",
    "Segment",
    "breakdown",
    "bus_factor",
    "busiest_links",
    "checkpoints",
    "collectives",
    "compare",
    "critical_path",
    "paused_links",
    "power",
    "read_nccl_tests",
    "training",
]
