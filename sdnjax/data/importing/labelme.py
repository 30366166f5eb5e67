"""labelme: a JSON file beside each picture, with its shapes in order."""

from __future__ import annotations

import base64
import binascii
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdnjax.data.importing.annotated import (
    BACKGROUND,
    VOID,
    Found,
    Picture,
    Region,
    read_json,
    split_name,
)
from sdnjax.data.importing.shapes import circle_mask, polygon_mask
from sdnjax.errors import InputError
from sdnjax.files import read_bytes

_NAMES = {"__ignore__": VOID, "_background_": BACKGROUND}
_NO_AREA = ("point", "points", "line", "linestrip")


def is_labelme(path: Path) -> bool:
    """Whether a JSON file is one of labelme's."""
    content = read_json(path)
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read_labelme(root: Path) -> Found:
    """All pictures below `root`; folders at its top are splits, without them it is `all`.

    `labels.txt` decides the order of the classes, otherwise the alphabet.

    Raises: InputError that names the file.
    """
    found = Found()
    names: set[str] = set()
    for path in sorted(root.rglob("*.json")):
        if path.name.startswith(".") or not is_labelme(path):
            continue
        content, inside = read_json(path), path.relative_to(root)
        split, inside = (
            (split_name(inside.parts[0]), inside.relative_to(inside.parts[0]))
            if len(inside.parts) > 1
            else ("all", inside)
        )
        regions = []
        for number, shape in enumerate(content["shapes"], 1):
            where = f"{path}, shape {number}"
            try:
                kind = shape.get("shape_type") or "polygon"
                label = str(shape["label"])
                region = _region(_NAMES.get(label, label), kind, shape)
            except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
                raise InputError(f"{where}: {error or type(error).__name__}") from None
            if region is None:
                found.left_out[f"{kind} shapes, which have no area"] += 1
                continue
            names.add(region.label)
            regions.append(region)
        image, ending = _image(path, content)
        size = content.get("imageHeight"), content.get("imageWidth")
        found.pictures.append(
            Picture(
                split,
                inside.with_suffix("").as_posix(),
                image,
                ending,
                str(path),
                tuple(regions),
                None if None in size else (int(size[0]), int(size[1])),
                upright=True,  # labelme turns a picture before it is drawn on
            )
        )
    order = _listed(root)
    if lost := sorted(names - {*order, VOID, BACKGROUND}) if order else []:
        raise InputError(f"{root / 'labels.txt'} does not list {lost[0]!r}, which shapes have")
    found.classes = order or sorted(names - {VOID, BACKGROUND})
    return found


def _region(label: str, kind: str, shape: dict[str, Any]) -> Region | None:
    """None for a shape without area."""
    if kind in _NO_AREA:
        return None
    points = np.array(shape["points"], np.float64)
    if kind == "polygon":
        polygon_mask(points, (1, 1))  # raises where it is none
        return Region(label, partial(polygon_mask, points))
    if points.shape != (2, 2) or not np.isfinite(points).all():
        raise ValueError(f"a {kind} needs two points")
    (x0, y0), (x1, y1) = points.tolist()
    if kind == "rectangle":
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        return Region(label, partial(polygon_mask, corners))
    if kind == "circle":
        return Region(label, partial(circle_mask, (x0, y0), (x1, y1)))
    if kind == "mask":
        try:
            data = base64.b64decode(shape["mask"])
            mask = np.asarray(Image.open(io.BytesIO(data)).convert("L")) > 0
        except (binascii.Error, OSError):
            raise ValueError("its mask is no image") from None
        return Region(label, partial(_placed, mask, (round(y0), round(x0))))
    raise ValueError(f"unknown shape_type {kind!r}")


def _placed(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    y, x = corner
    h, w = mask.shape
    if y < 0 or x < 0 or y + h > size[0] or x + w > size[1]:
        raise InputError(f"a mask of {w}×{h} pixels at {x},{y} reaches beyond the picture")
    whole = np.zeros(size, bool)
    whole[y : y + h, x : x + w] = mask
    return whole


def _image(path: Path, content: dict[str, Any]) -> tuple[bytes, str]:
    """The picture beside a JSON file, or the copy in it."""
    name = str(content["imagePath"]).replace("\\", "/")
    file = path.parent / name
    ending = Path(name).suffix.lower() or ".png"
    if file.is_file():
        return read_bytes(file), ending
    if content.get("imageData"):
        try:
            return base64.b64decode(content["imageData"]), ending
        except (binascii.Error, TypeError):
            raise InputError(f"{path}: its imageData is damaged") from None
    raise InputError(f"{path}: its picture {file} does not exist")


def _listed(root: Path) -> list[str]:
    path = root / "labels.txt"
    if not path.is_file():
        return []
    lines = read_bytes(path).decode("utf-8-sig", errors="replace").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    return [name for name in names if name not in (*_NAMES, BACKGROUND, VOID)]
