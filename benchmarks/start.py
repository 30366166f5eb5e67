"""From the command to the first step, and to the first prediction, cold and warm.

    python -m benchmarks.start [--against CHECKOUT] [--rounds N] [--json FILE]

Runs `train.py configs/shapes_fcn_r18_sdn.py` up to the line of its first step, and `predict.py` on
one picture with a run of one step, as a user does, each once with an empty cache of compiled
functions and then with what that left. `--against` names another checkout of the library, which
takes turns with this one. Prints seconds, the processor's seconds, and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
TRAIN = ("train.py", "configs/shapes_fcn_r18_sdn.py", "--steps", "1", "--log_every", "1")
TRAIN = (*TRAIN, "--tensorboard", "false")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--json", type=Path, help="also write the medians to this file")
    args = parser.parse_args()
    checkouts = {"here": HERE} | ({} if args.against is None else {"there": args.against})
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        values = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(values).save(picture)
        for _ in range(args.rounds):
            for name, root in checkouts.items():
                for key, times in measured(root.resolve(), Path(folder) / name, picture):
                    found.setdefault(f"{key} {name}", []).append(times)
    medians = {
        key: [statistics.median(column) for column in zip(*rounds, strict=True)]
        for key, rounds in found.items()
    }
    for key, (wall, processor) in medians.items():
        print(f"{key:32s} {wall:6.1f} s, {processor:6.1f} s of processor time")
    if args.against is not None:
        for key in sorted({key.rpartition(" ")[0] for key in medians}):
            ours, theirs = medians[f"{key} here"], medians[f"{key} there"]
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            print(f"{key:26s} there / here: {ratios[0]:.2f}, processor {ratios[1]:.2f}")
    if args.json is not None:
        args.json.write_text(json.dumps(medians, indent=1) + "\n")


def measured(root: Path, work: Path, picture: Path) -> list[tuple[str, tuple[float, float]]]:
    """Cold and warm times of one checkout: until the first step, until the first prediction."""
    cache = work / "cache"
    shutil.rmtree(cache / "sdnjax" / "compiled", ignore_errors=True)
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(root)}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    run = work / "run"
    train = (*TRAIN, "--workdir", str(run), "--overwrite")
    predict = ("predict.py", str(run), str(picture), "--out", str(work / "out"))
    if not (cache / "sdnjax").is_dir():  # the data set is generated once
        until(root, train, environment, None)
        shutil.rmtree(cache / "sdnjax" / "compiled", ignore_errors=True)
    found = []
    for state in ("cold", "warm"):
        found.append((f"first step, {state}", until(root, train, environment, "step 1/1")))
        if state == "cold":
            until(root, train, environment, None)
            shutil.rmtree(cache / "sdnjax" / "compiled", ignore_errors=True)
        found.append((f"first prediction, {state}", until(root, predict, environment, "picture:")))
        if state == "cold":
            until(root, train, environment, None)
    return found


def until(
    root: Path, words: tuple[str, ...], environment: dict[str, str], line: str | None
) -> tuple[float, float]:
    """Seconds from the command to an output line that has `line` (None: to its end), and those of
    the processor to its end."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    seconds: float | None = None
    with subprocess.Popen(
        [sys.executable, "-u", *words],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = []
        for text in process.stdout:
            output.append(text)
            if line is not None and line in text and seconds is None:
                seconds = time.perf_counter() - begin
    if process.returncode != 0:
        sys.exit("".join(output))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds if seconds is not None else time.perf_counter() - begin, spent


if __name__ == "__main__":
    main()
