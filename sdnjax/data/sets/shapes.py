"""`shapes`: generated scenes of textured shapes; `scenes.py` draws them."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np

from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.items import Encoded
from sdnjax.data.sets.label_space import from_rows
from sdnjax.data.sets.scenes import render_scene

_ROWS = (
    ("ground", 112, 108, 100),
    ("disc", 214, 92, 78),
    ("bar", 232, 178, 60),
    ("triangle", 92, 172, 96),
    ("ring", 70, 132, 206),
    ("hexagon", 158, 104, 190),
)

# Split → (seed of the collection, number of scenes).
SCENES = {"train": (0, 640), "val": (1, 128)}


@dataclasses.dataclass(frozen=True)
class Scene:
    """Scene `index` of the collection `seed`, an item that is drawn when it is read."""

    seed: int
    index: int

    @property
    def name(self) -> str:
        return f"{self.seed}-{self.index:05d}"

    def read(self) -> Encoded:
        image, label = render_scene(self.seed, self.index)
        places = f"scene {self.name}", f"label of scene {self.name}"
        return Encoded(self.name, _png(image), _png(label), *places)

    def state(self) -> list[Any]:
        return [self.name]


def splits(_: Any) -> tuple[str, ...]:
    return tuple(SCENES)


def scenes(_: Any, split: str) -> list[Scene]:
    seed, count = SCENES[split]
    return [Scene(seed, index) for index in range(count)]


def _png(array: np.ndarray) -> bytes:
    # Settings name this data set also where nothing is read, and there is no Pillow.
    from PIL import Image  # noqa: PLC0415

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


SHAPES = DataSet(
    name="shapes",
    label_space=from_rows("shapes", _ROWS),
    splits=splits,
    items=scenes,
    generated=True,
    version="1.0.0",
    description="""
Overlapping discs, bars, triangles, rings and hexagons on a speckled ground, 96×96 pixels.
Textures inside a class are stronger than the edges between classes.
""",
    license="Apache-2.0",
)
