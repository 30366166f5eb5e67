"""Operators: arrays in, arrays out. No Flax, no state, no parameters of their own. NHWC.

Names are looked up when first used, so that what needs a constant of this package alone (the
processes that read images, above all) does not import JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdnjax.ops.augment import augment_batch
    from sdnjax.ops.difference_conv import (
        angular_difference_conv,
        central_difference_conv,
        local_binary_conv,
        radial_difference_conv,
    )
    from sdnjax.ops.diffusion import anisotropic_diffusion
    from sdnjax.ops.random_walk import adaptive_max_pool, random_walk_step, transition_rows
    from sdnjax.ops.resize import resize_bicubic, resize_bilinear, resize_nearest
    from sdnjax.ops.sdc import semantic_difference_conv, which_implementation
    from sdnjax.ops.similarity import similarity_maps

__all__ = [
    "adaptive_max_pool",
    "angular_difference_conv",
    "anisotropic_diffusion",
    "augment_batch",
    "central_difference_conv",
    "local_binary_conv",
    "radial_difference_conv",
    "random_walk_step",
    "resize_bicubic",
    "resize_bilinear",
    "resize_nearest",
    "semantic_difference_conv",
    "similarity_maps",
    "transition_rows",
    "which_implementation",
]

_HOME = {
    "adaptive_max_pool": "random_walk",
    "anisotropic_diffusion": "diffusion",
    "augment_batch": "augment",
    "angular_difference_conv": "difference_conv",
    "central_difference_conv": "difference_conv",
    "local_binary_conv": "difference_conv",
    "radial_difference_conv": "difference_conv",
    "random_walk_step": "random_walk",
    "resize_bicubic": "resize",
    "resize_bilinear": "resize",
    "resize_nearest": "resize",
    "semantic_difference_conv": "sdc",
    "similarity_maps": "similarity",
    "transition_rows": "random_walk",
    "which_implementation": "sdc",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
