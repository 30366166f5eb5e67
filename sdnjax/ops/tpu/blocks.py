"""What the kernels share: blocks of rows with the rows around them, and the taps' differences.

A block of the grid holds some rows of one image in fast memory, with pixels along sublanes and
channels along lanes. There a tap's rows are an index of an untiled axis, which costs nothing; its
columns are a shift of sublanes, made once per block and column offset. The differences of a few
rows at a time are the left operand of a matrix product, and never leave fast memory.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sdnjax.ops.neighbours import Offsets, without_centre

# Pixels per block, which share the rows around it and one tile of the kernel; and per product.
BLOCK_PIXELS = 1024
PRODUCT_PIXELS = 256
# Both channel axes are cut into tiles of at most so many. The taps of a product are unrolled:
# together they make no longer program than a 3×3 kernel's at that size.
TILE = 512
UNROLLED = 8 * PRODUCT_PIXELS * TILE * TILE
# Of 64 MiB (v5p) and 128 MiB (v5e, v6e) next to the core.
FAST_MEMORY = 48 * 2**20
LANES, SUBLANES = 128, 8


@dataclass(frozen=True)
class Blocks:
    """Blocks of images `[B, H, W, …]`: `rows` rows of `width` columns each, `chunk` per product.

    The last block may reach beyond the image; so do the columns, which are padded to whole tiles.
    Of images that are smaller than a block, it holds several.
    """

    batch: int
    images: int
    height: int
    columns: int
    offsets: Offsets
    rows: int
    chunk: int
    width: int

    @classmethod
    def of(cls, x, offsets: Offsets) -> "Blocks":
        """For maps x `[B, H, W, …]` and a kernel's taps.

        Raises:
            NotImplementedError: nothing to do, or taps or rows longer than a block can hold.
        """
        batch, height, columns = x.shape[:3]
        offsets = tuple(o for o in offsets if o != (0, 0))
        if not x.size:
            raise NotImplementedError(f"nothing to compute for {x.shape}")
        if not offsets:
            raise NotImplementedError("a 1×1 kernel has no taps around its centre")
        if len(offsets) > LANES:
            raise NotImplementedError(f"serves up to {LANES} taps, not {len(offsets)}")
        reach = max(dy for dy, _ in offsets)
        if reach > height:
            raise NotImplementedError(f"taps reach {reach} rows, beyond an image of {height}")
        # 16-bit values lie in tiles of 16 sublanes.
        width = round_up(columns, 32 // x.dtype.itemsize)
        chunk = min(max(PRODUCT_PIXELS // width, 1), height)
        # Whole products, and a whole number of times the rows around the block, which are read as
        # blocks of their own.
        whole = math.lcm(chunk, max(reach, 1))
        rows = min(round_up(max(BLOCK_PIXELS // width, 1), whole), round_up(height, whole))
        fit = max(BLOCK_PIXELS // (rows * width), 1) if rows >= height else 1
        images = max(n for n in range(1, min(fit, batch) + 1) if batch % n == 0)
        return cls(batch, images, height, columns, offsets, rows, chunk, width)

    @property
    def grid(self) -> tuple[int, int]:
        """Groups of images, and blocks in each."""
        return self.batch // self.images, pl.cdiv(self.height, self.rows)

    @property
    def whole_rows(self) -> int:
        """Rows of all blocks of an image."""
        return self.grid[1] * self.rows

    @property
    def reach(self) -> int:
        """Rows around a block that its taps read, above and below."""
        return max(dy for dy, _ in self.offsets)

    @property
    def margin(self) -> int:
        """Columns of zeros on both sides: as many as taps read, in whole tiles."""
        return round_up(max(dx for _, dx in self.offsets), SUBLANES)

    def around(self) -> list[tuple[int, int, tuple[int, int]]]:
        """Of every tap around the centre: its place among them, among all taps, and its offset."""
        half = len(self.offsets) // 2
        return [(n, n + (n >= half), offset) for n, offset in enumerate(self.offsets)]

    @property
    def shifts(self) -> list[int]:
        """The columns by which taps are shifted, but for 0."""
        return sorted({dx for _, dx in self.offsets} - {0})

    @property
    def taps(self) -> int:
        """Taps around the centre, in whole tiles of sublanes."""
        return round_up(len(self.offsets), SUBLANES)

    def tiles(self, inner: int, outer: int, size: int) -> tuple[int, int]:
        """Tiles of two channel axes whose product is unrolled and fits fast memory.

        Args:
            size: bytes of a feature.

        Raises:
            NotImplementedError: there are none.
        """
        pixels = self.images * self.rows * self.width
        halo = self.images * 2 * self.reach * self.width
        work = self.chunk * self.width * len(self.offsets)
        limit = TILE
        while limit >= LANES:
            i, o = tile_of(inner, limit), tile_of(outer, limit)
            # Operands and results twice, for the pipeline, and what the kernels keep in float32.
            kernel = 2 * (len(self.offsets) + 1) * i * o * 4
            maps = 2 * size * ((pixels + halo) * i + pixels * o)
            kept = 4 * (pixels + halo) * i * (2 + len(self.shifts)) + 4 * pixels * (o + 4 * LANES)
            if work * i * o <= UNROLLED and kernel + maps + kept <= FAST_MEMORY:
                return i, o
            limit //= 2
        raise NotImplementedError(
            f"no tiles of {inner} and {outer} channels with {len(self.offsets)} taps and "
            f"{self.columns} columns fit next to the core"
        )

    # Operands.

    def factors(self, s: jax.Array) -> jax.Array:
        """Maps `[B, H, W, K]` → `[B, rows, taps, width]` float32, 0 beyond the image.

        Columns along lanes: the other way round most of memory would be padding.
        """
        s = jnp.moveaxis(without_centre(s.astype(jnp.float32), 3), 3, 2)
        sizes = self.whole_rows, self.taps, self.width
        pads = [(0, size - n) for size, n in zip(sizes, s.shape[1:], strict=True)]
        return jnp.pad(s, [(0, 0), *pads])

    def from_factors(self, rows: jax.Array) -> jax.Array:
        """`[B, rows, taps, width]` → maps `[B, H, W, taps around the centre]`."""
        return jnp.moveaxis(rows[:, : self.height, : len(self.offsets), : self.columns], 2, 3)

    def window(self, tile: int, place: Callable) -> list[pl.BlockSpec]:
        """A block of features and the rows above and below it: the same array, once for each.

        Args:
            place: grid indices → group of images, block, tile of channels.
        """
        reach, last = self.reach, pl.cdiv(self.height, max(self.reach, 1)) - 1

        def above(*grid):
            b, i, c = place(*grid)
            return b, _bounded(i * (self.rows // reach) - 1, last), 0, c

        def below(*grid):
            b, i, c = place(*grid)
            return b, _bounded((i + 1) * (self.rows // reach), last), 0, c

        specs = [self.block(tile, place)]
        if reach:
            around = self.images, reach, self.width, tile
            specs += [pl.BlockSpec(around, above), pl.BlockSpec(around, below)]
        return specs

    def block(self, tile: int, place: Callable) -> pl.BlockSpec:
        def index(*grid):
            b, i, c = place(*grid)
            return b, i, 0, c

        return pl.BlockSpec((self.images, self.rows, self.width, tile), index)

    def factor_block(self, place: Callable) -> pl.BlockSpec:
        def index(*grid):
            b, i, _ = place(*grid)
            return b, i, 0, 0

        return pl.BlockSpec((self.images, self.rows, self.taps, self.width), index)

    @property
    def sums(self) -> Any:
        """Scratch for a sum per pixel and tap, a lane per tap."""
        return pltpu.VMEM((self.images, self.rows, self.width, LANES), jnp.float32)

    @property
    def factors_shape(self) -> jax.ShapeDtypeStruct:
        shape = self.batch, self.whole_rows, self.taps, self.width
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    # In a kernel.

    def each_chunk(self, body: Callable) -> None:
        """`body(image, first row)` for every chunk of a block."""
        per_image = self.rows // self.chunk

        @pl.loop(0, self.images * per_image)
        def _(t):
            body(t // per_image, t % per_image * self.chunk)

    def write_sums(self, out_ref, sums) -> None:
        """Sums per tap → factors: pixels from sublanes to lanes."""

        @pl.loop(0, self.images * self.rows)
        def _(t):
            image, row = t // self.rows, t % self.rows
            out_ref[image, row] = sums[image, row].T[: self.taps]

    def scratch(self, tile: int, factors: int) -> list[Any]:
        """Scratch for `Differences`: features, their shifted copies, and factors."""
        rows = self.images, self.rows + 2 * self.reach
        copies = max(len(self.shifts), 1), *rows, self.width, tile
        by_pixel = max(factors, 1), self.images, self.rows, self.width, self.taps
        return [
            pltpu.VMEM((*rows, self.width + 2 * self.margin, tile), jnp.float32),
            pltpu.VMEM(copies, jnp.float32),
            pltpu.VMEM(by_pixel, jnp.float32),
        ]

    def is_image(self, first, rows: int) -> jax.Array:
        """`[rows, width, 1]` booleans: which pixels from a row on lie in the image."""
        shape = rows, self.width, 1
        row = lax.broadcasted_iota(jnp.int32, shape, 0) + first
        column = lax.broadcasted_iota(jnp.int32, shape, 1)
        return (row >= 0) & (row < self.height) & (column < self.columns)


@dataclass(frozen=True)
class Differences:
    """Weighted differences of a block, chunk by chunk, from references in fast memory."""

    blocks: Blocks
    features: Any  # [images, rows + 2 reach, margin + width + margin, tile]
    copies: Any  # [shifts, images, rows + 2 reach, width, tile]
    weights: Any  # [factors, images, rows, width, taps]

    def load(self, window: Sequence[Any], factors: Sequence[Any], first) -> None:
        """Fills the scratch. Features outside the image read as 0.

        Args:
            window: the block, and the rows above and below it where taps reach them.
            factors: `[images, rows, taps, width]` each.
            first: the block's first row.
        """
        blocks, margin = self.blocks, self.blocks.margin
        inner = pl.ds(margin, blocks.width)
        if margin:
            images, rows, _, tile = self.features.shape
            nothing = jnp.zeros((images, rows, margin, tile), jnp.float32)
            self.features[:, :, :margin] = nothing
            self.features[:, :, margin + blocks.width :] = nothing
        places = [blocks.reach, 0, blocks.reach + blocks.rows]
        for ref, place in zip(window, places, strict=False):
            rows = ref.shape[1]
            is_image = blocks.is_image(first + place - blocks.reach, rows)
            values = jnp.where(is_image, ref[...].astype(jnp.float32), 0.0)
            self.features[:, pl.ds(place, rows), inner] = values
        for n, dx in enumerate(blocks.shifts):
            self.copies[n] = self.features[:, :, pl.ds(margin + dx, blocks.width)]
        for n, ref in enumerate(factors):

            @pl.loop(0, blocks.images * blocks.rows)
            def _(t, n=n, ref=ref):
                image, row = t // blocks.rows, t % blocks.rows
                self.weights[n, image, row] = ref[image, row].T

    def at(self, offset: tuple[int, int], image, row) -> jax.Array:
        """`[chunk, width, tile]`: the features at a tap of the pixels of a chunk."""
        blocks, (dy, dx) = self.blocks, offset
        rows = pl.ds(row + blocks.reach + dy, blocks.chunk)
        if dx == 0:
            return self.features[image, rows, pl.ds(blocks.margin, blocks.width)]
        return self.copies[blocks.shifts.index(dx), image, rows]

    def weight(self, factor: int, tap: int, image, row) -> jax.Array:
        """`[chunk, width, 1]`"""
        return self.weights[factor, image, pl.ds(row, self.blocks.chunk), :, tap : tap + 1]


def by_pixel(x: jax.Array) -> jax.Array:
    """`[rows, width, C]` → `[pixels, C]`."""
    return x.reshape(-1, x.shape[-1])


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def tile_of(channels: int, most: int) -> int:
    """The largest tile that divides the channels: of whole lanes, or else all channels."""
    found = [n for n in range(LANES, most + 1, LANES) if channels % n == 0]
    return max(found, default=channels)


def launch(
    kernel, operands, *, grid, in_specs, out_specs, out_shape, scratch, name, flops, interpret
):
    """Runs a kernel on a grid whose steps follow each other, blocks fetched one step ahead.

    Args:
        flops: of the whole grid, for XLA's schedule of what is around it.
    """
    moved = 0
    for spec, x in zip([*in_specs, out_specs], [*operands, out_shape], strict=True):
        moved += transfers(spec, grid) * math.prod(spec.block_shape) * x.dtype.itemsize
    # Mosaic computes indices in 32 bits, whatever the caller's are.
    with jax.enable_x64(False):
        return pl.pallas_call(
            kernel,
            grid=grid,
            in_specs=in_specs,
            out_specs=out_specs,
            out_shape=out_shape,
            scratch_shapes=scratch,
            compiler_params=pltpu.CompilerParams(vmem_limit_bytes=FAST_MEMORY + 8 * 2**20),
            cost_estimate=pl.CostEstimate(flops=flops, bytes_accessed=moved, transcendentals=0),
            name=name,
            interpret=interpret,
        )(*operands)


def transfers(spec: pl.BlockSpec, grid: tuple[int, ...]) -> int:
    """How often a block is copied: in every step whose index differs from the one before."""
    last, place = 0, cast(Callable, spec.index_map)
    for axis, size in enumerate(grid):
        end = [size - 1 if i == axis else 0 for i in range(len(grid))]
        if place(*end) != place(*[0] * len(grid)):
            last = axis + 1
    return math.prod(grid[:last])


def _bounded(i, last):
    """Between 0 and last, for numbers and traced values."""
    return min(max(i, 0), last) if isinstance(i, int) else jnp.clip(i, 0, last)
