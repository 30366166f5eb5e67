"""Label maps as test servers take them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from sdnjax.data.sets import label_space
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError


def file_values(space: LabelSpace) -> np.ndarray:
    """uint8 [K]: the value that stands for each class in the data set's label files."""
    values = {target: value for value, target in space.file_values}
    return np.array([values[k] for k in range(space.num_classes)], np.uint8)


class Format(NamedTuple):
    """What a server takes: a PNG for each image, of the image's size and with its name.

    values: the value of each class. name: what a file's name begins with; the server finds
    files by it.
    """

    values: Callable[[], np.ndarray]
    name: str


FORMATS = {
    # cityscapesScripts searches <city>_123456_123456*.png in all folders; label ids, not train ids.
    "cityscapes": Format(
        lambda: file_values(label_space("cityscapes")), r"[^_]+_\d{6}_\d{6}(?!\d)"
    ),
    # The Scene Parsing development kit: the image's name with .png; 1…150, 0 is for no class.
    "ade20k": Format(lambda: np.arange(1, 151, dtype=np.uint8), r".+"),
}


def class_values(name: str, num_classes: int) -> np.ndarray:
    """The value of each class in the format; InputError for another number of classes."""
    values = FORMATS[name].values()
    if len(values) != num_classes:
        raise InputError(
            f"--format {name} needs a network of its {len(values)} classes, "
            f"this one has {num_classes}"
        )
    return values


def check_names(name: str, stems: Iterable[str]) -> None:
    """Raises InputError for a name that the server would not find, or would find twice."""
    seen: dict[str, str] = {}
    for stem in stems:
        match = re.match(FORMATS[name].name, stem)
        if match is None:
            raise InputError(
                f"--format {name}: the server finds no file called {stem}.png; names are those of "
                "the data set, as berlin_000000_000019_leftImg8bit"
            )
        other = seen.setdefault(match.group(), stem)
        if other != stem:
            raise InputError(
                f"--format {name}: {other} and {stem} are one image to the server; "
                "name a folder of test images alone"
            )
