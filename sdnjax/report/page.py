"""The page: its head, its style and its script, all inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sdnjax.report import sections
from sdnjax.report.html import Html, joined, tag
from sdnjax.report.records import RunRecord

# In the first bytes of every report, so that only a report is ever overwritten.
MARK = '<meta name="generator" content="sdnjax report">'
# What a browser is allowed to load: nothing but what is in the file.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(
    runs: Sequence[RunRecord], pictures: Mapping[str, Sequence[sections.Shown]], note: str = ""
) -> str:
    """The report of runs as one HTML document.

    Args:
      runs: the first is the one that the others are compared with.
      pictures: examples by the titles of their groups.
      note: a line below the title.
    """
    parts = [
        ("overview", "Overview", sections.overview(runs)),
        ("curves", "Curves", sections.curves(runs)),
        ("classes", "Classes", sections.classes(runs)),
        ("boundaries", "Boundaries", sections.boundaries(runs)),
        ("confusion", "Confusion", sections.confusions(runs)),
        ("pictures", "Pictures", sections.pictures(pictures)),
        ("costs", "Costs", sections.costs(runs)),
        ("settings", "Settings", sections.settings(runs)),
        ("versions", "Versions", sections.provenance(runs)),
    ]
    title = "Report: " + ", ".join(run.name for run in runs)
    links = [tag("a", words, href=f"#{name}") for name, words, part in parts if part is not None]
    here = Path(__file__).parent
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(MARK),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html((here / "page.css").read_text())),
    )
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("p", note) if note else None),
        tag("nav", *links, aria_label="Sections"),
        tag("main", *(part for _, _, part in parts)),
        tag("div", class_="tip", role="status", hidden=True),
        tag("script", Html((here / "page.js").read_text())),
    )
    return joined([Html("<!doctype html>\n"), tag("html", head, body, lang="en"), "\n"])
