"""Captures that are cut, damaged or strange: an InputError with a place, and never anything else."""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import capture_makers as make
import pytest

from fabricsim.convert import FORMATS, chakra, detect, kineto, pytorch_et
from fabricsim.errors import InputError

STRANGE = [None, -1, 1 << 70, 1e400, float("nan"), 0.5, "", "x", [], {}, [[[]]], True]


def only_input_errors(call: Callable[[], Any]) -> bool:
    """Whether the call ended well; any error but InputError fails the test by itself."""
    try:
        call()
    except InputError as error:
        assert error.problems and str(error)
        return False
    return True


def chakra_bytes() -> bytes:
    init = '[{"pg_name": "0", "ranks": [0, 1], "group_size": 2}]'
    return make.et(
        make.node(0, 1, name="## process_group:init ##", inputs=init),
        make.node(1, 4, us=3, start=5, tid=7, is_cpu_op=False),
        make.node(2, 7, data=[1], comm_type=0, comm_size=64, pg_name="0", start=9, us=4),
        make.node(3, 5, data=[2], ctrl=[1], comm_size=8, comm_dst=1, comm_tag=3),
    )


def kineto_document() -> dict[str, Any]:
    p = make.Profile(0, 2)
    p.kernel(0, 5, 20)
    sizes = {"In split size": "[1, 3]", "Out split size": "[1, 3]", "Process Group Ranks": "[0, 1]"}
    call = make.NCCL | {"Collective name": "all_to_allv", "Group size": 2}
    p.collective(10, 26, 5, name="SendRecv", **(call | sizes))
    p.wait(16)
    p.kernel(18, 33, 3)
    p.sync(20, 17)
    return p.document() | {"baseTimeNanoseconds": 5}


def et_document() -> dict[str, Any]:
    values = ['[{"pg_name": "0", "ranks": [0, 1], "group_size": 2}]']
    init = {"name": "## process_group:init ##", "id": 1, "inputs": {"values": values}}
    call = make.record(3, "all_to_allv", 4, rank=0, out=3, sends=(1, 3), receives=(1, 2), pg="0")
    return {"schema": "1.0.1", "nodes": [init, call, make.record(4, "wait", 0, rank=0)]}


def chakra_document() -> dict[str, Any]:
    entry = {"Id": 1, "Name": "x", "NodeType": 4, "ctrlDeps": [], "data_deps": [], "runtime": 3}
    call = {"Id": 2, "Name": "c", "NodeType": 7, "data_deps": [1], "comm_type": 0, "comm_size": 4, "tid": 3}
    return {"workload_graph": [entry, call], "ngpus": 2}


DOCUMENTS = {
    "kineto": (kineto_document, kineto.convert, "worker0.pt.trace.json"),
    "pytorch-et": (et_document, pytorch_et.convert, "et_0.json"),
    "chakra": (chakra_document, chakra.convert, "job.0.json"),
}


def test_every_cut_of_a_chakra_file(tmp_path: Path) -> None:
    data, path = chakra_bytes(), tmp_path / "job.0.et"
    good = []
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        if only_input_errors(lambda: chakra.convert(path)):
            good.append(size)
        detect_quietly(path)
    assert len(data) in good and len(good) <= 4  # a cut between two messages is a shorter file


def detect_quietly(path: Path) -> None:
    only_input_errors(lambda: detect(path))


def test_changed_and_random_bytes_of_a_chakra_file(tmp_path: Path) -> None:
    data, path, rng = chakra_bytes(), tmp_path / "job.0.et", random.Random(1)
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        only_input_errors(lambda: chakra.convert(path))
    for size in (1, 2, 7, 64, 500):
        for _ in range(60):
            path.write_bytes(rng.randbytes(size))
            only_input_errors(lambda: chakra.convert(path))


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


@pytest.mark.parametrize("form", DOCUMENTS)
def test_every_field_of_another_type(tmp_path: Path, form: str) -> None:
    make_document, convert, name = DOCUMENTS[form]
    document, path = make_document(), tmp_path / name
    path.write_text(json.dumps(document))
    assert convert(path).counts["rows"] >= 1
    assert detect(path) is FORMATS[form]
    for place in places(document):
        for value in (*STRANGE, "remove"):
            changed = copy.deepcopy(document)
            at: Any = changed
            for key in place[:-1]:
                at = at[key]
            if not place:
                changed = value
            elif value == "remove":
                del at[place[-1]]
            else:
                at[place[-1]] = value
            path.write_text(json.dumps(changed))
            only_input_errors(lambda: convert(path))


@pytest.mark.parametrize("form", DOCUMENTS)
def test_cut_and_damaged_json(tmp_path: Path, form: str) -> None:
    make_document, convert, name = DOCUMENTS[form]
    path, data = tmp_path / name, json.dumps(make_document()).encode()
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        assert not only_input_errors(lambda: convert(path))
    rng = random.Random(2)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        only_input_errors(lambda: convert(path))
    path.write_bytes(b'{"traceEvents": "workload_graph" "nodes" "schema"' + b"[" * 200_000)
    assert not only_input_errors(lambda: convert(path))


@pytest.mark.parametrize("form", DOCUMENTS)
def test_damaged_gzip(tmp_path: Path, form: str) -> None:
    make_document, convert, name = DOCUMENTS[form]
    path, data = tmp_path / (name + ".gz"), gzip.compress(json.dumps(make_document()).encode(), mtime=0)
    path.write_bytes(data)
    assert convert(path).counts["rows"] >= 1 and detect(path) is FORMATS[form]
    for size in range(0, len(data), 5):
        path.write_bytes(data[:size])
        assert not only_input_errors(lambda: convert(path))
    rng = random.Random(3)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.randrange(2, len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        only_input_errors(lambda: convert(path))
    path.write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"not gzip data"):
        convert(path)


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_damaged_archives(tmp_path: Path) -> None:
    kept = json.dumps(kineto_document()).encode()
    # A Mac's resource forks and other files lie beside the traces.
    data = archive({"a/._worker0.pt.trace.json": b"\0junk", "a/worker0.pt.trace.json": kept, "a/x.txt": b"x"})
    path = tmp_path / "capture.tar.gz"
    path.write_bytes(data)
    assert kineto.convert(path).counts["files"] == 1 and detect(path) is FORMATS["kineto"]
    rng = random.Random(4)
    for size in range(0, len(data), 11):
        path.write_bytes(data[:size])
        only_input_errors(lambda: kineto.convert(path))
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        only_input_errors(lambda: kineto.convert(path))
    path.write_bytes(archive({"only.txt": b"x"}))
    for form in DOCUMENTS:
        with pytest.raises(InputError, match="in it"):
            FORMATS[form].convert(path)


def test_random_bytes_and_absent_files(tmp_path: Path) -> None:
    rng = random.Random(5)
    for suffix in (".json", ".json.gz", ".tar.gz", ".et", ".tgz", ".tar"):
        for size in (0, 1, 100, 3000):
            path = tmp_path / f"x.0{suffix}"
            path.write_bytes(rng.randbytes(size))
            for form in DOCUMENTS:
                only_input_errors(lambda form=form, path=path: FORMATS[form].convert(path))
                FORMATS[form].sniff(path)
    for form in DOCUMENTS:
        with pytest.raises(InputError, match="no such file"):
            FORMATS[form].convert(tmp_path / "absent" / "x")
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError):
            FORMATS[form].convert(tmp_path / "empty")


def test_two_files_of_a_rank(tmp_path: Path) -> None:
    for name in ("worker0_a.json", "worker0_b.json"):
        (tmp_path / name).write_text(json.dumps(kineto_document()))
    with pytest.raises(InputError, match="a second trace of rank 0"):
        kineto.convert(tmp_path)


def test_all_problems_of_a_capture_at_once(tmp_path: Path) -> None:
    for rank in (0, 1):
        p = make.Profile(rank, 2)
        for k in range(3):
            p.collective(100 * k + 10, 100 * k + 18, 5, **make.NCCL)
        p.events[2]["ts"] = "soon"
        p.events[-1]["dur"] = -1
        p.write(tmp_path / "kineto")
    calls = make.Profile(0, 1)
    for change in ({"dtype": "Quad"}, {"In msg nelems": -1}, {"Collective name": "frobnicate"}):
        calls.collective(10, 18, 5, **(make.NCCL | change))
    calls.write(tmp_path / "args")
    bad = [make.record(k, "all_to_allv", 4, rank=0, sends=(1, 9)) for k in (3, 4)]
    make.write_pytorch_et(tmp_path / "et", {0: bad, 1: bad})
    nodes = [make.node(k, 77) for k in (1, 2)]
    make.write_et(tmp_path / "chakra", {0: nodes, 1: nodes})
    kinds = [make.node(k, 7, comm_type=99, comm_size=4) for k in (1, 2)]
    make.write_et(tmp_path / "types", {0: kinds, 1: kinds})
    for folder, convert, many in (
        ("kineto", kineto.convert, 4),
        ("args", kineto.convert, 3),
        ("et", pytorch_et.convert, 4),
        ("chakra", chakra.convert, 4),
        ("types", chakra.convert, 4),
    ):
        with pytest.raises(InputError) as caught:
            convert(tmp_path / folder)
        assert len({(p.where, p.message) for p in caught.value.problems}) == many, folder
