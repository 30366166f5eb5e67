"""Semantic difference convolution against the convolution that it replaces, and against PyTorch.

    python -m benchmarks.sdc [--json FILE] [--repeats N] [--dtype float32|bfloat16] [--only TEXT …]
                             [--programs NAME …]

One row per shape, direction and program: the median time, its ratio to the library's convolution of
the same shape (XLA's, but for the kernel's gradient on CPUs), the time that the device's matrix
units and memory would need at least in units of it (the floor: 8 of a 3×3 kernel's 9 taps, every
array read or written once, at the rates of a large product and a large copy measured first), and
memory beside operands and results in units of the input map. All programs of a shape take turns in
one process, so that a busy machine troubles them alike. PyTorch takes part where it is installed:
the unfold form, eager and compiled, and its own convolution.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from sdnjax.ops import semantic_difference_conv, which_implementation
from sdnjax.ops.conv import conv
from sdnjax.ops.sdc import IMPLEMENTATIONS

try:
    from benchmarks import torch_forms
except ImportError:  # no PyTorch
    torch_forms = None


# What is measured; the definition ("reference") only where it is asked for.
PROGRAMS = (
    "convolution",
    *(name for name in IMPLEMENTATIONS if name != "reference"),
    *("torch convolution", "torch unfold", "torch unfold compiled"),
)


DIRECTIONS = ("forward", "forward+backward")


@dataclass(frozen=True)
class Shape:
    """Features of a network's stage, to as many channels; batch sizes for a CPU and for a GPU."""

    name: str
    height: int
    width: int
    channels: int
    gpu_batch: int
    cpu_batch: int = 1

    def on(self, platform: str) -> tuple[int, int, int, int]:
        batch = self.cpu_batch if platform == "cpu" else self.gpu_batch
        return batch, self.height, self.width, self.channels


# Inputs of 512×512 at the output strides of the networks; HRNet at 512×1024. The most telling
# come first, where there is no time for all.
SHAPES = [
    Shape("FCN R50-d8", 64, 64, 2048, 4),
    Shape("SemanticFPN stage 1", 128, 128, 256, 16),
    Shape("Segmenter ViT-B", 32, 32, 768, 16),
    Shape("HRNet-48 branch 1", 128, 256, 48, 8),
    Shape("SemanticFPN stage 3", 32, 32, 1024, 16),
    Shape("HRNet-48 branch 3", 32, 64, 192, 8),
    Shape("SemanticFPN stage 2", 64, 64, 512, 16),
    Shape("SemanticFPN stage 4", 16, 16, 2048, 16),
    Shape("HRNet-48 branch 2", 64, 128, 96, 8),
    Shape("HRNet-48 branch 4", 16, 32, 384, 8),
]
SMALL_SHAPES = [
    Shape("64×64, 256 channels", 64, 64, 256, 16),
    Shape("128×128, 64 channels", 128, 128, 64, 16, cpu_batch=2),
]


@dataclass(frozen=True)
class Row:
    """One measurement."""

    name: str
    shape: tuple[int, int, int, int]
    direction: str
    program: str
    median_ms: float
    ratio: float
    floor_share: float
    memory_maps: float | None


@dataclass
class Program:
    """A compiled function without arguments that starts work, and one that waits for it."""

    start: Callable[[], object]
    wait: Callable[[object], object]
    memory_bytes: int | None


def convolution(u, v, kernel):
    del v
    return conv(u, kernel)


def sdc(implementation):
    def run(u, v, kernel):
        return semantic_difference_conv(u, v, kernel, implementation=implementation)

    return run


def with_gradient(f):
    """Forward and backward; the forward result is returned, so that nobody may skip it."""

    def g(u, v, kernel):
        y, pullback = jax.vjp(f, u, v, kernel)
        return y, pullback(y)

    return g


def compiled(f, *arguments) -> Program:
    program = jax.jit(f).lower(*arguments).compile()
    memory = program.memory_analysis().temp_size_in_bytes
    return Program(lambda: program(*arguments), jax.block_until_ready, memory)


def compiled_all(functions, arguments, refusals=NotImplementedError) -> dict[Any, Program]:
    """Compiles several functions at once, which takes most of the time; says what cannot serve."""
    found = {}
    with ThreadPoolExecutor() as pool:
        waiting = {name: pool.submit(compiled, f, *arguments) for name, f in functions.items()}
    for name, program in waiting.items():
        try:
            found[name] = program.result()
        except refusals as refusal:
            print(f"  {name}: {str(refusal)[:200]}")
    return found


def operands(shape, dtype):
    """Features, guidance of as many channels, and a kernel: normal values."""
    channels = shape[-1]
    keys = jax.random.split(jax.random.key(0), 3)
    u, v = (jax.random.normal(key, shape).astype(dtype) for key in keys[:2])
    kernel = jax.random.normal(keys[2], (3, 3, channels, channels)) / channels
    return u, v, kernel.astype(dtype)


def programs(shape, dtype, wanted) -> dict[tuple[str, str], Program]:
    """(direction, name) → each that can serve the shape here; says what cannot."""
    functions = {"convolution": convolution} | {name: sdc(name) for name in IMPLEMENTATIONS}
    found = compiled_all(
        {
            (direction, name): with_gradient(f) if direction != "forward" else f
            for direction in DIRECTIONS
            for name, f in functions.items()
            if name in wanted
        },
        operands(shape, dtype),
    )
    if torch_forms:
        for direction in DIRECTIONS:
            theirs = torch_forms.programs(shape, dtype, direction != "forward", wanted)
            found |= {(direction, name): Program(*parts) for name, parts in theirs.items()}
    return found


def alternate(found: dict[str, Program], repeats: int, at_least_s: float) -> dict[str, float]:
    """Median milliseconds of each program; all of them take turns.

    A turn starts as many runs as fill `at_least_s` before it waits for the last.
    """
    runs, times = {}, {}
    for name, program in found.items():
        program.wait(program.start())  # compile, warm up
        start = time.perf_counter()
        program.wait(program.start())
        runs[name] = max(1, round(at_least_s / max(time.perf_counter() - start, 1e-6)))
        times[name] = []
    for _ in range(repeats):
        for name, program in found.items():
            start = time.perf_counter()
            for _ in range(runs[name]):
                last = program.start()
            program.wait(last)
            times[name].append(1e3 * (time.perf_counter() - start) / runs[name])
    return {name: statistics.median(values) for name, values in times.items()}


def ceilings(dtype) -> dict[str, float]:
    """Measured rates: operations per second of a large product, bytes per second of a copy."""
    on_cpu = jax.default_backend() == "cpu"
    n, m = (2048, 2**25) if on_cpu else (8192, 2**29)
    a = jax.random.normal(jax.random.key(1), (n, n)).astype(dtype)
    x = jax.random.normal(jax.random.key(2), (m,)).astype(dtype)
    found = {"product": compiled(jnp.dot, a, a), "copy": compiled(lambda x: x * 2, x)}
    ms = alternate(found, 5, 0.0 if on_cpu else 0.05)
    return {
        "operations_per_s": 2 * n**3 / (1e-3 * ms["product"]),
        "bytes_per_s": 2 * x.nbytes / (1e-3 * ms["copy"]),
    }


def floor_ms(shape, dtype, rates, backward: bool) -> float:
    """What no program can be faster than; the gradient is twice the products, U, V, W, Y thrice."""
    b, h, w, c = shape
    operations = 2 * b * h * w * 8 * c * c
    # U, V, Y and W; then dY, dU, dV, dW and once more U, V, W.
    size = jnp.dtype(dtype).itemsize
    maps, kernels = b * h * w * c * size, 9 * c * c * size
    moved = 3 * maps + kernels
    if backward:
        operations, moved = 3 * operations, moved + 5 * maps + 2 * kernels
    return 1e3 * max(operations / rates["operations_per_s"], moved / rates["bytes_per_s"])


def measure(shape: Shape, dtype, rates, *, repeats: int, wanted) -> list[Row]:
    """Both directions of one shape, printed as they come."""
    backend = jax.default_backend()
    size = shape.on(backend)
    maps = size[0] * size[1] * size[2] * size[3] * jnp.dtype(dtype).itemsize
    served = programs(size, dtype, wanted)
    rows = []
    for direction in DIRECTIONS:
        found = {name: program for (which, name), program in served.items() if which == direction}
        ms = alternate(found, repeats, 0.0 if backend == "cpu" else 0.02)
        floor = floor_ms(size, dtype, rates, direction != "forward")
        for name, median in ms.items():
            memory = found[name].memory_bytes
            row = Row(
                name=shape.name,
                shape=size,
                direction=direction,
                program=name,
                median_ms=median,
                ratio=median / ms["convolution"],
                floor_share=floor / median,
                memory_maps=None if memory is None else memory / maps,
            )
            rows.append(row)
            print(line(row), flush=True)
    return rows


HEADER = (
    f"{'input':20} {'direction':17} {'program':20} {'ms':>9} {'ratio':>6} {'floor':>6} {'maps':>6}"
)


def line(row: Row) -> str:
    memory = "" if row.memory_maps is None else f"{row.memory_maps:6.2f}"
    return (
        f"{'×'.join(map(str, row.shape)):20} {row.direction:17} {row.program:20} "
        f"{row.median_ms:9.3f} {row.ratio:6.2f} {row.floor_share:6.2f} {memory:>6}"
    )


def run(shapes: list[Shape], dtype, *, repeats: int, wanted=PROGRAMS, rates=None) -> dict:
    """Measures all shapes; returns what is saved. `rates` are the device's, if they are known."""
    device = jax.devices()[0].device_kind
    rates = rates or ceilings(dtype)
    print(f"jax {jax.__version__}, {device} ({platform.machine()}), {jnp.dtype(dtype).name}")
    tera, giga = rates["operations_per_s"] / 1e12, rates["bytes_per_s"] / 1e9
    print(f"measured: {tera:.2f} Tflop/s in a product, {giga:.1f} GB/s in a copy")
    rows = []
    for shape in shapes:
        u = jax.ShapeDtypeStruct(shape.on(jax.default_backend()), dtype)
        kernel = jax.ShapeDtypeStruct((3, 3, shape.channels, shape.channels), dtype)
        print(f"\n{shape.name}: {which_implementation(u, kernel)}\n{HEADER}")
        rows += measure(shape, dtype, rates, repeats=repeats, wanted=wanted)
    return {
        "jax": jax.__version__,
        "torch": torch_forms.torch.__version__ if torch_forms else None,
        "device": device,
        "dtype": jnp.dtype(dtype).name,
        **rates,
        "rows": [asdict(row) for row in rows],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also save the rows to this file")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--only", nargs="+", default=[""], help="shapes whose name contains TEXT")
    names = (*PROGRAMS, "reference")
    parser.add_argument("--programs", nargs="+", default=PROGRAMS, choices=names, metavar="NAME")
    options = parser.parse_args()
    chosen = [s for s in SHAPES + SMALL_SHAPES if any(text in s.name for text in options.only)]
    wanted = {"convolution", *options.programs}  # which the others are compared with
    result = run(chosen, jnp.dtype(options.dtype), repeats=options.repeats, wanted=wanted)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
