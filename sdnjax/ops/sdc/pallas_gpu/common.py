"""What the kernels share: taps as row offsets, weighted differences, ring buffers, launching."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sdnjax.ops.neighbours import without_centre
from sdnjax.ops.sdc.pallas_gpu.tiles import (
    BLOCK,
    COMPUTE,
    COMPUTE_REGISTERS,
    DEPTH,
    LOAD_REGISTERS,
    PITCH,
)


@dataclass(frozen=True)
class Taps:
    """The taps around the centre as offsets of rows: pixel (b, y, x) is row (b·H + y)·W + x."""

    kernel_size: tuple[int, int]
    dilation: tuple[int, int]
    width: int

    @property
    def count(self) -> int:
        return self.kernel_size[0] * self.kernel_size[1] - 1

    @property
    def reach(self) -> int:
        """The largest offset."""
        (kh, kw), (dy, dx) = self.kernel_size, self.dilation
        return (kh // 2) * dy * self.width + (kw // 2) * dx

    def offset(self, tap: jax.Array) -> jax.Array:
        """Row offset of a traced tap in `[0, count)`, row-major, the centre left out."""
        (kh, kw), (dy, dx) = self.kernel_size, self.dilation
        tap = tap + (tap >= self.count // 2).astype(jnp.int32)
        return (tap // kw - kh // 2) * (dy * self.width) + (tap % kw - kw // 2) * dx


def pair_factors(near: jax.Array, total: jax.Array) -> jax.Array:
    """`[T, 2, rows]` float32 from two maps `[B, H, W, K]`: near and rest = total − near.

    The kernels form `near · (neighbour − centre) − rest · centre`, which is
    `near · neighbour − total · centre`, but exactly 0 for equal neighbours where near = total.
    Padded with zeros to whole blocks of rows.
    """
    # By tap first: a kernel reads the factors of one tap for a block of consecutive rows.
    near, rest = (
        without_centre(x.astype(jnp.float32).reshape(-1, x.shape[-1]), 1).T
        for x in (near, total - near)
    )
    factors = jnp.stack([near, rest], axis=1)
    return jnp.pad(factors, ((0, 0), (0, 0), (0, -factors.shape[2] % BLOCK)))


def difference(near, centre, factors, rows, interpret) -> jax.Array:
    """`near factor · (near − centre) − rest · centre` in float32, for tiles `[64, 64]`.

    factors is a reference `[2, …]` to shared memory, rows the slice of it that is meant.
    """

    def spread(which):
        value = factors[which, rows]
        # On the device a row's factor must lie in the threads that hold that row of the tile, as
        # WGMMA spreads it over the warpgroup. The interpreter has no notion of such layouts.
        if not interpret:
            value = plgpu.layout_cast(value, plgpu.Layout.WGMMA.reduce(1))
        return lax.broadcast_in_dim(value, near.shape, (0,))

    # Subtracted before anything is scaled: equal neighbours give exactly 0, and the difference of
    # two 16-bit numbers is exact or nearly so in float32.
    centre = centre.astype(jnp.float32)
    return (near.astype(jnp.float32) - centre) * spread(0) - centre * spread(1)


def read_tile(ref, rows, interpret) -> jax.Array:
    """The first 64 channels of some rows of a plain tile, laid out as a product's operand."""
    value = ref[rows, pl.ds(0, DEPTH)]
    return value if interpret else plgpu.layout_cast(value, plgpu.Layout.WGMMA)


def plain(shape: tuple[int, ...], dtype: Any):
    """Shared memory for feature tiles `[…, rows, PITCH]`, filled from any row of an array."""
    return plgpu.SMEM((*shape, PITCH), dtype)


def swizzled(shape: tuple[int, ...], dtype: Any):
    """Shared memory for operands of matrix products; the last two axes are tiled."""
    tiling = plgpu.TilingTransform((8, 128 // jnp.dtype(dtype).itemsize))
    return plgpu.SMEM(shape, dtype, transforms=(tiling, plgpu.SwizzleTransform(128)))


def padded(x: jax.Array, device: tuple[int, ...], blocks: tuple[int, ...], interpret) -> jax.Array:
    """Zeros up to multiples per axis: `device` for an operand's tiles, `blocks` to interpret.

    On the device, bulk copies read zeros beyond an array's end and do not write there; but an
    array of tiles must be made of whole ones. The interpreter knows whole blocks only.
    """
    multiples = blocks if interpret else device
    return jnp.pad(x, [(0, -n % m) for n, m in zip(x.shape, multiples, strict=True)])


def features(x: jax.Array, taps: Taps, rows: int, interpret) -> tuple[jax.Array, int]:
    """A feature map `[R, C]` for plain tiles, and the index of its first row.

    On the device that is the map itself: bulk copies start at any row and read zeros before the
    first and after the last. The interpreter is given those zeros.
    """
    if not interpret:
        return x, 0
    n, c = x.shape
    # What the widest tiles (256 channels) and the pitch of the last one read beyond the map.
    wide = -(-c // 256) * 256 + PITCH
    return jnp.pad(x, ((taps.reach, rows - n + taps.reach), (0, wide - c))), taps.reach


@dataclass(frozen=True)
class Ring:
    """A ring buffer in shared memory: one warpgroup fills its slots, the others read them.

    Step t uses slot t mod slots. Two barriers per slot hand it over: `full` completes when all
    bulk copies of a step have arrived, `empty` when all computing warpgroups have released it.
    """

    slots: int
    steps: int
    full: Any
    empty: Any

    @staticmethod
    def barriers(name: str, slots: int, copies: int) -> dict[str, Any]:
        """Scratch for `of(name, …)`, where a step is filled by a number of bulk copies."""
        return {
            f"{name}_full": plgpu.Barrier(num_arrivals=copies, num_barriers=slots),
            f"{name}_empty": plgpu.Barrier(num_arrivals=COMPUTE, num_barriers=slots),
        }

    @classmethod
    def of(cls, name: str, slots: int, steps: int, scratch: dict[str, Any]) -> "Ring":
        return cls(slots, steps, scratch[f"{name}_full"], scratch[f"{name}_empty"])

    def fill(self, step, copies: Sequence[tuple[Any, Any]]) -> None:
        """Waits for the step's slot and starts `(source, ring of targets)` copies into it."""
        slot = lax.rem(step, self.slots)

        # The first round finds all slots empty: nobody has released them.
        @pl.when(step >= self.slots)
        def _():
            plgpu.barrier_wait(self.empty.at[slot])

        for source, target in copies:
            plgpu.copy_gmem_to_smem(source, target.at[slot], self.full.at[slot])

    def wait(self, step) -> jax.Array:
        """The step's slot, once it is full."""
        slot = lax.rem(step, self.slots)
        plgpu.barrier_wait(self.full.at[slot])
        return slot

    def release(self, step) -> None:
        """This warpgroup is done with a step's slot; nothing happens for step −1."""

        # The loader waits for a slot only to use it again, which it does not after the last round.
        @pl.when((step >= 0) & (step + self.slots < self.steps))
        def _():
            plgpu.barrier_arrive(self.empty.at[lax.rem(step, self.slots)])


def launch(
    load: Callable,
    compute: Callable,
    *,
    out_type: jax.ShapeDtypeStruct,
    grid: dict[str, int],
    scratch: dict[str, Any],
    name: str,
    interpret: Any,
) -> Callable:
    """A kernel on a grid of blocks: one warpgroup loads, the others compute.

    Args:
        load: `(inputs, scratch, place)`, where place holds the block's index per axis of the grid.
        compute: `(output, scratch, place, warpgroup)`.
    """

    def kernel(*refs, **scratch):
        *inputs, output = refs
        place = {axis: lax.axis_index(axis) for axis in grid}
        warpgroup = lax.axis_index("warpgroup")

        # The three warpgroups start with a third of the registers each. Loading needs few, so it
        # gives most of its share to the accumulators.
        @pl.when(warpgroup == COMPUTE)
        def _():
            plgpu.set_max_registers(LOAD_REGISTERS, action="decrease")
            load(inputs, scratch, place)

        @pl.when(warpgroup < COMPUTE)
        def _():
            plgpu.set_max_registers(COMPUTE_REGISTERS, action="increase")
            compute(output, scratch, place, warpgroup)

    # Lane semantics lets the body choose the register layouts of its values, as `difference` does.
    run = plgpu.kernel(
        kernel,
        out_type=out_type,
        grid=tuple(grid.values()),
        grid_names=tuple(grid),
        num_threads=COMPUTE + 1,
        thread_name="warpgroup",
        scratch_types=scratch,
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane),
        kernel_name=name,
        interpret=interpret,
    )

    # Mosaic GPU computes indices in 32 bits; a caller's x64 would make loop counters wider.
    def with_32_bit_indices(*inputs):
        with jax.enable_x64(False):
            return run(*inputs)

    return with_32_bit_indices
