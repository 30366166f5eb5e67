"""Classes that meet at boundaries, and how alike a classifier's weights for them are.

E-CRF (Zhu et al., 2023), Fig. 1(a): classes that share many boundary pixels have similar class
weights, because their gradients there point the same way. The paper says what is plotted; how it
is counted is a choice of this library.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sdnjax.ops.labels import IGNORE


class Pairs(NamedTuple):
    """Each class with the one that it meets most, by falling count.

    Attributes:
      classes: integers [n], those that meet any other.
      partners: integers [n].
      counts: int64 [n], pairs of neighbouring pixels.
    """

    classes: np.ndarray
    partners: np.ndarray
    counts: np.ndarray


def adjacent_pixels(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Pairs of neighbouring pixels of two classes, int64 `[K, K]`, symmetric, 0 on the diagonal.

    Every pixel with its right and its lower neighbour, each unordered pair once. Void (255) meets
    nobody.

    Args:
      label: uint8 [H, W], 0…K−1 and 255.
      num_classes: K.
    """
    counts = np.zeros(num_classes**2, np.int64)
    for a, b in ((label[:, :-1], label[:, 1:]), (label[:-1], label[1:])):
        meet = (a != b) & (a != IGNORE) & (b != IGNORE)
        code = a[meet].astype(np.int64) * num_classes + b[meet]
        counts += np.bincount(code, minlength=num_classes**2)
    square = counts.reshape(num_classes, num_classes)
    return square + square.T


def most_adjacent(counts: np.ndarray) -> Pairs:
    """The partner of each class that has one: the lowest of equal ones.

    Two classes that are each other's partner make two pairs. A class that meets no other, such as
    one that does not occur, makes none.
    """
    partners, most = counts.argmax(axis=1), counts.max(axis=1)
    order = np.argsort(-most, kind="stable")
    order = order[most[order] > 0]
    return Pairs(order, partners[order], most[order])


def weight_similarity(weights: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Cosines of the class weights of each pair, float64 [n]; weights `[K, C]`, without biases."""
    weights = weights.astype(np.float64)
    unit = weights / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-30)
    return np.einsum("nc,nc->n", unit[pairs.classes], unit[pairs.partners])
