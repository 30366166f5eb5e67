"""Histograms of several series over common bins, a panel for each pair of things."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from sdnjax.visualize.text import lettering

_PAPER = (255, 255, 255)
_INK = (32, 32, 36)
_LINE = (222, 224, 230)
_COLORS = ((170, 40, 90), (24, 60, 140), (28, 140, 96))
_WIDTH, _HEIGHT, _TOP, _BOTTOM, _MARGIN, _ACROSS = 400, 150, 34, 44, 24, 2


def histograms_picture(
    panels: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]],
) -> np.ndarray:
    """Outlines of each series' shares, each series adding up to 1.

    Args:
      panels: title → edges of the bins [N + 1], and name → counts [N].

    Returns: uint8 [H, W, 3], two panels in a row.
    Raises: ValueError without panels, or for counts that do not fit the bins.
    """
    if not panels:
        raise ValueError("no histogram to draw")
    rows = -(-len(panels) // _ACROSS)
    cell = _WIDTH + 2 * _MARGIN, _TOP + _HEIGHT + _BOTTOM
    picture = Image.new("RGB", (_ACROSS * cell[0], rows * cell[1]), _PAPER)
    draw = ImageDraw.Draw(picture)
    for i, (title, (edges, series)) in enumerate(panels.items()):
        left, top = (i % _ACROSS) * cell[0] + _MARGIN, (i // _ACROSS) * cell[1] + _TOP
        lettering(title, 14).draw(draw, (left, top - 16), _INK, "lm")
        shares = {name: counts / max(1, counts.sum()) for name, counts in series.items()}
        if any(len(s) != len(edges) - 1 for s in shares.values()):
            raise ValueError(f"{title}: {len(edges)} edges for {[len(s) for s in shares.values()]}")
        most = max((float(s.max()) for s in shares.values()), default=0.0) or 1.0
        bottom, span = top + _HEIGHT, float(edges[-1] - edges[0])
        across = [left + round(float(e - edges[0]) / span * _WIDTH) for e in edges]
        draw.line((left, bottom, left + _WIDTH, bottom), _LINE)
        for end, at in ((edges[0], left), (edges[-1], left + _WIDTH)):
            lettering(f"{end:g}", 12).draw(draw, (at, bottom + 10), _INK, "mm")
        for j, (name, share) in enumerate(shares.items()):
            color = _COLORS[j % len(_COLORS)]
            up = [bottom - round(float(v) / most * _HEIGHT) for v in share]
            points = [p for k, y in enumerate(up) for p in ((across[k], y), (across[k + 1], y))]
            draw.line(points, color, 2)
            lettering(name, 13).draw(draw, (left + 60 + 120 * j, bottom + 28), color, "lm")
    return np.asarray(picture)
