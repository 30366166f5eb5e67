"""Generated scenes of textured shapes; see `sdnjax.data.shapes`."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from sdnjax.data.builders.base import SegmentationBuilder
from sdnjax.data.shapes import render_scene
from sdnjax.data.sources import VERSIONS, Encoded
from sdnjax.data.tfds_setup import tfds

_DESCRIPTION = """
Overlapping discs, bars, triangles, rings and hexagons on a speckled ground, 96×96 pixels.
Textures inside a class are stronger than the edges between classes.
"""


class Shapes(SegmentationBuilder):
    """Builds the generated scenes; needs no source."""

    name = "shapes"
    VERSION = tfds.core.Version(VERSIONS["shapes"])
    # Split → (seed of the collection, number of scenes).
    SCENES = {"train": (0, 640), "val": (1, 128)}  # noqa: RUF012 (TFDS's own style)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info(description=_DESCRIPTION, license="Apache-2.0")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {split: self._generate_examples(*what) for split, what in self.SCENES.items()}

    def _generate_examples(self, seed: int, count: int):
        return self.checked(_render(seed, count))


def _render(seed: int, count: int) -> Iterator[Encoded]:
    for index in range(count):
        image, label = render_scene(seed, index)
        name = f"{seed}-{index:05d}"
        yield Encoded(name, _png(image), _png(label), f"scene {name}", f"label of scene {name}")


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()
