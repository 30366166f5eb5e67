"""Where pixels come from: sizes, windows, strips and interpolation positions, in NumPy.

Everything that depends on an image's own size is a small array made here and handed to the
compiled functions of `sdnjax.inference.glue`, whose shapes come from a few buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sdnjax.ops.resize import bilinear_positions

_GRAIN = 32  # the finest bucket
_STRIP_ROWS = 128  # most rows of a strip
_STRIP_BYTES = 2**25  # of a strip's probabilities


class Taps(NamedTuple):
    """Linear interpolation along one axis: each output is `a·x[first] + b·x[second]`.

    Indices are int32, weights float32, of one shape. `second` and `b` are None where every
    output is one input. Both weights 0 give 0: that is how an axis is padded.
    """

    first: np.ndarray
    second: np.ndarray | None
    a: np.ndarray
    b: np.ndarray | None


def scaled_size(
    size: tuple[int, int], scale: float, resize_to: tuple[int, int] | None
) -> tuple[int, int]:
    """Height and width at which an image of `size` is seen.

    Without `resize_to` both sides are multiplied by `scale`. With `resize_to = (long, short)`
    the image is fitted into (⌊long·scale⌋, ⌊short·scale⌋), its ratio kept: the factor is the
    smaller of the two quotients. Sizes are ⌊x + ½⌋. This is mmsegmentation's rule, at several
    scales that of its version 0: its version 1 multiplies the *original* size there.
    """
    factor = scale
    if resize_to is not None:
        long, short = (int(side * scale) for side in resize_to)
        factor = min(long / max(size), short / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def bucket(size: int) -> int:
    """The least size ≥ `size` of those that are compiled: four for each doubling, from 128 on,
    and multiples of 32 below."""
    grain = max(_GRAIN, (1 << (size - 1).bit_length()) // 8)
    return -(-size // grain) * grain


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis; the last window ends with the image.

    An image no larger than the window has one. This is mmseg's rule.
    """
    if size <= window:
        return [0]
    count = -(-(size - window) // stride) + 1
    return [min(i * stride, size - window) for i in range(count)]


def coverage(size: int, window: int, starts: Sequence[int]) -> np.ndarray:
    """float32 [size]: how many windows cover each pixel."""
    counts = np.zeros(size, np.float32)
    for start in starts:
        counts[start : start + window] += 1
    return counts


def bilinear_taps(old: int, new: int, *, align_corners: bool = False) -> Taps:
    """The taps of `sdnjax.ops.resize_bilinear` from `old` to `new` pixels, positions equal."""
    if old == new:
        return Taps(np.arange(new, dtype=np.int32), None, np.ones(new, np.float32), None)
    source = bilinear_positions(old, new, align_corners=align_corners)
    first = np.floor(source).astype(np.int32)
    b = source - first.astype(np.float32)
    return Taps(first, np.minimum(first + 1, old - 1), 1 - b, b)


def part(taps: Taps, start: int, stop: int, length: int) -> Taps:
    """Outputs `start…stop − 1`, followed by zeros up to `length` of them."""

    def cut(values: np.ndarray | None) -> np.ndarray | None:
        if values is None:
            return None
        padded = np.zeros(length, values.dtype)
        padded[: stop - start] = values[start:stop]
        return padded

    return Taps(*map(cut, taps))


def reach(taps: Taps, start: int, stop: int) -> tuple[int, int]:
    """First and last input that the outputs `start…stop − 1` read."""
    last = taps.first if taps.second is None else taps.second
    return int(taps.first[start]), int(last[stop - 1])


def mirrored(taps: Taps, size: int) -> Taps:
    """The same outputs from an input of `size` pixels that lies mirrored."""
    second = None if taps.second is None else size - 1 - taps.second
    return Taps(size - 1 - taps.first, second, taps.a, taps.b)


def averaged(taps: Taps, counts: np.ndarray) -> Taps:
    """The same outputs from an input that holds sums of `counts` values each."""
    b = taps.b if taps.second is None else taps.b / counts[taps.second]
    return taps._replace(a=taps.a / counts[taps.first], b=b)


def stacked(taps: Sequence[Taps]) -> Taps:
    """Several taps as one with a leading axis."""
    return Taps(*(None if x[0] is None else np.stack(x) for x in zip(*taps, strict=True)))


def strip_height(height: int, row_bytes: int) -> int:
    """Rows of an output strip: at most 128, fewer if they would take more than 32 MiB, and
    then a power of two."""
    affordable = max(8, _STRIP_BYTES // row_bytes)
    return min(_STRIP_ROWS, bucket(height), 1 << (affordable.bit_length() - 1))


def strips(height: int, rows: int, taps: Sequence[Taps], spread: int) -> list[tuple[int, int]]:
    """Splits output rows into strips of at most `rows`, each of which reads inputs at most
    `spread` apart in every one of `taps`."""
    found, top = [], 0
    while top < height:
        bottom = min(top + rows, height)
        for t in taps:
            while bottom > top + 1 and _spread(t, top, bottom) > spread:
                bottom -= 1
        found.append((top, bottom))
        top = bottom
    return found


def _spread(taps: Taps, start: int, stop: int) -> int:
    low, high = reach(taps, start, stop)
    return high - low
