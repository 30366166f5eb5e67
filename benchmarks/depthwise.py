"""Depthwise convolutions: XLA's grouped convolution against the library's form, and PyTorch's.

    python -m benchmarks.depthwise [--rounds N] [--json FILE]

Layers of EfficientNet-Lite0 (batches of 8 of 160×224) and of MiT-B0's feed-forward parts (512×512),
forward, and forward with the gradients of input and kernel. All run in one process and take turns;
times are medians, ratios the grouped convolution's over ours, and PyTorch's over ours where it is
installed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax

from benchmarks.sdc import Program, alternate, compiled
from sdnjax.ops.conv import conv

# Input [B, H, W, C], taps a side, stride.
LAYERS = (
    ((8, 80, 112, 32), 3, 1),
    ((8, 80, 112, 96), 3, 2),
    ((8, 40, 56, 144), 5, 2),
    ((8, 20, 28, 240), 3, 2),
    ((8, 10, 14, 672), 5, 1),
    ((1, 128, 128, 128), 3, 1),
    ((1, 64, 64, 256), 3, 1),
    ((1, 16, 16, 1024), 3, 1),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="[%(default)s]")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    about = f"jax {jax.__version__}, {jax.default_backend()}"
    rows: list[dict[str, Any]] = []
    for shape, size, stride in LAYERS:
        for gradient in (False, True):
            ms = alternate(programs(shape, size, stride, gradient), args.rounds, 0.02)
            ratios = {name: t / ms["ours"] for name, t in ms.items() if name != "ours"}
            what = "with gradients" if gradient else "forward"
            rows.append(
                {"shape": shape, "size": size, "stride": stride, "what": what, "ms": ms}
                | {"ratios": ratios}
            )
            shown = "  ".join(f"{n} {ms[n]:.1f} (×{r:.1f})" for n, r in ratios.items())
            layer = f"{'×'.join(map(str, shape))}, {size}×{size}, stride {stride}, {what}"
            print(f"{layer:52} ours {ms['ours']:7.2f} ms  {shown}", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


def grouped(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Any) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def programs(shape: tuple[int, ...], size: int, stride: int, gradient: bool) -> dict[str, Program]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(size, size, 1, shape[-1])).astype(np.float32)
    strides, pads = (stride, stride), ((size // 2,) * 2,) * 2
    ours = functools.partial(conv, groups=shape[-1])
    dy = rng.normal(size=ours(x, kernel, strides, pads).shape).astype(np.float32)

    def program(convolve: Callable) -> Program:
        def forward(x, kernel, dy):
            return convolve(x, kernel, strides, pads)

        def backward(x, kernel, dy):
            y, pull = jax.vjp(lambda x, kernel: forward(x, kernel, dy), x, kernel)
            return y, pull(dy)

        return compiled(backward if gradient else forward, x, kernel, dy)

    found = {"ours": program(ours), "XLA, grouped": program(grouped)}
    with contextlib.suppress(ImportError):
        found["torch"] = torch_program(x, kernel, dy, stride, gradient)
    return found


def torch_program(
    x: np.ndarray, kernel: np.ndarray, dy: np.ndarray, stride: int, gradient: bool
) -> Program:
    import torch  # noqa: PLC0415

    def tensor(array: np.ndarray, axes: tuple[int, ...]) -> torch.Tensor:
        packed = torch.from_numpy(array.transpose(axes).copy())
        return packed.contiguous(memory_format=torch.channels_last).requires_grad_(gradient)

    images, weights = tensor(x, (0, 3, 1, 2)), tensor(kernel, (3, 2, 0, 1))
    upstream = torch.from_numpy(dy.transpose(0, 3, 1, 2).copy())

    def start() -> object:
        with torch.set_grad_enabled(gradient):
            y = torch.nn.functional.conv2d(
                images, weights, stride=stride, padding=kernel.shape[0] // 2, groups=x.shape[-1]
            )
            return torch.autograd.grad(y, (images, weights), upstream) if gradient else y

    return Program(start, lambda result: result, None)


if __name__ == "__main__":
    main()
