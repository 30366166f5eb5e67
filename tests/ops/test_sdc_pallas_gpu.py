"""The GPU kernels in the Mosaic GPU interpreter, with its race detector, and who may use them.

The interpreter runs the kernels' own code: tiles, rings, barriers. What it cannot show is that the
device's bulk copies read zeros outside an array; `benchmarks/gpu.py` checks that on a GPU.
"""

from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic_gpu.interpret import interpret_pallas_call as interpreter
from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

from sdnjax.ops.neighbours import tap_offsets
from sdnjax.ops.sdc import semantic_difference_conv, which_implementation
from sdnjax.ops.sdc.pallas_gpu import semantic_difference
from sdnjax.ops.sdc.pallas_gpu.common import Taps
from sdnjax.ops.sdc.pallas_gpu.kernel_gradient import kernel_gradient
from sdnjax.ops.sdc.pallas_gpu.map_gradient import map_gradient
from sdnjax.ops.sdc.pallas_gpu.product import product
from sdnjax.ops.sdc.pallas_gpu.tiles import Tiles
from sdnjax.ops.similarity import similarity_maps
from tests.ops.oracles import arrays, lopsided, sdc_loop, similarity_loop

INTERPRETED = InterpretGPUParams(detect_races=True)


@contextmanager
def no_races():
    """The interpreter starts afresh, and reports races by an exception or by a flag."""
    interpreter.reset_gpu_interpret_mode_state()
    try:
        yield
        assert not interpreter.get_races().races_found
    finally:
        interpreter.reset_gpu_interpret_mode_state()


def rounded(*shapes, seed=0):
    """Normal values that bfloat16 holds: for JAX, and the same for float64 NumPy."""
    values = [jnp.asarray(x, jnp.bfloat16) for x in arrays(*shapes, seed=seed)]
    return values, [np.asarray(x, np.float64) for x in values]


def relative_error(got, want):
    return np.linalg.norm(np.asarray(got, np.float64) - want) / np.linalg.norm(want)


def differences(u, factors, offsets, width):
    """`near (u[p + o] − u[p]) − rest u[p]` per tap, in float64; rows outside read as 0."""
    rows = np.arange(len(u))
    for (dy, dx), (near, rest) in zip(offsets, factors[..., : len(u), None], strict=True):
        at = rows + dy * width + dx
        neighbour = np.where(((at >= 0) & (at < len(u)))[:, None], u[np.clip(at, 0, len(u) - 1)], 0)
        yield near * (neighbour - u) - rest * u


def problem(rows, channels, columns, taps):
    kernel_size, dilation, width = taps.kernel_size, taps.dilation, taps.width
    offsets = [o for o in tap_offsets(kernel_size, dilation) if o != (0, 0)]
    shapes = (rows, channels), (rows, columns), (taps.count, channels, columns)
    (u, dy, w), exact = rounded(*shapes)
    factors = arrays((taps.count, 2, -(-rows // 128) * 128), seed=1, dtype=np.float32)[0]
    d = list(differences(exact[0], factors.astype(np.float64), offsets, width))
    return (u, dy, w, jnp.asarray(factors)), (d, *exact[1:])


def test_taps_are_row_offsets():
    for kernel_size, dilation, width in [
        ((3, 3), (1, 1), 7),
        ((5, 3), (2, 3), 11),
        ((1, 3), (1, 2), 1),
    ]:
        taps = Taps(kernel_size, dilation, width)
        offsets = [o for o in tap_offsets(kernel_size, dilation) if o != (0, 0)]
        assert taps.count == len(offsets)
        got = [int(taps.offset(jnp.int32(k))) for k in range(taps.count)]
        assert got == [dy * width + dx for dy, dx in offsets]
        assert taps.reach == max(got)


# Rows, channels and columns that no tile divides; more steps than stages, every ring goes round.
@pytest.mark.parametrize(
    ("rows", "channels", "columns"),
    [(161, 200, 72), pytest.param(300, 24, 264, marks=pytest.mark.slow)],
)
def test_product(rows, channels, columns):
    taps = Taps((1, 3), (1, 2), width=23)
    (u, _, w, factors), (d, _, w64) = problem(rows, channels, columns, taps)
    with no_races():
        got = product(u, factors, w, taps, interpret=INTERPRETED, tiles=Tiles(128, 2))
    assert got.shape == (rows, columns)
    assert relative_error(got, sum(x @ k for x, k in zip(d, w64, strict=True))) < 4e-3


@pytest.mark.slow
def test_kernel_gradient_in_two_parts():
    taps = Taps((3, 1), (1, 1), width=23)
    (u, dy, _, factors), (d, dy64, _) = problem(150, 136, 72, taps)
    with no_races():
        got = kernel_gradient(u, factors, dy, taps, interpret=INTERPRETED, tiles=Tiles(128, 2, 2))
    assert got.shape == (2, 136, 72)
    assert relative_error(got, np.stack([x.T @ dy64 for x in d])) < 4e-3


@pytest.mark.parametrize(
    ("rows", "channels", "columns"),
    [(161, 200, 72), pytest.param(130, 264, 200, marks=pytest.mark.slow)],
)
def test_map_gradient(rows, channels, columns):
    taps = Taps((1, 3), (1, 1), width=23)
    (u, dy, w, factors), (d, dy64, w64) = problem(rows, channels, columns, taps)
    with no_races():
        got = map_gradient(u, factors, dy, jnp.swapaxes(w, 1, 2), taps, interpret=INTERPRETED)
    want = np.stack([np.sum(x * (dy64 @ k.T), axis=1) for x, k in zip(d, w64, strict=True)])
    assert relative_error(got, want) < 1e-5


def operator(u, v, kernel, *, dilation, **options):
    """The public operator's own composition, interpreted."""
    s = similarity_maps(v, kernel_size=kernel.shape[:2], dilation=dilation, **options)
    return semantic_difference(
        u, s, kernel, dilation=dilation, precision=None, interpret=INTERPRETED
    )


CASES = [
    # batch 1, taps that reach across half the image
    ((1, 3, 5), 16, 8, (1, 3), (1, 2), "charbonnier", "zeros"),
    pytest.param(
        ((2, 5, 7), 24, 16, (3, 3), (1, 1), "charbonnier", "no_flux"), marks=pytest.mark.slow
    ),
    pytest.param(((1, 6, 9), 72, 40, (3, 3), (3, 2), lopsided, "zeros"), marks=pytest.mark.slow),
    pytest.param(
        ((3, 4, 3), 8, 136, (5, 5), (1, 1), "gaussian", "no_flux"), marks=pytest.mark.slow
    ),
]
CASES = [c if hasattr(c, "marks") else pytest.param(c) for c in CASES]


@pytest.mark.parametrize("case", CASES)
def test_operator_and_gradients_against_float64(case):
    shape, channels, columns, kernel_size, dilation, similarity, boundary = case
    (u, v, kernel, dy), exact = rounded(
        (*shape, channels), (*shape, 4), (*kernel_size, channels, columns), (*shape, columns)
    )
    options = {"dilation": dilation, "similarity": similarity, "boundary": boundary}
    with no_races():
        y, pullback = jax.vjp(lambda *a: operator(*a, **options), u, v, kernel)
        gradients = pullback(dy)
    assert relative_error(y, sdc_loop(*exact[:3], **options)) < 5e-3

    def definition(*a):
        return semantic_difference_conv(*a, **options, implementation="reference")

    with jax.enable_x64(True):
        _, pullback = jax.vjp(definition, *map(jnp.asarray, exact[:3]))
        expected = pullback(jnp.asarray(exact[3]))
    for got, want in zip(gradients, expected, strict=True):
        assert got.dtype == jnp.bfloat16
        assert relative_error(got, np.asarray(want)) < 5e-3


def test_constant_features_give_exactly_nothing():
    """No-flux borders: no rounding of the factors may show."""
    (v, kernel), exact = rounded((1, 4, 5, 3), (1, 3, 8, 8))
    u = jnp.full((1, 4, 5, 8), 1.7, jnp.bfloat16)
    assert 0 < similarity_loop(exact[0], (1, 3))[0, 1, 1, 0] < 1
    with no_races():
        assert not np.any(operator(u, v, kernel, dilation=(1, 1)))


@pytest.fixture
def on_hopper(monkeypatch):
    device = ("gpu", "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(f"{semantic_difference.__module__}.target_device", lambda: device)


def test_the_cpu_is_refused_by_name_and_passed_over_without():
    u, kernel = jnp.ones((1, 4, 4, 8), jnp.bfloat16), jnp.ones((3, 3, 8, 8), jnp.bfloat16)
    with pytest.raises(
        NotImplementedError, match="pallas_gpu: needs an NVIDIA Hopper GPU, not cpu"
    ):
        semantic_difference_conv(u, u, kernel, implementation="pallas_gpu")
    assert which_implementation(u, kernel).startswith("xla (pallas_gpu: needs an NVIDIA Hopper GPU")
    assert semantic_difference_conv(u, u, kernel).shape == u.shape


@pytest.mark.parametrize(
    ("dtype", "channels", "kernel_size", "reason"),
    [
        (jnp.float32, 16, 3, "serves bfloat16 and float16, not float32"),
        (jnp.bfloat16, 12, 3, "multiples of 8 channels, not 12 to 16"),
        (jnp.bfloat16, 16, 1, "1×1 kernel"),
    ],
)
def test_what_a_hopper_gpu_passes_over(on_hopper, dtype, channels, kernel_size, reason):
    u = jax.ShapeDtypeStruct((1, 4, 4, channels), dtype)
    kernel = jax.ShapeDtypeStruct((kernel_size, kernel_size, channels, 16), dtype)
    assert which_implementation(u, kernel).startswith("xla (pallas_gpu: ")
    assert reason in which_implementation(u, kernel)


def test_a_hopper_gpu_is_chosen(on_hopper):
    u = jax.ShapeDtypeStruct((2, 33, 17, 40), jnp.float16)
    kernel = jax.ShapeDtypeStruct((5, 3, 40, 24), jnp.float32)
    assert which_implementation(u, kernel, dilation=2) == "pallas_gpu"
