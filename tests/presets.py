"""The presets as parameters of a test; those whose models the core has not yet are skipped."""

from __future__ import annotations

import pytest

from fabricsim.cluster_file import layers_of_file
from fabricsim.fabrics import parameter_table
from fabricsim.fabrics.models import SCALE_UP_SECTIONS, SECTIONS
from fabricsim.platforms import preset_names
from fabricsim.topology import KINDS


def missing_models(name: str) -> list[str]:
    """Models of a preset that the core has not."""
    data = layers_of_file(name).merged()
    chosen = [(cls.room, data.get(key, {}).get("model", cls.default_model)) for key, cls in SECTIONS.items()]
    if 1 in KINDS[data["topology"]["kind"]].model_validate(data["topology"]).build().networks:
        above = data.get("scale_up", {})
        chosen += [
            (cls.room, above.get(key, {}).get("model", cls.default_model))
            for key, cls in SCALE_UP_SECTIONS.items()
        ]
    known = parameter_table().implementations
    return sorted({f"{room} {model}" for room, model in chosen if model not in known[room]})


def preset(name: str, *more: object) -> object:
    missing = missing_models(name)
    marks = [pytest.mark.skip(f"the core has no {', '.join(missing)}")] if missing else []
    return pytest.param(name, *more, id=name, marks=marks)


def presets() -> list[object]:
    return [preset(name) for name in preset_names()]
