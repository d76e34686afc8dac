"""The site builds without a warning; pages, links and public names are there, and no network is needed."""

import importlib
import importlib.util
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sphinx", "myst_parser", "furo")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the extra docs is not installed: {MISSING}")


class Page(HTMLParser):
    """The links, ids, and files of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.loads = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.update(found[key] for key in ("id", "name") if found.get(key))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe") and found.get("src"):
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-d", folder / "trees"]
    done = subprocess.run(
        [sys.executable, *map(str, command), str(ROOT / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def test_every_page_is_in_the_navigation(site, pages):
    linked = {urlsplit(link).path for link in pages[site / "index.html"].links}
    written = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    wanted = {str(path.with_suffix(".html")) for path in written} - {"index.html"}
    assert sorted(wanted - linked) == [], "add them to docs/index.md, or to the page above them"


def test_links_lead_to_pages_and_anchors_that_are_there(pages):
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.exists() or (parts.fragment and known and unquote(parts.fragment) not in known.ids):
                dead.append(f"{path.name}: {link}")
    assert dead == []


def test_pages_need_no_network(pages):
    loads = {load for page in pages.values() for load in page.loads}
    assert [load for load in loads if urlsplit(load).netloc] == []


def test_the_search_knows_pages_and_names(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "goodput" in index and "YoungInterval" not in index and "young_interval" in index


def test_every_public_name_has_an_entry(site):
    # Four lines of text, then compressed lines: name, kind, priority, address, title.
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split()[0] for line in zlib.decompress(packed).decode().splitlines() if " py:" in line}
    spec = importlib.util.spec_from_file_location("site_conf", ROOT / "docs" / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    public = {
        f"{module}.{name}": getattr(importlib.import_module(module), name)
        for module in conf.public_modules()
        for name in importlib.import_module(module).__all__
    }
    described = {id(value) for name, value in public.items() if name in known}
    assert [name for name, value in public.items() if name not in known and id(value) not in described] == []
