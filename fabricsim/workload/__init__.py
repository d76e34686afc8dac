"""Workloads made here: simple collectives, flow patterns, and (in ``demo``) the training step of the demo."""

from fabricsim.workload.simple import collective, flows, incast, permutation

__all__ = ["collective", "flows", "incast", "permutation"]
