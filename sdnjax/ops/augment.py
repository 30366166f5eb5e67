"""Augmentation of training examples on the accelerator: scale, crop, mirror, colours, padding.

A pure function of the example and of 34 uniform numbers in [0, 1): place 0 decides the scale, 1
the mirror, 2–23 the corners of eleven windows (top, left), 24–28 whether brightness, contrast,
saturation and hue change and whether contrast comes first, and 29–32 by how much. It is the
same function as that of the input pipeline, which does it on the host. Shapes are static: the
image's, the crop's.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.colours import distort_colours
from sdnjax.ops.labels import IGNORE

DRAWS = 34
_TRIES = 10

Array = jax.Array


def augment_batch(batch: dict[str, Array], *, seed: int, **settings: Any) -> dict[str, Array]:
    """Makes a training batch of whole examples; every row depends on itself alone.

    Args:
      batch: `image` uint8 [b, H, W, 3], `label` uint8 [b, H, W], `epoch` and `index` int32 [b],
        which decide the augmentation with the seed, and perhaps `superpixels` int32 [b, H, W].
      settings: keyword arguments of `augment`.

    Returns: `image` float32 [b, h, w, 3], `label` int32 [b, h, w], and `superpixels` int32
      [b, h, w] if there are any.
    """

    def one(row: dict[str, Array]) -> dict[str, Array]:
        draws = example_draws(seed, row["epoch"], row["index"])
        return augment(row["image"], row["label"], draws, row.get("superpixels"), **settings)

    return jax.vmap(one)(batch)


def example_draws(seed: int, epoch: Array, index: Array) -> Array:
    """The uniform numbers that decide example `index` in an epoch: float32 [34] in [0, 1)."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), epoch), index)
    return jax.random.uniform(key, (DRAWS,), jnp.float32)


def augment(
    image: Array,
    label: Array,
    draws: Array,
    superpixels: Array | None = None,
    *,
    crop_size: tuple[int, int],
    num_classes: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    base_size: tuple[int, int] | None = None,
    scale_range: tuple[float, float] = (0.5, 2.0),
    max_class_share: float = 0.75,
    flip: bool = True,
    photometric: bool = True,
    mirrored_classes: tuple[int, ...] | None = None,
) -> dict[str, Array]:
    """Makes a training example, h×w = crop_size, of a whole one.

    Args:
      image: uint8 [H, W, 3], RGB.
      label: uint8 [H, W], 0…num_classes−1 and 255.
      draws: float32 [34] in [0, 1).
      superpixels: int32 [H, W], sampled as the label is.
      base_size: (long, short) edges that the image is fitted into before the random scale.
      max_class_share: the greatest share that a class may have of a crop, tried ten times.
      mean, std: of 0–255 values.
      mirrored_classes: class → what it is in the mirror image; None: the same.

    Returns: `image` float32 [h, w, 3], normalised, `label` int32 [h, w], and `superpixels`
      int32 [h, w] if there are any; what lies beyond a small image is 0, 255 and −1.
    Raises: ValueError for an image so large that positions in it overflow 32 bits.
    """
    size = random_size(label.shape, draws[0], base_size=base_size, scale_range=scale_range)
    corner, extent = random_window(
        label,
        size,
        draws[2:24],
        crop_size=crop_size,
        num_classes=num_classes,
        max_class_share=max_class_share,
    )
    mirrored = (draws[1] < 0.5) & flip
    i, j = _positions(corner, extent, crop_size, mirrored)
    inside = _inside(extent, crop_size)
    channels = _bilinear(image, size, i, j)
    if photometric:
        channels = distort_colours(channels, draws[24:], jnp)
    inverse_std = np.float32(1) / np.asarray(std, np.float32)
    channels = [
        jnp.where(inside, (c - m) * s, 0)
        for c, m, s in zip(channels, np.asarray(mean, np.float32), inverse_std, strict=True)
    ]

    def sampled(array: Array, beyond: int) -> Array:
        return jnp.where(inside, _nearest(array, size, i, j).astype(jnp.int32), beyond)

    classes = sampled(label, IGNORE)
    if mirrored_classes is not None:
        table = np.arange(IGNORE + 1, dtype=np.int32)
        table[: len(mirrored_classes)] = mirrored_classes
        classes = jnp.where(mirrored, jnp.asarray(table)[classes], classes)
    result = {"image": jnp.stack(channels, -1), "label": classes}
    return result if superpixels is None else {**result, "superpixels": sampled(superpixels, -1)}


def random_size(
    shape: tuple[int, ...],
    draw: Array,
    *,
    base_size: tuple[int, int] | None = None,
    scale_range: tuple[float, float] = (0.5, 2.0),
) -> Array:
    """int32 [2], the size to which an image of `shape` is scaled, rounded half up."""
    low, high = np.asarray(scale_range, np.float32)
    sides = np.asarray(shape, np.float32)
    fit = np.float32(1)
    if base_size is not None:
        fit = min(max(base_size) / sides.max(), min(base_size) / sides.min())
    if 2 * (sides.max() * fit * high + 1) * sides.max() >= 2**31:
        raise ValueError(f"positions in an image of {shape} scaled by {fit * high} overflow")
    factor = (low + draw * (high - low)) * fit
    return jnp.maximum(jnp.floor(sides * factor + 0.5), 1).astype(jnp.int32)


def random_window(
    label: Array,
    size: Array,
    draws: Array,
    *,
    crop_size: tuple[int, int],
    num_classes: int,
    max_class_share: float = 0.75,
) -> tuple[Array, Array]:
    """The window of the scaled image that is kept: corner (top, left) and extent, int32 [2].

    Windows are drawn until one holds at least two classes and none that covers more than
    `max_class_share` of its labelled pixels. After 10 that do not, the next is taken as it
    is. `draws` [22] are eleven pairs.
    """
    extent = jnp.minimum(size, np.asarray(crop_size, np.int32))
    margin = (size - extent)[None]
    scaled = draws.reshape(-1, 2) * (margin + 1).astype(jnp.float32)
    corners = jnp.minimum(scaled.astype(jnp.int32), margin)
    if max_class_share >= 1:
        return corners[0], extent
    inside = _inside(extent, crop_size)
    classes = np.arange(num_classes, dtype=np.uint8)[:, None, None]

    def is_dull(attempt: Array) -> Array:
        i, j = _positions(corners[attempt], extent, crop_size, False)
        window = jnp.where(inside, _nearest(label, size, i, j), np.uint8(IGNORE))
        counts = jnp.sum(window[None] == classes, axis=(1, 2), dtype=jnp.int32)
        largest, total = jnp.max(counts), jnp.sum(counts)
        share_exceeded = largest.astype(jnp.float32) > np.float32(max_class_share) * total.astype(
            jnp.float32
        )
        return share_exceeded | (jnp.sum(counts > 0) < 2)

    attempt = lax.while_loop(
        lambda k: (k < _TRIES) & is_dull(k), lambda k: k + 1, jnp.zeros((), jnp.int32)
    )
    return corners[attempt], extent


def _positions(
    corner: Array, extent: Array, crop_size: tuple[int, int], mirrored: Array | bool
) -> tuple[Array, Array]:
    """Rows [h] and columns [w] of the scaled image that the crop shows; the last one repeats."""
    i, j = (
        jnp.minimum(jnp.arange(n, dtype=jnp.int32), last)
        for n, last in zip(crop_size, (extent[0] - 1, extent[1] - 1), strict=True)
    )
    return corner[0] + i, corner[1] + jnp.where(mirrored, extent[1] - 1 - j, j)


def _inside(extent: Array, crop_size: tuple[int, int]) -> Array:
    h, w = (jnp.arange(n, dtype=jnp.int32) for n in crop_size)
    return (h < extent[0])[:, None] & (w < extent[1])[None]


def _nearest(array: Array, size: Array, i: Array, j: Array) -> Array:
    """`array` [H, W] scaled to `size`, at rows i and columns j, by the nearest pixel centre."""
    for axis, positions in ((0, i), (1, j)):
        pixels = (2 * positions + 1) * array.shape[axis] // (2 * size[axis])
        array = _take(array, pixels, axis)
    return array


def _bilinear(image: Array, size: Array, i: Array, j: Array) -> list[Array]:
    """The channels of `image` [H, W, 3] scaled to `size`, at rows i and columns j: float32.

    Pixel centres lie at half integers (align_corners=False), borders repeat, and there is no
    antialiasing. Positions are exact fractions, so that a scale of 1 changes no value.
    """
    (upper, lower, down), (near, far, right) = (
        _neighbours(old, size[axis], positions)
        for axis, (old, positions) in enumerate(zip(image.shape[:2], (i, j), strict=True))
    )

    def row(pixels: Array) -> Array:
        rows = _take(image, pixels, 0)
        a, b = (_take(rows, columns, 1).astype(jnp.float32) for columns in (near, far))
        return a + (b - a) * right[None, :, None]

    top, bottom = row(upper), row(lower)
    result = top + (bottom - top) * down[:, None, None]
    return [result[..., c] for c in range(3)]


def _neighbours(old: int, new: Array, positions: Array) -> tuple[Array, Array, Array]:
    """The two pixels of `old` around positions of `new`, and the weight of the second."""
    numerator, denominator = (2 * positions + 1) * old - new, 2 * new
    lower = numerator // denominator
    weight = (numerator - lower * denominator).astype(jnp.float32) / denominator.astype(jnp.float32)
    return jnp.maximum(lower, 0), jnp.minimum(lower + 1, old - 1), weight


_take = functools.partial(jnp.take, mode="clip")
