"""SDC on NVIDIA Hopper GPUs: three kernels, in 16-bit floats with float32 accumulation."""

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.neighbours import inside, mirror, tap_offsets
from sdnjax.ops.sdc.pallas_gpu import common
from sdnjax.ops.sdc.pallas_gpu.kernel_gradient import kernel_gradient
from sdnjax.ops.sdc.pallas_gpu.map_gradient import map_gradient
from sdnjax.ops.sdc.pallas_gpu.product import product
from sdnjax.ops.sdc.pallas_gpu.sharding import per_device


def semantic_difference(u, s, kernel, *, dilation, precision, interpret=None):
    """`Y[p] = Σ_k s_k[p] (U[p + o_k] − U[p]) W_k`; reverse mode keeps u, s and the kernel.

    Sums are float32 whatever the precision: products of 16-bit floats are exact in it. A pixel
    beyond the image's edge is read all the same and multiplied by 0, so a value that is not
    finite may spread to the pixels a row or an image further.

    Args:
        interpret: parameters of the Mosaic GPU interpreter, which runs the kernels anywhere.
    """
    del precision
    if not interpret:
        _refuse_device()
    _refuse_arrays(u, kernel)
    return _semantic_difference(u, s, kernel, dilation, interpret)


def _refuse_device():
    kind = target_device_kind()
    if not re.search(r"\bG?H(100|200|20|800)\b", kind):
        raise NotImplementedError(f"needs an NVIDIA Hopper GPU, not {kind}")


def _refuse_arrays(u, kernel):
    if u.dtype not in (jnp.bfloat16, jnp.float16):
        raise NotImplementedError(f"serves bfloat16 and float16, not {u.dtype.name}")
    if kernel.shape[2] % 8 or kernel.shape[3] % 8:
        raise NotImplementedError(
            f"bulk copies need multiples of 8 channels, not {kernel.shape[2]} to {kernel.shape[3]}"
        )
    if kernel.shape[0] * kernel.shape[1] == 1:
        raise NotImplementedError("a 1×1 kernel has no taps around its centre")


def target_device_kind() -> str:
    """Kind of the devices that a program traced here is for: the mesh's in use, or the default."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.abstract_device is not None:
        return mesh.abstract_device.device_kind
    device = jax.config.jax_default_device
    if device is None or isinstance(device, str):
        device = jax.devices(device)[0]
    return device.device_kind


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _semantic_difference(u, s, kernel, dilation, interpret):
    offsets = tap_offsets(kernel.shape[:2], dilation)
    near = jnp.where(inside(s.shape, offsets), s, 0)
    return _on_each_device(u, kernel, dilation, interpret).product(u, near, s, _by_tap(kernel))


def _forward(u, s, kernel, dilation, interpret):
    return _semantic_difference(u, s, kernel, dilation, interpret), (u, s, kernel)


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
    dw = _with_centre(dw, 0).reshape(kernel.shape).astype(kernel.dtype)
    return du, _with_centre(ds, 3).astype(s.dtype), dw


_semantic_difference.defvjp(_forward, _backward)


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
    return common.around_centre(kernel.reshape(-1, *kernel.shape[2:]), 0)


def _with_centre(x, axis):
    """Puts the centre tap, whose gradient is 0, back between the others."""
    before, after = jnp.split(x, 2, axis)
    zero = jnp.zeros_like(lax.slice_in_dim(x, 0, 1, axis=axis))
    return jnp.concatenate([before, zero, after], axis)
