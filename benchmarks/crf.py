"""DenseCRF against the public C++ code, and the exact filter against the plain one.

    python -m benchmarks.crf [--repeats N] [--picture FILE …] [--only TEXT] [--json FILE]

First whole post-processings of one picture, from probabilities to labels, the lattice's index
included: the library's and, where it is installed (`pip install pydensecrf2`), the public C++
code's, which runs on one core. Sizes of pictures of PASCAL VOC 2012 and ADE20K, 21 and 150 classes,
parameters of the public example and of DeepLabV2. Each row also tells how far the marginals are
apart, and the share of equal labels. Then the exact bilateral filter in blocks against the same
with the whole kernel. Programs take turns in one process; times are medians.

The ratio is the library's time over the C++ code's. Without `--picture` pictures are drawn: smooth
regions with grain. Lattices of photographs are larger, so give some.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from sdnjax.inference.dense_crf import DenseCRF
from sdnjax.ops.crf import bilateral_features, build_index, exact_filter

try:
    from pydensecrf import densecrf
except ImportError:
    densecrf = None

SIZES = {"VOC 375×500, 21 classes": (375, 500, 21), "ADE20K 512×683, 150 classes": (512, 683, 150)}
PARAMETERS = {"example, 5 iterations": DenseCRF(), "DeepLabV2, 10 iterations": DenseCRF.voc()}
GRIDS = {"exact 64×64, 21 classes": (64, 64, 21), "exact 96×96, 21 classes": (96, 96, 21)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--picture", type=Path, nargs="*", default=[], help="resized to each size")
    parser.add_argument("--only", default="", help="rows whose name has this")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    rows = []
    for size_name, size in SIZES.items():
        for name, crf in PARAMETERS.items():
            if args.only in f"{size_name}, {name}":
                for path in args.picture or [None]:
                    where = "drawn" if path is None else path.name
                    title = f"{size_name}, {name}, {where}"
                    rows.append(post_processing(title, crf, size, path, args.repeats))
                    print(line_of(rows[-1]), flush=True)
    for name, size in GRIDS.items():
        if args.only in name:
            rows.append(exact(name, size, args.repeats))
            print(line_of(rows[-1]), flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def line_of(row: dict) -> str:
    others = ", ".join(f"{key} {value:.3g}" for key, value in row.items() if key != "name")
    return f"{row['name']}: {others}"


def scene(size: tuple[int, int, int], path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a few regions, uncertain at their borders, and a picture."""
    h, w, k = size
    rng = np.random.default_rng(0)
    seeds = rng.random((12, 2)) * (h, w)
    y, x = np.mgrid[:h, :w]
    nearest = np.argmin([(y - a) ** 2 + (x - b) ** 2 for a, b in seeds], axis=0)
    classes = rng.choice(k, len(seeds))[nearest]
    scores = np.stack([6 * gaussian_filter((classes == c) * 1.0, 5) for c in range(k)], axis=-1)
    scores += np.stack([gaussian_filter(rng.normal(0, 8, (h, w)), 3) for _ in range(k)], axis=-1)
    p = np.exp(scores)
    p = (p / p.sum(axis=-1, keepdims=True)).astype(np.float32)
    if path is not None:
        return p, np.array(
            Image.open(path).convert("RGB").resize((w, h), Image.Resampling.BILINEAR)
        )
    colours = rng.integers(20, 236, (k, 3))[classes]
    colours = gaussian_filter(colours.astype(float), (1, 1, 0)) + rng.normal(0, 2, (h, w, 3))
    return p, np.clip(colours, 0, 255).astype(np.uint8)


def public(crf: DenseCRF, p: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Marginals by the public C++ code."""
    h, w, k = p.shape
    theirs = densecrf.DenseCRF2D(w, h, k)
    energy = -np.log(np.clip(p, 1e-5, 1)).reshape(-1, k).T
    theirs.setUnaryEnergy(np.ascontiguousarray(energy))
    theirs.addPairwiseGaussian(sxy=crf.position_sigma, compat=crf.position_weight)
    theirs.addPairwiseBilateral(
        sxy=crf.bilateral_sigma_xy,
        srgb=crf.bilateral_sigma_rgb,
        rgbim=picture,
        compat=crf.bilateral_weight,
    )
    return np.array(theirs.inference(crf.iterations)).T.reshape(h, w, k)


def in_turns(programs: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of each program, in each of the rounds after one that does not count."""
    times: list[list[float]] = [[] for _ in programs]
    for turn in range(repeats + 1):
        for program, own in zip(programs, times, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(program())
            if turn:
                own.append(time.perf_counter() - begin)
    return times


def post_processing(
    name: str, crf: DenseCRF, size: tuple[int, int, int], path: Path | None, repeats: int
) -> dict:
    p, picture = scene(size, path)
    begin = time.perf_counter()
    crf(p, picture)
    first = time.perf_counter() - begin
    features = bilateral_features(picture, crf.bilateral_sigma_xy, crf.bilateral_sigma_rgb)
    programs: list[Callable[[], object]] = [lambda: crf(p, picture), lambda: build_index(features)]
    if densecrf is not None:
        programs.append(lambda: public(crf, p, picture).argmax(axis=-1))
    times = in_turns(programs, repeats)
    used = len(np.unique(build_index(features).vertices)) / len(features)
    row = {
        "name": name,
        "lattice points per pixel": used,
        "first s": first,
        "s": statistics.median(times[0]),
        "of which the bilateral index s": statistics.median(times[1]),
    }
    if densecrf is not None:
        ours, theirs = crf.marginals(p, picture), public(crf, p, picture)
        row["C++ s"] = statistics.median(times[2])
        row["ratio"] = statistics.median(a / b for a, b in zip(times[0], times[2], strict=True))
        row["largest difference"] = float(np.abs(ours - theirs).max())
        row["equal labels"] = float((ours.argmax(-1) == theirs.argmax(-1)).mean())
    return row


def exact(name: str, size: tuple[int, int, int], repeats: int) -> dict:
    """Value and gradient of the exact filter, in blocks and with the whole kernel at once."""
    p, picture = scene(size, None)
    features = jnp.asarray(bilateral_features(picture, 40.0, 3.0))
    values = p.reshape(len(features), -1)

    def whole(values):
        squares = sum(jnp.square(features[:, i, None] - features[None, :, i]) for i in range(5))
        return jnp.exp(-0.5 * squares) @ values

    def gradient(apply):
        def loss(values):
            return jnp.sum(jnp.square(apply(values)))

        return jax.jit(jax.value_and_grad(loss)).lower(values).compile()

    blocked, plain = gradient(exact_filter(features)), gradient(whole)
    times = in_turns([lambda: blocked(values), lambda: plain(values)], repeats)
    megabytes = [f.memory_analysis().temp_size_in_bytes / 2**20 for f in (blocked, plain)]
    return {
        "name": f"{name}, value and gradient",
        "s": statistics.median(times[0]),
        "whole kernel s": statistics.median(times[1]),
        "ratio": statistics.median(a / b for a, b in zip(*times, strict=True)),
        "temporaries MiB": megabytes[0],
        "whole kernel MiB": megabytes[1],
    }


if __name__ == "__main__":
    main()
