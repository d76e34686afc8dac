"""Digests of shared scenes (``scenes.py``, ``store_scenes.py``); ``python tests/golden`` writes them anew."""

from __future__ import annotations

import json
from pathlib import Path

from scenes import SCENES
from store_scenes import STORE_SCENES

DIGESTS = Path(__file__).with_name("digests.json")


def digests() -> dict[str, str]:
    """Run every scene and return its digest."""
    found = {}
    for name, make in SCENES.items():
        run = make().run()
        run.step()
        found[name] = run.digest
    for name, start in STORE_SCENES.items():
        store = start()
        store.step()
        store.check()
        found[name] = store.digest
    return found


def kept() -> dict[str, str]:
    """Return the digests that the repository keeps."""
    return dict(json.loads(DIGESTS.read_text()))
