"""Depthwise convolution: against sums written out in float64, and that it is what layers use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.models.linear import Conv
from sdnjax.ops.depthwise import depthwise_conv


def written_out(x, kernel, strides, pads, dilation):
    """Loops over outputs and taps; no slice, no padding."""
    (b, height, width, c), (kh, kw) = x.shape, kernel.shape[:2]
    h, w = (
        (n + sum(p) - (k - 1) * d - 1) // s + 1
        for n, p, k, d, s in zip((height, width), pads, (kh, kw), dilation, strides, strict=True)
    )
    y = np.zeros((b, h, w, c))
    for row, column, i, j in np.ndindex(h, w, kh, kw):
        above = row * strides[0] + i * dilation[0] - pads[0][0]
        left = column * strides[1] + j * dilation[1] - pads[1][0]
        if 0 <= above < height and 0 <= left < width:
            y[:, row, column] += x[:, above, left] * kernel[i, j, 0]
    return y


CASES = {  # size, kernel, strides, padding as given, as pixels, dilation
    "3x3": ((7, 10), (3, 3), (1, 1), "SAME", ((1, 1), (1, 1)), (1, 1)),
    "SAME at stride 2, even": ((8, 6), (3, 3), (2, 2), "SAME", ((0, 1), (0, 1)), (1, 1)),
    "SAME at stride 2, odd": ((9, 7), (5, 3), (2, 2), "SAME", ((2, 2), (1, 1)), (1, 1)),
    "VALID": ((9, 8), (3, 5), (2, 1), "VALID", ((0, 0), (0, 0)), (1, 1)),
    "rows left over": ((10, 11), (3, 3), (3, 2), ((1, 0), (2, 1)), ((1, 0), (2, 1)), (1, 1)),
    "dilated": ((11, 9), (3, 3), (1, 2), ((2, 2), (3, 3)), ((2, 2), (3, 3)), (2, 3)),
    "larger than the picture": ((2, 3), (5, 5), (1, 1), "SAME", ((2, 2), (2, 2)), (1, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients(case):
    size, kernel_size, strides, padding, pads, dilation = CASES[case]
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, *size, 3)), rng.normal(size=(*kernel_size, 1, 3))
    expected = written_out(x, kernel, strides, pads, dilation)

    def found(x, kernel):
        return depthwise_conv(x, kernel, strides, padding, dilation=dilation)

    narrow = [jnp.asarray(a, jnp.float32) for a in (x, kernel)]
    y, pull = jax.vjp(jax.jit(found), *narrow)
    np.testing.assert_allclose(y, expected, rtol=0, atol=3e-6)
    dy = rng.normal(size=y.shape)
    dx, dkernel = pull(jnp.asarray(dy, jnp.float32))
    # Linear in each: a gradient's product with a direction is the value's in that direction.
    for gradient, arguments in (
        (dx, (rng.normal(size=x.shape), kernel)),
        (dkernel, (x, rng.normal(size=kernel.shape))),
    ):
        direction = arguments[0] if gradient is dx else arguments[1]
        along = np.sum(dy * written_out(*arguments, strides, pads, dilation))
        np.testing.assert_allclose(np.sum(np.float64(gradient) * direction), along, rtol=2e-5)


def test_sixteen_bits_are_summed_in_float32():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(1, 6, 7, 4)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(5, 5, 1, 4)), jnp.bfloat16)
    exact = written_out(np.float64(x), np.float64(kernel), (1, 1), ((2, 2), (2, 2)), (1, 1))
    y = depthwise_conv(x, kernel)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(y), exact, rtol=2**-8, atol=1e-3)


def test_differentiated_twice():
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(2, 5, 6, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 1, 3)), jnp.float32)

    def of_lax(x, kernel):
        how = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 3}
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **how)

    def steepness(convolve):
        def total(x, kernel):
            return jnp.sum(convolve(x, kernel) ** 3)

        def length(x, kernel):
            return sum(jnp.sum(g**2) for g in jax.grad(total, (0, 1))(x, kernel))

        return jax.jit(jax.grad(length, (0, 1)))(x, kernel)

    for found, expected in zip(steepness(depthwise_conv), steepness(of_lax), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * jnp.max(expected))


def test_layers_use_it_and_a_cpu_sees_no_grouped_convolution():
    x = jnp.ones((1, 8, 8, 6))
    depthwise = Conv(6, (3, 3), strides=2, feature_group_count=6)
    values = depthwise.init(jax.random.key(0), x)
    compiled = jax.jit(depthwise.apply).lower(values, x).compile().as_text()
    assert "convolution(" not in compiled
    for groups in (1, 3):  # others are convolutions still
        layer = Conv(6, (3, 3), feature_group_count=groups)
        values = layer.init(jax.random.key(0), x)
        lowered = jax.jit(layer.apply).lower(values, x).as_text()
        assert "stablehlo.convolution" in lowered
    on_gpus = jax.export.export(jax.jit(depthwise.apply), platforms=["cuda"])(
        depthwise.init(jax.random.key(0), x), x
    )
    assert "feature_group_count = 6" in on_gpus.mlir_module()


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"needs a kernel \[kh, kw, 1, C\]"):
        depthwise_conv(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 3)))
