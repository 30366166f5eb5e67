"""Segmenting a user's own pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sdnjax.commands.submission import FORMATS, check_names, class_values
from sdnjax.commands.trained import Step, load_network
from sdnjax.data.data_settings import Data, wants_superpixels
from sdnjax.data.preparing.slic import require_scikit_image, slic
from sdnjax.data.reading.images import read_image
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.predictor import Predictor
from sdnjax.visualize import legend, overlay, save_png, undrawable

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def predict_pictures(
    workdir: str | Path,
    experiment: Experiment,
    pictures: Sequence[str | Path],
    out: str | Path,
    *,
    step: Step = None,
    opacity: float = 0.5,
    format: str | None = None,
    report: Callable[[str], None] = tqdm.write,
) -> list[Path]:
    """Segments pictures, for people or for a test server.

    Without `format` it writes `NAME_overlay.png` and `NAME_labels.png` of every picture and
    `legend.png`; with it `NAME.png` alone, in the server's label values.

    Args:
      experiment: the run's own, or that with other settings of `data` and `evaluation`.
      pictures: files, or folders whose images are taken in order of name.
      out: folder to write to.
      opacity: of the overlay's colours.
      format: None, or one of `submission.FORMATS`.

    Returns the label files, one for each picture that could be read.
    """
    if not 0 <= opacity <= 1:
        raise InputError(f"--opacity must lie between 0 and 1, not {opacity:g}")
    out = Path(out)
    files = find_pictures(
        [Path(p) for p in pictures], recursive=format is not None and FORMATS[format].recursive
    )
    network = load_network(workdir, experiment, step)
    if format is not None:
        check_names(format, [file.stem for file in files.values()])
        values = class_values(format, len(network.classes))
        if len({file.stem for file in files.values()}) < len(files):
            raise InputError(f"--format {format}: two of the pictures have one name")
    data = experiment.data
    predictor = Predictor(network.network, experiment.evaluation, data.normalization)
    variables = predictor.place(network.variables)
    if format is None:
        save_png(out / "legend.png", legend(network.classes, network.palette))
        if lost := undrawable(network.classes):
            report(lost)
    written: list[Path] = []
    failures: list[str] = []
    # Benchmarks label an image as it is stored; a person wants it the right way up.
    upright = format is None
    for name, image in _read(files, experiment.data.on_bad_image, failures, upright):
        (labels,) = predictor.labels(variables, [image], [_extras(predictor, image, data)])
        if format is None:
            file = out / f"{name}_labels.png"
            save_png(out / f"{name}_overlay.png", overlay(image, labels, network.palette, opacity))
            save_png(file, labels, network.palette)
        else:
            file = out / f"{name}.png"
            save_png(file, values[labels])
        shares = np.bincount(labels.ravel(), minlength=len(network.classes)) / labels.size
        largest = [f"{network.classes[k]} {shares[k]:.0%}" for k in np.argsort(-shares)[:3]]
        report(f"{name}: {', '.join(largest)}")
        written.append(file)
    for failure in failures:
        report(f"left out: {failure}")
    report(f"{len(written)} of {len(files)} picture(s) segmented into {out}")
    if not written:
        raise InputError("none of the pictures could be read")
    return written


def _extras(predictor: Predictor, image: np.ndarray, data: Data) -> dict[str, np.ndarray]:
    """What the network reads besides a picture; superpixels are computed as for the data set."""
    if not wants_superpixels(data, predictor.extras):
        return {}
    require_scikit_image()
    assert data.superpixels is not None
    return {"superpixels": slic(image, data.superpixels)}


def find_pictures(paths: Sequence[Path], *, recursive: bool = False) -> dict[str, Path]:
    """Output name → file. A name that occurs twice keeps its ending, then gets a number.

    `recursive` also takes the pictures in folders of a folder.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = path.rglob("*") if recursive else path.iterdir()
            inside = sorted(p for p in found if p.suffix.lower() in SUFFIXES)
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
    files: dict[str, Path], on_bad_image: str, failures: list[str], upright: bool
) -> Iterator[tuple[str, np.ndarray]]:
    for name, file in tqdm(files.items(), unit="picture", disable=None):
        try:
            image = read_image(file, exif_orientation=upright)
        except InputError as error:
            if on_bad_image == "raise":
                raise
            failures.append(str(error))
            continue
        yield name, image
