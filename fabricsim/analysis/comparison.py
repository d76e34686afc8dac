"""Measured against emulated: per operation, in all, and against an nccl-tests table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from fabricsim.analysis.collectives import collectives, per_operation
from fabricsim.analysis.nccl_tests import NcclTests
from fabricsim.errors import InputError
from fabricsim.trace.schema import STORAGE

if TYPE_CHECKING:
    from fabricsim.result import Result
    from fabricsim.trace import Trace

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """What was measured beside what was emulated.

    Parameters
    ----------
    rows
        One dict an operation (or a size of nccl-tests): ``id``, ``name`` (its file, where it has no name),
        ``kind``, ``bytes``, ``ranks``, ``measured_ps``, ``emulated_ps`` (the minimum over the ranks; of
        storage, where no rank waits for another, the maximum), ``spread_ps`` (the longest less the shortest
        time of a rank), ``ratio`` (emulated over measured).
    step_measured_ps, step_emulated_ps
        From the first start to the last end; None where nothing was measured.
    unmatched
        How many measured communications have no emulated counterpart.
    """

    rows: tuple[dict[str, Any], ...]
    step_measured_ps: int | None
    step_emulated_ps: int | None
    unmatched: int = 0

    @property
    def by_kind(self) -> list[dict[str, Any]]:
        """Return the sums by kind: operations, bytes of all ranks, measured and emulated time, and ratio."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            kind = {"kind": row["kind"], "operations": 0, "bytes": 0, "measured_ps": 0, "emulated_ps": 0}
            total = found.setdefault(row["kind"], kind)
            total["operations"] += 1
            total["bytes"] += row["bytes"] * (row["ranks"] or 0)
            total["measured_ps"] += row["measured_ps"]
            total["emulated_ps"] += row["emulated_ps"]
        for total in found.values():
            measured = total["measured_ps"]
            total["ratio"] = total["emulated_ps"] / measured if measured else None
        return list(found.values())

    @property
    def summary(self) -> dict[str, Any]:
        """Return the totals: operations, median, minimum and maximum ratio, and the step."""
        ratios = [row["ratio"] for row in self.rows if row["ratio"] is not None]
        measured, emulated = self.step_measured_ps, self.step_emulated_ps
        return {
            "operations": len(self.rows),
            "unmatched": self.unmatched,
            "ratio_median": statistics.median(ratios) if ratios else None,
            "ratio_min": min(ratios, default=None),
            "ratio_max": max(ratios, default=None),
            "step_measured_ps": measured,
            "step_emulated_ps": emulated,
            "step_ratio": emulated / measured if measured and emulated is not None else None,
        }

    def table(self) -> pa.Table:
        """Return the rows as a table."""
        names = ["id", "name", "kind", "bytes", "ranks", "measured_ps", "emulated_ps", "spread_ps", "ratio"]
        return pa.table({name: [row.get(name) for row in self.rows] for name in names})

    def __repr__(self) -> str:
        ratio = self.summary["ratio_median"]
        text = "none" if ratio is None else f"{ratio:.3f}"
        return f"<Comparison of {len(self.rows)} operations, median emulated/measured {text}>"

    def _repr_html_(self) -> str:
        from fabricsim.result import html_table

        return html_table([(key, value) for key, value in self.summary.items()], "Comparison")


def compare(measured: Trace | Result | NcclTests, emulated: Result | NcclTests) -> Comparison:
    """Compare what was measured with what was emulated.

    Parameters
    ----------
    measured
        A trace whose rows carry ``start_ps`` and ``end_ps``, another result, or an nccl-tests table. A row
        of a trace is matched by its id; a size of nccl-tests by its bytes (and kind and ranks where the file
        tells them).
    emulated
        The result of a replay; or the document of ``fabricsim bench -J``, against another of nccl-tests.

    Raises
    ------
    InputError
        When nothing on the measured side can be matched.
    """
    if isinstance(emulated, NcclTests):
        if not isinstance(measured, NcclTests):
            raise InputError(["only nccl-tests' -J can be compared with fabricsim bench -J"])
        return _compare_tables(measured, emulated)
    if isinstance(measured, NcclTests):
        return _compare_sizes(measured, emulated)
    ops = getattr(measured, "ops", None)
    if ops is not None:
        return _compare_results(ops, emulated)
    return _compare_trace(cast("Trace", measured).table, emulated)


def _compare_trace(table: pa.Table, emulated: Result) -> Comparison:
    columns = set(table.column_names)
    if not {"start_ps", "end_ps"} <= columns:
        raise InputError(
            ["the measured trace has no columns start_ps and end_ps; there is nothing to compare"]
        )
    picked = table.select(["id", "kind", "start_ps", "end_ps"])
    picked = picked.filter(
        pa.array(
            np.asarray(table["start_ps"].is_valid().to_numpy())
            & np.asarray(table["end_ps"].is_valid().to_numpy())
        )
    )
    if picked.num_rows == 0:
        raise InputError(
            ["no row of the measured trace has both start_ps and end_ps; there is nothing to compare"]
        )
    start, end = picked["start_ps"].to_numpy(), picked["end_ps"].to_numpy()
    kinds = picked["kind"].to_pylist()
    times = {
        int(operation): int(took)
        for operation, took, kind in zip(picked["id"].to_numpy(), end - start, kinds, strict=True)
        if kind != "compute"
    }
    files = table.select(["id", "file"]).to_pylist() if "file" in columns else []
    named = {row["id"]: row["file"] for row in files if row["file"] is not None and row["id"] in times}
    return _matched(times, emulated, int(end.max() - start.min()), named)


def _compare_results(ops: pa.Table, emulated: Result) -> Comparison:
    each = per_operation(ops)
    times = {
        int(operation): int(took)
        for operation, took, kind in zip(each.id, each.shortest, each.kind, strict=True)
        if each.kinds[kind] != "compute"
    }
    return _matched(times, emulated, each.length_ps)


def _matched(
    times: dict[int, int], emulated: Result, step_measured_ps: int, files: Mapping[int, str] | None = None
) -> Comparison:
    each = per_operation(emulated.ops)
    names = dict(files or {}) | _names(emulated.ops)
    rows = []
    for index, value in enumerate(each.id):
        operation = int(value)
        if operation not in times:
            continue
        shortest, longest = int(each.shortest[index]), int(each.longest[index])
        took = longest if each.kinds[each.kind[index]] in STORAGE else shortest
        measured = times[operation]
        rows.append(
            {
                "id": operation,
                "name": names.get(operation),
                "kind": each.kinds[each.kind[index]],
                "bytes": int(each.size[index]),
                "ranks": int(each.ranks[index]),
                "measured_ps": measured,
                "emulated_ps": took,
                "spread_ps": longest - shortest,
                "ratio": took / measured if measured > 0 else None,
            }
        )
    if times and not rows:
        raise InputError(
            ["no measured operation has the id of an emulated one; are these of the same trace?"]
        )
    return Comparison(tuple(rows), step_measured_ps, each.length_ps, len(times) - len(rows))


def _compare_sizes(measured: NcclTests, emulated: Result) -> Comparison:
    ours = [row for row in collectives(emulated.ops) if row["bytes"] > 0]
    rows, lost = [], 0
    for size in measured.rows:
        same = [
            row
            for row in ours
            if row["bytes"] == size["bytes"]
            and measured.kind in (None, row["kind"])
            and measured.ranks in (None, row["ranks"])
        ]
        if len({(row["kind"], row["ranks"]) for row in same}) != 1:
            lost += 1
            continue
        row = same[0]
        rows.append(
            {
                "id": None,
                "name": f"{row['count']} x",
                "kind": row["kind"],
                "bytes": row["bytes"],
                "ranks": row["ranks"],
                "measured_ps": size["time_ps"],
                "emulated_ps": row["time_ps"],
                "spread_ps": None,
                "ratio": row["time_ps"] / size["time_ps"],
                "measured_busbw_gbs": size["busbw_gbs"],
                "emulated_busbw_gbs": row["busbw_gbs"],
            }
        )
    if not rows:
        sizes = sorted({row["bytes"] for row in ours})
        raise InputError(
            [
                "no size of the nccl-tests table matches one collective of the result"
                f" (measured: {[row['bytes'] for row in measured.rows][:8]}, emulated: {sizes[:8]})"
            ]
        )
    return Comparison(tuple(rows), None, None, lost)


def _compare_tables(measured: NcclTests, emulated: NcclTests) -> Comparison:
    """Size against size; of rows of one size that of the same type, operation and root."""
    for what, one, two in (
        ("test", measured.kind, emulated.kind),
        ("number of ranks", measured.ranks, emulated.ranks),
    ):
        if None not in (one, two) and one != two:
            raise InputError([f"another {what}: measured {one}, emulated {two}"])

    def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row["bytes"], row["type"], row["redop"], row["root"]

    exact = {key(row): row for row in reversed(emulated.rows)}
    by_size: dict[int, list[dict[str, Any]]] = {}
    for row in emulated.rows:
        by_size.setdefault(row["bytes"], []).append(row)
    rows, lost = [], 0
    for size in measured.rows:
        same = by_size.get(size["bytes"], [])
        ours = exact.get(key(size)) or (same[0] if len({r["time_ps"] for r in same}) == 1 else None)
        if ours is None or not ours["time_ps"]:
            lost += 1
            continue
        rows.append(
            {
                "id": None,
                "name": " ".join(word for word in (size["type"], size["redop"]) if word) or None,
                "kind": measured.kind or emulated.kind,
                "bytes": size["bytes"],
                "ranks": measured.ranks or emulated.ranks,
                "measured_ps": size["time_ps"],
                "emulated_ps": ours["time_ps"],
                "spread_ps": None,
                "ratio": ours["time_ps"] / size["time_ps"] if size["time_ps"] else None,
                "measured_busbw_gbs": size["busbw_gbs"],
                "emulated_busbw_gbs": ours["busbw_gbs"],
            }
        )
    if not rows:
        sizes = [[row["bytes"] for row in table.rows][:8] for table in (measured, emulated)]
        raise InputError([f"no size is in both tables (measured: {sizes[0]}, emulated: {sizes[1]})"])
    return Comparison(tuple(rows), None, None, lost)


def _names(ops: pa.Table) -> dict[int, str]:
    if "name" not in ops.column_names:
        return {}
    ids = ops["id"].to_numpy()
    _, first = np.unique(ids, return_index=True)
    picked = ops.select(["id", "name"]).take(pa.array(first))
    pairs = zip(picked["id"].to_pylist(), picked["name"].to_pylist(), strict=True)
    return {operation: name for operation, name in pairs if name is not None}
