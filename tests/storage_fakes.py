"""Stand-ins for the core's storage: operations of a trace that take fixed times."""

from typing import ClassVar

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


class FakeEmulator:
    """File systems without a network: each kind of operation takes its time, bytes go at a rate a rank."""

    LATENCY_PS: ClassVar = {
        "open": 50_000_000,
        "mkdir": 80_000_000,
        "rename": 90_000_000,
        "fsync": 500_000_000,
    }

    def __init__(self, n_ranks=4, mounts=("/",)):
        self.n_ranks, self.mounts = n_ranks, mounts
        self.now_ps = 0
        self.calls = []
        self.directories, self.names = {}, []
        self.ends = []

    def start(self, there):
        self.names = [*self.mounts, *(path for path, _ in there)]
        return {path: number for number, path in enumerate(self.names)}

    def add_directory(self, path):
        return self.directories.setdefault(path, len(self.directories))

    def add_name(self, path, directory):
        assert directory in self.directories.values()
        self.names.append(path)
        return len(self.names) - 1

    def begin(self, rank, kind, name, *, offset=0, size=0, flags=0, new_name=-1):
        assert 0 <= name < len(self.names) and new_name < len(self.names)
        self.calls.append((rank, kind, self.names[name], offset, size, flags))
        took = self.LATENCY_PS.get(kind, 10_000_000) + size * 100
        self.ends.append((self.now_ps, self.now_ps + took))
        return len(self.ends) - 1

    def wait_any(self, tokens, until_ps=None):
        ends = [self.ends[token][1] for token in tokens]
        first = min(ends, default=None)
        if first is None or (until_ps is not None and until_ps < first):
            self.now_ps = max(self.now_ps, until_ps)
            return -1, -1, -1
        self.now_ps = max(self.now_ps, first)
        which = ends.index(first)
        return which, *self.ends[tokens[which]]

    def tables(self):
        return {"clients": {"rank": np.arange(self.n_ranks), "calls": np.zeros(self.n_ranks, np.int64)}}
