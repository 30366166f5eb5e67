"""The TPU kernels in Pallas' interpreter, and who may use them.

The interpreter runs the kernels' own code on their own blocks; what lies beyond an image's end in
a block is not a number there. What Mosaic makes of it is `tests/compile_only`'s.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sdnjax.ops.neighbours import inside, tap_offsets, weighted_difference
from sdnjax.ops.sdc import pallas_tpu, semantic_difference_conv, which_implementation
from sdnjax.ops.similarity import similarity_maps, squared_distances
from sdnjax.ops.tpu import blocks, distances
from sdnjax.ops.tpu.blocks import Blocks
from tests.ops.oracles import arrays, lopsided


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks, several products in each and several tiles of channels in a small image."""
    monkeypatch.setattr(blocks, "BLOCK_PIXELS", 64)
    monkeypatch.setattr(blocks, "PRODUCT_PIXELS", 32)
    monkeypatch.setattr(blocks, "TILE", 128)


@pytest.fixture
def on_tpu(monkeypatch):
    def choose(kind="TPU v5 lite"):
        monkeypatch.setattr("sdnjax.ops.devices.target_device", lambda: ("tpu", kind))

    choose()
    return choose


def operator(u, v, kernel, *, dilation, **options):
    """The public operator's own composition, interpreted."""
    s = similarity_maps(v, kernel_size=kernel.shape[:2], dilation=dilation, **options)
    return pallas_tpu.semantic_difference(
        u, s, kernel, dilation=dilation, precision="highest", interpret=True
    )


def relative_error(got, want):
    want = np.asarray(want, np.float64)
    return np.linalg.norm(np.asarray(got, np.float64) - want) / np.linalg.norm(want)


def operands(shape, channels, columns, kernel_size, dtype):
    """Values that the type holds, in it and in float64."""
    shapes = (*shape, channels), (*shape, 4), (*kernel_size, channels, columns), (*shape, columns)
    values = [jnp.asarray(x, dtype) for x in arrays(*shapes)]
    return values, [np.asarray(x, np.float64) for x in values]


CASES = {
    "S not symmetric": ((2, 4, 5), 16, 8, (3, 3), (1, 2), lopsided, "zeros"),
    "taps of two lengths": ((2, 5, 6), 16, 8, (5, 3), (1, 2), lopsided, "zeros"),
    "one row": ((2, 1, 19), 8, 24, (1, 3), (1, 2), "gaussian", "zeros"),
    "one row, taps above it": ((1, 1, 9), 8, 8, (3, 3), (1, 1), lopsided, "zeros"),
    "one column": ((1, 9, 1), 8, 8, (3, 1), (2, 1), "charbonnier", "zeros"),
}
IN_BLOCKS = {
    "blocks and tiles": ((2, 9, 11), 256, 8, (3, 3), (1, 1), "charbonnier", "no_flux"),
    "blocks of wide reach": ((1, 13, 9), 8, 8, (3, 3), (4, 2), lopsided, "zeros"),
}


def check(case, dtype, bound):
    shape, channels, columns, kernel_size, dilation, similarity, boundary = case
    (u, v, kernel, dy), exact = operands(shape, channels, columns, kernel_size, dtype)
    options = {"dilation": dilation, "similarity": similarity, "boundary": boundary}

    def pulled_back(function, *arguments):
        *arguments, dy = arguments
        y, pullback = jax.vjp(partial(function, **options), *arguments)
        return y, *pullback(dy)

    results = jax.jit(partial(pulled_back, operator))(u, v, kernel, dy)
    definition = partial(semantic_difference_conv, implementation="reference")
    with jax.enable_x64(True):
        expected = jax.jit(partial(pulled_back, definition))(*map(jnp.asarray, exact))
        expected = [np.asarray(x) for x in expected]
    for got, want in zip(results, expected, strict=True):
        assert got.dtype == dtype
        assert relative_error(got, want) < bound
    assert not np.any(results[3][kernel_size[0] // 2, kernel_size[1] // 2])


ALWAYS = "S not symmetric"


@pytest.mark.parametrize(
    "name", [n if n == ALWAYS else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_operator_and_gradients_against_float64(name):
    check(CASES[name], jnp.float32, 3e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["blocks and tiles", pytest.param("blocks of wide reach", marks=pytest.mark.slow)]
)
def test_in_blocks_against_float64(name, small_blocks):
    shape, channels, columns, kernel_size, dilation, *_ = IN_BLOCKS[name]
    x = jax.ShapeDtypeStruct((*shape, channels), jnp.float32)
    cut = Blocks.of(x, tap_offsets(kernel_size, dilation))
    assert cut.grid[1] > 1
    assert cut.rows > cut.chunk or cut.reach > 1
    assert cut.tiles(channels, columns, 4) == (min(channels, 128), columns)
    check(IN_BLOCKS[name], jnp.float32, 3e-6)


@pytest.mark.slow
def test_bfloat16_rounds_the_weighted_differences_and_the_result():
    """Each of the two roundings moves a number by 2⁻⁹ of it at most."""
    check(((2, 5, 7), 16, 8, (3, 3), (1, 1), "charbonnier", "no_flux"), jnp.bfloat16, 2 * 2**-9)


@pytest.mark.slow
def test_64_bit_mode_leaves_the_kernels_alone(x64):
    (u, v, kernel, dy), _ = operands((1, 3, 4), 8, 8, (3, 3), jnp.float32)
    run = partial(operator, dilation=(1, 1))
    y, pullback = jax.vjp(run, u, v, kernel)
    assert [x.dtype for x in (y, *pullback(dy))] == [jnp.float32] * 4


@pytest.mark.slow
def test_vmap_over_images_and_over_kernels():
    (u, v, kernel, _), _ = operands((2, 3, 5), 8, 8, (1, 3), jnp.float32)
    run = partial(operator, dilation=(1, 1))
    pairs = jnp.stack([u, 2 * u])
    for axes, arguments in [
        ((0, None, None), (pairs, v, kernel)),
        ((0, None, 0), (pairs, v, jnp.stack([kernel, kernel + 1]))),
    ]:
        got = jax.vmap(run, axes)(*arguments)
        for n in range(2):
            each = [x if a is None else x[n] for x, a in zip(arguments, axes, strict=True)]
            np.testing.assert_allclose(got[n], run(*each), rtol=1e-4, atol=1e-5)


def test_constant_features_give_exactly_nothing():
    v, kernel = (jnp.asarray(x) for x in arrays((1, 4, 5, 3), (3, 3, 8, 8), dtype=np.float32))
    u = jnp.full((1, 4, 5, 8), 1.7, jnp.float32)
    assert not np.any(jax.jit(partial(operator, dilation=(1, 1)))(u, v, kernel))


def test_eight_devices_exchange_the_kernel_gradient_and_nothing_else():
    (u, v, kernel, dy), _ = operands((8, 3, 5), 8, 8, (1, 3), jnp.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    batch, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

    def results(function, u, v, kernel, dy):
        y, pullback = jax.vjp(partial(function, dilation=(1, 1)), u, v, kernel)
        return y, *pullback(dy)

    both = jax.jit(partial(results, operator))
    definition = partial(semantic_difference_conv, implementation="reference")
    want = jax.jit(partial(results, definition))(u, v, kernel, dy)
    arguments = [jax.device_put(x, batch) for x in (u, v)]
    arguments += [jax.device_put(kernel, everywhere), jax.device_put(dy, batch)]
    with jax.set_mesh(mesh):
        compiled = both.lower(*arguments).compile()
    for got, expected in zip(compiled(*arguments), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    hlo = compiled.as_text()
    assert hlo.count(" all-reduce(") == 1
    assert not any(f" {x}(" in hlo for x in ("all-gather", "all-to-all", "collective-permute"))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float32, marks=pytest.mark.slow)])
def test_distances_and_their_gradient(dtype, small_blocks):
    offsets = tap_offsets((3, 3), (2, 1))
    shape = (2, 11, 7)
    v, s = (jnp.asarray(x, dtype) for x in arrays((*shape, 256), (*shape, 9)))
    got = jax.jit(lambda v: distances.squared_distances(v, offsets, interpret=True))(v)
    got = jnp.where(inside(v.shape, offsets[:4]), got, 0)
    np.testing.assert_allclose(got, squared_distances(v, offsets), rtol=1e-5)
    got = jax.jit(lambda v, s: distances.weighted_difference(v, s, offsets, interpret=True))(v, s)
    assert got.dtype == dtype
    assert relative_error(got, weighted_difference(v, s, offsets)) < 2**-8


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_tpu_computes_similarities_with_its_kernels(on_tpu, monkeypatch, order):
    """Gradients, and the second derivative, which the kernels do not have."""
    v = jnp.asarray(arrays((1, 5, 4, 3), dtype=np.float32)[0])
    calls = []

    def interpreted(name):
        kernel = getattr(distances, name)

        def run(*arguments):
            calls.append(name)
            return kernel(*arguments, interpret=True)

        monkeypatch.setattr(distances, name, run)

    def results(v):
        def total(v):
            return jnp.sum(jnp.sin(similarity_maps(v, kernel_size=3, boundary="zeros")))

        gradient = jax.grad(total)
        if order == 2:
            return jax.grad(lambda v: jnp.sum(jnp.sin(gradient(v))))(v)
        return gradient(v)

    on_tpu("TPU v4")
    want = jax.jit(results)(v)
    on_tpu()
    for name in ("squared_distances", "weighted_difference"):
        interpreted(name)
    got = jax.jit(partial(results))(v)  # traced anew
    assert set(calls) == {"squared_distances", "weighted_difference"}
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_the_cpu_is_refused_by_name():
    u, kernel = jnp.ones((1, 4, 4, 8), jnp.bfloat16), jnp.ones((3, 3, 8, 8), jnp.bfloat16)
    with pytest.raises(NotImplementedError, match="pallas_tpu: needs a TPU v5e or later, not cpu"):
        semantic_difference_conv(u, u, kernel, implementation="pallas_tpu")


def chosen(shape, kernel_size=3, dtype=jnp.bfloat16, columns=None, dilation=1):
    u = jax.ShapeDtypeStruct(shape, dtype)
    kernel = jax.ShapeDtypeStruct((kernel_size, kernel_size, shape[3], columns or shape[3]), dtype)
    return which_implementation(u, kernel, dilation=dilation)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"dtype": jnp.float16}, "serves bfloat16 and float32, not float16"),
        ({"kernel_size": 1}, "a 1×1 kernel has no taps"),
        ({"kernel_size": 13}, "serves up to 128 taps, not 168"),
        ({"dilation": 5}, "taps reach 5 rows, beyond an image of 4"),
        ({"shape": (1, 4, 9000, 128)}, "9000 columns fit"),
        ({"shape": (1, 4, 4, 1000)}, "1000 and 1000 channels"),
    ],
)
def test_what_a_tpu_passes_over(on_tpu, arguments, reason):
    choice = chosen(**({"shape": (1, 4, 4, 128)} | arguments))
    assert choice.startswith("xla (pallas_gpu: ")
    assert reason in choice


def test_a_tpu_is_chosen_by_its_kind(on_tpu):
    for kind in ("TPU v5 lite", "TPU v5", "TPU v6 lite", "TPU7x"):
        on_tpu(kind)
        assert chosen((2, 33, 17, 48), columns=96).startswith("pallas_tpu (pallas_gpu: ")
    on_tpu("TPU v4")
    assert "pallas_tpu: needs a TPU v5e or later, not " in chosen((2, 33, 17, 48))
