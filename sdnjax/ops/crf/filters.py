"""Filters of a dense CRF: linear maps `[N, C]` → `[N, C]` over the N pixels of one picture.

A filter is a function; `mean_field` and `crf_rnn` take any. There is no gradient to features: the
picture is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.crf.lattice import lattice_filter
from sdnjax.ops.crf.lattice_index import PermutohedralIndex
from sdnjax.ops.neighbours import accumulation_dtype

Filter = Callable[[jax.Array], jax.Array]
Normalization = Literal["symmetric", "before", "after", "none"]

Sigma = float | tuple[float, float]

# Of the kernel, so many elements are made at once.
_BLOCK = 2**22


def position_features(height: int, width: int, sigma: Sigma) -> np.ndarray:
    """`[H·W, 2]`: x/σ, y/σ of each pixel, float32; the features of the smoothness kernel.

    Args:
      sigma: in pixels, one number or a pair (y, x).
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    sigma_y, sigma_x = map(np.float32, _pair(sigma))
    return np.stack([x / sigma_x, y / sigma_y], axis=-1).reshape(-1, 2)


def bilateral_features(picture: Any, sigma_xy: Sigma, sigma_rgb: float) -> Any:
    """`[H, W, C]` of 0–255 → `[H·W, 2 + C]`: x/σ_xy, y/σ_xy, colours/σ_rgb.

    The features of the appearance kernel of Krähenbühl and Koltun (2011), float32 (float64 for
    float64). NumPy arrays stay so.

    Args:
      sigma_xy: in pixels, one number or a pair (y, x).
      sigma_rgb: in the picture's levels.
    """
    if picture.ndim != 3:
        raise ValueError(f"a picture is [H, W, C], not {picture.shape}")
    if not sigma_rgb > 0:
        raise ValueError(f"standard deviations must be positive, got {sigma_rgb}")
    height, width, channels = picture.shape
    xp = np if isinstance(picture, np.ndarray) else jnp
    dtype = np.dtype(np.float64 if picture.dtype == np.float64 else np.float32)
    colours = picture.astype(dtype).reshape(-1, channels) / xp.asarray(sigma_rgb, dtype)
    position = xp.asarray(position_features(height, width, sigma_xy), dtype)
    return xp.concatenate([position, colours], axis=1)


def exact_filter(features: jax.Array, *, block: int | None = None) -> Filter:
    """`values_i ← Σ_j exp(−½|f_i − f_j|²) values_j`, i = j included, by brute force.

    The kernel is made anew for a block of pixels at a time and never held whole, in the gradient
    neither, which is the same filter once more. N² · (d + C) operations: for accelerators, and for
    small grids.

    Args:
      features: `[N, d]`, floating, distances in standard deviations.
      block: pixels done at once; None: so many that a block of the kernel has 2²² elements.

    Returns:
      The filter of `values [N, C]`, computed in float32 (float64 where either is).

    Raises:
      ValueError: features that are no floats `[N, d]`, a block below 1.
    """
    if features.ndim != 2 or min(features.shape) < 1:
        raise ValueError(f"features must be [N, d], not {features.shape}")
    accumulation_dtype(features.dtype)  # refuses what is no float
    n = len(features)
    block = min(n, max(1, _BLOCK // n) if block is None else block)
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    return functools.partial(_exact, block, jnp.asarray(features))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _exact(block: int, features: jax.Array, values: jax.Array) -> jax.Array:
    """A symmetric linear map of the values: it is its own transpose."""
    n, d = features.shape
    values = _checked(values, n)
    dtype = accumulation_dtype(jnp.promote_types(features.dtype, values.dtype))
    features, blocks = features.astype(dtype), -(-n // block)
    padded = jnp.pad(features, ((0, blocks * block - n), (0, 0)))

    def rows(own):
        # By differences: |f|² is thousands, and rounding it would show in the exponent.
        squares = sum(jnp.square(own[:, i, None] - features[None, :, i]) for i in range(d))
        kernel = jnp.exp(jnp.asarray(-0.5, dtype) * squares)
        return jnp.matmul(kernel, values.astype(dtype), precision=lax.Precision.HIGHEST)

    found = lax.map(rows, padded.reshape(blocks, block, d))
    return found.reshape(blocks * block, -1)[:n].astype(values.dtype)


def _exact_forward(block, features, values):
    return _exact(block, features, values), features


def _exact_backward(block, features, gradient):
    return None, _exact(block, features, gradient)


_exact.defvjp(_exact_forward, _exact_backward)


def separable_filter(height: int, width: int, sigma: Sigma) -> Filter:
    """`exact_filter` of `position_features`, exactly: rows and then columns of the grid.

    Two dense products, of `[H, H]` and `[W, W]`; for `values [H·W, C]`, computed in float32
    (float64 for float64).

    Args:
      sigma: in pixels, one number or a pair (y, x).

    Raises:
      ValueError: an empty grid, σ that is not positive.
    """
    if min(height, width) < 1:
        raise ValueError(f"a grid of {height}×{width} pixels has no Gaussian")
    sigma_y, sigma_x = _pair(sigma)

    def kernel(size, sigma, dtype):
        at = np.arange(size) / sigma
        return jnp.asarray(np.exp(-0.5 * (at[:, None] - at) ** 2), dtype)

    def apply(values):
        values = _checked(values, height * width)
        dtype = accumulation_dtype(values.dtype)
        product = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
        grid = values.astype(dtype).reshape(height, width, -1)
        grid = product("ab,bwc->awc", kernel(height, sigma_y, dtype), grid)
        grid = product("ab,hbc->hac", kernel(width, sigma_x, dtype), grid)
        return grid.reshape(values.shape).astype(values.dtype)

    return apply


def permutohedral_filter(index: PermutohedralIndex) -> Filter:
    """`lattice_filter` of an index, for `values [N, C]`, N the index's `points`."""
    return functools.partial(lattice_filter, index)


def normalized(
    filter: Filter, points: int, normalization: Normalization, dtype: np.dtype
) -> Filter:
    """K̃ of a filter K, with the diagonal D of its row sums, to which 1e-20 is added.

    `symmetric` D^-½ K D^-½, `before` K D⁻¹, `after` D⁻¹ K, `none` K.

    Raises:
      ValueError: an unknown normalization.
    """
    if normalization == "none":
        return filter
    powers = {"symmetric": (-0.5, -0.5), "before": (-1, 0), "after": (0, -1)}
    if normalization not in powers:
        raise ValueError(
            f"normalization must be {', '.join(powers)} or none, not {normalization!r}"
        )
    sums = filter(jnp.ones((points, 1), dtype)) + jnp.asarray(1e-20, dtype)
    factors = {0: None, -1: 1 / sums, -0.5: lax.rsqrt(sums)}
    before, after = (factors[power] for power in powers[normalization])

    def apply(values):
        found = filter(values if before is None else before.astype(values.dtype) * values)
        return found if after is None else after.astype(found.dtype) * found

    return apply


def _pair(sigma: Sigma) -> tuple[float, float]:
    pair = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    if len(pair) != 2 or not min(pair) > 0:
        raise ValueError(f"standard deviations must be positive, one or (y, x), got {sigma}")
    return pair


def _checked(values: jax.Array, n: int) -> jax.Array:
    if values.ndim != 2 or values.shape[0] != n:
        raise ValueError(f"values must be [{n}, C] as the pixels are, not {values.shape}")
    return values
