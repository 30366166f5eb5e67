"""Class weights of trained networks at the boundaries of a data set: E-CRF's Fig. 1(a)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from tqdm import tqdm

from sdnjax.commands.trained import Trained, check_classes
from sdnjax.data import Data, evaluation_examples
from sdnjax.errors import InputError
from sdnjax.files import write_atomically
from sdnjax.metrics.adjacency import adjacent_pixels, most_adjacent, weight_similarity
from sdnjax.visualize import save_png
from sdnjax.visualize.scatter import scatter_picture


def compare_class_weights(
    runs: Mapping[str, Trained],
    data: Data,
    split: str,
    out: str | Path,
    *,
    report: Callable[[str], None] = tqdm.write,
) -> dict[str, float]:
    """How alike the class weights of classes that meet are, in one or more networks.

    Counts neighbouring pixels of every two classes in the labels of a split, takes for each class
    the one that it meets most, and the cosine of both classes' weights. Writes
    `class_weights.csv`, a row for each class, and `class_weights.png`, all networks in one plot.

    Args:
      runs: name → network; all of the data set's classes.
      data, split: whose labels are counted, at their own size.
      out: folder to write to.

    Returns the mean over classes by name of the run.

    Raises: InputError for other classes, and for a network without class weights.
    """
    with evaluation_examples(data, split) as examples:
        classes = examples.label_space.classes
        for name, trained in runs.items():
            check_classes(name, trained.classes, classes)
        weights = {name: class_weights(name, trained) for name, trained in runs.items()}
        counts = np.zeros((len(classes),) * 2, np.int64)
        for example in tqdm(examples, total=examples.total, unit="image", disable=None):
            counts += adjacent_pixels(example.label, len(classes))
    pairs = most_adjacent(counts)
    if not len(pairs.classes):
        raise InputError(f"{split} of the data set has no two classes that meet")
    found = {name: weight_similarity(w, pairs) for name, w in weights.items()}

    out = Path(out)
    rows: list[Sequence[Any]] = [("class", "meets", "pixels", *found)]
    for i, (k, partner, count) in enumerate(zip(*pairs, strict=True)):
        similarities = [f"{values[i]:.6f}" for values in found.values()]
        rows.append((classes[k], classes[partner], int(count), *similarities))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "class_weights.csv", text.getvalue())
    titles = ("neighbouring pixels of a class and the one that it meets most", "cosine of weights")
    picture = scatter_picture(pairs.counts, list(found.items()), titles)
    save_png(out / "class_weights.png", picture)
    alone = len(classes) - len(pairs.classes)
    apart = f"; {alone} that meet no other are left out" if alone else ""
    report(f"{len(pairs.classes)} classes{apart}; mean cosine with the one that each meets most:")
    means = {name: float(values.mean()) for name, values in found.items()}
    for name, mean in means.items():
        report(f"  {name}: {mean:.4f}")
    report(f"written to {out}: class_weights.csv, class_weights.png")
    return means


def class_weights(name: str, trained: Trained) -> np.ndarray:
    """The rows of a network's classifier, `[K, C]`, without its bias.

    Raises: InputError for one that has none: whose classes are queries, say.
    """
    leaves = flatten_dict(trained.variables["params"], sep="/")
    count = len(trained.classes)
    kernels = [
        np.asarray(x).reshape(-1, count)
        for path, x in sorted(leaves.items())
        if path.startswith("classifier/") and path.endswith("/kernel") and x.shape[-1] == count
    ]
    if not kernels:
        raise InputError(f"{name}: {trained.experiment.network_name} has no weights of classes")
    return np.concatenate(kernels).T
