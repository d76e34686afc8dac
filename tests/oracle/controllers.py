"""Congestion control by acknowledgements: HPCC, TIMELY, Swift, one like SRD's; and InfiniBand's by BECNs.

Each is the published algorithm in whole numbers, one connection an object. A sender asks ``window`` before a
packet, tells ``sent``, ``acked`` and ``lost``, and takes the pacing that ``sent`` returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plane import Plane

NO_WINDOW = 1 << 60
MILLION = 1_000_000


@dataclass
class Hop:
    """What the output of a switch wrote on a packet that left."""

    link: int
    when: int
    sent: int
    queue: int
    rate_mbps: int


@dataclass
class Ack:
    """An acknowledgement; ``rtt`` is None if it gives none."""

    now: int
    rtt: int | None
    acked: int  # bytes that it covers anew
    acked_psn: int
    next_psn: int
    hop_count: int = 0
    hops: tuple[Hop, ...] = ()


def pacing_q16(rate_kbps: int) -> int:
    """Return picoseconds a byte of a rate, times 2^16."""
    return ((8_000_000_000 << 16) + rate_kbps // 2) // rate_kbps


def kbps(size: int, time_ps: int) -> int:
    """Return the rate that carries so many bytes in a time."""
    return size * 8_000_000_000 // time_ps


def carried(rate_kbps: int, time_ps: int) -> int:
    """Return the bytes that a rate carries in a time."""
    return rate_kbps * time_ps // 8_000_000_000


def toward_zero(a: int, b: int) -> int:
    """Return the quotient by a positive number, rounded towards zero."""
    return a // b if a >= 0 else -(-a // b)


class Controller:
    """What a controller does unless it says otherwise: nothing, at the line's rate."""

    wants_cnp = False
    wants_hops = False

    def __init__(self, sim: Plane, line_kbps: int) -> None:
        self.param, self.line = sim.param["cc"], line_kbps
        self.rate = line_kbps

    def sent(self, size: int, now: int) -> int:
        return pacing_q16(self.rate)

    def notified(self, now: int) -> None:
        pass

    def acked(self, ack: Ack) -> None:
        pass

    def lost(self, timeout: bool, now: int) -> None:
        pass

    def window(self) -> int:
        return NO_WINDOW

    def bound(self, rate: int) -> int:
        least = min(self.param["min_rate_mbps"] * 1000, self.line)
        return min(max(rate, least), self.line)


class Hpcc(Controller):
    """Li et al., SIGCOMM 2019: the most loaded output on the way is steered to eta."""

    wants_hops = True

    def __init__(self, sim: Plane, line_kbps: int) -> None:
        super().__init__(sim, line_kbps)
        self.reference = line_kbps
        self.rtt = self.param["base_rtt_ps"] or None
        self.load = self.update_psn = self.stage = 0  # load in 2^-24
        self.before: tuple[Hop, ...] = ()

    def acked(self, ack: Ack) -> None:
        if not self.param["base_rtt_ps"] and ack.rtt:
            self.rtt = min(self.rtt or ack.rtt, ack.rtt)
        if not self.rtt or not ack.hops:
            return
        first, full = not self.update_psn, ack.acked_psn > self.update_psn
        if not (full or first or self.param["fast_react"]):
            return
        if not first and self.follows(ack.hops):
            self.measure(ack.hops, self.rtt)
            self.choose(full, self.rtt)
        self.before = ack.hops
        if full or first:
            self.update_psn = max(self.update_psn, ack.next_psn)

    def follows(self, hops: tuple[Hop, ...]) -> bool:
        """Whether these are newer notes of the same outputs."""
        return [h.link for h in hops] == [h.link for h in self.before] and all(
            new.when > old.when and new.sent >= old.sent for new, old in zip(hops, self.before, strict=True)
        )

    def measure(self, hops: tuple[Hop, ...], rtt: int) -> None:
        most = span = 0
        for new, old in zip(hops, self.before, strict=True):
            byte = 8_000_000 << 24
            time = new.when - old.when
            load = byte * min(new.queue, old.queue) // (new.rate_mbps * rtt)
            load += byte * (new.sent - old.sent) // (new.rate_mbps * time)
            if load > most:
                most, span = load, time
        span = min(span, rtt)
        self.load = (self.load * (rtt - span) + most * span) // rtt

    def choose(self, moves_reference: bool, rtt: int) -> None:
        p = self.param
        eta = (p["eta_ppm"] << 24) // MILLION
        divides = self.load >= eta or self.stage >= p["max_stage_count"]
        rate = self.reference
        if divides:
            rate = rate * eta // self.load if self.load else self.line
        self.rate = self.bound(rate + kbps(p["ai_bytes"], rtt))
        if moves_reference:
            self.reference, self.stage = self.rate, 0 if divides else self.stage + 1

    def window(self) -> int:
        return max(1, carried(self.rate, self.rtt)) if self.rtt else NO_WINDOW


class Timely(Controller):
    """Mittal et al., SIGCOMM 2015: the rate follows the gradient of the round trip."""

    def __init__(self, sim: Plane, line_kbps: int) -> None:
        super().__init__(sim, line_kbps)
        self.rate = self.bound(line_kbps)
        self.rtt = self.least = 0
        self.gradient = self.bytes = self.update_psn = self.falls = 0

    def acked(self, ack: Ack) -> None:
        segment = self.param["segment_bytes"]
        self.bytes += ack.acked
        if not ack.rtt:
            return
        self.least = min(self.least or ack.rtt, ack.rtt)
        if self.bytes < segment if segment else ack.acked_psn <= self.update_psn:
            return
        if self.rtt:
            self.update(ack.rtt)
        self.rtt, self.bytes, self.update_psn = ack.rtt, 0, ack.next_psn

    def update(self, rtt: int) -> None:
        p = self.param
        alpha, beta, step = p["alpha_ppm"], p["beta_ppm"], p["rate_ai_mbps"] * 1000
        self.gradient = toward_zero(self.gradient * (MILLION - alpha) + (rtt - self.rtt) * alpha, MILLION)
        if rtt < p["t_low_ps"]:
            self.rate = self.bound(self.rate + step)
        elif rtt > p["t_high_ps"]:
            self.falls = 0
            self.cut(beta * (rtt - p["t_high_ps"]) // rtt)
        elif self.gradient <= 0:
            self.falls += 1
            steps = p["hai_count"] if self.falls >= p["hai_count"] else 1
            self.rate = self.bound(self.rate + steps * step)
        else:
            self.falls = 0
            self.cut(min(MILLION, beta * self.gradient // (p["min_rtt_ps"] or self.least)))

    def cut(self, ppm: int) -> None:
        self.rate = self.bound(self.rate - self.rate * ppm // MILLION)


class Swift(Controller):
    """Kumar et al., SIGCOMM 2020: a window by a target delay. The window counts in 2^-16 bytes."""

    def __init__(self, sim: Plane, line_kbps: int) -> None:
        super().__init__(sim, line_kbps)
        p = self.param
        start = p["initial_window_bytes"] or carried(line_kbps, p["base_target_ps"])
        self.size = max(start, 1) << 16
        self.packet, self.rtt, self.timeouts = 1, 0, 0
        self.cut_at: int | None = None
        self.pacing = pacing_q16(line_kbps)

    def sent(self, size: int, now: int) -> int:
        self.packet = max(self.packet, size)
        return self.pacing

    def window(self) -> int:
        return max(1, (self.size >> 16) - self.packet + 1)

    def target(self, hop_count: int) -> int:
        p = self.param

        def root(packets_q16: int) -> int:
            return (1 << 32) // isqrt(max(packets_q16, 1) << 16)

        least, most = (root((p[f"fs_{end}_cwnd_ppm"] << 16) // MILLION) for end in ("max", "min"))
        here = root(self.size // self.packet)
        scaled = 0
        if most > least and here > least:
            scaled = p["fs_range_ps"] * (min(here, most) - least) // (most - least)
        return p["base_target_ps"] + hop_count * p["hop_ps"] + scaled

    def set_size(self, size: int) -> None:
        p = self.param
        least, most = (((self.packet * p[f"{end}_cwnd_ppm"]) << 16) // MILLION for end in ("min", "max"))
        self.size = max(min(size, most), least, 1)
        self.pacing = pacing_q16(self.line)
        if self.size >> 16 < self.packet and self.rtt:
            self.pacing = max(self.pacing, (self.rtt << 32) // self.size)

    def may_cut(self, now: int) -> bool:
        return self.cut_at is None or now - self.cut_at >= self.rtt

    def cut(self, size: int, now: int) -> None:
        before = self.size
        self.set_size(size)
        if self.size < before:
            self.cut_at = now

    def less(self, ppm: int) -> int:
        return self.size - self.size * ppm // MILLION

    def acked(self, ack: Ack) -> None:
        p = self.param
        if ack.acked:
            self.timeouts = 0
        if not ack.rtt:
            return
        may, self.rtt = self.may_cut(ack.now), ack.rtt
        target = self.target(ack.hop_count)
        if ack.rtt < target:
            step = ((ack.acked * p["ai_ppm"]) << 16) // MILLION
            if self.size >> 16 >= self.packet:
                step = ((step * self.packet) << 16) // self.size
            self.set_size(self.size + step)
        elif may:
            excess = p["beta_ppm"] * (ack.rtt - target) // ack.rtt
            self.cut(self.less(min(excess, p["max_mdf_ppm"])), ack.now)

    def lost(self, timeout: bool, now: int) -> None:
        self.timeouts = self.timeouts + 1 if timeout else 0
        if self.timeouts >= self.param["retx_reset_count"]:
            self.cut(0, now)
        elif self.may_cut(now):
            self.cut(self.less(self.param["max_mdf_ppm"]), now)


class SrdCc(Controller):
    """In the manner of SRD (Shalev et al., IEEE Micro 2020): rounds of a round trip, late or not."""

    def __init__(self, sim: Plane, line_kbps: int) -> None:
        super().__init__(sim, line_kbps)
        self.rate = self.bound(line_kbps)
        self.base = self.param["base_rtt_ps"]
        self.began: int | None = None
        self.bytes = self.rtt = self.samples = self.late = self.clear = 0

    def acked(self, ack: Ack) -> None:
        p = self.param
        if self.began is None:
            self.begin(ack.now)
        else:
            self.bytes += ack.acked
        if ack.rtt:
            if not p["base_rtt_ps"]:
                self.base = min(self.base or ack.rtt, ack.rtt)
            self.rtt = ack.rtt
            self.samples += 1
            self.late += ack.rtt - self.base > self.base * p["inflation_ppm"] // MILLION
        assert self.began is not None
        if self.samples and self.base and ack.now - self.began >= max(self.rtt, self.base):
            self.end(ack.now - self.began)
            self.begin(ack.now)

    def begin(self, now: int) -> None:
        self.began, self.bytes, self.samples, self.late = now, 0, 0, 0

    def end(self, time: int) -> None:
        p = self.param
        if self.late * MILLION > self.samples * p["majority_ppm"]:
            self.clear = 0
            rate = min(self.rate, kbps(self.bytes, time)) * p["backoff_ppm"] // MILLION
        else:
            self.clear += 1
            step = self.line * p["increase_ppm"] // MILLION
            rate = self.rate + min(self.clear * step, self.line)
        self.rate = self.bound(rate)

    def lost(self, timeout: bool, now: int) -> None:
        self.samples += 1
        self.late += 1
        if timeout:
            self.rate = self.bound(self.rate // 2)

    def window(self) -> int:
        if not self.rtt:
            return self.param["initial_window_bytes"]
        bdp = carried(self.rate, self.base)
        return max(1, bdp * self.param["window_gain_ppm"] // MILLION)


class IbCc(Controller):
    """InfiniBand's index into a table of delays; the timer runs from time 0 on, for all alike."""

    wants_cnp = True

    def __init__(self, sim: Plane, line_kbps: int) -> None:
        super().__init__(sim, line_kbps)
        self.least = min(self.param["ccti_min_count"], self.param["ccti_limit_count"])
        self.index, self.turns = self.least, 0

    def entry(self) -> tuple[int, int]:
        """Return multiplier and shift of the table's entry."""
        step = self.param["cct_step_ppm"]
        one, most = 1 << 32, 1 << 46
        if self.param["cct_exponential"]:
            delay = min(self.power(one + (step << 32) // MILLION, self.index), most + one) - one
        else:
            delay = ((self.index * step) << 32) // MILLION
        delay = min(delay, most)
        for shift in (3, 2, 1, 0):
            multiplier = (delay + (1 << (31 - shift))) >> (32 - shift)
            if multiplier < 1 << 14:
                return multiplier, shift
        return (1 << 14) - 1, 0

    @staticmethod
    def power(base: int, exponent: int) -> int:
        result = 1 << 32
        while exponent:
            if exponent & 1:
                result = result * base >> 32
            exponent >>= 1
            base = min(base * base >> 32, 1 << 46)
        return result

    def advance(self, now: int) -> None:
        turns = now // (self.param["ccti_timer_count"] * 1_024_000)
        self.index = max(self.least, self.index - (turns - self.turns))
        self.turns = turns

    def sent(self, size: int, now: int) -> int:
        self.advance(now)
        multiplier, shift = self.entry()
        line = pacing_q16(self.line)
        return line + (line * multiplier >> shift)

    def notified(self, now: int) -> None:
        self.advance(now)
        self.index = min(self.param["ccti_limit_count"], self.index + self.param["ccti_increase_count"])


CONTROLLERS = {
    "none": Controller,
    "hpcc": Hpcc,
    "timely": Timely,
    "swift": Swift,
    "srd_cc": SrdCc,
    "ib_cc": IbCc,
}
