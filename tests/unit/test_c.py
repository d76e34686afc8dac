"""The C tests of the core, under the address, undefined-behaviour and thread sanitizers."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "c"

pytestmark = [
    pytest.mark.skipif(
        not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler to build the tests"
    ),
    pytest.mark.skipif(not shutil.which("make"), reason="needs make to build the tests"),
]


def compiler() -> str:
    return next(name for name in ("cc", "gcc", "clang") if shutil.which(name))


def make(target: str) -> subprocess.CompletedProcess[str]:
    line = ["make", f"-j{os.cpu_count() or 1}", "-C", str(HERE), f"CC={compiler()}", target]
    return subprocess.run(line, capture_output=True, text=True, timeout=900)


def has_sanitizer(name: str, folder: Path) -> bool:
    """Whether a program can be built and run with a sanitizer here: some machines lack the libraries."""
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    program = folder / name
    built = subprocess.run(
        [compiler(), f"-fsanitize={name}", str(source), "-o", str(program)], capture_output=True
    )
    return built.returncode == 0 and subprocess.run([str(program)], capture_output=True).returncode == 0


def totals(text: str) -> tuple[int, int]:
    found = re.findall(r"^(\d+) passed, (\d+) failed$", text, re.MULTILINE)
    assert found, text[-4000:]
    return int(found[-1][0]), int(found[-1][1])


def test_c_tests_pass_under_sanitizers(tmp_path):
    if not has_sanitizer("address,undefined", tmp_path):
        pytest.skip("this compiler has no address and undefined-behaviour sanitizers")
    done = make("run")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    passed, failed = totals(done.stdout)
    assert failed == 0 and passed > 100_000


def test_threads_do_not_race(tmp_path):
    if not has_sanitizer("thread", tmp_path):
        pytest.skip("this compiler, or this machine's memory layout, has no thread sanitizer")
    done = make("tsan")
    assert "WARNING: ThreadSanitizer" not in done.stdout + done.stderr, done.stderr[-4000:]
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert totals(done.stdout)[1] == 0


def test_no_warnings():
    done = make("warnings")
    assert done.returncode == 0, done.stderr[-4000:]
