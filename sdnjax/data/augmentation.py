"""Stateless augmentation of a training example: sampling in NumPy, colours in TensorFlow.

Everything random follows from (seed, epoch, index): the same triple gives the same crop on
every machine, with values that differ by roundings between kinds of processors. The order is
that of mmsegmentation's pipelines: scale, crop, flip, photometric distortion, normalise, pad.
Differences, both deliberate: values stay real numbers, where mmsegmentation rounds to 8 bits
after every stage, and labels are sampled at pixel centres, as images are, not at corners.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from sdnjax.data.config import Data
from sdnjax.data.images import normalization
from sdnjax.data.sampling import COLOUR_DRAWS, DRAWS, sample
from sdnjax.data.tf_setup import start_xla, tf

# Named, because "auto_select" picks another generator on other devices.
_ALG = "philox"


def example_draws(seed, epoch, index):
    """The uniform numbers that decide an example in an epoch: float32 [34] in [0, 1)."""
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(0x61756721, tf.int64)])
    for part in (epoch, index):
        key = tf.random.fold_in(key, tf.cast(part, tf.int64), alg=_ALG)
    return tf.random.stateless_uniform([DRAWS], key, alg=_ALG)


def augment(image, label, draws, data: Data, superpixels=None) -> dict[str, np.ndarray]:
    """Makes a training example of a decoded one.

    Args:
      image: uint8 [H, W, 3], RGB.
      label: uint8 [H, W], classes and 255.
      draws: float32 [34], from `example_draws`.
      data: which distortions, and how strong.
      superpixels: int32 [H, W], augmented as the label is.

    Returns: `image` float32 [h, w, 3], normalised, and `label` int32 [h, w], for
      data.crop_size = (h, w), and `superpixels` int32 [h, w] if there are any; what lies
      beyond a small image is 0 there, 255 and −1.
    """
    draws = np.asarray(draws)
    crop = sample(image, label, draws, data, superpixels)
    finished = finisher(data)(*crop[:4], draws[COLOUR_DRAWS])
    result = {"image": finished.numpy(), "label": crop.label.astype(np.int32)}
    return result if superpixels is None else {**result, "superpixels": crop.superpixels}


@functools.lru_cache(maxsize=8)
def finisher(data: Data) -> Callable:
    """The function (corners, down, right, extent, draws [10]) → image float32 [h, w, 3].

    It weighs the corners of a `Crop`, distorts colours, normalises and pads. XLA compiles it
    into three loops over the pixels, a tenth of the time of the single operations. One loop
    would do for each channel again what all three need.
    """
    h, w = data.crop_size
    mean, inverse_std = normalization(data)

    def weigh(corners, down, right):
        # Three values of a pixel or three pixels: it is the same to the processor.
        corners = tf.cast(tf.reshape(corners, (4, h, w * 3)), tf.float32)
        right = tf.ensure_shape(right, (w * 3,))
        upper = corners[0] + (corners[1] - corners[0]) * right
        lower = corners[2] + (corners[3] - corners[2]) * right
        image = upper + (lower - upper) * tf.ensure_shape(down, (h,))[:, None]
        return tf.reshape(image, (h, w, 3))

    def normalise(channels, extent):
        inside = (tf.range(h) < extent[0])[:, None] & (tf.range(w) < extent[1])
        channels = [(c - mean[k]) * inverse_std[k] for k, c in enumerate(channels)]
        return tf.stack([tf.where(inside, c, 0.0) for c in channels], -1)

    start_xla()
    compiled = functools.partial(tf.function, jit_compile=True)
    weigh = compiled(weigh)
    first = compiled(lambda image, draws: begin_colours(tf.unstack(image, axis=-1), draws))
    last = compiled(lambda draws, extent, *hsv: normalise(end_colours(*hsv, draws), extent))
    plain = compiled(lambda image, extent: normalise(tf.unstack(image, axis=-1), extent))

    def finish(corners, down, right, extent, draws):
        image = weigh(corners, down, right)
        if not data.photometric:
            return plain(image, extent)
        draws = tf.ensure_shape(draws, (10,))
        return last(draws, extent, *first(image, draws))

    return finish


def distort_colours(channels, draws):
    """Photometric distortion of red, green and blue, float32 of 0–255; so is the result.

    Each with probability ½: brightness ±32; contrast × 0.5–1.5, before or after the next
    two by a coin; saturation × 0.5–1.5 and hue ± 18/180 of a turn, in HSV. The first five of
    `draws` [10] decide what happens, in this order with the coin last, the others how much.
    """
    return end_colours(*begin_colours(channels, draws), draws)


def begin_colours(channels, draws):
    """The first half of `distort_colours`, to value, chroma and angle; see `to_angle`."""
    happens, amount = draws[:5] < 0.5, draws[5:]
    brightness = tf.where(happens[0], 64 * amount[0] - 32, 0.0)
    contrast = tf.where(happens[1] & happens[4], 0.5 + amount[1], 1.0)
    saturation = tf.where(happens[2], 0.5 + amount[2], 1.0)
    turn = tf.where(happens[3], (2 * amount[3] - 1) * np.float32(18 / 180), 0.0)
    channels = [_clipped(_clipped(c + brightness) * contrast) for c in channels]
    return to_angle(channels, saturation, turn)


def end_colours(value, chroma, angle, draws):
    """The second half of `distort_colours`, back to red, green and blue."""
    happens, amount = draws[:5] < 0.5, draws[5:]
    contrast = tf.where(happens[1] & ~happens[4], 0.5 + amount[1], 1.0)
    return [_clipped(c * contrast) for c in from_angle(value, chroma, angle)]


def to_angle(channels, saturation, turn):
    """Value, chroma and angle of RGB after a change of saturation, to at most 1, and hue.

    The value V and the chroma C = V − min stand for HSV, where S = C / V; a factor of the
    saturation is one of C. The hue, in units of C so that nothing is divided, is an angle of
    [0, 6C); `turn`, between −1 and 1, is in full turns.
    """
    red, green, blue = channels
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    factor = tf.minimum(saturation, value / tf.maximum(chroma, 1e-6))
    is_red, is_green = red == value, green == value
    third = tf.where(is_red, green - blue, tf.where(is_green, blue - red, red - green))
    chroma *= factor
    angle = factor * third + chroma * tf.where(is_red, 0.0, tf.where(is_green, 2.0, 4.0))
    angle += 6 * turn * chroma
    angle = tf.where(angle < 0, angle + 6 * chroma, angle)
    return value, chroma, tf.where(angle >= 6 * chroma, angle - 6 * chroma, angle)


def from_angle(value, chroma, angle):
    """Red, green and blue; each follows the angle piecewise linearly."""

    def channel(distance):
        return value - chroma + tf.minimum(tf.maximum(distance, 0.0), chroma)

    return (
        channel(tf.abs(angle - 3 * chroma) - chroma),
        channel(2 * chroma - tf.abs(angle - 2 * chroma)),
        channel(2 * chroma - tf.abs(angle - 4 * chroma)),
    )


def _clipped(values):
    return tf.clip_by_value(values, 0.0, 255.0)
