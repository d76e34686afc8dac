"""The command as a process: start-up time, pipes, signals, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fabricsim.result import Result
from fabricsim.trace import write_trace
from fabricsim.workload import collective

TESTS = Path(__file__).parents[1]

# The command with the stand-in core in the place of the compiled one, each step of it taking a while.
DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
import fake_engine
sys.modules["fabricsim._core.engine"] = fake_engine.as_module()
import fabricsim._core
fabricsim._core.engine = sys.modules["fabricsim._core.engine"]
fake_engine.SECONDS_PER_STEP = float(sys.argv[2])
from fabricsim.cli import main
sys.exit(main(sys.argv[3:]))
"""


def command(*arguments):
    return [sys.executable, "-m", "fabricsim", *map(str, arguments)]


def stand_in(*arguments, seconds=0.0):
    return [sys.executable, "-c", DRIVER, str(TESTS), str(seconds), *map(str, arguments)]


def finish(line, **options):
    return subprocess.run(line, capture_output=True, timeout=60, **options)


def test_help_needs_no_heavy_import():
    code = (
        "import sys\n"
        "from fabricsim.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pyarrow', 'pydantic', 'fabricsim._core.engine'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = finish([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    assert b"fabricsim demo" in done.stdout


def test_help_is_instant():
    # The promise is 150 ms; twice that here, because test machines are busy. The best of some counts.
    best = 1e9
    for _ in range(5):
        began = time.perf_counter()
        assert finish(command("--help")).returncode == 0
        best = min(best, time.perf_counter() - began)
    assert best < 0.3


def test_usage_errors_are_2():
    for arguments in ((), ("nothing",), ("replay",), ("demo", "--threads", "0"), ("demo", "--seed", "x")):
        done = finish(command(*arguments))
        assert done.returncode == 2, arguments
        assert b"Traceback" not in done.stderr and done.stdout == b""


def test_version():
    assert finish(command("--version")).stdout.startswith(b"fabricsim 0.")


def test_a_reader_that_has_enough_is_no_error():
    line = (
        " ".join(command("platforms", "fat-tree-k8-100g-roce", "--toml"))
        + " | head -c 1; exit ${PIPESTATUS[0]}"
    )
    done = finish(["bash", "-c", line])
    assert done.returncode == 0
    assert done.stderr == b""


def test_a_closed_pipe_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command("platforms"), stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command("platforms"), stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 4
    assert b"No space left" in done.stderr and b"Traceback" not in done.stderr


def test_a_trace_goes_through_a_pipe(tmp_path):
    (tmp_path / "m.cm").write_text("Nodes 2\nConnections 1\n0->1 id 5 start 0 size 1000\n")
    made = finish(command("convert", tmp_path / "m.cm", "-o", "-"))
    assert made.returncode == 0
    line = stand_in("replay", "-", "-c", "fat-tree-k8-100g-roce", "--json")
    done = finish(line, input=made.stdout)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["flows"][0]["fct_ps"] == 1000


def test_ctrl_c_is_130_and_leaves_a_readable_result(tmp_path):
    write_trace(collective("all_reduce", size_bytes=10**12, n_ranks=4, iterations=1000), tmp_path / "t.arrow")
    out = tmp_path / "out"
    options = ("-o", out, "--series", "1us", "--progress")
    line = stand_in("replay", tmp_path / "t.arrow", "-c", "fat-tree-k8-100g-roce", *options, seconds=0.1)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while not (out / "series.arrow").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert stderr.rstrip().endswith(b"interrupted") and b"Traceback" not in stderr
    assert stdout == b""
    result = Result.load(out)
    assert result.summary["status"] == "interrupted"
    assert result.ops.num_rows == 4000 and result.series is not None
