"""Power of the parts of a cluster: what the energy of a run is reckoned from; it changes no run."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from fabricsim.fabrics.section import Issue, Section, raise_issues

__all__ = ["Power"]

Watts = Annotated[float, Field(ge=0, le=1e6)]

#: Shares of the power of computing where those of the other states are not told; assumed.
COMMUNICATION_SHARE, IDLE_SHARE = 0.6, 0.15


class Power(Section):
    """Power of the parts, in watts; what is left out draws nothing.

    Parameters
    ----------
    accelerator_compute_w
        Of an accelerator that computes, whether it communicates beside that or not.
    accelerator_communication_w, accelerator_idle_w
        Of one that only communicates, and of one that waits (storage included); by themselves 60 % and 15 %
        of the first, which is assumed.
    host_w
        What stands by each accelerator all the time: processors, memory, fans.
    nic_w
        Of a network interface: an end of a scale-out cable at a host, or a node that several GPUs share.
    link_w, scale_up_link_w
        Of a cable with its transceivers, of each network, all the time.
    link_pj_per_bit, scale_up_link_pj_per_bit
        What a bit on a cable adds, pJ, of each network.
    switch_w, scale_up_switch_w
        Of a switch of each network, all the time.
    switch_pj_per_bit
        What a bit that leaves a switch adds, pJ, of either network.
    storage_server_w
        Of a server of storage, all the time.
    target_active_w, target_idle_w
        Of a storage target that serves, and that waits.
    pue
        Power of the whole site over that of the parts above: cooling and conversion, >= 1.

    >>> power = Power.model_validate({"accelerator_compute_w": 700, "pue": 1.1})
    >>> power.communication_w, power.idle_w
    (420.0, 105.0)
    """

    accelerator_compute_w: Annotated[float, Field(gt=0, le=1e6)]
    accelerator_communication_w: Watts | None = None
    accelerator_idle_w: Watts | None = None
    host_w: Watts = 0.0
    nic_w: Watts = 0.0
    link_w: Watts = 0.0
    link_pj_per_bit: Watts = 0.0
    scale_up_link_w: Watts = 0.0
    scale_up_link_pj_per_bit: Watts = 0.0
    switch_w: Watts = 0.0
    scale_up_switch_w: Watts = 0.0
    switch_pj_per_bit: Watts = 0.0
    storage_server_w: Watts = 0.0
    target_active_w: Watts = 0.0
    target_idle_w: Watts = 0.0
    pue: Annotated[float, Field(ge=1, le=10)] = 1.0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        issues: list[Issue] = []
        for name in ("accelerator_communication_w", "accelerator_idle_w"):
            value = getattr(self, name)
            if value is not None and value > self.accelerator_compute_w:
                text = f"found {value}, allowed: at most accelerator_compute_w, {self.accelerator_compute_w}"
                issues.append(((name,), text, value))
        if self.target_idle_w > self.target_active_w:
            text = f"found {self.target_idle_w}, allowed: at most target_active_w, {self.target_active_w}"
            issues.append((("target_idle_w",), text, self.target_idle_w))
        raise_issues("Power", issues)
        return self

    @classmethod
    def _missing(cls, field: str) -> str:
        return f"missing, allowed: watts, such as {field} = 700" if field.endswith("_w") else "missing"

    @property
    def communication_w(self) -> float:
        """Of an accelerator that only communicates, W."""
        given = self.accelerator_communication_w
        return COMMUNICATION_SHARE * self.accelerator_compute_w if given is None else given

    @property
    def idle_w(self) -> float:
        """Of an accelerator that waits, W."""
        given = self.accelerator_idle_w
        return IDLE_SHARE * self.accelerator_compute_w if given is None else given

    def describe(self) -> list[tuple[str, str]]:
        """Return rows of (what, value)."""
        told: dict[str, Any] = self.model_dump(exclude_defaults=True)
        told |= {"accelerator_communication_w": self.communication_w, "accelerator_idle_w": self.idle_w}
        return [(f"power.{name}", f"{value:g}") for name, value in told.items()]
