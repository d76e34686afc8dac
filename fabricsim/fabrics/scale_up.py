"""The models of the scale-up network: what the GPUs of a domain talk over."""

from __future__ import annotations

from pydantic import Field

from fabricsim.fabrics.models import (
    ModelSection,
    RoutingModel,
    ScaleUpCongestionControl,
    ScaleUpLink,
    ScaleUpSwitch,
    ScaleUpTransport,
)
from fabricsim.fabrics.section import Section

__all__ = ["ScaleUp"]


class ScaleUp(Section):
    """The five sections of the scale-up network, each with the default that NVLink is like.

    Parameters
    ----------
    switch, link, routing, transport, congestion_control
        Tables with ``model`` and its parameters; the defaults are ``voq``, ``credit``, ``ecmp``, ``scale_up``
        and ``none``.
    """

    switch: ScaleUpSwitch = Field(default_factory=lambda: ScaleUpSwitch.model_validate({}))
    link: ScaleUpLink = Field(default_factory=lambda: ScaleUpLink.model_validate({}))
    routing: RoutingModel = Field(default_factory=lambda: RoutingModel.model_validate({}))
    transport: ScaleUpTransport = Field(default_factory=lambda: ScaleUpTransport.model_validate({}))
    congestion_control: ScaleUpCongestionControl = Field(
        default_factory=lambda: ScaleUpCongestionControl.model_validate({})
    )

    def sections(self) -> dict[str, ModelSection]:
        """Return the sections by name."""
        return {
            "switch": self.switch,
            "link": self.link,
            "routing": self.routing,
            "transport": self.transport,
            "congestion_control": self.congestion_control,
        }
