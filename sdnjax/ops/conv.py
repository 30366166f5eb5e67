"""Convolution, in forms that are fast on CPUs.

XLA's CPU backend computes a kernel's gradient as a convolution with the batch for channels, at a
tenth to a half of the speed of the same matrix products: here each tap is one of those. Where each
channel is convolved by itself, the form is that of `depthwise.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.bands import bands_of
from sdnjax.ops.by_device import Arrays, by_device
from sdnjax.ops.depthwise import Depthwise
from sdnjax.ops.per_device import per_device
from sdnjax.ops.sizes import known
from sdnjax.ops.window import Padding, Window

# With fewer input channels, such as a picture's three, matrix products are too narrow to gain.
_FEW_CHANNELS = 8
# Up to so many pixels of the result XLA's convolutions are slow, down to a fiftieth of the product.
_FEW_PIXELS = 64
# Numbers up to which the gradient of the input goes by patches; more would cost memory.
_MOST_IN_PATCHES = 6 * 2**20
_CHANNELS_THAT_PAY = 64
# From so many pixels of the result on the input is no longer in cache when the next tap reads it.
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

    On a CPU gradients are matrix products, and so are 1×1 kernels and those of few pixels; a
    depthwise convolution, of as many groups as channels, is a sum of taps, in float32 for narrower
    types. With other groups, and on other devices, it is `lax.conv_general_dilated`.

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
        if not (self._pointwise(kernel) or self._pixels(x) <= _FEW_PIXELS):
            return self.general(x, kernel)
        patches = self.patches(x, kernel.shape[:2])
        return self._product(patches, _rows(kernel)).astype(x.dtype)

    def gradients_on_cpu(self, x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Arrays:
        size, rows = kernel.shape[:2], _rows(kernel)
        if self._pointwise(kernel) or self._patches_pay(x, kernel):
            # Back to the patches, and from them to where each tap has read.
            back = self._product(dy, rows.T)
            read = jax.ShapeDtypeStruct(x.shape, back.dtype)
            (dx,) = jax.linear_transpose(lambda x: self.patches(x, size), read)(back)
            dx = dx.astype(x.dtype)
        else:
            dx = jax.vjp(lambda x: self.general(x, kernel), x)[1](dy)[0]
        if x.shape[-1] < _FEW_CHANNELS:
            return dx, jax.vjp(lambda kernel: self.general(x, kernel), kernel)[1](dy)[0]
        of_rows = functools.partial(self._kernel_gradient, size=size)
        summed = per_device(of_rows, "b h w i, b y x o -> i o", summed=True, by_mesh=True)
        return dx, summed(x, dy).reshape(kernel.shape).astype(kernel.dtype)

    def _pointwise(self, kernel: jax.Array) -> bool:
        return kernel.shape[:2] == (1, 1) and not any(map(any, self.padding))

    def _patches_pay(self, x: jax.Array, kernel: jax.Array) -> bool:
        """Whether the gradient of the input goes by patches."""
        pixels, (taps, channels) = self._pixels(x), (math.prod(kernel.shape[:2]), x.shape[-1])
        if channels < _CHANNELS_THAT_PAY and pixels > _FEW_PIXELS:
            return False  # faster or not, each takes XLA longer to compile
        return pixels * taps * channels <= _MOST_IN_PATCHES

    def _pixels(self, x: jax.Array) -> float:
        """Of the result; infinite where sizes are symbols."""
        if not known(x.shape):
            return math.inf
        axes = zip(x.shape[1:3], self.padding, self.reach, self.strides, strict=True)
        return x.shape[0] * math.prod((n + sum(pad) - 1 - r) // s + 1 for n, pad, r, s in axes)

    def _kernel_gradient(self, x: jax.Array, dy: jax.Array, *, size: Sequence[int]) -> jax.Array:
        """`Σ_p dy[p] x[p + k]` as `[kh · kw · Ci, Co]`, at least float32."""
        padded, taps = self.padded(x), math.prod(size)
        pixels, (ci, co) = math.prod(dy.shape[:3]), (x.shape[-1], dy.shape[-1])
        if taps == 1 or pixels < _MANY_PIXELS:
            seen = self.seen(padded, size)
            return jnp.concatenate([self._over_pixels(part, dy) for part in seen])
        # Large maps would be read from memory for every tap: bands of rows serve all at once.
        bands = bands_of(dy.shape, taps * ci * x.dtype.itemsize, limit=_BAND_BYTES)
        rows_seen = (bands.rows - 1) * self.strides[0] + self.reach[0] + 1

        def add_band(i: jax.Array, total: jax.Array) -> jax.Array:
            first = bands.start(i) * self.strides[0]
            window = lax.dynamic_slice_in_dim(padded, first, rows_seen, axis=1)
            patches = jnp.concatenate(list(self.seen(window, size)), axis=-1)
            return total + self._over_pixels(patches, bands.where_fresh(bands.take(dy, i), i))

        start = jnp.zeros((taps * ci, co), _at_least_float32(x.dtype))
        return lax.fori_loop(0, bands.count, add_band, start)

    def _product(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """The sum over channels, a's last axis and b's first, at least in float32."""
        return self._dot(a, b, a.ndim - 1)

    def _over_pixels(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """The sum over all axes but the last of both: `[…, Ci]`, `[…, Co]` → `[Ci, Co]`."""
        # One axis of pixels: for several XLA transposes what each tap sees.
        return self._dot(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), 0)

    def _dot(self, a: jax.Array, b: jax.Array, axis: int) -> jax.Array:
        wide = _at_least_float32(a.dtype)
        axes = (((axis,), (0,)), ((), ()))
        return lax.dot_general(a, b, axes, self.precision, preferred_element_type=wide)


def _rows(kernel: jax.Array) -> jax.Array:
    """`[kh, kw, Ci, Co]` → `[kh · kw · Ci, Co]`, in the order of patches."""
    return kernel.reshape(-1, kernel.shape[-1])


def _at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
