"""Metadata servers: rates of changes, striped directories, threads, names and contents, where objects go."""

from itertools import pairwise

import numpy as np
import pytest
from engine_worlds import US
from store_worlds import Storage, create, io

import fabricsim
from fabricsim import FabricsimError
from fabricsim._core import engine
from fabricsim.workload.rows import Rows

KIB = 1 << 10
MIB = 1 << 20
DIRECTORY_PS = 25 * US


def span_ps(run):
    return int(run.ops()["end_ps"].max())


def creates(clients, files, folder="/d"):
    return [create(r, file=f"{folder}/f{k}.{{rank}}") for k in range(files) for r in range(clients)]


def rows(run, kind):
    all_rows = run.rpcs()
    keep = all_rows["kind"] == engine.RPC_KINDS.index(kind)
    return {name: column[keep] for name, column in all_rows.items()}


def test_a_directory_takes_one_change_at_a_time():
    clients, files = 16, 6
    run = Storage(clients=clients).run(*creates(clients, files))
    served = np.sort(rows(run, "open")["served_ps"])
    assert len(served) == clients * files
    assert min(b - a for a, b in pairwise(served)) == DIRECTORY_PS
    # enough clients to keep it busy all the time
    assert served[-1] - served[0] == (clients * files - 1) * DIRECTORY_PS


def test_directories_do_not_wait_for_one_another():
    alone = Storage(clients=8).run(*creates(8, 6))
    apart = Storage(clients=8).run(*[row for r in range(8) for row in creates(8, 6, f"/d{r}")[r::8]])
    assert span_ps(apart) < span_ps(alone)
    assert span_ps(apart) <= 6 * 330 * US


def test_a_striped_directory_is_faster():
    def time_of(metas, stripes):
        return span_ps(Storage(clients=48, metas=metas).run(*creates(48, 4), stripes=stripes))

    one = time_of(4, 1)
    assert time_of(4, 4) < one / 2
    assert time_of(1, 1) == one  # other servers do not help where there is one stripe


def test_threads_bound_what_needs_no_directory():
    world = Storage(clients=8, params={"meta_threads_count": 2})
    run = world.run(*[io("stat", r, file="/there.{rank}") for r in range(8)])
    served = np.sort(rows(run, "stat")["served_ps"])
    assert (served - served[0]) // (50 * US) == pytest.approx([0, 0, 1, 1, 2, 2, 3, 3])
    assert served[-1] - served[0] < 151 * US
    assert run.servers()["queue_max"].tolist() == [0, 6]


def test_a_change_that_waits_for_its_directory_keeps_its_thread():
    params = {"meta_threads_count": 1, "create_ps": 300 * US}
    run = Storage(clients=4, params=params).run(*creates(4, 1))
    served = np.sort(rows(run, "open")["served_ps"])
    assert np.diff(served).tolist() == [300 * US] * 3


def test_all_open_one_file():
    clients = 6
    run = Storage(clients=clients).run(create(*range(clients), file="/shared"))
    served = np.sort(rows(run, "open")["served_ps"])
    # all began before it was there, so all come to the directory; one change
    assert np.diff(served).tolist() == [DIRECTORY_PS] * (clients - 1)
    assert run.servers()["changes"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "trace",
    [
        [create(), io("close"), io("open", flags="create,excl")],
        [create(), io("close"), io("unlink"), io("open")],
        [create(), io("close"), io("mkdir")],
        [io("mkdir", file="/d"), io("rmdir", file="/d"), io("rmdir", file="/d")],
        [create(), io("rename", new_file="/g"), io("stat")],
    ],
)
def test_what_is_asked_for_wrongly_is_refused(trace):
    run = Storage().run(*trace, check=False)
    assert run.clients()["refused"].tolist() == [1]
    with pytest.raises(FabricsimError, match="refused"):
        run.check()


def test_names_may_come_back():
    run = Storage().run(
        io("mkdir", file="/d"),
        create(file="/d/f"),
        io("close", file="/d/f"),
        io("unlink", file="/d/f"),
        io("open", file="/d/f", flags="create,excl"),
        io("close", file="/d/f"),
        io("unlink", file="/d/f"),
        io("rmdir", file="/d"),
        io("mkdir", file="/d"),
        io("readdir", file="/d"),
    )
    assert run.servers()["changes"].tolist() == [0, 7]


def save(name, size):
    tmp = f"{name}.tmp"
    return [
        create(file=tmp),
        io("write", file=tmp, size=size, offset=0),
        io("fsync", file=tmp),
        io("close", file=tmp),
        io("rename", file=tmp, new_file=name),
    ]


@pytest.mark.parametrize("metas", [1, 3])
def test_a_renamed_file_keeps_its_data(metas):
    size = 3 * MIB
    trace = [row for k in range(4) for row in save(f"/d/f{k}", size)]
    trace += [io("read", 1, file=f"/d/f{k}", size=size, offset=0) for k in range(4)]
    trace += [io("stat", 1, file=f"/d/f{k}") for k in range(4)]
    world = Storage(clients=2, metas=metas)
    # rank 1 reads when rank 0 is done
    trace.insert(20, {"kind": "barrier", "ranks": [0, 1], "stream": 0})
    run = world.run(*trace, stripes=metas)
    assert run.clients()["bytes_read"].tolist() == [0, 4 * size]
    assert set(rows(run, "read")["file"]) == set(rows(run, "write")["file"])


def test_a_rename_over_another_file_ends_that():
    size = MIB
    barrier = {"kind": "barrier", "ranks": [0, 1], "stream": 0}
    trace = [*save("/f", size), *save("/f", size), barrier, io("read", 1, file="/f", size=size, offset=0)]
    run = Storage(clients=2).run(*trace)
    reads, writes = rows(run, "read"), rows(run, "write")
    assert reads["file"].tolist() == writes["file"].tolist()[-1:]
    assert len(set(writes["file"].tolist())) == 2


def test_servers_rename_together():
    """Of names at different servers: the first asks the second, and both have a change of the directory."""
    world = Storage(clients=1, metas=4)
    slow = span_ps(world.run(create(file="/a"), io("rename", file="/a", new_file="/b"), stripes=4))
    fast = span_ps(world.run(create(file="/a"), io("rename", file="/a", new_file="/b")))
    assert fast < slow < fast + DIRECTORY_PS + 20 * US


def test_objects_go_round_the_targets():
    world = Storage(servers=3, targets_per_server=2)
    names = [f"/f{k}" for k in range(6)]
    trace = [row for f in names for row in (create(file=f), io("write", file=f, size=MIB, offset=0))]
    run = world.run(*trace)
    writes = rows(run, "write")
    order = np.argsort(writes["file"])
    assert writes["server"][order].tolist() == [0, 1, 2, 0, 1, 2]
    assert writes["target"][order].tolist() == [0, 2, 4, 1, 3, 5]


def test_data_on_the_metadata_server():
    run = Storage(metas=2, params={"dom_bytes": 64 * KIB}).run(
        create(), io("write", size=MIB, offset=0), io("fsync"), io("read", size=MIB, offset=0)
    )
    writes = rows(run, "write")
    at_meta = writes["target"] >= 1
    assert writes["bytes"][at_meta].sum() == 64 * KIB
    assert writes["bytes"][~at_meta].sum() == MIB - 64 * KIB
    assert set(writes["server"][at_meta].tolist()) <= {1, 2}


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    def digest(n):
        trace = [*creates(6, 3), *[io("stat", r, file="/d/f0.{rank}") for r in range(6)]]
        return Storage(clients=6, metas=3).run(*trace, stripes=3, threads=n).digest

    assert digest(threads) == digest(1)


def test_names_of_local_stores_are_each_node_s_own() -> None:
    session = Storage(2, impl="local").session()
    file, other = session.file(), session.file()
    create_ps, open_ps = session.do("open", file, flags=1), session.do("open", file, flags=1)
    assert create_ps > 2 * open_ps
    session.do("write", file, offset=0, size=MIB)
    session.do("read", file, rank=1, offset=0, size=MIB)
    clients = session.run.clients()
    assert clients["refused"].tolist() == [0, 1]
    assert clients["bytes_read"].tolist() == [0, 0]
    session.do("rename", file, new_file=other)
    session.do("read", other, offset=0, size=2 * MIB)
    session.do("read", other, rank=1, offset=0, size=MIB)
    session.do("unlink", file)
    clients = session.run.clients()
    assert clients["refused"].tolist() == [1, 2]
    assert clients["bytes_read"].tolist() == [MIB, 0]


def test_objects_of_components_have_what_the_file_had_there() -> None:
    """Half a MiB on the metadata server, two stripes to 4 MiB, four from there on."""
    layout = [
        (0, 0, 0, MIB // 2, MIB // 2, 1, -1, 1),
        (0, 0, MIB // 2, 4 * MIB, MIB, 2, -1, 0),
        (0, 0, 4 * MIB, -1, MIB, 4, -1, 0),
    ]
    for size in (MIB // 4, MIB, 3 * MIB + 5000, 5 * MIB):
        run = Storage(1, 4, 1, layouts=layout, params={"readahead_bytes": 0}).run(
            io("read", 0, offset=0, size=12 * MIB, flags="direct"), bytes=[size]
        )
        assert run.clients()["bytes_read"].tolist() == [size]
        assert run.targets()["bytes_read"].sum() == size


def test_files_of_one_directory_are_on_all_targets_whatever_the_metadata_servers():
    rows = Rows(generator="test")
    rows.write(range(16), "/d/{rank}", 1 << 20, direct=True, stream=1)
    for meta_servers in (1, 2, 4):
        overrides = ["storage.stripe_count=1", f"storage.meta_servers={meta_servers}"]
        result = fabricsim.replay(rows.trace(), fabricsim.Cluster.from_toml("demo-64-400g-lustre", overrides))
        assert result.storage["bytes_written"].to_pylist()[:16] == [1 << 20] * 16
