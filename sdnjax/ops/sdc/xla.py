"""SDC band by band, with its own backward pass.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.bands import Bands, Window, bands_of, channel_sum, reach_of
from sdnjax.ops.neighbours import Offsets, accumulation_dtype, tap_offsets

# Bytes of weighted differences per step.
LIMIT = 8 * 2**20


def semantic_difference(u, s, kernel, *, dilation, precision):
    """`Y[p] = Σ_k s_k[p] (U[p + o_k] − U[p]) W_k`; reverse mode keeps u, s and the kernel."""
    return _semantic_difference(u, s, kernel, dilation, precision)


@dataclass(frozen=True)
class _Steps:
    """The taps around the centre, all in one product or one after the other, times the bands."""

    offsets: Offsets
    wide: bool
    bands: Bands
    reach: tuple[int, int]

    @classmethod
    def of(cls, u, kernel, dilation):
        kh, kw, ci, co = kernel.shape
        offsets = tap_offsets((kh, kw), dilation)
        wide = kernel.size <= u.size
        taps = max(len(offsets) - 1, 1) if wide else 1
        width = taps * ci * accumulation_dtype(u.dtype).itemsize
        limit = min(LIMIT, u.size * accumulation_dtype(u.dtype).itemsize // 2)
        return cls(
            offsets, wide, bands_of(u.shape, width, limit=limit, least=co), reach_of(offsets, u.shape)
        )

    @property
    def groups(self) -> int:
        return 1 if self.wide else len(self.offsets) - 1

    def loop(self, body, carry):
        def step(carry, t):
            return body(carry, t // self.bands.count, t % self.bands.count), None

        return lax.scan(step, carry, jnp.arange(self.groups * self.bands.count, dtype=jnp.int32))[0]

    def without_centre(self, x, axis):
        c = len(self.offsets) // 2
        before = lax.slice_in_dim(x, 0, c, axis=axis)
        return jnp.concatenate([before, lax.slice_in_dim(x, c + 1, None, axis=axis)], axis)

    def with_centre(self, x, axis):
        c = len(self.offsets) // 2
        before, after = lax.slice_in_dim(x, 0, c, axis=axis), lax.slice_in_dim(x, c, None, axis=axis)
        return jnp.concatenate([before, jnp.zeros_like(lax.slice_in_dim(x, 0, 1, axis=axis)), after], axis)

    def tap(self, g):
        return jnp.where(g < len(self.offsets) // 2, g, g + 1)

    def group(self, x, g, axis):
        """The entries of group g along an axis of K taps."""
        if self.wide:
            return self.without_centre(x, axis)
        return lax.dynamic_slice_in_dim(x, self.tap(g), 1, axis=axis)

    def group_offsets(self, g):
        if self.wide:
            return [o for o in self.offsets if o != (0, 0)]
        return [jnp.array(self.offsets, jnp.int32)[self.tap(g)]]


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _semantic_difference(u, s, kernel, dilation, precision):
    b, h, w, ci = u.shape
    kh, kw, _, co = kernel.shape
    dtype = accumulation_dtype(u.dtype)
    steps = _Steps.of(u, kernel, dilation)
    bands, weights = steps.bands, kernel.reshape(kh * kw, ci, co)
    once = steps.groups == 1
    if kh * kw == 1:
        return jnp.zeros((b, h, w, co), u.dtype)
    if once:
        weights = steps.without_centre(weights, 0)

    def step(y, g, i):
        d = _differences(steps, u, g, i)
        weighted = (d * steps.group(bands.take(s, i), g, 3)[..., None]).astype(u.dtype)
        wg = weights if once else steps.group(weights, g, 0)
        product = _dot(weighted, wg, ((3, 4), (0, 1)), dtype, precision)
        if not once:
            product = jnp.where(bands.fresh(i)[None, :, None, None], product, 0) + bands.take(y, i)
        return bands.put(y, product.astype(y.dtype), i)

    y = steps.loop(step, jnp.zeros((b, h, w, co), u.dtype if once else dtype))
    return y.astype(u.dtype)


def _differences(steps, u, g, i):
    """`U[p + o] − U[p]` of group g and band i: `[B, rows, W, taps, Ci]`."""
    dtype = accumulation_dtype(u.dtype)
    read = Window(steps.bands, i, steps.reach).reader(u)
    centre = steps.bands.take(u, i).astype(dtype)
    return jnp.stack([read(o).astype(dtype) - centre for o in steps.group_offsets(g)], axis=3)


def _forward(u, s, kernel, dilation, precision):
    return _semantic_difference(u, s, kernel, dilation, precision), (u, s, kernel)


def _backward(dilation, precision, residuals, dy):
    """Per tap, with `t = dY W_kᵀ` and `D = U[p + o_k] − U[p]`:

    dS_k = Σ_c D t;  dW_k = (s_k D)ᵀ dY;  dU[p] −= (s_k t)[p];  dU[p + o_k] += (s_k t)[p].
    """
    u, s, kernel = residuals
    kh, kw, ci, co = kernel.shape
    dtype = accumulation_dtype(u.dtype)
    steps = _Steps.of(u, kernel, dilation)
    bands, weights = steps.bands, kernel.reshape(kh * kw, ci, co)
    once = steps.groups == 1
    if kh * kw == 1:
        return jnp.zeros_like(u), jnp.zeros_like(s), jnp.zeros_like(kernel)
    if once:
        weights = steps.without_centre(weights, 0)

    def step(carry, g, i):
        du, ds, dw = carry
        wg = weights if once else steps.group(weights, g, 0)
        dyb = bands.take(dy, i)
        d = _differences(steps, u, g, i)
        sg = steps.group(bands.take(s, i), g, 3)
        t = _dot(dyb, wg, ((3,), (2,)), dtype, precision)
        dsb = channel_sum(d * t)
        if once:
            ds = bands.put(ds, steps.with_centre(dsb, 3), i)
        else:
            zero = jnp.zeros((), jnp.int32)
            ds = lax.dynamic_update_slice(ds, dsb, (zero, bands.start(i), zero, steps.tap(g)))
        sg = jnp.where(bands.fresh(i)[None, :, None, None], sg, 0)[..., None]
        weighted = (d * sg).astype(u.dtype)
        dwg = _dot(dyb, weighted, ((0, 1, 2), (0, 1, 2)), dtype, precision)
        old = lax.dynamic_slice_in_dim(dw, g, 1, axis=0)
        dw = lax.dynamic_update_slice_in_dim(dw, old + dwg[None], g, axis=0)
        t = t * sg
        terms = [(o, t[..., j, :]) for j, o in enumerate(steps.group_offsets(g))]
        terms.append(((0, 0), -jnp.sum(t, axis=3)))
        du = Window(bands, i, steps.reach).scatter(du, terms)
        return du, ds, dw

    taps = (kh * kw - 1) // steps.groups
    start = (
        jnp.zeros(u.shape, dtype),
        jnp.zeros(s.shape, dtype),
        jnp.zeros((steps.groups, co, taps, ci), dtype),
    )
    du, ds, dw = steps.loop(step, start)
    dw = jnp.moveaxis(dw, 1, -1).reshape(-1, ci, co).astype(kernel.dtype)
    return du.astype(u.dtype), ds.astype(s.dtype), steps.with_centre(dw, 0).reshape(kernel.shape)


_semantic_difference.defvjp(_forward, _backward)


def _dot(a, b, contract, dtype, precision):
    return lax.dot_general(
        a, b, (contract, ((), ())), precision=precision, preferred_element_type=dtype
    )
