"""A converted network against what PyTorch saved: activations, parameters, one training step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from sdnjax.commands.trained import Trained, load_network
from sdnjax.convert.compare import (
    AxisOrder,
    Difference,
    activations,
    compare_tensors,
    departures,
    format_differences,
    match_activations,
    matching_modules,
    saved_inputs,
    spread,
)
from sdnjax.convert.context import network_rows
from sdnjax.convert.files import read_file
from sdnjax.convert.load import shorten
from sdnjax.convert.rows import Row
from sdnjax.convert.state_dict import as_array, find_tensors
from sdnjax.convert.tables import find_table
from sdnjax.convert.words import quoted, shown
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.models.inputs import INPUTS
from sdnjax.recipe import Recipe

KINDS = ("activations", "parameters", "gradients", "step")


@dataclass(frozen=True)
class Saved:
    """A file from PyTorch: what is compared, and the batch that it came from."""

    path: Path
    tensors: dict[str, np.ndarray]
    images: np.ndarray | None
    labels: np.ndarray | None
    notes: tuple[str, ...]

    def batch(self, *names: str) -> tuple[np.ndarray, ...]:
        """Images and labels; InputError if they were not saved."""
        for name in names:
            if getattr(self, name) is None:
                raise InputError(
                    f"{self.path} has no tensor {name!r}: save the batch with the rest"
                )
        return tuple(getattr(self, name) for name in names)


def compare_run(
    workdir: str | Path,
    experiment: Experiment,
    files: Mapping[str, str | Path],
    *,
    table: str | None = None,
    layout: AxisOrder = "auto",
    tolerance: float = 1e-5,
    double: bool = False,
    lines: int | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Compares the network of a work directory with files that PyTorch saved.

    Args:
      experiment: the run's own, or that with other settings of loss and optimizer.
      files: kind → file, each a `.safetensors`, `.npz` or `.pth` of tensors by name.
        "activations": outputs of modules in evaluation, and "images".
        "parameters": a state dict.
        "gradients": of the training loss by parameter, "images" and "labels".
        "step": the state dict after one step of the optimizer, "images" and "labels".
        Gradients and steps are computed without dropout: switch it off there too.
      layout: of four-dimensional activations and of images.
      double: compute in float64: in float32 a value that rounds across a ReLU's zero
        changes gradients by more than any error would. Without it, what departs in float32 is
        computed in float64 too, and that decides.
      lines: most lines of a table, None for all.

    Returns whether everything agrees to `tolerance`.
    """
    trained = load_network(workdir, experiment)
    rows = network_rows(find_table(table, experiment.network_name), trained.network)
    agree = True
    for kind, file in files.items():
        path, wide = Path(file), np.float64 if double else np.float32
        saved = _read(path, rows, layout)
        report(f"{kind}, {path}:")
        for note in saved.notes:
            report(note)
        if kind in ("gradients", "step"):
            report(f"computed with {_what_trains(kind, experiment)}")
        ours = _computed(kind, experiment, trained, saved, wide)
        skipped: list[str] = []
        found = _differences(kind, rows, ours, saved, layout=layout, skipped=skipped.append)
        if skipped:
            report(
                f"{len(skipped)} of {len(saved.tensors)} names have no counterpart here and are "
                f"not compared: {shorten([quoted(name) for name in skipped], 5)}"
            )
        report(format_differences(found, tolerance, lines))
        apart = departures(found, tolerance)
        if apart and not double and kind != "parameters":
            exact = _computed(kind, experiment, trained, saved, np.float64)
            again = _differences(kind, rows, exact, saved, layout=layout, skipped=_ignore)
            apart = departures(again, tolerance)
            own = spread(ours.arrays, exact.arrays, FLOORS.get(kind, 0.0))
            report(_in_double(again, apart, own, saved, tolerance))
        agree &= not apart
    return agree


FLOORS = {"gradients": 1e-3}


class Computed(NamedTuple):
    """What this side has: arrays by path, and for activations their order."""

    arrays: dict[str, np.ndarray]
    order: dict[str, float]


def _computed(
    kind: str,
    experiment: Experiment,
    trained: Trained,
    saved: Saved,
    dtype: Any,
) -> Computed:
    """Activations, parameters, gradients or parameters after a step, in float32 or float64."""
    with jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext():
        wide = dtype if dtype == np.float64 else None
        recipe = experiment.build(len(trained.classes), dtype=wide)
        # The whole batch as PyTorch had it, which nothing augments.
        recipe = dataclasses.replace(recipe, augment=None)
        variables = jax.tree.map(lambda x: np.asarray(x, dtype), trained.variables)
        if kind == "parameters":
            return Computed(flatten_dict(variables, sep="/"), {})
        if kind == "activations":
            (images,) = saved.batch("images")
            images = images.astype(dtype)
            extras = saved_inputs(recipe.network, saved.tensors, images)
            return Computed(*activations(recipe.network, variables, images, extras))
        images, labels = saved.batch("images", "labels")
        images = images.astype(dtype)
        extras = saved_inputs(recipe.network, saved.tensors, images)
        ours = _trained_once(kind, recipe, variables, (images, labels), extras)
        flat = flatten_dict(dict(ours), sep="/")
        return Computed({name: np.asarray(x) for name, x in flat.items()}, {})


def _differences(
    kind: str,
    rows: list[Row],
    ours: Computed,
    saved: Saved,
    *,
    layout: AxisOrder,
    skipped: Callable[[str], None],
) -> list[Difference]:
    if kind == "activations":
        others = {k: x for k, x in saved.tensors.items() if k not in INPUTS}
        return match_activations(
            rows, ours.arrays, ours.order, others, layout=layout, skipped=skipped
        )
    tree = unflatten_dict(ours.arrays, sep="/")
    return compare_tensors(rows, tree, saved.tensors, floor=FLOORS.get(kind, 0.0))


def _what_trains(kind: str, experiment: Experiment) -> str:
    """The settings that decide gradients or a step, for the reader to hold against PyTorch's."""
    losses = ", ".join(str(loss) for loss in experiment.resolved().losses or ())
    if kind == "gradients":
        return f"losses: {losses}"
    return f"losses: {losses}; optimizer: {experiment.optimizer}, step 1 of {experiment.steps}"


def _in_double(
    found: Sequence[Difference],
    apart: Sequence[Difference],
    own: float,
    saved: Saved,
    tolerance: float,
) -> str:
    """What float64 says where float32 departs."""
    largest = max(d.relative for d in (apart or found))
    text = f"in float64 here: {len(apart)} of {len(found)} depart by more than {tolerance:g}, "
    text += f"largest {largest:.2e}; float32 here is up to {own:.2e} away from float64 here"
    if not apart:
        return f"{text}: it was rounding, the computation is the same"
    if all(x.dtype != np.float64 for x in saved.tensors.values()):
        text += (
            "; the file holds float32, whose own rounding in PyTorch may be as large: save it "
            "from model.double() and ask for --double, which decides"
        )
    return text


def _ignore(_: str) -> None:
    """Names that were reported already."""


def _trained_once(
    kind: str,
    recipe: Recipe,
    variables: Any,
    batch: tuple[np.ndarray, ...],
    extras: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Gradients of one training step, or what it makes of parameters and statistics."""
    if kind == "gradients":
        recipe = dataclasses.replace(recipe, optimizer=_gradient_keeper())
    images, labels = batch
    with nn.intercept_methods(_without_dropout), jax.default_matmul_precision("highest"):
        state, _ = jax.jit(recipe.step)(
            recipe.init_state(variables),
            {"image": images, "label": labels, **extras},
            recipe.constants,
        )
    return {"params": state.opt_state} if kind == "gradients" else state.variables


def _gradient_keeper() -> optax.GradientTransformation:
    """An optimizer that changes nothing and whose state is the gradient."""
    return optax.GradientTransformation(
        init=lambda params: params,
        update=lambda gradient, state, params: (optax.tree.zeros_like(gradient), gradient),
    )


def _without_dropout(method: Any, args: tuple[Any, ...], kwargs: Any, context: Any) -> Any:
    return args[0] if isinstance(context.module, nn.Dropout) else method(*args, **kwargs)


def _read(path: Path, rows: list[Row], layout: AxisOrder) -> Saved:
    """A file's tensors; `images` to channels last, `labels` to `[B, H, W]`."""
    wanted = {row.tensor for row in rows} | matching_modules(rows).keys()
    found = find_tensors(read_file(path), wanted, str(path))
    tensors = {k: as_array(x, f"{path}: {shown(k)}") for k, x in found.state.items()}
    images, labels = tensors.pop("images", None), tensors.pop("labels", None)
    if images is not None:
        if images.ndim != 4:
            raise InputError(f"{path}: images must be [B, 3, H, W], not {images.shape}")
        first = layout == "nchw" or (layout == "auto" and images.shape[1] == 3)
        images = images.transpose(0, 2, 3, 1) if first else images
    if labels is not None:
        labels = labels.reshape(labels.shape[0], *labels.shape[-2:]).astype(np.int32)
    return Saved(path, tensors, images, labels, tuple(found.notes))
