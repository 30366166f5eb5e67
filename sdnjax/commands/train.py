"""One training run: data, network, mesh and work directory put together."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from sdnjax.commands.evaluate import report_failures, score_split, silent, try_evaluation
from sdnjax.commands.initial import first_state
from sdnjax.commands.trained import check_classes, count_parameters
from sdnjax.commands.waiting import explain_waiting
from sdnjax.commands.workdir import (
    check_shared,
    check_workdir,
    code_record,
    describe_run,
    held,
    open_workdir,
    recorded_steps,
    versions,
)
from sdnjax.data.data_settings import wants_superpixels
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.predictor import Predictor
from sdnjax.places import in_bucket, place
from sdnjax.recipe import Recipe
from sdnjax.settings import to_dict
from sdnjax.training.best import Best, history, score, waited
from sdnjax.training.checkpoints import (
    CheckpointWriter,
    finished_steps,
    restore_latest,
)
from sdnjax.training.loggers import LoggedRun, Writers, check_loggers
from sdnjax.training.loop import fit
from sdnjax.training.metrics_log import MetricsLog, read_metrics
from sdnjax.training.optimizer import learning_rate_of
from sdnjax.training.parameter_rules import groups
from sdnjax.training.profiling import TracedStep
from sdnjax.training.sharding import data_mesh
from sdnjax.training.state import TrainState
from sdnjax.training.stopping import Stop
from sdnjax.training.together import agree, gather


def train(
    experiment: Experiment,
    workdir: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = tqdm.write,
    stop: Stop | None = None,
) -> TrainState:
    """Runs an experiment in a work directory, from its start or from where it stopped.

    Args:
      resume, overwrite: what to do if the directory holds a run, see `open_workdir`.
      report: takes each line meant for people.
      stop: the signals that end it early; None for the loop's own, see `fit`.

    Returns the last state; see `has_ended` for whether it was asked to stop before the end.
    Raises: `Stopped` if `stop` was asked before there was anything to save.
    """
    first = jax.process_index() == 0
    if experiment.profile is not None and in_bucket(workdir):
        raise InputError(f"profile: a trace is written to disks, and {workdir} is in a bucket")
    agree(_facts(experiment.resolved(), resume=resume, overwrite=overwrite))
    with held(workdir) if first else contextlib.nullcontext():
        check_shared(workdir)
        return _train(
            experiment.resolved(),
            place(workdir),
            resume=resume,
            overwrite=overwrite,
            report=report if first else silent,
            stop=stop,
        )


def _train(
    experiment: Experiment,
    workdir: Path,
    *,
    resume: bool,
    overwrite: bool,
    report: Callable[[str], None],
    stop: Stop | None,
) -> TrainState:
    with contextlib.nullcontext() if stop is None else stop.at_once():
        ready = _ready(experiment)
        agree({"images": ready.images, "classes": ready.space.classes})
        state = _begin(ready, workdir, report, resume=resume, overwrite=overwrite)
        agree({"step": int(state.step)})
    space, recipe, mesh = ready.space, ready.recipe, ready.mesh
    start = int(state.step)
    report(
        f"{experiment.name}: {experiment.network_title}, "
        f"{count_parameters(state.params) / 1e6:.2f} M parameters; {ready.images}; "
        f"{jax.device_count()} device(s); from step {start} to {experiment.steps} in {workdir}"
    )
    for line in groups(recipe.rules, state.params) if recipe.rules else ():
        report(line)
    if has_ended(experiment, workdir, state):
        early = start < experiment.steps
        more = "another --stop_after (or none)" if early else "more --steps"
        why = f", {_patience(experiment)}" if early else ""
        report(
            f"{workdir} is finished{why}; eval.py evaluates it, predict.py uses it, --resume with "
            f"{more} goes on"
        )
        return state

    best = _best(experiment, workdir, start, space)
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
        log = _log(experiment, workdir, start, report)
    step, traced = recipe.compiled_step(mesh), None
    if experiment.profile is not None and jax.process_index() == 0:
        step = traced = TracedStep(step, start, experiment.profile, workdir / "profile", report)
    checkpoints = CheckpointWriter(
        workdir / "checkpoints", experiment.keep_checkpoints, describe_run(experiment, space)
    )
    try:
        state = fit(
            state,
            step,
            batches,
            mesh=mesh,
            steps=experiment.steps,
            checkpoints=checkpoints,
            log=log,
            evaluate=_validation(ready, best, report) if experiment.data.val_split else None,
            evaluate_every=experiment.evaluate_every,
            checkpoint_every=experiment.checkpoint_every,
            log_every=experiment.log_every,
            report=report,
            explain=functools.partial(explain_waiting, data=experiment.data),
            learning_rate=learning_rate_of(experiment.scaled_optimizer, experiment.steps),
            enough=lambda: best is not None and best.enough,
            evaluated=_is_validated(workdir, start),
            stop=stop,
        )
    finally:
        if traced is not None:
            traced.close()
        batches.close()
        checkpoints.close()
        if best is not None:
            best.close()
        if log is not None:
            log.close()
    skipped = gather(list(batches.failures.messages.values()))
    report_failures([message for own in skipped for message in own], report)
    if best is not None and best.enough:
        report(f"ended at step {int(state.step)}: {_patience(experiment)}")
    elif not has_ended(experiment, workdir, state):
        report(f"stopped at step {int(state.step)}, saved; --resume goes on from there")
    return state


def _facts(experiment: Experiment, **how: bool) -> dict[str, Any]:
    """What several processes must have in common before any of them begins."""
    values = flatten_dict(to_dict(experiment), sep=".")
    for here in (
        "data.dir",
        "data.workers",
        "data.processes",
    ):  # may differ from machine to machine
        del values[here]
    code = code_record(experiment)
    return {**how, **values, "code": code and code["files"], "versions": versions()}


class _Ready(NamedTuple):
    """A run before anything of it is written."""

    experiment: Experiment
    space: LabelSpace
    recipe: Recipe
    mesh: Mesh
    predictor: Predictor
    images: str  # how many, in words


def _ready(experiment: Experiment) -> _Ready:
    """Opens the data, builds the network and tries the validation: what can be refused is."""
    split = experiment.data.val_split
    check_loggers(experiment.loggers)
    train_source = open_source(experiment.data, experiment.data.train_split)
    val_source = None if split is None else open_source(experiment.data, split)
    space = train_source.label_space
    recipe = experiment.build(space.num_classes, mirrored=space.mirrored)
    _check_superpixels(experiment, recipe)
    recipe.check()
    mesh = data_mesh(experiment.batch_size, experiment.accumulate)
    predictor = Predictor(
        recipe.network, experiment.evaluation, recipe.normalization, space.mirrored
    )
    validated = "none"
    if val_source is not None:
        validated = str(len(val_source))
        abstract = recipe.abstract_state().variables
        seen = try_evaluation(predictor, abstract, experiment, space.num_classes)
        if experiment.keep_best is not None and seen is not None:
            score(seen, experiment.keep_best)
    images = f"{len(train_source)} images to train, {validated} to validate"
    return _Ready(experiment, space, recipe, mesh, predictor, images)


def _begin(
    ready: _Ready,
    workdir: Path,
    report: Callable[[str], None],
    *,
    resume: bool,
    overwrite: bool,
) -> TrainState:
    """Opens the work directory; the state there, or the first one."""
    experiment, classes = ready.experiment, ready.space.classes
    if jax.process_index() == 0:
        check_workdir(workdir, experiment, resume=resume, overwrite=overwrite)
    if resume and finished_steps(workdir / "checkpoints"):
        before = recorded_steps(workdir)
        open_workdir(workdir, experiment, resume=True)
        state = restore_latest(
            workdir / "checkpoints",
            ready.recipe.placed(ready.mesh),
            report=report,
            check=lambda saved: check_classes(workdir, tuple(saved["classes"]), classes),
        )
        if before not in (None, experiment.steps):
            report(_longer(experiment, before, int(state.step)))
        return state
    # The source of its weights may not fit, so the directory is made after it.
    state = first_state(experiment, ready.recipe, classes, ready.mesh, report)
    open_workdir(workdir, experiment, resume=resume, overwrite=overwrite)
    return state


def _check_superpixels(experiment: Experiment, recipe: Recipe) -> None:
    """InputError if superpixels are there that nobody reads, or are read and not there."""
    needed = wants_superpixels(experiment.data, recipe.inputs)
    if experiment.data.superpixels is not None and not needed:
        raise InputError(
            f"data.superpixels is {experiment.data.superpixels}, but {experiment.network_name} "
            "reads none: leave it out"
        )


def has_ended(experiment: Experiment, workdir: str | Path, state: TrainState) -> bool:
    """Whether a run is over: at its last step and validated, or because nothing became better."""
    if int(state.step) >= experiment.steps:
        return experiment.data.val_split is None or _is_validated(place(workdir), int(state.step))
    sign = 1.0 if experiment.best_is == "highest" else -1.0
    if experiment.stop_after is None:
        return False
    record = {"name": experiment.keep_best, "highest": sign > 0}
    seen = [e for e in history(place(workdir) / "best", record) if e["step"] <= int(state.step)]
    return waited(seen, sign) >= experiment.stop_after


def _is_validated(workdir: Path, step: int) -> bool:
    """Whether the log has the validation after `step`; one process of several looks."""
    found = any(entry["step"] == step and "val" in entry for entry in read_metrics(workdir))
    if jax.process_count() > 1:
        return bool(multihost_utils.broadcast_one_to_all(np.asarray(found)))
    return found


def _longer(experiment: Experiment, steps_before: int, start: int) -> str:
    """What another number of steps does to a run in its middle."""
    said = f"steps was {steps_before}, now {experiment.steps}"
    optimizer = experiment.scaled_optimizer
    old, new = (learning_rate_of(optimizer, steps) for steps in (steps_before, experiment.steps))
    if old is None or new is None:
        return said
    return f"{said}: the learning rate at step {start} is {new(start):.3g}, it was {old(start):.3g}"


def _log(
    experiment: Experiment, workdir: Path, start: int, report: Callable[[str], None]
) -> MetricsLog:
    config = flatten_dict(to_dict(experiment), sep=".")
    run = LoggedRun(experiment.name, workdir, start, config, report)
    return MetricsLog(workdir, start_step=start, writers=Writers(experiment.all_loggers, run))


def _best(experiment: Experiment, workdir: Path, start: int, space: LabelSpace) -> Best | None:
    if experiment.keep_best is None:
        return None
    return Best(
        workdir / "best",
        experiment.keep_best,
        highest=experiment.best_is == "highest",
        patience=experiment.stop_after,
        start_step=start,
        description=describe_run(experiment, space),
    )


def _patience(experiment: Experiment) -> str:
    return (
        f"{experiment.keep_best} has not become better for {experiment.stop_after} validation(s); "
        "--step best uses the best one"
    )


def _validation(
    ready: _Ready, best: Best | None, report: Callable[[str], None]
) -> Callable[[TrainState], dict[str, Any]]:
    experiment, split = ready.experiment, ready.experiment.data.val_split
    assert split is not None

    def validate(state: TrainState) -> dict[str, Any]:
        _, results = score_split(
            ready.predictor,
            state.variables,
            experiment,
            space=ready.space,
            split=split,
            report=report,
        )
        boundary = "  ".join(f"F({k}) {_written(v)}" for k, v in results["boundary_f"].items())
        report(
            f"validation at step {int(state.step)}: mIoU {_written(results['mIoU'])}  "
            f"pixel accuracy {_written(results['pixel_accuracy'])}  {boundary}"
        )
        if results["mIoU"] is None:
            report(f"no pixel of {split} has a label, so scores are not defined")
        if best is not None and (said := best.offer(state, results)) is not None:
            report(said)
        return results

    return validate


def _written(score: float | None) -> str:
    return "not defined" if score is None else f"{score:.4f}"
