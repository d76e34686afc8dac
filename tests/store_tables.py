"""A parameter table with rooms of storage of a few parameters, for tests of clusters."""

from __future__ import annotations

from fabricsim.fabrics.parameters import Parameter, ParameterTable, parameter_table

LARGE = 2**50


def _table(room: str, impl: str, *rows: tuple[str, int, int]) -> dict[str, Parameter]:
    return {
        name: Parameter(room, impl, name, "", default, 0, most, "for a test", "")
        for name, default, most in rows
    }


def store_table() -> ParameterTable:
    """Return the core's tables with four file systems and two targets in place of its own."""
    core = parameter_table()
    common = (("rpc_bytes", 4 << 20, LARGE), ("cache", 1, 1), ("cache_bytes", 1 << 34, LARGE))
    striped = (("stripe_bytes", 1 << 20, LARGE), ("stripe_count", 1, 2000))
    tables = {
        ("store", "lustre"): _table("store", "lustre", *common, *striped, ("open_ps", 50_000_000, LARGE)),
        ("store", "beegfs"): _table("store", "beegfs", *common, *striped),
        ("store", "weka"): _table("store", "weka", *common),
        ("store", "local"): _table("store", "local", *common),
        ("target", "flash"): _table("target", "flash", ("write_mbps", 24_000, LARGE)),
        ("target", "disk"): _table("target", "disk", ("seek_ps", 8_000_000_000, LARGE)),
    }
    rooms = {"store": ("lustre", "beegfs", "weka", "local"), "target": ("flash", "disk")}
    return ParameterTable({**core.implementations, **rooms}, {**core.parameters, **tables}, core.collectives)
