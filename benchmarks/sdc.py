"""Semantic difference convolution against XLA's convolution of the same kernel.

    python benchmarks/sdc.py [--json FILE] [--repeats N] [--dtype float32|bfloat16]

Prints one row per shape, direction and implementation: the median time, its ratio to that of the
convolution, and the compiled program's temporary memory in units of the input feature map.
All programs of a shape take turns in one process, so that a busy machine troubles them alike.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops import semantic_difference_conv
from sdnjax.ops.sdc import IMPLEMENTATIONS

SHAPES = [(1, 64, 64, 256), (1, 32, 32, 768), (2, 128, 128, 64)]


def convolution(u, v, kernel):
    del v
    return lax.conv_general_dilated(
        u, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def sdc(implementation):
    return lambda u, v, kernel: semantic_difference_conv(
        u, v, kernel, implementation=implementation
    )


def with_gradient(f):
    """Forward and backward; the forward result is returned, so that nobody may skip it."""

    def g(u, v, kernel):
        y, pullback = jax.vjp(f, u, v, kernel)
        return y, pullback(y)

    return g


def measure(shape, dtype, repeats):
    channels = shape[-1]
    keys = jax.random.split(jax.random.key(0), 3)
    u, v = (jax.random.normal(key, shape).astype(dtype) for key in keys[:2])
    kernel = jax.random.normal(keys[2], (3, 3, channels, channels)).astype(dtype) / channels
    functions = {"convolution": convolution} | {name: sdc(name) for name in IMPLEMENTATIONS}

    rows = []
    for direction, transform in [("forward", lambda f: f), ("forward+backward", with_gradient)]:
        programs, times = {}, {}
        for name, f in functions.items():
            try:
                programs[name] = jax.jit(transform(f)).lower(u, v, kernel).compile()
            except NotImplementedError as refusal:
                print(f"{name} refuses {shape}: {refusal}")
                continue
            jax.block_until_ready(programs[name](u, v, kernel))  # warm up
            times[name] = []
        for _ in range(repeats):
            for name, program in programs.items():
                start = time.perf_counter()
                jax.block_until_ready(program(u, v, kernel))
                times[name].append(1e3 * (time.perf_counter() - start))
        base = statistics.median(times["convolution"])
        for name, program in programs.items():
            median = statistics.median(times[name])
            rows.append(
                {
                    "shape": list(shape),
                    "direction": direction,
                    "implementation": name,
                    "median_ms": median,
                    "ratio": median / base,
                    "temp_copies": program.memory_analysis().temp_size_in_bytes / u.nbytes,
                }
            )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also save the rows to this file")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()

    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__}, {device} ({platform.machine()}), {options.dtype}, to C channels")
    print(f"{'input':18} {'direction':17} {'program':12} {'ms':>9} {'ratio':>6} {'temp/map':>9}")
    rows = []
    for shape in SHAPES:
        for row in measure(shape, jnp.dtype(options.dtype), options.repeats):
            print(
                f"{'×'.join(map(str, shape)):18} {row['direction']:17} "
                f"{row['implementation']:12} {row['median_ms']:9.2f} {row['ratio']:6.2f} "
                f"{row['temp_copies']:9.2f}",
                flush=True,
            )
            rows.append(row)
    if options.json:
        result = {"jax": jax.__version__, "device": device, "dtype": options.dtype, "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
