"""The public operator: checks its arguments, computes the similarities, picks an implementation."""

import functools
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.devices import target_device
from sdnjax.ops.neighbours import accumulation_dtype, as_pair, check_name
from sdnjax.ops.sdc import pallas_gpu, pallas_tpu, reference, xla
from sdnjax.ops.similarity import Similarity, similarity_maps

# (u, s, kernel, *, dilation, precision) -> y; see `sdnjax.ops.sdc`.
Implementation = Callable[..., jax.Array]

# Tried in this order; each refuses with NotImplementedError what it cannot serve.
IMPLEMENTATIONS = {
    "pallas_gpu": pallas_gpu.semantic_difference,
    "pallas_tpu": pallas_tpu.semantic_difference,
    "xla": xla.semantic_difference,
    "reference": reference.semantic_difference,
}


def semantic_difference_conv(
    u: jax.Array,
    v: jax.Array,
    kernel: jax.Array,
    *,
    similarity: Similarity = "charbonnier",
    scale: float | jax.Array = 1.0,
    dilation: int | tuple[int, int] = 1,
    boundary: str = "no_flux",
    stop_guidance_gradient: bool = False,
    precision: lax.PrecisionLike = None,
    implementation: str | Implementation | None = None,
) -> jax.Array:
    """Semantic difference convolution (SDC), Eq. 5 of the SDN paper:

        Y[p] = Σ_k S(V[p + o_k], V[p]) · (U[p + o_k] − U[p]) W_k

    a convolution of differences, each weighted by how alike the guidance is at its two ends. No
    bias, no normalisation, no activation. The centre tap multiplies zero: it costs nothing and
    its gradient is exactly 0. Linear in U and in W.

    Args:
        u: features `[B, H, W, Ci]`, floating.
        v: guidance `[B, H, W, Cf]`, floating, on u's grid.
        kernel: `[kh, kw, Ci, Co]`, kh and kw odd; cast to u's dtype.
        similarity: S, a choice: `"charbonnier"` (`1/√(1 + d²/λ²)`, d² summed over channels),
            `"relative"`, `"gaussian"`, `"cosine"`, `"constant"` or a function; see
            `similarity_maps`.
        scale: λ or σ of the similarity, a positive scalar, traced or not.
        dilation: integer ≥ 1 or pair `(y, x)`.
        boundary: a choice. `"no_flux"`: a tap outside the image contributes 0. `"zeros"`: U and V
            read as 0 outside, what a zero-padded unfold computes.
        stop_guidance_gradient: whether V is a constant to the gradient.
        precision: `jax.lax.Precision` of the matrix products.
        implementation: `"pallas_gpu"` (fused kernels for NVIDIA Hopper GPUs, 16-bit floats),
            `"pallas_tpu"` (fused kernels for Google TPUs from v5e on, bfloat16 and float32; batches
            are split over the mesh in use, `jax.set_mesh`), `"xla"` (any device, little memory),
            all three for reverse mode only, `"reference"` (the definition: gathers all patches),
            None, the first in that order that can serve (see `which_implementation`), or a function
            of your own in their place, to try another Eq. 5:
            `(u, s, kernel, *, dilation, precision) -> y` receives u `[B, H, W, Ci]`, the
            similarity maps s `[B, H, W, K]` of the kernel's K taps in row-major order (float32;
            float64 for float64), the kernel in u's dtype and dilation as a pair, and returns y
            `[B, H, W, Co]` in u's dtype. It is differentiated as any function is, and
            `sdnjax/ops/sdc/reference.py` is one to start from.

    Returns:
        `[B, H, W, Co]` in u's dtype. Differences, weights and sums are float32 (float64 for
        float64); under bfloat16 the weighted differences are rounded once for the product.

    Raises:
        ValueError: shapes that do not fit, an even kernel, an unknown name, a function whose
            result is not `[B, H, W, Co]` in u's dtype.
        NotImplementedError: the named implementation cannot serve these shapes or this device.
    """
    if u.ndim != 4 or v.ndim != 4 or u.shape[:3] != v.shape[:3]:
        raise ValueError(
            f"features [B, H, W, Ci] and guidance [B, H, W, Cf] must share B, H and W, "
            f"got {u.shape} and {v.shape}"
        )
    if kernel.ndim != 4 or kernel.shape[2] != u.shape[3]:
        raise ValueError(
            f"kernel must be [kh, kw, Ci, Co] with Ci = {u.shape[3]} of the features {u.shape}, "
            f"got {kernel.shape}"
        )
    dilation = as_pair("dilation", dilation)
    if implementation is not None and not callable(implementation):
        check_name("implementation", implementation, tuple(IMPLEMENTATIONS))

    s = similarity_maps(
        lax.stop_gradient(v) if stop_guidance_gradient else v,
        kernel_size=(kernel.shape[0], kernel.shape[1]),
        dilation=dilation,
        similarity=similarity,
        scale=scale,
        boundary=boundary,
    ).astype(accumulation_dtype(u.dtype))
    kernel = jnp.asarray(kernel, u.dtype)

    options = {"dilation": dilation, "precision": precision}
    if callable(implementation):
        return _by_own_function(implementation, u, s, kernel, **options)
    names = IMPLEMENTATIONS if implementation is None else (implementation,)
    name, y = _first_that_serves(names, u, s, kernel, **options)
    platform, kind = target_device()
    if implementation is None and platform != "cpu" and not name.startswith(f"pallas_{platform}"):
        _warn(kind, name)
    return y


def which_implementation(
    u: jax.Array | jax.ShapeDtypeStruct,
    kernel: jax.Array | jax.ShapeDtypeStruct,
    *,
    dilation: int | tuple[int, int] = 1,
) -> str:
    """Which implementation serves such arrays on the devices in use, and why none before it.

        >>> which_implementation(u, kernel)
        'xla (pallas_gpu: needs an NVIDIA Hopper GPU, not cpu; pallas_tpu: needs a TPU v5e
        or later, not cpu)'

    Arrays may be abstract: features `[B, H, W, Ci]` and a kernel `[kh, kw, Ci, Co]`. The devices
    are those of the mesh in use (`jax.set_mesh`), else the default one.
    """
    u = jax.ShapeDtypeStruct(u.shape, u.dtype)
    s = jax.ShapeDtypeStruct(
        (*u.shape[:3], kernel.shape[0] * kernel.shape[1]), accumulation_dtype(u.dtype)
    )
    name = ""

    def note_the_choice(u, s, kernel):
        nonlocal name
        options = {"dilation": as_pair("dilation", dilation), "precision": None}
        name, y = _first_that_serves(IMPLEMENTATIONS, u, s, kernel, **options)
        return y

    jax.eval_shape(note_the_choice, u, s, jax.ShapeDtypeStruct(kernel.shape, u.dtype))
    return name


@functools.cache
def _warn(device, name):
    """Once for each reason: people pay for an accelerator and would not notice."""
    logging.getLogger("sdnjax").warning("SDC goes without fused kernels on %s: %s", device, name)


def _by_own_function(function, u, s, kernel, **options):
    y = function(u, s, kernel, **options)
    shape = (*u.shape[:3], kernel.shape[3])
    if jnp.shape(y) != shape or y.dtype != u.dtype:
        raise ValueError(
            f"an implementation must return {shape} in {u.dtype.name}, "
            f"got {jnp.shape(y)} in {jnp.result_type(y).name}"
        )
    return y


def _first_that_serves(names, u, s, kernel, **options):
    """The name, with the refusals of those before it, and the result."""
    refusals = []
    for name in names:
        try:
            y = IMPLEMENTATIONS[name](u, s, kernel, **options)
        except NotImplementedError as refusal:
            refusals.append(f"{name}: {refusal}")
        else:
            return f"{name} ({'; '.join(refusals)})" if refusals else name, y
    raise NotImplementedError("; ".join(refusals))
