"""What happens to pixels around the network: arrays in, arrays out, positions as arrays.

`B` images of one size, `M` views of each (as it is and, if asked, mirrored).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.inference.geometry import Taps


def sample(x: jax.Array, taps: Taps, axis: int) -> jax.Array:
    """Interpolates `x` along an axis, which is replaced by the axes of `taps`."""

    def read(index: jax.Array, weight: jax.Array) -> jax.Array:
        weight = weight.reshape(weight.shape + (1,) * (x.ndim - 1 - axis))
        return jnp.take(x, index, axis=axis, mode="clip") * weight

    y = read(taps.first, taps.a)
    return y if taps.second is None else y + read(taps.second, taps.b)


def sample_rows(images: jax.Array, rows: Taps) -> jax.Array:
    """`[B, h, w, 3]` → `[B, window height, w, 3]`."""
    return sample(images, rows, axis=1)


def sample_columns(images: jax.Array, columns: Taps) -> jax.Array:
    """`[B, h, w, 3]` and columns `[M, window width]` → windows `[B·M, h, window width, 3]`."""
    windows = jnp.moveaxis(sample(images, columns, axis=2), 2, 1)
    return windows.reshape(-1, *windows.shape[2:])


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
    logits = jnp.pad(logits, ((0, 0), (0, 0), (0, ring - height), (0, 0), (0, 0)))
    logits = jnp.roll(logits, corner[0], axis=2)
    place = (0, 0, 0, corner[1], 0)
    old = lax.dynamic_slice(sums, place, (b, m, ring, width, k))
    fresh = (new_rows[:, None] & new_columns)[:, :, None]
    return lax.dynamic_update_slice(sums, jnp.where(fresh, 0.0, old) + logits, place)


def add_probabilities(total: jax.Array, sums: jax.Array, rows: Taps, columns: Taps) -> jax.Array:
    """Adds the probabilities of a strip of output rows, as every view of one scale has them.

    Logits are resized first and normalised then.

    Args:
      total: `[B, T, W, K]`.
      sums: `[B, M, h, w, K]`, logits of the scaled image, or sums of them.
      rows: `[T]`, positions in h; columns: `[M, W]`, positions in w.
    """
    for m in range(sums.shape[1]):
        own = Taps(*(None if x is None else x[m] for x in columns))
        logits = sample(sample(sums[:, m], rows, axis=1), own, axis=2)
        total = total + jax.nn.softmax(logits, axis=-1)
    return total


def class_map(total: jax.Array) -> jax.Array:
    """`[…, K]` → the class of the largest value, `uint8 […]`, or int32 if K is above 256."""
    classes = jnp.argmax(total, axis=-1)
    return classes.astype(jnp.uint8 if total.shape[-1] <= 256 else jnp.int32)
