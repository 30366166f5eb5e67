"""Pictures put together: a legend of the classes, a contact sheet of rows and columns."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from sdnjax.visualize.pictures import palette_array, rgb_array
from sdnjax.visualize.text import lettering

_PAPER = (255, 255, 255)
_SHEET = (226, 227, 231)  # not white: a white sky keeps its edge
_INK = (32, 32, 36)
_OUTLINE = (150, 150, 156)
_TEXT_SIZE = 16
_MARGIN = 12
_SWATCH = (30, 18)  # width, height
_ROW_HEIGHT = 26
_LEGEND_ROWS = 25  # a longer list goes into several columns
_GAP = 4
_TITLE_GAP = 16  # between two titles that stand side by side
_READABLE = 256  # pixels on the longer side that tiny pictures are brought to


def legend(class_names: Sequence[str], palette: ArrayLike) -> np.ndarray:
    """A swatch and the name of every class, in columns of equal length, 25 at most.

    Args:
      class_names: K names.
      palette: colours of the classes, [K, 3] in 0…255.

    Returns:
      uint8 [H, W, 3]; the size follows from the names.

    Raises:
      ValueError: no names, or another number of names than of colours.
    """
    palette = palette_array(palette)
    if not class_names or len(class_names) != len(palette):
        raise ValueError(f"{len(class_names)} class names for {len(palette)} colours")
    names = [lettering(name, _TEXT_SIZE) for name in class_names]
    columns = math.ceil(len(class_names) / _LEGEND_ROWS)
    length = math.ceil(len(class_names) / columns)
    swatch_width, swatch_height = _SWATCH
    column_width = swatch_width + 3 * _MARGIN + math.ceil(max(name.width for name in names))
    size = (columns * column_width + _MARGIN, length * _ROW_HEIGHT + 2 * _MARGIN)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    for index, (name, color) in enumerate(zip(names, palette, strict=True)):
        column, row = divmod(index, length)
        left = _MARGIN + column * column_width
        middle = _MARGIN + row * _ROW_HEIGHT + _ROW_HEIGHT // 2
        top = middle - swatch_height // 2
        draw.rectangle(
            (left, top, left + swatch_width - 1, top + swatch_height - 1),
            fill=tuple(color.tolist()),
            outline=_OUTLINE,
        )
        name.draw(draw, (left + swatch_width + _MARGIN, middle), _INK, "lm")
    return np.asarray(picture)


def panel(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] | None = None,
    scale: int | None = None,
) -> np.ndarray:
    """Contact sheet: rows of pictures under column titles, with thin gaps.

    Pictures are repeated pixel by pixel, never smoothed: a label map has no colours in between.

    Args:
      rows: for each row the same number of pictures, uint8 [H, W, 3]; sizes may differ, each
        picture is centred in its column and row.
      titles: one for each column; None leaves them out.
      scale: how many pixels a pixel becomes along each side; None brings pictures whose largest
        side is below 256 pixels near to it by a whole factor, and leaves larger ones.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: rows are empty or differ in length, titles do not match, scale is below 1.
    """
    counts = {len(row) for row in rows}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"rows must hold the same number of pictures, got {sorted(counts)}")
    (columns,) = counts
    if titles is not None and len(titles) != columns:
        raise ValueError(f"{len(titles)} titles for {columns} columns")
    cells = [[rgb_array(picture) for picture in row] for row in rows]
    if scale is None:
        longest = max(max(picture.shape[:2]) for row in cells for picture in row)
        scale = max(1, _READABLE // longest)
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    cells = [[picture.repeat(scale, 0).repeat(scale, 1) for picture in row] for row in cells]

    heads = [lettering(title, _TEXT_SIZE) for title in titles or ()]
    heights = [max(picture.shape[0] for picture in row) for row in cells]
    widths = [max(row[column].shape[1] for row in cells) for column in range(columns)]
    if titles is not None:
        widths = [
            max(width, math.ceil(head.width) + _TITLE_GAP)
            for width, head in zip(widths, heads, strict=True)
        ]
    title_height = 0 if titles is None else _ROW_HEIGHT
    lefts = _starts(widths, 0)
    tops = _starts(heights, title_height)
    size = (lefts[-1] - _GAP, tops[-1] - _GAP)
    sheet = Image.new("RGB", size, _SHEET)
    draw = ImageDraw.Draw(sheet)
    for head, left, width in zip(heads, lefts[:-1], widths, strict=titles is not None):
        head.draw(draw, (left + width // 2, title_height // 2), _INK, "mm")
    for row, top, height in zip(cells, tops[:-1], heights, strict=True):
        for picture, left, width in zip(row, lefts[:-1], widths, strict=True):
            corner = (
                left + (width - picture.shape[1]) // 2,
                top + (height - picture.shape[0]) // 2,
            )
            sheet.paste(Image.fromarray(picture), corner)
    return np.asarray(sheet)


def _starts(sizes: Sequence[int], first: int) -> list[int]:
    """Where each of the cells begins, and where one more would."""
    starts = [first]
    for size in sizes:
        starts.append(starts[-1] + size + _GAP)
    return starts
