"""The iterative solver: its definition, and what the heat equation promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax import ops
from tests.ops.oracles import arrays, diffusion_loop, slope

# Compiled once per call: op by op, every primitive would be compiled on its own.
OPTIONS = ("steps", "similarity", "boundary")
anisotropic_diffusion = jax.jit(ops.anisotropic_diffusion, static_argnames=OPTIONS)


@pytest.mark.parametrize("boundary", ["no_flux", "zeros"])
@pytest.mark.parametrize("similarity", ["charbonnier", "gaussian", "constant"])
@pytest.mark.parametrize("per_step", [False, True])
def test_equals_the_definition(x64, similarity, boundary, per_step):
    u, v = arrays((2, 4, 3, 2), (2, 4, 3, 3))
    alpha, beta = (
        (np.array([1.0, 0.9, 1.1]), np.array([0.1, 0.2, 0.05])) if per_step else (0.9, 0.1)
    )
    options = {"steps": 3, "similarity": similarity, "scale": 0.6, "boundary": boundary}
    result = anisotropic_diffusion(
        jnp.array(u), jnp.array(v), alpha=jnp.array(alpha), beta=jnp.array(beta), **options
    )
    expected = diffusion_loop(u, v, alpha=alpha, beta=beta, **options)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("boundary", ["no_flux", "zeros"])
def test_gradients_equal_finite_differences(x64, boundary):
    u, v, dy = arrays((1, 3, 3, 2), (1, 3, 3, 2), (1, 3, 3, 2))
    arguments = (u, v, np.array([1.0, 0.9]), np.array([0.1, 0.2]))

    def loss(u, v, alpha, beta):
        result = anisotropic_diffusion(u, v, steps=2, alpha=alpha, beta=beta, boundary=boundary)
        return jnp.sum(result * dy)

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*map(jnp.array, arguments))
    for position, gradient in enumerate(gradients):

        def loop(x, position=position):
            u, v, alpha, beta = (x if i == position else a for i, a in enumerate(arguments))
            result = diffusion_loop(u, v, steps=2, alpha=alpha, beta=beta, boundary=boundary)
            return np.sum(result * dy)

        expected = slope(loop, arguments[position])
        np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("similarity", ["constant", "charbonnier", "gaussian", "relative"])
def test_mean_is_conserved_and_the_extremes_bound_everything(x64, similarity):
    u, v = map(jnp.array, arrays((1, 9, 8, 3), (1, 9, 8, 2)))
    low, high = u.min((1, 2)), u.max((1, 2))
    for steps in (1, 5, 50):
        result = anisotropic_diffusion(u, v, steps=steps, similarity=similarity, beta=1 / 8)
        np.testing.assert_allclose(result.mean((1, 2)), u.mean((1, 2)), rtol=0, atol=1e-14)
        assert np.all(result.min((1, 2)) >= low - 1e-14)
        assert np.all(result.max((1, 2)) <= high + 1e-14)


def test_the_heat_equation_flattens_and_a_larger_step_breaks_the_bound(x64):
    u = jnp.array(arrays((1, 6, 6, 1))[0])
    flat = anisotropic_diffusion(u, u, steps=400, similarity="constant")
    np.testing.assert_allclose(flat, jnp.full_like(u, u.mean()), rtol=0, atol=1e-6)
    spike = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1.0)
    overshoot = anisotropic_diffusion(spike, spike, steps=1, beta=0.2, similarity="constant")
    assert overshoot.min() < 0


def test_diffusion_stops_at_the_guidance_boundary(x64):
    """Noise on a step: smoothed on either side, not across."""
    (noise,) = arrays((1, 16, 16, 1))
    step = np.broadcast_to((np.arange(16) >= 8)[None, None, :, None] * 1.0, noise.shape)
    u = anisotropic_diffusion(
        jnp.array(step + 0.1 * noise), jnp.array(step), steps=200, similarity="gaussian", scale=0.05
    )
    assert np.abs(u - step).max() < 0.05


def test_no_steps_and_bfloat16_and_mistakes():
    u, v = (jnp.array(a, jnp.bfloat16) for a in arrays((1, 4, 4, 2), (1, 4, 4, 3)))
    np.testing.assert_array_equal(anisotropic_diffusion(u, v, steps=0), u)
    result = anisotropic_diffusion(u, v, steps=4)
    assert result.dtype == jnp.bfloat16
    wide = [np.asarray(a, np.float64) for a in (u, v)]
    expected = diffusion_loop(*wide, steps=4, alpha=1.0, beta=0.125)
    np.testing.assert_allclose(result.astype(jnp.float32), expected, rtol=1e-2, atol=4e-3)
    with pytest.raises(ValueError, match=r"alpha must be a scalar or \[4\], got \(3,\)"):
        anisotropic_diffusion(u, v, steps=4, alpha=jnp.ones(3))
    with pytest.raises(ValueError, match=r"\(1, 4, 4, 2\) and \(1, 3, 4, 3\)"):
        anisotropic_diffusion(u, v[:, :3], steps=4)
    with pytest.raises(ValueError, match="steps"):
        anisotropic_diffusion(u, v, steps=-1)
