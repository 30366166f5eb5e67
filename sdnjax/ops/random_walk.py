"""Random walks between all pixels of a map: "DifNet" (Jiang et al., NeurIPS 2018), Eq. 3–5.

`P = softmax_rows(ΨΨᵀ)` of features Ψ says how likely a walk goes from one node to another. For a
map of 64×64 nodes P has 16.8 million entries for each image and walk, so it is never made whole:
`P y` is attention whose queries and keys are Ψ and whose values are y, worked out for a block of
rows at a time and again in the gradient.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.attention import blocked_attention
from sdnjax.ops.neighbours import accumulation_dtype


def random_walk_step(
    psi: jax.Array,
    y: jax.Array,
    seed: jax.Array,
    alpha: jax.Array,
    beta: jax.Array,
    *,
    block: int | None = None,
) -> jax.Array:
    """One walk, `β(μ P y + (1 − μ) s) + (1 − β) y` with `μ = σ(−alpha)`, `β = σ(−beta)` (Eq. 4–5).

    The signs are the released code's, whose μ is 1/(1 + eᵅ). From y = s only the product μβ acts,
    so the first walk of a cascade has gradients that keep equal μ and β equal.

    Args:
      psi: features of the nodes, `[B, h, w, D]`.
      y: what walks, `[B, h, w, K]`; seed: s, of the same shape.
      alpha, beta: scalars.
      block: rows of P held at once; None for as many as `blocked_attention` takes.

    Returns: `[B, h, w, K]` in float32 (float64 for float64).
    Raises: ValueError for shapes that do not fit each other, with the shapes in it.
    """
    if y.ndim != 4 or y.shape != seed.shape or psi.ndim != 4 or psi.shape[:3] != y.shape[:3]:
        raise ValueError(
            "a walk takes features [B, h, w, D] and two maps [B, h, w, K] on one grid, not "
            f"{psi.shape}, {y.shape} and {seed.shape}"
        )
    b, h, w, k = y.shape
    dtype = _common_dtype(psi, y)
    y, seed = y.astype(dtype), seed.astype(dtype)
    mu, beta = (jax.nn.sigmoid(-x.astype(dtype)).reshape(1, 1, 1, 1) for x in (alpha, beta))
    moved = propagate(psi.reshape(b, h * w, -1), y.reshape(b, h * w, k), block=block)
    return beta * (mu * moved.reshape(y.shape) + (1 - mu) * seed) + (1 - beta) * y


def propagate(psi: jax.Array, y: jax.Array, *, block: int | None = None) -> jax.Array:
    """`P y` with `P = softmax_rows(ΨΨᵀ)`, unscaled, without P.

    Inner products of 64 normalised channels pass 100, where bfloat16 or TF32 would be wrong by
    whole units in an exponent: products are in full float32, float64 for float64.

    Args:
      psi: `[B, N, D]`; y: `[B, N, K]`.
      block: rows of P held at once; None for as many as `blocked_attention` takes.

    Returns: `[B, N, K]` in float32 (float64 for float64).
    Raises: ValueError for other shapes, with the shapes in it.
    """
    if psi.ndim != 3 or y.ndim != 3 or psi.shape[:2] != y.shape[:2]:
        raise ValueError(f"propagate takes [B, N, D] and [B, N, K], not {psi.shape} and {y.shape}")
    dtype = _common_dtype(psi, y)
    psi, y = psi.astype(dtype), y.astype(dtype)
    return blocked_attention(psi, psi, y, block=block, precision=lax.Precision.HIGHEST)


def transition_rows(psi: jax.Array, nodes: jax.Array) -> jax.Array:
    """Rows of P: how likely a walk goes from chosen nodes to every other (DifNet's Fig. 3).

    Args:
      psi: features of one image's nodes, `[N, D]`.
      nodes: integers `[n]`, 0…N−1.

    Returns: `[n, N]` in float32 (float64 for float64); each row sums to 1.
    """
    if psi.ndim != 2 or nodes.ndim != 1:
        raise ValueError(f"transition_rows takes [N, D] and [n], not {psi.shape}, {nodes.shape}")
    psi = psi.astype(accumulation_dtype(psi.dtype))
    return _transitions(psi[nodes][None], psi[None])[0]


def _common_dtype(a: jax.Array, b: jax.Array) -> np.dtype:
    """Float64 if one of them is, else float32."""
    return np.promote_types(accumulation_dtype(a.dtype), accumulation_dtype(b.dtype))


def _transitions(queries: jax.Array, keys: jax.Array) -> jax.Array:
    return jax.nn.softmax(_product("bnd,bmd->bnm", queries, keys), axis=-1)


def _product(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(equation, a, b, precision=lax.Precision.HIGHEST)


def adaptive_max_pool(x: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """The largest value of each of h×w bins, PyTorch's `adaptive_max_pool2d`.

    Of n rows made m, bin i holds rows ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉ − 1: bins overlap and differ in size
    where m does not divide n. The gradient goes to the first of equal values, in the order of rows.

    Args:
      x: `[B, H, W, C]`.
      shape: static `(h, w)`.

    Returns: `[B, h, w, C]` in x's dtype; x itself where the size does not change.
    Raises: ValueError for another rank or an empty size.
    """
    if x.ndim != 4 or min(*x.shape[1:3], *shape) < 1:
        raise ValueError(f"cannot pool {x.shape} as [B, H, W, C] to {tuple(shape)}")
    # The first in the order of rows is the first row's that has it, and there the first column's.
    for axis in (2, 1):
        size = shape[axis - 1]
        if x.shape[axis] != size:
            x = _pool_axis(x, axis, size)
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _pool_axis(x: jax.Array, axis: int, size: int) -> jax.Array:
    return _pool_with_place(x, axis, size)[0]


def _bins(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """First row of each bin and the one after its last."""
    i = np.arange(new)
    return i * old // new, -(-(i + 1) * old // new)


def _pool_with_place(x: jax.Array, axis: int, size: int) -> tuple[jax.Array, jax.Array]:
    """The largest values of the bins, and where in its bin each of them lies, int32."""
    start, stop = _bins(x.shape[axis], size)

    def read(k: int) -> jax.Array:
        return jnp.take(x, np.minimum(start + k, stop - 1).astype(np.int32), axis=axis)

    best = read(0)
    place = jnp.zeros(best.shape, jnp.int32)
    for k in range(1, int((stop - start).max())):
        value = read(k)
        better = (value > best) | (jnp.isnan(value) & ~jnp.isnan(best))
        best, place = jnp.where(better, value, best), jnp.where(better, np.int32(k), place)
    return best, place


def _pool_forward(
    x: jax.Array, axis: int, size: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    best, place = _pool_with_place(x, axis, size)
    # Only x's extent along the axis is needed later: an array without elements carries it.
    extent = jnp.zeros((x.shape[axis], 0), x.dtype)
    return best, (place, extent)


def _pool_backward(
    axis: int, size: int, saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array]:
    """Every row asks the few bins that it lies in, so nothing is scattered."""
    place, extent = saved
    old = extent.shape[0]
    start, stop = _bins(old, size)
    row = np.arange(old)
    first = np.searchsorted(stop, row, side="right")  # the first bin that ends behind the row
    after = np.searchsorted(start, row, side="right")  # the first one that begins behind it
    wide = (slice(None),) + (None,) * (g.ndim - 1 - axis)
    total = None
    for k in range(int((after - first).max())):
        bin_ = np.minimum(first + k, size - 1)
        # A bin's row k is k rows behind its start; −1 is no row of a bin that the row is not in.
        own = np.where(first + k < after, row - start[bin_], -1).astype(np.int32)[wide]
        own = own.reshape((1,) * axis + own.shape)
        index = bin_.astype(np.int32)
        chosen = jnp.take(place, index, axis=axis) == own
        part = jnp.where(chosen, jnp.take(g, index, axis=axis), np.zeros((), g.dtype))
        total = part if total is None else total + part
    assert total is not None  # every row lies in a bin
    return (total,)


_pool_axis.defvjp(_pool_forward, _pool_backward)
