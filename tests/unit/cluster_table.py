"""The parameter table for tests: the core's own when it is built, else one of the same shape."""

from __future__ import annotations

from fabricsim.errors import EngineError
from fabricsim.fabrics import ParameterTable, parameter_table

BIG = 1 << 40

ROOMS = {
    "switch": ["ethernet"],
    "link": ["lossy", "pause"],
    "route": ["ecmp", "spray"],
    "transport": ["roce"],
    "cc": ["none", "dcqcn"],
    "coll": ["ring", "tree", "pairwise", "chain", "dissemination"],
}

# room, implementation, name, default, min, max
ROWS = [
    ("switch", "ethernet", "buffer_bytes", 32 << 20, 1 << 14, BIG),
    ("switch", "ethernet", "cut_through", 0, 0, 1),
    ("switch", "ethernet", "ecn", 1, 0, 1),
    ("switch", "ethernet", "ecn_kmin_bytes", 400_000, 0, BIG),
    ("switch", "ethernet", "ecn_kmax_bytes", 1_600_000, 1, BIG),
    ("switch", "ethernet", "ecn_pmax_ppm", 200_000, 1, 1_000_000),
    ("switch", "ethernet", "dynamic_alpha_ppm", 1_000_000, 1000, 64_000_000),
    ("link", "pause", "xoff_bytes", 0, 0, BIG),
    ("link", "pause", "xoff_alpha_ppm", 125_000, 1, 1_000_000),
    ("link", "pause", "xon_gap_bytes", 8356, 0, BIG),
    ("link", "pause", "headroom_bytes", 0, 0, BIG),
    ("route", "ecmp", "hash_seed", 0, 0, 2**31 - 1),
    ("route", "spray", "hash_seed", 0, 0, 2**31 - 1),
    ("transport", "roce", "mtu_bytes", 4096, 256, 16384),
    ("transport", "roce", "header_bytes", 82, 20, 1024),
    ("transport", "roce", "first_header_bytes", 16, 0, 1024),
    ("transport", "roce", "min_wire_bytes", 84, 20, 1024),
    ("transport", "roce", "ack_bytes", 86, 20, 1024),
    ("transport", "roce", "cnp_bytes", 98, 20, 1024),
    ("transport", "roce", "ack_every_count", 1, 1, 1024),
    ("transport", "roce", "rto_ps", 67_109_000_000, 1_000_000, 10**13),
    ("transport", "roce", "nak_interval_ps", 500_000_000, 1_000_000, 10**13),
    ("transport", "roce", "retry_limit_count", 7, 0, 1_000_000),
    ("transport", "roce", "window_bytes", 0, 0, BIG),
    ("transport", "roce", "cnp_interval_ps", 50_000_000, 0, 10**12),
    ("transport", "roce", "control_priority", 1, 0, 1),
    ("transport", "roce", "reorder_count", 1024, 64, 8192),
    ("cc", "dcqcn", "g_inverse", 256, 2, 1 << 20),
    ("cc", "dcqcn", "alpha_timer_ps", 55_000_000, 1000, 10**12),
    ("cc", "dcqcn", "increase_timer_ps", 55_000_000, 1000, 10**12),
    ("cc", "dcqcn", "byte_counter_bytes", 10_000_000, 0, BIG),
    ("cc", "dcqcn", "fast_recovery_count", 5, 1, 1000),
    ("cc", "dcqcn", "rate_ai_mbps", 40, 1, 10**6),
    ("cc", "dcqcn", "rate_hai_mbps", 400, 1, 10**6),
    ("cc", "dcqcn", "min_rate_mbps", 100, 1, 10**6),
    ("cc", "dcqcn", "decrease_timer_ps", 0, 0, 10**12),
    ("cc", "dcqcn", "alpha_by_timer", 0, 0, 1),
    ("coll", "ring", "launch_ps", 0, 0, 10**12),
    ("coll", "ring", "step_ps", 0, 0, 10**12),
    ("coll", "ring", "chunk_bytes", 131_072, 1, BIG),
    ("coll", "ring", "channels_count", 1, 1, 32),
    ("coll", "tree", "step_ps", 0, 0, 10**12),
    ("coll", "pairwise", "window_count", 8, 1, 1024),
]


def stand_in() -> ParameterTable:
    """A table of the same shape as the core's."""
    return ParameterTable.from_engine(
        ROOMS,
        [
            {
                "room": room,
                "impl": impl,
                "name": name,
                "unit": name.rsplit("_", 1)[-1],
                "default": default,
                "min": least,
                "max": most,
                "meaning": f"meaning of {name}",
                "source": "a source",
            }
            for room, impl, name, default, least, most in ROWS
        ],
    )


def table_for_tests() -> ParameterTable:
    """The core's table, or the stand-in where the core is not built."""
    try:
        return parameter_table()
    except EngineError:
        return stand_in()
