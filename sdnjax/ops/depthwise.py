"""Convolution of each channel by itself, as XLA's CPU backend does it fast.

There a grouped convolution is a loop over channels. A sum of shifted copies is one loop with the
channels as its vector, and so is its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

Padding = str | Sequence[tuple[int, int]]


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

    Returns: `[B, h, w, C]` in x's type.
    Raises: ValueError for shapes that do not fit.
    """
    if x.ndim != 4 or kernel.shape[2:] != (1, x.shape[-1]):
        raise ValueError(f"x {x.shape} needs a kernel [kh, kw, 1, C], got {kernel.shape}")
    size = [(n - 1) * d + 1 for n, d in zip(kernel.shape[:2], dilation, strict=True)]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], size, strides, padding)

    def sum_of_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
        wide = x.dtype if x.dtype.itemsize >= 4 else jnp.float32
        padded = jnp.pad(x, ((0, 0), *padding, (0, 0))).astype(wide)
        # One past the last place of the first tap.
        ends = [
            (n - k) // s * s + 1 for n, k, s in zip(padded.shape[1:3], size, strides, strict=True)
        ]
        y: jax.Array | None = None
        for i in range(kernel.shape[0]):
            for j in range(kernel.shape[1]):
                top, left = i * dilation[0], j * dilation[1]
                tap = lax.slice(
                    padded,
                    (0, top, left, 0),
                    (x.shape[0], top + ends[0], left + ends[1], x.shape[3]),
                    (1, *strides, 1),
                )
                term = tap * kernel[i, j][None, None].astype(wide)
                y = term if y is None else y + term
        assert y is not None
        return y.astype(x.dtype)

    def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1],
            precision=precision,
        )

    return lax.platform_dependent(x, kernel, cpu=sum_of_taps, default=grouped)
