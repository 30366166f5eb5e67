"""Distances of neighbours and their gradient: SDC's blocks without a matrix product."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from sdnjax.ops import neighbours
from sdnjax.ops.neighbours import Offsets
from sdnjax.ops.per_device import per_device
from sdnjax.ops.tpu.blocks import LANES, Blocks, Differences, by_pixel, launch


def squared_distances(v, offsets: Offsets, *, interpret=False):
    """`d²_k[p] = Σ_c (v_c[p + o_k] − v_c[p])²` for the taps before the centre.

    v `[B, H, W, C]`, bfloat16 or float32, reads as 0 outside → `[B, H, W, K // 2]` float32.

    Raises:
        NotImplementedError: no blocks fit.
    """
    run = per_device(
        lambda v: _squared_distances(v, Blocks.of(v, offsets), interpret),
        "b h w c -> b h w t",
        by_mesh=True,
    )
    return run(v)


def weighted_difference(v, s, offsets: Offsets, *, interpret=False):
    """`Σ_k s_k[p] (v[p + o_k] − v[p])`, the SDN paper's Eq. 3, in v's dtype.

    v `[B, H, W, C]`, bfloat16 or float32, reads as 0 outside; s `[B, H, W, K]`.

    Raises:
        NotImplementedError: no blocks fit.
    """
    return _differentiable(v, s, offsets, interpret)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _differentiable(v, s, offsets, interpret):
    run = per_device(
        lambda v, s: _weighted_difference(v, s, Blocks.of(v, offsets), interpret),
        "b h w c, b h w k -> b h w c",
        by_mesh=True,
    )
    return run(v, s)


def _forward(v, s, offsets, interpret):
    return _differentiable(v, s, offsets, interpret), (v, s)


def _backward(offsets, interpret, residuals, g):
    # A second derivative of the distances: rare enough for XLA's form.
    del interpret
    form = partial(neighbours.weighted_difference, offsets=offsets, result_dtype=g.dtype)
    return jax.vjp(form, *residuals)[1](g)


_differentiable.defvjp(_forward, _backward)


def _squared_distances(v, blocks: Blocks, interpret):
    half = blocks.offsets[: len(blocks.offsets) // 2]
    c, _ = blocks.tiles(v.shape[3], LANES, v.dtype.itemsize)
    window = blocks.window(c, lambda b, i, k: (b, i, k))

    def kernel(*refs):
        v_refs, (out_ref, sums, *scratch) = refs[: len(window)], refs[len(window) :]
        differences = Differences(blocks, *scratch)
        differences.load(v_refs, [], pl.program_id(1) * blocks.rows)
        is_first = pl.program_id(2) == 0

        @blocks.each_chunk
        def _(image, row):
            rows, centre = pl.ds(row, blocks.chunk), differences.at((0, 0), image, row)
            lane = lax.broadcasted_iota(jnp.int32, (blocks.chunk * blocks.width, LANES), 1)
            total = jnp.zeros(lane.shape, jnp.float32)
            for tap, offset in enumerate(half):
                squares = by_pixel(jnp.square(differences.at(offset, image, row) - centre))
                total = jnp.where(lane == tap, jnp.sum(squares, 1, keepdims=True), total)
            total = total.reshape(blocks.chunk, blocks.width, LANES)
            sums[image, rows] = jnp.where(is_first, total, total + sums[image, rows])

        blocks.write_sums(out_ref, sums)

    distances = launch(
        kernel,
        [v] * len(window),
        grid=(*blocks.grid, v.shape[3] // c),
        in_specs=window,
        out_specs=blocks.factor_block(lambda b, i, _: (b, i, 0)),
        out_shape=blocks.factors_shape,
        scratch=[blocks.sums, *blocks.scratch(c, 0)],
        name="squared_distances",
        flops=3 * len(half) * v.size,
        interpret=interpret,
    )
    return blocks.from_factors(distances)[..., : len(half)]


def _weighted_difference(v, s, blocks: Blocks, interpret):
    c, _ = blocks.tiles(v.shape[3], LANES, v.dtype.itemsize)
    place = lambda b, i, k: (b, i, k)  # noqa: E731
    window = blocks.window(c, place)

    def kernel(*refs):
        v_refs, (s_ref, out_ref, *scratch) = refs[: len(window)], refs[len(window) :]
        # A row at a time: a sum of more would not stay in registers.
        by_row = replace(blocks, chunk=1)
        differences = Differences(by_row, *scratch)
        differences.load(v_refs, [s_ref], pl.program_id(1) * blocks.rows)

        @by_row.each_chunk
        def _(image, row):
            centre = differences.at((0, 0), image, row)
            total = jnp.zeros(centre.shape, jnp.float32)
            for tap, offset in enumerate(blocks.offsets):
                gap = differences.at(offset, image, row) - centre
                total += gap * differences.weight(0, tap, image, row)
            out_ref[image, pl.ds(row, by_row.chunk)] = total.astype(v.dtype)

    return launch(
        kernel,
        [v] * len(window) + [blocks.factors(s)],
        grid=(*blocks.grid, v.shape[3] // c),
        in_specs=[*window, blocks.factor_block(place)],
        out_specs=blocks.block(c, place),
        out_shape=jax.ShapeDtypeStruct(v.shape, v.dtype),
        scratch=blocks.scratch(c, 1),
        name="weighted_difference",
        flops=3 * len(blocks.offsets) * v.size,
        interpret=interpret,
    )
