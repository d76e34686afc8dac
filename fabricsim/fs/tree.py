"""The files of a session with their bytes, in memory or in a folder of the machine that it runs on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = ["Bytes", "Folder", "FolderKeeper", "Keeper", "Leaf", "MemoryKeeper", "Node", "Tree"]


class Bytes(Protocol):
    """The contents of a file; they stay as long as somebody holds them, also when its name is gone."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes: ...

    def write(self, offset: int, data: memoryview) -> None: ...

    def truncate(self, size: int) -> None: ...


class MemoryBytes:
    """Contents in memory."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(memoryview(self._data)[offset : offset + size])

    def write(self, offset: int, data: memoryview) -> None:
        if offset > len(self._data):
            self._data += bytes(offset - len(self._data))
        self._data[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        if size < len(self._data):
            del self._data[size:]
        else:
            self._data += bytes(size - len(self._data))


class FileBytes:
    """Contents in a file of the host: its descriptor stays valid over renames and removals."""

    def __init__(self, path: Path, *, create: bool) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        self._descriptor = os.open(path, flags, 0o644)

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", -1)
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        parts = []
        while size > 0 and (part := os.pread(self._descriptor, size, offset)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def write(self, offset: int, data: memoryview) -> None:
        while len(data):
            done = os.pwrite(self._descriptor, data, offset)
            offset, data = offset + done, data[done:]

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)


class Keeper(Protocol):
    """Where the bytes are kept: told of every change of the tree, by path."""

    def there(self) -> Iterator[tuple[str, int]]:
        """Give (path, bytes; -1 of a folder) of what is there already, folders before what is in them."""

    def make_folder(self, path: str) -> None: ...

    def make_file(self, path: str) -> Bytes: ...

    def open_file(self, path: str) -> Bytes: ...

    def remove(self, path: str, folder: bool) -> None: ...

    def rename(self, path: str, new: str) -> None: ...


class MemoryKeeper:
    """Bytes in memory."""

    def there(self) -> Iterator[tuple[str, int]]:
        return iter(())

    def make_folder(self, path: str) -> None:
        pass

    def make_file(self, path: str) -> Bytes:
        return MemoryBytes()

    def open_file(self, path: str) -> Bytes:
        raise FileNotFoundError(path)

    def remove(self, path: str, folder: bool) -> None:
        pass

    def rename(self, path: str, new: str) -> None:
        pass


class FolderKeeper:
    """Bytes in a folder of the host, under the same paths; what is in it is there when the session begins."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def there(self) -> Iterator[tuple[str, int]]:
        for folder, names, files in os.walk(self.root):
            names.sort()
            inside = os.path.relpath(folder, self.root).replace(os.sep, "/")
            stem = "" if inside == "." else f"/{inside}"
            yield from ((f"{stem}/{name}", -1) for name in names)
            for name in sorted(files):
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    yield f"{stem}/{name}", path.stat().st_size

    def make_folder(self, path: str) -> None:
        self._at(path).mkdir(exist_ok=True)

    def make_file(self, path: str) -> Bytes:
        return FileBytes(self._at(path), create=True)

    def open_file(self, path: str) -> Bytes:
        return FileBytes(self._at(path), create=False)

    def remove(self, path: str, folder: bool) -> None:
        if folder:
            self._at(path).rmdir()
        else:
            self._at(path).unlink()

    def rename(self, path: str, new: str) -> None:
        if self._at(path).is_dir() and self._at(new).is_dir():
            shutil.rmtree(self._at(new))
        os.replace(self._at(path), self._at(new))


@dataclass(eq=False)
class Node:
    """A file or folder: its emulated name and times, picoseconds."""

    path: str
    name: int
    created_ps: int
    modified_ps: int


@dataclass(eq=False)
class Folder(Node):
    """A folder; ``number`` is that of the emulated directory, -1 where no file system is."""

    number: int = -1
    children: dict[str, Node] = field(default_factory=dict)


@dataclass(eq=False)
class Leaf(Node):
    """A file. Its bytes in a host's folder are opened at first use."""

    data: Bytes | None = None

    def contents(self, keeper: Keeper) -> Bytes:
        """Return the bytes."""
        if self.data is None:
            self.data = keeper.open_file(self.path)
        return self.data

    def size(self, keeper: Keeper) -> int:
        """Return the size in bytes."""
        return self.contents(keeper).size


class Tree:
    """Folders and files by path. Paths are absolute and normal; errors are those of the operating system."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.root = Folder("/", -1, 0, 0)

    def find(self, path: str) -> Node | None:
        """Return what is at a path; None for nothing. A file in the place of a folder is nothing, too."""
        node: Node = self.root
        for part in path.split("/"):
            if not part:
                continue
            found = node.children.get(part) if isinstance(node, Folder) else None
            if found is None:
                return None
            node = found
        return node

    def parent(self, path: str) -> Folder:
        """Return the folder that a path is in.

        Raises
        ------
        FileNotFoundError, NotADirectoryError
            When it is not there, or no folder.
        """
        stem = path.rsplit("/", 1)[0] or "/"
        node = self.find(stem)
        if node is None:
            raise FileNotFoundError(stem)
        if not isinstance(node, Folder):
            raise NotADirectoryError(stem)
        return node

    def add(self, node: Node) -> None:
        """Put a node at its path; its folder is there."""
        parent = self.parent(node.path)
        parent.children[node.path.rsplit("/", 1)[1]] = node
        parent.modified_ps = max(parent.modified_ps, node.created_ps)

    def drop(self, node: Node) -> None:
        """Take a node away."""
        del self.parent(node.path).children[node.path.rsplit("/", 1)[1]]

    def move(self, node: Node, new: str) -> None:
        """Give a node another path, and all that is in it."""
        self.drop(node)
        for one in list(walk(node)):
            one.path = new + one.path[len(node.path) :] if one is not node else one.path
        node.path = new
        self.parent(new).children[new.rsplit("/", 1)[1]] = node


def walk(node: Node) -> Iterator[Node]:
    """Give a node and everything in it, folders before what is in them."""
    yield node
    if isinstance(node, Folder):
        for child in list(node.children.values()):
            yield from walk(child)
