"""One mesh, batches split over it, and where the leaves of the state lie on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sdnjax.errors import InputError


def data_mesh(batch_size: int, parts: int = 1) -> Mesh:
    """All devices of all processes on one axis, `data`.

    Raises InputError when the global batch, or each of its parts, does not split evenly over them.
    """
    devices = jax.device_count()
    if batch_size % (devices * parts):
        divided = f" in {parts} parts (accumulate)" if parts > 1 else ""
        raise InputError(
            f"batch_size={batch_size}{divided} does not split over {devices} devices: "
            f"use a multiple of {devices * parts}"
        )
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))


# How a leaf of the state is split over the mesh: its path ("params/decoder/conv1/kernel") and its
# shape and type → the spec.
StateSharding = Callable[[str, jax.ShapeDtypeStruct], PartitionSpec]


def replicate(path: str, leaf: jax.ShapeDtypeStruct) -> PartitionSpec:
    """Every leaf on every device."""
    del path, leaf
    return PartitionSpec()


def fully_sharded(path: str, leaf: jax.ShapeDtypeStruct) -> PartitionSpec:
    """Each large leaf split over all devices of the mesh in use, along the longest axis that they
    divide.

    Parameters, their average and the optimizer's state then take a share of the memory on each
    device (ZeRO, Rajbhandari et al., 2020; "FSDP"), and parameters are gathered where they are
    used. Leaves of less than 2¹⁴ numbers, and those of which no axis divides, are on every device.
    """
    del path
    mesh = jax.sharding.get_abstract_mesh()
    devices = jax.device_count() if mesh.empty else mesh.size
    axes = [i for i, n in enumerate(leaf.shape) if n % devices == 0]
    if not axes or np.prod(leaf.shape) < 2**14:
        return PartitionSpec()
    longest = max(axes, key=lambda i: leaf.shape[i])
    return PartitionSpec(*[None] * longest, "data")


def shardings_of(state: Any, mesh: Mesh, rule: StateSharding = replicate) -> Any:
    """The sharding of every leaf of an abstract state, as `rule` has it with the mesh in use.

    Raises: InputError if a leaf cannot be split as the rule says.
    """

    def of_leaf(path: Any, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            spec = rule(name, leaf)
        sharding = NamedSharding(mesh, spec)
        try:
            sharding.shard_shape(leaf.shape)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"state_sharding: {name} {leaf.shape}: {reason}") from None
        return sharding

    return jax.tree_util.tree_map_with_path(of_leaf, state)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device: parameters, optimizer state."""
    return NamedSharding(mesh, PartitionSpec())


def on_every_device(values: Any, mesh: Mesh) -> Any:
    """A tree of arrays that every process holds as a whole, on all devices of the mesh."""
    where = replicated(mesh)

    def place(value: Any) -> jax.Array:
        whole = np.asarray(value)
        # Unlike `device_put` it sends nothing from process to process to compare it.
        return jax.make_array_from_callback(whole.shape, where, lambda index: whole[index])

    return jax.tree.map(place, values)


def split_by_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis over the devices: images, labels, logits."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch as arrays over the whole mesh."""
    sharding = split_by_batch(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
