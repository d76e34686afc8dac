"""Measures what a message takes alone on an idle fabric, by its bytes: once for each shape of path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fabricsim.fidelity.stepping import step_to
from fabricsim.trace.schema import KIND_CODE

if TYPE_CHECKING:
    from fabricsim.program import Program

__all__ = ["Curve", "measure_curve"]

#: Messages of 1 byte, one packet, two, four and so on: the first run has so many of them.
FIRST_SIZES = 12
#: From here on time grows in proportion: successive slopes differ by no more than this share.
STEADY = 0.001


@dataclass(frozen=True)
class Curve:
    """Time of a message by its bytes: straight between the measured sizes, and on beyond them.

    Parameters
    ----------
    bytes, time_ps
        int64[n], rising sizes, at least two, and from start to delivery.
    packet_hops
        What the measurement took.
    error
        By how much the last two slopes differ, as a share.
    """

    bytes: npt.NDArray[np.int64]
    time_ps: npt.NDArray[np.int64]
    packet_hops: int
    error: float

    def time_of(self, size: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return picoseconds from the start of messages to their delivery."""
        inside = np.interp(size, self.bytes, self.time_ps)
        slope = (self.time_ps[-1] - self.time_ps[-2]) / (self.bytes[-1] - self.bytes[-2])
        beyond = self.time_ps[-1] + (size - self.bytes[-1]) * slope
        return np.ceil(np.where(size > self.bytes[-1], beyond, inside)).astype(np.int64)


def measure_curve(
    program: Program, pair: tuple[int, int], priority: int, mtu: int, most_bytes: int, seed: int
) -> Curve:
    """Emulate messages of growing size between two ranks until the time grows in proportion.

    Parameters
    ----------
    program
        Whose fabric and places of ranks it is.
    pair
        Ranks that send and receive.
    priority
        Data class of the messages.
    mtu
        Payload of a packet, bytes.
    most_bytes
        Sizes beyond the first one that is larger are of no use.
    """
    sizes, times, hops = np.empty(0, np.int64), np.empty(0, np.int64), 0
    for more in _sizes(mtu, most_bytes):
        took, crossed = _emulate(program, pair, priority, more, seed)
        sizes, times, hops = np.append(sizes, more), np.append(times, took), hops + crossed
        slopes = np.diff(times[1:]) / np.diff(sizes[1:])
        apart = np.abs(np.diff(slopes[-3:])) / slopes[-1] if len(slopes) > 2 else np.array([np.inf])
        if apart.max() <= STEADY:
            break
    error = float(apart.max()) if sizes[-1] < most_bytes else 0.0
    return Curve(sizes, times, hops, error if np.isfinite(error) else 0.0)


def _sizes(mtu: int, most: int) -> Iterator[list[int]]:
    """Return the sizes of each run: many small ones at once, then twice the last until it is large enough."""
    first = [1, *(mtu << power for power in range(FIRST_SIZES - 1))]
    yield first
    size = first[-1]
    while size < most:
        size *= 2
        yield [size]


def _emulate(
    program: Program, pair: tuple[int, int], priority: int, sizes: list[int], seed: int
) -> tuple[list[int], int]:
    """Return the time of each message, one sent after the other, and the packet-hops."""
    from fabricsim._core import engine

    schema = program.expansion.table.schema
    rows: list[dict[str, Any]] = []
    for index, size in enumerate(sizes):
        both = {"bytes": size, "tag": index, "priority": priority, "stream": 0}
        rows.append(_row(schema, KIND_CODE["send"], pair[0], pair[1], both | {"id": 2 * index}))
        rows.append(_row(schema, KIND_CODE["recv"], pair[1], pair[0], both | {"id": 2 * index + 1}))
    own = engine.Program(
        program.model.engine,
        pa.Table.from_pylist(rows, schema=schema),
        rank_host=program.rank_host,
    )
    run = engine.Run(program.model.engine, own, seed=seed)
    step_to(run)
    sends = run.sends()
    taken = sends["delivered_ps"] - sends["start_ps"]
    return taken[np.argsort(sends["row"])].tolist(), int(run.counters()["packet_hops"])


def _row(schema: pa.Schema, kind: int, rank: int, peer: int, more: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {field.name: [] if pa.types.is_list(field.type) else 0 for field in schema}
    if "count" in empty:
        empty["count"] = 1
    return empty | {"kind": kind, "ranks": [rank], "peer": [peer], "variant": -1} | more
