"""Ranks of non-negative numbers, by sorting integers: XLA does so four times as fast on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def ordered_bits(x: jax.Array) -> jax.Array:
    """Integers of the same width in the order of non-negative floats: their bits."""
    return lax.bitcast_convert_type(x, jnp.int64 if x.dtype == jnp.float64 else jnp.int32)


def sorted_nonnegative(x: jax.Array) -> jax.Array:
    """`jnp.sort` along the last axis of floats that are not negative, infinity among them."""
    bits = lax.sort(ordered_bits(x), dimension=x.ndim - 1, is_stable=False)
    return lax.bitcast_convert_type(bits, x.dtype)


def ranks_from_above(keys: jax.Array, ascending: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How many keys are above each, and how many are not below it; int32 `[N]` each.

    Args:
      keys: `[N]`, any order.
      ascending: the same, sorted.
    """
    n = keys.size
    above = n - jnp.searchsorted(ascending, keys, side="right").astype(jnp.int32)
    # Where the run of equal keys ends that begins there, counted from the largest key on.
    descending = ascending[::-1]
    place = jnp.arange(1, n + 1, dtype=jnp.int32)
    ends = jnp.concatenate([descending[1:] != descending[:-1], jnp.ones((1,), bool)])
    end = lax.cummin(jnp.where(ends, place, n), reverse=True)
    return above, end[above]
