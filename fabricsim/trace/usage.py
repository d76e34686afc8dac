"""What a trace does with files: bytes, files and sizes of transfers, for people who look at it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fabricsim.trace.files import make_files
from fabricsim.trace.schema import KIND_CODE, KINDS, STORAGE, TRANSFERS
from fabricsim.trace.table import Trace
from fabricsim.trace.view import Ints

__all__ = ["storage_usage"]


def storage_usage(trace: Trace, *, most: int = 5) -> dict[str, Any] | None:
    """Sum up the storage operations of a trace; None when it has none.

    Parameters
    ----------
    trace
        The trace.
    most
        How many files and sizes are listed.

    Returns
    -------
    dict
        ``bytes_read``, ``bytes_written``, ``reads``, ``writes`` (each rank's counts), ``other_operations`` by
        kind, ``files``, ``directories``, ``files_made``; ``biggest_files``, those that most bytes go to or
        come from, with ``path``, ``bytes_read`` and ``bytes_written``; ``transfer_sizes``, those that move
        most bytes, with ``bytes``, ``reads`` and ``writes``.
    """
    files = make_files(trace, ["/"])
    if files is None:
        return None
    view = trace.view
    ranks, size = view.ranks.lengths, view.flat("bytes").values
    found: dict[str, Any] = {}
    moved: dict[str, Ints] = {}
    for kind in TRANSFERS:
        rows = view.is_kind(kind)
        found[f"bytes_{'read' if kind == 'read' else 'written'}"] = _product(size[rows], ranks[rows])
        found[f"{kind}s"] = int(ranks[rows].sum())
        moved[kind] = _by_file(trace, files.columns["files"].chunk(0), rows, len(files))
    times = np.bincount(view.kind, weights=ranks, minlength=len(KINDS)).astype(np.int64)
    other = {kind: int(times[KIND_CODE[kind]]) for kind in KINDS if kind in STORAGE and kind not in TRANSFERS}
    found["other_operations"] = {kind: count for kind, count in other.items() if count}
    found["files"] = int((~files.is_directory).sum())
    found["files_made"] = int(((files.size_bytes < 0) & ~files.is_directory).sum())
    found["directories"] = len(files.directories)
    total = moved["read"] + moved["write"]
    biggest = np.argsort(-total, kind="stable")[:most]
    found["biggest_files"] = [
        {
            "path": files.paths[int(file)].as_py(),
            "bytes_read": int(moved["read"][file]),
            "bytes_written": int(moved["write"][file]),
        }
        for file in biggest
        if total[file]
    ]
    found["transfer_sizes"] = _sizes(trace, most)
    return found


def _product(size: Ints, times: Ints) -> int:
    """Return the sum of products, exact beyond 2^63."""
    return (int(((size >> 32) * times).sum()) << 32) + int(((size & 0xFFFFFFFF) * times).sum())


def _by_file(trace: Trace, lists: Any, rows: np.ndarray, count: int) -> Ints:
    """Return the bytes of each file in some rows."""
    view = trace.view
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(view.n), lengths)
    # A file that ranks share has the bytes of all of them.
    each = view.flat("bytes").values * np.where(lengths == 1, view.ranks.lengths, 1)
    mine = rows[row]
    moved = np.zeros(count, np.int64)
    np.add.at(moved, lists.flatten().to_numpy(zero_copy_only=False)[mine], each[row[mine]])
    return moved


def _sizes(trace: Trace, most: int) -> list[dict[str, int]]:
    view = trace.view
    size, ranks = view.flat("bytes").values, view.ranks.lengths
    rows = np.flatnonzero(view.is_kind(*TRANSFERS))
    different, which = np.unique(size[rows], return_inverse=True)
    counts = {}
    for kind in TRANSFERS:
        mine = view.is_kind(kind)[rows]
        counts[kind] = np.bincount(which[mine], weights=ranks[rows][mine], minlength=len(different))
    moved = different * (counts["read"] + counts["write"])
    order = np.argsort(-moved, kind="stable")[:most]
    return [
        {"bytes": int(different[i]), "reads": int(counts["read"][i]), "writes": int(counts["write"][i])}
        for i in order
    ]
