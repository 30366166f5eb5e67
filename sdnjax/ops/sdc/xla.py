"""SDC tap by tap, with its own backward pass.

A compiler that sees all taps at once keeps all their products alive: eight or nine feature maps
forward, and as many residuals. A scan over the taps forces them into a sequence and needs three
maps forward and four backward, however many taps there are (plus the padding, which grows with
the reach, and the similarity maps). `benchmarks/sdc.py` measures it.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.neighbours import accumulation_dtype, reader, tap_offsets


def semantic_difference(u, s, kernel, *, dilation, precision):
    """`Y[p] = Σ_k s_k[p] (U[p + o_k] − U[p]) W_k`; reverse mode keeps u, s and the kernel."""
    return _semantic_difference(u, s, kernel, dilation, precision)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _semantic_difference(u, s, kernel, dilation, precision):
    b, h, w, ci = u.shape
    kh, kw, _, co = kernel.shape
    dtype = accumulation_dtype(u.dtype)
    offsets = tap_offsets((kh, kw), dilation)
    read, maps, weights = reader(u, offsets), jnp.moveaxis(s, -1, 0), kernel.reshape(-1, ci, co)

    def tap(total, tap):
        k, offset = tap
        difference = read(offset).astype(dtype) - u.astype(dtype)
        weighted = (difference * maps[k][..., None]).astype(u.dtype)
        return total + _dot(weighted, weights[k], ((3,), (0,)), dtype, precision), None

    total, _ = lax.scan(tap, jnp.zeros((b, h, w, co), dtype), _taps_around_centre(offsets))
    return total.astype(u.dtype)


def _forward(u, s, kernel, dilation, precision):
    return _semantic_difference(u, s, kernel, dilation, precision), (u, s, kernel)


def _backward(dilation, precision, residuals, dy):
    """Per tap, with `t = dY W_kᵀ` and `D = U[p + o_k] − U[p]`:

    dS_k = Σ_c D t;  dW_k = (s_k D)ᵀ dY;  dU[p] −= (s_k t)[p];  dU[p + o_k] += (s_k t)[p].
    """
    u, s, kernel = residuals
    kh, kw, ci, co = kernel.shape
    dtype = accumulation_dtype(u.dtype)
    offsets = tap_offsets((kh, kw), dilation)
    read, maps, weights = reader(u, offsets), jnp.moveaxis(s, -1, 0), kernel.reshape(-1, ci, co)

    def tap(carry, tap):
        du, dmaps, dweights = carry
        k, offset = tap
        s_k = maps[k][..., None]
        t = _dot(dy, weights[k], ((3,), (1,)), dtype, precision)
        difference = read(offset).astype(dtype) - u.astype(dtype)
        weighted = (difference * s_k).astype(u.dtype)
        dw = _dot(weighted, dy, ((0, 1, 2), (0, 1, 2)), dtype, precision)
        dmaps = dmaps.at[k].set(jnp.sum(difference * t, axis=-1))
        dweights = dweights.at[k].set(dw.astype(kernel.dtype))
        t = t * s_k
        du = du - t + reader(t, offsets)(-offset)
        return (du, dmaps, dweights), None

    # Updated in place; the centre tap is never visited and stays 0.
    start = jnp.zeros(u.shape, dtype), jnp.zeros(maps.shape, dtype), jnp.zeros_like(weights)
    (du, dmaps, dweights), _ = lax.scan(tap, start, _taps_around_centre(offsets))
    ds = jnp.moveaxis(dmaps, 0, -1).astype(s.dtype)
    return du.astype(u.dtype), ds, dweights.reshape(kernel.shape)


_semantic_difference.defvjp(_forward, _backward)


def _taps_around_centre(offsets):
    """Indices `[K − 1]` and offsets `[K − 1, 2]` of all taps but the centre."""
    taps = [(k, *offset) for k, offset in enumerate(offsets) if offset != (0, 0)]
    taps = jnp.array(taps, jnp.int32).reshape(-1, 3)
    return taps[:, 0], taps[:, 1:]


def _dot(a, b, contract, dtype, precision):
    return lax.dot_general(
        a, b, (contract, ((), ())), precision=precision, preferred_element_type=dtype
    )
