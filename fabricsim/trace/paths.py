"""Paths in a trace: ``{rank}`` in them stands for the number of each rank, so that each has its own file.

``{rank:05d}`` pads it with zeros to five digits, as Python's format does; ``{rank+8%64}`` is the number of
the rank eight further, of 64 in a circle; ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["PATTERNS", "PathPattern", "escape", "parse_path"]

#: What errors say is allowed in a path.
PATTERNS = "{rank}, {rank:05d} with 1 to 9 digits, or {rank+8%64}; {{ and }} for braces"

_PART = re.compile(r"\{\{|\}\}|\{rank(?:\+(\d{1,9})%([1-9]\d{0,8}))?(?::0([1-9])d)?\}|[{}]")
_BRACE = re.compile(r"[{}]")


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A path taken apart: ``texts`` stand around the ranks' numbers, which have ``digits`` digits or more.

    ``shifts`` are what is added to each number and, where it is not 0, what it is then taken modulo of.
    """

    texts: tuple[str, ...]
    digits: tuple[int, ...]
    shifts: tuple[tuple[int, int], ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether each rank has a path of its own."""
        return bool(self.digits)

    def paths(self, ranks: npt.NDArray[np.int32] | Sequence[int]) -> pa.Array:
        """Return the path of each rank, as Arrow strings."""
        plain = np.asarray(ranks, np.int64)
        if not self.digits:
            return pa.repeat(pa.scalar(self.texts[0]), len(plain))
        parts = [pa.scalar(self.texts[0])]
        for digits, (add, modulo), text in zip(self.digits, self.shifts, self.texts[1:], strict=True):
            number = pa.array((plain + add) % modulo if modulo else plain).cast(pa.string())
            parts += [pc.utf8_lpad(number, digits, "0") if digits else number, pa.scalar(text)]
        return pc.binary_join_element_wise(*parts, pa.scalar(""))


def parse_path(path: str) -> PathPattern:
    """Take a path apart.

    Raises
    ------
    ValueError
        With what is wrong with its braces, or when it is empty.

    >>> parse_path("/ckpt/{rank:03d}.pt").paths([7, 12]).to_pylist()
    ['/ckpt/007.pt', '/ckpt/012.pt']
    >>> parse_path("/out/of-{rank+1%4}").paths([0, 3]).to_pylist()
    ['/out/of-1', '/out/of-0']
    """
    if not path:
        raise ValueError("an empty path")
    if "\0" in path:
        raise ValueError(f"a null character in {path!r}")
    if not _BRACE.search(path):
        return PathPattern((path,), ())
    texts, digits, shifts, begin = [""], [], [], 0
    for match in _PART.finditer(path):
        texts[-1] += path[begin : match.start()]
        begin, found = match.end(), match.group()
        if found in ("{{", "}}"):
            texts[-1] += found[0]
        elif len(found) == 1:
            raise ValueError(f"{path[match.start() : match.start() + 16]!r} in {path!r}")
        else:
            digits.append(int(match.group(3) or 0))
            shifts.append((int(match.group(1) or 0), int(match.group(2) or 0)))
            texts.append("")
    texts[-1] += path[begin:]
    return PathPattern(tuple(texts), tuple(digits), tuple(shifts))


def escape(path: str) -> str:
    """Return what stands for a path without patterns, whatever braces it has.

    >>> escape("/data/{a}")
    '/data/{{a}}'
    """
    return path.replace("{", "{{").replace("}", "}}")
