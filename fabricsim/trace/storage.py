"""The checks of storage operations: files, offsets, flags, and the paths that a rename needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow.compute as pc

from fabricsim.errors import unknown_name
from fabricsim.trace.findings import Findings, value_of
from fabricsim.trace.paths import PATTERNS, parse_path
from fabricsim.trace.schema import FLAGS, KINDS, STORAGE, TRANSFERS
from fabricsim.trace.view import Bools, View

#: A file ends before this; offsets are counted in 63 bits.
FILE_LIMIT = 2**63 - 1


def check_storage(view: View, out: Findings) -> None:
    """Check the rows of storage kinds, and that other rows have none of their new columns."""
    storage = view.is_kind(*STORAGE)
    _check_paths(view, storage, out)
    _check_flags(view, out)
    _check_new_files(view, out)
    _check_places(view, out)


def split_flags(text: str) -> list[str]:
    """Return the words of a ``flags`` entry; blanks around them and an empty entry are fine."""
    return [word.strip() for word in text.split(",")] if text.strip() else []


def _in_kind(view: View) -> Callable[[int], str]:
    return lambda row: f"in a row of kind {KINDS[view.kind[row]]}"


def _check_paths(view: View, storage: Bools, out: Findings) -> None:
    kind = _in_kind(view)
    if storage.any():
        file = view.words("file")
        out.mask("file", storage & ~file.given, lambda r: f"null {kind(r)}", "a path")
        # Most paths have no braces: only those that might be wrong are taken apart.
        _check_patterns(view, "file", storage, out)
    if "new_file" in view.table.column_names:
        _check_patterns(view, "new_file", view.is_kind("rename"), out)


def _check_patterns(view: View, name: str, rows: Bools, out: Findings) -> None:
    column = view.words(name)
    wrong: dict[int, str] = {}
    for code, path in enumerate(column.words):
        if path and "{" not in path and "}" not in path and "\0" not in path:
            continue
        try:
            parse_path(path)
        except ValueError as error:
            wrong[code] = str(error)
    if wrong:
        found = column.where(wrong)
        out.add(name, found[rows[found]], lambda r: wrong[int(column.code[r])], f"a path with {PATTERNS}")


def _check_flags(view: View, out: Findings) -> None:
    if "flags" not in view.table.column_names:
        return
    kind, flags = _in_kind(view), view.words("flags")
    words = [split_flags(text) for text in flags.words]
    empty = {code for code, some in enumerate(words) if not some}
    rest = view.known & flags.given
    if empty:
        rest[flags.where(dict.fromkeys(empty))] = False
    for name, allowed in FLAGS.items():
        mine = view.is_kind(name)
        rest &= ~mine
        wrong: dict[int, str] = {}
        for code, some in enumerate(words):
            unknown = [word for word in some if word not in allowed]
            if unknown:
                wrong[code] = unknown_name("flag", unknown[0], allowed)
            elif len(set(some)) < len(some):
                wrong[code] = f"a flag twice in {flags.words[code]!r}"
            elif "excl" in some and "create" not in some:
                wrong[code] = "excl without create"
        if wrong:
            rows = flags.where(wrong)
            rows = rows[mine[rows]]
            text = f"words of {', '.join(allowed)}, each once, with commas between" + (
                "; excl with create" if "excl" in allowed else ""
            )
            first = wrong[int(flags.code[rows[0]])] if len(rows) else ""
            out.add("flags", rows, f"{first} in a row of kind {name}", text)
    out.mask("flags", rest, lambda r: f"{flags.at(r)!r} {kind(r)}", "null")


def _check_new_files(view: View, out: Findings) -> None:
    rename, kind, new = view.is_kind("rename"), _in_kind(view), view.words("new_file")
    out.mask("new_file", rename & ~new.given, lambda r: f"null {kind(r)}", "the new path")
    surplus = view.known & ~rename & new.given
    out.mask("new_file", surplus, lambda r: f"{new.at(r)!r} {kind(r)}", "null")
    file = view.array("file")
    if file is not None and new.given.any():
        same = pc.equal(file, view.array("new_file")).fill_null(False).to_numpy(zero_copy_only=False)
        out.mask("new_file", rename & same, lambda r: f"{new.at(r)!r}, which is file", "another path")


def _check_places(view: View, out: Findings) -> None:
    kind, offset, stride = _in_kind(view), view.flat("offset"), view.flat("stride")
    transfers = view.is_kind(*TRANSFERS)
    out.mask(
        "offset",
        view.is_kind(*STORAGE) & ~transfers & (offset.values != 0),
        lambda r: f"{offset.values[r]} {kind(r)}",
        "null or 0",
    )
    out.mask(
        "stride",
        view.known & ~transfers & (stride.values != 0),
        lambda r: f"{stride.values[r]} {kind(r)}",
        "null or 0",
    )
    if not transfers.any():
        return
    last = np.maximum(view.ranks.lengths - 1, 0).astype(np.float64)
    end = offset.values.astype(np.float64) + stride.values.astype(np.float64) * last
    end += view.flat("bytes").values
    # Doubles are exact enough: what is refused lies within a few KiB of the limit or beyond.
    over = transfers & (end >= float(FILE_LIMIT))
    out.mask("offset", over, value_of(offset.values), "an end of the last rank's bytes below 2^63-1")
