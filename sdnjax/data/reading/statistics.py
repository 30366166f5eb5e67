"""What a data set holds: sizes, colours, classes. Exact sums, so that parts can be added up."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from sdnjax.ops.labels import IGNORE


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Sums over examples; `+` joins disjoint sets. All counts are exact integers.

    Attributes:
      sizes: (height, width) → number of images.
      channels: int64 [2, C], sums of the values 0–255 of each band and of their squares.
      pixels: int64 [K + 1], labelled pixels of each class, the void ones last.
      images: int64 [K + 1], images that have any of them.
    """

    sizes: Counter
    channels: np.ndarray
    pixels: np.ndarray
    images: np.ndarray

    @classmethod
    def empty(cls, num_classes: int, channels: int = 3) -> Statistics:
        """Of no example."""
        zeros = np.zeros(num_classes + 1, np.int64)
        return cls(Counter(), np.zeros((2, channels), np.int64), zeros, zeros)

    @classmethod
    def of(cls, image: np.ndarray, label: np.ndarray, num_classes: int) -> Statistics:
        """Of one example: uint8 [H, W, C], and uint8 [H, W] of 0…K−1 and 255."""
        # Histograms are exact and quicker than sums of wide integers.
        counts = [np.bincount(image[..., c].ravel(), minlength=256) for c in range(image.shape[2])]
        values = np.arange(256, dtype=np.int64)
        sums = np.stack([[c @ values, c @ values**2] for c in counts], axis=1)
        found = np.bincount(label.ravel(), minlength=256)
        pixels = np.append(found[:num_classes], found[IGNORE]).astype(np.int64)
        size = (int(image.shape[0]), int(image.shape[1]))
        return cls(Counter([size]), sums, pixels, (pixels > 0).astype(np.int64))

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.sizes + other.sizes,
            self.channels + other.channels,
            self.pixels + other.pixels,
            self.images + other.images,
        )

    @property
    def examples(self) -> int:
        return sum(self.sizes.values())

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over all pixels: float64 [C] each, in 0–255."""
        count = sum(n * h * w for (h, w), n in self.sizes.items())
        if count == 0:
            unknown = np.full(self.channels.shape[1], np.nan)
            return unknown, unknown
        mean = self.channels[0] / count
        return mean, np.sqrt(np.maximum(self.channels[1] / count - mean**2, 0))
