"""CamVid in SegNet's layout: `{split}/NAME.png` and `{split}annot/NAME.png`.

Classes are in the order and the colours of that distribution, whose twelfth value is unlabelled.
"""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.finding import matched
from sdnjax.data.sets.items import Pair
from sdnjax.data.sets.label_space import IGNORE, from_rows

_ROWS = (
    ("sky", 128, 128, 128),
    ("building", 128, 0, 0),
    ("pole", 192, 192, 128),
    ("road", 128, 64, 128),
    ("pavement", 60, 40, 222),
    ("tree", 128, 128, 0),
    ("sign", 192, 128, 128),
    ("fence", 64, 64, 128),
    ("car", 64, 0, 128),
    ("pedestrian", 64, 64, 0),
    ("bicyclist", 0, 128, 192),
)


def splits(root: Path) -> tuple[str, ...]:
    if not root.is_dir():
        return ()
    folders = {p.name for p in root.iterdir() if p.is_dir()}
    return tuple(sorted(f for f in folders if f + "annot" in folders))


def pairs(root: Path, split: str) -> list[Pair]:
    images, labels = root / split, root / f"{split}annot"
    return matched(
        {p.stem: p for p in images.glob("*.png")},
        {p.stem: p for p in labels.glob("*.png")},
        lambda name: images / f"{name}.png",
        lambda name: labels / f"{name}.png",
    )


CAMVID = DataSet(
    name="camvid",
    label_space=from_rows("camvid", _ROWS, [*((k, k) for k in range(11)), (11, IGNORE)]),
    splits=splits,
    items=pairs,
    expected="train/*.png with trainannot/*.png, val/*.png with valannot/*.png",
    counts={"train": 367, "val": 101, "test": 233},
    version="1.0.0",
    description="""
Frames of street video from a driving car, 480×360 pixels, every pixel labelled with one of
11 classes or void (11). Train and validation splits, and the test split where the source
has it, as distributed with SegNet. Licensed for non-commercial use (CC BY-NC 4.0).
""",
    homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    license="CC BY-NC 4.0",
    citation="""
@article{brostow2009camvid,
  title = {Semantic object classes in video: A high-definition ground truth database},
  author = {Brostow, Gabriel J. and Fauqueur, Julien and Cipolla, Roberto},
  journal = {Pattern Recognition Letters}, volume = {30}, number = {2}, pages = {88--97},
  year = {2009}
}
""",
)
