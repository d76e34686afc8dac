"""Presets: ready cluster files, one TOML each, with the sources of their numbers."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

__all__ = ["Preset", "list_platforms", "preset_names", "preset_path"]


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset: its name and one sentence."""

    name: str
    description: str


def _folder() -> Path:
    return Path(str(resources.files(__package__)))


def preset_names() -> list[str]:
    """Return the names of all presets, sorted so that k8 comes before k16."""
    names = [path.stem for path in _folder().glob("*.toml")]
    return sorted(names, key=lambda name: [int(w) if w.isdigit() else w for w in _words(name)])


def _words(name: str) -> list[str]:
    """Split into runs of digits and of other characters, which alternate and so compare with their like.

    >>> _words("fat-tree-k16-100g")
    ['fat-tree-k', '16', '-', '100', 'g']
    """
    words = [""]
    for char in name:
        if char.isdigit() == (words[-1][-1:].isdigit()):
            words[-1] += char
        else:
            words.append(char)
    return words


def preset_path(name: str) -> Path:
    """Return the file of a preset; KeyError when there is none of that name."""
    if name not in preset_names():
        raise KeyError(name)
    return _folder() / f"{name}.toml"


def list_platforms() -> list[Preset]:
    """Return every preset with its description.

    >>> "demo-64-400g-roce" in [p.name for p in list_platforms()]
    True
    """
    presets = []
    for name in preset_names():
        data = tomllib.loads(preset_path(name).read_text(encoding="utf-8"))
        presets.append(Preset(name, str(data.get("description", ""))))
    return presets
