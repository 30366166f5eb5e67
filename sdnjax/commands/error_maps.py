"""Where several networks are wrong, side by side: SDN's Fig. 1 and 5."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from sdnjax.commands.pictures import claim
from sdnjax.commands.trained import Trained, check_classes
from sdnjax.data import Data, evaluation_examples
from sdnjax.data.data_settings import dataset_of
from sdnjax.errors import InputError, unknown
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.scoring import check_canvas, extras_of
from sdnjax.ops.labels import IGNORE
from sdnjax.visualize import colorize, error_map, panel, save_png, shown


class _Kept(NamedTuple):
    """An example and what the networks made of it; ordered by how much they differ."""

    difference: int
    place: int
    example: Any
    predictions: list[np.ndarray]


def compare_errors(
    runs: Mapping[str, Trained],
    data: Data,
    split: str,
    out: str | Path,
    *,
    examples: Sequence[str] = (),
    count: int = 4,
    report: Callable[[str], None] = tqdm.write,
) -> list[Path]:
    """Sheets `NAME_errors.png`: picture, truth, and of each run its labels and its error map.

    Each network is asked by its own run's protocol. In an error map what is right is dim, what is
    wrong bright, void blue-grey; its title says the share of the labelled pixels that is wrong.

    Args:
      runs: name → network; all of the data set's classes. One is enough.
      data, split: the examples.
      out: folder to write to; nothing is overwritten but what an earlier call has written.
      examples: names of those that are wanted, as check.py and errors give them; none for the
        `count` in which the runs' errors differ in the most pixels (of one run: the most errors).

    Returns the files.

    Raises: InputError for other classes, an unknown example, and inputs that the data lack.
    """
    predictors = {
        name: Predictor(run.network, run.experiment.evaluation, data.normalization)
        for name, run in runs.items()
    }
    variables = {name: predictors[name].place(run.variables) for name, run in runs.items()}
    wanted = tuple(dict.fromkeys(extra for p in predictors.values() for extra in p.extras))
    kept: list[_Kept] = []
    names: list[str] = []
    with evaluation_examples(data, split, extras=wanted) as found:
        for name, run in runs.items():
            check_classes(name, run.classes, found.label_space.classes)
        palette = found.label_space.palette
        for place, example in enumerate(tqdm(found, total=found.total, unit="image", disable=None)):
            names.append(example.name)
            if examples and example.name not in examples:
                continue
            predictions = []
            for name, predictor in predictors.items():
                check_canvas(
                    example.image.shape[:2], runs[name].experiment.evaluation, example.name
                )
                extras = [extras_of(example, predictor.extras)]
                predictions += predictor.labels(variables[name], [example.image], extras)
            own = _Kept(_difference(example.label, predictions), -place, example, predictions)
            heapq.heappush(kept, own)
            if not examples and len(kept) > count:
                heapq.heappop(kept)
    for name in examples:
        if name not in names:
            few = f"; there are {len(names)}, such as {', '.join(names[:3])}"
            where = f"{dataset_of(data).name}, {split}: no example"
            raise unknown(where, name, names, otherwise=few)
    if not kept:
        raise InputError(f"{split} of the data set has no example that can be read")
    out = Path(out)
    chosen = sorted(kept, reverse=True)
    files = [out / f"{one.example.name.replace('/', '_')}_errors.png" for one in chosen]
    claim(out, [file.name for file in files], (), by="figures.py")
    for one, file in zip(chosen, files, strict=True):
        label = one.example.label
        sheet = [shown(one.example.image), colorize(label, palette)]
        titles = ["picture", "truth"]
        valid = label != IGNORE
        shares = []
        for name, prediction in zip(runs, one.predictions, strict=True):
            wrong = np.count_nonzero((prediction != label) & valid) / max(1, valid.sum())
            sheet += [colorize(prediction, palette), error_map(label, prediction)]
            titles += [name, f"wrong: {wrong:.2%}"]
            shares.append(f"{name} {wrong:.2%}")
        save_png(file, panel([sheet], titles))
        report(f"{one.example.name}: wrong {', '.join(shares)}")
    report(f"{len(files)} sheet(s) written to {out}")
    return files


def _difference(label: np.ndarray, predictions: Sequence[np.ndarray]) -> int:
    """Labelled pixels that some run has right and another wrong; of one run, those it has wrong."""
    right = np.stack([p == label for p in predictions])[:, label != IGNORE]
    if len(predictions) == 1:
        return int(np.count_nonzero(~right))
    return int(np.count_nonzero(right.any(0) & ~right.all(0)))
