"""Random operations on random file systems, whose servers may fail: all end, and nothing is left over."""

from __future__ import annotations

import random
from typing import Any

import pytest
from store_worlds import Storage, io

from fabricsim.errors import EngineError

KIB, MIB, MS = 1 << 10, 1 << 20, 10**9
FILES = ("/a", "/b", "/d/c")
LAYOUTS: tuple[tuple[tuple[int, ...], ...], ...] = (
    (),
    ((0, 0, 0, -1, 64 * KIB, -1, -1, 0),),
    ((0, 0, 0, MIB, MIB, 1, -1, 1), (0, 0, MIB, -1, 256 * KIB, 3, -1, 0)),
    ((0, 0, 0, -1, MIB, 1, -1, 0), (0, 1, 0, -1, MIB, 2, -1, 0)),
)


def parameters(dice: random.Random) -> dict[str, int]:
    return {
        "rpc_bytes": dice.choice([64 * KIB, MIB, 4 * MIB]),
        "max_dirty_bytes": dice.choice([64 * KIB, MIB, 3 * MIB, 64 * MIB]),
        "grant_bytes": dice.choice([MIB, 64 * MIB]),
        "cache_bytes": dice.choice([0, MIB, 8 * MIB, 1 << 30]),
        "rpcs_in_flight_count": dice.choice([1, 2, 8]),
        "readahead_bytes": dice.choice([0, MIB, 16 * MIB]),
        "readahead_whole_bytes": dice.choice([0, 2 * MIB]),
        "cache": dice.choice([0, 1, 1, 1]),
        "dirty_expire_ps": dice.choice([0, MS, 5000 * MS]),
        "client_mbps": dice.choice([0, 20_000]),
        "short_io_bytes": dice.choice([0, 16 * KIB]),
        "commit_ps": dice.choice([10 * MS, 5000 * MS]),
    }


def failing(dice: random.Random, storage: Storage) -> None:
    """Let a server fail, and often again."""
    storage.params |= {
        "timeout_ps": 100 * MS,
        "reconnect_ps": 50 * MS,
        "recovery_soft_ps": dice.choice([10 * MS, 1000 * MS]),
        "recovery_hard_ps": 2000 * MS,
    }
    if storage.servers > 1 and dice.random() < 0.7:
        storage.partners = [(i + 1) % storage.servers for i in range(storage.servers)]
    server, when = dice.randrange(storage.servers), dice.randrange(1, 60) * MS
    up = when + dice.randrange(1, 400) * MS
    storage.failures = [(when, server, up), (up + dice.randrange(1, 300) * MS, server, up + 1000 * MS)]


def operations(dice: random.Random, rank: int, stream: int) -> list[dict[str, Any]]:
    def row(kind: str, **more: Any) -> dict[str, Any]:
        return {**io(kind, rank, **more), "stream": stream}

    rows = [row("open", file=file, flags="create") for file in FILES]
    for _ in range(dice.randrange(3, 12)):
        kind, file = (
            dice.choice(["write", "write", "read", "read", "fsync", "stat", "close"]),
            dice.choice(FILES),
        )
        more: dict[str, Any] = {"file": file}
        if kind in ("read", "write"):
            more["size"] = dice.choice([4096, 5000, 64 * KIB, MIB, 3 * MIB + 17])
            more["offset"] = dice.choice([0, 4096, MIB, MIB // 2 + 3, dice.randrange(4 * MIB)])
            if dice.random() < 0.25:
                more["flags"] = "direct"
        rows.append(row(kind, **more))
    return rows + [row("fsync", file=file) for file in FILES]


@pytest.mark.parametrize("seed", range(14))
def test_random_operations_end_and_leave_nothing(seed: int) -> None:
    dice = random.Random(seed)
    impl = ("lustre", "lustre", "beegfs", "weka", "lustre", "local", "lustre")[seed % 7]
    here = Storage(
        dice.randrange(1, 4), dice.randrange(1, 4), 1, dice.randrange(1, 3), impl, parameters(dice)
    )
    if impl == "lustre":
        here.layouts = dice.choice(LAYOUTS)
        if seed % 2 == 0:
            failing(dice, here)
    streams = [(rank, stream) for rank in range(here.clients) for stream in range(dice.randrange(1, 3))]
    rows = [row for rank, stream in streams for row in operations(dice, rank, stream)]
    runs = [here.run(*rows, threads=threads) for threads in (1, 2)]
    assert runs[0].digest == runs[1].digest
    clients = runs[0].clients()
    limit = min(here.params["max_dirty_bytes"], here.params["grant_bytes"])
    assert clients["max_dirty_bytes"].max() <= max(limit, here.params["rpc_bytes"])
    assert not clients["refused"].any()
    if not here.failures:
        assert not clients["lost_dirty_bytes"].any()
        written = runs[0].targets()["bytes_written"].sum()
        assert written >= clients["rpc_written_bytes"].sum()


def renaming(dice: random.Random, rank: int, stream: int) -> list[dict[str, Any]]:
    """Return operations that remove, empty and rename the files of others; some are refused."""

    def row(kind: str, **more: Any) -> dict[str, Any]:
        return {**io(kind, rank, **more), "stream": stream}

    rows = [row("open", file=dice.choice(FILES), flags="create")]
    for _ in range(dice.randrange(4, 16)):
        kind = dice.choice(["write", "write", "read", "fsync", "stat", "open", "unlink", "rename", "trunc"])
        more: dict[str, Any] = {"file": dice.choice(FILES)}
        if kind in ("read", "write"):
            more["size"] = dice.choice([4096, 64 * KIB, MIB, 3 * MIB + 17])
            more["offset"] = dice.choice([0, 4096, MIB, dice.randrange(4 * MIB)])
            if dice.random() < 0.25:
                more["flags"] = "direct"
        elif kind == "open":
            more["flags"] = "create"
        elif kind == "rename":
            more["new_file"] = dice.choice([file for file in FILES if file != more["file"]])
        elif kind == "trunc":
            kind, more["flags"] = "open", "create,trunc"
        rows.append(row(kind, **more))
    return rows


@pytest.mark.parametrize("seed", range(12))
def test_files_removed_and_renamed_under_way_leave_nothing(seed: int) -> None:
    dice = random.Random(seed)
    impl = ("lustre", "lustre", "weka", "lustre", "beegfs", "local")[seed % 6]
    sizes = (dice.randrange(1, 4), dice.randrange(1, 4), dice.randrange(1, 3), dice.randrange(1, 3))
    sooner_or_later = {"dirty_expire_ps": dice.choice([MS, 5000 * MS])}
    here = Storage(*sizes, impl, parameters(dice) | sooner_or_later)
    if impl == "lustre":
        here.layouts = dice.choice(LAYOUTS)
        if seed % 2 == 0:
            failing(dice, here)
    streams = [(rank, stream) for rank in range(here.clients) for stream in range(dice.randrange(1, 3))]
    rows = [row for rank, stream in streams for row in renaming(dice, rank, stream)]
    runs = [here.run(*rows, threads=threads, check=False) for threads in (1, 2)]
    assert runs[0].digest == runs[1].digest
    try:
        runs[0].check()
    except EngineError as error:
        assert all("refused" in line or line.endswith(":") for line in str(error).splitlines()), str(error)
