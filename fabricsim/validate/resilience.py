"""Interruptions, checkpoint intervals and goodput of long trainings.

The counts of Llama 3's table are what the rates are made of, so its time to an interruption tests the drawing
and counting of failures; what is predicted are the goodput, and the times of other sizes.
"""

from __future__ import annotations

from functools import cache

from fabricsim.goodput import GoodputConfig, Study, daly_efficiency, simulate, waste, young_interval
from fabricsim.validate import check

_LLAMA3 = "arXiv:2407.21783, table 5 and section 3.3.4"
_YOUNG = "formula: CACM 17(9), 1974"
_DALY = "formula: FGCS 22(3), 2006"
_SAVE_S, _MTTI_S = 60.0, 3.093 * 3600


@cache
def _llama3() -> Study:
    return simulate(GoodputConfig.load("llama3-405b"), seeds=30)


def _mtti_hours(study: Study) -> float:
    found = study.mtti_hours
    return found.mean if found else 0.0


@check(
    "Interruptions, 16,384 H100 for 54 days",
    configuration="419 unexpected interruptions by cause, exponential; 30 seeds",
    published=3.09,
    unit="h",
    tolerance=0.05,
    source=_LLAMA3,
    kind="statistical",
    status="calibrated on the counts by cause",
)
def llama3_interruptions() -> float:
    """Wall time by interruption."""
    return _mtti_hours(_llama3())


@check(
    "Effective training time, 16,384 H100 for 54 days",
    configuration="snapshot 10 s every 10 min, write 60 s, recovery of 5 min, 64 spares: assumed; 30 seeds",
    published=0.9,
    tolerance=0.0,
    source=_LLAMA3,
    kind="statistical",
    status="assumed times of saves and recoveries",
    sense="at least",
)
def llama3_goodput() -> float:
    """Useful time over wall time."""
    return _llama3().goodput.mean


@check(
    "Time to an interruption, 100,000 accelerators",
    configuration="50,000 h each, exponential, 30 days; 3 seeds",
    published=0.5,
    unit="h",
    tolerance=0.05,
    source="MLCommons, MLPerf Storage v2.0 press release, 2025",
    kind="statistical",
)
def hundred_thousand() -> float:
    """Many components, each seldom."""
    config = GoodputConfig.from_dict(
        {
            "job": {"nodes": 12_500, "wall": "30d"},
            "checkpoint": {"save": "10s"},
            "component": [{"name": "accelerator", "per": "gpu", "mtbf_hours": 50_000.0, "effect": "restart"}],
        }
    )
    return _mtti_hours(simulate(config, seeds=3))


@check(
    "Young's interval",
    configuration="C = 60 s, M = 3.093 h",
    published=1156.0,
    unit="s",
    tolerance=0.01,
    source=_YOUNG,
    kind="formula",
)
def best_interval() -> float:
    """sqrt(2 C M)."""
    return young_interval(_SAVE_S, _MTTI_S)


@check(
    "Waste at Young's interval",
    configuration="C = 60 s, M = 3.093 h: C/T + T/2M",
    published=0.104,
    tolerance=0.01,
    source=_YOUNG,
    kind="formula",
)
def waste_at_best() -> float:
    """To first order."""
    return waste(_SAVE_S, young_interval(_SAVE_S, _MTTI_S), _MTTI_S)


@check(
    "Goodput at Young's interval, replayed",
    configuration="C = 60 s, M = 3.093 h, T = 1156 s, no recovery; 54 days, 30 seeds",
    published=round(daly_efficiency(_SAVE_S, 1156, _MTTI_S), 5),
    tolerance=0.01,
    source=f"{_DALY}, mean of exponential failures",
    kind="statistical",
)
def replayed_at_best() -> float:
    """Saves, failures and lost work, event by event."""
    job = {"name": "job", "mtbf_hours": _MTTI_S / 3600, "effect": "restart"}
    config = GoodputConfig.from_dict(
        {
            "job": {"wall": "54d"},
            "checkpoint": {"save": "60s", "interval": "1156s"},
            "component": [job],
        }
    )
    return simulate(config, seeds=30).goodput.mean
