"""Goodput: weeks of training with failures, checkpoints and recoveries, replayed in seconds.

>>> from fabricsim.goodput import GoodputConfig, simulate
>>> study = simulate(GoodputConfig.load("llama3-405b", ["job.wall=5d"]), seeds=2)
>>> 0.85 < study.goodput.mean < 1
True
"""

from fabricsim.goodput.config import Checkpoint, Component, GoodputConfig, Job
from fabricsim.goodput.corruption import Corruption, CorruptionSource, Detector
from fabricsim.goodput.replay import PARTS, Run
from fabricsim.goodput.study import Estimate, Study, event_log, simulate, sweep, without_corruption
from fabricsim.goodput.theory import (
    daly_efficiency,
    daly_interval,
    first_order_efficiency,
    waste,
    young_interval,
)

__all__ = [
    "PARTS",
    "Checkpoint",
    "Component",
    "Corruption",
    "CorruptionSource",
    "Detector",
    "Estimate",
    "GoodputConfig",
    "Job",
    "Run",
    "Study",
    "daly_efficiency",
    "daly_interval",
    "event_log",
    "first_order_efficiency",
    "simulate",
    "sweep",
    "waste",
    "without_corruption",
    "young_interval",
]
