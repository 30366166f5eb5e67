"""COCO's JSON: polygons and run-length masks of instances, one file for each split."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sdnjax.data.importing.annotated import (
    BACKGROUND,
    VOID,
    Found,
    Picture,
    Region,
    read_json,
    split_name,
)
from sdnjax.data.importing.shapes import polygon_mask, run_mask
from sdnjax.errors import InputError
from sdnjax.files import read_bytes

_NAMES = {"_background_": BACKGROUND, "__ignore__": VOID}


def coco_files(source: Path) -> list[Path]:
    """The JSON files with images, annotations and categories: `source`, or those in it."""
    files = [source] if source.is_file() else sorted(source.rglob("*.json"))
    return [path for path in files if not path.name.startswith(".") and _is_coco(path)]


def read_coco(source: Path, images: Path | None = None) -> Found:
    """All pictures of the files of `source`; annotations are laid over each other in their order.

    The split is the folder of a file `_annotations.coco.json`, otherwise what is left of a
    file's name without `instances_` and the year.

    Raises: InputError that names the file and the annotation.
    """
    found = Found()
    for path in coco_files(source):
        content = read_json(path)
        names = _categories(path, content)
        for name in names.values():
            if name not in (*found.classes, BACKGROUND, VOID):
                found.classes.append(name)
        by_image: dict[Any, list[dict]] = {}
        known = {image["id"] for image in content["images"]}
        for annotation in content["annotations"]:
            if annotation.get("image_id") not in known:
                raise InputError(
                    f"{path}, annotation {annotation.get('id')}: no image has the id "
                    f"{annotation.get('image_id')}"
                )
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        split = _split(path)
        for image in content["images"]:
            size = int(image["height"]), int(image["width"])
            regions = [
                region
                for annotation in by_image.get(image["id"], ())
                if (region := _region(path, annotation, names, size, found)) is not None
            ]
            file = _find(path, str(image["file_name"]), split, images)
            name = Path(image["file_name"]).with_suffix("").as_posix().lstrip("/")
            found.pictures.append(
                Picture(
                    split,
                    name,
                    read_bytes(file),
                    file.suffix.lower(),
                    str(path),
                    tuple(regions),
                    size,
                )
            )
    return found


def _is_coco(path: Path) -> bool:
    content = read_json(path)
    needed = {"images", "annotations", "categories"}
    return isinstance(content, dict) and needed <= content.keys()


def _categories(path: Path, content: dict[str, Any]) -> dict[Any, str]:
    """Id → name, in order of ids."""
    names: dict[Any, str] = {}
    for category in sorted(content["categories"], key=lambda c: c["id"]):
        name = str(category["name"]).strip()
        name = _NAMES.get(name, name)
        if category["id"] in names or name in names.values():
            raise InputError(
                f"{path}: two categories have the id {category['id']} or name {name!r}"
            )
        names[category["id"]] = name
    return names


def _region(
    path: Path,
    annotation: dict[str, Any],
    names: dict[Any, str],
    size: tuple[int, int],
    found: Found,
) -> Region | None:
    """None if the annotation has no area."""
    where = f"{path}, annotation {annotation.get('id')}"
    if annotation.get("category_id") not in names:
        raise InputError(f"{where}: no category has the id {annotation.get('category_id')}")
    label = names[annotation["category_id"]]
    if annotation.get("iscrowd"):
        found.left_out["crowds, whose pixels become void"] += 1
        label = VOID
    segmentation = annotation.get("segmentation")
    if not segmentation:
        found.left_out["annotations without a segmentation (boxes, key points)"] += 1
        return None
    try:
        if isinstance(segmentation, dict):
            if list(segmentation["size"]) != list(size):
                raise ValueError(f"its size is {segmentation['size']}, the image's {list(size)}")
            mask = run_mask(segmentation["counts"], size)
            return Region(label, lambda _, mask=mask: mask)  # type: ignore[misc]
        parts = [np.array(part, np.float64).reshape(-1, 2) for part in segmentation]
        whole = [part for part in parts if len(part) >= 3]
        found.left_out["polygons of fewer than three points"] += len(parts) - len(whole)
        for part in whole:
            polygon_mask(part, (1, 1))  # raises where it is none
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None
    return Region(label, partial(_union, whole)) if whole else None


def _union(parts: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    return np.any([polygon_mask(part, size) for part in parts], axis=0)


def _split(path: Path) -> str:
    if path.name == "_annotations.coco.json":
        return split_name(path.parent.name)
    stem = re.sub(r"^(instances|annotations|stuff)_|_?20\d\d$", "", path.stem)
    stem = re.sub(r"_?20\d\d$", "", stem)
    return "all" if stem in ("instances", "annotations", "default", "") else split_name(stem)


def _find(path: Path, name: str, split: str, images: Path | None) -> Path:
    folder = path.parent
    year = re.search(r"20\d\d$", path.stem)
    places = [
        folder,
        folder / "images",
        folder.parent / "images",
        folder.parent / "images" / split,
        folder.parent / split,
        folder.parent / f"{split}{year.group() if year else ''}",
        folder.parent,
    ]
    places = [images, images / split] if images is not None else places
    for place in places:
        if (place / name).is_file():
            return place / name
    tried = "; --images FOLDER says where pictures are" if images is None else f" in {images}"
    raise InputError(f"{path}: its picture {name} was not found{tried}")
