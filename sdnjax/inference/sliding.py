"""Logits of a whole image or of sliding windows, inside one compiled function."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

LogitsOf = Callable[[jax.Array], jax.Array]


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis; the last window ends with the image.

    An image no larger than the window has one. This is mmseg's rule.
    """
    if size <= window:
        return [0]
    count = -(-(size - window) // stride) + 1
    return [min(i * stride, size - window) for i in range(count)]


def sliding_logits(
    logits_of: LogitsOf, images: jax.Array, window: tuple[int, int], stride: tuple[int, int]
) -> jax.Array:
    """Logits of overlapping windows, averaged where they overlap.

    `images [B, H, W, 3]` → `[B, H, W, K]`. Windows run one after another, so memory does
    not grow with their number. A side shorter than the window is padded with zeros at the
    bottom or right, and the padding is cut off again.
    """
    b, h, w, _ = images.shape
    pad_h, pad_w = max(0, window[0] - h), max(0, window[1] - w)
    images = jnp.pad(images, ((0, 0), (0, pad_h), (0, pad_w), (0, 0)))
    rows = window_starts(h + pad_h, window[0], stride[0])
    columns = window_starts(w + pad_w, window[1], stride[1])
    starts = jnp.array([(y, x) for y in rows for x in columns], jnp.int32)

    def window_logits(start: jax.Array) -> jax.Array:
        size = (b, *window, images.shape[-1])
        return logits_of(jax.lax.dynamic_slice(images, (0, start[0], start[1], 0), size))

    def add(
        sums: tuple[jax.Array, jax.Array], start: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        total, count = sums
        corner = (0, start[0], start[1], 0)
        logits = window_logits(start)
        total = _add_at(total, logits, corner)
        count = _add_at(count, jnp.ones((1, *window, 1), jnp.float32), corner)
        return (total, count), None

    num_classes = jax.eval_shape(window_logits, starts[0]).shape[-1]
    total = jnp.zeros((*images.shape[:3], num_classes), jnp.float32)
    count = jnp.zeros((1, *images.shape[1:3], 1), jnp.float32)
    (total, count), _ = jax.lax.scan(add, (total, count), starts)
    return (total / count)[:, :h, :w]


def _add_at(total: jax.Array, part: jax.Array, corner: tuple) -> jax.Array:
    old = jax.lax.dynamic_slice(total, corner, part.shape)
    return jax.lax.dynamic_update_slice(total, old + part, corner)
