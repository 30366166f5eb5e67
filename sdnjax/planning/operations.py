"""Operations and bytes of a traced step, counted from what it multiplies."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sdnjax.models.cost import products


def operations(jaxpr: Any) -> dict[str, Any]:
    """Of a whole step, on all devices together: FLOPs by type, bytes, and what is not certain.

    Two operations for each multiply-add of convolutions, matrix products and the library's
    kernels; norms, activations, softmax, resizing and the optimizer count nothing, so it is a
    lower bound. `bytes` are the operands and results of these products, each moved once: a lower
    bound too, but for operands that stay on the chip. `uncertain` are multiply-adds in loops whose
    turns are known only when they run, counted once.
    """
    by_dtype: dict[str, int] = defaultdict(int)
    by_kind: dict[str, int] = defaultdict(int)
    nbytes = uncertain = 0
    for product in products(jaxpr):
        flops = 2 * product.times * product.multiply_adds
        by_dtype[product.dtype] += flops
        by_kind[product.kind] += flops
        nbytes += product.times * product.bytes
        uncertain += 0 if product.exact else flops
    return {
        "flops": sum(by_dtype.values()),
        "flops_by_dtype": dict(by_dtype),
        "flops_by_kind": dict(by_kind),
        "bytes": nbytes,
        "uncertain_flops": uncertain,
    }
