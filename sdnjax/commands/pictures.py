"""The pictures that predict.py is given, how they are read, and the files that it may write."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from sdnjax.data.data_settings import Data, wants_superpixels
from sdnjax.data.pixels import Pixels
from sdnjax.data.preparing.slic import require_scikit_image, slic
from sdnjax.data.sets.finding import walk
from sdnjax.data.sets.layouts import PICTURE_ENDINGS
from sdnjax.errors import InputError
from sdnjax.files import write_atomically

_LIST = ".predictions.json"


def find_pictures(
    paths: Sequence[Path], report: Callable[[str], None] = lambda line: None
) -> dict[str, Path]:
    """Output name → file, in order of the folders' names; folders are searched at every depth.

    A name that occurs twice keeps its ending, then gets a number. What predict.py wrote into a
    folder earlier is no picture of it.

    Raises: InputError for a path that is not there, or a folder without pictures.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            ours = written_into(path)
            everything = [file for file in walk(path) if file not in ours]
            inside = [file for file in everything if file.suffix.lower() in PICTURE_ENDINGS]
            if not inside:
                raise InputError(f"{path} holds no pictures ({', '.join(PICTURE_ENDINGS)})")
            taken = set(inside)
            if others := [file.name for file in everything if file not in taken]:
                few = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
                report(f"{path}: {len(others)} file(s) are no pictures and left out: {few}")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    files = list(dict.fromkeys(files))
    stems = [f.stem for f in files]
    named: dict[str, Path] = {}
    for file in files:
        name = file.stem if stems.count(file.stem) == 1 else file.name.replace(".", "_")
        unique, n = name, 2
        while unique in named:
            unique, n = f"{name}_{n}", n + 1
        named[unique] = file
    return named


def extra_inputs(names: tuple[str, ...], image: np.ndarray, data: Data) -> dict[str, np.ndarray]:
    """What a network reads besides a picture; superpixels are computed as for the data set."""
    if "label" in names:
        raise InputError(
            "the network is an oracle that reads labels, which a picture does not have: eval.py "
            "scores it on a data set"
        )
    if not wants_superpixels(data, names):
        return {}
    require_scikit_image()
    assert data.superpixels is not None
    return {"superpixels": slic(image, data.superpixels)}


def own_pixels(data: Data, *, stored: bool = False) -> Pixels:
    """How pictures are read: a person wants them the right way up; benchmarks label them as they
    are stored."""
    orientation = "stored" if stored else data.exif_orientation or "upright"
    return dataclasses.replace(data.pixels, orientation=orientation)


def claim(
    out: Path, names: Iterable[str], inputs: Iterable[Path], *, by: str = "predict.py"
) -> None:
    """Reserves the files `names` in the folder `out` for `by`; a list of them is kept there.

    Raises: InputError if one of them is there and not of an earlier call, or is an input.
    """
    names = list(names)
    ours, given = written_into(out), {path.resolve() for path in inputs}
    taken = [
        name
        for name in names
        if (out / name).resolve() in given or ((out / name).exists() and out / name not in ours)
    ]
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise InputError(
            f"{out / taken[0]}{more} would be overwritten, which {by} has not written: name "
            "another folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    record = sorted({path.name for path in ours if path.exists()} | set(names))
    write_atomically(out / _LIST, json.dumps(record, indent=0) + "\n")


def written_into(folder: Path) -> set[Path]:
    """The files that earlier calls wrote, or were about to write, into a folder."""
    try:
        names = json.loads((folder / _LIST).read_text())
    except (OSError, ValueError):
        return set()
    return {folder / str(name) for name in names} if isinstance(names, list) else set()
