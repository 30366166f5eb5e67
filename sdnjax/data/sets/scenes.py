"""Generated scenes of textured shapes, for tests and for a first run without any data.

Made to be won at the borders: all classes have nearly the same mean colour, each carries a
texture whose two tones differ by far more than the means do, and where two objects meet
they blend over a few pixels while the label stays sharp. So edges inside a class are
stronger than the edges between classes, and a detector of intensity edges finds the wrong
ones. What tells the classes apart is local: the two tones and the pattern they form.

The same (seed, index) gives the same bytes everywhere: numbers come from the raw stream of
a PCG64, and pixels pass through correctly rounded float32 operations only (no sines, no
sums whose order could change).
"""

from __future__ import annotations

import functools
import math

import numpy as np

# Two tones of each class, in the order of the label space: ground, disc, bar, triangle,
# ring, hexagon. Tones lie 100 to 160 apart, the means of two classes within 20.
_TONES = np.array(
    [
        [(160, 154, 142), (80, 84, 92)],
        [(190, 104, 88), (66, 130, 140)],
        [(186, 152, 72), (64, 90, 160)],
        [(104, 166, 96), (140, 76, 136)],
        [(78, 140, 186), (172, 100, 66)],
        [(178, 176, 172), (58, 60, 66)],
    ],
    np.float32,
)
_BLEND = 4.0  # pixels over which two objects blend
_NOISE = 9.0  # greatest deviation of the pixel noise


class _Draws:
    """Uniform numbers in [0, 1) from the raw stream, which NumPy promises never to change."""

    def __init__(self, seed: int, index: int):
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, index]))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def integer(self, count: int) -> int:
        return int(self.between(0, count))

    def direction(self) -> tuple[float, float]:
        """A unit vector; the half-angle formula needs no sine."""
        t, turn = self.between(-1, 1), self.integer(4)
        c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        return ((c, s), (-s, c), (-c, -s), (s, -c))[turn]

    def octets(self, count: int) -> np.ndarray:
        """float32 [count] of whole numbers 0…255."""
        raw = self._bits.random_raw((count + 7) // 8).astype("<u8")
        return raw.view(np.uint8)[:count].astype(np.float32)


def render_scene(
    seed: int, index: int, *, size: tuple[int, int] = (96, 96)
) -> tuple[np.ndarray, np.ndarray]:
    """Draws scene `index` of the collection `seed`.

    Args:
      seed, index: non-negative integers; they alone decide the scene.
      size: height and width in pixels, each at least 16. Shapes keep their sizes in
        pixels; a larger scene holds more of them.

    Returns:
      image uint8 [H, W, 3] and label uint8 [H, W] of 0 (ground) to 5, the classes of
      `label_space("shapes")`.
    """
    h, w = size
    if h < 16 or w < 16:
        raise ValueError(f"a scene is at least 16×16 pixels, not {h}×{w}")
    draws = _Draws(seed, index)
    x, y = np.arange(w, dtype=np.float32)[None, :], np.arange(h, dtype=np.float32)[:, None]
    image = _paint(draws, 0, _ground_pattern(draws, h, w))
    label = np.zeros((h, w), np.uint8)
    crowd = max(1.0, h * w / 9216)
    for _ in range(round(draws.between(7, 12) * crowd)):
        _draw_object(draws, image, label, x, y)
    noise = draws.octets(2 * h * w * 3).reshape(2, h, w, 3)
    image += (noise[0] + noise[1] - np.float32(255)) * np.float32(_NOISE / 255)
    return np.clip(np.floor(image + np.float32(0.5)), 0, 255).astype(np.uint8), label


def _draw_object(
    draws: _Draws, image: np.ndarray, label: np.ndarray, x: np.ndarray, y: np.ndarray
) -> None:
    """Draws one random object over image and label, in place."""
    h, w = label.shape
    kind = 1 + draws.integer(len(_TONES) - 1)
    cx, cy = draws.between(0, w), draws.between(0, h)
    radius = draws.between(9, 23)
    c, s = draws.direction()
    stretch = draws.between(0.65, 1)
    # Nothing beyond the circumscribed circle changes.
    reach = radius * 1.4 + _BLEND
    rows = slice(max(0, math.floor(cy - reach)), min(h, math.ceil(cy + reach) + 1))
    cols = slice(max(0, math.floor(cx - reach)), min(w, math.ceil(cx + reach) + 1))
    dx, dy = x[:, cols] - np.float32(cx), y[rows] - np.float32(cy)
    along, across = _turned(dx, dy, c, s)
    inside = _distance_inside(kind, along, across, radius, stretch)
    colour = _paint(draws, kind, _pattern(draws, kind, dx, dy))
    matte = np.clip(inside * np.float32(1 / _BLEND) + np.float32(0.5), 0, 1)[..., None]
    image[rows, cols] += (colour - image[rows, cols]) * matte
    label[rows, cols][inside > 0] = kind


def _distance_inside(
    kind: int, along: np.ndarray, across: np.ndarray, radius: float, stretch: float
) -> np.ndarray:
    """Distance to the outline in pixels, positive inside; along, across: the object's axes."""
    if kind == 1:  # disc, mostly elliptic
        across = across * np.float32(1 / stretch)
        return np.float32(radius) - np.sqrt(along * along + across * across)
    if kind == 2:  # bar
        half = np.float32(1.3 * radius), np.float32(0.45 * radius * stretch)
        return np.minimum(half[0] - np.abs(along), half[1] - np.abs(across))
    if kind == 3:  # triangle: three half planes at 120°
        sides = ((1.0, 0.0), (-0.5, 0.75**0.5), (-0.5, -(0.75**0.5)))
        return _polygon(along, across, sides, 0.58 * radius)
    if kind == 4:  # ring
        width = np.float32(radius * (0.22 + 0.12 * stretch))
        return width - np.abs(np.sqrt(along * along + across * across) - np.float32(0.8 * radius))
    sides = ((1.0, 0.0), (0.5, 0.75**0.5), (-0.5, 0.75**0.5))
    return _polygon(along, across, sides + tuple((-a, -b) for a, b in sides), 0.85 * radius)


def _polygon(
    along: np.ndarray,
    across: np.ndarray,
    normals: tuple[tuple[float, float], ...],
    apothem: float,
) -> np.ndarray:
    sides = [
        np.float32(apothem) - (along * np.float32(a) + across * np.float32(b)) for a, b in normals
    ]
    return functools.reduce(np.minimum, sides)


def _pattern(draws: _Draws, kind: int, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The texture of a class: float32 [h, w], from 0 (first tone) to 1 (second).

    Orientation and period vary between objects, but less than between classes.
    """
    period = draws.between(3.8, 4.8)
    t = draws.between(-0.12, 0.12)  # up to ±14° off the orientation of the class
    c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    u, v = _turned(dx, dy, c, s)
    phases = draws.between(0, 1), draws.between(0, 1)
    diagonal = np.float32(0.5**0.5)
    if kind == 1:  # level stripes
        return _wave(v, period, phases[0])
    if kind == 2:  # checks
        a, b = _wave(u, 1.6 * period, phases[0]), _wave(v, 1.6 * period, phases[1])
        return a + b - np.float32(2) * a * b
    if kind == 3:  # rising stripes
        return _wave((u + v) * diagonal, period, phases[0])
    if kind == 4:  # upright stripes
        return _wave(u, period, phases[0])
    # dots on a diamond lattice, as much ink as paper
    a = _wave((u + v) * diagonal, 1.25 * period, phases[0])
    b = _wave((u - v) * diagonal, 1.25 * period, phases[1])
    return np.clip((a + b - np.float32(0.9)) * np.float32(2.5), 0, 1)


def _ground_pattern(draws: _Draws, h: int, w: int) -> np.ndarray:
    """Speckle: cells of 2×2 pixels, each of a tone of its own."""
    rows, cols = h // 2 + 1, w // 2 + 1
    cells = draws.octets(rows * cols).reshape(rows, cols) * np.float32(1 / 255)
    cells = np.clip(cells * np.float32(2.4) - np.float32(0.7), 0, 1)  # more of the extremes
    return cells.repeat(2, 0).repeat(2, 1)[:h, :w]


def _wave(position: np.ndarray, period: float, phase: float) -> np.ndarray:
    """A trapezoid wave from 0 to 1, steep but not aliased."""
    turns = position * np.float32(1 / period) + np.float32(phase)
    triangle = np.abs(turns - np.floor(turns) - np.float32(0.5)) * np.float32(2)
    return np.clip(triangle * np.float32(1.8) - np.float32(0.4), 0, 1)


def _paint(draws: _Draws, kind: int, pattern: np.ndarray) -> np.ndarray:
    """Colours a pattern [h, w] with the tones of a class: float32 [h, w, 3]."""
    first, second = _TONES[kind]
    contrast = np.float32(draws.between(0.8, 1.0))
    middle = (first + second) * np.float32(0.5) + np.float32(draws.between(-10, 10))
    ink = (second - first) * contrast
    return middle + (pattern - np.float32(0.5))[..., None] * ink


def _turned(dx: np.ndarray, dy: np.ndarray, c: float, s: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in axes turned by the angle of cosine c and sine s."""
    cosine, sine = np.float32(c), np.float32(s)
    return dx * cosine + dy * sine, dy * cosine - dx * sine
