"""A SegFix run put to use: labels of any network moved along its directions."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdnjax.commands.trained import Step, load_network
from sdnjax.data.sets.segfix import CODES
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Finish
from sdnjax.ops.offsets import DIRECTIONS, move_labels, offsets_of
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class SegFix:
    """Labels near predicted boundaries are taken from further inside (Yuan et al., ECCV 2020).

    An `Evaluation.finish`. `Evaluation(finish=SegFix(run="runs/cityscapes_segfix_hr48"))` moves the
    most probable class of each pixel, `SegFix(…, before=DenseCRF())` what another one makes of
    the probabilities. Directions are predicted by the run's own protocol.
    """

    run: str = setting("", "work directory of a run that has learnt directions")
    distance: int = setting(2, "pixels in each axis, from how far inside a label is taken", least=1)
    before: Finish | None = setting(
        None, "what makes the labels that are moved; none takes the most probable class"
    )

    def __post_init__(self) -> None:
        check_types(self)
        if not self.run:
            raise InputError("SegFix needs run, the work directory of a run that learnt directions")

    @functools.cached_property
    def _directions(self) -> Directions:
        return Directions(self.run)

    def check(self) -> None:
        """InputError if the run is not there or is none of SegFix."""
        _ = self._directions

    def __call__(self, probabilities: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """Labels `[H, W]` of float32 `[H, W, K]` and the picture, uint8 `[H, W, C]`."""
        probabilities = np.asarray(probabilities)
        if self.before is None:
            labels = np.argmax(probabilities, axis=-1)
        else:
            labels = np.asarray(self.before(probabilities, picture))
        boundary, direction = self._directions(np.asarray(picture))
        return move_labels(labels, offsets_of(boundary, direction, steps=self.distance))


class Directions:
    """The network of a SegFix run: a picture, uint8 `[H, W, C]` → where the boundary is near, bool
    `[H, W]`, and directions 0…7 `[H, W]`.

    Args: as of `load_network`.
    Raises: InputError, here for a run that has learnt something else.
    """

    def __init__(self, run: str | Path, experiment: Experiment | None = None, step: Step = None):
        network = load_network(run, experiment, step)
        if network.classes != CODES.classes:
            few = ", ".join(network.classes[:3])
            raise InputError(
                f"{run} has learnt classes ({few}, …), not directions: a SegFix run is trained on "
                "NAME_segfix by a network such as segfix_hr18"
            )
        protocol = dataclasses.replace(network.experiment.evaluation, batch_size=1)
        self._predictor = network.predictor(protocol)
        self._variables = self._predictor.place(network.variables)

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (p,) = self._predictor.probabilities(self._variables, [picture])
        p = p.reshape(*p.shape[:2], 2, len(DIRECTIONS))
        return p[:, :, 1].sum(axis=-1) > 0.5, p.sum(axis=2).argmax(axis=-1)
