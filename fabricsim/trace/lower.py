"""From a trace to what the core reads: fixed columns, codes for kinds, no nulls."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa

from fabricsim.errors import InputError
from fabricsim.trace.files import FileTable
from fabricsim.trace.findings import Findings, value_of
from fabricsim.trace.schema import COLLECTIVES, KINDS, LOWERED_GROUPS, LOWERED_SCHEMA, STORAGE
from fabricsim.trace.table import Trace
from fabricsim.trace.validate import row_sums
from fabricsim.trace.view import Bools, Ints, View

PS_PER_S = 1e12


class Accelerator(Protocol):
    """What turns ``flops`` and ``mem_bytes`` into time: attained rates of one rank, a second."""

    @property
    def flops_per_s(self) -> float: ...

    @property
    def mem_bytes_per_s(self) -> float: ...


def lower(
    trace: Trace, accelerator: Accelerator | None = None, *, files: FileTable | None = None
) -> pa.Table:
    """Return the canonical table of ``schema.LOWERED_SCHEMA`` for the core.

    Parameters
    ----------
    trace
        The trace.
    accelerator
        Rates for compute rows with ``flops`` and ``mem_bytes``; their duration is the longer of both times,
        rounded up to a picosecond.
    files
        The files of the trace, as ``make_files`` finds them on the cluster's file systems.

    Returns
    -------
    pyarrow.Table
        One chunk, no nulls: 0 for missing numbers, -1 for no stream, empty lists. ``bytes`` of an all_to_all
        with ``splits`` is the greatest total that a rank sends. ``variant`` is -1, the algorithm of the kind.
        With ``files``, the columns of ``schema.LOWERED_STORAGE`` follow, and where a collective has groups
        or happens several times, those of ``schema.LOWERED_GROUPS``.

    Raises
    ------
    InputError
        When storage operations need a file system, or compute rows an accelerator.
    """
    view = trace.view
    out = Findings(trace.where)
    if files is None:
        out.mask(
            "kind",
            view.is_kind(*STORAGE),
            lambda r: f"{KINDS[view.kind[r]]}, but the cluster has no [storage]",
            "operations of compute and communication, or a cluster with a file system",
        )
    duration = _durations(view, accelerator, out)
    if out.problems:
        raise InputError(out.problems)
    stream = view.flat("stream")
    columns = {
        "id": pa.array(view.flat("id").values),
        "kind": pa.array(view.kind),
        "ranks": _lists(view, "ranks"),
        "peer": _lists(view, "peer"),
        "bytes": pa.array(_sizes(view)),
        "splits": _lists(view, "splits"),
        "duration_ps": pa.array(duration),
        "delay_ps": pa.array(view.flat("delay_ps").values),
        "stream": pa.array(np.where(stream.given, stream.values, np.int32(-1))),
        "after": _lists(view, "after"),
        "tag": pa.array(view.flat("tag").values),
        "priority": pa.array(view.flat("priority").values.astype(np.int8)),
        "variant": pa.array(np.full(view.n, -1, np.int16)),
    }
    table = pa.table([columns[name] for name in LOWERED_SCHEMA.names], schema=LOWERED_SCHEMA)
    for more in (files.columns if files is not None else None, _groups(view)):
        if more is not None:
            table = pa.table([*table.columns, *more.columns], schema=pa.schema([*table.schema, *more.schema]))
    return table


def _groups(view: View) -> pa.Table | None:
    """Return the columns of groups and repetitions, or None where no collective has any."""
    collective = view.is_kind(*COLLECTIVES)
    size = np.where(collective, view.flat("group_size").values, np.int32(0))
    count = np.where(collective, view.counts, 1)
    if not size.any() and (count == 1).all():
        return None
    return pa.table([pa.array(size, pa.int32()), pa.array(count)], schema=LOWERED_GROUPS)


def _lists(view: View, name: str) -> pa.Array:
    """Return a column of lists with empty lists for nulls."""
    array = view.array(name)
    if array is not None and array.null_count == 0 and array.offset == 0:
        return array
    lists = view.lists(name)
    return pa.ListArray.from_arrays(pa.array(lists.offsets.astype(np.int32)), pa.array(lists.values))


def _sizes(view: View) -> Ints:
    size, lengths = view.flat("bytes"), view.lists("splits").lengths
    rows = np.flatnonzero((lengths > 0) & ~size.given)
    if len(rows) == 0:
        return size.values
    values = size.values.copy()
    values[rows] = row_sums(view, rows)[0]
    return values


def _durations(view: View, accelerator: Accelerator | None, out: Findings) -> Ints:
    duration, flops, memory = view.flat("duration_ps"), view.flat("flops"), view.flat("mem_bytes")
    compute = view.is_kind("compute")
    work = compute & ~duration.given
    if not work.any():
        return _repeated(view, duration.values, compute, out)
    if accelerator is None:
        out.mask("flops", work, "work without a time", "duration_ps, or a cluster with an accelerator")
        return duration.values
    flops_per_s, bytes_per_s = accelerator.flops_per_s, accelerator.mem_bytes_per_s
    for name, column, rate in (("flops", flops, flops_per_s), ("mem_bytes", memory, bytes_per_s)):
        if not (rate and rate > 0):
            needs = work & (column.values > 0)
            out.mask(name, needs, value_of(column.values), f"0, as the accelerator has no {name} rate")
    if out.problems:
        return duration.values
    time = np.zeros(view.n)
    for column, rate in ((flops, flops_per_s), (memory, bytes_per_s)):
        if rate:
            time = np.maximum(time, np.ceil(column.values.astype(np.float64) * PS_PER_S / float(rate)))
    too_long = work & (time >= 2.0**63)
    out.mask("flops", too_long, lambda r: f"work of {time[r]:.3g} ps", "less than 2^63 ps")
    made: Ints = duration.values.copy()
    made[work & ~too_long] = time[work & ~too_long].astype(np.int64)
    return _repeated(view, made, compute, out)


def _repeated(view: View, duration: Ints, compute: Bools, out: Findings) -> Ints:
    """Return how long compute rows take that happen several times: with the delays between."""
    again = compute & (view.counts > 1)
    if not again.any():
        return duration
    delay, count = view.flat("delay_ps").values, view.counts
    whole = duration.astype(np.float64) * count + delay.astype(np.float64) * (count - 1)
    out.mask("count", again & (whole >= 2.0**63), lambda r: f"work of {whole[r]:.3g} ps", "less than 2^63 ps")
    fits = again & (whole < 2.0**63)
    return np.where(fits, duration * count + delay * (count - 1), duration)
