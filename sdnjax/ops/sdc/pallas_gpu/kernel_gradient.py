"""Gradient of the kernel: `dW_k = Σ_p (near_k ⊙ (U[p + o_k] − U[p]) − rest_k ⊙ U[p])ᵀ dY[p]`.

The same weighted differences as in the forward pass, now the transposed left operand of a sum
over rows. Every block of the grid has one tap, one tile of the kernel and one part of the rows;
the parts are added outside.
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
from sdnjax.ops.sdc.pallas_gpu.tiles import (
    BLOCK,
    COMPUTE,
    DEPTH,
    PITCH,
    ROWS,
    kernel_gradient_tiles,
)


def kernel_gradient(u, factors, dy, taps: Taps, *, interpret=None, tiles=None):
    """u `[R, C]`, factors `[T, 2, ≥ R]`, dy `[R, N]` → `[T, C, N]` float32."""
    (rows, channels), (_, columns) = u.shape, dy.shape
    tiles = tiles or kernel_gradient_tiles(taps.count, rows, channels, columns)
    n, stages = tiles.columns, tiles.stages
    across, down = pl.cdiv(columns, n), pl.cdiv(channels, BLOCK)
    grid = {"part": tiles.splits, "tap": taps.count, "tile": across * down}
    steps = pl.cdiv(pl.cdiv(rows, DEPTH), tiles.splits)
    every = tiles.splits * steps * DEPTH
    u, first = features(u, taps, every, interpret)
    dy = padded(dy, (8, DEPTH), (every, n), interpret)
    factors = padded(factors, (1, 1, 1), (1, 1, every), interpret)

    def load(inputs, scratch, place):
        u_gmem, factors_gmem, dy_gmem = inputs
        channel, column = (place["tile"] // across) * BLOCK, (place["tile"] % across) * n
        ring = Ring.of("step", stages, steps, scratch)

        @pl.loop(0, steps)
        def _(step):
            row = (place["part"] * steps + step) * DEPTH
            near = first + row + taps.offset(place["tap"])
            copies = [
                (dy_gmem.at[pl.ds(row, DEPTH), pl.ds(column, n)], scratch["dy"]),
                (factors_gmem.at[place["tap"], :, pl.ds(row, DEPTH)], scratch["factors"]),
            ]
            # A warpgroup makes 64 of the block's channels, so each has feature tiles of its own.
            for half in range(COMPUTE):
                wide = pl.ds(channel + half * ROWS, PITCH)
                copies += [
                    (u_gmem.at[pl.ds(first + row, DEPTH), wide], scratch["centre"].at[half]),
                    (u_gmem.at[pl.ds(near, DEPTH), wide], scratch["near"].at[half]),
                ]
            ring.fill(step, copies)

    def compute(out_gmem, scratch, place, warpgroup):
        channel, column = (place["tile"] // across) * BLOCK, (place["tile"] % across) * n
        ring, operand = Ring.of("step", stages, steps, scratch), scratch["operand"].at[warpgroup]

        @partial(pl.run_scoped, accumulator=plgpu.ACC((ROWS, n), jnp.float32))
        def _(accumulator):
            @pl.loop(0, steps)
            def _(step):
                slot = ring.wait(step)
                near, centre = (
                    read_tile(scratch[name].at[warpgroup, slot], slice(None), interpret)
                    for name in ("near", "centre")
                )
                factors = scratch["factors"].at[slot]
                gap = difference(near, centre, factors, slice(None), interpret).astype(u.dtype)
                plgpu.wgmma_wait(0)  # the previous step's: its slot and the operand are free
                ring.release(step - 1)
                # Rows are summed over, so the left operand is the tile's transpose. WGMMA reads it
                # transposed from shared memory, but not from registers.
                operand[...] = gap.T if interpret else gap
                plgpu.commit_smem()
                # The interpreter cannot transpose references.
                left = operand if interpret else operand.transpose((1, 0))
                plgpu.wgmma(accumulator, left, scratch["dy"].at[slot])

            mine = pl.ds(channel + warpgroup * ROWS, ROWS)
            out_gmem[place["part"], place["tap"], mine, pl.ds(column, n)] = accumulator[...]

    run = launch(
        load,
        compute,
        # Written from registers, which nothing clips: whole tiles.
        out_type=jax.ShapeDtypeStruct(
            (tiles.splits, taps.count, down * BLOCK, across * n), jnp.float32
        ),
        grid=grid,
        scratch={
            "centre": plain((COMPUTE, stages, DEPTH), u.dtype),
            "near": plain((COMPUTE, stages, DEPTH), u.dtype),
            "dy": swizzled((stages, DEPTH, n), u.dtype),
            "factors": plgpu.SMEM((stages, 2, DEPTH), jnp.float32),
            "operand": swizzled((COMPUTE, DEPTH, ROWS), u.dtype),
            **Ring.barriers("step", stages, copies=2 + 2 * COMPUTE),
        },
        name="sdc_kernel_gradient",
        interpret=interpret,
    )
    # Added in one fixed order: atomic additions would differ from run to run.
    return jnp.sum(run(u, factors, dy)[..., :channels, :columns], axis=0)
