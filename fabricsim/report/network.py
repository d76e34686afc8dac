"""The links of a result by the tiers that they join, and their samples over time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fabricsim.analysis.columns import column
from fabricsim.result import Result

__all__ = ["LinkClass", "Links", "Samples", "links_of", "samples_of"]

#: Classes of links, and pieces of time, at most.
MOST_CLASSES, MOST_PIECES = 14, 240

_NUMBERS = re.compile(r"[\d#()\[\],]+")


@dataclass(frozen=True)
class LinkClass:
    """The links from one kind of node to another, such as those from hosts up to leaves."""

    name: str
    links: np.ndarray


@dataclass(frozen=True, eq=False)
class Links:
    """The links of a run: columns by name, one element a directed link, and their classes, hosts first."""

    names: pa.ChunkedArray
    columns: dict[str, np.ndarray]
    classes: tuple[LinkClass, ...]
    left_out: int

    def name(self, link: int) -> str:
        """Return the name of a link."""
        return str(self.names[link].as_py())

    def __len__(self) -> int:
        return len(self.columns["bytes"])


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of links: ``edges`` of pieces of time (one more than pieces), ps, and the piece of each sample.

    ``values`` are the columns of the series, one element a sample.
    """

    edges: np.ndarray
    piece: np.ndarray
    link: np.ndarray
    values: dict[str, np.ndarray]

    def sums(self, name: str, group: np.ndarray, groups: int) -> np.ndarray:
        """Return the sum of a column by group of its link (-1: none) and piece: groups x pieces."""
        pieces = len(self.edges) - 1
        of_link = group[self.link]
        mine = of_link >= 0
        flat = of_link[mine] * pieces + self.piece[mine]
        sums = np.bincount(flat, weights=self.values[name][mine], minlength=groups * pieces)
        return sums.reshape(groups, pieces)

    def use(self, links: Links, chosen: np.ndarray) -> np.ndarray:
        """Return the share of each piece in which each of some links was in use: links x pieces, 0 to 1.

        A packet counts when it joins a queue: what does not fit into a piece is on the wire after it.
        """
        row = np.full(len(links), -1, np.int64)
        row[chosen] = np.arange(len(chosen))
        arrived = self.sums("bytes", row, len(chosen))
        # Rates in Mb/s are bits a microsecond.
        room = links.columns["rate_mbps"][chosen, None] * np.diff(self.edges) / 8e6
        waiting = np.zeros(len(chosen))
        for piece in range(arrived.shape[1]):
            total = waiting + arrived[:, piece]
            arrived[:, piece] = np.minimum(total, room[:, piece])
            waiting = total - arrived[:, piece]
        return arrived / room


def links_of(result: Result) -> Links:
    """Read the links and put them into classes by network, tiers and kinds of their nodes."""
    table = result.links
    names = ("rate_mbps", "bytes", "busy_ps", "ecn_marks", "drops", "pauses", "paused_ps", "max_queue_bytes")
    columns: dict[str, Any] = {name: column(table, name) for name in names}
    columns["utilisation"] = table["utilisation"].to_numpy()
    kinds = [_kinds(table[name]) for name in ("src", "dst")]
    has_tiers = "src_tier" in table.column_names
    zero = np.zeros(table.num_rows, np.int64)
    tiers = [column(table, f"{end}_tier") if has_tiers else zero for end in ("src", "dst")]
    scale_up = zero
    if has_tiers:
        scale_up = (table["network"].cast(pa.string()).to_numpy() == "scale_up").astype(np.int64)
    low, high = np.minimum(*tiers), np.maximum(*tiers)
    words = [text for _, found in kinds for text in found]
    codes = [kinds[0][0], kinds[1][0] + len(kinds[0][1])]
    # Scale-out before scale-up; from the hosts up; up before down.
    keys, which = np.unique(np.stack([scale_up, low, high, tiers[0], *codes]), axis=1, return_inverse=True)
    which = which.reshape(-1)
    many = np.bincount(which)
    order = np.argsort(-many, kind="stable")[:MOST_CLASSES] if len(many) > MOST_CLASSES else range(len(many))
    classes = []
    for at in sorted(int(index) for index in order):
        up, _, _, _, source, target = keys[:, at].tolist()
        name = f"{words[source]} → {words[target]}" + (" (scale-up)" if up else "")
        classes.append(LinkClass(name, np.flatnonzero(which == at)))
    return Links(table["link"], columns, tuple(classes), len(many) - len(classes))


def _kinds(names: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return the kind of each node, from its name without numbers and places: ``gpu`` of ``node3.gpu1``."""
    array = names.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    encoded = array.dictionary_encode()
    found: dict[str, int] = {}
    codes = []
    for name in encoded.dictionary.to_pylist():
        parts = [part for part in _NUMBERS.sub("", name).split(".") if part]
        codes.append(found.setdefault(parts[-1] if parts else "node", len(found)))
    return np.array(codes, np.int64)[encoded.indices.to_numpy()], list(found)


def samples_of(result: Result, most_pieces: int = MOST_PIECES) -> Samples | None:
    """Read the samples, in so many pieces of time at most; None where none were recorded."""
    series = result.series
    if series is None or not series.num_rows:
        return None
    time = column(series, "time_ps")
    times = np.unique(time)
    # Samples are taken at multiples of a period, but where nothing happened, and at the end.
    period = int(np.diff(times, prepend=0).min())
    if len(times) > 1:
        period = int(np.gcd.reduce(times[:-1])) or period
    starts = np.maximum(np.concatenate([[0], times[:-1]]), times - period)
    edges = np.unique(np.concatenate([[0], starts, times]))
    if len(edges) > most_pieces + 1:
        end = int(times[-1])
        width = -(-end // (most_pieces * period)) * period
        edges = np.append(np.arange(0, end, width), end)
    piece = np.searchsorted(edges, time - 1, side="right") - 1
    names = ("bytes", "packets", "ecn_marks", "paused_ps", "max_queue_bytes")
    values = {name: column(series, name) for name in names}
    return Samples(edges, np.clip(piece, 0, len(edges) - 2), column(series, "link"), values)
