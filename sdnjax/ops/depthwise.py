"""Convolution of each channel by itself, in a form that is fast on CPUs.

XLA's CPU backend runs a grouped convolution channel by channel, and its gradients slower still.
Written as a sum of shifted copies, the channels are the vector of one loop.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.by_device import Arrays
from sdnjax.ops.per_device import per_device
from sdnjax.ops.window import Window


class Depthwise(Window):
    """Both forms of it: `kernel [kh, kw, 1, C]`, x and y of C channels."""

    def on_cpu(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return self._sum_of_taps(self.padded(x), kernel)

    def gradients_on_cpu(self, x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Arrays:
        of_rows = functools.partial(self._kernel_gradient, size=kernel.shape[:2])
        summed = per_device(of_rows, "b h w c, b y x c -> c", summed=True, by_mesh=True)
        return self._input_gradient(x, kernel, dy), summed(x, dy).astype(kernel.dtype)

    def _sum_of_taps(self, padded: jax.Array, kernel: jax.Array) -> jax.Array:
        """`padded [B, H, W, C]` → what the taps see of it, in its type."""
        wide, weights = _wide(padded), _wide(kernel).reshape(-1, 1, 1, 1, kernel.shape[-1])
        seen = self.seen(wide, kernel.shape[:2])
        terms = (x * weight for x, weight in zip(seen, weights, strict=True))
        return functools.reduce(jnp.add, terms).astype(padded.dtype)

    def _input_gradient(self, x: jax.Array, kernel: jax.Array, dy: jax.Array) -> jax.Array:
        """The taps turned round, on dy with zeros between its rows and columns (stride)."""
        borders = [(0, 0, 0)]
        for n, m, s, r, (before, _) in zip(
            x.shape[1:3], dy.shape[1:3], self.strides, self.reach, self.padding, strict=True
        ):
            first = r - before
            borders.append((first, n + r - first - ((m - 1) * s + 1), s - 1))
        spread = lax.pad(dy, jnp.zeros((), dy.dtype), [*borders, (0, 0, 0)])
        dense = dataclasses.replace(self, strides=(1, 1))
        return dense._sum_of_taps(spread, kernel[::-1, ::-1])

    def _kernel_gradient(self, x: jax.Array, dy: jax.Array, *, size: Sequence[int]) -> jax.Array:
        """`Σ_p dy[p] x[p + k]` as `[kh, kw, 1, C]`, at least float32.

        Row by row into sums for each column, which are added up last: in XLA:CPU a sum over all
        pixels at once adds one number after the other.
        """
        (b, h, w, c), (kh, kw) = dy.shape, size
        padded = self.padded(x)
        (row_stride, stride), (row_dilation, dilation) = self.strides, self.dilation
        window = (1, self.reach[0] + 1, padded.shape[2], c)

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


def _wide(x: jax.Array) -> jax.Array:
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)
