"""PASCAL Context: VOC 2010's images with 459 labels, or the 59 made of them.

Labels are the official `trainval/*.mat`, or, where they are there, `SegmentationClassContext/
*.png` with 0 for the background and the classes' numbers, as mmsegmentation's converter
writes them. The splits are VOC 2010's own, `ImageSets/Main`, unless another list is there.
"""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.images import read_bytes
from sdnjax.data.label_spaces.pascal_context import IDS
from sdnjax.data.layouts.files import base, first_file, listed, read_names, scan
from sdnjax.data.layouts.layout import Layout, Pair
from sdnjax.errors import InputError

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
        for i, name in IDS.items():
            if theirs.get(i) != name:
                raise InputError(
                    f"{all_names}: label {i} is {theirs.get(i, 'not there')}, not {name}: "
                    "the .mat files are not those of the official 459 labels"
                )
    chosen = folder / "59_labels.txt"
    if chosen.is_file():
        theirs = {_ALIASES.get(name, name) for name in _numbered(chosen).values()}
        if wrong := sorted(theirs ^ set(IDS.values())):
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


PASCAL_CONTEXT = Layout(
    expected=f"VOC2010/JPEGImages/*.jpg and VOC2010/ImageSets ({_IMAGES_ARCHIVE}) with "
    f"{_MAT}/*.mat ({_LABELS_ARCHIVE}) or VOC2010/{_PNG}/*.png",
    splits=splits,
    pairs=pairs,
    missing=missing,
    counts={"train": 4998, "val": 5105},
    archives=(_IMAGES_ARCHIVE, _LABELS_ARCHIVE),
)
