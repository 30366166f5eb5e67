"""What the compiled operator holds in memory and sends between devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sdnjax.ops import anisotropic_diffusion, semantic_difference_conv
from tests.ops.oracles import arrays


@pytest.fixture
def compilation():
    """As users compile."""


def temporaries(f, *arguments):
    """Compiled scratch memory, in units of the first argument."""
    analysis = jax.jit(f).lower(*arguments).compile().memory_analysis()
    return analysis.temp_size_in_bytes / arguments[0].nbytes


def with_gradient(f):
    def g(*arguments):
        y, pullback = jax.vjp(f, *arguments)
        return y, pullback(y)

    return g


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "reference"), [(3, 1, 9), (3, 9, 9), (5, 1, 25)]
)
def test_two_feature_maps_whatever_the_kernel(kernel_size, dilation, reference):
    shape = (1, 64, 64, 32)
    u, v, kernel = map(
        jnp.array, arrays(shape, shape, (kernel_size, kernel_size, 32, 32), dtype=np.float32)
    )

    def f(implementation):
        return lambda *a: semantic_difference_conv(
            *a, dilation=dilation, implementation=implementation
        )

    # Maps of one number per tap (similarities, their squares, mirrored ones, gradients) weigh K/32
    # of a feature map each; a window's rows beyond its band grow with the reach.
    taps, halo = kernel_size**2 / 32, 2 * dilation * (kernel_size // 2) / 64
    assert temporaries(f("xla"), u, v, kernel) < 1 + 2 * taps + 2 * halo
    assert temporaries(with_gradient(f("xla")), u, v, kernel) < 2 + 5 * taps + 4 * halo
    assert temporaries(f("reference"), u, v, kernel) > reference
    assert temporaries(with_gradient(f("reference")), u, v, kernel) > 2 * reference


def test_no_copy_of_a_kernel_larger_than_the_image():
    shape = (1, 16, 16, 128)
    u, v, kernel = map(jnp.array, arrays(shape, shape, (3, 3, 128, 128), dtype=np.float32))
    assert temporaries(semantic_difference_conv, u, v, kernel) < 3 < kernel.nbytes / u.nbytes


@pytest.mark.parametrize("similarity", ["relative", "cosine", lambda a, b: jnp.sum(a * b, -1)])
def test_no_similarity_holds_a_copy_of_the_guidance_per_tap(similarity):
    v = jnp.array(arrays((1, 32, 32, 256), dtype=np.float32)[0])
    u, kernel = v[..., :4], jnp.ones((5, 5, 4, 4), jnp.float32)

    def f(v):
        return semantic_difference_conv(u, v, kernel, similarity=similarity)

    assert temporaries(f, v) < 5
    assert temporaries(with_gradient(f), v) < 7


def test_diffusion_keeps_one_state_per_step():
    u, v = map(jnp.array, arrays((1, 32, 32, 64), (1, 32, 32, 8), dtype=np.float32))

    def f(steps):
        return with_gradient(lambda u, v: anisotropic_diffusion(u, v, steps=steps))

    per_step = (temporaries(f(12), u, v) - temporaries(f(4), u, v)) / 8
    assert per_step < 1.1


@pytest.mark.parametrize("similarity", ["charbonnier", "relative", "cosine"])
def test_batch_sharding_over_eight_devices(similarity):
    assert jax.device_count() == 8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    u, v, kernel = map(
        jnp.array, arrays((8, 7, 6, 16), (8, 7, 6, 4), (3, 3, 16, 8), dtype=np.float32)
    )

    def step(u, v, kernel, scale):
        y = semantic_difference_conv(u, v, kernel, similarity=similarity, scale=scale)
        return jnp.sum(y**2), y

    step = jax.jit(jax.value_and_grad(step, argnums=(0, 1, 2, 3), has_aux=True))
    single = step(u, v, kernel, jnp.float32(0.5))

    batch, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    placed = (
        *jax.device_put((u, v), batch),
        *jax.device_put((kernel, jnp.float32(0.5)), everywhere),
    )
    with jax.set_mesh(mesh):
        compiled = step.lower(*placed).compile()
        sharded = compiled(*placed)
    for a, b in zip(jax.tree.leaves(sharded), jax.tree.leaves(single), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert sharded[0][1].sharding.is_equivalent_to(batch, 4)
    hlo = compiled.as_text()
    for collective in ("all-gather", "all-to-all", "collective-permute"):
        assert collective not in hlo
    loops, main = hlo.split("ENTRY ")
    assert " all-reduce(" in main, "the kernel's gradient is summed over the devices"
    assert " all-reduce(" not in loops, "once, after the loop over the bands"
