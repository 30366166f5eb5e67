"""The permutohedral filter: splat, blur, slice, and its transpose."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.crf.lattice_index import Array, PermutohedralIndex

_PARTS = 2


@jax.custom_vjp
def lattice_filter(index: PermutohedralIndex, values: jax.Array) -> jax.Array:
    """`[N, C]` → `[N, C]`: approximately `Σ_j exp(−½|f_i − f_j|²) values_j`, at another scale.

    Values are spread over the vertices of their simplices (splat), smoothed by ½, 1, ½ along the
    d + 1 axes in sequence (blur), and gathered (slice), as Adams et al. 2010 and the public
    DenseCRF code do it. The order of the axes shows, so the filter is not symmetric; its gradient
    is the exact transpose, the same with the axes in reverse. There is none to the features.

    Args:
      index: see `build_index`; N is its `points`, rows that only fill up included.
      values: floating; computed in float32.
    """
    return _filtered(index, values, reverse=False)


def _filtered(index: PermutohedralIndex, values: jax.Array, *, reverse: bool) -> jax.Array:
    axes, n = index.vertices.shape
    if values.ndim != 2 or values.shape[0] != n:
        raise ValueError(f"values must be [{n}, C] as the index is, not {values.shape}")

    def blurred(lattice, neighbours):
        before, after = (_take(lattice, rows) for rows in neighbours)
        return lattice + 0.5 * (before + after), None

    x = values.astype(jnp.float32)
    lattice = _weighted_in_parts(x, index.members, index.member_weights)
    rest = _weighted_in_parts(x, index.rest, index.rest_weights)
    lattice = lattice.at[index.owners].add(rest, indices_are_sorted=True, mode="promise_in_bounds")
    lattice, _ = lax.scan(blurred, lattice, index.neighbours, reverse=reverse)
    scale = 1 / (1 + 2.0 ** (1 - axes))
    return (scale * _weighted(lattice, index.vertices, index.weights)).astype(values.dtype)


def _forward(index, values):
    return _filtered(index, values, reverse=False), index


def _backward(index, gradient):
    return None, _filtered(index, gradient, reverse=True)


lattice_filter.defvjp(_forward, _backward)


def _weighted(x: jax.Array, rows: Array, weights: Array) -> jax.Array:
    """`Σ_w weights[w, p] · x[rows[w, p]]`, which XLA makes in one pass."""
    weights = jnp.asarray(weights)
    total = weights[0, :, None] * _take(x, rows[0])
    for w in range(1, rows.shape[0]):
        total = total + weights[w, :, None] * _take(x, rows[w])
    return total


def _weighted_in_parts(x: jax.Array, rows: Array, weights: Array) -> jax.Array:
    """`_weighted` of an x that is computed first, once.

    A loop's operands are arrays. XLA would otherwise compute x anew at every place that reads it,
    on the CPU even across barriers. The last part overlaps the one before.
    """
    count, size = rows.shape[1], -(-rows.shape[1] // _PARTS)

    def part(i, found):
        start = jnp.minimum(i * size, count - size)
        own, factors = (lax.dynamic_slice_in_dim(a, start, size, axis=1) for a in (rows, weights))
        return lax.dynamic_update_slice_in_dim(found, _weighted(x, own, factors), start, axis=0)

    return lax.fori_loop(0, _PARTS, part, jnp.zeros((count, x.shape[1]), x.dtype))


def _take(x: jax.Array, rows: Array) -> jax.Array:
    return x.at[rows].get(mode="promise_in_bounds")
