"""The fsspec file system: bytes, names, emulated times; on a stand-in of the core where that is enough."""

import datetime
import errno
import importlib
import io
import threading
import tomllib
from pathlib import Path

import pytest
from storage_fakes import FakeEmulator

import fabricsim
from fabricsim.errors import ConfigError
from fabricsim.fs import Session

fsspec = pytest.importorskip("fsspec", reason="fsspec is missing: pip install 'fabricsim[fsspec]'")


@pytest.fixture(params=["memory", "folder"])
def session(request, tmp_path):
    folder = tmp_path / "bytes" if request.param == "folder" else None
    return Session(emulator=FakeEmulator(), folder=folder)


@pytest.fixture
def fs(session):
    return session.fs()


def kinds(session, since=0):
    return [call[1] for call in session.emulator.calls[since:]]


def test_bytes_come_back_and_calls_are_counted(session, fs):
    with fs.open("/a", "wb") as f:
        f.write(b"hello ")
        f.write(memoryview(b"world"))
        assert f.tell() == 11
    with fs.open("/a", "rb") as f:
        assert f.read(5) == b"hello" and f.seek(-5, 2) == 6 and f.read() == b"world" and f.read(1) == b""
        buffer = bytearray(4)
        f.seek(1)
        assert f.readinto(buffer) == 4 and buffer == b"ello"
    assert kinds(session) == ["open", "write", "write", "close", "open", "read", "read", "read", "close"]
    assert [call[3:5] for call in session.emulator.calls if call[1] == "write"] == [(0, 6), (6, 5)]
    assert fs.stats["bytes_written"] == 11 and fs.stats["calls"]["read"] == 3
    assert fs.stats["client"] == {"calls": 0}


def test_files_behave_as_files_do(fs):
    with fs.open("/a", "wb") as f:
        f.seek(3)
        f.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            f.read()
        with pytest.raises(io.UnsupportedOperation):
            f.fileno()
    assert fs.cat_file("/a") == b"\0\0\0x"
    with fs.open("/a", "ab") as f:
        f.write(b"y")
    with fs.open("/a", "r+b") as f:
        f.write(b"z")
        assert f.read() == b"\0\0xy"
        f.truncate(2)
    assert fs.cat_file("/a") == b"z\0"
    with pytest.raises(FileExistsError):
        fs.open("/a", "xb")
    with pytest.raises(ValueError):
        f.read()
    with fs.open("/t", "wt") as f:
        f.write("one\ntwo\nthree")
    with fs.open("/t", "rt") as f:
        assert f.readlines() == ["one\n", "two\n", "three"]
    with fs.open("/t", "rb") as f:
        assert list(f) == [b"one\n", b"two\n", b"three"]
    with fs.open("/t", "rb") as f:
        assert f.readline(2) == b"on" and f.size == 13


def test_lines_cost_a_call_each(session, fs):
    fs.pipe_file("/t", b"a\n" * 3 + b"b" * 10_000 + b"\n")
    before = len(session.emulator.calls)
    with fs.open("/t", "rb") as f:
        assert [len(line) for line in f] == [2, 2, 2, 10_001]
    assert kinds(session, before) == ["open", "read", "read", "read", "read", "close"]


def test_an_fsync_is_asked_for(session):
    def fsyncs(**options):
        fs = fabricsim.FileSystem(session=session, **options)
        before = len(session.emulator.calls)
        with fs.open("/a", "wb") as f:
            f.write(b"1")
            f.flush()
        with fs.open("/a", "rb") as f:
            f.flush()
        return kinds(session, before).count("fsync")

    assert [fsyncs(), fsyncs(sync="close"), fsyncs(sync="flush")] == [0, 1, 1]
    fs = session.fs()
    with fs.open("/a", "wb") as f:
        f.fsync()
    fs.sync_files(["/a"])
    assert kinds(session)[-4:] == ["close", "open", "fsync", "close"]
    with pytest.raises(ValueError, match="unknown sync"):
        fabricsim.FileSystem(session=session, sync="never")


def test_errors_are_those_of_the_system(fs):
    fs.mkdir("/d")
    fs.touch("/d/f")
    for wrong, error in (
        (lambda: fs.open("/x", "rb"), FileNotFoundError),
        (lambda: fs.open("/x/y", "wb"), FileNotFoundError),
        (lambda: fs.open("/d/f/y", "wb"), NotADirectoryError),
        (lambda: fs.open("/d", "rb"), IsADirectoryError),
        (lambda: fs.open("/d", "wb"), IsADirectoryError),
        (lambda: fs.ls("/x"), FileNotFoundError),
        (lambda: fs.info("/x"), FileNotFoundError),
        (lambda: fs.mkdir("/d"), FileExistsError),
        (lambda: fs.makedirs("/d"), FileExistsError),
        (lambda: fs.makedirs("/d/f/g"), FileExistsError),
        (lambda: fs.rmdir("/x"), FileNotFoundError),
        (lambda: fs.rmdir("/d/f"), NotADirectoryError),
        (lambda: fs.rm_file("/x"), FileNotFoundError),
        (lambda: fs.mv("/x", "/y"), FileNotFoundError),
        (lambda: fs.mv_file("/d", "/d/g"), OSError),
        (lambda: fs.mv_file("/d/f", "/d"), IsADirectoryError),
        (lambda: fs.open("/d/f", "rw"), ValueError),
    ):
        with pytest.raises(error):
            wrong()
    with pytest.raises(OSError) as caught:
        fs.rmdir("/d")
    assert caught.value.errno == errno.ENOTEMPTY
    fs.makedirs("/d", exist_ok=True)
    fs.rm("/d", recursive=True)
    assert fs.ls("/") == [] and not fs.exists("/d")


def test_listings_and_times(session, fs):
    fs.makedirs("/d/e")
    fs.pipe_file("/d/f", b"123")
    entry = fs.info("/d/f")
    assert (entry["size"], entry["type"], entry["name"]) == (3, "file", "/d/f")
    assert fs.ls("/d", detail=False) == ["/d/e", "/d/f"]
    assert [one["type"] for one in fs.ls("/d")] == ["directory", "file"]
    assert fs.find("/") == ["/d/f"] and fs.glob("/d/*") == ["/d/e", "/d/f"]
    assert fs.du("/d") == 3 and fs.isdir("/d") and fs.isfile("/d/f") and not fs.isfile("/d")
    created, modified = fs.created("/d/f"), fs.modified("/d/f")
    assert created < modified and created.tzinfo is datetime.UTC and created.year == 1970
    before = fs.now()
    fs.touch("/d/f", truncate=False)
    assert fs.info("/d/f")["modified_ps"] > before and fs.cat_file("/d/f") == b"123"
    fs.touch("/d/f")
    assert fs.info("/d/f")["size"] == 0
    fs.sleep("5ms")
    assert fs.now() >= before + 5 * 10**9
    with pytest.raises(ValueError):
        session.sleep(-1)


def test_a_rename_is_one_operation_that_the_others_see(session):
    one, two = session.fs(0), session.fs(1)
    one.pipe_file("/.metadata.tmp", b"whole")
    one.pipe_file("/.metadata", b"old")
    before = len(session.emulator.calls)
    one.rename("/.metadata.tmp", "/.metadata")
    assert kinds(session, before) == ["rename"]
    assert two.cat_file("/.metadata") == b"whole" and not two.exists("/.metadata.tmp")
    two.makedirs("/step/a")
    two.pipe_file("/step/a/f", b"1")
    two.mv("/step", "/step-2")
    assert one.find("/step-2") == ["/step-2/a/f"] and one.cat_file("/step-2/a/f") == b"1"
    # Another file of the old name is another file.
    one.pipe_file("/.metadata.tmp", b"next")
    assert two.cat_file("/.metadata") == b"whole" and two.cat_file("/.metadata.tmp") == b"next"
    two.mkdir("/in")
    two.mv("/.metadata", "/in/")
    assert one.cat_file("/in/.metadata") == b"whole"


def test_an_open_file_outlives_its_name(fs):
    fs.pipe_file("/a", b"abc")
    with fs.open("/a", "rb") as f:
        fs.rm("/a")
        fs.pipe_file("/a", b"new")
        assert f.read() == b"abc"
    with fs.open("/a", "r+b") as f:
        fs.mv("/a", "/b")
        f.write(b"N")
        assert f.path == "/b"
    assert fs.cat_file("/b") == b"New" and fs.ls("/", detail=False) == ["/b"]


def test_ranks_of_a_run_overlap(session):
    def work(fs):
        fs.pipe_file(f"/{fs.rank}", bytes(10_000 * (fs.rank + 1)))
        session.barrier()
        return fs.now(), sorted(fs.ls("/", detail=False))

    results = session.run(work)
    # All begin at once, and wait for the one that writes most.
    assert {now for now, _ in results} == {50_000_000 + 10_000_000 + 40_000 * 100 + 10_000_000}
    assert all(names == ["/0", "/1", "/2", "/3"] for _, names in results)
    begun = [call[0] for call in session.emulator.calls[:8]]
    assert begun[:4] == [0, 1, 2, 3]
    again = Session(emulator=FakeEmulator())
    assert [again.fs(rank).now() for rank in range(4)] == [0] * 4
    session_calls = session.emulator.calls

    def same(fs):
        fs.pipe_file(f"/{fs.rank}", bytes(10_000 * (fs.rank + 1)))
        again.barrier()
        return fs.now(), sorted(fs.ls("/", detail=False))

    assert again.run(same) == results and again.emulator.calls == session_calls


def test_a_run_sleeps_and_fails(session):
    def work(fs):
        fs.sleep(1000 * (3 - fs.rank))
        if fs.rank == 2:
            raise KeyError("mine")
        fs.sleep("1us")
        return fs.now()

    assert session.run(work, ranks=[0, 1]) == [1_003_000, 1_002_000] or session.now()
    with pytest.raises(KeyError, match="mine"):
        session.run(work)
    with pytest.raises(RuntimeError):
        session.barrier()


def test_a_run_ends_when_the_core_fails(session):
    class Broken(Exception):
        pass

    wait_any = session.emulator.wait_any

    def breaks(tokens, until_ps=None):
        if len(session.emulator.ends) > 20:
            raise Broken
        return wait_any(tokens, until_ps)

    session.emulator.wait_any = breaks
    with pytest.raises(Broken):
        session.run(lambda fs: [fs.pipe_file(f"/{fs.rank}-{n}", b"1") for n in range(20)])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rank ")]


def test_two_ranks_make_one_file(session):
    def work(fs):
        fs.makedirs("/d", exist_ok=True)
        with fs.open("/d/f", "ab") as f:
            f.write(bytes([fs.rank]))

    session.run(work)
    assert sorted(session.fs().cat_file("/d/f")) == [0, 1, 2, 3]


def test_addresses_find_the_session(session):
    with session:
        with fsspec.open("fabricsim://d.txt", "wt", rank=2) as f:
            f.write("x")
        fs, path = fsspec.core.url_to_fs("fabricsim:///d.txt")
        assert path == "/d.txt" and fs.cat_file(path) == b"x" and fs.session is session
        assert fsspec.filesystem("fabricsim", rank=1) is not fsspec.filesystem("fabricsim", rank=1)
    with pytest.raises(ValueError, match="needs cluster"):
        fsspec.filesystem("fabricsim")
    with pytest.raises(ValueError, match="allowed: 0 to 3"):
        fsspec.filesystem("fabricsim", session=session, rank=4)
    with pytest.raises(ConfigError, match="allowed: 0 to 3"):
        session.fs(4)
    assert session.fs(1) is session.fs(1) and session.fs(1).rank == 1
    assert session.emulator.calls[0][0] == 2


def test_the_package_tells_fsspec_of_it():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (name, target), *more = tomllib.loads(text)["project"]["entry-points"]["fsspec.specs"].items()
    module, _, attribute = target.rpartition(".")
    assert name == "fabricsim" and not more
    assert getattr(importlib.import_module(module), attribute) is fabricsim.FileSystem


def test_a_move_to_nowhere_fails(fs):
    fs.pipe_file("/source", b"1")
    for move in (fs.mv, fs.rename, fs.mv_file):
        with pytest.raises(FileNotFoundError):
            move("/source", "/nowhere/target")
    assert fs.cat_file("/source") == b"1"


def test_transactions_commit_or_leave_nothing(fs):
    with fs.transaction, fs.open("/a", "wb") as f:
        f.write(b"1")
    assert fs.cat_file("/a") == b"1"
    with pytest.raises(KeyError), fs.transaction, fs.open("/b", "wb") as f:
        f.write(b"2")
        raise KeyError
    assert fs.ls("/", detail=False) == ["/a"]


def test_mounts_bound_the_files():
    session = Session(emulator=FakeEmulator(mounts=("/scratch/a", "/home")))
    fs = session.fs()
    assert fs.find("/", withdirs=True) == ["/", "/home", "/scratch", "/scratch/a"]
    fs.pipe_file("/scratch/a/f", b"1")
    for wrong in (lambda: fs.pipe_file("/scratch/f", b"1"), lambda: fs.mkdir("/other")):
        with pytest.raises(PermissionError, match="mounts: /scratch/a, /home"):
            wrong()
    for wrong in (lambda: fs.rmdir("/home"), lambda: fs.mv_file("/home", "/scratch/a/h")):
        with pytest.raises(OSError):
            wrong()


def test_a_folder_is_there_at_the_start(tmp_path):
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "a.pt").write_bytes(b"from before")
    session = Session(emulator=FakeEmulator(), folder=tmp_path)
    fs = session.fs(1)
    assert fs.ls("/", detail=False) == ["/.hidden", "/ckpt"]
    assert fs.cat_file("/ckpt/a.pt") == b"from before"
    fs.mv("/ckpt", "/new")
    fs.pipe_file("/new/b.pt", b"2")
    assert (tmp_path / "new" / "a.pt").read_bytes() == b"from before"
    assert (tmp_path / "new" / "b.pt").read_bytes() == b"2"


def test_a_session_needs_a_cluster_with_a_file_system():
    with pytest.raises(ConfigError, match="missing"):
        Session()
    with pytest.raises(ConfigError, match="has no file system"):
        Session("leaf-spine-64-400g-roce")
    with pytest.raises(ConfigError, match="allowed: 1 to 64"):
        Session("leaf-spine-64-400g-roce", ranks=65)
