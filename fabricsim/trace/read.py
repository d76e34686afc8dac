"""Reads traces: Arrow IPC files and streams, also from standard input; whatever is wrong is an InputError."""

from __future__ import annotations

import io
import os
import sys
import warnings
from pathlib import Path

import pyarrow as pa

from fabricsim.errors import InputError
from fabricsim.trace.ipc import MAGIC, scan
from fabricsim.trace.table import Trace, TraceWarning

#: What reading damaged Arrow data may raise.
ARROW_ERRORS = (
    pa.ArrowException,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
)

_STDIN = "standard input"


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace and check it.

    Parameters
    ----------
    path
        An Arrow IPC file or stream, or ``-`` for standard input.

    Returns
    -------
    Trace
        Valid. Columns that the schema does not know are kept, and told by a TraceWarning.

    Raises
    ------
    InputError
        When the file is missing, damaged, of another schema or version, or any operation in it is wrong.
    """
    where = _STDIN if os.fspath(path) == "-" else os.fspath(path)
    trace = Trace(read_arrow(path), where)
    for sentence in trace.warnings:
        warnings.warn(f"{where}: {sentence}", TraceWarning, stacklevel=2)
    return trace


def read_arrow(path: str | os.PathLike[str]) -> pa.Table:
    """Read any Arrow IPC file or stream whole (``-``: standard input), its buffers checked.

    Raises
    ------
    InputError
        When the file cannot be read or is damaged; says up to which byte and row it is whole.
    """
    if os.fspath(path) == "-":
        return _decode(pa.py_buffer(sys.stdin.buffer.read()), _STDIN)
    where = os.fspath(path)
    if Path(where).is_dir():
        raise InputError(f"{where}: is a folder, allowed: an Arrow file (fabricsim convert reads folders)")
    try:
        # Not mapped: a file that shrinks under a map would kill the process.
        with pa.OSFile(where, "rb") as file:
            data = file.read_buffer()
    except FileNotFoundError:
        raise InputError(f"{where}: no such file") from None
    except (OSError, MemoryError) as error:
        raise InputError(f"{where}: cannot read: {os.strerror(getattr(error, 'errno', 0) or 0)}") from None
    return _decode(data, where)


def _decode(data: pa.Buffer, where: str) -> pa.Table:
    if data.size == 0:
        raise InputError(f"{where}: is empty, allowed: an Arrow IPC file")
    head = data.slice(0, min(8, data.size)).to_pybytes()
    try:
        reader = pa.ipc.open_file(data) if head.startswith(MAGIC) else pa.ipc.open_stream(data)
        table = reader.read_all()
        # Checks offsets, lengths and indices, so no later step can read outside of a buffer.
        table.validate(full=True)
        # Names are decoded only when asked for.
        _ = table.column_names
    except ARROW_ERRORS as error:
        raise InputError(f"{where}: {_explain(data, head, error)}") from None
    return table


def _explain(data: pa.Buffer, head: bytes, error: BaseException) -> str:
    """Say what is wrong with damaged bytes, and up to where they are whole."""
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    found = scan(io.BufferedReader(pa.BufferReader(data)))
    if not found.messages:
        if head.startswith(MAGIC):
            return f"is cut off or damaged at byte {found.end}, before its first rows ({reason})"
        return f"is no Arrow IPC file: begins with {head!r} (fabricsim convert reads other formats)"
    whole = f"{found.batches} whole batches with {found.rows} rows up to byte {found.end} of {found.size}"
    hint = ": `fabricsim repair` saves them" if found.batches else ""
    return f"is cut off or damaged ({reason}); {whole}{hint}"
