"""One training run: data, network, mesh and work directory put together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from sdnjax.commands.evaluate import report_failures, score_split, silent, try_evaluation
from sdnjax.commands.trained import check_classes, count_parameters
from sdnjax.commands.waiting import explain_waiting
from sdnjax.commands.workdir import describe_run, open_workdir
from sdnjax.data.data_settings import wants_superpixels
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.predictor import Predictor
from sdnjax.recipe import Recipe
from sdnjax.training.checkpoints import (
    CheckpointWriter,
    describe,
    find_checkpoint,
    finished_steps,
    restore_state,
)
from sdnjax.training.loop import fit
from sdnjax.training.metrics_log import MetricsLog
from sdnjax.training.optimizer import learning_rate_of
from sdnjax.training.sharding import data_mesh
from sdnjax.training.state import TrainState


def train(
    experiment: Experiment,
    workdir: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = tqdm.write,
) -> TrainState:
    """Runs an experiment in a work directory, from its start or from where it stopped.

    Args:
      resume, overwrite: what to do if the directory holds a run, see `open_workdir`.
      report: takes each line meant for people.

    Returns the last state; `state.step < experiment.steps` if the run was asked to stop.
    """
    workdir, experiment = Path(workdir), experiment.resolved()
    if jax.process_index() > 0:
        report = silent
    train_source = open_source(experiment.data, experiment.data.train_split)
    val_source = open_source(experiment.data, experiment.data.val_split)
    space = train_source.label_space
    recipe = experiment.build(space.num_classes)
    _check_superpixels(experiment, recipe)
    recipe.check()
    mesh = data_mesh(experiment.batch_size)
    predictor = Predictor(recipe.network, experiment.evaluation, recipe.normalization)
    abstract = recipe.abstract_state().variables
    try_evaluation(predictor, abstract, experiment, space.num_classes)
    open_workdir(workdir, experiment, resume=resume, overwrite=overwrite)
    state = _first_state(recipe, workdir, space.classes, mesh)
    start = int(state.step)
    report(
        f"{experiment.name}: {experiment.network_title}, "
        f"{count_parameters(state.params) / 1e6:.2f} M parameters; {len(train_source)} images to "
        f"train, {len(val_source)} to validate; {jax.device_count()} device(s); "
        f"from step {start} to {experiment.steps} in {workdir}"
    )
    if start >= experiment.steps:
        report(f"{workdir} is finished; eval.py evaluates it, predict.py uses it")
        return state

    batches = train_batches(
        experiment.data,
        seed=experiment.seed,
        batch_size=experiment.batch_size,
        start_step=start,
        stop_step=experiment.steps,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        extras=recipe.inputs,
    )
    log = None
    if jax.process_index() == 0:
        log = MetricsLog(workdir, start_step=start, tensorboard=experiment.tensorboard)
    checkpoints = CheckpointWriter(
        workdir / "checkpoints", experiment.keep_checkpoints, describe_run(experiment, space)
    )
    try:
        state = fit(
            state,
            recipe.compiled_step(mesh),
            batches,
            mesh=mesh,
            steps=experiment.steps,
            checkpoints=checkpoints,
            log=log,
            evaluate=_validation(experiment, predictor, space, report),
            evaluate_every=experiment.evaluate_every,
            checkpoint_every=experiment.checkpoint_every,
            log_every=experiment.log_every,
            report=report,
            explain=functools.partial(explain_waiting, data=experiment.data),
            learning_rate=learning_rate_of(experiment.optimizer, experiment.steps),
        )
    finally:
        batches.close()
        checkpoints.close()
        if log is not None:
            log.close()
    report_failures(batches.failures, report)
    if int(state.step) < experiment.steps:
        report(f"stopped at step {int(state.step)}, saved; --resume goes on from there")
    return state


def _check_superpixels(experiment: Experiment, recipe: Recipe) -> None:
    """InputError if superpixels are there that nobody reads, or are read and not there."""
    needed = wants_superpixels(experiment.data, recipe.inputs)
    if experiment.data.superpixels is not None and not needed:
        raise InputError(
            f"data.superpixels is {experiment.data.superpixels}, but {experiment.network_name} "
            "reads none: leave it out"
        )


def _first_state(recipe: Recipe, workdir: Path, classes: tuple[str, ...], mesh: Mesh) -> TrainState:
    """The latest checkpoint's state, or a new one."""
    directory = workdir / "checkpoints"
    if not finished_steps(directory):
        return recipe.new_state(mesh)
    path = find_checkpoint(directory)
    check_classes(workdir, tuple(describe(path)["classes"]), classes)
    return restore_state(path, recipe.placed(mesh))


def _validation(
    experiment: Experiment, predictor: Predictor, space: LabelSpace, report: Callable[[str], None]
) -> Callable[[TrainState], dict[str, Any]]:
    def validate(state: TrainState) -> dict[str, Any]:
        _, results = score_split(
            predictor,
            state.variables,
            experiment,
            space=space,
            split=experiment.data.val_split,
            report=report,
        )
        boundary = "  ".join(f"F({k}) {v:.4f}" for k, v in results["boundary_f"].items())
        report(
            f"validation at step {int(state.step)}: mIoU {results['mIoU']:.4f}  "
            f"pixel accuracy {results['pixel_accuracy']:.4f}  {boundary}"
        )
        return results

    return validate
