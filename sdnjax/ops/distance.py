"""Exact Euclidean distances on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def distance_to(mask: jax.Array) -> jax.Array:
    """Distance of each pixel to the nearest one that is set, in pixels.

    Columns first, in two scans; then along rows the least of `g(x ± k)² + k²` for growing k, as
    long as any pixel could still come nearer (Saito and Toriwaki, 1994). Squares are exact in
    float32 up to images of 4096 pixels a side.

    Args:
        mask: booleans `[B, H, W]`.

    Returns: float32 `[B, H, W]`, 0 where the mask is set, infinite in an image where it never is.
    """
    _, h, w = mask.shape
    row = jnp.arange(h, dtype=jnp.float32)[None, :, None]
    above = lax.cummax(jnp.where(mask, row, -jnp.inf), axis=1)
    below = lax.cummin(jnp.where(mask, row, jnp.inf), axis=1, reverse=True)
    columns = jnp.square(jnp.minimum(row - above, below - row))

    def shifted(k: jax.Array) -> tuple[jax.Array, jax.Array]:
        padded = jnp.pad(columns, ((0, 0), (0, 0), (w, w)), constant_values=jnp.inf)
        zero = jnp.zeros((), k.dtype)
        left, right = (
            lax.dynamic_slice(padded, (zero, zero, w + step), columns.shape) for step in (-k, k)
        )
        return left, right

    def nearer(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        k, best = state
        return (k < w) & jnp.any(jnp.square(k.astype(jnp.float32)) < best)

    def widen(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        k, best = state
        sides = jnp.minimum(*shifted(k)) + jnp.square(k.astype(jnp.float32))
        return k + 1, jnp.minimum(best, sides)

    _, squares = lax.while_loop(nearer, widen, (jnp.int32(1), columns))
    return jnp.sqrt(squares)
