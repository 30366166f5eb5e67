"""SDC as Pallas kernels for Google TPUs, v5e and later, in bfloat16 and float32.

Which kernel of `sdnjax.ops.tpu` computes what, with which factors.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.devices import is_tpu_with_kernels, target_device
from sdnjax.ops.neighbours import mirror, tap_offsets, with_centre
from sdnjax.ops.per_device import per_device


def semantic_difference(u, s, kernel, *, dilation, precision, interpret=False):
    """`Y[p] = Σ_k s_k[p] (U[p + o_k] − U[p]) W_k`; reverse mode keeps u, s and the kernel.

    Args:
        interpret: whether Pallas' interpreter runs the kernels, on any device.
    """
    if not interpret and not is_tpu_with_kernels():
        raise NotImplementedError(f"needs a TPU v5e or later, not {target_device()[1]}")
    if u.dtype not in (jnp.bfloat16, jnp.float32):
        raise NotImplementedError(f"serves bfloat16 and float32, not {u.dtype.name}")
    return _semantic_difference(u, s, kernel, _Options(dilation, precision, interpret))


class _Options(NamedTuple):
    dilation: tuple[int, int]
    precision: lax.PrecisionLike
    interpret: bool


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _semantic_difference(u, s, kernel, options):
    run = _on_each_device(u, kernel, options)
    return run.product(u, s, kernel)


def _forward(u, s, kernel, options):
    return _semantic_difference(u, s, kernel, options), (u, s, kernel)


def _backward(options, residuals, dy):
    u, s, kernel = residuals
    offsets = tap_offsets(kernel.shape[:2], options.dilation)
    run = _on_each_device(u, kernel, options)

    # dU[q] = Σ_k (s_{−k}[q + o_k] dY[q + o_k] − s_{−k}[q] dY[q]) W_{−k}ᵀ, where −k is the
    # opposite tap: a product like the forward pass, of two factors.
    du = run.to_features(dy, mirror(s, offsets), s[..., ::-1], kernel)
    ds = with_centre(run.to_maps(u, dy, kernel), 3)
    # Of the three the compiler drops those that nobody asks for.
    return du, ds.astype(s.dtype), run.to_kernel(u, s, dy).astype(kernel.dtype)


_semantic_difference.defvjp(_forward, _backward)


class _Kernels(NamedTuple):
    """The kernels on maps `[B, H, W, …]`, each device at work on its own images."""

    product: Callable
    to_features: Callable
    to_maps: Callable
    to_kernel: Callable


def _on_each_device(u, kernel, options) -> _Kernels:
    # Only now: importing Pallas takes a third of a second, and most machines never need it.
    from sdnjax.ops.tpu.blocks import Blocks  # noqa: PLC0415
    from sdnjax.ops.tpu.kernel_gradient import kernel_gradient  # noqa: PLC0415
    from sdnjax.ops.tpu.map_gradient import map_gradient  # noqa: PLC0415
    from sdnjax.ops.tpu.product import product  # noqa: PLC0415

    blocks = partial(Blocks.of, offsets=tap_offsets(kernel.shape[:2], options.dilation))

    # Refused here, before anything is traced for one device.
    _, _, inner, outer = kernel.shape
    for channels in ((inner, outer), (outer, inner)):
        blocks(u).tiles(*channels, u.dtype.itemsize)
    precision = _mosaic_precision(u.dtype, options.precision)
    how = {"precision": precision, "interpret": options.interpret}

    def forward(x, s, kernel):
        cut = blocks(x)
        return product(x, [cut.factors(s)], by_tap(kernel), cut, **how)

    def to_features(dy, near, here, kernel):
        cut = blocks(dy)
        factors = [cut.factors(near), cut.factors(here)]
        return product(dy, factors, by_tap(kernel), cut, opposite=True, **how)

    def to_maps(x, dy, kernel):
        cut = blocks(x)
        return cut.from_factors(map_gradient(x, dy, by_tap(kernel), cut, **how))

    def to_kernel(x, s, dy):
        cut = blocks(x)
        return kernel_gradient(x, cut.factors(s), dy, cut, **how).reshape(kernel.shape)

    def by_tap(kernel):
        return kernel.reshape(-1, *kernel.shape[2:])

    maps, kernels = "b h w i, b h w k", "p q i o"
    each = partial(per_device, by_mesh=True)
    return _Kernels(
        each(forward, f"{maps}, {kernels} -> b h w o"),
        each(to_features, f"b h w o, b h w k, b h w k, {kernels} -> b h w i"),
        each(to_maps, f"b h w i, b h w o, {kernels} -> b h w t"),
        each(to_kernel, f"{maps}, b h w o -> {kernels}", summed=True),
    )


def _mosaic_precision(dtype, precision):
    """Mosaic knows one pass of bfloat16, which XLA's default is too, and full float32."""
    precision = precision or jax.config.jax_default_matmul_precision
    one_pass = (None, "default", "fastest", "bfloat16", lax.Precision.DEFAULT)
    if dtype == jnp.bfloat16 or precision in one_pass:
        return lax.Precision.DEFAULT
    return lax.Precision.HIGHEST
