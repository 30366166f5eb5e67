"""Edge maps of labels: where another class is near."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sdnjax.ops.labels import IGNORE


def label_edges(labels: jax.Array, radius: int = 2) -> jax.Array:
    """Pixels with another label at a Euclidean distance of at most `radius` pixels.

    Void is one more label, and so is what lies outside the image: labelled pixels at its border are
    edges, void ones are not. That is the union over all classes of `EDT(m) + EDT(1 − m) ≤ radius`
    with m padded by "other", the edge maps that InverseForm (Borse et al., CVPR 2021) is trained
    with. Its code counts classes from 1, so that the borders of class 0 are missing where it meets
    void or the image's border; here no class is left out.

    Args:
        labels: integers `[B, H, W]`, `IGNORE` for void.
        radius: in pixels, at least 1.

    Returns: booleans `[B, H, W]`.

    Raises: ValueError for labels of another form, or a radius below 1.
    """
    if labels.ndim != 3 or radius < 1:
        raise ValueError(f"edges of radius {radius} in labels {labels.shape}: [B, H, W] and ≥ 1")
    _, h, w = labels.shape
    outside = ((0, 0), (radius, radius), (radius, radius))
    padded = jnp.pad(labels, outside, constant_values=IGNORE)
    edges = jnp.zeros(labels.shape, bool)
    reach = range(-radius, radius + 1)
    for dy, dx in ((y, x) for y in reach for x in reach if 0 < y * y + x * x <= radius * radius):
        y, x = radius + dy, radius + dx
        edges |= padded[:, y : y + h, x : x + w] != labels
    return edges
