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
    small="shrink",
    size_multiple=1,
    align_corners=False,
    labels=None,
):
    """Mean probabilities [H, W, K] of an image [H, W, 3]; `logits_of` takes [h, w, 3], and labels
    [h, w] if there are any, -1 where the image is padded."""
    height, width = image.shape[:2]
    views = []
    for scale in scales:
        factor = scale
        if resize_to is not None:
            long, short = math.floor(resize_to[0] * scale), math.floor(resize_to[1] * scale)
            factor = min(long / max(height, width), short / min(height, width))
        size = math.floor(height * factor + 0.5), math.floor(width * factor + 0.5)
        inputs = [resized(image.astype(np.float64), size)]
        if labels is not None:
            # One more, so that padding with zeros means -1.
            inputs.append(nearest(labels, size) + 1)
        if small == "enlarge" and (size[0] < window[0] or size[1] < window[1]):
            size = enlarged(size, window)
            inputs = [resized(inputs[0], size), *(nearest(x, size) for x in inputs[1:])]
        for step in (1, -1) if flip else (1,):
            seen = [x[:, ::step] for x in inputs]
            if window is None:
                logits = whole(logits_of, seen, size_multiple)
            else:
                logits = slid(logits_of, seen, window, stride, small)
            logits = resized(logits[:, ::step], (height, width), align_corners)
            e = np.exp(logits - logits.max(axis=-1, keepdims=True))
            views.append(e / e.sum(axis=-1, keepdims=True))
    return sum(views) / len(views)


def padded(x, height, width):
    h, w = x.shape[:2]
    return np.pad(x, ((0, height - h), (0, width - w), (0, 0))[: x.ndim])


def network(logits_of, image, *labels):
    return logits_of(image, *(x - 1 for x in labels))


def whole(logits_of, inputs, size_multiple):
    h, w = inputs[0].shape[:2]
    size = h + -h % size_multiple, w + -w % size_multiple
    return network(logits_of, *(padded(x, *size) for x in inputs))[:h, :w]


def enlarged(size, window):
    """The window fits in, and touches one pair of borders."""
    h, w = size
    fits = [(window[0], w * window[0] // h), (h * window[1] // w, window[1])]
    return next(size for size in fits if size[0] >= window[0] and size[1] >= window[1])


def slid(logits_of, inputs, window, stride, small):
    h, w = inputs[0].shape[:2]
    if small == "shrink":
        window = min(window[0], h), min(window[1], w)
    height, width = max(h, window[0]), max(w, window[1])
    inputs = [padded(x, height, width) for x in inputs]
    total, count = 0, np.zeros((height, width, 1))
    bottom = 0
    while bottom < height:
        bottom = window[0] if not bottom else min(bottom + stride[0], height)
        right = 0
        while right < width:
            right = window[1] if not right else min(right + stride[1], width)
            place = np.s_[bottom - window[0] : bottom, right - window[1] : right]
            part = network(logits_of, *(x[place] for x in inputs))
            if isinstance(total, int):
                total = np.zeros((height, width, part.shape[-1]))
            total[place] += part
            count[place] += 1
    return (total / count)[:h, :w]


def nearest(labels, size):
    rows, columns = (
        [(2 * i + 1) * old // (2 * new) for i in range(new)]
        for old, new in zip(labels.shape, size, strict=True)
    )
    return labels[rows][:, columns]


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
