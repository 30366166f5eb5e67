"""SDC band by band, with its own backward pass.

One matrix product per band of rows contracts all taps and channels at once; its left operand, the
weighted differences, is built next to it and stays in cache. Where the kernel is larger than the
image, a copy of it without its centre would be the largest array of all: then the taps take turns.
No copy of the image is padded, and no patches outlive their band: `benchmarks/sdc.py` measures
what is left. Batches are never cut: they may be spread over devices, and dW is summed over these
once, after the loop.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.bands import Bands, Window, bands_of, channel_sums, reach_of, works_in_bands
from sdnjax.ops.neighbours import (
    Offsets,
    accumulation_dtype,
    shift,
    tap_offsets,
    with_centre,
    without_centre,
)
from sdnjax.ops.per_device import over_mesh
from sdnjax.ops.sizes import known

# Weighted differences per band as a share of the image, and in bytes where a CPU's caches count.
BAND_SHARE = 1 / 2
CPU_BAND_BYTES = 2 * 2**20


def semantic_difference(u, s, kernel, *, dilation, precision):
    """`Y[p] = Σ_k s_k[p] (U[p + o_k] − U[p]) W_k`; reverse mode keeps u, s and the kernel."""
    if not known(u.shape):
        return _tap_by_tap(u, s, kernel, dilation, precision)
    return _semantic_difference(u, s, kernel, dilation, precision)


def _tap_by_tap(u, s, kernel, dilation, precision):
    """The same where sizes are symbols, of which no bands can be made: a product for each tap."""
    kh, kw, _, co = kernel.shape
    dtype = accumulation_dtype(u.dtype)
    centre, y = u.astype(dtype), jnp.zeros((*u.shape[:3], co), dtype)
    for k, offset in enumerate(tap_offsets((kh, kw), dilation)):
        if offset != (0, 0):
            weighted = s[..., k, None] * (shift(u, offset).astype(dtype) - centre)
            tap = kernel[k // kw, k % kw]
            y += _dot(weighted.astype(u.dtype), tap, ((3,), (0,)), dtype, precision)
    return y.astype(u.dtype)


@dataclass(frozen=True)
class _Taps:
    """The taps around the centre in groups, and the bands that a group's differences allow."""

    offsets: Offsets
    together: bool  # one group of all taps, or one group per tap
    bands: Bands
    reach: tuple[int, int]

    @classmethod
    def of(cls, u, kernel, dilation):
        kh, kw, ci, co = kernel.shape
        offsets, size = tap_offsets((kh, kw), dilation), accumulation_dtype(u.dtype).itemsize
        together = kernel.size <= u.size
        width = size * ci * (len(offsets) - 1 if together else 1)
        limit = int(BAND_SHARE * size * u.size)
        if works_in_bands():
            limit = min(limit, CPU_BAND_BYTES)
        # At least as many pixels as columns: each product reads the whole kernel.
        bands = bands_of(u.shape, width, limit=limit, least=co)
        return cls(offsets, together, bands, reach_of(offsets, u.shape))

    @property
    def groups(self) -> int:
        return 1 if self.together else len(self.offsets) - 1

    def tap(self, g):
        """Index of the only tap of group g."""
        return jnp.where(g < len(self.offsets) // 2, g, g + 1)

    def of_group(self, g):
        """Offsets of group g."""
        if self.together:
            return [offset for offset in self.offsets if offset != (0, 0)]
        return [tuple(jnp.array(self.offsets, jnp.int32)[self.tap(g)])]

    def columns(self, s, g):
        """The group's maps of s `[..., K]`, each `[..., 1]`."""
        if self.together:
            return [s[..., k, None] for k, offset in enumerate(self.offsets) if offset != (0, 0)]
        return [lax.dynamic_slice_in_dim(s, self.tap(g), 1, axis=-1)]

    def put(self, s, maps, g):
        """s with the group's maps `[..., taps]` replaced; the centre becomes 0."""
        if self.together:
            return with_centre(maps, s.ndim - 1)
        return lax.dynamic_update_slice_in_dim(s, maps, self.tap(g), axis=-1)

    def weights(self, kernel):
        """`weights(g)`: the group's taps `[taps, Ci, Co]`."""
        kernel = kernel.reshape(-1, *kernel.shape[2:])
        if self.together:
            around = without_centre(kernel, 0)
            return lambda g: around
        return lambda g: lax.dynamic_slice_in_dim(kernel, self.tap(g), 1)

    def differences(self, window, g, i):
        """`U[p + o] − U[p]` for the group's taps and the pixels of band i."""
        dtype = accumulation_dtype(window.dtype)
        read = partial(Window(self.bands, i, self.reach).read, window)
        centre = read((0, 0)).astype(dtype)
        return [read(offset).astype(dtype) - centre for offset in self.of_group(g)]


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _semantic_difference(u, s, kernel, dilation, precision):
    (kh, kw, _, co), dtype = kernel.shape, accumulation_dtype(u.dtype)
    if kh * kw == 1:
        return jnp.zeros((*u.shape[:3], co), u.dtype)
    taps = _Taps.of(u, kernel, dilation)
    bands, weights = taps.bands, taps.weights(kernel)

    def step(y, g, i, window):
        differences = taps.differences(window, g, i)
        weighted = _times(differences, taps.columns(bands.take(s, i), g)).astype(u.dtype)
        product = _dot(weighted, weights(g), ((3, 4), (0, 1)), dtype, precision)
        if taps.groups > 1:
            product = bands.take(y, i) + bands.where_fresh(product, i)
        return bands.put(y, product.astype(y.dtype), i)

    y = jnp.zeros((*u.shape[:3], co), u.dtype if taps.groups == 1 else dtype)
    return bands.loop(step, y, u, taps.reach, taps.groups).astype(u.dtype)


def _forward(u, s, kernel, dilation, precision):
    return _semantic_difference(u, s, kernel, dilation, precision), (u, s, kernel)


def _backward(dilation, precision, residuals, dy):
    """Per tap, with `t = dY W_kᵀ` and `D = U[p + o_k] − U[p]`:

    dS_k = Σ_c D t;  dW_k = (s_k D)ᵀ dY;  dU[p] −= (s_k t)[p];  dU[p + o_k] += (s_k t)[p].
    """
    u, s, kernel = residuals
    if kernel.shape[0] * kernel.shape[1] == 1:
        return jnp.zeros_like(u), jnp.zeros_like(s), jnp.zeros_like(kernel)
    # By each device of its own images: XLA's CPU compiler would add dW up over them in every band,
    # and processes run such sums of a loop and others in different orders.
    gradients = over_mesh(
        partial(_gradients, dilation=dilation, precision=precision),
        batched=(True, True, False, True),
        summed=(False, False, True),
    )
    du, ds, dkernel = gradients(u, s, kernel, dy)
    return du.astype(u.dtype), ds, dkernel.astype(kernel.dtype)


def _gradients(u, s, kernel, dy, *, dilation, precision):
    (kh, kw, ci, co), dtype = kernel.shape, accumulation_dtype(u.dtype)
    taps = _Taps.of(u, kernel, dilation)
    bands, weights = taps.bands, taps.weights(kernel)

    def step(carry, g, i, window):
        du, ds, dweights = carry
        dy_i, s_i = bands.take(dy, i), bands.take(s, i)
        t = _dot(dy_i, weights(g), ((3,), (2,)), dtype, precision)
        t = [t[..., j, :] for j in range(t.shape[3])]
        differences = taps.differences(window, g, i)

        maps = channel_sums(d * t_k for d, t_k in zip(differences, t, strict=True))
        ds = bands.put(ds, taps.put(bands.take(ds, i), maps, g), i)

        columns = taps.columns(bands.where_fresh(s_i, i), g)  # whatever is summed counts once
        weighted = _times(differences, columns).astype(u.dtype)
        # [Co, taps, Ci]: the other way round takes XLA:CPU twice as long.
        dweights_g = _dot(dy_i, weighted, ((0, 1, 2), (0, 1, 2)), dtype, precision)
        if not taps.together:
            dweights_g = dweights_g[:, 0].T
        # Read, add, write: without a mesh in use, the form whose all-reduce XLA's GPU compiler
        # moves out of the loop.
        k = 0 if taps.together else taps.tap(g)
        dweights_g += lax.dynamic_index_in_dim(dweights, k, keepdims=False)
        dweights = lax.dynamic_update_index_in_dim(dweights, dweights_g, k, 0)

        t = [t_k * column for t_k, column in zip(t, columns, strict=True)]
        terms = [((0, 0), -sum(t)), *zip(taps.of_group(g), t, strict=True)]
        return Window(bands, i, taps.reach).scatter(du, terms), ds, dweights

    # All taps at once visit a row once, but for those at the seams of two bands.
    du = jnp.zeros(u.shape, u.dtype if taps.groups == 1 else dtype)
    shape = (1, co, kh * kw - 1, ci) if taps.together else (kh * kw, ci, co)
    start = du, jnp.zeros(s.shape, dtype), jnp.zeros(shape, dtype)
    du, ds, dweights = bands.loop(step, start, u, taps.reach, taps.groups)
    if taps.together:
        dweights = with_centre(jnp.moveaxis(dweights[0], 0, 2), 0)
    return du, ds.astype(s.dtype), dweights.reshape(kernel.shape)


_semantic_difference.defvjp(_forward, _backward)


def _times(differences, columns):
    """`[B, rows, W, taps, Ci]`. Stacked along this axis, it is one loop with a vector inside."""
    return jnp.stack([d * c for d, c in zip(differences, columns, strict=True)], axis=3)


def _dot(a, b, contract, dtype, precision):
    def product(a, b):
        return lax.dot_general(
            a, b, (contract, ((), ())), precision=precision, preferred_element_type=dtype
        )

    if a.dtype == dtype:
        return product(a, b)
    # XLA:CPU lacks some products of bfloat16 to float32, and notices when it runs them.
    return lax.platform_dependent(
        a, b, cpu=lambda a, b: product(a.astype(dtype), b.astype(dtype)), default=product
    )
