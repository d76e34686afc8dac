"""Reads a Darshan log with Darshan's own library, as a program of its own: a damaged log can end only that.

``python -P _darshan_log.py LOG`` writes the segments of DXT_POSIX to standard output, an Arrow stream whose
schema has the rest as JSON. Nothing of fabricsim is imported.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pyarrow as pa

#: The key of the JSON in the metadata of the stream's schema.
META = b"log"
#: What the program ends with when the package darshan cannot be imported.
NO_PACKAGE = 5

SCHEMA = pa.schema(
    [
        pa.field("file", pa.dictionary(pa.int32(), pa.string())),
        pa.field("rank", pa.int32()),
        pa.field("is_write", pa.bool_()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
    ]
)


def _segments(report: Any) -> pa.Table:
    columns: dict[str, list[Any]] = {field.name: [] for field in SCHEMA}
    names: dict[int, int] = {}
    for record in report.records["DXT_POSIX"]:
        file = names.setdefault(record["id"], len(names))
        for key, is_write in (("write_segments", True), ("read_segments", False)):
            found = record[key]
            columns["file"] += [file] * len(found)
            columns["rank"] += [record["rank"]] * len(found)
            columns["is_write"] += [is_write] * len(found)
            for column, name in (("offset", "offset"), ("length", "length")):
                columns[column] += [segment[name] for segment in found]
            for column, name in (("start_s", "start_time"), ("end_s", "end_time")):
                columns[column] += [segment[name] for segment in found]
    words = pa.array([report.name_records[number] for number in names], pa.string())
    arrays = [pa.DictionaryArray.from_arrays(pa.array(columns["file"], pa.int32()), words)]
    arrays += [pa.array(columns[field.name], field.type) for field in list(SCHEMA)[1:]]
    return pa.table(arrays, schema=SCHEMA)


def _syncs(report: Any) -> list[tuple[str, int, int]]:
    """Return path, rank (-1: some of all) and how many fsyncs and fdatasyncs its counters have."""
    report.mod_read_all_records("POSIX", dtype="dict")
    found = []
    for record in report.records["POSIX"]:
        counters = record["counters"]
        times = sum(max(0, int(counters.get(name, 0))) for name in ("POSIX_FSYNCS", "POSIX_FDSYNCS"))
        if times and record["id"] in report.name_records:
            found.append((report.name_records[record["id"]], int(record["rank"]), times))
    return found


def main(path: str) -> int:
    # The library writes to standard output too: what belongs there goes through a copy.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        import darshan
    except ImportError as error:
        print(error, file=sys.stderr)
        return NO_PACKAGE
    report = darshan.DarshanReport(path, read_all=False)
    modules = {name: dict(entry) for name, entry in report.modules.items()}
    traced = "DXT_POSIX" in modules
    log: dict[str, Any] = {"modules": list(modules), "job": report.metadata["job"], "syncs": [], "hosts": 0}
    table = SCHEMA.empty_table()
    if traced:
        log["partial"] = bool(modules["DXT_POSIX"].get("partial_flag"))
        report.mod_read_all_dxt_records("DXT_POSIX")
        log["hosts"] = len({record["hostname"] for record in report.records["DXT_POSIX"]})
        table = _segments(report)
        if "POSIX" in modules:
            log["syncs"] = _syncs(report)
    schema = SCHEMA.with_metadata({META: json.dumps(log, default=str)})
    with out, pa.ipc.new_stream(out, schema) as writer:
        writer.write_table(table.cast(schema))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
