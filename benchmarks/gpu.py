"""Everything that needs a GPU, in one command of a few minutes: checks first, then timings.

    python -m benchmarks.gpu --json FILE [--parts PART ...] [--seconds 420] [--rehearse]

`checks`: the Pallas kernels against the definition in float32 on the same rounded inputs: odd
   sizes, sizes that no tile divides, dilations, other kernels, batch 1, float16. Before each the
   memory that the results will lie in is filled with NaN. The same inputs twenty times: the same
   bits.
`train_step`: of a network with the neck, against the step that XLA's form takes.
`timings`: of `benchmarks.sdc` at the shapes of the paper's networks, bfloat16.
`kernels`: what these times are made of, each kernel alone, and with other tiles than the chosen.

Parts that FILE already holds and that are not asked for stay in it. Anything wrong, a part that
breaks off too, ends with exit code 1 after the file is written. `--rehearse` runs the same code
where there is no GPU, on toy sizes, with the kernels interpreted: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

from benchmarks import sdc
from benchmarks.gpu_kernels import time_kernels
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck
from sdnjax.ops.sdc import pallas_gpu, reference

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
PARTS = ("checks", "train_step", "timings", "kernels")


def check_kernels(cases, interpret) -> Iterator[dict]:
    """Relative errors ‖got − want‖ / ‖want‖ of the result and of all gradients."""
    programs = partial(check_programs, interpret=interpret)
    with ThreadPoolExecutor() as pool:
        pairs = [pool.submit(programs, case) for case in cases]
    for case, pair in zip(cases, pairs, strict=True):
        try:
            yield check(case, *pair.result(), 0 if interpret else 20)
        except Exception as error:  # what fails is a result, and the next case is another
            yield {"case": case, "good": False, "error": broken(case, error)}


def check_operands(case):
    size, channels, columns, kernel_size, _, dtype = case
    keys = jax.random.split(jax.random.key(channels), 4)
    u = jax.random.normal(keys[0], (*size, channels), dtype)
    s = jax.random.uniform(keys[1], (*size, kernel_size[0] * kernel_size[1]))
    kernel = jax.random.normal(keys[2], (*kernel_size, channels, columns), dtype) / 16
    return u, s, kernel, jax.random.normal(keys[3], (*size, columns), dtype)


def check_programs(case, interpret):
    """Value and gradients by the kernels, and by the definition from the same values in float32."""
    dilation = case[4]
    narrow = jax.eval_shape(lambda: check_operands(case))
    wide = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in narrow]
    pallas = partial(
        pallas_gpu.semantic_difference, dilation=dilation, precision=None, interpret=interpret
    )
    definition = partial(
        reference.semantic_difference, dilation=dilation, precision=jax.lax.Precision.HIGHEST
    )
    kernels = partial(results, pallas)
    if not interpret:  # which is not for jit
        kernels = jax.jit(kernels).lower(*narrow).compile()
    return kernels, jax.jit(partial(results, definition)).lower(*wide).compile()


def check(case, kernels, definition, repeats) -> dict:
    size, channels, columns, kernel_size, _, _ = case
    operands = check_operands(case)
    fill_with_nan(sum(x.nbytes for x in operands))
    got = kernels(*operands)
    want = definition(*(x.astype(jnp.float32) for x in operands))
    named = dict(zip(("y", "du", "ds", "dw"), zip(got, want, strict=True), strict=True))
    errors = {name: relative_error(*pair) for name, pair in named.items()}
    same = True
    for _ in range(repeats):
        again = kernels(*operands)
        same &= all(bool(jnp.array_equal(a, b)) for a, b in zip(again, got, strict=True))
    good = same and all(e < TOLERANCE for e in errors.values())  # false for NaN
    numbers = "  ".join(f"{k} {v:.1e}" for k, v in errors.items())
    print(f"{'ok ' if good else 'BAD'} {size} {channels}→{columns} {kernel_size} {numbers}")
    found = {"case": case, "errors": errors, "same_bits": same, "good": good}
    if not good:
        found["where"] = {k: where(*named[k]) for k, e in errors.items() if not e < TOLERANCE}
        print(f"    same bits: {same}; {found['where']}")
    return found


def where(got, want) -> str:
    """Which part of a result is wrong: how many numbers, and in which range of each axis."""
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    wrong = ~(np.abs(got - want) < 0.1 * np.std(want))
    places = [np.unique(axis) for axis in np.nonzero(wrong)]
    ranges = ", ".join(
        f"{len(x)} of {n} in {x.min()}…{x.max()}" if len(x) else "none"
        for x, n in zip(places, got.shape, strict=True)
    )
    return f"{wrong.sum()} of {wrong.size} wrong, {(~np.isfinite(got)).sum()} not finite: {ranges}"


def broken(what, error) -> str:
    """Prints what broke off; a line about it."""
    print(f"BAD {what}: broke off")
    traceback.print_exception(error, limit=-6)
    return f"{type(error).__name__}: {error}"[:2000]


def results(function, u, s, kernel, dy):
    y, pullback = jax.vjp(function, u, s, kernel)
    return y, *pullback(dy.astype(y.dtype))


def fill_with_nan(nbytes: int) -> None:
    """Leaves NaN in memory that the next arrays may be given."""
    jax.block_until_ready(jnp.full((nbytes,), jnp.nan, jnp.float32))


def relative_error(got, want) -> float:
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    return float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30))


def check_train_step(size) -> Iterator[dict]:
    """Losses of three steps with the kernels and with XLA's form: equal to a few per cent."""
    images = jax.random.normal(jax.random.key(0), (*size, 3))
    labels = jax.random.randint(jax.random.key(1), size, 0, 19)
    network = Model("fpn_r18", neck=Neck(operator="sdc"), dropout=0.0, dtype="bfloat16")
    recipe = Experiment(model=network, data=Data(crop_size=size[1:])).build(19)

    def disturbed(path, x):
        """Fusion starts at zero on the operator's result, which the loss would not see."""
        is_fusion = any(entry.key == "fusion" for entry in path)
        return x + 0.02 * jax.random.normal(jax.random.key(2), x.shape) if is_fusion else x

    @jax.jit
    def init():
        variables = recipe.init_variables()
        params = jax.tree_util.tree_map_with_path(disturbed, variables["params"])
        return recipe.init_state({**variables, "params": params})

    batch = {"image": images, "label": labels}

    def lowered():
        return jax.jit(recipe.step).lower(jax.eval_shape(init), batch)

    def losses(step):
        state, values = init(), []
        for _ in range(3):
            state, metrics = step(state, batch)
            values.append(float(metrics["loss"]))
        return values

    both = [lowered()]
    with mock.patch.dict(sdc.IMPLEMENTATIONS):
        del sdc.IMPLEMENTATIONS["pallas_gpu"]
        both.append(lowered())
    with ThreadPoolExecutor() as pool:
        chosen, without = map(losses, pool.map(lambda one: one.compile(), both))
    good = bool(np.allclose(chosen, without, rtol=0.03))  # false for NaN
    print(f"{'ok ' if good else 'BAD'} train step: losses {chosen}, XLA's form {without}")
    yield {"losses": chosen, "losses_xla": without, "good": good}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="where the results go")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="[all]")
    parser.add_argument("--seconds", type=float, default=420, help="no new shape starts after this")
    parser.add_argument(
        "--programs", nargs="+", default=sdc.PROGRAMS, choices=sdc.PROGRAMS, help="timed [all]"
    )
    parser.add_argument("--rehearse", action="store_true", help="toy sizes, no GPU")
    options = parser.parse_args()
    start = time.perf_counter()
    machine = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    print(f"jax {machine['jax']} on {machine['device']}")
    if not options.rehearse and not pallas_gpu.is_hopper():
        print("this is no NVIDIA Hopper GPU: nothing to check (see --rehearse)")
        return 1
    held = json.loads(options.json.read_text()) if options.json.exists() else machine
    if not machine.items() <= held.items():
        print(f"{options.json} is of {held.get('device')} with jax {held.get('jax')}: name another")
        return 1

    def in_time(shapes):
        for shape in shapes:
            if time.perf_counter() - start > options.seconds:
                print(f"no time for {shape.name} and what follows")
                return
            yield shape

    def timings(shapes):
        dtype = jnp.dtype("bfloat16")
        rates = sdc.ceilings(dtype)
        wanted = {"convolution", *options.programs}
        for shape in in_time(shapes):
            yield sdc.run([shape], dtype, repeats=7, wanted=wanted, rates=rates)

    parts = {
        "checks": check_kernels(CASES, None),
        "train_step": check_train_step((8, 256, 320)),
        "timings": timings(sdc.SHAPES),
        "kernels": time_kernels(in_time(sdc.SHAPES)),
    }
    if options.rehearse:
        parts["checks"] = check_kernels(REHEARSED, InterpretGPUParams())
        parts["train_step"] = check_train_step((2, 32, 32))
        parts["timings"] = timings([sdc.Shape("toy", 4, 6, 16, 1)])
        parts["kernels"] = iter(())  # which are not interpreted
    wrong = []
    for name in options.parts:
        held[name] = []
        try:
            for row in parts[name]:
                held[name].append(row)
                keep(held, options.json)
                wrong += [] if row.get("good", True) else [row.get("case", name)]
        except Exception as error:  # the next part is another result
            wrong.append(f"{name}: {broken(name, error)}")
    seconds = time.perf_counter() - start
    print(f"{f'WRONG: {wrong}' if wrong else 'nothing wrong'}, {seconds:.0f} s")
    return 1 if wrong else 0


def keep(found: dict, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
