"""SDC on Google TPUs: who is served, in bfloat16 and float32 with float32 accumulation."""

import re

import jax.numpy as jnp

from sdnjax.ops.devices import target_device


def semantic_difference(u, s, kernel, *, dilation, precision, interpret=False):
    """`Y[p] = Σ_k s_k[p] (U[p + o_k] − U[p]) W_k`; reverse mode keeps u, s and the kernel.

    Args:
        interpret: whether Pallas' interpreter runs the kernels, on any device.
    """
    if not interpret and not serves_tpu():
        raise NotImplementedError(f"needs a TPU v5e or later, not {target_device()[1]}")
    if u.dtype not in (jnp.bfloat16, jnp.float32):
        raise NotImplementedError(f"serves bfloat16 and float32, not {u.dtype.name}")
    # Only now: importing Pallas takes a third of a second, and most machines never need it.
    from sdnjax.ops.sdc.pallas_tpu import vjp  # noqa: PLC0415

    return vjp.semantic_difference(u, s, kernel, dilation, precision, interpret)


def serves_tpu() -> bool:
    """Whether programs traced here are for TPUs whose memory next to the cores is large enough.

    Older ones have 16 MiB of it or less, an eighth of a v5e's.
    """
    platform, kind = target_device()
    return platform == "tpu" and not re.match(r"TPU v[1-4]\b", kind)
