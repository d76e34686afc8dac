"""Perfetto traces: a process for each rank, a track for each stream, arrows from sends, counters of links.

Source: protos/perfetto/trace/track_event of the Perfetto project, and its guide to synthetic track events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fabricsim.errors import ConfigError, EngineError, Problem
from fabricsim.report.network import links_of, samples_of
from fabricsim.report.sample import Sample, sample, sample_of
from fabricsim.result import Result

__all__ = ["PerfettoTrace", "write_perfetto"]

#: Slices at most, where no ranks are named; counters of links, and values of each, at most.
MOST_SLICES, MOST_COUNTERS, MOST_VALUES = 500_000, 32, 20_000

# Of the protocol: kinds of events, and what a packet says of the state that names are interned in.
_BEGIN, _END, _COUNTER = 1, 2, 4
_CLEARED, _NEEDED = 1, 2
_SEQUENCE = 1

# Numbers of tracks: links first, then ranks.
_LINKS_TRACK, _FIRST_TRACK = 1, 1000


@dataclass(frozen=True, kw_only=True)
class PerfettoTrace:
    """What was written: ranks of so many, slices, arrows from sends to receives, counters of links."""

    ranks: int
    of_ranks: int
    slices: int
    arrows: int
    counters: int


def write_perfetto(result: Result, path: str | Path, ranks: Sequence[int] | None = None) -> PerfettoTrace:
    """Write a result as a Perfetto trace, to open in ui.perfetto.dev.

    Parameters
    ----------
    result
        Of a replay.
    path
        The file; one that exists is replaced.
    ranks
        The ranks to write; by default all, or so many, evenly spread, that slices stay below half a million.

    Returns
    -------
    PerfettoTrace
        What is in it. Times are whole nanoseconds, as the format has them; the arguments of a slice tell the
        picoseconds.

    Raises
    ------
    ConfigError
        When a rank is not there, or perfetto is not installed (``pip install 'fabricsim[perfetto]'``).
    EngineError
        When the file cannot be written.
    """
    protocol = _protocol()
    chosen = _chosen(result, ranks)
    try:
        with Path(path).open("wb") as file:
            return _Writer(protocol, file).write(result, chosen)
    except OSError as error:
        raise EngineError(f"{path}: cannot be written: {error.strerror or error}") from error


def _protocol() -> Any:
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2
    except ImportError as error:
        raise ConfigError(["a Perfetto trace needs perfetto: pip install 'fabricsim[perfetto]'"]) from error
    return perfetto_trace_pb2


def _chosen(result: Result, ranks: Sequence[int] | None) -> Sample:
    if ranks is None:
        return sample(result, most_ranks=result.ranks.num_rows, most_rows=MOST_SLICES).even()
    n_ranks = result.ranks.num_rows
    wrong = sorted({rank for rank in ranks if not 0 <= rank < n_ranks})
    if wrong:
        allowed = f"allowed: 0 to {n_ranks - 1}"
        raise ConfigError([Problem("ranks", f"found {rank}, {allowed}") for rank in wrong])
    return sample_of(result, np.unique(np.array(ranks, np.int64)))


class _Writer:
    """Packets of one sequence, one after another."""

    def __init__(self, protocol: Any, file: IO[bytes]) -> None:
        self.protocol, self.file = protocol, file

    def write(self, result: Result, ops: Sample) -> PerfettoTrace:
        names = self._begin(ops)
        tracks, track = self._tracks(result, ops)
        send, receive = _arrows(result, ops)
        self._slices(ops, names, tracks[track], send, receive)
        counters = self._counters(result)
        return PerfettoTrace(
            ranks=len(ops.ranks),
            of_ranks=ops.n_ranks,
            slices=len(ops.start),
            arrows=int(np.count_nonzero(send)),
            counters=counters,
        )

    def _packet(self, **fields: Any) -> Any:
        return self.protocol.TracePacket(trusted_packet_sequence_id=_SEQUENCE, **fields)

    def _put(self, packet: Any) -> None:
        # A trace is its packets one after another, each as field 1 of the whole.
        data = packet.SerializeToString()
        length, size = bytearray(), len(data)
        while size > 127:
            length.append(size & 127 | 128)
            size >>= 7
        length.append(size)
        self.file.write(b"\x0a" + length + data)

    def _begin(self, ops: Sample) -> np.ndarray:
        """Write the names of slices once, and return the number of each operation's."""
        words: dict[str, int] = {}
        count = len(ops.kinds)
        pairs = np.unique(ops.name * count + ops.kind)
        number = np.zeros(len(pairs), np.int64)
        for at, pair in enumerate(pairs.tolist()):
            name, kind = divmod(pair, count)
            text = ops.names[name] if name >= 0 else ops.kinds[kind]
            number[at] = words.setdefault(text, len(words) + 1)
        packet = self._packet(sequence_flags=_CLEARED)
        for text, iid in words.items():
            packet.interned_data.event_names.add(iid=iid, name=text)
        for iid, text in enumerate(ops.kinds, 1):
            packet.interned_data.event_categories.add(iid=iid, name=text)
        for text, iid in _ARGUMENTS.items():
            packet.interned_data.debug_annotation_names.add(iid=iid, name=text)
        self._put(packet)
        return number[np.searchsorted(pairs, ops.name * count + ops.kind)]

    def _tracks(self, result: Result, ops: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Describe the ranks and their streams; return the tracks, and which of them each operation is on."""
        ranks = result.ranks
        hosts = ranks["host"].to_pylist() if "host" in ranks.column_names else None
        uuid = _FIRST_TRACK
        process = {}
        for rank in ops.ranks.tolist():
            packet = self._packet()
            found = packet.track_descriptor
            found.uuid, process[rank] = uuid, uuid
            # Process 0 is the idle one in the viewer.
            found.process.pid = rank + 1
            found.process.process_name = f"rank {rank}" + (f" on {hosts[rank]}" if hosts else "")
            self._put(packet)
            uuid += 1
        keys, which = np.unique(np.stack([ops.rank, ops.stream, _lanes(ops)]), axis=1, return_inverse=True)
        tracks = np.arange(keys.shape[1]) + uuid
        for track, (rank, stream, lane) in zip(tracks.tolist(), keys.T.tolist(), strict=True):
            packet = self._packet()
            packet.track_descriptor.uuid, packet.track_descriptor.parent_uuid = track, process[rank]
            name = f"stream {stream}" if stream >= 0 else "operations"
            packet.track_descriptor.name = name if lane == 0 else f"{name} ({lane + 1})"
            self._put(packet)
        return tracks, which.reshape(-1)

    def _slices(
        self, ops: Sample, names: np.ndarray, track: np.ndarray, send: np.ndarray, receive: np.ndarray
    ) -> None:
        columns = (
            ops.start,
            ops.end,
            names,
            track,
            ops.kind,
            ops.id,
            ops.size,
            ops.step,
            ops.count,
            ops.group,
        )
        order = np.lexsort((ops.start, track))  # the slices of a track in order: ends before begins
        rows = zip(*(column[order].tolist() for column in (*columns, send, receive)), strict=True)
        for start, end, name, on, kind, id_, size, step, count, group, out, into in rows:
            packet = self._packet(timestamp=start // 1000, sequence_flags=_NEEDED)
            event = packet.track_event
            event.type, event.track_uuid, event.name_iid = _BEGIN, on, name
            event.category_iids.append(kind + 1)
            note = event.debug_annotations.add
            values = (id_, size, start, end - start, step, count, group)
            for (argument, iid), value in zip(_ARGUMENTS.items(), values, strict=True):
                if value > _LEAST.get(argument, -1):
                    note(name_iid=iid, int_value=value)
            if out:
                event.flow_ids.append(out)
            self._put(packet)
            packet = self._packet(timestamp=end // 1000, sequence_flags=_NEEDED)
            event = packet.track_event
            event.type, event.track_uuid = _END, on
            if into:  # a receive may have begun before the send: the arrow leads to its end
                event.terminating_flow_ids.append(into)
            self._put(packet)

    def _counters(self, result: Result) -> int:
        """Write how much the busiest links were in use over time; return how many."""
        samples = samples_of(result, MOST_VALUES)
        if samples is None:
            return 0
        links = links_of(result)
        busy = links.columns["busy_ps"]
        top = np.argsort(-busy, kind="stable")[:MOST_COUNTERS]
        top = top[busy[top] > 0]
        packet = self._packet()
        packet.track_descriptor.uuid, packet.track_descriptor.name = _LINKS_TRACK, "links in use"
        self._put(packet)
        use = samples.use(links, top)
        for at, link in enumerate(top.tolist()):
            packet = self._packet()
            track = packet.track_descriptor
            track.uuid, track.parent_uuid, track.name = _LINKS_TRACK + 1 + at, _LINKS_TRACK, links.name(link)
            track.counter.unit_name = "%"
            self._put(packet)
            percent = np.append(np.round(100 * use[at], 3), 0)
            for piece in np.flatnonzero(np.diff(percent, prepend=-1)).tolist():
                packet = self._packet(timestamp=int(samples.edges[piece]) // 1000)
                packet.track_event.type, packet.track_event.track_uuid = _COUNTER, _LINKS_TRACK + 1 + at
                packet.track_event.double_counter_value = float(percent[piece])
                self._put(packet)
        return len(top)


#: Arguments of a slice and their numbers, and the values up to which some are left out.
_ARGUMENTS = {"id": 1, "bytes": 2, "start_ps": 3, "duration_ps": 4, "step": 5, "count": 6, "group": 7}
_LEAST = {"bytes": 0, "count": 1, "group": 0}


def _lanes(ops: Sample) -> np.ndarray:
    """Return for each operation a lane of its stream in which it overlaps no other: nearly always 0."""
    lane = np.zeros(len(ops.start), np.int64)
    new = np.ones(len(ops.start), bool)
    new[1:] = (np.diff(ops.rank) != 0) | (np.diff(ops.stream) != 0)
    first = np.append(np.flatnonzero(new), len(new))
    for low, high in zip(first[:-1].tolist(), first[1:].tolist(), strict=True):
        start, end = ops.start[low:high], ops.end[low:high]
        if (start[1:] >= np.maximum.accumulate(end)[:-1]).all():
            continue
        free: list[int] = []
        for at, (begins, ends) in enumerate(zip(start.tolist(), end.tolist(), strict=True), low):
            mine = next((number for number, until in enumerate(free) if until <= begins), len(free))
            free[mine : mine + 1] = [ends]
            lane[at] = mine
    return lane


def _arrows(result: Result, ops: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the arrow that leaves from, and of that which leads to each operation; 0: none."""
    flows = result.flows
    out, into = np.zeros(len(ops.start), np.int64), np.zeros(len(ops.start), np.int64)
    if "recv" not in flows.column_names:
        return out, into
    ranks = pa.array(ops.ranks, pa.int32())
    both: Callable[..., pa.ChunkedArray] = pc.and_
    wanted = both(pc.is_in(flows["src"], ranks), pc.is_in(flows["dst"], ranks))
    flows = flows.filter(both(wanted, both(flows["recv"].is_valid(), flows["end_ps"].is_valid())))
    if not flows.num_rows:
        return out, into
    ends = [
        ops.rows_of(flows[operation].to_numpy(), flows[rank].to_numpy())
        for operation, rank in (("id", "src"), ("recv", "dst"))
    ]
    known = (ends[0] >= 0) & (ends[1] >= 0)
    number = np.arange(1, int(known.sum()) + 1)
    out[ends[0][known]], into[ends[1][known]] = number, number
    return out, into
