"""The protocols once more: whole arrays, loops, float64, nothing shared with the library."""

import math

import numpy as np


def probabilities(
    logits_of,
    image,
    *,
    resize_to=None,
    scales=(1.0,),
    flip=False,
    window=None,
    stride=None,
    size_multiple=1,
    align_corners=False,
):
    """Mean probabilities [H, W, K] of an image [H, W, 3]; `logits_of` takes [h, w, 3]."""
    height, width = image.shape[:2]
    views = []
    for scale in scales:
        factor = scale
        if resize_to is not None:
            long, short = math.floor(resize_to[0] * scale), math.floor(resize_to[1] * scale)
            factor = min(long / max(height, width), short / min(height, width))
        size = math.floor(height * factor + 0.5), math.floor(width * factor + 0.5)
        scaled = resized(image.astype(np.float64), size)
        for step in (1, -1) if flip else (1,):
            if window is None:
                logits = whole(logits_of, scaled[:, ::step], size_multiple)
            else:
                logits = slid(logits_of, scaled[:, ::step], window, stride, size_multiple)
            logits = resized(logits[:, ::step], (height, width), align_corners)
            e = np.exp(logits - logits.max(axis=-1, keepdims=True))
            views.append(e / e.sum(axis=-1, keepdims=True))
    return sum(views) / len(views)


def whole(logits_of, x, size_multiple):
    h, w, _ = x.shape
    return logits_of(np.pad(x, ((0, -h % size_multiple), (0, -w % size_multiple), (0, 0))))[:h, :w]


def slid(logits_of, x, window, stride, size_multiple):
    h, w, _ = x.shape
    if size_multiple == 1:
        window = min(window[0], h), min(window[1], w)
    x = np.pad(x, ((0, max(0, window[0] - h)), (0, max(0, window[1] - w)), (0, 0)))
    total, count = 0, np.zeros((*x.shape[:2], 1))
    bottom = 0
    while bottom < x.shape[0]:
        bottom = window[0] if not bottom else min(bottom + stride[0], x.shape[0])
        right = 0
        while right < x.shape[1]:
            right = window[1] if not right else min(right + stride[1], x.shape[1])
            place = np.s_[bottom - window[0] : bottom, right - window[1] : right]
            part = logits_of(x[place])
            if isinstance(total, int):
                total = np.zeros((*x.shape[:2], part.shape[-1]))
            total[place] += part
            count[place] += 1
    return (total / count)[:h, :w]


def resized(x, size, align_corners=False):
    """Bilinear, half-pixel centres or aligned corners, no antialiasing."""
    for axis, new in enumerate(size):
        old = x.shape[axis]
        if align_corners:
            at = np.arange(new) * ((old - 1) / max(new - 1, 1))
        else:
            at = (np.arange(new) + 0.5) * old / new - 0.5
        at = np.clip(at, 0, old - 1)
        low = np.minimum(np.floor(at).astype(int), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x
