"""Arithmetic that every room shares: wire time, keyed random draws, even parts."""

from __future__ import annotations

MASK = (1 << 64) - 1
KEY_ENTROPY, KEY_MARK, KEY_SALT, KEY_SPRAY = 1, 2, 3, 4


def mix(x: int) -> int:
    """Return the finaliser of SplitMix64 of a 64-bit number."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def draw(seed: int, purpose: int, entity: int, count: int) -> int:
    """Return the random 64-bit number of (seed, purpose, entity, count): no draw shifts another."""
    return mix(mix(mix((seed ^ (purpose << 56)) & MASK) ^ (entity & MASK)) ^ (count & MASK))


def ps_per_byte_q16(rate_mbps: int) -> int:
    """Return picoseconds a byte times 2^16, rounded to nearest."""
    return ((8_000_000 << 16) + rate_mbps // 2) // rate_mbps


def wire_ps(size: int, q16: int) -> int:
    """Return the time of so many bytes on a wire, rounded up."""
    return (size * q16 + 0xFFFF) >> 16


def wire_bytes(time_ps: int, q16: int) -> int:
    """Return the bytes that a wire carries in a time, rounded down."""
    return (time_ps << 16) // q16


def ppm_q16(ppm: int) -> int:
    """Return a share in parts per million times 2^16, rounded down."""
    return (ppm << 16) // 1_000_000


def times_q16(size: int, q16: int) -> int:
    """Return a share of a size, rounded down."""
    return size * q16 >> 16


def part(size: int, parts: int, i: int) -> int:
    """Return the bytes of part i of so many even parts."""
    return size * (i + 1) // parts - size * i // parts


def pieces(size: int, chunk: int, most: int) -> int:
    """Return in how many pieces of up to ``chunk`` bytes (0: any) a message travels, at most ``most``."""
    return min(-(-size // chunk), most) if chunk and size else 1
