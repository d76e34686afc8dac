"""Steps a packet run in slices short enough for Ctrl-C; how it is cut never changes what happens."""

from __future__ import annotations

import time
from typing import Any

from fabricsim.units import us

__all__ = ["step_to"]

_FIRST_SLICE_PS = 20 * us
_SHORT_S, _LONG_S = 0.05, 0.2


def step_to(run: Any, until_ps: int | None = None) -> bool:
    """Run until a time, or to the end; return whether it has ended."""
    slice_ps = _FIRST_SLICE_PS
    at_ps = int(run.now_ps)
    while until_ps is None or at_ps < until_ps:
        at_ps = at_ps + slice_ps if until_ps is None else min(at_ps + slice_ps, until_ps)
        before = time.perf_counter()
        if run.step(at_ps):
            return True
        took = time.perf_counter() - before
        if took < _SHORT_S:
            slice_ps *= 2
        elif took > _LONG_S:
            slice_ps = max(slice_ps // 2, us)
    return False
