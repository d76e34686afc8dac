"""Public input files live outside of the repository; tests that need them skip where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def external_data() -> Path:
    """The folder of public inputs: FABRICSIM_EXTERNAL_DATA, or ../shared/traces beside the project."""
    path = Path(os.environ.get("FABRICSIM_EXTERNAL_DATA", ROOT / "../shared/traces")).resolve()
    if not path.is_dir():
        pytest.skip(f"no external data in {path}; set FABRICSIM_EXTERNAL_DATA to its folder")
    return path
