"""Work directories from foreign checkpoints, and foreign checkpoints from work directories."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from sdnjax.commands.trained import load_network
from sdnjax.commands.workdir import describe_run, open_workdir
from sdnjax.convert import DoesNotFit, load, to_torch
from sdnjax.convert.files import checkpoint_file, read_file, write_file
from sdnjax.convert.state_dict import tensor_names
from sdnjax.convert.tables import find_table, fitting_table
from sdnjax.data.sources import label_space_of
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.models import Model
from sdnjax.models.families import likes
from sdnjax.options import replaced
from sdnjax.places import place
from sdnjax.training.checkpoints import CheckpointWriter


def from_torch(
    experiment: Experiment,
    source: str | Path,
    workdir: str | Path,
    *,
    table: str | None = None,
    reinitialise: Sequence[str] = (),
    new_classes: bool = False,
    ignore: Sequence[str] = (),
    key: str | None = None,
    prefix: str | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> None:
    """Makes a work directory whose step 0 holds the converted weights.

    It is a run of `experiment` that has not trained yet: eval.py and predict.py use it as it
    is, train.py goes on from it with --resume. Nothing is written unless everything fits.

    Args:
      table: a key of `sdnjax.convert.tables.TABLES`; None for that of the network.
      reinitialise, new_classes, ignore, key, prefix: see `sdnjax.convert.load`.
      overwrite: whether a run that is there may be replaced.
    """
    space = label_space_of(experiment.data)
    names = find_table(table, experiment.network_name)
    file = checkpoint_file(source)
    content = read_file(file)
    experiment, changed = like_the_source(experiment, names, tensor_names(content))
    recipe = experiment.build(space.num_classes)
    try:
        variables = load(
            recipe.network,
            content,
            names,
            name=str(file),
            reinitialise=reinitialise,
            new_classes=new_classes,
            ignore=ignore,
            key=key,
            prefix=prefix,
            seed=experiment.seed,
            image_size=experiment.data.crop_size,
            input_channels=None if experiment.data.channels == 3 else experiment.data.channels,
            report=report,
        )
    except DoesNotFit as error:
        better = fitting_table(recipe.network, tensor_names(content), names)
        if better is None:
            raise
        raise InputError(f"{error}. Its names are those of --table {better}") from None
    open_workdir(workdir, experiment, overwrite=overwrite)
    state = recipe.init_state(jax.tree.map(jnp.asarray, variables))
    description = describe_run(experiment, space) | {"converted_from": str(source)}
    writer = CheckpointWriter(
        place(workdir) / "checkpoints", experiment.keep_checkpoints, description
    )
    try:
        writer.save(state)
    finally:
        writer.close()
    for setting, value in changed.items():
        report(
            f"model.{setting} is {value}, as the weights want it: written into the configuration"
        )
    report(f"written to {workdir}: predict.py and eval.py use it, train.py --resume trains it")


def like_the_source(
    experiment: Experiment, table: Any, names: Collection[str]
) -> tuple[Experiment, dict[str, Any]]:
    """The experiment with the network that a table's weights are for, and what was changed in it.

    A network of one's own stays as it is.
    """
    model = experiment.model
    if not isinstance(model, Model) or not hasattr(table, "settings"):
        return experiment, {}
    wanted = table.settings(names)
    changed = {
        k: v
        for k, v in wanted.items()
        if k.partition(".")[0] not in model.unused() and operator.attrgetter(k)(model) != v
    }
    if "like" in changed and changed["like"] not in likes(model.name):
        return experiment, {}  # a table for other networks, which `load` will say
    return replaced(experiment, {f"model.{k}": v for k, v in changed.items()}), changed


def write_torch(
    workdir: str | Path,
    experiment: Experiment,
    out: str | Path,
    *,
    step: int | None = None,
    table: str | None = None,
    drop: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> None:
    """Writes the network of a work directory in a foreign layout: `.pth`, `.safetensors` or `.npz`.

    mmsegmentation's `.pth` is a checkpoint of its own kind: `state_dict`, and `meta` with the
    classes and the palette, as `init_model` wants it. All others are state dicts.

    `drop` names parts ("neck") that the foreign network does not have.
    """
    trained = load_network(workdir, experiment, step)
    names = find_table(table, experiment.network_name)
    state = to_torch(trained.network, trained.variables, names, drop=drop)
    around = names.around(trained.classes, trained.palette) if hasattr(names, "around") else None
    write_file(out, state, around)
    left = f"; left out: {', '.join(drop)}" if drop else ""
    report(f"{len(state)} tensors of step {trained.step} written to {out}{left}")
