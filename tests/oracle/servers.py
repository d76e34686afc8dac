"""Random worlds of servers: scale-up domains, a scale-out fabric, units that reduce in either."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from fabricsim.errors import ConfigError

from .generate import (
    COLLECTIVES,
    CONTROLLERS,
    NS,
    US,
    add_flows,
    add_row,
    coll_of,
    make_classes,
    make_credits,
    make_srd,
    pause,
    ports_of,
    settings_of,
    wires_of,
)
from .places import Places, RefusedError
from .reducing import has_own_reducers
from .world import ALGORITHMS, World, row

REDUCED = ("all_reduce", "reduce_scatter", "all_gather", "broadcast", "reduce", "barrier")
OUT, UP = 0, 1


@dataclass
class Plan:
    """Cables between names: ``("host", i)``, ``("switch", i)``, ``("unit", i)``."""

    servers: list[list[int]] = field(default_factory=list)  # hosts
    pairs: list[tuple[tuple[str, int], tuple[str, int], int]] = field(default_factory=list)
    switches: int = 0
    units: int = 0

    def join(self, a: tuple[str, int], b: tuple[str, int], network: int) -> None:
        self.pairs.append((a, b, network))

    def switch(self) -> tuple[str, int]:
        self.switches += 1
        return "switch", self.switches - 1

    def unit(self, at: tuple[str, int], network: int) -> None:
        self.join(("unit", self.units), at, network)
        self.units += 1


def server_world(seed: int) -> World:
    """Return the world of a seed with two networks."""
    rng = random.Random(seed * 7 + 5)
    plan = _plan(rng)
    world, lonely = _build(rng, plan)
    classes = [_settle(rng, world, OUT), _settle(rng, world, UP)]
    try:
        world.model()
    except ConfigError:  # a credit loop
        world.settings["route"] = world.up_settings["route"] = ("updown", {"single_path": rng.choice([0, 1])})
    places = Places(world)
    mtu = world.params("transport")["mtu_bytes"]
    world.coll = {**coll_of(rng, mtu), "in_network": {}, "nvls_tree": {}}
    for values in world.coll.values():
        _add_costs(rng, values)
    names = list(world.coll)
    for name in [*names, "in_network", "in_network", "nvls_tree", "nvls_tree"]:
        world.variants.append((name, _variant(rng, name, mtu)))
    _fill(rng, world, places, mtu, lonely)
    for made in world.rows:
        made["priority"] = rng.randrange(max(classes))
    return world


# ---- topology


def _plan(rng: random.Random) -> Plan:
    plan = Plan()
    servers, gpus = rng.randint(2, 4), rng.randint(2, 4)
    even = rng.random() < 0.7
    hosts = 0
    for _ in range(servers):
        count = gpus if even else rng.randint(1, 4)
        plan.servers.append(list(range(hosts, hosts + count)))
        hosts += count
    units = rng.random() < 0.75
    for server in plan.servers:
        _domain(rng, plan, [("host", h) for h in server], units)
    _fabric(rng, plan, rng.random() < 0.6)
    return plan


def _domain(rng: random.Random, plan: Plan, hosts: list[tuple[str, int]], units: bool) -> None:
    shape = rng.choice(["switch", "switch", "switch", "mesh", "mesh", "two", "direct", "none"])
    if shape == "direct" and len(hosts) == 2:
        plan.join(hosts[0], hosts[1], UP)
    elif shape == "mesh":
        routers = [plan.switch() for _ in hosts]
        for host, router in zip(hosts, routers, strict=True):
            plan.join(host, router, UP)
        for i, router in enumerate(routers):
            for other in routers[:i]:
                plan.join(router, other, UP)
        if units and rng.random() < 0.5:
            plan.unit(rng.choice(routers), UP)
    elif shape != "none" or rng.random() < 0.5:
        switches = [plan.switch() for _ in range(1 + (shape == "two"))]
        for host in hosts:
            plan.join(host, rng.choice(switches), UP)
        if shape == "two":
            plan.join(switches[0], switches[1], UP)
        if units and rng.random() < 0.9:
            plan.unit(rng.choice(switches), UP)


def _fabric(rng: random.Random, plan: Plan, units: bool) -> None:
    shape = rng.choice(["leaf", "rails", "rows", "rows"])
    most = max(map(len, plan.servers))
    count = {"leaf": 1, "rails": most, "rows": len(plan.servers)}[shape]
    leaves = [plan.switch() for _ in range(count)]
    if count > 1:
        spines = [plan.switch() for _ in range(rng.randint(1, 3))]
        for leaf in leaves:
            for spine in spines:
                plan.join(leaf, spine, OUT)
    for s, server in enumerate(plan.servers):
        shared = plan.switch() if rng.random() < 0.2 else None  # a network interface that the server shares
        if shared:
            plan.join(shared, leaves[0 if shape == "leaf" else rng.randrange(count)], OUT)
        for i, host in enumerate(server):
            leaf = leaves[{"leaf": 0, "rails": i, "rows": s}[shape]]
            plan.join(("host", host), shared or leaf, OUT)
    if units:
        share = rng.choice([1.0, 0.6])
        for switch in [*leaves, *(spines if count > 1 else [])]:
            if rng.random() < share:
                plan.unit(switch, OUT)


def _build(rng: random.Random, plan: Plan) -> tuple[World, set[int]]:
    """Return the world of a plan without settings and rows, and the hosts that the fabric does not reach."""
    hosts = sum(map(len, plan.servers))
    lonely: set[int] = set()
    if rng.random() < 0.06:
        gone = rng.randrange(hosts)
        inside = any(("host", gone) in pair for pair in plan.pairs if pair[2] == UP)
        kept = [pair for pair in plan.pairs if ("host", gone) not in pair or pair[2] == UP]
        left = {node for pair in kept for node in pair[:2]}
        if inside and all(("switch", s) in left for s in range(plan.switches)):
            plan.pairs, lonely = kept, {gone}
    if not any(pair[2] == UP for pair in plan.pairs):
        plan.join(("host", plan.servers[0][0]), ("host", plan.servers[1][0]), UP)
    switches = rng.sample(range(plan.switches), plan.switches)
    number = {
        **{("host", h): h for h in range(hosts)},
        **{("unit", u): hosts + u for u in range(plan.units)},
        **{("switch", s): hosts + plan.units + at for s, at in enumerate(switches)},
    }
    if rng.random() < 0.3:  # servers' hosts are not numbered one after the other
        mixed = rng.sample(range(hosts), hosts)
        number.update({("host", h): mixed[h] for h in range(hosts)})
    n_hosts = hosts + plan.units
    cables, latency = [], [0] * (n_hosts + plan.switches)
    for network in (OUT, UP):
        ends = [(number[a], number[b]) for a, b, of in plan.pairs if of == network]
        wires, own = wires_of(rng, n_hosts, plan.switches, ends)
        for cable in wires:
            cable.network = network
            for node in (cable.a, cable.b):
                latency[node] = own[node]
                if hosts <= node < n_hosts and rng.random() < 0.7:  # a unit: as fast as all ports together
                    at = cable.a + cable.b - node
                    cable.rate_mbps = sum(c.rate_mbps for c in wires if at in (c.a, c.b) and c is not cable)
        cables += wires
    rng.shuffle(cables)
    ranks = [number["host", h] for server in plan.servers for h in server]
    if rng.random() < 0.15:
        rng.shuffle(ranks)
    alone = {number["host", h] for h in lonely}
    if rng.random() < 0.8:
        ranks = [host for host in ranks if host not in alone]
    if rng.random() < 0.15 and len(ranks) > 3:
        ranks.remove(rng.choice(ranks))
    return (
        World(
            n_hosts=n_hosts,
            n_switches=plan.switches,
            cables=cables,
            latency_ps=latency,
            rows=[],
            rank_host=ranks,
            reducer_count=plan.units,
            seed=rng.getrandbits(63),
        ),
        alone,
    )


# ---- parameters


def _settle(rng: random.Random, world: World, network: int) -> int:
    """Give a network its settings; return how many classes of data it has."""
    part = world.part(network)
    pairs = [(cable.a, cable.b) for cable in part.cables]
    ports = max(ports_of(world.n_hosts + world.n_switches, pairs))
    cut, lossless = rng.random() < 0.35, rng.random() < 0.5
    part.settings = settings_of(rng, lossless, cut, ports, part.cables, world.latency_ps)
    values = part.settings["transport"][1]
    part.settings["transport"] = (rng.choice(["roce", "rc", "scale_up"]), values)
    kind = rng.choice(["plain", "plain", "classes", "credits", "credits", "srd"])
    classes = 1
    if kind == "classes":
        classes = rng.randint(2, 4)
        make_classes(rng, part, classes)
    elif kind == "credits":
        classes, _ = make_credits(rng, part)
    if kind == "srd":
        make_srd(rng, part)
    elif rng.random() < 0.3:
        name = rng.choice([name for name in CONTROLLERS if name != "hpcc"])
        part.settings["cc"] = (name, {p: rng.choice(v) for p, v in CONTROLLERS[name].items()})
    if rng.random() < 0.9:
        part.settings["transport"][1]["retry_limit_count"] = 1000
    if kind != "srd":
        part.settings["transport"][1]["qp_count"] = rng.choice([1, 1, 1, 2, 3])
    if network == UP:
        world.up_settings = part.settings
    else:
        world.settings = part.settings
    return classes


def _add_costs(rng: random.Random, values: dict[str, int]) -> None:
    values["net_step_ps"] = rng.choice([0, 0, 700 * NS, 3 * US])
    values["overhead_ppm"] = rng.choice([0, 0, 66_667, 1_000_000])
    values["up_overhead_ppm"] = rng.choice([0, 0, 125_000])


def _variant(rng: random.Random, name: str, mtu: int) -> dict[str, int]:
    """Return some parameters: the others have their defaults."""
    if name not in ("in_network", "nvls_tree"):
        values = coll_of(rng, mtu)[name]
        return {p: v for p, v in values.items() if rng.random() < 0.7}
    values = {"launch_ps": rng.choice([0, US]), "step_ps": rng.choice([0, 200 * NS])}
    _add_costs(rng, values)
    values["chunk_bytes"] = rng.choice([mtu, 2 * mtu, 5000])
    values["window_count"] = rng.choice([1, 2, 3, 16])
    return values


# ---- program


def _fill(rng: random.Random, world: World, places: Places, mtu: int, lonely: set[int]) -> None:
    """Add the rows, and choose the algorithms of kinds."""
    world.algorithms = {**ALGORITHMS, **{kind: rng.choice(names) for kind, names in COLLECTIVES.items()}}
    ranks = len(world.rank_host)
    most = mtu * rng.choice([3, 3, 10, 10, 30, 60])
    if rng.random() < 0.25:
        for _ in range(rng.randint(1, 3)):
            add_flows(rng, world.rows, ranks, rng.randint(1, most), together=True)
    for _ in range(rng.randint(2, 8)):
        size = rng.choice([0, 1, rng.randint(1, mtu), rng.randint(1, most), rng.randint(1, most)])
        if rng.random() < 0.7:
            _add_collective(rng, world, places, size)
        elif rng.random() < 0.2:
            some = rng.sample(range(ranks), rng.randint(1, ranks))
            add_row(rng, world.rows, row(len(world.rows), "compute", some, duration_ps=pause(rng)))
        else:
            add_flows(rng, world.rows, ranks, size)


def _set(rng: random.Random, world: World, places: Places) -> list[int]:
    """Return ranks: those of a domain, one a domain, whole domains, or any."""
    domains: dict[Any, list[int]] = {}
    for rank, host in enumerate(world.rank_host):
        domain = places.domain(host)
        domains.setdefault(("alone", host) if domain is None else domain, []).append(rank)
    sets = list(domains.values())
    shape = rng.choice(["domain", "rail", "whole", "whole", "servers", "odd"])
    if shape == "domain":
        return rng.choice(sets)
    if shape == "rail":
        return [rng.choice(ranks) for ranks in sets]
    if shape == "whole":
        return [rank for ranks in sets for rank in ranks]
    if shape == "servers":
        return [rank for ranks in rng.sample(sets, rng.randint(1, len(sets))) for rank in ranks]
    some = rng.sample(range(len(world.rank_host)), rng.randint(1, len(world.rank_host)))
    return sorted(some) if rng.random() < 0.5 else some


def _able(places: Places, ranks: list[int], name: str) -> bool:
    try:
        tree = places.tree(ranks, 0, fabric=name == "in_network")
    except RefusedError:
        return False
    return name == "in_network" or has_own_reducers(tree, len(ranks), places.local_count(ranks))


def _add_collective(rng: random.Random, world: World, places: Places, size: int) -> None:
    kind = rng.choice([*COLLECTIVES, "all_reduce", "all_reduce", "all_reduce"])
    ranks = _set(rng, world, places)
    able = [*COLLECTIVES[kind], *COLLECTIVES[kind], *["in_network"] * 6 * (kind in REDUCED)]
    able += ["nvls_tree"] * 12 * (kind == "all_reduce")
    if rng.random() < 0.99:
        able = [n for n in able if n not in ("in_network", "nvls_tree") or _able(places, ranks, n)]
    name = rng.choice(able)
    new = row(len(world.rows), kind, ranks, size=0 if kind == "barrier" else size)
    named = [i for i, (n, _) in enumerate(world.variants) if n == name]
    if name in ("in_network", "nvls_tree") or rng.random() < 0.5:
        new["variant"] = rng.choice(named)
    if kind in ("broadcast", "reduce"):
        new["peers"] = [rng.choice(ranks)]
    if kind == "all_to_all" and rng.random() < 0.3:
        entries = len(ranks) if rng.random() < 0.5 else len(ranks) ** 2
        new["splits"] = [rng.choice([0, 1, rng.randint(0, size)]) for _ in range(entries)]
    add_row(rng, world.rows, new)
