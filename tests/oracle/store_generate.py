"""Random small worlds with a file system: a seed gives servers, parameters and operations."""

from __future__ import annotations

import random
from typing import Any

from .storage import File, StoreWorld
from .world import Cable, row

US = 1_000_000
KIB = 1024
RPC_BYTES = [4096, 8192, 12288, 16384, 65536, 50_000]
TIMES = [0, 1, US // 3, US, 7 * US, 40 * US]


def store_world(seed: int) -> StoreWorld:
    """Return the world of a seed."""
    rng = random.Random(seed * 5 + 1)
    store = rng.choice(["local", "lustre", "lustre", "lustre", "weka", "beegfs"])
    ranks = rng.randint(1, 3) if store == "local" else rng.randint(2, 5)
    servers = 0 if store == "local" else rng.randint(1, 3)
    metas = 0 if store == "local" else rng.choice([0, 1, 1, 2])
    hosts = max(2, ranks + servers + metas)
    values = values_of(rng, store)
    owners = list(range(servers)) + [rng.randrange(servers) for _ in range(rng.randint(0, 2)) if servers]
    if servers and rng.random() < 0.7:
        owners = sorted(owners)
    target, target_values = target_of(rng)
    directories = [rng.choice([1, 1, 2, 3]) for _ in range(rng.randint(1, 3))]
    world = StoreWorld(
        n_hosts=hosts,
        n_switches=1,
        cables=[
            Cable(h, hosts, rng.choice([10_000, 40_000, 100_000]), rng.choice([1, 5_000, US]))
            for h in range(hosts)
        ],
        latency_ps=[0] * hosts + [rng.choice([0, 300_000])],
        rows=[],
        rank_host=list(range(ranks)),
        settings={"transport": ("roce", {"mtu_bytes": rng.choice([1024, 4096])})},
        seed=rng.getrandbits(63),
        store=store,
        store_values=values,
        target=target,
        target_values=target_values,
        server_hosts=list(range(ranks, ranks + servers)),
        meta_hosts=list(range(ranks + servers, ranks + servers + metas)),
        target_server=owners,
        directory_stripes=directories,
        slow=slow_of(rng, max(1, len(owners))) if rng.random() < 0.2 else [],
    )
    if store == "lustre" and rng.random() < 0.3:
        add_layouts(rng, world)
    add_files(rng, world)
    add_rows(rng, world, ranks)
    return world


def values_of(rng: random.Random, store: str) -> dict[str, int]:
    rpc = rng.choice(RPC_BYTES)
    some = rng.choice
    values = {
        "rpc_bytes": rpc,
        "rpcs_in_flight_count": some([1, 2, 3, 8]),
        "meta_rpcs_count": some([1, 2, 8]),
        "cache": some([0, 1, 1, 1]),
        "max_dirty_bytes": some([4096, rpc, 2 * rpc, 3 * rpc + 1000, 1 << 20]),
        "cache_bytes": some([0, 4096, 4 * rpc, 64 * KIB, 1 << 24]),
        "dirty_expire_ps": some([0, 50 * US, 1000 * US]),
        "grant_bytes": some([4096, 3 * rpc, 1 << 20]),
        "readahead_bytes": some([0, rpc, 4 * rpc, 1 << 20]),
        "readahead_whole_bytes": some([0, 0, 20_000]),
        "copy_mbps": some([1_000_000_000, 100_000, 8_000, 77_777]),
        "client_mbps": some([0, 0, 20_000, 3_333]),
        "call_ps": some(TIMES),
        "request_bytes": some([1, 200, 512]),
        "reply_bytes": some([1, 200, 384]),
        "fragment_bytes": some([4096, 8192, 1 << 20]),
        "short_io_bytes": 1 << 20 if store == "local" else some([0, 4096, 16384]),
        "threads_count": some([1, 2, 512]),
        "rpc_cpu_ps": some(TIMES),
        "checksum_mbps": some([0, 40_000, 7_777]),
        "server_mbps": some([0, 0, 50_000, 9_999]),
        "commit_ps": some([0, 20 * US, 500 * US, 5_000 * US]),
        "commit_cost_ps": some([0, 3 * US, 100 * US]),
        "locks": int(store == "lustre" and rng.random() < 0.8),
        "lock_cpu_ps": some(TIMES),
        "meta_threads_count": some([1, 2, 64]),
        "directory_ps": some(TIMES),
    }
    kinds = ("open", "create", "close", "stat", "unlink", "mkdir", "rename", "readdir")
    values |= {f"{kind}_ps": some(TIMES) for kind in kinds}
    if store == "lustre":
        values |= {
            "stripe_bytes": some([65536, 131072]),
            "stripe_count": some([1, 1, 2, 3, -1]),
            "first_target": some([-1, -1, 0, 5]),
            "dom_bytes": some([0, 0, 0, 65536]),
            "mirror_count": some([1, 1, 1, 2]),
            "allocator": some([0, 0, 1]),
        }
    if store == "weka":
        values |= {
            "data_count": some([3, 4]),
            "parity_count": some([2, 4]),
            "core_mbps": some([5_000, 28_999]),
        }
    if store == "beegfs":
        values |= {"chunk_bytes": some([65536, 131072]), "stripe_count": some([1, 2, 4])}
    return values


def target_of(rng: random.Random) -> tuple[str, dict[str, int]]:
    if rng.random() < 0.3:
        return "disk", {
            "data_count": rng.choice([1, 2, 3, 8]),
            "parity_count": rng.choice([0, 1, 2]),
            "chunk_bytes": rng.choice([4096, 16384]),
            "disk_mbps": rng.choice([1600, 33_333]),
            "seek_ps": rng.choice([0, 8 * US]),
            "rotation_ps": rng.choice([0, 8 * US]),
        }
    return "flash", {
        "read_latency_ps": rng.choice(TIMES),
        "write_latency_ps": rng.choice(TIMES),
        "read_mbps": rng.choice([56_000, 9_999]),
        "write_mbps": rng.choice([40_000, 7_777]),
        "queue_depth_count": rng.choice([1, 2, 256]),
    }


def slow_of(rng: random.Random, targets: int) -> list[tuple[int, int, int]]:
    whens = sorted(rng.sample(range(1, 3000), rng.randint(1, 4)))
    return [
        (when * US, rng.randrange(targets), rng.choice([1, 10_000, 500_000, 333_333, 1_000_000]))
        for when in whens
    ]


def add_files(rng: random.Random, world: StoreWorld) -> None:
    sizes = [-1, -1, 0, 1, 4096, 10_000, 65_536, 200_000]
    for _ in range(rng.randint(1, 5)):
        directory = rng.randrange(len(world.directory_stripes))
        layout = rng.randrange(1 + max((row[0] for row in world.layouts), default=0))
        world.files.append(File(directory, layout, rng.choice(sizes)))


def add_layouts(rng: random.Random, world: StoreWorld) -> None:
    """Add layouts of several components and mirrors, as rows of ``Layouts.own``."""
    for layout in range(rng.randint(0, 1), rng.randint(2, 3)):
        for mirror in range(rng.choice([1, 1, 2])):
            begin = 0
            for n in range(rng.randint(1, 3)):
                last = n == 2 or rng.random() < 0.5
                end = -1 if last else begin + rng.choice([65536, 131072])
                on_meta = bool(world.metas) and not begin and not last and rng.random() < 0.4
                stripe = end if on_meta else rng.choice([65536, 131072])
                count = 1 if on_meta else rng.choice([1, 1, 2, 5, -1])
                first = -1 if on_meta else rng.choice([-1, -1, 0])
                world.layouts.append([layout, mirror, begin, end, stripe, count, first, int(on_meta)])
                begin = end
                if last:
                    break
            else:
                world.layouts[-1][3] = -1


def add_rows(rng: random.Random, world: StoreWorld, ranks: int) -> None:
    most = rng.choice([5_000, 40_000, 150_000])
    for _ in range(rng.randint(1, 5) * ranks):
        add_row(rng, world, rng.sample(range(ranks), rng.choice([1, 1, ranks])), most)
    for number, made in enumerate(world.rows):
        made["id"] = number


def add_row(rng: random.Random, world: StoreWorld, ranks: list[int], most: int) -> None:
    """Add an operation of some ranks, or a few that belong together."""
    file = rng.randrange(len(world.files))
    stream = rng.choice([0, 0, 0, 1])
    delay = rng.choice([0, 0, 0, US, 100 * US, rng.randrange(1000 * US)])
    files = [file] if rng.random() < 0.6 else [rng.randrange(len(world.files)) for _ in ranks]

    def add(kind: str, size: int = 0, **more: Any) -> None:
        own = {"files": files, "new_files": [], "offset": 0, "stride": 0, "flags": 0, **more}
        world.rows.append(row(0, kind, ranks, size=size, stream=stream, delay_ps=delay, io=own))

    what = rng.choices(
        ["write", "read", "run", "open", "fsync", "close", "stat", "names"], [5, 5, 3, 5, 3, 2, 2, 1]
    )[0]
    size = rng.choice([1, 100, 4096, 8192, rng.randint(1, most), rng.randint(1, most)])
    offset = rng.choice([0, 0, 4096, 65_536, rng.randrange(most)])
    stride = rng.choice([0, size, size, rng.randrange(most)]) if len(ranks) > 1 else 0
    flags = rng.choice([0, 0, 0, 8]) | rng.choice([0, 0, 0, 0, 16])
    if what in ("read", "write"):
        add(what, size, offset=offset, stride=stride, flags=flags)
    elif what == "run":  # one read or write after another
        kind = rng.choice(["read", "write"])
        for i in range(rng.randint(2, 6)):
            add(kind, size, offset=offset + i * size, stride=stride, flags=flags)
            delay = 0
    elif what == "open":
        add("open", flags=rng.choice([0, 1, 1, 1, 1, 3, 5, 4]))
    elif what == "names":
        kind = rng.choice(["unlink", "mkdir", "rmdir", "readdir", "rename", "rename"])
        add(kind, new_files=[rng.randrange(len(world.files))] if kind == "rename" else [])
    else:
        add(what)
