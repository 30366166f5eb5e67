"""E-CRF's two operators against their plain forms, and against PyTorch.

    python -m benchmarks.ecrf [--json FILE] [--repeats N] [--size B H W C] [--segments N]

One row per direction and program: the median time, its ratio to ours, and memory beside operands
and results in units of the feature map. "shifts" is nine shifted multiply-adds left to automatic
differentiation, "unfolded" holds all windows; of the superpixels, "loop" is one masked mean after
the other, as the released code has it. All programs take turns in one process.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.sdc import Program, alternate, compiled
from sdnjax.ops.message_passing import pairwise_message, superpixel_means
from sdnjax.ops.neighbours import shift, tap_offsets

try:
    import torch
except ImportError:
    torch = None

OFFSETS = tap_offsets(3, 2)


@dataclass(frozen=True)
class Row:
    """One measurement."""

    shape: tuple[int, ...]
    what: str
    direction: str
    program: str
    median_ms: float
    ratio: float
    memory_maps: float | None


def ours(f, e, a):
    return pairwise_message(f, e, a)[0]


def shifts(f, e, a):
    g = jax.nn.sigmoid(a)[..., None] * f
    taps = (jnp.sum(e * shift(e, o), -1, keepdims=True) * shift(g, o) for o in OFFSETS)
    return sum(taps)


def unfolded(f, e, a):
    def windows(x):
        return jnp.stack([shift(x, o) for o in OFFSETS], axis=3)

    psi = jnp.einsum("bhwkc,bhwc->bhwk", windows(e), e)
    psi *= jax.nn.sigmoid(windows(a[..., None])[..., 0])
    return jnp.einsum("bhwk,bhwkc->bhwc", psi, windows(f))


def means(reduction, segments):
    return lambda f, labels: superpixel_means(f, labels, segments, reduction=reduction)


def loop(segments):
    def run(f, labels):
        def one(s, total):
            member = (labels == s)[..., None].astype(f.dtype)
            mean = jnp.sum(f * member, (1, 2), keepdims=True)
            return total + member * mean / (jnp.sum(member, (1, 2), keepdims=True) + 1e-5)

        return jax.lax.fori_loop(0, segments, one, jnp.zeros_like(f))

    return run


def with_gradient(f, count):
    """Forward and backward for the first `count` arguments."""

    def g(*arguments):
        rest = arguments[count:]
        y, pullback = jax.vjp(lambda *x: f(*x, *rest), *arguments[:count])
        return y, pullback(y)

    return g


def torch_programs(arrays, labels, segments, backward) -> dict[str, dict[str, Program]]:
    """The released module's forms: unfolded windows; a loop over superpixels."""
    F = torch.nn.functional
    f, e, a = (torch.from_numpy(np.moveaxis(np.asarray(x), 3, 1).copy()) for x in arrays)
    labels = torch.from_numpy(np.array(labels))[:, None]
    n, _, h, w = f.shape
    tensors = [x.requires_grad_(backward) for x in (f, e, a)]

    def windows(x):
        return F.unfold(x, 3, dilation=2, padding=2).view(n, x.shape[1], 9, h, w)

    def messages(f, e, a):
        psi = torch.sigmoid(windows(a)[:, 0]) * (windows(e) * e[:, :, None]).sum(1)
        return (windows(f) * psi[:, None]).sum(2)

    def superpixels(f):
        result = torch.zeros_like(f)
        for s in range(segments):
            member = labels == s
            count = member.sum((2, 3), keepdim=True) + 1e-5
            result = result + (member * f).sum((2, 3), keepdim=True) / count * member
        return result

    def program(function, arguments):
        def start():
            if not backward:
                with torch.no_grad():
                    return function(*arguments)
            y = function(*arguments)
            return torch.autograd.grad(y, arguments, y.detach())

        return Program(start, lambda result: result, None)

    return {
        "messages": {"torch unfolded": program(messages, tensors)},
        "superpixels": {"torch loop": program(superpixels, tensors[:1])},
    }


def measure(shape, segments: int, repeats: int) -> list[Row]:
    """Both operators and directions of one size, printed as they come."""
    b, h, w, _ = shape
    keys = jax.random.split(jax.random.key(0), 3)
    f = jax.random.normal(keys[0], shape)
    e = jax.random.normal(keys[1], (b, h, w, 64))
    a = jax.random.normal(keys[2], (b, h, w))
    side = int(np.ceil(np.sqrt(segments)))
    grid = np.arange(h)[:, None] * side // h * side + np.arange(w) * side // w
    labels = jnp.asarray(np.broadcast_to(grid % segments, (b, h, w)), jnp.int32)
    rows = []
    for direction in ("forward", "forward+backward"):
        backward = direction != "forward"

        def make(function, *arguments, count, backward=backward):
            function = with_gradient(function, count) if backward else function
            return compiled(function, *arguments)

        found = {
            "messages": {g.__name__: make(g, f, e, a, count=3) for g in (ours, shifts, unfolded)},
            "superpixels": {
                name: make(g, f, labels, count=1)
                for name, g in (
                    ("ours", means(None, segments)),
                    ("one_hot", means("one_hot", segments)),
                    ("loop", loop(segments)),
                )
            },
        }
        if torch is not None:
            others = torch_programs((f, e, a[..., None]), labels, segments, backward)
            found = {what: found[what] | others[what] for what in found}
        for what, programs in found.items():
            few = 1 if what == "superpixels" else repeats
            ms = alternate(programs, max(3, few), 0.0)
            for name, median in ms.items():
                memory = programs[name].memory_bytes
                maps = None if memory is None else memory / f.nbytes
                row = Row(shape, what, direction, name, median, median / ms["ours"], maps)
                rows.append(row)
                shown = "" if maps is None else f"{maps:6.2f}"
                print(
                    f"{what:12} {direction:17} {name:15} {median:10.1f} ms  × {row.ratio:6.2f} "
                    f"{shown:>8} maps",
                    flush=True,
                )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also save the rows to this file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=4, default=(2, 128, 128, 512))
    parser.add_argument("--segments", type=int, default=200)
    options = parser.parse_args()
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__}, {device}, float32, {'×'.join(map(str, options.size))}")
    rows = measure(tuple(options.size), options.segments, options.repeats)
    if options.json:
        found = {"jax": jax.__version__, "device": device, "rows": [asdict(r) for r in rows]}
        found["torch"] = torch.__version__ if torch is not None else None
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
