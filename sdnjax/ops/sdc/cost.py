"""What the Pallas kernels of SDC multiply: a trace shows their bodies, not their work."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Shapes = Sequence[tuple[int, ...]]


def _rows_by_kernel(operands: Shapes, results: Shapes) -> int:
    """Rows `[R, C]` by the kernels `[T, C, N]` of T taps: R·T·C·N, padding included."""
    del results
    rows, *_, kernel = operands
    return rows[0] * math.prod(kernel)


def _rows_by_rows(operands: Shapes, results: Shapes) -> int:
    """Rows `[R, C]` by rows `[R, N]`, in parts, into the gradient `[parts, T, C, N]`: R·T·C·N."""
    *_, rows = operands
    return rows[0] * math.prod(results[0][1:])


# Name of a kernel → its multiply-adds, of the shapes of its operands and results.
KERNELS: dict[str, Callable[[Shapes, Shapes], int]] = {
    "sdc_product": _rows_by_kernel,
    "sdc_map_gradient": _rows_by_kernel,
    "sdc_kernel_gradient": _rows_by_rows,
}
