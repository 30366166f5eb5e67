"""Evaluating a run: the same function for training's validation and for eval.py."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn

from sdnjax.config import to_dict
from sdnjax.data.evaluation import evaluation_examples
from sdnjax.data.images import normalize
from sdnjax.data.label_spaces import LabelSpace
from sdnjax.data.sources import Failures, label_space_of
from sdnjax.experiment import Experiment
from sdnjax.inference.config import Evaluation
from sdnjax.inference.evaluation import evaluate
from sdnjax.inference.predictor import Predictor
from sdnjax.metrics import format_table
from sdnjax.runs.network import check_classes, load_network


def evaluate_run(
    workdir: Path,
    experiment: Experiment,
    *,
    step: int | None = None,
    split: str | None = None,
    out: Path | None = None,
    model: nn.Module | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Scores the network of a work directory; prints the table and writes JSON.

    Args:
      experiment: the run's own (see `load_experiment`), or that with other settings of
        `data` and `evaluation`.
      step: of the checkpoint; None for the latest.
      split: None for the experiment's validation split.
      out: the JSON file; None for one in `WORKDIR/evaluation` named after split, step and
        protocol.
      model: the module, if it is not the one that the experiment describes.
    """
    network = load_network(workdir, step, model)
    split = split or experiment.data.val_split
    space = label_space_of(experiment.data)
    check_classes(workdir, network.classes, space.classes)
    results = evaluate_split(
        Predictor(network.model, experiment.evaluation),
        network.variables,
        experiment,
        space=space,
        split=split,
        report=report,
    )
    report(format_table(results, network.classes))
    if jax.process_index() == 0:
        name = f"{split}_{network.step}_{_protocol_name(experiment.evaluation)}.json"
        out = out or workdir / "evaluation" / name
        settings = {"split": split, "step": network.step, "classes": list(network.classes)}
        settings |= {"evaluation": to_dict(experiment.evaluation)}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**settings, "results": results}, indent=1) + "\n")
        report(f"written to {out}")
    return results


def evaluate_split(
    predictor: Predictor,
    variables: Any,
    experiment: Experiment,
    *,
    space: LabelSpace,
    split: str,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Scores of `variables` on a split, by the experiment's protocol: training and eval.py."""
    examples = evaluation_examples(
        experiment.data,
        split,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    results = evaluate(
        predictor,
        variables,
        examples,
        normalize=functools.partial(normalize, data=experiment.data),
        num_classes=space.num_classes,
        protocol=experiment.evaluation,
    )
    report_failures(examples.failures, report)
    results["skipped_images"] = len(examples.failures)
    return results


def report_failures(failures: Failures, report: Callable[[str], None]) -> None:
    """The files that were left out, each once."""
    for message in failures.messages.values():
        report(f"left out: {message}")
    if failures:
        report(f"{len(failures)} example(s) left out because of unreadable files")


def _protocol_name(protocol: Evaluation) -> str:
    parts = [protocol.mode]
    if protocol.scales != (1.0,):
        parts.append("scales" + "-".join(f"{s:g}" for s in protocol.scales))
    return "_".join([*parts, "flip"] if protocol.flip else parts)
