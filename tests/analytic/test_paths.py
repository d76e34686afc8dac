"""One flow on a path: store-and-forward and cut-through times to the picosecond, goodput from the headers.

With equal wires on every hop, packets of wire times p_1 … p_n cross h hops in sum(p) + (h-1) max(p), and
the delays (the makespan of a flow shop with equal machines). With different rates and equal packets it is the
sum over the hops of one wire time, plus n-1 times the slowest.
"""

import pytest
from engine_worlds import GBPS, US, finish, line, star, wire_ps
from trace_table import recv, send, table

HEADER, FIRST, LEAST, ACK = 82, 16, 84, 86
NO_FIRST = ("transport", "roce", {"first_header_bytes": 0})
CUT_THROUGH = ("switch", "ethernet", {"cut_through": 1})


def frames(size: int, mtu: int = 4096, first: int = FIRST, header: int = HEADER) -> list[int]:
    """Bytes on the wire of each packet of a message; payloads are padded to 4 bytes."""
    payloads = [mtu] * ((size - 1) // mtu) + [size - (size - 1) // mtu * mtu] if size else [0]
    return [
        max(LEAST, (payload + 3) // 4 * 4 + header + (0 if i else first))
        for i, payload in enumerate(payloads)
    ]


def flow(size, **more):
    return table(send(0, 1, size, **more), recv(1, 0, size))


def times(world, size, *settings):
    sends = finish(world, flow(size), *settings).sends()
    return int(sends["delivered_ps"][0]), int(sends["end_ps"][0])


@pytest.mark.parametrize("hops", [2, 4, 6])
@pytest.mark.parametrize("rate", [25 * GBPS, 100 * GBPS, 400 * GBPS])
@pytest.mark.parametrize("size", [0, 1, 2, 5, 64, 1000, 4095, 4096])
def test_one_packet_store_and_forward(hops, rate, size):
    (frame,) = frames(size)
    delivered, acknowledged = times(line([rate] * hops, [US] * hops), size)
    assert delivered == hops * (wire_ps(frame, rate) + US)
    assert acknowledged == delivered + hops * (wire_ps(ACK, rate) + US)


@pytest.mark.parametrize("hops", [2, 4, 6])
@pytest.mark.parametrize("size", [4097, 8192, 50_000, 1 << 20])
@pytest.mark.parametrize("mtu", [1024, 4096])
def test_one_flow_store_and_forward(hops, size, mtu):
    rate = 100 * GBPS
    wires = [wire_ps(frame, rate) for frame in frames(size, mtu)]
    delivered, acknowledged = times(
        line([rate] * hops, [US] * hops), size, ("transport", "roce", {"mtu_bytes": mtu})
    )
    assert delivered == sum(wires) + (hops - 1) * max(wires) + hops * US
    assert acknowledged == delivered + hops * (wire_ps(ACK, rate) + US)


def test_every_delay_and_latency_counts_once():
    delays = [700_000, 50_000, 1_234_567, 1]
    world = line([100 * GBPS] * 4, delays)
    world.latency_ps = {1: 11_000, 2: 300_001, 3: 7, 4: 450_000}
    (frame,) = frames(4096)
    delivered, acknowledged = times(world, 4096)
    assert delivered == 4 * wire_ps(frame, 100 * GBPS) + sum(delays) + 300_001 + 7 + 450_000 + 11_000
    assert acknowledged - delivered == 4 * wire_ps(ACK, 100 * GBPS) + sum(delays) + 450_000 + 7 + 300_001


@pytest.mark.parametrize("rates", [[100, 40, 100, 25], [25, 100], [100, 25], [400, 100, 200, 10, 400, 800]])
@pytest.mark.parametrize("packets", [1, 7, 200])
def test_mixed_rates_store_and_forward(rates, packets):
    rates = [rate * GBPS for rate in rates]
    wires = [wire_ps(4096 + HEADER, rate) for rate in rates]
    delivered, _ = times(line(rates, [US] * len(rates)), packets * 4096, NO_FIRST)
    assert delivered == sum(wires) + (packets - 1) * max(wires) + len(rates) * US


@pytest.mark.parametrize("hops", [2, 4, 6])
@pytest.mark.parametrize("size", [1, 4096, 50_000])
def test_cut_through_pays_for_the_wire_once(hops, size):
    rate = 100 * GBPS
    wires = [wire_ps(frame, rate) for frame in frames(size)]
    delivered, acknowledged = times(line([rate] * hops, [US] * hops), size, CUT_THROUGH)
    assert delivered == sum(wires) + hops * US
    assert acknowledged == delivered + wire_ps(ACK, rate) + hops * US


def test_cut_through_to_a_slower_wire_and_back():
    """Towards the slow wire the first bit is sent on; the way back, to a faster one, must be stored."""
    fast, slow = 100 * GBPS, 40 * GBPS
    (frame,) = frames(4096)
    delivered, acknowledged = times(line([fast, slow], [US, US]), 4096, CUT_THROUGH)
    assert delivered == 2 * US + wire_ps(frame, slow)
    assert acknowledged == delivered + wire_ps(ACK, slow) + wire_ps(ACK, fast) + 2 * US


def test_cut_through_is_never_later_than_store_and_forward():
    for rates in ([100, 100, 100], [25, 100, 25], [100, 25, 100]):
        world = line([rate * GBPS for rate in rates], [200_000] * 3)
        assert times(world, 100_000, CUT_THROUGH)[0] <= times(world, 100_000)[0]


@pytest.mark.parametrize(
    "mtu, header, percent", [(1024, 82, 92.586), (4096, 82, 98.037), (4096, 102, 97.570)]
)
def test_goodput_is_what_headers_leave(mtu, header, percent):
    """Payload over payload and header: of a 32 MiB flow to 0.2 %, of what one more packet costs exactly."""
    settings = ("transport", "roce", {"mtu_bytes": mtu, "header_bytes": header})
    size = 32 << 20
    delivered, _ = times(star(2), size, settings)
    assert 100 * size * 8_000_000 / (100 * GBPS) / delivered == pytest.approx(percent, rel=0.002)
    assert 100 * mtu / (mtu + header) == pytest.approx(percent, rel=1e-5)
    longer, _ = times(star(2), size + mtu, settings)
    assert longer - delivered == wire_ps(mtu + header, 100 * GBPS)


@pytest.mark.parametrize("window, packets", [(1, 40), (3, 50), (7, 50), (16, 100)])
def test_a_window_gives_its_packets_every_round_trip(window, packets):
    """W packets of wire time w a round trip R, W w < R: packet k leaves at (k // W) R + (k % W) w."""
    rate, delay = 100 * GBPS, 5 * US
    wire, ack = wire_ps(4096 + HEADER, rate), wire_ps(ACK, rate)
    around = 2 * (wire + delay) + 2 * (ack + delay)
    assert window * wire < around
    settings = ("transport", "roce", {"window_bytes": window * 4096, "first_header_bytes": 0})
    delivered, _ = times(star(2, rate, delay), packets * 4096, settings)
    last = packets - 1
    assert delivered == last // window * around + last % window * wire + 2 * (wire + delay)


@pytest.mark.parametrize("every", [1, 2, 5, 64])
def test_acknowledgements_are_coalesced(every):
    run = finish(star(2), flow(100 * 4096), ("transport", "roce", {"ack_every_count": every}))
    assert run.counters()["acks"] == -(-100 // every)
    assert run.counters()["packets"] == 100 + -(-100 // every)


def test_a_delayed_send_starts_when_it_is_told():
    (frame,) = frames(100)
    sends = finish(star(2), flow(100, delay_ps=123_456)).sends()
    assert sends["start_ps"][0] == 123_456
    assert sends["delivered_ps"][0] == 123_456 + 2 * (wire_ps(frame, 100 * GBPS) + US)


def test_messages_of_a_stream_follow_each_other_without_a_gap():
    """Posted together on one connection they are one train of packets."""
    rows = [
        row for tag in range(5) for row in (send(0, 1, 4096, tag=tag, stream=0), recv(1, 0, 4096, tag=tag))
    ]
    sends = finish(star(2), table(*rows)).sends()
    wire, ack = wire_ps(4096 + HEADER + FIRST, 100 * GBPS), wire_ps(ACK, 100 * GBPS)
    around = 2 * (wire + US) + 2 * (ack + US)
    # a stream waits for each send's acknowledgement before the next
    assert list(sends["start_ps"]) == [i * around for i in range(5)]
    assert list(sends["delivered_ps"]) == [i * around + 2 * (wire + US) for i in range(5)]
