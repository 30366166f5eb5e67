"""What data sets are made of before they are prepared: pairs of files, or generated scenes.

A worker process imports this, so TensorFlow stays out of it.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdnjax.data.examples import Encoded, read_pair
from sdnjax.data.label_spaces import LabelSpace, label_space
from sdnjax.data.layouts import LAYOUTS, Pair
from sdnjax.data.shapes import render_scene

# Of shapes: split → (seed of the collection, number of scenes).
SCENES = {"train": (0, 640), "val": (1, 128)}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the examples of a data set are read and examined; sent to worker processes.

    Attributes:
      read: item → its Encoded; raises InputError for a file that cannot be read.
      state: item → [name, *files]; a file is [path, bytes, time of change], or [path] if it
        is missing. Equal states are taken for equal content.
      space: of its labels.
      superpixels: segments to compute for each image, or None.
      keep: whether image and label are kept when examined, because reading them is work.
    """

    read: Callable[[Any], Encoded]
    state: Callable[[Any], list]
    space: LabelSpace
    superpixels: int | None = None
    keep: bool = False


def recipe_of(name: str, superpixels: int | None = None) -> Recipe:
    """The recipe of the data set `name`."""
    space = label_space(name)
    if name == "shapes":
        return Recipe(_read_scene, _scene_state, space, superpixels, keep=True)
    return Recipe(read_pair, _pair_state, space, superpixels)


def items_of(name: str, root: Path | None) -> dict[str, list]:
    """Split → its items in order; `root` is the folder of the files, if there are any.

    Raises: InputError if a split is empty or a file has no partner.
    """
    if name == "shapes":
        return {
            split: [(seed, index) for index in range(count)]
            for split, (seed, count) in SCENES.items()
        }
    layout = LAYOUTS[name]
    return {split: layout.find(root, split) for split in layout.splits(root)}


def stored_bytes(state: list) -> int:
    """About how many bytes an example of this state needs: those of its files."""
    return sum(file[1] for file in state[1:] if len(file) > 1)


def _pair_state(pair: Pair) -> list:
    return [pair.name, _file_state(pair.image), _file_state(pair.label)]


def _file_state(path: Path) -> list:
    try:
        facts = path.stat()
    except OSError:  # reading it will say why
        return [str(path)]
    return [str(path), facts.st_size, facts.st_mtime_ns]


def _read_scene(scene: tuple[int, int]) -> Encoded:
    image, label = render_scene(*scene)
    name = _scene_name(scene)
    return Encoded(name, _png(image), _png(label), f"scene {name}", f"label of scene {name}")


def _scene_state(scene: tuple[int, int]) -> list:
    return [_scene_name(scene)]


def _scene_name(scene: tuple[int, int]) -> str:
    return f"{scene[0]}-{scene[1]:05d}"


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()
