"""What the operators in the necks of several networks respond to: SDN's Fig. 2(b, c) and 6."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from tqdm import tqdm

from sdnjax.commands.figures import check_points, inputs_of_picture
from sdnjax.commands.pictures import claim, find_pictures, own_pixels
from sdnjax.commands.trained import Trained
from sdnjax.data.reading.images import read_image
from sdnjax.errors import InputError
from sdnjax.visualize import panel, save_png, shown
from sdnjax.visualize.figures import marked
from sdnjax.visualize.maps import enlarged, heat


def compare_operators(
    runs: Mapping[str, Trained],
    pictures: Sequence[str | Path],
    out: str | Path,
    *,
    points: Sequence[tuple[int, int]] = (),
    report: Callable[[str], None] = tqdm.write,
) -> list[Path]:
    """Sheets `NAME_operators.png`: a row for each SDN of the necks, a column for each run.

    What is drawn is the length of the operator's response Y at each pixel (Eq. 3 to 5, before
    fusion), from dark, 0, to light, the largest of its map. Of chosen points the lengths are
    printed, as shares of that largest: a boundary stands out where points in one object have about
    the same, low one.

    Args:
      runs: name → a network with an SDN neck. Each sees a picture whole, at its own size.
      pictures: files, or folders of them.
      out: folder to write to; nothing is overwritten but what an earlier call has written.
      points: (row, column) of pixels.

    Returns the files.

    Raises: InputError for a network without such a neck, and points beyond a picture.
    """
    out = Path(out)
    files = find_pictures([Path(p) for p in pictures], report)
    claim(out, [f"{name}_operators.png" for name in files], files.values(), by="figures.py")
    written = []
    for name, file in files.items():
        lengths: dict[str, dict[str, np.ndarray]] = {}
        for run, trained in runs.items():
            image = read_image(file, own_pixels(trained.experiment.data))
            lengths[run] = responses(run, trained, image)
        check_points(points, image.shape[:2])
        first = marked(shown(image), points)
        parts = list(dict.fromkeys(part for found in lengths.values() for part in found))
        blank = np.full_like(first, 255)
        sheet = []
        for part in parts:
            row = [first]
            for run, found in lengths.items():
                if part not in found:
                    row.append(blank)
                    continue
                row.append(enlarged(heat(found[part], 0), first.shape[:2]))
                if points:
                    report(f"{name}, {part}, {run}: {_at(found[part], points, first.shape[:2])}")
            sheet.append(row)
        path = out / f"{name}_operators.png"
        titles = [f"{run}, {runs[run].experiment.network_title}" for run in lengths]
        save_png(path, panel(sheet, ["picture", *titles]))
        report(f"{name}: {', '.join(parts)}")
        written.append(path)
    report(f"{len(written)} sheet(s) written to {out}")
    return written


def responses(run: str, trained: Trained, image: np.ndarray) -> dict[str, np.ndarray]:
    """Name of each SDN → the length of its response, float32 `[h, w]`.

    Raises: InputError for a network that has none.
    """

    def apply(variables: Any, x: jax.Array, extras: Any) -> Any:
        network: Any = trained.network
        _, kept = network.apply(variables, x, train=False, mutable=["intermediates"], **extras)
        return kept.get("intermediates", {})

    inputs = inputs_of_picture(trained, image)
    kept = jax.device_get(jax.jit(apply)(trained.variables, inputs.pop("image"), inputs))
    found = {
        path.removesuffix("/response"): np.linalg.norm(np.asarray(y[0], np.float32)[0], axis=-1)
        for path, y in sorted(flatten_dict(kept, sep="/").items())
        if path.endswith("/response")
    }
    if not found:
        raise InputError(f"{run}: {trained.experiment.network_title} has no operator in a neck")
    return found


def _at(lengths: np.ndarray, points: Sequence[tuple[int, int]], size: tuple[int, int]) -> str:
    (h, w), (height, width) = lengths.shape, size
    largest = float(lengths.max()) or 1.0
    values = [float(lengths[y * h // height, x * w // width]) / largest for y, x in points]
    return ", ".join(f"{y},{x} {v:.3f}" for (y, x), v in zip(points, values, strict=True))
