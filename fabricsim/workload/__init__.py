"""Workloads made here: collectives, flow patterns, checkpoints, and (in ``demo``) the demo's step."""

from fabricsim.workload.checkpoints import checkpoint
from fabricsim.workload.simple import collective, file_io, flows, incast, permutation

__all__ = ["checkpoint", "collective", "file_io", "flows", "incast", "permutation"]
