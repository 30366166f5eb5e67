"""Evaluating a run: the same function for training's validation and for eval.py."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sdnjax.commands.counting import counted
from sdnjax.commands.trained import Step, check_classes, load_network
from sdnjax.data.data_settings import Data, dataset_of
from sdnjax.data.pipeline.in_order import evaluation_examples
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.data.sources import label_space_of
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.files import write_atomically
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import protocol_name
from sdnjax.inference.scoring import empty_metrics, evaluate
from sdnjax.metrics import SegmentationMetrics, format_table
from sdnjax.places import make_folder, place
from sdnjax.settings import to_dict
from sdnjax.training.together import gather
from sdnjax.visualize import confusion_picture, save_png, undrawable


def evaluate_run(
    workdir: str | Path,
    experiment: Experiment,
    *,
    step: Step = None,
    split: str | None = None,
    out: str | Path | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Scores the network of a work directory; prints the table and writes three files.

    NAME.json holds the scores, NAME_confusion.csv the confusion matrix in pixels, rows the
    truth, and NAME_confusion.png its picture.

    Args:
      experiment: the run's own (see `load_experiment`), or that with other settings of
        `data` and `evaluation`.
      step: of the checkpoint, or "best"; None for the latest.
      split: None for the experiment's validation split.
      out: the JSON file; None for one in `WORKDIR/evaluation` named after split, step and
        protocol.
      report: takes each line meant for people, on the first of several processes.
    """
    if jax.process_index() > 0:
        report = silent
    network = load_network(workdir, experiment, step)
    split = split or experiment.data.val_split
    if split is None:
        raise InputError("data.val_split is none: name the split with --split")
    space = label_space_of(experiment.data)
    check_classes(workdir, network.classes, space.classes)
    data = experiment.data
    predictor = network.predictor()
    metrics, results = score_split(
        predictor,
        network.variables,
        experiment,
        space=space,
        split=split,
        report=report,
    )
    where = f" of {data.dir}" if data.dir is not None else ""
    report(
        f"step {network.step} of {workdir} on {dataset_of(data).name}{where}, {split}: "
        f"{results['images']} image(s)"
    )
    report(format_table(results, network.classes))
    report(
        f"compiled for {predictor.compilations['network']} size(s) of the network's input, and "
        f"{predictor.compilations['resampling']} pieces that resize and average"
    )
    if jax.process_index() == 0:
        settings = {"split": split, "step": network.step, "classes": list(network.classes)}
        settings |= {"data": _scored_data(data)}
        settings |= {"evaluation": to_dict(experiment.evaluation)}
        name = f"{split}_{network.step}_{protocol_name(experiment.evaluation)}"
        folder = place(workdir) / "evaluation"
        out = _free_name(folder, name, settings) if out is None else place(out)
        make_folder(out.parent)
        write_atomically(out, json.dumps({**settings, "results": results}, indent=1) + "\n")
        confusion = metrics["MeanIoU"].confusion
        beside = out.with_name(f"{out.stem}_confusion.csv")
        write_confusion(beside, confusion, network.classes)
        save_png(beside.with_suffix(".png"), confusion_picture(confusion, network.classes))
        if lost := undrawable(network.classes):
            report(lost)
        report(f"written to {out} and {beside.stem}.csv, .png")
    return results


def _scored_data(data: Data) -> dict[str, Any]:
    """What tells one set of pictures from another."""
    return {"name": dataset_of(data).name, "dir": data.dir and str(Path(data.dir).resolve())}


def _free_name(folder: Path, name: str, settings: dict[str, Any]) -> Path:
    """`NAME.json`, or `NAME_2.json` and on, where scores of other pictures or settings have it."""
    wanted = json.loads(json.dumps(settings))
    for number in itertools.count(1):
        path = folder / (f"{name}.json" if number == 1 else f"{name}_{number}.json")
        try:
            there = json.loads(path.read_text())
        except FileNotFoundError:
            return path
        except (OSError, ValueError):
            continue
        if isinstance(there, dict) and all(there.get(key) == wanted[key] for key in wanted):
            return path
    raise AssertionError("there is always a next number")


def score_split(
    predictor: Predictor,
    variables: Any,
    experiment: Experiment,
    *,
    space: LabelSpace,
    split: str,
    report: Callable[[str], None],
) -> tuple[SegmentationMetrics, dict[str, Any]]:
    """Sums and scores on a split by the experiment's protocol, for training and eval.py alike."""
    examples = evaluation_examples(
        experiment.data,
        split,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        extras=predictor.extras,
    )
    metrics = evaluate(
        predictor,
        variables,
        counted(examples, examples.total, f"{split}", report),
        num_classes=space.num_classes,
        protocol=experiment.evaluation,
    )
    messages = [m for own in gather(list(examples.failures.messages.values())) for m in own]
    report_failures(messages, report)
    return metrics, metrics.compute() | {"skipped_images": len(messages)}


def try_evaluation(
    predictor: Predictor, abstract: Any, experiment: Experiment, k: int
) -> dict[str, Any] | None:
    """What evaluation would stumble over, told before training: its settings, the first picture of
    the split, and whether the network takes pictures of that size.

    Args:
      abstract: shapes and types of the network's variables.
      k: number of classes.

    Returns scores of that picture, as if everything were predicted as class 0, for their names;
    None if there is no picture that can be read.

    Raises: InputError that names the setting or the file.
    """
    with evaluation_examples(
        experiment.data,
        experiment.data.val_split,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        extras=predictor.extras,
    ) as examples:
        for example in itertools.islice(examples, 1):
            predictor.check(abstract, example.image.shape[:2])
            metrics = empty_metrics(k, experiment.evaluation)
            zeros = np.zeros_like(example.label)
            return metrics.update(example.label, zeros, example.name).compute()
    return None


def write_confusion(path: Path, confusion: np.ndarray, classes: Sequence[str]) -> None:
    """A confusion matrix as CSV: a row for each true class, a column for each predicted one."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["truth \\ prediction", *classes])
    rows.writerows([name, *row] for name, row in zip(classes, confusion.tolist(), strict=True))
    write_atomically(path, text.getvalue())


def silent(line: str) -> None:
    """Of several processes, one reports."""


def report_failures(messages: Sequence[str], report: Callable[[str], None]) -> None:
    """The files that were left out, each once."""
    for message in messages:
        report(f"left out: {message}")
    if messages:
        report(f"{len(messages)} example(s) left out because of unreadable files")
