"""Move label maps of any program along the directions of a SegFix run.

    python -m sdnjax.commands.segfix runs/cityscapes_segfix_hr48 leftImg8bit/val \\
        --labels segmented/ --out mended/

For each picture NAME.jpg it reads NAME.png in the folder of --labels, or NAME_labels.png, which
predict.py writes, or what --ending says, and writes a file of the same name, kind and palette to
--out. Labels are 8-bit or 16-bit grey, palette or colour PNGs; values and colours are moved, never
mixed. Nothing is overwritten but what this command has written itself.

Near a boundary that the run sees in the picture a pixel gets the label two pixels further inside
the object (Yuan et al., ECCV 2020). Labels of networks here can be moved as they are made:
`eval.py` and `predict.py` have --segfix RUN.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from sdnjax.commands.command_line import (
    PICTURES,
    PREDICTION,
    add_code,
    add_on_bad_image,
    add_protocol,
    add_step,
    from_workdir,
    parse_experiment,
    run,
)
from sdnjax.commands.directions import Directions
from sdnjax.commands.pictures import claim, find_pictures, own_pixels
from sdnjax.commands.trained import Step
from sdnjax.data.reading.images import read_image
from sdnjax.data.reading.labels import decode_label_and_palette
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.files import read_bytes, write_atomically
from sdnjax.ops.offsets import move_labels, offsets_of
from sdnjax.options import OneLineParser

ENDINGS = (".png", "_labels.png")


def move_label_files(
    workdir: str | Path,
    experiment: Experiment,
    pictures: Sequence[str | Path],
    labels: str | Path,
    out: str | Path,
    *,
    ending: str | None = None,
    distance: int = 2,
    step: Step = None,
    report: Callable[[str], None] = tqdm.write,
) -> list[Path]:
    """Moves the label files of pictures; returns the files written, in order of the pictures.

    Args:
      experiment: the SegFix run's own, or that with other settings of `data` and `evaluation`.
      pictures: files, or folders of them.
      labels: folder of the label files, NAME + ending.
      out: folder to write to.
      ending: None for whichever of `ENDINGS` is there.
      distance: in pixels, from how far inside labels are taken.

    Raises: InputError for a picture without labels (all of them are named), a file of another
      size, one that cannot be read, and one that is no label map.
    """
    if distance < 1:
        raise InputError(f"--distance must be at least 1, not {distance}")
    labels, out = Path(labels), Path(out)
    files = find_pictures([Path(p) for p in pictures], report)
    partners = _partners(list(files.values()), labels, (ending,) if ending else ENDINGS)
    names = {name: partners[file].name for name, file in files.items()}
    if doubled := [name for name in names.values() if list(names.values()).count(name) > 1]:
        raise InputError(f"two of the pictures have the labels {labels / doubled[0]}")
    directions = Directions(workdir, experiment, step)
    claim(out, names.values(), [*files.values(), *partners.values()], by="this command")
    pixels = own_pixels(experiment.data)
    written, left_out = [], []
    for name, file in tqdm(files.items(), unit="picture", disable=None):
        try:
            image = read_image(file, pixels)
            values, palette = _read(partners[file])
            _check_size(image, file, values, partners[file])
        except InputError as error:
            if experiment.data.on_bad_image == "raise":
                raise
            left_out.append(str(error))
            continue
        boundary, direction = directions(image)
        moved = move_labels(values, offsets_of(boundary, direction, steps=distance))
        changed = (moved != values).reshape(*values.shape[:2], -1).any(axis=-1)
        write_atomically(out / names[name], _png(moved, palette))
        report(
            f"{name}: {boundary.mean():.1%} of the pixels near a boundary, "
            f"{changed.mean():.2%} with another label"
        )
        written.append(out / names[name])
    for line in left_out:
        report(f"left out: {line}")
    report(f"{len(written)} of {len(files)} label map(s) written to {out}")
    if not written:
        raise InputError("none of the pictures and labels could be read")
    return written


def _partners(pictures: list[Path], folder: Path, endings: Sequence[str]) -> dict[Path, Path]:
    """Picture → its label file; InputError that names all pictures without one."""
    if not folder.is_dir():
        raise InputError(f"--labels {folder} is no folder")
    found: dict[Path, Path] = {}
    missing = []
    for picture in pictures:
        there = [p for p in (folder / f"{picture.stem}{e}" for e in endings) if p.is_file()]
        there = [p for p in there if p.resolve() != picture.resolve()]
        if len(there) > 1:
            raise InputError(f"{there[0]} and {there[1].name} are both there: --ending says which")
        if there:
            found[picture] = there[0]
        else:
            missing.append(picture.name)
    if missing:
        expected = " or ".join(f"NAME{ending}" for ending in endings)
        raise InputError(
            f"--labels {folder} has no {expected} for {len(missing)} of {len(pictures)} "
            f"picture(s): {', '.join(missing)}"
        )
    return found


def _read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """What a label file stores, `[H, W]` or colours `[H, W, 3]`, and its palette."""
    values, palette = decode_label_and_palette(
        read_bytes(path), str(path), values=True, colors=True
    )
    if values.dtype not in (np.uint8, np.uint16):
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise InputError(f"{path}: holds values beyond 16 bits, which PNG does not")
        values = values.astype(np.uint16)
    return values, palette


def _check_size(image: np.ndarray, file: Path, values: np.ndarray, labels: Path) -> None:
    if image.shape[:2] != values.shape[:2]:
        (h, w), (height, width) = image.shape[:2], values.shape[:2]
        raise InputError(
            f"{labels} is {width}×{height}, its picture {file} {w}×{h}: labels are moved at the "
            "picture's own size"
        )


def _png(values: np.ndarray, palette: np.ndarray | None) -> bytes:
    picture = Image.fromarray(values)
    if palette is not None:
        picture.putpalette(palette.tobytes(), "RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    """The command."""
    parser = OneLineParser(
        prog="python -m sdnjax.commands.segfix",
        usage="python -m sdnjax.commands.segfix RUN PICTURE [PICTURE …] --labels FOLDER "
        "--out FOLDER [options]",
        description=__doc__,
    )
    parser.add_argument("workdir", type=Path, help="work directory of a SegFix run")
    parser.add_argument("pictures", type=Path, nargs="+", help="image files or folders of them")
    parser.add_argument("--labels", type=Path, required=True, help="folder of the label files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--ending", help="of the labels' names, such as _pred.png [.png or _labels.png]"
    )
    parser.add_argument(
        "--distance", type=int, default=2, help="pixels, how far labels come from [2]"
    )
    add_step(parser)
    add_protocol(parser)
    add_code(parser)
    add_on_bad_image(parser)
    arguments, experiment = parse_experiment(
        parser, "work directory", from_workdir, uses=(*PREDICTION, *PICTURES)
    )
    move_label_files(
        arguments.workdir,
        experiment,
        arguments.pictures,
        arguments.labels,
        arguments.out,
        ending=arguments.ending,
        distance=arguments.distance,
        step=arguments.step,
    )


if __name__ == "__main__":
    sys.exit(run(main))
