"""What a network says of one picture."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sdnjax.commands.pictures import claim
from sdnjax.errors import InputError
from sdnjax.visualize import legend, overlay, save_png, shown

# What is written for a picture, the labels first.
ENDINGS = ("_labels.png", "_overlay.png")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The classes of a picture's pixels.

    Attributes:
      labels: `[H, W]`, uint8, or int32 with more than 256 classes.
      classes: their names.
      palette: their colours.
      picture: uint8 `[H, W, C]` as the network saw it, the right way up.
      source: the file that it was read from, None if it was no file.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    picture: np.ndarray
    source: Path | None = None
    _predict: Callable[[], np.ndarray] = field(default=lambda: np.empty(0))

    def probabilities(self) -> np.ndarray:
        """float32 `[H, W, K]`, the means over scales and mirrors, before any `finish`.

        They are large, so a result does not keep them unless it was made with them
        (`network(picture, probabilities=True)`): each call predicts again.
        """
        return self._predict()

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """The share of each class, `[K]`."""
        return np.bincount(self.labels.ravel(), minlength=len(self.classes)) / self.labels.size

    def overlay(self, alpha: float = 0.5) -> Image.Image:
        """The classes in colour over the picture: at 0 the picture, at 1 the colours."""
        if not 0 <= alpha <= 1:
            raise InputError(f"alpha must lie between 0 and 1, not {alpha:g}")
        return Image.fromarray(overlay(shown(self.picture), self.labels, self.palette, alpha))

    def legend(self) -> Image.Image:
        """The colours and names of all classes."""
        return Image.fromarray(legend(self.classes, self.palette))

    def save(
        self, folder: str | os.PathLike, name: str | None = None, *, alpha: float = 0.5
    ) -> list[Path]:
        """Writes NAME_labels.png, NAME_overlay.png and legend.png, as predict.py does.

        Args:
          folder: is made if it is not there.
          name: NAME; None for that of the picture's file.
          alpha: of the overlay.

        Returns the files.

        Raises: InputError if one of them is there and not of an earlier call, or there is no name.
        """
        folder = Path(folder)
        if name is None:
            if self.source is None:
                raise InputError("the picture has no file: save(folder, name) says what it is")
            name = self.source.stem
        if Path(name).name != name:
            raise InputError(f"name must be that of a file, without folders, not {name!r}")
        inputs = () if self.source is None else (self.source,)
        names = [*(name + ending for ending in ENDINGS), "legend.png"]
        claim(folder, names, inputs, by="sdnjax")
        self.write(folder, name, alpha)
        self.legend().save(folder / "legend.png")
        return [folder / file for file in names]

    def write(self, folder: Path, name: str, alpha: float) -> None:
        """Labels and overlay alone, in a place that the caller has claimed."""
        save_png(folder / (name + ENDINGS[1]), np.asarray(self.overlay(alpha)))
        save_png(folder / (name + ENDINGS[0]), self.labels, self.palette)

    def largest(self, count: int = 3) -> str:
        """The largest classes and their shares, in words."""
        most = np.argsort(-self.shares)[:count]
        return ", ".join(f"{self.classes[k]} {self.shares[k]:.0%}" for k in most)

    def __repr__(self) -> str:
        height, width = self.labels.shape
        return f"Result({width}×{height}: {self.largest()})"

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.overlay().save(buffer, "PNG")
        return buffer.getvalue()
