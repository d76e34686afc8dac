"""Files that are removed, replaced or made empty: their objects, and what other clients have of them."""

from __future__ import annotations

import pytest
from engine_worlds import US
from store_worlds import Session, Storage, create, io, then

MIB, MS = 1 << 20, 10**9
CREATE, TRUNC = 1, 4


def read_bytes(session: Session, rank: int, file: int) -> int:
    """Return how many bytes a rank can read of a file."""
    before = int(session.run.clients()["bytes_read"][rank])
    session.do("read", file, rank=rank, offset=0, size=64 * MIB)
    return int(session.run.clients()["bytes_read"][rank]) - before


def ended(session: Session) -> None:
    assert session.run.step() is True
    session.run.check()


@pytest.mark.parametrize("impl", ["lustre", "weka", "beegfs", "local"])
def test_a_file_that_is_made_again_is_empty(impl: str) -> None:
    session = Storage(1, 2, 1, impl=impl).session()
    file = session.file()
    session.do("open", file, flags=CREATE)
    session.do("write", file, offset=0, size=8 * MIB)
    session.do("fsync", file)
    assert read_bytes(session, 0, file) == 8 * MIB
    session.do("unlink", file)
    session.do("open", file, flags=CREATE)
    assert read_bytes(session, 0, file) == 0
    session.do("write", file, offset=0, size=MIB)
    assert read_bytes(session, 0, file) == MIB
    ended(session)


@pytest.mark.parametrize("stripes", [1, 2])
def test_others_see_a_file_that_was_made_empty(stripes: int) -> None:
    session = Storage(3, 2, 1, params={"stripe_count": stripes}).session()
    file = session.file()
    session.do("open", file, flags=CREATE)
    session.do("write", file, offset=0, size=8 * MIB)
    for rank in (1, 2):
        assert read_bytes(session, rank, file) == 8 * MIB
    session.do("open", file, rank=1, flags=TRUNC)
    for rank in (0, 1, 2):
        assert read_bytes(session, rank, file) == 0
    session.do("write", file, rank=2, offset=0, size=3 * MIB)
    for rank in (0, 1, 2):
        assert read_bytes(session, rank, file) == 3 * MIB
    ended(session)


def test_what_another_client_has_not_written_is_dropped() -> None:
    session = Storage(2, 1, 1, params={"dirty_expire_ps": 1000 * MS}).session()
    file = session.file()
    session.do("open", file, flags=CREATE)
    session.do("write", file, offset=0, size=MIB)  # less than an RPC: stays in the cache
    session.do("unlink", file, rank=1)
    session.do("open", file, rank=1, flags=CREATE)
    assert read_bytes(session, 1, file) == 0
    ended(session)
    assert session.run.targets()["bytes_written"].sum() == 0
    assert session.run.clients()["lost_dirty_bytes"].sum() == 0


def test_an_unlink_is_answered_before_its_objects_are_gone() -> None:
    times = []
    for size in (MIB, 256 * MIB):
        session = Storage(1, 1, 1).session()
        file = session.file()
        session.do("open", file, flags=CREATE)
        session.do("write", file, offset=0, size=size)  # of the second, much is on its way
        times.append([session.do("unlink", file), session.do("open", file, flags=CREATE)])
        ended(session)
    assert times[1][0] < 2 * times[0][0]
    assert times[1][1] > 10 * times[0][1]  # the next file of that name waits for it


@pytest.mark.parametrize("metas", [1, 2])
def test_what_a_rename_replaces_is_gone(metas: int) -> None:
    old, new = "/a/old", "/b/new"  # of two servers, where there are two
    rows = [
        create(0, file=old),
        io("write", 0, file=old, size=2 * MIB),
        create(0, file=new),
        io("write", 0, file=new, size=5 * MIB),
        io("rename", 0, file=old, new_file=new),
        *then(0, 1),
        io("read", 1, file=new, size=8 * MIB),
        create(1, file=old),
        io("read", 1, file=old, size=8 * MIB),
    ]
    run = Storage(2, 2, metas).run(*rows)
    assert run.clients()["bytes_read"].tolist() == [0, 2 * MIB]


@pytest.mark.parametrize("failing", [0, 1])
def test_objects_go_although_their_server_or_its_metadata_server_is_down(failing: int) -> None:
    params = {"timeout_ps": 50 * MS, "reconnect_ps": 20 * MS, "recovery_soft_ps": 100 * MS}
    here = Storage(1, 1, 1, params=params, failures=[(20 * MS, failing, 200 * MS)])
    session = here.session()
    file = session.file()
    session.do("open", file, flags=CREATE)
    session.do("write", file, offset=0, size=8 * MIB)
    session.do("fsync", file)
    session.run.wait_any([], until_ps=20 * MS - 260 * US)  # the unlink is answered just before
    session.do("unlink", file)
    session.do("open", file, flags=CREATE)
    assert read_bytes(session, 0, file) == 0
    ended(session)
