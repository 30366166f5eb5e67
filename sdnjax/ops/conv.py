"""Convolution, in forms that are fast on CPUs.

XLA's CPU backend computes a kernel's gradient as a convolution with the batch for channels, at a
tenth to a half of the speed of the same matrix products: here each tap is one of those. Where each
channel is convolved by itself, the form is that of `depthwise.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.bands import bands_of
from sdnjax.ops.by_device import Arrays, by_device
from sdnjax.ops.depthwise import Depthwise
from sdnjax.ops.per_device import per_device
from sdnjax.ops.window import Padding, Window

# With fewer input channels, such as a picture's three, matrix products are too narrow to gain.
_FEW_CHANNELS = 8
# From so many outputs on their inputs are no longer in cache when the next tap reads them.
_MANY_PIXELS = 8192
_BAND_BYTES = 4 * 2**20


def conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    *,
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """`y[p, o] = Σ_k Σ_i kernel[k, i, o] · x[p · stride + k · dilation − padding, i]`.

    On a CPU a 1×1 kernel is a matrix product, any kernel's gradient one for each tap, and a
    depthwise convolution, of as many groups as channels, a sum of taps, in float32 for narrower
    types; with other groups, and on other devices, it is `lax.conv_general_dilated`.

    Args:
      x: `[B, H, W, Ci]`, floating.
      kernel: `[kh, kw, Ci / groups, Co]`, of x's type.
      padding: "SAME" and "VALID" as in `lax`, or (before, after) for each axis, in pixels.
      groups: of channels; each group of outputs sees its own inputs alone.

    Returns: `[B, h, w, Co]` in x's type. It has gradients, but no forward mode (`jax.jvp`).
    Raises: ValueError for shapes that do not fit.
    """
    channels = x.shape[-1]
    if x.ndim != 4 or kernel.ndim != 4 or kernel.shape[2] * groups != channels:
        wanted = f"a kernel [kh, kw, {channels} / {groups}, Co]"
        raise ValueError(f"x {x.shape} needs {wanted}, got {kernel.shape}")
    depthwise = groups == channels == kernel.shape[-1]
    window = (Depthwise if depthwise else _Dense).of(
        x, kernel, strides, padding, dilation=dilation, groups=groups, precision=precision
    )
    if depthwise or groups == 1:
        return by_device(x, kernel, window)
    return window.general(x, kernel)


class _Dense(Window):
    def on_cpu(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        if not self._pointwise(kernel):
            return self.general(x, kernel)
        (seen,) = self.seen(x, (1, 1))
        return self._product(seen, kernel[0, 0]).astype(x.dtype)

    def gradients_on_cpu(self, x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Arrays:
        if self._pointwise(kernel):
            dx = self._spread(self._product(dy, kernel[0, 0].T).astype(x.dtype), x.shape)
        else:
            dx = jax.vjp(lambda x: self.general(x, kernel), x)[1](dy)[0]
        if x.shape[-1] < _FEW_CHANNELS:
            return dx, jax.vjp(lambda kernel: self.general(x, kernel), kernel)[1](dy)[0]
        of_rows = functools.partial(self._kernel_gradient, size=kernel.shape[:2])
        summed = per_device(of_rows, "b h w i, b y x o -> i o", summed=True, by_mesh=True)
        return dx, summed(x, dy).reshape(kernel.shape).astype(kernel.dtype)

    def _pointwise(self, kernel: jax.Array) -> bool:
        return kernel.shape[:2] == (1, 1) and not any(map(any, self.padding))

    def _kernel_gradient(self, x: jax.Array, dy: jax.Array, *, size: Sequence[int]) -> jax.Array:
        """`Σ_p dy[p] x[p + k]` as `[kh · kw · Ci, Co]`, at least float32."""
        padded, ci = jnp.pad(x, ((0, 0), *self.padding, (0, 0))), x.shape[-1]
        b, h, w, co = dy.shape
        taps = size[0] * size[1]
        # One axis of pixels throughout: for several XLA transposes what each tap sees.
        if taps == 1 or b * h * w < _MANY_PIXELS:
            rows = dy.reshape(-1, co)
            seen = (part.reshape(-1, ci) for part in self.seen(padded, size))
            return jnp.concatenate([self._product(part, rows, pixels=True) for part in seen])
        # Large maps would be read from memory for every tap: bands of rows serve all at once.
        bands = bands_of(dy.shape, taps * ci * x.dtype.itemsize, limit=_BAND_BYTES)
        rows_seen = (bands.rows - 1) * self.strides[0] + self.reach[0] + 1

        def add_band(i: jax.Array, total: jax.Array) -> jax.Array:
            first = bands.start(i) * self.strides[0]
            window = lax.dynamic_slice_in_dim(padded, first, rows_seen, axis=1)
            patches = jnp.concatenate(list(self.seen(window, size)), axis=-1)
            d = bands.where_fresh(bands.take(dy, i), i)
            product = self._product(patches.reshape(-1, taps * ci), d.reshape(-1, co), pixels=True)
            return total + product

        start = jnp.zeros((taps * ci, co), _at_least_float32(x.dtype))
        return lax.fori_loop(0, bands.count, add_band, start)

    def _product(self, a: jax.Array, b: jax.Array, pixels: bool = False) -> jax.Array:
        """The sum over channels, a's last axis and b's first, or over the pixels of both."""
        axes = (((0,), (0,)) if pixels else ((a.ndim - 1,), (0,)), ((), ()))
        wide = _at_least_float32(a.dtype)
        return lax.dot_general(a, b, axes, self.precision, preferred_element_type=wide)

    def _spread(self, y: jax.Array, shape: Sequence[int]) -> jax.Array:
        """y where a stride's first tap saw it, zeros between."""
        borders = [
            (0, n - (m - 1) * s - 1, s - 1)
            for n, m, s in zip(shape[1:3], y.shape[1:3], self.strides, strict=True)
        ]
        return lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *borders, (0, 0, 0)])


def _at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
