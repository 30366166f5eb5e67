"""Photometric distortion: one definition for every library that computes it.

`xp` is the library, `jax.numpy`, `numpy` or `tensorflow`: the functions need its `where`,
`maximum`, `minimum` and `abs` alone. Red, green and blue are three arrays, because a loop over
pixels that keeps them apart writes nothing down in between. The two halves are functions of
their own for compilers that do better with two loops.
"""

from __future__ import annotations

from typing import Any


def distort_colours(channels: Any, draws: Any, xp: Any) -> list[Any]:
    """Photometric distortion of red, green and blue, float32 of 0–255; so is the result.

    Each with probability ½: brightness ±32; contrast × 0.5–1.5, before or after the next
    two by a coin; saturation × 0.5–1.5 and hue ± 18/180 of a turn, in HSV. The first five of
    `draws` [10] decide what happens, in this order with the coin last, the others how much.
    """
    return end_colours(*begin_colours(channels, draws, xp), draws, xp)


def begin_colours(channels: Any, draws: Any, xp: Any) -> tuple[Any, Any, Any]:
    """The first half of `distort_colours`, to value, chroma and angle; see `to_angle`."""
    happens, amount = draws[:5] < 0.5, draws[5:]
    brightness = xp.where(happens[0], 64 * amount[0] - 32, 0.0)
    contrast = xp.where(happens[1] & happens[4], 0.5 + amount[1], 1.0)
    saturation = xp.where(happens[2], 0.5 + amount[2], 1.0)
    turn = xp.where(happens[3], (2 * amount[3] - 1) * (18 / 180), 0.0)
    channels = [_clipped(_clipped(c + brightness, xp) * contrast, xp) for c in channels]
    return to_angle(channels, saturation, turn, xp)


def end_colours(value: Any, chroma: Any, angle: Any, draws: Any, xp: Any) -> list[Any]:
    """The second half of `distort_colours`, back to red, green and blue."""
    happens, amount = draws[:5] < 0.5, draws[5:]
    contrast = xp.where(happens[1] & ~happens[4], 0.5 + amount[1], 1.0)
    return [_clipped(c * contrast, xp) for c in from_angle(value, chroma, angle, xp)]


def to_angle(channels: Any, saturation: Any, turn: Any, xp: Any) -> tuple[Any, Any, Any]:
    """Value, chroma and angle of RGB after a change of saturation, to at most 1, and hue.

    The value V and the chroma C = V − min stand for HSV, where S = C / V; a factor of the
    saturation is one of C. The hue, in units of C so that nothing is divided, is an angle of
    [0, 6C); `turn`, between −1 and 1, is in full turns.
    """
    red, green, blue = channels
    value = xp.maximum(xp.maximum(red, green), blue)
    chroma = value - xp.minimum(xp.minimum(red, green), blue)
    factor = xp.minimum(saturation, value / xp.maximum(chroma, 1e-6))
    is_red, is_green = red == value, green == value
    third = xp.where(is_red, green - blue, xp.where(is_green, blue - red, red - green))
    chroma = chroma * factor
    angle = factor * third + chroma * xp.where(is_red, 0.0, xp.where(is_green, 2.0, 4.0))
    angle = angle + 6 * turn * chroma
    angle = xp.where(angle < 0, angle + 6 * chroma, angle)
    return value, chroma, xp.where(angle >= 6 * chroma, angle - 6 * chroma, angle)


def from_angle(value: Any, chroma: Any, angle: Any, xp: Any) -> list[Any]:
    """Red, green and blue; each follows the angle piecewise linearly."""

    def channel(distance: Any) -> Any:
        return value - chroma + xp.minimum(xp.maximum(distance, 0.0), chroma)

    return [
        channel(xp.abs(angle - 3 * chroma) - chroma),
        channel(2 * chroma - xp.abs(angle - 2 * chroma)),
        channel(2 * chroma - xp.abs(angle - 4 * chroma)),
    ]


def _clipped(values: Any, xp: Any) -> Any:
    return xp.minimum(xp.maximum(values, 0.0), 255.0)
