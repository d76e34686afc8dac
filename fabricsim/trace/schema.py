"""The trace's columns, kinds and schema metadata, version 1.2.

A row is an operation of a set of ranks. This table is the one place where names, types and meanings are
written; reader, writer, validator and documentation take them from here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fabricsim.errors import Problem, nearest

SCHEMA_NAME = "trace"
SCHEMA_VERSION = "1.2"
MAJOR = 1

META_SCHEMA = b"fabricsim.schema"
META_VERSION = b"fabricsim.schema_version"
META_PROVENANCE = b"fabricsim.provenance"

#: Kinds of operations; the index is the code that the core sees.
KINDS: tuple[str, ...] = (
    "compute",
    "all_reduce",
    "reduce_scatter",
    "all_gather",
    "all_to_all",
    "broadcast",
    "reduce",
    "barrier",
    "send",
    "recv",
    "open",
    "read",
    "write",
    "fsync",
    "close",
    "stat",
    "unlink",
    "mkdir",
    "rmdir",
    "rename",
    "readdir",
)
KIND_CODE: dict[str, int] = {kind: code for code, kind in enumerate(KINDS)}

COLLECTIVES = frozenset(KINDS[KIND_CODE["all_reduce"] : KIND_CODE["barrier"] + 1])
POINT_TO_POINT = frozenset({"send", "recv"})
STORAGE = frozenset(KINDS[KIND_CODE["open"] :])
#: Kinds that carry a root rank in ``peer``.
ROOTED = frozenset({"broadcast", "reduce"})
#: Kinds whose ``bytes`` must be given (``all_to_all`` may give ``splits`` instead).
SIZED = (COLLECTIVES | POINT_TO_POINT | {"read", "write"}) - {"barrier"}
#: Kinds that move the bytes of a file.
TRANSFERS = ("read", "write")
#: The words that ``flags`` of a storage operation may have.
FLAGS: dict[str, tuple[str, ...]] = {
    "open": ("create", "excl", "trunc"),
    "read": ("direct", "group"),
    "write": ("direct", "group"),
}
#: The bit of each word of ``flags`` that the core sees.
FLAG_BIT: dict[str, int] = {"create": 1, "excl": 2, "trunc": 4, "direct": 8, "group": 16}

KIND_TYPE = pa.dictionary(pa.int8(), pa.string())
#: The one dictionary of the column ``kind``, shared by all batches that we write.
KIND_DICTIONARY = pa.array(KINDS, pa.string())


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name, Arrow type, whether it must be there without nulls, unit, and meaning."""

    name: str
    type: pa.DataType
    required: bool
    unit: str
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column("id", pa.int64(), True, "", "identity of the operation, unique, at least 0"),
    Column("kind", KIND_TYPE, True, "", "one of: " + ", ".join(KINDS)),
    Column("ranks", pa.list_(pa.int32()), True, "", "the ranks that take part, each once, at least one"),
    Column(
        "peer",
        pa.list_(pa.int32()),
        False,
        "",
        "send and recv: the other rank of each of ranks; broadcast and reduce: the root rank of each group",
    ),
    Column(
        "group_size",
        pa.int32(),
        False,
        "",
        "collectives: ranks are taken so many at a time, each such group does the operation by itself; 0 or "
        "null: all of ranks are one group",
    ),
    Column(
        "count",
        pa.int64(),
        False,
        "",
        "collectives and compute: so many times one after another, each after delay_ps; 1 when null",
    ),
    Column(
        "bytes",
        pa.int64(),
        False,
        "bytes",
        "of each group: all_reduce, broadcast, reduce, send, recv: message; all_gather: gathered total, as a "
        "rank receives; reduce_scatter: total input of a rank; all_to_all: total that a rank sends; read, "
        "write: of a rank",
    ),
    Column(
        "splits",
        pa.list_(pa.int64()),
        False,
        "bytes",
        "all_to_all with unequal parts, n ranks: n*n entries [sender][receiver], or n when all send the same",
    ),
    Column("duration_ps", pa.int64(), False, "ps", "compute: how long it takes"),
    Column(
        "flops",
        pa.float64(),
        False,
        "flop",
        "compute: floating-point operations; they give the time where duration_ps is null",
    ),
    Column(
        "mem_bytes",
        pa.int64(),
        False,
        "bytes",
        "compute: memory traffic; it gives the time where duration_ps is null",
    ),
    Column("delay_ps", pa.int64(), False, "ps", "local time between release of the operation and its start"),
    Column(
        "stream",
        pa.int32(),
        False,
        "",
        "operations of a stream run in row order on each rank; null: no order",
    ),
    Column(
        "after", pa.list_(pa.int64()), False, "", "ids of operations that must end first on the shared ranks"
    ),
    Column("start_ps", pa.int64(), False, "ps", "measured start"),
    Column("end_ps", pa.int64(), False, "ps", "measured end"),
    Column(
        "file",
        pa.string(),
        False,
        "",
        "storage kinds: path of the file or directory; {rank} or {rank:05d} in it: one a rank",
    ),
    Column("offset", pa.int64(), False, "bytes", "read and write: where in the file, 0 when null"),
    Column(
        "stride",
        pa.int64(),
        False,
        "bytes",
        "read and write: the rank at position p of ranks is at offset + p * stride, 0 when null",
    ),
    Column(
        "flags",
        pa.string(),
        False,
        "",
        "words with commas between: open: create, excl, trunc; read and write: direct, group",
    ),
    Column("new_file", pa.string(), False, "", "rename: the new path, as file"),
    Column("name", pa.string(), False, "", "label"),
    Column("step", pa.int32(), False, "", "training step"),
    Column("tag", pa.int64(), False, "", "send and recv: matching tag, 0 when null"),
    Column("priority", pa.int32(), False, "", "data class of its messages, 0 to 7; 0 when null"),
)
BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}


def _field(column: Column) -> pa.Field:
    unit = {"unit": column.unit} if column.unit else None
    return pa.field(column.name, column.type, nullable=not column.required, metadata=unit)


#: All columns in their order, without metadata of a certain file.
TRACE_SCHEMA: pa.Schema = pa.schema([_field(column) for column in COLUMNS])

#: What the core reads: these columns in this order, no nulls.
LOWERED_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("ranks", pa.list_(pa.int32()), nullable=False),
        pa.field("peer", pa.list_(pa.int32()), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("splits", pa.list_(pa.int64()), nullable=False),
        pa.field("duration_ps", pa.int64(), nullable=False),
        pa.field("delay_ps", pa.int64(), nullable=False),
        pa.field("stream", pa.int32(), nullable=False),
        pa.field("after", pa.list_(pa.int64()), nullable=False),
        pa.field("tag", pa.int64(), nullable=False),
        pa.field("priority", pa.int8(), nullable=False),
        pa.field("variant", pa.int16(), nullable=False),
    ]
)
#: Columns that the core reads behind all others, when some collective has groups or happens several times.
LOWERED_GROUPS: pa.Schema = pa.schema(
    [pa.field("group_size", pa.int32(), nullable=False), pa.field("count", pa.int64(), nullable=False)]
)
#: Further columns that the core reads behind those, when a program does I/O: all of them or none.
LOWERED_STORAGE: pa.Schema = pa.schema(
    [
        pa.field("files", pa.list_(pa.int32()), nullable=False),
        pa.field("new_files", pa.list_(pa.int32()), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("stride", pa.int64(), nullable=False),
        pa.field("flags", pa.int16(), nullable=False),
    ]
)


def metadata(provenance: Mapping[str, Any] | None = None) -> dict[bytes, bytes]:
    """Return the schema metadata of a trace: name, version and the provenance as JSON with sorted keys."""
    text = json.dumps(dict(provenance or {}), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {
        META_SCHEMA: SCHEMA_NAME.encode(),
        META_VERSION: SCHEMA_VERSION.encode(),
        META_PROVENANCE: text.encode(),
    }


def check_metadata(found: Mapping[bytes, bytes] | None, where: str) -> list[Problem]:
    """Refuse another schema or an unknown major version by name; without our metadata it is taken as ours."""
    found = found or {}
    name = found.get(META_SCHEMA, SCHEMA_NAME.encode()).decode("utf-8", "replace")
    if name != SCHEMA_NAME:
        return [Problem(f"{where}:schema", f"found a fabricsim {name!r} file, allowed: {SCHEMA_NAME!r}")]
    version = found.get(META_VERSION, SCHEMA_VERSION.encode()).decode("utf-8", "replace")
    match = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", version, re.ASCII)
    if match is None:
        text = f"found {version!r}, allowed: a version such as {SCHEMA_VERSION!r}"
        return [Problem(f"{where}:schema version", text)]
    if int(match[1]) != MAJOR:
        text = f"found trace schema version {version}, allowed: {MAJOR}.x (a newer fabricsim may read it)"
        return [Problem(f"{where}:schema version", text)]
    try:
        provenance_of(found)
    except ValueError as error:
        return [Problem(f"{where}:provenance", f"found {error}, allowed: a JSON object")]
    return []


def provenance_of(found: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Return the provenance in schema metadata, empty when there is none; ValueError when no JSON object."""
    text = (found or {}).get(META_PROVENANCE, b"{}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"bad JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}")
    return value


def unknown_columns(schema: pa.Schema) -> list[str]:
    """Return one sentence for each column that the trace schema does not know, with the nearest name."""
    sentences = []
    for name in schema.names:
        if name not in BY_NAME:
            guess = nearest(name, BY_NAME)
            hint = f"; did you mean {guess!r}?" if guess else ""
            sentences.append(f"column {name!r} is unknown and ignored{hint}")
    return sentences


def _kind_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return kinds in our own dictionary, or in a wider one where a kind is unknown (a check names it)."""
    chunks = []
    for chunk in column.chunks:
        if isinstance(chunk, pa.DictionaryArray):
            words, indices = chunk.dictionary.cast(pa.string()), chunk.indices
        else:
            words, indices = chunk.cast(pa.string()), None
        codes = pc.index_in(words, value_set=KIND_DICTIONARY).cast(pa.int8())
        if indices is not None:
            codes = codes.take(indices)
        if codes.null_count != chunk.null_count:
            return column.cast(pa.string()).cast(pa.dictionary(pa.int32(), pa.string()))
        chunks.append(pa.DictionaryArray.from_arrays(codes, KIND_DICTIONARY))
    return pa.chunked_array(chunks, KIND_TYPE)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Tell whether a type may be cast to the wanted one without changing what is meant."""
    if pa.types.is_null(found) or found.equals(wanted):
        return True
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_dictionary(wanted):
        wanted = wanted.value_type
    if pa.types.is_list(wanted):
        lists = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
        lists = lists or pa.types.is_list_view(found) or pa.types.is_large_list_view(found)
        return bool(lists) and _fits(found.value_type, wanted.value_type)
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(found))
    if pa.types.is_floating(wanted):
        return bool(pa.types.is_floating(found) or pa.types.is_integer(found))
    return bool(_is_text(found) and _is_text(wanted))


def normalise(table: pa.Table, where: str) -> tuple[pa.Table, list[Problem]]:
    """Bring a table to the trace's types; columns that the schema does not know are kept behind the others.

    Integers of any width, large or fixed-size lists and plain strings are accepted where nothing is lost. A
    missing column that may be missing stays missing.

    Returns
    -------
    tuple
        The table, chunks joined, and the problems found; with problems the table is as it came.
    """
    problems = check_metadata(table.schema.metadata, where)
    if problems:
        return table, problems
    names = table.column_names
    for name in sorted({n for n in names if names.count(n) > 1}):
        problems.append(
            Problem(f"{where}:{name}", f"found {names.count(name)} columns of that name, allowed: one")
        )
    for column in COLUMNS:
        if column.required and column.name not in names:
            problems.append(Problem(f"{where}:{column.name}", f"missing column, allowed: {column.type}"))
    if problems:
        return table, problems
    arrays, fields = [], []
    for column in COLUMNS:
        if column.name not in names:
            continue
        found = table.column(column.name)
        if not _fits(found.type, column.type):
            problems.append(
                Problem(f"{where}:{column.name}", f"found type {found.type}, allowed: {column.type}")
            )
            continue
        try:
            if column.name == "kind":
                found = _kind_column(found)
            elif not found.type.equals(column.type):
                found = found.cast(column.type)
        except (pa.ArrowException, ValueError) as error:
            text = f"does not fit type {column.type}: {str(error).splitlines()[0]}"
            problems.append(Problem(f"{where}:{column.name}", text))
            continue
        arrays.append(found)
        # Nullability is a promise that a check keeps, so a null in a required column is told with its row.
        fields.append(_field(column).with_type(found.type).with_nullable(True))
    if problems:
        return table, problems
    for name in names:
        if name not in BY_NAME:
            arrays.append(table.column(name))
            fields.append(table.schema.field(name))
    kept = dict(table.schema.metadata or {})
    kept = {**metadata(), **kept}
    return pa.table(arrays, schema=pa.schema(fields, kept)).combine_chunks(), []
