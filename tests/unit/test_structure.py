"""The order of the house: who includes whom, how long files may be, and that every model has its page."""

import re
from pathlib import Path

import pytest

from fabricsim._core import engine

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
LINES_MOST = 700

# What each room of the core may include: whole rooms, or single headers.
MAY_SEE = {
    "core": {"core"},
    "net": {"core", "net"},
    "link": {"core", "net", "link"},
    "route": {"core", "net", "route"},
    "switch": {"core", "net", "link", "route", "switch"},
    "cc": {"core", "cc"},
    "coll": {"core", "coll"},
    "transport": {"core", "net", "link", "cc", "transport"},
    "store": {"core", "net", "transport/transport.h", "transport/hosts.h", "store"},
    "work": {"core", "net", "coll", "store/store.h", "transport/transport.h", "transport/hosts.h", "work"},
    "sim": {"core", "net", "link", "route", "switch", "cc", "coll", "transport", "store", "work", "sim"},
    "flow": {
        "core",
        "net",
        "route",
        "coll",
        "transport/transport.h",
        "transport/flow.h",
        "work",
        "sim/model.h",
        "flow",
    },
}
C_FILES = sorted(path for path in CSRC.glob("*/*.[ch]") if path.parent.name != "include")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def includes(path: Path, quote: str) -> list[str]:
    return [name for mark, name in INCLUDE.findall(path.read_text()) if mark == quote]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def written(*folders: str) -> list[Path]:
    """Source files that people write, under some folders."""
    suffixes = {".c", ".h", ".py", ".pyx", ".pxd", ".pyi"}
    generated = {ROOT / "fabricsim" / "_core" / "engine.c"}
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in suffixes and path not in generated and "__pycache__" not in path.parts
    ]


def test_rooms_are_those_of_the_design():
    rooms = {path.parent.name for path in C_FILES}
    assert rooms == set(MAY_SEE), "a new room needs its line in MAY_SEE"


@pytest.mark.parametrize("path", C_FILES, ids=relative)
def test_a_file_includes_only_what_its_room_may_see(path):
    allowed = MAY_SEE[path.parent.name]
    for name in includes(path, '"'):
        if name == "fabricsim.h":
            assert relative(path) == "csrc/core/error.h", f"{name} comes through core/error.h"
            continue
        assert "/" in name, f"{name}: headers are named with their room"
        assert (CSRC / name).is_file(), name
        room = name.split("/")[0]
        assert room in allowed or name in allowed, f"{path.parent.name} may not see {name}"


def test_the_core_knows_neither_python_nor_arrow_libraries():
    for path in [*C_FILES, CSRC / "include" / "fabricsim.h"]:
        for name in includes(path, "<"):
            assert not re.search(r"[Pp]ython|arrow|numpy", name), f"{relative(path)} includes {name}"


def test_the_interface_stands_alone():
    header = CSRC / "include" / "fabricsim.h"
    assert includes(header, '"') == []
    assert set(includes(header, "<")) <= {"stdbool.h", "stdint.h"}


def test_files_stay_short():
    long = {
        relative(path): lines
        for path in written("csrc", "fabricsim", "tests", "benches")
        if (lines := len(path.read_text().splitlines())) > LINES_MOST
    }
    assert not long, f"over {LINES_MOST} lines: {long}"


def test_nothing_is_left_to_do():
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    found = [
        f"{relative(path)}:{number}"
        for path in written("csrc", "fabricsim")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unfinished.search(line)
    ]
    assert not found


@pytest.mark.parametrize("path", [*C_FILES, CSRC / "include" / "fabricsim.h"], ids=relative)
def test_a_c_file_opens_with_what_it_is_about(path):
    text = path.read_text()
    assert text.startswith("/* "), "the first line is a comment"
    comment = text[: text.index("*/")]
    assert len(comment.split()) >= 5, comment


def test_headers_are_guarded():
    guards = {}
    for path in sorted(CSRC.glob("*/*.h")):
        guard = re.search(r"^#ifndef (FAB\w*_H)\n#define \1$", path.read_text(), re.MULTILINE)
        assert guard, relative(path)
        assert guards.setdefault(guard[1], path) == path, f"{guard[1]} is there twice"


def test_globals_of_the_core_are_constant():
    """State has two homes, model and run: no file of the core, and no function, has a variable that stays."""
    global_variable = re.compile(
        r"^(?:static |extern |_Thread_local )*\w[\w ]*[ *]+\w+(?:\[[^]]*\])*(?: = .*)?[;{]$"
    )
    local_static = re.compile(r"^\s+(?:static|_Thread_local) ")
    other = ("typedef ", "struct ", "enum ", "union ", "return ", "#", "FAB_")
    for path in C_FILES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            stays = global_variable.match(line) and not line.startswith(other)
            if stays or local_static.match(line):
                assert "const" in line.split("=")[0].split(), f"{relative(path)}:{number}: {line}"


# ---- pages of the models


def pages() -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "docs" / "models").glob("*.md")))


def test_every_implementation_has_a_page():
    text = pages()
    names = set((ROOT / "docs" / "models").glob("*.md"))
    stems = {path.stem for path in names}
    missing = [
        f"{room}.{name}"
        for room, implementations in engine.implementations().items()
        for name in implementations
        if f"{room}-{name}" not in stems and f"`{name}`" not in text
    ]
    assert not missing, (
        "each needs docs/models/<room>-<name>.md, or its name in backticks in another page there"
    )


def test_every_parameter_is_on_a_page():
    text = pages()
    missing = sorted(
        f"{row['room']}.{row['impl']}.{row['name']}"
        for row in engine.params()
        if f"`{row['name']}`" not in text
    )
    assert not missing, "each needs its name in backticks in a page of docs/models"


def test_parameters_tell_what_they_are():
    for row in engine.params():
        assert row["meaning"] and row["min"] <= row["default"] <= row["max"], row
