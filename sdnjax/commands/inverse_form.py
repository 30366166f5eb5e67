"""Trains the regressor that a configuration's InverseForm reads.

python -m sdnjax.commands.inverse_form configs/shapes_fcn_r18_inverse_form.py

The labels' edge maps are moved by random shifts (up to a tenth of a tile) and scales (up to a
fifth), and three linear layers learn by how much: size, tiles and radius are those of the
configuration's InverseForm, and so is the file that is written. The labels are those of its
training crops; the error is given for crops of its validation split, which were not learnt from.
Neither the networks nor their training were released with InverseForm, only the result for 224×224
pixels; how this one is trained is our choice.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import optax
from tqdm import tqdm

from sdnjax.commands.command_line import from_config, parse_experiment, run
from sdnjax.convert.safetensors_file import write_safetensors
from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError, RunError
from sdnjax.experiment import Experiment
from sdnjax.files import replacing
from sdnjax.losses import InverseForm
from sdnjax.losses.inverse_form import NAMES, TILE
from sdnjax.options import OneLineParser
from sdnjax.training.regressor import (
    Layers,
    errors,
    initial_regressor,
    random_pairs,
    regressor_step,
)

HELD_OUT = 16  # batches


def train_regressor(
    experiment: Experiment,
    out: str | Path | None = None,
    *,
    steps: int = 2000,
    hidden: Sequence[int] = (1000, 32),
    learning_rate: float = 1e-3,
    report: Callable[[str], None] = tqdm.write,
) -> tuple[float, float]:
    """Trains a regressor for the experiment's InverseForm, and writes it.

    Args:
      experiment: its loss says what the regressor is for; data, batch size and seed are its own.
      out: a new file; None for the one that the loss reads.
      steps: of AdamW, at a learning rate that falls to 0 like a cosine.
      hidden: widths of the two hidden layers; the released one's are 1000 and 32.
      report: takes each line meant for people.

    Returns the error for crops that were not learnt from, and that of the answer 0: roots of mean
    squared lengths of (t_y/.1, t_x/.1, (s_y − 1)/.2, (s_x − 1)/.2).

    Raises:
      InputError: the experiment has no InverseForm, or there is such a file already.
      RunError: the error is not finite. Nothing is written then.
    """
    loss = _inverse_form(experiment)
    path = _new_file(out or loss.regressor)
    if steps < 1 or len(hidden) != 2 or min(hidden) < 1 or not learning_rate > 0:
        raise InputError(
            "steps and the learning rate must be above 0, and hidden two widths, not "
            f"{steps}, {learning_rate}, {tuple(hidden)}"
        )
    data, seed, size = experiment.data, experiment.seed, experiment.batch_size
    optimizer = optax.adamw(optax.cosine_decay_schedule(learning_rate, steps), weight_decay=1e-4)
    layers = initial_regressor(jax.random.key(seed), loss, hidden)
    state = optimizer.init(layers)
    step = jax.jit(regressor_step(loss, optimizer, seed), donate_argnums=(0, 1))
    report(
        f"{experiment.name}: tiles of {loss.tile[0]}×{loss.tile[1]} pixels, "
        f"{sum(x.size for layer in layers for x in layer) / 1e6:.2f} M parameters, {steps} steps"
    )
    recent = []
    for i, labels in enumerate(_labels(data, data.train_split, seed, size, steps)):
        layers, state, error = step(layers, state, labels, np.int32(i))
        recent.append(error)
        if i + 1 == steps or (i + 1) % 100 == 0:
            value = float(np.sqrt(np.mean(recent)))
            report(f"step {i + 1}/{steps}  error {value:.4f}")
            if not np.isfinite(value):
                raise RunError(f"the error is {value}: nothing is written; lower --learning-rate")
            recent = []
    ours, zero = _held_out(experiment, loss, layers)
    where = data.val_split or f"{data.train_split}, which it has learnt from: there is no val_split"
    report(f"error {ours:.4f} on crops of {where}; that of the answer 0 is {zero:.4f}")
    _write(path, layers, loss)
    report(f"written to {path}")
    return ours, zero


def _inverse_form(experiment: Experiment) -> InverseForm:
    found = {
        dataclasses.replace(x, weight=1.0, on="edge")
        for x in experiment.losses or ()
        if isinstance(x, InverseForm)
    }
    if len(found) != 1:
        has = "several InverseForms that differ" if found else "no InverseForm"
        raise InputError(
            f"{experiment.name} has {has} among its losses: name a configuration with one"
        )
    return found.pop()


def _new_file(out: str | Path | None) -> Path:
    if out is None:
        raise InputError("--out: name the file that is to be written")
    path = Path(out)
    if path.exists():
        raise InputError(f"{path} exists already: name another with --out, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _labels(data: Data, split: str, seed: int, size: int, count: int) -> Iterator[np.ndarray]:
    """Batches of labels of a split, cropped as in training."""
    # TensorFlow: not for --help.
    from sdnjax.data.pipeline.batches import train_batches  # noqa: PLC0415

    # The pictures are not used: they cost as little as they may.
    data = dataclasses.replace(data, train_split=split, augment_on="host", photometric=False)
    with train_batches(data, seed=seed, batch_size=size, stop_step=count) as batches:
        for batch in batches:
            yield batch["label"]


def _held_out(experiment: Experiment, loss: InverseForm, layers: Layers) -> tuple[float, float]:
    """Roots of the mean squares of our errors and of the answers themselves."""
    split = experiment.data.val_split or experiment.data.train_split
    key = jax.random.key(~experiment.seed & 0xFFFFFFFF)  # moves that no step has made

    @jax.jit
    def sums(
        layers: Layers, labels: jax.Array, number: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        return errors(layers, random_pairs(jax.random.fold_in(key, number), labels, loss))

    seed, size = experiment.seed, experiment.batch_size
    batches = _labels(experiment.data, split, seed, size, HELD_OUT)
    found = [sums(layers, labels, np.int32(i)) for i, labels in enumerate(batches)]
    ours, zero, count = np.sum(np.asarray(found, np.float64), axis=0)
    if count == 0:
        raise InputError(f"{split} has no edges in {HELD_OUT} batches: nothing to learn from")
    return float(np.sqrt(ours / count)), float(np.sqrt(zero / count))


def _write(path: Path, layers: Layers, loss: InverseForm) -> None:
    arrays = [np.asarray(x) for layer in layers for x in layer]
    tensors = dict(zip(NAMES, arrays, strict=True)) | {TILE: np.array(loss.tile, np.int32)}
    with replacing(path) as temporary:
        write_safetensors(temporary, tensors)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = OneLineParser(
        usage="python -m sdnjax.commands.inverse_form CONFIG [options]", description=__doc__
    )
    parser.add_argument("source", metavar="CONFIG", help="a configuration with InverseForm")
    parser.add_argument("--out", type=Path, help="file to write [the one that InverseForm reads]")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps [%(default)s]")
    parser.add_argument(
        "--hidden",
        type=_widths,
        default=(1000, 32),
        metavar="N,N",
        help="widths of the hidden layers [1000,32]",
    )
    parser.add_argument(
        "--learning-rate", type=float, default=1e-3, help="of AdamW, at the start [%(default)s]"
    )
    options, experiment = parse_experiment(
        parser,
        "configuration file",
        from_config,
        arguments,
        uses=("data", "losses", "batch_size", "seed"),
    )
    train_regressor(
        experiment,
        options.out,
        steps=options.steps,
        hidden=options.hidden,
        learning_rate=options.learning_rate,
    )
    return 0


def _widths(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"must be two widths such as 1000,32, not {text!r}")
    return tuple(map(int, parts))


if __name__ == "__main__":
    sys.exit(run(main))
