"""Times of saves and restores taken from emulated runs of ``fabricsim gen checkpoint``."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from fabricsim.errors import ConfigError, Problem

__all__ = ["filled", "restore_time", "save_times"]


def save_times(summary: Mapping[str, Any], mode: str, where: str = "result") -> dict[str, int]:
    """Return the times of ``Checkpoint`` that the saves of a run tell, ps: means over its saves.

    The stall is that of the rank that stood still for longest, without waits for an earlier save, which a
    study of goodput reckons itself.

    Parameters
    ----------
    summary
        Of the ``Result`` of a trace of saves.
    mode
        ``sync``, ``async`` or ``two_tier`` (where the write of the run is the one to the near tier, and its
        drain the one to storage).
    where
        Names the run in errors.

    Raises
    ------
    ConfigError
        When the run has no saves, or none that were drained with ``two_tier``.

    >>> save = {"stall_max_ps": 90, "wait_max_ps": 10, "write_ps": 300, "drain_ps": 0}
    >>> save_times({"checkpoints": {"saves": [save]}}, "async")
    {'snapshot_ps': 80, 'write_ps': 300}
    """
    saves = (summary.get("checkpoints") or {}).get("saves") or []
    if not saves:
        raise ConfigError([Problem(where, "found no saves, allowed: a run of fabricsim gen checkpoint")])
    stall = round(fmean(max(0, one["stall_max_ps"] - one["wait_max_ps"]) for one in saves))
    write = round(fmean(one["write_ps"] for one in saves))
    if mode == "sync":
        return {"save_ps": stall}
    if mode == "async":
        return {"snapshot_ps": stall, "write_ps": write}
    if mode != "two_tier":
        return {}
    drains = [one["drain_ps"] for one in saves if one["drain_ps"]]
    if not drains:
        text = "found saves in one tier, allowed: a run of --mode local or peer with drains"
        raise ConfigError([Problem(where, text)])
    return {"snapshot_ps": stall, "replicate_ps": write, "write_ps": round(fmean(drains))}


def restore_time(summary: Mapping[str, Any], where: str = "result") -> int:
    """Return the time of the restore of a run, ps.

    Raises
    ------
    ConfigError
        When the run has no restore.
    """
    restore = (summary.get("checkpoints") or {}).get("restore") or {}
    if "total_ps" not in restore:
        text = "found no restore, allowed: a run of fabricsim gen checkpoint --action restore"
        raise ConfigError([Problem(where, text)])
    return int(restore["total_ps"])


def filled(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table ``[checkpoint]`` with the times of the runs that it names, where it gives no others."""
    from fabricsim.result import Result

    found: dict[str, Any] = {}
    for key, of in (("saves_from", "saves"), ("restore_from", "restore"), ("memory_restore_from", "restore")):
        folder = checkpoint.get(key)
        if not isinstance(folder, str):
            continue
        summary = Result.load(folder).summary
        if of == "saves":
            found |= save_times(summary, str(checkpoint.get("mode", "sync")), folder)
        else:
            found[key.replace("_from", "_ps")] = restore_time(summary, folder)
    own = {name for name in found if name in checkpoint or name.removesuffix("_ps") in checkpoint}
    return {**checkpoint, **{name: value for name, value in found.items() if name not in own}}
