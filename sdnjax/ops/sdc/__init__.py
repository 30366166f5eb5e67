"""Semantic difference convolution: `api` checks and dispatches, one file per implementation.

An implementation is a function `(u, s, kernel, *, dilation, precision) -> y` on similarity maps:
u `[B, H, W, Ci]`, s `[B, H, W, K]`, kernel `[kh, kw, Ci, Co]` in u's dtype, y `[B, H, W, Co]` in
u's dtype. u reads as 0 outside the image and s says what comes of that. What it cannot serve it
refuses with NotImplementedError.
"""

from sdnjax.ops.sdc.api import (
    IMPLEMENTATIONS,
    semantic_difference_conv,
    which_implementation,
)

__all__ = ["IMPLEMENTATIONS", "semantic_difference_conv", "which_implementation"]
