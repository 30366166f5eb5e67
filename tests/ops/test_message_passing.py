"""E-CRF's two operators against loops over pixels, and what they keep in memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.ops.message_passing import pairwise_message, position_encoding, superpixel_means
from tests.ops.oracles import arrays, slope, taps, value_and_pullback


def message_loop(f, e, a, b, *, size=(3, 3), dilation=2, centre=True):
    n, h, w, _ = f.shape
    result = np.zeros_like(f)
    for i, y, x in np.ndindex(n, h, w):
        for _, _, _, dy, dx in taps(size, dilation):
            v, u = y + dy, x + dx
            if not (0 <= v < h and 0 <= u < w) or (not centre and (dy, dx) == (0, 0)):
                continue
            mu = 1 / (1 + np.exp(-(a[i, v, u] + b[i, y, x])))
            result[i, y, x] += mu * (e[i, y, x] @ e[i, v, u]) * f[i, v, u]
    return result


def means_loop(f, labels, segments):
    result = np.zeros(f.shape, f.dtype)
    for i in range(len(f)):
        for s in range(segments):
            member = labels[i] == s
            result[i][member] = f[i][member].sum(0) / (member.sum() + 1e-5)
    return result


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize(("shape", "dilation"), [((2, 5, 7), 2), ((1, 1, 3), 1), ((1, 6, 3), 3)])
def test_messages_and_all_gradients_equal_the_loop(x64, shape, dilation, pair, centre):
    f, e, a, b, dy = arrays((*shape, 4), (*shape, 3), shape, shape, (*shape, 4))
    b = b if pair else np.zeros_like(b)

    def message(f, e, a, b):
        b = b if pair else None
        return pairwise_message(f, e, a, b, dilation=dilation, centre=centre)[0]

    loop = partial(message_loop, dilation=dilation, centre=centre)
    y, pullback = value_and_pullback(message, (f, e, a, b), dy)
    np.testing.assert_allclose(y, loop(f, e, a, b), rtol=0, atol=1e-12)
    for position in range(4 if pair else 3):

        def total(x, position=position):
            arguments = [x if i == position else v for i, v in enumerate((f, e, a, b))]
            return np.sum(loop(*arguments) * dy)

        expected = slope(total, (f, e, a, b)[position])
        np.testing.assert_allclose(pullback[position], expected, rtol=1e-7, atol=1e-8)


def test_psi_sums_to_the_messages_of_a_map_of_ones(x64):
    """Unfolded weights: without the centre their middle is 0, outside the image all are."""
    e, a = arrays((1, 4, 5, 3), (1, 4, 5))
    ones = np.ones((1, 4, 5, 2))
    for centre in (True, False):
        y, psi = jax.jit(partial(pairwise_message, centre=centre))(ones, e, a)
        np.testing.assert_allclose(y, np.repeat(psi.sum(-1, keepdims=True), 2, -1), atol=1e-12)
        assert (psi[..., 4] == 0).all() != centre
        assert (psi[0, 0, :, :3] == 0).all()  # nothing lies above the first row


def test_messages_in_bfloat16_are_summed_in_float32():
    f, e, a = (x.astype(np.float32) for x in arrays((1, 6, 6, 16), (1, 6, 6, 8), (1, 6, 6)))
    narrow = jnp.asarray(f, jnp.bfloat16)
    y, pullback = jax.vjp(lambda f: pairwise_message(f, jnp.array(e), jnp.array(a))[0], narrow)
    assert y.dtype == jnp.float32
    expected = message_loop(np.asarray(narrow, np.float64), e, a, np.zeros_like(a))
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    assert pullback(y)[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("reduction", ["segment_sum", "one_hot"])
def test_superpixel_means_and_their_gradient_equal_the_loop(x64, reduction):
    """Void, one segment, members of a batch with unlike numbers of segments, the last label."""
    f, dy = arrays((4, 5, 3, 2), (4, 5, 3, 2))
    labels = np.random.default_rng(1).integers(-1, 6, (4, 5, 3))
    labels[1], labels[2] = 0, labels[2] // 3
    labels[3] = -1
    labels[0, 0, 0] = 5
    means = partial(superpixel_means, superpixels=labels, segments=6, reduction=reduction)
    y, (df,) = value_and_pullback(means, (f,), dy)
    np.testing.assert_allclose(y, means_loop(f, labels, 6), rtol=0, atol=1e-12)
    assert (y[3] == 0).all() and (df[3] == 0).all()
    expected = slope(lambda x: np.sum(means_loop(x, labels, 6) * dy), f)
    np.testing.assert_allclose(df, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("reduction", ["segment_sum", "one_hot"])
def test_a_number_beyond_the_segments_is_not_lost_in_silence(reduction):
    f, labels = jnp.ones((1, 2, 2, 3)), jnp.array([[[0, 1], [2, -1]]], jnp.int32)
    y = superpixel_means(f, labels, 2, reduction=reduction)
    np.testing.assert_array_equal(np.isnan(y[0, ..., 0]), [[False, False], [True, False]])


def test_position_encoding():
    code = position_encoding(3, 5, 8)
    assert code.shape == (3, 5, 16) and code.dtype == np.float32
    for i in range(4):
        omega = 10000 ** (-2 * i / 8)
        np.testing.assert_allclose(code[1, 4, 2 * i], np.sin(4 * omega), atol=1e-6)
        np.testing.assert_allclose(code[1, 4, 2 * i + 1], np.cos(4 * omega), atol=1e-6)
        np.testing.assert_allclose(code[1, 4, 8 + 2 * i], np.sin(omega), atol=1e-6)


@pytest.mark.parametrize(
    "shapes", [((1, 4, 4, 2), (1, 4, 5, 2), (1, 4, 4)), ((1, 4, 4, 2), (1, 4, 4, 2), (1, 4, 4, 1))]
)
def test_shapes_that_do_not_fit_are_named(shapes):
    f, e, a = map(jnp.zeros, shapes)
    with pytest.raises(ValueError, match=r"must share B, H and W, got \(1, 4, 4, 2\)"):
        pairwise_message(f, e, a)


def test_superpixels_must_be_integers_of_the_same_grid():
    f = jnp.zeros((1, 4, 4, 2))
    with pytest.raises(ValueError, match=r"got \(1, 4, 4, 2\) and \(1, 4, 5\)"):
        superpixel_means(f, jnp.zeros((1, 4, 5), jnp.int32), 3)
    with pytest.raises(ValueError, match="must be integers, not float32"):
        superpixel_means(f, jnp.zeros((1, 4, 4)), 3)
