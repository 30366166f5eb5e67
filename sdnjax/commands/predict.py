"""Segmenting a user's own pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sdnjax.commands.pictures import claim, find_pictures
from sdnjax.commands.submission import FORMATS, check_names, class_values
from sdnjax.commands.trained import Step, load_network
from sdnjax.data.data_settings import Data, wants_superpixels
from sdnjax.data.pixels import Pixels
from sdnjax.data.preparing.slic import require_scikit_image, slic
from sdnjax.data.reading.images import read_image
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.scoring import check_canvas
from sdnjax.visualize import legend, overlay, save_png, shown, undrawable

# What is written for a picture, the labels or what takes their place first.
_ENDINGS: dict[str | None, tuple[str, ...]] = {
    None: ("_labels.png", "_overlay.png"),
    "probabilities": ("_probabilities.npy",),
}


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
    `legend.png`; with "probabilities" `NAME_probabilities.npy`, float16 `[H, W, K]`; with another
    `NAME.png` alone, in a server's label values. Nothing is overwritten but what an earlier call
    has written.

    Args:
      experiment: the run's own, or that with other settings of `data` and `evaluation`.
      pictures: files, or folders whose images are taken in order of name.
      out: folder to write to.
      opacity: of the overlay's colours.
      format: None, "probabilities", or one of `submission.FORMATS`.

    Returns the label files, one for each picture that could be read.
    """
    if not 0 <= opacity <= 1:
        raise InputError(f"--opacity must lie between 0 and 1, not {opacity:g}")
    out = Path(out)
    files = find_pictures([Path(p) for p in pictures], report)
    network = load_network(workdir, experiment, step)
    server = format if format in FORMATS else None
    if server is not None:
        check_names(server, [file.stem for file in files.values()])
        values = class_values(server, len(network.classes))
        if len({file.stem for file in files.values()}) < len(files):
            raise InputError(f"--format {server}: two of the pictures have one name")
    data = experiment.data
    predictor = network.predictor()
    variables = predictor.place(network.variables)
    endings = _ENDINGS.get(format, (".png",))
    names = [name + ending for name in files for ending in endings]
    claim(out, [*names, "legend.png"] if format is None else names, files.values())
    if format is None:
        save_png(out / "legend.png", legend(network.classes, network.palette))
        if lost := undrawable(network.classes):
            report(lost)
    written: list[Path] = []
    failures: list[str] = []
    for name, image in _read(files, data.on_bad_image, failures, own_pixels(data, server)):
        check_canvas(image.shape[:2], experiment.evaluation, name)
        extras = [extra_inputs(predictor.extras, image, data)]
        file = out / (name + endings[0])
        if format == "probabilities":
            (probabilities,) = predictor.probabilities(variables, [image], extras)
            np.save(file, probabilities.astype(np.float16))
            labels = probabilities.argmax(-1)
        else:
            (labels,) = predictor.labels(variables, [image], extras)
        if format is None:
            colours = overlay(shown(image), labels, network.palette, opacity)
            save_png(out / (name + endings[1]), colours)
            save_png(file, labels, network.palette)
        elif server is not None:
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


def own_pixels(data: Data, server: str | None = None) -> Pixels:
    """How pictures are read: benchmarks label an image as it is stored; a person wants it the
    right way up."""
    if server is not None:
        return dataclasses.replace(data.pixels, orientation="stored")
    return dataclasses.replace(data.pixels, orientation=data.exif_orientation or "upright")


def _read(
    files: dict[str, Path], on_bad_image: str, failures: list[str], pixels: Pixels
) -> Iterator[tuple[str, np.ndarray]]:
    for name, file in tqdm(files.items(), unit="picture", disable=None):
        try:
            image = read_image(file, pixels)
        except InputError as error:
            if on_bad_image == "raise":
                raise
            failures.append(str(error))
            continue
        yield name, image
