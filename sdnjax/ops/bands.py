"""Bands of rows: what an operator on neighbourhoods works on while it is still in cache.

A loop over bands reads the image through windows of a band and its neighbours' rows, so that no
padded copy of the image is made. Bands never cut the batch, which may be spread over devices.

That is for the CPU, where XLA neither fuses nor tiles such operators. Elsewhere elementwise
operators need no loop (`works_in_bands`), and those that need one take larger steps.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.devices import target_device


def works_in_bands() -> bool:
    """Whether elementwise operators pay for a loop; accelerators fuse them into one pass."""
    return target_device()[0] == "cpu"


@dataclass(frozen=True)
class Bands:
    """`count` bands of `rows` rows; the last one overlaps the one before it to end at `height`."""

    height: int
    rows: int

    @property
    def count(self) -> int:
        return -(-self.height // self.rows)

    def start(self, i):
        """First row of band i, which may be traced."""
        return jnp.minimum(i * self.rows, self.height - self.rows)

    def where_fresh(self, band: jax.Array, i) -> jax.Array:
        """Band i of an array, set to 0 in the rows that the band before it has covered already.

        So that a sum over bands counts the rows in which the last two overlap once.
        """
        fresh = self.start(i) + jnp.arange(self.rows, dtype=jnp.int32) >= i * self.rows
        return jnp.where(fresh.reshape(1, -1, *(1,) * (band.ndim - 2)), band, 0)

    def take(self, x: jax.Array, i) -> jax.Array:
        """Band i of x `[B, H, W, ...]`."""
        return lax.dynamic_slice_in_dim(x, self.start(i), self.rows, axis=1)

    def put(self, x: jax.Array, band: jax.Array, i) -> jax.Array:
        return lax.dynamic_update_slice_in_dim(x, band, self.start(i), axis=1)

    def loop(self, step, carry, x: jax.Array, reach: tuple[int, int], repeats: int = 1):
        """`carry = step(carry, r, i, window)` for every band i, `repeats` times over.

        `window` holds the rows and columns of x around band i.
        """

        # Read one step ahead and carried: XLA would otherwise fuse the slice of the window into
        # each of its readers and compute it once per tap.
        def window(t):
            return Window(self, t % self.count, reach).take(x)

        def body(t, state):
            t = t.astype(jnp.int32)
            ahead, carry = state
            carry = step(carry, t // self.count, t % self.count, ahead)
            return window(t + 1), carry

        return lax.fori_loop(
            np.int32(0), np.int32(repeats * self.count), body, (window(np.int32(0)), carry)
        )[1]


def bands_of(shape, bytes_per_pixel: int, *, limit: int | None = None, least: int = 1) -> Bands:
    """The fewest even bands of an image `[B, H, W, ...]` that stay below a size.

    Args:
        bytes_per_pixel: of what the loop builds per band.
        limit: bytes per band; by default 1 MiB, or an eighth of the image where that is less.
        least: pixels per band, whatever their bytes.
    """
    b, h, w = shape[:3]
    if limit is None:
        limit = min(2**20, b * h * w * bytes_per_pixel // 8)
    rows = max(limit // max(b * w * bytes_per_pixel, 1), -(-least // (b * w)), 1)
    # Even bands: all have one size, so a last one of few rows would cost as much as a whole one.
    count = -(-h // min(rows, h))
    return Bands(h, -(-h // count))


@dataclass(frozen=True)
class Window:
    """Rows and columns around band i of images `[B, H, W, ...]`: the band and what its taps reach.

    Offsets are pairs, traced or not. Beyond the image's own size nothing is left to read.
    """

    bands: Bands
    i: int | jax.Array
    reach: tuple[int, int]

    def _overlap(self):
        """First row and number of the image's rows to look at, and where the window has them."""
        height, (ry, _) = self.bands.height, self.reach
        # At the upper and lower edge the window reaches beyond the image, where XLA would move a
        # slice inside: so rows that exist are taken and put in their place within the window.
        rows, top = min(height, self.bands.rows + 2 * ry), self.bands.start(self.i) - ry
        first = jnp.clip(top, 0, height - rows)
        return first, rows, first - top

    def _place(self, offset, ndim):
        y, x = (
            max(-r, min(r, o)) + r if isinstance(o, int) else jnp.clip(o, -r, r) + r
            for o, r in zip(offset, self.reach, strict=True)
        )
        zero = 0 if isinstance(y, int) else jnp.zeros((), y.dtype)
        return (zero, y, x) + (zero,) * (ndim - 3)

    def take(self, x: jax.Array) -> jax.Array:
        """The window's content, 0 outside the image."""
        (ry, rx), rest = self.reach, ((0, 0),) * (x.ndim - 3)
        first, rows, shift = self._overlap()
        window = lax.dynamic_slice_in_dim(x, first, rows, axis=1)
        window = jnp.pad(window, ((0, 0), (ry, ry), (rx, rx), *rest))
        return lax.dynamic_slice_in_dim(window, ry - shift, self.bands.rows + 2 * ry, axis=1)

    def read(self, window: jax.Array, offset) -> jax.Array:
        """`x[p + offset]` for the pixels p of the band."""
        b, _, w, *rest = window.shape
        shape = (b, self.bands.rows, w - 2 * self.reach[1], *rest)
        return lax.dynamic_slice(window, self._place(offset, window.ndim), shape)

    def scatter(self, x: jax.Array, terms) -> jax.Array:
        """`x[p + o] += term[p]` for every `(o, term)`; what falls outside is dropped."""
        (ry, rx), (b, _, w, *rest) = self.reach, x.shape
        # Terms add up in a window in cache; the image, which is not, is read and written once.
        dtype = terms[0][1].dtype
        window = jnp.zeros((b, self.bands.rows + 2 * ry, w + 2 * rx, *rest), dtype)
        for offset, term in terms:
            place = self._place(offset, x.ndim)
            old = lax.dynamic_slice(window, place, term.shape)
            window = lax.dynamic_update_slice(window, old + term, place)
        first, rows, shift = self._overlap()
        window = jnp.pad(window[:, :, rx : rx + w], ((0, 0), (ry, ry)) + ((0, 0),) * (x.ndim - 2))
        window = lax.dynamic_slice_in_dim(window, ry + shift, rows, axis=1)
        old = lax.dynamic_slice_in_dim(x, first, rows, axis=1)
        window = (old.astype(dtype) + window).astype(x.dtype)
        return lax.dynamic_update_slice_in_dim(x, window, first, axis=1)


def reach_of(offsets, shape) -> tuple[int, int]:
    """How many rows and columns of an image `[B, H, W, ...]` lie within the taps' reach."""
    h, w = shape[1:3]
    return min(h, max(abs(y) for y, _ in offsets)), min(w, max(abs(x) for _, x in offsets))


def channel_sum(x: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Sum over the last axis, of `x · weights` where there are any: `[…, C]` → `[…]`."""
    if not works_in_bands():
        return jnp.sum(x if weights is None else x * weights, axis=-1)
    # In XLA:CPU a reduction of the minor axis adds one number after the other: a product is
    # vectorised.
    weights = jnp.ones(x.shape[-1:], x.dtype) if weights is None else weights
    axes = (((x.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(x, weights, axes, precision=lax.Precision.HIGHEST)


def channel_sums(products: Iterable[jax.Array]) -> jax.Array:
    """`channel_sum` of several arrays `[…, C]`, along a new last axis."""
    sums = [channel_sum(product) for product in products]
    if not works_in_bands():
        # XLA for GPUs would draw the last of them into the concatenation, where one thread adds
        # up all channels of its pixel, and neighbouring threads read far apart.
        sums = lax.optimization_barrier(sums)
    return jnp.stack(sums, axis=-1)
