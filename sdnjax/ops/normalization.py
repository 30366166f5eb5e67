"""What a network sees of a picture: values 0–255 minus a mean, over a standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
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

    def batch(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """A batch of 8 bits as the network sees it, on a device.

        Args:
          batch: `image` uint8 [b, h, w, C], `label` uint8 [b, h, w], `extent` int32 [b, 2], the
            height and width of what is covered, and whatever else.

        Returns: `image` float32, 0 beyond its extent, `label` int32, and the rest without `extent`.
        """
        rest = {k: v for k, v in batch.items() if k not in ("image", "label", "extent")}
        image, extent = batch["image"], batch["extent"]
        (h, w), (mean, inverse_std) = image.shape[1:3], self.constants()
        rows = jnp.arange(h)[None, :, None] < extent[:, 0, None, None]
        columns = jnp.arange(w)[None, None, :] < extent[:, 1, None, None]
        values = (image.astype(jnp.float32) - mean) * inverse_std
        inside = (rows & columns)[..., None]
        label = batch["label"].astype(jnp.int32)
        return {"image": jnp.where(inside, values, 0.0), "label": label, **rest}

    def picture(self, images: jax.Array) -> jax.Array:
        """Normalised `[…, C]` → the picture in [0, 1]; padding, which is 0, shows the mean."""
        mean, std = (jnp.asarray(x, images.dtype) for x in (self.mean, self.std))
        return (images * std + mean) / 255
