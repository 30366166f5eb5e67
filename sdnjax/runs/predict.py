"""Segmenting a user's own pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sdnjax.data.images import normalize, read_image
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.predictor import Predictor
from sdnjax.runs.network import load_network
from sdnjax.visualize import legend, overlay, save_png

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def predict_pictures(
    workdir: Path,
    experiment: Experiment,
    pictures: Sequence[Path],
    out: Path,
    *,
    step: int | None = None,
    opacity: float = 0.5,
    report: Callable[[str], None] = tqdm.write,
) -> list[Path]:
    """Writes overlay and labels of every picture, and the legend.

    Args:
      experiment: the run's own, or that with other settings of `data` and `evaluation`.
      pictures: files, or folders whose images are taken in order of name.
      out: folder for `NAME_overlay.png`, `NAME_labels.png` and `legend.png`.

    Returns the label files, one for each picture that could be read.
    """
    files = find_pictures(pictures)
    network = load_network(workdir, step)
    predictor = Predictor(network.model, experiment.evaluation)
    variables = predictor.place(network.variables)
    save_png(out / "legend.png", legend(network.classes, network.palette))
    written, failures = [], []
    for name, image in _read(files, experiment.data.on_bad_image, failures):
        x = normalize(image, experiment.data)
        (labels,) = predictor.labels(variables, [x])[:1]
        save_png(out / f"{name}_overlay.png", overlay(image, labels, network.palette, opacity))
        save_png(out / f"{name}_labels.png", labels, network.palette)
        shares = np.bincount(labels.ravel(), minlength=len(network.classes)) / labels.size
        largest = [f"{network.classes[k]} {shares[k]:.0%}" for k in np.argsort(-shares)[:3]]
        report(f"{name}: {', '.join(largest)}")
        written.append(out / f"{name}_labels.png")
    for failure in failures:
        report(f"left out: {failure}")
    report(f"{len(written)} of {len(files)} picture(s) segmented into {out}")
    if not written:
        raise InputError("none of the pictures could be read")
    return written


def find_pictures(paths: Sequence[Path]) -> dict[str, Path]:
    """Output name → file. A name that occurs twice keeps its ending, then gets a number."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    stems = [f.stem for f in files]
    named: dict[str, Path] = {}
    for file in files:
        name = file.stem if stems.count(file.stem) == 1 else file.name.replace(".", "_")
        unique, n = name, 2
        while unique in named:
            unique, n = f"{name}_{n}", n + 1
        named[unique] = file
    return named


def _read(
    files: dict[str, Path], on_bad_image: str, failures: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    for name, file in tqdm(files.items(), unit="picture", disable=None):
        try:
            image = read_image(file, exif_orientation=True)
        except InputError as error:
            if on_bad_image == "raise":
                raise
            failures.append(str(error))
            continue
        yield name, image
