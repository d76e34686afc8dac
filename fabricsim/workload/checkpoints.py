"""Checkpoints as a workload: the trace of a training that saves them, or of a restore."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from fabricsim.errors import ConfigError
from fabricsim.trace import Trace

if TYPE_CHECKING:
    from fabricsim.checkpoint import Checkpoint, MlperfCheckpoint

__all__ = ["checkpoint"]


def checkpoint(
    saved: Checkpoint | MlperfCheckpoint,
    *,
    action: str = "save",
    tier: str = "store",
    failed: Collection[int] = (),
    broadcast: bool = False,
    **options: Any,
) -> Trace:
    """Return the trace of saving or restoring a checkpoint.

    Parameters
    ----------
    saved
        What is saved: ``fabricsim.checkpoint.Checkpoint``, or ``mlperf_checkpoint(name)``.
    action
        ``save`` or ``restore``.
    tier, failed, broadcast
        Of a restore: see ``fabricsim.checkpoint.restore_trace``.
    options
        How it is saved, and the training around it: see ``fabricsim.checkpoint.Plan``.

    Raises
    ------
    ConfigError
        With all that does not fit.

    >>> from fabricsim.checkpoint import mlperf_checkpoint
    >>> checkpoint(mlperf_checkpoint("llama3-8b"), mode="async", fsync=False).n_ranks
    8
    """
    from fabricsim.checkpoint import Plan, restore_trace, save_trace

    plan = Plan(saved=saved, **options)
    if action == "save":
        return save_trace(plan)
    if action == "restore":
        return restore_trace(plan, tier=tier, failed=failed, broadcast=broadcast)
    raise ConfigError([f"action: found {action!r}, allowed: save, restore"])
