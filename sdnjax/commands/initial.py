"""The state that a run starts from: new, or with the weights of another run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, SingleDeviceSharding

from sdnjax.commands.pretrained import is_pretrained, read_description, read_variables
from sdnjax.convert.load import shorten, summary
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.models import Model
from sdnjax.places import place
from sdnjax.recipe import Recipe, with_shardings
from sdnjax.training.checkpoints import abstract_variables, describe, find_checkpoint, load_items
from sdnjax.training.state import TrainState


def first_state(
    experiment: Experiment,
    recipe: Recipe,
    classes: Sequence[str],
    mesh: Mesh,
    report: Callable[[str], None],
) -> TrainState:
    """The state at step 0: initial values, and in their place what `init_from` has.

    Raises: InputError if the run there has something else than this network.
    """
    state = recipe.new_state(mesh)
    if experiment.init_from is None:
        return state
    source = place(experiment.init_from)
    if source.is_file():
        raise InputError(
            f"init_from: {source} is a file: convert it (python convert.py from-torch CONFIG "
            f"{source} --workdir FOLDER), and name that folder"
        )
    if not (source / "config.json").is_file():
        raise InputError(f"init_from: {source} is no work directory")
    description, theirs, step = _network_there(source)
    _check_details(experiment, description["experiment"], source)
    initial = flat(state.variables)
    others = tuple(description["classes"])
    taken, kept = transferred(
        initial,
        theirs,
        _class_axes(experiment, recipe.num_classes, initial, classes, others),
        ours=classes,
        others=others,
        without=experiment.init_without,
        where=str(source),
    )
    new = initial.keys() - taken.keys()
    report(
        f"{len(taken)}/{len(initial)} tensors taken from step {step} of {source}; new: "
        f"{summary(new, '/')}{kept}"
    )
    # A network may have no statistics.
    empty: dict[str, Any] = {kind: {} for kind in dict(state.variables)}
    variables = empty | unflatten_dict({**initial, **taken}, sep="/")
    placed = jax.tree.map(
        lambda new, old: jax.device_put(jnp.asarray(new, old.dtype), old.sharding),
        variables,
        dict(state.variables),
    )
    average = None if state.average is None else jax.tree.map(jnp.copy, placed["params"])
    return state.replace(
        params=placed["params"], batch_stats=placed["batch_stats"], average=average
    )


def _network_there(source: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """What a work directory, or a folder of `save_pretrained`, says of its network; the leaves
    by path; the step they are of."""
    if is_pretrained(source):
        description = read_description(source)
        return description, read_variables(source, description), description["step"]
    path = find_checkpoint(source / "checkpoints")
    device = SingleDeviceSharding(jax.local_devices()[0])
    theirs = load_items(path, with_shardings(abstract_variables(path), device))
    return describe(path), flat(theirs), int(path.name)


def _check_details(experiment: Experiment, saved: dict[str, Any], source: Path) -> None:
    """InputError if the weights are of a network that has the same leaves and other details."""
    model, there = experiment.model, saved.get("model")
    if not isinstance(model, Model) or not isinstance(there, dict):
        return
    if there.get("name") != model.name:
        return
    colours = there.get("difnet", {}).get("preprocessing", "rgb")
    details = {
        "like": (there.get("like", "mmseg"), model.like),
        "difnet": (colours, model.difnet.preprocessing),
    }
    for part, (theirs, ours) in details.items():
        if part not in model.unused() and theirs != ours:
            key = "model.difnet.preprocessing" if part == "difnet" else f"model.{part}"
            raise InputError(
                f"init_from: {source} is a network with {key} {theirs}, here it is {ours}: ask for "
                f"--{key} {theirs}"
            )


def transferred(
    initial: Mapping[str, Any],
    theirs: Mapping[str, Any],
    class_axes: Mapping[str, int],
    *,
    ours: Sequence[str],
    others: Sequence[str],
    without: Sequence[str],
    where: str,
) -> tuple[dict[str, Any], str]:
    """What is taken of another network's variables, by path, and a word on the classes.

    A leaf of the same path and shape is taken. One that has a place for every class keeps, of each
    class that both know by name, that place; the other places stay as they are initially. If no
    class is common the whole leaf stays.

    Args:
      initial: this network's variables.
      theirs: the other's.
      class_axes: the axis of each leaf that grows with the number of classes.
      ours, others: names of the classes here and there, in order.
      without: parts ("neck", "decoder") of which nothing is taken, nor missed.
      where: the other run, for errors.

    Raises: InputError that names what does not fit and the setting that leaves it out.
    """

    def left_out(path: str) -> bool:
        return any(f"/{part.strip('/')}/" in f"/{path}/" for part in without)

    for part in without:
        if not any(f"/{part.strip('/')}/" in f"/{path}/" for path in [*initial, *theirs]):
            parts = sorted({path.split("/")[1] for path in initial})
            raise InputError(
                f"init_without: there is no part {part!r}; there are {', '.join(parts)}"
            )
    common = [(others.index(name), k) for k, name in enumerate(ours) if name in others]
    taken: dict[str, Any] = {}
    problems = [
        f"{path} is missing there" for path in initial if path not in theirs and not left_out(path)
    ]
    for path, value in theirs.items():
        if left_out(path):
            continue
        if path not in initial:
            problems.append(f"{path} is there alone")
            continue
        shape, axis = initial[path].shape, class_axes.get(path)
        if axis is not None:
            extra = shape[axis] - len(ours)  # MaskFormer's class for "no object"
            fits = value.shape[axis] - len(others) == extra
            fits &= _without(value.shape, axis) == _without(shape, axis)
            if fits and common:
                taken[path] = _by_class(initial[path], value, axis, common, extra)
            elif not fits:
                problems.append(f"{path} is {value.shape} there, {shape} here")
        elif value.shape != shape:
            problems.append(f"{path} is {value.shape} there, {shape} here")
        else:
            taken[path] = value
    if problems:
        parts = sorted({problem.split(" ")[0].split("/")[1] for problem in problems})
        raise InputError(
            f"init_from: {where} has another network: {shorten(problems, 3)}; "
            f"init_without {','.join(parts)} leaves out what differs"
        )
    if not class_axes:
        return taken, ""
    same = "all" if tuple(ours) == tuple(others) else str(len(common))
    rest = "" if same == "all" else ", the others start anew"
    return taken, f"; {same} of {len(ours)} classes kept by name{rest}"


def _class_axes(
    experiment: Experiment,
    num_classes: int,
    leaves: Mapping[str, Any],
    ours: Sequence[str],
    others: Sequence[str],
) -> dict[str, int]:
    """The axis in which each leaf grows with one class more."""
    if getattr(experiment.model, "binary", False):
        # One logit for two classes has no place for each of them.
        without = set(experiment.init_without)
        parts = {path.split("/")[1] for path in leaves} & {"classifier", "auxiliary"}
        if tuple(ours) != tuple(others) and not parts <= without:
            raise InputError(
                f"init_from: one logit (model.binary) tells {', '.join(others)} apart there, "
                f"{', '.join(ours)} here; init_without {','.join(sorted(parts))} starts it anew"
            )
        return {}
    if not getattr(experiment.network(num_classes), "class_axes", True):
        return {}  # SegFix's network: directions, whatever the classes are
    larger = flat(experiment.build(num_classes + 1).abstract_state().variables)
    return {
        path: next(
            i for i, (a, b) in enumerate(zip(x.shape, larger[path].shape, strict=True)) if a != b
        )
        for path, x in leaves.items()
        if x.shape != larger[path].shape
    }


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(shape[:axis]) + tuple(shape[axis + 1 :])


def _by_class(
    initial: Any, theirs: Any, axis: int, common: Sequence[tuple[int, int]], extra: int
) -> np.ndarray:
    """`initial` with the places of common classes, and those behind all classes, from `theirs`."""
    found = np.moveaxis(np.array(initial), axis, 0)
    values = np.moveaxis(np.asarray(theirs), axis, 0)
    for there, here in common:
        found[here] = values[there]
    if extra:
        found[-extra:] = values[-extra:]
    return np.moveaxis(found, 0, axis)


def flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    """`params/backbone/…` → leaf."""
    return flatten_dict(dict(variables), sep="/")
