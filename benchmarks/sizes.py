"""Exact sizes against sizes padded to few: compilations and time over ADE20K's pictures.

    python -m benchmarks.sizes [--model NAME] [--multiple N] [--rounds N] [--json FILE]

Whole pictures of the sizes of ADE20K's first 56 validation images are predicted by the protocol
`ade20k` as it is, which compiles every size, and with `evaluation.size_multiple`. The first pass
compiles; further ones take turns. Values of pictures and parameters are random: what padding
does to the scores of a trained network stands in docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import protocol
from sdnjax.models import create_model
from sdnjax.ops.normalization import Normalization

# Width and height, as the set's own list of validation images (validation.odgt) has them.
WIDTH_HEIGHT = """
683x512 500x364 400x300 683x512 400x300 683x512 500x342 375x500 768x512 500x345 478x320 568x400
430x430 683x512 512x682 480x640 204x380 320x240 600x402 256x256 683x512 400x365 267x400 683x512
256x256 500x346 527x512 512x767 324x335 683x512 683x512 683x512 320x240 758x512 916x512 400x400
283x397 333x214 316x466 512x683 640x427 257x199 430x296 765x512 683x512 500x375 683x512 768x512
683x512 560x300 640x480 683x512 768x512 512x683 680x512 683x512
"""
SIZES = [tuple(map(int, size.split("x")))[::-1] for size in WIDTH_HEIGHT.split()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="fcn_r18-d8", help="[%(default)s]")
    parser.add_argument("--multiple", type=int, default=32, help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=1, help="after the first [%(default)s]")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()

    network = create_model(args.model, num_classes=150)
    variables = jax.jit(lambda key: network.init(key, jnp.zeros((1, 64, 64, 3)), train=False))(
        jax.random.key(0)
    )
    exact = protocol("ade20k")
    protocols = [exact, dataclasses.replace(exact, size_multiple=args.multiple)]
    normalization = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    predictors = [Predictor(network, p, normalization) for p in protocols]
    variables = predictors[0].place(variables)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]

    def seconds(predictor: Predictor) -> float:
        begin = time.perf_counter()
        for picture in pictures:
            predictor.labels(variables, [picture])
        return time.perf_counter() - begin

    first = [seconds(p) for p in predictors]
    again = [[seconds(p) for p in predictors] for _ in range(args.rounds)]
    rows = []
    print(f"{len(SIZES)} pictures of {len(set(SIZES))} sizes, {args.model}, {jax.devices()[0]}")
    for i, (p, predictor) in enumerate(zip(protocols, predictors, strict=True)):
        row = {
            "size_multiple": p.size_multiple,
            "compilations": dict(predictor.compilations),
            "first_seconds": first[i],
            "seconds": statistics.median(times[i] for times in again),
        }
        rows.append(row)
        print(
            f"multiples of {p.size_multiple:2d}: {predictor.compilations['network']} sizes of the "
            f"network's input and {predictor.compilations['resampling']} pieces compiled, first "
            f"pass {row['first_seconds']:.1f} s, later {row['seconds']:.1f} s"
        )
    print(
        f"exact over padded: first pass {first[0] / first[1]:.2f}, later "
        f"{statistics.median(a / b for a, b in again):.2f}"
    )
    if args.json is not None:
        args.json.write_text(json.dumps({"model": args.model, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
