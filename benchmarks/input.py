"""The training pipeline against a PyTorch DataLoader with OpenCV, in images per second.

    python -m benchmarks.input [--json FILE] [--workers N] [--rounds N] [--only TEXT …]

Both read the same generated files, as large and as hard to decode as those of ADE20K, Cityscapes
and CamVid, and augment alike: random scale ½–2, crop with the largest-class rule, mirror,
photometric distortion, normalise, pad. They take turns in one process, with as many threads as
the other has processes. What decoding alone takes is measured in the same way: the floor of each.
Needs PyTorch and OpenCV.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks import torch_input
from sdnjax.data import Data, train_batches
from sdnjax.data.reading.source import ItemSource
from sdnjax.data.sets import label_space
from sdnjax.data.sets.items import Pair


@dataclasses.dataclass(frozen=True)
class Kind:
    """A data set's form: sizes, files, crop, and how rough its images are."""

    name: str
    size: tuple[int, int]
    suffix: str
    crop_size: tuple[int, int]
    base_size: tuple[int, int] | None
    detail: float
    noise: float
    count: int
    batch_size: int


KINDS = [
    Kind("ADE20K", (512, 683), ".jpg", (512, 512), (2048, 512), 25, 4, 48, 8),
    Kind("Cityscapes", (1024, 2048), ".png", (512, 1024), None, 6, 1.2, 16, 4),
    Kind("CamVid", (360, 480), ".png", (360, 480), None, 12, 1, 48, 8),
]


@dataclasses.dataclass(frozen=True)
class Row:
    """One data set's result; rates are medians over the rounds, in images per second.

    The processors' milliseconds per image depend less on what else the machine does.
    """

    name: str
    image_kilobytes: float
    ours: float
    theirs: float
    ratio: float
    ours_cpu_ms: float
    theirs_cpu_ms: float
    ours_decoding_alone: float
    theirs_decoding_alone: float


def write_files(kind: Kind, root: Path) -> list[Pair]:
    """Smooth fields of several scales with noise, and labels of 40 cells in 11 classes."""
    rng = np.random.default_rng(0)
    h, w = kind.size
    pairs = []
    for k in range(kind.count):
        image = np.full((h, w, 3), 120, np.float32)
        for step, strength in ((6, kind.detail), (24, 18), (96, 40)):
            field = rng.normal(size=(h // step + 2, w // step + 2, 3)).astype(np.float32)
            field = 0.3 * field + 0.7 * field[..., :1]
            image += strength * cv2.resize(field, (w, h))
        image += kind.noise * rng.normal(size=(h, w, 1)).astype(np.float32)
        pair = Pair(f"{k:03}", root / f"{k:03}{kind.suffix}", root / f"{k:03}_label.png")
        image = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
        image.save(pair.image, **({"quality": 90} if kind.suffix == ".jpg" else {}))
        centres, classes = rng.uniform(size=(40, 2)) * (h, w), rng.integers(0, 11, 40)
        y, x = np.mgrid[:h:4, :w:4]
        cells = np.argmin([(y - a) ** 2 + (x - b) ** 2 for a, b in centres], 0)
        label = classes.astype(np.uint8)[cells].repeat(4, 0).repeat(4, 1)[:h, :w]
        Image.fromarray(label).save(pair.label)
        pairs.append(pair)
    return pairs


def rate(take: Callable[[], int], *, warm: float = 2.0, timed: float = 3.0) -> np.ndarray:
    """Images per second, and milliseconds of processors per image, over `timed` seconds.

    Before, there is a while in which this pipeline uses up what it had read ahead, and the
    others, which have just stopped, read ahead.
    """

    def images_in(seconds: float) -> np.ndarray:
        begin = now = time.perf_counter()
        busy = cpu_seconds()
        images = 0
        while now - begin < seconds:
            images += take()
            now = time.perf_counter()
        return np.array([images / (now - begin), 1e3 * (cpu_seconds() - busy) / images])

    images_in(warm)
    return images_in(timed)


def cpu_seconds() -> float:
    """Processor time of this process and of its workers so far; of itself alone without /proc."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure(kind: Kind, root: Path, workers: int, rounds: int) -> Row:
    pairs = write_files(kind, root)
    source = ItemSource(label_space("camvid"), "train", pairs)
    data = Data(name="camvid", crop_size=kind.crop_size, base_size=kind.base_size, workers=workers)
    settings = torch_input.Settings(kind.crop_size, kind.base_size, data.mean, data.std)
    options = {"batch_size": kind.batch_size, "workers": workers}
    files = [(str(p.image), str(p.label)) for p in pairs]
    theirs = torch_input.batches(files, settings, **options)
    theirs_decoded = torch_input.batches(files, settings, **options, decode_only=True)
    pool = ThreadPoolExecutor(workers)
    with train_batches(data, seed=0, batch_size=kind.batch_size, source=source) as ours:
        turns = {
            "ours": lambda: len(next(ours)["image"]),
            "theirs": lambda: len(next(theirs)[0]),
            "ours_decoding_alone": _decoding(source, kind.batch_size, pool),
            "theirs_decoding_alone": lambda: len(next(theirs_decoded)[0]),
        }
        rates = {name: [] for name in turns}
        for _ in range(rounds):
            for name, take in turns.items():
                rates[name].append(rate(take))
    pool.shutdown()
    speeds = {name: np.array(values)[:, 0] for name, values in rates.items()}
    cpu = {name: float(np.median(np.array(values)[:, 1])) for name, values in rates.items()}
    return Row(
        name=kind.name,
        image_kilobytes=statistics.mean(p.image.stat().st_size for p in pairs) / 1000,
        ratio=float(np.median(speeds["ours"] / speeds["theirs"])),
        ours_cpu_ms=cpu["ours"],
        theirs_cpu_ms=cpu["theirs"],
        **{name: float(np.median(values)) for name, values in speeds.items()},
    )


def _decoding(source: ItemSource, count: int, pool: ThreadPoolExecutor) -> Callable[[], int]:
    """Reads and decodes `count` examples, one after the other, in the threads of `pool`."""

    def endless() -> Iterator[int]:
        while True:
            yield from range(len(source))

    numbers = endless()

    def take() -> int:
        return sum(
            example.label.size > 0
            for example in pool.map(source.__getitem__, [next(numbers) for _ in range(count)])
        )

    return take


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--workers", type=int, default=2, help="threads, and processes [2]")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each [5]")
    parser.add_argument("--only", nargs="+", default=[""], help="data sets whose name has this")
    args = parser.parse_args()
    rows = []
    print(
        f"{'files like':<12}{'kB':>6}{'ours':>10}{'theirs':>9}{'ratio':>8}"
        f"{'CPU ms: ours':>15}{'theirs':>9}{'ratio':>8}"
        f"{'decoding alone: ours':>24}{'theirs':>10}  (images/s; share of the time)"
    )
    for kind in KINDS:
        if not any(text.lower() in kind.name.lower() for text in args.only):
            continue
        with tempfile.TemporaryDirectory() as root:
            row = measure(kind, Path(root), args.workers, args.rounds)
        rows.append(row)
        ours, theirs = row.ours_decoding_alone, row.theirs_decoding_alone
        print(
            f"{row.name:<12}{row.image_kilobytes:>6.0f}{row.ours:>10.1f}{row.theirs:>9.1f}"
            f"{row.ratio:>8.2f}{row.ours_cpu_ms:>15.1f}{row.theirs_cpu_ms:>9.1f}"
            f"{row.theirs_cpu_ms / row.ours_cpu_ms:>8.2f}{ours:>17.1f} ({row.ours / ours:>4.0%})"
            f"{theirs:>10.1f} ({row.theirs / theirs:>4.0%})",
            flush=True,
        )
    if args.json:
        machine = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "workers": args.workers,
            "rounds": args.rounds,
            "opencv": cv2.__version__,
            "torch": torch.__version__,
        }
        result = {**machine, "rows": [dataclasses.asdict(row) for row in rows]}
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
