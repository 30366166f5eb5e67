"""Convolution of each channel by itself, in a form that is fast on CPUs.

XLA's CPU backend runs a grouped convolution channel by channel, and its gradients slower still.
Written as a sum of shifted copies, the channels are the vector of one loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.per_device import per_device

Padding = str | Sequence[tuple[int, int]]
Arrays = tuple[jax.Array, jax.Array]


def depthwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    *,
    dilation: Sequence[int] = (1, 1),
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """`y[p, c] = Σ_k kernel[k, 0, c] · x[p · stride + k · dilation − padding, c]`.

    On a CPU it is the sum of the taps, in float32 for narrower types; elsewhere
    `lax.conv_general_dilated` with as many groups as channels.

    Args:
      x: `[B, H, W, C]`, floating.
      kernel: `[kh, kw, 1, C]`, of x's type.
      padding: "SAME" and "VALID" as in `lax`, or (before, after) for each axis, in pixels.

    Returns: `[B, h, w, C]` in x's type. It has gradients, but no forward mode (`jax.jvp`).
    Raises: ValueError for shapes that do not fit.
    """
    if x.ndim != 4 or kernel.shape[2:] != (1, x.shape[-1]):
        raise ValueError(f"x {x.shape} needs a kernel [kh, kw, 1, C], got {kernel.shape}")
    reach = tuple((n - 1) * d for n, d in zip(kernel.shape[:2], dilation, strict=True))
    if isinstance(padding, str):
        size = tuple(r + 1 for r in reach)
        padding = lax.padtype_to_pads(x.shape[1:3], size, strides, padding)
    taps = _Taps(tuple(strides), tuple(padding), tuple(dilation), reach, precision)
    return _depthwise(x, kernel, taps)


@dataclass(frozen=True)
class _Taps:
    """Where the taps lie. `reach`: pixels from the first tap to the last, in each axis."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    reach: tuple[int, ...]
    precision: lax.PrecisionLike


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, kernel: jax.Array, taps: _Taps) -> jax.Array:
    def sum_of_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
        padded = jnp.pad(x, ((0, 0), *taps.padding, (0, 0)))
        return _sum_of_taps(padded, kernel, taps.strides, taps.dilation, taps.reach)

    return lax.platform_dependent(x, kernel, cpu=sum_of_taps, default=_grouped(taps))


def _forward(x: jax.Array, kernel: jax.Array, taps: _Taps) -> tuple[jax.Array, Arrays]:
    return _depthwise(x, kernel, taps), (x, kernel)


def _backward(taps: _Taps, kept: Arrays, dy: jax.Array) -> Arrays:
    def by_taps(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Arrays:
        of_rows = functools.partial(_kernel_gradient, size=kernel.shape[:2], taps=taps)
        summed = per_device(of_rows, "b h w c, b y x c -> c", summed=True, by_mesh=True)
        return _input_gradient(x, kernel, dy, taps), summed(x, dy).astype(kernel.dtype)

    def of_convolution(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Arrays:
        return jax.vjp(_grouped(taps), x, kernel)[1](dy)

    return lax.platform_dependent(*kept, dy, cpu=by_taps, default=of_convolution)


_depthwise.defvjp(_forward, _backward)


def _grouped(taps: _Taps) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            taps.strides,
            taps.padding,
            rhs_dilation=taps.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1],
            precision=taps.precision,
        )

    return convolve


def _wide(x: jax.Array) -> jax.Array:
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)


def _sum_of_taps(
    padded: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    dilation: Sequence[int],
    reach: Sequence[int],
) -> jax.Array:
    """`padded [B, H, W, C]` → what the taps see of it, in its type."""
    b, *size, c = padded.shape
    # One past the last place of the first tap.
    ends = [(n - 1 - r) // s * s + 1 for n, r, s in zip(size, reach, strides, strict=True)]
    wide, weights = _wide(padded), _wide(kernel)
    y: jax.Array | None = None
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            top, left = i * dilation[0], j * dilation[1]
            seen = lax.slice(
                wide, (0, top, left, 0), (b, top + ends[0], left + ends[1], c), (1, *strides, 1)
            )
            term = seen * weights[i, j][None, None]
            y = term if y is None else y + term
    assert y is not None
    return y.astype(padded.dtype)


def _input_gradient(x: jax.Array, kernel: jax.Array, dy: jax.Array, taps: _Taps) -> jax.Array:
    """The taps turned round, on dy with zeros between its rows and columns (stride)."""
    borders = [(0, 0, 0)]
    for n, m, s, r, (before, _) in zip(
        x.shape[1:3], dy.shape[1:3], taps.strides, taps.reach, taps.padding, strict=True
    ):
        first = r - before
        borders.append((first, n + r - first - ((m - 1) * s + 1), s - 1))
    spread = lax.pad(dy, jnp.zeros((), dy.dtype), [*borders, (0, 0, 0)])
    return _sum_of_taps(spread, kernel[::-1, ::-1], (1, 1), taps.dilation, taps.reach)


def _kernel_gradient(x: jax.Array, dy: jax.Array, *, size: Sequence[int], taps: _Taps) -> jax.Array:
    """`Σ_p dy[p] x[p + k]` as `[kh, kw, 1, C]`, at least float32.

    Row by row into sums for each column, which are added up last: in XLA:CPU a sum over all
    pixels at once adds one number after the other.
    """
    (b, h, w, c), (kh, kw) = dy.shape, size
    padded = jnp.pad(x, ((0, 0), *taps.padding, (0, 0)))
    (row_stride, stride), (row_dilation, dilation) = taps.strides, taps.dilation
    window = (1, taps.reach[0] + 1, padded.shape[2], c)

    def add_row(t: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        image, row = t // h, t % h
        d = _wide(lax.dynamic_slice(dy, (image, row, 0, 0), (1, 1, w, c))[0])
        rows = _wide(lax.dynamic_slice(padded, (image, row * row_stride, 0, 0), window)[0])
        found = []
        for j, total in enumerate(sums):
            left = j * dilation
            seen = lax.slice(
                rows,
                (0, left, 0),
                (rows.shape[0], left + (w - 1) * stride + 1, c),
                (row_dilation, stride, 1),
            )
            found.append(total + seen * d)
        return tuple(found)

    start = (jnp.zeros((kh, w, c), _wide(dy).dtype),) * kw
    sums = lax.fori_loop(0, b * h, add_row, start)
    return jnp.stack([s.sum(axis=1) for s in sums], axis=1)[:, :, None]
