"""The permutohedral filter: splat, blur, slice, and its transpose."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sdnjax.ops.crf.lattice_index import Array, PermutohedralIndex

_LANES = 8  # float32 numbers of a vector register


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

    row, channels = index.owners[:1], values.shape[1]
    x = values.astype(jnp.float32)
    if channels > _LANES:  # rows that begin anywhere are read more slowly
        x = jnp.pad(x, ((0, 0), (0, -channels % _LANES)))
    x = _made(x, row)
    lattice = _weighted(x, index.members, index.member_weights)
    rest = _weighted(x, index.rest, index.rest_weights)
    lattice = lattice.at[index.owners].add(rest, indices_are_sorted=True, mode="promise_in_bounds")
    for axis in reversed(range(axes)) if reverse else range(axes):
        before, after = (_take(lattice, index.neighbours[axis, i]) for i in (0, 1))
        lattice = _made(lattice + 0.5 * (before + after), row)
    scale = 1 / (1 + 2.0 ** (1 - axes))
    found = scale * _weighted(lattice, index.vertices, index.weights)[:, :channels]
    return found.astype(values.dtype)


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


def _made(x: jax.Array, row: Array) -> jax.Array:
    """x itself, computed once: 0 is added to one of its rows, by a scatter.

    XLA would otherwise compute x anew at every place that reads it, sixteen or three at a time, and
    from axis to axis that multiplies; on the CPU it does so even across optimization barriers. A
    scatter it leaves alone, and does in place.
    """
    return x.at[row].add(jnp.zeros((1, x.shape[1]), x.dtype), mode="promise_in_bounds")


def _take(x: jax.Array, rows: Array) -> jax.Array:
    return x.at[rows].get(mode="promise_in_bounds")
