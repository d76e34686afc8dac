"""Recovers an Arrow IPC file whose writer was killed: every whole batch before the damage is kept."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from fabricsim.errors import InputError, Problem
from fabricsim.trace.ipc import Scan, scan
from fabricsim.trace.read import ARROW_ERRORS
from fabricsim.trace.schema import META_SCHEMA, SCHEMA_NAME
from fabricsim.trace.validate import validate
from fabricsim.trace.write import replacing


@dataclass(frozen=True)
class RepairReport:
    """What a repair saved.

    Parameters
    ----------
    path, out
        The damaged file and the one written.
    rows_saved, batches_saved
        What ``out`` holds.
    rows_lost
        Rows of batches that were cut off or damaged, as far as their heads could be read.
    bytes_read, bytes_lost
        Bytes up to the last whole batch, and bytes behind it (a footer, which holds no rows, included).
    problems
        What is wrong with the rows saved, when the file is a trace: an operation may wait for a lost one.
    """

    path: str
    out: str
    rows_saved: int
    batches_saved: int
    rows_lost: int
    bytes_read: int
    bytes_lost: int
    problems: tuple[Problem, ...] = ()

    def __str__(self) -> str:
        text = f"{self.path}: saved {self.rows_saved} rows in {self.batches_saved} batches to {self.out}"
        text += (
            f"; lost {self.rows_lost} rows; {self.bytes_lost} bytes behind them, a footer included, were left"
        )
        if self.problems:
            text += f"; problems in what is left: {len(self.problems)}, the first: {self.problems[0]}"
        return text


class _Part(io.RawIOBase):
    """The bytes of a file from ``begin`` to ``end``, as a file of its own."""

    def __init__(self, file: io.BufferedReader, begin: int, end: int) -> None:
        self._file, self._at, self._end = file, begin, end
        file.seek(begin)

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        want = min(len(into), self._end - self._at)
        data = self._file.read(want)
        into[: len(data)] = data
        self._at += len(data)
        return len(data)


def repair(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> RepairReport:
    """Write every whole batch of an interrupted Arrow file (a trace or a result) to a proper file.

    Parameters
    ----------
    path
        An Arrow IPC file without footer, or damaged behind some batch; a good file is copied.
    out
        The file to write, atomically; may be ``path``.

    Returns
    -------
    RepairReport
        Rows saved and lost.

    Raises
    ------
    InputError
        When there is nothing to save: no such file, no Arrow file, or no whole schema in it.
    ConfigError, EngineError
        When ``out`` cannot be written.
    """
    where = os.fspath(path)
    with _opened(where) as file:
        found = scan(file)
        if not found.messages:
            raise InputError(f"{where}: nothing to save: no whole Arrow schema in its {found.size} bytes")
        try:
            part = io.BufferedReader(_Part(file, found.start, found.end))
            reader = pa.ipc.open_stream(pa.PythonFile(part, "r"))
            # Names are decoded only when asked for.
            _ = reader.schema.names
        except ARROW_ERRORS as error:
            raise InputError(f"{where}: nothing to save: its schema is damaged ({error})") from None
        rows, batches = _copy(reader, out)
    return _report(where, os.fspath(out), found, rows, batches, reader.schema)


@contextlib.contextmanager
def _opened(where: str) -> Iterator[io.BufferedReader]:
    """Open for reading; only a failure to open is told as bad input."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(where).open("rb"))
        except OSError as error:
            raise InputError(f"{where}: cannot read: {error.strerror}") from None
        yield file


def _copy(reader: pa.RecordBatchStreamReader, out: str | os.PathLike[str]) -> tuple[int, int]:
    rows = batches = 0
    with replacing(out) as sink, pa.ipc.new_file(sink, reader.schema) as writer:
        while True:
            try:
                batch = reader.read_next_batch()
                batch.validate(full=True)
            except StopIteration:
                break
            except ARROW_ERRORS:
                # Damaged inside: what follows cannot be trusted to belong here.
                break
            writer.write_batch(batch)
            rows += batch.num_rows
            batches += 1
    return rows, batches


def _report(where: str, out: str, found: Scan, rows: int, batches: int, schema: pa.Schema) -> RepairReport:
    heads = [m for m in found.messages if m.is_batch]
    end = heads[batches - 1].end if batches else found.messages[0].end
    lost = sum(m.rows for m in heads[batches:]) + (found.cut.rows if found.cut else 0)
    problems: list[Problem] = []
    if (schema.metadata or {}).get(META_SCHEMA) == SCHEMA_NAME.encode() and out != "-":
        with pa.OSFile(out, "rb") as file:
            problems = validate(pa.ipc.open_file(file).read_all(), out)
    return RepairReport(where, out, rows, batches, lost, end, found.size - end, tuple(problems))
