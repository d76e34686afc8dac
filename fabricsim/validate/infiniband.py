"""InfiniBand's links and switches against closed forms: credit loops, first in first out, a hot spot.

Sources: InfiniBand Architecture Specification, volume 1, chapter 7.9 (credits); Karol, Hluchyj and Morgan,
"Input versus output queueing on a space-division packet switch", IEEE Trans. Commun. 35(12), 1987; Pfister
and Norton, "Hot spot contention and combining in multistage interconnection networks", IEEE Trans. Computers
C-34(10), 1985.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fabricsim.validate import check
from fabricsim.validate._worlds import compile_star, start, uplinks
from fabricsim.workload.rows import Rows

_KAROL = "Karol, Hluchyj and Morgan, IEEE Trans. Commun. 1987, table I"
_PFISTER = "Pfister and Norton, IEEE Trans. Computers 1985: 1 / (1 + h (N - 1))"

_GBPS = 100
_PACKET = 4160  # on the wire: 65 blocks of 64 bytes
_PACKET_PS = _PACKET * 8000 // _GBPS
_PAYLOAD = 4096


def _star(hosts: int, switch: dict[str, Any], buffer_bytes: int, **link: Any) -> Any:
    return compile_star(
        hosts,
        f"{_GBPS}Gbps",
        "1us",
        switch={"model": "voq", **switch},
        link={"model": "credit", "vl_buffer_bytes": buffer_bytes, **link},
        transport={
            "model": "rc",
            "mtu_bytes": _PAYLOAD,
            "header_bytes": _PACKET - _PAYLOAD,
            "first_header_bytes": 0,
            "ack_every_count": 1024,
        },
        congestion_control={"model": "none"},
    )


def _into_hosts(model: Any) -> np.ndarray:
    """The directed link of each host from its switch."""
    return uplinks(model) ^ 1


# ---- a credit loop -----------------------------------------------------------------------------------

_LOOP_PACKETS = 4
_LOOP_PS = 2 * 1_000_000 + _PACKET_PS


@check(
    "Credit loop",
    configuration="one VL, buffer of 4 packets of 4160 B, loop of 2 us and a packet, 100 Gb/s: min(C, B/T)",
    published=min(_GBPS, _LOOP_PACKETS * _PACKET * 8000 / _LOOP_PS),
    unit="Gb/s",
    tolerance=0.005,
    source="InfiniBand Architecture Specification vol. 1, ch. 7.9",
    kind="first-principles",
)
def credit_loop() -> float:
    """A flow whose buffers hold less than the loop."""
    model = _star(2, {}, _LOOP_PACKETS * _PACKET)
    run = start(model, [(0, 1, 40_000_000, 0)])
    return _gbps(run, _into_hosts(model)[1:], 200_000_000, 2_200_000_000)


def _gbps(run: Any, links: np.ndarray, from_ps: int, until_ps: int) -> float:
    run.step(from_ps)
    before = run.links()["bytes"][links].sum()
    run.step(until_ps)
    return float(run.links()["bytes"][links].sum() - before) * 8000 / (until_ps - from_ps)


# ---- inputs that are first in, first out --------------------------------------------------------------


def _head_of_line(ports: int) -> float:
    """Saturated inputs, packets of one size in step, outputs drawn uniformly: load that the outputs carry.

    Senders are hosts of their own, so that acknowledgements do not cross the inputs that are measured.
    """
    slots = 40_000 // ports
    model = _star(2 * ports, {"input_queue": 1}, 1 << 27)
    rng = np.random.default_rng(7)
    outputs = rng.integers(0, ports, (slots, ports))
    work = [
        (sender, ports + int(outputs[slot, sender]), _PAYLOAD, slot * _PACKET_PS)
        for slot in range(slots)
        for sender in range(ports)
    ]
    run = start(model, work)
    carried = _gbps(run, _into_hosts(model)[ports:], slots // 10 * _PACKET_PS, slots * _PACKET_PS)
    return carried / (ports * _GBPS)


for _ports, _load in (
    (2, 0.75),
    (3, 0.6825),
    (4, 0.6553),
    (5, 0.6399),
    (6, 0.6302),
    (7, 0.6234),
    (8, 0.6184),
):

    @check(
        f"Head-of-line saturation, {_ports} x {_ports}",
        configuration="FIFO inputs, saturated, uniform traffic, fixed packets: load of the outputs",
        published=_load,
        tolerance=0.01,
        source=_KAROL,
        kind="first-principles",
    )
    def _saturation(ports: int = _ports) -> float:
        return _head_of_line(ports)


# ---- a hot spot ---------------------------------------------------------------------------------------

_SINKS = 8
_HOT = 0.25
_STREAMS, _SENDS = 64, 24  # of a source: messages under way, and messages one after another


@check(
    "Hot spot tree saturation",
    configuration=f"{_SINKS} sources and sinks, a quarter of the packets to one of them: load of a source",
    published=1 / (1 + _HOT * (_SINKS - 1)),
    tolerance=0.02,
    source=_PFISTER,
    kind="first-principles",
)
def hot_spot() -> float:
    """Sources with a limit to what they have under way: all goes at the pace of the hot sink."""
    model = _star(2 * _SINKS, {}, 8 * _PACKET)
    rng = np.random.default_rng(11)
    rows = Rows(generator="fabricsim.validate.infiniband")
    for source in range(_SINKS):
        for stream in range(_STREAMS):
            hot = rng.random(_SENDS) < _HOT
            sinks = np.where(hot, 0, rng.integers(0, _SINKS, _SENDS)) + _SINKS
            for position, sink in enumerate(sinks.tolist()):
                tag = position * _STREAMS + stream
                rows.add("send", [source], peer=[sink], bytes=_PAYLOAD, stream=stream, tag=tag)
                rows.add("recv", [sink], peer=[source], bytes=_PAYLOAD, tag=tag)
    run = start(model, rows.trace())
    carried = _gbps(run, _into_hosts(model)[_SINKS:], 100_000_000, 800_000_000)
    return carried / (_SINKS * _GBPS)
