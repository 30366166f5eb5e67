"""What a network sees of a picture: values 0–255 minus a mean, over a standard deviation."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Normalization:
    """`(image − mean) / std` per channel, and its inverse.

    Attributes:
      mean, std: one number for each channel, in 0–255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def constants(self) -> tuple[np.ndarray, np.ndarray]:
        """mean and 1/std as float32 [C].

        The reciprocal is taken here, once: TensorFlow rewrites a division by a constant into
        this product, and the results would differ in the last bit.
        """
        return np.asarray(self.mean, np.float32), np.float32(1) / np.asarray(self.std, np.float32)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """`[…, C]` of 0–255 → float32 `[…, C]`, the same bits in training and prediction."""
        mean, inverse_std = self.constants()
        return (image.astype(np.float32) - mean) * inverse_std

    def picture(self, images: jax.Array) -> jax.Array:
        """Normalised `[…, C]` → the picture in [0, 1]; padding, which is 0, shows the mean."""
        mean, std = (jnp.asarray(x, images.dtype) for x in (self.mean, self.std))
        return (images * std + mean) / 255
