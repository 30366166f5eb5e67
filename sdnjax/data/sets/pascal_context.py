"""PASCAL Context: VOC 2010's images with 459 labels, or the 59 made of them.

59 of the labels are classes, all others are the background: class 0 of `pascal_context_60`,
ignored in `pascal_context_59`. Classes are in the order of their ids in the .mat files, which
is alphabetical, as in mmsegmentation: the numbers 1…59 of `59_labels.txt` have another order.

Labels are the official `trainval/*.mat`, or, where they are there, `SegmentationClassContext/
*.png` with 0 for the background and the classes' numbers, as mmsegmentation's converter
writes them. The splits are VOC 2010's own, `ImageSets/Main`, unless another list is there.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sdnjax.data.sets.ade20k_classes import ADE20K_CLASSES
from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.finding import base, first_file, listed, read_names, scan
from sdnjax.data.sets.items import Pair
from sdnjax.data.sets.label_space import IGNORE, LabelSpace
from sdnjax.errors import InputError
from sdnjax.files import read_bytes

# Id of each class in the .mat files; `labels.txt` lists all 459.
_IDS = {
    2: "aeroplane", 9: "bag", 18: "bed", 19: "bedclothes", 22: "bench", 23: "bicycle", 25: "bird",
    31: "boat", 33: "book", 34: "bottle", 44: "building", 45: "bus", 46: "cabinet", 59: "car",
    65: "cat", 68: "ceiling", 72: "chair", 80: "cloth", 85: "computer", 98: "cow", 104: "cup",
    105: "curtain", 113: "dog", 115: "door", 144: "fence", 158: "floor", 159: "flower",
    162: "food", 187: "grass", 189: "ground", 207: "horse", 220: "keyboard", 232: "light",
    258: "motorbike", 259: "mountain", 260: "mouse", 284: "person", 295: "plate",
    296: "platform", 308: "pottedplant", 324: "road", 326: "rock", 347: "sheep", 349: "shelves",
    354: "sidewalk", 355: "sign", 360: "sky", 366: "snow", 368: "sofa", 397: "table",
    415: "track", 416: "train", 420: "tree", 424: "truck", 427: "tvmonitor", 440: "wall",
    445: "water", 454: "window", 458: "wood",
}  # fmt: skip

_CLASSES = tuple(_IDS.values())
_VALUE_OF_ID = {i: value for value, i in enumerate(_IDS, start=1)}
_MAT_VALUES = tuple((i, _VALUE_OF_ID.get(i, 0)) for i in range(460))
# mmsegmentation gives it the first 60 colours of ADE20K.
_COLORS = ADE20K_CLASSES.palette[:60]

_IMAGES_ARCHIVE = "VOCtrainval_03-May-2010.tar"
_LABELS_ARCHIVE = "trainval.tar.gz"
_PNG, _MAT = "SegmentationClassContext", "trainval"
# The list of 59 names spells three of them otherwise.
_ALIASES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


def _voc(root: Path) -> Path:
    return base(root, ["VOC2010", "VOCdevkit/VOC2010"], ["JPEGImages"])


def _labels(root: Path) -> Path | None:
    """The folder of the labels; those of `trainval.tar.gz` may lie beside VOCdevkit."""
    voc = _voc(root)
    places = [voc / _PNG, voc / _MAT, root / _MAT, root / "VOCdevkit" / _MAT]
    return next((place for place in places if place.is_dir()), None)


def _list_places(root: Path, split: str) -> list[Path]:
    voc, labels = _voc(root), _labels(root) or root
    folders = [voc / "ImageSets" / "SegmentationContext", labels, labels.parent]
    return [folder / f"{split}.txt" for folder in [*folders, voc / "ImageSets" / "Main"]]


def splits(root: Path) -> tuple[str, ...]:
    if not (_voc(root) / "JPEGImages").is_dir() or _labels(root) is None:
        return ()
    return tuple(s for s in ("train", "val") if first_file(_list_places(root, s)))


def missing(root: Path) -> str:
    voc = _voc(root)
    labels, images = _labels(root), voc / "JPEGImages"
    if labels and not images.is_dir():
        return f"JPEGImages is missing: unpack {_IMAGES_ARCHIVE} beside {labels}"
    if images.is_dir() and not labels:
        return (
            f"{voc / _MAT} is missing: unpack {_LABELS_ARCHIVE} there "
            f"(or make {_PNG}/*.png, 0 to 59)"
        )
    for split in ("train", "val"):
        if labels and not first_file(_list_places(root, split)):
            first, *_, last = _list_places(root, split)
            return f"no list of the split {split!r}: expected {first} or {last}"
    return ""


def pairs(root: Path, split: str) -> list[Pair]:
    images, labels = _voc(root) / "JPEGImages", _labels(root)
    source = first_file(_list_places(root, split))
    assert labels and source  # without them there is no such split
    ending = ".png" if labels.name == _PNG else ".mat"
    if ending == ".mat":
        for folder in (labels, labels.parent):
            check_names(folder)
    expected = f"{images}/NAME.jpg", f"{labels}/NAME{ending}"
    files = scan(images, ".jpg"), scan(labels, ending)
    return listed(read_names(source), source, *files, expected)


def check_names(folder: Path) -> None:
    """Compares `labels.txt` and `59_labels.txt`, if they are in `folder`, with our table.

    Their lines are `12: name`. Only the names of the 59 count: their numbers there are not
    those of the .mat files.

    Raises: InputError that names the file and the first label that differs.
    """
    all_names = folder / "labels.txt"
    if all_names.is_file():
        theirs = _numbered(all_names)
        for i, name in _IDS.items():
            if theirs.get(i) != name:
                raise InputError(
                    f"{all_names}: label {i} is {theirs.get(i, 'not there')}, not {name}: "
                    "the .mat files are not those of the official 459 labels"
                )
    chosen = folder / "59_labels.txt"
    if chosen.is_file():
        names = {_ALIASES.get(name, name) for name in _numbered(chosen).values()}
        if wrong := sorted(names ^ set(_IDS.values())):
            raise InputError(f"{chosen}: {wrong[0]} is in only one of this list and our 59 classes")


def _numbered(path: Path) -> dict[int, str]:
    """Number → name without spaces."""
    result = {}
    for line, text in enumerate(read_bytes(path).decode("latin-1").splitlines(), start=1):
        number, colon, name = text.partition(":")
        if not text.strip():
            continue
        if not colon or not number.strip().isdecimal():
            raise InputError(f"{path}, line {line}: expected 'number: name', not {text[:40]!r}")
        result[int(number)] = name.replace(" ", "").strip()
    return result


_DESCRIPTION = """
The photographs of PASCAL VOC 2010 with a label for every pixel. Of the 459 categories that
the annotators used, 59 are frequent enough to be classes; all others are background, which
{background}. Label files that were MATLAB's are stored as PNG images of 0 (background) to 59.
"""

PASCAL_CONTEXT_60 = DataSet(
    name="pascal_context_60",
    label_space=LabelSpace(
        "pascal_context_60",
        classes=("background", *_CLASSES),
        palette=_COLORS,
        file_values=tuple((value, value) for value in range(60)),
        mat_values=_MAT_VALUES,
    ),
    splits=splits,
    items=pairs,
    expected=f"VOC2010/JPEGImages/*.jpg and VOC2010/ImageSets ({_IMAGES_ARCHIVE}) with "
    f"{_MAT}/*.mat ({_LABELS_ARCHIVE}) or VOC2010/{_PNG}/*.png",
    missing=missing,
    counts={"train": 4998, "val": 5105},
    archives=(_IMAGES_ARCHIVE, _LABELS_ARCHIVE),
    version="1.0.0",
    description=_DESCRIPTION.format(background="is a class of its own here"),
    homepage="https://cs.stanford.edu/~roozbeh/pascal-context/",
    license="None stated for the annotations; images under the terms of Flickr",
    citation="""
@inproceedings{mottaghi2014context,
  title = {The Role of Context for Object Detection and Semantic Segmentation in the Wild},
  author = {Mottaghi, Roozbeh and Chen, Xianjie and Liu, Xiaobai and Cho, Nam-Gyu and
            Lee, Seong-Whan and Fidler, Sanja and Urtasun, Raquel and Yuille, Alan},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2014}
}
""",
)

PASCAL_CONTEXT_59 = dataclasses.replace(
    PASCAL_CONTEXT_60,
    name="pascal_context_59",
    label_space=LabelSpace(
        "pascal_context_59",
        classes=_CLASSES,
        palette=_COLORS[1:],
        file_values=((0, IGNORE), *((value, value - 1) for value in range(1, 60))),
        mat_values=_MAT_VALUES,
    ),
    description=_DESCRIPTION.format(background="is ignored here"),
)
