"""CamVid, the Cambridge-driving labeled video database, in the SegNet layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sdnjax.data.builders.base import SegmentationBuilder
from sdnjax.data.images import read_bytes
from sdnjax.data.layouts import LAYOUTS, Pair
from sdnjax.data.sources import VERSIONS, Encoded
from sdnjax.data.tfds_setup import tfds

_DESCRIPTION = """
Frames of street video from a driving car, 480×360 pixels, every pixel labelled with one of
11 classes or void (11). Train and validation splits, and the test split where the source
has it, as distributed with SegNet. Licensed for non-commercial use (CC BY-NC 4.0).
"""
_CITATION = """
@article{brostow2009camvid,
  title = {Semantic object classes in video: A high-definition ground truth database},
  author = {Brostow, Gabriel J. and Fauqueur, Julien and Cipolla, Roberto},
  journal = {Pattern Recognition Letters}, volume = {30}, number = {2}, pages = {88--97},
  year = {2009}
}
"""


class CamVid(SegmentationBuilder):
    """Builds CamVid from `{split}/NAME.png` and `{split}annot/NAME.png` in `manual_dir`."""

    name = "camvid"
    VERSION = tfds.core.Version(VERSIONS["camvid"])
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    manual_dir holds the SegNet layout: train/*.png, trainannot/*.png, val/*.png,
    valannot/*.png and, if present, test/*.png, testannot/*.png.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info(
            description=_DESCRIPTION,
            homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
            citation=_CITATION,
            license="CC BY-NC 4.0",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        root = Path(dl_manager.manual_dir)
        # All folders are listed before the first file is read.
        layout = LAYOUTS["camvid"]
        pairs = {split: layout.find(root, split) for split in layout.splits(root)}
        return {split: self._generate_examples(pairs[split]) for split in pairs}

    def _generate_examples(self, pairs: list[Pair]):
        return self.checked(_read(pairs))


def _read(pairs: list[Pair]) -> Iterator[Encoded]:
    for pair in pairs:
        image, label = read_bytes(pair.image), read_bytes(pair.label)
        yield Encoded(pair.name, image, label, str(pair.image), str(pair.label))
