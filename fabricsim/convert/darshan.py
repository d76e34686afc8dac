"""Imports the extended traces (DXT) of Darshan logs: every read and write of a run, with its place and times.

DXT_POSIX alone is replayed, because DXT_MPIIO holds the calls that led to the same system calls. A segment is
a row that waits for the one of its rank that ended last before it began, and the time between the two is its
delay. Opens and closes are not in DXT: one each is made around the segments of a rank and file.

Darshan: Carns et al., "24/7 Characterization of Petascale I/O Workloads", 2009; DXT: Xu et al., "DXT: Darshan
eXtended Tracing", CUG 2017.
"""

from __future__ import annotations

import importlib.util
import io
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim.convert import ConvertReport
from fabricsim.convert._captures import LIMIT, MAX_RANKS, Notes, fail
from fabricsim.convert._darshan_log import META, NO_PACKAGE
from fabricsim.convert._darshan_rows import Rows, merge
from fabricsim.errors import ConfigError, unknown_name
from fabricsim.trace import Trace, make_provenance
from fabricsim.trace.files import normal_path
from fabricsim.trace.paths import escape

_MAGIC = 6567223  # of Darshan's log header, behind 8 bytes of version
_TIMES = ("keep", "none")
_ENABLE = "DARSHAN_MOD_ENABLE=DXT_POSIX (older Darshan: DXT_ENABLE_IO_TRACE=1)"

Ints = npt.NDArray[np.int64]


def sniff(path: Path) -> bool:
    """Tell whether the file has the header of a Darshan log."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return len(head) == 16 and _MAGIC in (int.from_bytes(head[8:], order) for order in ("little", "big"))


def convert(path: Path, *, under: str = "/", times: str = "keep") -> ConvertReport:
    """Import the reads and writes of a Darshan log.

    Parameters
    ----------
    path
        The log of a run in which DXT was on.
    under
        Only files in this folder count, such as the mount of the parallel file system.
    times
        ``keep``: each operation has its measured times, and begins as long after the one before as it did.
        ``none``: as fast as storage allows; operations that ranks do alike become one row.

    Raises
    ------
    ConfigError
        When the package darshan is missing, or an option has no meaning.
    InputError
        When the log is damaged, or has no DXT.
    """
    if times not in _TIMES:
        raise ConfigError(f"times: {unknown_name('choice', times, _TIMES)}")
    where = str(path)
    table, log = _read(path)
    if "DXT_POSIX" not in log["modules"]:
        found = ", ".join(log["modules"]) or "none"
        raise fail(where, f"found no DXT (modules: {found}), allowed: a log of a run with {_ENABLE}")
    notes = Notes()
    if log.get("partial"):
        notes.warn("the log is incomplete: Darshan ran out of memory for DXT (DARSHAN_MODMEM raises it)")
    segments = _segments(table, where, under, notes)
    rows = _rows(segments, log["syncs"], times == "keep", notes)
    if times == "none":
        rows = merge(rows)
    provenance = make_provenance("convert darshan", source=path, under=under, times=times)
    counts = {
        "segments": len(segments.rank),
        "rows": len(rows.kind),
        "files": len(np.unique(segments.file)),
        "ranks": len(np.unique(segments.rank)),
        "processes": int(log["job"].get("nprocs", 0)),
        "hosts": int(log["hosts"]),
    }
    return ConvertReport(Trace(rows.table(provenance), where), notes.warnings(), counts)


def _read(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Let a program of its own read the log, because Darshan's library may fall over a damaged one."""
    if importlib.util.find_spec("darshan") is None:
        raise ConfigError("Darshan logs need the package darshan: pip install 'fabricsim[darshan]'")
    script = Path(__file__).with_name("_darshan_log.py")
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(path)], stdin=subprocess.DEVNULL, capture_output=True
    )
    said = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    if done.returncode == NO_PACKAGE:
        raise ConfigError(f"the package darshan cannot be used: {said[-1] if said else 'no reason given'}")
    # A log that is cut off inside a module is told on standard error alone.
    errors = [line for line in said if line.startswith("Error")]
    if done.returncode or errors:
        reason = (errors or said or [""])[-1]
        if done.returncode < 0:
            stop = signal.strsignal(-done.returncode) or f"signal {-done.returncode}"
            reason = f"{stop}: {reason}" if reason else stop
        raise fail(str(path), f"is damaged, or no log that Darshan's library reads ({reason})")
    try:
        with pa.ipc.open_stream(io.BytesIO(done.stdout)) as reader:
            table = reader.read_all()
        return table, json.loads((table.schema.metadata or {})[META])
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise fail(str(path), f"could not be read by Darshan's library ({error})") from None


@dataclass(frozen=True)
class _Segments:
    """Reads and writes in the order of their start, then end, then rank; ``names`` by number of the file."""

    file: Ints
    rank: Ints
    is_write: npt.NDArray[np.bool_]
    offset: Ints
    length: Ints
    start_ps: Ints
    end_ps: Ints
    names: list[str]


def _segments(table: pa.Table, where: str, under: str, notes: Notes) -> _Segments:
    found = table.combine_chunks()
    file = found["file"].chunk(0) if found.num_rows else pa.array([], found.schema.field("file").type)
    names = file.dictionary.to_pylist()
    number = file.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    folder = normal_path(under)
    unnamed = np.array([not name.startswith("/") for name in names], bool)
    outside = ~unnamed & np.array([not _is_under(name, folder) for name in names], bool)
    for text, mine in (("without a path", unnamed), (f"outside {folder}", outside)):
        if mine[number].any():
            notes.count(f"segments of files {text} left out", int(mine[number].sum()))
    keep = ~(unnamed | outside)[number]
    number = number[keep]
    columns = {name: found[name].to_numpy()[keep] for name in found.column_names[1:]}
    offset, length = columns["offset"].astype(np.int64), columns["length"].astype(np.int64)
    start, end = columns["start_s"].astype(np.float64), columns["end_s"].astype(np.float64)
    bad = ~(np.isfinite(start) & np.isfinite(end)) | (np.maximum(start, end) * 1e12 >= LIMIT)
    rank = columns["rank"].astype(np.int64)
    bad |= (rank < 0) | (rank >= MAX_RANKS)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        text = f"found a segment of rank {rank[first]} from {start[first]} s to {end[first]} s"
        raise fail(where, f"{text}, allowed: times below {LIMIT / 1e12:.0f} s, ranks 0 to {MAX_RANKS - 1}")
    sound = (offset >= 0) & (length >= 0) & (offset.astype(np.float64) + length < LIMIT)
    if not sound.all():
        notes.count("segments of a negative or impossible place left out", int((~sound).sum()))
    early = sound & (start < 0)
    if early.any():
        notes.count("segments that begin before the job taken to begin with it", int(early.sum()))
    start_ps = np.rint(np.maximum(start, 0) * 1e12).astype(np.int64)
    end_ps = np.rint(end * 1e12).astype(np.int64)
    backward = sound & (end_ps < start_ps)
    if backward.any():
        notes.count("segments that end before they begin taken to need no time", int(backward.sum()))
    end_ps = np.maximum(start_ps, end_ps)
    order = np.lexsort((rank, end_ps, start_ps))
    order = order[sound[order]]
    if len(order) == 0:
        raise fail(where, f"found no reads and writes of files in {folder}, allowed: at least one")
    return _Segments(
        number[order],
        rank[order],
        columns["is_write"].astype(bool)[order],
        offset[order],
        length[order],
        start_ps[order],
        end_ps[order],
        names,
    )


def _is_under(name: str, folder: str) -> bool:
    return folder == "/" or name == folder or name.startswith(folder + "/")


def _before(segments: _Segments) -> Ints:
    """Return which segment of its rank ended last before each began, -1 for none."""
    before = np.full(len(segments.rank), -1, np.int64)
    by_rank = np.argsort(segments.rank, kind="stable")
    cuts = np.flatnonzero(np.diff(segments.rank[by_rank])) + 1
    for mine in np.split(by_rank, cuts):
        start, end = segments.start_ps[mine], segments.end_ps[mine]
        by_end = np.argsort(end, kind="stable")
        at = np.searchsorted(end[by_end], start, side="right") - 1
        # Of segments that begin and end in one instant, each follows the one in front.
        instant = start == end
        run = np.cumsum(np.append(True, ~(instant[1:] & instant[:-1] & (start[1:] == start[:-1]))))
        last = np.searchsorted(run, run, side="right") - 1
        at -= np.where(instant, last - np.arange(len(mine)) + 1, 0)
        before[mine] = np.where(at >= 0, mine[by_end[np.maximum(at, 0)]], -1)
    return before


def _rows(segments: _Segments, syncs: list[tuple[str, int, int]], timed: bool, notes: Notes) -> Rows:
    """Make the rows: an open in front of the first segment of a rank and file, a close behind the last."""
    n = len(segments.rank)
    place = segments.rank * len(segments.names) + segments.file
    _, first, which = np.unique(place, return_index=True, return_inverse=True)
    last = np.zeros(len(first), np.int64)
    last[which] = np.arange(n)  # the last one written stays
    is_synced = _synced(segments, first, which, syncs, notes)
    # Four places in the order of rows for each segment: open, itself, fsync, close.
    spots = [4 * first, 4 * np.arange(n) + 1, 4 * last[is_synced] + 2, 4 * last + 3]
    ids = np.searchsorted(np.sort(np.concatenate(spots)), np.concatenate(spots))
    opens, own, fsyncs, closes = np.split(ids, np.cumsum([len(s) for s in spots])[:-1])
    rows = Rows(len(ids), [escape(name) for name in segments.names], timed)
    before = _before(segments)
    created = _created(segments)[segments.file[first]]
    is_first = np.zeros(n, bool)
    is_first[first] = True
    prior = np.where(before >= 0, own[before], -1)
    same = np.zeros(n, bool)
    same[before >= 0] = place[before[before >= 0]] == place[before >= 0]
    # A segment of a file in use beside another one waits for the open too.
    apart = np.flatnonzero(~same & ~is_first)
    free_ps = np.where(before >= 0, segments.end_ps[before], 0)
    free_ps[apart] = np.maximum(free_ps[apart], segments.start_ps[first[which[apart]]])
    delay = segments.start_ps - free_ps
    rows.put(opens, "open", segments.rank[first], segments.file[first], delay=delay[first], create=created)
    rows.put(own, "write", segments.rank, segments.file, delay=np.where(is_first, 0, delay))
    rows.kind[own[~segments.is_write]] = "read"
    rows.offset[own], rows.length[own] = segments.offset, segments.length
    rows.start_ps[own], rows.end_ps[own] = segments.start_ps, segments.end_ps
    rows.put(fsyncs, "fsync", segments.rank[last[is_synced]], segments.file[last[is_synced]])
    rows.put(closes, "close", segments.rank[last], segments.file[last])
    # What a row waits for: one pair each.
    rows.wait(opens, prior[first])
    rows.wait(own[first], opens)
    rest = np.flatnonzero(~is_first)
    rows.wait(own[rest], prior[rest])
    rows.wait(own[apart], opens[which[apart]])
    # The end of a file's use is after all that nothing else of it waits for.
    leaf = np.ones(n, bool)
    leaf[before[same]] = False
    ends = closes.copy()
    ends[is_synced] = fsyncs
    rows.wait(ends[which[leaf]], own[leaf])
    rows.wait(closes[is_synced], fsyncs)
    notes.count("opens and closes made, one each around the segments of a rank and file", len(first))
    return rows


def _synced(
    segments: _Segments, first: Ints, which: Ints, syncs: list[tuple[str, int, int]], notes: Notes
) -> npt.NDArray[np.bool_]:
    """Return for each rank and file whether its counters have an fsync; those of all ranks are one number."""
    wrote = np.zeros(len(first), bool)
    wrote[which[segments.is_write]] = True
    counts = {(name, rank): times for name, rank, times in syncs}
    found = np.zeros(len(first), bool)
    if counts:
        for at in np.flatnonzero(wrote).tolist():
            name, rank = segments.names[segments.file[first[at]]], int(segments.rank[first[at]])
            found[at] = (name, rank) in counts or (name, -1) in counts
    known = set(segments.names)
    counted = sum(times for (name, _), times in counts.items() if name in known)
    if counted:
        notes.warn(
            f"{counted} fsyncs are counted in the log without their times: "
            f"{int(found.sum())} made, each behind the last segment of a rank and file"
        )
    return found


def _created(segments: _Segments) -> npt.NDArray[np.bool_]:
    """Return for each file whether the run makes it: written first, and read no further than written."""
    count = len(segments.names)
    is_write, end = segments.is_write, segments.offset + segments.length
    first = np.zeros(count, np.int64)
    first[segments.file[::-1]] = np.arange(len(end))[::-1]
    read, written = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.maximum.at(read, segments.file[~is_write], end[~is_write])
    np.maximum.at(written, segments.file[is_write], end[is_write])
    made: npt.NDArray[np.bool_] = is_write[first] & (read <= written)
    return made
