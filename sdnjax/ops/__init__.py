"""Operators: arrays in, arrays out. No Flax, no state, no parameters of their own. NHWC."""

from sdnjax.ops.augment import augment_batch
from sdnjax.ops.difference_conv import central_difference_conv
from sdnjax.ops.diffusion import anisotropic_diffusion
from sdnjax.ops.resize import resize_bicubic, resize_bilinear, resize_nearest
from sdnjax.ops.sdc import semantic_difference_conv, which_implementation
from sdnjax.ops.similarity import similarity_maps

__all__ = [
    "anisotropic_diffusion",
    "augment_batch",
    "central_difference_conv",
    "resize_bicubic",
    "resize_bilinear",
    "resize_nearest",
    "semantic_difference_conv",
    "similarity_maps",
    "which_implementation",
]
