"""ADE20K's scene-parsing benchmark, as `ADEChallengeData2016.zip` unpacks it: 150 classes."""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.sets.ade20k_classes import ADE20K_CLASSES
from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.finding import base, matched, missing_beside, scan
from sdnjax.data.sets.items import Pair

_ARCHIVE = "ADEChallengeData2016.zip"
_HALVES = {"images": _ARCHIVE, "annotations": _ARCHIVE}
_FOLDER_OF = {"train": "training", "val": "validation"}


def _base(root: Path) -> Path:
    return base(root, ["ADEChallengeData2016"], _HALVES)


def splits(root: Path) -> tuple[str, ...]:
    folder = _base(root)
    return tuple(
        split
        for split, name in _FOLDER_OF.items()
        if all((folder / h / name).is_dir() for h in _HALVES)
    )


def pairs(root: Path, split: str) -> list[Pair]:
    images, labels = (_base(root) / half / _FOLDER_OF[split] for half in _HALVES)
    return matched(
        scan(images, ".jpg"),
        scan(labels, ".png"),
        lambda name: images / f"{name}.jpg",
        lambda name: labels / f"{name}.png",
    )


ADE20K = DataSet(
    name="ade20k",
    label_space=ADE20K_CLASSES,
    splits=splits,
    items=pairs,
    expected="images/{training,validation}/*.jpg with annotations/{training,validation}/*.png, "
    f"as {_ARCHIVE} unpacks them",
    missing=lambda root: missing_beside(_base(root), _HALVES),
    counts={"train": 20210, "val": 2000},
    archives=(_ARCHIVE,),
    version="1.0.0",
    description="""
Photographs of indoor and outdoor scenes, every pixel labelled with one of the 150 classes of
the scene parsing benchmark. Label files hold 1 to 150, and 0 where a pixel belongs to none of
them. The test images have no public labels and are left out.
""",
    homepage="http://sceneparsing.csail.mit.edu/",
    license=(
        "Annotations under the BSD 3-Clause licence; images for non-commercial research and "
        "education, their copyright belongs to their owners"
    ),
    citation="""
@inproceedings{zhou2017ade20k,
  title = {Scene Parsing through {ADE20K} Dataset},
  author = {Zhou, Bolei and Zhao, Hang and Puig, Xavier and Fidler, Sanja and
            Barriuso, Adela and Torralba, Antonio},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2017}
}
""",
)
