"""Everything that needs a GPU, in one command of a few minutes: checks first, then timings.

    python -m benchmarks.gpu --json FILE [--seconds 420] [--rehearse]

1. The Pallas kernels against the definition in float32 on the same rounded inputs: odd sizes,
   sizes that no tile divides, dilations, other kernels, batch 1, float16. Before every check the
   memory that the results will lie in is filled with NaN.
2. The same inputs twenty times: the same bits.
3. A train step of a network with the neck, against the step that XLA's form takes.
4. The timings of `benchmarks.sdc` at the shapes of the paper's networks, bfloat16.
5. Other tile sizes than the chosen ones, shape by shape.

Anything wrong ends with exit code 1 after the file is written. `--rehearse` runs the same code
where there is no GPU, on toy sizes, with the kernels interpreted: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

from benchmarks import sdc
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck
from sdnjax.ops.neighbours import inside, tap_offsets, without_centre
from sdnjax.ops.sdc import pallas_gpu, reference
from sdnjax.ops.sdc.pallas_gpu import common, tiles
from sdnjax.ops.sdc.pallas_gpu.product import product

# (B, H, W), channels in and out, kernel, dilation, dtype
CASES = [
    ((2, 64, 64), 256, 256, (3, 3), (1, 1), "bfloat16"),
    ((1, 97, 161), 48, 48, (3, 3), (1, 1), "bfloat16"),
    ((1, 15, 17), 200, 72, (3, 3), (1, 1), "bfloat16"),
    ((3, 33, 29), 96, 136, (3, 3), (2, 3), "bfloat16"),
    ((2, 31, 40), 64, 64, (5, 5), (1, 1), "bfloat16"),
    ((1, 7, 129), 24, 8, (3, 5), (5, 1), "bfloat16"),
    ((1, 1, 1), 8, 8, (3, 3), (1, 1), "bfloat16"),
    ((4, 32, 32), 768, 768, (3, 3), (1, 1), "bfloat16"),
    ((2, 45, 37), 720, 328, (3, 3), (1, 1), "bfloat16"),
    ((2, 64, 64), 256, 256, (3, 3), (1, 1), "float16"),
]
REHEARSED = [((1, 3, 5), 16, 8, (1, 3), (1, 1), "bfloat16")]
TOLERANCE = 1e-2


def check_kernels(cases, interpret) -> list[dict]:
    """Relative errors ‖got − want‖ / ‖want‖ of the result and of all gradients."""
    found = []
    for size, channels, columns, kernel_size, dilation, dtype in cases:
        keys = jax.random.split(jax.random.key(len(found)), 4)
        u = jax.random.normal(keys[0], (*size, channels), dtype)
        s = jax.random.uniform(keys[1], (*size, kernel_size[0] * kernel_size[1]))
        kernel = jax.random.normal(keys[2], (*kernel_size, channels, columns), dtype) / 16
        dy = jax.random.normal(keys[3], (*size, columns), dtype)
        fill_with_nan(u.nbytes + dy.nbytes + kernel.nbytes)
        pallas = partial(
            pallas_gpu.semantic_difference, dilation=dilation, precision=None, interpret=interpret
        )
        definition = partial(
            reference.semantic_difference, dilation=dilation, precision=jax.lax.Precision.HIGHEST
        )
        kernels = partial(results, pallas)
        if not interpret:  # which is not for jit
            kernels = jax.jit(kernels)
        got = kernels(u, s, kernel, dy)
        wide = [x.astype(jnp.float32) for x in (u, s, kernel, dy)]
        want = jax.jit(partial(results, definition))(*wide)
        errors = {
            name: relative_error(a, b)
            for name, a, b in zip(("y", "du", "ds", "dw"), got, want, strict=True)
        }
        same = True
        for _ in range(0 if interpret else 20):
            again = kernels(u, s, kernel, dy)
            same &= all(bool(jnp.array_equal(a, b)) for a, b in zip(again, got, strict=True))
        good = same and all(e < TOLERANCE for e in errors.values())  # false for NaN
        found.append({"case": [size, channels, columns, kernel_size, dilation, dtype]})
        found[-1] |= {"errors": errors, "same_bits": same, "good": good}
        numbers = "  ".join(f"{k} {v:.1e}" for k, v in errors.items())
        print(f"{'ok ' if good else 'BAD'} {size} {channels}→{columns} {kernel_size} {numbers}")
    return found


def results(function, u, s, kernel, dy):
    y, pullback = jax.vjp(function, u, s, kernel)
    return y, *pullback(dy.astype(y.dtype))


def fill_with_nan(nbytes: int) -> None:
    """Leaves NaN in memory that the next arrays may be given."""
    jax.block_until_ready(jnp.full((nbytes,), jnp.nan, jnp.float32))


def relative_error(got, want) -> float:
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    return float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30))


def check_train_step(rehearse: bool) -> dict:
    """Losses of three steps with the kernels and with XLA's form: equal to a few per cent."""
    size = (2, 32, 32) if rehearse else (8, 256, 320)
    name = "fpn_r18" if rehearse else "fpn_r50"
    images = jax.random.normal(jax.random.key(0), (*size, 3))
    labels = jax.random.randint(jax.random.key(1), size, 0, 19)
    network = Model(name, neck=Neck(operator="sdc"), dropout=0.0, dtype="bfloat16")
    recipe = Experiment(model=network, data=Data(crop_size=size[1:])).build(19)
    variables = recipe.init_variables()

    def disturbed(path, x):
        """Fusion starts at zero on the operator's result, which the loss would not see."""
        is_fusion = any(entry.key == "fusion" for entry in path)
        return x + 0.02 * jax.random.normal(jax.random.key(2), x.shape) if is_fusion else x

    params = jax.tree_util.tree_map_with_path(disturbed, variables["params"])

    def losses():
        state = recipe.init_state({**variables, "params": params})
        step = jax.jit(recipe.step)
        values = []
        for _ in range(3):
            state, metrics = step(state, {"image": images, "label": labels})
            values.append(float(metrics["loss"]))
        return values

    chosen = losses()
    with mock.patch.dict(sdc.IMPLEMENTATIONS):
        del sdc.IMPLEMENTATIONS["pallas_gpu"]
        without = losses()
    good = bool(np.allclose(chosen, without, rtol=0.03))  # false for NaN
    print(f"{'ok ' if good else 'BAD'} train step: losses {chosen}, XLA's form {without}")
    return {"losses": chosen, "losses_xla": without, "good": good}


def sweep_tiles(shapes, deadline: float) -> list[dict]:
    """The product alone, with other tiles than `tiles.product_tiles` chooses."""
    found = []
    for shape in shapes:
        size = shape.on("gpu")
        u, _, kernel = sdc.operands(size, jnp.bfloat16)
        s = jnp.ones((*size[:3], 9), jnp.float32)
        near = jnp.where(inside(size, tap_offsets(3)), s, 0)
        factors = common.pair_factors(near, s)
        rows, weights = (
            u.reshape(-1, size[3]),
            without_centre(kernel.reshape(9, *kernel.shape[2:]), 0),
        )
        taps = common.Taps((3, 3), (1, 1), size[2])
        chosen = tiles.product_tiles(8 * -(-size[3] // tiles.DEPTH), size[3])
        programs = {}
        for columns in (64, 128, 192, 256):
            for stages in (2, 3, 4):
                some = tiles.Tiles(columns, stages)
                try:
                    programs[some] = sdc.compiled(
                        partial(product, taps=taps, tiles=some), rows, factors, weights
                    )
                except (ValueError, jax.errors.JaxRuntimeError) as error:  # shared memory
                    found.append({"shape": size, "tiles": str(some), "refused": str(error)[:200]})
        ms = sdc.alternate(programs, 5, 0.01)
        for some, median in sorted(ms.items(), key=lambda item: item[1]):
            found.append(
                {"shape": size, "tiles": str(some), "ms": median, "chosen": some == chosen}
            )
        best = min(ms, key=ms.get)
        print(f"{shape.name}: chosen {chosen} {ms.get(chosen)} ms, best {best} {ms[best]} ms")
        if time.perf_counter() > deadline:
            print("no time for more")
            break
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="where the results go")
    parser.add_argument("--seconds", type=float, default=420, help="no new part starts after this")
    parser.add_argument("--rehearse", action="store_true", help="toy sizes, no GPU")
    options = parser.parse_args()
    start = time.perf_counter()
    interpret = InterpretGPUParams() if options.rehearse else None

    result = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    print(f"jax {jax.__version__} on {result['device']}")
    if not options.rehearse and not pallas_gpu.is_hopper():
        print("this is no NVIDIA Hopper GPU: nothing to check (see --rehearse)")
        return 1

    def save():
        result["seconds"] = round(time.perf_counter() - start, 1)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")

    result["checks"] = check_kernels(REHEARSED if options.rehearse else CASES, interpret)
    save()
    result["train_step"] = check_train_step(options.rehearse)
    save()
    shapes = [sdc.Shape("toy", 4, 6, 16, 1)] if options.rehearse else sdc.SHAPES
    result["timings"] = []
    for shape in shapes:
        if time.perf_counter() - start > options.seconds:
            print(f"no time for {shape.name} and what follows")
            break
        result["timings"].append(sdc.run([shape], jnp.dtype("bfloat16"), repeats=7))
        save()
    if not options.rehearse and time.perf_counter() - start < options.seconds:
        result["tiles"] = sweep_tiles(shapes, start + options.seconds)
        save()
    good = all(c["good"] for c in result["checks"]) and result["train_step"]["good"]
    print(f"{'all checks passed' if good else 'SOME CHECKS FAILED'}, {result['seconds']} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
