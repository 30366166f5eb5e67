"""Means with their intervals, a row for each of several things, a column for each score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from sdnjax.visualize.text import lettering, shortened

_PAPER = (255, 255, 255)
_INK = (32, 32, 36)
_LINE = (222, 224, 230)
_ZERO = (120, 122, 130)
_AWAY_FROM_ZERO = (24, 60, 140)  # the interval does not hold 0
_OPEN = (150, 152, 160)
_WIDTH, _ROW, _GAP, _TOP, _BOTTOM, _MARGIN = 210, 30, 22, 34, 60, 16
_RADIUS = 4


def intervals_picture(
    names: Sequence[str],
    columns: Mapping[str, Sequence[tuple[float | None, float | None]]],
    title: str,
) -> np.ndarray:
    """Points with intervals, in each column around a line at 0.

    Blue where the interval leaves 0 out, grey where it holds it or where there is none.

    Args:
      names: of the rows.
      columns: title → for each row the mean (None: not defined) and half the interval's width
        (None: not known).
      title: what the numbers are.

    Returns: uint8 [H, W, 3]. Each column has a scale of its own.
    Raises: ValueError without rows or columns, or for columns of another length.
    """
    if not names or not columns or any(len(c) != len(names) for c in columns.values()):
        raise ValueError(f"{len(names)} rows for columns of {[len(c) for c in columns.values()]}")
    labels = [lettering(name, 15) for name in shortened(names, 28)]
    left = _MARGIN + math.ceil(max(label.width for label in labels)) + 14
    height = _TOP + _ROW * len(names) + _BOTTOM
    size = (left + len(columns) * (_WIDTH + _GAP), height)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    for row, label in enumerate(labels):
        middle = _TOP + _ROW * row + _ROW // 2
        draw.line((left, middle, size[0] - _GAP, middle), _LINE)
        label.draw(draw, (left - 10, middle), _INK, "rm")
    for i, (head, entries) in enumerate(columns.items()):
        _column(draw, left + i * (_WIDTH + _GAP), head, entries)
    lettering(title, 14).draw(draw, (left, height - 14), _INK, "lm")
    return np.asarray(picture)


def _column(
    draw: ImageDraw.ImageDraw,
    left: int,
    head: str,
    entries: Sequence[tuple[float | None, float | None]],
) -> None:
    reach = max((abs(m) + (h or 0.0) for m, h in entries if m is not None), default=0.0)
    step = next((s for s in _steps() if reach <= 2 * s), reach or 1.0)
    bottom = _TOP + _ROW * len(entries)

    def across(value: float) -> int:
        return left + _WIDTH // 2 + round(value / (2.1 * step) * _WIDTH / 2)

    lettering(shortened([head], 24)[0], 15).draw(draw, (left + _WIDTH // 2, 16), _INK, "mm")
    for mark in (-2, -1, 0, 1, 2):
        at = across(mark * step)
        draw.line((at, _TOP, at, bottom), _ZERO if mark == 0 else _LINE)
        lettering(f"{mark * step:g}", 12).draw(draw, (at, bottom + 12), _INK, "mm")
    for row, (mean, half) in enumerate(entries):
        if mean is None:
            continue
        middle, at = _TOP + _ROW * row + _ROW // 2, across(mean)
        color = _AWAY_FROM_ZERO if half is not None and abs(mean) > half else _OPEN
        if half is not None:
            draw.line((across(mean - half), middle, across(mean + half), middle), color, 3)
        box = (at - _RADIUS, middle - _RADIUS, at + _RADIUS, middle + _RADIUS)
        draw.ellipse(box, color, _PAPER)


def _steps() -> list[float]:
    return [m * 10.0**p for p in range(-3, 3) for m in (1, 2, 5)]
