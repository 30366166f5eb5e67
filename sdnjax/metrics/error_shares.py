"""Where the wrong pixels lie: near the true boundaries, or away from them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sdnjax.metrics.inputs import Pair
from sdnjax.metrics.metric import sum_field
from sdnjax.metrics.ratios import quotient
from sdnjax.metrics.trimap import check_widths, trimap_bands


@dataclasses.dataclass(frozen=True)
class ErrorShares:
    """The share of all labelled pixels that are wrong, in two parts.

    Inside bands around the true boundaries, and outside of them: for each width both add up to
    1 − pixel accuracy. What a method gains at boundaries alone shows in the first and not in the
    second. Bands and void are those of `Trimap`.

    Scores: `error_inside` and `error_outside`, {width: share}, and `band_share`, the share of the
    labelled pixels that lie inside.

    Attributes:
      widths: in pixels, see `trimap_bands`.
      wrong: int64 [T, 2], pixels outside and inside.
      pixels: int64 [T, 2], all that are labelled.

    Raises: ValueError for widths that make no sense.
    """

    widths: tuple[int, ...] = (3,)
    wrong: np.ndarray = sum_field()
    pixels: np.ndarray = sum_field()

    def __post_init__(self) -> None:
        check_widths(self.widths)

    def empty(self, num_classes: int) -> ErrorShares:
        """The state before the first image."""
        del num_classes
        zeros = np.zeros((len(self.widths), 2), np.int64)
        return dataclasses.replace(self, wrong=zeros, pixels=zeros)

    def update(self, pair: Pair) -> ErrorShares:
        """The state with one more image, maps [H, W]."""
        known = ~pair.void
        wrong = pair.label[known] != pair.prediction[known]
        bands = [band[known] for band in trimap_bands(pair.codes[0], self.widths)]
        return dataclasses.replace(
            self,
            wrong=self.wrong + np.stack([_outside_inside(band[wrong]) for band in bands]),
            pixels=self.pixels + np.stack([_outside_inside(band) for band in bands]),
        )

    def compute(self) -> dict[str, Any]:
        """`error_inside`, `error_outside` and `band_share` of the set; NaN without a label."""
        names, total = [f"{width}px" for width in self.widths], self.pixels.sum(axis=1)
        outside, inside = quotient(self.wrong, total[:, None]).T
        share = quotient(self.pixels[:, 1], total)
        found = {"error_inside": inside, "error_outside": outside, "band_share": share}
        return {
            name: dict(zip(names, map(float, values), strict=True))
            for name, values in found.items()
        }


def _outside_inside(band: np.ndarray) -> np.ndarray:
    """int64 [2]: how many are not in the band, and how many are."""
    return np.bincount(band, minlength=2).astype(np.int64)
