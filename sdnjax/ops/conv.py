"""Convolution, in a form whose gradients are fast on CPUs.

XLA's CPU backend computes a kernel's gradient as a convolution with the batch for channels, at a
tenth to a half of the speed of the same matrix products. Here each tap is one of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.by_device import Arrays, by_device

Padding = str | Sequence[tuple[int, int]]

# With fewer input channels, such as a picture's three, matrix products are too narrow to gain.
_FEW_CHANNELS = 8


def conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    *,
    dilation: Sequence[int] = (1, 1),
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """`y[p, o] = Σ_k Σ_i kernel[k, i, o] · x[p · stride + k · dilation − padding, i]`.

    On a CPU a 1×1 kernel is a matrix product, and any kernel's gradient one for each tap; elsewhere
    `lax.conv_general_dilated`.

    Args:
      x: `[B, H, W, Ci]`, floating.
      kernel: `[kh, kw, Ci, Co]`, of x's type.
      padding: "SAME" and "VALID" as in `lax`, or (before, after) for each axis, in pixels.

    Returns: `[B, h, w, Co]` in x's type. It has gradients, but no forward mode (`jax.jvp`).
    Raises: ValueError for shapes that do not fit.
    """
    if x.ndim != 4 or kernel.ndim != 4 or kernel.shape[2] != x.shape[-1]:
        raise ValueError(f"x {x.shape} needs a kernel [kh, kw, Ci, Co], got {kernel.shape}")
    window = _Dense.of(x, kernel, strides, padding, dilation=dilation, precision=precision)
    return by_device(x, kernel, window)


@dataclass(frozen=True)
class Window:
    """Where the taps lie. `reach`: pixels from the first tap to the last, in each axis."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    reach: tuple[int, ...]
    precision: lax.PrecisionLike

    @classmethod
    def of(
        cls,
        x: jax.Array,
        kernel: jax.Array,
        strides: Sequence[int],
        padding: Padding,
        *,
        dilation: Sequence[int],
        precision: lax.PrecisionLike,
    ) -> Self:
        reach = tuple((n - 1) * d for n, d in zip(kernel.shape[:2], dilation, strict=True))
        if isinstance(padding, str):
            size = tuple(r + 1 for r in reach)
            padding = lax.padtype_to_pads(x.shape[1:3], size, strides, padding)
        pads = tuple((before, after) for before, after in padding)
        return cls(tuple(strides), pads, tuple(dilation), reach, precision)

    def convolve(self, x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            self.strides,
            self.padding,
            rhs_dilation=self.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
            precision=self.precision,
        )

    def seen(self, padded: jax.Array, taps: Sequence[int]) -> Iterator[jax.Array]:
        """What each of kh × kw taps sees of `padded [B, H, W, C]`, row by row: `[B, h, w, C]`."""
        b, *size, c = padded.shape
        # One past the last place of the first tap.
        ends = [
            (n - 1 - r) // s * s + 1 for n, r, s in zip(size, self.reach, self.strides, strict=True)
        ]
        for i in range(taps[0]):
            for j in range(taps[1]):
                top, left = i * self.dilation[0], j * self.dilation[1]
                end = (b, top + ends[0], left + ends[1], c)
                yield lax.slice(padded, (0, top, left, 0), end, (1, *self.strides, 1))


class _Dense(Window):
    def general(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return self.convolve(x, kernel)

    def on_cpu(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        if not self._pointwise(kernel):
            return self.convolve(x, kernel)
        (seen,) = self.seen(x, (1, 1))
        return self._product(seen, kernel[0, 0])

    def gradients_on_cpu(self, x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Arrays:
        if self._pointwise(kernel):
            dx = self._spread(self._product(dy, kernel[0, 0].T), x.shape)
        else:
            dx = jax.vjp(lambda x: self.convolve(x, kernel), x)[1](dy)[0]
        if x.shape[-1] < _FEW_CHANNELS:
            return dx, jax.vjp(lambda kernel: self.convolve(x, kernel), kernel)[1](dy)[0]
        padded = jnp.pad(x, ((0, 0), *self.padding, (0, 0)))
        # One axis of pixels: for several XLA transposes what each tap sees.
        rows, ci = dy.reshape(-1, dy.shape[-1]), x.shape[-1]
        taps = [
            self._product(seen.reshape(-1, ci), rows, pixels=True)
            for seen in self.seen(padded, kernel.shape[:2])
        ]
        return dx, jnp.stack(taps).reshape(kernel.shape)

    def _pointwise(self, kernel: jax.Array) -> bool:
        return kernel.shape[:2] == (1, 1) and not any(map(any, self.padding))

    def _product(self, a: jax.Array, b: jax.Array, pixels: bool = False) -> jax.Array:
        """The sum over channels, a's last axis and b's first, or over the pixels of both."""
        axes = (((0,), (0,)) if pixels else ((a.ndim - 1,), (0,)), ((), ()))
        wide = a.dtype if a.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
        y = lax.dot_general(a, b, axes, self.precision, preferred_element_type=wide)
        return y.astype(a.dtype)

    def _spread(self, y: jax.Array, shape: Sequence[int]) -> jax.Array:
        """y where a stride's first tap saw it, zeros between."""
        borders = [
            (0, n - (m - 1) * s - 1, s - 1)
            for n, m, s in zip(shape[1:3], y.shape[1:3], self.strides, strict=True)
        ]
        return lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
