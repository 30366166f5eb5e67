"""Difference convolutions beside SDC: central (Table 3a), angular, radial, local binary."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.conv import conv
from sdnjax.ops.neighbours import accumulation_dtype, as_pair, tap_offsets

# The eight taps around the centre of a 3×3 kernel, row by row, and each one's next clockwise.
_RING = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2))
_CLOCKWISE = ((0, 1), (0, 2), (1, 2), (0, 0), (2, 2), (1, 0), (2, 0), (2, 1))


def central_difference_conv(
    u: jax.Array,
    kernel: jax.Array,
    *,
    theta: float = 0.7,
    dilation: int | tuple[int, int] = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Central difference convolution (CDC): `conv(u, W) − θ · conv1x1(u, Σ_k W_k)`.

    θ = 1 is `Σ_k (u[p + o_k] − u[p]) W_k` with u = 0 outside; θ = 0 is the plain convolution;
    0.7 is the default of the method's released code. Both terms are linear in u, so the second
    is folded into the centre tap and CDC costs one convolution.

    Args:
        u: `[B, H, W, Ci]`, floating.
        kernel: `[kh, kw, Ci, Co]`, kh and kw odd; cast to u's dtype.
        theta: share of the central difference, a scalar, traced or not.
        dilation: integer ≥ 1 or pair `(y, x)`.
        precision: `jax.lax.Precision` of the convolution.

    Returns:
        `[B, H, W, Co]` in u's dtype; zero padding, the input's size.

    Raises:
        ValueError: shapes that do not fit, an even kernel.
    """
    _check(u, kernel)
    kh, kw = kernel.shape[:2]
    wide = kernel.astype(accumulation_dtype(u.dtype))
    removed = jnp.asarray(theta).astype(wide.dtype) * jnp.sum(wide, axis=(0, 1))
    wide = wide.at[kh // 2, kw // 2].add(-removed)
    return _convolve(u, wide.astype(u.dtype), dilation, precision)


def angular_difference_conv(
    u: jax.Array,
    kernel: jax.Array,
    *,
    dilation: int | tuple[int, int] = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Angular pixel difference convolution (APDC): `Σ_k W_k (u[p + o_k] − u[p + o_next(k)])`.

    k runs over the ring of a 3×3 kernel, next(k) is the tap after it clockwise; the kernel's centre
    has no part. PiDiNet (Su et al., 2021). One convolution, as the differences are linear.

    Arguments, result and errors as `central_difference_conv`, for kernels `[3, 3, Ci, Co]`.
    """
    _check(u, kernel, size=3)
    wide = kernel.astype(accumulation_dtype(u.dtype))
    folded = wide.at[1, 1].set(0)
    for tap, after in zip(_RING, _CLOCKWISE, strict=True):
        folded = folded.at[after].add(-wide[tap])
    return _convolve(u, folded.astype(u.dtype), dilation, precision)


def radial_difference_conv(
    u: jax.Array,
    kernel: jax.Array,
    *,
    dilation: int | tuple[int, int] = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Radial pixel difference convolution (RPDC): `Σ_k W_k (u[p + 2 o_k] − u[p + o_k])`.

    k runs over the ring of a 3×3 kernel, whose centre has no part: differences between the outer
    and the inner ring of 5×5 pixels. PiDiNet (Su et al., 2021).

    Arguments, result and errors as `central_difference_conv`, for kernels `[3, 3, Ci, Co]`.
    """
    _check(u, kernel, size=3)
    wide = kernel.astype(accumulation_dtype(u.dtype))
    folded = jnp.zeros((5, 5, *kernel.shape[2:]), wide.dtype)
    for y, x in _RING:
        folded = folded.at[2 * y, 2 * x].add(wide[y, x]).at[1 + y, 1 + x].add(-wide[y, x])
    return _convolve(u, folded.astype(u.dtype), dilation, precision)


def local_binary_conv(
    u: jax.Array,
    weights: jax.Array,
    *,
    dilation: int | tuple[int, int] = 1,
    density: float = 0.5,
    seed: int = 0,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Local binary convolution (LBC): learnt weights of fixed binary filters' responses.

    `relu(conv(u, B)) V` with B in {−1, 0, 1}, never learnt (Juefei-Xu et al., 2017). B follows
    from the seed alone, the same on every machine.

    Args:
        u: `[B, H, W, Ci]`, floating.
        weights: V, `[1, 1, M, Co]` for M filters of 3×3.
        dilation: of the filters.
        density: share of the entries of B that are not 0.
        seed: of B.

    Returns: `[B, H, W, Co]` in u's dtype; zero padding, the input's size.
    """
    binary = jnp.asarray(binary_filters(u.shape[-1], weights.shape[-2], density, seed), u.dtype)
    responses = jax.nn.relu(_convolve(u, binary, dilation, precision))
    return _convolve(responses, weights.astype(u.dtype), 1, precision)


def binary_filters(channels: int, filters: int, density: float, seed: int) -> np.ndarray:
    """The fixed filters of `local_binary_conv`: int8 `[3, 3, channels, filters]` of −1, 0 and 1."""
    drawn = np.random.Generator(np.random.PCG64(seed)).random((3, 3, channels, filters))
    return np.where(drawn < density / 2, -1, np.where(drawn < density, 1, 0)).astype(np.int8)


def _check(u: jax.Array, kernel: jax.Array, size: int | None = None) -> None:
    if u.ndim != 4 or kernel.ndim != 4 or kernel.shape[2] != u.shape[3]:
        raise ValueError(
            f"features [B, H, W, Ci] and kernel [kh, kw, Ci, Co] must share Ci, "
            f"got {u.shape} and {kernel.shape}"
        )
    if size is not None and kernel.shape[:2] != (size, size):
        raise ValueError(f"the kernel must be {size}×{size}, got {kernel.shape}")


def _convolve(
    u: jax.Array,
    kernel: jax.Array,
    dilation: int | tuple[int, int],
    precision: lax.PrecisionLike,
) -> jax.Array:
    """Cross-correlation with zero padding, of the input's size."""
    ry, rx = (abs(n) for n in tap_offsets(kernel.shape[:2], dilation)[0])
    steps = as_pair("dilation", dilation)
    return conv(u, kernel, padding=((ry, ry), (rx, rx)), dilation=steps, precision=precision)
