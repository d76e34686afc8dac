"""A small world: topology, settings and program, and how to run it on the core and on the oracle."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim._core import engine
from fabricsim.errors import DeadlockError, EngineError, InputError
from fabricsim.trace.schema import KINDS, LOWERED_SCHEMA

from .places import RefusedError
from .rules import wire_bytes
from .simulator import Simulator

DEFAULTS = {"switch": "ethernet", "link": "lossy", "route": "ecmp", "transport": "roce", "cc": "none"}
ALGORITHMS = {
    "all_reduce": "ring",
    "reduce_scatter": "ring",
    "all_gather": "ring",
    "all_to_all": "pairwise",
    "broadcast": "chain",
    "reduce": "chain",
    "barrier": "dissemination",
}
FIELDS = ("when_ps", "link", "dst", "connection", "psn", "bytes", "kind", "flags")
COUNTERS = (
    "packets", "packet_hops", "drops", "ecn_marks", "pfc_pauses", "pfc_resumes", "acks", "naks", "cnps",
    "retransmits", "timeouts", "duplicates", "messages",
)  # fmt: skip
KIND_NAMES = ("data", "ack", "nak", "cnp", "pause", "resume")


@cache
def table() -> dict[tuple[str, str], dict[str, int]]:
    """Return the core's parameters and their defaults by (room, implementation)."""
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for p in engine.params():
        rows.setdefault((p["room"], p["impl"]), {})[p["name"]] = p["default"]
    return rows


@dataclass
class Cable:
    a: int
    b: int
    rate_mbps: int
    delay_ps: int
    network: int = 0
    number: int = -1  # its place in the world


@dataclass
class World:
    """Everything that decides a run. Rows have the fields of ``program.Op`` but ``row``."""

    n_hosts: int
    n_switches: int
    cables: list[Cable]
    latency_ps: list[int]
    rows: list[dict[str, Any]]
    rank_host: list[int]
    settings: dict[str, tuple[str, dict[str, int]]] = field(default_factory=dict)  # by room
    coll: dict[str, dict[str, int]] = field(default_factory=dict)  # by algorithm
    algorithms: dict[str, str] = field(default_factory=lambda: dict(ALGORITHMS))
    seed: int = 1
    up_settings: dict[str, tuple[str, dict[str, int]]] = field(
        default_factory=dict
    )  # of the scale-up network
    reducer_count: int = 0  # the last hosts
    variants: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    circuits: list[tuple[int, int, int, int]] = field(default_factory=list)  # cable, first, up, period

    @property
    def networks(self) -> range:
        return range(1 + max(cable.network for cable in self.cables))

    def part(self, network: int) -> World:
        """Return one network of the world, with its settings."""
        cables = [replace(c, number=i) for i, c in enumerate(self.cables) if c.network == network]
        return replace(self, cables=cables, settings=self.up_settings if network else self.settings)

    def algorithm(self, kind: str, variant: int) -> tuple[str, dict[str, int]]:
        """Return the algorithm of a row, its variant's or its kind's, with all its parameters."""
        if variant < 0:
            return self.algorithms[kind], self.params("coll", self.algorithms[kind])
        name, values = self.variants[variant]
        return name, {**table()["coll", name], **values}

    def chosen(self, room: str) -> str:
        return self.settings[room][0] if room in self.settings else DEFAULTS[room]

    def params(self, room: str, name: str | None = None) -> dict[str, int]:
        own = self.coll.get(name or "", {}) if room == "coll" else self.settings.get(room, ("", {}))[1]
        return {**table().get((room, name or self.chosen(room)), {}), **own}

    def model(self) -> engine.Model:
        settings: list[Any] = [(room, name, values) for room, (name, values) in self.settings.items()]
        settings += [("coll", name, values) for name, values in self.coll.items()]
        if len(self.networks) > 1:
            up = self.part(1)
            settings += [(room, up.chosen(room), up.settings.get(room, ("", {}))[1], 1) for room in DEFAULTS]
        return engine.Model(
            n_hosts=self.n_hosts,
            n_switches=self.n_switches,
            cable_a=[c.a for c in self.cables],
            cable_b=[c.b for c in self.cables],
            cable_rate_mbps=[c.rate_mbps for c in self.cables],
            cable_delay_ps=[c.delay_ps for c in self.cables],
            node_latency_ps=self.latency_ps,
            settings=settings,
            cable_network=[c.network for c in self.cables],
            reducer_count=self.reducer_count,
        )

    def table(self) -> pa.Table:
        rows = [
            {
                **{
                    k: row[k]
                    for k in ("id", "ranks", "splits", "duration_ps", "delay_ps", "stream", "after", "tag")
                },
                "kind": KINDS.index(row["kind"]),
                "peer": row["peers"],
                "bytes": row["size"],
                "priority": row.get("priority", 0),
                "variant": row.get("variant", -1),
            }
            for row in self.rows
        ]
        return pa.Table.from_pylist(rows, schema=LOWERED_SCHEMA)

    def run(self, **options: Any) -> engine.Run:
        """Return a run of the core that has not begun."""
        model = self.model()
        program = engine.Program(
            model,
            self.table(),
            rank_host=self.rank_host,
            algorithms=self.algorithms,
            variants=self.variants,
        )
        circuits = np.array(self.circuits, np.int64).reshape(-1, 4)
        return engine.Run(model, program, seed=self.seed, circuits=circuits, **options)


def row(id: int, kind: str, ranks: list[int], **fields: Any) -> dict[str, Any]:
    """Return a row with the defaults of the fields that are not given."""
    base: dict[str, Any] = dict(
        peers=[], size=0, splits=[], duration_ps=0, delay_ps=0, stream=-1, after=[], tag=0
    )
    return {"id": id, "kind": kind, "ranks": ranks, **base, **fields}


def compare(world: World, most_events: int = 400_000, **options: Any) -> tuple[list[str], Simulator]:
    """Run a world on both; return lines that tell the first differences (none if they agree).

    Raises
    ------
    simulator.TooLongError
        When the oracle would need more events.
    places.RefusedError
        When both refuse the program.
    """
    try:
        oracle = Simulator(world)
    except RefusedError:
        with suppress(InputError):
            world.run()
            raise AssertionError("the core does not refuse what the oracle refuses") from None
        raise
    oracle.run(most_events)
    run = world.run(record_packets=True, **options)
    ending = "done"
    try:
        run.step()
    except DeadlockError:
        ending = "stuck"
    except EngineError:
        ending = "gave up"
    ended = all(i.end_ps >= 0 for i in oracle.program.instances)
    oracle_ending = "gave up" if oracle.gave_up_ps is not None else "done" if ended else "stuck"
    lines = []
    if ending != oracle_ending:
        lines.append(f"ending: core {ending}, oracle {oracle_ending}")
    until = run.now_ps if "gave up" in (ending, oracle_ending) else None
    if world.circuits and ending == "done":  # when the last operation has ended all circuits light
        until = int(run.ops()["end_ps"].max())
    lines += _trail_difference(world, [tuple(int(v) for v in p) for p in run.packets()], oracle.trail, until)
    if ending == oracle_ending and until is None:
        lines += _other_differences(run, oracle)
    return lines, oracle


def _trail_difference(
    world: World, core: list[tuple[int, ...]], oracle: list[tuple[int, ...]], until: int | None
) -> list[str]:
    if until is not None:
        core, oracle = [p for p in core if p[0] < until], [p for p in oracle if p[0] < until]
    if core == oracle:
        return []
    at = next(
        (i for i, (a, b) in enumerate(zip(core, oracle, strict=False)) if a != b), min(len(core), len(oracle))
    )
    lines = [f"trail: differs at arrival {at} (core has {len(core)}, oracle {len(oracle)})"]
    for name, trail in (("core", core), ("oracle", oracle)):
        lines += [f"  {name:6} {'>' if i == at else ' '} {describe(world, trail[i])}"
                  for i in range(max(0, at - 2), min(len(trail), at + 3))]  # fmt: skip
    return lines


def describe(world: World, arrival: tuple[int, ...]) -> str:
    """Return an arrival in words."""
    when, link, dst, connection, psn, size, kind, flags = arrival
    cable = world.cables[link // 2]
    tx, rx = (cable.b, cable.a) if link % 2 else (cable.a, cable.b)
    marks = (" CE" if flags & 1 else "") + (" last" if flags & 2 else "")
    return f"{when:>12} ps node {tx}->{rx} {KIND_NAMES[kind]} to {dst}#{connection} psn {psn} {size} B{marks}"


def _other_differences(run: engine.Run, oracle: Simulator) -> list[str]:
    lines = []
    counters = run.counters()
    for name in COUNTERS:
        if counters[name] != oracle.count[name]:
            lines.append(f"counter {name}: core {counters[name]}, oracle {oracle.count[name]}")
    ops = run.ops()
    instances = oracle.program.instances
    for column, core in (("start_ps", ops["start_ps"]), ("end_ps", ops["end_ps"])):
        mine = np.array([getattr(i, column) for i in instances], np.int64)
        for at in np.flatnonzero(core != mine)[:3]:
            op = instances[at].op
            lines.append(
                f"{column} of {op.kind} {op.id} at {instances[at].rank}: core {core[at]}, oracle {mine[at]}"
            )
    sends = run.sends()
    came = [i.match.delivered_ps for i in instances if i.op.kind == "send" and i.match]
    if came != sends["delivered_ps"].tolist():
        lines.append(f"sends delivered: core {sends['delivered_ps'].tolist()}, oracle {came}")
    links = run.links()
    columns = {
        "packets": [link.packets for link in oracle.links],
        "bytes": [link.bytes for link in oracle.links],
        "ecn_marks": [link.marks for link in oracle.links],
        "drops": [link.drops for link in oracle.links],
        "pauses": [link.pauses for link in oracle.links],
        "max_queue_bytes": [wire_bytes(link.longest_ps, link.q16) for link in oracle.links],
        "paused_ps": [link.paused_ps for link in oracle.links],  # a pause that never ends has no length
    }
    for name, mine_of in columns.items():
        if mine_of != links[name].tolist():
            lines.append(f"links {name}: core {links[name].tolist()}, oracle {mine_of}")
    return lines
