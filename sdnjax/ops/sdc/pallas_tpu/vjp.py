"""SDC and its gradients on whole batches: which kernel computes what, with which factors."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.neighbours import mirror, tap_offsets, with_centre, without_centre
from sdnjax.ops.sdc.pallas_tpu.blocks import Blocks
from sdnjax.ops.sdc.pallas_tpu.kernel_gradient import kernel_gradient
from sdnjax.ops.sdc.pallas_tpu.map_gradient import map_gradient
from sdnjax.ops.sdc.pallas_tpu.product import product
from sdnjax.ops.sdc.sharding import per_device


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def semantic_difference(u, s, kernel, dilation, precision, interpret):
    run = _on_each_device(u, kernel, dilation, precision, interpret)
    return run.product(u, s, _by_tap(kernel))


def _forward(u, s, kernel, dilation, precision, interpret):
    y = semantic_difference(u, s, kernel, dilation, precision, interpret)
    return y, (u, s, kernel)


def _backward(dilation, precision, interpret, residuals, dy):
    u, s, kernel = residuals
    offsets = tap_offsets(kernel.shape[:2], dilation)
    run = _on_each_device(u, kernel, dilation, precision, interpret)
    transposed = jnp.swapaxes(_by_tap(kernel), 1, 2)

    # dU[q] = Σ_k (s_{−k}[q + o_k] dY[q + o_k] − s_{−k}[q] dY[q]) W_{−k}ᵀ, where −k is the
    # opposite tap: a product like the forward pass, of two factors.
    du = run.two_factors(dy, mirror(s, offsets), s[..., ::-1], transposed[::-1])
    dw = with_centre(run.kernel_gradient(u, s, dy), 0)
    ds = with_centre(run.map_gradient(u, dy, transposed), 3)
    # Of the three the compiler drops those that nobody asks for.
    return du, ds.astype(s.dtype), dw.reshape(kernel.shape).astype(kernel.dtype)


semantic_difference.defvjp(_forward, _backward)


class _Kernels(NamedTuple):
    """The kernels on maps `[B, H, W, …]`, each device at work on its own images."""

    product: Callable
    two_factors: Callable
    kernel_gradient: Callable
    map_gradient: Callable


def _on_each_device(u, kernel, dilation, precision, interpret) -> _Kernels:
    def blocks(x):
        return Blocks.of(x.shape, kernel.shape[:2], dilation, x.dtype)

    # Refused here, before anything is traced for one device.
    for channels in (kernel.shape[2:], kernel.shape[:1:-1]):
        blocks(u).tiles(*channels, u.dtype.itemsize)
    options = {"precision": _mosaic_precision(u.dtype, precision), "interpret": interpret}

    def forward(x, *rest):
        *factors, weights = rest
        cut = blocks(x)
        return product(x, [cut.factors(f) for f in factors], weights, cut, **options)

    def to_kernel(x, s, dy):
        cut = blocks(x)
        return kernel_gradient(x, cut.factors(s), dy, cut, **options)

    def to_maps(x, dy, transposed):
        cut = blocks(x)
        return cut.from_factors(map_gradient(x, dy, transposed, cut, **options))

    return _Kernels(
        per_device(forward, "b h w i, b h w k, t i o -> b h w o"),
        per_device(forward, "b h w i, b h w k, b h w k, t i o -> b h w o"),
        per_device(to_kernel, "b h w i, b h w k, b h w o -> t i o", summed=True),
        per_device(to_maps, "b h w i, b h w o, t o i -> b h w t"),
    )


def _by_tap(kernel):
    """`[kh, kw, Ci, Co]` → `[T, Ci, Co]`, without the centre."""
    return without_centre(kernel.reshape(-1, *kernel.shape[2:]), 0)


def _mosaic_precision(dtype, precision):
    """Mosaic knows one pass of bfloat16, which XLA's default is too, and full float32."""
    precision = precision or jax.config.jax_default_matmul_precision
    one_pass = (None, "default", "fastest", "bfloat16", lax.Precision.DEFAULT)
    if dtype == jnp.bfloat16 or precision in one_pass:
        return lax.Precision.DEFAULT
    return lax.Precision.HIGHEST
