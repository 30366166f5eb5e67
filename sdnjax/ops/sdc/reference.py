"""The definition of SDC: gather every patch, weight the differences, contract once.

To try a changed Eq. 5 end to end, edit this file and set `--model.neck.implementation reference`.

Ordinary autodiff, forward and reverse. It holds K copies of the feature map, several times over
in the backward pass: for small inputs and for checking the others.
"""

import jax.numpy as jnp

from sdnjax.ops.neighbours import accumulation_dtype, shift, tap_offsets


def semantic_difference(u, s, kernel, *, dilation, precision):
    """`Y[p] = Σ_k s_k[p] (U[p + o_k] − U[p]) W_k`, all of it in float32 or float64."""
    kh, kw, ci, co = kernel.shape
    dtype = accumulation_dtype(u.dtype)
    wide = u.astype(dtype)
    offsets = tap_offsets((kh, kw), dilation)
    patches = jnp.stack([shift(wide, offset) for offset in offsets], axis=3)
    weighted = (patches - wide[:, :, :, None, :]) * s[..., None]
    taps = kernel.astype(dtype).reshape(kh * kw, ci, co)
    return jnp.einsum("bhwkc,kco->bhwo", weighted, taps, precision=precision).astype(u.dtype)
