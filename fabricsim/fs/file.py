"""An open file of a rank: each call is one of the emulated client, with its cache and readahead."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from fabricsim.fs.tree import Bytes, Leaf

if TYPE_CHECKING:
    from fabricsim.fs.filesystem import FileSystem

__all__ = ["File"]


class File(io.RawIOBase):
    """An open file.

    ``write`` and ``read`` go straight to the emulated client's cache; nothing is buffered here, so each call
    costs one emulated call. ``flush`` does nothing and ``close`` leaves what is dirty to the client, as POSIX
    does: ``fsync`` brings it to stable storage.

    Parameters
    ----------
    fs
        The file system of a rank.
    leaf
        The file.
    mode
        rb, wb, ab, xb, or with ``+``; the file is open already.
    temporary
        The path that it takes at ``commit``; None: it has its own.
    """

    def __init__(self, fs: FileSystem, leaf: Leaf, mode: str, temporary: str | None = None) -> None:
        super().__init__()
        self.fs, self.mode, self.name = fs, mode, leaf.path
        self._leaf, self._target = leaf, temporary
        self._number = leaf.name  # as a descriptor: the file that was opened, also under another name
        self._bytes: Bytes = leaf.contents(fs.session.keeper)
        self._at = self._bytes.size if "a" in mode else 0
        self._unsynced = False

    def __repr__(self) -> str:
        return f"<File {self._leaf.path!r} {self.mode} of rank {self.fs.rank}>"

    # ---- what it can do

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return "r" in self.mode or "+" in self.mode

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return "r" not in self.mode or "+" in self.mode

    def seekable(self) -> bool:
        """True."""
        return True

    @property
    def size(self) -> int:
        """Bytes of the file now."""
        return self._bytes.size

    @property
    def path(self) -> str:
        """Its path now."""
        return self._leaf.path

    @property
    def details(self) -> dict[str, Any]:
        """What ``info`` tells of it, without a call."""
        return self.fs._entry(self._leaf)

    def info(self) -> dict[str, Any]:
        """What ``info`` tells of it, without a call."""
        return self.details

    # ---- positions

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position; no emulated time passes."""
        self._check()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._bytes.size}
        if whence not in start:
            raise ValueError(f"whence: found {whence}, allowed: 0, 1, 2")
        if start[whence] + offset < 0:
            raise OSError(22, "a position before the beginning of the file")
        self._at = start[whence] + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        self._check()
        return self._at

    # ---- reading

    def _take(self, size: int) -> bytes:
        size = min(size, self._bytes.size - self._at)
        if size <= 0:
            return b""
        self.fs._io("read", self._number, offset=self._at, size=size, flags=self.fs._transfer_flags)
        data = self._bytes.read(self._at, size)
        self._at += len(data)
        return data

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes; all that is left where it is negative or None."""
        self._check(reading=True)
        return self._take(self._bytes.size - self._at if size is None or size < 0 else size)

    def read1(self, size: int = -1) -> bytes:
        """Read once, up to ``size`` bytes."""
        return self.read(size)

    def readall(self) -> bytes:
        """Read all that is left."""
        return self.read()

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return how many bytes."""
        self._check(reading=True)
        view = memoryview(buffer).cast("B")
        data = self._take(len(view))
        view[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line, in one call."""
        self._check(reading=True)
        most = self._bytes.size - self._at if size is None or size < 0 else size
        length, step = 0, 4096
        while length < most:
            piece = self._bytes.read(self._at + length, min(step, most - length))
            if not piece:
                break
            end = piece.find(b"\n")
            length += len(piece) if end < 0 else end + 1
            if end >= 0:
                break
            step *= 2
        return self._take(length)

    # ---- writing

    def write(self, data: Any) -> int:
        """Write at the position, or with ``a`` at the end; return how many bytes."""
        self._check(writing=True)
        view = memoryview(data).cast("B")
        if "a" in self.mode:
            self._at = self._bytes.size
        if len(view):
            end_ps = self.fs._io(
                "write", self._number, offset=self._at, size=len(view), flags=self.fs._transfer_flags
            )
            if "a" in self.mode:
                self._at = self._bytes.size  # where others have appended meanwhile, behind that
            self._bytes.write(self._at, view)
            self._at += len(view)
            self._unsynced = True
            self._leaf.modified_ps = end_ps
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file to ``size`` bytes, default the position; costs what a stat does."""
        self._check(writing=True)
        size = self._at if size is None else size
        end_ps = self.fs._io("stat", self._number)
        self._bytes.truncate(size)
        self._leaf.modified_ps = end_ps
        return size

    def flush(self) -> None:
        """Nothing: what is written is in the client's cache. With ``sync="flush"``, an fsync."""
        if self._unsynced and self.fs.sync == "flush":
            self.fsync()

    def fsync(self) -> None:
        """Bring what was written to stable storage, and wait for that."""
        self._check()
        self._unsynced = False
        self.fs._io("fsync", self._number)

    def close(self) -> None:
        """Close it; with ``sync="close"`` or ``"flush"``, after an fsync."""
        if self.closed:
            return
        try:
            if self._unsynced and self.fs.sync != "none":
                self.fsync()
            self.fs._io("close", self._number)
        finally:
            super().close()

    # ---- transactions of fsspec

    def commit(self) -> None:
        """Give the file its path, at the end of a transaction."""
        if self._target is not None:
            self.fs.mv_file(self._leaf.path, self._target)
            self._target = None

    def discard(self) -> None:
        """Throw the file away, at the end of a transaction that failed."""
        if self._target is not None:
            self.fs.rm_file(self._leaf.path)
            self._target = None

    def _check(self, reading: bool = False, writing: bool = False) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if reading and not self.readable():
            raise io.UnsupportedOperation("not readable")
        if writing and not self.writable():
            raise io.UnsupportedOperation("not writable")
