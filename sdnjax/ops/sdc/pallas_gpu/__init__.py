"""SDC as Pallas kernels (Mosaic GPU) for NVIDIA Hopper GPUs."""

from sdnjax.ops.sdc.pallas_gpu.operator import is_hopper, semantic_difference

__all__ = ["is_hopper", "semantic_difference"]
