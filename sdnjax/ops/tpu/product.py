"""The product that SDC is: `Y[p] = Σ_k s_k[p] (X[p + o_k] − X[p]) W_k`, or with two factors
`Y[p] = Σ_k (near_k[p] X[p + o_k] − here_k[p] X[p]) W_k`, which the gradient of U needs.

X reads as 0 outside. One block of rows and one tile of the kernel per step of the grid; the tiles
of input channels come last, and their sum stays in float32 next to the core.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sdnjax.ops.tpu.blocks import Blocks, Differences, by_pixel, launch


def product(x, factors, weights, blocks: Blocks, *, opposite=False, precision, interpret=False):
    """x `[B, H, W, C]`, one or two factors (see `Blocks.factors`) → `[B, H, W, N]` in x's dtype.

    Args:
        weights: a kernel `[K, C, N]`, of which the centre is not used.
        opposite: tap k is multiplied with `W_{−k}ᵀ` of weights `[K, N, C]`.
    """
    taps, channels, columns = weights.shape
    if opposite:
        channels, columns = columns, channels
    c, n = blocks.tiles(channels, columns, x.dtype.itemsize)
    steps = channels // c
    grid = *blocks.grid, columns // n, steps
    window = blocks.window(c, lambda b, i, _, k: (b, i, k))

    def kernel(*refs):
        x_refs, refs = refs[: len(window)], refs[len(window) :]
        factor_refs, refs = refs[: len(factors)], refs[len(factors) :]
        w_ref, y_ref, total, *scratch = refs
        differences = Differences(blocks, *scratch)
        differences.load(x_refs, factor_refs, pl.program_id(1) * blocks.rows)
        step = pl.program_id(3)

        @blocks.each_chunk
        def _(image, row):
            rows = pl.ds(row, blocks.chunk)
            centre = differences.at((0, 0), image, row)
            y = jnp.zeros((blocks.chunk * blocks.width, n), jnp.float32)
            for tap, k, offset in blocks.around():
                near = differences.at(offset, image, row)
                weight = differences.weight(0, tap, image, row)
                # Subtracted before anything is scaled: equal neighbours give exactly 0.
                if len(factors) == 1:
                    gap = (near - centre) * weight
                else:
                    gap = near * weight - centre * differences.weight(1, tap, image, row)
                y += lax.dot_general(
                    by_pixel(gap).astype(x.dtype),
                    w_ref[taps - 1 - k] if opposite else w_ref[k],
                    (((1,), (1 if opposite else 0,)), ((), ())),
                    precision=precision,
                    preferred_element_type=jnp.float32,
                )
            y = y.reshape(blocks.chunk, blocks.width, n)
            if steps > 1:
                y = jnp.where(step == 0, y, y + total[image, rows])
                total[image, rows] = y
            y_ref[image, rows] = y.astype(x.dtype)

    kept = (blocks.images, blocks.rows, blocks.width, n) if steps > 1 else (1, 1, 8, 128)
    return launch(
        kernel,
        [x] * len(window) + [*factors, weights],
        grid=grid,
        in_specs=[
            *window,
            *[blocks.factor_block(lambda b, i, *_: (b, i, 0))] * len(factors),
            pl.BlockSpec((taps, n, c), lambda _, __, j, k: (0, j, k))
            if opposite
            else pl.BlockSpec((taps, c, n), lambda _, __, j, k: (0, k, j)),
        ],
        out_specs=blocks.block(n, lambda b, i, j, _: (b, i, j)),
        out_shape=jax.ShapeDtypeStruct((*x.shape[:3], columns), x.dtype),
        scratch=[pltpu.VMEM(kept, jnp.float32), *blocks.scratch(c, len(factors))],
        name="sdc_product",
        flops=2 * len(blocks.offsets) * x.size * columns,
        interpret=interpret,
    )
