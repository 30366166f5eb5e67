"""Semantic difference convolution against its definition, its identities and PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sdnjax import ops
from sdnjax.ops.neighbours import shift, tap_offsets
from sdnjax.ops.sdc import IMPLEMENTATIONS
from tests.ops.oracles import NAMES, arrays, lopsided, sdc_loop, slope, value_and_pullback

# Compiled once per call: op by op, every primitive would be compiled on its own.
OPTIONS = ("similarity", "dilation", "boundary", "stop_guidance_gradient", "implementation")
semantic_difference_conv = jax.jit(ops.semantic_difference_conv, static_argnames=OPTIONS)

# The kernels for GPUs and TPUs have tests of their own.
ANYWHERE = [name for name in IMPLEMENTATIONS if not name.startswith("pallas")]
implementations = pytest.mark.parametrize("implementation", ANYWHERE)
borders = pytest.mark.parametrize("boundary", ["no_flux", "zeros"])


def with_every_implementation(u, v, kernel, **options):
    """All results stacked, from one program: `[implementations, B, H, W, Co]`."""
    results = [
        ops.semantic_difference_conv(u, v, kernel, implementation=name, **options)
        for name in ANYWHERE
    ]
    return jnp.stack(results)


def assert_equals_the_definition(u, v, kernel, **options):
    arguments = map(jnp.array, (u, v, kernel))
    results = jax.jit(partial(with_every_implementation, **options))(*arguments)
    assert results.dtype == jnp.float64
    expected = sdc_loop(u, v, kernel, **options)
    for result in results:
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@borders
@pytest.mark.parametrize("similarity", [*NAMES, lopsided])
def test_equals_the_definition_for_every_similarity(x64, similarity, boundary):
    u, v, kernel = arrays((2, 5, 4, 3), (2, 5, 4, 2), (3, 3, 3, 4))
    assert_equals_the_definition(u, v, kernel, similarity=similarity, scale=0.7, boundary=boundary)


@borders
@pytest.mark.parametrize(
    ("size", "kernel_size", "dilation"),
    [
        ((7, 5), (3, 3), 2),
        ((5, 7), (5, 5), 1),
        ((7, 9), (5, 5), 3),
        ((2, 7), (3, 3), 3),  # the dilation reaches beyond the height
        ((3, 6), (1, 3), 1),
        ((6, 5), (5, 1), (2, 1)),
        ((5, 6), (3, 5), (1, 2)),
        ((1, 1), (3, 3), 1),
        ((3, 4), (1, 1), 1),
    ],
)
def test_equals_the_definition_for_every_kernel(x64, size, kernel_size, dilation, boundary):
    u, v, kernel = arrays((1, *size, 2), (1, *size, 3), (*kernel_size, 2, 3), seed=1)
    assert_equals_the_definition(u, v, kernel, dilation=dilation, boundary=boundary)


@borders
@pytest.mark.parametrize("similarity", [*NAMES, lopsided])
def test_gradients_equal_finite_differences(x64, similarity, boundary):
    u, v, kernel, dy = arrays((1, 3, 4, 2), (1, 3, 4, 2), (3, 3, 2, 1), (1, 3, 4, 1), seed=2)
    options = {"similarity": similarity, "boundary": boundary}

    def losses(u, v, kernel, scale):
        y = with_every_implementation(u, v, kernel, scale=scale, **options)
        return jnp.sum(y * dy[None], axis=(1, 2, 3, 4))

    arguments = (u, v, kernel, np.float64(0.8))
    gradients = jax.jit(jax.jacrev(losses, argnums=(0, 1, 2, 3)))(*map(jnp.array, arguments))
    for position in range(4):

        def loop(x, position=position):
            u, v, kernel, scale = (x if i == position else a for i, a in enumerate(arguments))
            return np.sum(sdc_loop(u, v, kernel, scale=scale, **options) * dy)

        expected = slope(loop, arguments[position])
        for gradient in gradients[position]:  # of one implementation after the other
            np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-7)
    assert not np.any(gradients[2][:, 1, 1]), "the centre tap's gradient is exactly 0"


@borders
@pytest.mark.parametrize(
    ("kernel_size", "dilation"), [((5, 5), 1), ((3, 3), 3), ((1, 3), 2), ((1, 1), 1)]
)
def test_gradients_of_the_implementations_agree(x64, kernel_size, dilation, boundary):
    u, v, kernel, dy = map(
        jnp.array,
        arrays((2, 4, 7, 3), (2, 4, 7, 2), (*kernel_size, 3, 2), (2, 4, 7, 2), seed=3),
    )

    def gradients(implementation):
        def f(u, v, kernel):
            return semantic_difference_conv(
                u, v, kernel, dilation=dilation, boundary=boundary, implementation=implementation
            )

        return value_and_pullback(f, (u, v, kernel), dy)[1]

    for ours, reference in zip(gradients("xla"), gradients("reference"), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-12)


def test_second_derivative(x64):
    u, v, kernel, du, dv, dk = arrays(*[(1, 3, 4, 2), (1, 3, 4, 2), (3, 3, 2, 2)] * 2, seed=4)
    arguments, directions = (u, v, kernel), (du, dv, dk)

    def curvature(implementation):
        def loss(*a):
            y = semantic_difference_conv(*a, implementation=implementation)
            return jnp.sum(jnp.sin(y))

        def along(*a):
            gradient = jax.grad(loss, argnums=(0, 1, 2))(*a)
            return sum(jnp.sum(g * d) for g, d in zip(gradient, directions, strict=True))

        return jax.jit(jax.grad(along, argnums=(0, 1, 2)))(*map(jnp.array, arguments))

    for ours, reference in zip(curvature("xla"), curvature("reference"), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-11)


@implementations
@pytest.mark.parametrize("similarity", NAMES)
def test_constant_features_have_no_difference(similarity, implementation):
    v, kernel = arrays((2, 6, 5, 4), (3, 3, 3, 2), dtype=np.float32)
    u = jnp.full((2, 6, 5, 3), 1.7, jnp.float32)
    y = semantic_difference_conv(
        u, jnp.array(v), jnp.array(kernel), similarity=similarity, implementation=implementation
    )
    assert not np.any(y)


@implementations
@pytest.mark.parametrize("dilation", [1, 2])
def test_constant_guidance_is_the_central_difference_convolution(x64, dilation, implementation):
    u, kernel = arrays((1, 8, 9, 3), (3, 3, 3, 2))
    y = semantic_difference_conv(
        jnp.array(u),
        jnp.full((1, 8, 9, 2), 3.0),
        jnp.array(kernel),
        dilation=dilation,
        implementation=implementation,
    )

    def conv(kernel):
        return lax.conv_general_dilated(
            jnp.array(u),
            jnp.array(kernel),
            (1, 1),
            "SAME",
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    expected = conv(kernel) - conv(kernel.sum((0, 1), keepdims=True))
    interior = np.s_[:, dilation:-dilation, dilation:-dilation]
    np.testing.assert_allclose(y[interior], expected[interior], rtol=0, atol=1e-12)


@implementations
def test_identity_kernels_are_the_finite_difference_of_equation_3(x64, implementation):
    u, v = arrays((1, 4, 5, 3), (1, 4, 5, 2))
    identity = jnp.tile(jnp.eye(3), (3, 3, 1, 1))
    y = semantic_difference_conv(
        jnp.array(u), jnp.array(v), identity, implementation=implementation
    )
    expected = np.zeros_like(u)
    for row, column in np.ndindex(4, 5):
        for i in range(max(row - 1, 0), min(row + 2, 4)):
            for j in range(max(column - 1, 0), min(column + 2, 5)):
                g = 1 / np.sqrt(1 + np.sum((v[0, i, j] - v[0, row, column]) ** 2))
                expected[0, row, column] += g * (u[0, i, j] - u[0, row, column])
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


@implementations
@borders
def test_symmetries_and_linearity(x64, boundary, implementation):
    u, v, kernel, u2, kernel2 = map(
        jnp.array,
        arrays((2, 5, 6, 3), (2, 5, 6, 4), (3, 5, 3, 2), (2, 5, 6, 3), (3, 5, 3, 2)),
    )

    def f(u, v, kernel):
        return semantic_difference_conv(
            u, v, kernel, boundary=boundary, implementation=implementation
        )

    def same(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)

    y = f(u, v, kernel)
    same(f(u, v[..., jnp.array([2, 0, 3, 1])], kernel), y)
    for axis in (1, 2):
        flipped = f(jnp.flip(u, axis), jnp.flip(v, axis), jnp.flip(kernel, axis - 1))
        same(flipped, jnp.flip(y, axis))
    same(f(2.0 * u - 3.0 * u2, v, kernel), 2.0 * y - 3.0 * f(u2, v, kernel))
    same(f(u, v, 2.0 * kernel - 3.0 * kernel2), 2.0 * y - 3.0 * f(u, v, kernel2))
    np.testing.assert_array_equal(f(u, v, kernel.at[1, 2].set(1e6)), y)


def test_stopped_guidance_gradient(x64):
    u, v, kernel = map(jnp.array, arrays((1, 4, 4, 2), (1, 4, 4, 3), (3, 3, 2, 2)))

    def loss(u, v, scale, stop):
        y = semantic_difference_conv(u, v, kernel, scale=scale, stop_guidance_gradient=stop)
        return jnp.sum(y**2)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)), static_argnums=3)
    flowing, stopped = gradient(u, v, 1.0, False), gradient(u, v, 1.0, True)
    assert np.any(flowing[1])
    assert not np.any(stopped[1])
    np.testing.assert_array_equal(stopped[0], flowing[0])
    np.testing.assert_allclose(stopped[2], flowing[2], rtol=1e-12)


@implementations
@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (3, 2), (5, 1)])
def test_equals_a_zero_padded_unfold_in_torch(kernel_size, dilation, implementation):
    torch = pytest.importorskip("torch")
    k = kernel_size
    u, v, kernel, dy = arrays(
        (2, 7, 9, 3), (2, 7, 9, 4), (k, k, 3, 5), (2, 7, 9, 5), dtype=np.float32
    )

    def f(u, v, kernel):
        return semantic_difference_conv(
            u, v, kernel, dilation=dilation, boundary="zeros", implementation=implementation
        )

    y, gradients = value_and_pullback(f, (u, v, kernel), dy)

    tensors = [torch.tensor(a, requires_grad=True) for a in (u, v, kernel)]
    padding = dilation * (k // 2)

    def differences(x):  # [B, C, K, H·W]
        x = x.permute(0, 3, 1, 2)
        patches = torch.nn.functional.unfold(x, k, dilation=dilation, padding=padding)
        patches = patches.reshape(x.shape[0], x.shape[1], k * k, -1)
        return patches - x.reshape(x.shape[0], x.shape[1], 1, -1)

    s = 1 / torch.sqrt(1 + differences(tensors[1]).square().sum(1))
    weights = tensors[2].reshape(k * k, 3, 5)
    expected = torch.einsum("bckn,bkn,kco->bno", differences(tensors[0]), s, weights)
    expected = expected.reshape(2, 7, 9, 5)
    expected.backward(torch.tensor(dy))

    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    for ours, tensor in zip(gradients, tensors, strict=True):
        theirs = tensor.grad.numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@implementations
def test_bfloat16_accumulates_in_float32(implementation):
    shapes = (1, 6, 6, 64), (1, 6, 6, 64), (3, 3, 64, 8), (1, 6, 6, 8)
    u, v, kernel, dy = (jnp.array(a, jnp.bfloat16) for a in arrays(*shapes))
    v = v / 8

    def f(u, v, kernel):
        return semantic_difference_conv(u, v, kernel, implementation=implementation)

    y, gradients = value_and_pullback(f, (u, v, kernel), dy)
    results = [y, *gradients]
    assert all(result.dtype == jnp.bfloat16 for result in results)
    with jax.enable_x64(True):
        wide = [jnp.array(a, jnp.float64) for a in (u, v, kernel, dy)]
        y, gradients = value_and_pullback(f, wide[:3], wide[3])
        expected = [np.asarray(a) for a in (y, *gradients)]
    for result, exact in zip(results, expected, strict=True):
        error = np.linalg.norm(np.asarray(result, np.float64) - exact) / np.linalg.norm(exact)
        assert error < 1e-2


@implementations
def test_mixed_dtypes_follow_the_features(implementation):
    u, v, kernel = arrays((1, 4, 4, 2), (1, 4, 4, 3), (3, 3, 2, 2))
    y = semantic_difference_conv(
        jnp.array(u, jnp.bfloat16),
        jnp.array(v, jnp.float32),
        jnp.array(kernel, jnp.float32),
        implementation=implementation,
    )
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), sdc_loop(u, v, kernel), rtol=0, atol=0.1)


@implementations
def test_transformations_change_nothing(implementation):
    u, v, kernel = (jnp.array(a) for a in arrays((3, 5, 4, 3), (3, 5, 4, 2), (3, 3, 3, 2)))
    u, v, kernel = (a.astype(jnp.float32) for a in (u, v, kernel))

    def f(u, v, kernel, scale):
        return semantic_difference_conv(u, v, kernel, scale=scale, implementation=implementation)

    def loss(*arguments, f=f):
        return jnp.sum(f(*arguments) ** 2)

    # Op by op here, compiled as one below.
    y = ops.semantic_difference_conv(u, v, kernel, scale=0.5, implementation=implementation)
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(u, v, kernel, 0.5)
    np.testing.assert_allclose(f(u, v, kernel, 0.5), y, rtol=1e-5, atol=1e-5)
    one_by_one = jax.vmap(lambda u, v: f(u[None], v[None], kernel, jnp.float32(0.5))[0])
    np.testing.assert_allclose(one_by_one(u, v), y, rtol=1e-5, atol=1e-5)
    kernels = jax.vmap(f, in_axes=(None, None, 0, None))(u, v, jnp.stack([kernel, -kernel]), 0.5)
    np.testing.assert_allclose(kernels, jnp.stack([y, -y]), rtol=1e-5, atol=1e-5)

    remat = jax.jit(jax.grad(lambda *a: loss(*a, f=jax.checkpoint(f)), argnums=(0, 1, 2)))
    alone = jax.grad(lambda u, v: loss(u[None], v[None], kernel, 0.5), argnums=(0, 1))
    per_image = jax.jit(jax.vmap(alone))(u, v)
    for ours in (remat(u, v, kernel, 0.5), per_image):
        for a, b in zip(ours, gradient, strict=False):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_mistakes_are_named():
    u, v, kernel = jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 3, 2))
    f = ops.semantic_difference_conv
    with pytest.raises(ValueError, match=r"unknown implementation 'xlaa'.*mean 'xla'"):
        f(u, v, kernel, implementation="xlaa")
    with pytest.raises(ValueError, match=r"unknown similarity 'gausian'.*mean 'gaussian'"):
        f(u, v, kernel, similarity="gausian")
    with pytest.raises(ValueError, match=r"unknown boundary 'noflux'.*mean 'no_flux'"):
        f(u, v, kernel, boundary="noflux")
    with pytest.raises(ValueError, match=r"\(1, 4, 4, 3\) and \(1, 2, 2, 2\)"):
        f(u, v[:, ::2, ::2], kernel)
    with pytest.raises(ValueError, match=r"\(3, 3, 4, 2\)"):
        f(u, v, jnp.zeros((3, 3, 4, 2)))
    with pytest.raises(ValueError, match="odd, got 2×3"):
        f(u, v, jnp.zeros((2, 3, 3, 2)))
    with pytest.raises(ValueError, match="dilation"):
        f(u, v, kernel, dilation=0)
    with pytest.raises(ValueError, match="int32"):
        f(u.astype(jnp.int32), v, kernel)
    with pytest.raises(ValueError, match=r"scale.*\(2,\)"):
        f(u, v, kernel, scale=jnp.ones(2))
    with pytest.raises(ValueError, match=r"must return \(1, 4, 4\)"):
        f(u, v, kernel, similarity=lambda a, b: a * b)


def test_refusals_fall_through_unless_the_implementation_is_named(monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("not on this device")

    u, v, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 3, 2))
    monkeypatch.setitem(IMPLEMENTATIONS, "xla", refuse)
    assert ops.semantic_difference_conv(u, v, kernel).shape == (1, 4, 4, 2)
    with pytest.raises(NotImplementedError, match="xla: not on this device"):
        ops.semantic_difference_conv(u, v, kernel, implementation="xla")


def test_a_function_of_ones_own_computes_it(x64):
    """It receives what an implementation does, and is differentiated as it is."""
    u, v, kernel = map(jnp.array, arrays((1, 5, 6, 3), (1, 5, 6, 2), (3, 5, 3, 2), seed=9))
    seen = {}

    def by_taps(u, s, kernel, *, dilation, precision):
        seen.update(s=s.shape, dilation=dilation, precision=precision, dtype=s.dtype)
        taps = kernel.reshape(-1, *kernel.shape[2:])
        offsets = tap_offsets(kernel.shape[:2], dilation)
        return sum(
            jnp.einsum("bhwi,io->bhwo", s[..., k, None] * (shift(u, o) - u), taps[k])
            for k, o in enumerate(offsets)
        )

    def loss(implementation):
        def total(u, v, kernel):
            options = {"dilation": (1, 2), "precision": "highest", "boundary": "zeros"}
            y = ops.semantic_difference_conv(
                u, v, kernel, implementation=implementation, scale=0.7, **options
            )
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))(u, v, kernel)

    ours, theirs = loss(by_taps), loss("reference")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)
    assert seen == {
        "s": (1, 5, 6, 15), "dilation": (1, 2), "precision": "highest", "dtype": jnp.float64,
    }  # fmt: skip


def test_a_function_that_returns_something_else_is_refused():
    shapes = (1, 5, 6, 3), (1, 5, 6, 2), (3, 3, 3, 2)
    u, v, kernel = map(jnp.array, arrays(*shapes, dtype=np.float32))
    for wrong in (lambda u, *_, **__: u, lambda u, *_, **__: u[..., :2].astype(jnp.bfloat16)):
        with pytest.raises(ValueError, match=r"implementation must return \(1, 5, 6, 2\) in float"):
            ops.semantic_difference_conv(u, v, kernel, implementation=wrong)
