"""The confusion matrix as SVG: a row is a true class and adds up to 100 %."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sdnjax.report.html import Cell, Html, details, table, tag

_FULL = 40  # classes up to which the whole matrix is also a table
_NUMBERED = 16  # classes up to which cells have their numbers
_LEAST = 0.005  # share from which a cell is drawn
_CONFUSIONS = 12  # rows of the table of the largest


def matrix(title: str, confusion: np.ndarray, names: Sequence[str]) -> Html:
    """A figure: the matrix, the largest confusions, and for few classes all numbers.

    Args:
      confusion: counts of pixels [K, K], rows the truth.
    """
    count = len(names)
    total = confusion.sum(axis=1)
    shares = confusion / np.maximum(total, 1)[:, None]
    size = 26 if count <= _NUMBERED else max(4, 420 // count)
    labels = size >= 9
    margin = 12 + 6.2 * min(18, max(map(len, names))) if labels else 24
    whole = margin + count * size + 2
    parts = [tag("text", "predicted →", x=f"{margin:.0f}", y=whole + 12)]
    for k, name in enumerate(names if labels else ()):
        middle = margin + (k + 0.5) * size
        text = name if len(name) <= 18 else name[:17] + "…"
        at = {"dominant_baseline": "middle"}
        parts.append(tag("text", text, x=f"{margin - 5:.1f}", y=middle, text_anchor="end", **at))
        turned = f"translate({middle:.1f} {margin - 5:.1f}) rotate(-90)"
        parts.append(tag("text", text, transform=turned, **at))
    edge = count * size
    parts.append(
        tag("rect", x=f"{margin:.1f}", y=f"{margin:.1f}", width=edge, height=edge, class_="paper")
    )
    cells = []
    for i, j in np.argwhere(shares >= _LEAST).tolist():
        share = float(shares[i, j])
        strength = math.sqrt(share)  # a confusion of a few percent is seen
        x, y = margin + j * size, margin + i * size
        kind = "right" if i == j else "wrong"
        box = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": size, "height": size}
        parts.append(tag("rect", **box, class_=kind, fill_opacity=f"{strength:.2f}"))
        if count <= _NUMBERED:
            at = {"x": f"{x + size / 2:.1f}", "y": f"{y + size / 2:.1f}"}
            style = "in" if strength > 0.6 else None
            number = f"{100 * share:.0f}"
            middle_of = {"text_anchor": "middle", "dominant_baseline": "central"}
            parts.append(tag("text", number, **at, **middle_of, class_=style))
        cells.append([i, j, round(100 * share, 1), int(confusion[i, j])])
    parts.append(
        tag("rect", width=size, height=size, class_="cursor", visibility="hidden", x=0, y=0)
    )
    svg = tag(
        "svg",
        tag("title", f"{title}: rows are true classes, columns predicted ones"),
        *parts,
        viewBox=f"0 0 {whole:.0f} {whole + 18:.0f}",
        role="img",
        class_="matrix",
        data_names=list(names),
        data_cells=cells,
        data_grid=[round(margin, 1), size],
        style=f"min-width:{0.8 * whole:.0f}px;max-width:{1.5 * whole:.0f}px",
    )
    return tag(
        "figure",
        tag("figcaption", f"{title} (% of the true class's pixels)"),
        tag("div", svg, class_="wide"),
        _largest(title, confusion, shares, names),
        details("All values", _full(title, shares, names)) if count <= _FULL else None,
    )


def _largest(title: str, confusion: np.ndarray, shares: np.ndarray, names: Sequence[str]) -> Html:
    wrong = confusion * (1 - np.eye(len(names), dtype=confusion.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    everything = max(1, int(confusion.sum()))
    rows = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[i, j]:
            of_all = wrong[i, j] / everything
            rows.append(
                [
                    names[i],
                    names[j],
                    Cell(f"{100 * shares[i, j]:.1f}", shares[i, j], bar=shares[i, j]),
                    Cell(f"{100 * of_all:.2f}", of_all),
                ]
            )
    head = ["true class", "predicted", "% of the class", "% of all pixels"]
    return details(
        "Largest confusions",
        table(head, rows, caption=f"{title}: largest confusions", sortable=True),
    )


def _full(title: str, shares: np.ndarray, names: Sequence[str]) -> Html:
    rows = (
        [name, *(Cell(f"{100 * x:.1f}", x) for x in row)]
        for name, row in zip(names, shares.tolist(), strict=True)
    )
    return table(["truth \\ prediction", *names], rows, caption=f"{title}, in percent of each row")
