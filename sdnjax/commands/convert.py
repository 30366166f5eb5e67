"""Work directories from foreign checkpoints, and foreign checkpoints from work directories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from sdnjax.commands.trained import load_network
from sdnjax.commands.workdir import describe_run, open_workdir
from sdnjax.convert import load, to_torch
from sdnjax.convert.files import write_file
from sdnjax.convert.tables import find_table
from sdnjax.data.sources import label_space_of
from sdnjax.experiment import Experiment
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
    recipe = experiment.build(space.num_classes)
    variables = load(
        recipe.network,
        source,
        find_table(table, experiment.network_name),
        reinitialise=reinitialise,
        new_classes=new_classes,
        ignore=ignore,
        key=key,
        prefix=prefix,
        seed=experiment.seed,
        image_size=experiment.data.crop_size,
        report=report,
    )
    open_workdir(workdir, experiment, overwrite=overwrite)
    state = recipe.init_state(jax.tree.map(jnp.asarray, variables))
    description = describe_run(experiment, space) | {"converted_from": str(source)}
    writer = CheckpointWriter(
        Path(workdir) / "checkpoints", experiment.keep_checkpoints, description
    )
    try:
        writer.save(state)
    finally:
        writer.close()
    report(f"written to {workdir}: predict.py and eval.py use it, train.py --resume trains it")


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

    `drop` names parts ("neck") that the foreign network does not have.
    """
    trained = load_network(workdir, experiment, step)
    names = find_table(table, experiment.network_name)
    state = to_torch(trained.network, trained.variables, names, drop=drop)
    write_file(out, state)
    left = f"; left out: {', '.join(drop)}" if drop else ""
    report(f"{len(state)} tensors of step {trained.step} written to {out}{left}")
