"""The confusion matrix as a picture."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sdnjax.visualize.text import lettering, shortened, upwards

_PAPER = (255, 255, 255)
_INK = (32, 32, 36)
_LINE = (214, 216, 222)
_HEAVY = (176, 179, 188)
_ABSENT = (236, 237, 241)
_RIGHT = (16, 104, 84)  # the diagonal, at 100 %
_WRONG = (172, 32, 22)
_MARGIN = 16
_LONGEST_NAME = 24  # characters; the middle of a longer one is left out


class _Style(NamedTuple):
    cell: int  # pixels
    text: int  # font size of names
    numbers: int  # font size in cells; 0: colours alone
    every: int  # a heavier line after so many cells


def confusion_picture(confusion: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """The pixels of each true class by predicted class; a row is a class and adds up to 100 %.

    The diagonal is green and confusions are red, the darker the larger. Up to 40 classes have
    percentages in the cells, from ½ % on; more have their names on all four sides. Classes that
    do not occur have a grey row.

    Args:
      confusion: integers [K, K], rows the truth.
      class_names: K names.

    Returns:
      uint8 [H, W, 3]; the size follows from K and the names.

    Raises:
      ValueError: the matrix is not [K, K], or has another number of names.
    """
    confusion, count = np.asarray(confusion), len(class_names)
    if not count or confusion.shape != (count, count):
        raise ValueError(f"{count} class names for a confusion matrix {confusion.shape}")
    style = _Style(38, 15, 13, count) if count <= 40 else _Style(16, 13, 0, 10)
    names = [lettering(name, style.text) for name in shortened(class_names, _LONGEST_NAME)]
    longest = math.ceil(max(name.width for name in names))
    corner = _MARGIN + 32 + longest + 8  # where cells begin, the same from both sides
    end = corner + count * style.cell

    shares = confusion / np.maximum(confusion.sum(axis=1), 1)[:, None]
    colors = _colors(shares, confusion.sum(axis=1) > 0)
    size = end + _MARGIN + (0 if style.numbers else longest + 8)
    picture = Image.new("RGB", (size, size), _PAPER)
    picture.paste(
        Image.fromarray(colors.repeat(style.cell, 0).repeat(style.cell, 1)), (corner,) * 2
    )
    draw = ImageDraw.Draw(picture)
    for i in range(count + 1):
        color = _HEAVY if i % style.every == 0 else _LINE
        at = corner + i * style.cell
        draw.line((corner, at, end, at), color)
        draw.line((at, corner, at, end), color)
    for i, name in enumerate(names):
        middle = corner + i * style.cell + style.cell // 2
        name.draw(draw, (corner - 8, middle), _INK, "rm")
        upwards(picture, name, (middle, corner - 8), _INK, _PAPER)
        if not style.numbers:  # too wide to follow a row from one side to the other
            name.draw(draw, (end + 8, middle), _INK, "lm")
            upwards(picture, name, (middle, end + 8 + math.ceil(name.width)), _INK, _PAPER)
    heads = [lettering(text, 18) for text in ("predicted class", "true class")]
    halves = [math.ceil(head.width / 2) for head in heads]
    middle = min((corner + end) // 2, size - 2 - max(halves))  # few classes: still inside
    heads[0].draw(draw, (middle, _MARGIN + 10), _INK, "mm")
    upwards(picture, heads[1], (_MARGIN + 10, middle + halves[1]), _INK, _PAPER)
    if style.numbers:
        _write_shares(draw, shares, colors, (corner, style))
    return np.asarray(picture)


def _colors(shares: np.ndarray, occurs: np.ndarray) -> np.ndarray:
    """uint8 [K, K, 3]. The root makes a confusion of a few percent visible."""
    strength = np.sqrt(shares)[..., None]
    diagonal = np.eye(len(shares), dtype=bool)[..., None]
    full = np.where(diagonal, _RIGHT, _WRONG)
    colors = np.array(_PAPER) + strength * (full - np.array(_PAPER))
    colors[~occurs] = _ABSENT
    return np.rint(colors).astype(np.uint8)


def _write_shares(
    draw: ImageDraw.ImageDraw, shares: np.ndarray, colors: np.ndarray, grid: tuple[int, _Style]
) -> None:
    corner, style = grid
    font = ImageFont.load_default(size=style.numbers)
    for (i, j), share in np.ndenumerate(shares):
        if share >= 0.005:
            x, y = (corner + k * style.cell + style.cell // 2 for k in (j, i))
            dark = colors[i, j] @ np.array([0.3, 0.59, 0.11]) < 150
            draw.text((x, y), f"{100 * share:.0f}", _PAPER if dark else _INK, font, anchor="mm")
