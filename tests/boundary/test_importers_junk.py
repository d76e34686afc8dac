"""Every importer on files that are none of its own: an InputError, and never anything else."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from fabricsim.convert import FORMATS
from fabricsim.errors import InputError

NAMES = ("x", "x.json", "x.goal", "x.log", "x.txt", "x.et", "x.cm", "x.csv", "x.json.gz", "x.goal.gz")
JUNK = {
    "nothing": b"",
    "zeros": bytes(5000),
    "no text": b"\xff" * 5000,
    "a brace": b"{",
    "lists": b"[]" * 9,
    "random": random.Random(1).randbytes(4000),
    "lines": b"\n" * 100,
    "gzip cut short": gzip.compress(b"num_ranks 2\n" * 500)[:40],
    "gzip of nothing": gzip.compress(b""),
    "a mark": b"\xef\xbb\xbfnum_ranks 2\n",
    "a head alone": b"num_ranks 1048576\n",
    "empty objects": b'{"header": {}, "coll_perf": {}}\n',
    "deep": b'{"version":2,"args":' + b"[" * 100_000,
    "a layer too few": b"MICRO\n4\n",
}


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "darshan"])
def test_junk_is_an_input_error(tmp_path: Path, form: str) -> None:
    importer = FORMATS[form]
    for name in NAMES:
        for data in JUNK.values():
            path = tmp_path / name
            path.write_bytes(data)
            importer.sniff(path)
            with pytest.raises(InputError) as caught:
                importer.convert(path)
            assert all(problem.message for problem in caught.value.problems)
            path.unlink()


@pytest.mark.parametrize("form", FORMATS)
def test_folders_and_what_is_not_there(tmp_path: Path, form: str) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "absent"):
        assert not FORMATS[form].sniff(path)
        with pytest.raises(InputError):
            FORMATS[form].convert(path)
