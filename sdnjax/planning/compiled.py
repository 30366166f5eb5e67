"""The real train step of a recipe, compiled for devices that are only described."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from sdnjax.errors import InputError
from sdnjax.models.cost import live
from sdnjax.models.inputs import abstract_inputs
from sdnjax.planning.devices import compiler_options
from sdnjax.recipe import Recipe, with_shardings
from sdnjax.training.sharding import replicated, split_by_batch
from sdnjax.training.state import TrainState
from sdnjax.training.step import jit_step


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A step and what it was compiled from.

    Attributes:
      state, batch, constants: shapes and types with where they lie.
      jaxpr: what the step computes on all devices together, without what nothing needs.
      executable: of XLA; None if the compiler refused it for want of memory.
      needed: bytes on one device that the compiler said it would need, if it refused.
      to_host: bytes that one device exchanges with its host in functions that run there.
      seconds: that compiling took.
    """

    state: TrainState
    batch: dict[str, jax.ShapeDtypeStruct]
    constants: Any
    jaxpr: Any
    executable: Any
    needed: int | None
    to_host: int
    seconds: float


def compile_for(recipe: Recipe, mesh: Mesh, batch_size: int) -> CompiledStep:
    """Compiles the step of a recipe for a mesh; nothing is computed.

    The batch is that of a host that has augmented it, also if the recipe's devices do that. What
    the host computes within a step is left out.

    Raises: InputError if the batch does not split over the devices.
    """
    start = time.monotonic()
    executable, needed = None, None
    with _without_host() as exchanged:
        traced, state, batch, constants = trace_for(recipe, mesh, batch_size)
    try:
        with jax.set_mesh(mesh):
            executable = traced.lower().compile(compiler_options=compiler_options(mesh))
    except jax.errors.JaxRuntimeError as error:
        needed = _needed(str(error))
        if needed is None:
            raise
    seconds = time.monotonic() - start
    jaxpr = live(traced.jaxpr)
    return CompiledStep(state, batch, constants, jaxpr, executable, needed, sum(exchanged), seconds)


def trace_for(
    recipe: Recipe, mesh: Mesh, batch_size: int
) -> tuple[Any, TrainState, dict[str, jax.ShapeDtypeStruct], Any]:
    """The step of a recipe traced for a mesh, and the shapes of its state, batch and constants.

    Without constants it takes two arguments.

    Raises: InputError if the batch does not split over the devices.
    """
    parts = mesh.size * recipe.micro_batches
    if batch_size % parts:
        raise InputError(f"a batch of {batch_size} does not split into {parts} parts")
    recipe = dataclasses.replace(recipe, augment=None)
    size = (batch_size, *recipe.image_size)
    batch: dict[str, Any] = {
        "image": jax.ShapeDtypeStruct((*size, len(recipe.normalization.mean)), jnp.float32),
        "label": jax.ShapeDtypeStruct(size, jnp.int32),
        **abstract_inputs(recipe.network, size),
    }
    batch.pop("picture", None)  # made of the images
    batch = with_shardings(batch, split_by_batch(mesh))
    state = recipe.placed(mesh)
    constants = with_shardings(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), recipe.constants),
        replicated(mesh),
    )
    held = (constants,) if jax.tree.leaves(constants) else ()
    step = jit_step(recipe.step, mesh, recipe.shardings(mesh), constants=bool(held))
    with jax.set_mesh(mesh):
        return step.trace(state, batch, *held), state, batch, constants


@contextlib.contextmanager
def _without_host() -> Iterator[list[int]]:
    """Functions that a traced step calls on its host give zeros; the bytes of each call.

    Described devices have no host that XLA could give a function to.
    """
    exchanged: list[int] = []

    def zeros(function: Any, shapes: Any, *operands: Any, **how: Any) -> Any:
        del function, how
        arrays = jax.tree.leaves((shapes, operands))
        exchanged.append(sum(math.prod(x.shape) * jnp.dtype(x.dtype).itemsize for x in arrays))
        results = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        # What the host would be sent has to be computed.
        return lax.optimization_barrier((results, operands))[0]

    real = jax.pure_callback
    jax.pure_callback = zeros  # type: ignore[assignment]
    try:
        yield exchanged
    finally:
        jax.pure_callback = real


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _needed(error: str) -> int | None:
    """Of libtpu's refusal, how much the program would take."""
    found = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", error)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None
