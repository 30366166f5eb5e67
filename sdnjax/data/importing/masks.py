"""Exports that hold label images already: CVAT's segmentation masks, and Roboflow's."""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.sets.finding import read_names
from sdnjax.data.sets.folder import FOLDER
from sdnjax.data.sets.items import Pair
from sdnjax.data.sets.layouts import PICTURE_ENDINGS
from sdnjax.errors import InputError


def is_cvat(source: Path) -> bool:
    return (source / "SegmentationClass").is_dir() and (source / "labelmap.txt").is_file()


def cvat_pairs(source: Path, images: Path | None = None) -> dict[str, list[Pair]]:
    """Split → pairs of CVAT's "segmentation mask" export; its list `default` is the split `all`.

    Raises: InputError that names the list, and the picture or the mask that is not there.
    """
    folder = images or source / "JPEGImages"
    lists = sorted((source / "ImageSets" / "Segmentation").glob("*.txt"))
    if not lists:
        raise InputError(f"{source / 'ImageSets/Segmentation'}: no list of pictures (*.txt) there")
    splits: dict[str, list[Pair]] = {}
    for path in lists:
        pairs = []
        for name in read_names(path):
            endings = (e for e in (*PICTURE_ENDINGS, *map(str.upper, PICTURE_ENDINGS)))
            image = next((f for e in endings if (f := folder / f"{name}{e}").is_file()), None)
            if image is None:
                raise InputError(
                    f"{path} names {name}, which has no picture in {folder}: export with images, "
                    "or name their folder with --images"
                )
            label = source / "SegmentationClass" / f"{name}.png"
            if not label.is_file():
                raise InputError(f"{path} names {name}, but {label} does not exist")
            pairs.append(Pair(name, image, label))
        splits["all" if path.stem == "default" else path.stem] = pairs
    return splits


def folder_pairs(source: Path) -> dict[str, list[Pair]]:
    """Split → pairs of any layout that a `folder` data set may have, Roboflow's among them."""
    return {
        split: [item for item in FOLDER.find(source, split) if isinstance(item, Pair)]
        for split in FOLDER.splits(source)
    }
