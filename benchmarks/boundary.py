"""Time of the boundary F-measure, against one binary dilation per class with scikit-image.

    pip install scikit-image
    python -m benchmarks.boundary [--json FILE]

One label map of 1024×2048 pixels and 19 classes, and a prediction that errs along its
boundaries. Both sides give the same scores, which is checked, and take turns in one process.
scikit-image's side is Gated-SCNN's way: per class and tolerance two dilations by a disk.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import skimage
from skimage.morphology import dilation, disk

from sdnjax.metrics import boundary_f_scores

SIZE, CLASSES, THRESHOLDS = (1024, 2048), 19, (1, 3)


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A label map of smooth regions with void, and the same moved by two pixels, with specks."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(CLASSES, SIZE[0] // 64 + 1, SIZE[1] // 64 + 1))
    for axis in (1, 2):  # bilinear, so that regions have smooth edges in every direction
        coarse = np.repeat(coarse, 64, axis)
        kernel = np.ones(64) / 64
        coarse = np.apply_along_axis(np.convolve, axis, coarse, kernel, "same")
    label = coarse[:, : SIZE[0], : SIZE[1]].argmax(axis=0).astype(np.uint8)
    prediction = np.roll(label, (2, 1), axis=(0, 1))
    specks = rng.random(SIZE) < 0.001
    prediction[specks] = rng.integers(0, CLASSES, int(specks.sum()))
    label[-100:, 500:900] = 255
    return label, prediction


def with_scikit_image(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """`boundary_f_scores(…, absent="one")`, class by class."""
    scores = np.ones((CLASSES, len(THRESHOLDS)))
    void = label == 255
    for k in range(CLASSES):
        edges = [_boundary((m == k) & ~void) for m in (prediction, label)]
        counts = [int(e.sum()) for e in edges]
        for t, radius in enumerate(THRESHOLDS):
            near = [dilation(e, disk(radius)) for e in edges]
            if all(counts):
                precision = (edges[0] & near[1]).sum() / counts[0]
                recall = (edges[1] & near[0]).sum() / counts[1]
                total = precision + recall
                scores[k, t] = 2 * precision * recall / total if total else 0.0
            elif any(counts):
                scores[k, t] = 0.0
    return scores


def _boundary(mask: np.ndarray) -> np.ndarray:
    right, below, corner = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    corner[:-1, :-1] = mask[1:, 1:]
    edges = (mask ^ right) | (mask ^ below) | (mask ^ corner)
    edges[-1] = mask[-1] ^ right[-1]
    edges[:, -1] = mask[:, -1] ^ below[:, -1]
    edges[-1, -1] = False
    return edges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also save the result to this file")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    label, prediction = scene()
    seconds: dict[str, list[float]] = {"sdnjax": [], "scikit-image": []}
    for _ in range(options.repeats):
        start = time.perf_counter()
        ours = boundary_f_scores(label, prediction, CLASSES, THRESHOLDS)
        middle = time.perf_counter()
        theirs = with_scikit_image(label, prediction)
        seconds["sdnjax"].append(middle - start)
        seconds["scikit-image"].append(time.perf_counter() - middle)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "image": [*SIZE, CLASSES],
        "thresholds_px": THRESHOLDS,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "scikit-image": skimage.__version__,
        "median_seconds": medians,
        "ratio": medians["scikit-image"] / medians["sdnjax"],
    }
    print(f"{CLASSES} classes, {SIZE[0]}×{SIZE[1]}, {THRESHOLDS} px, {os.cpu_count()} cores:")
    for name, value in medians.items():
        print(f"  {name:13} {value:8.3f} s")
    print(f"  the same scores, {result['ratio']:.0f} times faster")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
