"""The fsspec file system on the core: the client's cache, times, and the libraries that write through it."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fabricsim
from fabricsim.cli import main
from fabricsim.fs import Session
from fabricsim.storage_bench import Ior, run_ior

pytest.importorskip("fsspec", reason="fsspec is missing: pip install 'fabricsim[fsspec]'")

CLUSTER = """
name = "star"
[topology]
kind = "star"
hosts = 4
rate = "100Gbps"
latency = "500ns"
[storage]
model = "{model}"
mount = "/scratch"
servers = 2
attach = "*"
rate = "100Gbps"
latency = "500ns"
"""
MIB = 1 << 20


def model_of(folder, model):
    path = folder / f"{model}.toml"
    path.write_text(CLUSTER.format(model=model))
    return fabricsim.compile(fabricsim.Cluster.from_toml(path))


@pytest.fixture(scope="module")
def lustre(tmp_path_factory):
    return model_of(tmp_path_factory.mktemp("lustre"), "lustre")


@pytest.fixture
def session(lustre):
    with Session(lustre) as session:
        yield session


def pattern(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


@pytest.mark.parametrize("model", ["lustre", "weka", "beegfs"])
def test_ranks_share_their_bytes(tmp_path, model):
    session = Session(model_of(tmp_path, model))
    one, two = session.fs(0), session.fs(1)
    data = pattern(3 * MIB + 17)
    one.makedirs("/scratch/a/b")
    one.pipe_file("/scratch/a/b/tmp", data)
    one.pipe_file("/scratch/a/b/there", b"old")
    one.mv("/scratch/a/b/tmp", "/scratch/a/b/there")
    assert two.cat_file("/scratch/a/b/there") == data and not two.exists("/scratch/a/b/tmp")
    assert two.cat_file("/scratch/a/b/there", start=MIB, end=MIB + 5) == data[MIB : MIB + 5]
    two.mv("/scratch/a", "/scratch/c")
    assert one.find("/scratch") == ["/scratch/c/b/there"]
    one.rm("/scratch/c", recursive=True)
    assert two.ls("/scratch") == []
    times = [one.stats["time_ps"], two.stats["time_ps"]]
    assert all(took > 0 for took in (times[0]["write"], times[0]["rename"], times[1]["read"], session.now()))
    # Whatever was asked of the servers was there.
    assert one.stats["client"]["refused"] == two.stats["client"]["refused"] == 0
    assert one.stats["client"]["bytes_written"] == len(data) + 3


def test_small_writes_are_coalesced_and_flow_out_behind(session):
    fs = session.fs()
    with fs.open("/scratch/small", "wb") as f:
        before = fs.stats["client"]["rpcs"]
        for _ in range(400):
            f.write(b"x" * 5000)
        asked = fs.stats["client"]["rpcs"] - before
        cached = fs.now()
        f.fsync()
    # 2 MB are less than an RPC: but for a lock, the servers hear of them at the fsync.
    assert asked <= 2
    assert fs.now() > cached
    large = pattern(32 * MIB)
    fs.pipe_file("/scratch/large", large)
    fs.sleep("1s")
    begun = fs.now()
    with fs.open("/scratch/large", "r+b") as f:
        f.fsync()
    # Meanwhile all was written: there is nothing to wait for but a commit.
    assert fs.now() - begun < 10**10
    assert session.fs(1).cat_file("/scratch/large") == large


def test_direct_io_waits_for_the_servers(session):
    cached, direct = session.fs(0), fabricsim.FileSystem(session=session, rank=1, direct=True)

    def took(fs, path):
        with fs.open(path, "wb") as f:
            begun = fs.now()
            f.write(bytes(MIB))
            return fs.now() - begun

    assert took(direct, "/scratch/d") > took(cached, "/scratch/c")


def test_readahead_and_the_cache_answer(session):
    session.fs(0).pipe_file("/scratch/r", pattern(8 * MIB))
    fs = session.fs(1)
    with fs.open("/scratch/r", "rb") as f:
        while f.read(64 << 10):
            pass
        first = fs.stats["client"]
        f.seek(0)
        f.read(MIB)
    assert first["readahead_bytes"] > 0
    assert first["rpc_read_bytes"] >= 8 * MIB
    # What was read is kept.
    assert fs.stats["client"]["rpc_read_bytes"] == first["rpc_read_bytes"]


def test_the_same_calls_give_the_same_times(lustre):
    def times(threads):
        session = Session(lustre, seed=3, threads=threads)

        def work(fs):
            fs.makedirs("/scratch/d", exist_ok=True)
            fs.pipe_file(f"/scratch/d/{fs.rank}", bytes(2 * MIB))
            session.barrier()
            other = f"/scratch/d/{(fs.rank + 1) % 4}"
            assert fs.cat_file(other) == bytes(2 * MIB)
            return fs.now(), fs.info(other)["modified_ps"]

        return session.run(work)

    found = times(1)
    assert found == times(1) == times(2)
    assert len({now for now, _ in found}) > 1


def test_ranks_that_work_at_once_slow_one_another(lustre):
    def rate(ranks):
        session = Session(lustre)

        def work(fs):
            with fs.open(f"/scratch/{fs.rank}", "wb") as f:
                f.write(bytes(16 * MIB))
                f.fsync()

        begun = session.now()
        session.run(work, ranks=range(ranks))
        return session.now() - begun

    assert rate(1) < rate(4) < 4.5 * rate(1)


def test_a_folder_that_was_there_is_read(lustre, tmp_path):
    data = pattern(MIB)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "before.bin").write_bytes(data)
    session = Session(lustre, folder=tmp_path)
    fs = session.fs(2)
    assert fs.cat_file("/scratch/before.bin") == data
    assert fs.stats["client"]["bytes_read"] == MIB and fs.stats["client"]["refused"] == 0
    fs.pipe_file("/scratch/after.bin", data)
    assert (tmp_path / "scratch" / "after.bin").read_bytes() == data


def test_pandas_writes_and_reads(session):
    pd = pytest.importorskip("pandas", reason="pandas is missing")
    frame = pd.DataFrame({"step": range(1000), "loss": np.linspace(3, 1, 1000)})
    frame.to_parquet("fabricsim://scratch/loss.parquet")
    frame.to_csv("fabricsim://scratch/loss.csv", index=False, storage_options={"rank": 1})
    back = pd.read_parquet("fabricsim://scratch/loss.parquet", storage_options={"rank": 2})
    pd.testing.assert_frame_equal(frame, back)
    pd.testing.assert_frame_equal(frame, pd.read_csv("fabricsim://scratch/loss.csv"))
    assert session.stats(1)["bytes_written"] > 10_000 and session.stats(2)["bytes_read"] > 1000


def test_pyarrow_writes_and_reads(session):
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    table = pa.table({"rank": [0, 1, 0, 1], "value": [1.0, 2.0, 3.0, 4.0]})
    pq.write_table(table, "/scratch/one.parquet", filesystem=session.fs(0))
    assert pq.read_table("/scratch/one.parquet", filesystem=session.fs(1)).equals(table)
    ds.write_dataset(
        table, "/scratch/parts", format="parquet", partitioning=["rank"], filesystem=session.fs(0)
    )
    found = ds.dataset("/scratch/parts", filesystem=session.fs(3), partitioning=["rank"]).to_table()
    assert sorted(found["value"].to_pylist()) == [1.0, 2.0, 3.0, 4.0]
    assert len(session.fs(2).find("/scratch/parts")) == 2


def test_torch_checkpoints_come_back(session):
    torch = pytest.importorskip("torch", reason="torch is missing (a CPU build is enough)")
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

    generator = torch.Generator().manual_seed(1)
    state = {f"layer.{n}.weight": torch.randn(64, 1024, generator=generator) for n in range(24)}
    state["step"] = 7
    options = {"session": session, "rank": 1}
    dcp.save(state, storage_writer=FsspecWriter("fabricsim://scratch/step-7", sync_files=False, **options))
    fs = session.fs(1)
    assert sorted(fs.ls("/scratch/step-7", detail=False)) == [
        "/scratch/step-7/.metadata",
        "/scratch/step-7/__0_0.distcp",
    ]
    stats = fs.stats
    size = 24 * 64 * 1024 * 4
    assert stats["bytes_written"] > size and stats["calls"]["rename"] == 1
    # Hundreds of small writes become few RPCs.
    assert stats["calls"]["write"] > 100 > stats["client"]["rpcs"] - stats["calls"]["stat"]
    loaded = {name: torch.zeros_like(value) for name, value in state.items() if name != "step"}
    loaded["step"] = 0
    before = session.now()
    reader = FsspecReader("fabricsim://scratch/step-7", session=session, rank=2)
    dcp.load(loaded, storage_reader=reader)
    assert loaded["step"] == 7
    assert all(torch.equal(loaded[name], value) for name, value in state.items() if name != "step")
    assert session.now() > before and session.stats(2)["bytes_read"] >= size
    assert session.stats(1)["client"]["refused"] == session.stats(2)["client"]["refused"] == 0


@pytest.mark.parametrize("model", ["lustre", "weka"])
def test_ior_and_mdtest_run(tmp_path, model, capsys):
    model_of(tmp_path, model)
    cluster = str(tmp_path / f"{model}.toml")
    command = ["ior", "--cluster", cluster, "-t", "256k", "-b", "1m", "-s", "2", "-C", "-e", "-g"]
    assert main([*command, "-O", "summaryFormat=CSV"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["access", "write", "read"]
    # No faster than all links of the servers, 2 x 100 Gb/s.
    assert all(0 < float(row[1]) < 25e9 / MIB for row in rows[1:])
    assert main([*command, "-F", "-k", "-i", "2", "--json", "--out", str(tmp_path / "out")]) == 0
    assert '"bwMaxMIB"' in capsys.readouterr().out
    assert (tmp_path / "out" / "summary.json").exists()
    assert (
        main(["mdtest", "--cluster", cluster, "-n", "6", "-z", "1", "-b", "2", "-N", "1", "-u", "-w", "100"])
        == 0
    )
    out = capsys.readouterr().out
    rates = {
        line[3:25].strip(): float(line.split()[-4])
        for line in out.splitlines()
        if line.startswith(("   File", "   Dir", "   Tree"))
    }
    assert all(rates[name] > 0 for name in ("File creation", "Directory rename", "Tree removal"))


def test_the_trace_of_ior_is_what_runs(tmp_path, lustre, capsys):
    cluster = str(tmp_path / "lustre.toml")
    model_of(tmp_path, "lustre")
    command = ["ior", "--cluster", cluster, "-t", "256k", "-b", "1m", "-F", "-C"]
    assert main([*command, "--json"]) == 0
    digest = json.loads(capsys.readouterr().out)["fabricsim"]["digest"]
    assert main([*command, "--trace", str(tmp_path / "t.arrow")]) == 0
    assert fabricsim.replay(tmp_path / "t.arrow", lustre).digest == digest


def test_reading_what_another_has_written_leaves_the_cache_out(lustre):
    def rate(**more):
        config = Ior(block_bytes=4 * MIB, transfer_bytes=MIB, file_per_task=True, **more)
        (read,) = run_ior(lustre, config).of("read")
        return read.bytes_per_s

    links = 2 * 100e9 / 8
    assert rate(reorder=True) < links < rate()


def test_reading_what_is_not_there_is_told(tmp_path):
    head = CLUSTER.partition("[storage]")[0]
    path = tmp_path / "local.toml"
    path.write_text(head + '[storage]\nmodel = "local"\n')
    model = fabricsim.compile(fabricsim.Cluster.from_toml(path))
    run_ior(model, Ior(file_per_task=True))
    with pytest.warns(UserWarning, match="4194304 bytes that were to be read are not there"):
        run_ior(model, Ior(file_per_task=True, reorder=True))


def test_threads_may_share_a_rank(session):
    fs = session.fs()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: fs.pipe_file(f"/scratch/{n}", bytes([n]) * 1000), range(12)))
    assert all(fs.cat_file(f"/scratch/{n}") == bytes([n]) * 1000 for n in range(12))
    assert fs.stats["client"]["refused"] == 0
