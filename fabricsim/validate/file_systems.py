"""File systems against what is published: the tiers of a cloud's Lustre, one client of a WEKA cluster.

Packets travel in trains of 15 (``transport.train``): rates do not depend on single ones.
"""

from __future__ import annotations

from collections.abc import Callable

from fabricsim.cluster import Cluster
from fabricsim.run import replay
from fabricsim.validate import check
from fabricsim.workload.rows import Rows

_MIB = 1 << 20
_TRAINS = "transport.train_count=15"

# What the preset's servers hold together.
_FSX_TIB, _FSX_CLIENTS = 9.6, 16
_FSX_NETWORK = {125: 320, 250: 640, 500: 1300, 1000: 2600}
#: Targets as fast as memory: what a server reads again comes from there, and the network is its bound.
_FROM_MEMORY = "storage.target.read=50GB/s"


def _read_mbs(preset: str, folder: str, clients: int, size_bytes: int, *settings: str) -> float:
    """Return MB/s of clients that read a file each, from the first byte asked for to the last."""
    rows, ranks = Rows(), range(clients)
    file = f"{folder}/{{rank}}"
    rows.open(ranks, file, stream=0)
    rows.read(ranks, file, size_bytes, direct=True, stream=0)
    result = replay(rows.trace(), Cluster.load(preset, [_TRAINS, *settings]))
    (read,) = (row for row in result.summary["storage"]["by_kind"] if row["kind"] == "read")
    return float(read["gbs"] * 1000)


def _fsx(tier: int, *settings: str) -> Callable[[], float]:
    """Return what measures MB/s for each TiB; each client reads for about a second."""
    bound = _FSX_NETWORK[tier] if settings else tier
    size = int(bound * _FSX_TIB / _FSX_CLIENTS) * _MIB

    def rate() -> float:
        return _read_mbs(f"fsx-lustre-{tier}", "/fsx", _FSX_CLIENTS, size, *settings) / _FSX_TIB

    return rate


for _tier, _network in _FSX_NETWORK.items():
    for _what, _published, _settings in (("disk", _tier, ()), ("network", _network, (_FROM_MEMORY,))):
        check(
            f"FSx for Lustre, {_tier} MB/s/TiB, {_what}",
            configuration="16 clients read from four servers of 2.4 TiB"
            + (", whose targets are as fast as memory" if _settings else ""),
            published=_published,
            unit="MB/s/TiB",
            tolerance=0.02,
            source="AWS, Amazon FSx for Lustre user guide, performance",
            kind="storage",
            status="calibrated: rates of the tier",
        )(_fsx(_tier, *_settings))


@check(
    "WEKA, one client",
    configuration="10 cores, 8 backends: 8 GiB read in calls of 64 MiB",
    published=34_569 * 1.048576,
    unit="MB/s",
    tolerance=0.10,
    source="MLPerf Storage v1.0, 34,569 MiB/s (unet3d)",
    kind="storage",
    status="calibrated: the rate of a core, on this figure",
)
def weka_client() -> float:
    """One client that reads 8 files at a time, as a data loader's workers do."""
    rows = Rows()
    for worker in range(8):
        file = f"/weka/{worker}"
        rows.open([0], file, stream=worker)
        for call in range(16):
            rows.read([0], file, 64 * _MIB, offset=call * 64 * _MIB, stream=worker)
    result = replay(rows.trace(), Cluster.load("weka-8", [_TRAINS]))
    (read,) = (row for row in result.summary["storage"]["by_kind"] if row["kind"] == "read")
    return float(read["gbs"] * 1000)
