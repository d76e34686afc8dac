"""The links of a result as text, a line a directed link, laid out as ``iblinkinfo -l`` prints a fabric.

Source: iblinkinfo of infiniband-diags (rdma-core). Numbers of ports count the cables of a node in order;
GUIDs and LIDs are made up, from the order of the nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fabricsim.analysis.columns import column
from fabricsim.result import Result
from fabricsim.units import format_bytes, format_time

__all__ = ["iblinkinfo"]

#: GUIDs count from here.
_GUID = 0x00FA_B000_0000_0000

#: Mb/s of a port -> its width, and Gb/s of a lane as the tool writes it. Other rates are of one lane.
_SPEEDS = {
    10_000: ("4X", "2.5"),
    20_000: ("4X", "5.0"),
    25_000: ("1X", "25.78125"),
    40_000: ("4X", "10.0"),
    50_000: ("1X", "53.125"),
    56_000: ("4X", "14.0625"),
    100_000: ("4X", "25.78125"),
    200_000: ("4X", "53.125"),
    400_000: ("4X", "106.25"),
    800_000: ("4X", "212.5"),
}


def iblinkinfo(result: Result) -> Iterator[str]:
    """Yield a line for each directed link, without a line's end: its two ends, width, speed, state and use.

    The last brackets, in which the tool warns of links that are slower than they could be, tell the use.

    >>> import fabricsim
    >>> from fabricsim.workload import collective
    >>> trace = collective("all_reduce", size_bytes=1 << 20, n_ranks=8)
    >>> result = fabricsim.replay(trace, "demo-64-400g-roce")
    >>> next(iblinkinfo(result)).split()[:8]
    ['0x00fab00000000000', '"', 'host0"', '1', '1[', ']', '==(', '4X']
    """
    links = result.links
    src, dst = links["src"].to_pylist(), links["dst"].to_pylist()
    number = {name: at for at, name in enumerate(dict.fromkeys(src))}
    ends = np.array([[number[a], number[b]] for a, b in zip(src, dst, strict=True)], np.int64).reshape(-1, 2)
    # Links come in pairs, a cable each: both have the port of the cable at either end.
    ports = np.zeros_like(ends)
    used = np.zeros(len(number), np.int64)
    for link in range(0, len(ends), 2):
        a, b = ends[link]
        used[a] += 1
        used[b] += 1
        ports[link] = used[a], used[b]
        ports[link + 1] = used[b], used[a]
    wanted = ("rate_mbps", "bytes", "ecn_marks", "drops", "paused_ps", "down_ps")
    values = {name: column(links, name) for name in wanted}
    use = links["utilisation"].to_numpy()
    order = np.lexsort((ports[:, 0], ends[:, 0]))
    for link in order.tolist():
        (a, b), (port, other) = ends[link].tolist(), ports[link].tolist()
        rate = int(values["rate_mbps"][link])
        width, lane = _SPEEDS.get(rate, ("1X", f"{rate / 1000:g}"))
        told = [f"in use {100 * use[link]:.1f} %", format_bytes(int(values["bytes"][link]))]
        told += [
            f"{words} {show(int(values[name][link]))}" for name, words, show in _MORE if values[name][link]
        ]
        yield (
            f'0x{_GUID + a:016x} "{src[link]:>30}" {a + 1:6d} {port:4d}[  ] =={_state(width, lane)}==>'
            f'  0x{_GUID + b:016x} {b + 1:6d} {other:4d}[  ] "{dst[link]}" ({", ".join(told)})'
        )


_MORE = (
    ("ecn_marks", "ECN marks", str),
    ("drops", "drops", str),
    ("paused_ps", "paused", format_time),
    ("down_ps", "down", format_time),
)


def _state(width: str, lane: str) -> str:
    return f"({width:>3} {lane + ' Gbps':>18} {'Active':>6}/{'LinkUp':>8})"
