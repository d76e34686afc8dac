"""The fsspec file system ``fabricsim://``: files of an emulated cluster as one of its ranks sees them."""

from __future__ import annotations

import datetime
import errno
import os
import posixpath
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from fsspec import register_implementation
from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path

from fabricsim.errors import unknown_name
from fabricsim.fs.file import File
from fabricsim.fs.session import Session
from fabricsim.fs.tree import Folder, Leaf, Node

if TYPE_CHECKING:
    from fabricsim.cluster import Cluster
    from fabricsim.program import Model

__all__ = ["FileSystem"]

#: What of a file's writes waits for stable storage by itself.
SYNC = ("none", "flush", "close")

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_COPY_BYTES = 4 << 20


class FileSystem(AbstractFileSystem):
    """Files of an emulated cluster, as one of its ranks sees them.

    Bytes are real; each call takes emulated time, and none of the clock on the wall but what emulating takes.

    Parameters
    ----------
    cluster
        A cluster with file systems, for a session of its own: a Cluster, Model, path or preset.
    rank
        Which rank's client: 0 to the session's ranks - 1.
    session
        A session that others share; default the one that ``with`` has entered.
    folder
        With ``cluster``: keep the bytes in this folder of the machine.
    direct
        Whether reads and writes go around the client's cache.
    sync
        ``none``; ``close``: fsync before each close of a written file; ``flush``: at each flush, too.
    auto_mkdir
        Whether opening a file for writing makes the folders that it needs.

    Raises
    ------
    ValueError
        When there is neither a cluster nor a session.

    >>> FileSystem._strip_protocol("fabricsim://ckpt/step-2/")
    '/ckpt/step-2'
    """

    protocol: ClassVar[str] = "fabricsim"
    root_marker = "/"
    cachable = False

    def __init__(
        self,
        cluster: Cluster | Model | str | os.PathLike[str] | None = None,
        *,
        rank: int = 0,
        session: Session | None = None,
        folder: str | os.PathLike[str] | None = None,
        direct: bool = False,
        sync: str = "none",
        auto_mkdir: bool = False,
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        if session is None:
            session = Session(cluster, folder=folder) if cluster is not None else Session.current()
        if session is None:
            text = "cluster=..., session=..., or to be used inside `with fabricsim.Session(...)`"
            raise ValueError(f"fabricsim:// needs {text}")
        if sync not in SYNC:
            raise ValueError(unknown_name("sync", sync, SYNC))
        if not 0 <= rank < session.n_ranks:
            raise ValueError(f"rank: found {rank}, allowed: 0 to {session.n_ranks - 1}")
        self.session, self.rank = session, rank
        self.direct, self.sync, self.auto_mkdir = direct, sync, auto_mkdir
        self._transfer_flags = ("direct",) if direct else ()

    def __repr__(self) -> str:
        return f"<FileSystem of rank {self.rank}, {self.session!r}>"

    def __reduce__(self) -> Any:
        raise TypeError("a fabricsim file system lives in its session, and cannot be sent to another process")

    @property
    def fsid(self) -> str:
        """Which session it belongs to."""
        return f"fabricsim-{id(self.session):x}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, (list, tuple)):
            return [cls._strip_protocol(one) for one in path]
        path = stringify_path(path)
        path = path.removeprefix("fabricsim:")
        return posixpath.normpath("/" + path.lstrip("/"))

    # ---- emulated time

    def now(self) -> int:
        """Return the emulated time since the session began, picoseconds."""
        return self.session.now()

    @property
    def stats(self) -> dict[str, Any]:
        """What this rank has done: calls, bytes, time in calls, and its client in the core."""
        return self.session.stats(self.rank)

    def sleep(self, duration: str | int) -> None:
        """Let emulated time pass: picoseconds, or a text such as ``"10ms"``."""
        self.session.sleep(duration)

    def _io(self, kind: str, name: int, **more: Any) -> int:
        return self.session.io(self.rank, kind, name, **more)

    def _stat(self, node: Node) -> None:
        if node.name >= 0:
            self._io("stat", node.name)

    def _find(self, path: str) -> Node | None:
        """Look up a path; that costs a stat of it, or of its folder where it is not there."""
        with self.session.lock:
            node = self.session.tree.find(path)
            above = self.session.tree.find(path.rsplit("/", 1)[0] or "/") if node is None else None
        if node is not None:
            self._stat(node)
        elif above is not None:
            self._stat(above)
        return node

    def _need(self, path: str) -> Node:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    # ---- looking

    def _entry(self, node: Node) -> dict[str, Any]:
        folder = isinstance(node, Folder)
        return {
            "name": node.path,
            "size": node.size(self.session.keeper) if isinstance(node, Leaf) else 0,
            "type": "directory" if folder else "file",
            "created": _date(node.created_ps),
            "modified": _date(node.modified_ps),
            "created_ps": node.created_ps,
            "modified_ps": node.modified_ps,
        }

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size (bytes), type, and when it was created and modified, emulated."""
        return self._entry(self._need(self._strip_protocol(path)))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder; costs a readdir, and with ``detail`` a stat of each entry."""
        path = self._strip_protocol(path)
        node = self._need(path)
        if not isinstance(node, Folder):
            return [self._entry(node)] if detail else [node.path]
        if node.name >= 0:
            self._io("readdir", node.name)
        with self.session.lock:
            children = sorted(node.children.values(), key=lambda child: child.path)
        if detail:
            for child in children:
                self._stat(child)
        return [self._entry(child) if detail else child.path for child in children]

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is something at a path."""
        return self._find(self._strip_protocol(path)) is not None

    def isfile(self, path: str) -> bool:
        """Whether there is a file at a path."""
        return isinstance(self._find(self._strip_protocol(path)), Leaf)

    def isdir(self, path: str) -> bool:
        """Whether there is a folder at a path."""
        return isinstance(self._find(self._strip_protocol(path)), Folder)

    def created(self, path: str) -> datetime.datetime:
        """Return when it was created: emulated time since 1 January 1970, UTC."""
        return _date(self._need(self._strip_protocol(path)).created_ps)

    def modified(self, path: str) -> datetime.datetime:
        """Return when it was last modified: emulated time since 1 January 1970, UTC."""
        return _date(self._need(self._strip_protocol(path)).modified_ps)

    # ---- folders

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Make a folder, and those that it is in."""
        path = self._strip_protocol(path)
        with self.session.lock:
            there = self.session.tree.find(path)
        if there is not None:
            self._stat(there)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if create_parents:
            self.makedirs(posixpath.dirname(path), exist_ok=True)
        self._make_folder(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder and those that it is in.

        Raises
        ------
        FileExistsError
            When it is there already and ``exist_ok`` is false.
        """
        path = self._strip_protocol(path)
        missing = []
        while (node := self._find(path)) is None:
            missing.append(path)
            path = posixpath.dirname(path)
        if not isinstance(node, Folder) or not (missing or exist_ok):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        for one in reversed(missing):
            try:
                self._make_folder(one)
            except FileExistsError:
                if not exist_ok and one == missing[0]:
                    raise

    def _make_folder(self, path: str) -> None:
        session = self.session
        with session.lock:
            self._check_mount(path)
            name = session.emulator.add_name(path, session.tree.parent(path).number)
            number = session.emulator.add_directory(path)
        end_ps = self._io("mkdir", name)
        with session.lock:
            if session.tree.find(path) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            session.keeper.make_folder(path)
            session.tree.add(Folder(path, name, end_ps, end_ps, number))

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        path = self._strip_protocol(path)
        node = self._need_folder(path)
        if node.name < 0 or path in self.session.mounts:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        self._io("rmdir", node.name)
        with self.session.lock:
            if node.children:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
            self.session.keeper.remove(path, folder=True)
            self.session.tree.drop(node)

    def _need_folder(self, path: str) -> Folder:
        with self.session.lock:
            node = self.session.tree.find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if not isinstance(node, Folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return node

    def _check_mount(self, path: str) -> None:
        if not self.session.mounted(path):
            text = f"no file system is mounted there (mounts: {', '.join(self.session.mounts)})"
            raise PermissionError(errno.EROFS, text, path)

    # ---- files

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **_: Any,
    ) -> File:
        path = self._strip_protocol(path)
        plain = mode.replace("b", "").replace("t", "")
        if plain not in ("r", "w", "a", "x", "r+", "w+", "a+", "x+"):
            raise ValueError(f"mode: found {mode!r}, allowed: rb, wb, ab, xb, with + or without")
        if "r" in plain:
            return File(self, self._open_leaf(path), plain)
        target = None
        if not autocommit:
            target, path = path, f"{path}.{self.rank}-{self.session.now()}.tmp"
        leaf = self._create_leaf(path, exclusive="x" in plain, truncate="w" in plain)
        return File(self, leaf, plain, target)

    def _open_leaf(self, path: str) -> Leaf:
        with self.session.lock:
            node = self.session.tree.find(path)
        if node is None:
            self._need(path)
        if not isinstance(node, Leaf):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._io("open", node.name)
        return node

    def _create_leaf(self, path: str, *, exclusive: bool, truncate: bool) -> Leaf:
        session = self.session
        if self.auto_mkdir:
            self.makedirs(posixpath.dirname(path), exist_ok=True)
        with session.lock:
            self._check_mount(path)
            parent, node = session.tree.parent(path), session.tree.find(path)
            if isinstance(node, Folder):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            name = node.name if node is not None else session.emulator.add_name(path, parent.number)
        flags = [word for word, on in (("create", True), ("excl", exclusive), ("trunc", truncate)) if on]
        end_ps = self._io("open", name, flags=flags)
        with session.lock:
            node = session.tree.find(path)
            if node is None:
                leaf = Leaf(path, name, end_ps, end_ps, session.keeper.make_file(path))
                session.tree.add(leaf)
                return leaf
            if exclusive:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            if not isinstance(node, Leaf):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            if truncate:
                node.contents(session.keeper).truncate(0)
                node.modified_ps = end_ps
            return node

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        """Make an empty file, or give one a new modified time; with ``truncate`` it loses its bytes."""
        leaf = self._create_leaf(self._strip_protocol(path), exclusive=False, truncate=truncate)
        leaf.modified_ps = self._io("close", leaf.name)

    def _rm(self, path: str) -> None:
        path = self._strip_protocol(path)
        with self.session.lock:
            node = self.session.tree.find(path)
        if node is None:
            self._need(path)
        if isinstance(node, Folder):
            self.rmdir(path)
        elif isinstance(node, Leaf):
            self._io("unlink", node.name)
            with self.session.lock:
                node.contents(self.session.keeper)  # who has it open keeps the bytes
                self.session.keeper.remove(path, folder=False)
                self.session.tree.drop(node)

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        self._rm(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with ``recursive`` folders with all that is in them."""
        for one in reversed(self.expand_path(path, recursive=recursive, maxdepth=maxdepth)):
            if one in self.session.mounts or one == "/":
                continue
            self._rm(one)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file through this client, or make a folder of the same name."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if isinstance(self._need(source), Folder):
            self.makedirs(target, exist_ok=True)
            return
        with self._open(source, "rb") as reader, self._open(target, "wb") as writer:
            while piece := reader.read(_COPY_BYTES):
                writer.write(piece)

    # ---- renaming

    def mv_file(self, path1: str, path2: str, **_: Any) -> None:
        """Rename a file or folder at once: others see the one name or the other, never half of it.

        What is at the new path is replaced, where it is a file or an empty folder.
        """
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        session = self.session
        with session.lock:
            node = session.tree.find(source)
            if node is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
            if source in session.mounts or node.name < 0:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), source)
            if source == target:
                return
            self._check_target(node, target)
            there, parent = session.tree.find(target), session.tree.parent(target)
            name = there.name if there is not None else session.emulator.add_name(target, parent.number)
        end_ps = self._io("rename", node.name, new_name=name)
        with session.lock:
            if session.tree.find(source) is not node:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
            there = self._check_target(node, target)
            if there is not None:
                if isinstance(there, Leaf):
                    there.contents(session.keeper)
                session.tree.drop(there)
            if isinstance(node, Leaf):
                node.contents(session.keeper)
            session.keeper.rename(source, target)
            session.tree.move(node, target)
            node.name = name
            session.tree.parent(target).modified_ps = end_ps

    def _check_target(self, node: Node, target: str) -> Node | None:
        """Return what a rename would replace; an error where it may not."""
        self._check_mount(target)
        there = self.session.tree.find(target)
        if target.startswith(node.path.rstrip("/") + "/"):
            raise OSError(errno.EINVAL, "a folder cannot be moved into itself", target)
        if isinstance(there, Folder):
            if not isinstance(node, Folder):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
            if there.children or target in self.session.mounts:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), target)
        elif there is not None and isinstance(node, Folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), target)
        return there

    def mv(
        self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **more: Any
    ) -> None:
        """Move: one path by a rename; several, or into a folder that is there, each by a rename."""
        single = isinstance(path1, (str, os.PathLike)) and isinstance(path2, (str, os.PathLike))
        if not single:
            for one, other in zip(path1, path2, strict=True):
                self.mv(one, other, recursive, maxdepth, **more)
            return
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        into = str(path2).endswith("/")
        with self.session.lock:
            found = self.session.tree.find(target)
        if isinstance(found, Folder) and (into or found.children or target in self.session.mounts):
            target = f"{target.rstrip('/')}/{source.rsplit('/', 1)[1]}"
        elif into and self.auto_mkdir:
            self.makedirs(posixpath.dirname(target), exist_ok=True)
        self.mv_file(source, target)

    rename: Callable[..., None] = mv

    def invalidate_cache(self, path: str | None = None) -> None:
        """Nothing: fsspec keeps no listings of it."""

    def sync_files(self, paths: Iterable[str]) -> None:
        """Bring what this rank has written to files to stable storage, and wait for that."""
        for path in paths:
            node = self._open_leaf(self._strip_protocol(path))
            self._io("fsync", node.name)
            self._io("close", node.name)


# Also where the package's entry points are not installed.
register_implementation("fabricsim", FileSystem, clobber=True)


def _date(time_ps: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=time_ps // 1_000_000)
