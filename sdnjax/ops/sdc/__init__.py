"""Semantic difference convolution: `api` checks and dispatches, one file per implementation.

An implementation is a function `(u, s, kernel, *, dilation, precision) -> y` on similarity maps:
u `[B, H, W, Ci]`, s `[B, H, W, K]`, kernel `[kh, kw, Ci, Co]` in u's dtype, y `[B, H, W, Co]` in
u's dtype. u reads as 0 outside the image, and s there, by the border rule, is what such a tap
contributes with. What it cannot serve it refuses with NotImplementedError.
"""

from sdnjax.ops.sdc.api import (
    IMPLEMENTATIONS,
    Implementation,
    semantic_difference_conv,
    which_implementation,
)

__all__ = [
    "IMPLEMENTATIONS",
    "Implementation",
    "semantic_difference_conv",
    "which_implementation",
]
