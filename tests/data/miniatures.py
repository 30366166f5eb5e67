"""Miniature data sets in the layouts in which the real ones are unpacked.

Every function writes random pairs below `root`, `counts` of each split, and returns `root`.
Images are about `size` (height, width), not all the same; labels are blocks of values drawn
from all that the data set's files hold.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

COUNTS = (("train", 3), ("val", 2))
SIZE = (36, 48)
BLOCK = 6


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def mat(variables, **options) -> bytes:
    """A MATLAB file of level 5, compressed as MATLAB writes it by default."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, **{"do_compression": True, **options})
    return buffer.getvalue()


def sbd_mat(label) -> bytes:
    """A file of SBD's `cls`: the structure GTcls with three fields."""
    present = np.setdiff1d(label, [0]).astype(np.uint8)[:, None]
    fields = {"Boundaries": np.zeros((20, 1)), "Segmentation": np.asarray(label, np.uint8)}
    return mat({"GTcls": {**fields, "CategoriesPresent": present}})


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class Scenes:
    """Random images and labels of `size`, of a seed; heights differ a little."""

    def __init__(self, size, values, seed=0):
        self._rng = np.random.default_rng(seed)
        self._size, self._values, self._count = size, np.asarray(values), 0

    def image(self) -> np.ndarray:
        """uint8 [h, w, 3]; smooth, so that JPEG keeps it small."""
        h, w = self._shape()
        return self._blocks(self._rng.integers(0, 256, (h // BLOCK + 1, w // BLOCK + 1, 3)))

    def label(self) -> np.ndarray:
        """[h, w] of `values`, for the image before it."""
        h, w = self._shape()
        label = self._blocks(self._rng.choice(self._values, (h // BLOCK + 1, w // BLOCK + 1)))
        self._count += 1
        return label

    def _shape(self):
        return self._size[0] + 2 * (self._count % 3), self._size[1]

    def _blocks(self, small):
        h, w = self._shape()
        return small.repeat(BLOCK, 0).repeat(BLOCK, 1)[:h, :w]


def make_ade20k(root: Path, counts=COUNTS, size=SIZE) -> Path:
    scenes = Scenes(size, range(151))
    base = root / "ADEChallengeData2016"
    for split, count in counts:
        folder = {"train": "training", "val": "validation"}[split]
        for k in range(1, count + 1):
            name = f"ADE_{split}_{k:08d}"
            write(base / "images" / folder / f"{name}.jpg", jpeg(scenes.image()))
            write(base / "annotations" / folder / f"{name}.png", png(scenes.label()))
    return root


def make_cityscapes(root: Path, counts=COUNTS, size=SIZE, cities=("aachen", "ulm")) -> Path:
    scenes = Scenes(size, range(34))
    for split, count in counts:
        for k in range(count):
            city = cities[k % len(cities)]
            name = f"{city}_{k:06d}_000019"
            image = root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
            write(image, png(scenes.image()))
            label = root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png"
            write(label, png(scenes.label()))
            # Beside the label ids lie what is not read.
            write(label.with_name(f"{name}_gtFine_instanceIds.png"), b"")
            write(label.with_name(f"{name}_gtFine_polygons.json"), b"{}")
    return root


def make_pascal_context(root: Path, counts=COUNTS, size=SIZE, labels="mat", lists="Main") -> Path:
    """`labels`: "mat", `trainval/*.mat` beside VOCdevkit, or "png"; `lists`: in ImageSets."""
    scenes = Scenes(size, range(460) if labels == "mat" else range(60))
    voc = root / "VOCdevkit" / "VOC2010"
    for split, count in counts:
        names = [f"2008_{split_number(split)}{k:05d}" for k in range(count)]
        write(voc / "ImageSets" / lists / f"{split}.txt", "\n".join(names).encode() + b"\n")
        for name in names:
            write(voc / "JPEGImages" / f"{name}.jpg", jpeg(scenes.image()))
            label = scenes.label()
            if labels == "mat":
                data = mat({"LabelMap": label.astype(np.uint16)})
                write(root / "trainval" / f"{name}.mat", data)
            else:
                write(voc / "SegmentationClassContext" / f"{name}.png", png(label))
    return root


def make_voc(root: Path, counts=COUNTS, size=SIZE, more="sbd") -> Path:
    """VOC 2012 with as many images of VOC's own as `counts` says, and as many more to train.

    `more`: "sbd", whose lists also name one image of VOC's train and one of its val, with
    other labels; or "aug", `SegmentationClassAug` with labels for all images.
    """
    scenes = Scenes(size, [*range(21), 255])
    voc, sbd = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset"
    own = {split: [f"2007_{split_number(split)}{k:05d}" for k in range(n)] for split, n in counts}
    added = [f"2009_{k:06d}" for k in range(dict(counts)["train"])]
    labels = {}
    for name in [*own["train"], *own["val"], *added]:
        write(voc / "JPEGImages" / f"{name}.jpg", jpeg(scenes.image()))
        labels[name] = scenes.label()
        if name not in added:
            write(voc / "SegmentationClass" / f"{name}.png", _palette_png(labels[name]))
    lists = voc / "ImageSets" / "Segmentation"
    for split, names in own.items():
        write(lists / f"{split}.txt", "\n".join(names).encode())
    if more == "aug":
        for name, label in labels.items():
            write(voc / "SegmentationClassAug" / f"{name}.png", png(label))
        lines = [
            f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png" for n in [*own["train"], *added]
        ]
        write(lists / "train_aug.txt", "\n".join(lines).encode())
        return root
    theirs = {"train": [*added, own["val"][0]], "val": [own["train"][0]]}
    for split, names in theirs.items():
        write(sbd / f"{split}.txt", "\n".join(names).encode())
        for name in names:
            write(sbd / "cls" / f"{name}.mat", sbd_mat(labels[name] % 20))
            write(sbd / "img" / f"{name}.jpg", (voc / "JPEGImages" / f"{name}.jpg").read_bytes())
    return root


# Class, value in a grey file, colour in an RGB file: two values of one class, and void.
OWN_CLASSES = (
    ("soil", 0, (96, 64, 32)),
    ("leaf", 10, (32, 160, 64)),
    ("leaf", 11, (64, 200, 96)),
    ("stem", 20, (160, 160, 48)),
    ("void", 255, (255, 255, 255)),
)


def make_own(root: Path, counts=COUNTS, size=SIZE, colored=False) -> Path:
    """A user's own data set: labels are grey, or RGB if `colored`; pictures lie at two depths."""
    scenes = Scenes(size, range(len(OWN_CLASSES)))
    lines = ["class,value,color"]
    for name, value, rgb in OWN_CLASSES:
        color = "#{:02x}{:02x}{:02x}".format(*rgb)
        lines.append(f"{name},{'' if colored else value},{color}")
    write(root / "classes.csv", "\n".join(lines).encode())
    coded = [rgb if colored else value for _, value, rgb in OWN_CLASSES]
    for split, count in counts:
        for k in range(count):
            name = f"field/{k:03d}" if k % 2 else f"{k:03d}"
            ending, encode = ((".jpg", jpeg), (".png", png))[k % 2]
            write(root / "images" / split / (name + ending), encode(scenes.image()))
            label = np.array(coded, np.uint8)[scenes.label()]
            write(root / "labels" / split / f"{name}.png", png(label))
    return root


def split_number(split: str) -> int:
    return ("train", "val", "test").index(split)


def _palette_png(label) -> bytes:
    """VOC's own form: indices with a palette of colours."""
    image = Image.fromarray(label.astype(np.uint8)).convert("P")
    image.putdata(label.astype(np.uint8).ravel().tolist())
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
