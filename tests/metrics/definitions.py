"""The metrics once more, pixel by pixel and class by class, as the definitions read.

Shares nothing with the library: sets of coordinates and loops.
"""

import math

import numpy as np


def blobs(seed, height, width, num_classes, *, void=0.0, block=3, noise=0.15):
    """A blobby label map and a prediction that is a displaced, noisy version of it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, num_classes, (height // block + 3, width // block + 3))
    fine = coarse.repeat(block, 0).repeat(block, 1)
    dy, dx = rng.integers(0, block + 1, 2)
    label = fine[:height, :width].copy()
    prediction = fine[dy : dy + height, dx : dx + width].copy()
    noisy = rng.random((height, width)) < noise
    prediction[noisy] = rng.integers(0, num_classes, int(noisy.sum()))
    hidden = rng.random((height // block + 1, width // block + 1)) < void
    label[hidden.repeat(block, 0).repeat(block, 1)[:height, :width]] = 255
    return label, prediction


def slow_confusion(label, prediction, num_classes, ignore=255):
    counts = [[0] * num_classes for _ in range(num_classes)]
    for truth, guess in zip(label.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if truth != ignore:
            counts[truth][guess] += 1
    return np.array(counts)


def slow_masks(label, prediction, index, ignore=255):
    """Binary masks of one class as lists of lists, void set to 0 in both."""
    height, width = label.shape
    masks = []
    for source in (label, prediction):
        masks.append(
            [
                [bool(label[y, x] != ignore and source[y, x] == index) for x in range(width)]
                for y in range(height)
            ]
        )
    return masks


def slow_boundary(mask):
    """Coordinates that differ from the right, lower or lower-right neighbour that exists."""
    height, width = len(mask), len(mask[0])
    found = set()
    for y in range(height):
        for x in range(width):
            for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                if v < height and u < width and mask[v][u] != mask[y][x]:
                    found.add((y, x))
    return found


def slow_boundary_f(label, prediction, index, threshold, ignore=255):
    """F of one class in one image; None when both boundaries are empty."""
    height, width = label.shape
    radius = threshold
    if threshold < 1:
        radius = math.ceil(threshold * math.sqrt(height**2 + width**2))
    truth, guess = (slow_boundary(mask) for mask in slow_masks(label, prediction, index, ignore))
    if not truth and not guess:
        return None
    if not truth or not guess:
        return 0.0

    def near(points, others):
        return sum(
            any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points
        )

    precision, recall = near(guess, truth) / len(guess), near(truth, guess) / len(truth)
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def slow_erosion(mask):
    """One erosion by the 3×3 square; beyond the image there is background."""
    height, width = len(mask), len(mask[0])
    return [
        [
            all(
                0 <= v < height and 0 <= u < width and mask[v][u]
                for v in (y - 1, y, y + 1)
                for u in (x - 1, x, x + 1)
            )
            for x in range(width)
        ]
        for y in range(height)
    ]


def slow_boundary_iou(label, prediction, index, ratio, ignore=255):
    """(intersection, union) of the boundary bands of one class."""
    height, width = label.shape
    times = max(1, round(ratio * math.sqrt(height**2 + width**2)))
    bands = []
    for mask in slow_masks(label, prediction, index, ignore):
        eroded = mask
        for _ in range(times):
            eroded = slow_erosion(eroded)
        bands.append(
            {(y, x) for y in range(height) for x in range(width) if mask[y][x] and not eroded[y][x]}
        )
    return len(bands[0] & bands[1]), len(bands[0] | bands[1])
