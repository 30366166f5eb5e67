"""Central difference convolution against its two-term definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.ops import (
    angular_difference_conv,
    central_difference_conv,
    local_binary_conv,
    radial_difference_conv,
    semantic_difference_conv,
)
from sdnjax.ops.difference_conv import binary_filters
from tests.ops.oracles import arrays, slope, taps, value_and_pullback


def cdc_loop(u, kernel, theta, dilation=1):
    b, h, w, _ = u.shape
    y = -theta * u @ kernel.sum((0, 1))
    for n, row, column in np.ndindex(b, h, w):
        for _, i, j, dy, dx in taps(kernel.shape[:2], dilation):
            if 0 <= row + dy < h and 0 <= column + dx < w:
                y[n, row, column] += u[n, row + dy, column + dx] @ kernel[i, j]
    return y


@pytest.mark.parametrize("theta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize(
    ("kernel_size", "dilation"), [((3, 3), 1), ((3, 3), 2), ((1, 5), (1, 2)), ((1, 1), 1)]
)
def test_equals_the_definition_with_gradients(x64, kernel_size, dilation, theta):
    u, kernel, dy = arrays((1, 4, 5, 2), (*kernel_size, 2, 2), (1, 4, 5, 2))

    def f(u, kernel, theta):
        return central_difference_conv(u, kernel, theta=theta, dilation=dilation)

    arguments = (u, kernel, np.float64(theta))
    y, gradients = value_and_pullback(f, arguments, dy)
    np.testing.assert_allclose(y, cdc_loop(*arguments, dilation), rtol=0, atol=1e-12)
    for position, gradient in enumerate(gradients):

        def loop(x, position=position):
            changed = (x if i == position else a for i, a in enumerate(arguments))
            return np.sum(cdc_loop(*changed, dilation) * dy)

        np.testing.assert_allclose(gradient, slope(loop, arguments[position]), atol=1e-8)


def test_theta_one_is_sdc_of_constant_similarity(x64):
    u, kernel = map(jnp.array, arrays((2, 6, 5, 3), (3, 3, 3, 4)))
    sdc = semantic_difference_conv(u, u, kernel, similarity="constant", boundary="zeros")
    np.testing.assert_allclose(
        central_difference_conv(u, kernel, theta=1.0), sdc, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("dilation", [1, 2])
def test_equals_torch(dilation):
    torch = pytest.importorskip("torch")
    u, kernel = arrays((2, 7, 6, 3), (3, 3, 3, 4), dtype=np.float32)
    x, weight = torch.tensor(u).permute(0, 3, 1, 2), torch.tensor(kernel).permute(3, 2, 0, 1)
    plain = torch.nn.functional.conv2d(x, weight, padding=dilation, dilation=dilation)
    centre = torch.nn.functional.conv2d(x, weight.sum((2, 3), keepdim=True))
    expected = (plain - 0.7 * centre).permute(0, 2, 3, 1).numpy()
    y = central_difference_conv(jnp.array(u), jnp.array(kernel), dilation=dilation)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_and_mistakes():
    u, kernel = arrays((1, 5, 5, 8), (3, 3, 8, 4))
    u, kernel = jnp.array(u, jnp.bfloat16), jnp.array(kernel, jnp.bfloat16)
    y = central_difference_conv(u, kernel)
    assert y.dtype == jnp.bfloat16
    expected = cdc_loop(np.asarray(u, np.float64), np.asarray(kernel, np.float64), 0.7)
    error = np.linalg.norm(np.asarray(y, np.float64) - expected) / np.linalg.norm(expected)
    assert error < 1e-2
    with pytest.raises(ValueError, match=r"\(1, 5, 5, 8\) and \(3, 3, 4, 4\)"):
        central_difference_conv(u, kernel[:, :, :4])
    with pytest.raises(ValueError, match="odd, got 2×3"):
        central_difference_conv(u, kernel[:2])


# Angle by angle from the right, against the clock as one sees it: (dy, dx).
CIRCLE = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]


def ring_loop(u, kernel, other, dilation=1):
    """`Σ_k W_k (u[p + a] − u[p + b])` for pairs (a, b) of each tap of the ring, 0 outside."""
    b, h, w, _ = u.shape
    y = np.zeros((b, h, w, kernel.shape[3]))

    def read(n, row, column):
        inside = 0 <= row < h and 0 <= column < w
        return u[n, row, column] if inside else np.zeros(u.shape[3])

    for n, row, column in np.ndindex(b, h, w):
        for i, (dy, dx) in enumerate(CIRCLE):
            first, second = other(i)
            one = read(n, row + dilation * first[0], column + dilation * first[1])
            two = read(n, row + dilation * second[0], column + dilation * second[1])
            y[n, row, column] += (one - two) @ kernel[1 + dy, 1 + dx]
    return y


def angular(i):
    """A tap and the next clockwise, which is the one before in the circle."""
    return CIRCLE[i], CIRCLE[i - 1]


def radial(i):
    return (2 * CIRCLE[i][0], 2 * CIRCLE[i][1]), CIRCLE[i]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(
    ("function", "pairs"), [(angular_difference_conv, angular), (radial_difference_conv, radial)]
)
def test_rings_equal_their_definition_with_gradients(x64, function, pairs, dilation):
    u, kernel, dy = arrays((1, 4, 5, 2), (3, 3, 2, 2), (1, 4, 5, 2))

    def f(u, kernel):
        return function(u, kernel, dilation=dilation)

    y, gradients = value_and_pullback(f, (u, kernel), dy)
    np.testing.assert_allclose(y, ring_loop(u, kernel, pairs, dilation), rtol=0, atol=1e-12)
    for position, gradient in enumerate(gradients):

        def loop(x, position=position):
            changed = (x if i == position else a for i, a in enumerate((u, kernel)))
            return np.sum(ring_loop(*changed, pairs, dilation) * dy)

        np.testing.assert_allclose(gradient, slope(loop, (u, kernel)[position]), atol=1e-8)


@pytest.mark.parametrize("function", [angular_difference_conv, radial_difference_conv])
def test_rings_vanish_on_a_constant_inside_and_want_3x3(function):
    y = function(jnp.ones((1, 7, 8, 2)), jnp.ones((3, 3, 2, 3)))
    np.testing.assert_allclose(y[:, 2:-2, 2:-2], 0, atol=1e-6)
    with pytest.raises(ValueError, match=r"must be 3×3, got \(5, 5, 2, 3\)"):
        function(jnp.ones((1, 7, 8, 2)), jnp.ones((5, 5, 2, 3)))


def test_local_binary_equals_its_definition(x64):
    u, weights = arrays((2, 4, 5, 3), (1, 1, 6, 2))
    binary = binary_filters(3, 6, 0.5, 0).astype(float)
    responses = np.maximum(cdc_loop(u, binary, 0.0), 0)
    y = local_binary_conv(jnp.array(u), jnp.array(weights))
    np.testing.assert_allclose(y, responses @ weights[0, 0], rtol=0, atol=1e-12)


def test_binary_filters_are_the_same_everywhere_and_have_their_density():
    filters = binary_filters(64, 64, 0.3, 7)
    assert set(np.unique(filters)) == {-1, 0, 1}
    assert np.abs(filters).mean() == pytest.approx(0.3, abs=0.01)
    assert abs(filters.mean()) < 0.01
    assert binary_filters(2, 2, 0.5, 0).ravel()[:6].tolist() == [0, 1, -1, -1, 0, 0]
