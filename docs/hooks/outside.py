"""What lies outside docs/ in the built site: one rule for links that leave the folder.

Pages are written to be read in the repository, where `../sdnjax/ops/sdc/reference.py` is a file.
In the site a file that a page links to is a page too: Markdown as itself, everything else as code.
Links of such pages are followed likewise. README.md and CHANGELOG.md are in the navigation.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

IN_NAVIGATION = ("README.md", "CHANGELOG.md")
LANGUAGES = {".py": "python", ".json": "json", ".ipynb": "json"}
# Code, a block or a word in a line, is passed over.
_CODE_OR_LINK = re.compile(r"^```.*?^```|`[^`\n]+`|\]\((?P<to>[^)\s]+)\)", re.DOTALL | re.MULTILINE)


def linked(text: str) -> Iterator[re.Match[str]]:
    """The relative links of Markdown; `match["to"]` is where one leads."""
    for match in _CODE_OR_LINK.finditer(text):
        if match["to"] and ":" not in match["to"]:
            yield match


def reached(path: str, link: str) -> str:
    """The file that a link of the file `path` leads to, both from the repository's root."""
    file = link.partition("#")[0]
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path


def page_of(path: str) -> str:
    """The page of the site that shows a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    # In lower case: to MkDocs README.md would be the index of its folder.
    return path.lower() if path.endswith(".md") else f"source/{path}.md"


def relinked(text: str, path: str, is_page: Callable[[str], bool]) -> str:
    """The Markdown of the file `path` with links from page to page, where there are pages."""
    here = posixpath.dirname(page_of(path))

    def change(match: re.Match[str]) -> str:
        link = match["to"]
        if not link or ":" in link or not is_page(to := reached(path, link)):
            return match[0]
        hash_, anchor = link.partition("#")[1:]
        return f"]({posixpath.relpath(page_of(to), here)}{hash_}{anchor})"

    return _CODE_OR_LINK.sub(change, text)


def shown(root: Path, path: str) -> str:
    """The Markdown of the page for a file outside docs/, its links as they are."""
    text = (root / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    return f"# {path}\n\n````{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n````\n"


def outside(root: Path, pages: dict[str, str]) -> dict[str, str]:
    """Markdown of the files outside docs/ that have pages, by path.

    Args:
      pages: Markdown of the pages in docs/, by path from the repository's root.
    """
    found = {path: shown(root, path) for path in IN_NAVIGATION}
    left = [*pages.items(), *found.items()]
    while left:
        path, text = left.pop()
        for to in {reached(path, match["to"]) for match in linked(text)} - found.keys():
            if not to.startswith(("docs/", "..")) and (root / to).is_file():
                found[to] = shown(root, to)
                left.append((to, found[to]))
    return found


_PATHS: dict[str, str] = {}  # of the pages in this build: page → file in the repository


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages for files outside docs/."""
    _PATHS.clear()
    pages = {f"docs/{f.src_uri}": f.content_string for f in files.documentation_pages()}
    found = outside(Path(config.config_file_path).parent, pages)
    _PATHS.update({page_of(path): path for path in (*pages, *found)})
    for path, text in found.items():
        files.append(File.generated(config, page_of(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links to files into links to their pages."""
    return relinked(markdown, _PATHS[page.file.src_uri], set(_PATHS.values()).__contains__)
