"""What a network does inside, as sheets of pictures: the papers' figures, of its named outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sdnjax.visualize.maps import enlarged, heat, principal_colours
from sdnjax.visualize.panel import panel
from sdnjax.visualize.pictures import colorize

_POINT = (255, 40, 40)


def network_figures(
    outputs: Mapping[str, Any], picture: np.ndarray, palette: Any
) -> dict[str, np.ndarray]:
    """A sheet for each thing that the outputs show; empty where there is nothing of the kind.

    `scores`, `walks`: DifNet's Fig. 2 (scores, influence Σ|x|, importance) and Fig. 4 (the seed,
    and what each walk makes of it). `ecrf`: how large messages and superpixel means are beside
    the features. `neck`, `context`: principal components of features before and after it.

    Args:
      outputs: of one image, `[1, …]`.
      picture: uint8 [H, W, 3].
      palette: colours of the classes, [K, 3].
    """
    maps = {name: np.asarray(x[0]) for name, x in outputs.items() if np.ndim(x) == 4}
    size = picture.shape[:2]

    def labels(name: str) -> np.ndarray:
        return enlarged(colorize(maps[name].argmax(-1), palette), size)

    def magnitude(name: str) -> np.ndarray:
        return np.linalg.norm(maps[name].astype(np.float64), axis=-1)

    found = {}
    prediction = colorize(maps["logits"].argmax(-1), palette)
    if "importance" in maps:
        influence = heat(np.abs(maps["scores"]).sum(-1))
        importance = heat(maps["importance"][..., 0], 0, 1)
        row = [picture, labels("scores"), enlarged(influence, size), enlarged(importance, size)]
        found["scores"] = panel([row], ["picture", "scores", "influence", "importance"])
        walks = sorted(name for name in maps if name.startswith("walk"))
        row = [picture, labels("seed"), *map(labels, walks), prediction]
        titles = ["picture", "seed", *(f"walk {name[4:]}" for name in walks), "prediction"]
        found["walks"] = panel([row], titles)
    if "messages" in maps or "superpixel_means" in maps:
        names = {
            "before_context": "features",
            "messages": "messages",
            "superpixel_means": "superpixel means",
            "context": "with both",
        }
        shown = {title: magnitude(name) for name, title in names.items() if name in maps}
        row = [enlarged(heat(values), size) for values in shown.values()]
        heads = [f"{title}, {v.min():.3g} to {v.max():.3g}" for title, v in shown.items()]
        found["ecrf"] = panel([[picture, *row, prediction]], ["picture", *heads, "prediction"])
    necks = [(f"stage{i}", f"neck{i}", f"stage {i}", f"neck {i}") for i in range(1, 5)]
    contexts = [("before_context", "context", "features before", "features after")]
    for kind, pairs in (("neck", necks), ("context", contexts)):
        row, titles = [picture], ["picture"]
        for before, after, *pair in pairs:
            both = [maps[name] for name in (before, after) if name in maps]
            # A neck whose operator is "none" returns what it took.
            if len(both) == 2 and not np.array_equal(both[0], both[1]):
                row += [enlarged(x, size) for x in principal_colours(both)]
                titles += pair
        if len(row) > 1:
            found[kind] = panel([row], titles)
    return found


def transition_figure(
    picture: np.ndarray, points: Sequence[tuple[int, int]], rows: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """DifNet's Fig. 3: for chosen pixels, how likely each walk goes from there to any other.

    Args:
      picture: uint8 [H, W, 3].
      points: (row, column) of each pixel.
      rows: [number of points, number of walks, h, w].
      names: of the walks.

    Returns: uint8 [H', W', 3], a row for each point; the lighter the likelier, each map from 0 to
      its largest value.
    """
    size, sheet = picture.shape[:2], []
    for point, maps in zip(points, rows, strict=True):
        row = [enlarged(heat(values, 0), size) for values in maps]
        sheet.append([marked(picture, [point]), *row])
    return panel(sheet, ["pixel", *names])


def marked(picture: np.ndarray, points: Sequence[tuple[int, int]]) -> np.ndarray:
    """A copy of a picture with a small square at each (row, column)."""
    radius, copy = max(2, min(picture.shape[:2]) // 60), picture.copy()
    for y, x in points:
        copy[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = _POINT
    return copy
