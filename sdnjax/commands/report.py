"""A report of runs as one HTML file: what work directories hold, and pictures if asked for."""

from __future__ import annotations

import dataclasses
import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sdnjax.commands.trained import Trained, check_classes
from sdnjax.data.data_settings import Data, dataset_of
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.files import write_atomically
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation
from sdnjax.inference.scoring import check_canvas, empty_metrics, extras_of, groups_of_one_size
from sdnjax.models.summary import summarize
from sdnjax.ops.labels import IGNORE
from sdnjax.places import make_folder
from sdnjax.report.page import MARK, page
from sdnjax.report.records import Costs, RunRecord, Scores, read_run
from sdnjax.report.sections import Shown
from sdnjax.training.checkpoints import describe, find_checkpoint
from sdnjax.visualize import colorize, error_map, shown

# Tolerances of the boundary F-measure, in pixels, that are counted where the split is looked
# through anyway, besides a run's own: enough for a curve.
_WIDTHS = (1, 2, 3, 5, 9)
_LARGE = 8e6  # bytes of a report that are worth a word


def write_report(
    runs: Mapping[str, Path],
    out: Path,
    *,
    experiments: Mapping[str, Experiment],
    looked: Looked | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Writes the report of work directories, by the names that it gives them.

    Args:
      out: the HTML file; an earlier report there is overwritten, anything else never.
      experiments: of those runs whose network may be built, which takes running their code if
        they have some; the costs of others are left out.
      looked: what `look_through` found in the data set.

    Raises: InputError if there is no run, or `out` is something else.
    """
    check_out(out)
    records = []
    for name, path in runs.items():
        record = read_run(path, name, described=_described, report=report)
        if looked is not None:
            classes, palette, scores = looked.classes, looked.palette, looked.scores[name]
            record = dataclasses.replace(record, classes=classes, palette=palette, scores=scores)
        if name in experiments:
            costs = _costs(experiments[name], record)
            record = dataclasses.replace(record, costs=costs)
        records.append(record)
    note = f"Made {time.strftime('%Y-%m-%d %H:%M')}. Everything is in this file."
    text = page(records, {} if looked is None else looked.pictures, note)
    make_folder(out.parent)
    write_atomically(out, text)
    size = len(text.encode())
    report(f"written to {out} ({size / 1e6:.2f} MB)")
    if size > _LARGE:
        report("it is large: fewer --pictures make it smaller")
    return out


def check_out(out: Path) -> None:
    """InputError if a report would overwrite what is none."""
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name an HTML file")
    if out.is_file() and MARK.encode() not in out.read_bytes()[:1000]:
        raise InputError(f"--out {out} is there and no report: name another file")


@dataclasses.dataclass(frozen=True)
class Looked:
    """What a look through a split found: scores by run, and examples by their groups' titles."""

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    scores: Mapping[str, Scores]
    pictures: Mapping[str, Sequence[Shown]]


def look_through(runs: Mapping[str, Trained], data: Data, split: str, count: int) -> Looked:
    """Scores networks on a split, and finds the examples that are worst and most typical.

    Examples are ordered by the share of their labelled pixels that is wrong, the mean over runs;
    typical are those nearest to the median. The chosen ones are read and predicted again, so that
    no others have to be kept.

    Args:
      runs: networks by the names of their runs; each is evaluated by its own settings.
      count: of the worst, and of the most typical ones.

    Raises: InputError for other classes, or if nothing can be read.
    """
    from sdnjax.data import evaluation_examples  # noqa: PLC0415  (reads data: only for pictures)

    predictors = {
        name: Predictor(run.network, run.experiment.evaluation, data.normalization, run.mirrored)
        for name, run in runs.items()
    }
    variables = {name: predictors[name].place(run.variables) for name, run in runs.items()}
    extras = tuple(dict.fromkeys(x for p in predictors.values() for x in p.extras))

    size = min(run.experiment.evaluation.batch_size for run in runs.values())

    def predicted(group: Sequence[Any]) -> list[dict[str, np.ndarray]]:
        """Of each example of one size, what every run makes of it."""
        found: list[dict[str, np.ndarray]] = [{} for _ in group]
        for name, predictor in predictors.items():
            check_canvas(group[0].image.shape[:2], runs[name].experiment.evaluation, group[0].name)
            own = [extras_of(example, predictor.extras) for example in group]
            labels = predictor.labels(variables[name], [e.image for e in group], own)
            for labels_of, label in zip(found, labels, strict=True):
                labels_of[name] = label
        return found

    shares: dict[str, float] = {}
    with evaluation_examples(data, split, extras=extras) as examples:
        space = examples.label_space
        metrics = {}
        for name, run in runs.items():
            check_classes(name, run.classes, space.classes)
            metrics[name] = empty_metrics(space.num_classes, _widened(run.experiment.evaluation))
        told = tqdm(examples, total=examples.total, unit="image", disable=None)
        for group in groups_of_one_size(told, size):
            for example, labels in zip(group, predicted(group), strict=True):
                for name, label in labels.items():
                    metrics[name] = metrics[name].update(example.label, label, example.name)
                if (example.label != IGNORE).any():
                    wrong = [_wrong(example.label, label) for label in labels.values()]
                    shares[example.name] = sum(wrong) / len(wrong)
    if not shares:
        raise InputError(f"{split} of the data set has no labelled example that can be read")
    scores = {}
    for name, metric in metrics.items():
        words = (
            f"{dataset_of(data).name}, {split}, step {runs[name].step}, all of it for this report"
        )
        scores[name] = Scores(metric.compute(), words, metric["MeanIoU"].confusion)
    worst, typical = chosen(shares, count)
    found: dict[str, Shown] = {}
    with evaluation_examples(data, split, extras=extras) as examples:
        for example in examples:
            if example.name in worst or example.name in typical:
                (labels,) = predicted([example])
                found[example.name] = _shown(example, labels, shares[example.name], space.palette)
            if len(found) == len(worst) + len(typical):
                break
    pictures = {
        "The worst": [found[name] for name in worst],
        "The most typical (nearest to the median)": [found[name] for name in typical],
    }
    return Looked(space.classes, space.palette, scores, pictures)


def chosen(shares: Mapping[str, float], count: int) -> tuple[list[str], list[str]]:
    """The names of the `count` largest shares, and of the others nearest to the median of all."""
    worst = heapq.nlargest(count, shares, key=lambda name: shares[name])
    middle = float(np.median(list(shares.values())))
    others = [name for name in shares if name not in worst]
    return worst, heapq.nsmallest(count, others, key=lambda name: abs(shares[name] - middle))


def _widened(evaluation: Evaluation) -> Evaluation:
    """With more tolerances of the boundary F-measure."""
    own = evaluation.boundary_thresholds
    return dataclasses.replace(
        evaluation, boundary_thresholds=tuple(sorted({float(t) for t in (*own, *_WIDTHS)}))
    )


def _wrong(label: np.ndarray, prediction: np.ndarray) -> float:
    valid = label != IGNORE
    return float(np.count_nonzero((prediction != label) & valid) / np.count_nonzero(valid))


def _shown(example: Any, labels: Mapping[str, np.ndarray], share: float, palette: Any) -> Shown:
    pictures = [
        ("picture", shown(example.image), True),
        ("truth", colorize(example.label, palette), False),
    ]
    for name, label in labels.items():
        wrong = _wrong(example.label, label)
        pictures += [
            (name, colorize(label, palette), False),
            (f"{name}: {wrong:.2%} wrong (bright)", error_map(example.label, label), False),
        ]
    return Shown(f"{example.name}: {share:.2%} wrong", pictures)


def _described(workdir: Path) -> Mapping[str, Any]:
    return describe(find_checkpoint(workdir / "checkpoints"))


def _costs(experiment: Experiment, record: RunRecord) -> Costs | None:
    """Of one picture of a crop's size, by tracing; None if nothing tells how many classes."""
    if not record.classes:
        return None
    size, channels = experiment.data.crop_size, len(experiment.data.mean)
    network = experiment.network(len(record.classes))
    whole = summarize(network, size, channels=channels)[0]
    return Costs(size, whole.parameters, whole.multiply_adds, whole.activation_bytes)
