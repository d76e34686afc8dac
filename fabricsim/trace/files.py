"""The files that a trace names: who has which, in which file system, and what is there before the run.

Paths with ``{rank}`` are expanded by Arrow's own string functions, each pattern once for all its ranks, so
the files of 16,384 ranks cost milliseconds.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fabricsim.errors import ConfigError, InputError
from fabricsim.trace.findings import Findings
from fabricsim.trace.paths import PathPattern, parse_path
from fabricsim.trace.schema import FLAG_BIT, LOWERED_STORAGE, STORAGE
from fabricsim.trace.storage import split_flags
from fabricsim.trace.view import Ints, View, Words, spread

__all__ = ["FileTable", "make_files", "normal_path"]

_PLAIN = re.compile(r"(?!.*//)(?!.*/\.\.?(?:/|$))/.*[^/]|/", re.DOTALL)


class _Trace(Protocol):
    @property
    def where(self) -> str: ...

    @property
    def view(self) -> View: ...


@dataclass(frozen=True, eq=False)
class FileTable:
    """The files of a trace, numbered in the order in which the trace names them.

    Parameters
    ----------
    paths
        The path of each file or directory that an operation names, each once, absolute.
    directories
        The path of each directory that holds one of them, each once.
    mounts
        What file systems hold, as given.
    mount
        int8[files], index into ``mounts`` of the longest that holds it.
    directory
        int32[files], index into ``directories``; of a mount itself, its own path.
    is_directory
        bool[files], whether an operation makes, lists or removes it as a directory.
    size_bytes
        int64[files], its size before the run; -1 where the run makes it.
    columns
        What the core reads of each row of the trace: ``schema.LOWERED_STORAGE``.
    """

    paths: pa.Array
    directories: pa.Array
    mounts: tuple[str, ...]
    mount: npt.NDArray[np.int8]
    directory: npt.NDArray[np.int32]
    is_directory: npt.NDArray[np.bool_]
    size_bytes: Ints
    columns: pa.Table = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        made = int((self.size_bytes < 0).sum())
        return f"<FileTable: {len(self):,} files in {len(self.directories):,} directories, {made:,} made>"


def normal_path(path: str) -> str:
    """Return an absolute path without ``.``, ``..`` and empty parts, as the file system would find it.

    >>> normal_path("ckpt//step/../step-2/")
    '/ckpt/step-2'
    """
    if _PLAIN.fullmatch(path):
        return path
    return os.path.normpath("/" + path.lstrip("/"))


def make_files(trace: _Trace, mounts: Sequence[str]) -> FileTable | None:
    """Find the files of a trace's storage operations; None when it has no such operations.

    Parameters
    ----------
    trace
        A Trace.
    mounts
        Where the cluster's file systems are: path prefixes, each once. A file belongs to the longest that is
        its path or a folder of it.

    Raises
    ------
    InputError
        Names rows whose path no mount holds, and renames from one file system to another.
    ConfigError
        When two mounts are the same.
    """
    view = trace.view
    storage = view.is_kind(*STORAGE)
    if not storage.any():
        return None
    normal = tuple(normal_path(mount) for mount in mounts)
    if len(set(normal)) < len(normal):
        raise ConfigError(f"mounts: found one twice in {', '.join(mounts)}, allowed: each once")
    names = _Names(view)
    files = names.lists("file", np.flatnonzero(storage))
    new_files = names.lists("new_file", np.flatnonzero(view.is_kind("rename")))
    paths = names.paths
    mount = _mounts(paths, normal)
    out = Findings(trace.where)
    known = f"a path in one of: {', '.join(normal)}" if normal else "a cluster with file systems"
    for name, lists in (("file", files), ("new_file", new_files)):
        at = np.flatnonzero(mount[lists.values] < 0)
        rows, first = np.unique(lists.row[at], return_index=True)
        example = str(paths[int(lists.values[at[first[0]]])]) if len(rows) else ""
        out.add(name, rows, repr(example), known)
    _check_renames(files, new_files, mount, normal, out)
    if out.problems:
        raise InputError(out.problems)
    directories, directory = _directories(paths, normal, mount)
    there, size = _before(view, files, new_files, len(paths))
    kinds = view.is_kind("mkdir", "rmdir", "readdir")
    is_directory = np.zeros(len(paths), bool)
    is_directory[files.values[kinds[files.row]]] = True
    return FileTable(
        paths=paths,
        directories=directories,
        mounts=tuple(mounts),
        mount=mount,
        directory=directory,
        is_directory=is_directory,
        size_bytes=np.where(there, size, -1),
        columns=_columns(view, files, new_files),
    )


@dataclass(frozen=True)
class _FileLists:
    """Files of each row: none, one for all its ranks, or one a rank."""

    offsets: Ints
    values: npt.NDArray[np.int32]
    row: Ints

    def array(self) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(self.offsets.astype(np.int32)), pa.array(self.values))


class _Names:
    """The paths of the columns ``file`` and ``new_file``, expanded, each once."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.rows = {"file": view.is_kind(*STORAGE), "new_file": view.is_kind("rename")}
        self.words: dict[str, Words] = {name: view.words(name) for name in self.rows}
        self.patterns: list[PathPattern] = []
        number: dict[str, int] = {}
        self.pattern_of: dict[str, Ints] = {}
        for name, words in self.words.items():
            mine = []
            # What other kinds call a file is no path of a file system.
            used = np.zeros(len(words.words) + 1, bool)
            used[words.code[self.rows[name]]] = True
            for code, word in enumerate(words.words):
                path = normal_path(word) if used[code] else ""
                mine.append(number.setdefault(path, len(number)) if path else -1)
            self.pattern_of[name] = np.array([*mine, -1], np.int64)
        self.patterns = [parse_path(path) for path in number]
        self._own = np.array([pattern.is_own for pattern in self.patterns], bool)
        self._ranks = self._ranks_of_own()
        self._expand()

    def _pattern_rows(self, name: str, rows: Ints) -> Ints:
        return self.pattern_of[name][self.words[name].code[rows]]

    def _ranks_of_own(self) -> dict[int, npt.NDArray[np.int32]]:
        """Return the ranks that use each pattern, ascending."""
        found: dict[int, list[npt.NDArray[np.int32]]] = {}
        for name, mask in self.rows.items():
            rows = np.flatnonzero(mask)
            pattern = self._pattern_rows(name, rows)
            for number, mine in _groups(pattern, self._own):
                found.setdefault(number, []).append(self.view.ranks.of(rows[mine])[1])
        return {number: _unique(np.concatenate(parts)) for number, parts in found.items()}

    def _expand(self) -> None:
        pieces: list[pa.Array] = []
        plain = [pattern.texts[0] for pattern in self.patterns if not pattern.is_own]
        pieces.append(pa.array(plain, pa.string()))
        self._begin = np.full(len(self.patterns), -1, np.int64)
        self._begin[~self._own] = np.arange(len(plain))
        begin = len(plain)
        for number, ranks in self._ranks.items():
            pieces.append(self.patterns[number].paths(ranks))
            self._begin[number] = begin
            begin += len(ranks)
        encoded = pa.concat_arrays(pieces).dictionary_encode()
        #: Two patterns may name one file: the number of each path is that of its text.
        self._file = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        self.paths: pa.Array = encoded.dictionary

    def lists(self, name: str, rows: Ints) -> _FileLists:
        """Return the files of a column in the given rows; other rows have none."""
        view = self.view
        pattern = self._pattern_rows(name, rows)
        own = self._own[pattern]
        lengths = np.zeros(view.n, np.int64)
        lengths[rows] = np.where(own, view.ranks.lengths[rows], 1)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = np.zeros(offsets[-1], np.int32)
        values[offsets[rows[~own]]] = self._file[self._begin[pattern[~own]]]
        for number, mine in _groups(pattern, self._own):
            _, ranks = view.ranks.of(rows[mine])
            at, _ = spread(offsets, rows[mine])
            values[at] = self._file[self._begin[number] + np.searchsorted(self._ranks[number], ranks)]
        return _FileLists(offsets, values, np.repeat(np.arange(view.n), lengths))


def _groups(pattern: Ints, own: npt.NDArray[np.bool_]) -> list[tuple[int, Ints]]:
    """Return the numbers of own patterns and where each stands in ``pattern``."""
    at = np.flatnonzero(own[pattern])
    if len(at) == 0:
        return []
    at = at[np.argsort(pattern[at], kind="stable")]
    numbers, begins = np.unique(pattern[at], return_index=True)
    return [(int(number), mine) for number, mine in zip(numbers, np.split(at, begins[1:]), strict=True)]


def _unique(ranks: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return ranks ascending, each once: by marks when they are dense, which is many times faster."""
    most = int(ranks.max()) + 1
    if most > 8 * len(ranks):
        return np.unique(ranks)
    marks = np.zeros(most, bool)
    marks[ranks] = True
    return np.flatnonzero(marks).astype(np.int32)


def _mounts(paths: pa.Array, mounts: tuple[str, ...]) -> npt.NDArray[np.int8]:
    found = np.full(len(paths), -1, np.int8)
    for number in sorted(range(len(mounts)), key=lambda m: len(mounts[m])):
        path = mounts[number]
        inside = pc.starts_with(paths, path if path == "/" else path + "/")
        inside = pc.or_(inside, pc.equal(paths, path)).to_numpy(zero_copy_only=False)
        found[inside] = number
    return found


def _directories(
    paths: pa.Array, mounts: tuple[str, ...], mount: npt.NDArray[np.int8]
) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    folder = pc.replace_substring_regex(paths, r"/[^/]*$", "")
    folder = pc.if_else(pc.equal(folder, ""), "/", folder)
    # The folder of a mount lies in another file system, or in none.
    root = pc.equal(paths, pa.array(mounts, pa.string()).take(pa.array(mount)))
    encoded = pc.if_else(root, paths, folder).dictionary_encode()
    return encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)


def _check_renames(
    files: _FileLists,
    new_files: _FileLists,
    mount: npt.NDArray[np.int8],
    mounts: tuple[str, ...],
    out: Findings,
) -> None:
    rows = np.unique(new_files.row)
    if len(rows) == 0 or out.problems:
        return

    def edges(lists: _FileLists) -> tuple[Ints, Ints]:
        at = lists.offsets[rows]
        held, lengths = mount[lists.values], lists.offsets[rows + 1] - at
        ordered, _ = spread(lists.offsets, rows)
        begins = np.cumsum(lengths) - lengths
        return np.minimum.reduceat(held[ordered], begins), np.maximum.reduceat(held[ordered], begins)

    low, high = edges(files)
    new_low, new_high = edges(new_files)
    bad = np.flatnonzero((low != new_low) | (high != new_high) | (low != high))
    text = f"a rename from {mounts[low[bad[0]]]} to {mounts[new_high[bad[0]]]}" if len(bad) else ""
    out.add("new_file", rows[bad], text, "a path in the file system of file")


def _before(
    view: View, files: _FileLists, new_files: _FileLists, count: int
) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Return whether each file is there before the run, and the end of its furthest read."""
    flags = view.words("flags")
    creates = {code: None for code, text in enumerate(flags.words) if "create" in split_flags(text)}
    makes = view.is_kind("mkdir")
    opens = view.is_kind("open")
    rows = flags.where(creates)
    makes[rows[opens[rows]]] = True
    # Of the rows that name a file, the first counts: written from the last to the first, it stays.
    far = view.n
    first, first_new = np.full(count, far, np.int64), np.full(count, far, np.int64)
    first[files.values[::-1]] = files.row[::-1]
    first_new[new_files.values[::-1]] = new_files.row[::-1]
    made = np.append(makes, True)
    there = (first < far) & ~made[first] & (first <= first_new)
    size = np.zeros(count, np.int64)
    reads = np.flatnonzero(view.is_kind("read") & (view.flat("bytes").values > 0))
    if len(reads):
        lengths = view.ranks.lengths[reads]
        end = view.flat("offset").values[reads] + view.flat("bytes").values[reads]
        stride = view.flat("stride").values[reads]
        own = files.offsets[reads + 1] - files.offsets[reads] == lengths
        at, which = spread(files.offsets, reads)
        place = np.arange(len(at)) - np.flatnonzero(np.diff(which, prepend=-1))[which]
        # A shared file: the last rank reads furthest.
        place = np.where(own[which] & (lengths[which] > 1), place, lengths[which] - 1)
        np.maximum.at(size, files.values[at], end[which] + place * stride[which])
    return there, size


def _columns(view: View, files: _FileLists, new_files: _FileLists) -> pa.Table:
    words = view.words("flags")
    bits = [sum(FLAG_BIT.get(word, 0) for word in split_flags(text)) for text in words.words]
    values = {
        "files": files.array(),
        "new_files": new_files.array(),
        "offset": pa.array(view.flat("offset").values),
        "stride": pa.array(view.flat("stride").values),
        "flags": pa.array(np.array([*bits, 0], np.int16)[words.code]),
    }
    return pa.table([values[name] for name in LOWERED_STORAGE.names], schema=LOWERED_STORAGE)
