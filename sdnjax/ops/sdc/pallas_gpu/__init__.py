"""SDC as Pallas kernels (Mosaic GPU) for NVIDIA Hopper GPUs."""

from sdnjax.ops.sdc.pallas_gpu.semantic_difference import semantic_difference

__all__ = ["semantic_difference"]
