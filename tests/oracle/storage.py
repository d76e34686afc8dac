"""A file system on the oracle's hosts: worlds with storage, and how they are compared with the core.

Read ``store_layout.py``, ``store_targets.py``, ``store_server.py``, ``store_locks.py``, ``store_meta.py``,
``store_destroy.py``, ``store_calls.py`` and ``store_client.py`` in this order. Messages on one host, and all
waits of clients and servers, are timers of their host, that go in the order in which they were set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim._core import engine
from fabricsim.errors import DeadlockError
from fabricsim.trace.schema import KINDS, LOWERED_SCHEMA, LOWERED_STORAGE

from .program import END, Instance, Program
from .rules import mix
from .simulator import Simulator
from .store_calls import Rpc
from .store_client import Client, Operation
from .store_layout import LAYOUTS
from .store_meta import Meta
from .store_server import Server
from .store_targets import Target
from .world import World, _other_differences, _trail_difference, table

LANE, TIMER_KIND = (1 << 31) - 1, 12
RPC_TIMES = ("sent_ps", "queued_ps", "began_ps", "target_ps", "served_ps", "done_ps")
NO_IO: dict[str, Any] = {"files": [], "new_files": [], "offset": 0, "stride": 0, "flags": 0}
CLIENT_COUNTS = (
    "calls", "bytes_read", "bytes_written", "cache_hit_bytes", "readahead_bytes", "rpc_read_bytes",
    "rpc_written_bytes", "max_dirty_bytes", "blocked_ps", "lock_wait_ps", "rpcs", "refused",
)  # fmt: skip


@dataclass
class File:
    """A file that a program names; -1 bytes: it is made in the run."""

    directory: int = 0
    layout: int = 0
    size_before: int = -1
    # in a run
    number: int = -1
    content: int = -1
    exists: bool = False
    targets: list[int] = field(default_factory=list)


@dataclass
class StoreWorld(World):
    """A world with a file system. Rows of storage have an ``io``."""

    store: str = "local"
    store_values: dict[str, int] = field(default_factory=dict)
    target: str = "flash"
    target_values: dict[str, int] = field(default_factory=dict)
    server_hosts: list[int] = field(default_factory=list)
    meta_hosts: list[int] = field(default_factory=list)
    target_server: list[int] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    directory_stripes: list[int] = field(default_factory=lambda: [1])
    layouts: list[list[int]] = field(default_factory=list)
    slow: list[tuple[int, int, int]] = field(default_factory=list)  # when, target, ppm

    @property
    def servers(self) -> int:
        return len(self.server_hosts)

    @property
    def metas(self) -> int:
        return len(self.meta_hosts)

    @property
    def store_param(self) -> dict[str, int]:
        param = {**table()["store", self.store], **self.store_values}
        if self.store == "weka" and not param["client_mbps"]:
            param["client_mbps"] = param["cores_count"] * param["core_mbps"]
        return param

    def model(self) -> engine.Model:
        store: dict[str, Any] = {}
        if self.store != "local":
            store = {
                "servers": np.array(self.server_hosts, np.int32),
                "meta": np.array(self.meta_hosts, np.int32),
                "targets": np.array(self.target_server, np.int32),
            }
        if self.slow:
            store["slow"] = np.array(self.slow, np.int64).reshape(-1, 3)
        if self.layouts:
            store["layouts"] = np.array(self.layouts, np.int64).reshape(-1, 8)
        settings: list[Any] = [(room, name, values) for room, (name, values) in self.settings.items()]
        settings += [
            ("store", self.store, self.store_values, 0),
            ("target", self.target, self.target_values, 0),
        ]
        return engine.Model(
            n_hosts=self.n_hosts,
            n_switches=self.n_switches,
            cable_a=[c.a for c in self.cables],
            cable_b=[c.b for c in self.cables],
            cable_rate_mbps=[c.rate_mbps for c in self.cables],
            cable_delay_ps=[c.delay_ps for c in self.cables],
            node_latency_ps=self.latency_ps,
            settings=settings,
            stores=[store],
        )

    def table(self) -> pa.Table:
        rows = []
        for made in self.rows:
            own = {
                k: made[k]
                for k in ("id", "ranks", "splits", "duration_ps", "delay_ps", "stream", "after", "tag")
            }
            own |= {"kind": KINDS.index(made["kind"]), "peer": made["peers"], "bytes": made["size"]}
            own |= {"priority": made.get("priority", 0), "variant": -1}
            rows.append(own | made.get("io", NO_IO))
        return pa.Table.from_pylist(rows, schema=pa.schema([*LOWERED_SCHEMA, *LOWERED_STORAGE]))

    def run(self, **options: Any) -> engine.Run:
        files: dict[str, Any] = {
            "store": np.zeros(len(self.files), np.int8),
            "directory": np.array([f.directory for f in self.files], np.int32),
            "layout": np.array([f.layout for f in self.files], np.int32),
            "bytes": np.array([f.size_before for f in self.files], np.int64),
            "directory_stripes": np.array(self.directory_stripes, np.int32),
        }
        model = self.model()
        program = engine.Program(model, self.table(), rank_host=self.rank_host, files=files)
        return engine.Run(model, program, seed=self.seed, record_rpcs=True, **options)


class Store:
    """Clients and servers of a world, and how they reach one another."""

    def __init__(self, sim: StoreSimulator, world: StoreWorld, hosts: list[int]) -> None:
        self.sim, self.world, self.param = sim, world, world.store_param
        self.local = world.store == "local"
        self.layouts = LAYOUTS[world.store](world)
        self.files = [File(f.directory, f.layout, f.size_before, i, i) for i, f in enumerate(world.files)]
        self.set_timers: Counter[int] = Counter()
        self.clients = {host: Client(self, host) for host in hosts}
        places = hosts if self.local else [*world.server_hosts, *world.meta_hosts]
        numbers = [0] * len(hosts) if self.local else range(len(places))
        self.servers = [Server(self, number, host) for number, host in zip(numbers, places, strict=True)]
        self.of_host = {server.host: server for server in self.servers} if self.local else {}
        for server in self.servers:
            server.meta = Meta(self, server)
        for server in self.servers:
            for t in self.targets_of(server):
                slow = sorted((when, ppm) for when, target, ppm in world.slow if target == t)
                param = {**table()["target", world.target], **world.target_values}
                server.targets[t] = Target(world.target, param, slow)
        for f in self.files:
            f.exists = f.size_before >= 0
            if self.local:
                f.targets = [0]
            elif f.exists:
                self.place(self.servers[self.meta_of(f.number)].meta, f.number)

    @property
    def now(self) -> int:
        return self.sim.now

    def targets_of(self, server: Server) -> list[int]:
        """Return the targets of a server, that of a metadata server for what it keeps of files, too."""
        if self.local:
            return [0]
        if server.number >= self.world.servers:
            return [len(self.world.target_server) + server.number - self.world.servers]
        return [t for t, owner in enumerate(self.world.target_server) if owner == server.number]

    def owner(self, target: int, client: int = -1) -> Server:
        if self.local:
            return self.of_host[client]
        return next(server for server in self.servers if target in server.targets)

    def server(self, number: int, client: int) -> Server:
        return self.of_host[client] if self.local else self.servers[number]

    # ---- time and messages

    def timer(self, host: int, when: int, action: Callable[..., None], *args: Any) -> None:
        self.set_timers[host] += 1
        key = TIMER_KIND << 56 | self.set_timers[host] << 24
        self.sim.planes[0].hosts[host].timer(when, key, action, *args)

    def post(
        self,
        src: int,
        dst: int,
        size: int,
        action: Callable[[Any], None],
        record: Any,
        acknowledged: Callable[[Any], None] | None = None,
    ) -> None:
        """Send a message; tell the receiver, and the sender when it is acknowledged."""
        told = acknowledged or (lambda record: None)
        if src == dst:

            def here() -> None:
                action(record)
                told(record)

            self.timer(dst, self.now, here)
            return
        c = self.sim.program.connections[src, LANE, self.param["data_class"], 0, dst]
        c.sim.hosts[src].post(c, size, lambda now: action(record), lambda now: told(record), self.now)

    # ---- names and objects

    def meta_of(self, file: int) -> int:
        if self.local:
            return 0
        directory = self.files[file].directory
        stripes = self.world.directory_stripes[directory]
        stripe = mix(file) % stripes if stripes > 1 else 0
        first = self.world.servers if self.world.metas else 0
        return first + (directory + stripe) % (self.world.metas or self.world.servers)

    def place(self, meta: Meta, file: int) -> None:
        """Give a content its targets when it is first made."""
        f = self.files[file]
        if f.targets:
            return
        metas = self.world.metas or self.world.servers
        number = meta.server.number - (self.world.servers if self.world.metas else 0)
        f.targets = self.layouts.place(
            file, f.layout, meta.made + number * self.layouts.targets // metas, number
        )
        meta.made += 1

    def object_size(self, file: int, number: int) -> int:
        f = self.files[file]
        return self.layouts.object_end(f, number, f.size_before)

    def fill(self, server: Server, target: int, rpc: Rpc, end: int) -> None:
        """A shard has been stored."""
        key = rpc.file, target
        here = server.object_at(target, *key)
        here.size = max(here.size, end)


class StoreProgram(Program):
    """Operations, those of storage too."""

    def __init__(self, sim: Any, ops: Any, world: StoreWorld) -> None:
        self.world, self.sim = world, sim
        self.client_hosts = sorted({world.rank_host[rank] for op in ops if op.io for rank in op.ranks})
        super().__init__(sim, ops, world)
        self.store = Store(sim, world, self.client_hosts)

    def connect(self) -> None:
        super().connect()
        w = self.world
        servers = [*w.server_hosts, *w.meta_hosts] if w.store != "local" else []
        edges = {e for s in servers for h in self.client_hosts for e in ((s, h), (h, s)) if s != h}
        if w.store == "weka":
            edges |= {(a, b) for a in servers for b in w.server_hosts if a != b}
        names = servers[w.servers :] if w.metas else servers
        edges |= {(a, b) for a, b in product(names, names) if a != b}
        edges |= {e for a, b in product(names, w.server_hosts) if a != b for e in ((a, b), (b, a))}
        data_class = w.store_param["data_class"]
        for src, dst in sorted(edges):
            c = self.sim.planes[0].connect(src, dst, LANE, data_class, 0)
            self.connections[src, LANE, data_class, 0, dst] = c

    def start(self, instance: Instance, now: int) -> None:
        io, p = instance.op.io, instance.position
        if not io:
            super().start(instance, now)
            return
        instance.start_ps = now
        files, new = io["files"], io["new_files"]
        client = self.store.clients[instance.host]
        client.start(
            Operation(
                kind=instance.op.kind,
                flags=io["flags"],
                name=client.file(files[p if len(files) > 1 else 0]),
                offset=io["offset"] + io["stride"] * p,
                size=instance.op.size,
                ended=lambda when: self.timer(instance, when, END, self.end),
                new_name=new[p if len(new) > 1 else 0] if new else -1,
            )
        )


class StoreSimulator(Simulator):
    program_class = StoreProgram
    program: StoreProgram


def compare(
    world: StoreWorld, most_events: int = 400_000, **options: Any
) -> tuple[list[str], StoreSimulator]:
    """Run a world on both; return lines that tell the first differences (none if they agree)."""
    oracle = StoreSimulator(world)
    oracle.run(most_events)
    run = world.run(record_packets=True, **options)
    ending = "done"
    try:
        run.step()
    except DeadlockError:
        ending = "stuck"
    ended = all(i.end_ps >= 0 for i in oracle.program.instances)
    lines = (
        []
        if ended == (ending == "done")
        else [f"ending: core {ending}, oracle {'done' if ended else 'stuck'}"]
    )
    lines += _rpc_differences(run, oracle)
    lines += _other_differences(run, oracle)
    core = [tuple(int(v) for v in p) for p in run.packets()]
    lines += _trail_difference(world, core, oracle.trail, None)
    lines += _count_differences(run, oracle)
    if ending == "done":
        refused = sum(c.count["refused"] for c in oracle.program.store.clients.values())
        try:
            run.check()
        except Exception as error:
            expires = world.store_param["dirty_expire_ps"] or not world.store_param["cache"]
            if expires and not refused:
                lines.append(f"check: {error}")
    return lines, oracle


def _rpc_differences(run: engine.Run, oracle: StoreSimulator) -> list[str]:
    rows = run.rpcs()
    names = ("rank", "kind", "server", "target", "file", "object", "offset", "bytes", *RPC_TIMES)
    core = list(zip(*(rows[name].tolist() for name in names), strict=True))
    rank_of = {host: rank for rank, host in enumerate(oracle.program.rank_host)}
    columns = ("server", "target", "file", "object", "offset", "size", *RPC_TIMES)
    mine = [
        (rank_of[host], engine.RPC_KINDS.index(r.kind), *(getattr(r, name) for name in columns))
        for host, client in sorted(oracle.program.store.clients.items())
        for r in client.records
    ]
    if core == mine:
        return []
    at = next(
        (i for i, (a, b) in enumerate(zip(core, mine, strict=False)) if a != b), min(len(core), len(mine))
    )
    lines = [f"rpcs: differ at {at} (core has {len(core)}, oracle {len(mine)}): {names}"]
    for name, rpcs in (("core", core), ("oracle", mine)):
        for i in range(max(0, at - 1), min(len(rpcs), at + 3)):
            lines.append(f"  {name:6} {'>' if i == at else ' '} {engine.RPC_KINDS[rpcs[i][1]]:8} {rpcs[i]}")
    return lines


def _count_differences(run: engine.Run, oracle: StoreSimulator) -> list[str]:
    store, lines = oracle.program.store, []
    clients = run.clients()
    for i, host in enumerate(sorted(store.clients)):
        for name in CLIENT_COUNTS:
            core, mine = int(clients[name][i]), store.clients[host].count[name]
            if core != mine:
                lines.append(f"client on host {host}: {name}: core {core}, oracle {mine}")
    targets, at = run.targets(), 0
    for server in store.servers:
        for number, target in server.targets.items():
            for name, mine in target.totals().items():
                if int(targets[name][at]) != mine:
                    lines.append(
                        f"target {number} of {server.number}: {name}: core {targets[name][at]}, oracle {mine}"
                    )
            at += 1
    servers = run.servers()
    for i, server in enumerate(store.servers):
        own = [max(server.io.most, server.meta.service.most), server.transno, server.stable]
        theirs = [int(servers[name][i]) for name in ("queue_max", "changes", "committed")]
        if own != theirs:
            lines.append(f"server {i}: queue_max, changes, committed: core {theirs}, oracle {own}")
    return lines
