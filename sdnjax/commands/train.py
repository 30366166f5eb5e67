"""One training run: data, network, mesh and work directory put together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from tqdm import tqdm

from sdnjax.commands.evaluate import evaluate_split, report_failures, silent
from sdnjax.commands.trained import abstract_state, check_classes, count_parameters
from sdnjax.commands.waiting import explain_waiting
from sdnjax.commands.workdir import describe_run, open_workdir
from sdnjax.data.label_spaces import LabelSpace
from sdnjax.data.pipeline import train_batches
from sdnjax.data.sources import open_source
from sdnjax.experiment import Experiment
from sdnjax.inference.predictor import Predictor
from sdnjax.ops import augment_batch
from sdnjax.ops.normalization import Normalization
from sdnjax.training.checkpoints import (
    CheckpointWriter,
    describe,
    find_checkpoint,
    finished_steps,
    restore_state,
)
from sdnjax.training.loop import compile_step, fit
from sdnjax.training.metrics_log import MetricsLog
from sdnjax.training.optimizer import make_optimizer
from sdnjax.training.sharding import data_mesh, replicated
from sdnjax.training.state import TrainState, create_state
from sdnjax.training.step import Batch, make_train_step, with_augmentation


def train(
    experiment: Experiment,
    workdir: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    model: nn.Module | None = None,
    report: Callable[[str], None] = tqdm.write,
) -> TrainState:
    """Runs an experiment in a work directory, from its start or from where it stopped.

    Args:
      resume, overwrite: what to do if the directory holds a run, see `open_workdir`.
      model: a module of your own in place of the one that the experiment describes.
      report: takes each line meant for people.

    Returns the last state; `state.step < experiment.steps` if the run was asked to stop.
    """
    workdir = Path(workdir)
    if jax.process_index() > 0:
        report = silent
    train_source = open_source(experiment.data, experiment.data.train_split)
    val_source = open_source(experiment.data, experiment.data.val_split)
    space = train_source.label_space
    mesh = data_mesh(experiment.batch_size)
    open_workdir(workdir, experiment, resume=resume, overwrite=overwrite)
    if finished_steps(workdir / "checkpoints"):
        saved = describe(find_checkpoint(workdir / "checkpoints"))
        check_classes(workdir, saved["classes"], space.classes)

    model = model or experiment.model.build(space.num_classes)
    optimizer = make_optimizer(experiment.optimizer, experiment.steps)
    state = _initial_state(experiment, model, optimizer, workdir / "checkpoints", mesh)
    start = int(state.step)
    report(
        f"{experiment.name}: {experiment.model.name}, operator {experiment.model.neck.operator}, "
        f"{count_parameters(state.params) / 1e6:.2f} M parameters; {len(train_source)} images to "
        f"train, {len(val_source)} to validate; {jax.device_count()} device(s); "
        f"from step {start} to {experiment.steps} in {workdir}"
    )
    if start >= experiment.steps:
        report(f"{workdir} is finished; eval.py evaluates it, predict.py uses it")
        return state

    step = make_train_step(
        model,
        optimizer,
        seed=experiment.seed,
        auxiliary_weight=experiment.auxiliary_weight,
        normalize_by=experiment.normalize_by,
    )
    if experiment.data.augment_on == "device":
        step = with_augmentation(step, _augmentation(experiment, space), mesh)
    batches = train_batches(
        experiment.data,
        seed=experiment.seed,
        batch_size=experiment.batch_size,
        start_step=start,
        stop_step=experiment.steps,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
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
            compile_step(step, mesh),
            batches,
            mesh=mesh,
            steps=experiment.steps,
            checkpoints=checkpoints,
            log=log,
            evaluate=_validation(experiment, model, space, report),
            evaluate_every=experiment.evaluate_every,
            checkpoint_every=experiment.checkpoint_every,
            log_every=experiment.log_every,
            report=report,
            explain=functools.partial(explain_waiting, data=experiment.data),
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


def _augmentation(experiment: Experiment, space: LabelSpace) -> Callable[[Batch], Batch]:
    """The augmentation that the input pipeline leaves to the devices."""
    data = experiment.data
    return functools.partial(
        augment_batch,
        seed=experiment.seed,
        crop_size=data.crop_size,
        num_classes=space.num_classes,
        mean=data.mean,
        std=data.std,
        base_size=data.base_size,
        scale_range=data.scale_range,
        max_class_share=data.max_class_share,
        flip=data.flip,
        photometric=data.photometric,
    )


def _initial_state(
    experiment: Experiment, model: nn.Module, optimizer: Any, directory: Path, mesh: Any
) -> TrainState:
    """The latest checkpoint's state, or a new one."""
    if finished_steps(directory):
        abstract = abstract_state(model, optimizer, experiment, replicated(mesh))
        return restore_state(find_checkpoint(directory), abstract)
    make = functools.partial(
        create_state, model, optimizer, experiment.data.crop_size, experiment.seed
    )
    return jax.jit(make, out_shardings=replicated(mesh))()


def _validation(
    experiment: Experiment, model: nn.Module, space: LabelSpace, report: Callable[[str], None]
) -> Callable[[TrainState], dict[str, Any]]:
    normalization = Normalization(experiment.data.mean, experiment.data.std)
    predictor = Predictor(model, experiment.evaluation, normalization)

    def validate(state: TrainState) -> dict[str, Any]:
        results = evaluate_split(
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
