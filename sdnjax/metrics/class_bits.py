"""Maps in which every class is one bit, so that one pass serves all classes.

A pixel of class c is the word `1 << bit(c)`, a void pixel the word 0: the binary masks of up to
64 classes in one array. XOR, OR and shifts of whole arrays then act on every mask at once.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

_WORDS = (np.uint8, np.uint16, np.uint32, np.uint64)
WORD_BITS = 64


def class_words(
    codes: tuple[np.ndarray, np.ndarray], num_classes: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield `(classes, label words, prediction words)`, up to 64 classes at a time.

    Only classes that occur take a bit, and words are as narrow as they can be. Void pixels are 0
    in both maps. `classes` [n] lists the class of bit 0, 1, …

    Args:
      codes: label and prediction, integers [H, W] in 0…K−1, K for void pixels (`Pair.codes`).
      num_classes: K.
    """
    label, prediction = (np.bincount(each.ravel(), minlength=num_classes + 1) for each in codes)
    occurs = label + prediction
    present = np.flatnonzero(occurs[:num_classes])
    for start in range(0, present.size, WORD_BITS):
        classes = present[start : start + WORD_BITS]
        word = next(kind for kind in _WORDS if np.iinfo(kind).bits >= classes.size)
        table = np.zeros(num_classes + 1, word)
        table[classes] = np.left_shift(word(1), np.arange(classes.size, dtype=word))
        yield classes, table[codes[0]], table[codes[1]]


def count_bits(words: np.ndarray, bits: int) -> np.ndarray:
    """int64 [bits]: in how many of the `words` each bit is set."""
    one = words.dtype.type(1)
    each = (np.count_nonzero(words & (one << words.dtype.type(bit))) for bit in range(bits))
    return np.fromiter(each, np.int64, bits)


def boundary_words(words: np.ndarray) -> np.ndarray:
    """Boundary of every mask: where it differs from its right, lower or lower-right neighbour.

    The image border is no boundary: the last row compares only to the right, the last column
    only downwards, the corner with nothing. `words` and the result are [H, W].
    """
    edges = np.zeros_like(words)
    here, inner = words[:-1, :-1], edges[:-1, :-1]
    for neighbour in (words[:-1, 1:], words[1:, :-1], words[1:, 1:]):
        inner |= here ^ neighbour
    edges[-1, :-1] = words[-1, :-1] ^ words[-1, 1:]
    edges[:-1, -1] = words[:-1, -1] ^ words[1:, -1]
    return edges


def dilated_at(positions: np.ndarray, words: np.ndarray, radii: Sequence[int]) -> list[np.ndarray]:
    """Each mask dilated by disks x² + y² ≤ r², looked up at some pixels.

    A disk is a stack of horizontal spans, one per row offset. The masks are widened to each half
    width that occurs, narrowest first (each step at most doubles its reach), and looked up at
    the row offsets that want this width: boundaries are sparse, so looking up is cheap.

    Args:
      positions: flat indices [N] into `words`.
      words: unsigned integers [H, W].
      radii: radius in pixels of each disk, at least 0.

    Returns:
      One array [N] of words per radius.
    """
    height, width = words.shape
    reach = min(max(radii, default=0), height - 1)  # rows beyond the image hold nothing
    wide = np.zeros((height + 2 * reach, width), words.dtype)
    wide[reach : reach + height] = words
    found = [np.zeros(positions.shape, words.dtype) for _ in radii]
    half_width = 0
    for wanted, lookups in sorted(_spans(radii, reach, width - 1).items()):
        while half_width < wanted:
            step = min(wanted - half_width, half_width + 1)  # a span cut by the border has no gap
            wider = wide.copy()
            wider[:, step:] |= wide[:, :-step]
            wider[:, :-step] |= wide[:, step:]
            wide, half_width = wider, half_width + step
        rows = wide.reshape(-1)
        for dy, disks in lookups.items():
            values = rows.take(positions + (reach + dy) * width)
            for disk in disks:
                found[disk] |= values
    return found


def _spans(radii: Sequence[int], reach: int, widest: int) -> dict[int, dict[int, list[int]]]:
    """{half width: {row offset: [indices of the disks that have this span there]}}."""
    spans: dict[int, dict[int, list[int]]] = {}
    for index, radius in enumerate(radii):
        for dy in range(-min(radius, reach), min(radius, reach) + 1):
            half_width = min(math.isqrt(radius * radius - dy * dy), widest)
            spans.setdefault(half_width, {}).setdefault(dy, []).append(index)
    return spans
