"""Gradient of the similarity maps: `dS_k[p] = ⟨U[p + o_k] − U[p], dY[p] W_kᵀ⟩`.

Every tap's product is multiplied with the differences and summed over its channels where it is
made. The sum over tiles of channels stays next to the core, a lane per tap.
"""

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from sdnjax.ops.tpu.blocks import LANES, Blocks, Differences, by_pixel, launch


def map_gradient(u, dy, weights, blocks: Blocks, *, precision, interpret=False):
    """u `[B, H, W, C]`, dy `[B, H, W, N]`, a kernel `[K, C, N]` → `[B, rows, taps, width]`."""
    taps, channels, columns = weights.shape
    c, n = blocks.tiles(channels, columns, u.dtype.itemsize)
    grid = *blocks.grid, channels // c, columns // n
    window = blocks.window(c, lambda b, i, k, _: (b, i, k))

    def kernel(*refs):
        u_refs, (dy_ref, w_ref, out_ref, sums, *scratch) = refs[: len(window)], refs[len(window) :]
        differences = Differences(blocks, *scratch)
        differences.load(u_refs, [], pl.program_id(1) * blocks.rows)
        is_first = (pl.program_id(2) == 0) & (pl.program_id(3) == 0)

        @blocks.each_chunk
        def _(image, row):
            rows = pl.ds(row, blocks.chunk)
            here, centre = by_pixel(dy_ref[image, rows]), differences.at((0, 0), image, row)
            lane = lax.broadcasted_iota(jnp.int32, (blocks.chunk * blocks.width, LANES), 1)
            total = jnp.zeros(lane.shape, jnp.float32)
            for tap, k, offset in blocks.around():
                product = lax.dot_general(
                    here,
                    w_ref[k],
                    (((1,), (1,)), ((), ())),
                    precision=precision,
                    preferred_element_type=jnp.float32,
                )
                gap = by_pixel(differences.at(offset, image, row) - centre)
                total = jnp.where(lane == tap, jnp.sum(gap * product, 1, keepdims=True), total)
            total = total.reshape(blocks.chunk, blocks.width, LANES)
            sums[image, rows] = jnp.where(is_first, total, total + sums[image, rows])

        blocks.write_sums(out_ref, sums)

    return launch(
        kernel,
        [u] * len(window) + [dy, weights],
        grid=grid,
        in_specs=[
            *window,
            blocks.block(n, lambda b, i, _, j: (b, i, j)),
            pl.BlockSpec((taps, c, n), lambda _, __, k, j: (0, k, j)),
        ],
        out_specs=blocks.factor_block(lambda b, i, *_: (b, i, 0)),
        out_shape=blocks.factors_shape,
        scratch=[blocks.sums, *blocks.scratch(c, 0)],
        name="sdc_map_gradient",
        flops=2 * len(blocks.offsets) * u.size * columns,
        interpret=interpret,
    )
