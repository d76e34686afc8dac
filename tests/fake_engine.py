"""A stand-in for the compiled core: the same classes, with times that can be worked out by hand.

A byte takes 1 ps on every exchange and each operation starts when the last of its ranks is released. So the
front of the house (slices, results, analysis, command line) is tested without packets.
"""

from __future__ import annotations

import hashlib
import time
import types

import numpy as np
import pyarrow as pa

from fabricsim._core.engine import RPC_KINDS, implementations, params, summaries
from fabricsim.errors import DeadlockError
from fabricsim.trace import KINDS

SECONDS_PER_STEP = 0.0


class Model:
    def __init__(self, **given):
        self.given = given
        self.n_links = 2 * len(given["cable_a"])
        self.lookahead_ps = int(given["cable_delay_ps"].min())
        self.n_colours = 2


class Program:
    def __init__(self, model, table, rank_host, algorithms, variants=(), files=None):
        self.model, self.algorithms, self.variants = model, algorithms, variants
        self.files = files
        self.rows = pa.table(table).to_pylist()
        self.rank_host = rank_host
        self.n_ops = len(self.rows)
        self.n_instances = sum(len(row["ranks"]) for row in self.rows)
        self.n_connections = 1


class Run:
    def __init__(
        self, model, program, seed=1, threads=1, record_packets=False, plain=False, record_rpcs=False
    ):
        self.model, self.program, self.seed = model, program, seed
        self.now_ps = 0
        self.steps = 0
        self.row = np.repeat(np.arange(program.n_ops), [len(r["ranks"]) for r in program.rows])
        self.rank = np.array([rank for r in program.rows for rank in r["ranks"]], np.int32)
        self.start = np.full(len(self.rank), -1, np.int64)
        self.end = np.full(len(self.rank), -1, np.int64)
        self.first = np.searchsorted(self.row, np.arange(program.n_ops))
        self._schedule()

    def _schedule(self):
        """Time the operations row by row, again and again until nothing more can be timed."""
        by_id = {row["id"]: index for index, row in enumerate(self.program.rows)}
        done = {}
        last = {}
        blocked_streams = set()
        waiting = list(range(self.program.n_ops))
        while waiting:
            left = []
            blocked_streams.clear()
            for index in waiting:
                row = self.program.rows[index]
                keys = [(row["stream"], rank) for rank in row["ranks"]]
                stuck = row["stream"] >= 0 and any(key in blocked_streams for key in keys)
                starts = []
                for key, rank in zip(keys, row["ranks"], strict=True):
                    release = last.get(key, 0) if row["stream"] >= 0 else 0
                    for other in row["after"]:
                        if rank in self.program.rows[by_id[other]]["ranks"]:
                            stuck |= (by_id[other], rank) not in done
                            release = max(release, done.get((by_id[other], rank), 0))
                    starts.append(release + row["delay_ps"])
                ends = None if stuck else self._ends(row, starts)
                if ends is None:
                    left.append(index)
                    blocked_streams.update(keys)
                    continue
                low = self.first[index]
                for at, (key, rank) in enumerate(zip(keys, row["ranks"], strict=True)):
                    self.start[low + at], self.end[low + at] = starts[at], ends[at]
                    done[index, rank] = ends[at]
                    if row["stream"] >= 0:
                        last[key] = ends[at]
            if len(left) == len(waiting):
                return
            waiting = left

    def _ends(self, row, starts):
        kind = KINDS[row["kind"]]
        if kind == "compute":
            return [start + row["duration_ps"] for start in starts]
        if kind == "recv":
            for other, sent in enumerate(self.program.rows):
                mine = sent["ranks"] == row["peer"] and sent["peer"] == row["ranks"]
                if KINDS[sent["kind"]] == "send" and mine and sent["tag"] == row["tag"]:
                    end = int(self.end[self.first[other]])
                    return None if end < 0 else [max(end, starts[0])]
        if kind == "send":
            return [starts[0] + row["bytes"]]
        return [max(starts) + row["bytes"]] * len(starts)

    def step(self, until_ps=None):
        self.steps += 1
        if SECONDS_PER_STEP:
            time.sleep(SECONDS_PER_STEP)
        self.now_ps = until_ps if until_ps is not None else int(self.end.max())
        if self.now_ps < self.end.max():
            return False
        if (self.end < 0).any():
            raise DeadlockError(["no progress"])
        return True

    @property
    def _done(self):
        return (self.end >= 0) & (self.end <= self.now_ps)

    @property
    def done_ops(self):
        return int(self._done.sum())

    @property
    def total_ops(self):
        return len(self.end)

    @property
    def digest(self):
        return hashlib.sha256(self.start.tobytes() + self.end.tobytes()).hexdigest()[:16]

    def counters(self):
        end = int(self.end[self._done].max(initial=0))
        names = [
            "drops",
            "ecn_marks",
            "pfc_pauses",
            "cnps",
            "acks",
            "naks",
            "retransmits",
            "timeouts",
            "messages",
        ]
        return {"end_ps": end, "packets": end // 4096, "packet_hops": end // 1024} | dict.fromkeys(names, 0)

    def ops(self):
        done = self._done
        start = np.where(self.start <= self.now_ps, self.start, -1)
        end = np.where(done, self.end, -1)
        return {"row": self.row, "rank": self.rank, "start_ps": start, "end_ps": end}

    def sends(self):
        ops = self.ops()
        at = [i for i, row in enumerate(self.row) if KINDS[self.program.rows[row]["kind"]] == "send"]
        rows = [self.program.rows[row] for row in self.row[at]]
        return {
            "row": self.row[at],
            "src": self.rank[at],
            "dst": np.array([row["peer"][0] for row in rows], np.int32),
            "bytes": np.array([row["bytes"] for row in rows], np.int64),
            "start_ps": ops["start_ps"][at],
            "end_ps": ops["end_ps"][at],
            "delivered_ps": ops["end_ps"][at],
        }

    def links(self):
        n = self.model.n_links
        names = ["ecn_marks", "drops", "pauses", "paused_ps", "lost", "down_ps"]
        found = {name: np.zeros(n, np.int64) for name in names}
        moved = min(self.now_ps, int(self.end.max(initial=0)))
        busy = np.zeros(n, np.int64)
        busy[:4] = [moved, moved // 2, moved // 2, 0]
        return found | {
            "packets": busy // 4096,
            "bytes": busy.copy(),
            "busy_ps": busy,
            "max_queue_bytes": busy // 10,
        }

    # ---- storage: the first target serves everything, an RPC an operation

    def _storage(self):
        at = [i for i, row in enumerate(self.row) if self.program.rows[row].get("files")]
        rows = [self.program.rows[row] for row in self.row[at]]
        size = {kind: sum(r["bytes"] for r in rows if KINDS[r["kind"]] == kind) for kind in ("read", "write")}
        return np.array(at, np.int64), size

    def targets(self):
        at, size = self._storage()
        stores = self.model.given["stores"]
        store = np.repeat(np.arange(len(stores)), [len(s["targets"]) for s in stores])
        names = ["rpcs", "bytes_read", "bytes_written", "busy_ps", "queue_max", "wait_ps", "service_ps"]
        found = {name: np.zeros(len(store), np.int64) for name in names}
        for name, value in zip(names, [len(at), *size.values(), 7, 2, 30, 60], strict=True):
            found[name][0] = value
        number = np.concatenate([np.arange(len(s["targets"])) for s in stores])
        server = np.concatenate([s["targets"] for s in stores]).astype(np.int64)
        return found | {"store": store, "target": number, "server": server}

    def servers(self):
        rows = [
            (number, i, host, i >= len(store["servers"]))
            for number, store in enumerate(self.model.given["stores"])
            for i, host in enumerate([*store["servers"], *store["meta"]])
        ]
        columns = np.array(rows, np.int64).reshape(-1, 4).T
        found = dict(zip(("store", "server", "host", "is_meta"), columns, strict=True))
        none = np.zeros(len(rows), np.int64)
        return found | dict.fromkeys(("queue_max", "changes", "committed", "failures"), none)

    def clients(self):
        at, size = self._storage()
        ranks = np.unique(self.rank[at]).astype(np.int64)
        names = "calls cache_hit_bytes readahead_bytes rpc_read_bytes rpc_written_bytes lost_dirty_bytes"
        names += " max_dirty_bytes blocked_ps lock_wait_ps rpcs resent evictions refused failed"
        names += " bytes_read bytes_written"
        found = {name: np.zeros(len(ranks), np.int64) for name in names.split()}
        found["bytes_read"][:1], found["bytes_written"][:1] = size["read"], size["write"]
        found["blocked_ps"][:1] = 5
        return found | {"rank": ranks}

    def rpcs(self):
        at, _ = self._storage()
        names = ["store", "server", "target", "object", "offset"]
        names += ["queued_ps", "began_ps", "target_ps", "served_ps"]
        rows = [self.program.rows[row] for row in self.row[at]]
        return {name: np.zeros(len(at), np.int64) for name in names} | {
            "rank": self.rank[at].astype(np.int64),
            "kind": np.array([KINDS[row["kind"]] == "write" for row in rows], np.int64),
            "file": np.array([row["files"][0] for row in rows], np.int64),
            "bytes": np.array([row["bytes"] for row in rows], np.int64),
            "sent_ps": self.start[at],
            "done_ps": np.full(len(at), -1, np.int64),
        }

    def blocked(self, limit=20):
        at = np.flatnonzero(self.end < 0)[:limit]
        return [
            {"row": int(self.row[i]), "rank": int(self.rank[i]), "why": "waits for a message"} for i in at
        ]


def as_module():
    """Return this stand-in as the module ``fabricsim._core.engine``."""
    module = types.ModuleType("fabricsim._core.engine")
    for value in (Model, Program, Run, implementations, params, summaries):
        setattr(module, value.__name__, value)
    module.RPC_KINDS = RPC_KINDS
    return module
