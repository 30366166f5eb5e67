"""SDC's kernels for Hopper GPUs, each alone and with other tiles; see `benchmarks/gpu.py`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks import sdc
from sdnjax.ops.neighbours import inside, tap_offsets, without_centre
from sdnjax.ops.sdc.pallas_gpu import common, tiles
from sdnjax.ops.sdc.pallas_gpu.kernel_gradient import kernel_gradient
from sdnjax.ops.sdc.pallas_gpu.map_gradient import map_gradient
from sdnjax.ops.sdc.pallas_gpu.product import product
from sdnjax.ops.similarity import similarity_maps

CHOSEN = "chosen"


def time_kernels(shapes) -> Iterator[dict]:
    """What SDC and its gradients are made of, each alone, and the kernels with other tiles."""
    for shape in shapes:
        size = shape.on("gpu")
        u, v, kernel = sdc.operands(size, jnp.bfloat16)
        s = jnp.ones((*size[:3], 9), jnp.float32)
        near = jnp.where(inside(size, tap_offsets(3)), s, 0)
        weights = without_centre(kernel.reshape(9, *kernel.shape[2:]), 0)
        x = {"rows": u.reshape(-1, size[3]), "factors": common.pair_factors(near, s)}
        x |= {"weights": weights, "v": v, "s": near}
        refusals = (ValueError, jax.errors.JaxRuntimeError)  # more shared memory than there is
        ms = sdc.alternate(sdc.compiled_all(parts_of(size), (x,), refusals), 5, 0.01)
        for part in dict.fromkeys(part for part, _ in ms):
            best = min((key for key in ms if key[0] == part), key=ms.get)
            others = "" if best[1] == CHOSEN else f", {ms[best]:.3f} with {best[1]}"
            print(f"{shape.name:20} {part:28} {ms[part, CHOSEN]:8.3f} ms{others}", flush=True)
        rows = [{"part": p, "tiles": t, "ms": x} for (p, t), x in ms.items()]
        yield {"shape": size, "rows": rows}


def parts_of(size):
    """(part, tiles) → a function of the arrays by name."""
    taps = common.Taps((3, 3), (1, 1), size[2])
    count, channels = size[0] * size[1] * size[2], size[3]

    def forward(some, x):
        return product(x["rows"], x["factors"], x["weights"], taps, tiles=some)

    def to_kernel(some, x):
        return kernel_gradient(x["rows"], x["factors"], x["rows"], taps, tiles=some)

    def to_maps(x):
        return map_gradient(x["rows"], x["factors"], x["rows"], x["weights"], taps)

    def alike(v):
        return similarity_maps(
            v,
            kernel_size=(3, 3),
            dilation=(1, 1),
            similarity="charbonnier",
            scale=1.0,
            boundary="no_flux",
        )

    def similarities(x):
        return alike(x["v"])

    def with_gradient(x):
        values, pullback = jax.vjp(alike, x["v"])
        return values, pullback(x["s"].astype(values.dtype))

    def paired(x):
        return common.pair_factors(x["s"], x["s"])

    found = {
        ("product", CHOSEN): partial(forward, None),
        ("kernel gradient", CHOSEN): partial(to_kernel, None),
        ("map gradient", CHOSEN): to_maps,
        ("similarities", CHOSEN): similarities,
        ("similarities with gradient", CHOSEN): with_gradient,
        ("factors", CHOSEN): paired,
    }
    chosen = tiles.product_tiles(8 * -(-channels // tiles.DEPTH), channels)
    for columns, stages in itertools.product((64, 128, 192, 256), (2, 3, 4)):
        some = tiles.Tiles(columns, stages)
        if some != chosen:
            found["product", str(some)] = partial(forward, some)
    chosen = tiles.kernel_gradient_tiles(8, count, channels, channels)
    for columns, stages, splits in itertools.product((64, 128, 256), (2, 4), (1, 2, 4, 8)):
        some = tiles.Tiles(columns, stages, splits)
        if some != chosen and splits <= 2 * chosen.splits:
            found["kernel gradient", str(some)] = partial(to_kernel, some)
    return found
