"""SegFix's directions (Yuan et al., ECCV 2020): how they are numbered, and labels moved along them.

A pixel's *code* is its direction, 0…7, and 8 more if it lies near its object's boundary. NumPy,
because codes are made where data is read and labels are moved where files are written.
"""

from __future__ import annotations

import numpy as np

# (down, right) of each direction: class i stands for θ = −180° + 45°·i, y down. On diagonals too
# a step is one pixel in each axis.
DIRECTIONS = ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1))
NUM_CODES = 2 * len(DIRECTIONS)


def mirrored_codes() -> tuple[int, ...]:
    """Code → what it is in the picture's mirror image, where right and left change places."""
    half = [DIRECTIONS.index((down, -right)) for down, right in DIRECTIONS]
    return (*half, *(len(DIRECTIONS) + k for k in half))


def code_of(boundary: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """`uint8 [...]` of where the boundary is near, and directions 0…7."""
    return (direction + len(DIRECTIONS) * (boundary != 0)).astype(np.uint8)


def offsets_of(boundary: np.ndarray, direction: np.ndarray, *, steps: int = 2) -> np.ndarray:
    """`int [..., 2]`, (down, right): `steps` pixels along the direction, 0 off the boundary."""
    moves = np.asarray(DIRECTIONS) * steps
    return np.where(np.asarray(boundary, bool)[..., None], moves[direction], 0)


def move_labels(labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """`label'(p) = label(clamp(p + offset))`, once: values are taken, never averaged.

    Args:
      labels: `[H, W, …]` of any type; colours of pixels move as classes do.
      offsets: integers `[H, W, 2]`, (down, right) in pixels.

    Raises: ValueError for sizes that differ.
    """
    if offsets.shape != (*labels.shape[:2], 2):
        raise ValueError(f"offsets {offsets.shape} do not fit labels {labels.shape}")
    h, w = labels.shape[:2]
    rows = np.clip(np.arange(h)[:, None] + offsets[..., 0], 0, h - 1)
    columns = np.clip(np.arange(w) + offsets[..., 1], 0, w - 1)
    return labels[rows, columns]
