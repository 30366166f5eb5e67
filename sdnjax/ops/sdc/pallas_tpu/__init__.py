"""SDC as Pallas kernels (Mosaic) for Google TPUs, v5e and later."""

from sdnjax.ops.sdc.pallas_tpu.operator import semantic_difference, serves_tpu

__all__ = ["semantic_difference", "serves_tpu"]
