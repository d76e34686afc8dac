"""Levels of detail of a replay: packets, flows with costs from packets, flows with costs worked out."""

from fabricsim.fidelity.mode import Fidelity, check_fidelity, open_flow

__all__ = ["Fidelity", "check_fidelity", "open_flow"]
