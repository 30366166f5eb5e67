"""DifNet's five random walks: in blocks of rows, with the whole matrices, and in PyTorch.

    python -m benchmarks.walks [--json FILE] [--repeats N] [--batch N]

One row for each grid, direction and program: the median time, its ratio to this library's, and
memory: XLA's temporaries beside operands and results; of PyTorch what its gradient keeps (on a GPU
the peak). All programs of a grid take turns in one process on the same cores, after their results
were compared. PyTorch takes part where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops import random_walk_step

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

WALKS, DEPTH, CLASSES = 5, 64, 21
GRIDS = (41, 64)  # of crops of 321² pixels, and of the canvas of 505²

Program = tuple[Callable[[], Any], Callable[[Any], Any], int | None]


def operands(batch: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Ψ as batch norm leaves it, `[5, B, h, w, 64]`, at half its size, and seeds."""
    rng = np.random.default_rng(0)
    psi = 0.5 * rng.normal(size=(WALKS, batch, side, side, DEPTH))
    return psi.astype(np.float32), rng.normal(size=(*psi.shape[1:4], CLASSES)).astype(np.float32)


def blocked(psis: jax.Array, seed: jax.Array) -> jax.Array:
    y, zero = seed, jnp.zeros((), jnp.float32)
    for psi in psis:
        y = random_walk_step(psi, y, seed, zero, zero)
    return y


def plain(psis: jax.Array, seed: jax.Array) -> jax.Array:
    """The same with the whole matrices, as one writes it."""
    y = seed
    for psi in psis:
        nodes = psi.reshape(psi.shape[0], -1, DEPTH)
        values = y.reshape(y.shape[0], -1, CLASSES)
        logits = jnp.einsum("bnd,bmd->bnm", nodes, nodes, precision=lax.Precision.HIGHEST)
        moved = jnp.einsum(
            "bnm,bmk->bnk", jax.nn.softmax(logits), values, precision=lax.Precision.HIGHEST
        )
        y = 0.5 * (0.5 * moved.reshape(y.shape) + 0.5 * seed) + 0.5 * y
    return y


def of_jax(function: Callable[..., jax.Array], arrays: Any, backward: bool) -> Program:
    def both(psis: jax.Array, seed: jax.Array) -> Any:
        return jax.grad(lambda *x: jnp.sum(jnp.sin(function(*x))), argnums=(0, 1))(psis, seed)

    arrays = jax.tree.map(jnp.asarray, arrays)
    compiled = jax.jit(both if backward else function).lower(*arrays).compile()
    memory = compiled.memory_analysis().temp_size_in_bytes
    return lambda: compiled(*arrays), jax.block_until_ready, memory


def of_torch(arrays: tuple[np.ndarray, np.ndarray], backward: bool) -> Program:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    psis = torch.from_numpy(arrays[0]).flatten(2, 3).to(device).requires_grad_(backward)
    seed = torch.from_numpy(arrays[1]).flatten(1, 2).to(device).requires_grad_(backward)

    def walks() -> Any:
        y = seed
        for psi in psis:
            moved = torch.softmax(psi @ psi.transpose(1, 2), dim=2) @ y
            y = 0.5 * (0.5 * moved + 0.5 * seed) + 0.5 * y
        return y

    def start() -> Any:
        if not backward:
            with torch.no_grad():
                return walks()
        return torch.autograd.grad(walks().sin().sum(), (psis, seed))

    def wait(result: Any) -> Any:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result

    if device.type == "cuda":
        wait(start())
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        wait(start())
        return start, wait, torch.cuda.max_memory_allocated() - before
    kept: dict[int, int] = {}

    def keep(x: Any) -> Any:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        graph = walks() if backward else None
    del graph
    return start, wait, sum(kept.values()) if backward else None


def measure(side: int, batch: int, backward: bool, repeats: int) -> list[dict[str, Any]]:
    arrays = operands(batch, side)
    programs = {
        "sdnjax": of_jax(blocked, arrays, backward),
        "plain, JAX": of_jax(plain, arrays, backward),
    }
    if torch is not None:
        programs["plain, PyTorch"] = of_torch(arrays, backward)
    results = {}
    for name, (start, wait, _) in programs.items():
        leaves = jax.tree.leaves(wait(start()))
        arrays_ = [np.asarray(x.cpu() if hasattr(x, "cpu") else x).reshape(-1) for x in leaves]
        results[name] = arrays_
    for name, found in results.items():
        for ours, theirs in zip(results["sdnjax"], found, strict=True):
            error = np.abs(ours - theirs).max() / np.abs(ours).max()
            assert error < 1e-4, (name, error)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, (start, wait, _) in programs.items():
            begin = time.perf_counter()
            wait(start())
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        {
            "grid": side,
            "batch": batch,
            "direction": "gradient" if backward else "forward",
            "program": name,
            "milliseconds": 1e3 * medians[name],
            "ratio": medians[name] / medians["sdnjax"],
            "mib": None if programs[name][2] is None else programs[name][2] / 2**20,
        }
        for name in programs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also save the rows to this file")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=None, help="images [2; on a GPU 16]")
    options = parser.parse_args()
    device = jax.devices()[0]
    batch = options.batch or (2 if device.platform == "cpu" else 16)
    rows = []
    print(f"{'grid':8}{'direction':10}{'program':16}{'ms':>10}{'ratio':>8}{'MiB':>10}")
    for side in GRIDS:
        for backward in (False, True):
            for row in measure(side, batch, backward, options.repeats):
                rows.append(row)
                mib = "" if row["mib"] is None else f"{row['mib']:.0f}"
                print(
                    f"{side}×{side:<5}{row['direction']:10}{row['program']:16}"
                    f"{row['milliseconds']:10.1f}{row['ratio']:8.2f}{mib:>10}"
                )
    if options.json:
        about = {
            "device": device.device_kind,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "jax": jax.__version__,
            "torch": None if torch is None else torch.__version__,
        }
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
