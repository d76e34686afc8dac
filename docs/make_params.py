"""Rewrites the generated parts of README.md and docs/: tables, and what commands print.

A generated part lies between ``<!-- generated: WHAT -->`` and ``<!-- end -->``. WHAT is one of

    params ROOM IMPL      parameters of an implementation, from the core's own table
    trace                 columns of the trace
    results TABLE         columns of a table of a result
    presets               the clusters that come along
    pages FOLDER          links to the pages of a folder, by their titles
    validation            published figures beside emulated ones: a minute, so only with --validation
    run COMMAND           the command (of fabricsim or python) and what it prints
    output                what the Python block before it prints

``python docs/make_params.py`` rewrites the files, ``--check`` only names those that are not current,
``--validation`` makes that part anew too.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PART = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """Return every page that may have generated parts."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def current(text: str, *, commands: bool = True, validation: bool = False) -> str:
    """Return a page with its generated parts made anew.

    ``commands=False`` leaves the output of commands, ``validation=False`` the table of published figures.
    """

    def part(match: re.Match[str]) -> str:
        what = match[2].split()
        if (what[0] in ("run", "output") and not commands) or (what[0] == "validation" and not validation):
            return match[0]
        if what == ["output"]:
            what.append(text[: match.start()].rpartition("```python\n")[2].partition("```")[0])
        return f"{match[1]}{_made(what)}\n{match[3]}"

    return _PART.sub(part, text)


def _made(what: Sequence[str]) -> str:
    makers: dict[str, Callable[..., str]] = {
        "params": _params,
        "trace": _trace,
        "results": _results,
        "presets": _presets,
        "pages": _pages,
        "validation": _validation,
        "run": _run,
        "output": _output,
    }
    return makers[what[0]](*what[1:])


def _params(room: str, impl: str) -> str:
    from fabricsim.fabrics import parameter_table

    parameters = parameter_table().of(room, impl)
    if not parameters:
        return f"`{impl}` has no parameters."
    rows = [
        (f"`{p.name}`", p.unit, str(p.default), f"{p.minimum} to {p.maximum}", p.meaning, p.source)
        for p in parameters.values()
    ]
    return _table(("parameter", "unit", "default", "range", "meaning", "source"), rows)


def _trace() -> str:
    from fabricsim.trace.schema import COLUMNS

    rows = [
        (f"`{c.name}`", f"{c.type}".replace("<item: ", "<"), c.unit, "no" if c.required else "yes", c.meaning)
        for c in COLUMNS
    ]
    return _table(("column", "type", "unit", "may be null", "meaning"), rows)


def _results(name: str) -> str:
    from fabricsim.records import SCHEMAS

    rows = []
    for field in SCHEMAS[name]:
        unit = (field.metadata or {}).get(b"unit", b"").decode()
        kind = "string" if str(field.type).startswith("dictionary") else str(field.type)
        rows.append((f"`{field.name}`", kind, unit, "yes" if field.nullable else "no"))
    return _table(("column", "type", "unit", "may be null"), rows)


def _presets() -> str:
    from fabricsim.platforms import list_platforms

    rows = [(f"`{preset.name}`", preset.description) for preset in list_platforms()]
    return _table(("preset", "what it is"), rows)


def _pages(folder: str) -> str:
    lines = []
    for page in sorted((ROOT / "docs" / folder).glob("*.md")):
        title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"* [{title}]({folder}/{page.name})")
    return "\n".join(lines)


def figure(value: float) -> str:
    """Return a figure of the validation as its page has it."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"


def _validation() -> str:
    from fabricsim.validate import all_checks, run_checks

    signs = {"equal": "", "at least": "≥ ", "at most": "≤ "}
    kinds: dict[str, list[tuple[str, ...]]] = {}
    for one in run_checks(all_checks()):
        check = one.check
        kinds.setdefault(check.kind, []).append(
            (
                check.name,
                check.configuration,
                f"{signs[check.sense]}{figure(check.published)} {check.unit}".rstrip(),
                "not run" if one.value is None else figure(one.value),
                f"{one.error:+.2%}" if one.error is not None and math.isfinite(one.error) else "",
                f"{100 * check.tolerance:.3g} %" if check.tolerance else "exact",
                "" if check.status == "physics" else check.status,
                check.source,
            )
        )
    head = ("check", "of what", "published", "emulated", "error", "allowed", "fitted, assumed", "source")
    return "\n\n".join(f"## {kind.capitalize()}\n\n{_table(head, rows)}" for kind, rows in kinds.items())


def _run(*command: str) -> str:
    output = _printed(*(["-m", "fabricsim"] if command[0] == "fabricsim" else []), *command[1:])
    return f"```console\n$ {shlex.join(command)}\n{output}\n```"


def _output(program: str) -> str:
    # What a program writes is not for the repository.
    with tempfile.TemporaryDirectory() as folder:
        return f"```text\n{_printed('-c', program, cwd=folder)}\n```"


def _printed(*arguments: str, cwd: str | Path = ROOT) -> str:
    """Return what Python prints to standard output; paths start at the folder of the package."""
    import fabricsim

    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.replace(f"{Path(fabricsim.__file__).parent.parent}/", "").rstrip()


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main(arguments: Sequence[str]) -> int:
    """Rewrite what is not current, or name it."""
    check = "--check" in arguments
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        made = current(text, validation="--validation" in arguments)
        if made != text:
            stale.append(page)
            if not check:
                page.write_text(made, encoding="utf-8")
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'not current' if check else 'rewritten'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
