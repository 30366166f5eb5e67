"""Max-pooling whose gradient is gathered: the same bits on every device, every time."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.neighbours import accumulation_dtype

Padding = tuple[tuple[int, int], tuple[int, int]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(
    x: jax.Array,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding = ((0, 0), (0, 0)),
) -> jax.Array:
    """The largest value of each window: `[B, H, W, C]` → `[B, H', W', C]`.

    Padded with −∞. The gradient goes to the first of equal values in row-major order, and to a
    NaN before any number, as PyTorch's does. Reverse mode only.

    JAX's own gradient scatters, which on GPUs adds in any order where windows overlap; here each
    pixel gathers what the windows over it hold for it, in one order.

    Args:
        window, strides: height and width, in pixels.
        padding: pixels before and after, of rows and of columns.
    """
    lowest = jnp.array(-jnp.inf, x.dtype)
    return lax.reduce_window(
        x, lowest, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0))
    )


def _forward(
    x: jax.Array, window: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> tuple[jax.Array, jax.Array]:
    return max_pool(x, window, strides, padding), x


def _backward(
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    x: jax.Array,
    dy: jax.Array,
) -> tuple[jax.Array]:
    (h, w), (sy, sx), dtype = x.shape[1:3], strides, dy.dtype
    places = list(itertools.product(range(window[0]), range(window[1])))
    largest = _largest(x, places, strides, padding, dy.shape)
    wide = dy.astype(accumulation_dtype(dtype))
    # A pixel in row a + j·sy lies in row i of window j + t where sy divides a + p − i, and t is
    # the quotient: of its windows, each phase (a, b) of the strides needs some places alone.
    rows, columns = -(-h // sy), -(-w // sx)
    phases = []
    for a, b in itertools.product(range(sy), range(sx)):
        total = jnp.zeros((dy.shape[0], rows, columns, dy.shape[3]), wide.dtype)
        for k, (i, j) in enumerate(places):
            (ty, ry), (tx, rx) = (
                divmod(a + padding[0][0] - i, sy),
                divmod(b + padding[1][0] - j, sx),
            )
            if not ry and not rx:
                mine = jnp.where(largest == k, wide, 0)
                total += _from(_from(mine, ty, rows, 1), tx, columns, 2)
        phases.append(total.astype(dtype))
    # [B, rows, columns, sy·sx, C] → rows and phases of rows, columns and phases of columns.
    dx = jnp.stack(phases, axis=3).reshape(dy.shape[0], rows, columns, sy, sx, -1)
    dx = dx.transpose(0, 1, 3, 2, 4, 5).reshape(dy.shape[0], rows * sy, columns * sx, -1)
    return (dx[:, :h, :w],)


max_pool.defvjp(_forward, _backward)


def _largest(
    x: jax.Array,
    places: list[tuple[int, int]],
    strides: tuple[int, int],
    padding: Padding,
    shape: tuple[int, ...],
) -> jax.Array:
    """Which place of its window each result comes from: `[B, H', W', C]`, int8 or int32."""
    (sy, sx), (_, h, w, _) = strides, shape
    x = x.astype(accumulation_dtype(x.dtype))  # compared in 16 bits, a CPU takes four times as long
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-jnp.inf)
    largest = jnp.zeros(shape, jnp.int8 if len(places) <= 127 else jnp.int32)
    best = jnp.full(shape, -jnp.inf, x.dtype)
    for k, (i, j) in enumerate(places):
        here = padded[:, i : i + sy * (h - 1) + 1 : sy, j : j + sx * (w - 1) + 1 : sx]
        better = (here > best) | jnp.isnan(here)
        best = jnp.where(better, here, best)
        largest = jnp.where(better, jnp.asarray(k, largest.dtype), largest)
    return largest


def _from(x: jax.Array, first: int, count: int, axis: int) -> jax.Array:
    """`count` entries of an axis from `first` on, which may be negative; 0 where there is none."""
    crop_and_fill = [(0, 0, 0)] * x.ndim
    crop_and_fill[axis] = (-first, first + count - x.shape[axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), crop_and_fill)
