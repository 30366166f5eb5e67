"""SDC on NVIDIA Hopper GPUs: who is served, in 16-bit floats with float32 accumulation."""

import re

import jax.numpy as jnp

from sdnjax.ops.devices import target_device


def semantic_difference(u, s, kernel, *, dilation, precision, interpret=None):
    """`Y[p] = Σ_k s_k[p] (U[p + o_k] − U[p]) W_k`; reverse mode keeps u, s and the kernel.

    Sums are float32 whatever the precision: products of 16-bit floats are exact in it. A pixel
    beyond the image's edge is read all the same and multiplied by 0, so a value that is not
    finite may spread to the pixels a row or an image further.

    Args:
        interpret: parameters of the Mosaic GPU interpreter, which runs the kernels anywhere.
    """
    del precision
    if not interpret and not is_hopper():
        raise NotImplementedError(f"needs an NVIDIA Hopper GPU, not {target_device()[1]}")
    _refuse_arrays(u, kernel)
    # Only now: importing Pallas takes a third of a second, and most machines never need it.
    from sdnjax.ops.sdc.pallas_gpu import vjp  # noqa: PLC0415

    return vjp.semantic_difference(u, s, kernel, dilation, interpret)


def is_hopper() -> bool:
    """Whether programs traced here are for NVIDIA GPUs of compute capability 9.0."""
    return bool(re.search(r"\bG?H(100|200|20|800)\b", target_device()[1]))


def _refuse_arrays(u, kernel):
    if u.dtype not in (jnp.bfloat16, jnp.float16):
        raise NotImplementedError(f"serves bfloat16 and float16, not {u.dtype.name}")
    if kernel.shape[2] % 8 or kernel.shape[3] % 8:
        raise NotImplementedError(
            f"bulk copies need multiples of 8 channels, not {kernel.shape[2]} to {kernel.shape[3]}"
        )
    if kernel.shape[0] * kernel.shape[1] == 1:
        raise NotImplementedError("a 1×1 kernel has no taps around its centre")
