"""Similarity of every pixel's guidance to that of its neighbours, as maps of one scalar per tap."""

import contextlib
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.bands import channel_sums
from sdnjax.ops.devices import is_tpu_with_kernels
from sdnjax.ops.neighbours import (
    accumulation_dtype,
    check_name,
    inside,
    mirror,
    reader,
    shift,
    tap_offsets,
    weighted_difference,
    with_neighbours,
)

# Functions of d²/scale², and the others.
SCALED = ("charbonnier", "relative", "gaussian")
SIMILARITIES = (*SCALED, "cosine", "constant")
BOUNDARIES = ("no_flux", "zeros")

# One of SIMILARITIES, or (neighbour, centre) -> [B, H, W].
Similarity = str | Callable[[jax.Array, jax.Array], jax.Array]

# ε of 1/√(|V|² + ε) in the cosine: without it zero vectors would have no finite gradient.
COSINE_EPS = 1e-12


def similarity_maps(
    v: jax.Array,
    *,
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    similarity: Similarity = "charbonnier",
    scale: float | jax.Array = 1.0,
    boundary: str = "no_flux",
) -> jax.Array:
    """`S(V[p + o_k], V[p])` of the SDN paper's Eq. 5 for every tap k of a kernel.

    With `d² = Σ_c (V_c[p + o_k] − V_c[p])²`, the *sum* over channels:

    - `"charbonnier"`: `1/√(1 + d²/λ²)`, the diffusivity printed below the paper's Eq. 2. That it
      is the default, and the sum in d², are choices: the paper leaves S open.
    - `"relative"`: the same with `λ² = scale² · mean d²`, the mean over each image's own pairs of
      neighbours that lie inside. Free of V's scale, but it couples all pixels of an image. S = 1
      where V is constant.
    - `"gaussian"`: `exp(−d²/2σ²)`.
    - `"cosine"`: `⟨V[p + o_k], V[p]⟩/(|V[p + o_k]| |V[p]|)` in [−1, 1], with 1e-12 added to each
      |V|²; 0 for zero vectors.
    - `"constant"`: 1, which turns the operator into central differences.
    - a pure function `(neighbour, centre) -> [B, H, W]` of two maps `[B, H, W, Cf]`, symmetric or
      not. It also sees neighbours outside the image, as 0, and must be finite there, its
      derivative too, even where the border rule discards the value. It is recomputed in the
      backward pass.

    Args:
        v: guidance `[B, H, W, Cf]`, floating. Upcast to float32 tap by tap.
        kernel_size: odd integer or pair `(kh, kw)`; K = kh·kw taps in row-major order.
        dilation: integer ≥ 1 or pair `(y, x)`.
        similarity: one of the above.
        scale: λ or σ, a positive scalar, which may be traced and receives a gradient. Unused by
            cosine, constant and functions.
        boundary: a choice. `"no_flux"`: S = 0 where a tap falls outside, the natural boundary
            condition of Eq. 1. `"zeros"`: V reads as 0 outside.

    Returns:
        `[B, H, W, K]`, float32 (float64 for float64). The centre column is 1, whatever S is:
        it multiplies a difference of zero.

    Raises:
        ValueError: v not `[B, H, W, Cf]` or not floating, an even kernel, an unknown name, a
            scale that is no scalar, a function whose result is not `[B, H, W]`.
    """
    if v.ndim != 4:
        raise ValueError(f"guidance must be [B, H, W, C], got shape {v.shape}")
    check_name("boundary", boundary, BOUNDARIES)
    if jnp.shape(scale) != ():
        raise ValueError(f"scale must be a scalar, got shape {jnp.shape(scale)}")
    offsets = tap_offsets(kernel_size, dilation)
    b, h, w, _ = v.shape
    dtype = accumulation_dtype(v.dtype)
    scale = jnp.asarray(scale).astype(dtype)

    if callable(similarity):
        s = _apply_per_tap(similarity, v, offsets, dtype)
    else:
        check_name("similarity", similarity, SIMILARITIES)
        if similarity == "constant":
            s = jnp.ones((b, h, w, len(offsets)), dtype)
        elif similarity == "cosine":
            s = _cosine(v.astype(dtype), offsets)
        else:
            return _of_distances(similarity, v, offsets, scale, boundary)
    if boundary == "no_flux":
        s = jnp.where(inside(v.shape, offsets), s, 0)
    return s.at[..., len(offsets) // 2].set(1)


def _of_distances(similarity, v, offsets, scale, boundary):
    """The similarities that are functions of d². All are symmetric: half of them are computed."""
    half = offsets[: len(offsets) // 2]
    d2 = squared_distances(v, offsets)
    mean = _mean_distance(d2, inside(v.shape, half)) if similarity == "relative" else None

    def diffusivity(d2):
        if mean is not None:
            # Below this the derivative of a quotient would overflow.
            varies = mean > jnp.finfo(d2.dtype).tiny / jnp.finfo(d2.dtype).eps ** 2
            d2 = jnp.where(varies, d2 / jnp.where(varies, mean, 1), 0)
        ratio = d2 / (scale * scale)
        return jnp.exp(-ratio / 2) if similarity == "gaussian" else lax.rsqrt(1 + ratio)

    s = _both_halves(jnp.where(inside(v.shape, half), diffusivity(d2), 0), offsets, centre=1)
    if boundary == "no_flux":
        return s
    return jnp.where(inside(v.shape, offsets), s, diffusivity(_energy(v)[..., None]))


def _both_halves(s, offsets, centre):
    """`[B, H, W, K // 2]` of a symmetric map, 0 outside → all `[B, H, W, K]`.

    The second half of the taps holds what the neighbours hold in the first.
    """
    half = offsets[: len(offsets) // 2]
    rest = [shift(s[..., k, None], tuple(-n for n in half[k])) for k in reversed(range(len(half)))]
    middle = jnp.full((*s.shape[:3], 1), centre, s.dtype)
    return jnp.concatenate([s, middle, *rest], axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def squared_distances(v, offsets):
    """`d²_k[p] = Σ_c (v_c[p + o_k] − v_c[p])²` for the taps before the centre: `[B, H, W, K // 2]`.

    0 where the tap is outside. Keeps v alone for the backward pass.
    """
    dtype = accumulation_dtype(v.dtype)
    half = offsets[: len(offsets) // 2]
    if not half:
        return jnp.zeros((*v.shape[:3], 0), dtype)

    def sums(read):
        centre = read((0, 0)).astype(dtype)
        squares = (jnp.square(read(offset).astype(dtype) - centre) for offset in half)
        return channel_sums(squares)

    kernels = _tpu_kernels(v)
    if kernels:
        with contextlib.suppress(NotImplementedError):
            return jnp.where(inside(v.shape, half), kernels.squared_distances(v, offsets), 0)
    return jnp.where(inside(v.shape, half), with_neighbours(sums, v, offsets), 0)


def _squared_distances_fwd(v, offsets):
    return squared_distances(v, offsets), v


def _squared_distances_bwd(offsets, v, g):
    # v[p] occurs in the distances that p holds and in those that its neighbours hold:
    # dv[p] = Σ_k 2 (g_k[p] + g_{−k}[p + o_k]) (v[p] − v[p + o_k]), Eq. 3 once more.
    g = jnp.where(inside(v.shape, offsets[: len(offsets) // 2]), -2 * g, 0)
    weights, kernels = _both_halves(g, offsets, centre=0), _tpu_kernels(v)
    if kernels:
        with contextlib.suppress(NotImplementedError):
            return (kernels.weighted_difference(v, weights, offsets),)
    return (weighted_difference(v, weights, offsets, v.dtype),)


def _tpu_kernels(v):
    """The module of kernels for v on the device in use, or None: XLA fuses, but takes longer."""
    if not is_tpu_with_kernels() or v.dtype not in (jnp.bfloat16, jnp.float32):
        return None
    # Only now: importing Pallas takes a third of a second, and most machines never need it.
    from sdnjax.ops.tpu import distances  # noqa: PLC0415

    return distances


squared_distances.defvjp(_squared_distances_fwd, _squared_distances_bwd)


@jax.checkpoint
def _energy(v):
    """`|v|²` per pixel `[B, H, W]`; nothing wider than v is kept for the backward pass."""
    return jnp.sum(jnp.square(v.astype(accumulation_dtype(v.dtype))), axis=-1)


def _mean_distance(d2, is_inside):
    """Mean of d² over each image's pairs of neighbours, `[B, 1, 1, 1]`."""
    pairs = jnp.maximum(jnp.sum(is_inside, dtype=d2.dtype), 1)
    return jnp.sum(d2, axis=(1, 2, 3), keepdims=True) / pairs


def _cosine(v, offsets):
    """`⟨a, b⟩ = (|a|² + |b|² − |a − b|²)/2` of normalised vectors, so d² is all that is needed."""
    unit = v * lax.rsqrt(_energy(v) + COSINE_EPS)[..., None]
    energy = _energy(unit)[..., None]
    neighbour = mirror(jnp.broadcast_to(energy, (*energy.shape[:3], len(offsets))), offsets)
    d2 = _both_halves(squared_distances(unit, offsets), offsets, centre=0)
    return jnp.where(inside(v.shape, offsets), (energy + neighbour - d2) / 2, 0)


def _apply_per_tap(function, v, offsets, dtype):
    """A caller's similarity, tap by tap, recomputed in the backward pass."""
    b, h, w, _ = v.shape
    centre = len(offsets) // 2
    read = reader(v, offsets)

    @jax.checkpoint
    def tap(_, offset):
        s = function(read(offset).astype(dtype), v.astype(dtype))
        if jnp.shape(s) != (b, h, w):
            raise ValueError(
                f"a similarity function must return {(b, h, w)} for guidance {v.shape}, "
                f"got {jnp.shape(s)}"
            )
        return None, s.astype(dtype)

    around = jnp.array(offsets[:centre] + offsets[centre + 1 :], jnp.int32).reshape(-1, 2)
    _, s = lax.scan(tap, None, around)
    s = jnp.concatenate([s[:centre], jnp.ones((1, b, h, w), dtype), s[centre:]])
    return jnp.moveaxis(s, 0, -1)
