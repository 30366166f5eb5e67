"""Which pixels of an image a training crop shows: scale, window and mirror, in NumPy.

NumPy, because its gathers take a tenth of the time of TensorFlow's. Everything random is a
function of explicit uniform numbers, `draws` [34] in [0, 1): place 0 decides the scale, 1 the
mirror, 2–23 the corners of eleven windows (top, left), 24–33 the colours.
`sdnjax.ops.augment` is the same function of the same numbers for accelerators.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.difnet import difnet_crop
from sdnjax.ops.labels import IGNORE

DRAWS = 34
COLOUR_DRAWS = slice(24, 34)
_TRIES = 10
_ALIGNMENT = 64


class Crop(NamedTuple):
    """The sampled pixels of a training crop of h×w; image values are still to be weighted.

    Pixel (i, j) of the image is a bilinear mean of four of the file's: `corners` uint8
    [4, h, w, 3] holds the upper left, upper right, lower left and lower right one, `down`
    float32 [h] and `right` [3w] the weights of the lower and the right ones, for each of the
    3w values of a row. Only `extent` int32 [2] of the crop is covered; beyond it `label` uint8
    [h, w] is 255 and `superpixels` int32 [h, w] (if there are any) −1, and corners mean nothing.
    """

    corners: np.ndarray
    down: np.ndarray
    right: np.ndarray
    extent: np.ndarray
    label: np.ndarray
    superpixels: np.ndarray | None


def sample(
    image: np.ndarray,
    label: np.ndarray,
    draws: np.ndarray,
    data: Data,
    superpixels: np.ndarray | None = None,
    *,
    mirror: np.ndarray | None = None,
) -> Crop:
    """Scales, crops and mirrors an example; only the pixels of the window are ever resized.

    `mirror` uint8 [256] says what a label is in the mirror image; None: the same.
    """
    h, w = data.crop_size
    if data.recipe == "difnet":
        crop = difnet_crop(
            image,
            label,
            draws[:4],
            data.crop_size,
            flip=data.flip,
            superpixels=superpixels,
            mirror=mirror,
        )
        return _whole(*crop)
    size = random_size(label.shape, draws[0], data)
    top, left, height, width = window = random_window(label, size, draws[2:24], data)
    mirrored = data.flip and draws[1] < 0.5
    i = top + np.minimum(np.arange(h), height - 1)
    j = np.minimum(np.arange(w), width - 1)
    j = left + (width - 1 - j if mirrored else j)
    upper, lower, down = bilinear(label.shape[0], size[0], i)
    near, far, right = bilinear(label.shape[1], size[1], j)

    # Columns first, of the rows that are needed, because rows are cheap to repeat.
    first, last = upper.min(), lower.max()
    rows = image[first : last + 1]
    channels = image.shape[2]
    corners = _aligned((4, h, w, channels))
    for k, columns in ((0, near), (1, far)):
        part = rows.take(columns, axis=1)
        part.take(upper - first, axis=0, out=corners[k], mode="clip")
        part.take(lower - first, axis=0, out=corners[k + 2], mode="clip")

    def padded(array: np.ndarray, value: int) -> np.ndarray:
        part = resize_nearest(array, size, window)
        part = part[:, ::-1] if mirrored else part
        below, beside = h - part.shape[0], w - part.shape[1]
        return np.pad(part, ((0, below), (0, beside)), constant_values=value)

    sampled = padded(label, IGNORE)
    return Crop(
        corners,
        down,
        right.repeat(channels),
        np.array([height, width], np.int32),
        mirror[sampled] if mirrored and mirror is not None else sampled,
        None if superpixels is None else padded(superpixels, -1),
    )


def _whole(image: np.ndarray, label: np.ndarray, superpixels: np.ndarray | None) -> Crop:
    """A crop whose pixels are final: each is its own four corners."""
    h, w, channels = image.shape
    corners = _aligned((4, h, w, channels))
    corners[:] = image
    down, right = np.zeros(h, np.float32), np.zeros(w * channels, np.float32)
    return Crop(corners, down, right, np.array([h, w], np.int32), label, superpixels)


def random_size(shape: tuple[int, int], draw: float, data: Data) -> tuple[int, int]:
    """The size to which an image of `shape` is scaled.

    The factor is uniform in `scale_range`, times the one that fits the image into
    `base_size` if there is one; sizes are rounded half up.
    """
    low, high = np.array(data.scale_range, np.float32)
    factor = low + np.float32(draw) * (high - low)
    sides = np.array(shape, np.float32)
    if data.base_size is not None:
        long, short = np.array([max(data.base_size), min(data.base_size)], np.float32)
        factor *= min(long / sides.max(), short / sides.min())
    height, width = np.maximum(np.floor(sides * factor + np.float32(0.5)), 1).astype(int)
    return int(height), int(width)


def random_window(
    label: np.ndarray, size: tuple[int, int], draws: np.ndarray, data: Data
) -> tuple[int, int, int, int]:
    """The window (top, left, height, width) of the scaled image that is kept.

    Windows are drawn until one holds at least two classes and none that covers more than
    `max_class_share` of its labelled pixels. After 10 that do not, the next is taken as
    it is. `draws` [22] are eleven pairs.
    """
    extent = np.minimum(size, data.crop_size)
    margin = size - extent
    corners = (draws.reshape(-1, 2) * np.float32(margin + 1)).astype(int)
    windows = [(*corner, *extent) for corner in np.minimum(corners, margin).tolist()]
    if data.max_class_share >= 1:
        return windows[0]
    for window in windows[:_TRIES]:
        counts = np.bincount(resize_nearest(label, size, window).ravel(), minlength=256)[:IGNORE]
        largest = np.float32(counts.max())
        share_exceeded = largest > np.float32(data.max_class_share) * np.float32(counts.sum())
        if not share_exceeded and np.count_nonzero(counts) > 1:
            return window
    return windows[_TRIES]


def resize_nearest(
    label: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int]
) -> np.ndarray:
    """The window of `label` [H, W] scaled to `size`, by the nearest pixel centre."""
    top, left, height, width = window
    i = nearest(label.shape[0], size[0], top + np.arange(height))
    j = nearest(label.shape[1], size[1], left + np.arange(width))
    return label[i].take(j, axis=1)


def nearest(old: int, new: int, positions: np.ndarray) -> np.ndarray:
    """The pixels of `old` nearest to those at `positions` when `old` pixels become `new`."""
    return (2 * positions + 1) * old // (2 * new)


def bilinear(old: int, new: int, positions: np.ndarray) -> tuple[np.ndarray, ...]:
    """The two pixels of `old` around those at `positions`, and the second's weight, float32.

    Pixel centres lie at half integers (align_corners=False), borders repeat, and there is no
    antialiasing. Positions are exact fractions, so that a scale of 1 changes no value.
    """
    numerator, denominator = (2 * positions + 1) * old - new, 2 * new
    lower = numerator // denominator
    weight = (numerator - lower * denominator).astype(np.float32) / np.float32(denominator)
    return np.maximum(lower, 0), np.minimum(lower + 1, old - 1), weight


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised uint8 array at an address that TensorFlow takes without copying."""
    count = int(np.prod(shape))
    memory = np.empty(count + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + count].reshape(shape)
