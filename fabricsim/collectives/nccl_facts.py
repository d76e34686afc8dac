"""Constants of NCCL's tuner: measured by its authors, read from its published source.

Source of all: NVIDIA/nccl at 5067397 (2.28/2.29), ``src/graph/tuning.cc`` (latencies, bandwidths, correction
factors), ``src/graph/search.cc`` (speeds of a channel), ``src/graph/topo.h`` (NVLink), ``src/enqueue.cc``
and ``src/include/device.h`` (threads, chunks), ``src/transport/nvls.cc`` (channels of NVLS). Times in
microseconds, bandwidths in GB/s (10^9 bytes a second).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["ALGORITHMS", "ARCHITECTURES", "PROTOCOLS", "Algorithm", "Architecture", "Protocol"]


class Algorithm(StrEnum):
    """NCCL's algorithms, in the order in which they are tried."""

    TREE = "tree"
    RING = "ring"
    COLLNET_DIRECT = "collnet_direct"
    COLLNET_CHAIN = "collnet_chain"
    NVLS = "nvls"
    NVLS_TREE = "nvls_tree"
    PAT = "pat"


class Protocol(StrEnum):
    """NCCL's protocols, in the order in which they are tried."""

    LL = "ll"
    LL128 = "ll128"
    SIMPLE = "simple"


class Architecture(StrEnum):
    """GPU architectures that the tuner tells apart, oldest first."""

    VOLTA = "volta"
    AMPERE = "ampere"
    HOPPER = "hopper"
    BLACKWELL = "blackwell"


ALGORITHMS = tuple(Algorithm)
PROTOCOLS = tuple(Protocol)
ARCHITECTURES = tuple(Architecture)

Triple = tuple[float, float, float]
_A = Algorithm

#: Kernel launch and the like, by algorithm and protocol (LL, LL128, Simple).
BASE_LATENCY: Mapping[Algorithm, Triple] = {
    _A.TREE: (6.8, 14.0, 8.4),
    _A.RING: (6.6, 14.0, 8.4),
    _A.COLLNET_DIRECT: (0.0, 0.0, 0.0),
    _A.COLLNET_CHAIN: (0.0, 0.0, 0.0),
    _A.NVLS: (0.0, 0.0, 0.0),
    _A.NVLS_TREE: (0.0, 0.0, 0.0),
    _A.PAT: (8.0, 8.0, 8.0),
}

#: One step over a kind of link, by algorithm and protocol.
STEP_LATENCY: Mapping[str, Mapping[Algorithm, Triple]] = {
    "nvlink": {
        _A.TREE: (0.6, 1.25, 4.0),
        _A.RING: (0.6, 1.9, 3.4),
        _A.COLLNET_DIRECT: (0.0, 0.0, 3.7),
        _A.COLLNET_CHAIN: (0.0, 0.0, 2.8),
        _A.NVLS: (0.0, 0.0, 25.0),
        _A.NVLS_TREE: (0.0, 0.0, 25.0),
        _A.PAT: (0.0, 0.0, 4.0),
    },
    "pcie": {
        _A.TREE: (1.0, 1.9, 4.0),
        _A.RING: (1.0, 2.5, 5.7),
        _A.COLLNET_DIRECT: (0.0, 0.0, 3.7),
        _A.COLLNET_CHAIN: (0.0, 0.0, 2.8),
        _A.NVLS: (0.0, 0.0, 0.0),
        _A.NVLS_TREE: (0.0, 0.0, 0.0),
        _A.PAT: (0.0, 0.0, 4.0),
    },
    "net": {
        _A.TREE: (5.0, 8.5, 14.0),
        _A.RING: (2.7, 4.0, 14.0),
        _A.COLLNET_DIRECT: (0.0, 0.0, 31.0),
        _A.COLLNET_CHAIN: (0.0, 0.0, 30.0),
        _A.NVLS: (0.0, 0.0, 18.0),
        _A.NVLS_TREE: (0.0, 0.0, 20.9),
        _A.PAT: (0.0, 0.0, 14.0),
    },
}

#: Most that LL attains in all: on one node by architecture, on 2 and on more by the CPU (Intel, AMD).
LL_MOST_ONE_NODE: Mapping[Architecture, float] = {
    Architecture.VOLTA: 39.0,
    Architecture.AMPERE: 87.7,
    Architecture.HOPPER: 141.0,
    Architecture.BLACKWELL: 282.0,
}
LL_MOST: Mapping[str, tuple[float, float]] = {"intel": (39.0, 20.4), "amd": (22.5, 19.0)}

#: Most of one channel, by architecture, on 1, 2 and more nodes.
RING_LL128_MOST: Mapping[Architecture, Triple] = {
    Architecture.VOLTA: (20.0, 20.0, 20.0),
    Architecture.AMPERE: (20.0, 20.0, 20.0),
    Architecture.HOPPER: (36.7, 36.7, 36.7),
    Architecture.BLACKWELL: (40.0, 40.0, 40.0),
}
TREE_LL128_MOST: Mapping[Architecture, Triple] = {
    Architecture.VOLTA: (20.0, 20.0, 20.0),
    Architecture.AMPERE: (20.0, 20.0, 20.0),
    Architecture.HOPPER: (36.7, 36.7, 29.0),
    Architecture.BLACKWELL: (55.6, 31.67, 20.0),
}
TREE_MOST: Mapping[Architecture, Triple] = {
    Architecture.VOLTA: (26.5, 18.5, 10.0),
    Architecture.AMPERE: (24.0, 23.6, 17.8),
    Architecture.HOPPER: (38.7, 41.4, 36.0),
    Architecture.BLACKWELL: (70.0, 42.8, 24.0),
}
NVLS_TREE_MOST: Mapping[Architecture, Triple] = {
    Architecture.VOLTA: (26.5, 18.5, 10.0),
    Architecture.AMPERE: (24.0, 23.6, 17.8),
    Architecture.HOPPER: (0.0, 57.7, 45.5),
    Architecture.BLACKWELL: (0.0, 96.0, 80.0),
}

#: Share of the NVLink bandwidth that NVLS attains.
NVLS_EFFICIENCY: Mapping[Architecture, float] = {
    Architecture.VOLTA: 0.0,
    Architecture.AMPERE: 0.0,
    Architecture.HOPPER: 0.85,
    Architecture.BLACKWELL: 0.74,
}
#: Channels of NVLS.
NVLS_CHANNELS: Mapping[Architecture, int] = {
    Architecture.VOLTA: 0,
    Architecture.AMPERE: 0,
    Architecture.HOPPER: 16,
    Architecture.BLACKWELL: 32,
}

#: Share of the modelled bandwidth that the trees attain at 64 B, 128 B, ... 512 MiB, by protocol.
TREE_CORRECTION: tuple[tuple[float, ...], ...] = (
    (*[1] * 4, 0.9, 0.8, *[0.7] * 4, 0.6, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, *[1] * 5),
    (*[1] * 5, 0.9, 0.8, 0.8, 0.8, 0.7, *[0.6] * 6, 0.8, 0.9, 0.9, 0.9, 0.9, 1, 1, 1),
    (*[0.9] * 7, 0.8, 0.7, 0.6, 0.6, *[0.5] * 4, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8, 0.9, 0.9, 0.9),
)

#: NVLink bandwidth of a GPU as NCCL counts it: GB/s of a link one way, by architecture; and links of a GPU.
NVLINK_OF_ONE: Mapping[Architecture, float] = {
    Architecture.VOLTA: 20.0,
    Architecture.AMPERE: 20.0,
    Architecture.HOPPER: 20.6,
    Architecture.BLACKWELL: 40.1,
}
#: What a link of each architecture carries on paper, GB/s one way (NVIDIA data sheets).
NVLINK_ON_PAPER: Mapping[Architecture, float] = {
    Architecture.VOLTA: 25.0,
    Architecture.AMPERE: 25.0,
    Architecture.HOPPER: 25.0,
    Architecture.BLACKWELL: 50.0,
}

#: Speeds that the search tries for a channel inside a node, and over network interfaces.
SPEEDS_INSIDE: Mapping[Architecture, tuple[float, ...]] = {
    Architecture.VOLTA: (40, 30, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, 3),
    Architecture.AMPERE: (40, 30, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, 3),
    Architecture.HOPPER: (60, 50, 40, 30, 24, 20, 15, 12, 11, 6, 3),
    Architecture.BLACKWELL: (90, 80, 70, 60, 50, 45, 40, 30, 24, 20, 19, 18),
}
_SLOW = (3, 2.4, 1.2, 0.24, 0.12)
SPEEDS_BETWEEN: Mapping[Architecture, tuple[float, ...]] = {
    Architecture.VOLTA: (48, 30, 28, 24, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, *_SLOW),
    Architecture.AMPERE: (48, 30, 28, 24, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, *_SLOW),
    Architecture.HOPPER: (48, 45, 42, 40, 30, 24, 22, 20, 17.5, 15, 12, 6, *_SLOW),
    Architecture.BLACKWELL: (96, 80, 48, 45.1, 42, 40, 30, 24, 22, 20, 17.5, 15, 12, 6, *_SLOW),
}
#: Channels at most.
CHANNELS_MOST = 64

#: Threads of a block at most, and bytes a thread below which fewer channels are used, by protocol.
THREADS: Mapping[Protocol, int] = {Protocol.LL: 512, Protocol.LL128: 640, Protocol.SIMPLE: 512}
THREAD_BYTES: Mapping[Protocol, int] = {Protocol.LL: 8, Protocol.LL128: 8, Protocol.SIMPLE: 64}

#: Buffer of a channel in Simple, its steps, and the steps of a slice of a ring all-reduce.
SIMPLE_BUFFER_BYTES, STEPS, SLICE_STEPS = 4 << 20, 8, 2
#: A slice of Simple is at least this part of its full size.
SLICE_LEAST = 32
#: Chunks of LL in bytes of data (512 threads, 8 lines of 8 B each), of NVLS, and of messages to the network.
LL_CHUNK_BYTES, NVLS_CHUNK_BYTES, NET_CHUNK_BYTES = 32 << 10, 128 << 10, 128 << 10

#: Messages between two ranks up to this size go by LL (NCCL_P2P_LL_THRESHOLD).
P2P_LL_BYTES = 16 << 10
#: Messages of a rank that a kernel has under way at once: 8 a channel, on 32 channels (src/include/device.h).
P2P_AT_ONCE = 256

#: Bytes that a protocol sends beside the data, parts per million: LL 8 of 16, LL128 8 of 128.
PROTOCOL_OVERHEAD_PPM: Mapping[Protocol, int] = {
    Protocol.LL: 1_000_000,
    Protocol.LL128: 66_667,
    Protocol.SIMPLE: 0,
}

#: Time to post to the network that no step across nodes is shorter than, by maker of the CPU; Simple: thrice.
NET_OVERHEAD: Mapping[str, float] = {"intel": 1.0, "amd": 2.0}
