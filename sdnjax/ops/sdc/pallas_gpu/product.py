"""The product that SDC is: `Y = Σ_k (near_k ⊙ (X[p + o_k] − X[p]) − rest_k ⊙ X[p]) W_k`.

Rows are pixels, so a tap is a row offset, and what it reads beyond an image has factors that know
of it. Forward pass and gradient of U are both of this form. One warpgroup streams tiles into
shared memory; two form the weighted differences in registers, put them back as the left operand
and multiply, each product under the differences of the next. The centre's tile is read once for
all taps of its channels.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sdnjax.ops.sdc.pallas_gpu.common import (
    Ring,
    Taps,
    difference,
    features,
    launch,
    padded,
    plain,
    read_tile,
    swizzled,
)
from sdnjax.ops.sdc.pallas_gpu.tiles import BLOCK, COMPUTE, DEPTH, PITCH, ROWS, product_tiles


def product(x, factors, weights, taps: Taps, *, interpret=None, tiles=None):
    """x `[R, C]`, factors `[T, 2, ≥ R]` (see `pair_factors`), weights `[T, C, N]` → `[R, N]`."""
    (rows, channels), (_, _, columns) = x.shape, weights.shape
    blocks = pl.cdiv(channels, DEPTH)
    steps = blocks * taps.count
    tiles = tiles or product_tiles(steps, columns)
    n, stages = tiles.columns, tiles.stages
    grid = {"column": pl.cdiv(columns, n), "row": pl.cdiv(rows, BLOCK)}
    x, first = features(x, taps, grid["row"] * BLOCK, interpret)
    weights = padded(weights, (1, 8, DEPTH), (1, DEPTH, n), interpret)
    whole = (BLOCK, n) if interpret else (8, DEPTH)
    out_shape = tuple(pl.cdiv(size, m) * m for size, m in zip((rows, columns), whole, strict=True))

    def load(inputs, scratch, place):
        x_gmem, factors_gmem, weights_gmem = inputs
        row, column = place["row"] * BLOCK, place["column"] * n
        ring = Ring.of("step", stages, steps, scratch)
        centres = Ring.of("centre", 2, blocks, scratch)

        # Channels outside, taps inside: the centre's tile is loaded once for all taps.
        @pl.loop(0, blocks)
        def _(block):
            inner, wide = pl.ds(block * DEPTH, DEPTH), pl.ds(block * DEPTH, PITCH)
            centre = x_gmem.at[pl.ds(first + row, BLOCK), wide]
            centres.fill(block, [(centre, scratch["centre"])])

            @pl.loop(0, taps.count)
            def _(tap):
                near = x_gmem.at[pl.ds(first + row + taps.offset(tap), BLOCK), wide]
                copies = [
                    (near, scratch["near"]),
                    (weights_gmem.at[tap, inner, pl.ds(column, n)], scratch["weights"]),
                    (factors_gmem.at[tap, :, pl.ds(row, BLOCK)], scratch["factors"]),
                ]
                ring.fill(block * taps.count + tap, copies)

    def compute(y_gmem, scratch, place, warpgroup):
        mine, operand = pl.ds(warpgroup * ROWS, ROWS), scratch["operand"].at[warpgroup]
        ring = Ring.of("step", stages, steps, scratch)
        centres = Ring.of("centre", 2, blocks, scratch)

        @partial(pl.run_scoped, accumulator=plgpu.ACC((ROWS, n), jnp.float32))
        def _(accumulator):
            @pl.loop(0, blocks)
            def _(block):
                centre = read_tile(scratch["centre"].at[centres.wait(block)], mine, interpret)
                plgpu.commit_smem()  # what was read may be overwritten by the next bulk copy
                centres.release(block)

                @pl.loop(0, taps.count)
                def _(tap):
                    step = block * taps.count + tap
                    slot, turn = ring.wait(step), step % 2
                    near = read_tile(scratch["near"].at[slot], mine, interpret)
                    gap = difference(near, centre, scratch["factors"].at[slot], mine, interpret)
                    # Two buffers in turn: the previous product may still be reading its own.
                    operand[turn] = gap.astype(x.dtype)
                    plgpu.commit_smem()  # WGMMA sees what the threads wrote
                    plgpu.wgmma(accumulator, operand.at[turn], scratch["weights"].at[slot])
                    # All but the product just issued are done, so the slot before is free while
                    # that one runs under the next step's differences.
                    plgpu.wgmma_wait(1)
                    ring.release(step - 1)

            row, column = place["row"] * BLOCK + warpgroup * ROWS, place["column"] * n
            _write(accumulator[...].astype(x.dtype), y_gmem, operand, row, column)

    run = launch(
        load,
        compute,
        out_type=jax.ShapeDtypeStruct(out_shape, x.dtype),
        grid=grid,
        scratch={
            "centre": plain((2, BLOCK), x.dtype),
            "near": plain((stages, BLOCK), x.dtype),
            "weights": swizzled((stages, DEPTH, n), x.dtype),
            "factors": plgpu.SMEM((stages, 2, BLOCK), jnp.float32),
            "operand": swizzled((COMPUTE, 2, ROWS, DEPTH), x.dtype),
            **Ring.barriers("step", stages, copies=3),
            **Ring.barriers("centre", 2, copies=1),
        },
        name="sdc_product",
        interpret=interpret,
    )
    return run(x, factors, weights)[:rows, :columns]


def _write(y, y_gmem, buffers, row, column):
    """Stores a warpgroup's result 64 columns at a time, through one buffer and the other."""
    # Through shared memory, because bulk copies leave out what lies beyond the array's end, which
    # stores from registers do not.
    for j in range(y.shape[1] // DEPTH):
        buffer = buffers.at[j % 2]
        # At most one copy is still reading: the one of the other buffer.
        plgpu.wait_smem_to_gmem(1, wait_read_only=True)
        buffer[...] = y[:, j * DEPTH : (j + 1) * DEPTH]
        plgpu.commit_smem()
        target = y_gmem.at[pl.ds(row, ROWS), pl.ds(column + j * DEPTH, DEPTH)]
        plgpu.copy_smem_to_gmem(buffer, target)
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)
