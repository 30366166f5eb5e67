"""A trained network, read back from a work directory alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import SingleDeviceSharding

from sdnjax.commands.workdir import load_experiment
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation
from sdnjax.places import place
from sdnjax.recipe import with_shardings
from sdnjax.settings import differences
from sdnjax.training.checkpoints import describe, find_checkpoint, finished_steps, load_items

# Which checkpoint of a run: that of a step, the best one, or the latest.
Step = int | Literal["best"] | None


@dataclass(frozen=True)
class Trained:
    """A module with its variables and what is needed to use them.

    `mirrored` is what the classes are in the mirror image, None if they stay what they are.
    """

    experiment: Experiment
    network: nn.Module
    variables: dict[str, Any]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    step: int
    mirrored: tuple[int, ...] | None = None

    def predictor(self, evaluation: Evaluation | None = None) -> Predictor:
        """Predicts by the run's own protocol, or by another."""
        return Predictor(
            self.network,
            self.experiment.evaluation if evaluation is None else evaluation,
            self.experiment.data.normalization,
            self.mirrored,
        )


def load_network(
    workdir: str | Path, experiment: Experiment | None = None, step: Step = None
) -> Trained:
    """Loads the network of a run: parameters and batch-norm statistics, nothing else.

    Args:
      workdir: of a run that has saved a checkpoint.
      experiment: the run's own (see `load_experiment`, which None calls), or that with other
        settings of data and evaluation.
      step: of the checkpoint, "best" for that with the best score; None for the latest.

    Raises: InputError if the checkpoint holds another network than the experiment describes.
    """
    experiment = load_experiment(workdir) if experiment is None else experiment
    if step == "best":
        path = _best_checkpoint(place(workdir))
    else:
        path = find_checkpoint(place(workdir) / "checkpoints", step)
    description = describe(path)
    _check_network(path, description["experiment"], experiment)
    classes = tuple(description["classes"])
    recipe = experiment.build(len(classes))
    device = SingleDeviceSharding(jax.local_devices()[0])
    variables = load_items(path, with_shardings(recipe.abstract_state(), device).variables)
    palette = tuple(tuple(colour) for colour in description["palette"])
    mirrored = description.get("mirrored")  # earlier versions had none
    return Trained(
        experiment,
        recipe.network,
        variables,
        classes,
        palette,
        int(path.name),
        mirrored and tuple(mirrored),
    )


def _best_checkpoint(workdir: Path) -> Path:
    if not finished_steps(workdir / "best"):
        raise InputError(f"{workdir} has no best checkpoint: it was trained without keep_best")
    return find_checkpoint(workdir / "best")


def check_classes(workdir: str | Path, ours: tuple[str, ...], theirs: tuple[str, ...]) -> None:
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


def _check_network(path: Path, saved: dict[str, Any], experiment: Experiment) -> None:
    """InputError unless the experiment's network is the one that was saved."""
    model = {"model": saved.get("model", {})}
    try:
        there = experiment_from_dict(model, str(path), experiment)
        changed = [d for d in differences(there, experiment) if d.split()[0].startswith("model")]
    except InputError as error:
        changed = [str(error).removeprefix(f"{path}: ")]
    if changed:
        raise InputError(f"{path} holds another network: {'; '.join(changed[:3])}")
