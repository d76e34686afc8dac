"""Bad bytes, interrupted writers, full disks: a clear error or a recovered file, never a crash or a loss."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_table import all_reduce, compute, recv, send, table

from fabricsim.convert import FORMATS, detect
from fabricsim.errors import ConfigError, EngineError, InputError
from fabricsim.trace import TraceWriter, read_trace, repair, write_trace

ROOT = Path(__file__).resolve().parents[2]


def batch(first: int, n: int = 100) -> pa.Table:
    return table(*(compute(0, 1, id=first + i, stream=0) for i in range(n)))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.arrow"
    with TraceWriter(path) as writer:
        for first in range(0, 500, 100):
            writer.write(batch(first))
    return path


def test_every_truncation_is_an_input_error(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    bad = tmp_path / "cut.arrow"
    for size in [*range(0, 64), *range(64, len(data) - 1, 97), len(data) - 1]:
        bad.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"cut\.arrow: is"):
            read_trace(bad)


def test_a_truncated_file_says_what_is_whole_and_repair_saves_it(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    bad, out = tmp_path / "cut.arrow", tmp_path / "out.arrow"
    bad.write_bytes(data[: len(data) * 7 // 10])
    with pytest.raises(
        InputError, match=r"(\d) whole batches with \1\d\d rows up to byte .*fabricsim repair"
    ):
        read_trace(bad)
    report = repair(bad, out)
    assert report.rows_saved == read_trace(out).n_rows >= 200
    assert report.rows_saved % 100 == 0
    assert report.rows_lost == 100
    assert report.problems == ()
    assert f"saved {report.rows_saved} rows" in str(report)
    assert read_trace(out).table.equals(read_trace(good).table.slice(0, report.rows_saved))


def test_repair_of_every_truncation_saves_whole_batches_or_says_why(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    bad, out = tmp_path / "cut.arrow", tmp_path / "out.arrow"
    saved = set()
    for size in range(0, len(data), 211):
        bad.write_bytes(data[:size])
        try:
            saved.add(repair(bad, out).rows_saved)
        except InputError as error:
            assert "nothing to save" in str(error)
    assert saved == {0, 100, 200, 300, 400, 500}


def test_repair_tells_operations_that_wait_for_lost_ones(tmp_path: Path) -> None:
    path, out = tmp_path / "t.arrow", tmp_path / "out.arrow"
    with TraceWriter(path) as writer:
        writer.write(table(send(0, 1)))
        writer.write(table(recv(1, 0, id=1)))
    data = path.read_bytes()
    from fabricsim.trace.ipc import scan

    with path.open("rb") as file:
        second = [m for m in scan(file).messages if m.is_batch][1]
    path.write_bytes(data[: second.end - 8])
    report = repair(path, out)
    assert (report.rows_saved, report.rows_lost) == (1, 1)
    assert "without a recv" in str(report.problems[0])


def test_repair_in_place_and_of_a_good_file(good: Path) -> None:
    before = read_trace(good).table
    assert repair(good, good).rows_saved == 500
    assert read_trace(good).table.equals(before)
    with pytest.raises(InputError, match="cannot read"):
        repair(good.parent / "absent", good)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_an_input_error_everywhere(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    for prefix in (b"", b"ARROW1\0\0", b"\xff\xff\xff\xff", b"src,dst,bytes\n", b"Nodes 4\n"):
        path.write_bytes(prefix + data)
        with pytest.raises(InputError):
            read_trace(path)
        for name in ("htsim", "flows-csv"):
            with contextlib.suppress(InputError):
                FORMATS[name].convert(path)
            FORMATS[name].sniff(path)
        with contextlib.suppress(InputError):
            repair(path, tmp_path / "out")


def test_flipped_bytes_never_crash(good: Path, tmp_path: Path) -> None:
    # Bad offsets and lengths must be caught before anything follows them: run in a process of its own.
    code = f"""
    import random
    from pathlib import Path
    from fabricsim.errors import InputError
    from fabricsim.trace import lower, read_trace, repair
    data = Path({str(good)!r}).read_bytes()
    draw, read, refused = random.Random(1), 0, 0
    for _ in range(1500):
        bad = bytearray(data)
        for _ in range(draw.choice([1, 1, 2, 8])):
            bad[draw.randrange(len(bad))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        path = Path({str(tmp_path / "bad.arrow")!r})
        path.write_bytes(bad)
        try:
            lower(read_trace(path))
            read += 1
        except InputError as error:
            refused += 1
            assert str(path) in str(error)
        try:
            repair(path, {str(tmp_path / "out.arrow")!r})
        except InputError:
            pass
    print(read, refused)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    read, refused = map(int, done.stdout.split())
    assert read > 0
    assert refused > 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b'{"a": 1}', "is no Arrow IPC file"),
        (b"PAR1" + b"\0" * 100, "is no Arrow IPC file"),
    ],
)
def test_other_files_are_named_for_what_they_are_not(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(InputError, match=says):
        read_trace(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_trace(tmp_path / "absent")
    with pytest.raises(InputError, match="is a folder"):
        read_trace(tmp_path)


def test_a_file_with_another_schema_is_refused_by_name(tmp_path: Path) -> None:
    for key, value, says in (
        ("fabricsim.schema", "ops", "'ops' file"),
        ("fabricsim.schema_version", "9.0", "schema version 9.0"),
    ):
        other = table(compute(0)).replace_schema_metadata({key: value})
        with (
            pa.OSFile(str(tmp_path / "o.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, other.schema) as writer,
        ):
            writer.write_table(other)
        with pytest.raises(InputError, match=says):
            read_trace(tmp_path / "o.arrow")


# Writing.


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"
    write_trace(table(compute(0)), path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        write_trace(table(compute(-1)), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.arrow"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told() -> None:
    with pytest.raises(EngineError, match="/dev/full: cannot write: No space left"):
        write_trace(table(compute(0)), "/dev/full")
    with pytest.raises(EngineError, match="No space left"), TraceWriter("/dev/full") as writer:
        writer.write(batch(0))


@pytest.mark.parametrize("name", ["absent/t.arrow", "."])
def test_a_path_that_cannot_be_is_a_configuration_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        write_trace(table(compute(0)), tmp_path / name)
    with pytest.raises(ConfigError, match="cannot write"):
        TraceWriter(tmp_path / name)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.arrow").write_bytes(b"")
    (tmp_path / "link.arrow").symlink_to("real.arrow")
    write_trace(table(compute(0)), tmp_path / "link.arrow")
    assert (tmp_path / "link.arrow").is_symlink()
    assert read_trace(tmp_path / "real.arrow").n_rows == 1


def test_the_writer_refuses_what_is_no_operation(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t.arrow") as writer:
        for bad, says in (
            ({"id": [0], "kind": ["barrier"]}, "ranks: missing column"),
            ({"id": [0], "kind": ["barier"], "ranks": [[0]]}, "did you mean 'barrier'"),
            ({"id": [0], "kind": [None], "ranks": [[0]]}, "kind: found null"),
            ({"id": ["a"], "kind": ["barrier"], "ranks": [[0]]}, "id: found type string"),
            ({"id": [0], "kind": ["barrier"], "ranks": [[0]], "rank": [1]}, "'rank' is unknown"),
        ):
            with pytest.raises(InputError, match=says):
                writer.write(bad)
        writer.write(pa.RecordBatch.from_pydict({"id": [0], "kind": ["barrier"], "ranks": [[0, 1]]}))
        writer.write(table(all_reduce(0, 1, id=5)))
        writer.close()
    assert writer.rows == 2
    assert read_trace(tmp_path / "t.arrow").table["id"].to_pylist() == [0, 5]


def test_the_writer_closes_the_file_when_its_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), TraceWriter(tmp_path / "t.arrow") as writer:
        writer.write(batch(0))
        raise RuntimeError("mine")
    assert read_trace(tmp_path / "t.arrow").n_rows == 100


def _writing(path: Path) -> subprocess.Popen[str]:
    """Start a process that writes batches until it is stopped; return when it has written some."""
    code = f"""
    import time
    from fabricsim.trace import TraceWriter
    with TraceWriter({str(path)!r}) as writer:
        first = 0
        while True:
            writer.write({{
                "id": range(first, first + 100),
                "kind": ["compute"] * 100,
                "ranks": [[0]] * 100,
                "duration_ps": [1] * 100,
            }})
            first += 100
            print(first, flush=True)
            time.sleep(0.002)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline()
    return process


def test_ctrl_c_closes_the_file_properly(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"
    process = _writing(path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    written = int(out.split()[-1]) if out.split() else 500
    assert read_trace(path).n_rows in (written, written + 100)


def test_repair_recovers_what_a_killed_writer_wrote(tmp_path: Path) -> None:
    path, out = tmp_path / "t.arrow", tmp_path / "out.arrow"
    process = _writing(path)
    process.send_signal(signal.SIGKILL)
    printed, _ = process.communicate(timeout=30)
    with pytest.raises(InputError, match="fabricsim repair"):
        read_trace(path)
    report = repair(path, out)
    written = int(printed.split()[-1]) if printed.split() else 500
    assert report.rows_saved >= written
    assert read_trace(out).table["id"].to_pylist() == list(range(report.rows_saved))


def test_detect_and_sniff_survive_folders_and_unreadable_things(tmp_path: Path) -> None:
    for name in ("htsim", "flows-csv"):
        assert not FORMATS[name].sniff(tmp_path)
        assert not FORMATS[name].sniff(tmp_path / "absent")
        with pytest.raises(InputError):
            FORMATS[name].convert(tmp_path)
    with pytest.raises(InputError):
        detect(tmp_path / "absent")
