"""Bands of rows cover an image once, and their windows read and add as a padded image would."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.ops.bands import Bands, Window, bands_of, channel_sum, reach_of
from tests.ops.oracles import arrays

cases = pytest.mark.parametrize(
    ("size", "rows", "offset"),
    [
        ((7, 5), 3, (1, -1)),  # the last band overlaps the one before
        ((7, 5), 2, (-3, 2)),  # the reach is longer than a band
        ((6, 4), 2, (9, 0)),  # and here longer than the image
        ((1, 5), 1, (1, 1)),
        ((5, 1), 5, (-2, -1)),
    ],
)


def windows_of(x, rows, reach, step, carry):
    bands = Bands(x.shape[1], rows)

    def around(carry, _, i, window):
        return step(carry, bands, Window(bands, i, reach), i, window)

    return jax.jit(lambda x, carry: bands.loop(around, carry, x, reach))(x, carry)


def padded(x, offset):
    (dy, dx), (_, h, w, _) = np.abs(offset), x.shape
    wide = np.pad(x, ((0, 0), (dy, dy), (dx, dx), (0, 0)))
    return wide[:, dy + offset[0] :, dx + offset[1] :][:, :h, :w]


@cases
@pytest.mark.parametrize("traced", [False, True])
def test_windows_read_zeros_outside(size, rows, offset, traced):
    (x,) = arrays((2, *size, 3), dtype=np.float32)
    place = tuple(jnp.array(offset, jnp.int32)) if traced else offset

    def step(y, bands, window_of, i, window):
        return bands.put(y, window_of.read(window, place), i)

    y = windows_of(x, rows, reach_of((offset,), x.shape), step, jnp.zeros_like(x))
    np.testing.assert_array_equal(y, padded(x, offset))


@cases
def test_scatter_is_the_transpose_of_reading(size, rows, offset):
    x, dy = arrays((2, *size, 3), (2, *size, 3), dtype=np.float32)

    def step(dx, bands, window_of, i, _):
        return window_of.scatter(dx, [(offset, bands.where_fresh(bands.take(dy, i), i))])

    dx = windows_of(x, rows, reach_of((offset,), x.shape), step, jnp.zeros_like(x))
    np.testing.assert_array_equal(dx, padded(dy, tuple(-o for o in offset)))


def test_bands_stay_below_the_limit_and_cover_every_row():
    for height in (1, 7, 64, 97):
        bands = bands_of((2, height, 8, 4), 16, limit=16 * 2 * 8 * 5)
        assert bands.rows <= 5 and bands.count * bands.rows >= height
        assert [int(bands.start(i)) for i in (0, bands.count - 1)] == [0, height - bands.rows]
    assert bands_of((1, 10, 8, 4), 16, limit=1).rows == 1
    assert bands_of((1, 10, 8, 4), 16, limit=1, least=17).rows == 3


def test_channel_sum(x64):
    (x,) = arrays((3, 4, 33))
    np.testing.assert_allclose(jax.jit(channel_sum)(x), x.sum(-1), rtol=1e-13, atol=1e-13)
