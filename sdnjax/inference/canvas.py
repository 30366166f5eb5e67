"""Pictures in the middle of a canvas, on which DifNet's are predicted."""

from __future__ import annotations

import numpy as np

from sdnjax.errors import InputError


def canvas_offset(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """The row and the column of a canvas where a picture in its middle begins; halves to even.

    Raises: InputError for a picture that is larger.
    """
    (height, width), (high, wide) = size, canvas
    if height > high or width > wide:
        raise InputError(
            f"{width}×{height} pixels are more than evaluation.canvas {high},{wide} holds; "
            "evaluation.canvas none does without"
        )
    return round((high - height) / 2), round((wide - width) / 2)


def on_canvas(x: np.ndarray, canvas: tuple[int, int], beyond: int) -> np.ndarray:
    """A picture `[H, W, …]` in the middle of an array of another height and width."""
    top, left = canvas_offset(x.shape[:2], canvas)
    whole = np.full((*canvas, *x.shape[2:]), beyond, x.dtype)
    whole[top : top + x.shape[0], left : left + x.shape[1]] = x
    return whole
