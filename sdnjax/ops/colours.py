"""Photometric distortion: one definition for every library that computes it.

`xp` is the library, `jax.numpy`, `numpy` or `tensorflow`: the functions need its `where`,
`maximum`, `minimum` and `abs` alone. Red, green and blue are three arrays, because a loop over
pixels that keeps them apart writes nothing down in between.
"""

from __future__ import annotations

from typing import Any


def distort_colours(channels: Any, draws: Any, xp: Any) -> list[Any]:
    """Photometric distortion of red, green and blue, float32 of 0–255; so is the result.

    Each with probability ½: brightness ±32; contrast × 0.5–1.5, before or after the next
    two by a coin; saturation × 0.5–1.5 and hue ± 18/180 of a turn, in HSV. The first five of
    `draws` [10] decide what happens, in this order with the coin last, the others how much.
    """
    happens, amount = draws[:5] < 0.5, draws[5:]
    brightness = xp.where(happens[0], 64 * amount[0] - 32, 0.0)
    contrast = xp.where(happens[1], 0.5 + amount[1], 1.0)
    saturation = xp.where(happens[2], 0.5 + amount[2], 1.0)
    turn = xp.where(happens[3], (2 * amount[3] - 1) * (18 / 180), 0.0)
    first = xp.where(happens[4], contrast, 1.0)
    last = xp.where(happens[4], 1.0, contrast)

    def clipped(values: Any) -> Any:
        return xp.minimum(xp.maximum(values, 0.0), 255.0)

    channels = [clipped(clipped(c + brightness) * first) for c in channels]
    changed = change_hsv(channels, saturation, turn, xp)
    either = happens[2] | happens[3]
    return [
        clipped(xp.where(either, new, old) * last)
        for new, old in zip(changed, channels, strict=True)
    ]


def change_hsv(channels: Any, saturation: Any, turn: Any, xp: Any) -> list[Any]:
    """Multiplies the saturation of RGB, to at most 1, and turns the hue by |turn| ≤ 1.

    Without going to HSV and back: value V and chroma C = V − min are kept apart, a factor f of
    the saturation moves each channel to V − f·(V − channel), and the hue, measured in units of
    C so that nothing is divided, is an angle H of [0, 6C) that the channels follow piecewise
    linearly.
    """
    red, green, blue = channels
    value = xp.maximum(xp.maximum(red, green), blue)
    chroma = value - xp.minimum(xp.minimum(red, green), blue)
    factor = xp.minimum(saturation, value / xp.maximum(chroma, 1e-6))
    chroma = chroma * factor
    is_red, is_green = red == value, green == value
    third = xp.where(is_red, green - blue, xp.where(is_green, blue - red, red - green))
    angle = factor * third + chroma * xp.where(is_red, 0.0, xp.where(is_green, 2.0, 4.0))
    angle = angle + 6 * turn * chroma
    angle = xp.where(angle < 0, angle + 6 * chroma, angle)
    angle = xp.where(angle >= 6 * chroma, angle - 6 * chroma, angle)

    def channel(distance: Any) -> Any:
        return value - chroma + xp.minimum(xp.maximum(distance, 0.0), chroma)

    return [
        channel(xp.abs(angle - 3 * chroma) - chroma),
        channel(2 * chroma - xp.abs(angle - 2 * chroma)),
        channel(2 * chroma - xp.abs(angle - 4 * chroma)),
    ]
