"""A function of whole batches that every device runs on its own part of the batch.

A kernel is opaque to XLA's partitioner, which would gather its operands onto every device.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def per_device(
    function: Callable, rule: str, *, summed: bool = False, by_mesh: bool = False
) -> Callable:
    """Makes `function(*arrays)` run per device under `jit`, and adds a rule for `vmap`.

    Args:
        function: of arrays `[B, …]` and of others without a batch, which may be a function of
            each image alone (`[B, …]` comes out), or a sum over images (summed).
        rule: the arrays' axes, one name each, such as `"b h w i, p q i o -> b h w o"`. Axis b may
            be sharded over any axes of a mesh; all others are replicated.
        by_mesh: whether the mesh in use (`jax.set_mesh`) says how axis b is sharded: over all its
            axes, as far as they divide the batch. Otherwise XLA's partitioner says, which can
            ask Python on GPUs and CPUs, but not on TPUs.
    """
    batched = [("b" in axes.split()) for axes in rule.split("->", maxsplit=1)[0].split(",")]
    if by_mesh:
        partitioned = over_mesh(function, batched, summed)
    else:
        partitioned = _by_partitioner(function, rule, batched, summed)

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


def _by_partitioner(function, rule: str, batched: Sequence[bool], summed: bool) -> Callable:
    names = dict.fromkeys(rule.replace("->", " ").replace(",", " ").split())
    others = tuple(name for name in names if name != "b")  # in order, as Shardy wants them

    def partition(mesh, arg_shapes, result_shape):
        # How the first array with a batch is sharded decides for all of them.
        batch_axes = arg_shapes[batched.index(True)].sharding.spec
        batch_axes = batch_axes[0] if batch_axes else None

        def sharding(has_batch):
            return NamedSharding(mesh, PartitionSpec(batch_axes) if has_batch else PartitionSpec())

        arguments = tuple(sharding(has_batch) for has_batch in batched)
        return mesh, _summed_over(batch_axes, function, summed), sharding(not summed), arguments

    partitioned = custom_partitioning(function)
    partitioned.def_partition(
        partition=partition,
        sharding_rule=rule,
        need_replication_factors=others,
        **({"reduction_factors": ("b",)} if summed else {}),
    )
    return partitioned


def over_mesh(
    function: Callable, batched: Sequence[bool], summed: bool | tuple[bool, ...]
) -> Callable:
    """`per_device` with `by_mesh` in JAX's own terms: it has derivatives, but a kernel that is
    mapped over is mapped as usual.

    Args:
        batched: which of the arrays have a batch as their first axis.
        summed: of the result, or of each result, whether it is a sum over images.
    """

    def run(*arrays):
        mesh = jax.sharding.get_abstract_mesh()
        free = [
            name
            for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
            if kind != AxisType.Manual
        ]
        if not free:  # no mesh, or in a `shard_map` already
            return function(*arrays)
        batch_axes = tuple(free)
        while arrays[batched.index(True)].shape[0] % math.prod(mesh.shape[n] for n in batch_axes):
            batch_axes = batch_axes[:-1]
        split, whole = PartitionSpec(batch_axes or None), PartitionSpec()
        return jax.shard_map(
            _summed_over(batch_axes, function, summed),
            in_specs=tuple(split if has_batch else whole for has_batch in batched),
            out_specs=jax.tree.map(lambda is_sum: whole if is_sum else split, summed),
            axis_names=set(free),
            check_vma=False,
        )(*arrays)

    return run


def _summed_over(batch_axes, function, summed):
    def run(*arrays):
        y = function(*arrays)
        if not batch_axes:
            return y
        return jax.tree.map(lambda s, part: lax.psum(part, batch_axes) if s else part, summed, y)

    return run


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
