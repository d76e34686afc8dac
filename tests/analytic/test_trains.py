"""Packets that travel as one: the bytes of all their headers, and times that are off by a train at most."""

import pytest
from engine_worlds import GBPS, US, finish, line, star, start, wire_ps
from store_worlds import Storage, create, io
from trace_table import recv, send, table

from fabricsim.errors import ConfigError

FRAME = 4096 + 82


def flow(size):
    return table(send(0, 1, size), recv(1, 0, size))


def trains(count):
    return ("transport", "roce", {"train_count": count})


@pytest.mark.parametrize("count", [2, 4, 12, 15])
@pytest.mark.parametrize("size", [1, 4096, 4097, 50_000, 1 << 20])
def test_the_wire_carries_the_headers_of_every_packet(size, count):
    world = line([100 * GBPS] * 2, [US] * 2)
    whole, coarse = (finish(world, flow(size), trains(n)) for n in (1, count))
    assert coarse.links()["bytes"][0] == whole.links()["bytes"][0]
    packets = -(-size // 4096)
    assert coarse.links()["packets"][0] == -(-packets // count)


@pytest.mark.parametrize("hops", [2, 4, 6])
@pytest.mark.parametrize("count", [2, 12])
def test_a_switch_holds_a_train_for_all_its_packets(hops, count):
    """Store and forward: every hop but one adds a train's time instead of a packet's."""
    size, rate = 120 * 4096, 100 * GBPS
    world = line([rate] * hops, [US] * hops)
    whole, coarse = (int(finish(world, flow(size), trains(n)).sends()["delivered_ps"][0]) for n in (1, count))
    first = 16
    assert coarse - whole == (hops - 1) * (
        wire_ps(count * FRAME + first, rate) - wire_ps(FRAME + first, rate)
    )


@pytest.mark.parametrize("count", [4, 12])
def test_shared_links_are_shared_as_before(count):
    size, senders = 4 << 20, 4
    rows = []
    for src in range(1, senders + 1):
        rows += [send(src, 0, size, tag=src), recv(0, src, size, tag=src)]
    times = []
    for n in (1, count):
        run = finish(star(senders + 1), table(*rows), trains(n), ("link", "pause", {"xoff_bytes": 400_000}))
        assert run.counters()["drops"] == 0
        times.append(int(run.sends()["delivered_ps"].max()))
    assert times[1] == pytest.approx(times[0], rel=0.005)


def test_a_train_longer_than_a_packet_of_the_core_is_refused():
    settings = ("transport", "roce", {"mtu_bytes": 8192, "train_count": 15})
    with pytest.raises(ConfigError, match="a packet, or train of packets, takes 124126 bytes, allowed 65535"):
        start(line([100 * GBPS] * 2, [US] * 2), flow(1), settings)


@pytest.mark.parametrize("size", [4096, 1 << 20, 16 << 20])
def test_a_file_system_does_not_notice(size):
    ranks = range(4)
    rows = [create(*ranks, file="/{rank}"), io("write", *ranks, file="/{rank}", size=size)]
    rows += [
        io("fsync", *ranks, file="/{rank}"),
        io("read", *ranks, file="/{rank}", size=size, flags="direct"),
    ]
    ends = []
    for count in (1, 12):
        store = Storage(
            clients=4, servers=2, settings=[trains(count), ("link", "pause", {"xoff_bytes": 400_000})]
        )
        ends.append(store.run(*rows).ops()["end_ps"])
    assert ends[1] == pytest.approx(ends[0], rel=0.01)
