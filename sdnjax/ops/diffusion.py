"""The classical iterative solver that SDC unrolls into one learned step."""

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.neighbours import accumulation_dtype, tap_offsets, weighted_difference
from sdnjax.ops.similarity import Similarity, similarity_maps


def anisotropic_diffusion(
    u: jax.Array,
    v: jax.Array,
    *,
    steps: int,
    alpha: float | jax.Array = 1.0,
    beta: float | jax.Array = 0.125,
    similarity: Similarity = "charbonnier",
    scale: float | jax.Array = 1.0,
    boundary: str = "no_flux",
) -> jax.Array:
    """Semantic diffusion by finite differences, Eq. 3 and 4 of the SDN paper:

        Ũ[p] = Σ_k S(V[p + o_k], V[p]) (U[p + o_k] − U[p])
        U ← α U + β Ũ

    over the 8 neighbours, `steps` times, with S computed once from V. With α = 1, no flux and
    0 ≤ S ≤ 1 symmetric, the mean of U is conserved, and for β ≤ 1/8 (the default, a choice) no
    value leaves the range of the initial ones; S = 1 is the discrete heat equation.

    Args:
        u: initial state `[B, H, W, C]`, floating.
        v: guidance `[B, H, W, Cf]`, floating, on u's grid.
        steps: number of steps, a static integer ≥ 0.
        alpha, beta: scalars, or `[steps]` arrays with one value per step.
        similarity, scale, boundary: see `similarity_maps`.

    Returns:
        `[B, H, W, C]` in u's dtype; float32 (float64 for float64) between the steps. The gradient
        keeps one state per step and recomputes the rest.

    Raises:
        ValueError: shapes that do not fit, an unknown name.
    """
    if u.ndim != 4 or v.ndim != 4 or u.shape[:3] != v.shape[:3]:
        raise ValueError(
            f"state [B, H, W, C] and guidance [B, H, W, Cf] must share B, H and W, "
            f"got {u.shape} and {v.shape}"
        )
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps must be an integer ≥ 0, got {steps!r}")
    dtype = accumulation_dtype(u.dtype)
    offsets = tap_offsets(3)
    s = similarity_maps(v, kernel_size=3, similarity=similarity, scale=scale, boundary=boundary)
    s = s.astype(dtype)

    def per_step(name, value):
        if jnp.shape(value) not in ((), (steps,)):
            raise ValueError(f"{name} must be a scalar or [{steps}], got {jnp.shape(value)}")
        return jnp.broadcast_to(jnp.asarray(value).astype(dtype), (steps,))

    @jax.checkpoint
    def step(state, alpha_beta):
        alpha, beta = alpha_beta
        return alpha * state + beta * weighted_difference(state, s, offsets), None

    coefficients = per_step("alpha", alpha), per_step("beta", beta)
    state, _ = lax.scan(step, u.astype(dtype), coefficients)
    return state.astype(u.dtype)
