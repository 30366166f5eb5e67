"""The documentation: every page is reached, every link and every reference leads somewhere."""

import functools
import importlib
import inspect
import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sdnjax

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = [*PAGES, "README.md", "CHANGELOG.md"]
# What the site makes of files outside docs/; see docs/hooks/outside.py.
MADE = {"readme.md", "changelog.md"}
REFERENCE = re.compile(r"^::: (\S+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
# A module's `__all__` is what it offers: all of it is in the reference, but for a function that
# a static reader cannot tell from the module beside it.
IN_PROSE = {"sdnjax.data.label_space"}
OFFERED = (
    "",
    ".convert",
    ".data",
    ".losses",
    ".metrics",
    ".models",
    ".ops",
    ".ops.crf",
    ".visualize",
)


@functools.cache
def text(path):
    """Markdown without its blocks of code."""
    return FENCED.sub("", (ROOT / path).read_text())


def references():
    return [name for path in PAGES for name in REFERENCE.findall(text(path))]


@functools.cache
def anchors(path):
    """Headings as both GitHub and MkDocs spell them, and objects of the reference."""
    headings = re.findall(r"^#+ (.*)$", text(path), re.MULTILINE)
    words = (re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", word).strip().replace(" ", "-") for word in words} | {
        *REFERENCE.findall(text(path))
    }


def links(path):
    """The relative links of a document: (file from the repository's root, anchor)."""
    prose = re.sub(r"`[^`\n]+`", "", text(path))
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", link):
            file, _, anchor = link.partition("#")
            to = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
            yield (to if file else path), anchor


def in_navigation(entry):
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    return [page for part in inner for page in in_navigation(part)]


def site():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def test_every_page_is_in_the_navigation_once():
    pages = [page.removeprefix("docs/") for page in PAGES]
    assert sorted(in_navigation(site()["nav"])) == sorted([*pages, *MADE])


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_relative_link_leads_somewhere(path):
    for to, anchor in links(path):
        assert (ROOT / to).exists(), f"{path} links to {to}"
        if anchor:
            assert anchor in anchors(to), f"{path} links to {to}#{anchor}"


def test_links_are_seen():
    """The test above would pass on a document in which it found none."""
    found = [link for path in DOCUMENTS for link in links(path)]
    assert ("sdnjax/ops/sdc/reference.py", "") in found
    assert ("docs/companions.md", "inverseform") in found
    assert "parts-with-a-rate-of-their-own-frozen-parts" in anchors("docs/training.md")


@pytest.mark.parametrize("name", references())
def test_every_reference_is_a_public_object_that_explains_itself(name):
    module, _, attribute = name.rpartition(".")
    owner, value = importlib.import_module(module), named(name)
    assert not any(part.startswith("_") for part in name.split("."))
    assert attribute in getattr(owner, "__all__", [attribute]), f"{module} does not offer it"
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)


def named(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_all_that_is_offered_is_in_the_reference_once():
    # By identity: a function that has its module's name is listed by its home, `load.load`.
    shown = [id(named(name)) for name in references()]
    assert len(shown) == len(set(shown))
    for package in OFFERED:
        module = importlib.import_module(f"sdnjax{package}")
        for name in module.__all__:
            value = getattr(module, name)
            path = f"{module.__name__}.{name}"
            left_out = name.startswith("_") or inspect.ismodule(value) or path in IN_PROSE
            assert left_out or id(value) in shown, path


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site, as `make docs` builds it: a warning is an error."""
    pytest.importorskip("mkdocs", reason="needs sdnjax[docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--config-file", ROOT / "mkdocs.yml"]
    done = subprocess.run(
        [*command, "--site-dir", folder],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_shows_what_pages_link_to_outside_their_folder(built):
    page = (built / "extending.html").read_text()
    assert 'href="source/sdnjax/ops/sdc/reference.py.html"' in page
    source = (built / "source/sdnjax/ops/sdc/reference.py.html").read_text()
    assert ">semantic_difference</span>" in source
    readme = (built / "readme.html").read_text()
    assert 'href="training.html"' in readme and 'href="docs/' not in readme
    assert 'href="readme.html#measured"' in (built / "methods.html").read_text()


def test_the_reference_has_settings_with_their_help(built):
    pages = "".join(page.read_text() for page in (built / "api").glob("*.html"))
    assert "optimizer steps" in pages
    assert [name for name in references() if f'id="{name}"' not in pages] == []
    # A module in the place of an object: both have one name, and the object is hidden by it.
    assert "doc-symbol-heading doc-symbol-module" not in pages


def test_the_site_loads_nothing_from_a_network(built):
    for page in built.rglob("*.html"):
        tags = re.findall(r"<(?:link|script|img|iframe)\b[^>]*>", page.read_text())
        assert [t for t in tags if re.search(r"""(?:src|href)=["']?(?:https?:)?//""", t)] == []


def test_the_citation_has_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == sdnjax.__version__
    assert (cited["title"], cited["license"]) == ("sdnjax", "Apache-2.0")
    assert [paper["year"] for paper in cited["references"]] == [2022, 2023, 2018]
