"""Builds the site: the pages of this folder, and the reference of the package from its docstrings.

``make docs`` builds it into build/site; what Sphinx warns of is an error there.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from sphinx.pycode import ModuleAnalyzer  # noqa: E402

import fabricsim  # noqa: E402

project = "fabricsim"
author = "the fabricsim authors"
project_copyright = "the fabricsim authors, Apache License 2.0"
release = version = fabricsim.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["make_params.py"]

# Two classes of one name in different modules are no mistake.
suppress_warnings = ["ref.python"]

# The pages are read on code hosts too: headings have the anchors that those make.
myst_heading_anchors = 4

napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
autodoc_default_options = {"undoc-members": True}
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"fabricsim {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

#: Modules that are for the program itself, not for its users.
INNER = {"__main__", "_core", "cli"}
#: Modules deeper down that the pages use.
DEEPER = ("collectives.bench", "goodput.detectors", "workload.rows", "workload.shapes")


def public_modules() -> list[str]:
    """Return the package, each module right under it that has ``__all__``, and some deeper ones."""
    names = sorted(m.name for m in pkgutil.iter_modules(fabricsim.__path__) if m.name not in INNER)
    modules = ["fabricsim", *(f"fabricsim.{name}" for name in [*names, *DEEPER])]
    return [name for name in modules if hasattr(importlib.import_module(name), "__all__")]


def directive(name: str, value: Any) -> str:
    """Return the autodoc directive of a name of the current module."""
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        return f".. auto{kind}:: {name}\n   :members:\n"
    return f".. auto{'function' if inspect.isroutine(value) else 'data'}:: {name}\n"


def write_reference(folder: Path) -> None:
    """Write the page of each public module: what an earlier one describes is only named there."""
    folder.mkdir(exist_ok=True)
    described: dict[int, str] = {}
    pages = {}
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        parts = [f"{module_name}\n{'=' * len(module_name)}\n", f".. automodule:: {module_name}\n"]
        elsewhere = []
        for name in module.__all__:
            value = getattr(module, name)
            if id(value) in described:
                elsewhere.append(f":py:obj:`{described[id(value)]}`")
                continue
            if inspect.isclass(value) or inspect.isroutine(value):
                described[id(value)] = f"{module_name}.{name}"
            parts.append(directive(name, value))
        if elsewhere:
            parts.append(f"Also here: {', '.join(elsewhere)}.\n")
        pages[folder / f"{module_name}.rst"] = "\n".join(parts)
    for old in folder.glob("*.rst"):
        if old not in pages:
            old.unlink()
    for path, text in pages.items():
        # A page that is as before keeps its time, so that it is not built again.
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def comment_of(module_name: str, name: str, value: Any) -> list[str]:
    """Return the ``#:`` comment of a constant, from the module of a package that defines it."""
    for known in sorted(n for n in sys.modules if n == module_name or n.startswith(f"{module_name}.")):
        if getattr(sys.modules[known], name, None) is value:
            found = ModuleAnalyzer.for_module(known).find_attr_docs().get(("", name))
            if found:
                return list(found)
    return []


def mend(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Give constants their comments; and head what follows the sections of a docstring without a heading.

    A doctest or a paragraph there would be taken for one more parameter.
    """
    if what == "data":
        lines[:] = comment_of(*name.rpartition(".")[::2], value) or [""]
    rules = [i for i, line in enumerate(lines) if line and set(line) == {"-"}]
    headed = {i - 1 for i in rules} | set(rules)
    for i in range(len(lines) - 1, rules[0] if rules else len(lines), -1):
        starts = lines[i][:1].strip() and not lines[i - 1].strip() and i not in headed
        if starts and lines[i].startswith(">>> "):
            lines[i:i] = ["Examples", "--------"]
        elif starts and not (i + 1 < len(lines) and lines[i + 1].startswith(" ")):
            lines[i:i] = ["Notes", "-----"]


def setup(app: Any) -> dict[str, Any]:
    """Write the reference before Sphinx looks for pages."""
    write_reference(HERE / "api")
    app.connect("autodoc-process-docstring", mend, priority=400)  # before napoleon's, at 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
