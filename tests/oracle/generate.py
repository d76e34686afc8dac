"""Random small worlds: a seed gives a topology, parameters that make trouble, and a program."""

from __future__ import annotations

import random
from typing import Any

from fabricsim.errors import ConfigError

from .world import ALGORITHMS, Cable, World, row

NS, US, MS = 1_000, 1_000_000, 1_000_000_000
RATES = [10_000, 25_000, 40_000, 100_000, 123_457, 400_000]
COLLECTIVES = {
    "all_reduce": ["ring", "tree", "double_tree", "halving_doubling", "hierarchical", "torus"],
    "reduce_scatter": ["ring", "pairwise", "halving_doubling", "hierarchical", "torus", "pat"],
    "all_gather": ["ring", "pairwise", "halving_doubling", "hierarchical", "torus", "pat"],
    "all_to_all": ["pairwise", "pxn"],
    "broadcast": ["chain", "tree"],
    "reduce": ["chain", "tree"],
    "barrier": ["dissemination"],
}


def random_world(seed: int) -> World:
    """Return the world of a seed."""
    rng = random.Random(seed)
    lossless = rng.random() < 0.5
    ordered_cut = rng.random() < 0.35
    torus = _torus(rng) if rng.random() < 0.12 else {}
    n_hosts, n_switches, pairs = _grid(rng, torus) if torus else _topology(rng)
    cables, latency = wires_of(rng, n_hosts, n_switches, pairs)
    settings = settings_of(
        rng, lossless, ordered_cut, max(ports_of(n_hosts + n_switches, pairs)), cables, latency
    )
    if torus and rng.random() < 0.8:
        settings["route"] = ("torus", {**torus, "hash_seed": rng.randrange(5)})
    mtu = settings["transport"][1]["mtu_bytes"]
    hosts = rng.sample(range(n_hosts), rng.randint(2, n_hosts))
    algorithms = {kind: rng.choice(names) for kind, names in COLLECTIVES.items()}
    return World(
        n_hosts=n_hosts,
        n_switches=n_switches,
        cables=cables,
        latency_ps=latency,
        rows=_rows(rng, len(hosts), mtu),
        rank_host=hosts,
        settings=settings,
        coll=coll_of(rng, mtu),
        algorithms={**ALGORITHMS, **algorithms},
        seed=rng.getrandbits(63),
    )


def class_world(seed: int, *, lossless: bool = False) -> World:
    """Return the world of a seed with two to four data classes, and buffers that just hold what they must.

    ``lossless``: all classes are, with the headroom that the core computes.
    """
    world = random_world(seed)
    rng = random.Random(~seed)
    classes = rng.randint(2, 4)
    make_classes(rng, world, classes, lossless=lossless)
    if rng.random() < 0.5:  # nothing but bursts
        world.rows, hosts = [], len(world.rank_host)
        frame = world.params("transport")["mtu_bytes"] + 118
        for _ in range(rng.randint(2, 8)):
            add_flows(rng, world.rows, hosts, rng.randint(1, 20) * frame, together=True)
    spread = rng.random() < 0.8  # else one row in a while is of another class
    for made in world.rows:
        made["priority"] = rng.randrange(classes) if spread or rng.random() < 0.2 else 0
    return world


def make_classes(rng: random.Random, world: World, classes: int, *, lossless: bool = False) -> None:
    """Give the switches of a world several data classes."""
    world.settings["transport"][1]["control_priority"] = 1
    frame = world.params("transport")["mtu_bytes"] + 118
    degree = [sum(n in (c.a, c.b) for c in world.cables) for n in range(world.n_hosts + world.n_switches)]
    ports = max(degree[world.n_hosts :], default=1)
    least = 2 * ports * classes * frame
    if lossless:
        world.settings["link"] = ("pause", {"xoff_bytes": rng.choice([0, 2 * frame]), "headroom_bytes": 0})
    if world.chosen("link") == "pause":
        link = world.settings["link"][1]
        link["lossless_classes"] = 15 if lossless else rng.choice([15, 15, 1, 2, 5, rng.randint(1, 15)])
        counted = (link["lossless_classes"] & (1 << classes) - 1).bit_count()
        way = 2 * (max(c.delay_ps for c in world.cables) + max(world.latency_ps))
        wire = way * max(c.rate_mbps for c in world.cables) // 8_000_000
        least += counted * ports * (link["headroom_bytes"] or wire + 4 * frame + 300)
    world.settings["switch"][1].update(
        data_class_count=classes,
        class_round_robin=rng.choice([0, 1]),
        buffer_bytes=max(1 << 14, least + rng.choice([0, 4, 12, 40]) * frame),
        dynamic_alpha_ppm=rng.choice([1_000_000, 500_000, 8_000_000]),
    )


def controller_world(seed: int) -> World:
    """Return the world of a seed, of any of the other kinds, with a controller other than DCQCN."""
    rng = random.Random(seed * 3 + 2)
    world = rng.choice([random_world, random_world, class_world, credit_world])(seed)
    name = rng.choice(["none", *CONTROLLERS])
    if name == "hpcc":  # it needs telemetry
        world = rng.choice([random_world, class_world])(seed)
        transport = world.settings["transport"][1]
        transport["telemetry_bytes"] = rng.choice([0, 42])
        world.settings["switch"][1]["buffer_bytes"] += 20_000  # frames are larger
        if world.chosen("link") == "pause":
            transport["control_priority"] = 1
    world.settings["transport"][1].update(
        selective_repeat=rng.choice([0, 1]),
        reorder_distance_count=rng.choice([1, 4, 64]),
        qp_count=rng.choice([1, 1, 2, 3]),
    )
    world.settings["cc"] = (name, {p: rng.choice(values) for p, values in CONTROLLERS.get(name, {}).items()})
    return world


CONTROLLERS = {
    "hpcc": {
        "eta_ppm": [950_000, 500_000],
        "max_stage_count": [0, 5, 20],
        "ai_bytes": [80, 1, 5000],
        "base_rtt_ps": [0, 0, 12 * US],
        "min_rate_mbps": [100, 5000],
        "fast_react": [0, 1],
    },
    "timely": {
        "alpha_ppm": [875_000, 1_000_000, 100_000],
        "beta_ppm": [800_000, 200_000],
        "t_low_ps": [0, 5 * US, 50 * US],
        "t_high_ps": [20 * US, 100 * US, 500 * US],
        "min_rtt_ps": [0, 5 * US, 20 * US],
        "rate_ai_mbps": [10, 1000],
        "hai_count": [1, 2, 5],
        "segment_bytes": [0, 1, 16384],
        "min_rate_mbps": [100, 5000],
    },
    "swift": {
        "base_target_ps": [2 * US, 10 * US, 20 * US, 100 * US],
        "hop_ps": [0, US, 3 * US],
        "fs_range_ps": [0, 30 * US, 100 * US],
        "fs_min_cwnd_ppm": [100_000, 1_000_000],
        "fs_max_cwnd_ppm": [10_000_000, 100_000_000, 50_000],
        "ai_ppm": [1_000_000, 100_000, 5_000_000],
        "max_mdf_ppm": [500_000, 900_000, 1_000_000],
        "min_cwnd_ppm": [1000, 100_000, 1_000_000],
        "max_cwnd_ppm": [1_000_000_000, 4_000_000],
        "initial_window_bytes": [0, 1, 10_000, 100_000],
        "retx_reset_count": [1, 2, 5],
    },
    "srd_cc": {
        "base_rtt_ps": [0, 0, 10 * US],
        "inflation_ppm": [500_000, 50_000, 3_000_000],
        "majority_ppm": [500_000, 0, 1_000_000],
        "backoff_ppm": [900_000, 500_000],
        "increase_ppm": [5000, 100_000],
        "window_gain_ppm": [2_000_000, 1_000_000, 300_000],
        "initial_window_bytes": [131_072, 1, 5000],
        "min_rate_mbps": [100, 5000],
    },
    "ib_cc": {
        "ccti_increase_count": [1, 4],
        "ccti_timer_count": [1, 10, 150],
        "ccti_min_count": [0, 0, 3],
        "ccti_limit_count": [127, 2, 30],
        "cct_step_ppm": [125_000, 50_000, 1_000_000],
        "cct_exponential": [0, 1],
    },
}


def credit_world(seed: int) -> World:
    """Return the world of a seed on InfiniBand-like links: credits, virtual lanes, little buffers."""
    world = random_world(seed)
    rng = random.Random(seed * 2 + 1)
    lanes, frame = make_credits(rng, world)
    try:
        world.model()
    except ConfigError:  # a credit loop
        world.settings["route"] = ("updown", {"single_path": rng.choice([0, 1])})
    if rng.random() < 0.4:  # nothing but bursts
        world.rows, hosts = [], len(world.rank_host)
        for _ in range(rng.randint(2, 8)):
            add_flows(rng, world.rows, hosts, rng.randint(1, 20) * frame, together=True)
    for made in world.rows:
        made["priority"] = rng.randrange(lanes)
    return world


def circuit_world(seed: int) -> World:
    """Return the world of a seed with credits, whose cables between switches are circuits that go dark."""
    world = credit_world(seed)
    rng = random.Random(seed * 3 + 2)
    frame = 8 * (world.params("transport")["mtu_bytes"] + 200)  # bits, with room for headers
    for i, cable in enumerate(world.cables):
        if min(cable.a, cable.b) < world.n_hosts or rng.random() < 0.3:
            continue
        guard = frame * 1_000_000 // cable.rate_mbps
        up = rng.choice([2, 3, 10]) * guard + rng.choice([0, 1, 777])
        period = up + rng.choice([0, 1, guard, 3 * guard, 20 * US])
        world.circuits.append((i, rng.choice([0, 0, 1, rng.randrange(period)]), up, period))
    if world.settings["route"][0] == "adaptive":  # which looks at how long a circuit stays dark
        world.settings["route"] = ("ecmp", {})
        try:
            world.model()
        except ConfigError:
            world.settings["route"] = ("updown", {})
    return world


def make_credits(rng: random.Random, world: World) -> tuple[int, int]:
    """Give a world links with credits; return the lanes, and the bytes of a frame."""
    transport = world.settings["transport"][1]
    transport["control_priority"] = 0
    frame = transport["mtu_bytes"] + transport["header_bytes"] + transport["first_header_bytes"]
    lanes = rng.choice([1, 1, 2, 3, 4])
    world.settings["transport"] = (rng.choice(["rc", "roce"]), transport)
    block = rng.choice([64, 64, 16, 256])
    world.settings["link"] = (
        "credit",
        {
            "vl_buffer_bytes": rng.choice([0, 0, frame + block, 2 * frame + block, 5 * frame + block]),
            "credit_block_bytes": block,
            "credit_delay_ps": rng.choice([0, 0, 100 * NS, 777]),
        },
    )
    switch = {
        "vl_count": lanes,
        "vl_high_mask": rng.choice([0, 1, 2, 5, 15]),
        "vl_high_limit": rng.choice([255, 0, 1, 3]),
        "input_queue": rng.choice([0, 0, 0, 1]),
        "fecn_threshold": rng.choice([0, 15, 8]),
        "fecn_marking_rate": rng.choice([0, 0, 3]),
        "fecn_packet_size": rng.choice([0, 0, 8]),
        "fecn_victim_mask": rng.choice([0, 1]),
    }
    for lane in range(4):
        switch[f"vl{lane}_weight"] = rng.choice([1, 16, 64, 255])
    world.settings["switch"] = ("voq", switch)
    return lanes, frame


def srd_world(seed: int) -> World:
    """Return the world of a seed with SRD, one in four with several data classes, half with a controller."""
    world = class_world(seed) if seed % 4 == 3 else random_world(seed)
    make_srd(random.Random(seed * 5 + 3), world)
    return world


def make_srd(rng: random.Random, world: World) -> None:
    """Let the hosts of a world speak SRD."""
    if rng.random() < 0.5:
        able = [name for name in CONTROLLERS if name != "hpcc"]  # SRD carries no telemetry
        name = rng.choice([*able, "srd_cc", "srd_cc"])
        world.settings["cc"] = (name, {p: rng.choice(values) for p, values in CONTROLLERS[name].items()})
    base = world.settings["transport"][1]
    far = max(c.delay_ps for c in world.cables) > 20 * US
    transport = {name: base[name] for name in ("mtu_bytes", "ack_every_count", "control_priority")}
    transport.update(
        path_count=rng.choice([1, 2, 3, 16, 64]),
        path_slow_ppm=rng.choice([1, 100_000, 500_000]),
        path_rest_ps=rng.choice([US, 50 * US, MS]),
        loss_threshold_count=rng.choice([1, 1, 3]),
        first_rto_ps=20 * MS if far else rng.choice([50 * US, MS, 5 * MS]),
        min_rto_ps=rng.choice([US, 100 * US, 2 * MS]),
        max_rto_ps=rng.choice([US, 5 * MS, 50 * MS]),
        retry_limit_count=rng.choice([1000, 12, 1, 0]),
        window_bytes=rng.choice([0, 1, 20_000, 262_144]),
        reorder_count=rng.choice([64, 65, 1024]),
        reorder_ps=rng.choice([0, 0, 500 * NS]),
        cnp_interval_ps=base["cnp_interval_ps"],
        header_bytes=rng.choice([90, 40]),
    )
    world.settings["transport"] = ("srd", transport)


# ---- topology


def _topology(rng: random.Random) -> tuple[int, int, list[tuple[int, int]]]:
    """Return hosts, switches and the pairs that cables join; the order of cables is random (ports!)."""
    shape = rng.choice(["star", "pair", "two tiers", "three tiers", "ring", "mesh", "line", "parallel"])
    if shape == "pair":
        return 2, 0, [(0, 1)]
    if shape == "star":
        hosts = rng.randint(2, 10)
        links = []
        switches = 1
    elif shape == "two tiers":
        leaves, spines = rng.randint(2, 4), rng.randint(1, 3)
        hosts, switches = leaves * rng.randint(1, 3), leaves + spines
        links = [(leaf, leaves + spine) for leaf in range(leaves) for spine in range(spines)]
    elif shape == "three tiers":
        hosts, switches = rng.randint(4, 12), 12
        links = [(e + 2 * pod, 4 + a + 2 * pod) for pod in range(2) for e in range(2) for a in range(2)]
        links += [(4 + a + 2 * pod, 8 + 2 * a + c) for pod in range(2) for a in range(2) for c in range(2)]
    elif shape == "ring":
        switches = rng.randint(3, 7)
        hosts = rng.randint(3, 9)
        links = [(i, (i + 1) % switches) for i in range(switches)]
    elif shape == "mesh":
        switches = rng.randint(3, 5)
        hosts = rng.randint(3, 9)
        links = [(i, j) for i in range(switches) for j in range(i) if rng.random() < 0.8 or j == i - 1]
    elif shape == "line":
        switches = rng.randint(2, 5)
        hosts = rng.randint(2, 8)
        links = [(i, i + 1) for i in range(switches - 1)]
    else:
        switches, hosts = 2, rng.randint(2, 8)
        links = [(0, 1)] * rng.randint(2, 4)
    edges = min(switches, 4 if shape in ("two tiers", "three tiers") else switches)
    if shape == "two tiers":
        edges = leaves
    pairs = [
        (h, hosts + (h * edges // hosts if rng.random() < 0.8 else rng.randrange(edges)))
        for h in range(hosts)
    ]
    pairs += [(hosts + a, hosts + b) for a, b in links]
    if rng.random() < 0.5:
        rng.shuffle(pairs)
    pairs = [(b, a) if rng.random() < 0.3 else (a, b) for a, b in pairs]
    return hosts, switches, pairs


def _torus(rng: random.Random) -> dict[str, int]:
    """Return the parameters of routing on a small torus, plain or twisted."""
    twisted = rng.random() < 0.3
    plain = [(4, 1, 1), (3, 3, 1), (2, 2, 2), (4, 3, 1), (1, 3, 4), (5, 2, 1), (1, 1, 2)]
    x, y, z = rng.choice([(2, 4, 1), (3, 6, 1), (4, 2, 1), (2, 2, 4)] if twisted else plain)
    options = {"multipath": rng.choice([0, 1]), "two_orders": rng.choice([0, 1])}
    return {"x_count": x, "y_count": y, "z_count": z, "twisted": int(twisted), **options}


def _grid(rng: random.Random, torus: dict[str, int]) -> tuple[int, int, list[tuple[int, int]]]:
    """Return hosts, switches and the pairs that cables join; dimensions above two are rings or lines."""
    sizes = [torus[f"{d}_count"] for d in "xyz"]
    routers = sizes[0] * sizes[1] * sizes[2]
    hosts = routers + rng.choice([0, 0, 2])
    rings = [bool(torus["twisted"]) or (size > 2 and rng.random() < 0.8) for size in sizes]
    pairs = [(h, hosts + h % routers) for h in range(hosts)]
    for router in range(routers):
        for d, size in enumerate(sizes):
            at = [router % sizes[0], router // sizes[0] % sizes[1], router // (sizes[0] * sizes[1])]
            at[d] += 1
            if at[d] == size:
                if not rings[d] or size == 1:
                    continue
                at[d] = 0
                for e in range(3):
                    if torus["twisted"] and sizes[e] == 2 * size:
                        at[e] = (at[e] + size) % sizes[e]
            pairs.append((hosts + router, hosts + at[0] + sizes[0] * (at[1] + sizes[1] * at[2])))
    rng.shuffle(pairs)
    return hosts, routers, [(b, a) if rng.random() < 0.3 else (a, b) for a, b in pairs]


def ports_of(n_nodes: int, pairs: list[tuple[int, int]]) -> list[int]:
    return [sum(node in pair for pair in pairs) for node in range(n_nodes)]


def wires_of(
    rng: random.Random, n_hosts: int, n_switches: int, pairs: list[tuple[int, int]]
) -> tuple[list[Cable], list[int]]:
    rates = [rng.choice(RATES)] if rng.random() < 0.5 else rng.sample(RATES, 2)
    delay = rng.choice([1, 5 * NS, 50 * NS, 600 * NS, US, US, 5 * US, 70 * US, MS])
    delays = [delay] if rng.random() < 0.6 else [delay, delay + rng.randint(1, 500) * NS, 20 * NS]
    cables = [Cable(a, b, rng.choice(rates), rng.choice(delays)) for a, b in pairs]
    latency = rng.choice([0, 0, 300 * NS])
    return cables, [0 if node < n_hosts else latency for node in range(n_hosts + n_switches)]


# ---- parameters


def settings_of(
    rng: random.Random, lossless: bool, cut: bool, ports: int, cables: list[Cable], latency: list[int]
) -> dict[str, tuple[str, dict[str, int]]]:
    mtu = rng.choice([256, 512, 1024, 4096, 1000])
    far = max(c.delay_ps for c in cables) > 20 * US  # a time-out must not be much shorter than the way
    frame = mtu + 98
    transport = {
        "mtu_bytes": mtu,
        "ack_every_count": rng.choice([1, 1, 2, 5, 16]),
        "rto_ps": 25 * MS if far else rng.choice([20 * US, 60 * US, 300 * US, 2 * MS]),
        "nak_interval_ps": rng.choice([US, 20 * US, 500 * US]),
        "retry_limit_count": rng.choice([1000, 1000, 1000, 3]),
        "window_bytes": rng.choice([0, 0, 1, 4 * mtu, 20 * mtu]),
        "cnp_interval_ps": rng.choice([0, 2 * US, 50 * US]),
        "control_priority": rng.choice([0, 1]),
        "reorder_count": rng.choice([64, 1024]),
        "header_bytes": rng.choice([82, 102]),
        "first_header_bytes": rng.choice([16, 0]),
    }
    kmin = rng.choice([0, frame, 5 * frame, 20 * frame])
    switch = {
        "cut_through": int(cut),
        "ecn": rng.choice([0, 1, 1]),
        "ecn_kmin_bytes": kmin,
        "ecn_kmax_bytes": kmin + rng.choice([0 if kmin else 1, frame, 10 * frame]),
        "ecn_pmax_ppm": rng.choice([1_000_000, 200_000, 10_000]),
        "dynamic_alpha_ppm": rng.choice([1_000_000, 250_000, 4_000_000, 30_000]),
    }
    settings = {"transport": ("roce", transport), "switch": ("ethernet", switch)}
    if lossless:
        link = {
            "xoff_bytes": rng.choice([0, 0, 2 * frame, 6 * frame]),
            "xoff_alpha_ppm": rng.choice([125_000, 1_000_000, 30_000]),
            "xon_gap_bytes": rng.choice([0, frame, 2 * frame, 8356]),
            "headroom_bytes": rng.choice([0, 0, rng.randrange(1, frame), frame + 1, 3 * frame]),
        }
        settings["link"] = ("pause", link)
        # 2 B/ps at most: what fills the wires both ways
        wire = max(2 * (c.delay_ps + max(latency)) * c.rate_mbps // 8_000_000 for c in cables)
        headroom = link["headroom_bytes"] or wire + 4 * frame + 800
        least = ports * (headroom + 2 * (frame + 40))
        switch["buffer_bytes"] = max(1 << 14, least + rng.choice([0, 4, 4, 12, 40]) * frame)
    else:
        least = (
            2 * (frame + 40) * 1_010_000 // switch["dynamic_alpha_ppm"] + 99
        )  # two frames must fit in a queue
        switch["buffer_bytes"] = max(1 << 14, least) + rng.choice([0, 0, 10, 60]) * frame
    settings["route"] = _route(rng)
    if rng.random() < 0.6:
        settings["cc"] = ("dcqcn", _dcqcn(rng, frame))
    return settings


def _route(rng: random.Random) -> tuple[str, dict[str, int]]:
    kind = rng.choice(["ecmp", "ecmp", "spray", "adaptive", "dmodk", "updown"])
    params = {} if kind == "dmodk" else {"hash_seed": rng.randrange(5)}
    if kind == "updown":
        params["single_path"] = rng.choice([0, 1])
    return kind, params


def _dcqcn(rng: random.Random, frame: int) -> dict[str, int]:
    return {
        "g_inverse": rng.choice([256, 16, 2]),
        "alpha_timer_ps": rng.choice([2 * US, 10 * US, 55 * US]),
        "increase_timer_ps": rng.choice([2 * US, 10 * US, 55 * US]),
        "byte_counter_bytes": rng.choice([0, 5 * frame, 10_000_000]),
        "fast_recovery_count": rng.choice([1, 2, 5]),
        "rate_ai_mbps": rng.choice([40, 2000]),
        "rate_hai_mbps": rng.choice([400, 5000]),
        "min_rate_mbps": rng.choice([100, 5000]),
        "decrease_timer_ps": rng.choice([0, 4 * US, 7 * US]),
        "alpha_by_timer": rng.choice([0, 1]),
        "clamp_target": rng.choice([1, 1, 0]),
    }


def coll_of(rng: random.Random, mtu: int) -> dict[str, dict[str, int]]:
    coll: dict[str, dict[str, int]] = {}
    for name in dict.fromkeys(name for names in COLLECTIVES.values() for name in names):
        coll[name] = {"launch_ps": rng.choice([0, 0, 3 * US]), "step_ps": rng.choice([0, 0, 200 * NS])}
        if name in ("ring", "tree", "chain", "double_tree", "pat"):
            coll[name]["chunk_bytes"] = rng.choice([0, 2 * mtu, 5000])
        if name in ("ring", "chain", "double_tree"):
            coll[name]["channel_count"] = rng.choice([1, 1, 2, 5])
    coll["pairwise"]["window_count"] = rng.choice([1, 2, 8])
    coll["pxn"]["window_count"] = rng.choice([1, 2, 6])
    coll["hierarchical"]["slice_bytes"] = rng.choice([0, 2 * mtu, 5000])
    return coll


# ---- program


def _rows(rng: random.Random, ranks: int, mtu: int) -> list[dict[str, Any]]:
    """Return rows that cannot wait for each other in a circle: each names earlier rows only.

    A send to another rank and its recv come one after the other.
    """
    rows: list[dict[str, Any]] = []
    collectives = rng.random() < 0.6
    most = mtu * rng.choice([3, 3, 20, 20, 60, 60, 400])
    if rng.random() < 0.5:  # a burst: flows that all start at once, many to one among them
        for _ in range(rng.randint(2, 6)):
            add_flows(rng, rows, ranks, rng.randint(1, max(most, 15 * mtu)), together=True)
    for _ in range(rng.randint(1, 24 if rng.random() < 0.1 else 12)):
        size = rng.choice([0, 1, rng.randint(1, mtu), rng.randint(1, most)])
        if rng.random() < (0.5 if collectives else 0.1):
            _add_collective(rng, rows, ranks, size)
        elif rng.random() < 0.2:
            some = rng.sample(range(ranks), rng.randint(1, ranks))
            add_row(rng, rows, row(len(rows), "compute", some, duration_ps=pause(rng)))
        else:
            add_flows(rng, rows, ranks, size)
    return rows


def pause(rng: random.Random) -> int:
    return rng.choice([0, 0, rng.randint(1, 5 * US), rng.randint(1, 100 * US), rng.randint(4 * MS, 15 * MS)])


def add_row(rng: random.Random, rows: list[dict[str, Any]], new: dict[str, Any]) -> None:
    """Give a row its order: a stream, earlier rows of one of its ranks, both or none."""
    new["stream"] = rng.choice([-1, -1, 0, 1])
    if rows and rng.random() < 0.3:
        shared = [r["id"] for r in rows if set(r["ranks"]) & set(new["ranks"])]
        new["after"] = rng.sample(shared, min(len(shared), rng.randint(1, 3)))
    if rng.random() < 0.3:
        new["delay_ps"] = pause(rng)
    rows.append(new)


def _add_collective(rng: random.Random, rows: list[dict[str, Any]], ranks: int, size: int) -> None:
    kind = rng.choice(list(COLLECTIVES))
    some = rng.sample(range(ranks), rng.randint(1, ranks))
    if rng.random() < 0.5:
        some.sort()
    new = row(len(rows), kind, some, size=0 if kind == "barrier" else size)
    if kind in ("broadcast", "reduce"):
        new["peers"] = [rng.choice(some)]
    if kind == "all_to_all" and rng.random() < 0.5:
        entries = len(some) if rng.random() < 0.5 else len(some) ** 2
        new["splits"] = [rng.choice([0, 1, rng.randint(0, size)]) for _ in range(entries)]
    add_row(rng, rows, new)


def add_flows(
    rng: random.Random, rows: list[dict[str, Any]], ranks: int, size: int, *, together: bool = False
) -> None:
    """Add a send row of some ranks and the recv row for it: a permutation, an incast or a single flow."""
    sources = rng.sample(range(ranks), ranks if together else rng.choice([1, 1, ranks]))
    if rng.random() < 0.5:
        targets = [rng.randrange(ranks)] * len(sources)
    else:
        targets = rng.sample(range(ranks), len(sources))
    tag = rng.choice([0, 0, 1, 7, -3])
    send = row(len(rows), "send", sources, peers=targets, size=size, tag=tag)
    if together:
        rows.append(send)
    else:
        add_row(rng, rows, send)
    if len(set(targets)) == len(targets):
        recv = row(len(rows), "recv", targets, peers=sources, size=size, tag=tag)
        rows.append({**recv, "delay_ps": pause(rng) if rng.random() < 0.2 else 0})
    else:
        for source, target in zip(sources, targets, strict=True):
            rows.append(row(len(rows), "recv", [target], peers=[source], size=size, tag=tag))
