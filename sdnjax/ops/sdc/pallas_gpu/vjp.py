"""SDC and its gradients on whole batches: which kernel computes what, with which factors."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sdnjax.ops.neighbours import inside, mirror, tap_offsets, with_centre, without_centre
from sdnjax.ops.per_device import per_device
from sdnjax.ops.sdc.pallas_gpu import common
from sdnjax.ops.sdc.pallas_gpu.kernel_gradient import kernel_gradient
from sdnjax.ops.sdc.pallas_gpu.map_gradient import map_gradient
from sdnjax.ops.sdc.pallas_gpu.product import product


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def semantic_difference(u, s, kernel, dilation, interpret):
    offsets = tap_offsets(kernel.shape[:2], dilation)
    # Beyond an image's edge a row offset meets some other row: whatever is read there counts 0
    # times. The centre keeps its factor s, which "zeros" borders make differ from 0.
    near = jnp.where(inside(s.shape, offsets), s, 0)
    return _on_each_device(u, kernel, dilation, interpret).product(u, near, s, _by_tap(kernel))


def _forward(u, s, kernel, dilation, interpret):
    return semantic_difference(u, s, kernel, dilation, interpret), (u, s, kernel)


def _backward(dilation, interpret, residuals, dy):
    u, s, kernel = residuals
    offsets = tap_offsets(kernel.shape[:2], dilation)
    run = _on_each_device(u, kernel, dilation, interpret)
    weights, inner = _by_tap(kernel), inside(s.shape, offsets)

    # dU[q] = Σ_k (s_{−k}[q + o_k] dY[q + o_k] − s_{−k}[q] dY[q]) W_{−k}ᵀ, where −k is the
    # opposite tap: the forward pass with other factors.
    opposite = jnp.swapaxes(weights[::-1], 1, 2)
    du = run.product(dy, mirror(s, offsets), s[..., ::-1], opposite)
    dw = run.kernel_gradient(u, jnp.where(inner, s, 0), s, dy)
    ones = jnp.ones_like(s)
    ds = run.map_gradient(u, jnp.where(inner, ones, 0), ones, dy, jnp.swapaxes(weights, 1, 2))
    # Of the three the compiler drops those that nobody asks for.
    dw = with_centre(dw, 0).reshape(kernel.shape).astype(kernel.dtype)
    return du, with_centre(ds, 3).astype(s.dtype), dw


semantic_difference.defvjp(_forward, _backward)


class _Kernels(NamedTuple):
    """The three kernels on maps `[B, H, W, …]`, each device at work on its own images."""

    product: Callable
    kernel_gradient: Callable
    map_gradient: Callable


def _on_each_device(u, kernel, dilation, interpret) -> _Kernels:
    taps = common.Taps(kernel.shape[:2], dilation, u.shape[2])

    def forward(x, near, total, weights):
        factors = common.pair_factors(near, total)
        y = product(_rows(x), factors, weights, taps, interpret=interpret)
        return y.reshape(*x.shape[:3], -1)

    def to_kernel(x, near, total, dy):
        factors = common.pair_factors(near, total)
        return kernel_gradient(_rows(x), factors, _rows(dy), taps, interpret=interpret)

    def to_maps(x, near, total, dy, transposed):
        factors = common.pair_factors(near, total)
        ds = map_gradient(_rows(x), factors, _rows(dy), transposed, taps, interpret=interpret)
        return ds.T.reshape(*x.shape[:3], -1)

    maps = "b h w i, b h w k, b h w k"
    return _Kernels(
        per_device(forward, f"{maps}, t i o -> b h w o"),
        per_device(to_kernel, f"{maps}, b h w o -> t i o", summed=True),
        per_device(to_maps, f"{maps}, b h w o, t o i -> b h w t"),
    )


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _by_tap(kernel):
    """`[kh, kw, Ci, Co]` → `[T, Ci, Co]`, without the centre."""
    return without_centre(kernel.reshape(-1, *kernel.shape[2:]), 0)
