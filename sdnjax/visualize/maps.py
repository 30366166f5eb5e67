"""Maps of real numbers, and features of many channels, as pictures."""

from collections.abc import Sequence

import numpy as np

# From dark to light, so that it reads in grey too.
_RAMP = np.array(
    [(18, 16, 58), (62, 32, 120), (148, 44, 110), (222, 84, 70), (250, 164, 60), (252, 244, 190)],
    np.float64,
)


def heat(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Real numbers `[h, w]` as colours, uint8 `[h, w, 3]`: dark for `low`, light for `high`.

    Without bounds those are the least and the greatest value; a constant map is dark.
    """
    values = np.asarray(values, np.float64)
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros(values.shape)
    at = share * (len(_RAMP) - 1)
    first = np.minimum(at.astype(int), len(_RAMP) - 2)
    weight = (at - first)[..., None]
    return np.rint(_RAMP[first] * (1 - weight) + _RAMP[first + 1] * weight).astype(np.uint8)


def principal_colours(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Features `[h, w, C]` as colours, uint8 `[h, w, 3]`, alike in all maps of the sequence.

    Red, green and blue are their first three principal components, each from its second to its
    98th percentile. Components have no sign of their own: it is set so that the largest entry of
    each is positive.
    """
    flat = [np.asarray(x, np.float64).reshape(-1, x.shape[-1]) for x in maps]
    together = np.concatenate(flat)
    mean = together.mean(0)
    _, axes = np.linalg.eigh(np.cov((together - mean).T, bias=True).reshape(2 * (mean.size,)))
    axes = axes[:, ::-1][:, :3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    values = (together - mean) @ axes
    values = np.pad(values, ((0, 0), (0, 3 - values.shape[1])))
    low, high = np.percentile(values, (2, 98), axis=0)
    shares = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
    colours = np.rint(255 * shares).astype(np.uint8)
    ends = np.cumsum([len(x) for x in flat])[:-1]
    parts = np.split(colours, ends)
    return [part.reshape(*x.shape[:2], 3) for part, x in zip(parts, maps, strict=True)]


def enlarged(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A picture `[h, w, …]` at another size, by nearest pixels: a grid stays one to be seen."""
    rows = np.arange(shape[0]) * picture.shape[0] // shape[0]
    columns = np.arange(shape[1]) * picture.shape[1] // shape[1]
    return picture[rows][:, columns]
