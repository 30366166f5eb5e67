"""Stateless augmentation of a training example: sampling in NumPy, colours in TensorFlow.

Everything random follows from (seed, epoch, index): the same triple gives the same crop on
every machine, with values that differ by roundings between kinds of processors. The order is
that of mmsegmentation's pipelines: scale, crop, flip, photometric distortion, normalise, pad.
`data.recipe` may be DifNet's instead (`sdnjax.data.pipeline.difnet`).
Differences, both deliberate: values stay real numbers, where mmsegmentation rounds to 8 bits
after every stage, and labels are sampled at pixel centres, as images are, not at corners.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.sampling import COLOUR_DRAWS, DRAWS, sample
from sdnjax.data.tf_setup import start_xla, tf
from sdnjax.ops.colours import begin_colours, end_colours

# Named, because "auto_select" picks another generator on other devices.
_ALG = "philox"


def example_draws(seed: Any, epoch: Any, index: Any) -> tf.Tensor:
    """The uniform numbers that decide an example in an epoch: float32 [34] in [0, 1)."""
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(0x61756721, tf.int64)])
    for part in (epoch, index):
        key = tf.random.fold_in(key, tf.cast(part, tf.int64), alg=_ALG)
    return tf.random.stateless_uniform([DRAWS], key, alg=_ALG)


def augment(
    image: np.ndarray,
    label: np.ndarray,
    draws: np.ndarray,
    data: Data,
    superpixels: np.ndarray | None = None,
    *,
    mirror: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Makes a training example of a decoded one.

    Args:
      image: uint8 [H, W, 3], RGB.
      label: uint8 [H, W], classes and 255.
      draws: float32 [34], from `example_draws`.
      data: which distortions, and how strong.
      superpixels: int32 [H, W], augmented as the label is.
      mirror: uint8 [256], what a label is in the mirror image; None: the same.

    Returns: `image` float32 [h, w, 3], normalised, and `label` int32 [h, w], for
      data.crop_size = (h, w), and `superpixels` int32 [h, w] if there are any; what lies
      beyond a small image is 0 there, 255 and −1; under DifNet's recipe black, 0 and −1.
    """
    draws = np.asarray(draws)
    crop = sample(image, label, draws, data, superpixels, mirror=mirror)
    finished = finisher(data)(*crop[:4], draws[COLOUR_DRAWS])
    result = {"image": finished.numpy(), "label": crop.label.astype(np.int32)}
    if crop.superpixels is not None:
        result["superpixels"] = crop.superpixels
    return result


@functools.lru_cache(maxsize=8)
def finisher(data: Data) -> Callable:
    """The function (corners, down, right, extent, draws [10]) → image [h, w, 3].

    It is float32, normalised, or uint8 where `data.transfer` is. The function weighs the corners
    of a `Crop`, distorts colours, normalises and pads. XLA compiles it
    into three loops over the pixels, a tenth of the time of the single operations. One loop
    would do for each channel again what all three need.
    """
    (h, w), n = data.crop_size, data.channels
    mean, inverse_std = data.normalization.constants()

    def weigh(corners: tf.Tensor, down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        # The values of a pixel or as many pixels: it is the same to the processor.
        corners = tf.cast(tf.reshape(corners, (4, h, w * n)), tf.float32)
        right = tf.ensure_shape(right, (w * n,))
        upper = corners[0] + (corners[1] - corners[0]) * right
        lower = corners[2] + (corners[3] - corners[2]) * right
        image = upper + (lower - upper) * tf.ensure_shape(down, (h,))[:, None]
        return tf.reshape(image, (h, w, n))

    def normalise(channels: list[tf.Tensor], extent: tf.Tensor) -> tf.Tensor:
        if data.transfer == "uint8":
            bits = [tf.round(tf.clip_by_value(c, 0.0, 255.0)) for c in channels]
            return tf.cast(tf.stack(bits, -1), tf.uint8)
        inside = (tf.range(h) < extent[0])[:, None] & (tf.range(w) < extent[1])
        channels = [(c - mean[k]) * inverse_std[k] for k, c in enumerate(channels)]
        return tf.stack([tf.where(inside, c, 0.0) for c in channels], -1)

    start_xla()
    compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
    weigh = compiled(weigh)
    first = compiled(lambda image, draws: begin_colours(tf.unstack(image, axis=-1), draws, tf))
    last = compiled(
        lambda draws, extent, value, chroma, angle: normalise(
            end_colours(value, chroma, angle, draws, tf), extent
        )
    )
    plain = compiled(lambda image, extent: normalise(tf.unstack(image, axis=-1), extent))

    def finish(
        corners: tf.Tensor, down: tf.Tensor, right: tf.Tensor, extent: tf.Tensor, draws: tf.Tensor
    ) -> tf.Tensor:
        image = weigh(corners, down, right)
        if not data.photometric or data.recipe == "difnet":
            return plain(image, extent)
        draws = tf.ensure_shape(draws, (10,))
        return last(draws, extent, *first(image, draws))

    return finish
