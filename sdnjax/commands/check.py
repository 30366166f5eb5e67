"""Looking a data set over before anything is trained on it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sdnjax.data.data_settings import Data, dataset_of
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.reading.images import orientation_of
from sdnjax.data.reading.source import Failures, Source
from sdnjax.data.reading.statistics import Statistics
from sdnjax.data.sets.folder import left_out
from sdnjax.data.sets.items import Encoded
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from sdnjax.files import write_atomically
from sdnjax.ops.labels import IGNORE
from sdnjax.visualize import colorize, legend, overlay, panel, save_png, shown, undrawable

SHOWN = 6  # augmented samples in the picture
_DULL = 16  # fewer grey levels than this between the darkest and the brightest value
Notes = dict[str, list[str]]
_SIDE = 512  # longest side of one of them there


def check_split(
    data: Data,
    split: str,
    out: str | Path,
    *,
    seed: int = 0,
    report: Callable[[str], None] = tqdm.write,
) -> dict[str, Any]:
    """Reads every example of a split as training would, and says what is there.

    Prints the examples that cannot be used, sizes, colours and the share of every class, and
    writes `SPLIT.json` with all of it, `SPLIT_samples.png` with augmented examples and their
    labels, and `legend.png` to the folder `out`.

    Args:
      data: the data set; `data.workers` threads read it.
      seed: of the augmented examples.

    Returns what the JSON holds. Raises: InputError if the split cannot be opened at all.
    """
    out = Path(out)
    # A file without its partner is one more that cannot be used.
    source = open_source(dataclasses.replace(data, on_bad_image="skip"), split)
    statistics, failures, notes = read_all(source, data.workers)
    results = summary(data, split, source, statistics, failures) | {"notes": notes}
    results["left_out"] = [str(file) for file in _left_out(data, split)]
    for line in describe(results):
        report(line)
    space = source.label_space
    save_png(out / "legend.png", legend(space.classes, np.array(space.palette, np.uint8)))
    write_atomically(out / f"{split}.json", json.dumps(results, indent=1) + "\n")
    if statistics.examples:
        save_png(out / f"{split}_samples.png", samples(data, source, seed))
    if lost := undrawable(space.classes):
        report(lost)
    report(f"written to {out}")
    return results


def read_all(source: Source, workers: int) -> tuple[Statistics, Failures, Notes]:
    """Statistics of the readable examples, what is wrong with the others, and what may be."""
    failures, classes = Failures(), source.label_space.num_classes
    notes: Notes = {"turned": [], "dull": [], "void": []}

    def one(index: int) -> Statistics | None:
        try:
            files = source.read(index)
            turned = isinstance(files, Encoded) and orientation_of(files.image) != 1
            example = source.decode(files)
        except InputError as error:
            failures.add(source.name(index), str(error))
            return None
        if turned:
            notes["turned"].append(example.name)
        if example.image.max() - int(example.image.min()) < _DULL:
            notes["dull"].append(f"{example.name} ({example.image.min()} to {example.image.max()})")
        if (example.label == IGNORE).all():
            notes["void"].append(example.name)
        return Statistics.of(example.image, example.label, classes)

    total = Statistics.empty(classes, source.pixels.channels)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="sdnjax-check")
    try:
        found: Iterator[Statistics | None] = pool.map(one, range(len(source)))
        for statistics in tqdm(found, total=len(source), unit="image", disable=None):
            if statistics is not None:
                total = total + statistics
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return total, failures, {kind: sorted(names) for kind, names in notes.items()}


def summary(
    data: Data, split: str, source: Source, statistics: Statistics, failures: Failures
) -> dict[str, Any]:
    """Everything that was found, ready for JSON."""
    mean, std = statistics.moments()
    pixels, labelled = statistics.pixels, int(statistics.pixels[:-1].sum())
    classes = [
        {
            "class": name,
            "share": float(count / labelled) if labelled else 0.0,
            "images": int(images),
        }
        for name, count, images in zip(
            source.label_space.classes, pixels[:-1], statistics.images[:-1], strict=True
        )
    ]
    data_set = dataset_of(data)
    void = float(pixels[-1] / pixels.sum()) if pixels.sum() else 0.0
    absent = [c["class"] for c in classes if c["images"] == 0]
    return {
        "data": data_set.name,
        "split": split,
        "exif_orientation": data.pixels.orientation,
        "note": source.note,
        "examples": len(source),
        "published": data_set.counts.get(split),
        "unusable": failures.messages,
        "sizes": {f"{w}×{h}": n for (h, w), n in statistics.sizes.most_common()},
        "mean": [round(float(m), 3) for m in mean],
        "std": [round(float(s), 3) for s in std],
        "normalised_with_mean": list(data.mean),
        "normalised_with_std": list(data.std),
        "void": void,
        "nothing_labelled": bool(pixels.sum() and not labelled),
        "suspicious_void": absent if void > 0.05 else [],
        "classes": classes,
    }


def describe(results: dict[str, Any]) -> Iterator[str]:
    """The summary as lines for people."""
    published, examples = results["published"], results["examples"]
    beside = f", {published:,} were published" if published not in (None, examples) else ""
    yield f"{results['data']}, {results['split']}: {examples:,} examples{beside}"
    if results["note"]:
        yield results["note"]
    unusable = results["unusable"]
    for message in unusable.values():
        yield f"unusable: {message}"
    yield f"{len(unusable):,} cannot be used" if unusable else "all of them can be used"
    if left := results.get("left_out"):
        yield f"{len(left):,} file(s) are neither picture nor label and left out: {_few(left)}"
    yield from _doubts(results)
    if len(unusable) == examples:
        return
    sizes = results["sizes"]
    common = ", ".join(f"{size} ({n:,})" for size, n in list(sizes.items())[:3])
    rest = f" and {len(sizes) - 3:,} more" if len(sizes) > 3 else ""
    yield f"sizes, width×height: {common}{rest}"
    for name in ("mean", "std"):
        found, used = (
            ", ".join(f"{x:.1f}" for x in results[key]) for key in (name, f"normalised_with_{name}")
        )
        bands = "red, green, blue" if len(results[name]) == 3 else "the bands"
        yield f"{name} of {bands}: {found} (normalised with {used})"
    width = max(len(c["class"]) for c in results["classes"])
    yield f"{'class'.ljust(width)}   share of labelled pixels   images"
    for c in results["classes"]:
        missing = "   in no image" if c["images"] == 0 else ""
        share = f"{100 * c['share']:.3f} %"
        yield f"{c['class'].ljust(width)}   {share:>24}   {c['images']:>6,}{missing}"
    yield f"void: {100 * results['void']:.2f} % of all pixels"
    if results["nothing_labelled"]:
        yield (
            "error: every pixel is void: nothing can be learnt or scored; is void in the class "
            "file what the labels use for an object?"
        )
    elif results["suspicious_void"]:
        yield (
            f"warning: {', '.join(results['suspicious_void'])} in no image, and void in "
            f"{100 * results['void']:.1f} % of all pixels: if the labels use void's value (often "
            "255) for an object, list it as that class"
        )


def _doubts(results: dict[str, Any]) -> Iterator[str]:
    """What may be wrong though it can be read."""
    notes = results.get("notes", {})
    if names := notes.get("turned"):
        upright = results["exif_orientation"] == "upright"
        how = "turned upright" if upright else "read as they are stored"
        yield (
            f"{len(names):,} picture(s) are stored turned (EXIF orientation) and {how}: "
            f"{_few(names)}; if their labels do not fit, set --data.exif_orientation "
            f"{'stored' if upright else 'upright'}"
        )
    if names := notes.get("dull"):
        yield (
            f"ATTENTION: {len(names):,} picture(s) are nearly of one colour, values of 0-255: "
            f"{_few(names)}; does --data.value_range fit?"
        )
    if names := notes.get("void"):
        yield f"ATTENTION: {len(names):,} label(s) are void everywhere: {_few(names)}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _left_out(data: Data, split: str) -> list[Path]:
    if data.name != "folder" or data.dir is None:
        return []
    return left_out(Path(data.dir).expanduser(), split)


def samples(data: Data, source: Source, seed: int) -> np.ndarray:
    """A sheet of augmented training examples, as the network sees them, with their labels."""
    data = dataclasses.replace(data, on_bad_image="skip", augment_on="host", transfer="float32")
    with train_batches(data, seed=seed, batch_size=SHOWN, stop_step=1, source=source) as batches:
        batch = next(batches)
    palette = np.array(source.label_space.palette, np.uint8)
    mean, std = np.array(data.mean, np.float32), np.array(data.std, np.float32)
    step = -(-max(data.crop_size) // _SIDE)
    rows = []
    for image, label in zip(batch["image"], batch["label"], strict=True):
        picture = np.clip(np.rint(image * std + mean), 0, 255).astype(np.uint8)[::step, ::step]
        picture, label = shown(picture), label[::step, ::step]
        rows.append([picture, colorize(label, palette), overlay(picture, label, palette)])
    return panel(rows, titles=("augmented image", "label", "both"))
