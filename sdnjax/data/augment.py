"""Stateless augmentation of a training example, in TensorFlow.

Everything random follows from a key, a pair of int64 made by `example_key`: the same key
gives the same crop on every machine. The order is that of mmsegmentation's pipelines:
scale, crop, flip, photometric distortion, normalise, pad. Differences, both deliberate:
values stay real numbers, where mmsegmentation rounds to 8 bits after every stage, and
labels are sampled at pixel centres, as images are, not at pixel corners.
"""

from __future__ import annotations

import numpy as np

from sdnjax.data.config import Data
from sdnjax.data.images import normalization
from sdnjax.data.label_spaces import IGNORE
from sdnjax.data.tf_setup import tf

# Named, because "auto_select" picks another generator on other devices.
_ALG = "philox"
_CROP_TRIES = 10


def example_key(seed, epoch, index):
    """The key of an example in an epoch: int64 [2]."""
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(0x61756721, tf.int64)])
    for part in (epoch, index):
        key = tf.random.fold_in(key, tf.cast(part, tf.int64), alg=_ALG)
    return key


def augment(image, label, key, data: Data):
    """Makes a training example of a decoded one.

    Args:
      image: uint8 [H, W, 3], RGB.
      label: uint8 [H, W], classes and 255.
      key: int64 [2], from `example_key`.
      data: which distortions, and how strong.

    Returns: float32 [h, w, 3], normalised, and int32 [h, w], for data.crop_size = (h, w);
      what lies beyond a small image is 0 there and 255.
    """
    scale_key, crop_key, flip_key, colour_key = tf.unstack(tf.random.split(key, 4, alg=_ALG))
    size = random_size(tf.shape(label), scale_key, data)
    window = random_window(label, size, crop_key, data)
    # Only the pixels of the window are ever resized.
    label = resize_nearest(label, size, window)
    image = resize_bilinear(image, size, window)
    if data.flip:
        mirrored = _uniform(flip_key, []) < 0.5
        image, label = tf.cond(
            mirrored,
            lambda: (tf.reverse(image, [1]), tf.reverse(label, [1])),
            lambda: (image, label),
        )
    if data.photometric:
        image = distort_colours(image, colour_key)
    mean, inverse_std = normalization(data)
    return pad_to_crop((image - mean) * inverse_std, tf.cast(label, tf.int32), data)


def random_size(shape, key, data: Data):
    """int32 [2], the size to which an image of `shape` [2] is scaled.

    The factor is uniform in `scale_range`, times the one that fits the image into
    `base_size` if there is one; sizes are rounded half up.
    """
    low, high = data.scale_range
    factor = low + _uniform(key, []) * (high - low)
    shape = tf.cast(shape, tf.float32)
    if data.base_size is not None:
        long, short = max(data.base_size), min(data.base_size)
        factor *= tf.minimum(long / tf.reduce_max(shape), short / tf.reduce_min(shape))
    return tf.maximum(tf.cast(tf.floor(shape * factor + 0.5), tf.int32), 1)


def random_window(label, size, key, data: Data):
    """int32 [4], the window (top, left, height, width) of the scaled image that is kept.

    Windows are drawn until one holds at least two classes and none that covers more than
    `max_class_share` of its labelled pixels. After 10 that do not, the next is taken as
    it is.
    """
    extent = tf.minimum(size, data.crop_size)
    margin = size - extent
    spans = tf.cast(margin + 1, tf.float32)
    draws = _uniform(key, [_CROP_TRIES + 1, 2])
    corners = tf.minimum(tf.cast(draws * spans, tf.int32), margin)

    def window(attempt):
        return tf.concat([corners[attempt], extent], 0)

    def is_dull(attempt):
        classes = tf.cast(resize_nearest(label, size, window(attempt)), tf.int32)
        counts = tf.math.bincount(classes, minlength=256, maxlength=256)[:IGNORE]
        largest, total = tf.reduce_max(counts), tf.reduce_sum(counts)
        share_exceeded = tf.cast(largest, tf.float32) > data.max_class_share * tf.cast(
            total, tf.float32
        )
        return share_exceeded | (tf.math.count_nonzero(counts) < 2)

    if data.max_class_share >= 1:
        return window(0)
    attempt = tf.while_loop(
        lambda i: (i < _CROP_TRIES) & is_dull(tf.minimum(i, _CROP_TRIES - 1)),
        lambda i: (i + 1,),
        [tf.constant(0)],
    )[0]
    return window(attempt)


def resize_nearest(label, size, window):
    """The window of `label` [H, W] scaled to `size`, by the nearest pixel centre."""
    for axis in (0, 1):
        positions = tf.cast(window[axis] + tf.range(window[axis + 2]), tf.int64)
        old, new = tf.shape(label, tf.int64)[axis], tf.cast(size[axis], tf.int64)
        label = tf.gather(label, ((2 * positions + 1) * old) // (2 * new), axis=axis)
    return label


def resize_bilinear(image, size, window):
    """The window of `image` [H, W, C] scaled to `size`: float32, no antialiasing.

    Pixel centres lie at half integers (align_corners=False) and borders repeat. Positions
    are exact fractions, so that a scale of 1 returns the values unchanged.
    """
    for axis in (0, 1):
        positions = tf.cast(window[axis] + tf.range(window[axis + 2]), tf.int64)
        old, new = tf.shape(image, tf.int64)[axis], tf.cast(size[axis], tf.int64)
        numerator, denominator = (2 * positions + 1) * old - new, 2 * new
        lower = tf.math.floordiv(numerator, denominator)
        weight = tf.cast(numerator - lower * denominator, tf.float32)
        weight = tf.reshape(weight / tf.cast(denominator, tf.float32), (-1, 1, 1))
        # Weights run along rows in both passes.
        weight = weight if axis == 0 else tf.transpose(weight, (1, 0, 2))
        a = tf.gather(image, tf.clip_by_value(lower, 0, old - 1), axis=axis)
        b = tf.gather(image, tf.clip_by_value(lower + 1, 0, old - 1), axis=axis)
        a, b = tf.cast(a, tf.float32), tf.cast(b, tf.float32)
        image = a + (b - a) * weight
    return image


def distort_colours(image, key):
    """Photometric distortion of a float32 image [H, W, 3] of 0–255; so is the result.

    Each with probability ½: brightness ±32; contrast × 0.5–1.5, before or after the next
    two by a coin; saturation × 0.5–1.5 and hue ± 18/180 of a turn, in HSV.
    """
    chance, amount = tf.unstack(_uniform(key, [2, 5]))
    happens = chance < 0.5
    brightness = tf.where(happens[0], 64 * amount[0] - 32, 0.0)
    contrast = tf.where(happens[1], 0.5 + amount[1], 1.0)
    saturation = tf.where(happens[2], 0.5 + amount[2], 1.0)
    turn = tf.where(happens[3], (2 * amount[3] - 1) * np.float32(18 / 180), 0.0)
    contrast_first = happens[4]
    image = _clipped(image + brightness)
    image = _clipped(image * tf.where(contrast_first, contrast, 1.0))
    image = tf.cond(
        happens[2] | happens[3], lambda: change_hsv(image, saturation, turn), lambda: image
    )
    return _clipped(image * tf.where(contrast_first, 1.0, contrast))


def change_hsv(image, saturation, turn):
    """Multiplies the saturation and turns the hue (1 is a full turn) of 0–255 RGB."""
    hue, sat, value = tf.unstack(tf.image.rgb_to_hsv(image / 255), axis=-1)
    sat = tf.clip_by_value(sat * saturation, 0, 1)
    hue = tf.math.floormod(hue + turn, 1.0)
    return _clipped(tf.image.hsv_to_rgb(tf.stack([hue, sat, value], -1)) * 255)


def pad_to_crop(image, label, data: Data):
    """Pads on the right and below to `crop_size`: images with 0, labels with 255."""
    h, w = data.crop_size
    below, right = h - tf.shape(label)[0], w - tf.shape(label)[1]
    image = tf.pad(image, [[0, below], [0, right], [0, 0]])
    label = tf.pad(label, [[0, below], [0, right]], constant_values=IGNORE)
    return tf.ensure_shape(image, (h, w, 3)), tf.ensure_shape(label, (h, w))


def _uniform(key, shape):
    return tf.random.stateless_uniform(shape, key, alg=_ALG)


def _clipped(image):
    return tf.clip_by_value(image, 0.0, 255.0)
