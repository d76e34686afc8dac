"""fsspec's own abstract tests, on emulated files in memory and in a folder of the machine."""

import pytest

pytest.importorskip("fsspec", reason="fsspec is missing: pip install 'fabricsim[fsspec]'")

from fsspec.tests import abstract
from storage_fakes import FakeEmulator

from fabricsim import FileSystem
from fabricsim.fs import Session


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture(scope="class", params=["memory", "folder"])
    @classmethod
    def fs(cls, request, tmp_path_factory):
        folder = tmp_path_factory.mktemp("bytes") if request.param == "folder" else None
        return FileSystem(session=Session(emulator=FakeEmulator(), folder=folder), auto_mkdir=True)

    @pytest.fixture
    def fs_path(self, fs):
        return "/abstract"


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass
