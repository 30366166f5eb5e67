"""Operators of images whose height and width are symbols, as `jax.export` traces them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from sdnjax.ops import resize_bilinear, semantic_difference_conv
from sdnjax.ops.neighbours import neighbour_products, tap_offsets, weighted_difference
from sdnjax.ops.resize import resize_bicubic, resize_nearest
from sdnjax.ops.similarity import SIMILARITIES

SHAPE = (2, 11, 14, 3)


def of_any_size(function, *arrays):
    """`function(*arrays)`, traced for any height and width; the second axis and the third."""
    scope = export.SymbolicScope(["h >= 8", "w >= 8"])

    def symbolic(x):
        if x.shape[1:3] != SHAPE[1:3]:
            return jax.ShapeDtypeStruct(x.shape, x.dtype)
        shape = export.symbolic_shape(f"{x.shape[0]}, h, w, {x.shape[3]}", scope=scope)
        return jax.ShapeDtypeStruct(shape, x.dtype)

    exported = export.export(jax.jit(function))(*map(symbolic, arrays))
    return jax.jit(exported.call)(*arrays)


def check(function, *arrays, atol=1e-5):
    found, expected = of_any_size(function, *arrays), jax.jit(function)(*arrays)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=atol)
    assert np.ptp(np.asarray(expected)) > 0.1


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_resizing(align_corners):
    resize = functools.partial(resize_bilinear, align_corners=align_corners)
    check(lambda x: resize(x, (2 * x.shape[1] + 1, 3 * x.shape[2])), values(*SHAPE))
    check(lambda x: resize(x, (x.shape[1] // 2, 5)), values(*SHAPE))
    check(lambda x: resize(x, (x.shape[1], x.shape[2])), values(*SHAPE))


def test_nearest_resizing():
    check(lambda x: resize_nearest(x, (2 * x.shape[1], x.shape[2] + 5)), values(*SHAPE), atol=0)
    check(lambda x: resize_nearest(x, (x.shape[1] // 3, 7)), values(*SHAPE), atol=0)


def test_bicubic_resizing_says_that_it_needs_numbers():
    with pytest.raises(NotImplementedError, match="bicubic resizing needs sizes"):
        of_any_size(lambda x: resize_bicubic(x, (2 * x.shape[1], 5)), values(*SHAPE))


@pytest.mark.parametrize("boundary", ["no_flux", "zeros"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_semantic_difference_convolution(similarity, boundary):
    kernel = values(3, 3, 3, 4)
    convolve = functools.partial(
        semantic_difference_conv, similarity=similarity, boundary=boundary, dilation=2
    )
    check(lambda u, v: convolve(u, v, kernel), values(*SHAPE), values(*SHAPE, seed=1))


def test_semantic_difference_convolution_in_16_bits():
    kernel = jnp.asarray(values(3, 3, 3, 4), jnp.bfloat16)
    u, v = (jnp.asarray(values(*SHAPE, seed=seed), jnp.bfloat16) for seed in (0, 1))
    check(lambda u, v: semantic_difference_conv(u, v, kernel).astype(jnp.float32), u, v, atol=0.1)


def test_sums_over_neighbours():
    offsets = tap_offsets(3)
    s = values(2, 11, 14, 9, seed=1)
    check(lambda u, s: weighted_difference(u, s, offsets), values(*SHAPE), s)
    check(lambda v: neighbour_products(v, offsets), values(*SHAPE))
