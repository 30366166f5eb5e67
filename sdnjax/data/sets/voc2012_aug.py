"""PASCAL VOC 2012 with the labels that SBD adds: 10,582 images to train, VOC's own to validate.

20 objects and the background; 255 lies between them.

VOC's own label is taken where it has one, as in mmsegmentation; then `SegmentationClassAug/
*.png`; then SBD's `cls/*.mat`. Without a list of the training images it is made of the others:
(VOC train ∪ SBD train ∪ SBD val) − VOC val.
"""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.finding import base, first_file, listed, read_names, scan
from sdnjax.data.sets.items import Pair
from sdnjax.data.sets.label_space import IGNORE, LabelSpace, voc_color

_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip

_VOC_ARCHIVE, _SBD_ARCHIVE = "VOCtrainval_11-May-2012.tar", "benchmark.tgz"
_OWN, _MORE = "SegmentationClass", "SegmentationClassAug"
# benchmark.tgz unpacks to the first of these.
_SBD = ("benchmark_RELEASE/dataset", "benchmark_RELEASE", "SBD/dataset", "SBD", "VOCaug/dataset")


def _voc(root: Path) -> Path:
    return base(root, ["VOC2012", "VOCdevkit/VOC2012"], ["JPEGImages"])


def _sbd(root: Path) -> Path | None:
    """The folder that holds SBD's `cls`, if it is there: below `root`, VOCdevkit or VOC2012."""
    for folder in (root, root / "VOCdevkit", _voc(root)):
        for name in _SBD:
            if (folder / name / "cls").is_dir():
                return folder / name
    return None


def _list_file(voc: Path, split: str) -> Path | None:
    """The list of VOC's `train` or `val`, or of the augmented training images, `train_aug`."""
    stems = ["train_aug", "trainaug"] if split == "train_aug" else [split]
    folders = ["Segmentation", "SegmentationAug"]
    return first_file(voc / "ImageSets" / f / f"{s}.txt" for f in folders for s in stems)


def _training_lists(root: Path) -> list[Path] | None:
    """The list of the training images; or VOC's train, val and SBD's train, val; or None."""
    voc, sbd = _voc(root), _sbd(root)
    if file := _list_file(voc, "train_aug"):
        return [file]
    if not sbd:
        return None
    lists = [_list_file(voc, "train"), _list_file(voc, "val")]
    lists += [first_file([sbd / "train.txt"]), first_file([sbd / "val.txt"])]
    found = [file for file in lists if file]
    return found if len(found) == len(lists) else None


def splits(root: Path) -> tuple[str, ...]:
    voc = _voc(root)
    if not (voc / "JPEGImages").is_dir():
        return ()
    train = "train" if not _lacks_training(root) else None
    val = "val" if _list_file(voc, "val") and not _lacks_labels(voc) else None
    return tuple(split for split in (train, val) if split)


def missing(root: Path) -> str:
    voc = _voc(root)
    if not (voc / "JPEGImages").is_dir():
        there = _sbd(root)
        return f"JPEGImages is missing: unpack {_VOC_ARCHIVE} beside {there}" if there else ""
    if not _list_file(voc, "val"):
        return f"{voc / 'ImageSets' / 'Segmentation' / 'val.txt'} is missing"
    return _lacks_labels(voc) or _lacks_training(root)


def _lacks_labels(voc: Path) -> str:
    if (voc / _OWN).is_dir() or (voc / _MORE).is_dir():
        return ""
    return f"{voc / _OWN} is missing: unpack {_VOC_ARCHIVE}"


def _lacks_training(root: Path) -> str:
    voc, sbd = _voc(root), _sbd(root)
    if not sbd and not (voc / _MORE).is_dir():
        return (
            f"the augmented training labels are missing: unpack {_SBD_ARCHIVE} beside {voc}, "
            f"or make {voc / _MORE}"
        )
    if not sbd and not _list_file(voc, "train_aug"):
        lists = voc / "ImageSets" / "Segmentation"
        return f"no list of the training images: expected {lists / 'train_aug.txt'}"
    if _training_lists(root) is None:
        return f"no lists of the training images: expected train.txt and val.txt in {sbd}"
    return ""


def pairs(root: Path, split: str) -> list[Pair]:
    voc, sbd = _voc(root), _sbd(root)
    val = _list_file(voc, "val")
    lists = _training_lists(root) if split == "train" else [val] if val else None
    assert lists  # without one there is no such split
    names = set(read_names(lists[0]))
    if len(lists) > 1:
        held_out, *more = map(read_names, lists[1:])
        names = names.union(*more).difference(held_out)
    images = scan(voc / "JPEGImages", ".jpg")
    labels = scan(voc / _MORE, ".png") | scan(voc / _OWN, ".png")
    if sbd and split == "train":
        images = scan(sbd / "img", ".jpg") | images
        labels = scan(sbd / "cls", ".mat") | labels
    source: Path | str = lists[0] if len(lists) == 1 else f"one of {', '.join(map(str, lists))}"
    label = f"{sbd}/cls/NAME.mat" if sbd and split == "train" else f"{voc / _OWN}/NAME.png"
    return listed(names, source, images, labels, (f"{voc}/JPEGImages/NAME.jpg", label))


VOC2012_AUG = DataSet(
    name="voc2012_aug",
    label_space=LabelSpace(
        "voc2012_aug",
        classes=_CLASSES,
        palette=tuple(voc_color(k) for k in range(len(_CLASSES))),
        file_values=(*((k, k) for k in range(len(_CLASSES))), (255, IGNORE)),
    ),
    splits=splits,
    items=pairs,
    expected=f"VOC2012/JPEGImages, {_OWN} and ImageSets ({_VOC_ARCHIVE}) with SBD's "
    f"benchmark_RELEASE/dataset ({_SBD_ARCHIVE}) or VOC2012/{_MORE} and its list train_aug.txt",
    missing=missing,
    counts={"train": 10582, "val": 1449},
    archives=(_VOC_ARCHIVE, _SBD_ARCHIVE),
    version="1.0.0",
    description="""
Photographs of PASCAL VOC 2012, every pixel labelled with one of 20 object classes, background
(0) or void (255). The training split is extended by the Semantic Boundaries Dataset. Labels
keep the form of their files: those that are palette images hold classes as indices.
""",
    homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    license="None stated for the annotations; images under the terms of Flickr",
    citation="""
@article{everingham2015voc,
  title = {The {PASCAL} Visual Object Classes Challenge: A Retrospective},
  author = {Everingham, Mark and Eslami, S. M. Ali and Van Gool, Luc and
            Williams, Christopher K. I. and Winn, John and Zisserman, Andrew},
  journal = {International Journal of Computer Vision}, volume = {111}, number = {1},
  pages = {98--136}, year = {2015}
}
@inproceedings{hariharan2011sbd,
  title = {Semantic Contours from Inverse Detectors},
  author = {Hariharan, Bharath and Arbel{\\'a}ez, Pablo and Bourdev, Lubomir and Maji, Subhransu
            and Malik, Jitendra},
  booktitle = {IEEE International Conference on Computer Vision (ICCV)},
  year = {2011}
}
""",
)
