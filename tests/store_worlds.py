"""Small file systems for the compiled core, around one switch, and traces on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from engine_worlds import GBPS, US, star
from trace_table import table

from fabricsim._core import engine
from fabricsim.trace import Trace, lower, make_files


def io(kind: str, *ranks: int, file: str = "/f", size: int | None = None, **more: Any) -> dict[str, Any]:
    """Return a row of a trace of rank 0, or of some; those of a rank follow one another."""
    row = {"kind": kind, "ranks": list(ranks or (0,)), "file": file, "stream": 0, **more}
    return row if size is None else {**row, "bytes": size}


def create(*ranks: int, **more: Any) -> dict[str, Any]:
    return io("open", *ranks, flags="create", **more)


def wait(rank: int, duration_ps: int) -> dict[str, Any]:
    return {"kind": "compute", "ranks": [rank], "duration_ps": duration_ps, "stream": 0}


def then(first: int, second: int) -> list[dict[str, Any]]:
    """Return the rows by which one rank goes on only when another has come so far."""
    return [
        {"kind": "send", "ranks": [first], "peer": [second], "bytes": 8, "stream": 0},
        {"kind": "recv", "ranks": [second], "peer": [first], "bytes": 8, "stream": 0},
    ]


@dataclass
class Storage:
    """Clients are hosts 0 …, then the data servers, then the metadata servers; a star of one rate."""

    clients: int = 1
    servers: int = 1
    metas: int = 1
    targets_per_server: int = 1
    impl: str = "lustre"
    params: dict[str, int] = field(default_factory=dict)
    target: str = "flash"
    target_params: dict[str, int] = field(default_factory=dict)
    rate_mbps: int = 100 * GBPS
    delay_ps: int = US
    layouts: Sequence[Sequence[int]] = ()
    slow: Sequence[Sequence[int]] = ()
    failures: Sequence[Sequence[int]] = ()
    partners: Sequence[int] = ()
    meta_partners: Sequence[int] = ()
    settings: Sequence[Any] = ()

    def model(self, **options: Any) -> engine.Model:
        servers = np.arange(self.clients, self.clients + self.servers, dtype=np.int32)
        meta = np.arange(self.metas, dtype=np.int32) + self.clients + self.servers
        store: dict[str, Any] = {
            "servers": servers,
            "meta": meta,
            "targets": np.repeat(np.arange(self.servers, dtype=np.int32), self.targets_per_server),
        }
        if self.impl == "local":
            store.clear()
        if self.partners or self.meta_partners:
            store["partners"] = np.array(self.partners or [-1] * self.servers, np.int32)
            store["meta_partners"] = np.array(self.meta_partners or [-1] * self.metas, np.int32)
        for name, width in (("layouts", 8), ("slow", 3), ("failures", 3)):
            if rows := getattr(self, name):
                store[name] = np.array(rows, np.int64).reshape(-1, width)
        world = star(self.clients + self.servers + self.metas, self.rate_mbps, self.delay_ps)
        settings = [
            ("store", self.impl, self.params, 0),
            ("target", self.target, self.target_params, 0),
            *self.settings,
            *options.pop("settings", ()),
        ]
        return engine.Model(**world.arrays(), settings=settings, stores=[store], **options)

    def start(self, *rows: dict[str, Any], **options: Any) -> engine.Run:
        """Make a run of a trace that has not begun."""
        model = self.model()
        trace = Trace(table(*rows))
        made = make_files(trace, ["/"])
        files = {
            "store": made.mount,
            "directory": made.directory,
            "layout": np.array(options.pop("layout", [0] * len(made)), np.int32),
            "bytes": np.array(options.pop("bytes", made.size_bytes), np.int64),
            "directory_stripes": np.full(len(made.directories), options.pop("stripes", 1), np.int32),
            "ranks_per_client": options.pop("ranks_per_client", 1),
        }
        hosts = np.arange(self.clients, dtype=np.int32)
        program = engine.Program(model, lower(trace, files=made), rank_host=hosts, files=files)
        return engine.Run(model, program, **{"record_rpcs": True, **options})

    def run(self, *rows: dict[str, Any], check: bool = True, **options: Any) -> engine.Run:
        """The same, run to its end."""
        run = self.start(*rows, **options)
        assert run.step() is True
        if check:
            run.check()
        return run

    def session(self, **options: Any) -> Session:
        model = self.model()
        files = {"directory_stripes": [1], "clients": list(range(self.clients))}
        hosts = np.arange(self.clients, dtype=np.int32)
        empty = lower(Trace(table({"kind": "compute", "ranks": [0], "duration_ps": 0})))
        program = engine.Program(model, empty.slice(0, 0), rank_host=hosts, files=files)
        return Session(engine.Run(model, program, record_rpcs=True, **options))


@dataclass
class Session:
    """Operations one after another, each begun when the test says so."""

    run: engine.Run

    def file(self, layout: int = 0) -> int:
        return self.run.add_file(0, 0, layout)

    def do(self, kind: str, file: int, *, rank: int = 0, **more: Any) -> int:
        """Run one operation to its end; return how long it took."""
        begin, end = self.run.wait(self.run.io(rank, kind, file, **more))
        return end - begin


def kinds(run: engine.Run, **columns: int) -> list[str]:
    """Kinds of the RPCs of a run, in the order of their replies; those with such columns."""
    rows = run.rpcs()
    keep = np.ones(len(rows["kind"]), bool)
    for name, value in columns.items():
        keep &= rows[name] == value
    return [engine.RPC_KINDS[kind] for kind in rows["kind"][keep]]
