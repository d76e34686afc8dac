"""Workloads made here: simple collectives, flow patterns, and (in ``demo``) the training step of the demo."""

from fabricsim.workload.simple import collective, file_io, flows, incast, permutation

__all__ = ["collective", "file_io", "flows", "incast", "permutation"]
