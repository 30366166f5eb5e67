"""Gradient of the similarity maps: `dS_k[p] = ⟨near_k U[p + o_k] − U[p], dY[p] W_kᵀ⟩`.

Here near is 1 where a tap lies inside the image and 0 outside, where U reads as 0. Every block of
the grid multiplies one tile of dY with all taps' kernels, one after the other, and takes each
product's inner product with the differences, which arrive 64 channels at a time.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
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
from sdnjax.ops.sdc.pallas_gpu.tiles import BLOCK, COMPUTE, DEPTH, PITCH, ROWS, map_gradient_tiles


def map_gradient(u, factors, dy, transposed, taps: Taps, *, interpret=None):
    """u `[R, C]`, factors `[T, 2, ≥ R]`, dy `[R, N]`, transposed `[T, N, C]` → `[T, R]` float32."""
    (rows, channels), (_, columns) = u.shape, dy.shape
    blocks = pl.cdiv(columns, DEPTH)
    tiles = map_gradient_tiles(blocks * taps.count, channels)
    n, stages, chunks = tiles.columns, tiles.stages, tiles.columns // DEPTH
    grid = {"tile": pl.cdiv(channels, n), "row": pl.cdiv(rows, BLOCK)}
    u, first = features(u, taps, grid["row"] * BLOCK, interpret)
    dy = padded(dy, (8, DEPTH), (BLOCK, DEPTH), interpret)
    transposed = padded(transposed, (1, 8, DEPTH), (1, DEPTH, n), interpret)

    def load(inputs, scratch, place):
        u_gmem, factors_gmem, dy_gmem, kernel_gmem = inputs
        row, channel = place["row"] * BLOCK, place["tile"] * n
        ring = Ring.of("step", stages, blocks * taps.count, scratch)
        pairs = Ring.of("pair", 2, chunks * taps.count, scratch)

        @pl.loop(0, taps.count)
        def _(tap):
            @pl.loop(0, blocks)
            def _(block):
                inner = pl.ds(block * DEPTH, DEPTH)
                copies = [
                    (dy_gmem.at[pl.ds(row, BLOCK), inner], scratch["dy"]),
                    (kernel_gmem.at[tap, inner, pl.ds(channel, n)], scratch["kernel"]),
                ]
                ring.fill(tap * blocks + block, copies)

            # The features have a ring of their own: they are read chunk by chunk once the tap's
            # product is whole, at another pace than its operands.
            near = first + row + taps.offset(tap)
            for chunk in range(chunks):
                wide = pl.ds(channel + chunk * DEPTH, PITCH)
                copies = [
                    (u_gmem.at[pl.ds(first + row, BLOCK), wide], scratch["centre"]),
                    (u_gmem.at[pl.ds(near, BLOCK), wide], scratch["near"]),
                    (factors_gmem.at[tap, :, pl.ds(row, BLOCK)], scratch["factors"]),
                ]
                pairs.fill(tap * chunks + chunk, copies)

    def compute(out_gmem, scratch, place, warpgroup):
        mine = pl.ds(warpgroup * ROWS, ROWS)
        row = place["row"] * BLOCK + warpgroup * ROWS
        ring = Ring.of("step", stages, blocks * taps.count, scratch)
        pairs = Ring.of("pair", 2, chunks * taps.count, scratch)

        @pl.loop(0, taps.count)
        def _(tap):
            # A fresh accumulator, zeros, for each tap: one product dY W_kᵀ after the other.
            @partial(pl.run_scoped, accumulator=plgpu.ACC((ROWS, n), jnp.float32))
            def _(accumulator):
                @pl.loop(0, blocks)
                def _(block):
                    step = tap * blocks + block
                    slot = ring.wait(step)
                    left = scratch["dy"].at[slot, mine]
                    plgpu.wgmma(accumulator, left, scratch["kernel"].at[slot])
                    plgpu.wgmma_wait(1)  # the step before has read its slot
                    plgpu.commit_smem()
                    ring.release(step - 1)

                # The product stays in registers, in float32; only its inner products leave.
                product = accumulator[...]
                total = jnp.zeros((ROWS, DEPTH), jnp.float32)
                for chunk in range(chunks):
                    step = tap * chunks + chunk
                    gap = _next_difference(pairs, step, scratch, mine, interpret)
                    total += gap * product[:, chunk * DEPTH : (chunk + 1) * DEPTH]

                # Two buffers in turn: one tap's copy runs under the next tap's product.
                out = scratch["out"].at[warpgroup, lax.rem(tap, 2)]
                plgpu.wait_smem_to_gmem(1, wait_read_only=True)
                out[...] = jnp.sum(total, axis=1)
                plgpu.commit_smem()
                plgpu.copy_smem_to_gmem(out, out_gmem.at[place["tile"], tap, pl.ds(row, ROWS)])

        plgpu.wait_smem_to_gmem(0, wait_read_only=True)

    run = launch(
        load,
        compute,
        out_type=jax.ShapeDtypeStruct((grid["tile"], taps.count, grid["row"] * BLOCK), jnp.float32),
        grid=grid,
        scratch={
            "dy": swizzled((stages, BLOCK, DEPTH), u.dtype),
            "kernel": swizzled((stages, DEPTH, n), u.dtype),
            "centre": plain((2, BLOCK), u.dtype),
            "near": plain((2, BLOCK), u.dtype),
            "factors": plgpu.SMEM((2, 2, BLOCK), jnp.float32),
            "out": plgpu.SMEM((COMPUTE, 2, ROWS), jnp.float32),
            **Ring.barriers("step", stages, copies=2),
            **Ring.barriers("pair", 2, copies=3),
        },
        name="sdc_map_gradient",
        interpret=interpret,
    )
    # Blocks of channels are added outside: each is a part of the inner product.
    return jnp.sum(run(u, factors, dy, transposed)[..., :rows], axis=0)


def _next_difference(pairs, step, scratch, mine, interpret):
    slot = pairs.wait(step)
    near = read_tile(scratch["near"].at[slot], mine, interpret)
    centre = read_tile(scratch["centre"].at[slot], mine, interpret)
    gap = difference(near, centre, scratch["factors"].at[slot], mine, interpret)
    plgpu.commit_smem()  # what was read may be overwritten by the next bulk copy
    pairs.release(step)
    return gap
