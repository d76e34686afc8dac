"""Open a capture: a folder, an archive (.tar, .tar.gz, .tgz), a .gz file, a plain file or a file prefix."""

from __future__ import annotations

import functools
import gzip
import json
import math
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from fabricsim.errors import ConfigError, InputError, Problem

#: No member of a capture may be larger than this once unpacked.
MAX_MEMBER_BYTES = 8 << 30
#: Times and sizes above this are damage, not data: 2**62 ps are 53 days, and every int64 sum stays safe.
LIMIT = 1 << 62
#: Ranks of a job, at most.
MAX_RANKS = 1 << 20

_T = TypeVar("_T")
_R = TypeVar("_R")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, LookupError, OverflowError)


@dataclass(slots=True)
class Notes:
    """Warnings of one conversion: each text once, with how often it happened."""

    counted: dict[str, int] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        """Tell `message` once."""
        if message not in self.order:
            self.order.append(message)

    def count(self, message: str, times: int = 1) -> None:
        """Add to how often `message` happened; told as ``message: N``."""
        if message not in self.counted:
            self.order.append(message)
        self.counted[message] = self.counted.get(message, 0) + times

    def warnings(self) -> list[str]:
        """The warnings in the order of their first appearance."""
        return [f"{text}: {self.counted[text]}" if text in self.counted else text for text in self.order]


def fail(where: str, message: str) -> InputError:
    """The InputError of one problem, to be raised by the caller."""
    return InputError([Problem(where, message)])


def each(items: Iterable[_T], read: Callable[[_T], _R]) -> list[_R]:
    """What `read` makes of every item; raises one InputError with the problems of all."""
    made: list[_R] = []
    problems: list[Problem] = []
    for item in items:
        try:
            made.append(read(item))
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return made


def members(path: str | os.PathLike[str], wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of every file of the capture at `path` that is `wanted` by its name.

    A trailing ``.gz`` is unpacked and left out of the name that `wanted` sees.  A path that does not exist
    is a prefix: the files beside it whose names begin with it.  Raises InputError on damage.
    """
    root = Path(path) if Path(path).is_dir() else Path(path).parent
    for file in files_of(path, wanted):
        if file.name.lower().endswith(_ARCHIVES):
            yield from _archive(file, wanted)
        else:
            yield str(file.relative_to(root)), read(file)


def samples(
    path: str | os.PathLike[str], wanted: Callable[[str], bool], each: int = 4
) -> Iterator[tuple[str, bytes]]:
    """Yield the first `each` of what `members` gives, of every folder and every archive of the capture."""
    seen: Counter[Path] = Counter()
    for file in files_of(path, wanted):
        if file.name.lower().endswith(_ARCHIVES):
            yield from islice(_archive(file, wanted), each)
        elif seen[file.parent] < each:
            seen[file.parent] += 1
            yield str(file), read(file)


def files_of(path: str | os.PathLike[str], wanted: Callable[[str], bool]) -> list[Path]:
    """The files on disk that `members` reads, archives too; raises InputError when there is no such path."""
    place = Path(path)
    if place.is_dir():
        found = sorted(p for p in place.rglob("*") if p.is_file())
    elif place.is_file():
        found = [place]
    else:
        beside = sorted(place.parent.glob(glob_escape(place.name) + ".*")) if place.name else []
        found = [p for p in beside if p.is_file()]
        if not found:
            raise fail(str(path), "no such file, folder or prefix of files")

    def is_read(file: Path) -> bool:
        archive = file.name.lower().endswith(_ARCHIVES)
        return archive or (wanted(bare(file.name)) and (file == place or not file.name.startswith("._")))

    return [file for file in found if is_read(file)]


def glob_escape(name: str) -> str:
    """`name` with the letters that glob() treats specially made literal."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def bare(name: str) -> str:
    """A file's name without a trailing .gz."""
    return name[:-3] if name.lower().endswith(".gz") else name


def read(file: Path) -> bytes:
    """The bytes of a file, unpacked where they are gzip; raises InputError with the file's name."""
    try:
        with file.open("rb") as raw:
            data = raw.read(MAX_MEMBER_BYTES + 1)
    except OSError as error:
        raise fail(str(file), f"cannot be read: {error.strerror or error}") from None
    return _unpack(str(file), data)


def _unpack(name: str, data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        unpacker = zlib.decompressobj(wbits=31)
        try:
            plain = unpacker.decompress(data, MAX_MEMBER_BYTES + 1)
        except zlib.error as error:
            raise fail(name, f"damaged gzip data: {error}") from None
        if not unpacker.eof and len(plain) <= MAX_MEMBER_BYTES:
            raise fail(name, f"the gzip data end too early, after {len(plain)} unpacked bytes")
        if unpacker.unused_data.strip(b"\0"):
            try:
                plain = gzip.decompress(data)
            except _DAMAGE as error:
                raise fail(name, f"damaged gzip data: {error}") from None
        data = plain
    elif name.lower().endswith(".gz"):
        raise fail(name, "is named .gz, but is not gzip data")
    if len(data) > MAX_MEMBER_BYTES:
        raise fail(name, f"unpacks to more than {MAX_MEMBER_BYTES} bytes")
    return data


def _archive(file: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(file, "r:*") as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if not member.isfile() or name.startswith("._") or not wanted(bare(name)):
                    continue
                if member.size > MAX_MEMBER_BYTES:
                    raise fail(f"{file}:{member.name}", f"is larger than {MAX_MEMBER_BYTES} bytes")
                content = archive.extractfile(member)
                data = content.read() if content else b""
                if len(data) != member.size:
                    raise fail(f"{file}:{member.name}", f"{len(data)} of {member.size} bytes: cut short")
                yield member.name, _unpack(f"{file}:{member.name}", data)
    except _DAMAGE as error:
        raise fail(str(file), f"damaged archive: {error or type(error).__name__}") from None


def read_text(file: Path) -> str:
    """The text of a file, unpacked where it is gzip; raises InputError where it is not UTF-8."""
    try:
        return read(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise fail(f"{file}: byte {error.start}", "is no text") from None


def head(file: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, unpacked where they are gzip; empty where they cannot be read."""
    try:
        with file.open("rb") as raw:
            data = raw.read(size)
        return zlib.decompressobj(wbits=31).decompress(data, size) if data[:2] == b"\x1f\x8b" else data
    except _DAMAGE:
        return b""


def parse_json(where: str, data: bytes) -> Any:
    """The JSON document in `data`; raises InputError with line and column."""
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise fail(f"{where}:{error.lineno}:{error.colno}", f"not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise fail(f"{where}: byte {error.start}", "not JSON: the text is not UTF-8") from None
    except (RecursionError, ValueError) as error:
        raise fail(where, f"not JSON that can be read: {error}") from None


def whole(value: Any, where: str, what: str, low: int = 0, high: int = LIMIT) -> int:
    """`value` as an integer in low..high; whole floats and digit strings count; raises InputError."""
    number = value
    digits = isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,30}", value, re.ASCII)
    if digits or (isinstance(value, float) and math.isfinite(value) and value == int(value)):
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise fail(where, f"{what}: found {shown(value)}, allowed: an integer from {low} to {high}")
    return number


def shown(value: Any) -> str:
    """A short text of any value for an error message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@functools.lru_cache(maxsize=4)
def everyone(world: int) -> tuple[int, ...]:
    """All ranks of a job."""
    return tuple(range(world))


def rank_in(name: str) -> int | None:
    """The rank in a file's name: ``prefix.3.et``, ``worker3_step``, ``rank-3``, ``eg_3.json``; else None."""
    stem = name.rsplit("/", 1)[-1]
    for pattern in (r"(?:worker|rank)[-_.]?(\d{1,6})(?!\d)", r"[._-](\d{1,6})\.(?:et|json)(?:\.gz)?$"):
        if found := re.search(pattern, stem, re.IGNORECASE):
            return int(found.group(1))
    return None


def option_count(value: Any, name: str, low: int = 1, high: int = MAX_RANKS) -> int:
    """An integer option in low..high; raises ConfigError."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError([Problem(name, f"found {shown(value)}, allowed: an integer from {low} to {high}")])
    return value
