"""Stand-ins for the core's storage: operations of a trace that take fixed times."""

import numpy as np
import pyarrow as pa

from fabricsim.trace.paths import parse_path


def fake_ops(trace, took):
    """Return the ops table of a replay in which a row takes `took(kind, rank, row)` picoseconds on its ranks.

    Rows of a rank follow one another; a barrier ends for all when the last rank has come.
    """
    clock = np.zeros(trace.n_ranks, np.int64)
    columns = {"id": [], "rank": [], "start_ps": [], "end_ps": []}
    for row in trace.table.to_pylist():
        ranks = row["ranks"]
        starts = {rank: int(clock[rank]) + (row["delay_ps"] or 0) for rank in ranks}
        if row["kind"] == "barrier":
            end = max(starts.values()) + took("barrier", ranks[0], row)
            ends = dict.fromkeys(ranks, end)
        else:
            ends = {rank: starts[rank] + took(row["kind"], rank, row) for rank in ranks}
        for rank in ranks:
            clock[rank] = ends[rank]
            for name, value in zip(columns, (row["id"], rank, starts[rank], ends[rank]), strict=True):
                columns[name].append(value)
    return pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})


def files_of(row):
    """Return {rank: path} of a row."""
    paths = parse_path(row["file"]).paths(row["ranks"]).to_pylist()
    return dict(zip(row["ranks"], paths, strict=True))


def extents_of(trace, kind):
    """Return {path: sorted (offset, end)} of all transfers of a kind."""
    found = {}
    for row in trace.table.to_pylist():
        if row["kind"] != kind:
            continue
        for place, (_, path) in enumerate(files_of(row).items()):
            begin = row["offset"] + place * (row["stride"] or 0)
            found.setdefault(path, []).append((begin, begin + row["bytes"]))
    return {path: sorted(extents) for path, extents in found.items()}
