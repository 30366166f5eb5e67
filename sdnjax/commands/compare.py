"""A converted network against what PyTorch saved: activations, parameters, one training step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

from sdnjax.commands.trained import load_network
from sdnjax.convert.compare import (
    AxisOrder,
    compare_activations,
    compare_tensors,
    departures,
    format_differences,
    saved_inputs,
)
from sdnjax.convert.files import read_file
from sdnjax.convert.rows import Row
from sdnjax.convert.state_dict import find_state_dict, strip_prefix
from sdnjax.convert.tables import find_table
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.recipe import Recipe

KINDS = ("activations", "parameters", "gradients", "step")


@dataclass(frozen=True)
class Saved:
    """A file from PyTorch: what is compared, and the batch that it came from."""

    tensors: dict[str, np.ndarray]
    images: np.ndarray | None
    labels: np.ndarray | None

    def batch(self, path: Path, *names: str) -> tuple[np.ndarray, ...]:
        """Images and labels; InputError if they were not saved."""
        for name in names:
            if getattr(self, name) is None:
                raise InputError(f"{path} has no tensor {name!r}: save the batch with the rest")
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
        changes gradients by more than any error would.
      lines: most lines of a table, None for all.

    Returns whether everything agrees to `tolerance`.
    """
    trained = load_network(workdir, experiment)
    names = find_table(table, experiment.network_name)
    rows = names.rows(trained.network)
    agree = True
    with jax.enable_x64(True) if double else contextlib.nullcontext():
        dtype = np.float64 if double else np.float32
        recipe = experiment.build(len(trained.classes), dtype=dtype if double else None)
        # The whole batch as PyTorch had it, which nothing augments.
        recipe = dataclasses.replace(recipe, augment=None)
        variables = jax.tree.map(lambda x: np.asarray(x, dtype), trained.variables)
        for kind, path in ((kind, Path(file)) for kind, file in files.items()):
            saved = _read(path, rows, layout, dtype)
            if kind == "activations":
                found = compare_activations(
                    recipe.network,
                    variables,
                    rows,
                    saved.tensors,
                    saved.batch(path, "images")[0],
                    layout=layout,
                )
            elif kind == "parameters":
                found = compare_tensors(rows, variables, saved.tensors)
            else:
                batch = saved.batch(path, "images", "labels")
                extras = saved_inputs(recipe.network, saved.tensors, batch[0])
                ours = _trained_once(kind, recipe, variables, batch, extras)
                floor = 1e-3 if kind == "gradients" else 0.0
                found = compare_tensors(rows, ours, saved.tensors, floor=floor)
            report(f"{kind}, {path}:")
            report(format_differences(found, tolerance, lines))
            agree &= not departures(found, tolerance)
    return agree


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
            recipe.init_state(variables), {"image": images, "label": labels, **extras}
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


def _read(path: Path, rows: list[Row], layout: AxisOrder, dtype: Any) -> Saved:
    """A file's tensors; `images` to channels last, `labels` to `[B, H, W]`."""
    tensors = find_state_dict(read_file(path), str(path))
    images, labels = tensors.pop("images", None), tensors.pop("labels", None)
    if images is not None:
        if images.ndim != 4:
            raise InputError(f"{path}: images must be [B, 3, H, W], not {images.shape}")
        first = layout == "nchw" or (layout == "auto" and images.shape[1] == 3)
        images = np.asarray(images.transpose(0, 2, 3, 1) if first else images, dtype)
    if labels is not None:
        labels = labels.reshape(labels.shape[0], *labels.shape[-2:]).astype(np.int32)
    tensors = strip_prefix(tensors, {row.tensor for row in rows}, str(path))
    return Saved(tensors, images, labels)
