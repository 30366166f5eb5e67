"""Labels of two classes by a threshold other than one half."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdnjax.errors import InputError
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class Threshold:
    """The second of two classes where its probability is above `share`.

    An `Evaluation.finish`. mmsegmentation's threshold for one logit is 0.3 unless told otherwise;
    the most probable class, without a finish, is 0.5.
    """

    share: float = setting(0.3, "least probability of the second class", above=0, below=1)

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, probabilities: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """Labels uint8 `[H, W]` of probabilities `[H, W, 2]`.

        Raises: InputError for another number of classes.
        """
        del picture
        if probabilities.shape[-1] != 2:
            raise InputError(
                f"evaluation.finish: Threshold is for 2 classes, not {probabilities.shape[-1]}"
            )
        return (probabilities[..., 1] > self.share).astype(np.uint8)
