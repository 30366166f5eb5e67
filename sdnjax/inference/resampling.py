"""Reading pixels between pixels: positions and weights in NumPy, and compiled functions.

What depends on an image's own size, where its pixels are read and with which weights, is a small
array made in the upper half and given as data to the compiled functions of the lower half. These
know only the sizes of arrays, which come from a few buckets, so that a folder of images of a
thousand sizes needs a handful of compilations.

`B` images of one size; `M` orientations of each, as it is and, if asked, mirrored; `K` classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.resize import bilinear_positions

_GRAIN = 32  # the finest bucket


class Interpolation(NamedTuple):
    """Reading along one axis: each output is `a·x[first] + b·x[second]`.

    Indices are int32 of one shape, and so are the weights, float32, or int32 for labels. `second`
    and `b` are None where every output is one input. Both weights 0 give 0: that is how an axis
    is padded.
    """

    # Arrays of NumPy while positions are worked out, of JAX inside compiled functions.
    first: Any
    second: Any
    a: Any
    b: Any


def bucket(size: int) -> int:
    """The least size ≥ `size` of those that are compiled: four for each doubling, from 128 on,
    and multiples of 32 below."""
    grain = max(_GRAIN, (1 << (size - 1).bit_length()) // 8)
    return -(-size // grain) * grain


def bilinear(old: int, new: int, *, align_corners: bool = False) -> Interpolation:
    """What `sdnjax.ops.resize_bilinear` reads to make `new` pixels of `old`."""
    if old == new:
        return Interpolation(np.arange(new, dtype=np.int32), None, np.ones(new, np.float32), None)
    source = bilinear_positions(old, new, align_corners=align_corners)
    first = np.floor(source).astype(np.int32)
    b = source - first.astype(np.float32)
    return Interpolation(first, np.minimum(first + 1, old - 1), 1 - b, b)


def nearest(old: int, new: int) -> Interpolation:
    """The pixel of `old` whose centre is nearest to each of `new`; of two, the later one.

    Labels are resized so in training too.
    """
    first = (2 * np.arange(new, dtype=np.int64) + 1) * old // (2 * new)
    return Interpolation(first.astype(np.int32), None, np.ones(new, np.int32), None)


def part(x: Interpolation, start: int, stop: int, length: int) -> Interpolation:
    """Outputs `start…stop − 1`, followed by zeros up to `length` of them."""

    def cut(values: np.ndarray | None) -> np.ndarray | None:
        if values is None:
            return None
        padded = np.zeros(length, values.dtype)
        padded[: stop - start] = values[start:stop]
        return padded

    return Interpolation(*map(cut, x))


def moved(x: Interpolation, offset: int) -> Interpolation:
    """The same outputs from an input whose first `offset` pixels are cut off."""
    # Padding has index 0 and weight 0: it may read anything that is there.
    second = None if x.second is None else np.maximum(x.second - offset, 0)
    return x._replace(first=np.maximum(x.first - offset, 0), second=second)


def wrapped(x: Interpolation, size: int) -> Interpolation:
    """The same outputs from an input of which pixel i lies at i modulo `size`."""
    second = None if x.second is None else x.second % size
    return x._replace(first=x.first % size, second=second)


def backwards(x: Interpolation) -> Interpolation:
    """The outputs in reverse: the mirror image's, from an input that lies as it is."""
    return Interpolation(*(None if values is None else values[::-1] for values in x))


def mirrored(x: Interpolation, size: int) -> Interpolation:
    """The same outputs from an input of `size` pixels that lies mirrored."""
    second = None if x.second is None else size - 1 - x.second
    return Interpolation(size - 1 - x.first, second, x.a, x.b)


def averaged(x: Interpolation, counts: np.ndarray) -> Interpolation:
    """The same outputs from an input that holds sums of `counts` values each."""
    b = x.b if x.second is None else x.b / counts[x.second]
    return x._replace(a=x.a / counts[x.first], b=b)


def stacked(several: Sequence[Interpolation]) -> Interpolation:
    """Several as one with a leading axis."""
    rows = zip(*several, strict=True)
    return Interpolation(*(None if values[0] is None else np.stack(values) for values in rows))


def reach(x: Interpolation, start: int, stop: int) -> tuple[int, int]:
    """First and last input that the outputs `start…stop − 1` read."""
    last = x.first if x.second is None else x.second
    return int(x.first[start]), int(last[stop - 1])


def resized(x: np.ndarray, size: tuple[int, int], *, labels: bool = False) -> np.ndarray:
    """`[H, W, …]` → `[*size, …]` on the host: float32 by `bilinear`, labels by `nearest`."""
    for axis, new in enumerate(size):
        at = (nearest if labels else bilinear)(x.shape[axis], new)
        weights = (-1,) + (1,) * (x.ndim - 1 - axis)
        y = np.take(x, at.first, axis) * at.a.reshape(weights)
        if at.second is not None:
            y += np.take(x, at.second, axis) * at.b.reshape(weights)
        x = y
    return x


# Compiled from here on.


def sample(x: jax.Array, at: Interpolation, axis: int) -> jax.Array:
    """Reads `x` along an axis, which is replaced by the axes of `at`."""

    def read(index: jax.Array, weight: jax.Array) -> jax.Array:
        weight = weight.reshape(weight.shape + (1,) * (x.ndim - 1 - axis))
        return jnp.take(x, index, axis=axis, mode="clip") * weight

    y = read(at.first, at.a)
    return y if at.second is None else y + read(at.second, at.b)


def sample_rows(
    inputs: dict[str, jax.Array], rows: dict[str, Interpolation]
) -> dict[str, jax.Array]:
    """Each `[B, h, w, …]` → `[B, window height, w, …]`."""
    return {name: sample(x, rows[name], axis=1) for name, x in inputs.items()}


def sample_columns(
    inputs: dict[str, jax.Array], columns: dict[str, Interpolation]
) -> dict[str, jax.Array]:
    """Each `[B, h, w, …]`, columns `[M, window width]` → windows `[B·M, h, window width, …]`."""

    def windows(x: jax.Array, at: Interpolation) -> jax.Array:
        y = jnp.moveaxis(sample(x, at, axis=2), 2, 1)
        return y.reshape(-1, *y.shape[2:])

    return {name: windows(x, columns[name]) for name, x in inputs.items()}


def padded(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """`[B, M, h, w, K]` → the same in the corner of an array whose h and w are `size`."""
    rest = [(0, new - old) for old, new in zip(logits.shape[2:4], size, strict=True)]
    return jnp.pad(logits, ((0, 0), (0, 0), *rest, (0, 0)))


def add_window(
    sums: jax.Array,
    logits: jax.Array,
    corner: jax.Array,
    new_rows: jax.Array,
    new_columns: jax.Array,
) -> jax.Array:
    """Adds a window's logits to sums whose rows go round in a ring.

    Args:
      sums: `[B, M, ring, width, K]`; row r of the scaled image lies at r modulo the ring.
      logits: `[B, M, window height, window width, K]`.
      corner: int32 [2], the row of the ring and the column where the window begins.
      new_rows, new_columns: bool `[ring]`, `[window width]`: where a row and a column are
        both new, no window was there before, and what the ring still holds is dropped.
    """
    b, m, ring, _, k = sums.shape
    height, width = logits.shape[2:4]
    # A window may go over the ring's end, where no slice can: rolled, it is one slice of columns.
    logits = jnp.pad(logits, ((0, 0), (0, 0), (0, ring - height), (0, 0), (0, 0)))
    logits = jnp.roll(logits, corner[0], axis=2)
    place = (0, 0, 0, corner[1], 0)
    old = lax.dynamic_slice(sums, place, (b, m, ring, width, k))
    fresh = (new_rows[:, None] & new_columns)[:, :, None]
    return lax.dynamic_update_slice(sums, jnp.where(fresh, 0.0, old) + logits, place)


def add_probabilities(
    total: jax.Array,
    sums: jax.Array,
    rows: Interpolation,
    columns: Interpolation,
    finer: tuple[Interpolation, Interpolation] | None = None,
    *,
    mirrored: tuple[int, ...] | None = None,
) -> jax.Array:
    """Adds the probabilities of a strip of output rows, in every orientation at one scale.

    Logits are resized first and normalised then.

    Args:
      total: `[B, T, W, K]`.
      sums: `[B, M, h, w, K]`, logits of the scaled image, or sums of them.
      rows: `[T]`, positions in h; columns: `[M, W]`, positions in w.
      finer: rows and columns of a grid finer than that of `sums`, in which `rows` and `columns`
        are positions then.
      mirrored: class → what it is in the second orientation, the mirror image; None: the same.
    """
    for m in range(sums.shape[1]):
        logits = sums[:, m]
        if finer is not None:
            logits = sample(sample(logits, finer[0], axis=1), finer[1], axis=2)
        own = Interpolation(*(None if x is None else x[m] for x in columns))
        logits = sample(sample(logits, rows, axis=1), own, axis=2)
        if m == 1 and mirrored is not None:
            logits = logits[..., np.asarray(mirrored)]
        total = total + jax.nn.softmax(logits, axis=-1)
    return total


def class_map(total: jax.Array) -> jax.Array:
    """`[…, K]` → the class of the largest value, `uint8 […]`, or int32 if K is above 256."""
    classes = jnp.argmax(total, axis=-1)
    return classes.astype(jnp.uint8 if total.shape[-1] <= 256 else jnp.int32)


def likeliest(total: jax.Array, views: float, count: int) -> jax.Array:
    """`[…, K]`, sums of `views` probabilities → uint16 `[…, 2, count]`: the classes of the largest
    values, the largest first and of equal ones the first, and their means in whole percent."""
    values, classes = lax.top_k(total, min(count, total.shape[-1]))
    percent = jnp.rint(100 / views * values)
    return jnp.stack([classes.astype(jnp.uint16), percent.astype(jnp.uint16)], axis=-2)


# Probabilities take 4·K bytes a pixel, more than anything else, and only their largest is wanted.
# So output is made in strips, which leave the device as class maps.
_STRIP_ROWS = 128  # most rows of a strip
_STRIP_BYTES = 2**25  # of a strip's probabilities


def strip_height(height: int, row_bytes: int) -> int:
    """Rows of an output strip: at most 128, fewer if they would take more than 32 MiB, and
    then a power of two."""
    affordable = max(8, _STRIP_BYTES // row_bytes)
    return min(_STRIP_ROWS, bucket(height), 1 << (affordable.bit_length() - 1))


def strips(
    height: int, rows: int, reading: Sequence[Interpolation], spread: int
) -> list[tuple[int, int]]:
    """Splits output rows into strips of at most `rows`, each of which reads inputs at most
    `spread` apart in every one of `reading`: as much as the scales' rings hold."""
    found, top = [], 0
    while top < height:
        bottom = min(top + rows, height)
        for at in reading:
            while bottom > top + 1 and _spread(at, top, bottom) > spread:
                bottom -= 1
        found.append((top, bottom))
        top = bottom
    return found


def _spread(at: Interpolation, top: int, bottom: int) -> int:
    low, high = reach(at, top, bottom)
    return high - low
