"""SDC as Pallas kernels (Mosaic GPU) for NVIDIA Hopper GPUs."""

from sdnjax.ops.sdc.pallas_gpu.semantic_difference import is_hopper, semantic_difference

__all__ = ["is_hopper", "semantic_difference"]
