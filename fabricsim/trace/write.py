"""Writes traces: whole ones atomically, growing ones batch by batch so that an interrupt loses nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

import fabricsim
from fabricsim.errors import ConfigError, EngineError, InputError, Problem, unknown_name
from fabricsim.trace.schema import (
    COLUMNS,
    KIND_TYPE,
    KINDS,
    TRACE_SCHEMA,
    metadata,
    normalise,
    unknown_columns,
)
from fabricsim.trace.table import Trace

#: Rows of a record batch in the files that we write.
BATCH_ROWS = 65_536

_WRONG_PATH = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
}


def make_provenance(
    generator: str,
    *,
    seed: int | None = None,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Say where a trace comes from: the same input gives the same bytes, so no times and no machine names.

    Parameters
    ----------
    generator
        What made it, such as ``convert htsim``.
    seed
        The seed of a generated trace.
    source
        The file or files it was made from; their names without folders, and SHA-256 digests, are kept.
    more
        Further entries, JSON values.

    >>> sorted(make_provenance("gen llm", seed=1))
    ['fabricsim', 'generator', 'pyarrow', 'seed']
    """
    versions = {"fabricsim": fabricsim.__version__, "pyarrow": pa.__version__}
    made: dict[str, Any] = {"generator": generator, **versions}
    if seed is not None:
        made["seed"] = seed
    if source is not None:
        paths = [source] if isinstance(source, (str, os.PathLike)) else list(source)
        made["source"] = [{"file": Path(p).name, "sha256": _digest(p)} for p in paths]
    return made | more


def _digest(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a failure to write into an error with its place: ConfigError for a bad path, else EngineError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        code = error.errno or 0
        text = f"{os.fspath(path)}: cannot write: {os.strerror(code) if code else error}"
        raise (ConfigError(text) if code in _WRONG_PATH else EngineError(text)) from None


class _Stdout(io.RawIOBase):
    """Standard output, which stays open when a writer closes what it was given."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return sys.stdout.buffer.write(data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pa.NativeFile]:
    """Give a file to write that takes the place of ``path`` when all went well, and vanishes when not.

    Devices and pipes are written directly; ``-`` is standard output.
    """
    name = os.fspath(path)
    with told(name):
        if name == "-":
            with pa.PythonFile(_Stdout(), "w") as sink:
                yield sink
            sys.stdout.buffer.flush()
            return
        target = os.path.realpath(name)
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(target).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):
                with pa.OSFile(target, "wb") as sink:
                    yield sink
                return
        part = f"{target}.{os.getpid()}.part"
        try:
            with pa.OSFile(part, "wb") as sink:
                yield sink
            os.replace(part, target)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part)


def write_trace(
    trace: Trace | pa.Table, path: str | os.PathLike[str], *, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a trace as an Arrow IPC file, whole or not at all.

    Parameters
    ----------
    trace
        A Trace, or a table, which is checked first.
    path
        The file, replaced when it exists; ``-`` writes an Arrow IPC stream to standard output.
    provenance
        Where it comes from, as ``make_provenance`` makes it; without it the trace keeps its own.

    Raises
    ------
    InputError
        When a table is no valid trace.
    ConfigError
        When the path cannot be written to.
    EngineError
        When writing fails, as on a full disk.
    """
    if not isinstance(trace, Trace):
        trace = Trace(trace)
    meta = metadata(trace.provenance if provenance is None else provenance)
    table = trace.table.replace_schema_metadata({**(trace.table.schema.metadata or {}), **meta})
    with replacing(path) as sink:
        make = pa.ipc.new_stream if os.fspath(path) == "-" else pa.ipc.new_file
        with make(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=BATCH_ROWS)


class TraceWriter:
    """Writes a trace that grows, batch by batch, in flat memory.

    Each batch is in the file when ``write`` returns. Leaving the ``with`` block closes the file properly, on
    Ctrl-C or an error too; of a killed process ``fabricsim repair`` recovers every whole batch. Types are
    checked here, the operations when the file is read.

    Parameters
    ----------
    path
        The file, replaced when it exists.
    provenance
        Where the trace comes from, as ``make_provenance`` makes it.

    Raises
    ------
    ConfigError
        When the path cannot be written to.
    EngineError
        When writing fails, as on a full disk.
    """

    def __init__(self, path: str | os.PathLike[str], *, provenance: Mapping[str, Any] | None = None) -> None:
        self.path = os.fspath(path)
        self.rows = 0
        self._open = False
        self._schema = TRACE_SCHEMA.with_metadata(metadata(provenance))
        with told(self.path):
            if os.path.isdir(self.path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._sink = pa.OSFile(self.path, "wb")
            self._writer = pa.ipc.new_file(self._sink, self._schema)
        self._open = True

    def write(self, batch: pa.RecordBatch | pa.Table | Mapping[str, Any]) -> None:
        """Append operations: a batch, a table, or a mapping of columns; missing columns become null.

        Raises
        ------
        InputError
            When a column is unknown, missing or of a wrong type.
        """
        if isinstance(batch, pa.RecordBatch):
            batch = pa.Table.from_batches([batch])
        elif not isinstance(batch, pa.Table):
            batch = pa.table(dict(batch))
        table, problems = normalise(batch.replace_schema_metadata(None), self.path)
        problems = problems or [Problem(self.path, text) for text in unknown_columns(table.schema)]
        if problems:
            raise InputError(problems)
        for column in COLUMNS:
            if column.required and table.column(column.name).null_count:
                problems.append(Problem(f"{self.path}:{column.name}", f"found null, allowed: {column.type}"))
        if table.column("kind").type != KIND_TYPE:
            unknown = set(table.column("kind").cast(pa.string()).to_pylist()) - {*KINDS, None}
            problems += [
                Problem(f"{self.path}:kind", unknown_name("kind", k, KINDS)) for k in sorted(unknown)
            ]
        if problems:
            raise InputError(problems)
        arrays = [
            table.column(c.name) if c.name in table.column_names else pa.nulls(table.num_rows, c.type)
            for c in COLUMNS
        ]
        with told(self.path):
            self._writer.write_table(pa.table(arrays, schema=self._schema), max_chunksize=BATCH_ROWS)
        self.rows += table.num_rows

    def close(self) -> None:
        """Write the footer and close the file; closing again does nothing."""
        if not self._open:
            return
        self._open = False
        with told(self.path):
            try:
                self._writer.close()
            finally:
                self._sink.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trail: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            # The first error is the one to tell.
            with contextlib.suppress(EngineError, ConfigError):
                self.close()
