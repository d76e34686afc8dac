"""Small traces for the tests: rows as dicts, so that a test shows only what it is about."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fabricsim.trace import TRACE_SCHEMA


def table(*rows: dict[str, Any]) -> pa.Table:
    """Return a trace table of rows; ids count from 0 unless given, columns are those that some row has."""
    made = [{"id": number, **row} for number, row in enumerate(rows)]
    names = [name for name in TRACE_SCHEMA.names if any(name in row for row in made)]
    columns = {}
    for name in names:
        kind = pa.string() if name == "kind" else TRACE_SCHEMA.field(name).type
        columns[name] = pa.array([row.get(name) for row in made], kind)
    return pa.table(columns)


def compute(*ranks: int, duration_ps: int = 1000, **more: Any) -> dict[str, Any]:
    return {"kind": "compute", "ranks": list(ranks), "duration_ps": duration_ps, **more}


def all_reduce(*ranks: int, size: int = 1 << 20, **more: Any) -> dict[str, Any]:
    return {"kind": "all_reduce", "ranks": list(ranks), "bytes": size, **more}


def send(src: int, dst: int, size: int = 100, **more: Any) -> dict[str, Any]:
    return {"kind": "send", "ranks": [src], "peer": [dst], "bytes": size, **more}


def recv(dst: int, src: int, size: int = 100, **more: Any) -> dict[str, Any]:
    return {"kind": "recv", "ranks": [dst], "peer": [src], "bytes": size, **more}
