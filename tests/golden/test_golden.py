"""Results do not change unnoticed, and do not depend on how the core was compiled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from golden import digests, kept

ROOT = Path(__file__).parents[2]


def test_digests_are_the_kept_ones() -> None:
    now, before = digests(), kept()
    changed = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    assert not changed, (
        f"results changed: {', '.join(changed)}. If that is meant, run `python tests/golden` and say why in "
        'CHANGELOG.md under "Changes to results".'
    )


@pytest.mark.parametrize("flags", ["-O0", "-O3 -march=native"])
def test_digests_with_other_compiler_flags(flags: str, tmp_path: Path) -> None:
    """A core built in a copy of the tree, with other flags, gives the kept digests."""
    tree = tmp_path / "tree"
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "engine.c")
    for name in ("csrc", "fabricsim"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    shutil.copy(ROOT / "setup.py", tree)
    env = {**os.environ, "FABRICSIM_CFLAGS": flags, "PYTHONPATH": str(tree)}
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", f"-j{os.cpu_count() or 1}"]
    built = subprocess.run(build, cwd=tree, env=env, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    command = [sys.executable, str(ROOT / "tests" / "golden"), "--print"]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert Path(told["engine"]).is_relative_to(tree), "another core was loaded"
    assert told["digests"] == kept()
