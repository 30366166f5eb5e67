"""Convolutions and linear layers whose parameters stay float32 under 16 bits, gradients included.

Flax casts a kernel to the type of the computation, so that its gradient is of that type, and under
data parallelism XLA sums it over the devices as it is: in 8 bits of mantissa for bfloat16. Here the
product of each device's own rows is widened first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.sharding import PartitionSpec

from sdnjax.ops.conv import conv

Product = Callable[[jax.Array, jax.Array], jax.Array]


def _promote(inputs: Any, kernel: Any, bias: Any, *, dtype: Any = None) -> list[Any]:
    """Flax's, but parameters are left as they are where the computation is narrower."""
    if dtype is None or jnp.dtype(dtype).itemsize >= kernel.dtype.itemsize:
        return promote_dtype(inputs, kernel, bias, dtype=dtype)
    return [jnp.asarray(inputs, dtype), kernel, bias]


def _conv_general_dilated(x: jax.Array, kernel: jax.Array, *sizes: Any, **options: Any) -> Any:
    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if x.ndim != 4 or set(options["lhs_dilation"]) != {1}:
            return lax.conv_general_dilated(x, kernel, *sizes, **options)
        return conv(
            x,
            kernel,
            *sizes,
            dilation=options["rhs_dilation"],
            groups=options["feature_group_count"],
            precision=options["precision"],
        )

    return _with_wide_gradient(product, x, kernel)


def _dot_general(x: jax.Array, kernel: jax.Array, contract: Any, **options: Any) -> Any:
    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if contract != (((x.ndim - 1,), (0,)), ((), ())) or x.ndim < 3:
            return lax.dot_general(x, kernel, contract, **options)
        # One axis of rows: for several, XLA's CPU compiler transposes x for the kernel's gradient.
        rows = lax.collapse(x, 0, x.ndim - 1)
        y = lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
        return y.reshape(*x.shape[:-1], kernel.shape[-1])

    return _with_wide_gradient(product, x, kernel)


class Conv(nn.Conv):
    """`nn.Conv`, but for what the module says."""

    promote_dtype: Any = _promote
    conv_general_dilated: Any = _conv_general_dilated

    @nn.nowrap  # a call of the module is that of Flax's method, once
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`[B, H, W, Ci]` → `[B, h, w, Co]`; the bias is added before the result is rounded."""
        return _rounded(super().__call__(inputs), self.dtype)


class Dense(nn.Dense):
    """`nn.Dense`, but for what the module says."""

    promote_dtype: Any = _promote
    dot_general: Any = _dot_general

    @nn.nowrap
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`[…, Ci]` → `[…, Co]`; the bias is added before the result is rounded."""
        return _rounded(super().__call__(inputs), self.dtype)


def _rounded(y: jax.Array, dtype: Any) -> jax.Array:
    return y if dtype is None else y.astype(dtype)


def _with_wide_gradient(product: Product, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`product(x, kernel)` in x's type; the gradient of a wider kernel is of the kernel's type."""
    if x.dtype == kernel.dtype:
        return product(x, kernel)

    @jax.custom_vjp
    def apply(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return product(x, kernel.astype(x.dtype))

    def forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
        return apply(x, kernel), (x, kernel)

    def backward(residuals: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, kernel = residuals
        narrow = kernel.astype(x.dtype)
        (dx,) = jax.vjp(lambda x: product(x, narrow), x)[1](dy)

        def of_rows(x: jax.Array, dy: jax.Array) -> jax.Array:
            (d_kernel,) = jax.vjp(lambda kernel: product(x, kernel), narrow)[1](dy)
            return d_kernel.astype(kernel.dtype)

        return dx, _summed_over_devices(of_rows, x, dy)

    apply.defvjp(forward, backward)
    return apply(x, kernel)


def _summed_over_devices(of_rows: Product, x: jax.Array, dy: jax.Array) -> jax.Array:
    """`of_rows(x, dy)`, a sum over their first axis, by each device of its own rows, then added."""
    mesh = jax.sharding.get_abstract_mesh()
    devices = mesh.shape.get("data", 1)
    if devices == 1 or "data" in mesh.manual_axes or x.shape[0] % devices:
        return of_rows(x, dy)  # what is no batch, such as queries that are the same for all images
    rows = PartitionSpec("data")
    local = jax.shard_map(
        lambda x, dy: lax.psum(of_rows(x, dy), "data"),
        in_specs=(rows, rows),
        out_specs=PartitionSpec(),
        axis_names={"data"},
        check_vma=False,
    )
    return local(x, dy)
