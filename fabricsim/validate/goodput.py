"""Goodput of RoCEv2: what the headers leave of the line rate.

Each packet takes 82 bytes on the wire beside its payload (preamble and gap 20, Ethernet 18, IPv4 20, UDP 8,
BTH 12, ICRC 4), so 1024 bytes of payload get 92.586 % of the rate and 4096 get 98.037 %. The published
figures are bandwidths that ib_write_bw told of real network interfaces.
"""

from __future__ import annotations

from fabricsim.validate import check
from fabricsim.validate._worlds import compile_star, start

_MIB = 1 << 20
_PERFTEST = "ib_write_bw on BlueField-3, 100 GbE: public source 57973554744"
_PERFTEST_4096 = "ib_write_bw -m 4096 -q 8, 100 GbE: public source 52107249759"


def write_goodput_gbps(rate: str, mtu_bytes: int, messages: int) -> float:
    """Return the goodput in Gb/s of 1 MiB writes of one sender, many under way, as ib_write_bw counts it."""
    model = compile_star(2, rate, "500ns", transport={"mtu_bytes": mtu_bytes})
    run = start(model, [(0, 1, _MIB, 0)] * messages)
    run.step()
    return messages * _MIB * 8000 / int(run.sends()["end_ps"].max())


@check(
    "RoCEv2 goodput, MTU 1024, 100 Gb/s",
    configuration="1 MiB RC writes, IPv4",
    published=92.6,
    unit="Gb/s",
    tolerance=0.002,
    source=f"{_PERFTEST} (92.58 and 92.62)",
    kind="first-principles",
)
def mtu_1024() -> float:
    """One sender, small packets."""
    return write_goodput_gbps("100Gbps", 1024, 128)


@check(
    "RoCEv2 goodput, MTU 4096, 100 Gb/s",
    configuration="RC writes, IPv4",
    published=97.29,
    unit="Gb/s",
    tolerance=0.01,
    source=_PERFTEST_4096,
    kind="first-principles",
)
def mtu_4096() -> float:
    """One sender, large packets."""
    return write_goodput_gbps("100Gbps", 4096, 256)


@check(
    "RoCEv2 goodput, MTU 4096, 400 Gb/s",
    configuration="RC writes, IPv4",
    published=392.0,
    unit="Gb/s",
    tolerance=0.01,
    source="NVIDIA/nccl issue 2409",
    kind="first-principles",
)
def mtu_4096_400g() -> float:
    """One sender, large packets, four times the rate."""
    return write_goodput_gbps("400Gbps", 4096, 1024)


@check(
    "InfiniBand goodput, MTU 4096, 100 Gb/s",
    configuration="1 MiB RC writes, EDR",
    published=98.385,
    unit="Gb/s",
    tolerance=0.012,
    source="ib_write_bw: linux-rdma/perftest issue 225 (11,728.47 MiB/s); the headers alone leave 99.37",
    kind="first-principles",
)
def infiniband_4096() -> float:
    """LRH 8, BTH 12, ICRC 4 and VCRC 2 a packet, RETH 16 a message."""
    models = {"switch": "voq", "link": "credit", "transport": "rc", "congestion_control": "none"}
    sections = {section: {"model": model} for section, model in models.items()}
    run = start(compile_star(2, "100Gbps", "500ns", **sections), [(0, 1, _MIB, 0)] * 128)
    run.step()
    return 128 * _MIB * 8000 / int(run.sends()["end_ps"].max())
