"""The documentation is true: tables are current, snippets run, commands parse, links lead somewhere."""

import importlib.util
import re
import runpy
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
MODELS = sorted((ROOT / "docs" / "models").glob("*.md"))


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def snippets():
    for page in PAGES:
        for number, block in enumerate(blocks(page, "python")):
            yield pytest.param(page, number, block, id=f"{name_of(page)}-{number}")


@pytest.fixture(scope="module")
def make_params():
    spec = importlib.util.spec_from_file_location("make_params", ROOT / "docs" / "make_params.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_current(page, make_params):
    text = page.read_text(encoding="utf-8")
    assert make_params.current(text, commands=False) == text, "run python docs/make_params.py"


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_outputs_that_a_newcomer_reads_are_current(page, make_params):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert make_params.current(text) == text, "run python docs/make_params.py"


@pytest.mark.parametrize("page, number, block", [*snippets()])
def test_snippets_run(page, number, block, tmp_path_factory, monkeypatch):
    # The snippets of a page may hand files to one another.
    folder = tmp_path_factory.getbasetemp() / f"snippets-{page.stem}"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    exec(compile(block, f"{name_of(page)}:snippet {number}", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_print_what_their_page_shows(script, capsys):
    runpy.run_path(str(script))
    output = capsys.readouterr().out.rstrip()
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert f"$ python examples/{script.name}\n{output}\n```" in page, "run python docs/make_params.py"


def test_five_short_examples_answer_a_question():
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8").partition("## More")[0]
    scripts = [ROOT / name for name in re.findall(r"^\$ python (examples/\w+\.py)$", page, re.MULTILINE)]
    texts = [script.read_text(encoding="utf-8") for script in scripts]
    assert len(texts) == 5
    assert [s.name for s, text in zip(scripts, texts, strict=True) if len(text.splitlines()) >= 40] == []
    assert all("?" in text.splitlines()[0] for text in texts)


def test_classes_keep_storage_from_stopping_gradients(capsys):
    runpy.run_path(str(ROOT / "examples" / "two_classes.py"))
    lines = capsys.readouterr().out.splitlines()[1:]
    one, strict, shared = (tuple(map(float, re.findall(r"([\d.]+) ms", line))) for line in lines)
    assert strict[0] < shared[0] < one[0] and shared[1] == one[1] < strict[1]


def test_a_checkpoint_of_its_own_class_does_not_stop_gradients(capsys):
    runpy.run_path(str(ROOT / "examples" / "checkpoint_contention.py"))
    lines = capsys.readouterr().out.splitlines()[1:4]
    none, one, own = ([float(n) for n in re.findall(r"\d+\.\d+", line)] for line in lines)
    assert one[2] > 3 * none[2] and one[1] == none[1] and one[3] == pytest.approx(none[3], rel=0.02)
    assert own[2] == pytest.approx(none[2], rel=0.02)
    page = (ROOT / "docs" / "storage.md").read_text(encoding="utf-8")
    assert [f"{time:.2f} ms" in page for time in (none[2], one[2], one[4], own[4])] == [True] * 4


def commands():
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in block.splitlines():
                if line.startswith("$ fabricsim "):
                    yield pytest.param(line[2:], id=f"{name_of(page)}-{line[2:]}")
    questions = ROOT / "docs" / "questions.md"
    for command in re.findall(r"`(fabricsim [^`]+)`", questions.read_text(encoding="utf-8")):
        yield pytest.param(command, id=f"{name_of(questions)}-{command}")


@pytest.mark.parametrize("command", [*commands()])
def test_commands_parse(command):
    from fabricsim.cli import build_parser

    build_parser().parse_args(shlex.split(command)[1:])


def test_the_commands_are_all_documented():
    from fabricsim.cli import COMMANDS

    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [c.NAME for c in COMMANDS if f"`fabricsim {c.NAME}" not in text] == []


def test_figures_of_the_validation_page_are_those_of_the_checks(make_params):
    from fabricsim.validate import all_checks

    page = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    missing = [
        check.name
        for check in all_checks()
        if not re.search(
            rf"^\| {re.escape(check.name)} \|.*[ ]{re.escape(make_params.figure(check.published))}[ ]",
            page,
            re.M,
        )
    ]
    assert missing == [], "run python docs/make_params.py --validation"


def test_make_targets_exist():
    makefile = ROOT / "Makefile"
    if not makefile.exists():
        pytest.skip("installed without its Makefile")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile.read_text(), re.MULTILINE))
    named = {m for page in PAGES for m in re.findall(r"`make ([a-z]+)`", page.read_text(encoding="utf-8"))}
    assert named <= targets


def test_every_implementation_and_parameter_is_documented():
    from fabricsim._core import engine

    text = "\n".join(page.read_text(encoding="utf-8") for page in MODELS)
    names = {impl for impls in engine.implementations().values() for impl in impls}
    names |= {row["name"] for row in engine.params()}
    assert sorted(name for name in names if f"`{name}`" not in text) == []


@pytest.mark.parametrize("page", MODELS, ids=name_of)
def test_pages_of_models_tell_omissions_first(page):
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["What it leaves out", "What it models"]
    assert headings[-1] == "Sources"


def test_importers_and_their_options_are_documented():
    from fabricsim.convert import FORMATS

    text = (ROOT / "docs" / "importers.md").read_text(encoding="utf-8")
    wanted = {name for name, importer in FORMATS.items() for name in (name, *importer.options())}
    assert sorted(name for name in wanted if f"`{name}`" not in text) == []


def test_keys_of_a_summary_are_documented():
    import fabricsim
    from fabricsim.workload import collective

    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    trace = collective("all_reduce", size_bytes=1 << 16, n_ranks=4)
    result = fabricsim.replay(trace, fabricsim.Cluster.from_toml("leaf-spine-64-400g-roce"))
    wanted = {*result.to_json(), *result.provenance}
    for part in ("breakdown", "critical_path", "flows_summary"):
        wanted |= set(result.summary[part])
    wanted |= {*result.summary["breakdown"]["mean"], *result.summary["breakdown"]["by_kind"][0]}
    wanted |= {*result.summary["collectives"][0], *result.summary["critical_path"]["longest"][0]}
    assert sorted(name for name in wanted if f"`{name}`" not in text) == []


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []
