"""A trained network, read back from a work directory alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Sharding, SingleDeviceSharding

from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.settings import from_dict
from sdnjax.training.checkpoints import describe, find_checkpoint, load_items
from sdnjax.training.state import TrainState, create_state


@dataclass(frozen=True)
class Trained:
    """A module with its variables and what is needed to use them."""

    experiment: Experiment
    model: nn.Module
    variables: dict[str, Any]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    step: int


def load_network(workdir: Path, step: int | None = None, model: nn.Module | None = None) -> Trained:
    """Loads the network of a run: parameters and batch-norm statistics, nothing else.

    Args:
      workdir: of a run that has saved a checkpoint.
      step: of the checkpoint; None for the latest.
      model: the module, if it is not the one that the experiment describes.
    """
    path = find_checkpoint(workdir / "checkpoints", step)
    description = describe(path)
    experiment = from_dict(Experiment, description["experiment"], str(path))
    classes = tuple(description["classes"])
    model = model or experiment.model.build(len(classes))
    state = abstract_state(
        model,
        optax.identity(),
        experiment,
        SingleDeviceSharding(jax.local_devices()[0]),
    )
    variables = load_items(path, state.variables)
    palette = tuple(tuple(colour) for colour in description["palette"])
    return Trained(experiment, model, variables, classes, palette, int(path.name))


def abstract_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    experiment: Experiment,
    sharding: Sharding,
) -> TrainState:
    """Shapes, types and shardings of a train state, without computing one."""
    make = functools.partial(
        create_state, model, optimizer, experiment.data.crop_size, experiment.seed
    )
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), jax.eval_shape(make)
    )


def check_classes(workdir: Path, ours: Sequence[str], theirs: Sequence[str]) -> None:
    """InputError if the classes of a network and those of the data set are not the same."""
    if len(ours) != len(theirs):
        raise InputError(
            f"{workdir} was trained on {len(ours)} classes, the data set has {len(theirs)}"
        )
    for k, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if our != their:
            raise InputError(f"{workdir} has {our!r} as class {k}, the data set has {their!r}")


def count_parameters(params: Any) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(jnp.size(x) for x in jax.tree.leaves(params))
