"""Convolution, dense, grouped and depthwise, against sums written out in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.models.linear import Conv
from sdnjax.ops.conv import conv


def written_out(x, kernel, strides, pads, dilation, *, groups=1):
    """Loops over outputs and taps; no slice, no padding."""
    (b, height, width, _), (kh, kw, inner, out) = x.shape, kernel.shape
    # As a kernel that every input reaches, with zeros between the groups.
    whole = np.zeros((kh, kw, inner * groups, out))
    for group, mine in enumerate(np.split(np.arange(out), groups)):
        whole[:, :, group * inner : (group + 1) * inner, mine] = kernel[..., mine]
    h, w = (
        (n + sum(p) - (k - 1) * d - 1) // s + 1
        for n, p, k, d, s in zip((height, width), pads, (kh, kw), dilation, strides, strict=True)
    )
    y = np.zeros((b, h, w, out))
    for row, column, i, j in np.ndindex(h, w, kh, kw):
        above = row * strides[0] + i * dilation[0] - pads[0][0]
        left = column * strides[1] + j * dilation[1] - pads[1][0]
        if 0 <= above < height and 0 <= left < width:
            y[:, row, column] += x[:, above, left] @ whole[i, j]
    return y


NONE = ((0, 0), (0, 0))
CASES = {  # size, kernel, strides, padding as given, as pixels, dilation
    "1x1": ((7, 10), (1, 1), (1, 1), "SAME", NONE, (1, 1)),
    "1x1 at stride 2, even": ((8, 6), (1, 1), (2, 2), "SAME", NONE, (1, 1)),
    "1x1 at stride 3 and 2": ((9, 7), (1, 1), (3, 2), "VALID", NONE, (1, 1)),
    "1x1, padded": ((5, 4), (1, 1), (2, 1), ((1, 1), (0, 1)), ((1, 1), (0, 1)), (1, 1)),
    "3x3": ((7, 10), (3, 3), (1, 1), "SAME", ((1, 1), (1, 1)), (1, 1)),
    "SAME at stride 2, even": ((8, 6), (3, 3), (2, 2), "SAME", ((0, 1), (0, 1)), (1, 1)),
    "SAME at stride 2, odd": ((9, 7), (5, 3), (2, 2), "SAME", ((2, 2), (1, 1)), (1, 1)),
    "VALID": ((9, 8), (3, 5), (2, 1), "VALID", NONE, (1, 1)),
    "rows left over": ((10, 11), (3, 3), (3, 2), ((1, 0), (2, 1)), ((1, 0), (2, 1)), (1, 1)),
    "dilated": ((11, 9), (3, 3), (1, 2), ((2, 2), (3, 3)), ((2, 2), (3, 3)), (2, 3)),
    "larger than the picture": ((2, 3), (5, 5), (1, 1), "SAME", ((2, 2), (2, 2)), (1, 1)),
}


# Inputs, outputs, groups.
CHANNELS = {"few": (3, 4, 1), "many": (9, 4, 1), "depthwise": (6, 6, 6), "grouped": (6, 4, 2)}


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients(case, channels):
    size, kernel_size, strides, padding, pads, dilation = CASES[case]
    inputs, outputs, groups = CHANNELS[channels]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, inputs))
    kernel = rng.normal(size=(*kernel_size, inputs // groups, outputs))
    expected = written_out(x, kernel, strides, pads, dilation, groups=groups)

    def found(x, kernel):
        return conv(x, kernel, strides, padding, dilation=dilation, groups=groups)

    narrow = [jnp.asarray(a, jnp.float32) for a in (x, kernel)]
    y, pull = jax.vjp(jax.jit(found), *narrow)
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-5)
    dy = rng.normal(size=y.shape)
    dx, dkernel = pull(jnp.asarray(dy, jnp.float32))
    # Linear in each: a gradient's product with a direction is the value's in that direction.
    for gradient, which in ((dx, 0), (dkernel, 1)):
        arguments = [x, kernel]
        arguments[which] = rng.normal(size=gradient.shape)
        along = np.sum(dy * written_out(*arguments, strides, pads, dilation, groups=groups))
        np.testing.assert_allclose(np.sum(np.float64(gradient) * arguments[which]), along, 2e-5)


# How the sizes decide; see the constants of these names.
FORMS = {
    "products": (10**9, 10**9, 1, 10**9, 1),
    "products of gradients": (0, 10**9, 1, 10**9, 1),
    "bands of a row": (0, 0, 1, 1, 1),
    "bands of rows": (0, 0, 1, 1, 5000),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_forms_for_other_sizes_agree(case, form, monkeypatch):
    size, kernel_size, strides, padding, _, dilation = CASES[case]
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.normal(size=(2, *size, 9)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*kernel_size, 9, 4)), jnp.float32)

    def value_and_gradients():
        y, pull = jax.vjp(lambda *a: conv(*a, strides, padding, dilation=dilation), x, kernel)
        return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    expected = value_and_gradients()
    names = ("FEW_PIXELS", "MOST_IN_PATCHES", "CHANNELS_THAT_PAY", "MANY_PIXELS", "BAND_BYTES")
    for name, value in zip(names, FORMS[form], strict=True):
        monkeypatch.setattr(f"sdnjax.ops.conv._{name}", value)
    for found, wanted in zip(value_and_gradients(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


def test_sixteen_bits_are_summed_in_float32():
    rng = np.random.default_rng(1)
    x, dy = (jnp.asarray(rng.uniform(size=(1, 40, 50, 9)), jnp.bfloat16) for _ in range(2))
    kernel = jnp.zeros((1, 1, 9, 9), jnp.bfloat16)
    _, dkernel = jax.vjp(jax.jit(conv), x, kernel)[1](dy)
    exact = np.einsum("bhwi,bhwo->io", np.float64(x), np.float64(dy))
    assert dkernel.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(dkernel)[0, 0], exact, rtol=2**-8)

    # Each pixel's gradient is the sum of what 25 taps give back.
    x, kernel = x[:, :6, :7], jnp.ones((5, 5, 9, 9), jnp.bfloat16)
    dx, _ = jax.vjp(jax.jit(conv), x, kernel)[1](dy[:, :6, :7])
    whole = np.pad(np.float64(dy[0, :6, :7]).sum(-1), 2)
    exact = sum(whole[i : i + 6, j : j + 7] for i in range(5) for j in range(5))
    np.testing.assert_allclose(np.float64(dx)[0], np.tile(exact[..., None], 9), rtol=2**-8)

    kernel = jnp.asarray(rng.normal(size=(5, 5, 1, 9)), jnp.bfloat16)
    exact = written_out(
        np.float64(x), np.float64(kernel), (1, 1), ((2, 2), (2, 2)), (1, 1), groups=9
    )
    y = conv(x, kernel, groups=9)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(y), exact, rtol=2**-8, atol=1e-3)


def test_mapped():
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(3, 1, 5, 6, 9)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 9, 2)), jnp.float32)
    mapped = jax.vmap(conv, in_axes=(0, None))(x, kernel)
    np.testing.assert_allclose(mapped, jnp.stack([conv(a, kernel) for a in x]), atol=1e-5)


@pytest.mark.parametrize("channels", CHANNELS)
def test_differentiated_twice(channels):
    inputs, outputs, groups = CHANNELS[channels]
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.normal(size=(2, 5, 6, inputs)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, inputs // groups, outputs)), jnp.float32)

    def of_lax(x, kernel):
        how = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **how)

    def steepness(convolve):
        def total(x, kernel):
            return jnp.sum(convolve(x, kernel) ** 3)

        def length(x, kernel):
            return sum(jnp.sum(g**2) for g in jax.grad(total, (0, 1))(x, kernel))

        return jax.jit(jax.grad(length, (0, 1)))(x, kernel)

    ours = steepness(functools.partial(conv, groups=groups))
    for found, expected in zip(ours, steepness(of_lax), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * jnp.max(expected))


def test_layers_use_it_and_only_a_cpu_sees_products():
    x = jnp.ones((1, 8, 8, 9))
    layer = Conv(6, (1, 1), strides=2)
    values = layer.init(jax.random.key(0), x)
    assert "stablehlo.convolution" not in jax.jit(layer.apply).lower(values, x).as_text()

    def loss(values):
        return jnp.sum(layer.apply(values, x) ** 2)

    x, layer = jnp.ones((1, 32, 32, 9)), Conv(6, (3, 3), strides=2)
    values = layer.init(jax.random.key(0), x)
    here = jax.jit(jax.grad(loss)).lower(values).as_text()
    assert (here.count("stablehlo.convolution"), here.count("stablehlo.dot_general")) == (1, 9)
    there = jax.export.export(jax.jit(jax.grad(loss)), platforms=["cuda"])(values).mlir_module()
    assert (there.count("stablehlo.convolution"), there.count("stablehlo.dot_general")) == (2, 0)


def test_layers_use_it_and_only_a_cpu_sees_sums_of_taps():
    x = jnp.ones((1, 8, 8, 6))
    layer = Conv(6, (3, 3), strides=2, feature_group_count=6)
    values = layer.init(jax.random.key(0), x)
    here = jax.jit(layer.apply).lower(values, x).compile().as_text()
    assert "convolution(" not in here
    there = jax.export.export(jax.jit(layer.apply), platforms=["cuda"])(values, x).mlir_module()
    assert "feature_group_count = 6" in there
    layer = Conv(6, (3, 3), feature_group_count=3)
    values = layer.init(jax.random.key(0), x)
    assert "feature_group_count = 3" in jax.jit(layer.apply).lower(values, x).as_text()


def test_shapes_that_do_not_fit():
    with pytest.raises(
        ValueError, match=r"needs a kernel \[kh, kw, 3 / 1, Co\], got \(3, 3, 4, 3\)"
    ):
        conv(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 4, 3)))
    with pytest.raises(ValueError, match=r"needs a kernel \[kh, kw, 3 / 3, Co\]"):
        conv(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 3)), groups=3)
