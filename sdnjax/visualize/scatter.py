"""Points of several series in one plot."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from sdnjax.visualize.text import lettering, upwards

# Told apart by lightness too.
_COLORS = ((24, 60, 140), (226, 130, 20), (28, 140, 96), (170, 40, 90), (110, 110, 120))
_PAPER = (255, 255, 255)
_INK = (32, 32, 36)
_LINE = (222, 224, 230)
_SIZE = (880, 520)  # of the area of the points
_LEFT, _TOP, _RIGHT, _BOTTOM = 92, 24, 48, 92
_RADIUS = 4


def scatter_picture(
    x: np.ndarray, series: Sequence[tuple[str, np.ndarray]], titles: tuple[str, str]
) -> np.ndarray:
    """Values of one or more series over common positions, each with a line at its mean.

    Args:
      x: positive numbers [n], drawn on a logarithmic axis.
      series: names and values [n].
      titles: of the axes, across and upwards.

    Returns: uint8 [H, W, 3].
    Raises: ValueError without points, or for series of another length.
    """
    if not len(x) or not series or any(len(values) != len(x) for _, values in series):
        raise ValueError(f"{len(x)} positions for {[len(values) for _, values in series]} values")
    low, high = math.log10(x.min() / 1.25), math.log10(x.max() * 1.25)
    bottom, top, step = _range(np.concatenate([values for _, values in series]))
    width, height = _SIZE
    legend_height = 26 * math.ceil(len(series) / 2)
    size = (_LEFT + width + _RIGHT, _TOP + height + _BOTTOM + legend_height)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)

    def across(value: float) -> int:
        return _LEFT + round(width * (math.log10(value) - low) / (high - low))

    def up(value: float) -> int:
        return _TOP + height - round(height * (value - bottom) / (top - bottom))

    marks = [m * 10.0**p for p in range(math.floor(low), math.ceil(high)) for m in (1, 2, 5)]
    inside = [mark for mark in marks if low <= math.log10(mark) <= high]
    for mark in inside if len(inside) < 10 else inside[::3]:
        at = across(mark)
        draw.line((at, _TOP, at, _TOP + height), _LINE)
        lettering(f"{mark:,.0f}", 14).draw(draw, (at, _TOP + height + 14), _INK, "mm")
    for i in range(round((top - bottom) / step) + 1):
        value = bottom + i * step
        draw.line((_LEFT, up(value), _LEFT + width, up(value)), _LINE)
        lettering(f"{value:.2f}", 14).draw(draw, (_LEFT - 8, up(value)), _INK, "rm")
    for i, (name, values) in enumerate(series):
        color = _COLORS[i % len(_COLORS)]
        mean = up(float(values.mean()))
        draw.line((_LEFT, mean, _LEFT + width, mean), color, 2)
        for a, b in zip(x, values, strict=True):
            at, over = across(float(a)), up(float(b))
            box = (at - _RADIUS, over - _RADIUS, at + _RADIUS, over + _RADIUS)
            draw.ellipse(box, color, _PAPER)
        row, column = divmod(i, 2)
        left, middle = _LEFT + column * width // 2, _TOP + height + _BOTTOM - 20 + 26 * row
        draw.rectangle((left, middle - 7, left + 14, middle + 7), color)
        text = lettering(f"{name}: mean {values.mean():.4f}", 16)
        text.draw(draw, (left + 24, middle), _INK, "lm")
    lettering(titles[0], 16).draw(draw, (_LEFT + width // 2, _TOP + height + 40), _INK, "mm")
    title = lettering(titles[1], 16)
    middle = _TOP + height // 2 + math.ceil(title.width / 2)
    upwards(picture, title, (22, middle), _INK, _PAPER)
    return np.asarray(picture)


def _range(values: np.ndarray) -> tuple[float, float, float]:
    """Lower and upper end of an axis that holds the values, and the step of its lines."""
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 0.1)
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if span / s <= 10 or s == 5)
    return math.floor(low / step) * step, math.ceil(high / step + 1e-9) * step, step
