"""A `folder` data set made of what was found: pictures, labels, `classes.csv`."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from sdnjax.data.importing.annotated import BACKGROUND, VOID, Found, Picture, drawn_on
from sdnjax.data.sets.class_file import find_class_file, read_classes
from sdnjax.data.sets.items import Pair
from sdnjax.data.sets.label_space import IGNORE, LabelSpace
from sdnjax.errors import InputError
from sdnjax.files import read_bytes


def write_found(found: Found, target: Path) -> list[str]:
    """Paints the regions of all pictures and writes them; returns what is to be said.

    The value of `background` is 0, of the classes 1, 2, …, of void 255.

    Raises: InputError if `target` holds anything, for two pictures of one name, and for more
      than 254 classes.
    """
    classes = [BACKGROUND, *(name for name in found.classes if name not in (BACKGROUND, VOID))]
    if len(classes) > IGNORE:
        raise InputError(f"{len(classes) - 1} classes and the background; there may be 255")
    values = {name: k for k, name in enumerate(classes)} | {VOID: IGNORE}
    left_out, empty = Counter(found.left_out), 0
    counts: Counter = Counter()
    with _staged(target) as stage:
        for picture in found.pictures:
            image, ending, size = drawn_on(picture)
            label = np.zeros(size, np.uint8)
            for region in picture.regions:
                try:
                    mask = region.mask(size)
                except InputError as error:
                    raise InputError(f"{picture.where}: {error}") from None
                if not mask.any():
                    left_out["regions without a pixel inside the picture"] += 1
                label[mask] = values[region.label]
            empty += not picture.regions
            counts[picture.split] += 1
            buffer = io.BytesIO()
            Image.fromarray(label).save(buffer, "PNG")
            _write(stage, picture, image, ending, buffer.getvalue())
        lines = [f"{name},{value}" for name, value in values.items()]
        for name in values:
            if any(mark in name for mark in ',"\n\r;\t'):
                raise InputError(f"the class name {name!r} cannot be written to classes.csv")
        (stage / "classes.csv").write_text("\n".join(["class,value", *lines, ""]), "utf-8")
        read_classes(stage / "classes.csv")  # what it refuses is refused before anything is kept
    said = [f"{split}: {count} pictures" for split, count in sorted(counts.items())]
    said.append(f"classes: {', '.join(classes)}")
    said += [f"left out: {count} {what}" for what, count in sorted(left_out.items()) if count]
    if empty:
        said.append(f"{empty} pictures have no region and are {BACKGROUND} everywhere")
    return said


def write_pairs(
    splits: Mapping[str, Sequence[Pair]], source: Path, target: Path, class_file: Path | None = None
) -> list[str]:
    """Copies pairs of pictures and labels as they are, and writes their classes.

    Raises: InputError if `target` holds anything, or the classes cannot be read.
    """
    space = read_classes(class_file or find_class_file(source))
    names = {"valid": "val", "validation": "val"}
    said = []
    with _staged(target) as stage:
        for split, pairs in splits.items():
            split = names.get(split, split)
            for pair in pairs:
                picture = Picture(
                    split, pair.name, read_bytes(pair.image), pair.image.suffix, str(pair.image), ()
                )
                label = read_bytes(pair.label)
                _write(stage, picture, picture.image, picture.ending, label, kind=pair.label.suffix)
            said.append(f"{split}: {len(pairs)} pictures")
        (stage / "classes.csv").write_text(_class_lines(space), "utf-8")
        if read_classes(stage / "classes.csv") != space:
            raise InputError(f"{source}: its class names cannot be written to classes.csv")
    return [*said, f"classes: {', '.join(space.classes)}"]


def _class_lines(space: LabelSpace) -> str:
    """`classes.csv` of a label space, values and colours as far as they are listed."""
    names = dict(enumerate(space.classes)) | {IGNORE: VOID}
    rows = ["class,value,color"]
    if not space.file_colors:
        rows = ["class,value", *(f"{names[k]},{value}" for value, k in space.file_values)]
    elif not space.file_values:
        rows += [f"{names[k]},,#{r:02x}{g:02x}{b:02x}" for (r, g, b), k in space.file_colors]
    else:
        colors = {k: rgb for rgb, k in reversed(space.file_colors)}
        rows += [
            "{},{},#{:02x}{:02x}{:02x}".format(names[k], value, *colors[k])
            for value, k in space.file_values
        ]
    return "\n".join([*rows, ""])


def _write(
    stage: Path, picture: Picture, image: bytes, ending: str, label: bytes, *, kind: str = ".png"
) -> None:
    name = PurePosixPath(picture.name)
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"{picture.where}: the picture's name {picture.name} leads elsewhere")
    image_file = stage / "images" / picture.split / f"{picture.name}{ending}"
    label_file = stage / "labels" / picture.split / f"{picture.name}{kind}"
    for file, content in ((image_file, image), (label_file, label)):
        if file.exists() or (file == label_file and label_file.with_suffix(".png").exists()):
            raise InputError(
                f"{picture.where}: two pictures of {picture.split!r} are called {picture.name}"
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place at the end; nothing stays after an error."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"--to {target} is there already: name a folder that is not")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        stage.chmod(0o755)  # others may read it too
    except OSError as error:
        raise InputError(f"--to {target}: cannot be written ({error.strerror})") from None
    try:
        yield stage
        if target.exists():
            target.rmdir()
        stage.rename(target)
    except OSError as error:
        raise InputError(f"--to {target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
