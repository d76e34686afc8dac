"""Random operations on the fsspec file system and on a folder of the machine must come to the same."""

import os
import shutil
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_fakes import FakeEmulator

from fabricsim.fs import Session

pytest.importorskip("fsspec", reason="fsspec is missing: pip install 'fabricsim[fsspec]'")

NAMES = st.sampled_from(["/a", "/b", "/d", "/d/a", "/d/e", "/d/e/f", "/g/h"])
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.binary(max_size=6), st.integers(0, 8)),
    st.tuples(st.just("append"), NAMES, st.binary(max_size=6)),
    st.tuples(st.just("make"), NAMES),
    st.tuples(st.just("exclusive"), NAMES),
    st.tuples(st.just("truncate"), NAMES, st.integers(0, 8)),
    st.tuples(st.just("read"), NAMES),
    st.tuples(st.just("list"), NAMES),
    st.tuples(st.just("mkdir"), NAMES),
    st.tuples(st.just("rmdir"), NAMES),
    st.tuples(st.just("remove"), NAMES),
    st.tuples(st.just("rename"), NAMES, NAMES),
)


class Local:
    """The operations, by the operating system."""

    def __init__(self, root):
        self.root = root

    def at(self, path):
        return self.root + path

    def write(self, path, data, offset):
        with open(self.at(path), "r+b") as f:
            f.seek(offset)
            f.write(data)

    def append(self, path, data):
        with open(self.at(path), "ab") as f:
            f.write(data)

    def make(self, path):
        open(self.at(path), "wb").close()

    def exclusive(self, path):
        open(self.at(path), "xb").close()

    def truncate(self, path, size):
        with open(self.at(path), "r+b") as f:
            f.truncate(size)

    def read(self, path):
        with open(self.at(path), "rb") as f:
            return f.read()

    def list(self, path):
        return sorted(os.listdir(self.at(path)))

    def mkdir(self, path):
        os.mkdir(self.at(path))

    def rmdir(self, path):
        os.rmdir(self.at(path))

    def remove(self, path):
        os.unlink(self.at(path))

    def rename(self, path, new):
        os.rename(self.at(path), self.at(new))


class Emulated:
    """The same, by the file systems of two ranks in turn."""

    def __init__(self, session):
        self.session, self.turn = session, 0

    @property
    def fs(self):
        self.turn += 1
        return self.session.fs(self.turn % 2)

    def write(self, path, data, offset):
        with self.fs.open(path, "r+b") as f:
            f.seek(offset)
            f.write(data)

    def append(self, path, data):
        with self.fs.open(path, "ab") as f:
            f.write(data)

    def make(self, path):
        self.fs.open(path, "wb").close()

    def exclusive(self, path):
        self.fs.open(path, "xb").close()

    def truncate(self, path, size):
        with self.fs.open(path, "r+b") as f:
            f.truncate(size)

    def read(self, path):
        return self.fs.cat_file(path)

    def list(self, path):
        fs = self.fs
        if fs.isfile(path):
            raise NotADirectoryError(path)
        return [name.rsplit("/", 1)[1] for name in fs.ls(path, detail=False)]

    def mkdir(self, path):
        self.fs.mkdir(path, create_parents=False)

    def rmdir(self, path):
        self.fs.rmdir(path)

    def remove(self, path):
        fs = self.fs
        if fs.isdir(path):
            raise IsADirectoryError(path)
        fs.rm_file(path)

    def rename(self, path, new):
        self.fs.mv_file(path, new)


def outcome(target, name, arguments):
    """Return what an operation gives, or that it fails; which of several errors comes first may differ."""
    try:
        return getattr(target, name)(*arguments)
    except OSError:
        return OSError


def tree_of(target):
    found = {}
    folders = ["/"]
    while folders:
        folder = folders.pop()
        for name in target.list(folder):
            path = f"{folder.rstrip('/')}/{name}"
            content = outcome(target, "read", [path])
            found[path] = content
            if content is OSError:
                folders.append(path)
    return found


@pytest.mark.parametrize("kept", ["memory", "folder"])
@settings(max_examples=60, deadline=None)
@given(operations=st.lists(OPERATIONS, max_size=25))
def test_it_does_what_the_operating_system_does(kept, operations):
    root = tempfile.mkdtemp()
    try:
        local = Local(os.path.join(root, "local"))
        os.mkdir(local.root)
        folder = os.path.join(root, "bytes") if kept == "folder" else None
        emulated = Emulated(Session(emulator=FakeEmulator(n_ranks=2), folder=folder))
        before = 0
        for name, *arguments in operations:
            assert outcome(emulated, name, arguments) == outcome(local, name, arguments), (name, arguments)
            assert emulated.session.now() >= before
            before = emulated.session.now()
        assert tree_of(emulated) == tree_of(local)
        if folder is not None:
            assert tree_of(Local(folder)) == tree_of(local)
    finally:
        shutil.rmtree(root)
