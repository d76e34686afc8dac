"""DCQCN's reaction point with real timers (Zhu et al., SIGCOMM 2015).

At one time: the alpha timer, then a cut that waited, then the increase timer; all before the host's events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .controllers import Controller, pacing_q16
from .fabric import CONTROLLER

if TYPE_CHECKING:
    from .plane import Plane

ALPHA_ONE = 1 << 30
ALPHA, CUT, INCREASE = range(3)


class Dcqcn(Controller):
    """The rate of one connection, kb/s."""

    wants_cnp = True

    def __init__(self, sim: Plane, line_kbps: int) -> None:
        super().__init__(sim, line_kbps)
        self.sim = sim
        self.target = line_kbps
        self.current = 0
        self.set_rate(line_kbps)
        self.alpha = ALPHA_ONE
        self.active = self.noted = self.cut_waits = False
        self.cut_at: int | None = None
        self.bytes = self.timer_rounds = self.byte_rounds = 0
        self.armed = [0, 0, 0]  # counts of arming: an older timer is void

    def arm(self, which: int, when: int) -> None:
        self.armed[which] += 1
        self.sim.at(when, CONTROLLER, which, self.fired, which, self.armed[which], when, background=True)

    def fired(self, which: int, arming: int, now: int) -> None:
        if arming != self.armed[which]:
            return
        if which == ALPHA:
            self.decay(self.noted)
            self.noted = False
            self.arm(ALPHA, now + self.param["alpha_timer_ps"])
        elif which == CUT:
            self.cut(now)
        elif self.current < self.line:
            self.timer_rounds += 1
            self.increase()
            self.arm(INCREASE, now + self.param["increase_timer_ps"])

    def set_rate(self, kbps: int) -> None:
        least = min(self.param["min_rate_mbps"] * 1000, self.line)
        self.current = min(max(kbps, least), self.line)

    def decay(self, noted: bool) -> None:
        g = self.param["g_inverse"]
        self.alpha += (ALPHA_ONE // g if noted else 0) - self.alpha // g

    def cut(self, now: int) -> None:
        if self.param["clamp_target"] or self.timer_rounds or self.byte_rounds:
            self.target = self.current
        self.set_rate(self.current - self.current * self.alpha // (2 * ALPHA_ONE))
        self.cut_at, self.cut_waits = now, False
        self.timer_rounds = self.byte_rounds = self.bytes = 0
        self.arm(INCREASE, now + self.param["increase_timer_ps"])

    def increase(self) -> None:
        p = self.param
        timer, fast = self.timer_rounds, p["fast_recovery_count"]
        byte = self.byte_rounds if p["byte_counter_bytes"] else timer
        if min(timer, byte) > fast:
            self.target += (min(timer, byte) - fast) * p["rate_hai_mbps"] * 1000
        elif max(timer, byte) >= fast:
            self.target += p["rate_ai_mbps"] * 1000
        self.target = min(self.target, self.line)
        self.set_rate((self.current + self.target + 1) // 2)

    def sent(self, size: int, now: int) -> int:
        """Return the pacing after a packet of so many bytes."""
        counter = self.param["byte_counter_bytes"]
        if self.active and counter and self.current < self.line:
            self.bytes += size
            if self.bytes >= counter:
                self.bytes -= counter
                self.byte_rounds += 1
                self.increase()
        return pacing_q16(self.current)

    def notified(self, now: int) -> None:
        if not self.active:
            self.active = True
            self.arm(ALPHA, now + self.param["alpha_timer_ps"])
            self.arm(INCREASE, now + self.param["increase_timer_ps"])
            if self.param["decrease_timer_ps"]:  # the first notification starts the timer of the cuts
                self.cut_at = now
        wait = self.param["decrease_timer_ps"]
        if self.cut_at is None or now >= self.cut_at + wait:
            self.cut(now)
        elif not self.cut_waits:
            self.cut_waits = True
            self.arm(CUT, self.cut_at + wait)
        if self.param["alpha_by_timer"]:
            self.noted = True
        else:
            self.decay(True)
            self.arm(ALPHA, now + self.param["alpha_timer_ps"])
