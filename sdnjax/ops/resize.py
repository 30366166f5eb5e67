"""Resizing with PyTorch's numerics: bilinear and bicubic without antialiasing, and nearest.

`jax.image.resize` antialiases by default, knows no `align_corners`, has another cubic and rounds
"nearest" its own way, so ported models and label maps need these.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.neighbours import accumulation_dtype
from sdnjax.ops.sizes import known


@jax.named_scope("resize")
def resize_bilinear(
    x: jax.Array, shape: tuple[int, ...], *, align_corners: bool = False
) -> jax.Array:
    """Bilinear interpolation, `F.interpolate(mode="bilinear")` of PyTorch without antialiasing.

    Output pixel i reads at `(i + ½)·in/out − ½`, or at `i·(in − 1)/(out − 1)` with
    `align_corners`, clamped to the image. Done as one dense product per axis, the cheaper order
    first: fast where matrix products are, and its gradient sums in a fixed order.

    Args:
        x: `[..., H, W, C]`, floating, any number of leading axes.
        shape: static `(height, width)` of the result, in pixels.
        align_corners: whether the corner pixels' centres coincide.

    Returns:
        `[..., height, width, C]` in x's dtype, computed in float32 (float64 for float64) at the
        highest precision. x itself when the size does not change.

    Raises:
        ValueError: fewer than three axes, an empty size, a dtype that is not floating.
    """
    return _resize(x, shape, functools.partial(_weights, align_corners=align_corners))


@jax.named_scope("resize")
def resize_bicubic(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Bicubic interpolation, `F.interpolate(mode="bicubic")` of PyTorch: Keys' cubic, a = −0.75.

    Output pixel i reads four taps about `(i + ½)·in/out − ½`; taps outside repeat the border.
    (JAX's and TensorFlow's cubic has a = −0.5.)

    Args:
        x: `[..., H, W, C]`, floating, any number of leading axes.
        shape: static `(height, width)` of the result, in pixels.

    Returns:
        `[..., height, width, C]` in x's dtype, computed in float32 (float64 for float64) at the
        highest precision. x itself when the size does not change.

    Raises:
        ValueError: fewer than three axes, an empty size, a dtype that is not floating.
    """
    return _resize(x, shape, _cubic_weights)


def _resize(x, shape, weights_of):
    """One dense product per axis; `weights_of(old, new, dtype)` is `[new, old]`."""
    height, width = _check(x, shape)
    h, w = x.shape[-3:-1]
    dtype = accumulation_dtype(x.dtype)

    def resize_axis(x, axis, equation, size):
        if x.shape[axis] == size:
            return x
        weights = jnp.asarray(weights_of(x.shape[axis], size, dtype=dtype))
        return jnp.einsum(equation, weights, x.astype(dtype), precision=lax.Precision.HIGHEST)

    passes = [(-3, "oh,...hwc->...owc", height), (-2, "ow,...hwc->...hoc", width)]
    if known((h, w, height, width)) and w * height * (h + width) > h * width * (w + height):
        passes.reverse()
    y = x
    for axis, equation, size in passes:
        y = resize_axis(y, axis, equation, size)
    return y.astype(x.dtype)


def resize_nearest(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Nearest-neighbour resizing, `F.interpolate(mode="nearest")` of PyTorch.

    Output pixel i is input pixel `floor(i · in/out)`, in float32 as PyTorch computes it.

    Args:
        x: `[..., H, W, C]` of any dtype, any number of leading axes; give a label map
            `[..., H, W]` a channel axis.
        shape: static `(height, width)` of the result, in pixels.

    Returns:
        `[..., height, width, C]` in x's dtype. x itself when the size does not change.

    Raises:
        ValueError: fewer than three axes, an empty size.
    """
    for axis, size in zip((-3, -2), _check(x, shape), strict=True):
        old = x.shape[axis]
        if size == old:
            continue
        if known((old, size)) and size % old == 0:  # a broadcast; its gradient is a plain sum
            x = jnp.repeat(x, size // old, axis=axis)
        else:
            np_ = np if known((old, size)) else jnp
            ratio = np_.float32(old) / np_.float32(size)
            source = np_.floor(np_.arange(size, dtype=np.float32) * ratio)
            x = jnp.take(x, np_.minimum(source, old - 1).astype(np.int32), axis=axis)
    return x


def _check(x, shape):
    height, width = shape
    numbers = (n for n in (*x.shape[-3:-1], height, width) if known((n,)))
    if x.ndim < 3 or any(n < 1 for n in numbers):
        raise ValueError(f"cannot resize {x.shape} as [..., H, W, C] to {tuple(shape)}")
    return height, width


def bilinear_positions(
    old: int, new: int, *, align_corners: bool = False, dtype=np.float32
) -> np.ndarray:
    """`[new]` source positions of `resize_bilinear` along one axis, clamped to 0…old − 1.

    The scale is rounded to the computation's dtype, the coordinate once more at the end, as a
    fused multiply-add does: in a large picture the last digits of a coordinate are visible.
    """
    dtype = np.dtype(dtype)
    target = np.arange(new, dtype=np.float64)
    if align_corners:
        source = target * np.float64(dtype.type(old - 1) / dtype.type(max(new - 1, 1)))
    else:
        source = (target + 0.5) * np.float64(dtype.type(old) / dtype.type(new)) - 0.5
    return np.clip(source.astype(dtype), 0, old - 1)


def _weights(old: int, new: int, *, align_corners: bool, dtype) -> np.ndarray | jax.Array:
    """`[new, old]` interpolation weights at PyTorch's coordinates."""
    if not known((old, new)):
        return _symbolic_weights(old, new, align_corners=align_corners, dtype=dtype)
    source = bilinear_positions(old, new, align_corners=align_corners, dtype=dtype)
    return np.maximum(0, 1 - np.abs(source[:, None] - np.arange(old, dtype=dtype))).astype(dtype)


def _symbolic_weights(old, new, *, align_corners: bool, dtype) -> jax.Array:
    """The same of sizes that are known when the program runs. Coordinates are rounded once more
    on their way where the scale is no power of two: they may differ in their last digit."""
    target, source = jnp.arange(new, dtype=dtype), jnp.arange(old, dtype=dtype)
    before, after = (jnp.asarray(n).astype(dtype) for n in (old, new))
    if align_corners:
        at = target * ((before - 1) / jnp.maximum(after - 1, 1))
    else:
        at = (target + 0.5) * (before / after) - 0.5
    at = jnp.clip(at, 0, before - 1)
    return jnp.maximum(0, 1 - jnp.abs(at[:, None] - source[None]))


def _cubic_weights(old: int, new: int, *, dtype) -> np.ndarray:
    """`[new, old]` weights of Keys' cubic with a = −0.75, border taps added to the border's."""
    if not known((old, new)):
        raise NotImplementedError("bicubic resizing needs sizes that are known in advance")
    scale = np.float64(dtype.type(old) / dtype.type(new))
    source = ((np.arange(new) + 0.5) * scale - 0.5).astype(dtype).astype(np.float64)
    first = np.floor(source).astype(int) - 1
    weights = np.zeros((new, old))
    for tap in range(4):
        t = np.abs(source - (first + tap))
        near = (1.25 * t - 2.25) * t * t + 1
        far = -0.75 * (((t - 5) * t + 8) * t - 4)
        weight = np.where(t <= 1, near, np.where(t < 2, far, 0.0))
        np.add.at(weights, (np.arange(new), np.clip(first + tap, 0, old - 1)), weight)
    return weights.astype(dtype)
