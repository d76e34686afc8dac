"""The table ``[collectives.nccl]``: what NCCL is told, and what it sees that a topology does not tell."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fabricsim.collectives.nccl_facts import CHANNELS_MOST
from fabricsim.fabrics.section import Section, raise_issues

__all__ = ["LIBRARIES", "NcclSettings"]

#: How the algorithm of an operation is found: the same for all of a kind, or as NCCL chooses.
LIBRARIES = ("fixed", "nccl")

_Rate = Annotated[int, Field(gt=0)]
_Channels = Annotated[int, Field(ge=1, le=CHANNELS_MOST)]


class NcclSettings(Section):
    """What NCCL is told and sees; what is not given comes from the topology and the accelerator.

    Parameters
    ----------
    architecture
        Of the GPUs: ``volta``, ``ampere``, ``hopper``, ``blackwell``; by itself from the accelerator's name.
    algorithm, protocol
        Forced on the kinds that have them, as by NCCL_ALGO and NCCL_PROTO.
    min_channel_count, max_channel_count
        As NCCL_MIN_NCHANNELS and NCCL_MAX_NCHANNELS; 1 to 64.
    nvlink_rate_mbps
        What NCCL takes a GPU to send over NVLink, Mb/s; by itself 20.0, 20.0, 20.6 or 40.1 GB/s of each link.
    pcie_rate_mbps, nic_rate_mbps
        Of a GPU, and of a network interface, as NCCL counts them, Mb/s.
    nic_count
        Interfaces of a node.
    net_latency_ps
        What the network plug-in tells the tuner of a message's latency, ps: aws-ofi-nccl 75 us (p4d, p5) or
        35 us (p5en, p6). It steers the choice only; what is emulated takes as long as it takes.
    collnet
        As NCCL_COLLNET_ENABLE: whether switches that reduce (SHARP) may be used; default false.
    cpu
        ``intel`` or ``amd``, which differ in LL between nodes and in the time to post to the network.

    >>> NcclSettings(algorithm="ring", max_channel_count=4).algorithm
    'ring'
    """

    architecture: Literal["volta", "ampere", "hopper", "blackwell"] | None = None
    algorithm: (
        Literal["tree", "ring", "collnet_direct", "collnet_chain", "nvls", "nvls_tree", "pat"] | None
    ) = None
    protocol: Literal["ll", "ll128", "simple"] | None = None
    min_channel_count: _Channels = 1
    max_channel_count: _Channels = CHANNELS_MOST
    nvlink_rate_mbps: _Rate | None = None
    pcie_rate_mbps: _Rate | None = None
    nic_rate_mbps: _Rate | None = None
    nic_count: Annotated[int, Field(ge=1, le=65_536)] | None = None
    net_latency_ps: Annotated[int, Field(ge=0, le=10**12)] = 0
    collnet: bool = False
    cpu: Literal["intel", "amd"] = "intel"

    @model_validator(mode="after")
    def _channels_fit(self) -> NcclSettings:
        if self.min_channel_count > self.max_channel_count:
            least, most = self.min_channel_count, self.max_channel_count
            text = f"found {least}, allowed: at most max_channel_count, {most}"
            raise_issues("nccl", [(("min_channel_count",), text, least)])
        return self
