"""Sweeps: the same question asked of many clusters, workloads, layouts and seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Name -> module, loaded on first use: processes that run points need few of them.
_EXPORTS = {
    "Objective": "config",
    "Point": "point",
    "Sensitivity": "effects",
    "Setting": "study",
    "Study": "study",
    "Sweep": "config",
    "SweepProgress": "run",
    "dask_executor": "run",
    "run_sweep": "run",
}

__all__ = [*_EXPORTS]

if TYPE_CHECKING:
    from fabricsim.sweep.config import Objective as Objective
    from fabricsim.sweep.config import Sweep as Sweep
    from fabricsim.sweep.effects import Sensitivity as Sensitivity
    from fabricsim.sweep.point import Point as Point
    from fabricsim.sweep.run import SweepProgress as SweepProgress
    from fabricsim.sweep.run import dask_executor as dask_executor
    from fabricsim.sweep.run import run_sweep as run_sweep
    from fabricsim.sweep.study import Setting as Setting
    from fabricsim.sweep.study import Study as Study


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'fabricsim.sweep' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"fabricsim.sweep.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value
