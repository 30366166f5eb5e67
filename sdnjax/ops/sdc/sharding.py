"""A function of whole batches that every device runs on its own part of the batch.

A kernel is opaque to XLA's partitioner, which would gather its operands onto every device.
"""

import functools
from collections.abc import Callable

import jax
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec


def per_device(function: Callable, rule: str, *, summed: bool = False) -> Callable:
    """Makes `function(*arrays)` run per device under `jit`, and adds a rule for `vmap`.

    Args:
        function: of arrays `[B, …]` and of others without a batch, which may be a function of
            each image alone (`[B, …]` comes out), or a sum over images (summed).
        rule: the arrays' axes, one name each, such as `"b h w i, p q i o -> b h w o"`. Axis b may
            be sharded over any axes of a mesh; all others are replicated.
    """
    left, result = rule.split("->")
    operands = left.split(",")
    batched = [("b" in axes.split()) for axes in operands]
    names = dict.fromkeys(" ".join([*operands, result]).split())  # in order, as Shardy wants them
    others = tuple(name for name in names if name != "b")

    def partition(mesh, arg_shapes, result_shape):
        # How the first array with a batch is sharded decides for all of them.
        batch_axes = arg_shapes[batched.index(True)].sharding.spec
        batch_axes = batch_axes[0] if batch_axes else None

        def sharding(has_batch):
            return NamedSharding(mesh, PartitionSpec(batch_axes) if has_batch else PartitionSpec())

        def lowered(*arrays):
            y = function(*arrays)
            return lax.psum(y, batch_axes) if summed and batch_axes else y

        arguments = tuple(sharding(has_batch) for has_batch in batched)
        return mesh, lowered, sharding(not summed), arguments

    partitioned = custom_partitioning(function)
    partitioned.def_partition(
        partition=partition,
        sharding_rule=rule,
        need_replication_factors=others,
        **({"reduction_factors": ("b",)} if summed else {}),
    )

    @jax.custom_batching.custom_vmap
    def run(*arrays):
        return partitioned(*arrays)

    @run.def_vmap
    def _(size, mapped, *arrays):
        # What is mapped over joins the batch, unless an array without a batch (the kernel) is
        # mapped too, or each needs a sum of its own: then they are computed one after the other.
        shared = [not has_batch for has_batch in batched]
        if not summed and not any(m for m, s in zip(mapped, shared, strict=True) if s):
            return _as_one_batch(run, size, mapped, arrays, batched), True
        arrays = [x if m else _repeat(x, size) for x, m in zip(arrays, mapped, strict=True)]
        return lax.map(lambda xs: run(*xs), tuple(arrays)), True

    return functools.wraps(function)(run)


def _as_one_batch(run, size, mapped, arrays, batched):
    """The mapped axis joins the batch."""
    joined = []
    for x, is_mapped, has_batch in zip(arrays, mapped, batched, strict=True):
        if has_batch:
            x = x if is_mapped else _repeat(x, size)
            x = x.reshape(-1, *x.shape[2:])
        joined.append(x)
    y = run(*joined)
    return y.reshape(size, -1, *y.shape[1:])


def _repeat(x, size):
    return lax.broadcast_in_dim(x, (size, *x.shape), range(1, x.ndim + 1))
