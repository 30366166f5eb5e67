"""Gradient of the kernel: `dW_k = Σ_p (s_k[p] (U[p + o_k] − U[p]))ᵀ dY[p]`.

Made the other way round, `dYᵀ (s_k D_k)`: the differences, new for every tap, are the operand that
stays in the matrix unit as they are, and what must be transposed is dY, once per block. The sum
over all blocks stays in float32 next to the core.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from sdnjax.ops.tpu.blocks import Blocks, Differences, by_pixel, launch


def kernel_gradient(u, factors, dy, blocks: Blocks, *, precision, interpret=False):
    """u `[B, H, W, C]`, factors (see `Blocks.factors`), dy `[B, H, W, N]` → `[K, C, N]` float32,
    0 at the centre."""
    channels, columns, taps = u.shape[3], dy.shape[3], len(blocks.offsets) + 1
    c, n = blocks.tiles(channels, columns, u.dtype.itemsize)
    window = blocks.window(c, lambda _, k, b, i: (b, i, k))

    def kernel(*refs):
        u_refs, (s_ref, dy_ref, out_ref, *scratch) = refs[: len(window)], refs[len(window) :]
        first = pl.program_id(3) * blocks.rows
        differences = Differences(blocks, *scratch)
        differences.load(u_refs, [s_ref], first)

        @pl.when((pl.program_id(2) == 0) & (pl.program_id(3) == 0))
        def _():
            out_ref[...] = jnp.zeros(out_ref.shape, jnp.float32)

        @blocks.each_chunk
        def _(image, row):
            # Beyond the image the factors are 0, but whatever dY's block holds there may be NaN.
            here = dy_ref[image, pl.ds(row, blocks.chunk)].astype(jnp.float32)
            here = jnp.where(blocks.is_image(first + row, blocks.chunk), here, 0.0)
            transposed = by_pixel(here).T.astype(u.dtype)
            centre = differences.at((0, 0), image, row)
            for tap, k, offset in blocks.around():
                gap = differences.at(offset, image, row) - centre
                gap *= differences.weight(0, tap, image, row)
                out_ref[k] += jnp.dot(
                    transposed,
                    by_pixel(gap).astype(u.dtype),
                    precision=precision,
                    preferred_element_type=jnp.float32,
                )

    out = launch(
        kernel,
        [u] * len(window) + [factors, dy],
        grid=(columns // n, channels // c, *blocks.grid),
        in_specs=[
            *window,
            blocks.factor_block(lambda _, __, b, i: (b, i, 0)),
            blocks.block(n, lambda j, _, b, i: (b, i, j)),
        ],
        out_specs=pl.BlockSpec((taps, n, c), lambda j, k, *_: (0, j, k)),
        out_shape=jax.ShapeDtypeStruct((taps, columns, channels), jnp.float32),
        scratch=blocks.scratch(c, 1),
        name="sdc_kernel_gradient",
        flops=2 * len(blocks.offsets) * u.size * columns,
        interpret=interpret,
    )
    return jnp.swapaxes(out, 1, 2)
