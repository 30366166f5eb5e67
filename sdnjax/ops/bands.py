"""Bands of rows: what an operator on neighbourhoods works on while it is still in cache.

A loop over bands reads the image through windows of a band and its neighbours' rows, so that no
padded copy of the image is made. Bands never cut the batch, which may be spread over devices.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


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

    def fresh(self, i) -> jax.Array:
        """`[rows]` booleans: the rows of band i that no earlier band holds."""
        return self.start(i) + jnp.arange(self.rows, dtype=jnp.int32) >= i * self.rows

    def take(self, x: jax.Array, i) -> jax.Array:
        """Band i of x `[B, H, W, ...]`."""
        return lax.dynamic_slice_in_dim(x, self.start(i), self.rows, axis=1)

    def put(self, x: jax.Array, band: jax.Array, i) -> jax.Array:
        return lax.dynamic_update_slice_in_dim(x, band, self.start(i), axis=1)

    def loop(self, body, carry):
        """`carry = body(carry, i)` for every band."""
        return lax.scan(lambda c, i: (body(c, i), None), carry, jnp.arange(self.count, dtype=jnp.int32))[0]


def bands_of(shape, bytes_per_pixel: int, *, limit: int = 2**20, least: int = 1) -> Bands:
    """The fewest even bands of an image `[B, H, W, ...]` that stay below a size.

    Args:
        bytes_per_pixel: of what the loop builds per band.
        limit: bytes per band.
        least: pixels per band, whatever their bytes.
    """
    b, h, w = shape[:3]
    rows = max(limit // (b * w * bytes_per_pixel), -(-least // (b * w)), 1)
    count = -(-h // min(rows, h))
    return Bands(h, -(-h // count))


@dataclass(frozen=True)
class Window:
    """Rows and columns around band i of images `[B, H, W, ...]`: the band and what its taps reach.

    Offsets may be traced. Beyond the image's own size nothing is left to read.
    """

    bands: Bands
    i: int | jax.Array
    reach: tuple[int, int]

    @property
    def _rows(self):
        return min(self.bands.height, self.bands.rows + 2 * self.reach[0])

    @property
    def _first(self):
        return jnp.clip(self.bands.start(self.i) - self.reach[0], 0, self.bands.height - self._rows)

    def _place(self, offset, ndim):
        reach = jnp.array(self.reach, jnp.int32)
        y, x = jnp.clip(jnp.asarray(offset, jnp.int32), -reach, reach) + reach
        zero = jnp.zeros((), jnp.int32)
        return (zero, self.bands.start(self.i) - self._first + y, x) + (zero,) * (ndim - 3)

    def reader(self, x: jax.Array):
        """`read(o)[p] = x[p + o]` for the pixels p of the band, 0 outside the image."""
        rows = lax.dynamic_slice_in_dim(x, self._first, self._rows, axis=1)
        ry, rx = self.reach
        padded = jnp.pad(rows, ((0, 0), (ry, ry), (rx, rx)) + ((0, 0),) * (x.ndim - 3))
        shape = (x.shape[0], self.bands.rows, *x.shape[2:])
        return lambda offset: lax.dynamic_slice(padded, self._place(offset, x.ndim), shape)

    def scatter(self, x: jax.Array, terms) -> jax.Array:
        """`x[p + o] += term[p]` for every `(o, term)`; what falls outside is dropped."""
        ry, rx = self.reach
        b, _, w, *rest = x.shape
        total = jnp.zeros((b, self._rows + 2 * ry, w + 2 * rx, *rest), x.dtype)
        for offset, term in terms:
            place = self._place(offset, x.ndim)
            total = lax.dynamic_update_slice(
                total, lax.dynamic_slice(total, place, term.shape) + term, place
            )
        total = total[:, ry : ry + self._rows, rx : rx + w]
        old = lax.dynamic_slice_in_dim(x, self._first, self._rows, axis=1)
        return lax.dynamic_update_slice_in_dim(x, old + total, self._first, axis=1)


def reach_of(offsets, shape) -> tuple[int, int]:
    """How many rows and columns of an image `[B, H, W, ...]` lie within the taps' reach."""
    h, w = shape[1:3]
    return min(h, max(abs(y) for y, _ in offsets)), min(w, max(abs(x) for _, x in offsets))


def channel_sum(x: jax.Array) -> jax.Array:
    """Sum over the last axis."""
    # In XLA:CPU a reduction of the minor axis adds one number after the other: a product with
    # ones is vectorised.
    def product(x):
        ones = jnp.ones(x.shape[-1:], x.dtype)
        return lax.dot_general(
            x, ones, (((x.ndim - 1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST
        )

    return lax.platform_dependent(x, cpu=product, default=partial(jnp.sum, axis=-1))
