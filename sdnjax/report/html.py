"""HTML and SVG from nested calls. Whatever is no `Html` yet is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """`<name attribute="…">children</name>`.

    `data_series=…` is the attribute data-series, `class_` is class; None and False leave an
    attribute out, True gives it without a value; lists and dicts become JSON.
    """
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if isinstance(value, (list, dict)):
            value = json.dumps(value, separators=(",", ":"), allow_nan=False)
        words.append(key if value is True else f'{key}="{html.escape(str(value))}"')
    opened = " ".join(words)
    if name in _VOID:
        return Html(f"<{opened}>")
    return Html(f"<{opened}>{joined(children)}</{name}>")


_VOID = ("img", "meta", "br")


def joined(parts: Iterable[Any]) -> Html:
    """Parts one after the other; None is nothing."""
    return Html(
        "".join(p if isinstance(p, Html) else html.escape(str(p)) for p in parts if p is not None)
    )


def table(
    head: Sequence[Any], rows: Iterable[Sequence[Any]], *, caption: str, sortable: bool = False
) -> Html:
    """A table whose first column names the rows.

    A cell that is a `Cell` shows one thing and is sorted by another; numbers stand on the right.
    """
    rows = [list(row) for row in rows]
    heads = []
    for i, text in enumerate(head):
        inside = tag("button", text, type="button") if sortable else text
        numbers = i > 0 and any(isinstance(row[i], Cell) for row in rows)
        how = {"class_": "number" if numbers else None, "aria_sort": "none" if sortable else None}
        heads.append(tag("th", inside, scope="col", **how))
    body = [tag("tr", *(_cell(x, first=i == 0) for i, x in enumerate(row))) for row in rows]
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *heads)),
        tag("tbody", *body),
        class_="sortable" if sortable else None,
    )
    return tag("div", made, class_="wide", tabindex="0", role="region", aria_label=caption)


class Cell:
    """What a cell shows, and the number that it is sorted by; None comes last."""

    def __init__(self, shown: Any, key: float | None, *, bar: float | None = None):
        self.shown, self.key, self.bar = shown, key, bar


def _cell(value: Any, *, first: bool) -> Html:
    if first:
        key = None
        if isinstance(value, Cell):
            value, key = value.shown, value.key
        return tag("th", value, scope="row", data_key=key)
    if not isinstance(value, Cell):
        return tag("td", value)
    bar = None if value.bar is None else f"--bar-end:{100 * min(max(value.bar, 0), 1):.1f}%"
    key = "" if value.key is None else repr(float(value.key))
    return tag("td", value.shown, class_="number", data_key=key, style=bar)


def details(summary: str, *children: Any) -> Html:
    """What is shown when it is asked for."""
    return tag("details", tag("summary", summary), *children)


def section(name: str, title: str, *children: Any) -> Html:
    """A part of the page that has a heading and can be linked to."""
    return tag("section", tag("h2", title, id=name), *children, aria_labelledby=name)


def percent(value: float | None, digits: int = 1) -> Cell:
    """A share as a cell of a table."""
    if value is None:
        return Cell("–", None)
    return Cell(f"{100 * value:.{digits}f}", value)
