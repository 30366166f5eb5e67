"""Whether SDC's similarities tell boundaries from what is inside: histograms, area under ROC."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.stats import rankdata
from tqdm import tqdm

from sdnjax.commands.trained import Trained
from sdnjax.data.pipeline.in_order import evaluation_examples
from sdnjax.errors import InputError
from sdnjax.files import write_atomically
from sdnjax.inference.scoring import extras_of
from sdnjax.models.inputs import inputs_of
from sdnjax.ops import resize_nearest
from sdnjax.ops.labels import IGNORE
from sdnjax.visualize import save_png
from sdnjax.visualize.histograms import histograms_picture

BINS = 40


def similarities(
    runs: Mapping[str, Trained],
    out: str | Path,
    *,
    split: str | None = None,
    examples: int = 100,
    report: Callable[[str], None] = tqdm.write,
) -> dict[str, Any]:
    """Writes `similarities.json` and `similarities.png` to `out`, and prints a line for each SDN.

    A pixel of a stage's grid has the mean of S over its neighbours. It is at a boundary if the
    labels, brought to the grid by nearest neighbours, hold another class among the 3×3 around it;
    pixels with void among them are left out. `auc` is the area under the ROC curve of 1 − S as a
    detector of boundaries: the probability that a boundary pixel has a smaller S than one inside,
    ½ for no relation at all.

    Args:
      runs: name → a network with SDC; each sees the pictures of its own data whole.
      split: None for data.val_split.
      examples: how many, from the first on.

    Returns: run → SDN → `auc`, and of `boundary` and `inside` `pixels`, `mean` and `histogram`, of
      which `edges` are the bins'.

    Raises: InputError for a network without SDC.
    """
    found = {name: _of_run(name, trained, split, examples) for name, trained in runs.items()}
    pictures = {}
    for name, stages in found.items():
        for stage, entry in stages.items():
            auc = _written(entry["auc"])
            means = "  ".join(f"{k} {_written(entry[k]['mean'])}" for k in ("boundary", "inside"))
            report(f"{name}, {stage}: AUC {auc}  mean S: {means}")
            series = {k: np.asarray(entry[k]["histogram"]) for k in ("boundary", "inside")}
            title = f"{name}, {stage}, AUC {auc}"
            pictures[title] = (np.asarray(entry["edges"]), series)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "similarities.json", json.dumps(found, indent=1) + "\n")
    save_png(out / "similarities.png", histograms_picture(pictures))
    report(f"written to {out / 'similarities'}.json and .png")
    return found


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive has the larger score, ties counting half; NaN without both.

    Args: scores [N]; positive, bool [N].
    """
    ones = int(positive.sum())
    zeros = positive.size - ones
    if not ones or not zeros:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def at_boundary(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of labels [H, W], bool each: what has another class among the 3×3 around it, and what has no
    void there."""
    lowest, highest = minimum_filter(label, 3), maximum_filter(label, 3)
    return lowest != highest, highest != IGNORE


def _of_run(name: str, trained: Trained, split: str | None, examples: int) -> dict[str, Any]:
    data = trained.experiment.data
    wanted = inputs_of(trained.network)
    values: dict[str, list[np.ndarray]] = {}
    edges: dict[str, list[np.ndarray]] = {}

    @jax.jit
    def look(variables: Any, images: jax.Array, extras: Any) -> Any:
        network: Any = trained.network
        _, kept = network.apply(variables, images, train=False, mutable=["intermediates"], **extras)
        return kept.get("intermediates", {})

    others = tuple(x for x in wanted if x != "picture")
    with evaluation_examples(data, split, extras=others) as found:
        for example in _first(found, examples):
            image = jnp.asarray(data.normalization(example.image))[None]
            read = extras_of(example, others)
            extras = {k: jnp.asarray(x, jnp.int32)[None] for k, x in read.items()}
            if "picture" in wanted:
                extras["picture"] = data.normalization.picture(image)
            kept = flatten_dict(jax.device_get(look(trained.variables, image, extras)), sep="/")
            for path, (s, *_) in sorted(kept.items()):
                if not path.endswith("/similarity"):
                    continue
                small = resize_nearest(example.label[..., None], s.shape[1:3])
                boundary, known = at_boundary(np.asarray(small)[..., 0])
                stage = path.removesuffix("/similarity")
                values.setdefault(stage, []).append(np.asarray(s[0], np.float32)[known])
                edges.setdefault(stage, []).append(boundary[known])
    if not values:
        raise InputError(f"{name}: {trained.experiment.network_title} has no SDC, whose S is shown")
    return {
        stage: _entry(np.concatenate(values[stage]), np.concatenate(edges[stage]))
        for stage in values
    }


def _entry(s: np.ndarray, boundary: np.ndarray) -> dict[str, Any]:
    low = min(0.0, float(s.min()))  # a cosine may be negative
    bins = np.linspace(low, 1, BINS + 1)
    parts = {"boundary": s[boundary], "inside": s[~boundary]}
    return {
        "auc": None if not 0 < boundary.sum() < s.size else area_under_roc(-s, boundary),
        "edges": bins.tolist(),
        **{
            name: {
                "pixels": int(part.size),
                "mean": float(part.mean()) if part.size else None,
                "histogram": np.histogram(np.minimum(part, 1), bins)[0].tolist(),
            }
            for name, part in parts.items()
        },
    }


def _written(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _first(items: Iterable[Any], count: int) -> Iterable[Any]:
    for i, item in enumerate(items):
        if i == count:
            return
        yield item
