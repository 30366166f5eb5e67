"""Label maps as colours: plain, over the photograph, and against the truth."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sdnjax.ops.labels import IGNORE

Color = Sequence[int]

# Told apart by lightness alone, hence also in grey and by the colour-blind.
CORRECT_COLOR = (58, 58, 62)
WRONG_COLOR = (255, 176, 0)
VOID_COLOR = (122, 138, 158)


def colorize(label: np.ndarray, palette: ArrayLike, void_color: Color = (0, 0, 0)) -> np.ndarray:
    """Each pixel in the colour of its class.

    Args:
      label: integers [H, W]; what is outside 0…K−1 is void.
      palette: colours of the classes, [K, 3] in 0…255.
      void_color: colour of the void pixels.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: shapes or values are not as above.
    """
    label, colors = _label_map(label), palette_array(palette)
    known = _known(label, len(colors))
    table = np.concatenate([colors, palette_array([void_color])])
    return table[np.where(known, label.astype(np.int64), len(colors))]


def overlay(
    image: np.ndarray, label: np.ndarray, palette: ArrayLike, opacity: float = 0.5
) -> np.ndarray:
    """The classes' colours laid over the image; void pixels show the image alone.

    Args:
      image: uint8 [H, W, 3].
      label: integers [H, W]; what is outside 0…K−1 is void.
      palette: colours of the classes, [K, 3] in 0…255.
      opacity: 0 shows the image, 1 the colours.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: shapes or values are not as above.
    """
    image, label = rgb_array(image), _label_map(label)
    if image.shape[:2] != label.shape:
        raise ValueError(f"image {image.shape} and label {label.shape} must have the same size")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    colors = colorize(label, palette).astype(np.float32)
    mixed = image + np.float32(opacity) * (colors - image)
    known = _known(label, len(palette_array(palette)))[..., None]
    return np.where(known, np.rint(mixed).astype(np.uint8), image)


def error_map(label: np.ndarray, prediction: np.ndarray, ignore: int = IGNORE) -> np.ndarray:
    """Where the prediction is wrong: correct pixels dim grey, wrong ones bright, void blue-grey.

    Args:
      label: integers [H, W], `ignore` where the truth is void.
      prediction: integers [H, W].
      ignore: label of the void pixels.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: shapes differ or are not [H, W].
    """
    label, prediction = _label_map(label), _label_map(prediction)
    if label.shape != prediction.shape:
        raise ValueError(
            f"label {label.shape} and prediction {prediction.shape} must have the same shape"
        )
    kind = np.where(label == ignore, 2, label != prediction).astype(np.intp)
    return np.array([CORRECT_COLOR, WRONG_COLOR, VOID_COLOR], np.uint8)[kind]


def rgb_array(picture: np.ndarray) -> np.ndarray:
    """`picture` as an array; ValueError unless it is uint8 [H, W, 3] with pixels."""
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size or picture.dtype != np.uint8:
        raise ValueError(f"need a uint8 picture [H, W, 3], got {picture.dtype} {picture.shape}")
    return picture


def shown(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, C] as red, green and blue: one band as grey, of more than two the first three,
    of two the first."""
    bands = picture[..., :3] if picture.shape[2] >= 3 else picture[..., :1]
    return np.repeat(bands, 3 // bands.shape[2], axis=2)


def palette_array(palette: ArrayLike) -> np.ndarray:
    """`palette` as uint8 [K, 3]; ValueError for another shape or values outside 0…255."""
    colors = np.asarray(palette)
    if colors.ndim != 2 or colors.shape[1] != 3 or colors.dtype.kind not in "iu":
        raise ValueError(f"need integer colours [K, 3], got {colors.dtype} {colors.shape}")
    if colors.size and (colors.min() < 0 or colors.max() > 255):
        raise ValueError(f"colours lie in 0…255, got {colors.min()}…{colors.max()}")
    return colors.astype(np.uint8)


def _label_map(label: np.ndarray) -> np.ndarray:
    label = np.asarray(label)
    if label.ndim != 2 or label.dtype.kind not in "iu":
        raise ValueError(f"need an integer map [H, W], got {label.dtype} {label.shape}")
    return label


def _known(label: np.ndarray, num_classes: int) -> np.ndarray:
    return (label >= 0) & (label < num_classes)
