"""Which models go together on one network."""

from __future__ import annotations

from collections.abc import Mapping

from fabricsim.fabrics.models import ModelSection
from fabricsim.fabrics.section import Issue

__all__ = ["combination_issues"]

# What a congestion control reads: where it comes from, and which models of that section give it.
_NEEDS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "dcqcn": ("switch", ("ethernet",), "whose ECN marks it reads"),
    "hpcc": ("switch", ("ethernet",), "whose telemetry it reads"),
    "ib_cc": ("switch", ("voq",), "whose FECN marks it reads"),
    "srd_cc": ("transport", ("srd",), "whose paths it controls"),
}

# Transports that pace by themselves and know only these controls.
_OWN_CONTROL: Mapping[str, tuple[str, ...]] = {"srd": ("srd_cc", "none")}


def combination_issues(
    sections: Mapping[str, ModelSection], kind: str | None, *, first: tuple[str, ...] = ()
) -> list[Issue]:
    """Find models that do not go together.

    Parameters
    ----------
    sections
        The five sections of a network by name.
    kind
        Kind of the topology.
    first
        Where the sections are, such as ``("scale_up",)``.

    Returns
    -------
    list
        Every issue, with the place of the value to change.
    """
    models = {name: section.model for name, section in sections.items()}
    issues: list[Issue] = []

    def blame(section: str, allowed: str) -> None:
        issues.append(((*first, section, "model"), f"found {models[section]!r}, {allowed}", models[section]))

    credit, voq = models["link"] == "credit", models["switch"] == "voq"
    if voq and not credit:
        blame("link", "allowed: credit with the switch voq, which sends on credits alone")
    if credit and not voq:
        blame("switch", "allowed: voq with credit links; other switches give no credits")
    if models["routing"] == "torus" and kind not in ("torus", None):
        blame("routing", f"allowed: a route that a {kind} has; torus goes with the topology torus")
    control = models["congestion_control"]
    if control in _NEEDS:
        section, able, why = _NEEDS[control]
        if models[section] not in able:
            blame(
                "congestion_control",
                f"allowed: none or another; it goes with {section}.model = {' or '.join(able)}, {why}",
            )
    own = _OWN_CONTROL.get(models["transport"])
    if own and control not in own and control not in _NEEDS:
        blame("congestion_control", f"allowed: {' or '.join(own)} with the transport {models['transport']}")
    return issues
