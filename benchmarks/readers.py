"""How many pictures a host can make ready: threads against processes, 32 bits against 8.

    python -m benchmarks.readers [--json FILE] [--rounds N] [--only TEXT …]

Trains nothing: takes batches of the pipeline as training does, of the generated files of
`benchmarks.input`, under several settings in turn, and prints images per second, per core of this
machine, the processor's milliseconds and the bytes of an image that cross to the devices, and the
memory of all processes. Needs what `benchmarks.input` needs, and psutil.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.input import KINDS, Kind, write_files
from sdnjax.data import Data, train_batches

CORES = len(os.sched_getaffinity(0))
SETTINGS: dict[str, dict[str, Any]] = {
    "1 thread": {"workers": 1},
    f"{CORES} threads": {"workers": CORES},
    f"{CORES} processes": {"workers": 1, "processes": CORES},
    f"{CORES} processes, 8 bits": {"workers": 1, "processes": CORES, "transfer": "uint8"},
}


def measure(kind: Kind, root: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over rounds in which the settings take turns."""
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
    for pair in write_files(kind, root):
        name = pair.name
        pair.image.rename(root / "images" / "train" / f"{name}{kind.suffix}")
        pair.label.rename(root / "labels" / "train" / f"{name}.png")
    rows = "\n".join(f"c{i},{i},{20 * i} {255 - 20 * i} 90" for i in range(11))
    (root / "classes.csv").write_text(f"class,value,color\n{rows}\n")
    sizes = {"crop_size": kind.crop_size, "base_size": kind.base_size}
    base = Data(name="folder", dir=str(root), val_split=None, **sizes)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(rounds):
        for name, changed in SETTINGS.items():
            found[name].append(_one(base, changed, kind.batch_size))
    return {
        name: {key: statistics.median(r[key] for r in results) for key in results[0]}
        for name, results in found.items()
    }


def _one(base: Data, changed: dict[str, Any], size: int, seconds: float = 6.0) -> dict[str, float]:
    data = Data(**{**vars(base), **changed})
    with train_batches(data, seed=0, batch_size=size) as batches:
        batch = next(batches)
        for _ in range(4):  # started, compiled, and what was read ahead used up
            next(batches)
        begin, busy, images = time.perf_counter(), _processor_seconds(), 0
        while time.perf_counter() - begin < seconds:
            images += len(next(batches)["label"])
        wall = time.perf_counter() - begin
        memory = sum(p.memory_info().rss for p in _family())
        spent = _processor_seconds() - busy
    return {
        "images_per_second": images / wall,
        "processor_ms": 1e3 * spent / images,
        "bytes_per_image": sum(x.nbytes for x in batch.values()) / size,
        "memory_gib": memory / 2**30,
    }


def _family() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _processor_seconds() -> float:
    total = 0.0
    for process in _family():
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write what was found to this file")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each [%(default)s]")
    parser.add_argument("--only", nargs="+", default=[""], help="data sets whose name has this")
    args = parser.parse_args()
    results = {}
    for kind in KINDS:
        if not any(text.lower() in kind.name.lower() for text in args.only):
            continue
        with tempfile.TemporaryDirectory() as root:
            results[kind.name] = measure(kind, Path(root), args.rounds)
        for name, row in results[kind.name].items():
            print(
                f"{kind.name:12s}{name:24s}{row['images_per_second']:7.1f} images/s, "
                f"{row['images_per_second'] / CORES:6.1f} a core, {row['processor_ms']:6.1f} ms of "
                f"a processor, {row['bytes_per_image'] / 2**20:5.2f} MiB an image, "
                f"{row['memory_gib']:5.2f} GiB",
                flush=True,
            )
    if args.json is not None:
        machine = {"machine": platform.machine(), "cores": CORES, "rounds": args.rounds}
        args.json.write_text(json.dumps({**machine, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
