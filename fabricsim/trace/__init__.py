"""Traces: what ranks do, as an Arrow table whose rows are operations of sets of ranks.

This is the one door of the room: everything that other rooms use is here.
"""

from fabricsim.trace.files import FileTable, make_files
from fabricsim.trace.lower import lower
from fabricsim.trace.read import read_arrow, read_trace
from fabricsim.trace.repair import RepairReport, repair
from fabricsim.trace.schema import (
    COLLECTIVES,
    COLUMNS,
    KIND_CODE,
    KINDS,
    LOWERED_GROUPS,
    LOWERED_SCHEMA,
    LOWERED_STORAGE,
    POINT_TO_POINT,
    SCHEMA_VERSION,
    STORAGE,
    TRACE_SCHEMA,
)
from fabricsim.trace.table import Trace, TraceWarning
from fabricsim.trace.usage import storage_usage
from fabricsim.trace.validate import validate
from fabricsim.trace.write import TraceWriter, make_provenance, write_trace

__all__ = [
    "COLLECTIVES",
    "COLUMNS",
    "KINDS",
    "KIND_CODE",
    "LOWERED_GROUPS",
    "LOWERED_SCHEMA",
    "LOWERED_STORAGE",
    "POINT_TO_POINT",
    "SCHEMA_VERSION",
    "STORAGE",
    "TRACE_SCHEMA",
    "FileTable",
    "RepairReport",
    "Trace",
    "TraceWarning",
    "TraceWriter",
    "lower",
    "make_files",
    "make_provenance",
    "read_arrow",
    "read_trace",
    "repair",
    "storage_usage",
    "validate",
    "write_trace",
]
