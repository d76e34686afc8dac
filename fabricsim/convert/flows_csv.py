"""Imports point-to-point flows from a table: CSV with a header line, or an Arrow file with the same columns.

Columns: `src`, `dst`, `bytes`; optionally one of `start_ps`, `start_ns`, `start_us`; and `id`, `tag`, `name`,
`priority`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from fabricsim.convert import ConvertReport
from fabricsim.convert.flows import Flows
from fabricsim.errors import InputError, Problem, unknown_name
from fabricsim.trace import make_provenance, read_arrow
from fabricsim.trace.ipc import MAGIC
from fabricsim.trace.validate import HIGHEST_PRIORITY
from fabricsim.units import INT64_MAX, parse_bytes, parse_time_ps

_REQUIRED = ("src", "dst", "bytes")
_STARTS = ("start_ps", "start_ns", "start_us")
_COLUMNS = (*_REQUIRED, *_STARTS, "id", "tag", "name", "priority")
_MAX_RANK = 2**31 - 2
_MAX_PROBLEMS = 1000

#: The place of a row, and its values or what is wrong with it.
Row = tuple[str, dict[str, object] | str]


def sniff(path: Path) -> bool:
    """Tell whether the header names src, dst and bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        if head.startswith(MAGIC):
            with pa.OSFile(str(path), "rb") as file, pa.ipc.open_file(file) as reader:
                return set(_REQUIRED) <= set(reader.schema.names)
        first = next((line for line in head.splitlines() if line.strip() and not line.startswith(b"#")), b"")
        return set(_REQUIRED) <= {word.strip() for word in first.decode("utf-8-sig").split(",")}
    except (OSError, ValueError, pa.ArrowException):
        return False


def convert(path: Path) -> ConvertReport:
    """Import flows.

    Each flow is a send and a recv; the start becomes the delay of the send; the tag is the flow's id where no
    column `tag` gives it, and the id is the flow's place, from 0, where no column `id` gives it. `bytes` may
    carry a unit in CSV, as in `2MB`. `priority` is the data class.

    Raises
    ------
    InputError
        With every problem, each with its line (CSV) or row (Arrow), up to a thousand.
    """
    where = str(path)
    columns, rows = _read(path, where)
    problems = _check_columns(columns, where)
    if problems:
        raise InputError(problems)
    start = next((name for name in _STARTS if name in columns), None)
    flows, count = Flows(), 0
    ids: dict[int, int] = {}
    for place, row in rows:
        problem = row if isinstance(row, str) else _add(flows, ids, row, count, start)
        count += 1
        if problem:
            problems.append(Problem(place, problem))
            if len(problems) == _MAX_PROBLEMS:
                break
    if not problems and not count:
        problems = [Problem(where, "found no flows, allowed: at least one")]
    if problems:
        raise InputError(problems)
    trace = flows.trace(where, make_provenance("convert flows-csv", source=path))
    return ConvertReport(trace, [], {"flows": count, "nodes": trace.n_ranks})


def _read(path: Path, where: str) -> tuple[list[str], Iterable[Row]]:
    """Return the names of the columns, and the rows, each with its place."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
        if head == MAGIC:
            table = read_arrow(path)
            return table.column_names, _arrow_rows(table, where)
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{where}: cannot read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: byte {error.start} is no text, allowed: CSV in UTF-8, or Arrow") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(_lines(reader, where), None)
    if header is None:
        raise InputError(f"{where}: is empty, allowed: a header line such as src,dst,bytes")
    names = [word.strip() for word in header]
    return names, _csv_rows(reader, where, names)


def _lines(reader: Iterable[list[str]], where: str) -> Iterator[list[str]]:
    """Give the records that are neither blank nor a comment."""
    try:
        for words in reader:
            if any(word.strip() for word in words) and not words[0].lstrip().startswith("#"):
                yield words
    except csv.Error as error:
        raise InputError(f"{where}:{getattr(reader, 'line_num', 0)}: {error}") from None


def _csv_rows(reader: Iterable[list[str]], where: str, names: list[str]) -> Iterable[Row]:
    for words in _lines(reader, where):
        place = f"{where}:{getattr(reader, 'line_num', 0)}"
        if len(words) != len(names):
            yield place, f"found {len(words)} fields, allowed: {len(names)} as in the header"
            continue
        # An empty field is one that is not given.
        yield place, {name: word.strip() or None for name, word in zip(names, words, strict=True)}


def _arrow_rows(table: pa.Table, where: str) -> Iterable[Row]:
    number = 0
    for batch in table.to_batches(max_chunksize=65_536):
        for row in batch.to_pylist():
            yield f"{where}:row {number}", row
            number += 1


def _check_columns(names: list[str], where: str) -> list[Problem]:
    problems = [f"missing column {name!r}" for name in _REQUIRED if name not in names]
    problems += [unknown_name("column", name, _COLUMNS) for name in names if name not in _COLUMNS]
    problems += [f"column {name!r} twice" for name in sorted({n for n in names if names.count(n) > 1})]
    starts = [name for name in _STARTS if name in names]
    if len(starts) > 1:
        problems.append(f"found {' and '.join(starts)}, allowed: one of them")
    return [Problem(f"{where}:header", text) for text in problems]


def _whole(value: object, name: str, most: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) <= 19 else value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name}: found {value!r}, allowed: a whole number from 0 to {most}")
    return value


def _size(value: object, _name: str) -> int:
    if isinstance(value, (int, str)):
        return parse_bytes(value)
    raise ValueError(f"found {value!r}, allowed: a whole number of bytes, or text such as '2MB'")


def _start(value: object, name: str) -> int:
    if isinstance(value, (int, str, float)) and not isinstance(value, bool):
        unit = name.removeprefix("start_")
        # repr of a float is the shortest decimal that means it, which is what was written.
        return parse_time_ps(f"{value!r}{unit}" if not isinstance(value, str) else f"{value}{unit}")
    raise ValueError(f"found {value!r}, allowed: a number")


def _named(read: Callable[[object, str], int], value: object, name: str) -> int:
    try:
        return read(value, name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _add(
    flows: Flows, ids: dict[int, int], row: dict[str, object], number: int, start: str | None
) -> str | None:
    """Add one flow; return what is wrong with it, if anything."""
    try:
        src, dst = _whole(row["src"], "src", _MAX_RANK), _whole(row["dst"], "dst", _MAX_RANK)
        size = _named(_size, row["bytes"], "bytes")
        given = row.get(start) if start else None
        start_ps = 0 if given is None else _named(_start, given, start or "")
        identity = number if row.get("id") is None else _whole(row["id"], "id", INT64_MAX)
        tag = identity if row.get("tag") is None else _whole(row["tag"], "tag", INT64_MAX)
        given = row.get("priority")
        priority = 0 if given is None else _whole(given, "priority", HIGHEST_PRIORITY)
    except ValueError as error:
        return str(error)
    if src == dst:
        return f"found a flow from {src} to itself, allowed: another dst"
    if identity in ids:
        return f"id: found {identity} again (flow {ids[identity]} has it), allowed: unique ids"
    ids[identity] = number
    name = row.get("name")
    label = str(name) if name else f"flow {identity}"
    flows.flow(src, dst, size, tag=tag, name=label, start_ps=start_ps, priority=priority)
    return None
