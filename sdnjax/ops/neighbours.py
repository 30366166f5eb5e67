"""Neighbourhoods: the taps of a kernel, reading at a tap, and Eq. 3's weighted difference.

Tap `k = i·kw + j` of a `[kh, kw]` kernel reads at `p + o_k` with
`o_k = ((i − kh//2)·dilation_y, (j − kw//2)·dilation_x)`: cross-correlation, as in every
convolution of the field. Kernels are odd, so `o_{K−1−k} = −o_k` and tap `K//2` is the centre.
Whatever lies outside the image reads as 0.
"""

import difflib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.bands import Window, bands_of, channel_sums, reach_of, works_in_bands
from sdnjax.ops.sizes import known

Offsets = tuple[tuple[int, int], ...]


def check_name(what: str, name: str, known) -> None:
    """Raise a ValueError with the known and the nearest names unless `name` is known."""
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}.{hint}")


def accumulation_dtype(dtype) -> np.dtype:
    """Float64 for float64, float32 for every narrower float; others are a ValueError."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"a real floating dtype is needed, got {jnp.dtype(dtype).name}")
    return np.dtype(np.float64 if jnp.dtype(dtype) == np.float64 else np.float32)


def as_pair(what: str, value) -> tuple[int, int]:
    """An integer or a pair of them, all ≥ 1, as the pair (y, x)."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(n, int | np.integer) and n >= 1 for n in pair):
        raise ValueError(f"{what} must be an integer ≥ 1 or a pair of them, got {value!r}")
    return int(pair[0]), int(pair[1])


def tap_offsets(kernel_size, dilation=1) -> Offsets:
    """Offsets `(dy, dx)` of a kernel's taps in row-major order, in pixels.

    Args:
        kernel_size: odd integer or pair `(kh, kw)` of odd integers.
        dilation: integer ≥ 1 or pair `(y, x)`.
    """
    (kh, kw), (dy, dx) = as_pair("kernel_size", kernel_size), as_pair("dilation", dilation)
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"kernel sizes must be odd, got {kh}×{kw}")
    return tuple(((i - kh // 2) * dy, (j - kw // 2) * dx) for i in range(kh) for j in range(kw))


def without_centre(x: jax.Array, axis: int) -> jax.Array:
    """Drops the centre from an axis of K taps."""
    centre = x.shape[axis] // 2
    before = lax.slice_in_dim(x, 0, centre, axis=axis)
    after = lax.slice_in_dim(x, centre + 1, x.shape[axis], axis=axis)
    return lax.concatenate([before, after], axis)


def with_centre(x: jax.Array, axis: int) -> jax.Array:
    """Puts zeros for the centre between the halves of an axis of K − 1 taps."""
    before, after = jnp.split(x, 2, axis)
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    return lax.concatenate([before, jnp.zeros(shape, x.dtype), after], axis)


def shift(x: jax.Array, offset: tuple[int, int]) -> jax.Array:
    """`y[p] = x[p + offset]`, 0 outside. x `[B, H, W, ...]`, a static offset of any length."""
    crop_and_fill = [(0, 0, 0)] * x.ndim
    for axis, size, step in zip((1, 2), x.shape[1:3], offset, strict=True):
        if known((size,)):
            step = max(-size, min(size, step))
        crop_and_fill[axis] = (-step, step, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), crop_and_fill)


def reader(x: jax.Array, offsets: Offsets):
    """Pad x `[B, H, W, ...]` once; returns `read(o) = x[p + o]` for a *traced* offset o `[2]`.

    For loops over taps: o is any of the offsets or its negative. Beyond the image's own size
    nothing is left to read, so the padding never exceeds it.
    """
    h, w = x.shape[1:3]
    ry = min(h, max(abs(dy) for dy, _ in offsets))
    rx = min(w, max(abs(dx) for _, dx in offsets))
    padded = jnp.pad(x, ((0, 0), (ry, ry), (rx, rx)) + ((0, 0),) * (x.ndim - 3))

    def read(offset):
        zero = jnp.zeros((), offset.dtype)
        row = jnp.clip(offset[0] + ry, 0, 2 * ry)
        column = jnp.clip(offset[1] + rx, 0, 2 * rx)
        return lax.dynamic_slice(padded, (zero, row, column) + (zero,) * (x.ndim - 3), x.shape)

    return read


def inside(shape, offsets: Offsets) -> jax.Array:
    """`[1, H, W, K]` booleans: whether tap k of pixel p lies inside an image `[B, H, W, ...]`."""
    h, w = shape[1:3]
    dy, dx = np.array(offsets, int).reshape(-1, 2).T
    rows, columns = (
        (np if known((n,)) else jnp).arange(n, dtype=np.int32)[:, None] + d.astype(np.int32)[None]
        for n, d in ((h, dy), (w, dx))
    )
    rows, columns = (rows >= 0) & (rows < h), (columns >= 0) & (columns < w)
    # Two small constants; the product over H and W is left to the compiled program.
    return jnp.asarray(rows)[None, :, None, :] & jnp.asarray(columns)[None, None, :, :]


def mirror(s: jax.Array, offsets: Offsets) -> jax.Array:
    """`m_k[p] = s_{−k}[p + o_k]`: what the neighbour at tap k holds for p. s `[B, H, W, K]`.

    Equal to s for symmetric maps that are 0 outside.
    """
    taps = reversed(range(len(offsets)))
    return jnp.stack([shift(s[..., k], o) for k, o in zip(taps, offsets, strict=True)], axis=-1)


def with_neighbours(function, x: jax.Array, offsets: Offsets, *maps: jax.Array) -> jax.Array:
    """`function(read, *maps)`, pixel by pixel, where `read(o)[p] = x[p + o]`, 0 outside.

    x and maps `[B, H, W, ...]` → `[B, H, W, ...]`. One pass on accelerators, which fuse it; on the
    CPU a loop over bands of rows that stay in cache.
    """
    if not (works_in_bands() and known(x.shape)):
        return function(partial(shift, x), *maps)
    bands = bands_of(x.shape, x.shape[3] * accumulation_dtype(x.dtype).itemsize)
    reach = reach_of(offsets, x.shape)

    def step(y, _, i, window):
        read = partial(Window(bands, i, reach).read, window)
        return bands.put(y, function(read, *(bands.take(m, i) for m in maps)), i)

    result = jax.eval_shape(lambda x, *maps: function(partial(shift, x), *maps), x, *maps)
    return bands.loop(step, jnp.zeros(result.shape, result.dtype), x, reach)


def weighted_difference(
    u: jax.Array, s: jax.Array, offsets: Offsets, result_dtype=None
) -> jax.Array:
    """Finite difference of the SDN paper's Eq. 3: `Σ_k s_k[p] (u[p + o_k] − u[p])`.

    u `[B, H, W, C]`, s `[B, H, W, K]` → `[B, H, W, C]`, computed in float32 (float64 for float64)
    and returned in it unless told otherwise. u reads as 0 outside; with s = 0 there, no flux
    crosses the border.
    Reverse mode only, and lean: u and s are all it keeps.
    """
    return _weighted(u, s, offsets, True, result_dtype)


def weighted_sum(u: jax.Array, s: jax.Array, offsets: Offsets, result_dtype=None) -> jax.Array:
    """`Σ_k s_k[p] u[p + o_k]`: the same without the centre's part. What is outside adds nothing."""
    return _weighted(u, s, offsets, False, result_dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _weighted(u, s, offsets, differences, result_dtype):
    dtype = accumulation_dtype(u.dtype)
    result_dtype = result_dtype or dtype

    def total(read, s):
        centre = read((0, 0)).astype(dtype)
        y = jnp.zeros(centre.shape, dtype)
        for k, offset in enumerate(offsets):
            if not differences:
                y += s[..., k, None].astype(dtype) * read(offset).astype(dtype)
            elif offset != (0, 0):
                y += s[..., k, None].astype(dtype) * (read(offset).astype(dtype) - centre)
        return y.astype(result_dtype)

    return with_neighbours(total, u, offsets, s)


def _weighted_fwd(u, s, offsets, differences, result_dtype):
    return _weighted(u, s, offsets, differences, result_dtype), (u, s)


def _weighted_bwd(offsets, differences, result_dtype, residuals, dy):
    del result_dtype
    u, s = residuals
    dy = dy.astype(accumulation_dtype(dy.dtype))
    # The adjoint reads instead of scattering: the same operator with the mirrored weights, plus,
    # for differences, what they lack in symmetry. That vanishes for symmetric s without flux:
    # self-adjoint.
    m = mirror(s, offsets).astype(dy.dtype)
    du = _weighted(dy, m, offsets, differences, None)
    if differences:
        du += jnp.sum(m - s.astype(dy.dtype), axis=-1, keepdims=True) * dy

    def products(read, dy):
        def at(offset):
            neighbour = read(offset).astype(dy.dtype)
            return neighbour - read((0, 0)).astype(dy.dtype) if differences else neighbour

        return channel_sums(at(offset) * dy for offset in offsets)

    ds = with_neighbours(products, u, offsets, dy)
    return du.astype(u.dtype), ds.astype(s.dtype)


_weighted.defvjp(_weighted_fwd, _weighted_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def neighbour_products(v: jax.Array, offsets: Offsets) -> jax.Array:
    """`⟨v[p + o_k], v[p]⟩` for every tap: `[B, H, W, C]` → `[B, H, W, K]`, 0 outside.

    In float32 (float64 for float64). Keeps v alone for the backward pass.
    """
    dtype = accumulation_dtype(v.dtype)

    def products(read):
        centre = read((0, 0)).astype(dtype)
        return channel_sums(read(o).astype(dtype) * centre for o in offsets)

    return with_neighbours(products, v, offsets)


def _neighbour_products_fwd(v, offsets):
    return neighbour_products(v, offsets), v


def _neighbour_products_bwd(offsets, v, g):
    # v[p] stands in the products that p holds and in those that its neighbours hold.
    return (weighted_sum(v, g + mirror(g, offsets), offsets, v.dtype),)


neighbour_products.defvjp(_neighbour_products_fwd, _neighbour_products_bwd)
