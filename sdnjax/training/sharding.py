"""Data parallelism: one mesh, batches split over it, the state on every device."""

from __future__ import annotations

import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sdnjax.errors import InputError


def join_processes() -> None:
    """Makes this process one of several that train together.

    Slurm, TPU pods and the like are recognised by JAX; elsewhere the environment says it:
    JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES, JAX_PROCESS_ID.
    """
    number, index = os.environ.get("JAX_NUM_PROCESSES"), os.environ.get("JAX_PROCESS_ID")
    try:
        jax.distributed.initialize(
            num_processes=None if number is None else int(number),
            process_id=None if index is None else int(index),
        )
    except ValueError as error:
        raise InputError(
            f"--distributed: {error} Set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID where the cluster does not tell"
        ) from error


def data_mesh(batch_size: int) -> Mesh:
    """All devices of all processes on one axis, `data`.

    Raises InputError when the global batch does not split evenly over them.
    """
    devices = jax.device_count()
    if batch_size % devices:
        raise InputError(
            f"batch_size={batch_size} does not split over {devices} devices: "
            f"use a multiple of {devices}"
        )
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device: parameters, optimizer state."""
    return NamedSharding(mesh, PartitionSpec())


def split_by_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis over the devices: images, labels, logits."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch as arrays over the whole mesh."""
    sharding = split_by_batch(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
