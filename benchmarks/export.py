"""An exported network against the plain call: how far apart, and how fast.

    python -m benchmarks.export RUN [--size 512,1024] [--rounds N] [--json FILE]

RUN is a work directory or a folder of `save_pretrained`. The network is exported for one size and
for any, read again as its user would, and called in turns with the network itself (`network(…)`),
on one random picture. Prints the size of the file, seconds to write and to compile, medians of the
calls, and the largest difference of probabilities.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from PIL import Image

import sdnjax
from sdnjax.commands.export import Size, export_network
from sdnjax.errors import InputError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="work directory, or a folder of save_pretrained")
    parser.add_argument("--size", default="512,1024", help="height,width [%(default)s]")
    parser.add_argument("--rounds", type=int, default=7, help="[%(default)s]")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    height, width = (int(n) for n in args.size.split(","))
    network = sdnjax.load(args.run)
    coarse = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height)))

    expected = network(picture, probabilities=True)
    calls: dict[str, Callable[[], Any]] = {"plain call": lambda: network(picture).labels}
    found: dict[str, dict[str, float]] = {"plain call": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("exported, one size", (height, width)), ("exported, any size", "any")):
            try:
                found[name], calls[name] = exported(network, Path(folder), size, picture, expected)
            except InputError as error:
                print(f"{name}: {error}")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(args.rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn:  # the first one compiles
                times[name].append(time.perf_counter() - begin)
    for name, seconds in times.items():
        found[name]["milliseconds"] = 1e3 * statistics.median(seconds)
        ratios = [a / b for a, b in zip(seconds, times["plain call"], strict=True)]
        found[name]["ratio"] = statistics.median(ratios)
        print(f"{name}: " + ", ".join(f"{key} {x:.4g}" for key, x in found[name].items()))
    if args.json is not None:
        title = f"{network.experiment.network_title}, {height}×{width}"
        args.json.write_text(json.dumps({"network": title, **found}, indent=1) + "\n")


def exported(
    network: sdnjax.Trained,
    folder: Path,
    size: Size,
    picture: np.ndarray,
    expected: sdnjax.Result,
) -> tuple[dict[str, float], Callable[[], Any]]:
    """What is measured once of an export, and a call that returns labels."""
    out = folder / ("any" if size == "any" else "one")
    begin = time.perf_counter()
    export_network(network, out, size=size, probabilities=True)
    written = time.perf_counter()
    call = jax.jit(export.deserialize(bytearray(out.read_bytes())).call)
    result = jax.device_get(call(picture[None]))
    compiled = time.perf_counter()
    difference = np.abs(result["probabilities"][0] - expected.probabilities()).max()
    labels_only = folder / f"{out.name}_labels"
    export_network(network, labels_only, size=size, report=lambda line: None)
    plain = jax.jit(export.deserialize(bytearray(labels_only.read_bytes())).call)
    found = {
        "MiB": out.stat().st_size / 2**20,
        "seconds to write": written - begin,
        "seconds to read, compile and run": compiled - written,
        "largest difference of probabilities": float(difference),
        "labels that differ": int((result["labels"][0] != expected.labels).sum()),
    }
    return found, lambda: np.asarray(plain(picture[None])["labels"])


if __name__ == "__main__":
    main()
