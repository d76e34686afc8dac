"""Workloads made here: training steps, checkpoints, collectives, flows, and (in ``demo``) the demo's step."""

from fabricsim.workload.checkpoints import checkpoint
from fabricsim.workload.simple import collective, file_io, flows, incast, permutation
from fabricsim.workload.steps import llm

__all__ = ["checkpoint", "collective", "file_io", "flows", "incast", "llm", "permutation"]
