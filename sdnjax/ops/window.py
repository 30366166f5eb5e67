"""The window of a convolution: which pixels its taps see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
from jax import lax

Padding = str | Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Window:
    """Where the taps lie. `reach`: pixels from the first tap to the last, in each axis."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    reach: tuple[int, ...]
    groups: int
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
        groups: int,
        precision: lax.PrecisionLike,
    ) -> Self:
        reach = tuple((n - 1) * d for n, d in zip(kernel.shape[:2], dilation, strict=True))
        if isinstance(padding, str):
            size = tuple(r + 1 for r in reach)
            padding = lax.padtype_to_pads(x.shape[1:3], size, strides, padding)
        pads = tuple((before, after) for before, after in padding)
        return cls(tuple(strides), pads, tuple(dilation), reach, groups, precision)

    def general(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """XLA's convolution, `[B, H, W, Ci]` and `[kh, kw, Ci / groups, Co]` → `[B, h, w, Co]`."""
        return lax.conv_general_dilated(
            x,
            kernel,
            self.strides,
            self.padding,
            rhs_dilation=self.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
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

    def padded(self, x: jax.Array) -> jax.Array:
        """With the zeros that taps see beyond the border."""
        return jnp.pad(x, ((0, 0), *self.padding, (0, 0)))

    def patches(self, x: jax.Array, taps: Sequence[int]) -> jax.Array:
        """What all taps see, one after the other: `[B, H, W, C]` → `[B, h, w, kh · kw · C]`."""
        seen = list(self.seen(self.padded(x), taps))
        return seen[0] if len(seen) == 1 else jnp.concatenate(seen, axis=-1)
